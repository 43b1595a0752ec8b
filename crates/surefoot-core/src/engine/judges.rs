//! The judges of other tools: they get the same blocks as the sequential ones, kept for the step in
//! a bounded number, and stand outside of every bound.
//!
//! Comparisons look for the first time when the step's minDuration and minRequests are met, and
//! again after each further minDuration. A look's verdict stands until the next one. Checks against
//! a limit measure one interval after the other.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use surefoot_stats::judge::mann_whitney::Class;
use surefoot_stats::judge::{fisher, ks, quantile, welch};
use surefoot_stats::threshold::{Tally, Threshold, Verdict};
use surefoot_stats::{Arm, Block, SlowBlock};

use super::words::role_of;
use crate::api::status::MetricStatus;
use crate::plan::{ChecksPlan, Comparison, JudgePlan, MetricKind, MetricPlan, Plan, StepPlan};
use crate::words;

/// Blocks kept of a step. With one more, neighbours are merged pairwise: values of longer stretches.
const MOST_BLOCKS: usize = 120;
/// Values of either version below which no test of values is worth asking.
const LEAST_VALUES: usize = 5;

/// What these judges have seen of the step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Judges {
    /// Finite boundaries of latencies, milliseconds; none where these judges need none.
    pub(super) boundaries: Vec<f64>,
    /// The step's blocks; none where nothing is compared.
    blocks: Vec<Seen>,
    /// For each comparison, in the plan's order, what it said last.
    looks: Vec<Option<Look>>,
    /// Judged milliseconds at which it is looked again.
    next_look: u64,
    /// For each limit to check, in the plan's order.
    checks: Vec<Check>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    requests: Block,
    slow: Option<SlowBlock>,
}

/// A check under way and those before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Check {
    limit: Threshold,
    /// Of the latency, as a fraction; `None` for the success rate.
    percentile: Option<f64>,
    interval: u64,
    millis: u64,
    seen: Seen,
    tally: Tally,
    last: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Look {
    said: Said,
    /// By which figures.
    words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Said {
    Pass,
    Fail,
    NoData,
}

impl Seen {
    /// Both together; as it was where that can't be counted.
    fn add(&mut self, requests: Block, slow: Option<&SlowBlock>) {
        let Some(sum) = self.requests.checked_add(requests) else { return };
        self.requests = sum;
        match (&mut self.slow, slow) {
            // Of the same boundaries, and with sums no larger than those of the requests.
            (Some(sum), Some(more)) => drop(sum.checked_add_assign(more)),
            (none @ None, Some(more)) => *none = Some(more.clone()),
            (_, None) => {}
        }
    }
}

impl Check {
    fn new(kind: &MetricKind, plan: &ChecksPlan) -> Self {
        let percentile = match kind {
            MetricKind::Latency { percentile, .. } => Some(*percentile),
            _ => None,
        };
        let (interval, limit) = (millis(plan.interval), plan.limit);
        let (seen, tally) = (Seen::default(), Tally::default());
        Self { limit, percentile, interval, millis: 0, seen, tally, last: None }
    }

    fn begin(&mut self) {
        (self.millis, self.seen, self.last) = (0, Seen::default(), None);
        self.tally = Tally::default();
    }

    /// Measure a block more; at the end of an interval that is a check.
    fn take(&mut self, millis: u64, requests: Block, slow: Option<&SlowBlock>, boundaries: &[f64]) {
        self.seen.add(requests, slow);
        self.millis = self.millis.saturating_add(millis);
        if self.millis < self.interval {
            return;
        }
        let seen = std::mem::take(&mut self.seen);
        self.millis = 0;
        self.last = match self.percentile {
            Some(q) => seen.slow.and_then(|slow| quantile::of(slow.canary(), boundaries, q)),
            None => seen.requests.canary.rate().map(|failed| 1.0 - failed),
        };
        // Without requests it is neither kept nor missed.
        self.limit.fold(&mut self.tally, self.last.unwrap_or(f64::NAN));
    }
}

impl Judges {
    pub(super) fn new(plan: &Plan, boundaries: &[f64]) -> Self {
        let latency =
            |m: &MetricPlan| !m.is_sequential() && matches!(m.kind, MetricKind::Latency { .. });
        let compared = plan.metrics.iter().filter(|m| matches!(m.judge, JudgePlan::Compare(_)));
        let checks = plan.metrics.iter().filter_map(|m| match &m.judge {
            JudgePlan::Checks(checks) => Some(Check::new(&m.kind, checks)),
            _ => None,
        });
        let judged = plan.metrics.iter().any(latency);
        Self {
            boundaries: if judged { boundaries.to_vec() } else { Vec::new() },
            looks: compared.map(|_| None).collect(),
            checks: checks.collect(),
            ..Self::default()
        }
    }

    /// Forget the step before.
    pub(super) fn begin_step(&mut self) {
        self.blocks.clear();
        self.looks.fill(None);
        self.next_look = 0;
        for check in &mut self.checks {
            check.begin();
        }
    }

    /// A block of the step, and how long it took.
    pub(super) fn take(&mut self, millis: u64, requests: Block, slow: Option<&SlowBlock>) {
        let slow = slow.filter(|slow| slow.boundaries() == self.boundaries.len());
        if !self.looks.is_empty() {
            if self.blocks.len() == MOST_BLOCKS {
                let pairs = self.blocks.chunks(2).map(|pair| {
                    let mut sum = Seen::default();
                    pair.iter().for_each(|seen| sum.add(seen.requests, seen.slow.as_ref()));
                    sum
                });
                self.blocks = pairs.collect();
            }
            self.blocks.push(Seen { requests, slow: slow.cloned() });
        }
        for check in &mut self.checks {
            check.take(millis, requests, slow, &self.boundaries);
        }
    }

    /// Let everyone look who is to look now, `judged` milliseconds into the step.
    pub(super) fn look(&mut self, plan: &Plan, step: &StepPlan, judged: u64, canary: u64) {
        let due = judged >= self.next_look.max(millis(step.min_duration));
        if self.looks.is_empty() || !due || canary < step.min_requests {
            return;
        }
        self.next_look = judged.saturating_add(millis(step.min_duration));
        let compared = plan.metrics.iter().filter_map(|m| match &m.judge {
            JudgePlan::Compare(how) => Some((&m.kind, how)),
            _ => None,
        });
        self.looks = compared.map(|(kind, how)| Some(self.compare(kind, how))).collect();
    }

    fn compare(&self, kind: &MetricKind, how: &Comparison) -> Look {
        let found = match how {
            Comparison::Fisher(alpha) => self.by_counts(kind, *alpha),
            _ => self.by_values(kind, how),
        };
        found.unwrap_or_else(|words| Look { said: Said::NoData, words })
    }

    /// Fisher's test on all of the step's requests.
    fn by_counts(&self, kind: &MetricKind, alpha: f64) -> Result<Look, String> {
        let boundary = match kind {
            MetricKind::Latency { max_ms, .. } => {
                let at = |max: f64| self.boundaries.iter().position(|b| *b >= max);
                Some(max_ms.and_then(at).ok_or("max lies beyond the mesh's histogram")?)
            }
            _ => None,
        };
        let sum = self.blocks.iter().try_fold(Block::default(), |sum, seen| match boundary {
            Some(boundary) => match seen.slow.as_ref().and_then(|slow| slow.at(boundary)) {
                Some(block) => sum.checked_add(block),
                None => Some(sum),
            },
            None => sum.checked_add(seen.requests),
        });
        let sum = sum.ok_or("more requests than can be counted")?;
        let p = fisher::p_value(&sum).ok_or("a version has no requests")?;
        let share = |arm: Arm| {
            let rate = words::percent(arm.rate().unwrap_or(0.0));
            format!("{rate} of {}", words::count(arm.n()))
        };
        let bad = boundary.and_then(|i| self.boundaries.get(i));
        let bad = bad.map_or("failed".to_owned(), |x| format!("slower than {x} ms"));
        Ok(tested(
            p,
            alpha,
            &format!("canary {} {bad}, stable {}", share(sum.canary), share(sum.stable)),
        ))
    }

    /// The tests on values of blocks.
    fn by_values(&self, kind: &MetricKind, how: &Comparison) -> Result<Look, String> {
        let [canary, stable] = self.values(kind);
        let (n1, n0) = (canary.len(), stable.len());
        let told = |mean: f64| match kind {
            MetricKind::Latency { .. } => format!("{mean:.1} ms"),
            _ => words::percent(mean / 100.0),
        };
        #[expect(clippy::cast_precision_loss, reason = "at most MOST_BLOCKS values")]
        let mean = |values: &[f64]| told(values.iter().sum::<f64>() / values.len().max(1) as f64);
        let what = format!(
            "mean of blocks {} (canary, {n1}) and {} (stable, {n0})",
            mean(&canary),
            mean(&stable)
        );
        let enough = match how {
            Comparison::MannWhitney(judge) => judge.enough(n1, n0),
            _ => true,
        };
        if n1.min(n0) < LEAST_VALUES || !enough {
            return Err(format!("too few blocks with requests to compare: {what}"));
        }
        let none = || what.clone();
        match how {
            Comparison::MannWhitney(judge) => {
                let found = judge.classify(&canary, &stable);
                let (said, class) = match found.class {
                    Class::Pass => (Said::Pass, "Pass"),
                    Class::High => (Said::Fail, "High"),
                    Class::Low => (Said::Fail, "Low"),
                    Class::NoData | Class::NoDataFails => (Said::NoData, "Nodata"),
                };
                Ok(Look { said, words: format!("{class}, effect {:.2}: {what}", found.effect) })
            }
            Comparison::Welch(alpha, direction) => {
                let found = welch::test(&canary, &stable, *direction).ok_or_else(none)?;
                Ok(tested(found.p, *alpha, &what))
            }
            Comparison::Ks(alpha, direction) => {
                let found = ks::test(&canary, &stable, *direction).ok_or_else(none)?;
                Ok(tested(found.p, *alpha, &what))
            }
            Comparison::Fisher(alpha) => self.by_counts(kind, *alpha),
        }
    }

    /// Values of canary and stable, one a block in which the version had requests: the share that
    /// failed, in per cent, or the latency at the percentile as its buckets estimate it.
    fn values(&self, kind: &MetricKind) -> [Vec<f64>; 2] {
        let failed = |arm: Arm| arm.rate().map(|rate| 100.0 * rate);
        let of = |seen: &Seen| match kind {
            MetricKind::Latency { percentile, .. } => {
                let at = |arm| quantile::of(arm, &self.boundaries, *percentile);
                let slow = seen.slow.as_ref();
                [slow.and_then(|s| at(s.canary())), slow.and_then(|s| at(s.stable()))]
            }
            _ => [failed(seen.requests.canary), failed(seen.requests.stable)],
        };
        let mut values = [Vec::new(), Vec::new()];
        for seen in &self.blocks {
            for (values, value) in values.iter_mut().zip(of(seen)) {
                values.extend(value);
            }
        }
        values
    }

    /// What the `index`-th comparison said, for the status.
    pub(super) fn compared(
        &self,
        metric: &MetricPlan,
        index: usize,
        how: &Comparison,
        stable_traffic: bool,
    ) -> MetricStatus {
        let caution = format!(
            "{} promises nothing over repeated looks, outside of falseRollback",
            how.name()
        );
        let look = self.looks.get(index).and_then(Option::as_ref);
        let (verdict, words) = match look {
            _ if !stable_traffic => {
                ("Pass", "comparison: NoStableTraffic; all traffic is the canary's".to_owned())
            }
            None => ("Continue", "looks when minDuration and minRequests are met".to_owned()),
            Some(look) => (look.said.verdict(), look.words.clone()),
        };
        status(metric, verdict, format!("{words} ({caution})"))
    }

    /// What the `index`-th limit's checks said, for the status.
    pub(super) fn checked(
        &self,
        metric: &MetricPlan,
        index: usize,
        plan: &ChecksPlan,
    ) -> MetricStatus {
        let Some(check) = self.checks.get(index) else { return MetricStatus::default() };
        let verdict = match plan.limit.verdict(&check.tally) {
            Verdict::Failed => "Harm",
            Verdict::Within => "Pass",
            Verdict::Undecided | Verdict::NoData => "NoData",
        };
        let told = |value: f64| match &metric.kind {
            MetricKind::Latency { .. } => format!("{value:.0} ms"),
            _ => words::percent(value),
        };
        let limit = match (plan.limit.min, plan.limit.max) {
            (Some(min), _) => format!("at least {}", exact(min)),
            (None, max) => format!("at most {}", told(max.unwrap_or(f64::INFINITY))),
        };
        let value = check.last.map_or("no value yet".to_owned(), |v| format!("{} last", told(v)));
        let in_a_row = plan.limit.consecutive_limit;
        let in_a_row = in_a_row.map(|n| format!(", {n} in a row")).unwrap_or_default();
        let note = format!(
            "{value}, {limit} wanted; {} of {} checks of {} missed it, {} may{in_a_row} (threshold \
             promises nothing over repeated looks, outside of falseRollback)",
            check.tally.outside,
            check.tally.outside.saturating_add(check.tally.within),
            words::span(plan.interval),
            plan.limit.failure_limit,
        );
        status(metric, verdict, note)
    }
}

impl Said {
    fn verdict(self) -> &'static str {
        match self {
            Said::Pass => "Pass",
            Said::Fail => "Harm",
            Said::NoData => "NoData",
        }
    }
}

fn tested(p: f64, alpha: f64, what: &str) -> Look {
    let said = if p <= alpha { Said::Fail } else { Said::Pass };
    Look { said, words: format!("p = {p:.4} at level {alpha:.3}: {what}") }
}

/// A success rate with all the digits somebody may have written: "99.95%".
fn exact(share: f64) -> String {
    let text = format!("{:.6}", 100.0 * share);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn status(metric: &MetricPlan, verdict: &str, note: String) -> MetricStatus {
    MetricStatus {
        name: metric.name.clone(),
        role: role_of(metric.role).to_owned(),
        verdict: verdict.to_owned(),
        note: Some(note),
        ..MetricStatus::default()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
