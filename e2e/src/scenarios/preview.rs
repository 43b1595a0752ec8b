//! Blue/green: the canary is up and looked at by its own Service, then all traffic goes there at once.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::rolled_back::stays_on_v1;
use super::routing::reached;
use crate::app::ISTIO;
use crate::delivery::{Delivery, LIMIT, Setup, by_services, route};
use crate::load::{Entry, Load, PATIENCE};
use crate::wait::wait_until;
use crate::world::Scene;

/// The way of those who look at the canary before anybody else: a route of their own, to its Service alone.
const LOOKING: &str = "look";

fn looking(namespace: &str) -> Result<Value> {
    let mut look = route(namespace)?;
    look["metadata"]["name"] = json!(LOOKING);
    look["spec"]["hosts"] = json!([host(namespace)]);
    let to = &mut look["spec"]["http"][0]["route"];
    let canary = to[1]["destination"].take();
    *to = json!([{"destination": canary}]);
    Ok(look)
}

fn host(namespace: &str) -> String {
    format!("{LOOKING}.{namespace}.test")
}

fn objects(namespace: &str) -> Result<Vec<String>> {
    let mut objects = by_services(namespace)?;
    objects.push(looking(namespace)?.to_string());
    Ok(objects)
}

fn setup() -> Setup {
    let preview = json!({"weight": 0, "preview": true, "approval": {}});
    let spec = json!({"traffic": {"apex": "stableOnly"}, "steps": [preview, {"weight": 100}]});
    Setup { spec, routing: objects, ..Setup::default() }
}

/// Up, and only an approval is missing: nobody but those who look has met the canary.
async fn previewed(delivery: &Delivery) -> Result<()> {
    delivery.set_version("v2").await?;
    let status = delivery.awaits_approval(0).await?;
    let step = status.step.context("no step")?;
    ensure!((step.index, step.weight) == (0, 0), "it is in step {} ({}%)", step.index, step.weight);
    let pods = delivery.pods("v2").await?.len();
    ensure!(pods == 4, "{pods} pods are up for all the traffic that comes next");
    let look = Load::start(Entry::Gateway, &host(&delivery.scene.namespace), 50, PATIENCE)?;
    wait_until("50 answers to those who look", LIMIT, || async {
        Ok(look.report().version("v2").requests >= 50)
    })
    .await?;
    // Before the release the canary's Service reached stable's pods, as the proxies knew it for a while.
    let seen = look.stop().await?;
    ensure!(seen.total().failed == 0, "those who look: {:?}", seen.failures());
    let last = seen.samples.last().and_then(|s| s.version.clone());
    ensure!(last.as_deref() == Some("v2"), "those who look are answered by {last:?}");
    let met = delivery.load.report().version("v2").requests;
    ensure!(met == 0, "{met} requests of the Service's clients were answered by a preview");
    let apex = reached(delivery).await?;
    ensure!(apex == ["v1"], "past the route clients reach {apex:?}");
    Ok(())
}

/// Approved: all traffic at once, and nothing is lost or left behind.
pub async fn promoted(scene: Arc<Scene>) -> Result<()> {
    goes_over(&Delivery::start(scene, setup()).await?).await
}

/// The same, held by staying paused at rest.
pub async fn promoted_paused_at_rest(scene: Arc<Scene>) -> Result<()> {
    goes_over(&Delivery::start(scene, Setup { paused_at_rest: true, ..setup() }).await?).await
}

async fn goes_over(delivery: &Delivery) -> Result<()> {
    let before = delivery.scene.get(ISTIO, "VirtualService", LOOKING).await?;
    previewed(delivery).await?;
    delivery.command("promote").await?;
    delivery.goes_through().await?;
    let weights: Vec<i32> = delivery
        .status()
        .await?
        .history
        .first()
        .map(|past| past.passes.iter().map(|p| p.weight).collect())
        .unwrap_or_default();
    ensure!(weights == [0, 100], "it passed steps of {weights:?}");
    let after = delivery.scene.get(ISTIO, "VirtualService", LOOKING).await?;
    ensure!(before["spec"] == after["spec"], "a route that isn't the Rollout's was changed");
    Ok(())
}

/// Aborted: no client has ever met it.
pub async fn aborted(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, setup()).await?;
    let stable = delivery.pods("v1").await?;
    previewed(&delivery).await?;
    delivery.command("abort").await?;
    delivery.rolled_back(1).await?;
    stays_on_v1(&delivery, &stable).await?;
    let met = delivery.load.report().version("v2").requests;
    ensure!(met == 0, "{met} requests were answered by a version that was only previewed");
    Ok(())
}
