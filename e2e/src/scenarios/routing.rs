//! The ways in which traffic may go: by Services or subsets, by named routes, from a shape that
//! isn't ours yet, past the route.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use surefoot_core::api::status::{Phase, WaitingKind};

use crate::app::{self, ISTIO};
use crate::backend::Behaviour;
use crate::delivery::{APP, Delivery, LIMIT, SUREFOOT, Setup, route};
use crate::scenarios::rolled_back::stays_on_v1;
use crate::wait::{wait_for, wait_until};
use crate::world::Scene;

/// Two subsets of the one Service, told apart by labels of our choice.
fn subsets(namespace: &str, stable: &Value, canary: &Value) -> Result<Vec<String>> {
    let host = format!("{APP}.{namespace}.svc.cluster.local");
    let rule = json!({
        "apiVersion": ISTIO, "kind": "DestinationRule", "metadata": {"name": APP},
        "spec": {"host": host, "subsets": [
            {"name": "stable", "labels": stable}, {"name": "canary", "labels": canary},
        ]},
    });
    let mut route = route(namespace)?;
    for (place, subset) in [(0, "stable"), (1, "canary")] {
        let destination = json!({"host": host, "subset": subset});
        route["spec"]["http"][0]["route"][place]["destination"] = destination;
    }
    Ok(vec![rule.to_string(), route.to_string()])
}

pub(super) fn by_subsets(namespace: &str) -> Result<Vec<String>> {
    let own = json!({"app": APP});
    subsets(namespace, &own, &own)
}

pub(super) fn split() -> Value {
    let subsets = json!({"destinationRule": APP, "stable": "stable", "canary": "canary"});
    json!({"traffic": {"split": {"subsets": subsets}}})
}

/// A release of v2 that goes well.
pub(super) async fn goes_well(delivery: &Delivery) -> Result<()> {
    delivery.set_version("v2").await?;
    delivery.goes_through().await
}

/// Judged by what the pods' proxies report.
pub async fn promoted_by_subsets(scene: Arc<Scene>) -> Result<()> {
    let setup = Setup { spec: split(), routing: by_subsets, ..Setup::default() };
    goes_well(&Delivery::start(scene, setup).await?).await
}

/// The same, held by staying paused at rest.
pub async fn promoted_by_subsets_paused(scene: Arc<Scene>) -> Result<()> {
    let setup =
        Setup { spec: split(), routing: by_subsets, paused_at_rest: true, ..Setup::default() };
    goes_well(&Delivery::start(scene, setup).await?).await
}

/// A version that fails is found out by its own proxies.
pub async fn rolled_back_by_subsets(scene: Arc<Scene>) -> Result<()> {
    let setup = Setup { spec: split(), routing: by_subsets, ..Setup::default() };
    let delivery = Delivery::start(scene, setup).await?;
    let stable = delivery.pods("v1").await?;
    delivery.behave("v2", Behaviour::failing(0.3));
    delivery.set_version("v2").await?;
    let status = delivery.rolled_back(1).await?;
    ensure!(status.history[0].why.contains("canary fails"), "{}", status.history[0].why);
    stays_on_v1(&delivery, &stable).await
}

/// Two of three http routes are named: they move as one, the third stays as it is.
fn three_entries(namespace: &str) -> Result<Vec<String>> {
    let mut route = route(namespace)?;
    let mut other = route["spec"]["http"][0].clone();
    other["name"] = json!("other");
    other["match"] = json!([{"uri": {"prefix": "/other"}}]);
    let answer = json!({"name": "health", "match": [{"uri": {"exact": "/health"}}],
        "directResponse": {"status": 200}});
    let entries = route["spec"]["http"].as_array_mut().context("a route has http")?;
    entries.splice(0..0, [answer, other]);
    let service = |name| app::service(name, &format!("app: {APP}"));
    Ok(vec![service("shop-stable"), service("shop-canary"), route.to_string()])
}

/// See [`three_entries`].
pub async fn named_http_routes(scene: Arc<Scene>) -> Result<()> {
    let route = json!({"kind": "VirtualService", "name": APP, "http": ["primary", "other"]});
    let spec = json!({"traffic": {"routes": [route]}});
    let setup = Setup { spec, routing: three_entries, ..Setup::default() };
    let delivery = Delivery::start(scene, setup).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    let route = delivery.scene.get(ISTIO, "VirtualService", APP).await?;
    let weights: Vec<&Value> =
        (0..3).map(|i| &route["spec"]["http"][i]["route"][1]["weight"]).collect();
    ensure!(weights == [&Value::Null, &json!(50), &json!(50)], "{weights:?}");
    delivery.goes_through().await
}

/// A route that is 60/40 waits for its owner, and is brought to 100/0 once the spec says so.
pub async fn adopted_weights(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::before(scene, Setup { routing: uneven, ..Setup::default() }).await?;
    delivery.apply_rollout().await?;
    let refused = |s: &surefoot_core::api::RolloutStatus| s.message.contains("60/40");
    let status = delivery.until("the weights to be refused", refused).await?;
    ensure!(status.phase == Phase::Pending, "{:?}", status.phase);
    let route = delivery.scene.get(ISTIO, "VirtualService", APP).await?;
    let weight = &route["spec"]["http"][0]["route"][1]["weight"];
    ensure!(*weight == 40, "the route was written: {weight}");
    let adopt = json!({"spec": {"traffic": {"adopt": true}}});
    delivery.scene.merge(SUREFOOT, "Rollout", APP, adopt).await?;
    delivery.rests().await?;
    let route = delivery.scene.get(ISTIO, "VirtualService", APP).await?;
    ensure!(route["spec"]["http"][0]["route"][1]["weight"] == 0, "{route}");
    goes_well(&delivery).await
}

pub(super) fn uneven(namespace: &str) -> Result<Vec<String>> {
    let mut route = route(namespace)?;
    route["spec"]["http"][0]["route"][0]["weight"] = json!(60);
    route["spec"]["http"][0]["route"][1]["weight"] = json!(40);
    let service = |name| app::service(name, &format!("app: {APP}"));
    Ok(vec![service("shop-stable"), service("shop-canary"), route.to_string()])
}

/// Subsets by `version: v1|v2` would be empty with the next version: refused, and replaced by the
/// Deployment's own selector once the spec says so.
pub async fn adopted_subsets(scene: Arc<Scene>) -> Result<()> {
    let setup = Setup { spec: split(), routing: by_version, ..Setup::default() };
    let delivery = Delivery::before(scene, setup).await?;
    delivery.apply_rollout().await?;
    let refused = |s: &surefoot_core::api::RolloutStatus| s.message.contains("selects version=v1");
    delivery.until("the subsets to be refused", refused).await?;
    let adopt = json!({"spec": {"traffic": {"adopt": true}}});
    delivery.scene.merge(SUREFOOT, "Rollout", APP, adopt).await?;
    delivery.rests().await?;
    goes_well(&delivery).await
}

pub(super) fn by_version(namespace: &str) -> Result<Vec<String>> {
    subsets(namespace, &json!({"version": "v1"}), &json!({"version": "v2"}))
}

/// A second Rollout for the same route and Deployment does nothing, says whose they are, and takes
/// them over when the first one is gone.
pub async fn two_rollouts(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    let mut second = delivery.rollout().await?;
    let spec = second["spec"].take();
    let second = json!({"apiVersion": SUREFOOT, "kind": "Rollout", "metadata": {"name": "twin"}, "spec": spec});
    delivery.scene.apply(&second.to_string()).await?;
    let status = |wanted: &'static str| {
        let delivery = &delivery;
        move || async move {
            let twin = delivery.scene.get(SUREFOOT, "Rollout", "twin").await?;
            let message = twin["status"]["message"].as_str().unwrap_or_default();
            Ok(message.contains(wanted))
        }
    };
    wait_until("the twin to say whose the route is", LIMIT, status("belongs to Rollout \"shop\""))
        .await?;
    goes_well(&delivery).await?;
    let api = delivery.scene.api(SUREFOOT, "Rollout").await?;
    api.delete(APP, &Default::default()).await?;
    wait_until("the twin to be at rest", LIMIT, status("at rest")).await?;
    let route = delivery.scene.get(ISTIO, "VirtualService", APP).await?;
    let owner = &route["metadata"]["annotations"]["surefoot.dev/rollout"];
    ensure!(owner == "twin", "the route belongs to {owner}");
    Ok(())
}

/// Callers that don't go by the route never reach the canary: the Service they call has stable's
/// pods only, until all pods are the new ones.
pub async fn stable_only(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({"traffic": {"apex": "stableOnly"}});
    let delivery = Delivery::start(scene, Setup { spec, ..Setup::default() }).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    ensure!(
        reached(&delivery).await? == ["v1"],
        "the apex reaches {:?}",
        reached(&delivery).await?
    );
    delivery.promoted(1).await?;
    delivery.rests_on("v2").await?;
    wait_for("the apex to reach v2 only", Duration::from_secs(30), || async {
        Ok((reached(&delivery).await? == ["v2"]).then_some(()))
    })
    .await?;
    // At no moment of the whole release was a pod of each behind the Service.
    let mut both = 0;
    for entry in delivery.scene.record.entries()? {
        let of = &entry.object["metadata"]["labels"]["kubernetes.io/service-name"];
        if entry.resource == "endpointslices" && of == APP {
            both += usize::from(versions(&delivery, &entry.object)?.len() > 1);
        }
    }
    ensure!(both == 0, "{both} times both versions were behind the apex");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// A caller past the route reaches the canary more often than the route sends requests there: the
/// step waits and says so, and goes on when that ends.
pub async fn leak(scene: Arc<Scene>) -> Result<()> {
    // Calls begin with the first pod. A block this long holds many more of them than the route
    // sends, however slow the machine.
    let first = json!({"weight": 10, "gate": {"minDuration": "8s"}});
    let spec = json!({"steps": [first, {"weight": 50}, {"weight": 100}]});
    let delivery = Delivery::start(scene, Setup { rate: 100, spec, ..Setup::default() }).await?;
    // As where stable has run for more than a second or two: which label names a pod, the
    // controller learns from its series, and looks again only after 15 s.
    delivery.pods_scraped().await?;
    delivery.set_version("v2").await?;
    let pod = wait_for("a ready canary pod", LIMIT, || canary_address(&delivery)).await?;
    let caller = tokio::spawn(call(format!("http://{pod}:{}/", crate::backend::PORT)));
    // All else that the step needs comes to pass; the leak alone holds it.
    let leaks = |s: &surefoot_core::api::RolloutStatus| {
        !s.waiting_on.is_empty() && s.waiting_on.iter().all(|w| w.kind == WaitingKind::Leak)
    };
    let status = delivery.until("the leak to be all that holds the step", leaks).await?;
    ensure!(!caller.is_finished(), "the calls ended: {:?}", caller.await);
    ensure!(status.step.is_some_and(|step| step.index == 0), "it went on all the same");
    caller.abort();
    delivery.goes_through().await
}

/// Requests one after another, until aborted or a minute's worth have been made.
async fn call(url: String) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..6000 {
        ticks.tick().await;
        http.get(&url).send().await?;
    }
    Ok(())
}

/// Where the first ready canary pod listens, once there is one.
async fn canary_address(delivery: &Delivery) -> Result<Option<String>> {
    let parameters = kube::api::ListParams::default().labels("version=v2");
    let pods = delivery.scene.api("v1", "Pod").await?.list(&parameters).await?.items;
    let address = |pod: &kube::api::DynamicObject| {
        let status = &pod.data["status"];
        let conditions = status["conditions"].as_array()?;
        let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready.then(|| status["podIP"].as_str().map(str::to_owned)).flatten()
    };
    Ok(pods.iter().find_map(address))
}

/// Which versions the Service that clients call reaches now.
pub(super) async fn reached(delivery: &Delivery) -> Result<Vec<String>> {
    let label = format!("kubernetes.io/service-name={APP}");
    let parameters = kube::api::ListParams::default().labels(&label);
    let slices = delivery.scene.api("discovery.k8s.io/v1", "EndpointSlice").await?;
    let mut found = Vec::new();
    for slice in slices.list(&parameters).await?.items {
        found.extend(versions(delivery, &serde_json::to_value(slice)?)?);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The versions of a slice's ready pods, by what was recorded of them.
fn versions(delivery: &Delivery, slice: &Value) -> Result<Vec<String>> {
    let pods = delivery.scene.record.entries()?;
    let mut found = Vec::new();
    for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
        if endpoint["conditions"]["ready"] != true {
            continue;
        }
        let name = endpoint["targetRef"]["name"].as_str().unwrap_or_default();
        let pod = pods.iter().find(|e| e.resource == "pods" && e.name() == name);
        let labels =
            &pod.with_context(|| format!("pod {name} isn't on record"))?.object["metadata"];
        found.push(labels["labels"]["version"].as_str().unwrap_or_default().to_owned());
    }
    found.sort();
    found.dedup();
    Ok(found)
}
