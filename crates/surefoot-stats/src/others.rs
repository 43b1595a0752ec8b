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
