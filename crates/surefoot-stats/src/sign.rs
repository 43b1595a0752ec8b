//! The sequential sign test, for pairs of numbers that are no counts: is the canary's value above a
//! multiple m of stable's more often than not?
//!
//! Of each pair only X = 1{canary > m·stable} is used, so that nothing need be known of how the
//! values are distributed. H0: P(X = 1 | past) ≤ ½; e = 1 + λ(2X − 1) has E\[e\] ≤ 1 for any λ in
//! (0, 1). Ties tell nothing and are skipped.

use serde::{Deserialize, Serialize};

use crate::grid::{add, log_mean};

/// Stakes λ; mixed with equal weights.
pub const STAKES: [f64; 4] = [0.1, 0.25, 0.5, 0.8];

/// ln e of one pair at each stake, for X = `above`.
#[must_use]
pub fn log_e(above: bool) -> [f64; STAKES.len()] {
    STAKES.map(|stake| if above { stake.ln_1p() } else { (-stake).ln_1p() })
}

/// Evidence that the canary's values lie above those tolerated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SignTest {
    logs: [f64; STAKES.len()],
    above: u64,
    below: u64,
}

impl SignTest {
    /// Fold one pair of values taken at the same time. A tie is skipped, and so is a pair with a
    /// value that is no finite number: an error of the query says nothing of the canary.
    ///
    /// `times` is the multiple of stable's value that is tolerated, above 0.
    pub fn fold(&mut self, canary: f64, stable: f64, times: f64) {
        let limit = times * stable;
        if !canary.is_finite() || !limit.is_finite() || canary == limit {
            return;
        }
        let above = canary > limit;
        let counter = if above { &mut self.above } else { &mut self.below };
        *counter = counter.saturating_add(1);
        add(&mut self.logs, &log_e(above));
    }

    /// ln E.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        log_mean(&self.logs)
    }

    /// How many pairs lay above, and how many below.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.above, self.below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectation_is_one_at_the_edge_and_less_inside() {
        for (up, down) in log_e(true).into_iter().zip(log_e(false)) {
            for p in [0.0, 0.2, 0.5] {
                let e = p * up.exp() + (1.0 - p) * down.exp();
                assert!(e <= 1.0 + 1e-15 && (p < 0.5 || (e - 1.0).abs() < 1e-15), "{p}: {e}");
            }
        }
    }

    #[test]
    fn ties_and_what_is_no_number_tell_nothing() {
        let mut test = SignTest::default();
        for (canary, stable) in [
            (3.0, 2.0),
            (f64::NAN, 1.0),
            (1.0, f64::NAN),
            (f64::INFINITY, 1.0),
            (1.0, f64::NEG_INFINITY),
            (1.0, f64::MAX),
        ] {
            test.fold(canary, stable, 1.5);
        }
        assert_eq!(test, SignTest::default());
        test.fold(3.1, 2.0, 1.5);
        test.fold(2.9, 2.0, 1.5);
        assert_eq!(test.counts(), (1, 1));
    }

    #[test]
    fn the_order_of_pairs_does_not_matter() {
        let pairs: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 40)).collect();
        let of = |pairs: &mut dyn Iterator<Item = &f64>| {
            let mut test = SignTest::default();
            pairs.for_each(|canary| test.fold(*canary, 10.0, 1.2));
            test
        };
        let (one, two) = (of(&mut pairs.iter()), of(&mut pairs.iter().rev()));
        assert_eq!(one.counts(), (27, 12));
        assert!((one.log_e() - two.log_e()).abs() < 1e-12);
    }

    #[test]
    fn it_survives_any_number_of_pairs() {
        let mut test = SignTest::default();
        for _ in 0..100_000 {
            test.fold(1.0, 0.5, 1.0);
        }
        assert!(test.log_e().is_finite() && test.log_e() > 50_000.0);
    }
}
