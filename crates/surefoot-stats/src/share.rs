//! The share test: is the canary's failure rate more than R0 times stable's?
//!
//! Given that a request failed, whether it was the canary's has odds R·n1 : n0 when the rates' ratio
//! is R; the drifting common level cancels. Valid for any weights and block lengths.

use crate::block::{Block, count};

/// ln of the likelihood ratio of `ratio` against the null's edge `r0`, for one block. 0 for a block
/// with one arm only: it tells nothing of a ratio.
#[must_use]
pub fn log_e(block: &Block, r0: f64, ratio: f64) -> f64 {
    let (n1, k1) = (count(block.canary.n), count(block.canary.k));
    let (n0, k0) = (count(block.stable.n), count(block.stable.k));
    if n1 == 0.0 || n0 == 0.0 || k1 + k0 == 0.0 {
        return 0.0;
    }
    // ln((R n1 + n0)/(R0 n1 + n0)) without cancellation when R and R0 are close.
    let denominator = r0.mul_add(n1, n0);
    let spread = ((ratio - r0) * n1 / denominator).ln_1p();
    k1 * (ratio / r0).ln() - (k1 + k0) * spread
}

/// Add a block to the harm evidence, a point of `grid` each: null p1 ≤ r0·p0, alternatives r0·h.
pub fn harm(logs: &mut [f64], block: &Block, r0: f64, grid: &[f64], dispersion: f64) {
    for (log, h) in logs.iter_mut().zip(grid) {
        *log += log_e(block, r0, r0 * h) / dispersion;
    }
}

/// Add a block to the evidence of safety: null p1 ≥ r0·p0, alternatives the ratios of `grid`.
pub fn promote(logs: &mut [f64], block: &Block, r0: f64, grid: &[f64], dispersion: f64) {
    for (log, ratio) in logs.iter_mut().zip(grid) {
        *log += log_e(block, r0, *ratio) / dispersion;
    }
}
