//! Grids of alternatives, and mixing over them.
//!
//! A mixture of e-processes with weights that sum to 1 is an e-process: whoever does not know how
//! large the effect is pays at most ln(1/weight) for asking at every size.

use crate::block::count;
use crate::elementary::sum_of_exponentials;

/// Alternatives of harm, as multiples of the tolerated ratio (share) or odds (objective); mixed with
/// equal weights.
pub const HARM: [f64; 12] = [1.25, 1.5, 2.0, 3.0, 5.0, 9.0, 16.0, 30.0, 60.0, 150.0, 400.0, 1000.0];
/// Alternatives of harm at a latency boundary, as multiples of the tolerated ratio; mixed with
/// equal weights. Slowness moves exceedance less than a fault moves failures.
pub const SLOW: [f64; 9] = [1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];
/// Alternatives of harm for a window's vote at a latency boundary: a vote says too little for a finer
/// grid.
pub const SLOW_VOTE: [f64; 3] = [1.5, 3.0, 10.0];
/// Alternatives of safety, as ratios of the canary's rate to stable's.
pub const SAFE: [f64; 6] = [0.05, 0.25, 0.5, 0.75, 0.9, 1.0];
/// The weights of [`SAFE`].
pub const SAFE_WEIGHTS: [f64; 6] = [0.05, 0.05, 0.1, 0.1, 0.2, 0.5];
/// Alternatives of harm for the absolute test, as multiples of the tolerated difference; mixed with
/// equal weights.
pub const ABSOLUTE: [f64; 8] = [1.25, 1.6, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];
/// Weights of the absolute test's alternatives of safety: half of stable's rate, stable's rate,
/// stable's rate and a quarter of the tolerance.
pub const ABSOLUTE_SAFE_WEIGHTS: [f64; 3] = [0.2, 0.6, 0.2];
/// Alternatives of safety for an objective, as odds ratios; mixed with equal weights.
pub const OBJECTIVE_SAFE: [f64; 5] = [0.05, 0.1, 0.25, 0.5, 0.75];

/// A term that is so far below the largest, as its logarithm tells, is no digit of a sum of thousands.
const NOTHING: f64 = -50.0;

/// ln Σ w·exp(x) over pairs `(w, x)`, for x of any size. −∞ when no weight is positive.
#[must_use]
pub fn log_mix(terms: impl Iterator<Item = (f64, f64)>) -> f64 {
    // Σ w·exp(x − top): one pass, so that what makes a term is asked once.
    let (mut top, mut sum) = (f64::NEG_INFINITY, 0.0);
    for (w, x) in terms {
        if w <= 0.0 || x == f64::NEG_INFINITY {
            continue;
        }
        if x - top < NOTHING {
            continue;
        } else if x <= top {
            sum += w * (x - top).exp();
        } else {
            sum = sum * (top - x).exp() + w;
            top = x;
        }
    }
    if top.is_infinite() { top } else { top + sum.ln() }
}

/// The mixture with equal weights. −∞ of nothing.
#[must_use]
pub fn log_mean(logs: &[f64]) -> f64 {
    let mut mix = Mix::default();
    mix.add(logs);
    mix.log_mean().unwrap_or(f64::NEG_INFINITY)
}

/// A mixture with equal weights of what comes in parts.
#[derive(Debug)]
pub(crate) struct Mix {
    top: f64,
    sum: f64,
    terms: u64,
}

impl Default for Mix {
    fn default() -> Self {
        Self { top: f64::NEG_INFINITY, sum: 0.0, terms: 0 }
    }
}

impl Mix {
    pub(crate) fn add(&mut self, logs: &[f64]) {
        self.terms += logs.len() as u64;
        let (top, sum) = sum_of_exponentials(logs);
        if top > self.top {
            self.sum = self.sum * (self.top - top).exp() + sum;
            self.top = top;
        } else if top > f64::NEG_INFINITY {
            self.sum += sum * (top - self.top).exp();
        }
    }

    /// `None` of nothing.
    pub(crate) fn log_mean(&self) -> Option<f64> {
        (self.terms > 0).then(|| self.top + (self.sum / count(self.terms)).ln())
    }
}

/// The mixture with given weights, a pair each.
#[must_use]
pub fn log_weighted<const N: usize>(weights: &[f64; N], logs: &[f64; N]) -> f64 {
    log_mix(weights.iter().copied().zip(logs.iter().copied()))
}

/// Add a block's ln e to what earlier blocks told, alternative by alternative.
pub(crate) fn add<const N: usize>(logs: &mut [f64; N], block: &[f64; N]) {
    for (log, more) in logs.iter_mut().zip(block) {
        *log += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_survives_any_size() {
        assert!(log_mean(&[0.0, 0.0]).abs() < 1e-15);
        assert!((log_mean(&[1e6, -1e6]) - (1e6 - 2f64.ln())).abs() < 1e-6);
        assert!((log_mean(&[-1e6, -1e6]) + 1e6).abs() < 1e-6);
        assert_eq!(log_mean(&[f64::NEG_INFINITY]), f64::NEG_INFINITY);
        assert_eq!(log_mean(&[]), f64::NEG_INFINITY);
    }

    #[test]
    fn a_term_without_weight_is_not_there() {
        assert!(log_mix([(0.0, 1e300), (1.0, 2.0)].into_iter()) - 2.0 < 1e-15);
    }

    #[test]
    fn weights_sum_to_one() {
        assert!((SAFE_WEIGHTS.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert!((ABSOLUTE_SAFE_WEIGHTS.iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }
}
