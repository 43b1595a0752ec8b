//! The numbers behind a verdict, for the status: enough of them that a reader can compute it again.

use surefoot_stats::told::{Bound, Side, Told};
use surefoot_stats::{Block, Policy, crash};

use super::{Engine, Judgement};
use crate::api::status::{
    BoundKind, CrashGuardStatus, Evidence, MetricStatus, PastRelease, ReleaseEvidence,
    RolloutStatus, StepStatus, TestSide, TestStatus,
};

/// Most tests of a metric in the status.
const TESTS: usize = 8;
/// Most metrics of a release that has ended in the status.
const METRICS: usize = 8;

pub(super) fn evidence(log_e: f64, needed: f64) -> Evidence {
    Evidence { log_e: log(log_e), needed: log(needed) }
}

pub(super) fn log(log_e: f64) -> String {
    format!("{log_e:.2}")
}

/// A fraction, a ratio or a time with four digits that count, and no zeros behind them.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    format!("{rounded}")
}

/// The canary's requests and bad ones, then stable's.
fn counts(block: &Block) -> Vec<i64> {
    let counts = [block.canary.n(), block.canary.k(), block.stable.n(), block.stable.k()];
    counts.map(whole).into()
}

pub(super) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Every test of a metric.
pub(super) fn tests(engine: &Engine, policy: &Policy, metric: usize) -> Vec<TestStatus> {
    let phi = policy.metrics.get(metric).map_or(1.0, |m| m.phi);
    let told = engine.state.told(policy, metric).into_iter().take(TESTS);
    told.map(|test| status(&test, phi)).collect()
}

fn status(test: &Told, phi: f64) -> TestStatus {
    let (bound, value, predicted) = match test.bound {
        Bound::Difference { d, th0 } => (BoundKind::Difference, d, Some(number(th0))),
        Bound::Ratio { r0 } => (BoundKind::Ratio, r0, None),
        Bound::Objective { p } => (BoundKind::Objective, p, None),
        Bound::Pairs { times } => (BoundKind::Pairs, times, None),
    };
    TestStatus {
        side: match test.side {
            Side::Harm => TestSide::Harm,
            Side::Safety => TestSide::Safety,
        },
        bound,
        value: number(value),
        predicted,
        slower_than: test.boundary_ms.map(number),
        counts: counts(&test.counts),
        log_e: log(test.log_e),
        in_one_block: log(test.in_one_block(phi)),
        votes: test.votes.map(log),
    }
}

/// The evidence of the release as a whole.
pub(super) fn release(engine: &Engine, step: Option<&StepStatus>) -> ReleaseEvidence {
    let policy = &engine.policy;
    let harm = engine.state.harm(policy);
    ReleaseEvidence {
        harm: evidence(harm.largest_log_e, harm.threshold),
        crash_guard: CrashGuardStatus {
            log_e: log(harm.crash_guard.log_e),
            budget: number(harm.crash_guard.share),
            tolerates: number(crash::DIFFERENCE),
            counts: counts(&engine.total),
        },
        false_rollback: number(policy.false_rollback),
        false_pass: number(policy.false_pass),
        steps: whole(policy.weights.len() as u64),
        step: step.map_or(0, |s| s.index.into()),
        weight: step.map_or(0, |s| s.weight.into()),
        judged_seconds: whole(engine.judged / 1000),
        canary_requests: whole(engine.step.canary.n()),
    }
}

/// Put a judgement into the status.
pub fn show(judgement: &Judgement, status: &mut RolloutStatus) {
    status.analysis.clone_from(&judgement.metrics);
    status.evidence.clone_from(&judgement.evidence);
}

/// What is kept of the evidence when its release ends: bounded, as ten of them are.
pub fn keep(status: &RolloutStatus, past: &mut PastRelease) {
    past.passes = status.release.as_ref().map(|r| r.passes.clone()).unwrap_or_default();
    let metrics = status.analysis.iter().take(METRICS);
    past.analysis = metrics.map(|m| MetricStatus { tests: Vec::new(), ..m.clone() }).collect();
    past.evidence.clone_from(&status.evidence);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_count() {
        let told = [0.005, 1.0 / 3.0, 100.0, 1234.56, 0.0, 0.000_012_344].map(number);
        assert_eq!(told, ["0.005", "0.3333", "100", "1235", "0", "0.00001234"]);
    }
}
