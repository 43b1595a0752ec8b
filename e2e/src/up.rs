//! `surefoot-e2e up`: a cluster to play with.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::app;
use crate::parts::prometheus;
use crate::way::Way;
use crate::world::{Scene, World};

/// Starts everything, says how to use it and serves until interrupted.
pub async fn up(rate: u32) -> Result<()> {
    let world = Arc::new(World::start().await?);
    let scene = Scene::open(Arc::clone(&world), "shop", Way::default()).await?;
    let objects = [
        app::deployment("shop", "shop", "v1", 4),
        app::service("shop", "app: shop"),
        app::service("shop-stable", "app: shop"),
        app::service("shop-canary", "app: shop"),
        app::route("shop", "shop"),
    ];
    scene.apply(&objects.join("---")).await?;
    app::available(&scene, "shop").await?;
    let load = scene.load("shop", rate)?;

    let inside = format!("nsenter --net=/proc/{}/ns/net", std::process::id());
    let kubeconfig = world.control_plane.kubeconfig();
    println!(
        "\
Everything is up; namespace shop holds a Deployment of registry.test/shop:v1.
The network is this program's own. From another terminal:

  alias in='{inside}'
  export KUBECONFIG={kubeconfig}
  in {kubectl} kubectl get pods --namespace shop
  in curl --header 'Host: {host}' http://{gateway}/
  in curl 'http://{prometheus}/api/v1/query?query=istio_requests_total'

Logs: {logs}. Ctrl-C ends it.",
        kubeconfig = kubeconfig.display(),
        kubectl = world.folders.bin.join("controlplane").display(),
        host = scene.host(crate::load::Entry::Gateway, "shop"),
        gateway = crate::parts::envoy::GATEWAY,
        prometheus = prometheus::ADDRESS,
        logs = world.folders.run.display(),
    );
    let mut ticks = tokio::time::interval(Duration::from_secs(10));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let end = load.elapsed();
        let versions = load.report().since(end.saturating_sub(Duration::from_secs(10))).versions();
        let line: Vec<_> = versions
            .iter()
            .map(|(version, counts)| {
                let version = if version.is_empty() { "gateway" } else { version };
                format!("{version}: {} requests, {} failed", counts.requests, counts.failed)
            })
            .collect();
        println!("last 10 s: {}", line.join("; "));
    }
}
