//! The evidence and counts of one metric.

use serde::{Deserialize, Serialize};

use crate::absolute;
use crate::block::{Arm, Block, count};
use crate::evidence::{
    ARM, CountHarm, CountPromote, FLOAT, LENGTH, LatencyHarm, LatencyPromote, TAG,
};
use crate::grid::log_mix;
use crate::latency::SlowBlock;
use crate::policy::{CountTest, LatencyTest, MetricPolicy, PairTest, Policy, Test};
use crate::sign::{STAKES, SignTest, above};
use crate::state::FoldError;
use crate::vote::{self, WINDOW_MILLIS};
use crate::window::{CountVotes, LatencyVotes};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum MetricState {
    Counts(CountState),
    Latency(LatencyState),
    Pairs(PairState),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountState {
    /// For every step of the policy, the evidence since it began.
    harm: Vec<Option<CountHarm>>,
    pub(crate) promote: CountPromote,
    pub(crate) step: Block,
    pub(crate) release: Block,
    /// Stable's requests before the release.
    pub(crate) seed: Arm,
    window: Window<Block>,
    /// What the window would tell if it was over.
    pub(crate) pending: CountVotes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyState {
    harm: Vec<Option<LatencyHarm>>,
    pub(crate) promote: LatencyPromote,
    pub(crate) step: SlowBlock,
    pub(crate) release: SlowBlock,
    window: Window<SlowBlock>,
    /// What the window would tell if it was over.
    pub(crate) pending: LatencyVotes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PairState {
    /// For every step of the policy, the evidence since it began that the canary's value is too high
    /// more often than not.
    harm: Vec<Option<SignTest>>,
    /// That it is not.
    pub(crate) promote: SignTest,
    /// Pairs of the step in which it was, and in which it was not.
    pub(crate) step: (u64, u64),
}

/// The window that is not over: since when judged time adds up to it, and what it has counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Window<B> {
    millis: u64,
    counts: B,
}

impl<B> Window<B> {
    /// Whether it is over with so much more time.
    fn lasts(&mut self, millis: u64) -> bool {
        self.millis = self.millis.saturating_add(millis);
        self.millis >= WINDOW_MILLIS
    }
}

impl MetricState {
    /// No evidence, no step begun.
    pub(crate) fn new(test: &Test, steps: usize) -> Self {
        match test {
            Test::Counts(test) => Self::Counts(CountState {
                harm: vec![None; steps],
                promote: CountPromote::none(test),
                step: Block::default(),
                release: Block::default(),
                seed: Arm::default(),
                window: Window::default(),
                pending: CountVotes::none(test),
            }),
            Test::Latency(test) => Self::Latency(LatencyState {
                harm: vec![None; steps],
                promote: LatencyPromote::none(test),
                step: SlowBlock::empty(test.boundaries.len()),
                release: SlowBlock::empty(test.boundaries.len()),
                window: Window { millis: 0, counts: SlowBlock::empty(test.boundaries.len()) },
                pending: LatencyVotes::none(test),
            }),
            Test::Pairs(_) => Self::Pairs(PairState {
                harm: vec![None; steps],
                promote: SignTest::default(),
                step: (0, 0),
            }),
        }
    }

    /// ln of the mean over steps of the evidence of harm since each began, 1 for those not begun: so
    /// that old good data can't hide what starts at a later weight.
    pub(crate) fn harm(&self, policy: &Policy, metric: &MetricPolicy) -> f64 {
        let steps = policy.weights.len();
        let since = |step| self.harm_since(policy, metric, step).unwrap_or(0.0);
        // Equal weights; log_mix is linear in them.
        let sum = log_mix((0..steps).map(|step| (1.0, since(step))));
        sum - count(steps as u64).ln()
    }

    /// ln E of harm since a step began; `None` if it hasn't.
    pub(crate) fn harm_since(
        &self,
        policy: &Policy,
        metric: &MetricPolicy,
        step: usize,
    ) -> Option<f64> {
        let stable = policy.has_stable_traffic(step);
        Some(match self {
            Self::Counts(state) => {
                state.harm_since_step(step)?.log_e(&state.pending, metric.eta, stable)
            }
            Self::Latency(state) => {
                state.harm_since_step(step)?.log_e(&state.pending, metric.eta, stable)
            }
            Self::Pairs(state) => state.harm_since_step(step)?.log_e(),
        })
    }

    /// Whether this was made for such a test. Allocates nothing.
    pub(crate) fn fits(&self, test: &Test, steps: usize) -> bool {
        match (self, test) {
            (Self::Counts(state), Test::Counts(test)) => {
                state.harm.len() == steps && state.harm.iter().flatten().all(|e| e.same_tests(test))
            }
            (Self::Latency(state), Test::Latency(test)) => {
                state.harm.len() == steps
                    && state.release.boundaries() == test.boundaries.len()
                    && LatencyHarm::same_tests(state.harm.iter().flatten(), test)
            }
            (Self::Pairs(state), Test::Pairs(_)) => state.harm.len() == steps,
            _ => false,
        }
    }

    /// Most bytes in postcard's format, whatever a latency's baseline is.
    pub(crate) fn bytes_bound(test: &Test, steps: usize) -> usize {
        let (harm, promote, window, counts) = match test {
            Test::Counts(test) => {
                let votes = CountVotes::none(test).bytes();
                (CountHarm::none(test).bytes(), CountPromote::none(test).bytes(), votes, 7 * ARM)
            }
            Test::Latency(test) => {
                // Three blocks of two arms, each a count and a list of counts.
                let counts = 3 * 2 * (2 * LENGTH + test.boundaries.len() * LENGTH);
                let b = test.boundaries.len();
                let (harm, promote) = (LatencyHarm::bytes_bound(b), LatencyPromote::bytes_bound());
                (harm, promote, LatencyVotes::bytes_bound(b), counts)
            }
            Test::Pairs(_) => (STAKES.len() * FLOAT, STAKES.len() * FLOAT, 0, 2 * LENGTH),
        };
        TAG + LENGTH + steps * (TAG + harm) + promote + LENGTH + window + counts
    }
}

impl CountState {
    /// Evidence of harm since a step began; `None` if it hasn't.
    pub(crate) fn harm_since_step(&self, step: usize) -> Option<&CountHarm> {
        self.harm.get(step)?.as_ref()
    }

    pub(crate) fn begin(&mut self, test: &CountTest, step: usize) {
        // A window lies within one weight.
        self.close(&self.pending.against());
        if let Some(since) = self.harm.get_mut(step) {
            since.get_or_insert_with(|| CountHarm::none(test));
        }
        self.promote = CountPromote::none(test);
        self.step = Block::default();
    }

    pub(crate) fn fold(
        &mut self,
        policy: &Policy,
        rules: &MetricPolicy,
        test: &CountTest,
        step: usize,
        block: &Block,
        millis: u64,
    ) -> Result<(), FoldError> {
        if block.is_empty() {
            return Ok(());
        }
        let past = self.seed.checked_add(self.release.stable).ok_or(FoldError::Overflow)?;
        past.checked_add(block.stable).ok_or(FoldError::Overflow)?;
        // What the step has is part of what the release has: it can't overflow where that doesn't.
        let release = self.release.checked_add(*block).ok_or(FoldError::Overflow)?;
        let in_step = self.step.checked_add(*block).ok_or(FoldError::Overflow)?;
        let (th0, phi) = (absolute::predicted(past), rules.phi);
        let harm = CountHarm::of(test, block, th0, phi);
        for since in self.harm.iter_mut().flatten() {
            since.add(&harm);
        }
        let margin = |max_drop| policy.pass_margin(step, max_drop);
        self.promote.add(&CountPromote::of(test, block, th0, margin, phi));
        // Part of the step.
        let window = self.window.counts.checked_add(*block).ok_or(FoldError::Overflow)?;
        (self.release, self.step, self.window.counts) = (release, in_step, window);
        // Whether a ratio is voted on must be known before the window.
        let before = absolute::predicted(past.without(window.stable.without(block.stable)));
        let rare = test.max_failure_ratio.is_none_or(|r0| vote::applies(r0, before));
        self.pending = CountVotes::of(test, &window, rare);
        if self.window.lasts(millis) {
            self.close(&self.pending.clone());
        }
        Ok(())
    }

    /// The window is over, and told this.
    fn close(&mut self, votes: &CountVotes) {
        for since in self.harm.iter_mut().flatten() {
            since.vote(votes);
        }
        self.window = Window::default();
        self.pending.clear();
    }
}

impl LatencyState {
    /// Evidence of harm since a step began; `None` if it hasn't.
    pub(crate) fn harm_since_step(&self, step: usize) -> Option<&LatencyHarm> {
        self.harm.get(step)?.as_ref()
    }

    pub(crate) fn begin(&mut self, test: &LatencyTest, step: usize) {
        // A window lies within one weight.
        self.pending.cut_short();
        self.close();
        if let Some(since) = self.harm.get_mut(step) {
            since.get_or_insert_with(|| LatencyHarm::none(test));
        }
        self.promote = LatencyPromote::none(test);
        self.step = SlowBlock::empty(test.boundaries.len());
    }

    pub(crate) fn fold(
        &mut self,
        rules: &MetricPolicy,
        test: &LatencyTest,
        block: &SlowBlock,
        millis: u64,
    ) -> Result<(), FoldError> {
        if block.is_empty() {
            return Ok(());
        }
        if !self.release.can_add(block) || !self.step.can_add(block) {
            return Err(FoldError::Overflow);
        }
        LatencyHarm::fold(&mut self.harm, test, block, rules.phi);
        self.promote.fold(test, block, rules.phi);
        self.release.add(block);
        self.step.add(block);
        // Part of the step: it can't overflow where that doesn't.
        self.window.counts.add(block);
        self.pending.take(test, &self.window.counts);
        if self.window.lasts(millis) {
            self.close();
        }
        Ok(())
    }

    /// The window is over, and told what is pending.
    fn close(&mut self) {
        for since in self.harm.iter_mut().flatten() {
            since.vote(&self.pending);
        }
        self.window.millis = 0;
        self.window.counts.clear();
        self.pending.clear();
    }
}

impl PairState {
    /// Evidence of harm since a step began; `None` if it hasn't.
    pub(crate) fn harm_since_step(&self, step: usize) -> Option<&SignTest> {
        self.harm.get(step)?.as_ref()
    }

    pub(crate) fn begin(&mut self, step: usize) {
        if let Some(since) = self.harm.get_mut(step) {
            since.get_or_insert_default();
        }
        self.promote = SignTest::default();
        self.step = (0, 0);
    }

    pub(crate) fn fold(&mut self, rules: &MetricPolicy, test: &PairTest, canary: f64, stable: f64) {
        let Some(above) = above(canary, stable, test.times) else { return };
        for since in self.harm.iter_mut().flatten() {
            since.fold(above, rules.phi);
        }
        self.promote.fold(!above, rules.phi);
        let seen = if above { &mut self.step.0 } else { &mut self.step.1 };
        *seen = seen.saturating_add(1);
    }
}
