//! Grids of alternatives, and mixing over them.

/// Alternatives of harm, as multiples of the tolerated ratio (or odds); mixed with equal weights.
pub const HARM: [f64; 12] = [1.25, 1.5, 2.0, 3.0, 5.0, 9.0, 16.0, 30.0, 60.0, 150.0, 400.0, 1000.0];
/// Alternatives of safety, as ratios of the canary's rate to stable's.
pub const SAFE: [f64; 6] = [0.05, 0.25, 0.5, 0.75, 0.9, 1.0];
/// Their weights.
pub const SAFE_WEIGHTS: [f64; 6] = [0.05, 0.05, 0.1, 0.1, 0.2, 0.5];
/// Alternatives of harm for the absolute test, as multiples of the tolerated difference.
pub const ABSOLUTE: [f64; 8] = [1.25, 1.6, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];
/// Weights of the absolute test's alternatives of safety: half of stable's rate, stable's rate,
/// stable's rate and a quarter of the tolerance.
pub const ABSOLUTE_SAFE_WEIGHTS: [f64; 3] = [0.2, 0.6, 0.2];
/// Alternatives of safety for an objective, as odds ratios; mixed with equal weights.
pub const OBJECTIVE_SAFE: [f64; 5] = [0.05, 0.1, 0.25, 0.5, 0.75];
/// Alternatives of harm at a latency boundary, as multiples of the tolerated ratio.
pub const SLOW: [f64; 9] = [1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];

/// ln Σ w_i exp(x_i), stable for any size of x. Weights must be ≥ 0 and not all 0.
#[must_use]
pub fn log_mix(logs: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let top =
        logs.clone().filter(|(w, _)| *w > 0.0).map(|(_, x)| x).fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return top;
    }
    top + logs.map(|(w, x)| w * (x - top).exp()).sum::<f64>().ln()
}

/// The mixture with equal weights.
#[must_use]
pub fn log_mean(logs: &[f64]) -> f64 {
    let weight = 1.0 / crate::block::count(logs.len() as u64);
    log_mix(logs.iter().map(|x| (weight, *x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_survives_any_size() {
        assert!((log_mean(&[0.0, 0.0]) - 0.0).abs() < 1e-15);
        assert!((log_mean(&[1e6, -1e6]) - (1e6 - 2f64.ln())).abs() < 1e-6);
        assert_eq!(log_mean(&[f64::NEG_INFINITY]), f64::NEG_INFINITY);
        assert!((SAFE_WEIGHTS.iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }
}
