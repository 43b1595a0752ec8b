//! What happens to the canary's pods, and to the whole namespace.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, EvictParams, ListParams};
use serde_json::json;
use surefoot_core::api::status::WaitingKind;

use crate::delivery::{Delivery, LIMIT, Setup};
use crate::parts::kubelet::UNREADY;
use crate::record::Entry;
use crate::wait::wait_until;
use crate::world::Scene;

async fn names(delivery: &Delivery, version: &str) -> Result<Vec<String>> {
    let api = Api::<Pod>::namespaced(delivery.scene.client().clone(), &delivery.scene.namespace);
    let pods = api.list(&ListParams::default().labels(&format!("version={version}"))).await?;
    Ok(pods.items.into_iter().filter_map(|pod| pod.metadata.name).collect())
}

/// Each canary pod is evicted in turn, as a drain does it: no request is lost, and the release ends
/// well.
pub async fn evicted(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    delivery.set_version("v2").await?;
    let step = delivery.in_step(0).await?.step.context("no step")?;
    let api = Api::<Pod>::namespaced(delivery.scene.client().clone(), &delivery.scene.namespace);
    for pod in names(&delivery, "v2").await? {
        api.evict(&pod, &EvictParams::default()).await?;
        let marked = |entry: &Entry| {
            let conditions = entry.object["status"]["conditions"].as_array();
            let disrupted =
                conditions.into_iter().flatten().any(|c| c["type"] == "DisruptionTarget");
            (entry.resource == "pods" && entry.name() == pod && disrupted).then_some(())
        };
        delivery.scene.record.until("the eviction to be marked", LIMIT, marked).await?;
        wait_until("a pod in its place", LIMIT, || async {
            let set = delivery.status().await?.canary.map(|c| c.replica_set).unwrap_or_default();
            let set = delivery.scene.get("apps/v1", "ReplicaSet", &set).await?;
            Ok(names(&delivery, "v2").await?.iter().all(|name| *name != pod)
                && set["status"]["readyReplicas"] == set["spec"]["replicas"])
        })
        .await?;
    }
    // What happened meanwhile isn't judged.
    let later = |entry: &Entry| {
        let now = &entry.object["status"]["step"];
        let judged = now["judgedFrom"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        (now["index"] == 0 && judged > step.judged_from).then_some(())
    };
    let entries = delivery.scene.record.entries()?;
    ensure!(entries.iter().any(|e| later(e).is_some()), "evictions are judged like anything else");
    let status = delivery.promoted(1).await?;
    ensure!(status.release.is_some_and(|r| r.passes.len() == 3), "not all passes are recorded");
    delivery.rests_on("v2").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// No canary pod is ready any more in the middle of a step: the traffic goes to stable at once, and
/// comes back with the pods; the decision stays.
pub async fn endpoints_lost(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    delivery.set_version("v2").await?;
    let before = delivery.in_step(1).await?;
    let lost = delivery.load.elapsed();
    unready(&delivery, json!("true")).await?;
    let route = |canary: i64| {
        let delivery = &delivery;
        move || async move { Ok(delivery.canary_weight().await? == canary) }
    };
    wait_until("weight 0", LIMIT, route(0)).await?;
    let status = delivery
        .until("the status to say why", |s| {
            s.waiting_on.iter().any(|w| w.kind == WaitingKind::Endpoints)
        })
        .await?;
    ensure!(
        status.decision.map(|d| d.weight) == before.decision.map(|d| d.weight),
        "the decision changed"
    );
    let start = delivery.load.elapsed();
    wait_until("a hundred answers, all by stable", LIMIT, || async {
        let report = delivery.load.report().since(start);
        ensure!(report.version("v2").requests == 0, "the canary still answers");
        Ok(report.samples.len() >= 100)
    })
    .await?;
    unready(&delivery, json!(null)).await?;
    wait_until("the step's weight again", LIMIT, route(50)).await?;
    let back = delivery.load.elapsed();
    delivery.promoted(1).await?;
    delivery.rests_on("v2").await?;
    // Whoever takes all endpoints away while half of the traffic goes there loses what comes before
    // anybody can know of it. Before and after that nothing is lost.
    let report = delivery.load.report();
    let outside = [report.between(Duration::ZERO, lost), report.since(start.min(back))]
        .map(|r| r.total().failed);
    ensure!(outside == [0, 0], "lost beside the outage: {outside:?} {:?}", report.failures());
    let within = report.between(lost, start);
    let gap = within.samples.iter().filter(|s| s.failed()).map(|s| s.sent);
    let (first, last) = (gap.clone().min(), gap.max());
    let span = last.zip(first).map_or(Duration::ZERO, |(last, first)| last - first);
    println!(
        "figures: all canary endpoints lost at 50% of 200 rps: {} requests lost within {} ms, until \
         weight 0 was in force",
        within.total().failed,
        span.as_millis()
    );
    ensure!(span < Duration::from_secs(1), "requests were lost for {span:?}");
    delivery.audit()?;
    Ok(())
}

pub(super) async fn unready(delivery: &Delivery, value: serde_json::Value) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {UNREADY: value}}});
    for pod in names(delivery, "v2").await? {
        delivery.scene.merge("v1", "Pod", &pod, patch.clone()).await?;
    }
    Ok(())
}

/// The namespace is deleted in the middle of a release: it is gone soon, finalizer and all.
/// (Requests are lost with the pods: that is what was asked for.)
pub async fn namespace_deleted(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    delivery.set_version("v2").await?;
    delivery.in_step(1).await?;
    let namespaces = Api::<Namespace>::all(delivery.scene.client().clone());
    let going =
        namespaces.delete(&delivery.scene.namespace, &DeleteParams::default()).await?.left();
    let going = going.and_then(|n| n.metadata.resource_version?.parse().ok());
    let limit = Duration::from_secs(60);
    wait_until("the namespace to be gone", limit, || async {
        Ok(namespaces.get_opt(&delivery.scene.namespace).await?.is_none())
    })
    .await?;
    delivery.controller_lives()?;
    // From then on Kubernetes takes everything away, in no order; the route may be gone before or
    // after the Rollout.
    delivery.audit_up_to(going.context("no namespace was deleted")?)?;
    Ok(())
}
