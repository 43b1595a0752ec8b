//! Percentiles out of histogram buckets, as Prometheus' `histogram_quantile` estimates them: the
//! other tools judge those. (The sequential tests count requests beyond boundaries instead and
//! interpolate nothing.)

use crate::block::count;
use crate::latency::SlowArm;

/// The latency in milliseconds below which the share `q` in (0, 1) of requests lies, taken to be
/// spread evenly within each bucket. Beyond the last of the `boundaries` (milliseconds, rising) it
/// is that boundary, as in Prometheus. `None` without requests, boundaries, or with others than
/// those of the counts.
#[must_use]
pub fn of(arm: &SlowArm, boundaries: &[f64], q: f64) -> Option<f64> {
    if arm.n() == 0 || boundaries.is_empty() || boundaries.len() != arm.slower().len() {
        return None;
    }
    let n = count(arm.n());
    let rank = q * n;
    let (mut low, mut before) = (0.0, 0.0);
    for (high, slower) in boundaries.iter().zip(arm.slower()) {
        let at_most = n - count(*slower);
        if at_most >= rank && at_most > before {
            return Some(low + (high - low) * (rank - before) / (at_most - before));
        }
        (low, before) = (*high, at_most);
    }
    boundaries.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spread_evenly_within_a_bucket() {
        let boundaries = [100.0, 200.0, 500.0];
        // 50 up to 100 ms, 40 up to 200, 5 up to 500, 5 beyond.
        let arm = SlowArm::new(100, vec![50, 10, 5]).unwrap();
        assert_eq!(of(&arm, &boundaries, 0.5), Some(100.0));
        assert_eq!(of(&arm, &boundaries, 0.7), Some(150.0));
        assert_eq!(of(&arm, &boundaries, 0.99), Some(500.0), "more isn't known");
        assert_eq!(of(&SlowArm::empty(3), &boundaries, 0.5), None);
        assert_eq!(of(&arm, &[], 0.5), None);
        assert_eq!(of(&arm, &boundaries[..2], 0.5), None);
    }
}
