//! Whether the tests can be believed: weights are obeyed and counted, a careful
//! change of pods costs no request, and a careless one is seen to cost some.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::app;
use crate::backend::Behaviour;
use crate::load::Load;
use crate::proxy::Mode;
use crate::wait::{wait_for, wait_until};
use crate::world::Scene;

const LIMIT: Duration = Duration::from_secs(30);
/// Enough that pods which end without grace are noticed (at 100 they are not:
/// the gateway forgets an address within some 20 ms).
const RATE: u32 = 400;

/// The story.
pub async fn play(scene: Arc<Scene>) -> Result<()> {
    let scene = &*scene;
    let objects = [
        app::deployment("shop", "shop", "v1", 4),
        app::service("shop", "app: shop"),
        app::service("shop-stable", "app: shop, version: v1"),
        app::service("shop-canary", "app: shop, version: v2"),
        app::route(&scene.namespace, "shop"),
    ];
    scene.apply(&objects.join("---")).await?;
    app::available(scene, "shop").await?;
    let load = serving(scene).await?;

    scene.apply(&app::deployment("shop-next", "shop", "v2", 2)).await?;
    app::available(scene, "shop-next").await?;
    shifted(scene, &load).await?;
    failures_follow_behaviour(scene, &load).await?;
    careful_end(scene, &load).await?;
    rolled(scene).await?;
    let careful = load.report();
    // The failures that the canary was told to answer with come with its name.
    let unplanned = careful.total().failed - careful.version("v2").failed;
    ensure!(
        unplanned == 0,
        "{unplanned} requests failed under careful changes: {:?}",
        careful.failures()
    );
    ensure!(careful.skipped == 0, "{} requests could not be sent", careful.skipped);

    careless_end(scene, &load).await?;
    prometheus_can_be_cut_off(scene).await?;
    recorded(scene)?;
    let report = load.stop().await?;
    ensure!(
        report.samples.len() > 5 * RATE as usize,
        "only {} requests were answered",
        report.samples.len()
    );
    Ok(())
}

/// Load on the stable version, once the gateway knows the route.
async fn serving(scene: &Scene) -> Result<Load> {
    let probe = scene.load("shop", 20)?;
    wait_until("the route to work", LIMIT, || async {
        Ok(probe.report().version("v1").requests > 0)
    })
    .await?;
    drop(probe);
    scene.load("shop", RATE)
}

/// 90/10 is what clients see and what Prometheus counts.
async fn shifted(scene: &Scene, load: &Load) -> Result<()> {
    app::shift(scene, "shop", 10).await?;
    wait_until("the canary's first answer", LIMIT, || async {
        Ok(load.report().version("v2").requests > 0)
    })
    .await?;
    let start = load.elapsed();
    let report = wait_for("1000 requests at 90/10", LIMIT, || async {
        let report = load.report().since(start);
        Ok((report.samples.len() >= 1000).then_some(report))
    })
    .await?;
    let share = report.share("v2");
    // 1000 draws at 10 %: four standard deviations are 3.8 points.
    ensure!((0.062..0.138).contains(&share), "canary's share is {share} at weight 10");

    let seen = load.report().version("v2").requests;
    let query = format!(
        r#"sum by (destination_service_name, destination_workload, destination_version, response_code)
           (istio_requests_total{{reporter="source",destination_service_namespace="{}"}})"#,
        scene.namespace
    );
    wait_until("Prometheus to have counted the canary's requests", LIMIT, || async {
        let points = scene.world.prometheus.query(&query).await?;
        let canary =
            points.iter().find(|point| point.label("destination_service_name") == "shop-canary");
        let canary = canary.context("no series of shop-canary")?;
        ensure!(
            canary.label("response_code") == "200",
            "response_code {:?}",
            canary.label("response_code")
        );
        ensure!(
            canary.label("destination_workload") == "shop-next",
            "workload {:?}",
            canary.labels
        );
        ensure!(canary.label("destination_version") == "v2", "version {:?}", canary.labels);
        Ok(canary.value() >= seen as f64)
    })
    .await?;
    buckets(scene).await
}

/// Latencies come in Istio's buckets.
async fn buckets(scene: &Scene) -> Result<()> {
    let query = format!(
        r#"sum by (le) (istio_request_duration_milliseconds_bucket{{destination_service_namespace="{}"}})"#,
        scene.namespace
    );
    let points = scene.world.prometheus.query(&query).await?;
    let mut bounds: Vec<f64> =
        points.iter().filter_map(|point| point.label("le").parse().ok()).collect();
    bounds.sort_by(f64::total_cmp);
    let milliseconds = [0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0];
    let seconds = [1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 18e5, 36e5, f64::INFINITY];
    let istio = [&milliseconds[..], &seconds[..]].concat();
    ensure!(bounds == istio, "buckets are {bounds:?}");
    Ok(())
}

/// A version can be made to fail while it runs.
async fn failures_follow_behaviour(scene: &Scene, load: &Load) -> Result<()> {
    let image = app::image("shop", "v2");
    scene.behave(&image, Behaviour::failing(1.0));
    wait_until("the canary to fail", LIMIT, || async {
        Ok(load.report().first_failure("v2").is_some())
    })
    .await?;
    scene.behave(&image, Behaviour::default());
    Ok(())
}

/// Traffic goes first, pods after: no request may fail.
async fn careful_end(scene: &Scene, load: &Load) -> Result<()> {
    app::shift(scene, "shop", 0).await?;
    wait_until("the canary to get no more requests", LIMIT, || async {
        let last = load.report().last_answer("v2").unwrap_or_default();
        Ok(load.elapsed() > last + Duration::from_secs(1))
    })
    .await?;
    scene.merge("apps/v1", "Deployment", "shop-next", json!({"spec": {"replicas": 0}})).await?;
    wait_until("the canary's pods to be gone", LIMIT, || async {
        Ok(pods(scene, "version=v2").await? == 0)
    })
    .await
}

/// All stable pods are replaced natively: each serves before it is known, and
/// after its deletion until nobody knows it any more.
async fn rolled(scene: &Scene) -> Result<()> {
    let template =
        json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "once"}}}}});
    scene.merge("apps/v1", "Deployment", "shop", template).await?;
    app::available(scene, "shop").await?;
    wait_until("the old pods to be gone", LIMIT, || async {
        Ok(pods(scene, "version=v1").await? == 4)
    })
    .await
}

/// Pods go while they have traffic: requests must fail.
async fn careless_end(scene: &Scene, load: &Load) -> Result<()> {
    scene.merge("apps/v1", "Deployment", "shop-next", json!({"spec": {"replicas": 2}})).await?;
    app::available(scene, "shop-next").await?;
    let start = load.elapsed();
    app::shift(scene, "shop", 50).await?;
    wait_until("the canary's first answer", LIMIT, || async {
        Ok(load.report().since(start).version("v2").requests > 0)
    })
    .await?;
    let deployments = scene.api("apps/v1", "Deployment").await?;
    deployments.delete("shop-next", &DeleteParams::default()).await?;
    wait_until("requests to fail", LIMIT, || async {
        Ok(load.report().since(start).total().failed > 0)
    })
    .await?;
    let end = load.elapsed();
    app::shift(scene, "shop", 0).await?;
    wait_until("requests to succeed again", LIMIT, || async {
        let last = load.elapsed().saturating_sub(Duration::from_secs(1));
        let report = load.report().since(last.max(end));
        Ok(report.samples.len() > RATE as usize / 2 && report.total().failed == 0)
    })
    .await
}

async fn pods(scene: &Scene, labels: &str) -> Result<usize> {
    let pods = scene.api("v1", "Pod").await?;
    Ok(pods.list(&ListParams::default().labels(labels)).await?.items.len())
}

/// Prometheus is out of reach for this scenario alone.
async fn prometheus_can_be_cut_off(scene: &Scene) -> Result<()> {
    let proxy = scene.prometheus_proxy().await?;
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build()?;
    let url = format!("{}/-/ready", proxy.url());
    http.get(&url).send().await?.error_for_status()?;
    proxy.set(Mode::Hang);
    let hanging = http.get(&url).send().await;
    ensure!(
        hanging.is_err_and(|error| error.is_timeout()),
        "Prometheus answered although it hangs"
    );
    proxy.set(Mode::Refuse);
    wait_until("Prometheus to be refused", LIMIT, || async {
        Ok(http.get(&url).send().await.is_err_and(|error| error.is_connect()))
    })
    .await
}

/// The record holds every weight that was written, in order.
fn recorded(scene: &Scene) -> Result<()> {
    let weights: Vec<_> = scene
        .record
        .history("virtualservices", "shop")?
        .iter()
        .filter_map(|entry| entry.object["spec"]["http"][0]["route"][1]["weight"].as_u64())
        .collect();
    ensure!(weights == [0, 10, 0, 50, 0], "recorded weights are {weights:?}");
    Ok(())
}
