//! Releases on Linkerd: the real controller, Kubernetes and Prometheus, and a stand-in for Linkerd's
//! proxies and policy controller ([`crate::linkerd`]).

use std::sync::Arc;

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::status::{Phase, WaitingKind};

use super::http_route::{goes_well, weights};
use super::people::aborted;
use super::pods::unready;
use super::rolled_back::at_once;
use crate::delivery::{APP, Delivery, LIMIT, Setup};
use crate::linkerd::Linkerd;
use crate::wait::wait_until;
use crate::way::{GATEWAY_API, KIND, http_route, with};
use crate::world::Scene;

pub(super) fn setup(linkerd: &Linkerd) -> Setup {
    Setup::default().on_linkerd(linkerd)
}

/// A version that is good, by the callers' proxies and each pod's past.
pub async fn promoted(scene: Arc<Scene>) -> Result<()> {
    let linkerd = Linkerd::start(&scene).await?;
    let metrics = json!({"analysis": {"metrics": [
        {"name": "success-rate", "successRate": {"maxDrop": "5pp"}},
        {"name": "latency", "latency": {"percentile": 90, "max": "500ms"}},
    ]}});
    let mut setup = setup(&linkerd);
    setup.spec["analysis"] = metrics["analysis"].clone();
    goes_well(scene, setup).await
}

/// A version that fails is found out by the client's proxy.
pub async fn rolled_back(scene: Arc<Scene>) -> Result<()> {
    let linkerd = Linkerd::start(&scene).await?;
    let delivery = at_once(scene, setup(&linkerd)).await?;
    ensure!(weights(&delivery).await? == [json!(100), json!(0)]);
    Ok(())
}

/// A person ends a release.
pub async fn abort(scene: Arc<Scene>) -> Result<()> {
    let linkerd = Linkerd::start(&scene).await?;
    let delivery = Delivery::start(scene, setup(&linkerd)).await?;
    aborted(&delivery).await
}

/// No canary pod is ready any more in the middle of a step. Linkerd sends the canary's share to stable
/// and says nothing, so that the canary looks healthy: the step is held, nobody notices, and when the
/// pods stay away the release is rolled back.
pub async fn canary_vanishes(scene: Arc<Scene>) -> Result<()> {
    let linkerd = Linkerd::start(&scene).await?;
    let mut setup = setup(&linkerd);
    setup.spec["progressDeadline"] = json!("10s");
    setup.spec["gate"] = json!({"minDuration": "20s"});
    let delivery = Delivery::start(scene, setup).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    unready(&delivery, json!("true")).await?;
    let told = |s: &RolloutStatus| s.waiting_on.iter().any(|w| w.kind == WaitingKind::Endpoints);
    let held = delivery.until("the status to say why", told).await?;
    ensure!(held.phase == Phase::Stepping, "{:?}", held.phase);
    let zero = || async { Ok(weights(&delivery).await? == [json!(100), json!(0)]) };
    wait_until("weight 0", LIMIT, zero).await?;
    let status = delivery.rolled_back(1).await?;
    let why = &status.history[0].why;
    ensure!(why.starts_with("the canary has had no ready pod for 1"), "{why}");
    ensure!(status.release.is_some_and(|r| r.passes.is_empty()), "a step passed");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// The Rollout says all these words.
async fn says(delivery: &Delivery, words: &[&str]) -> Result<RolloutStatus> {
    let told = |status: &RolloutStatus| words.iter().all(|word| status.message.contains(word));
    delivery.until("the refusal to be told", told).await
}

/// A new template that nothing comes of, while the Rollout says these words.
async fn refuses(delivery: &Delivery, words: &[&str]) -> Result<()> {
    says(delivery, words).await?;
    delivery.set_version("v2").await?;
    wait_until("the new template to be seen", LIMIT, || async {
        let deployment = delivery.scene.get("apps/v1", "Deployment", APP).await?;
        let seen = &deployment["status"]["observedGeneration"];
        Ok(*seen == deployment["metadata"]["generation"])
    })
    .await?;
    let status = says(delivery, words).await?;
    ensure!(status.release.is_none(), "{:?}", status.release);
    ensure!(weights(delivery).await? == [json!(100), json!(0)]);
    Ok(())
}

/// The release that waited goes well.
async fn healed(delivery: &Delivery) -> Result<()> {
    delivery.promoted(1).await?;
    delivery.rests_on("v2").await?;
    delivery.nothing_lost(&[])?;
    Ok(())
}

/// A ServiceProfile with overrides of its own wins over the route: neither is the Rollout adopted nor
/// does a release begin while it is there.
pub async fn service_profile(scene: Arc<Scene>) -> Result<()> {
    let linkerd = Linkerd::start(&scene).await?;
    let name = format!("{APP}.{}.svc.cluster.local", scene.namespace);
    let stable = format!("shop-stable.{}.svc.cluster.local:80", scene.namespace);
    let profile = json!({
        "apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile", "metadata": {"name": name},
        "spec": {"dstOverrides": [{"authority": stable, "weight": "1"}]},
    });
    scene.apply(&profile.to_string()).await?;
    let profiles = scene.api("linkerd.io/v1alpha2", "ServiceProfile").await?;
    let delivery = Delivery::before(scene, setup(&linkerd)).await?;
    delivery.apply_rollout().await?;
    let words = ["stands beside ServiceProfile", &name, "wins over it"];
    says(&delivery, &words).await?;
    profiles.delete(&name, &DeleteParams::default()).await?;
    delivery.rests().await?;
    delivery.scene.apply(&profile.to_string()).await?;
    refuses(&delivery, &words).await?;
    profiles.delete(&name, &DeleteParams::default()).await?;
    healed(&delivery).await?;
    delivery.audit()?;
    Ok(())
}

/// A filter that Linkerd doesn't follow takes the whole route with it, though its controller accepts it.
pub async fn route_filters(scene: Arc<Scene>) -> Result<()> {
    let linkerd = Linkerd::start(&scene).await?;
    let setup = Setup { routing: by_mirror, ..setup(&linkerd) };
    let delivery = Delivery::before(scene, setup).await?;
    delivery.apply_rollout().await?;
    let words = ["the filter RequestMirror", "Linkerd doesn't shift weights"];
    says(&delivery, &words).await?;
    write(&delivery, &http_route()).await?;
    delivery.rests().await?;
    write(&delivery, &mirrored()).await?;
    refuses(&delivery, &words).await?;
    write(&delivery, &http_route()).await?;
    healed(&delivery).await
}

/// Give the route these rules. (The judge of traces would take that for our own doing.)
async fn write(delivery: &Delivery, route: &Value) -> Result<()> {
    let patch = json!({"spec": {"rules": route["spec"]["rules"]}});
    delivery.scene.merge(GATEWAY_API, KIND, APP, patch).await
}

fn mirrored() -> Value {
    let mut route = http_route();
    route["spec"]["rules"][0]["filters"] = json!([{
        "type": "RequestMirror",
        "requestMirror": {"backendRef": {"name": "shop-canary", "port": 80}},
    }]);
    route
}

fn by_mirror(_: &str) -> Result<Vec<String>> {
    Ok(with(&mirrored()))
}
