//! The sequential sign test, for pairs of numbers that are no counts: is the canary's value above a
//! multiple m of stable's more often than not?
//!
//! Of each pair only X = 1{canary > m·stable} is used, so that nothing need be known of how the
//! values are distributed. H0: P(X = 1 | past) ≤ ½; e = 1 + λ(2X − 1) has E\[e\] ≤ 1 for any λ in
//! (0, 1). Ties tell nothing and are skipped.

use serde::{Deserialize, Serialize};

use crate::block::count;
use crate::grid::{add, log_mean};

/// Stakes λ; mixed with equal weights.
pub const STAKES: [f64; 4] = [0.1, 0.25, 0.5, 0.8];

/// ln e of one pair at each stake, for X = `above`.
#[must_use]
pub fn log_e(above: bool) -> [f64; STAKES.len()] {
    STAKES.map(|stake| if above { stake.ln_1p() } else { (-stake).ln_1p() })
}

/// X of a pair taken at the same time: whether the canary's value lies above `times` as much as
/// stable's. `None` for a tie, and for a value that is no finite number: an error of the query says
/// nothing of the canary.
#[must_use]
pub fn above(canary: f64, stable: f64, times: f64) -> Option<bool> {
    let limit = times * stable;
    (canary.is_finite() && limit.is_finite() && canary != limit).then_some(canary > limit)
}

/// Evidence that one outcome comes more often than not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SignTest {
    logs: [f64; STAKES.len()],
}

impl SignTest {
    /// Fold whether it came. φ ≥ 1 divides ln e: where outcomes that follow each other hang together,
    /// they are so many times fewer witnesses.
    pub fn fold(&mut self, came: bool, phi: f64) {
        add(&mut self.logs, &log_e(came).map(|log_e| log_e / phi));
    }

    /// ln E.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.log_e_if(1.0)
    }

    /// The same if all outcomes had come so many times.
    pub(crate) fn log_e_if(&self, times: f64) -> f64 {
        log_mean(&self.logs.map(|log_e| log_e * times))
    }

    /// After so many outcomes, of which it came `came` times.
    #[must_use]
    pub fn of(came: u64, not: u64, phi: f64) -> Self {
        let (up, down) = (log_e(true), log_e(false));
        let log_e = |i: usize| (count(came) * up[i] + count(not) * down[i]) / phi;
        Self { logs: std::array::from_fn(log_e) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectation_is_one_at_the_edge_and_less_inside() {
        for (up, down) in log_e(true).into_iter().zip(log_e(false)) {
            for (p, phi) in [(0.0, 1.0), (0.2, 1.0), (0.5, 1.0), (0.5, 3.0)] {
                let e = p * (up / phi).exp() + (1.0 - p) * (down / phi).exp();
                let edge = p == 0.5 && phi == 1.0;
                assert!(e <= 1.0 + 1e-15 && (!edge || (e - 1.0).abs() < 1e-15), "{p} {phi}: {e}");
            }
        }
    }

    #[test]
    fn ties_and_what_is_no_number_tell_nothing() {
        for (canary, stable) in [
            (3.0, 2.0),
            (f64::NAN, 1.0),
            (1.0, f64::NAN),
            (f64::INFINITY, 1.0),
            (1.0, f64::NEG_INFINITY),
            (1.0, f64::MAX),
        ] {
            assert_eq!(above(canary, stable, 1.5), None, "{canary} {stable}");
        }
        assert_eq!(above(3.1, 2.0, 1.5), Some(true));
        assert_eq!(above(2.9, 2.0, 1.5), Some(false));
    }

    #[test]
    fn the_order_of_outcomes_does_not_matter() {
        let came: Vec<bool> = (0..40).map(|i| i * 7 % 40 > 12).collect();
        let of = |all: &mut dyn Iterator<Item = &bool>| {
            let mut test = SignTest::default();
            all.for_each(|came| test.fold(*came, 2.0));
            test.log_e()
        };
        let (one, two) = (of(&mut came.iter()), of(&mut came.iter().rev()));
        assert!(
            (one - two).abs() < 1e-12 && (one - SignTest::of(27, 13, 2.0).log_e()).abs() < 1e-12
        );
    }

    #[test]
    fn it_survives_any_number_of_outcomes() {
        let mut test = SignTest::default();
        for _ in 0..100_000 {
            test.fold(true, 1.0);
        }
        assert!(test.log_e().is_finite() && test.log_e() > 50_000.0);
    }
}
