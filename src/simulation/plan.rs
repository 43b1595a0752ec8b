//! `surefoot plan`: what a Rollout would do at so much traffic, before it is tried.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use surefoot_core::api::text::{Percent, Span};
use surefoot_core::engine::{Dispersion, Run};
use surefoot_core::plan::{MetricKind, Plan};
use surefoot_core::words;
use surefoot_sim::forecast::{self, End, Release};
use surefoot_sim::tally::{Share, quantile};
use surefoot_sim::traffic::{Failures, Latency, Traffic};
use surefoot_stats::calibration::{ASSUMED_ETA, ASSUMED_PHI};

use super::manifest::Manifest;
use super::{Lines, Output, bar, each, left_out, previewed, seconds, written};
use crate::cli::measure::Measured;

/// Options of `surefoot plan`.
#[derive(Debug, Args)]
pub struct Options {
    /// The file with the Rollout, and the AnalysisTemplates that it names; "-" is standard input
    #[arg(short, long)]
    filename: PathBuf,
    /// Requests a second that the service gets, both versions together
    #[arg(long, value_parser = positive)]
    rps: f64,
    /// Failure rate of stable, such as 0.1%
    #[arg(long, default_value = "0.1%", value_parser = share)]
    baseline: f64,
    /// Median latency of stable
    #[arg(long, default_value = "60ms", value_parser = millis)]
    latency_median: f64,
    /// 99th percentile of stable's latency
    #[arg(long, default_value = "300ms", value_parser = millis)]
    latency_p99: f64,
    /// Pods of the Deployment
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    replicas: u32,
    /// Dispersion φ of metrics without a calibration of their own: how many times more counts vary than
    /// those of independent requests [default: 3, as assumed]
    #[arg(long, value_parser = dispersion)]
    phi: Option<f64>,
    /// Exponent η of those: how far a minute's votes are trusted [default: 1]
    #[arg(long, value_parser = exponent)]
    eta: Option<f64>,
    /// How to play it.
    #[command(flatten)]
    play: Play,
}

/// How releases are played, and how that is told.
#[derive(Debug, Clone, Args)]
pub struct Play {
    /// The longest that the route lets a request take: its timeout
    #[arg(long, default_value = "15s", value_parser = span)]
    route_timeout: Duration,
    /// Simulated releases, and a quarter of them for each regression
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(4..=1_000_000))]
    runs: u64,
    /// The first seed: the same one gives the same plan
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How to write it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// The service as it is: what a canary that is no worse does as well.
struct Service {
    traffic: Traffic,
    replicas: u32,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1e7 => Ok(number),
        _ => Err("give a number above 0 and up to 10000000, such as 50".to_owned()),
    }
}

fn dispersion(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (1.0..=1e6).contains(&number) => Ok(number),
        _ => Err("give a number from 1, that of independent requests, to 1000000".to_owned()),
    }
}

fn exponent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1.0 => Ok(number),
        _ => Err("give a number above 0 and up to 1, full trust".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let percent: Result<Percent, _> = serde_json::from_value(Value::from(text));
    let share = percent.map_err(|e| e.to_string())?.fraction().map_err(|e| e.to_string())?;
    if share < 1.0 { Ok(share) } else { Err("a stable that fails always can't be compared".into()) }
}

pub(super) fn span(text: &str) -> Result<Duration, String> {
    let span: Result<Span, _> = serde_json::from_value(Value::from(text));
    span.map_err(|e| e.to_string())?.duration().map_err(|e| e.to_string())
}

fn millis(text: &str) -> Result<f64, String> {
    Ok(span(text)?.as_secs_f64() * 1000.0)
}

/// What there is to be said, in numbers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Forecast {
    rps: f64,
    baseline: f64,
    /// Over how many seconds that was measured, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    over: Option<u64>,
    /// By what the metrics are judged, where that was measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dispersions: Vec<Dispersion>,
    runs: u64,
    /// Of releases that are no worse.
    promoted: Share,
    rolled_back: Share,
    inconclusive: Share,
    /// Seconds until it is promoted: median and 90th percentile.
    seconds: Option<[f64; 2]>,
    steps: Vec<Step>,
    regressions: Vec<Regression>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    weight: i32,
    /// Of releases that got there.
    seconds: Option<[f64; 2]>,
    canary_requests: Option<f64>,
    inconclusive: Share,
    /// How many releases left the step in each twelfth of the longest time any took.
    histogram: Vec<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Regression {
    what: String,
    rolled_back: Share,
    promoted: Share,
    /// Median of those rolled back.
    seconds: Option<f64>,
    /// Canary requests that failed until then: median.
    failed: Option<f64>,
}

/// Run it; the plan as text.
///
/// # Errors
/// When the file can't be read or followed.
pub fn run(options: &Options) -> Result<String> {
    planned(&Manifest::read(&options.filename)?, options)
}

fn planned(manifest: &Manifest, options: &Options) -> Result<String> {
    let mut plan = Plan::of(&manifest.spec).context("the Rollout can't be followed")?;
    if options.phi.is_some() || options.eta.is_some() {
        let known = (options.phi.unwrap_or(ASSUMED_PHI), options.eta.unwrap_or(ASSUMED_ETA));
        for metric in plan.metrics.iter_mut().filter(|m| m.is_sequential()) {
            metric.calibration.get_or_insert(known);
        }
    }
    if options.latency_p99 <= options.latency_median {
        bail!("--latency-p99 must be above --latency-median: it is the 99th percentile");
    }
    let latency = Latency { median: options.latency_median, p99: options.latency_p99 };
    let alike = Traffic::alike(options.rps, options.baseline);
    let traffic = Traffic { latency: Some(latency), failures: Failures::Independent, ..alike };
    let service = Service { traffic, replicas: options.replicas };
    written(options.play.output, &forecast(&plan, &service, &options.play), say)
}

/// The plan of a service that was measured, each metric judged by the dispersion that was found.
///
/// # Errors
/// When nothing is asked of the service, or the result can't be written.
pub fn of(measured: &Measured, play: &Play) -> Result<String> {
    if measured.rps <= 0.0 {
        bail!("the service gets no requests: there is nothing to plan with");
    }
    let known = measured.dispersions.iter().map(|known| (known.phi, known.eta));
    let plan = measured.plan.clone().calibrated(known);
    let latency = measured.latency.map(|[median, p99]| Latency { median, p99 });
    // Three digits are more than is known.
    let rps = format!("{:.2e}", measured.rps).parse().unwrap_or(measured.rps);
    let alike = Traffic::alike(rps, measured.failing.min(0.99));
    let traffic = Traffic { latency, failures: Failures::Independent, ..alike };
    let service = Service { traffic, replicas: measured.replicas };
    let mut forecast = forecast(&plan, &service, play);
    forecast.over = Some(measured.over.as_secs());
    forecast.dispersions.clone_from(&measured.dispersions);
    written(play.output, &forecast, say)
}

fn forecast(whole: &Plan, service: &Service, options: &Play) -> Forecast {
    let plan = &whole.with_traffic();
    let (alike, replicas) = (&service.traffic, service.replicas);
    let regressions = regressions(plan, alike);
    let fewer = options.runs / 4;
    let bar = bar(options.runs + fewer * regressions.len() as u64);
    let play = |traffic: &Traffic, runs: u64, first: u64| {
        each(&bar, runs, |run| {
            let seed = options.seed.wrapping_add(first << 40).wrapping_add(run);
            forecast::release(plan, traffic, replicas, options.route_timeout, seed)
        })
    };
    let good = play(alike, options.runs, 0);
    let bad = (1..)
        .zip(&regressions)
        .map(|(i, (what, traffic))| regression(what.clone(), &play(traffic, fewer, i)));
    let bad = bad.collect();
    bar.finish_and_clear();
    let steps: Vec<Step> = (0..plan.steps.len()).map(|i| step(plan, &good, i)).collect();
    let of = |wanted: fn(End) -> bool| shares(&good, wanted);
    Forecast {
        rps: alike.rps,
        baseline: alike.stable,
        over: None,
        dispersions: Vec::new(),
        runs: options.runs,
        promoted: of(|end| end == End::Promoted),
        rolled_back: of(|end| matches!(end, End::RolledBack(_))),
        inconclusive: of(|end| matches!(end, End::Inconclusive(_))),
        seconds: spread(
            good.iter().filter(|r| r.end == End::Promoted).map(|r| r.took().as_secs_f64()),
        ),
        regressions: bad,
        warnings: warnings(plan, alike, options.seed, &steps)
            .into_iter()
            .chain(previewed(whole))
            .collect(),
        steps,
    }
}

fn shares(releases: &[Release], wanted: fn(End) -> bool) -> Share {
    let mut share = Share::default();
    releases.iter().for_each(|r| share.count(wanted(r.end)));
    share
}

/// Median and 90th percentile.
fn spread(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some([quantile(&values, 0.5)?, quantile(&values, 0.9)?])
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts and twelve bars"
)]
fn step(plan: &Plan, releases: &[Release], index: usize) -> Step {
    let there = || releases.iter().filter(|r| r.steps.len() > index);
    let took: Vec<f64> = there().map(|r| r.steps[index].as_secs_f64()).collect();
    let longest = took.iter().copied().fold(1.0, f64::max);
    let mut histogram = vec![0; 12];
    for seconds in &took {
        histogram[((seconds / longest * 12.0).ceil() as usize).clamp(1, 12) - 1] += 1;
    }
    let mut inconclusive = Share::default();
    there().for_each(|r| inconclusive.count(r.end == End::Inconclusive(index)));
    Step {
        weight: plan.steps[index].weight,
        seconds: spread(took.into_iter()),
        canary_requests: spread(there().map(|r| r.requests[index] as f64)).map(|s| s[0]),
        inconclusive,
        histogram,
    }
}

/// Canaries that are worse, the mildest first: those that the tolerances allow are among them.
fn regressions(plan: &Plan, alike: &Traffic) -> Vec<(String, Traffic)> {
    let mut found = Vec::new();
    let sequential = || plan.metrics.iter().filter(|m| m.is_sequential());
    if sequential().any(|m| matches!(m.kind, MetricKind::SuccessRate { .. })) {
        for more in [0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 1.0] {
            let canary = (alike.stable + more).min(1.0);
            let what = format!("{} of requests fail", words::percent(canary));
            found.push((what, Traffic { canary, ..alike.clone() }));
        }
    }
    if sequential().any(|m| matches!(m.kind, MetricKind::Latency { .. })) {
        for slowdown in [1.25, 1.5, 2.0, 4.0] {
            let what = format!("{slowdown} times as slow");
            found.push((what, Traffic { slowdown, ..alike.clone() }));
        }
    }
    found
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn regression(what: String, releases: &[Release]) -> Regression {
    let gone = || releases.iter().filter(|r| matches!(r.end, End::RolledBack(_)));
    Regression {
        what,
        rolled_back: shares(releases, |end| matches!(end, End::RolledBack(_))),
        promoted: shares(releases, |end| end == End::Promoted),
        seconds: spread(gone().map(|r| r.took().as_secs_f64())).map(|s| s[0]),
        failed: spread(gone().map(|r| r.failed as f64)).map(|s| s[0]),
    }
}

/// What can't be met at this traffic, and what stands outside of what is promised.
fn warnings(plan: &Plan, traffic: &Traffic, seed: u64, steps: &[Step]) -> Vec<String> {
    let mut warnings = Vec::new();
    let past = traffic.flow(seed).past();
    if let Some(mut run) = Run::begin(plan, Some(&past), Timestamp::UNIX_EPOCH) {
        for (index, step) in plan.steps.iter().enumerate() {
            run.begin_step(index);
            let said = run.unreachable(traffic.rps);
            warnings.extend(said.into_iter().map(|w| format!("at {}%: {w}", step.weight)));
        }
    }
    for (step, gate) in steps.iter().zip(&plan.steps) {
        if step.inconclusive.value() > 0.1 && step.inconclusive.all > 0 {
            warnings.push(format!(
                "at {}%: {:.0}% of good releases are inconclusive after {}: give the step more time \
                 (gate.maxDuration), more weight, or its metrics wider tolerances",
                step.weight,
                100.0 * step.inconclusive.value(),
                words::span(gate.max_duration),
            ));
        }
    }
    warnings.extend(left_out(plan));
    let last_judges = plan.metrics.iter().any(|m| match &m.kind {
        MetricKind::SuccessRate { max_failure_rate, .. } => max_failure_rate.is_some(),
        MetricKind::Latency { max_ms, .. } => max_ms.is_some(),
        MetricKind::Abandoned { .. } | MetricKind::Pairs { .. } => false,
        MetricKind::Query { .. } => true,
    });
    if !last_judges {
        warnings.push(
            "at 100% stable has no traffic to compare with: only the crash guard judges there. Give \
             a metric an objective (successRate.min, latency.max)"
                .to_owned(),
        );
    }
    warnings
}

fn say(forecast: &Forecast, table: &Lines) -> String {
    let percent = |share: Share| format!("{:.1}%", 100.0 * share.value());
    let span = |s: Option<f64>| s.map_or_else(|| "–".to_owned(), seconds);
    let whole = |n: Option<f64>| n.map_or_else(|| "–".to_owned(), |n| format!("{n:.0}"));
    let strings = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    let mut steps = vec![strings(&[
        "step",
        "median",
        "90% within",
        "canary requests",
        "inconclusive",
        "ends after",
    ])];
    for step in &forecast.steps {
        steps.push(vec![
            format!("{}%", step.weight),
            span(step.seconds.map(|s| s[0])),
            span(step.seconds.map(|s| s[1])),
            whole(step.canary_requests),
            percent(step.inconclusive),
            chart(&step.histogram),
        ]);
    }
    let mut bad = vec![strings(&[
        "if the canary is worse",
        "rolled back",
        "after",
        "failed till then",
        "promoted",
    ])];
    for r in &forecast.regressions {
        bad.push(vec![
            r.what.clone(),
            percent(r.rolled_back),
            span(r.seconds),
            whole(r.failed),
            percent(r.promoted),
        ]);
    }
    let measured = forecast.over.map(|over| {
        let over = words::span(Duration::from_secs(over));
        format!(" (measured over the last {over})")
    });
    let mut text = format!(
        "{} requests a second of which {} fail{}, {} simulated releases.\n\nA canary that is no worse is \
         promoted in {}, rolled back in {} (95% limit {:.1}%) and inconclusive in {} of releases",
        forecast.rps,
        words::percent(forecast.baseline),
        measured.unwrap_or_default(),
        forecast.runs,
        percent(forecast.promoted),
        percent(forecast.rolled_back),
        100.0 * forecast.rolled_back.interval().1,
        percent(forecast.inconclusive),
    );
    if let Some([median, most]) = forecast.seconds {
        text += &format!("; it takes {}, 90% within {}", seconds(median), seconds(most));
    }
    text += ".\n";
    for known in &forecast.dispersions {
        text += &format!("{}: dispersion {:.2} ({}).\n", known.metric, known.phi, known.from);
    }
    text += &format!("\n{}\n", table(&steps));
    if bad.len() > 1 {
        text += &table(&bad);
        text += "\n";
        for wanted in [0.5, 0.9] {
            let seen = forecast.regressions.iter().find(|r| r.rolled_back.value() >= wanted);
            text += &match seen {
                Some(r) => format!(
                    "The mildest of these seen in {:.0}% of releases: {}, after {}.\n",
                    100.0 * wanted,
                    r.what,
                    span(r.seconds)
                ),
                None => format!("None of these is seen in {:.0}% of releases.\n", 100.0 * wanted),
            };
        }
    }
    for warning in &forecast.warnings {
        text += &format!("\nWarning: {warning}\n");
    }
    text
}

/// Bars of a line's height.
fn chart(counts: &[u64]) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let bar = |n: &u64| {
        // Whatever occurred at all is seen.
        let height = usize::try_from(n * 8 / most).unwrap_or(8).max(usize::from(*n > 0));
        BARS.get(height).copied().unwrap_or('█')
    };
    counts.iter().map(bar).collect()
}

#[cfg(test)]
mod tests;
