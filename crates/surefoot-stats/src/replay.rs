//! A/A replay: the window votes on stable's past, with every pod as the canary for once. Nothing
//! was wrong with any of them, so that what the votes then claim shows by how much they must be
//! trusted less: the exponent η.

use crate::block::Arm;
use crate::grid::{add, log_mean};
use crate::history::{History, SLOT_SECONDS};
use crate::vote::{self, WINDOW_MILLIS};

/// Slots in a window.
const SLOTS: usize = (WINDOW_MILLIS / 1000) as usize / SLOT_SECONDS;
/// With fewer pseudo-canaries than this their largest claim says too little.
pub const FEWEST_RUNS: usize = 10;

/// The largest ln E of the votes against p1 ≤ `r0`·p0, looked at after every window, of each
/// pseudo-canary: every pod in every stretch of `windows` minutes, about a release's length.
///
/// As in a release, no vote is taken where stable's rate before it says that none may be
/// ([`vote::applies`]).
#[must_use]
pub fn largest<const N: usize>(
    history: &History,
    r0: f64,
    grid: &[f64; N],
    windows: usize,
) -> Vec<f64> {
    let stretches = history.windows(SLOTS * windows.max(1));
    let runs = stretches.flat_map(|stretch| (0..history.pods()).map(move |pod| (stretch, pod)));
    let run = runs.map(|(stretch, pod)| {
        let (mut logs, mut past, mut top) = ([0.0; N], Arm::default(), 0_f64);
        for window in stretch.windows(SLOTS).map(|window| window.as_canary(pod)) {
            if vote::applies(r0, crate::absolute::predicted(past)) {
                add(&mut logs, &vote::harm(&window, r0, grid));
            }
            past = past.checked_add(window.stable).unwrap_or(past);
            top = top.max(log_mean(&logs));
        }
        top
    });
    run.collect()
}

/// The exponent η in (0, 1]: the largest with which at most a share `alpha` of the pseudo-canaries
/// reaches E^η ≥ 1/α at some look, from each one's largest ln E.
///
/// `None` with fewer than [`FEWEST_RUNS`].
#[must_use]
pub fn eta(largest: &[f64], alpha: f64) -> Option<f64> {
    if largest.len() < FEWEST_RUNS {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most the length"
    )]
    let allowed = (alpha * crate::block::count(largest.len() as u64)) as usize;
    let mut falling = largest.to_vec();
    falling.sort_by(|a, b| b.total_cmp(a));
    let top = falling.get(allowed).copied().unwrap_or(0.0);
    // A little less than what would just reach it.
    let just = -alpha.ln() / top * (1.0 - 1e-9);
    Some(if top > 0.0 { just.min(1.0) } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::HARM;

    fn arm(n: u64, k: u64) -> Arm {
        Arm::new(n, k).unwrap()
    }

    #[test]
    fn pods_that_are_alike_are_trusted_in_full() {
        let slots: Vec<_> = (0..360)
            .map(|slot| (0..5).map(|pod| arm(100, u64::from(slot % 5 == pod))).collect())
            .collect();
        let top = largest(&History::new(&slots).unwrap(), 1.0, &HARM, 60);
        assert_eq!(top.len(), 5);
        assert_eq!(eta(&[top, vec![0.0; 5]].concat(), 0.01), Some(1.0));
    }

    #[test]
    fn a_pod_that_is_merely_worse_takes_trust_away() {
        let slots: Vec<_> = (0..360)
            .map(|_| (0..10).map(|pod| arm(100, if pod == 3 { 4 } else { 1 })).collect())
            .collect();
        let top = largest(&History::new(&slots).unwrap(), 1.0, &HARM, 60);
        let threshold = 100f64.ln();
        assert_eq!(top.iter().filter(|t| **t >= threshold).count(), 1);
        let eta = eta(&top, 0.01).unwrap();
        assert!(eta < 0.7 && top.iter().all(|t| eta * t < threshold), "{eta}");
    }

    #[test]
    fn as_many_may_exceed_as_alpha_allows() {
        let mut tops = vec![1.0; 98];
        tops.extend([50.0, 100.0]);
        assert_eq!(eta(&tops, 0.02), Some(1.0));
        let one = eta(&tops, 0.01).unwrap();
        assert!((one * 50.0 / 100f64.ln() - 1.0).abs() < 1e-6 && one * 50.0 < 100f64.ln());
        assert_eq!(eta(&tops[..9], 0.01), None);
    }

    #[test]
    fn the_stretches_are_a_release_long() {
        let slots = vec![vec![arm(100, 1); 2]; 6 * 25];
        let history = History::new(&slots).unwrap();
        assert_eq!(largest(&history, 1.0, &HARM, 10).len(), 2 * 2);
    }

    #[test]
    fn a_ratio_is_not_voted_on_where_failures_are_common() {
        let slots = vec![vec![arm(100, 60), arm(100, 10), arm(100, 10)]; 60];
        let history = History::new(&slots).unwrap();
        assert_eq!(largest(&history, 1.5, &HARM, 10), [0.0; 3]);
        assert!(largest(&history, 1.0, &HARM, 10)[0] > 1.0);
    }
}
