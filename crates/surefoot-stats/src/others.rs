//! Bounds and tests of other people that are valid at every look as well, to compare with in
//! simulations. Nothing is judged by them.

use statrs::function::beta::ln_beta;

use crate::block::count;

/// ρ with which the normal mixture is about tightest at the intrinsic time `v` (Howard and others,
/// "Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021): v/(2 ln(1/α) +
/// ln(1 + 2 ln(1/α))).
#[must_use]
pub fn tuned(v: f64, alpha: f64) -> f64 {
    let twice = -2.0 * alpha.ln();
    v / (twice + twice.ln_1p())
}

/// The two-sided normal mixture bound at intrinsic time `v`, of the same paper and as used by "GAVI":
/// √((v + ρ)(ln(1 + v/ρ) + 2 ln(1/α))).
#[must_use]
pub fn normal_mixture(v: f64, rho: f64, alpha: f64) -> f64 {
    ((v + rho) * ((v / rho).ln_1p() - 2.0 * alpha.ln())).sqrt()
}

/// ln of the Bayes factor against equal rates, from whose the bad requests were (Lindon and Malek,
/// "Anytime-valid inference for multinomial count data", 2022): `bad` ones of canary and stable, the
/// canary's `weight` in (0, 1), and a Dirichlet prior of `concentration` > 0 around it.
#[must_use]
pub fn dirichlet(bad: (u64, u64), weight: f64, concentration: f64) -> f64 {
    let (k1, k0) = (count(bad.0), count(bad.1));
    let (a1, a0) = (concentration * weight, concentration * (1.0 - weight));
    ln_beta(a1 + k1, a0 + k0) - ln_beta(a1, a0) - k1 * weight.ln() - k0 * (-weight).ln_1p()
}

/// How far an empirical distribution of `t` values is from the true one at any value, with a chance of
/// at most `alpha` ever from `first` values on (Howard and Ramdas, "Sequential estimation of quantiles
/// with applications to A/B testing and best-arm identification", 2022, theorem 2):
/// A·√((ln(1 + ln(t/first)) + C)/t), A = `scale` > 1/√2, and C the smallest for which the theorem's
/// bound on the chance is `alpha`. `t` ≥ `first` > 0.
#[must_use]
pub fn distribution_band(t: f64, first: f64, alpha: f64, scale: f64) -> f64 {
    // The chance falls with C; beyond ten thousand it is 0 to any precision.
    let (mut low, mut high) = (0.0, 1e4);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if excess(middle, scale) > alpha { low = middle } else { high = middle }
    }
    scale * (((t / first).ln().ln_1p() + high) / t).sqrt()
}

/// The chance of leaving that band: 4 e^(−γC)(1 + 1/((γ − 1) ln η)) with γ = 2/η·(A − √(2(η − 1)/C))²,
/// the least over η > 1; infinite where γ ≤ 1 for all.
fn excess(c: f64, scale: f64) -> f64 {
    let at = |eta: f64| {
        let gamma = 2.0 / eta * (scale - (2.0 * (eta - 1.0) / c).sqrt()).powi(2);
        let chance = 4.0 * (-gamma * c).exp() * (1.0 + 1.0 / ((gamma - 1.0) * eta.ln()));
        if gamma > 1.0 { chance } else { f64::INFINITY }
    };
    // γ falls with η; where it is 1 the chance is infinite, as it is at η = 1. Between them it has one
    // least value.
    let below = |eta: f64| scale * scale * c > 2.0 * (eta - 1.0) && at(eta).is_finite();
    let (mut low, mut high) = (1.0, 1.0 + scale * scale * c / 2.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if below(middle) { low = middle } else { high = middle }
    }
    let (mut low, mut high) = (1.0, low);
    for _ in 0..200 {
        let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if at(a) < at(b) { high = b } else { low = a }
    }
    at(f64::midpoint(low, high))
}
