//! The two-sample Kolmogorov–Smirnov test: do the canary's values come from another distribution
//! than stable's, in place or in shape?
//!
//! **What it can't promise.** Not safe to look at repeatedly: the error rate of one look is at most
//! alpha, that of many looks several times that. It takes the values for independent draws. It is
//! less sensitive to shifts than ranks or means are, and wants about 30 blocks of each version; below
//! 4 of each it can't reach 5% at all. Where values are tied its p-values are too large. A p-value
//! above alpha does not say that the distributions are equal.

use super::Direction;
use crate::block::count;

/// What the test finds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ks {
    /// The largest distance of the two distribution functions, in the direction looked for, in
    /// \[0, 1\].
    pub distance: f64,
    /// How likely such a distance, or a larger one, is without a difference: exact without ties.
    pub p: f64,
}

/// Compare the values of both versions, which are to be finite. `None` where one has none.
///
/// The work is the product of the two numbers of values.
#[must_use]
pub fn test(canary: &[f64], stable: &[f64], direction: Direction) -> Option<Ks> {
    let finite = canary.iter().chain(stable).all(|v| v.is_finite());
    if canary.is_empty() || stable.is_empty() || !finite {
        return None;
    }
    let (n1, n0) = (canary.len(), stable.len());
    let moved = canary.iter().map(|v| (*v, true));
    let mut all: Vec<(f64, bool)> = moved.chain(stable.iter().map(|v| (*v, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut i, mut j, mut distance) = (0, 0, 0.0_f64);
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let own = tied.iter().filter(|(_, of_canary)| *of_canary).count();
        i += own;
        j += tied.len() - own;
        distance = distance.max(apart(i, n1, j, n0, direction));
    }
    Some(Ks { distance, p: (1.0 - below(distance, n1, n0, direction)).clamp(0.0, 1.0) })
}

/// The distance after `i` values of the canary and `j` of stable: where the canary's values are the
/// higher ones, its distribution function lags behind.
fn apart(i: usize, n1: usize, j: usize, n0: usize, direction: Direction) -> f64 {
    let part = |i: usize, n: usize| count(i as u64) / count(n as u64);
    let lag = part(j, n0) - part(i, n1);
    match direction {
        Direction::Increase => lag,
        Direction::Decrease => -lag,
        Direction::Either => lag.abs(),
    }
}

/// The chance of staying below the distance when all orders of the values are equally likely: the
/// last of i + j values is the canary's with chance i/(i+j), and every prefix must stay below.
fn below(distance: f64, n1: usize, n0: usize, direction: Direction) -> f64 {
    // Distances are multiples of 1/(n1 n0); half of that tells equal ones from rounding.
    let limit = distance - 0.5 / (count(n1 as u64) * count(n0 as u64));
    let mut row = vec![0.0; n0 + 1];
    for i in 0..=n1 {
        for j in 0..=n0 {
            let inside = apart(i, n1, j, n0, direction) < limit;
            let chance = if i + j == 0 {
                1.0
            } else {
                let (i, j_) = (count(i as u64), count(j as u64));
                let left = if j == 0 { 0.0 } else { row[j - 1] };
                (i * row[j] + j_ * left) / (i + j_)
            };
            row[j] = if inside { chance } else { 0.0 };
        }
    }
    row[n0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::samples::{A, B, C};

    /// `scipy.stats.ks_2samp(canary, stable, alternative=…, method="exact")`, SciPy 1.17.1: statistic
    /// and p-value of "less" (the canary's function lies below: higher values), "greater" and
    /// "two-sided".
    #[test]
    fn it_finds_what_scipy_finds() {
        for (canary, stable, less, greater, both) in [
            (
                &A[..],
                &B[..],
                (0.625, 0.046_287_046_287_046_29),
                (0.0, 1.0),
                (0.625, 0.092_574_092_574_092_58),
            ),
            (
                &C,
                &B,
                (0.125, 0.852_480_852_480_852_5),
                (0.75, 0.011_322_011_322_011_322),
                (0.75, 0.022_644_022_644_022_637),
            ),
            (
                &A,
                &C,
                (0.875, 0.001_243_201_243_201_243),
                (0.0, 1.0),
                (0.875, 0.002_486_402_486_402_486),
            ),
            (
                &[1.0, 2.0, 3.0],
                &[4.0, 5.0, 6.0, 7.0],
                (0.0, 1.0),
                (1.0, 0.028_571_428_571_428_57),
                (1.0, 0.057_142_857_142_857_15),
            ),
        ] {
            let directions = [Direction::Increase, Direction::Decrease, Direction::Either];
            for (direction, (distance, p)) in directions.into_iter().zip([less, greater, both]) {
                let found = test(canary, stable, direction).unwrap();
                assert!((found.distance - distance).abs() < 1e-12, "{direction:?}: {found:?}");
                assert!((found.p / p - 1.0).abs() < 1e-9, "{direction:?}: {found:?}, {p}");
            }
        }
    }

    #[test]
    fn equal_samples_do_not_differ_and_none_can_not_be_compared() {
        assert_eq!(test(&A, &A, Direction::Either), Some(Ks { distance: 0.0, p: 1.0 }));
        assert_eq!(test(&[], &A, Direction::Either), None);
        assert_eq!(test(&[f64::NAN], &A, Direction::Either), None);
    }
}
