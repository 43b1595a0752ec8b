//! How much traffic a step's evidence takes, before it has any.

use crate::block::{Arm, Block, count};
use crate::latency::{SlowArm, SlowBlock};
use crate::metric::MetricState;
use crate::policy::{Policy, Test};
use crate::state::{MetricBlock, State};

/// Requests of both versions that are imagined: beyond that, "never" is the better word.
const MANY: u64 = 1_000_000_000_000;

/// About how many canary requests pass a step with a canary that does just as stable did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// So many. With luck fewer, and with as much bad luck more: it is what the evidence takes when
    /// every count is what is expected.
    Requests(u64),
    /// No number of them: stable itself would not pass, as with an objective that it misses.
    Never,
    /// Stable's past is not known, or there is nothing to pass by.
    Unknown,
}

impl State {
    /// What the present step takes of a metric, by stable's requests so far and the step's weight.
    #[must_use]
    pub fn reach(&self, policy: &Policy, metric: usize) -> Reach {
        self.expected(policy, metric).unwrap_or(Reach::Unknown)
    }

    fn expected(&self, policy: &Policy, metric: usize) -> Option<Reach> {
        let step = self.step()?;
        let canary = part(MANY, *policy.weights.get(step)?);
        let (past, block) = match (self.metrics.get(metric)?, &policy.metrics.get(metric)?.test) {
            (MetricState::Counts(state), Test::Counts(_)) => {
                let past = state.seed.checked_add(state.release.stable)?;
                let rate = past.rate()?;
                let arm = |n| Arm::new(n, part(n, rate)).ok();
                let block = Block::new(arm(canary)?, arm(MANY - canary)?);
                (past, MetricBlock::Counts(block))
            }
            (MetricState::Latency(_), Test::Latency(test)) => {
                let past = test.baseline.as_ref()?.counts();
                let n = count(past.n());
                let arm = |all: u64| {
                    let slower = past.slower().iter().map(|k| part(all, count(*k) / n));
                    SlowArm::new(all, slower.collect()).ok()
                };
                let block = SlowBlock::new(arm(canary)?, arm(MANY - canary)?).ok()?;
                (Arm::default(), MetricBlock::Latency(block))
            }
            _ => return None,
        };
        let mut state = State::new(policy);
        state.seed(metric, past).ok()?;
        state.begin_step(policy, step).ok()?;
        state.fold(policy, metric, &block, 0).ok()?;
        let threshold = policy.pass_threshold();
        // Where nothing can be tested there is nothing to be reached.
        state.promote(policy, metric, 1.0).ok()??;
        let reached = |times: f64| {
            state.promote(policy, metric, times).ok().flatten().is_some_and(|e| e >= threshold)
        };
        if !reached(1.0) {
            return Some(Reach::Never);
        }
        // ln of a mixture is convex in the number of requests and starts at 0: it is crossed once.
        let (mut short, mut enough) = (1.0 / count(MANY), 1.0);
        while enough / short > 1.001 {
            let middle = f64::sqrt(short * enough);
            if reached(middle) { enough = middle } else { short = middle }
        }
        Some(Reach::Requests(part(canary, enough).max(1)))
    }
}

/// A part of so many, rounded; at most all.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to n")]
fn part(n: u64, share: f64) -> u64 {
    ((count(n) * share).round().max(0.0) as u64).min(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Baseline;
    use crate::policy::{CountTest, LatencyTest, MetricPolicy, Objective, Role};

    fn policy(test: Test) -> Policy {
        Policy {
            false_rollback: 0.01,
            false_pass: 0.05,
            weights: vec![0.01, 1.0],
            metrics: vec![MetricPolicy {
                role: Role::Required,
                importance: 1.0,
                phi: 3.0,
                eta: 1.0,
                test,
            }],
        }
    }

    fn begun(policy: &Policy, past: Arm, step: usize) -> State {
        let mut state = State::new(policy);
        state.seed(0, past).unwrap();
        state.begin_step(policy, step).unwrap();
        state
    }

    fn counts(test: CountTest, past: (u64, u64)) -> Reach {
        let policy = policy(Test::Counts(test));
        begun(&policy, Arm::new(past.0, past.1).unwrap(), 0).reach(&policy, 0)
    }

    #[test]
    fn it_is_about_what_the_planners_formula_says() {
        let d = 0.005;
        let drop = CountTest { max_drop: Some(d), ..CountTest::default() };
        for (failed, p0) in [(0, 0.0), (1000, 0.001), (5000, 0.005)] {
            let Reach::Requests(n) = counts(drop, (1_000_000, failed)) else { panic!("{p0}") };
            let rate = if p0 == 0.0 { d } else { d - p0 * (1.0 + d / p0).ln() };
            let formula = 3.0 * ((1.0_f64 / 0.05).ln() + 0.5) / rate;
            assert!((0.8..1.3).contains(&(count(n) / formula)), "{p0}: {n} and {formula}");
        }
    }

    #[test]
    fn it_passes_with_so_many_and_not_with_fewer() {
        let drop = CountTest { max_drop: Some(0.005), ..CountTest::default() };
        let policy = policy(Test::Counts(drop));
        let state = begun(&policy, Arm::new(1_000_000, 2000).unwrap(), 0);
        let Reach::Requests(n) = state.reach(&policy, 0) else { panic!("it can") };
        let passes = |n: u64| {
            let mut state = state.clone();
            let arm = |n: u64| Arm::new(n, n / 500).unwrap();
            let block = MetricBlock::Counts(Block::new(arm(n), arm(99 * n)));
            state.fold(&policy, 0, &block, 0).unwrap();
            state.pass(&policy, 0).reached()
        };
        // Whole failures: one in 500.
        let below = n / 500 * 500;
        assert!(passes(below + 500) && !passes(below), "{n}");
    }

    #[test]
    fn a_goal_that_stable_misses_is_never_reached() {
        let aim = CountTest { max_failure_rate: Some(0.001), ..CountTest::default() };
        assert_eq!(counts(aim, (100_000, 200)), Reach::Never);
        assert!(matches!(counts(aim, (100_000, 10)), Reach::Requests(_)));
    }

    #[test]
    fn without_a_past_or_a_tolerance_it_is_not_known() {
        let drop = CountTest { max_drop: Some(0.005), ..CountTest::default() };
        assert_eq!(counts(drop, (0, 0)), Reach::Unknown);
        assert_eq!(counts(CountTest::default(), (1000, 1)), Reach::Unknown);
        let policy = policy(Test::Counts(drop));
        assert_eq!(State::new(&policy).reach(&policy, 0), Reach::Unknown);
        // All traffic is the canary's: the comparison asks for nothing.
        let state = begun(&policy, Arm::new(1000, 1).unwrap(), 1);
        assert_eq!(state.reach(&policy, 0), Reach::Unknown);
    }

    #[test]
    fn a_latency_takes_what_its_boundary_takes() {
        let boundaries = vec![50.0, 100.0, 500.0];
        let past = SlowArm::new(10_000, vec![5000, 500, 50]).unwrap();
        let test = |max_slowdown, objective| {
            policy(Test::Latency(LatencyTest {
                max_slowdown,
                objective,
                baseline: Some(Baseline::new(boundaries.clone(), past.clone()).unwrap()),
                boundaries: boundaries.clone(),
            }))
        };
        let reach = |policy: &Policy| begun(policy, Arm::default(), 0).reach(policy, 0);
        let at = |slowdown| match reach(&test(Some(slowdown), None)) {
            Reach::Requests(n) => n,
            other => panic!("{slowdown}: {other:?}"),
        };
        assert!(at(1.2) > 2 * at(1.5), "{} and {}", at(1.2), at(1.5));
        // 5% are slower than 100 ms, and 1% may be.
        let aim = Some(Objective { threshold_ms: 100.0, percentile: 0.99 });
        assert_eq!(reach(&test(None, aim)), Reach::Never);
    }
}
