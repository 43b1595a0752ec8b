//! The evidence so far: a fold over blocks, small enough to be stored with every decision.

use serde::{Deserialize, Serialize};

use crate::block::{Arm, Block};
use crate::crash::{self, CrashGuard};
use crate::evidence::{ARM, FLOAT, LENGTH, TAG};
use crate::grid::{ABSOLUTE, log_mix};
use crate::latency::SlowBlock;
use crate::metric::{CountState, LatencyState, MetricState};
use crate::policy::{MetricPolicy, Policy, Test};

/// A block that can't be folded. The state is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The policy has no such step.
    #[error("step {step} of a policy with {steps} steps")]
    UnknownStep {
        /// The step asked for.
        step: usize,
        /// How many there are.
        steps: usize,
    },
    /// Only the crash guard sees blocks before the first step.
    #[error("no step has begun; begin one before its blocks are folded")]
    NoStepBegun,
    /// The policy has no such metric.
    #[error("metric {metric} of a policy with {metrics} metrics")]
    UnknownMetric {
        /// The metric asked for.
        metric: usize,
        /// How many there are.
        metrics: usize,
    },
    /// Counts for a latency, latencies for a count, or a pair for either.
    #[error("metric {metric} judges another kind of block")]
    WrongKind {
        /// The metric.
        metric: usize,
    },
    /// The block's boundaries are not the metric's.
    #[error("metric {metric} has {want} boundaries, the block {have}")]
    Boundaries {
        /// The metric.
        metric: usize,
        /// Boundaries of the metric.
        want: usize,
        /// Boundaries of the block.
        have: usize,
    },
    /// More requests than can be counted.
    #[error("the counts overflow")]
    Overflow,
    /// A policy is frozen with its release: this state was made for another one.
    #[error("the state was made for another policy; begin a new one")]
    OtherPolicy,
}

/// A block of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MetricBlock {
    /// For [`Test::Counts`].
    Counts(Block),
    /// For [`Test::Latency`].
    Latency(SlowBlock),
    /// For [`Test::Pairs`]: a pair of numbers taken at the same time.
    Pair {
        /// The canary's.
        canary: f64,
        /// Stable's.
        stable: f64,
    },
}

/// The evidence of one release.
///
/// A pure function of the policy and the order of calls: folding the same blocks again gives the
/// same state, bit for bit. Stores in any serde format; versioned by whoever stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(crate) metrics: Vec<MetricState>,
    crash: CrashGuard,
    step: Option<usize>,
    /// ln E of harm of each metric, as it is since its last block.
    evidence: Vec<f64>,
    /// Largest ln E of harm after any block.
    largest: f64,
}

/// A part of the evidence of harm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareOfHarm {
    /// Its share of the false-rollback budget, in \[0, 1\].
    pub share: f64,
    /// Its own ln E.
    pub log_e: f64,
}

/// Evidence that the release does harm.
#[derive(Debug, Clone, PartialEq)]
pub struct Harm {
    /// ln Σ share·E, as it is now.
    pub log_e: f64,
    /// The largest it was after any block.
    pub largest_log_e: f64,
    /// What rolls back.
    pub threshold: f64,
    /// Whether it was reached, now or after any block before: once harm, always harm.
    pub reached: bool,
    /// Each metric, in the policy's order.
    pub by_metric: Vec<ShareOfHarm>,
    /// The crash guard.
    pub crash_guard: ShareOfHarm,
}

/// Whether a metric passes the present step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pass {
    /// There is a test that can pass it.
    Evidence {
        /// ln E of the evidence of safety begun at this step.
        log_e: f64,
        /// What passes.
        threshold: f64,
        /// Whether it is reached *now*: not latched.
        reached: bool,
    },
    /// All traffic is the canary's: nothing to compare with, and no objective is set. The step passes
    /// without this metric.
    NoStableTraffic,
    /// No evidence can pass it.
    NotMeasurable(Unmeasurable),
}

/// Why no evidence can pass a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unmeasurable {
    /// A slowdown without stable's past latencies.
    NoBaseline,
    /// No boundary of the histogram was exceeded by 1 to 25% of stable's past requests, with a known
    /// tolerance there.
    NoPassBoundary,
    /// No boundary of the histogram lies at or below the objective's threshold.
    NoBoundaryBelowObjective,
    /// No tolerance to pass by is set: no max drop, no ratio above 1, no slowdown, no objective.
    NoTolerance,
    /// No step has begun.
    NoStepBegun,
    /// The policy has no such metric, or the state is another policy's.
    UnknownMetric,
}

impl Pass {
    /// Whether the evidence is there now.
    #[must_use]
    pub fn reached(&self) -> bool {
        matches!(self, Pass::Evidence { reached: true, .. })
    }
}

impl State {
    /// No evidence, no step begun.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        let steps = policy.weights.len();
        let metrics = policy.metrics.iter().map(|m| MetricState::new(&m.test, steps)).collect();
        let mut state = Self {
            metrics,
            crash: CrashGuard::default(),
            step: None,
            evidence: vec![0.0; policy.metrics.len()],
            largest: f64::NEG_INFINITY,
        };
        state.look(policy);
        state
    }

    /// Give stable's requests before the release, from calibration, for the prediction of its rate.
    /// Does nothing for a latency or for pairs, which predict nothing.
    ///
    /// # Errors
    /// When the policy has no such metric, or the counts overflow.
    pub fn seed(&mut self, metric: usize, stable: Arm) -> Result<(), FoldError> {
        let metrics = self.metrics.len();
        match self.metrics.get_mut(metric) {
            None => return Err(FoldError::UnknownMetric { metric, metrics }),
            Some(MetricState::Latency(_) | MetricState::Pairs(_)) => {}
            Some(MetricState::Counts(state)) => {
                stable.checked_add(state.release.stable).ok_or(FoldError::Overflow)?;
                state.seed = stable;
            }
        }
        Ok(())
    }

    /// The same for the crash guard.
    ///
    /// # Errors
    /// When the counts overflow.
    pub fn seed_crash_guard(&mut self, stable: Arm) -> Result<(), FoldError> {
        stable.checked_add(self.crash.total().stable).ok_or(FoldError::Overflow)?;
        self.crash.seed(stable);
        Ok(())
    }

    /// Begin a step: evidence of safety starts anew, evidence of harm is from now on also kept since
    /// here. Entering a step again starts its evidence of safety anew and keeps that of harm.
    ///
    /// # Errors
    /// When the policy has no such step, or is not this state's.
    pub fn begin_step(&mut self, policy: &Policy, step: usize) -> Result<(), FoldError> {
        let steps = policy.weights.len();
        if step >= steps {
            return Err(FoldError::UnknownStep { step, steps });
        }
        if !self.fits(policy) {
            return Err(FoldError::OtherPolicy);
        }
        for (state, metric) in self.metrics.iter_mut().zip(&policy.metrics) {
            match (state, &metric.test) {
                (MetricState::Counts(state), Test::Counts(test)) => state.begin(test, step),
                (MetricState::Latency(state), Test::Latency(test)) => state.begin(test, step),
                (MetricState::Pairs(state), Test::Pairs(_)) => state.begin(step),
                _ => return Err(FoldError::OtherPolicy),
            }
        }
        self.step = Some(step);
        Ok(())
    }

    /// Fold a block of one metric, `millis` long. An empty block is skipped. Blocks of a step that
    /// follow each other make up the windows that vote ([`crate::vote`]), each over with the block
    /// that makes it a minute long.
    ///
    /// # Errors
    /// When the block can't be this metric's; nothing changes then.
    pub fn fold(
        &mut self,
        policy: &Policy,
        metric: usize,
        block: &MetricBlock,
        millis: u64,
    ) -> Result<(), FoldError> {
        let step = self.step.ok_or(FoldError::NoStepBegun)?;
        let metrics = policy.metrics.len();
        let rules =
            policy.metrics.get(metric).ok_or(FoldError::UnknownMetric { metric, metrics })?;
        let state = self.metrics.get_mut(metric).ok_or(FoldError::OtherPolicy)?;
        let fits = state.fits(&rules.test, policy.weights.len());
        match (state, &rules.test, block) {
            _ if !fits => return Err(FoldError::OtherPolicy),
            (MetricState::Counts(state), Test::Counts(test), MetricBlock::Counts(block)) => {
                state.fold(policy, rules, test, step, block, millis)?;
            }
            (MetricState::Latency(state), Test::Latency(test), MetricBlock::Latency(block)) => {
                let (want, have) = (test.boundaries.len(), block.boundaries());
                if want != have {
                    return Err(FoldError::Boundaries { metric, want, have });
                }
                state.fold(rules, test, block, millis)?;
            }
            (
                MetricState::Pairs(state),
                Test::Pairs(test),
                MetricBlock::Pair { canary, stable },
            ) => {
                state.fold(rules, test, *canary, *stable);
            }
            _ => return Err(FoldError::WrongKind { metric }),
        }
        if let (Some(log_e), Some(state)) =
            (self.evidence.get_mut(metric), self.metrics.get(metric))
        {
            *log_e = state.harm(policy, rules);
        }
        self.look(policy);
        Ok(())
    }

    /// Fold a block of failures into the crash guard: every block since the release began, also
    /// excluded ones and those before the first step.
    ///
    /// # Errors
    /// When the counts overflow.
    pub fn fold_crash_guard(&mut self, policy: &Policy, block: &Block) -> Result<(), FoldError> {
        self.crash.fold(block).ok_or(FoldError::Overflow)?;
        self.look(policy);
        Ok(())
    }

    /// Evidence that the release does harm, over all metrics and the crash guard.
    #[must_use]
    pub fn harm(&self, policy: &Policy) -> Harm {
        let part = |i| ShareOfHarm { share: policy.share(i), log_e: self.harm_of(i) };
        let threshold = policy.harm_threshold();
        Harm {
            log_e: self.total(policy),
            largest_log_e: self.largest,
            threshold,
            reached: self.largest >= threshold,
            by_metric: (0..policy.metrics.len()).map(part).collect(),
            crash_guard: ShareOfHarm { share: crash::SHARE, log_e: self.crash.log_e() },
        }
    }

    /// Evidence that a metric is within its tolerance, begun at the present step and as it is now.
    #[must_use]
    pub fn pass(&self, policy: &Policy, metric: usize) -> Pass {
        let threshold = policy.pass_threshold();
        match self.promote(policy, metric, 1.0) {
            Ok(Some(log_e)) => Pass::Evidence { log_e, threshold, reached: log_e >= threshold },
            Ok(None) => Pass::NoStableTraffic,
            Err(why) => Pass::NotMeasurable(why),
        }
    }

    /// The step that began last.
    #[must_use]
    pub fn step(&self) -> Option<usize> {
        self.step
    }

    /// The crash guard and what it has seen.
    #[must_use]
    pub fn crash_guard(&self) -> &CrashGuard {
        &self.crash
    }

    /// A metric's counts since the present step began: bad requests, or those slower than the
    /// boundary shown. `None` without such a boundary or metric.
    #[must_use]
    pub fn step_counts(&self, policy: &Policy, metric: usize) -> Option<Block> {
        self.counts(policy, metric, |s| s.step, |s| &s.step)
    }

    /// The same since the release began.
    #[must_use]
    pub fn release_counts(&self, policy: &Policy, metric: usize) -> Option<Block> {
        self.counts(policy, metric, |s| s.release, |s| &s.release)
    }

    /// A latency's counts at all of its boundaries since the present step began.
    #[must_use]
    pub fn step_latency(&self, metric: usize) -> Option<&SlowBlock> {
        match self.metrics.get(metric)? {
            MetricState::Latency(state) => Some(&state.step),
            MetricState::Counts(_) | MetricState::Pairs(_) => None,
        }
    }

    /// Of the pairs since the present step began those in which the canary's value was too high, and
    /// those in which it was not. `None` for a metric without pairs.
    #[must_use]
    pub fn step_pairs(&self, metric: usize) -> Option<(u64, u64)> {
        match self.metrics.get(metric)? {
            MetricState::Pairs(state) => Some(state.step),
            MetricState::Counts(_) | MetricState::Latency(_) => None,
        }
    }

    /// Whether this state was made for a policy of this shape.
    #[must_use]
    pub fn fits(&self, policy: &Policy) -> bool {
        let mut pairs = self.metrics.iter().zip(&policy.metrics);
        self.metrics.len() == policy.metrics.len()
            && pairs.all(|(state, m)| state.fits(&m.test, policy.weights.len()))
    }

    /// ln E of safety if all counts since the step began were `times` as many; `None` where there is
    /// nothing to pass by because stable has no traffic.
    pub(crate) fn promote(
        &self,
        policy: &Policy,
        metric: usize,
        times: f64,
    ) -> Result<Option<f64>, Unmeasurable> {
        let step = self.step.ok_or(Unmeasurable::NoStepBegun)?;
        let stable = policy.has_stable_traffic(step);
        let found = self.metrics.get(metric).zip(policy.metrics.get(metric).map(|m| &m.test));
        let ((compares, comparison), (aims, objective)) = match found {
            Some((MetricState::Counts(state), Test::Counts(test))) => (
                // A ratio of 1 can't be passed by, only be exceeded.
                (
                    test.max_drop.is_some() || test.pass_ratio().is_some(),
                    state.promote.comparison(times).ok_or(Unmeasurable::NoTolerance),
                ),
                (
                    test.max_failure_rate.is_some(),
                    state.promote.objective(times).ok_or(Unmeasurable::NoTolerance),
                ),
            ),
            Some((MetricState::Latency(state), Test::Latency(test))) => {
                let why = match test.baseline {
                    None => Unmeasurable::NoBaseline,
                    Some(_) => Unmeasurable::NoPassBoundary,
                };
                let aim = state.promote.objective(times);
                (
                    (test.max_slowdown.is_some(), state.promote.comparison(times).ok_or(why)),
                    (test.objective.is_some(), aim.ok_or(Unmeasurable::NoBoundaryBelowObjective)),
                )
            }
            Some((MetricState::Pairs(state), Test::Pairs(_))) => {
                ((true, Ok(state.promote.log_e_if(times))), (false, Err(Unmeasurable::NoTolerance)))
            }
            _ => return Err(Unmeasurable::UnknownMetric),
        };
        match (compares, aims) {
            (true, _) if stable => comparison.map(Some),
            (_, true) => objective.map(Some),
            (true, false) => Ok(None),
            (false, false) => Err(Unmeasurable::NoTolerance),
        }
    }

    fn counts(
        &self,
        policy: &Policy,
        metric: usize,
        counts: impl Fn(&CountState) -> Block,
        latency: impl Fn(&LatencyState) -> &SlowBlock,
    ) -> Option<Block> {
        match (self.metrics.get(metric)?, &policy.metrics.get(metric)?.test) {
            (MetricState::Counts(state), Test::Counts(_)) => Some(counts(state)),
            (MetricState::Latency(state), Test::Latency(test)) => {
                latency(state).at(test.shown_boundary()?)
            }
            _ => None,
        }
    }

    /// Remember the evidence of harm after a block. Never forgotten: which blocks were folded
    /// decides, not when somebody asked.
    fn look(&mut self, policy: &Policy) {
        self.largest = self.largest.max(self.total(policy));
    }

    /// ln Σ share·E over metrics and crash guard.
    fn total(&self, policy: &Policy) -> f64 {
        let metrics = (0..policy.metrics.len()).map(|i| (policy.share(i), self.harm_of(i)));
        log_mix(metrics.chain([(crash::SHARE, self.crash.log_e())]))
    }

    fn harm_of(&self, metric: usize) -> f64 {
        self.evidence.get(metric).copied().unwrap_or(0.0)
    }
}

/// Most bytes of a state in postcard's format: counts at their longest, every step begun.
pub(crate) fn bytes_bound(policy: &Policy) -> usize {
    let metric = |m: &MetricPolicy| MetricState::bytes_bound(&m.test, policy.weights.len());
    let metrics: usize = policy.metrics.iter().map(metric).sum();
    let crash = ABSOLUTE.len() * FLOAT + 3 * ARM;
    let evidence = LENGTH + policy.metrics.len() * FLOAT;
    LENGTH + metrics + crash + TAG + LENGTH + evidence + FLOAT
}
