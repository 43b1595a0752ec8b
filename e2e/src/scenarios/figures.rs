//! Figures, printed beside those of the peers (`docs/figures.md` tells how the peers' were taken).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::json;
use surefoot_core::api::status::Verdict;

use crate::backend::Behaviour;
use crate::delivery::{Delivery, Setup};
use crate::wait::wait_until;
use crate::world::Scene;

const REST: Duration = Duration::from_secs(300);

/// Five minutes at rest under traffic: the controller writes nothing.
pub async fn at_rest(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup { rate: 20, ..Setup::default() }).await?;
    // What the first look left over (Events of the outbox) is written by then.
    wait_until("the outbox to be empty", Duration::from_secs(30), || async {
        Ok(delivery.status().await?.outbox.is_empty())
    })
    .await?;
    let (before, start) = (calls(&delivery).await?, delivery.load.elapsed());
    let cpu = delivery.metric("surefoot_process_cpu_seconds").await?;
    let limit = REST + Duration::from_secs(10);
    wait_until("five minutes at rest", limit, || async {
        Ok(delivery.load.elapsed() - start >= REST)
    })
    .await?;
    let after = calls(&delivery).await?;
    let spent = delivery.metric("surefoot_process_cpu_seconds").await? - cpu;
    let memory = delivery.metric("surefoot_process_resident_memory_bytes").await?;
    ensure!(before == after, "calls at rest: {before:?} became {after:?}");
    println!(
        "figures: 5 minutes at rest: 0 API writes, 0 reads; {spent:.2} s of CPU; {:.0} MiB",
        memory / 1_048_576.0
    );
    delivery.audit()?;
    Ok(())
}

/// Reads and writes by cause, as the controller counts them.
async fn calls(delivery: &Delivery) -> Result<BTreeMap<String, u64>> {
    let metrics = delivery.metrics().await?;
    let calls =
        metrics.into_iter().filter(|(name, _)| name.starts_with("surefoot_api_calls_total"));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    Ok(calls.map(|(name, value)| (cause(&name), value as u64)).collect())
}

/// `…{verb="write",cause="status"}` as "write status".
fn cause(name: &str) -> String {
    name.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(" ")
}

/// One release of each kind, measured.
pub async fn play(scene: Arc<Scene>) -> Result<()> {
    let delivery = Delivery::start(scene, Setup { rate: 100, ..Setup::default() }).await?;
    let rows = [good_release(&delivery).await?, abort(&delivery, 2).await?];
    println!("{}", rows.concat().trim_end());
    delivery.audit()?;
    Ok(())
}

/// How soon a bad canary is found out and gone, with the default tolerance of half a percentage
/// point.
pub async fn detection(scene: Arc<Scene>) -> Result<()> {
    let metrics = json!([{"name": "success-rate", "successRate": {"maxDrop": "0.5pp"}}]);
    let spec = json!({"analysis": {"metrics": metrics}});
    let delivery = Delivery::start(scene, Setup { rate: 100, spec, ..Setup::default() }).await?;
    let rows =
        [bad_release(&delivery, "v2", 1.0, 1).await?, bad_release(&delivery, "v3", 0.05, 2).await?];
    println!("{}", rows.concat().trim_end());
    delivery.audit()?;
    Ok(())
}

async fn good_release(delivery: &Delivery) -> Result<String> {
    let before = calls(delivery).await?;
    let cpu = delivery.metric("surefoot_process_cpu_seconds").await?;
    let start = delivery.load.elapsed();
    delivery.set_version("v2").await?;
    delivery.promoted(1).await?;
    delivery.rests_on("v2").await?;
    let after = calls(delivery).await?;
    let took = delivery.load.elapsed() - start;
    let spent = delivery.metric("surefoot_process_cpu_seconds").await? - cpu;
    let memory = delivery.metric("surefoot_process_resident_memory_bytes").await? / 1_048_576.0;
    let new = |name: &String, n: &u64| n - before.get(name).copied().unwrap_or(0);
    let by = |verb: &str| {
        let causes = after.iter().filter(|(name, _)| name.starts_with(verb));
        let causes: Vec<(String, u64)> = causes
            .map(|(name, n)| (name.trim_start_matches(verb).trim().to_owned(), new(name, n)))
            .filter(|(_, n)| *n > 0)
            .collect();
        let total: u64 = causes.iter().map(|(_, n)| n).sum();
        let told: Vec<String> = causes.iter().map(|(name, n)| format!("{name} {n}")).collect();
        (total, told.join(", "))
    };
    let ((writes, written), (reads, read)) = (by("write"), by("read"));
    Ok(format!(
        "figures: one three-step release in {:.0} s (peers: 81 and 187 API requests):\n\
         figures:   {writes} writes: {written}\n\
         figures:   {reads} reads: {read}\n\
         figures:   {spent:.2} s of CPU in an unoptimised build (peers 0.23 and 0.13 s); {memory:.0} MiB\n",
        took.as_secs_f64()
    ))
}

/// A canary that fails a share of its requests: how long from its first failure to the last request
/// that reached it, and from the verdict to the route.
async fn bad_release(delivery: &Delivery, version: &str, rate: f64, number: i64) -> Result<String> {
    delivery.behave(version, Behaviour::failing(rate));
    delivery.set_version(version).await?;
    delivery.rolled_back(number).await?;
    let report = delivery.load.report();
    let first = report.first_failure(version).context("no failure")?;
    let last = report.last_answer(version).context("no answer")?;
    let harmed = report.version(version);
    let (decided, written) = verdict(delivery, number)?;
    let exposed = (last.saturating_sub(first)).as_secs_f64();
    Ok(format!(
        "figures: canary {:.0}% failing at 10% of 100 rps: first failure to weight 0 in the proxy \
         {exposed:.1} s ({} of {} canary requests failed; the planner's T50 is {:.1} s, and a scrape \
         and what the change of weight excludes); verdict to weight written {:.0} ms (peers 210 and 9,800 ms)\n",
        rate * 100.0,
        harmed.failed,
        harmed.requests,
        planned(rate),
        written.duration_since(decided).as_secs_f64() * 1000.0,
    ))
}

/// T50 of `statistics.md`, "Planner": 100 requests a second, 10% of them the canary's, a stable that
/// never fails, one metric of nine tenths of the budget, dispersion 3 and half of the evidence (1 and
/// a tenth for the crash guard, which acts on all but the mildest failures).
fn planned(rate: f64) -> f64 {
    let (rps, w, alpha): (f64, f64, f64) = (100.0, 0.1, 0.01);
    let bad = rps * w * rate;
    let divergence = (1.0 / w).ln();
    let needed =
        |phi: f64, grid: f64, share: f64| phi * ((1.0 / alpha).ln() + grid.ln() - share.ln());
    needed(1.0, 8.0, 0.1).min(needed(3.0, 2.0 * 12.0, 0.9)) / (bad * divergence)
}

/// When the rollback of a release was decided, and when its weight was accepted.
fn verdict(delivery: &Delivery, number: i64) -> Result<(Timestamp, Timestamp)> {
    let entries = delivery.scene.record.entries()?;
    let decision = entries.iter().find(|e| {
        let decision = &e.object["status"]["decision"];
        e.resource == "rollouts"
            && decision["release"] == number
            && decision["verdict"] == json!(Verdict::Rollback)
    });
    let decision = decision.context("no rollback on record")?;
    let decided: Timestamp =
        decision.object["status"]["decision"]["at"].as_str().unwrap_or_default().parse()?;
    let written = entries.iter().find(|e| {
        e.resource == "virtualservices"
            && e.version > decision.version
            && e.object["spec"]["http"][0]["route"][1]["weight"] == 0
    });
    Ok((decided, written.context("no weight 0 on record")?.at))
}

async fn abort(delivery: &Delivery, number: i64) -> Result<String> {
    delivery.set_version("v5").await?;
    delivery
        .until("the next release to be at its first step", |s| {
            s.release.as_ref().is_some_and(|r| r.number == number)
                && s.step.as_ref().is_some_and(|at| at.started_at.is_some())
        })
        .await?;
    delivery.command("abort").await?;
    delivery.rolled_back(number).await?;
    let entries = delivery.scene.record.entries()?;
    let asked = entries.iter().rfind(|e| e.resource == "rolloutactions").context("no action")?;
    let written = entries.iter().find(|e| {
        e.resource == "virtualservices"
            && e.version > asked.version
            && e.object["spec"]["http"][0]["route"][1]["weight"] == 0
    });
    let took = written.context("no weight 0")?.at.duration_since(asked.at);
    Ok(format!(
        "figures: abort to weight 0 written {:.0} ms (peers 38 and 5,500 ms)\n",
        took.as_secs_f64() * 1000.0
    ))
}
