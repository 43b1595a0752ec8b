//! How many times more counts vary than those of independent requests: φ, from stable's past.
//!
//! Retries, bursts of a pod and clients that retry make failures come together. What that does to
//! the comparison of two versions is seen where nothing differs: among the pods of one. Given that
//! k failures happened in a window, a pod with the share s of the requests has k·s of them, and
//! independent ones vary by k·s(1−s). φ is how many times more they do, over windows of ten seconds
//! to five minutes, the largest; at least 1.

use crate::block::{Arm, count};

/// Windows, in multiples of the history's own interval, for intervals of ten seconds: 10, 30, 60, 120
/// and 300 s.
pub const WINDOWS: [usize; 5] = [1, 3, 6, 12, 30];

/// Fewer failures than this in all of the history tell nothing of how they vary.
pub const LEAST_FAILURES: u64 = 50;

/// What the history shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispersion {
    /// The largest over all windows, at least 1.
    pub phi: f64,
    /// That of each window, in the order of [`WINDOWS`]; `None` where no window had failures of
    /// several pods' requests.
    pub by_window: [Option<f64>; WINDOWS.len()],
    /// Failures in all.
    pub failures: u64,
}

/// Estimate it from counts of each pod, interval by interval. Pods that have fewer intervals than
/// others had no requests in the rest. `None` with fewer than two pods or [`LEAST_FAILURES`]
/// failures, or when counts overflow.
#[must_use]
pub fn estimate(pods: &[Vec<Arm>]) -> Option<Dispersion> {
    let failures = pods.iter().flatten().try_fold(0_u64, |sum, arm| sum.checked_add(arm.k()))?;
    if pods.len() < 2 || failures < LEAST_FAILURES {
        return None;
    }
    let intervals = pods.iter().map(Vec::len).max().unwrap_or(0);
    let by_window = WINDOWS.map(|window| {
        let (mut squares, mut expected) = (0.0, 0.0);
        for start in (0..intervals).step_by(window) {
            let sums =
                pods.iter().map(|pod| sum(pod, start, window)).collect::<Option<Vec<_>>>()?;
            let (n, k) = sums
                .iter()
                .fold((0.0, 0.0), |(n, k), arm| (n + count(arm.n()), k + count(arm.k())));
            if n == 0.0 || k == 0.0 {
                continue;
            }
            for arm in sums {
                let share = count(arm.n()) / n;
                squares += (count(arm.k()) - share * k).powi(2);
                expected += share * (1.0 - share) * k;
            }
        }
        (expected > 0.0).then(|| squares / expected)
    });
    let phi = by_window.iter().flatten().copied().fold(1.0, f64::max);
    phi.is_finite().then_some(Dispersion { phi, by_window, failures })
}

fn sum(pod: &[Arm], start: usize, window: usize) -> Option<Arm> {
    let part = pod.get(start..pod.len().min(start + window)).unwrap_or_default();
    part.iter().try_fold(Arm::default(), |sum, arm| sum.checked_add(*arm))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(n: u64, k: u64) -> Arm {
        Arm::new(n, k).unwrap()
    }

    #[test]
    fn by_hand() {
        // One window: 30 failures on each of two pods with like traffic, then all on one.
        let even = estimate(&[vec![arm(100, 30)], vec![arm(100, 30)]]).unwrap();
        assert_eq!((even.phi, even.by_window[0], even.failures), (1.0, Some(0.0), 60));
        let odd = estimate(&[vec![arm(100, 60)], vec![arm(100, 0)]]).unwrap();
        // (60−30)² + (0−30)² over 2·½·½·60.
        assert_eq!(odd.by_window[0], Some(1800.0 / 30.0));
        assert_eq!(odd.phi, 60.0);
    }

    #[test]
    fn what_hangs_together_for_minutes_shows_in_long_windows_only() {
        // Failures alternate in blocks of six intervals between two pods.
        let pod = |offset: usize| {
            (0..60).map(|i| arm(100, u64::from((i / 6 + offset).is_multiple_of(2)))).collect()
        };
        let found = estimate(&[pod(0), pod(1)]).unwrap();
        let at = |window: usize| found.by_window[window].unwrap();
        assert!((at(0) - 1.0).abs() < 1e-12 && (at(2) - 6.0).abs() < 1e-12, "{found:?}");
        assert!((found.phi - 6.0).abs() < 1e-12);
    }

    #[test]
    fn too_little_tells_nothing() {
        assert_eq!(estimate(&[vec![arm(100, 60)]]), None);
        assert_eq!(estimate(&[vec![arm(100, 20)], vec![arm(100, 20)]]), None);
        assert_eq!(estimate(&[]), None);
        let odd = estimate(&[vec![arm(100, 60)], vec![]]).unwrap();
        assert_eq!(odd.phi, 1.0, "a pod without requests says nothing of a share");
    }
}
