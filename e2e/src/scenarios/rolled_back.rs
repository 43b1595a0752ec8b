//! A bad version comes back by itself, for the reason it should, and only its own failures hurt.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::backend::Behaviour;
use crate::delivery::{Delivery, Setup};
use crate::load::Sample;
use crate::world::Scene;

/// Fails from the first request on.
pub async fn at_10(scene: Arc<Scene>) -> Result<()> {
    at_once(scene, Setup::default()).await.map(|_| ())
}

/// The same, held by staying paused at rest.
pub async fn at_10_paused_at_rest(scene: Arc<Scene>) -> Result<()> {
    at_once(scene, Setup { paused_at_rest: true, ..Setup::default() }).await.map(|_| ())
}

/// The story with any kind of route, and what it leaves to look at.
pub(super) async fn at_once(scene: Arc<Scene>, setup: Setup) -> Result<Delivery> {
    let delivery = Delivery::start(scene, setup).await?;
    let stable = delivery.pods("v1").await?;
    delivery.behave("v2", Behaviour::failing(0.2));
    delivery.set_version("v2").await?;
    let status = delivery.rolled_back(1).await?;
    let why = &status.history[0].why;
    ensure!(why.contains("fails"), "the reason names no failures: {why}");
    ensure!(status.release.is_some_and(|r| r.passes.is_empty()), "a step passed");
    stays_on_v1(&delivery, &stable).await?;
    Ok(delivery)
}

/// Is good at 10% and fails once half of the traffic comes.
pub async fn at_50(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    let stable = delivery.pods("v1").await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    delivery.behave("v2", Behaviour::failing(0.2));
    let status = delivery.rolled_back(1).await?;
    let passes = status.release.map_or(0, |r| r.passes.len());
    ensure!(passes == 1, "{passes} steps passed");
    stays_on_v1(&delivery, &stable).await
}

/// Is good until it is alone, and then fails everything: there the crash guard holds it against
/// stable's past.
pub async fn at_100(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    let stable = delivery.pods("v1").await?;
    delivery.set_version("v2").await?;
    delivery.in_step(2).await?;
    delivery.behave("v2", Behaviour::failing(1.0));
    let status = delivery.rolled_back(1).await?;
    let why = &status.history[0].why;
    ensure!(why.contains("crash guard"), "the reason isn't the crash guard: {why}");
    stays_on_v1(&delivery, &stable).await
}

/// Is right but slow.
pub async fn on_latency(scene: Arc<Scene>) -> Result<()> {
    let metrics = json!({"analysis": {"metrics": [
        {"name": "success-rate", "successRate": {"maxDrop": "5pp"}},
        {"name": "latency", "latency": {"maxSlowdown": "1.5", "percentile": 90, "max": "100ms"}},
    ]}});
    // A tenth of stable's requests are slow, so that there is a boundary to compare at; on a busy
    // machine that may blur, and the objective tells all the same.
    let usual = Behaviour {
        latency: Duration::from_millis(7),
        slow_rate: 0.1,
        slow_latency: Duration::from_millis(40),
        ..Behaviour::default()
    };
    scene.behave(&crate::app::image("shop", "v1"), usual);
    let delivery = Delivery::start(scene, Setup { spec: metrics, ..Setup::default() }).await?;
    let stable = delivery.pods("v1").await?;
    delivery.pods_scraped().await?;
    delivery.behave("v2", Behaviour::slow(Duration::from_millis(120)));
    delivery.set_version("v2").await?;
    let status = delivery.rolled_back(1).await?;
    let why = &status.history[0].why;
    ensure!(why.contains("latency"), "the reason names no latency: {why}");
    // Each pod's own past told how latencies hang together, before the canary had a request.
    let latency = status.history[0].analysis.iter().find(|metric| metric.name == "latency");
    let from = latency.and_then(|metric| metric.calibration.as_deref());
    ensure!(
        from.is_some_and(|from| from.contains(" of 4 pods' past")),
        "the pods' past wasn't read: {from:?}"
    );
    stays_on_v1(&delivery, &stable).await
}

/// Fails everything: stopped by the crash guard after a handful of canary requests, and no later
/// than the evidence allows.
pub async fn fails_everything(scene: Arc<Scene>) -> Result<()> {
    /// Seven are enough beside a stable version that is known well. Chance sends the canary more
    /// while stable has few of its own: 14 before stable has 25 comes once in 100,000 runs.
    const MOST: usize = 14;
    /// From the last request that the decision needed to the last one that reached the canary.
    const REACTION: Duration = Duration::from_secs(3);
    let delivery = Delivery::start(scene, Setup { rate: 10, ..Setup::default() }).await?;
    let stable = delivery.pods("v1").await?;
    delivery.behave("v2", Behaviour::failing(1.0));
    delivery.set_version("v2").await?;
    let status = delivery.rolled_back(1).await?;
    let why = &status.history[0].why;
    let judged = why
        .strip_prefix("crash guard: the canary fails 100% of ")
        .and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok())
        .with_context(|| format!("the reason isn't the crash guard: {why}"))?;
    ensure!(judged <= MOST, "{judged} requests were needed: {why}");
    let report = delivery.load.report();
    let canary = report.samples.iter().filter(|s| s.version.as_deref() == Some("v2"));
    let mut reached: Vec<Duration> = canary.map(Sample::answered).collect();
    reached.sort();
    let (Some(&decisive), Some(&last)) = (reached.get(judged - 1), reached.last()) else {
        bail!("{judged} requests judged, {} reached the canary", reached.len());
    };
    let reaction = last - decisive;
    ensure!(
        reaction <= REACTION,
        "{judged} requests were enough, and {} reached the canary, the last {reaction:?} later",
        reached.len()
    );
    stays_on_v1(&delivery, &stable).await
}

/// Answers nobody, and clients leave before the route's timeout makes that a failure: the success
/// rate sees none of it.
pub async fn clients_give_up(scene: Arc<Scene>) -> Result<()> {
    let setup = Setup { patience: Duration::from_millis(500), ..Setup::default() };
    let delivery = Delivery::start(scene, setup).await?;
    delivery.behave("v2", Behaviour::slow(Duration::from_secs(60)));
    delivery.set_version("v2").await?;
    let status = delivery.rolled_back(1).await?;
    let past = &status.history[0];
    ensure!(past.why.starts_with("abandoned: the canary lets clients wait"), "{}", past.why);
    let metric = |name: &str| past.analysis.iter().find(|metric| metric.name == name);
    let failures = metric("success-rate").and_then(|m| m.canary.as_ref()).map(|canary| canary.bad);
    ensure!(failures.unwrap_or(0) == 0, "{failures:?} are told as failures");
    let all_on_v1 = || async {
        let report = delivery.load.report().since(delivery.load.elapsed() - Duration::from_secs(1));
        let v1 = report.version("v1");
        Ok(v1.requests > 100 && v1.requests == report.samples.len() && v1.failed == 0)
    };
    crate::wait::wait_until("all traffic on v1", Duration::from_secs(30), all_on_v1).await?;
    let told = delivery.load.report();
    ensure!(told.version("v1").failed == 0, "stable failed: {:?}", told.failures());
    ensure!(told.version("v2").requests == 0, "the canary answered");
    delivery.audit()?;
    Ok(())
}

/// Pods that never get ready: no request ever reaches them.
pub async fn never_ready(scene: Arc<Scene>) -> Result<()> {
    let spec = json!({"progressDeadline": "5s"});
    let delivery = Delivery::start(scene, Setup { spec, ..Setup::default() }).await?;
    let stable = delivery.pods("v1").await?;
    let never = json!({"spec": {"template": {"metadata": {
        "labels": {"version": "v2"}, "annotations": {crate::parts::kubelet::READY_AFTER: "never"},
    }, "spec": {"containers": [{"name": "shop", "image": crate::app::image("shop", "v2")}]}}}});
    let api = delivery.scene.api("apps/v1", "Deployment").await?;
    let patch = kube::api::Patch::Strategic(never);
    api.patch("shop", &kube::api::PatchParams::default(), &patch).await?;
    let status = delivery.rolled_back(1).await?;
    let why = &status.history[0].why;
    ensure!(why.contains("0 of 2 canary pods"), "{why}");
    ensure!(delivery.load.report().version("v2").requests == 0, "the canary got requests");
    stays_on_v1(&delivery, &stable).await
}

/// All traffic is on the pods that were there before, and nothing else was lost.
pub async fn stays_on_v1(delivery: &Delivery, stable: &[String]) -> Result<()> {
    let deployment = delivery.scene.get("apps/v1", "Deployment", "shop").await?;
    ensure!(deployment["spec"]["paused"] == true, "the failed template was let go");
    ensure!(delivery.pods("v1").await? == stable, "stable's pods changed");
    let start = delivery.load.elapsed();
    let more = crate::wait::wait_for("30 more answers", Duration::from_secs(30), || async {
        let report = delivery.load.report().since(start);
        Ok((report.samples.len() >= 30).then_some(report))
    })
    .await?;
    ensure!(more.version("v1").requests == more.samples.len(), "{:?}", more.versions());
    delivery.nothing_lost(&["v2"])?;
    delivery.audit()?;
    Ok(())
}
