//! Intervals to show: where the true value lies, with the same confidence however often one looks.

use statrs::function::beta::ln_beta;

use crate::block::{Arm, Block, count};
use crate::grid::{HARM, log_mean};
use crate::share;

/// ln of the beta mixture's likelihood ratio against rate p (a = b = ½).
#[must_use]
pub fn log_mixture(arm: Arm, p: f64) -> f64 {
    let (n, k) = (count(arm.n), count(arm.k));
    let term = |count: f64, log: f64| if count == 0.0 { 0.0 } else { count * log };
    ln_beta(k + 0.5, n - k + 0.5) - ln_beta(0.5, 0.5) - term(k, p.ln()) - term(n - k, (-p).ln_1p())
}

/// The rates that are not refuted at level `alpha`: [0, 1] without requests.
#[must_use]
pub fn rate(arm: Arm, alpha: f64) -> (f64, f64) {
    if arm.n == 0 {
        return (0.0, 1.0);
    }
    let bound = (1.0 / alpha).ln();
    let middle = arm.rate();
    let refuted = |p: f64| log_mixture(arm, p) >= bound;
    // The mixture is convex in p with its least value at k/n: one crossing on either side.
    let lower = if arm.k == 0 { 0.0 } else { bisect(0.0, middle, refuted) };
    let upper = if arm.k == arm.n { 1.0 } else { bisect(1.0, middle, refuted) };
    (lower, upper)
}

/// The edge between `out` (refuted) and `inside` (not).
fn bisect(out: f64, inside: f64, refuted: impl Fn(f64) -> bool) -> f64 {
    let (mut out, mut inside) = (out, inside);
    for _ in 0..200 {
        let middle = f64::midpoint(out, inside);
        if middle == out || middle == inside {
            break;
        }
        if refuted(middle) { out = middle } else { inside = middle }
    }
    inside
}

/// The ratios of the canary's rate to stable's that are not refuted, from pooled counts of one
/// weight. (0, ∞) when either arm tells nothing.
#[must_use]
pub fn ratio(block: &Block, alpha: f64) -> (f64, f64) {
    if block.canary.n == 0 || block.stable.n == 0 || block.canary.k + block.stable.k == 0 {
        return (0.0, f64::INFINITY);
    }
    let likelihood = |r: f64| share::log_e(block, 1.0, r);
    let points: Vec<f64> = HARM.iter().flat_map(|h| [*h, 1.0 / h]).chain([1.0]).collect();
    let logs: Vec<f64> = points.iter().map(|r| likelihood(*r)).collect();
    let floor = log_mean(&logs) - (1.0 / alpha).ln();
    let best = if block.stable.k == 0 {
        1e6
    } else {
        (block.canary.rate() / block.stable.rate()).clamp(1e-6, 1e6)
    };
    // On the logarithm of the ratio, so that both sides are searched alike.
    let refuted = |log: f64| likelihood(log.exp()) <= floor;
    let edge =
        |out: f64| if refuted(out) { bisect(out, best.ln(), refuted).exp() } else { out.exp() };
    let (low, high) = (edge(1e-9f64.ln()), edge(1e9f64.ln()));
    (
        if block.canary.k == 0 { 0.0 } else { low },
        if block.stable.k == 0 { f64::INFINITY } else { high },
    )
}

/// The always-valid p-value of the largest evidence seen.
#[must_use]
pub fn p_value(largest_log_e: f64) -> f64 {
    (-largest_log_e).exp().min(1.0)
}
