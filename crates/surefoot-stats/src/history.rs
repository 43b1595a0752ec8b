//! Stable's past, pod by pod: what calibration reads.

use crate::block::{Arm, Block};

/// Length of a slot of history.
pub const SLOT_SECONDS: usize = 10;

/// Counts of each stable pod in slots of ten seconds without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pods: usize,
    /// Slot after slot, in each all pods in the same order.
    counts: Vec<Arm>,
}

/// History that nothing can be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// One pod has nobody to be compared with.
    #[error("history of {0} pods; at least 2 are needed to compare them")]
    Pods(usize),
    /// A slot with other pods.
    #[error(
        "slot {slot} has {have} pods, the first one {want}; write pods that had no requests as 0"
    )]
    Uneven {
        /// The slot.
        slot: usize,
        /// How many pods the first slot has.
        want: usize,
        /// How many this one has.
        have: usize,
    },
    /// More requests than can be counted.
    #[error("the counts overflow")]
    Overflow,
}

impl History {
    /// Slots in order of time, in each every pod in the same order; a pod that was not there has 0
    /// requests.
    ///
    /// # Errors
    /// With fewer than two pods, slots of different lengths, or sums that overflow.
    pub fn new(slots: &[Vec<Arm>]) -> Result<Self, HistoryError> {
        let pods = slots.first().map_or(0, Vec::len);
        if pods < 2 {
            return Err(HistoryError::Pods(pods));
        }
        if let Some(slot) = slots.iter().position(|s| s.len() != pods) {
            let have = slots.get(slot).map_or(0, Vec::len);
            return Err(HistoryError::Uneven { slot, want: pods, have });
        }
        let counts: Vec<Arm> = slots.iter().flatten().copied().collect();
        // Every later sum is of some of these.
        sum(counts.iter()).ok_or(HistoryError::Overflow)?;
        Ok(Self { pods, counts })
    }

    /// How many pods.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.pods
    }

    /// How many slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.counts.len() / self.pods
    }

    /// All requests.
    #[must_use]
    pub fn total(&self) -> Arm {
        sum(self.counts.iter()).unwrap_or_default()
    }

    /// Disjoint windows of so many slots; what is left at the end is dropped.
    pub(crate) fn windows(&self, slots: usize) -> impl Iterator<Item = Slice<'_>> {
        let pods = self.pods;
        self.counts.chunks_exact(pods * slots.max(1)).map(move |counts| Slice { pods, counts })
    }
}

/// Part of a history.
#[derive(Clone, Copy)]
pub(crate) struct Slice<'a> {
    pods: usize,
    counts: &'a [Arm],
}

impl<'a> Slice<'a> {
    /// One pod's requests.
    pub(crate) fn pod(self, pod: usize) -> Arm {
        sum(self.counts.iter().skip(pod).step_by(self.pods)).unwrap_or_default()
    }

    /// All pods' requests.
    pub(crate) fn total(self) -> Arm {
        sum(self.counts.iter()).unwrap_or_default()
    }

    /// One pod as if it was the canary, beside the others.
    pub(crate) fn as_canary(self, pod: usize) -> Block {
        let others = self.counts.iter().enumerate().filter(|(i, _)| i % self.pods != pod);
        Block::new(self.pod(pod), sum(others.map(|(_, arm)| arm)).unwrap_or_default())
    }

    pub(crate) fn windows(self, slots: usize) -> impl Iterator<Item = Slice<'a>> {
        let pods = self.pods;
        self.counts.chunks_exact(pods * slots.max(1)).map(move |counts| Slice { pods, counts })
    }
}

fn sum<'a>(mut arms: impl Iterator<Item = &'a Arm>) -> Option<Arm> {
    arms.try_fold(Arm::default(), |sum, arm| sum.checked_add(*arm))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(n: u64, k: u64) -> Arm {
        Arm::new(n, k).unwrap()
    }

    #[test]
    fn history_that_tells_nothing_is_refused() {
        assert_eq!(History::new(&[]), Err(HistoryError::Pods(0)));
        assert_eq!(History::new(&[vec![arm(1, 0)]]), Err(HistoryError::Pods(1)));
        let uneven = [vec![arm(1, 0); 2], vec![arm(1, 0); 3]];
        assert_eq!(History::new(&uneven), Err(HistoryError::Uneven { slot: 1, want: 2, have: 3 }));
        let huge = [vec![arm(u64::MAX, 0), arm(1, 0)]];
        assert_eq!(History::new(&huge), Err(HistoryError::Overflow));
    }

    #[test]
    fn windows_add_up_pod_by_pod() {
        let slots: Vec<_> = (0..7).map(|i| vec![arm(10 + i, i), arm(20, 1), arm(30, 0)]).collect();
        let history = History::new(&slots).unwrap();
        assert_eq!((history.pods(), history.slots()), (3, 7));
        assert_eq!(history.total(), arm(7 * 60 + 21, 21 + 7));
        let windows: Vec<_> = history.windows(3).collect();
        assert_eq!(windows.len(), 2);
        assert_eq!(windows[0].pod(0), arm(33, 3));
        assert_eq!(windows[1].total(), arm(3 * 60 + 12, 12 + 3));
        assert_eq!(windows[0].as_canary(1), Block::new(arm(60, 3), arm(33 + 90, 3)));
        assert_eq!(windows[0].windows(1).count(), 3);
    }
}
