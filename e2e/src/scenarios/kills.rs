//! The controller is killed (SIGKILL) at seeded moments and started again: every release ends as it
//! would have without that.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use surefoot_core::api::status::Outcome;

use crate::backend::{Behaviour, uniform};
use crate::delivery::{APP, Delivery, LIMIT, SUREFOOT, Setup};
use crate::wait::{wait_for, wait_until};
use crate::world::Scene;

/// What the controller and Kubernetes write about a release.
const COUNTED: [&str; 5] =
    ["deployments", "replicasets", "rollouts", "services", "virtualservices"];

/// Steps that are over soon: it is the writes that matter here.
pub(super) fn quick() -> Value {
    json!({
        "steps": [{"weight": 20}, {"weight": 100}],
        "gate": {"minDuration": "2s", "minRequests": 20, "settle": "500ms", "warmUp": "500ms"},
    })
}

/// A promotion, an abort, a rollback and a deletion in one life, and a kill in each.
async fn killed(scene: Arc<Scene>, seed: u64) -> Result<()> {
    let setup = Setup { rate: 100, spec: quick(), ..Setup::default() };
    let delivery = Delivery::start(scene, setup).await?;
    promotion(&delivery, seed).await.context("the promotion")?;
    let stable = delivery.pods("v2").await?;
    abort(&delivery, seed).await.context("the abort")?;
    rollback(&delivery, seed).await.context("the rollback")?;
    deletion(&delivery, seed).await.context("the deletion")?;
    ensure!(delivery.pods("v2").await? == stable, "stable's pods changed");
    delivery.nothing_lost(&["v4"])?;
    delivery.audit()?;
    Ok(())
}

/// Kills after some of the next writes, among about `span`; at the latest when `number` has ended.
/// All seeds together are spread evenly over the span.
async fn kill(delivery: &Delivery, seed: u64, kind: u64, span: u64, number: i64) -> Result<()> {
    let spread = (seed as f64 + uniform(kind, seed)) / SEEDS as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the span")]
    let after = (spread * span as f64) as u64;
    let start = delivery.scene.record.known().last().map_or(0, |entry| entry.version);
    let mut count = 0;
    let moment = |entry: &crate::record::Entry| {
        if entry.version <= start || !COUNTED.contains(&entry.resource) {
            return None;
        }
        count += 1;
        let over = entry.object["status"]["history"][0]["number"] == number;
        (count > after || over || entry.change == crate::record::Change::Deleted).then_some(count)
    };
    let what = format!("write {after} of the release");
    delivery.scene.record.until(&what, LIMIT, moment).await?;
    delivery.kill_controller();
    delivery.start_controller()
}

/// v2 instead of v1.
async fn promotion(delivery: &Delivery, seed: u64) -> Result<()> {
    delivery.set_version("v2").await?;
    kill(delivery, seed, 0, 60, 1).await?;
    let status = delivery.promoted(1).await?;
    ensure!(status.release.is_some_and(|r| r.passes.len() == 2), "not all passes are recorded");
    delivery.rests_on("v2").await
}

/// v3 instead of v2, aborted on its way.
async fn abort(delivery: &Delivery, seed: u64) -> Result<()> {
    delivery.set_version("v3").await?;
    delivery
        .until("the first step", |s| s.step.as_ref().is_some_and(|at| at.started_at.is_some()))
        .await?;
    delivery.command("abort").await?;
    kill(delivery, seed, 1, 24, 2).await?;
    let status = delivery.rolled_back(2).await?;
    ensure!(status.history[0].why.contains("aborted by admin"), "{}", status.history[0].why);
    stays(delivery, "v3").await
}

/// v4 instead of v2, failing.
async fn rollback(delivery: &Delivery, seed: u64) -> Result<()> {
    delivery.behave("v4", Behaviour::failing(0.5));
    delivery.set_version("v4").await?;
    kill(delivery, seed, 2, 40, 3).await?;
    let status = delivery.rolled_back(3).await?;
    ensure!(status.history[0].outcome == Outcome::RolledBack, "{:?}", status.history[0]);
    stays(delivery, "v4").await
}

/// The Rollout is deleted in the first step of v5.
async fn deletion(delivery: &Delivery, seed: u64) -> Result<()> {
    delivery.set_version("v5").await?;
    delivery
        .until("the first step", |s| {
            s.release.as_ref().is_some_and(|r| r.number == 4)
                && s.step.as_ref().is_some_and(|at| at.started_at.is_some())
        })
        .await?;
    let api = delivery.scene.api(SUREFOOT, "Rollout").await?;
    api.delete(APP, &Default::default()).await?;
    kill(delivery, seed, 3, 26, 4).await?;
    wait_until("the Rollout to be gone", LIMIT, || async { Ok(api.get_opt(APP).await?.is_none()) })
        .await?;
    stays(delivery, "v5").await?;
    let services = delivery.scene.api("v1", "Service").await?;
    for service in ["shop-stable", "shop-canary"] {
        let service = services.get(service).await.context("the route names it")?;
        let pinned = service.data["spec"]["selector"].get("pod-template-hash").is_some();
        ensure!(!pinned, "{service:?} is pinned");
    }
    Ok(())
}

/// Everything is answered by v2, and the failed version's pods are gone.
async fn stays(delivery: &Delivery, gone: &str) -> Result<()> {
    wait_until("the canary's pods to be gone", LIMIT, || async {
        Ok(delivery.pods(gone).await?.is_empty())
    })
    .await?;
    let start = delivery.load.elapsed();
    let more = wait_for("30 more answers", LIMIT, || async {
        let report = delivery.load.report().since(start);
        Ok((report.samples.len() >= 30).then_some(report))
    })
    .await?;
    ensure!(more.version("v2").requests == more.samples.len(), "{:?}", more.versions());
    Ok(())
}

/// How many lives: four kills each.
const SEEDS: u64 = 8;

macro_rules! killed {
    ($($name:ident $seed:literal),*) => {$(
        /// Killed at seeded moments.
        pub async fn $name(scene: Arc<Scene>) -> Result<()> {
            killed(scene, $seed).await
        }
    )*};
}
killed!(
    killed_0 0, killed_1 1, killed_2 2, killed_3 3, killed_4 4, killed_5 5, killed_6 6, killed_7 7
);
