//! A good version goes 10% → 50% → 100% by itself, the tested pods stay, and no request is lost.

use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::delivery::{Delivery, Setup};
use crate::world::Scene;

/// The story, held by policy.
pub async fn play(scene: Arc<Scene>) -> Result<()> {
    story(scene, Setup::default()).await
}

/// The same, held by staying paused at rest.
pub async fn paused_at_rest(scene: Arc<Scene>) -> Result<()> {
    story(scene, Setup { paused_at_rest: true, ..Setup::default() }).await
}

async fn story(scene: Arc<Scene>, setup: Setup) -> Result<()> {
    let delivery = Delivery::start(scene, setup).await?;
    delivery.set_version("v2").await?;
    delivery
        .until("all traffic on the canary", |s| {
            s.step.as_ref().is_some_and(|at| at.weight == 100 && at.started_at.is_some())
        })
        .await?;
    let tested = delivery.pods("v2").await?;
    let status = delivery.promoted(1).await?;
    let passes = status.release.as_ref().map_or(0, |r| r.passes.len());
    ensure!(passes == 3, "{passes} passes recorded");
    delivery.rests_on("v2").await?;
    ensure!(delivery.pods("v2").await? == tested, "the promoted pods are not the tested ones");
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}
