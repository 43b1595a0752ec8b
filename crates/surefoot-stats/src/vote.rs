//! The window vote: each minute the canary's share of the failures counts once, however many there
//! were.
//!
//! Failures that come in bursts make likelihood ratios lie: a hundred failures of one cause are no
//! hundred pieces of evidence. Here a window of both versions' counts moves the evidence by a bounded
//! factor: with S = k1/(k1+k0), q0 = R0 n1/(R0 n1+n0) and q = R n1/(R n1+n0),
//! e = 1 + (q−q0)/(q0(1−q0))·(S−q0), which is never negative. Its expectation is at most 1 where S has
//! expectation ≤ q0 given that there were failures: rare ones (p ≤ 5%) or R0 = 1, with failures shared
//! out over requests, whatever their number depends on.

use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::grid::{HARM, log_mean};

/// How long a window is, milliseconds.
pub const WINDOW: u64 = 60_000;

/// Up to this failure rate the vote holds for ratios above 1.
pub const RARE: f64 = 0.05;

/// ln e of one window of counts, at the alternative `ratio` against the null's edge `r0`; both > 0.
/// 0 for a window without failures or with one version only.
#[must_use]
pub fn log_e(window: &Block, r0: f64, ratio: f64) -> f64 {
    let (n1, k1, n0, k0) = window.floats();
    if n1 == 0.0 || n0 == 0.0 || k1 + k0 == 0.0 {
        return 0.0;
    }
    let q0 = r0 * n1 / (r0 * n1 + n0);
    let q = ratio * n1 / (ratio * n1 + n0);
    ((q - q0) / (q0 * (1.0 - q0)) * (k1 / (k1 + k0) - q0)).ln_1p()
}

/// The evidence of the windows so far, and the one that fills.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    logs: [f64; HARM.len()],
    window: Block,
    millis: u64,
}

impl Default for Vote {
    fn default() -> Self {
        Self { logs: [0.0; HARM.len()], window: Block::default(), millis: 0 }
    }
}

impl Vote {
    /// Take a block of so many milliseconds, within one weight; a window that is full votes. Counts
    /// that overflow begin a new one.
    pub fn fold(&mut self, block: &Block, millis: u64, r0: f64) {
        self.window = self.window.checked_add(*block).unwrap_or(*block);
        self.millis = self.millis.saturating_add(millis);
        if self.millis >= WINDOW {
            self.close(r0);
        }
    }

    /// The window votes as it is: the weight changes.
    pub fn close(&mut self, r0: f64) {
        let window = std::mem::take(&mut self.window);
        self.millis = 0;
        for (log, h) in self.logs.iter_mut().zip(HARM) {
            *log += log_e(&window, r0, r0 * h);
        }
    }

    /// ln E with every window's factor to the power `eta` in (0, 1].
    #[must_use]
    pub fn log_e(&self, eta: f64) -> f64 {
        log_mean(&self.logs.map(|log| eta * log))
    }
}

/// Half of the one, half of the other: ln of the mean of two e-values, which is one.
#[must_use]
pub fn hedge(one: f64, other: f64) -> f64 {
    log_mean(&[one, other])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Arm;
    use crate::objective::tests::expectation;

    fn block(n1: u64, k1: u64, n0: u64, k0: u64) -> Block {
        Block::new(Arm::new(n1, k1).unwrap(), Arm::new(n0, k0).unwrap())
    }

    #[test]
    fn expectation_is_at_most_one_over_the_null() {
        // R0 = 1 at any rate; above only where failures are rare.
        for (n1, n0) in [(0, 4), (4, 0), (1, 1), (1, 6), (5, 3), (4, 4)] {
            for (r0, rates) in
                [(1.0, [0.0, 0.01, 0.3, 0.6, 1.0]), (1.5, [0.0, 1e-4, 1e-3, 0.0, 0.0])]
            {
                for p0 in rates {
                    for inside in [1.0, 0.5, 0.0] {
                        let p1 = f64::min(r0 * p0 * inside, 1.0);
                        for h in HARM {
                            let e = expectation(n1, n0, p1, p0, |b| log_e(b, r0, r0 * h).exp());
                            assert!(
                                e <= 1.0 + 2e-3 * p0.min(RARE),
                                "{n1} {n0} {p1} {p0} {r0} {h}: {e}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_burst_counts_once() {
        let [few, many] = [block(1000, 3, 1000, 1), block(1000, 300, 1000, 100)];
        for h in HARM {
            assert!((log_e(&few, 1.0, h) - log_e(&many, 1.0, h)).abs() < 1e-12);
        }
        // Never below zero, at the worst.
        assert!(log_e(&block(1, 0, 1_000_000, 9), 1.0, 1000.0).is_finite());
    }

    #[test]
    fn a_window_votes_when_it_is_full_and_when_the_weight_changes() {
        let mut vote = Vote::default();
        for _ in 0..3 {
            vote.fold(&block(100, 2, 900, 0), 15_000, 1.0);
        }
        assert_eq!(vote.log_e(1.0), 0.0, "not yet");
        let mut early = vote.clone();
        early.close(1.0);
        vote.fold(&block(100, 2, 900, 0), 15_000, 1.0);
        assert!(vote.log_e(1.0) > 0.0 && early.log_e(1.0) > 0.0);
        assert!(vote.log_e(0.5) < vote.log_e(1.0), "a power below 1 holds back");
    }
}
