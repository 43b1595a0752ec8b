//! A backtest in words and tables.

use jiff::Timestamp;
use surefoot_core::plan::{MetricKind, MetricPlan, Plan};
use surefoot_core::words;
use surefoot_sim::backtest::Outcome;
use surefoot_sim::backtest::dependence::Dependence;
use surefoot_sim::backtest::past::{Past, SLOT};
use surefoot_sim::contest::Judged;
use surefoot_stats::calibration::ASSUMED_PHI;
use surefoot_stats::dispersion::FEWEST_BAD;

use super::super::{Lines, left_out, seconds};
use super::{Report, calibration::is_short};

/// Releases as they were, below which a share of them says little.
const FEW: u64 = 100;

/// All of it.
pub fn report(report: &Report, table: &Lines) -> String {
    let length = SLOT * u32::try_from(report.slots).unwrap_or(u32::MAX);
    let mut text = format!(
        "{} of {} pods of {} in {} ({} to {}): {} requests, of which {} failed ({}).\n\n",
        words::span(length),
        report.pods,
        report.replica_set,
        report.namespace,
        whole(report.from),
        whole(report.to),
        words::count(report.requests),
        words::count(report.failed),
        words::percent(ratio(report.failed, report.requests)),
    );
    if !report.dependence.is_empty() {
        text += &format!(
            "How many times more bad requests vary between pods than by chance, in windows of each \
             length; the largest is φ, by which evidence is divided:\n\n{}\n",
            table(&phi(&report.dependence)),
        );
        text += &format!(
            "How far the votes of minutes can be trusted in releases of each length; for this \
             Rollout's it is η:\n\n{}\n",
            table(&eta(&report.dependence)),
        );
    }
    if let Some(same) = report.outcomes.first() {
        let limit = |i: usize| same.rules.get(i).map_or(1.0, |rule| 100.0 * rule.interval.1);
        text += &format!(
            "Each pod as the canary of {} releases in all, judged as it was and with faults put into \
             its requests; rolled back, and after how long (median):\n\n{}\n\
             As they were, {} of these releases would have been rolled back for nothing (95% limit \
             {:.1}%), {} promoted, and {} inconclusive.",
            words::count(same.promoted.all),
            table(&rows(&report.outcomes)),
            share(same.rules.first()),
            limit(0),
            percent(same.promoted.value()),
            percent(same.inconclusive.value()),
        );
        if report.cut > 0 {
            text += &format!(
                " {} more did not end within this time and are left out.",
                words::count(report.cut as u64)
            );
        }
        text += "\n";
    }
    for warning in &report.warnings {
        text += &format!("\nWarning: {warning}\n");
    }
    text
}

/// In whole seconds.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn phi(found: &[Dependence]) -> Vec<Vec<String>> {
    let seconds = found.first().map(|d| d.phi_by_seconds.as_slice()).unwrap_or_default();
    let lengths = seconds.iter().map(|(seconds, _)| format!("{seconds}s"));
    let mut rows = vec![vec!["metric".to_owned(), "bad".to_owned(), "of".to_owned()]];
    rows[0].extend(lengths.chain(["φ".to_owned()]));
    for d in found {
        let mut row = vec![name(d), words::count(d.bad), words::count(d.requests)];
        row.extend(d.phi_by_seconds.iter().map(|(_, phi)| number(*phi)).chain([number(d.phi)]));
        rows.push(row);
    }
    rows
}

fn eta(found: &[Dependence]) -> Vec<Vec<String>> {
    let minutes = found.first().map(|d| d.eta_by_minutes.as_slice()).unwrap_or_default();
    let lengths = minutes.iter().map(|(minutes, _)| format!("{minutes}m"));
    let mut rows = vec![vec!["metric".to_owned()]];
    rows[0].extend(lengths.chain(["η".to_owned()]));
    for d in found {
        let mut row = vec![name(d)];
        row.extend(d.eta_by_minutes.iter().map(|(_, eta)| number(*eta)).chain([number(d.eta)]));
        rows.push(row);
    }
    rows
}

fn rows(outcomes: &[Outcome]) -> Vec<Vec<String>> {
    let mut rows = vec![vec!["the canary".to_owned(), "fails".to_owned()]];
    let rules = outcomes.first().map(|o| o.rules.as_slice()).unwrap_or_default();
    rows[0].extend(rules.iter().map(|rule| rule.rule.to_owned()));
    for outcome in outcomes {
        let mut row = vec![outcome.what.clone(), words::percent(outcome.failing)];
        row.extend(outcome.rules.iter().map(cell));
        rows.push(row);
    }
    rows
}

fn cell(judged: &Judged) -> String {
    match judged.median_seconds {
        Some(after) => format!("{}, {}", share(Some(judged)), seconds(after)),
        None => share(Some(judged)),
    }
}

/// Of none there is no share.
fn share(judged: Option<&Judged>) -> String {
    let rolled_back = judged.map(|j| j.rolled_back).filter(|share| share.all > 0);
    rolled_back.map_or_else(|| "–".to_owned(), |share| percent(share.value()))
}

fn percent(share: f64) -> String {
    let digits = if share >= 0.1 { 0 } else { 1 };
    format!("{:.digits$}%", 100.0 * share)
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

fn name(d: &Dependence) -> String {
    match d.boundary_ms {
        Some(ms) => format!("{} > {ms} ms", d.metric),
        None => d.metric.clone(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
fn ratio(of: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { of as f64 / all as f64 }
}

/// What the result can't tell, and what to do about it.
pub fn warnings(
    plan: &Plan,
    past: &Past,
    found: &[Dependence],
    same: Option<&Outcome>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for d in found.iter().filter(|d| d.phi.is_none()) {
        warnings.push(format!(
            "{}: {} bad requests are too few to tell how they hang together ({FEWEST_BAD} are needed): \
             a dispersion of {ASSUMED_PHI} is assumed; a longer history may tell",
            name(d),
            d.bad
        ));
    }
    if is_short(past.slots()) && found.iter().any(|d| d.phi.is_some_and(|phi| phi < ASSUMED_PHI)) {
        warnings.push(format!(
            "less than two hours may show more dispersion than the {ASSUMED_PHI} that is assumed, and \
             not less: a burst may just not have come yet"
        ));
    }
    let latency =
        |m: &&MetricPlan| m.is_sequential() && matches!(m.kind, MetricKind::Latency { .. });
    if past.baseline().is_none() && plan.metrics.iter().any(|m| latency(&m)) {
        warnings.push(format!(
            "there are no latencies in this history ({}): nothing is said of them",
            surefoot_core::metrics::pods_latency(plan.routing.mesh)
        ));
    }
    if let Some(same) = same {
        let ended = same.promoted.all;
        if ended < FEW {
            warnings.push(format!(
                "only {ended} releases came to an end: a longer history says more (the first one \
                 begins after a quarter of it, at most two hours)"
            ));
        }
        if same.rules.iter().skip(1).all(|rule| rule.rolled_back.all == 0) {
            warnings.push(
                "the other tools look for 20 minutes, for which this history is too short"
                    .to_owned(),
            );
        }
    }
    if past.pods() == 2 {
        warnings.push(
            "with 2 pods each is compared with one other: what is said of φ during a replay is \
             assumed"
                .to_owned(),
        );
    }
    if past.silent() * 10 > past.slots() {
        warnings.push(format!(
            "in {} of the time no pod had a request: is Prometheus complete?",
            percent(ratio(past.silent() as u64, past.slots() as u64))
        ));
    }
    warnings.extend(left_out(plan));
    warnings
}
