//! What the evidence says, in words and for the status.

use std::time::Duration;

use surefoot_stats::threshold::{Tally, Threshold, Verdict};
use surefoot_stats::{Block, Harm, MetricPolicy, Pass, Policy, Role, Test, Unmeasurable};

use super::calibrate::Calibrated;
use super::told::{evidence, log, number, tests, whole};
use super::{Engine, Judgement};
use crate::api::analysis::MetricRole;
use crate::api::status::{ArmStatus, Evidence, MetricStatus, Waiting, WaitingKind};
use crate::plan::Plan;
use crate::words;

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Required => "required",
        Role::Guard => "guard",
        Role::Observe => "observe",
    }
}

pub(super) fn role_of(role: MetricRole) -> &'static str {
    match role {
        MetricRole::Required => "required",
        MetricRole::Guard => "guard",
        MetricRole::Observe => "observe",
    }
}

pub(super) fn describe(engine: &Engine, policy: &Policy, index: usize, name: &str) -> MetricStatus {
    let found = policy.metrics.get(index).zip(engine.state.show(policy, index));
    let Some((metric, show)) = found else { return MetricStatus::default() };
    let pass = show.pass;
    let shown = |rate: surefoot_stats::Rate| {
        let (low, high) = rate.interval;
        rate.rate.map(|observed| ArmStatus {
            requests: whole(rate.counts.n()),
            bad: whole(rate.counts.k()),
            rate: words::percent(observed),
            interval: format!("{}–{}", words::percent(low), words::percent(high)),
        })
    };
    let canary = show.step.and_then(|rates| shown(rates.canary));
    let stable = show.step.and_then(|rates| shown(rates.stable));
    // A latency without a boundary to show has requests all the same.
    let seen = canary.is_some()
        || engine.state.step_latency(index).is_some_and(|slow| slow.canary().n() > 0)
        // Where there is nobody to pair with no pairs are asked for.
        || engine
            .state
            .step_pairs(index)
            .is_some_and(|(above, below)| above + below > 0 || pass == Pass::NoStableTraffic);
    let (own, needed) = (show.harm.log_e, show.harm_threshold);
    let verdict = match pass {
        _ if own >= needed && metric.role != Role::Observe => "Harm",
        Pass::NotMeasurable(_) => "NotComparable",
        _ if !seen => "NoData",
        Pass::NoStableTraffic => "Pass",
        pass if pass.reached() => "Pass",
        _ => "Continue",
    };
    MetricStatus {
        name: name.to_owned(),
        role: role_name(metric.role).to_owned(),
        verdict: verdict.to_owned(),
        canary,
        stable,
        ratio: show.ratio.and_then(between),
        slower_than: show.boundary_ms.map(number),
        harm: needed.is_finite().then(|| evidence(own, needed)),
        budget: (show.harm.share > 0.0).then(|| number(show.harm.share)),
        dispersion: Some(number(metric.phi)),
        calibration: engine.calibrated.get(index).map(Calibrated::in_words),
        vote_exponent: Some(number(metric.eta)),
        harm_by_step: engine.state.harm_by_step(policy, index).into_iter().map(log).collect(),
        pass: match pass {
            Pass::Evidence { log_e, threshold, .. } => Some(evidence(log_e, threshold)),
            _ => None,
        },
        requests_to_pass: show.requests_to_pass.map(whole),
        tests: tests(engine, policy, index),
        note: note(metric, pass).or_else(|| paired(engine, index)),
    }
}

/// "the canary's number was above 1.2 times stable's in 3 of 20 pairs".
fn paired(engine: &Engine, index: usize) -> Option<String> {
    let Test::Pairs(test) = &engine.policy.metrics.get(index)?.test else { return None };
    let (above, below) = engine.state.step_pairs(index)?;
    Some(format!(
        "the canary's number was above {} times stable's in {} of {} pairs",
        number(test.times),
        words::count(above),
        words::count(above.saturating_add(below)),
    ))
}

/// "1.9–12"; `None` where nearly everything is possible.
fn between((low, high): (f64, f64)) -> Option<String> {
    let digits = |ratio: f64| number(format!("{ratio:.1e}").parse().unwrap_or(ratio));
    let low = (low >= 0.01).then(|| digits(low));
    let high = (high <= 100.0).then(|| digits(high));
    if low.is_none() && high.is_none() {
        return None;
    }
    let text = |end: Option<String>, open: &str| end.unwrap_or_else(|| open.to_owned());
    Some(format!("{}–{}", text(low, "0"), text(high, "∞")))
}

fn note(metric: &MetricPolicy, pass: Pass) -> Option<String> {
    match (&metric.test, pass) {
        (_, Pass::NoStableTraffic) => {
            Some("comparison: NoStableTraffic; all traffic is the canary's".to_owned())
        }
        (_, Pass::NotMeasurable(Unmeasurable::NoBaseline)) => {
            Some("stable's latencies before the canary are unknown: slowdown can't be judged".to_owned())
        }
        (_, Pass::NotMeasurable(Unmeasurable::NoPassBoundary)) => Some(
            "no boundary of the mesh's histogram is passed by 1–25% of stable's requests: that the \
             canary is not slower can't be shown"
                .to_owned(),
        ),
        (_, Pass::NotMeasurable(Unmeasurable::NoBoundaryBelowObjective)) => Some(
            "no boundary of the mesh's histogram lies at or below the objective: that it is met \
             can't be shown"
                .to_owned(),
        ),
        (Test::Latency(test), _) => {
            let boundary = test.shown_boundary();
            let x = boundary.and_then(|i| test.boundaries.get(i));
            x.map(|x| format!("slower than {x} ms"))
        }
        _ => None,
    }
}

pub(super) fn describe_threshold(
    name: &str,
    role: MetricRole,
    limits: &Threshold,
    tally: &Tally,
    value: Option<f64>,
) -> MetricStatus {
    let verdict = match limits.verdict(tally) {
        Verdict::Failed => "Harm",
        Verdict::Within => "Pass",
        Verdict::Undecided | Verdict::NoData => "NoData",
    };
    let limit = match (limits.min, limits.max) {
        (Some(min), Some(max)) => format!("from {min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "without limits".to_owned(),
    };
    let value = value.map_or("no answer yet".to_owned(), |v| format!("{v} now"));
    let note = format!(
        "{value}, {limit} allowed; {} of {} answers outside, {} may be (a threshold, outside of \
         falseRollback)",
        tally.outside,
        tally.outside.saturating_add(tally.within),
        limits.failure_limit
    );
    MetricStatus {
        name: name.to_owned(),
        role: role_of(role).to_owned(),
        verdict: verdict.to_owned(),
        note: Some(note),
        ..MetricStatus::default()
    }
}

pub(super) fn evidence_wait(status: &MetricStatus, engine: &Engine) -> Waiting {
    let number = |e: Option<&Evidence>, needed: bool| {
        let e = e?;
        let text = if needed { &e.needed } else { &e.log_e };
        text.parse::<f64>().ok()
    };
    let (have, need) = (number(status.pass.as_ref(), false), number(status.pass.as_ref(), true));
    let message = match (have, need) {
        (Some(have), Some(need)) => {
            let part = (100.0 * have / need).clamp(0.0, 100.0);
            format!(
                "{}: {part:.0}% of the evidence it takes to say that the canary is within its \
                 tolerance{}",
                status.name,
                outlook(status, engine)
            )
        }
        _ => format!("{}: {}", status.name, status.note.clone().unwrap_or_default()),
    };
    #[expect(clippy::cast_possible_truncation, reason = "a percentage")]
    let percent = have.zip(need).map(|(h, n)| (100.0 * h / n).clamp(0.0, 100.0) as i64);
    Waiting {
        kind: WaitingKind::Evidence,
        name: Some(status.name.clone()),
        have: percent,
        need: percent.map(|_| 100),
        message,
        until: None,
    }
}

/// How long it takes, if both versions go on as they do.
fn outlook(status: &MetricStatus, engine: &Engine) -> String {
    let seen = engine.step.canary.n();
    let more = status.requests_to_pass.map(i64::unsigned_abs);
    match more {
        Some(more) if seen > 0 && engine.judged > 0 => {
            let millis = u128::from(engine.judged) * u128::from(more) / u128::from(seen);
            let span = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
            format!(
                "; as things go about {} and {} canary requests more",
                words::span(span),
                words::count(more)
            )
        }
        None if status.canary.is_some() => "; as things go it never gets there".to_owned(),
        _ => String::new(),
    }
}

/// "canary fails 1.8% of 812 requests, stable 0.3% of 7,304".
fn compared(what: &str, block: &Block) -> String {
    let canary = format!(
        "the canary {what} {} of {} requests",
        words::percent(block.canary.rate().unwrap_or(0.0)),
        words::count(block.canary.n())
    );
    if block.stable.n() == 0 {
        return format!("{canary}; stable has no traffic to compare with");
    }
    format!(
        "{canary}, stable {} of {}",
        words::percent(block.stable.rate().unwrap_or(0.0)),
        words::count(block.stable.n())
    )
}

fn verb(engine: &Engine, metric: usize) -> String {
    match engine.policy.metrics.get(metric).map(|m| &m.test) {
        Some(Test::Counts(_)) if engine.abandoned == Some(metric) => {
            "lets clients wait until they leave in".to_owned()
        }
        None | Some(Test::Counts(_) | Test::Pairs(_)) => "fails".to_owned(),
        Some(Test::Latency(test)) => {
            let boundary = test.shown_boundary();
            let x = boundary.and_then(|i| test.boundaries.get(i)).copied().unwrap_or(0.0);
            format!("takes more than {x} ms for")
        }
    }
}

pub(super) fn harm_in_words(plan: &Plan, engine: &Engine, harm: &Harm) -> String {
    let policy = &engine.policy;
    let weighted = |part: &surefoot_stats::ShareOfHarm| part.share.ln() + part.log_e;
    let shares = harm.by_metric.iter().enumerate().map(|(i, part)| (weighted(part), Some(i)));
    let crash = (weighted(&harm.crash_guard), None);
    let worst = shares.chain([crash]).max_by(|a, b| a.0.total_cmp(&b.0));
    let odds = harm.largest_log_e.min(13.8).exp();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most a million"
    )]
    let odds = words::count(odds as u64);
    let more = if harm.largest_log_e > 13.8 { "a million" } else { odds.as_str() };
    let (name, told) = match worst.and_then(|(_, metric)| metric) {
        Some(metric) => {
            let names = plan.metrics.iter().filter(|m| m.is_sequential());
            let name = names.map(|m| m.name.clone()).nth(metric).unwrap_or_default();
            let counts = engine.state.step_counts(policy, metric).unwrap_or_default();
            let told = paired(engine, metric);
            (name, told.unwrap_or_else(|| compared(&verb(engine, metric), &counts)))
        }
        None => ("crash guard".to_owned(), compared("fails", &engine.total)),
    };
    format!(
        "{name}: {told}. A canary within its tolerance would look this bad in fewer than one of \
         {more} releases"
    )
}

/// What a pass stands on, in words.
#[must_use]
pub fn evidence_in_words(judgement: &Judgement) -> String {
    let told: Vec<String> = judgement
        .metrics
        .iter()
        .filter(|m| m.role == "required" && m.verdict == "Pass")
        .map(|m| match (&m.canary, &m.stable) {
            (Some(canary), Some(stable)) => format!(
                "{}: canary {} bad of {}, stable {} of {}",
                m.name,
                canary.rate,
                words::count(canary.requests.unsigned_abs()),
                stable.rate,
                words::count(stable.requests.unsigned_abs())
            ),
            (Some(canary), None) => format!(
                "{}: canary {} bad of {}",
                m.name,
                canary.rate,
                words::count(canary.requests.unsigned_abs())
            ),
            _ => m.name.clone(),
        })
        .collect();
    let judged = words::span(judgement.judged);
    if told.is_empty() {
        return format!("{judged} judged without harm");
    }
    format!("{} ({judged} judged)", told.join("; "))
}
