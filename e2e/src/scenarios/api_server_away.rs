//! Whether the tests outlive what they do to Kubernetes: the API server hangs,
//! dies and comes back; pods serve on, the record catches up, and work goes on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::app;
use crate::parts::controlplane::Component;
use crate::record::Change;
use crate::wait::wait_until;
use crate::world::Scene;

const LIMIT: Duration = Duration::from_secs(60);
const PODS: u32 = 150;

/// The story.
pub async fn play(scene: Arc<Scene>) -> Result<()> {
    let scene = &*scene;
    let objects = [
        app::deployment("shop", "shop", "v1", 4),
        app::service("shop-stable", "app: shop"),
        app::service("shop-canary", "app: shop"),
        app::route(&scene.namespace, "shop"),
    ];
    scene.apply(&objects.join("---")).await?;
    app::available(scene, "shop").await?;
    let load = scene.load("shop", 50)?;
    wait_until("the route to work", LIMIT, || async {
        Ok(load.report().version("v1").requests > 0)
    })
    .await?;
    let start = load.elapsed();

    let kubernetes = &scene.world.control_plane;
    kubernetes.freeze(Component::ApiServer)?;
    let away = load.elapsed();
    wait_until("50 answers without the API server", LIMIT, || async {
        Ok(load.report().since(away).version("v1").requests > 50)
    })
    .await?;
    kubernetes.thaw(Component::ApiServer)?;
    kubernetes.restart(Component::ApiServer).await?;
    kubernetes.restart(Component::ControllerManager).await?;

    let patch = json!({"spec": {"replicas": PODS}});
    wait_until("the API server to be back", LIMIT, || async {
        scene.merge("apps/v1", "Deployment", "shop", patch.clone()).await.map(|()| true)
    })
    .await?;
    app::available(scene, "shop").await?;
    let report = load.report().since(start);
    ensure!(report.total().failed == 0, "requests failed: {:?}", report.failures());

    wait_until("the record to hold every pod", LIMIT, || async {
        let entries = scene.record.known();
        let added = entries
            .iter()
            .filter(|entry| entry.resource == "pods" && entry.change == Change::Added);
        Ok(added.count() == PODS as usize)
    })
    .await
}
