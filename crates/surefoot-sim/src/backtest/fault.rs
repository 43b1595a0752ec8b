//! Faults put into one pod's recorded requests: what would have been seen, had it been a worse
//! version?

use rand::rngs::StdRng;
use rand_distr::{Binomial, Distribution};
use surefoot_core::words;
use surefoot_stats::Baseline;

use super::past::Slot;

/// How the pseudo-canary is worse than it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Not at all.
    None,
    /// Every failure occurs so many times: bursts stay bursts.
    Times(u64),
    /// This share in \[0, 1\] of the requests that succeeded fails, each by itself.
    More(f64),
    /// Every request takes so many times as long, above 1. Between two boundaries requests are taken
    /// to lie as in stable's whole past ([`Baseline::exceedance_at`]).
    Slower(f64),
}

/// The faults that are tried where failures are judged.
pub const FAILING: [Fault; 5] =
    [Fault::Times(2), Fault::Times(5), Fault::Times(10), Fault::More(0.01), Fault::More(0.05)];
/// Those that are tried where latencies are.
pub const SLOW: [Fault; 3] = [Fault::Slower(1.5), Fault::Slower(2.0), Fault::Slower(4.0)];

impl Fault {
    /// In a few words.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Fault::None => "as it was".to_owned(),
            Fault::Times(times) => format!("failures × {times}"),
            Fault::More(share) => format!("{} more fail", words::percent(share)),
            Fault::Slower(times) => format!("{times} times as slow"),
        }
    }

    /// Put it into a slot. `past` are stable's latencies.
    pub(crate) fn put(self, slot: &mut Slot, past: Option<&Baseline>, chance: &mut StdRng) {
        let count = &mut slot.requests;
        match self {
            Fault::None => {}
            Fault::Times(times) => {
                count.failed = count.failed.saturating_mul(times).min(count.requests);
            }
            Fault::More(share) => {
                count.failed += some(chance, count.requests - count.failed, share);
            }
            Fault::Slower(times) => {
                if let Some(past) = past {
                    slow(slot, past, times, chance);
                }
            }
        }
    }
}

/// So many of `n`, each with this chance.
fn some(chance: &mut StdRng, n: u64, share: f64) -> u64 {
    Binomial::new(n, share.clamp(0.0, 1.0)).map_or(0, |d| d.sample(chance))
}

/// Move requests up by the boundaries, bucket by bucket: of those between two boundaries
/// the ones at most x/times take at most x afterwards.
fn slow(slot: &mut Slot, past: &Baseline, times: f64, chance: &mut StdRng) {
    let boundaries = past.boundaries();
    let at_most = &mut slot.latency.at_most;
    let mut moved = vec![0; at_most.len()];
    let mut below = 0;
    for (bucket, (high, upper)) in boundaries.iter().zip(at_most.iter()).enumerate() {
        let low = bucket.checked_sub(1).and_then(|i| boundaries.get(i)).copied();
        let mut left = upper.saturating_sub(below);
        below = *upper;
        // The share of this bucket that has been moved already.
        let mut gone = 0.0;
        for (to, boundary) in moved.iter_mut().zip(boundaries).skip(bucket) {
            let reached = share_below(past, bucket, low, *high, boundary / times);
            let now = if gone < 1.0 { (reached - gone) / (1.0 - gone) } else { 1.0 };
            let stay = some(chance, left, now);
            *to += stay;
            left -= stay;
            gone = reached.max(gone);
        }
    }
    let mut sum = 0;
    for (at_most, moved) in at_most.iter_mut().zip(moved) {
        sum += moved;
        *at_most = sum;
    }
}

/// The share of a bucket's requests that take at most `x`.
fn share_below(past: &Baseline, bucket: usize, low: Option<f64>, high: f64, x: f64) -> f64 {
    if x >= high {
        return 1.0;
    }
    // Below the first boundary nothing is known of the shape: evenly.
    let Some(low) = low else { return x / high };
    if x <= low {
        return 0.0;
    }
    // None of the past was slower than the upper boundary: by its logarithm.
    let evenly = (x / low).ln() / (high / low).ln();
    let share = || {
        let from = past.exceedance(bucket.checked_sub(1)?)?;
        let to = past.exceedance(bucket)?;
        (from > to).then(|| past.exceedance_at(x).map(|at| (from - at) / (from - to)))?
    };
    share().unwrap_or(evenly).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use surefoot_core::samples::{Count, Histogram};
    use surefoot_stats::SlowArm;

    use super::*;

    fn put(fault: Fault, slot: &Slot, past: Option<&Baseline>) -> Slot {
        let mut slot = slot.clone();
        fault.put(&mut slot, past, &mut StdRng::seed_from_u64(1));
        slot
    }

    fn failures(requests: u64, failed: u64) -> Slot {
        Slot { requests: Count { requests, failed, abandoned: 0 }, latency: Histogram::default() }
    }

    #[test]
    fn failures_are_added_and_never_more_than_requests() {
        let failed = |fault, n, k| put(fault, &failures(n, k), None).requests.failed;
        assert_eq!(failed(Fault::None, 100, 3), 3);
        assert_eq!(failed(Fault::Times(5), 100, 3), 15);
        assert_eq!(failed(Fault::Times(5), 100, 30), 100);
        assert_eq!(failed(Fault::More(1.0), 100, 30), 100);
        let more = failed(Fault::More(0.01), 1_000_000, 500);
        assert!((10_000..11_000).contains(&more), "{more}");
    }

    #[test]
    fn slower_requests_cross_boundaries_as_the_past_lies() {
        let boundaries = vec![100.0, 200.0, 400.0, 800.0];
        let counts = SlowArm::new(100_000, vec![40_000, 10_000, 2_500, 625]).unwrap();
        let past = Baseline::new(boundaries, counts).unwrap();
        let at_most = vec![60_000, 90_000, 97_500, 99_375];
        let latency = Histogram { requests: 100_000, at_most };
        let slot = Slot { requests: Count { requests: 100_000, failed: 0, abandoned: 0 }, latency };
        let slower = |times| {
            let moved = put(Fault::Slower(times), &slot, Some(&past)).latency;
            assert_eq!(moved.requests, 100_000);
            moved.at_most.iter().map(|m| 100_000 - m).collect::<Vec<u64>>()
        };
        // Slower than x afterwards are those slower than x/2 before: one boundary below.
        assert_eq!(slower(2.0)[1..], [40_000, 10_000, 2_500]);
        // Between two boundaries by chance, around what stable's own past says.
        let wanted = past.exceedance_at(400.0 / 1.5).unwrap() * 1e5;
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let seen = slower(1.5)[2] as f64;
        assert!((seen - wanted).abs() < 300.0, "{seen} but {wanted} wanted");
        let without = put(Fault::Slower(2.0), &slot, None);
        assert_eq!(without, slot, "no past, no shape");
    }
}
