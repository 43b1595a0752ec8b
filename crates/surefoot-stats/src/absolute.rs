//! The absolute test: is the canary's failure rate more than d above stable's?
//!
//! Poisson likelihood ratio of a predicted pair of rates against the nearest pair of the null: the
//! reverse information projection. It is an e-value for Binomial counts too: e^(θ*−θ)(θ/θ*) over
//! failures has expectation 1 + p(θ/θ* − 1) ≤ exp(p(θ/θ* − 1)), and the projection's optimality
//! bounds the product on the whole null.

use crate::block::{Block, count};
use crate::grid::ABSOLUTE;

/// Lowest rate predicted for stable.
pub const FLOOR: f64 = 1e-6;

/// The rate predicted for stable from all of its past requests.
#[must_use]
pub fn predicted(past: crate::Arm) -> f64 {
    ((count(past.k) + 0.5) / (count(past.n) + 1.0)).max(FLOOR)
}

/// The pair of the null p1 − p0 = d nearest to (θ1, θ0), for these numbers of requests.
#[must_use]
pub fn project(n1: f64, n0: f64, th1: f64, th0: f64, d: f64) -> (f64, f64) {
    let n = n1 + n0;
    let b = n * d - n1 * th1 - n0 * th0;
    let c = -(n0 * th0 * d);
    let root = b.mul_add(b, -4.0 * n * c).max(0.0).sqrt();
    // Of the two forms of the positive root the one without cancellation.
    let t = if b > 0.0 { -2.0 * c / (b + root) } else { (root - b) / (2.0 * n) };
    (t + d, t)
}

/// ln e of one block for the alternative (θ1, θ0) against the null's edge d.
#[must_use]
pub fn log_e(block: &Block, th1: f64, th0: f64, d: f64) -> f64 {
    let (n1, k1) = (count(block.canary.n), count(block.canary.k));
    let (n0, k0) = (count(block.stable.n), count(block.stable.k));
    if n1 == 0.0 {
        return 0.0;
    }
    let (star1, star0) = project(n1, n0, th1, th0, d);
    let part = |k: f64, n: f64, th: f64, star: f64| {
        // Without requests the projection may fall on 0; nothing is observed there.
        if n == 0.0 { 0.0 } else { k * (th / star).ln() - n * (th - star) }
    };
    let total = part(k1, n1, th1, star1) + part(k0, n0, th0, star0);
    if total.is_nan() { 0.0 } else { total }
}

/// Add a block to the harm evidence: null p1 − p0 ≤ d.
pub fn harm(logs: &mut [f64], block: &Block, th0: f64, d: f64, dispersion: f64) {
    for (log, h) in logs.iter_mut().zip(ABSOLUTE) {
        let th1 = (th0 + d * h).min(1.0);
        *log += log_e(block, th1, th0, d) / dispersion;
    }
}

/// Add a block to the evidence of safety: null p1 − p0 ≥ d.
pub fn promote(logs: &mut [f64], block: &Block, th0: f64, d: f64, dispersion: f64) {
    let alternatives = [th0 / 2.0, th0, th0 + d / 4.0];
    for (log, th1) in logs.iter_mut().zip(alternatives) {
        *log += log_e(block, th1, th0, d) / dispersion;
    }
}
