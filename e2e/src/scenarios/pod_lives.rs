//! Whether pods can be given the troubles that real ones have: late, never
//! ready, crashing, unready for a while; and whether Kubernetes believes them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::app;
use crate::parts::kubelet::{READY_AFTER, UNREADY};
use crate::wait::wait_until;
use crate::world::Scene;

const LIMIT: Duration = Duration::from_secs(30);

/// The story.
pub async fn play(scene: Arc<Scene>) -> Result<()> {
    let scene = &*scene;
    for (name, ready_after) in [("late", "2s"), ("never", "never"), ("crash", "crash")] {
        let mut deployment: Value =
            serde_saphyr::from_str(&app::deployment(name, "shop", "v1", 1))?;
        deployment["spec"]["template"]["metadata"]["annotations"] =
            json!({READY_AFTER: ready_after});
        scene.apply(&deployment.to_string()).await?;
    }
    scene.apply(&app::service("late", "track: late")).await?;
    wait_until("the crashing pod to say so", LIMIT, || async {
        let pod = pod(scene, "crash").await?;
        Ok(pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
            == "CrashLoopBackOff")
    })
    .await?;
    app::available(scene, "late").await?;
    let late = pod(scene, "late").await?;
    ensure!(ready(&pod(scene, "never").await?) == "False", "the pod that never gets ready is");
    wait_until("the late pod's endpoint", LIMIT, || async { Ok(endpoints(scene).await? == 1) })
        .await?;

    let name = late["metadata"]["name"].as_str().unwrap_or_default();
    scene.merge("v1", "Pod", name, json!({"metadata": {"annotations": {UNREADY: "true"}}})).await?;
    wait_until("the endpoint to go", LIMIT, || async { Ok(endpoints(scene).await? == 0) }).await?;
    scene.merge("v1", "Pod", name, json!({"metadata": {"annotations": {UNREADY: null}}})).await?;
    wait_until("the endpoint to come back", LIMIT, || async { Ok(endpoints(scene).await? == 1) })
        .await
}

/// The one pod of a Deployment.
async fn pod(scene: &Scene, track: &str) -> Result<Value> {
    let parameters = ListParams::default().labels(&format!("track={track}"));
    let pods = scene.api("v1", "Pod").await?.list(&parameters).await?;
    ensure!(pods.items.len() == 1, "{} pods of {track}", pods.items.len());
    Ok(serde_json::to_value(&pods.items[0])?)
}

fn ready(pod: &Value) -> &str {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    ready.and_then(|condition| condition["status"].as_str()).unwrap_or("False")
}

/// How many endpoints of the Service `late` are ready.
async fn endpoints(scene: &Scene) -> Result<usize> {
    let parameters = ListParams::default().labels("kubernetes.io/service-name=late");
    let slices = scene.api("discovery.k8s.io/v1", "EndpointSlice").await?.list(&parameters).await?;
    let endpoints = slices
        .items
        .iter()
        .flat_map(|slice| slice.data["endpoints"].as_array().into_iter().flatten());
    Ok(endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count())
}
