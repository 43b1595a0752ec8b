//! Two controllers: one is frozen or killed and the other takes over; the Lease goes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::api_proxy::{Call, Fault, Rule};
use crate::controllers::Another;
use crate::delivery::{Delivery, LIMIT, Setup};
use crate::record::Entry;
use crate::wait::wait_until;
use crate::world::Scene;

/// A decision of the other controller, as recorded.
fn others(entry: &Entry, namespace: &str) -> bool {
    let holder = entry.object["status"]["decision"]["holder"].as_str().unwrap_or_default();
    entry.resource == "rollouts" && holder.starts_with(&format!("{namespace}-2_"))
}

async fn takes_over(delivery: &Delivery, other: &Another) -> Result<()> {
    wait_until("the other to lead", LIMIT, || other.leads()).await?;
    let namespace = delivery.scene.namespace.clone();
    let theirs = |entry: &Entry| others(entry, &namespace).then_some(());
    delivery.scene.record.until("a decision of the other", LIMIT, theirs).await
}

/// The leader has a write on its way when it freezes. The other takes over, and the release is
/// aborted; only then does the write reach the server, and the former leader thaws. Nothing of it is
/// accepted any more.
async fn frozen(scene: Arc<Scene>, resource: &'static str) -> Result<()> {
    let setup = Setup { proxied: Some(3), ..Setup::default() };
    let delivery = Delivery::start(scene, setup).await?;
    let stable = delivery.pods("v1").await?;
    let other = delivery.start_another()?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    // The next write of this kind: the second step's, or its commit.
    let api = delivery.api()?;
    let fault = Fault::Hold;
    api.plan(vec![Rule { verbs: &["PATCH"], resource, fault, chance: 1.0, times: 1 }]);
    api.holds(LIMIT).await.context("the leader writes")?;
    delivery.freeze_controller()?;
    takes_over(&delivery, &other).await?;
    delivery.command("abort").await?;
    delivery.rolled_back(1).await?;
    let before = api.calls();
    api.let_go();
    wait_until("the late write to be answered", LIMIT, || async {
        let calls = api.calls();
        let held = calls.iter().find(|c| c.fault == Some(Fault::Hold));
        Ok(held.is_some_and(|call| call.answer.is_some()))
    })
    .await?;
    delivery.thaw_controller()?;
    wait_until("the former leader to end", LIMIT, || async {
        Ok(delivery.controller_lives().is_err())
    })
    .await?;
    let calls = api.calls();
    let accepted = |(place, call): (usize, &Call)| {
        let late = place >= before.len() || call.fault == Some(Fault::Hold);
        let ours = call.resource != "leases" && call.resource != "events";
        (late && ours && call.is_accepted_write()).then(|| call.clone())
    };
    let accepted: Vec<Call> = calls.iter().enumerate().filter_map(accepted).collect();
    ensure!(accepted.is_empty(), "accepted of the former leader: {accepted:?}");
    super::rolled_back::stays_on_v1(&delivery, &stable).await
}

/// Frozen with a weight on its way.
pub async fn frozen_at_weight(scene: Arc<Scene>) -> Result<()> {
    frozen(scene, "virtualservices").await
}

/// Frozen with a decision on its way.
pub async fn frozen_at_commit(scene: Arc<Scene>) -> Result<()> {
    frozen(scene, "rollouts/status").await
}

/// Frozen with more pods on their way.
pub async fn frozen_at_scale(scene: Arc<Scene>) -> Result<()> {
    frozen(scene, "replicasets/scale").await
}

/// The leader is killed for good: the other goes on within five seconds, and without a step back.
pub async fn killed(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    let other = delivery.start_another()?;
    delivery.set_version("v2").await?;
    delivery.in_step(0).await?;
    let start = delivery.load.elapsed();
    delivery.kill_controller();
    wait_until("the other to lead", LIMIT, || other.leads()).await?;
    let leads = delivery.load.elapsed() - start;
    takes_over(&delivery, &other).await?;
    let decides = delivery.load.elapsed() - start;
    println!(
        "figures: leader killed at 10%: another leads after {:.1} s, and its first decision is \
         committed after {:.1} s (peers 15 s); no step back",
        leads.as_secs_f64(),
        decides.as_secs_f64()
    );
    // The bound is the Lease's four seconds, one look, and a busy machine.
    ensure!(leads < Duration::from_secs(7), "another leads only after {leads:?}");
    let status = delivery.promoted(1).await?;
    ensure!(status.release.is_some_and(|r| r.passes.len() == 3), "not all passes are recorded");
    delivery.rests_on("v2").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// The Lease is deleted in the middle of a release, again and again: whoever leads, it goes on.
pub async fn lease_deleted(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup::default()).await?;
    let _other = delivery.start_another()?;
    delivery.set_version("v2").await?;
    let leases = delivery.scene.api("coordination.k8s.io/v1", "Lease").await?;
    let name = format!("surefoot-{}", delivery.scene.namespace);
    for step in 0..3 {
        delivery.in_step(step).await?;
        leases.delete(&name, &Default::default()).await.context("deleting the Lease")?;
        wait_until("the Lease to be taken again", LIMIT, || async {
            let lease = leases.get_opt(&name).await?;
            Ok(lease.is_some_and(|l| !l.data["spec"]["holderIdentity"].is_null()))
        })
        .await?;
    }
    let epoch = delivery.status().await?.decision.map_or(0, |d| d.epoch);
    ensure!(epoch <= 10, "they took over from each other {epoch} times");
    // A leader that found another's name in the Lease has ended, as it should.
    delivery.start_controller()?;
    let status = delivery.promoted(1).await?;
    ensure!(status.release.is_some_and(|r| r.passes.len() == 3), "not all passes are recorded");
    delivery.rests_on("v2").await?;
    delivery.nothing_lost(&[])?;
    delivery.audit()?;
    Ok(())
}

/// More objects than a channel holds are there when the controller starts.
pub async fn many_objects(scene: Arc<Scene>) -> Result<()> {
    use futures::{StreamExt, TryStreamExt, stream};
    let delivery = Delivery::start(scene, Setup { rate: 20, ..Setup::default() }).await?;
    delivery.kill_controller();
    let api = delivery.scene.api(crate::delivery::SUREFOOT, "MetricsSource").await?;
    stream::iter(0..1200)
        .map(|i| {
            let source = json!({
                "apiVersion": crate::delivery::SUREFOOT, "kind": "MetricsSource",
                "metadata": {"name": format!("source-{i}")},
                "spec": {"prometheus": {"url": "http://prometheus.test"}},
            });
            let api = api.clone();
            async move {
                let source = serde_json::from_value(source)?;
                api.create(&Default::default(), &source).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await?;
    delivery.start_controller()?;
    delivery.set_version("v2").await?;
    delivery.within(Duration::from_secs(30), "a release to begin", |s| s.release.is_some()).await?;
    delivery.audit()?;
    Ok(())
}
