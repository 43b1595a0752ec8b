//! The way to the API server is bad: every release ends as it would on a good one, and nobody's
//! request is lost by it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use surefoot_core::api::status::ConditionStatus;

use crate::api_proxy::{Fault, Rule};
use crate::delivery::{Delivery, LIMIT, Setup, repository};
use crate::parts::controlplane::Component;
use crate::wait::wait_until;
use crate::world::Scene;

/// A good release and an aborted one, each of the controller's requests at risk.
async fn at_risk(scene: Arc<Scene>, seed: u64, faults: &[(Fault, f64)]) -> Result<()> {
    let setup =
        Setup { rate: 100, spec: super::kills::quick(), proxied: Some(seed), ..Setup::default() };
    let delivery = Delivery::start(scene, setup).await?;
    let api = delivery.api()?;
    let pid = delivery.controller_lives()?;
    let before = api.calls().len();
    let rule = |(fault, chance): &(Fault, f64)| Rule {
        verbs: &["GET", "LIST", "POST", "PUT", "PATCH", "DELETE"],
        resource: "",
        fault: *fault,
        chance: *chance,
        times: u32::MAX,
    };
    api.plan(faults.iter().map(rule).collect());
    delivery.set_version("v2").await?;
    let status = delivery.promoted(1).await?;
    ensure!(status.release.is_some_and(|r| r.passes.len() == 2), "not all passes are recorded");
    delivery.rests_on("v2").await?;
    let stable = delivery.pods("v2").await?;
    delivery.set_version("v3").await?;
    delivery
        .until("the second release's first step", |s| {
            s.release.as_ref().is_some_and(|r| r.number == 2)
                && s.step.as_ref().is_some_and(|at| at.started_at.is_some())
        })
        .await?;
    delivery.command("abort").await?;
    let status = delivery.rolled_back(2).await?;
    ensure!(status.history[0].why.contains("aborted by admin"), "{}", status.history[0].why);
    ensure!(delivery.pods("v2").await? == stable, "stable's pods changed");
    ensure!(delivery.controller_lives()? == pid, "the controller has restarted");
    let calls = api.calls();
    let hit = calls.iter().filter(|call| call.fault.is_some()).count();
    ensure!(hit >= 5, "only {hit} of {} requests met a fault", calls.len() - before);
    // Two releases take about 120 requests on a good way; a hot loop takes thousands.
    ensure!(calls.len() - before < 1500, "{} requests", calls.len() - before);
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// Conflicts that there were not.
pub async fn conflicts(scene: Arc<Scene>) -> Result<()> {
    at_risk(scene, 11, &[(Fault::Answer(409), 0.15)]).await
}

/// Too many requests, come back later.
pub async fn throttled(scene: Arc<Scene>) -> Result<()> {
    at_risk(scene, 12, &[(Fault::Answer(429), 0.1)]).await
}

/// Internal errors.
pub async fn errors(scene: Arc<Scene>) -> Result<()> {
    at_risk(scene, 13, &[(Fault::Answer(500), 0.1)]).await
}

/// Requests that were followed, and whose replies never came.
pub async fn lost_replies(scene: Arc<Scene>) -> Result<()> {
    at_risk(scene, 14, &[(Fault::LoseReply, 0.12)]).await
}

/// Answers that come 1 to 30 s late; longer than anybody waits.
pub async fn late_replies(scene: Arc<Scene>) -> Result<()> {
    at_risk(scene, 15, &[(Fault::LateReply, 0.06)]).await
}

/// Requests that arrive 1 to 30 s late, also when nobody waits for them any more.
pub async fn late_requests(scene: Arc<Scene>) -> Result<()> {
    at_risk(scene, 16, &[(Fault::LateRequest, 0.06)]).await
}

/// Every watch is cut, over and over.
pub async fn watches_cut(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup { proxied: Some(17), ..Setup::default() }).await?;
    let api = delivery.api()?;
    let watches = || api.calls().iter().filter(|c| c.verb == "WATCH").count();
    let before = watches();
    delivery.set_version("v2").await?;
    for step in 0..3 {
        delivery.in_step(step).await?;
        api.cut_watches();
    }
    let status = delivery.promoted(1).await?;
    ensure!(status.release.is_some_and(|r| r.passes.len() == 3), "not all passes are recorded");
    delivery.rests_on("v2").await?;
    ensure!(watches() >= before + 12, "{} watches after {before}", watches());
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// The API server hangs for twenty seconds in the middle of a step: the same process goes on.
pub async fn frozen(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    let pid = delivery.controller_lives()?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    let kubernetes = &delivery.scene.world.control_plane;
    kubernetes.freeze(Component::ApiServer)?;
    let away = delivery.load.elapsed();
    wait_until("twenty seconds without the API server", LIMIT, || async {
        Ok(delivery.load.elapsed() - away >= Duration::from_secs(20))
    })
    .await?;
    kubernetes.thaw(Component::ApiServer)?;
    let status = delivery.promoted(1).await?;
    ensure!(status.release.is_some_and(|r| r.passes.len() == 3), "not all passes are recorded");
    delivery.rests_on("v2").await?;
    ensure!(delivery.controller_lives()? == pid, "the controller has restarted");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// The installed definition of Rollout lacks a field that the controller writes: it says so, does
/// nothing, and goes on by itself once crds/ is applied.
pub async fn crd_outdated(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    let path = repository().join("crds/rollouts.yaml");
    let yaml = std::fs::read_to_string(&path).context("reading crds/rollouts.yaml")?;
    let crd: Value = serde_saphyr::from_str(&yaml)?;
    let mut old = crd.clone();
    let schema = &mut old["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let status = schema["properties"]["status"]["properties"].as_object_mut();
    let gone = status.and_then(|properties| properties.remove("checkpointAt"));
    ensure!(gone.is_some(), "the field to be unknown isn't there");
    define(&delivery.scene, &old).await?;
    // Served is the new definition once it prunes what it doesn't know.
    wait_until("the older definition to be served", LIMIT, || async {
        Ok(delivery.status().await?.checkpoint_at.is_none())
    })
    .await?;
    delivery.set_version("v2").await?;
    let stalled = |s: &surefoot_core::api::RolloutStatus| {
        s.conditions.iter().any(|c| {
            c.kind == "Stalled" && c.status == ConditionStatus::True && c.reason == "CRDOutdated"
        })
    };
    let status = delivery.until("the controller to say so", stalled).await?;
    ensure!(status.message.contains("crds/"), "no remedy: {}", status.message);
    ensure!(delivery.metric("surefoot_reconciles_total{result=\"crd_outdated\"}").await? > 0.0);
    let events = delivery.scene.api("events.k8s.io/v1", "Event").await?;
    wait_until("the Event", LIMIT, || async {
        let events = events.list(&Default::default()).await?;
        Ok(events.items.iter().any(|e| e.data["reason"] == "CRDOutdated"))
    })
    .await?;
    ensure!(status.release.is_none(), "a release has begun");
    ensure!(delivery.pods("v2").await?.is_empty(), "acted without a decision");
    define(&delivery.scene, &crd).await?;
    let status = delivery.promoted(1).await?;
    ensure!(!stalled(&status), "still stalled");
    delivery.rests_on("v2").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

async fn define(scene: &Scene, crd: &Value) -> Result<()> {
    let api = scene.api("apiextensions.k8s.io/v1", "CustomResourceDefinition").await?;
    let parameters = PatchParams::apply(crate::apply::FIELD_MANAGER).force();
    let name = crd["metadata"]["name"].as_str().unwrap_or_default();
    let parameters = parameters.validation_strict();
    api.patch(name, &parameters, &Patch::Apply(json!(crd))).await.context("defining Rollout")?;
    Ok(())
}
