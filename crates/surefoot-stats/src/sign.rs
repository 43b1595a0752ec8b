//! The sequential sign test: is one number above `m` times the other more often than not?
//!
//! For pairs of numbers that are no counts. A coin is bet on at four stakes λ: each pair multiplies
//! the evidence by 1 + λ(2X − 1), X = 1 where the canary's number is above. Under the null, that X is
//! 1 with chance ≤ ½ whatever came before, the expectation is at most 1. (Shafer and Vovk,
//! "Game-Theoretic Foundations for Probability and Finance", 2019.)

use serde::{Deserialize, Serialize};

use crate::grid::log_mean;

/// The stakes λ, mixed with equal weights.
pub const STAKES: [f64; 4] = [0.1, 0.25, 0.5, 0.8];

/// The evidence of the pairs so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SignTest {
    logs: [f64; STAKES.len()],
}

impl SignTest {
    /// Take a pair. Ties against `m` times stable's, and whatever is no finite number, tell nothing.
    pub fn fold(&mut self, canary: f64, stable: f64, m: f64) {
        let limit = m * stable;
        if !canary.is_finite() || !limit.is_finite() || canary.to_bits() == limit.to_bits() {
            return;
        }
        let sign = if canary > limit { 1.0 } else { -1.0 };
        for (log, stake) in self.logs.iter_mut().zip(STAKES) {
            *log += (sign * stake).ln_1p();
        }
    }

    /// ln E.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        log_mean(&self.logs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectation_is_at_most_one_under_the_null() {
        // All 2^8 histories of a coin of chance q ≤ ½.
        for q in [0.0_f64, 0.2, 0.5] {
            let mut expectation = 0.0;
            for history in 0..256_u32 {
                let (mut test, mut chance) = (SignTest::default(), 1.0);
                for i in 0..8 {
                    let up = history >> i & 1 == 1;
                    test.fold(if up { 2.0 } else { 0.5 }, 1.0, 1.0);
                    chance *= if up { q } else { 1.0 - q };
                }
                expectation += chance * test.log_e().exp();
            }
            assert!(expectation <= 1.0 + 1e-12, "{q}: {expectation}");
        }
    }

    #[test]
    fn ties_and_what_is_no_number_tell_nothing() {
        let mut test = SignTest::default();
        for (canary, stable) in [(1.5, 1.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (1.0, f64::NAN)]
        {
            test.fold(canary, stable, 1.5);
        }
        assert_eq!(test, SignTest::default());
    }

    #[test]
    fn the_order_of_pairs_is_of_no_account() {
        let (mut one, mut other) = (SignTest::default(), SignTest::default());
        for up in [true, true, false, true] {
            one.fold(f64::from(u8::from(up)), 0.5, 1.0);
        }
        for up in [false, true, true, true] {
            other.fold(f64::from(u8::from(up)), 0.5, 1.0);
        }
        assert!((one.log_e() - other.log_e()).abs() < 1e-12);
    }
}
