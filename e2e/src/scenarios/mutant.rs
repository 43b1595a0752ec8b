//! The check that no request is lost can fail: whoever hands the pods over while half of the traffic
//! is still on the old ones loses requests, and is caught.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use surefoot_core::mark::Mark;
use surefoot_core::write::{Author, Request, Write};

use crate::delivery::{APP, Delivery, Setup};
use crate::wait::wait_for;
use crate::world::Scene;

/// The story: the controller's own write of the adoption, at the wrong time.
pub async fn play(scene: Arc<Scene>) -> Result<()> {
    // With all of its pods there, the deployment controller takes the old ones away at once.
    let spec = json!({"steps": [{"weight": 50, "replicas": "100%"}, {"weight": 100}]});
    let delivery = Delivery::start(scene, Setup { rate: 400, spec, ..Setup::default() }).await?;
    delivery.set_version("v2").await?;
    let status = delivery.in_step(0).await?;
    delivery.kill_controller();
    delivery.nothing_lost(&[]).context("before the mutant acts")?;
    let canary = status.canary.context("no canary")?.replica_set;
    let deployment = delivery.scene.get("apps/v1", "Deployment", APP).await?;
    let set = delivery.scene.get("apps/v1", "ReplicaSet", &canary).await?;
    let rollout = delivery.rollout().await?;
    let author = Author {
        rivals: &[],
        rollout: APP,
        uid: rollout["metadata"]["uid"].as_str().unwrap_or_default(),
        namespace: &delivery.scene.namespace,
        deployment: APP,
        epoch: status.decision.context("no decision")?.epoch,
        allowed: Mark::default(),
    };
    let write = Write::Adopt { replica_set: canary.clone() };
    let request = write.request(Some(&set), Some(&deployment), author)?;
    let Some(Request::Patch(patch)) = request else { anyhow::bail!("nothing to adopt") };
    let api = delivery.scene.api("apps/v1", "ReplicaSet").await?;
    api.patch(&canary, &PatchParams::default(), &Patch::Json::<()>(patch)).await?;
    let lost = wait_for("the mutant to lose requests", Duration::from_secs(30), || async {
        Ok(delivery.nothing_lost(&[]).err())
    })
    .await?;
    ensure!(lost.to_string().contains("requests failed"), "{lost}");
    Ok(())
}
