//! The objective test: is one arm's failure rate above p*?
//!
//! The Binomial likelihood ratio: E\[e\] = 1 exactly at p = p*, and less inside of the null.

use crate::block::{Arm, count};

/// ln of the likelihood ratio of the rate θ with odds(θ) = `odds`·odds(p*) against p* in (0, 1).
///
/// θ/p* = h/(1 + (h−1)p*) and (1−θ)/(1−p*) = 1/(1 + (h−1)p*), so that both terms share one
/// logarithm that is exact for rates near 0 and near 1.
#[must_use]
pub fn log_e(arm: Arm, p: f64, odds: f64) -> f64 {
    count(arm.k()) * odds.ln() - count(arm.n()) * ((odds - 1.0) * p).ln_1p()
}

/// One block's ln e at each odds ratio of `grid`: above 1 for harm (null p ≤ p*), below 1 for safety
/// (null p ≥ p*).
#[must_use]
pub fn test<const N: usize>(arm: Arm, p: f64, grid: &[f64; N], dispersion: f64) -> [f64; N] {
    grid.map(|odds| log_e(arm, p, odds) / dispersion)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::Block;
    use crate::grid::{HARM, OBJECTIVE_SAFE};

    /// The exact expectation of `e` over all outcomes of a block of independent requests.
    pub(crate) fn expectation(
        n1: u64,
        n0: u64,
        p1: f64,
        p0: f64,
        e: impl Fn(&Block) -> f64,
    ) -> f64 {
        let mut sum = 0.0;
        for k1 in 0..=n1 {
            for k0 in 0..=n0 {
                let block = Block::new(Arm::new(n1, k1).unwrap(), Arm::new(n0, k0).unwrap());
                let chance = binomial(n1, k1, p1) * binomial(n0, k0, p0);
                if chance > 0.0 {
                    sum += chance * e(&block);
                }
            }
        }
        sum
    }

    fn binomial(n: u64, k: u64, p: f64) -> f64 {
        let choose = (0..k).fold(1.0, |c, i| c * count(n - i) / count(i + 1));
        choose * p.powf(count(k)) * (1.0 - p).powf(count(n - k))
    }

    /// A block in which about these parts of the requests are bad.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "test counts")]
    pub(crate) fn block(n1: u64, n0: u64, part1: f64, part0: f64) -> Block {
        let arm = |n: u64, part: f64| Arm::new(n, ((count(n) * part) as u64).min(n)).unwrap();
        Block::new(arm(n1, part1), arm(n0, part0))
    }

    #[test]
    fn the_expectation_is_one_at_the_edge_and_less_inside() {
        for n in [0, 1, 3, 8] {
            for p in [1e-3, 0.05, 0.5, 0.99] {
                for odds in HARM.into_iter().chain(OBJECTIVE_SAFE) {
                    let at = |q| expectation(n, 0, q, 0.0, |b| log_e(b.canary, p, odds).exp());
                    assert!((at(p) - 1.0).abs() < 1e-9, "{n} {p} {odds}: {}", at(p));
                    let inside = if odds > 1.0 { p * 0.5 } else { p.midpoint(1.0) };
                    assert!(at(inside) <= 1.0 + 1e-12, "{n} {p} {odds}");
                }
            }
        }
    }

    #[test]
    fn the_alternative_has_the_odds_it_says() {
        let one = Arm::new(1, 1).unwrap();
        let theta = 0.2 * log_e(one, 0.2, 3.0).exp();
        assert!((theta / (1.0 - theta) - 3.0 * 0.2 / 0.8).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn any_counts_give_a_number(
            n in 0_u64..1_000_000_000_000, part in 0.0..=1.0_f64, p in 1e-9..0.999_999_f64,
        ) {
            let arm = block(n, 0, part, 0.0).canary;
            for log in test(arm, p, &HARM, 1.0).into_iter().chain(test(arm, p, &OBJECTIVE_SAFE, 2.0)) {
                prop_assert!(log.is_finite());
            }
        }
    }
}
