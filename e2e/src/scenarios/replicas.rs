//! Two replicas of Prometheus behind one server, as a Thanos without deduplication shows them: a real
//! Prometheus that scrapes every target twice, under two values of one label.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use surefoot_core::api::RolloutStatus;
use surefoot_core::api::status::WaitingKind;

use super::bad_midway::{approve, ends_well, midway, says, setup};
use crate::delivery::{Delivery, SUREFOOT};
use crate::parts::prometheus::{Prometheus, twice};
use crate::world::Scene;

const ADDRESS: &str = "127.0.0.1:9092";
const LABEL: &str = "prometheus_replica";

/// Counted twice it is no evidence and says what to do; with the label named it goes on, counted once.
pub async fn play(scene: Arc<Scene>) -> Result<()> {
    let folders = &scene.world.folders;
    let (bin, data, run) = (&folders.bin, &folders.data, &folders.run);
    let config = twice(LABEL)?;
    let both = Prometheus::start_at(bin, data, run, "prometheus-twice", &config, ADDRESS).await?;
    let (delivery, pid) = midway(scene, setup()).await?;
    source(&delivery, &[]).await?;
    let status = says(&delivery, "in Prometheus 2 times, by prometheus_replica (a, b)").await?;
    ensure!(status.release.is_some_and(|r| r.passes.is_empty()), "a step passed on that");
    source(&delivery, &[LABEL]).await?;
    let dark = |s: &RolloutStatus| s.waiting_on.iter().any(|w| w.kind == WaitingKind::Metrics);
    delivery.until("the metrics to be back", |s| !dark(s)).await?;
    let status = delivery.until("20 s to be judged", judged).await?;
    let evidence = status.evidence.context("no evidence")?;
    // 100 requests a second, of which the canary gets a fifth.
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let rate = evidence.canary_requests as f64 / evidence.judged_seconds as f64;
    ensure!((10.0..30.0).contains(&rate), "{rate} canary requests a second are counted");
    approve(&delivery).await?;
    ends_well(&delivery, pid).await?;
    delivery.nothing_lost(&[])?;
    both.process.kill()?;
    Ok(())
}

fn judged(status: &RolloutStatus) -> bool {
    status.evidence.as_ref().is_some_and(|e| e.judged_seconds >= 20)
}

async fn source(delivery: &Delivery, labels: &[&str]) -> Result<()> {
    let source = json!({
        "apiVersion": SUREFOOT, "kind": "MetricsSource", "metadata": {"name": "default"},
        "spec": {"prometheus": {"url": format!("http://{ADDRESS}"), "replicaLabels": labels}},
    });
    delivery.scene.apply(&source.to_string()).await?;
    Ok(())
}
