//! The share test: is the canary's failure rate more than R0 times stable's?
//!
//! Given that a request failed, the odds that it was the canary's are R·n1 : n0 when the rates'
//! ratio is R; the common level of the rates, and its drift, cancel. Valid for any weights and
//! block lengths.
//!
//! For independent requests E\[e\] ≤ 1 holds exactly and not only for rare failures: with a = R/R0
//! and c = (R0·n1 + n0)/(R·n1 + n0) a block has E\[e\] = (1 + p1(ac−1))^n1 · (1 + p0(c−1))^n0, and
//! 1 + x ≤ eˣ leaves exp(0) at p1 = R0·p0. Dividing ln e by φ ≥ 1 keeps it by Jensen's inequality.

use std::sync::LazyLock;

use crate::block::Block;
use crate::elementary;
use crate::grid::{HARM, SLOW};

/// ln of the likelihood ratio of `ratio` against the null's edge `r0`, for one block; both > 0.
///
/// 0 for a block with one arm only: it tells nothing of a ratio.
#[must_use]
pub fn log_e(block: &Block, r0: f64, ratio: f64) -> f64 {
    let [log] = promote(block, r0, &[ratio], 1.0);
    log
}

/// One block's ln e of harm at the alternatives r0·h: null p1 ≤ r0·p0, r0 ≥ 1, h > 1.
#[must_use]
pub fn harm<const N: usize>(block: &Block, r0: f64, grid: &[f64; N], dispersion: f64) -> [f64; N] {
    Multiples::of(grid).log_e(block, r0, dispersion)
}

/// Those of counts.
pub(crate) static FAILING: LazyLock<Multiples<{ HARM.len() }>> =
    LazyLock::new(|| Multiples::of(&HARM));
/// Those of latencies.
pub(crate) static SLOWER: LazyLock<Multiples<{ SLOW.len() }>> =
    LazyLock::new(|| Multiples::of(&SLOW));

/// Alternatives as multiples of the null's edge, with what is the same for every block and boundary.
pub(crate) struct Multiples<const N: usize>([(f64, f64); N]);

impl<const N: usize> Multiples<N> {
    pub(crate) fn of(grid: &[f64; N]) -> Self {
        Self(grid.map(|h| (h - 1.0, h.ln())))
    }

    /// [`log_e`] at each, divided by the dispersion.
    pub(crate) fn log_e(&self, block: &Block, r0: f64, dispersion: f64) -> [f64; N] {
        let Some(parts) = Parts::of(block, r0, dispersion) else { return [0.0; N] };
        let mut spread = self.spread(&parts);
        elementary::ln_1p(&mut spread);
        self.log_e_of(&parts, &spread)
    }

    /// (R n1 + n0)/(R0 n1 + n0) − 1 = (h − 1)·q0 at each.
    pub(crate) fn spread(&self, parts: &Parts) -> [f64; N] {
        self.0.map(|(more, _)| more * parts.q0)
    }

    /// ln e at each, of ln(1 + spread).
    pub(crate) fn log_e_of(&self, parts: &Parts, spread: &[f64; N]) -> [f64; N] {
        let mut logs = *spread;
        for (log, (_, ln)) in logs.iter_mut().zip(&self.0) {
            *log = parts.ours * ln - parts.all * *log;
        }
        logs
    }
}

/// What a block's ln e is made of. Of none it is 0.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Parts {
    /// The canary's share of failures at the null's edge.
    q0: f64,
    /// The canary's failures, and those of both, tempered.
    ours: f64,
    all: f64,
}

impl Parts {
    /// `None` where a block tells nothing of a ratio.
    pub(crate) fn of(block: &Block, r0: f64, dispersion: f64) -> Option<Self> {
        let (n1, k1, n0, k0) = block.floats();
        let tells = n1 > 0.0 && n0 > 0.0 && k1 + k0 > 0.0;
        let q0 = r0 * n1 / (r0 * n1 + n0);
        tells.then_some(Self { q0, ours: k1 / dispersion, all: (k1 + k0) / dispersion })
    }
}

/// One block's ln e of safety at the alternatives of `grid`, ratios to stable's rate: null
/// p1 ≥ r0·p0, r0 above every one of them.
#[must_use]
pub fn promote<const N: usize>(
    block: &Block,
    r0: f64,
    grid: &[f64; N],
    dispersion: f64,
) -> [f64; N] {
    let Some(parts) = Parts::of(block, r0, dispersion) else { return [0.0; N] };
    let mut logs = [[0.0; N]; 2];
    let [ratios, spreads] = &mut logs;
    for ((on_ratio, spread), ratio) in ratios.iter_mut().zip(spreads).zip(grid) {
        let more = (ratio - r0) / r0;
        (*on_ratio, *spread) = (more, more * parts.q0);
    }
    elementary::ln_1p(logs.as_flattened_mut());
    let [mut ratios, spreads] = logs;
    for (log, spread) in ratios.iter_mut().zip(spreads) {
        *log = parts.ours * *log - parts.all * spread;
    }
    ratios
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::Arm;
    use crate::grid::SAFE;
    use crate::objective::tests::expectation;

    #[test]
    fn one_arm_tells_nothing_of_a_ratio() {
        let some = Arm::new(100, 7).unwrap();
        for block in [Block::new(some, Arm::default()), Block::new(Arm::default(), some)] {
            assert_eq!(harm(&block, 1.5, &HARM, 1.0), [0.0; 12]);
            assert_eq!(promote(&block, 1.5, &SAFE, 1.0), [0.0; 6]);
        }
    }

    #[test]
    fn expectation_is_at_most_one_all_over_the_null() {
        for (n1, n0) in [(0, 4), (4, 0), (1, 1), (1, 6), (5, 3), (4, 4)] {
            for p0 in [0.0, 1e-3, 0.05, 0.3, 0.6, 1.0] {
                for r0 in [1.0, 1.5, 2.0] {
                    // On the edge, and inside of the null on either test's side.
                    for inside in [1.0, 0.7, 0.0] {
                        let p1 = f64::min(r0 * p0 * inside, 1.0);
                        for h in HARM.into_iter().chain(SLOW) {
                            for phi in [1.0, 3.0] {
                                let e = expectation(n1, n0, p1, p0, |b| {
                                    (log_e(b, r0, r0 * h) / phi).exp()
                                });
                                assert!(e <= 1.0 + 1e-12, "{n1} {n0} {p1} {p0} {r0} {h}: {e}");
                            }
                        }
                    }
                    for beyond in [1.0, 1.4] {
                        let p1 = r0 * p0 * beyond;
                        if r0 == 1.0 || p1 > 1.0 {
                            continue;
                        }
                        for ratio in SAFE {
                            let e = expectation(n1, n0, p1, p0, |b| log_e(b, r0, ratio).exp());
                            assert!(e <= 1.0 + 1e-12, "{n1} {n0} {p1} {p0} {r0} {ratio}: {e}");
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_counts_give_a_number(
            n1 in 0_u64..1_000_000_000_000, n0 in 0_u64..1_000_000_000_000,
            part1 in 0.0..=1.0_f64, part0 in 0.0..=1.0_f64, r0 in 1.0..10.0_f64,
        ) {
            let block = crate::objective::tests::block(n1, n0, part1, part0);
            for log in harm(&block, r0, &HARM, 1.0).into_iter().chain(promote(&block, r0, &SAFE, 3.0)) {
                prop_assert!(log.is_finite());
            }
        }
    }
}
