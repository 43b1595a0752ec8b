//! The tests behind a metric's evidence, with all that it takes to do the sums again.

use crate::block::{Arm, Block};
use crate::evidence::{CountHarm, CountPromote, LatencyHarm, LatencyPromote};
use crate::grid::{
    ABSOLUTE, ABSOLUTE_SAFE_WEIGHTS, HARM, OBJECTIVE_SAFE, SAFE, SAFE_WEIGHTS, SLOW, log_mean,
    log_weighted,
};
use crate::metric::{CountState, LatencyState, MetricState, PairState};
use crate::policy::{CountTest, LatencyTest, PairTest, Policy, Test};
use crate::sign::{STAKES, SignTest};
use crate::state::State;
use crate::{absolute, objective, share};

/// What a test of harm holds to be true until it is refuted: that the canary is within this. A test
/// of safety holds the opposite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// p1 ≤ p0 + d.
    Difference {
        /// d, in (0, 1].
        d: f64,
        /// Stable's rate, predicted from its requests so far.
        th0: f64,
    },
    /// p1 ≤ R0·p0.
    Ratio {
        /// R0 ≥ 1.
        r0: f64,
    },
    /// p1 ≤ p*.
    Objective {
        /// p*, in (0, 1).
        p: f64,
    },
    /// The canary's number is at most so many times stable's, as often as not.
    Pairs {
        /// How many times.
        times: f64,
    },
}

/// What a test's evidence speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The canary is beyond the bound.
    Harm,
    /// It is within.
    Safety,
}

/// One test since the present step began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// What its evidence speaks for.
    pub side: Side,
    /// The bound.
    pub bound: Bound,
    /// The latency that slow requests exceed, milliseconds; `None` where failures are counted.
    pub boundary_ms: Option<f64>,
    /// The counts; of pairs all as the canary's, those with too high a value as the bad ones.
    pub counts: Block,
    /// ln E of the mixture over the alternatives, as added up block by block.
    pub log_e: f64,
    /// ln E of the minutes' votes on the same null, which has half of the say; `None` where minutes
    /// don't vote: only on harm, and of a difference or an objective not.
    pub votes: Option<f64>,
}

impl Told {
    /// ln E of this test's requests if their counts had come in one block: what a reader can compute from the
    /// numbers shown. Near [`log_e`](Self::log_e) while both versions' shares of the traffic and the
    /// prediction of stable's rate stay as they are.
    #[must_use]
    pub fn in_one_block(&self, phi: f64) -> f64 {
        let block = &self.counts;
        match (self.side, self.bound) {
            (Side::Harm, Bound::Difference { d, th0 }) => {
                log_mean(&absolute::harm(block, th0, d, phi))
            }
            (Side::Safety, Bound::Difference { d, th0 }) => {
                log_weighted(&ABSOLUTE_SAFE_WEIGHTS, &absolute::promote(block, th0, d, phi))
            }
            (Side::Harm, Bound::Ratio { r0 }) if self.boundary_ms.is_some() => {
                log_mean(&share::harm(block, r0, &SLOW, phi))
            }
            (Side::Harm, Bound::Ratio { r0 }) => log_mean(&share::harm(block, r0, &HARM, phi)),
            (Side::Safety, Bound::Ratio { r0 }) => {
                log_weighted(&SAFE_WEIGHTS, &share::promote(block, r0, &SAFE, phi))
            }
            (Side::Harm, Bound::Objective { p }) => {
                log_mean(&objective::test(block.canary, p, &HARM, phi))
            }
            (Side::Safety, Bound::Objective { p }) => {
                log_mean(&objective::test(block.canary, p, &OBJECTIVE_SAFE, phi))
            }
            (side, Bound::Pairs { .. }) => {
                let above = block.canary.k();
                let below = block.canary.n() - above;
                let (came, not) = match side {
                    Side::Harm => (above, below),
                    Side::Safety => (below, above),
                };
                SignTest::of(came, not, phi).log_e()
            }
        }
    }

    /// The alternatives that it mixes: multiples of d, R0 or the odds of p* for harm; for safety
    /// ratios to stable's rate, or of odds; of pairs the stakes. Those of a difference's safety are
    /// θ0/2, θ0 and θ0 + d/4: none are given.
    #[must_use]
    pub fn alternatives(&self) -> &'static [f64] {
        match (self.side, self.bound) {
            (_, Bound::Pairs { .. }) => &STAKES,
            (Side::Harm, Bound::Difference { .. }) => &ABSOLUTE,
            (Side::Safety, Bound::Difference { .. }) => &[],
            (Side::Harm, Bound::Ratio { .. }) if self.boundary_ms.is_some() => &SLOW,
            (Side::Harm, _) => &HARM,
            (Side::Safety, Bound::Ratio { .. }) => &SAFE,
            (Side::Safety, Bound::Objective { .. }) => &OBJECTIVE_SAFE,
        }
    }

    /// The weights of the alternatives; none where they are equal.
    #[must_use]
    pub fn weights(&self) -> &'static [f64] {
        match (self.side, self.bound) {
            (Side::Safety, Bound::Difference { .. }) => &ABSOLUTE_SAFE_WEIGHTS,
            (Side::Safety, Bound::Ratio { .. }) => &SAFE_WEIGHTS,
            _ => &[],
        }
    }
}

impl State {
    /// The tests of a metric since the present step began, those of harm first. Of a latency's many
    /// boundaries the one that speaks loudest for harm. Empty before the first step, and for a metric
    /// that the policy doesn't have.
    #[must_use]
    pub fn told(&self, policy: &Policy, metric: usize) -> Vec<Told> {
        let Some(step) = self.step() else { return Vec::new() };
        let test = policy.metrics.get(metric).map(|m| &m.test);
        match self.metrics.get(metric).zip(test) {
            Some((MetricState::Counts(state), Test::Counts(test))) => {
                counts(state, test, policy, step)
            }
            Some((MetricState::Latency(state), Test::Latency(test))) => latency(state, test, step),
            Some((MetricState::Pairs(state), Test::Pairs(test))) => pairs(state, test, step),
            _ => Vec::new(),
        }
    }

    /// ln E of a metric's harm since each step began, in order, as far as they have begun; what the
    /// metric counts for is ln of their mean over *all* steps, 1 for one that hasn't begun.
    #[must_use]
    pub fn harm_by_step(&self, policy: &Policy, metric: usize) -> Vec<f64> {
        let state = self.metrics.get(metric).zip(policy.metrics.get(metric));
        let since = |step| state.and_then(|(state, rules)| state.harm_since(policy, rules, step));
        (0..policy.weights.len()).map_while(since).collect()
    }
}

fn counts(state: &CountState, test: &CountTest, policy: &Policy, step: usize) -> Vec<Told> {
    let past = state.seed.checked_add(state.release.stable).unwrap_or(state.release.stable);
    let (th0, counts) = (absolute::predicted(past), state.step);
    let told =
        |side, bound, log_e| Told { side, bound, boundary_ms: None, counts, log_e, votes: None };
    let mut all = Vec::new();
    if let Some(CountHarm { absolute, ratio, equal, objective, votes }) =
        state.harm_since_step(step)
    {
        let harm = |bound, log_e| told(Side::Harm, bound, log_e);
        let voted = |bound, log_e, votes| Told { votes: Some(votes), ..harm(bound, log_e) };
        let (on_ratio, on_equal) = votes.log_e(&state.pending);
        let difference = test.max_drop.zip(absolute.as_ref());
        all.extend(difference.map(|(d, l)| harm(Bound::Difference { d, th0 }, log_mean(l))));
        let ratios = test.max_failure_ratio.zip(ratio.as_ref());
        all.extend(ratios.map(|(r0, l)| voted(Bound::Ratio { r0 }, log_mean(l), on_ratio)));
        let even = Bound::Ratio { r0: 1.0 };
        all.extend(equal.as_ref().map(|l| voted(even, log_mean(l), on_equal)));
        let aims = test.max_failure_rate.zip(objective.as_ref());
        all.extend(aims.map(|(p, l)| harm(Bound::Objective { p }, log_mean(l))));
    }
    let CountPromote { absolute, ratio, objective } = &state.promote;
    let safe = |bound, log_e| told(Side::Safety, bound, log_e);
    all.extend(test.max_drop.zip(absolute.as_ref()).map(|(d, l)| {
        let d = policy.pass_margin(step, d);
        safe(Bound::Difference { d, th0 }, log_weighted(&ABSOLUTE_SAFE_WEIGHTS, l))
    }));
    let ratios = test.pass_ratio().zip(ratio.as_ref());
    all.extend(ratios.map(|(r0, l)| safe(Bound::Ratio { r0 }, log_weighted(&SAFE_WEIGHTS, l))));
    let aims = test.max_failure_rate.zip(objective.as_ref());
    all.extend(aims.map(|(p, l)| safe(Bound::Objective { p }, log_mean(l))));
    all
}

fn pairs(state: &PairState, test: &PairTest, step: usize) -> Vec<Told> {
    let (above, below) = state.step;
    let canary = Arm::new(above.saturating_add(below), above).unwrap_or_default();
    let told = |side, evidence: &SignTest| Told {
        side,
        bound: Bound::Pairs { times: test.times },
        boundary_ms: None,
        counts: Block::new(canary, Arm::default()),
        log_e: evidence.log_e(),
        votes: None,
    };
    let harm = state.harm_since_step(step).map(|evidence| told(Side::Harm, evidence));
    harm.into_iter().chain([told(Side::Safety, &state.promote)]).collect()
}

fn latency(state: &LatencyState, test: &LatencyTest, step: usize) -> Vec<Told> {
    let told = |side, bound, boundary: usize, log_e| {
        let boundary_ms = Some(*test.boundaries.get(boundary)?);
        Some(Told {
            side,
            bound,
            boundary_ms,
            counts: state.step.at(boundary)?,
            log_e,
            votes: None,
        })
    };
    let mut all = Vec::new();
    let aim = test.objective.map(|aim| Bound::Objective { p: aim.exceedance() });
    if let Some(LatencyHarm { boundaries, equal, objective, votes }) = state.harm_since_step(step) {
        let voted = |told: Told, votes| Told { votes, ..told };
        let margins = test.harm_margins().zip(boundaries);
        let loudest = margins
            .map(|((i, r0), logs)| (i, r0, log_mean(logs)))
            .max_by(|a, b| a.2.total_cmp(&b.2));
        all.extend(loudest.and_then(|(i, r0, l)| {
            let slot = test.vote_margins().position(|(voted, _)| voted == i);
            let votes = slot.and_then(|slot| votes.at(slot, &state.pending));
            Some(voted(told(Side::Harm, Bound::Ratio { r0 }, i, l)?, votes))
        }));
        if let Some(at) = test.objective_harm_boundary() {
            let even = Bound::Ratio { r0: 1.0 };
            let on_equal = Some(votes.log_e(&state.pending).1);
            all.extend(
                equal
                    .as_ref()
                    .and_then(|l| Some(voted(told(Side::Harm, even, at, log_mean(l))?, on_equal))),
            );
            let aims = aim.zip(objective.as_ref());
            all.extend(aims.and_then(|(aim, l)| told(Side::Harm, aim, at, log_mean(l))));
        }
    }
    let LatencyPromote { slowdown, objective } = &state.promote;
    let pass = test.pass_boundary().zip(slowdown.as_ref());
    all.extend(pass.and_then(|((i, r0), l)| {
        told(Side::Safety, Bound::Ratio { r0 }, i, log_weighted(&SAFE_WEIGHTS, l))
    }));
    let aims = aim.zip(test.objective_pass_boundary()).zip(objective.as_ref());
    all.extend(aims.and_then(|((aim, at), l)| told(Side::Safety, aim, at, log_mean(l))));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{Baseline, SlowArm, SlowBlock};
    use crate::policy::{MetricPolicy, Objective, Role};
    use crate::state::MetricBlock;
    use crate::window::hedge;

    fn policy(test: Test) -> Policy {
        Policy {
            false_rollback: 0.01,
            false_pass: 0.05,
            weights: vec![0.1, 1.0],
            metrics: vec![MetricPolicy {
                role: Role::Required,
                importance: 1.0,
                phi: 3.0,
                eta: 0.5,
                test,
            }],
        }
    }

    fn folded(policy: &Policy, blocks: &[MetricBlock]) -> State {
        let mut state = State::new(policy);
        state.begin_step(policy, 0).unwrap();
        for block in blocks {
            state.fold(policy, 0, block, 60_000).unwrap();
        }
        state
    }

    #[test]
    fn one_block_is_what_a_reader_computes() {
        let policy = policy(Test::Counts(CountTest {
            max_drop: Some(0.005),
            max_failure_ratio: Some(1.5),
            max_failure_rate: Some(0.01),
        }));
        let block = Block::new(Arm::new(800, 15).unwrap(), Arm::new(7300, 22).unwrap());
        let mut state = State::new(&policy);
        // A past at the very rate of the block: the prediction stays as it is.
        state.seed(0, Arm::new(7_300_000, 22_000).unwrap()).unwrap();
        state.begin_step(&policy, 0).unwrap();
        state.fold(&policy, 0, &MetricBlock::Counts(block), 60_000).unwrap();
        let told = state.told(&policy, 0);
        let sides: Vec<Side> = told.iter().map(|t| t.side).collect();
        use Side::{Harm, Safety};
        assert_eq!(sides, [Harm, Harm, Harm, Harm, Safety, Safety, Safety]);
        for test in &told {
            assert_eq!(test.counts, block);
            let again = test.in_one_block(3.0);
            assert!((again - test.log_e).abs() < 1e-3, "{test:?}: {again}");
        }
        // The parts make up the whole: the lesser tolerance, and the objective unless stable too.
        let log = |i: usize| {
            told[i].votes.map_or(told[i].log_e, |votes| hedge(told[i].log_e, votes, 0.5))
        };
        let whole = log_mean(&[log(0).min(log(1)), log(3).min(log(2))]);
        assert!((state.harm_by_step(&policy, 0)[0] - whole).abs() < 1e-12);
    }

    #[test]
    fn a_latency_tells_its_loudest_boundary() {
        let past = SlowArm::new(10_000, vec![5000, 500, 50]).unwrap();
        let boundaries = vec![50.0, 100.0, 500.0];
        let policy = policy(Test::Latency(LatencyTest {
            max_slowdown: Some(1.5),
            objective: Some(Objective { threshold_ms: 200.0, percentile: 0.99 }),
            baseline: Some(Baseline::new(boundaries.clone(), past).unwrap()),
            boundaries,
        }));
        let arm = |n, slower: &[u64]| SlowArm::new(n, slower.to_vec()).unwrap();
        let slow = SlowBlock::new(arm(1000, &[500, 60, 40]), arm(9000, &[4500, 450, 45])).unwrap();
        let state = folded(&policy, &[MetricBlock::Latency(slow)]);
        let told = state.told(&policy, 0);
        let at: Vec<_> = told.iter().map(|t| (t.side, t.boundary_ms.unwrap())).collect();
        use Side::{Harm, Safety};
        assert_eq!(
            at,
            [(Harm, 500.0), (Harm, 500.0), (Harm, 500.0), (Safety, 100.0), (Safety, 100.0)]
        );
        for test in told {
            assert!((test.in_one_block(3.0) - test.log_e).abs() < 1e-9, "{test:?}");
        }
    }

    #[test]
    fn nothing_is_told_of_what_is_not_there() {
        let policy = policy(Test::Counts(CountTest { max_drop: Some(0.01), ..Default::default() }));
        let state = State::new(&policy);
        assert!(state.told(&policy, 0).is_empty() && state.harm_by_step(&policy, 0).is_empty());
        assert!(folded(&policy, &[]).told(&policy, 1).is_empty());
    }
}
