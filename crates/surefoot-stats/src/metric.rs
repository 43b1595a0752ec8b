//! The evidence and counts of one metric.

use serde::{Deserialize, Serialize};

use crate::absolute;
use crate::block::{Arm, Block};
use crate::evidence::{ARM, CountHarm, CountPromote, LENGTH, LatencyHarm, LatencyPromote, TAG};
use crate::latency::SlowBlock;
use crate::policy::{CountTest, LatencyTest, Policy, Test};
use crate::state::FoldError;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum MetricState {
    Counts(CountState),
    Latency(LatencyState),
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
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyState {
    harm: Vec<Option<LatencyHarm>>,
    pub(crate) promote: LatencyPromote,
    pub(crate) step: SlowBlock,
    pub(crate) release: SlowBlock,
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
            }),
            Test::Latency(test) => Self::Latency(LatencyState {
                harm: vec![None; steps],
                promote: LatencyPromote::none(test),
                step: SlowBlock::empty(test.boundaries.len()),
                release: SlowBlock::empty(test.boundaries.len()),
            }),
        }
    }

    /// ln E of harm since a step began; `None` if it hasn't. `stable` says whether stable has traffic
    /// at that step.
    pub(crate) fn harm_since(&self, step: usize, stable: bool) -> Option<f64> {
        match self {
            Self::Counts(state) => Some(state.harm.get(step)?.as_ref()?.log_e(stable)),
            Self::Latency(state) => Some(state.harm.get(step)?.as_ref()?.log_e(stable)),
        }
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
                    && state.harm.iter().flatten().all(|e| e.same_tests(test))
            }
            _ => false,
        }
    }

    /// Most bytes in postcard's format.
    pub(crate) fn bytes_bound(test: &Test, steps: usize) -> usize {
        let (harm, promote, counts) = match test {
            Test::Counts(test) => {
                (CountHarm::none(test).bytes(), CountPromote::none(test).bytes(), 5 * ARM)
            }
            Test::Latency(test) => {
                // Two blocks of two arms, each a count and a list of counts.
                let counts = 2 * 2 * (2 * LENGTH + test.boundaries.len() * LENGTH);
                (LatencyHarm::none(test).bytes(), LatencyPromote::none(test).bytes(), counts)
            }
        };
        TAG + LENGTH + steps * (TAG + harm) + promote + counts
    }
}

impl CountState {
    /// Evidence of harm since a step began; `None` if it hasn't.
    pub(crate) fn harm_since_step(&self, step: usize) -> Option<&CountHarm> {
        self.harm.get(step)?.as_ref()
    }

    pub(crate) fn begin(&mut self, test: &CountTest, step: usize) {
        if let Some(since) = self.harm.get_mut(step) {
            since.get_or_insert_with(|| CountHarm::none(test));
        }
        self.promote = CountPromote::none(test);
        self.step = Block::default();
    }

    pub(crate) fn fold(
        &mut self,
        policy: &Policy,
        test: &CountTest,
        step: usize,
        block: &Block,
    ) -> Result<(), FoldError> {
        if block.is_empty() {
            return Ok(());
        }
        let past = self.seed.checked_add(self.release.stable).ok_or(FoldError::Overflow)?;
        past.checked_add(block.stable).ok_or(FoldError::Overflow)?;
        // What the step has is part of what the release has: it can't overflow where that doesn't.
        let release = self.release.checked_add(*block).ok_or(FoldError::Overflow)?;
        let in_step = self.step.checked_add(*block).ok_or(FoldError::Overflow)?;
        let (th0, phi) = (absolute::predicted(past), policy.dispersion);
        let harm = CountHarm::of(test, block, th0, phi);
        for since in self.harm.iter_mut().flatten() {
            since.add(&harm);
        }
        let margin = |max_drop| policy.pass_margin(step, max_drop);
        self.promote.add(&CountPromote::of(test, block, th0, margin, phi));
        (self.release, self.step) = (release, in_step);
        Ok(())
    }
}

impl LatencyState {
    /// Evidence of harm since a step began; `None` if it hasn't.
    pub(crate) fn harm_since_step(&self, step: usize) -> Option<&LatencyHarm> {
        self.harm.get(step)?.as_ref()
    }

    pub(crate) fn begin(&mut self, test: &LatencyTest, step: usize) {
        if let Some(since) = self.harm.get_mut(step) {
            since.get_or_insert_with(|| LatencyHarm::none(test));
        }
        self.promote = LatencyPromote::none(test);
        self.step = SlowBlock::empty(test.boundaries.len());
    }

    pub(crate) fn fold(
        &mut self,
        policy: &Policy,
        test: &LatencyTest,
        block: &SlowBlock,
    ) -> Result<(), FoldError> {
        if block.is_empty() {
            return Ok(());
        }
        if !self.release.can_add(block) || !self.step.can_add(block) {
            return Err(FoldError::Overflow);
        }
        LatencyHarm::fold(&mut self.harm, test, block, policy.dispersion);
        self.promote.fold(test, block, policy.dispersion);
        self.release.add(block);
        self.step.add(block);
        Ok(())
    }
}
