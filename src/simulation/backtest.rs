//! `surefoot backtest`: what a Rollout's policy, and those of other tools, would have said of
//! stable's own past, read from Prometheus.

mod calibration;
mod fetch;
mod say;
mod store;

pub use calibration::{Calibrated, Calibration};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use surefoot_core::plan::{MetricKind, Plan};
use surefoot_core::samples::PodHistory;
use surefoot_sim::backtest::dependence::{Dependence, dependence};
use surefoot_sim::backtest::fault::{FAILING, Fault, SLOW};
use surefoot_sim::backtest::past::{Past, SLOT};
use surefoot_sim::backtest::replay::Replay;
use surefoot_sim::backtest::{Outcome, outcome};

use self::fetch::{LONGEST, Question};
use self::store::Found;
use super::manifest::Manifest;
use super::{Output, bar_of, each, plan, previewed, written};
use crate::clock::Clock;
use crate::controller::prometheus::Prometheus;
use crate::outbound::Outbound;

/// A history of less is none: no look would be over.
const SHORTEST: Duration = Duration::from_secs(30);

/// Options of `surefoot backtest`.
#[derive(Debug, Args)]
pub struct Options {
    /// The file with the Rollout, and the AnalysisTemplates that it names; "-" is standard input
    #[arg(short, long)]
    filename: PathBuf,
    /// Base URL of the Prometheus with the mesh's metrics, http or https
    #[arg(long, value_name = "URL")]
    prometheus: String,
    /// Start of the history, such as 2026-03-01T06:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Timestamp,
    /// Its end, at most three days later
    #[arg(long, value_name = "TIME")]
    to: Timestamp,
    /// Namespace of the Deployment; default: the Rollout's
    #[arg(short, long)]
    namespace: Option<String>,
    /// The ReplicaSet whose pods are stable; default: the one with the most requests in this time
    #[arg(long, value_name = "NAME")]
    replica_set: Option<String>,
    /// Of several replicas of Prometheus the one to read, by the label that tells them apart
    #[arg(long, value_name = "LABEL=VALUE", value_parser = replica)]
    replica: Option<(String, String)>,
    /// The longest that the route lets a request take: its timeout
    #[arg(long, default_value = "15s", value_parser = plan::span)]
    route_timeout: Duration,
    /// The first seed of what is put in by chance: the same one gives the same result
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep here what has been fetched, so that an interrupted run goes on from there
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Write φ and η of each metric to this file
    #[arg(long, value_name = "FILE")]
    write_calibration: Option<PathBuf>,
    /// How to write the result
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

fn replica(text: &str) -> Result<(String, String), String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let name = |name: &str| {
        name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
    };
    match text.split_once('=') {
        Some((label, value)) if name(label) => Ok((label.to_owned(), value.to_owned())),
        _ => Err("write LABEL=VALUE, such as prometheus_replica=prometheus-0".to_owned()),
    }
}

/// What was found, in numbers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    deployment: String,
    namespace: String,
    replica_set: String,
    from: Timestamp,
    to: Timestamp,
    pods: usize,
    requests: u64,
    failed: u64,
    /// Slots of ten seconds, and those in which no pod had a request.
    slots: usize,
    silent_slots: usize,
    dependence: Vec<Dependence>,
    /// Pods whose last release did not end within the history: it is left out.
    cut: usize,
    /// First the pods as they were, then with each fault.
    outcomes: Vec<Outcome>,
    warnings: Vec<String>,
}

/// Run it; the result as text.
///
/// # Errors
/// When the Rollout can't be followed, Prometheus can't be asked, or its history can't be replayed.
pub async fn run(options: &Options) -> Result<String> {
    let manifest = Manifest::read(&options.filename)?;
    let whole = Plan::of(&manifest.spec).context("the Rollout can't be followed")?;
    let plan = whole.with_traffic();
    let question = question(options, &manifest, &plan, Clock::System.now())?;
    let outbound = Outbound::new().context("making a client for Prometheus")?;
    let prometheus = Prometheus::new(Arc::new(outbound));
    let bar = bar_of("pieces of history", question.pieces() as u64);
    let asked = question.ask(&prometheus, options.state.as_deref(), &bar).await;
    bar.finish_and_clear();
    let (found, history) = asked?;
    let mut report = report(options, &plan, &question, &found, history)?;
    report.warnings.extend(previewed(&whole));
    if let Some(path) = &options.write_calibration {
        let analysis = manifest.spec.analysis.as_ref();
        let metrics = analysis.map_or(&[][..], |analysis| &analysis.metrics);
        let yaml = serde_saphyr::to_string(&calibration(&report, metrics))?;
        std::fs::write(path, yaml).with_context(|| format!("can't write {}", path.display()))?;
    }
    written(options.output, &report, say::report)
}

fn question(
    options: &Options,
    manifest: &Manifest,
    plan: &Plan,
    now: Timestamp,
) -> Result<Question> {
    let (from, to) = (options.from, options.to);
    let length = to.duration_since(from);
    if length < SHORTEST.try_into()? || length > LONGEST {
        bail!("--to must be 30 seconds to {} hours after --from", LONGEST.as_hours());
    }
    if to > now {
        bail!("--to is in the future: what has not been yet can't be replayed");
    }
    let namespace = options.namespace.clone().or_else(|| manifest.namespace.clone());
    let namespace = namespace.context(
        "neither the Rollout's metadata nor --namespace says in which namespace its pods are",
    )?;
    let latency =
        |m: &surefoot_core::plan::MetricPlan| matches!(m.kind, MetricKind::Latency { .. });
    Ok(Question {
        mesh: plan.routing.mesh,
        url: options.prometheus.clone(),
        namespace,
        deployment: plan.deployment.clone(),
        replica_set: options.replica_set.clone(),
        replica: options.replica.clone(),
        from,
        slots: usize::try_from(length.as_secs())? / usize::try_from(SLOT.as_secs())?,
        latency: plan.metrics.iter().any(latency),
    })
}

fn report(
    options: &Options,
    plan: &Plan,
    question: &Question,
    found: &Found,
    history: PodHistory,
) -> Result<Report> {
    let past = Past::new(history).with_context(|| {
        format!("the past of {} in {} can't be replayed", found.replica_set, question.namespace)
    })?;
    let replay = Replay {
        plan,
        past: &past,
        replicas: u32::try_from(past.pods())?,
        timeout: options.route_timeout,
        seed: options.seed,
    };
    let faults = faults(plan, &past);
    let bar = bar_of("pods replayed", past.pods() as u64);
    let pods = each(&bar, past.pods() as u64, |pod| {
        replay.pod(usize::try_from(pod).unwrap_or(usize::MAX), &faults)
    });
    bar.finish_and_clear();
    let all = std::iter::once(Fault::None).chain(faults.iter().copied());
    let outcomes = all.enumerate().map(|(i, fault)| {
        let releases = pods.iter().filter_map(|pod| pod.releases.get(i)).flatten().cloned();
        outcome(fault.words(), fault == Fault::None, &releases.collect::<Vec<_>>())
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    let (total, dependence) = (past.total(), dependence(plan, &past));
    Ok(Report {
        deployment: question.deployment.clone(),
        namespace: question.namespace.clone(),
        replica_set: found.replica_set.clone(),
        from: past.from(),
        to: past.to(),
        pods: past.pods(),
        requests: total.requests.requests,
        failed: total.requests.failed,
        slots: past.slots(),
        silent_slots: past.silent(),
        warnings: say::warnings(plan, &past, &dependence, outcomes.first()),
        dependence,
        cut: pods.iter().filter(|pod| pod.cut).count(),
        outcomes,
    })
}

/// Those that a metric of the plan could see, the policy's and the peers'.
fn faults(plan: &Plan, past: &Past) -> Vec<Fault> {
    let sequential = || plan.metrics.iter().filter(|m| m.is_sequential());
    let mut faults = Vec::new();
    if sequential().any(|m| matches!(m.kind, MetricKind::SuccessRate { .. })) {
        faults.extend(FAILING);
    }
    let latency = sequential().any(|m| matches!(m.kind, MetricKind::Latency { .. }));
    if latency && past.baseline().is_some() {
        faults.extend(SLOW);
    }
    faults
}

fn calibration(report: &Report, metrics: &[surefoot_core::api::analysis::Metric]) -> Calibration {
    Calibration {
        kind: "Calibration".to_owned(),
        namespace: report.namespace.clone(),
        deployment: report.deployment.clone(),
        replica_set: report.replica_set.clone(),
        pods: report.pods,
        from: report.from,
        to: report.to,
        metrics_digest: calibration::metrics_digest(metrics),
        metrics: calibration::metrics(&report.dependence, calibration::is_short(report.slots)),
    }
}

#[cfg(test)]
mod tests;
