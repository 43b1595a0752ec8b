//! Fisher's exact test: does the canary fail more often than stable?
//!
//! **What it can't promise.** Not safe to look at repeatedly: the error rate of one look is at most
//! alpha, that of many looks several times that. It takes requests for independent; retries and
//! bursts are not. It wants enough failures to count (about 5 of the canary); a p-value above alpha
//! says that no difference was found, not that there is none, and with very many requests a
//! difference that matters to nobody is found.

use statrs::function::gamma::ln_gamma;

use crate::block::Block;

/// The one-sided p-value in \[0, 1\] of the counts of both versions: how likely the canary would have
/// at least its share of all failures if both failed alike (hypergeometric). `None` where a version
/// has no requests.
///
/// Exact to a relative 1e-9 up to about ten million requests. The work is bounded by the number of
/// failures, and far less where the p-value is small.
#[must_use]
pub fn p_value(block: &Block) -> Option<f64> {
    let (n1, k1, n0, k0) = block.floats();
    if n1 == 0.0 || n0 == 0.0 {
        return None;
    }
    let (all, bad) = (n1 + n0, k1 + k0);
    let (fewest, most) = ((bad - n0).max(0.0), bad.min(n1));
    if k1 <= fewest {
        return Some(1.0);
    }
    // One tail is summed from its largest term outwards, the smaller one.
    let above = k1 > n1 * bad / all;
    let start = if above { k1 } else { k1 - 1.0 };
    let mut term = (choose(n1, start) + choose(n0, bad - start) - choose(all, bad)).exp();
    let (mut sum, mut k) = (0.0, start);
    while term > sum * f64::EPSILON {
        sum += term;
        let ratio = if above {
            (n1 - k) * (bad - k) / ((k + 1.0) * (n0 - bad + k + 1.0))
        } else {
            k * (n0 - bad + k) / ((n1 - k + 1.0) * (bad - k + 1.0))
        };
        k += if above { 1.0 } else { -1.0 };
        if k < fewest || k > most {
            break;
        }
        term *= ratio;
    }
    Some(if above { sum } else { 1.0 - sum }.clamp(0.0, 1.0))
}

/// ln of n over k.
fn choose(n: f64, k: f64) -> f64 {
    ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Arm;

    fn p(n1: u64, k1: u64, n0: u64, k0: u64) -> Option<f64> {
        p_value(&Block::new(Arm::new(n1, k1).unwrap(), Arm::new(n0, k0).unwrap()))
    }

    /// `scipy.stats.fisher_exact([[k1, n1 - k1], [k0, n0 - k0]], alternative="greater")`, SciPy
    /// 1.17.1.
    #[test]
    fn p_values_are_those_of_scipy() {
        for (n1, k1, n0, k0, expected) in [
            (100, 5, 900, 10, 0.012_042_681_536_896_332),
            (1000, 3, 9000, 30, 0.654_759_529_847_637_3),
            (50, 0, 50, 3, 1.0),
            (20_000, 260, 180_000, 1800, 6.587_296_918_678_883e-5),
            (10, 10, 10, 0, 5.412_544_112_234_515e-6),
            (7, 2, 11, 6, 0.943_438_914_027_149_3),
            (100_000, 150, 100_000, 100, 0.000_935_505_489_449_534_9),
        ] {
            let found = p(n1, k1, n0, k0).unwrap();
            assert!((found / expected - 1.0).abs() < 1e-9, "{k1} of {n1}: {found}, {expected}");
        }
    }

    #[test]
    fn one_version_alone_has_no_p_value() {
        assert_eq!(p(0, 0, 10, 1), None);
        assert_eq!(p(10, 1, 0, 0), None);
        assert_eq!(p(10, 0, 10, 0), Some(1.0));
        assert_eq!(p(10, 10, 10, 10), Some(1.0));
    }
}
