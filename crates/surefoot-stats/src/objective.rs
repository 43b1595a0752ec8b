//! The objective test: is one arm's failure rate above p*?

use crate::block::{Arm, count};

/// The rate whose odds are `factor` times those of `p`.
#[must_use]
pub fn by_odds(p: f64, factor: f64) -> f64 {
    let odds = factor * p / (1.0 - p);
    odds / (1.0 + odds)
}

/// ln of the likelihood ratio of rate θ, given by its odds factor, against p*.
#[must_use]
pub fn log_e(arm: Arm, p: f64, factor: f64) -> f64 {
    let (n, k) = (count(arm.n), count(arm.k));
    if n == 0.0 {
        return 0.0;
    }
    let theta = by_odds(p, factor);
    let good = ((p - theta) / (1.0 - p)).ln_1p();
    k * (theta / p).ln() + (n - k) * good
}

/// Add an arm's counts to the evidence at each odds factor of `grid`: above 1 for harm (null p ≤ p*),
/// below for safety (null p ≥ p*).
pub fn add(logs: &mut [f64], arm: Arm, p: f64, grid: &[f64], dispersion: f64) {
    for (log, factor) in logs.iter_mut().zip(grid) {
        *log += log_e(arm, p, *factor) / dispersion;
    }
}
