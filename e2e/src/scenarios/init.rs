//! `kubectl surefoot init --apply` from several starting points: nothing is lost while the route changes, and
//! the next version is released by what it made.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::commands::plugin;
use super::http_route;
use super::routing::{by_version, goes_well, split, uneven};
use crate::app::ISTIO;
use crate::delivery::{APP, Delivery, SUREFOOT, Setup, rollout};
use crate::linkerd::Linkerd;
use crate::load::Entry;
use crate::way::{self, GATEWAY_API, KIND};
use crate::world::Scene;

/// A route with one destination.
pub async fn one_destination(scene: Arc<Scene>) -> Result<()> {
    let routing = |namespace: &str| Ok(vec![single(namespace, &json!([entry()]))]);
    play(scene, Setup { routing, ..Setup::default() }).await
}

/// No route at all: one is made for the Service's clients in the mesh.
pub async fn no_route(scene: Arc<Scene>) -> Result<()> {
    let setup = Setup { entry: Entry::Sidecar, routing: |_| Ok(Vec::new()), ..Setup::default() };
    play(scene, setup).await
}

/// The same with a policy for the Service.
pub async fn policy(scene: Arc<Scene>) -> Result<()> {
    let routing = |namespace: &str| {
        let rule = json!({
            "apiVersion": ISTIO, "kind": "DestinationRule",
            "metadata": {"name": APP, "namespace": namespace},
            "spec": {"host": APP, "trafficPolicy": {
                "connectionPool": {"http": {"http2MaxRequests": 1000}},
            }},
        });
        Ok(vec![single(namespace, &json!([entry()])), rule.to_string()])
    };
    play(scene, Setup { routing, ..Setup::default() }).await
}

/// A route that is split between two Services already, at 60/40.
pub async fn split_services(scene: Arc<Scene>) -> Result<()> {
    play(scene, Setup { routing: uneven, ..Setup::default() }).await
}

/// A route that is split between two subsets by `version`.
pub async fn split_subsets(scene: Arc<Scene>) -> Result<()> {
    play(scene, Setup { spec: split(), routing: by_version, ..Setup::default() }).await
}

/// A route with two entries, one of them without a name.
pub async fn several_http(scene: Arc<Scene>) -> Result<()> {
    let routing = |namespace: &str| {
        let mut other = entry();
        other["name"] = json!("other");
        other["match"] = json!([{"uri": {"prefix": "/other"}}]);
        Ok(vec![single(namespace, &json!([other, entry()]))])
    };
    let http = json!(["other", "shifted-2"]);
    let routes = json!([{"kind": "VirtualService", "name": APP, "http": http}]);
    let spec = json!({"traffic": {"routes": routes}});
    play(scene, Setup { spec, routing, ..Setup::default() }).await
}

/// An HTTPRoute of Istio with one backend.
pub async fn http_route(scene: Arc<Scene>) -> Result<()> {
    let routing = |_: &str| {
        let mut route = way::http_route();
        route["spec"]["rules"][0]["backendRefs"] = json!([{"name": APP, "port": 80}]);
        Ok(vec![route.to_string()])
    };
    play(scene, Setup { routing, ..http_route::setup() }).await
}

/// No route at all, on Linkerd.
pub async fn linkerd(scene: Arc<Scene>) -> Result<()> {
    let linkerd = Linkerd::start(&scene).await?;
    let setup = Setup { routing: |_| Ok(Vec::new()), ..super::linkerd::setup(&linkerd) };
    play(scene, setup).await
}

fn entry() -> Value {
    let attempts = json!({"attempts": 0});
    json!({"timeout": "2s", "retries": attempts, "route": [{"destination": {"host": APP}}]})
}

fn single(namespace: &str, http: &Value) -> String {
    let route = json!({
        "apiVersion": ISTIO, "kind": "VirtualService",
        "metadata": {"name": APP, "namespace": namespace},
        "spec": {
            "hosts": [format!("{APP}.{namespace}.test")], "gateways": ["mesh-gateway/gateway"],
            "http": http,
        },
    });
    route.to_string()
}

async fn play(scene: Arc<Scene>, setup: Setup) -> Result<()> {
    let usual = rollout(&scene.namespace, &setup.spec)["spec"].clone();
    let of = |field: &str| usual["traffic"][field].clone();
    let mesh = of("mesh").as_str().unwrap_or_default().to_owned();
    let delivery = Delivery::before(scene, setup).await?;
    let init = ["init", "deployment/shop", "--mesh", &mesh];
    let shown = plugin(&delivery, &init).await?;
    ensure!(shown.contains("kind: Rollout"), "{shown}");
    ensure!(delivery.rollout().await.is_err(), "it was only to be shown");
    // What is changed below for this story's sake isn't the controller's doing, and must not look so.
    delivery.kill_controller();
    let said = plugin(&delivery, &[&init[..], &["--apply"]].concat()).await?;
    ensure!(said.contains("rollout/shop created"), "{said}");
    // What it takes to be quick; the traffic is as init has it. A route without a timeout holds each step
    // for as long as a request may take.
    let (api, kind, list, timeout) = if of("routes")[0]["kind"] == KIND {
        (GATEWAY_API, KIND, "rules", ("timeouts", json!({"request": "2s"})))
    } else {
        (ISTIO, "VirtualService", "http", ("timeout", json!("2s")))
    };
    let route = delivery.scene.get(api, kind, APP).await?;
    if route["spec"][list][0][timeout.0].is_null() {
        let mut entries = route["spec"][list].clone();
        entries[0][timeout.0] = timeout.1;
        delivery.scene.merge(api, kind, APP, json!({"spec": {list: entries}})).await?;
    }
    let mut quick = usual.clone();
    quick["traffic"] = json!({"propagationDelay": of("propagationDelay")});
    delivery.scene.merge(SUREFOOT, "Rollout", APP, json!({"spec": quick})).await?;
    delivery.start_controller()?;
    let made = delivery.rollout().await?;
    ensure!(made["spec"]["traffic"]["routes"] == of("routes"), "{}", made["spec"]);
    delivery.rests().await?;
    goes_well(&delivery).await
}
