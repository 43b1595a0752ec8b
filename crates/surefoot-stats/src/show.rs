//! What people are shown of a metric: rates with intervals, and how far the evidence is.

use crate::block::{Arm, Block};
use crate::interval;
use crate::policy::{Policy, Role, Test};
use crate::state::{Pass, ShareOfHarm, State};

/// An observed rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// What was counted.
    pub counts: Arm,
    /// Bad of all, in \[0, 1\]; `None` without requests.
    pub rate: Option<f64>,
    /// Where the true rate lies, at level 1 − `false_rollback` however often one looks.
    pub interval: (f64, f64),
}

/// Both versions' rates over the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// The version under test.
    pub canary: Rate,
    /// The version it is compared with.
    pub stable: Rate,
}

/// One metric, for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Show {
    /// What its verdict counts for.
    pub role: Role,
    /// For a latency, the boundary in milliseconds that slow requests exceed.
    pub boundary_ms: Option<f64>,
    /// Since the present step began; `None` for a latency without a boundary to show, and for pairs.
    pub step: Option<Rates>,
    /// Since the release began, over all weights: for totals, never for comparing.
    pub release: Option<Rates>,
    /// Where the ratio of the canary's rate to stable's lies, of the present step. (0, ∞) when
    /// nothing is known.
    pub ratio: Option<(f64, f64)>,
    /// Evidence of harm.
    pub harm: ShareOfHarm,
    /// The ln E at which this metric alone would roll back, the others knowing nothing (E = 1); ∞ for
    /// one that only observes.
    pub harm_threshold: f64,
    /// Evidence of safety.
    pub pass: Pass,
    /// About how many more canary requests would pass the step if both versions went on exactly as
    /// they did in it, with the same shares of traffic. `None` where they never would, or where it
    /// is not known.
    pub requests_to_pass: Option<u64>,
}

/// Beyond this many times what the step has seen, "never" is the better word.
const FAR: f64 = 1e6;

impl State {
    /// What people are shown of a metric; `None` when the policy has no such metric.
    #[must_use]
    pub fn show(&self, policy: &Policy, metric: usize) -> Option<Show> {
        let rules = policy.metrics.get(metric)?;
        let step = self.step_counts(policy, metric);
        let boundary_ms = match &rules.test {
            Test::Latency(test) => {
                test.shown_boundary().and_then(|i| test.boundaries.get(i)).copied()
            }
            Test::Counts(_) | Test::Pairs(_) => None,
        };
        let harm = *self.harm(policy).by_metric.get(metric)?;
        let (alpha, phi) = (policy.false_rollback, rules.phi);
        let rates = |block: Block| rates(&block, alpha, phi);
        Some(Show {
            role: rules.role,
            boundary_ms,
            step: step.map(rates),
            release: self.release_counts(policy, metric).map(rates),
            ratio: step.map(|block| interval::ratio(&block, alpha, phi)),
            harm,
            harm_threshold: ((1.0 / alpha - 1.0 + harm.share) / harm.share).ln(),
            pass: self.pass(policy, metric),
            requests_to_pass: self.requests_to_pass(policy, metric, step),
        })
    }

    /// ln e adds up, so that counts f times as many have f times the ln e at every alternative.
    fn requests_to_pass(&self, policy: &Policy, metric: usize, step: Option<Block>) -> Option<u64> {
        let threshold = policy.pass_threshold();
        let reached = |times: f64| {
            self.promote(policy, metric, times).ok().flatten().is_some_and(|e| e >= threshold)
        };
        if reached(1.0) {
            return Some(0);
        }
        let seen = step.map(|block| block.canary.n()).filter(|n| *n > 0)?;
        if !reached(FAR) {
            return None;
        }
        // ln of a mixture is convex in f and starts below the threshold: it is crossed once.
        let (mut short, mut enough) = (1.0, FAR);
        while enough / short > 1.001 {
            let middle: f64 = f64::sqrt(short * enough);
            if reached(middle) { enough = middle } else { short = middle }
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, saturates"
        )]
        let more = ((enough - 1.0) * crate::block::count(seen)).ceil() as u64;
        Some(more)
    }
}

fn rates(block: &Block, alpha: f64, phi: f64) -> Rates {
    let rate = |counts: Arm| Rate {
        counts,
        rate: counts.rate(),
        interval: interval::rate(counts, alpha, phi),
    };
    Rates { canary: rate(block.canary), stable: rate(block.stable) }
}
