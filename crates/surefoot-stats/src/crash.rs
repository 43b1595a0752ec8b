//! The crash guard: a canary that fails a tenth more of its requests than stable is stopped within
//! a handful of them.
//!
//! The absolute test with its own tolerance and its own share of the budget, on every block since
//! the release began, also those that nothing else is judged by. It is not tempered: excluded
//! blocks are where bursts live, and its tolerance is what covers them.

use serde::{Deserialize, Serialize};

use crate::absolute;
use crate::block::{Arm, Block};
use crate::grid::{ABSOLUTE, add, log_mean};

/// Difference of failure rates that is tolerated: ten percentage points.
pub const DIFFERENCE: f64 = 0.1;
/// Share of the false-rollback budget.
pub const SHARE: f64 = 0.1;

/// Evidence that the canary crashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CrashGuard {
    logs: [f64; ABSOLUTE.len()],
    seed: Arm,
    total: Block,
}

impl CrashGuard {
    /// Fold a block. `None`, and nothing changes, when the totals overflow.
    ///
    /// Where stable has no requests, at weight 100, the canary is held against stable's past.
    pub(crate) fn fold(&mut self, block: &Block) -> Option<()> {
        let past = self.seed.checked_add(self.total.stable)?;
        let total = self.total.checked_add(*block)?;
        past.checked_add(block.stable)?;
        let predicted = absolute::predicted(past);
        let harm = if block.stable.n() == 0 {
            absolute::harm_alone(block.canary, predicted, DIFFERENCE)
        } else {
            absolute::harm(block, predicted, DIFFERENCE, 1.0)
        };
        add(&mut self.logs, &harm);
        self.total = total;
        Some(())
    }

    /// Stable's requests before the release, for the prediction of its rate.
    pub(crate) fn seed(&mut self, stable: Arm) {
        self.seed = stable;
    }

    /// ln E since the release began.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        log_mean(&self.logs)
    }

    /// Everything folded since the release began, excluded blocks too.
    #[must_use]
    pub fn total(&self) -> Block {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Canary requests until the guard alone, with its share of a budget of 1%, stops a canary at
    /// weight 10 whose requests fail by `pattern`, next to a clean stable.
    fn requests_until_stopped(seed: u64, pattern: impl Fn(u64) -> bool) -> Option<u64> {
        let mut guard = CrashGuard::default();
        guard.seed(Arm::new(seed, 0).unwrap());
        (0..500).find_map(|i| {
            let canary = Arm::new(1, u64::from(pattern(i))).unwrap();
            guard.fold(&Block::new(canary, Arm::new(9, 0).unwrap())).unwrap();
            (guard.log_e() >= (1.0 / (0.01 * SHARE)).ln()).then_some(i + 1)
        })
    }

    #[test]
    fn a_canary_that_always_fails_is_stopped_after_seven_requests() {
        assert_eq!(requests_until_stopped(0, |_| true), Some(7));
        // A known clean past makes it one earlier.
        assert_eq!(requests_until_stopped(10_000, |_| true), Some(6));
    }

    #[test]
    fn a_canary_that_fails_half_is_stopped_after_about_nineteen() {
        for seed in [0, 1000, 100_000] {
            let stopped = requests_until_stopped(seed, |i| i % 2 == 0).unwrap();
            assert!((17..=22).contains(&stopped), "{stopped}");
        }
    }

    #[test]
    fn a_cold_start_of_two_to_five_per_cent_never_fires() {
        for every in [20, 33, 50] {
            assert_eq!(requests_until_stopped(10_000, |i| i % every == every - 1), None);
            // The worst order: the failures come first, a burst of what 100 requests may fail.
            assert_eq!(requests_until_stopped(10_000, |i| i < 100 / every), None, "1 in {every}");
        }
    }

    #[test]
    fn without_stable_traffic_the_canary_is_held_against_stables_past() {
        let mut guard = CrashGuard::default();
        guard.seed(Arm::new(1000, 0).unwrap());
        let all_fail = Block::new(Arm::new(20, 20).unwrap(), Arm::default());
        guard.fold(&all_fail).unwrap();
        assert!(guard.log_e() > (1.0 / (0.01 * SHARE)).ln(), "{}", guard.log_e());
        assert_eq!(guard.total(), all_fail);

        let mut calm = CrashGuard::default();
        calm.seed(Arm::new(1000, 0).unwrap());
        for _ in 0..200 {
            calm.fold(&Block::new(Arm::new(100, 5).unwrap(), Arm::default())).unwrap();
        }
        assert!(calm.log_e() < 0.0);
    }
}
