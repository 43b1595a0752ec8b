//! Welch's t-test: do the means of the canary's blocks differ from those of stable's?
//!
//! **What it can't promise.** Not safe to look at repeatedly: the error rate of one look is alpha,
//! that of many looks several times that. It takes the values for independent draws whose mean is
//! about normal: failures, which are mostly 0 with rare bursts, and percentiles of few requests are
//! neither. It wants about 20 blocks of each version, works from 2 on, and takes a block of 3
//! requests for as good as one of 30,000. A p-value above alpha does not say that the means are equal.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::Direction;
use crate::block::count;

/// What the test finds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Welch {
    /// Difference of the means, the canary's less stable's, in the values' unit.
    pub difference: f64,
    /// The same in standard errors; infinite where neither version varies.
    pub t: f64,
    /// Degrees of freedom (Welch–Satterthwaite); `None` where neither version varies.
    pub freedom: Option<f64>,
    /// The p-value, one-sided unless the direction is either.
    pub p: f64,
}

/// Compare the values of both versions, which are to be finite. `None` with fewer than two of
/// either.
#[must_use]
pub fn test(canary: &[f64], stable: &[f64], direction: Direction) -> Option<Welch> {
    let [(m1, v1, f1), (m0, v0, f0)] = [moments(canary)?, moments(stable)?];
    let (difference, variance) = (m1 - m0, v1 + v0);
    if !(difference.is_finite() && variance.is_finite()) {
        return None;
    }
    if variance == 0.0 {
        let t = if difference == 0.0 { 0.0 } else { f64::INFINITY.copysign(difference) };
        let above = if difference > 0.0 { 0.0 } else { 1.0 };
        let below = if difference < 0.0 { 0.0 } else { 1.0 };
        return Some(Welch { difference, t, freedom: None, p: one_of(direction, above, below) });
    }
    let t = difference / variance.sqrt();
    let freedom = variance * variance / (v1 * v1 / f1 + v0 * v0 / f0);
    let distribution = StudentsT::new(0.0, 1.0, freedom).ok()?;
    let p = one_of(direction, distribution.sf(t), distribution.cdf(t));
    Some(Welch { difference, t, freedom: Some(freedom), p })
}

/// Mean, variance of the mean, and degrees of freedom.
fn moments(values: &[f64]) -> Option<(f64, f64, f64)> {
    let n = count(values.len() as u64);
    if n < 2.0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    Some((mean, squares / (n - 1.0) / n, n - 1.0))
}

/// The p-value of a direction from those of the canary lying above and below.
pub(super) fn one_of(direction: Direction, above: f64, below: f64) -> f64 {
    match direction {
        Direction::Increase => above,
        Direction::Decrease => below,
        Direction::Either => (2.0 * above.min(below)).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::samples::{A, B, C};

    /// `scipy.stats.ttest_ind(canary, stable, equal_var=False, alternative="greater")`, SciPy 1.17.1:
    /// statistic, degrees of freedom, p-value; "less" and "two-sided" follow from it.
    #[test]
    fn it_finds_what_scipy_finds() {
        for (canary, stable, t, freedom, p) in [
            (
                &A[..],
                &B[..],
                2.900_487_256_463_494_5,
                11.039_517_254_486_526,
                0.007_191_885_289_565_891_5,
            ),
            (&C, &B, -2.839_687_843_241_723_6, 11.480_438_870_279_855, 0.992_254_392_668_887_6),
            (&A, &C, 4.816_272_359_309_38, 13.866_964_174_641_321, 0.000_140_707_548_607_637_4),
        ] {
            let found = test(canary, stable, Direction::Increase).unwrap();
            let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{found:?}: {b}");
            close(found.t, t);
            close(found.freedom.unwrap(), freedom);
            close(found.p, p);
            let of = |direction| test(canary, stable, direction).unwrap().p;
            assert!((of(Direction::Decrease) - (1.0 - p)).abs() < 1e-12);
            close(of(Direction::Either), 2.0 * p.min(1.0 - p));
        }
    }

    #[test]
    fn values_that_do_not_vary_differ_or_do_not() {
        let of = |direction| test(&[2.0, 2.0], &[1.0, 1.0], direction).unwrap().p;
        assert_eq!(of(Direction::Increase), 0.0);
        assert_eq!(of(Direction::Decrease), 1.0);
        assert_eq!(of(Direction::Either), 0.0);
        assert_eq!(test(&[1.0; 2], &[1.0; 3], Direction::Increase).unwrap().p, 1.0);
        assert_eq!(test(&[1.0; 2], &[1.0; 3], Direction::Either).unwrap().p, 1.0);
        assert_eq!(test(&[1.0], &[1.0, 2.0], Direction::Either), None);
        assert_eq!(test(&[1.0, f64::NAN], &[1.0, 2.0], Direction::Either), None);
    }
}
