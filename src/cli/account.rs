//! What the numbers say, in words and from the typed evidence of a status alone.

use surefoot_core::api::status::{
    BoundKind, Evidence, MetricStatus, ReleaseEvidence, TestSide, TestStatus,
};
use surefoot_core::words;

use super::evidence::{arm, percent, verdict};
use super::explain::Section;

/// Odds beyond this are no longer told apart.
const MANY: f64 = 1e6;

/// The evidence of a release, under way or ended.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// Its metrics.
    pub metrics: &'a [MetricStatus],
    /// The whole; `None` in the status of an older controller.
    pub evidence: Option<&'a ReleaseEvidence>,
    /// No more will come.
    pub ended: bool,
}

impl Account<'_> {
    /// The decision in a few sentences: what was seen, and how sure that makes one.
    #[must_use]
    pub fn verdict(&self) -> Vec<String> {
        let Some(evidence) = self.evidence else { return Vec::new() };
        if let Some(told) = self.harm(evidence) {
            return told;
        }
        let judged: Vec<&MetricStatus> =
            self.metrics.iter().filter(|m| m.role == "required" && m.canary.is_some()).collect();
        let mut told: Vec<String> = judged.iter().filter_map(|m| compared(m)).collect();
        told.extend(judged.iter().filter_map(|m| self.safety(m, evidence)));
        if !told.is_empty() {
            told.push(suspicion(evidence));
        }
        told
    }

    /// What condemned the release; `None` where its evidence doesn't.
    #[must_use]
    pub fn condemned(&self) -> Option<Vec<String>> {
        self.harm(self.evidence?)
    }

    fn harm(&self, evidence: &ReleaseEvidence) -> Option<Vec<String>> {
        if let Some(limit) = self.metrics.iter().find(|m| m.verdict == "Harm" && m.harm.is_none()) {
            let note = limit.note.clone().unwrap_or_default();
            return Some(vec![format!("{} is outside of its limits: {note}.", limit.name)]);
        }
        let (log_e, needed) = (number(&evidence.harm.log_e)?, number(&evidence.harm.needed)?);
        if log_e < needed {
            return None;
        }
        let weight = |share: &str, log_e: &str| Some(number(share)?.ln() + number(log_e)?);
        let metric = |m: &MetricStatus| {
            Some((weight(m.budget.as_deref()?, &m.harm.as_ref()?.log_e)?, Some(m.name.clone())))
        };
        let guard = weight(&evidence.crash_guard.budget, &evidence.crash_guard.log_e);
        let all = self.metrics.iter().filter_map(metric).chain(guard.map(|w| (w, None)));
        let (_, worst) = all.max_by(|a, b| a.0.total_cmp(&b.0))?;
        let metric = worst.and_then(|name| self.metrics.iter().find(|m| m.name == name));
        let seen = match metric {
            Some(metric) => compared(metric)?,
            None => format!("crash guard: {}.", counted("fails", &evidence.crash_guard.counts)?),
        };
        let tolerance = metric.map_or_else(
            || {
                points(&evidence.crash_guard.tolerates)
                    .map(|d| format!("up to {d} more than stable"))
            },
            tolerance,
        );
        let tolerance = tolerance.map_or_else(String::new, |t| format!(" ({t})"));
        Some(vec![
            seen,
            format!(
                "A canary within its tolerance{tolerance} would ever look this bad in at most one \
                 of {} releases; at one of {} it is rolled back.",
                odds(log_e),
                limit(needed)
            ),
        ])
    }

    /// How sure it is that the canary is within its tolerance.
    fn safety(&self, metric: &MetricStatus, evidence: &ReleaseEvidence) -> Option<String> {
        let pass = metric.pass.as_ref()?;
        let (log_e, needed) = (number(&pass.log_e)?, number(&pass.needed)?);
        let name = &metric.name;
        let enough = limit(needed);
        if log_e >= needed {
            return Some(format!(
                "{name}: a canary beyond its tolerance would look this good in at most one of {} \
                 such steps; one of {enough} suffices to pass.",
                odds(log_e)
            ));
        }
        let share = percent(pass).unwrap_or(0);
        if self.ended {
            return Some(format!(
                "{name}: that the canary is within its tolerance was not shown, {share}% of the \
                 way was done."
            ));
        }
        Some(format!(
            "{name}: that the canary is within its tolerance isn't shown yet, {share}% of the way \
             is done.{}",
            needs(metric, evidence)
        ))
    }

    /// Every metric's numbers, then those of the release.
    #[must_use]
    pub fn numbers(&self) -> Vec<Section> {
        let title = |m: &MetricStatus| format!("The numbers: {} ({})", m.name, m.role);
        let mut sections: Vec<Section> = self
            .metrics
            .iter()
            .map(|m| Section { title: title(m), points: metric_numbers(m) })
            .collect();
        sections.extend(self.evidence.map(|e| Section {
            title: "The numbers: the release".to_owned(),
            points: release_numbers(e),
        }));
        sections
    }
}

/// "About 340 more canary requests would do, 3m at this traffic."
fn needs(metric: &MetricStatus, evidence: &ReleaseEvidence) -> String {
    let seen = evidence.canary_requests.unsigned_abs();
    let Some(more) = metric.requests_to_pass.map(i64::unsigned_abs) else {
        return if seen > 0 {
            " As both versions do now it never will be.".to_owned()
        } else {
            String::new()
        };
    };
    let requests = words::count(more);
    if seen == 0 || evidence.judged_seconds <= 0 {
        return format!(" About {requests} more canary requests would do.");
    }
    let seconds =
        u128::from(evidence.judged_seconds.unsigned_abs()) * u128::from(more) / u128::from(seen);
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
    let span = super::times::length(std::time::Duration::from_secs(seconds));
    format!(" About {requests} more canary requests would do, {span} at this traffic.")
}

/// How near the release is to being rolled back.
fn suspicion(evidence: &ReleaseEvidence) -> String {
    let limit = number(&evidence.harm.needed).map_or_else(String::new, limit);
    match number(&evidence.harm.log_e) {
        Some(log_e) if log_e >= 2f64.ln() => format!(
            "A canary within its tolerance would ever look as bad as this one did at its worst in at \
             most one of {} releases; it takes one of {limit} to roll it back.",
            odds(log_e)
        ),
        _ => "Nothing of note speaks against the canary.".to_owned(),
    }
}

/// "success-rate: the canary fails 1.8% of 812 requests, stable 0.30% of 7,304."
fn compared(metric: &MetricStatus) -> Option<String> {
    let canary = metric.canary.as_ref()?;
    let what = match &metric.slower_than {
        Some(ms) => format!("takes more than {ms} ms for"),
        None => "fails".to_owned(),
    };
    let arm = |requests: i64| words::count(requests.unsigned_abs());
    let told = format!(
        "{}: the canary {what} {} of {} requests",
        metric.name,
        canary.rate,
        arm(canary.requests)
    );
    Some(match &metric.stable {
        Some(stable) => format!("{told}, stable {} of {}.", stable.rate, arm(stable.requests)),
        None => format!("{told}; stable has no traffic to compare with."),
    })
}

fn counted(what: &str, counts: &[i64]) -> Option<String> {
    let [n1, k1, n0, k0] = counts else { return None };
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = |n: &i64, k: &i64| words::percent(*k as f64 / (*n).max(1) as f64);
    let count = |n: &i64| words::count(n.unsigned_abs());
    Some(format!(
        "the canary {what} {} of {} requests, stable {} of {}",
        rate(n1, k1),
        count(n1),
        rate(n0, k0),
        count(n0)
    ))
}

/// What the canary may do, as its tests of harm have it.
fn tolerance(metric: &MetricStatus) -> Option<String> {
    let harm = || metric.tests.iter().filter(|t| t.side == TestSide::Harm);
    // "No more than stable" is beside a tolerance: what is within the larger of them is within both.
    let even = |t: &TestStatus| t.bound == BoundKind::Ratio && t.value == "1";
    let alone = harm().all(even);
    let told: Vec<String> = harm().filter(|t| alone || !even(t)).filter_map(bound).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// "0.5 percentage points more than stable".
#[must_use]
pub fn bound(test: &TestStatus) -> Option<String> {
    let slow = test.slower_than.as_ref();
    let slow = slow.map_or_else(String::new, |ms| format!(" of requests slower than {ms} ms"));
    Some(match test.bound {
        BoundKind::Difference => format!("up to {} more than stable{slow}", points(&test.value)?),
        BoundKind::Ratio if test.value == "1" => format!("no more than stable{slow}"),
        BoundKind::Ratio => format!("up to {} times stable's share{slow}", test.value),
        BoundKind::Objective => format!("at most {}{slow}", words::percent(number(&test.value)?)),
        BoundKind::Pairs => format!("not above {} times stable's more often than not", test.value),
    })
}

fn points(fraction: &str) -> Option<String> {
    let points = number(fraction)? * 100.0;
    Some(format!("{} percentage points", short(points)))
}

/// Few digits, no zeros at the end.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn metric_numbers(metric: &MetricStatus) -> Vec<String> {
    let mut told = vec![format!("Verdict: {}.", verdict(metric))];
    told.extend(metric.canary.as_ref().map(|a| format!("Canary {}.", arm(a))));
    told.extend(metric.stable.as_ref().map(|a| format!("Stable {}.", arm(a))));
    told.extend(
        metric.ratio.as_ref().map(|r| format!("The canary's share is {r} times stable's.")),
    );
    let safety = metric.pass.as_ref().and_then(|e| factor(e, "that passes the step"));
    told.extend(safety.map(|f| format!("Evidence of safety, since this step began: {f}.")));
    let harm = metric.harm.as_ref().and_then(|e| factor(e, "that would roll back alone"));
    told.extend(harm.map(|f| format!("Evidence of harm, since the release began: {f}.")));
    let budget = metric.budget.as_deref().and_then(number).map(words::percent);
    told.extend(budget.map(|b| format!("It has {b} of the budget for false rollbacks.")));
    let times = metric.dispersion.as_deref().filter(|phi| *phi != "1");
    let from = metric.calibration.as_ref().map(|from| format!(" ({from})")).unwrap_or_default();
    told.extend(times.map(|phi| {
        format!("Its counts may vary {phi} times as much as those of independent requests{from}.")
    }));
    told.extend(metric.note.as_ref().map(|note| format!("{note}.")));
    told
}

fn release_numbers(evidence: &ReleaseEvidence) -> Vec<String> {
    let mut told = Vec::new();
    let harm = factor(&evidence.harm, "that rolls back");
    told.extend(harm.map(|f| {
        format!("Evidence of harm over all metrics, each by its budget, at its largest: {f}.")
    }));
    let chance = |text: &str| number(text).map(words::percent);
    told.extend(chance(&evidence.false_rollback).map(|chance| {
        format!("A release within its tolerances is rolled back with a chance of at most {chance}.")
    }));
    told.extend(chance(&evidence.false_pass).map(|chance| {
        format!("A metric beyond its tolerance passes a step with a chance of at most {chance}.")
    }));
    let guard = counted("fails", &evidence.crash_guard.counts);
    told.extend(guard.map(|seen| format!("Crash guard, all requests of the release: {seen}.")));
    told.push(
        "Both chances hold as far as a metric's counts vary no more than its dispersion says."
            .to_owned(),
    );
    let judged = std::time::Duration::from_secs(evidence.judged_seconds.unsigned_abs());
    told.push(format!(
        "Step {} ({}%): {} and {} canary requests judged.",
        evidence.step,
        evidence.weight,
        words::span(judged),
        words::count(evidence.canary_requests.unsigned_abs())
    ));
    told
}

/// "factor 3.6, 43% of the way to the 20 that passes the step".
fn factor(evidence: &Evidence, what: &str) -> Option<String> {
    let (log_e, needed) = (number(&evidence.log_e)?, number(&evidence.needed)?);
    let share = percent(evidence)?;
    let e = match log_e.exp() {
        e if e < 0.01 => "below 0.01".to_owned(),
        e if e < 10.0 => format!("{e:.2}"),
        _ => odds(log_e),
    };
    Some(format!("factor {e}, {share}% of the way to the {} {what}", limit(needed)))
}

/// One of how many, rounded so that the claim stays true: down, by what the status rounds away too.
fn odds(log_e: f64) -> String {
    whole((log_e - 0.005).exp().floor())
}

/// How much decides, as it is set.
fn limit(log_e: f64) -> String {
    whole(log_e.exp().round())
}

fn whole(e: f64) -> String {
    if e > MANY {
        return "over a million".to_owned();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "to a million")]
    words::count(e.max(1.0) as u64)
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|n| !n.is_nan())
}
