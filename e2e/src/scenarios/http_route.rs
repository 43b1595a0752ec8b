//! An HTTPRoute of the Gateway API as the route: of the Service that clients within the mesh call, whose
//! own proxies split, or of a Gateway.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::status::{Phase, WaitingKind};

use crate::app;
use crate::delivery::{APP, Delivery, Setup};
use crate::load::Entry;
use crate::scenarios::rolled_back::at_once;
use crate::way::{GATEWAY_API, KIND, http_route, with};
use crate::world::Scene;

pub(super) fn setup() -> Setup {
    Setup::default().by_http_route()
}

pub(super) async fn weights(delivery: &Delivery) -> Result<[Value; 2]> {
    let route = delivery.scene.get(GATEWAY_API, KIND, APP).await?;
    Ok([0, 1].map(|place| route["spec"]["rules"][0]["backendRefs"][place]["weight"].clone()))
}

/// A version that is good: the clients within the mesh are answered by it as the weights say.
pub async fn promoted(scene: Arc<Scene>) -> Result<()> {
    goes_well(scene, setup()).await
}

/// The same for clients outside, by a Gateway.
pub async fn promoted_by_gateway(scene: Arc<Scene>) -> Result<()> {
    goes_well(scene, Setup { entry: Entry::Public, routing: by_gateway, ..setup() }).await
}

fn by_gateway(namespace: &str) -> Result<Vec<String>> {
    let mut route = http_route();
    route["spec"]["parentRefs"] = json!([{"name": "public", "namespace": "mesh-gateway"}]);
    route["spec"]["hostnames"] = json!([format!("{APP}.{namespace}.test")]);
    Ok(with(&route))
}

pub(super) async fn goes_well(scene: Arc<Scene>, setup: Setup) -> Result<()> {
    let delivery = Delivery::start(scene, setup).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    ensure!(weights(&delivery).await? == [json!(50), json!(50)]);
    let before = delivery.load.report().version("v2").requests;
    ensure!(before > 0, "no client was answered by the canary at 10%");
    delivery.promoted(1).await?;
    delivery.rests_on("v2").await?;
    ensure!(weights(&delivery).await? == [json!(100), json!(0)]);
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// A version that fails is found out by the client's proxy.
pub async fn rolled_back(scene: Arc<Scene>) -> Result<()> {
    let delivery = at_once(scene, setup()).await?;
    ensure!(weights(&delivery).await? == [json!(100), json!(0)]);
    Ok(())
}

/// A rule beside ours, which is named, leads to a Service that isn't there: istiod doesn't resolve the
/// route. No release begins; what istiod says is told; it begins once that Service is there.
pub async fn refused(scene: Arc<Scene>) -> Result<()> {
    let routes = json!([{"kind": KIND, "name": APP, "http": ["main"]}]);
    let spec = json!({"traffic": {"routes": routes}});
    let delivery = Delivery::start(scene, Setup { spec, routing: broken, ..setup() }).await?;
    let waits = |status: &RolloutStatus| {
        let mut waits = status.waiting_on.iter().filter(|w| w.kind == WaitingKind::RouteAccepted);
        waits.any(|w| {
            w.message.contains(
                "istio.io/gateway-controller doesn't follow the route to Service \"shop\"",
            ) && w.message.contains("ResolvedRefs is False, BackendNotFound")
        })
    };
    delivery.until("the refusal to be told at rest", waits).await?;
    delivery.set_version("v2").await?;
    let held = |s: &RolloutStatus| waits(s) && s.message.contains("BackendNotFound");
    let status = delivery.until("the release to wait for the route", held).await?;
    ensure!(status.phase == Phase::Healthy && status.release.is_none(), "{:?}", status.release);
    ensure!(weights(&delivery).await? == [json!(100), json!(0)]);
    delivery.scene.apply(&app::service("old", "app: old")).await?;
    delivery.goes_through().await
}

fn broken(_: &str) -> Result<Vec<String>> {
    let mut route = http_route();
    route["spec"]["rules"][0]["name"] = json!("main");
    let rule = json!({
        "name": "old", "matches": [{"path": {"type": "PathPrefix", "value": "/old"}}],
        "backendRefs": [{"name": "old", "port": 80}],
    });
    let rules = route["spec"]["rules"].as_array_mut().context("a route has rules")?;
    rules.push(rule);
    Ok(with(&route))
}
