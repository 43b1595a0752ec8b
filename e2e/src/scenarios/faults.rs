//! What breaks in the middle of a release: no traffic, no Prometheus, no controller.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use surefoot_core::api::status::{HoldReason, Phase, WaitingKind};

use crate::backend::Behaviour;
use crate::delivery::{Delivery, LIMIT, Setup};
use crate::proxy::Mode;
use crate::wait::wait_until;
use crate::world::Scene;

/// Nobody asks anything: held, paused by the policy, never promoted.
pub async fn no_traffic(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup { rate: 50, ..Setup::default() }).await?;
    delivery.load.end();
    delivery.set_version("v2").await?;
    let held = |s: &surefoot_core::api::RolloutStatus| {
        let hold = s.step.as_ref().and_then(|at| at.hold.as_ref());
        hold.is_some_and(|h| h.reason == HoldReason::NoData)
    };
    let status = delivery.until("the release to be paused for want of data", held).await?;
    ensure!(status.phase == Phase::Paused, "{:?}", status.phase);
    ensure!(status.release.is_some_and(|r| r.passes.is_empty()), "a step passed without data");
    ensure!(
        status.waiting_on.iter().any(|w| w.kind == WaitingKind::Metrics),
        "nothing says why: {:?}",
        status.waiting_on
    );
    // Long enough for a wrong verdict to show: several rounds of the sampler go by.
    let before = delivery.scene.record.entries()?.len();
    delivery.command("abort").await?;
    delivery.rolled_back(1).await?;
    ensure!(delivery.scene.record.entries()?.len() > before, "the abort left no trace");
    delivery.audit()?;
    Ok(())
}

/// Prometheus is down for a minute: the release holds, says so, and goes on when it is back.
pub async fn prometheus_down(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({"analysis": {"noDataPolicy": {"after": "5m"}}});
    let delivery = Delivery::start(scene, Setup { spec, ..Setup::default() }).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    delivery.prometheus.set(Mode::Refuse);
    let away = delivery.load.elapsed();
    delivery
        .until("the outage to be noticed", |s| {
            s.waiting_on.iter().any(|w| w.kind == WaitingKind::Metrics)
        })
        .await?;
    wait_until("a minute to pass", LIMIT, || async {
        Ok(delivery.load.elapsed() - away >= Duration::from_secs(60))
    })
    .await?;
    let status = delivery.status().await?;
    let index = status.step.as_ref().map(|s| s.index);
    ensure!(index == Some(0), "the release went on without metrics: step {index:?}");
    delivery.prometheus.set(Mode::Pass);
    delivery.promoted(1).await?;
    delivery.rests_on("v2").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// The controller is killed (SIGKILL) at a moment given by the number of writes accepted so far, and
/// started again: the outcome is that of a clean run.
async fn killed(scene: Arc<Scene>, seed: u64) -> Result<()> {
    let bad = seed % 3 == 2;
    let delivery = Delivery::start(scene, Setup { rate: 100, ..Setup::default() }).await?;
    if bad {
        delivery.behave("v2", Behaviour::failing(0.3));
    }
    let start = delivery.scene.record.entries()?.len();
    // A step of the golden ratio spreads the moments over the whole release.
    let span: u64 = if bad { 60 } else { 130 };
    let after = 2 + (seed * 61) % span;
    delivery.set_version("v2").await?;
    wait_until(&format!("write {after} of the release"), LIMIT, || async {
        Ok(delivery.scene.record.entries()?.len() as u64 >= start as u64 + after)
    })
    .await?;
    delivery.kill_controller();
    delivery.start_controller()?;
    if bad {
        delivery.rolled_back(1).await?;
        super::rolled_back::stays_on_v1(&delivery, &delivery.pods("v1").await?).await?;
    } else {
        let status = delivery.promoted(1).await?;
        ensure!(status.release.is_some_and(|r| r.passes.len() == 3), "not all passes recorded");
        delivery.rests_on("v2").await?;
        delivery.nothing_lost(&[])?;
        delivery.audit()?;
    }
    Ok(())
}

macro_rules! killed_at {
    ($($name:ident $seed:literal),*) => {$(
        /// Killed at a seeded moment.
        pub async fn $name(scene: Arc<Scene>) -> Result<()> {
            killed(scene, $seed).await
        }
    )*};
}
killed_at!(
    killed_0 0, killed_1 1, killed_2 2, killed_3 3, killed_4 4, killed_5 5, killed_6 6, killed_7 7,
    killed_8 8, killed_9 9
);
