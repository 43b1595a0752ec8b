//! φ: how many times more counts vary between pods than those of independent requests would.
//!
//! Pearson's statistic over its degrees of freedom. In a window j with k_j bad requests pod p has
//! the share s_jp of the requests; were every request bad by itself, k_jp would vary by
//! s_jp(1 − s_jp)k_j around s_jp·k_j. Drifts that all pods share cancel, as they do in the tests.
//! Bursts have lengths of their own, so that the largest of several windows counts.

use crate::block::count;
use crate::history::{History, SLOT_SECONDS};

/// Lengths of window, in seconds.
pub const WINDOWS: [usize; 5] = [10, 30, 60, 120, 300];
/// With fewer bad requests than this a history says too little of how they come.
pub const FEWEST_BAD: u64 = 50;

/// φ ≥ 1 of a history: max(1, max over [`WINDOWS`] of
/// Σ_jp (k_jp − s_jp·k_j)² / Σ_jp s_jp(1 − s_jp)k_j).
///
/// `None` when there are fewer than [`FEWEST_BAD`] bad requests, or never two pods at once.
#[must_use]
pub fn phi(history: &History) -> Option<f64> {
    if history.total().k() < FEWEST_BAD {
        return None;
    }
    let each = WINDOWS.iter().filter_map(|seconds| in_windows(history, *seconds));
    each.reduce(f64::max).map(|largest| largest.max(1.0))
}

/// The ratio in windows of so many seconds, a multiple of a slot's: below 1 where bad requests come
/// more evenly than by chance. `None` where nothing was bad, or never two pods at once.
#[must_use]
pub fn in_windows(history: &History, seconds: usize) -> Option<f64> {
    ratio(history, seconds / SLOT_SECONDS)
}

fn ratio(history: &History, slots: usize) -> Option<f64> {
    let (mut seen, mut expected) = (0.0, 0.0);
    for window in history.windows(slots) {
        let total = window.total();
        let (n, k) = (count(total.n()), count(total.k()));
        if k == 0.0 {
            continue;
        }
        for pod in (0..history.pods()).map(|pod| window.pod(pod)) {
            let share = count(pod.n()) / n;
            seen += (count(pod.k()) - share * k).powi(2);
            expected += share * (1.0 - share) * k;
        }
    }
    (expected > 0.0).then(|| seen / expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Arm;

    fn arm(n: u64, k: u64) -> Arm {
        Arm::new(n, k).unwrap()
    }

    fn history(slots: usize, counts: impl Fn(usize, usize) -> Arm) -> History {
        let slots: Vec<_> =
            (0..slots).map(|slot| (0..4).map(|pod| counts(slot, pod)).collect()).collect();
        History::new(&slots).unwrap()
    }

    #[test]
    fn a_failure_at_a_time_is_one() {
        // One failure a slot, of each pod in turn: (1 − s)² + 3s² = 3/4 = 4·s(1 − s).
        let single = history(120, |slot, pod| arm(100, u64::from(slot % 4 == pod)));
        assert!((ratio(&single, 1).unwrap() - 1.0).abs() < 1e-12);
        // In longer windows they come more evenly than by chance: never below 1.
        assert!(ratio(&single, 12).unwrap() < 0.1);
        assert!((phi(&single).unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bursts_of_one_pod_are_as_many_times_more() {
        let bursts = history(120, |slot, pod| arm(100, 7 * u64::from(slot % 4 == pod)));
        assert!((phi(&bursts).unwrap() - 7.0).abs() < 1e-12);
    }

    #[test]
    fn the_window_that_a_burst_fills_counts() {
        // A pod that fails for a minute, one failure a slot, then the next pod.
        let slow = history(120, |slot, pod| arm(100, u64::from(slot / 6 % 4 == pod)));
        assert!((ratio(&slow, 1).unwrap() - 1.0).abs() < 1e-12);
        assert!((phi(&slow).unwrap() - 6.0).abs() < 1e-12);
        assert_eq!(in_windows(&slow, 60), phi(&slow));
    }

    #[test]
    fn what_all_pods_share_is_no_dispersion() {
        let drift = history(120, |slot, _| arm(100, if slot < 60 { 1 } else { 20 }));
        assert_eq!(phi(&drift), Some(1.0));
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(phi(&history(12, |slot, pod| arm(100, u64::from(slot % 4 == pod)))), None);
        let alone = history(120, |_, pod| if pod == 0 { arm(100, 9) } else { arm(0, 0) });
        assert_eq!(phi(&alone), None);
    }
}
