//! What is missing in the middle of a release: traffic, Prometheus.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use surefoot_core::api::status::{HoldReason, Phase, WaitingKind};

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
    delivery.goes_through().await
}
