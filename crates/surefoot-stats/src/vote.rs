//! The window vote: in each minute the failures together have one vote on whose they are.
//!
//! Retries and crashes make failures come in bursts, and each burst would be counted as if every
//! failure in it spoke for itself. The vote knows only the canary's *share* S of a window's failures,
//! however many they are: e = 1 + (q − q0)/(q0(1 − q0))·(S − q0), with q = R·n1/(R·n1 + n0) expected
//! at the alternative and q0 at the null's edge. With c = (R0·n1 + n0)/(R·n1 + n0) that is
//! c·(1 + S(R/R0 − 1)): the share test of one failure, of which S is the canary's.
//!
//! What is guaranteed: E\[e\] ≤ 1 wherever E\[S | failures\] ≤ q0. For R0 = 1 that holds for any
//! rates within the null. For R0 > 1 the odds of a failure's being the canary's are at most
//! R0(1 − p0)/(1 − R0·p0) : 1, a little above R0 : 1; while R0·p0 ≤ [`HIGHEST_RATE`] they are at most
//! [`edge`], and that is what [`harm`] votes against.
//!
//! A window that is cut short by a look at it is biased: whoever stops while it speaks for the null
//! gains. An unfinished window therefore only counts while it speaks *against* harm, min(1, e): the
//! rest of a window draws S towards q0, so that this is at most what the whole window would be worth
//! on average.

use crate::block::Block;
use crate::elementary;

/// How long a window is; shorter only where a step ends, and then it only counts against harm.
pub const WINDOW_MILLIS: u64 = 60_000;
/// The canary's rate up to which a vote against a ratio above 1 keeps its bound.
pub const HIGHEST_RATE: f64 = 0.05;

/// The odds, relative to n1 : n0, that a failure is the canary's at the edge p1 = `r0`·p0 of the
/// null, r0 ≥ 1, with p1 at its highest: (r0 − p)/(1 − p). 1 for r0 = 1.
#[must_use]
pub fn edge(r0: f64) -> f64 {
    (r0 - HIGHEST_RATE) / (1.0 - HIGHEST_RATE)
}

/// Whether a ratio may be voted on where stable's rate, known from before the window, is `p0`.
#[must_use]
pub fn applies(r0: f64, p0: f64) -> bool {
    r0 <= 1.0 || r0 * p0 <= HIGHEST_RATE
}

/// ln e of one window for the odds `ratio` against `r0`, both > 0.
///
/// 0 without failures, and with one arm only.
#[must_use]
pub fn log_e(window: &Block, r0: f64, ratio: f64) -> f64 {
    let mut log = [ratios(window, r0).map_or(0.0, |ratios| ratios.of(ratio / r0))];
    elementary::ln_1p(&mut log);
    let [log] = log;
    log
}

/// One window's ln e of harm at the alternatives of `grid`, multiples above 1 of the null's edge:
/// null p1 ≤ r0·p0, r0 ≥ 1.
#[must_use]
pub fn harm<const N: usize>(window: &Block, r0: f64, grid: &[f64; N]) -> [f64; N] {
    let mut logs = [0.0; N];
    if let Some(ratios) = ratios(window, edge(r0)) {
        logs = grid.map(|h| ratios.of(h));
        elementary::ln_1p(&mut logs);
    }
    logs
}

/// A window's share of failures beside that at the null's edge: what [`harm`] is a logarithm of.
pub(crate) struct Ratios {
    q0: f64,
    above: f64,
}

/// Against this edge. `None` where a window tells nothing: without failures, and with one arm only.
pub(crate) fn ratios(window: &Block, edge: f64) -> Option<Ratios> {
    let (n1, k1, n0, k0) = window.floats();
    if n1 == 0.0 || n0 == 0.0 || k1 + k0 == 0.0 {
        return None;
    }
    let q0 = edge * n1 / (edge * n1 + n0);
    Some(Ratios { q0, above: k1 / (k1 + k0) - q0 })
}

impl Ratios {
    /// e − 1 of [`log_e`] at a multiple of the edge, (1 + S·more)/(1 + q0·more) − 1, without cancellation
    /// where both are near.
    pub(crate) fn of(&self, multiple: f64) -> f64 {
        let more = multiple - 1.0;
        self.above * more / (1.0 + self.q0 * more)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::Arm;
    use crate::grid::{HARM, SLOW_VOTE};
    use crate::objective::tests::expectation;

    #[test]
    fn it_is_the_formula_in_a_form_without_cancellation() {
        let window = Block::new(Arm::new(1000, 6).unwrap(), Arm::new(9000, 4).unwrap());
        for ratio in HARM {
            let (q0, q, s) = (0.1, ratio * 1000.0 / (ratio * 1000.0 + 9000.0), 0.6);
            let e: f64 = 1.0 + (q - q0) / (q0 * (1.0 - q0)) * (s - q0);
            assert!((log_e(&window, 1.0, ratio) - e.ln()).abs() < 1e-12);
        }
    }

    #[test]
    fn nothing_failed_is_no_vote() {
        let some = Arm::new(100, 7).unwrap();
        let none = Arm::new(100, 0).unwrap();
        for (canary, stable) in [(none, none), (some, Arm::default()), (Arm::default(), some)] {
            assert_eq!(harm(&Block::new(canary, stable), 1.0, &HARM), [0.0; 12]);
        }
    }

    #[test]
    fn expectation_is_at_most_one_all_over_the_null() {
        for (n1, n0) in [(0, 4), (4, 0), (1, 1), (1, 6), (6, 1), (5, 3), (4, 4)] {
            for r0 in [1.0, 1.1, 1.5, 2.0, 10.0] {
                for p0 in [0.0, 1e-3, 0.005, 0.01, 0.025, 0.05, 0.3, 0.6, 1.0] {
                    if !applies(r0, p0) {
                        continue;
                    }
                    for inside in [1.0, 0.7, 0.0] {
                        for h in HARM.into_iter().chain(SLOW_VOTE) {
                            let e = expectation(n1, n0, r0 * p0 * inside, p0, |b| {
                                harm(b, r0, &[h])[0].exp()
                            });
                            assert!(e <= 1.0 + 1e-12, "{n1} {n0} {p0} {r0} {inside} {h}: {e}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn against_the_ratio_itself_it_would_promise_too_much() {
        let e = |edge: f64| expectation(1, 1, 0.05, 0.025, |b| log_e(b, edge, edge * 2.0).exp());
        assert!(e(2.0) > 1.0 && e(edge(2.0)) <= 1.0);
    }

    /// The best that anyone can do who sees half a window and may end it there.
    #[test]
    fn ending_a_window_early_gains_nothing() {
        let half =
            |n1, k1, n0, k0| Block::new(Arm::new(n1, k1).unwrap(), Arm::new(n0, k0).unwrap());
        for (n1, n0) in [(1, 3), (3, 1), (2, 2)] {
            for p in [1e-3, 0.05, 0.3, 0.8] {
                for h in HARM {
                    let e = |b: &Block| log_e(b, 1.0, h).exp();
                    let best = |cut: fn(f64) -> f64| {
                        expectation(n1, n0, p, p, |first| {
                            let on = expectation(n1, n0, p, p, |second| {
                                e(&first.checked_add(*second).unwrap())
                            });
                            cut(e(first)).max(on)
                        })
                    };
                    assert!(best(|e| e.min(1.0)) <= 1.0 + 1e-12);
                    // Forgetting it, or taking it as it stands, would.
                    assert!(best(|_| 1.0) > 1.0 && best(|e| e) > 1.0);
                }
            }
        }
        assert_eq!(log_e(&half(1, 0, 3, 0), 1.0, 2.0), 0.0);
    }

    #[test]
    fn a_burst_is_one_vote() {
        let few = Block::new(Arm::new(1000, 6).unwrap(), Arm::new(9000, 4).unwrap());
        let many = Block::new(Arm::new(1000, 600).unwrap(), Arm::new(9000, 400).unwrap());
        assert_eq!(harm(&few, 1.0, &HARM), harm(&many, 1.0, &HARM));
    }

    proptest! {
        #[test]
        fn any_counts_give_a_number(
            n1 in 0_u64..1_000_000_000_000, n0 in 0_u64..1_000_000_000_000,
            part1 in 0.0..=1.0_f64, part0 in 0.0..=1.0_f64, r0 in 1.0..1e6_f64,
        ) {
            let window = crate::objective::tests::block(n1, n0, part1, part0);
            for log in harm(&window, r0, &HARM) {
                prop_assert!(log.is_finite());
            }
        }
    }
}
