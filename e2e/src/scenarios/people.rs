//! What people do in the middle of a release: abort, approve, change their mind, scale, delete.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use surefoot_core::api::status::{Phase, WaitingKind};

use crate::delivery::{APP, Delivery, LIMIT, SUREFOOT, Setup};
use crate::proxy::Mode;
use crate::scenarios::rolled_back::stays_on_v1;
use crate::wait::wait_until;
use crate::world::Scene;

/// An abort at 50%.
pub async fn abort(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    aborted(&delivery).await
}

/// The same, held by staying paused at rest.
pub async fn abort_paused_at_rest(scene: Arc<Scene>) -> Result<()> {
    let setup = Setup { paused_at_rest: true, ..Setup::default() };
    let delivery = Delivery::start(scene, setup).await?;
    aborted(&delivery).await
}

pub(super) async fn aborted(delivery: &Delivery) -> Result<()> {
    let stable = delivery.pods("v1").await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    delivery.command("abort").await?;
    let status = delivery.rolled_back(1).await?;
    ensure!(status.history[0].why.contains("aborted by admin"), "{}", status.history[0].why);
    stays_on_v1(delivery, &stable).await
}

/// An abort while Prometheus takes connections and says nothing: it doesn't wait.
pub async fn abort_while_prometheus_hangs(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    let stable = delivery.pods("v1").await?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    delivery.prometheus.set(Mode::Hang);
    delivery
        .until("the hang to be noticed", |s| {
            s.waiting_on.iter().any(|w| w.kind == WaitingKind::Metrics)
        })
        .await?;
    delivery.command("abort").await?;
    let weight = || async { Ok(delivery.canary_weight().await? == 0) };
    wait_until("the weight to be 0 within a second", Duration::from_secs(1), weight).await?;
    delivery.rolled_back(1).await?;
    stays_on_v1(&delivery, &stable).await
}

/// A step that waits for a person, and goes on when one says so.
pub async fn approval(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({"steps": [{"weight": 10}, {"weight": 50, "approval": {}}, {"weight": 100}]});
    let delivery = Delivery::start(scene, Setup { spec, ..Setup::default() }).await?;
    delivery.set_version("v2").await?;
    let status = delivery
        .until("the step to wait for its approval alone", |s| {
            s.phase == Phase::Paused && s.waiting_on.iter().all(|w| w.kind == WaitingKind::Approval)
        })
        .await?;
    ensure!(status.decision.is_some_and(|d| d.weight == 50), "not at 50%");
    delivery.command("promote").await?;
    let status = delivery.promoted(1).await?;
    let passes = status.release.context("no release")?.passes;
    ensure!(passes[1].actor == "admin" && passes[2].actor == "surefoot", "{passes:?}");
    delivery.rests_on("v2").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// Another new version in the middle of a release: the first one goes, the second is released.
pub async fn new_image_midway(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    delivery.set_version("v3").await?;
    let status = delivery.promoted(2).await?;
    ensure!(status.history[1].why.contains("superseded"), "{}", status.history[1].why);
    delivery.rests_on("v3").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// The template goes back to stable's in the middle of a release: nothing restarts.
pub async fn image_reverted_midway(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    let stable = delivery.pods("v1").await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    delivery.set_version("v1").await?;
    delivery
        .until("the Rollout to be healthy on v1", |s| {
            s.phase == Phase::Healthy && s.history.iter().any(|h| h.number == 1)
        })
        .await?;
    delivery.rests_on("v1").await?;
    ensure!(delivery.pods("v1").await? == stable, "stable's pods changed");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// A, B, A again, B again: the way back is quick, its pods those of the old ReplicaSet's template.
pub async fn a_b_a_b(scene: Arc<Scene>) -> Result<()> {
    back_and_forth(scene, Setup::default()).await
}

/// The same in steps, held by staying paused at rest.
pub async fn a_b_a_b_paused_at_rest(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({"undo": "steps", "steps": [{"weight": 50}, {"weight": 100}]});
    back_and_forth(scene, Setup { paused_at_rest: true, spec, ..Setup::default() }).await
}

async fn back_and_forth(scene: Arc<Scene>, setup: Setup) -> Result<()> {
    let delivery = Delivery::start(scene, setup).await?;
    let mut sets = Vec::new();
    for (release, version) in [(1, "v2"), (2, "v1"), (3, "v2")] {
        delivery.set_version(version).await?;
        let status = delivery.promoted(release).await?;
        sets.push(status.stable.context("no stable")?.replica_set);
        delivery.rests_on(version).await?;
    }
    ensure!(sets[0] == sets[2], "B's ReplicaSet was {} and then {}", sets[0], sets[2]);
    let all = delivery.scene.api("apps/v1", "ReplicaSet").await?.list(&Default::default()).await?;
    ensure!(all.items.len() == 2, "{} ReplicaSets", all.items.len());
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// `kubectl rollout undo` after a promotion: held like any other change, and an undo of ours.
pub async fn native_undo(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    delivery.set_version("v2").await?;
    delivery.promoted(1).await?;
    delivery.rests_on("v2").await?;
    let history = delivery.kubectl(&["rollout", "history", "deployment/shop"]).await?;
    ensure!(history.lines().filter(|l| l.starts_with(char::is_numeric)).count() == 2, "{history}");
    delivery.kubectl(&["rollout", "status", "deployment/shop", "--timeout=10s"]).await?;
    delivery.kubectl(&["rollout", "undo", "deployment/shop"]).await?;
    let status = delivery.promoted(2).await?;
    let kind = status.release.context("no release")?.kind;
    ensure!(kind == surefoot_core::api::status::ReleaseKind::Undo, "{kind:?}");
    delivery.rests_on("v1").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// The Deployment is scaled in the middle of a release: both versions follow.
pub async fn scale_midway(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    delivery.kubectl(&["scale", "deployment/shop", "--replicas=6"]).await?;
    wait_until("three canary pods and six stable ones", LIMIT, || async {
        Ok(delivery.pods("v2").await?.len() >= 3 && delivery.pods("v1").await?.len() == 6)
    })
    .await?;
    delivery.promoted(1).await?;
    delivery.rests_on("v2").await?;
    ensure!(delivery.pods("v2").await?.len() == 6, "not six pods");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// The Rollout is deleted in the middle of a release: stable goes on, the Deployment is let be.
pub async fn deleted_midway(scene: Arc<Scene>) -> Result<()> {
    let delivery = deleted(scene, json!({})).await?;
    let deployment = delivery.scene.get("apps/v1", "Deployment", APP).await?;
    ensure!(deployment["spec"]["paused"] == true, "keepStable: the new template was let go");
    ensure!(delivery.pods("v2").await?.is_empty(), "canary pods are left");
    delivery.audit()?;
    // From here on it is an ordinary Deployment again.
    delivery.kubectl(&["rollout", "resume", "deployment/shop"]).await?;
    delivery.rests_on("v2").await?;
    delivery.nothing_lost(&[])?;
    Ok(())
}

/// The same with `onDelete: revert`: the Deployment gets stable's template back.
pub async fn deleted_midway_revert(scene: Arc<Scene>) -> Result<()> {
    let delivery = deleted(scene, json!({"onDelete": "revert"})).await?;
    delivery.rests_on("v1").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

async fn deleted(scene: Arc<Scene>, spec: serde_json::Value) -> Result<Delivery> {
    let delivery = Delivery::start(scene, Setup { spec, ..Setup::default() }).await?;
    let stable = delivery.pods("v1").await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    let api = delivery.scene.api(SUREFOOT, "Rollout").await?;
    api.delete(APP, &Default::default()).await?;
    wait_until("the Rollout to be gone", LIMIT, || async { Ok(api.get_opt(APP).await?.is_none()) })
        .await?;
    ensure!(delivery.pods("v1").await? == stable, "stable's pods changed");
    for service in ["shop-stable", "shop-canary"] {
        delivery.scene.get("v1", "Service", service).await.context("the route names it")?;
    }
    Ok(delivery)
}
