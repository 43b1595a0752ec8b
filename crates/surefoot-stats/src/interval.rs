//! Intervals to show: where the true value lies, with the same confidence however often one looks.
//!
//! A rate or ratio is refuted when the mixture over all others is 1/α times as likely. Tempered like
//! the tests: with dispersion φ every log-likelihood is divided by φ, as if there were n/φ requests.

use statrs::function::beta::ln_beta;
use statrs::function::gamma::ln_gamma;

use crate::block::{Arm, Block, count};
use crate::grid::{HARM, log_mean};
use crate::latency::SlowArm;

/// ln of the likelihood ratio of the Beta(½, ½) mixture to the rate `p` in (0, 1), for `n` requests
/// of which `k` were bad: lnB(k+½, n−k+½) − lnB(½, ½) − k ln p − (n−k) ln(1−p).
///
/// Computed as a constant plus n·KL(k/n ‖ p): the direct form loses all digits for large n.
#[must_use]
pub fn log_mixture(arm: Arm, p: f64, dispersion: f64) -> f64 {
    let beta = Mixture::new(arm, dispersion);
    if beta.n == 0.0 { 0.0 } else { beta.best + beta.divergence(p, 1.0 - p) }
}

/// The same of the Beta(a, b) mixture, a and b > 0: lnB(k+a, n−k+b) − lnB(a, b) − k ln p −
/// (n−k) ln(1−p). Robbins' mixture, in the form of Howard and others ("Time-uniform, nonparametric,
/// nonasymptotic confidence sequences", 2021). Loses digits beyond some millions of requests.
#[must_use]
pub fn log_mixture_beta(arm: Arm, p: f64, (a, b): (f64, f64)) -> f64 {
    let (n, k) = (count(arm.n()), count(arm.k()));
    ln_beta(k + a, n - k + b) - ln_beta(a, b) - k * p.ln() - (n - k) * (-p).ln_1p()
}

/// Between which boundaries of a histogram a quantile lies, with the same confidence however often
/// one looks: from the last boundary at or below which certainly fewer than `quantile` of the
/// requests stay, to the first with certainly more. `None` for a side that is open.
///
/// A boundary is refuted as the quantile when a Beta(10q, 10(1−q)) mixture of the share of requests
/// at or below it is 1/α times as likely as q. `quantile` and `alpha` in (0, 1).
#[must_use]
pub fn quantile(arm: &SlowArm, quantile: f64, alpha: f64) -> (Option<usize>, Option<usize>) {
    let prior = (10.0 * quantile, 10.0 * (1.0 - quantile));
    let certain = |slower: u64| {
        let below = Arm::new(arm.n(), arm.n().saturating_sub(slower)).unwrap_or_default();
        let share =
            below.rate().filter(|_| log_mixture_beta(below, quantile, prior) >= -alpha.ln());
        share.map_or(std::cmp::Ordering::Equal, |share| share.total_cmp(&quantile))
    };
    let is = |side| move |slower: &u64| certain(*slower) == side;
    let lower = arm.slower().iter().rposition(is(std::cmp::Ordering::Less));
    (lower, arm.slower().iter().position(is(std::cmp::Ordering::Greater)))
}

/// The rates in \[0, 1\] that are not refuted at level `alpha` in (0, 1): all without requests.
#[must_use]
pub fn rate(arm: Arm, alpha: f64, dispersion: f64) -> (f64, f64) {
    let beta = Mixture::new(arm, dispersion);
    if beta.n == 0.0 {
        return (0.0, 1.0);
    }
    // The divergence at which a rate is refuted; positive, as no mixture beats the best rate.
    let target = -alpha.ln() - beta.best;
    let (k, m) = (beta.k, beta.n - beta.k);
    // On ln p, so that rare failures keep their digits; p̂ is never refuted.
    let refuted = |u: f64| beta.divergence(u.exp(), -u.exp_m1()) >= target;
    let middle = (k / beta.n).ln();
    let lower = if k == 0.0 {
        0.0
    } else if m == 0.0 {
        (-target / k).exp()
    } else {
        // n·KL ≥ k(ln(p̂/p) − 1): refuted here for certain.
        bisect(middle - 1.0 - target / k, middle, refuted).exp()
    };
    let upper = if m == 0.0 {
        1.0
    } else if k == 0.0 {
        -(-target / m).exp_m1()
    } else {
        bisect(0.0, middle, refuted).exp()
    };
    (lower, upper)
}

/// The ratios of the canary's rate to stable's that are not refuted at level `alpha`, from counts
/// pooled over one traffic weight: {R: l(R) > M − ln(1/α)}, l(R) = k1 ln R − (k1+k0) ln(R n1 + n0),
/// M = ln of the mean of exp l over the grid {h, 1, 1/h}.
///
/// (0, ∞) while an arm has no requests or nothing was bad. Never pool over weights: when both arms
/// drift the ratio is then wrong.
#[must_use]
pub fn ratio(block: &Block, alpha: f64, dispersion: f64) -> (f64, f64) {
    let (n1, k1, n0, k0) = block.floats();
    let k = k1 + k0;
    if n1 == 0.0 || n0 == 0.0 || k == 0.0 {
        return (0.0, f64::INFINITY);
    }
    let odds = (n1 / n0).ln();
    // −l(R) + max l at u = ln R, over φ: how much worse R explains whose the bad requests were.
    let worse = |u: f64| {
        let (canary, stable) = (1.0 / (1.0 + (-u - odds).exp()), 1.0 / (1.0 + (u + odds).exp()));
        (deviance(k1, k * canary) + deviance(k0, k * stable)) / dispersion
    };
    let mut points = [0.0; 2 * HARM.len() + 1];
    for (pair, h) in points.chunks_mut(2).zip(HARM) {
        pair.copy_from_slice(&[h.ln(), -h.ln()]);
    }
    let target = -alpha.ln() - log_mean(&points.map(|u| -worse(u)));
    let refuted = |u: f64| worse(u) >= target;
    // Where nothing is refuted: the best ratio, or so far out that whose the requests were is sure.
    let best = match (k1 == 0.0, k0 == 0.0) {
        (true, _) => -odds - 700.0,
        (_, true) => -odds + 700.0,
        _ => (k1 / k0).ln() - odds,
    };
    let edge = |direction: f64| {
        let mut reach = 1.0;
        while !refuted(best + direction * reach) && reach < 4096.0 {
            reach *= 2.0;
        }
        bisect(best + direction * reach, best, refuted).exp()
    };
    let low = if k1 == 0.0 { 0.0 } else { edge(-1.0) };
    let high = if k0 == 0.0 { f64::INFINITY } else { edge(1.0) };
    (low, high)
}

/// The always-valid p-value of the largest ln E seen: min(1, 1/max E).
#[must_use]
pub fn p_value(largest_log_e: f64) -> f64 {
    (-largest_log_e).exp().min(1.0)
}

/// The Beta(½, ½) mixture of one arm's likelihoods, relative to the best rate's.
struct Mixture {
    n: f64,
    k: f64,
    /// ln of the mixture's likelihood over that of the rate k/n: at most 0.
    best: f64,
}

impl Mixture {
    fn new(arm: Arm, dispersion: f64) -> Self {
        let (n, k) = (count(arm.n()) / dispersion, count(arm.k()) / dispersion);
        // k ln k + (n−k) ln(n−k) − n ln n cancels between Γ and the best rate's likelihood; what
        // Stirling's series leaves is small.
        let tau = std::f64::consts::TAU;
        let best = half_gamma(k) + half_gamma(n - k) - gamma(n) + 0.5 * (tau / n).ln()
            - std::f64::consts::PI.ln();
        Self { n, k, best }
    }

    /// n·KL(k/n ‖ p), p and its complement.
    fn divergence(&self, p: f64, complement: f64) -> f64 {
        deviance(self.k, self.n * p) + deviance(self.n - self.k, self.n * complement)
    }
}

/// x ln(x/mean) + mean − x, without cancellation near x = mean (Loader, "Fast and accurate
/// computation of binomial probabilities", 2000).
fn deviance(x: f64, mean: f64) -> f64 {
    if x == 0.0 {
        return mean;
    }
    if mean == 0.0 {
        return f64::INFINITY;
    }
    let v = (x - mean) / (x + mean);
    if v.abs() >= 0.1 {
        return x * (x / mean).ln() + mean - x;
    }
    let (mut sum, mut term) = ((x - mean) * v, 2.0 * x * v);
    for j in 1..100 {
        term *= v * v;
        let next = sum + term / f64::from(2 * j + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// Above this the series below are exact to 1e-16.
const SERIES: f64 = 40.0;

/// lnΓ(x + ½) − (x ln x − x + ½ ln 2π), x ≥ 0.
fn half_gamma(x: f64) -> f64 {
    if x > SERIES {
        let r = 1.0 / x;
        return r * (-1.0 / 24.0 + r * r * (7.0 / 2880.0 - r * r * 31.0 / 40_320.0));
    }
    let power = if x == 0.0 { 0.0 } else { x * x.ln() };
    ln_gamma(x + 0.5) - (power - x + 0.5 * std::f64::consts::TAU.ln())
}

/// lnΓ(x + 1) − (x ln x − x + ½ ln 2πx), x > 0.
fn gamma(x: f64) -> f64 {
    if x > SERIES {
        let r = 1.0 / x;
        return r * (1.0 / 12.0 - r * r * (1.0 / 360.0 - r * r / 1260.0));
    }
    ln_gamma(x + 1.0) - (x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln())
}

/// The edge between `out` (refuted) and `inside` (not), to the last digit.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arm(n: u64, k: u64) -> Arm {
        Arm::new(n, k).unwrap()
    }

    #[test]
    fn the_split_form_is_the_formula() {
        for (n, k) in
            [(1, 0), (1, 1), (7, 3), (39, 20), (41, 0), (300, 0), (5000, 45), (90_000, 89_999)]
        {
            for p in [1e-6_f64, 0.001, 0.01, 0.3, 0.5, 0.999] {
                let (nf, kf) = (count(n), count(k));
                let direct = ln_beta(kf + 0.5, nf - kf + 0.5)
                    - ln_beta(0.5, 0.5)
                    - kf * p.ln()
                    - (nf - kf) * (-p).ln_1p();
                let have = log_mixture(arm(n, k), p, 1.0);
                assert!(
                    (have - direct).abs() <= 1e-9 * direct.abs().max(1.0),
                    "{n} {k} {p}: {have} {direct}"
                );
            }
        }
    }

    #[test]
    fn without_requests_everything_is_possible() {
        assert_eq!(rate(Arm::default(), 0.01, 1.0), (0.0, 1.0));
        assert_eq!(log_mixture(Arm::default(), 0.3, 1.0), 0.0);
        assert_eq!(ratio(&Block::default(), 0.01, 1.0), (0.0, f64::INFINITY));
    }

    #[test]
    fn a_ratio_without_bad_requests_of_one_arm_is_open_on_that_side() {
        let (low, high) = ratio(&Block::new(arm(1000, 0), arm(1000, 50)), 0.01, 1.0);
        assert!(low == 0.0 && (0.0..1.0).contains(&high), "{low} {high}");
        let (low, high) = ratio(&Block::new(arm(1000, 50), arm(1000, 0)), 0.01, 1.0);
        assert!(low > 1.0 && low.is_finite() && high.is_infinite(), "{low} {high}");
    }

    #[test]
    fn the_edges_of_a_ratio_are_where_the_mixture_says() {
        let block = Block::new(arm(1000, 30), arm(9000, 90));
        let l = |r: f64| 30.0 * r.ln() - 120.0 * (r * 1000.0 + 9000.0).ln();
        let grid: Vec<f64> =
            HARM.iter().flat_map(|h| [l(*h), l(1.0 / h)]).chain([l(1.0)]).collect();
        let floor = log_mean(&grid) - 100f64.ln();
        let (low, high) = ratio(&block, 0.01, 1.0);
        assert!(low < 3.0 && high > 3.0);
        assert!((l(low) - floor).abs() < 1e-9 && (l(high) - floor).abs() < 1e-9);
    }

    #[test]
    fn p_values_stop_at_one() {
        assert_eq!(p_value(-3.0), 1.0);
        assert!((p_value(100f64.ln()) - 0.01).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn any_counts_give_an_interval(
            n in 1_u64..1_000_000_000_000, part in 0.0..=1.0_f64, edge in 0_u64..3, phi in 1.0..20.0_f64,
        ) {
            let k = match edge { 0 => 0, 1 => n, _ => crate::objective::tests::block(n, 0, part, 0.0).canary.k() };
            let arm = arm(n, k);
            let p = count(k) / count(n);
            let (low, high) = rate(arm, 0.01, phi);
            prop_assert!((0.0..=p).contains(&low) && (p..=1.0).contains(&high), "{low} {p} {high}");
            prop_assert_eq!(low == 0.0, k == 0);
            prop_assert_eq!(high == 1.0, k == n);
            // What is inside is not refuted, what is well outside is.
            prop_assert!(k == 0 || log_mixture(arm, low * 0.9, phi) >= 100f64.ln());
            let narrow = rate(arm, 0.1, phi);
            prop_assert!(low <= narrow.0 && narrow.1 <= high);
        }

        #[test]
        fn any_counts_give_a_ratio(
            n1 in 1_u64..1_000_000_000_000, n0 in 1_u64..1_000_000_000_000,
            part1 in 0.0..=1.0_f64, part0 in 0.0..=1.0_f64,
        ) {
            let block = crate::objective::tests::block(n1, n0, part1, part0);
            let (low, high) = ratio(&block, 0.01, 3.0);
            prop_assert!(low >= 0.0 && low <= high && !high.is_nan(), "{low} {high}");
        }
    }
}
