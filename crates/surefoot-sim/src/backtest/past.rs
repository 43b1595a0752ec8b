//! Stable's past, pod by pod, as a backtest replays it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use surefoot_core::samples::{BaselineSample, Count, Histogram, Latencies, PodHistory, Tick};
use surefoot_stats::history::SLOT_SECONDS;
use surefoot_stats::{Arm, Baseline, SlowArm};

/// Length of a slot.
pub const SLOT: Duration = Duration::from_secs(SLOT_SECONDS as u64);

/// Requests of one pod, or of all, in one slot or more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slot {
    /// Requests and failures.
    pub requests: Count,
    /// Latencies at the past's boundaries.
    pub latency: Histogram,
}

impl Slot {
    fn empty(boundaries: usize) -> Self {
        let latency = Histogram { requests: 0, at_most: vec![0; boundaries] };
        Self { requests: Count::default(), latency }
    }

    fn add(&mut self, requests: Count, latency: Option<&Histogram>) {
        self.requests.requests += requests.requests;
        self.requests.failed += requests.failed;
        self.requests.abandoned += requests.abandoned;
        let Some(latency) = latency else { return };
        self.latency.requests += latency.requests;
        for (sum, more) in self.latency.at_most.iter_mut().zip(&latency.at_most) {
            *sum += more;
        }
    }

    /// What is left without a pod's part of it.
    fn without(mut self, requests: Count, latency: Option<&Histogram>) -> Self {
        self.requests.requests -= requests.requests;
        self.requests.failed -= requests.failed;
        self.requests.abandoned -= requests.abandoned;
        if let Some(latency) = latency {
            self.latency.requests -= latency.requests;
            for (sum, less) in self.latency.at_most.iter_mut().zip(&latency.at_most) {
                *sum -= less;
            }
        }
        self
    }
}

/// Requests slower than each boundary; `None` where the buckets don't rise.
fn slow(histogram: &Histogram) -> Option<SlowArm> {
    let n = histogram.requests;
    let slower = histogram.at_most.iter().map(|at_most| n.checked_sub(*at_most));
    SlowArm::new(n, slower.collect::<Option<_>>()?).ok()
}

/// What can't be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PastError {
    /// Nobody to compare with.
    #[error("{0} pods with requests: each is compared with the others, so at least 2 are needed")]
    Pods(usize),
    /// A slot of other pods or boundaries.
    #[error("slot {0} holds other pods or boundaries than the first")]
    Uneven(usize),
    /// Counts that can't be.
    #[error("slot {0} holds more failures, or more fast requests, than requests")]
    Counts(usize),
    /// More requests than can be added.
    #[error("the counts overflow")]
    Overflow,
}

/// Counts of each stable pod in slots of ten seconds. Pods that never had a request are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    history: PodHistory,
    /// All pods' sum of each slot.
    sums: Vec<Slot>,
}

impl Past {
    /// Of a history as Prometheus tells it.
    ///
    /// # Errors
    /// With fewer than two pods that had requests, or with counts that can't be.
    pub fn new(mut history: PodHistory) -> Result<Self, PastError> {
        let pods = history.requests.first().map_or(0, Vec::len);
        let boundaries = history.boundaries.len();
        if boundaries == 0 {
            history.latency.clear();
        }
        // A piece in which nothing had a latency knows of no boundaries.
        let none = |h: &Histogram| h.requests == 0 && h.at_most.is_empty();
        for histogram in history.latency.iter_mut().flatten().filter(|h| none(h)) {
            histogram.at_most = vec![0; boundaries];
        }
        let slots = history.requests.len();
        let fits = |slot: &Vec<Histogram>| {
            slot.len() == pods && slot.iter().all(|h| h.at_most.len() == boundaries)
        };
        let uneven = history.requests.iter().position(|slot| slot.len() != pods);
        let uneven = uneven.or_else(|| history.latency.iter().position(|slot| !fits(slot)));
        if let Some(slot) = uneven {
            return Err(PastError::Uneven(slot));
        }
        if boundaries > 0 && history.latency.len() != slots {
            return Err(PastError::Uneven(history.latency.len().min(slots)));
        }
        let bad =
            history.requests.iter().position(|slot| slot.iter().any(|c| c.answered().is_none()));
        let slower = |slot: &Vec<Histogram>| slot.iter().any(|h| slow(h).is_none());
        if let Some(slot) = bad.or_else(|| history.latency.iter().position(slower)) {
            return Err(PastError::Counts(slot));
        }
        // Every later sum is of some of these.
        let counts = history.requests.iter().flatten().flat_map(|c| [c.requests, c.abandoned]);
        let mut all = counts.chain(history.latency.iter().flatten().map(|h| h.requests));
        all.try_fold(0_u64, u64::checked_add).ok_or(PastError::Overflow)?;
        let seen = |pod: &usize| history.requests.iter().any(|slot| slot[*pod].requests > 0);
        let seen: Vec<usize> = (0..pods).filter(seen).collect();
        if seen.len() < 2 {
            return Err(PastError::Pods(seen.len()));
        }
        let history = only(&history, 0..slots, &seen);
        let sums = (0..slots).map(|slot| {
            let mut sum = Slot::empty(boundaries);
            for pod in 0..seen.len() {
                let (requests, latency) = of(&history, slot, pod);
                sum.add(requests, latency);
            }
            sum
        });
        Ok(Self { sums: sums.collect(), history })
    }

    /// When it begins.
    #[must_use]
    pub fn from(&self) -> Timestamp {
        self.history.from
    }

    /// When it ends.
    #[must_use]
    pub fn to(&self) -> Timestamp {
        self.at(self.slots())
    }

    /// How many pods.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.history.requests.first().map_or(0, Vec::len)
    }

    /// How many slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.sums.len()
    }

    /// Slots in which nobody had a request.
    #[must_use]
    pub fn silent(&self) -> usize {
        self.sums.iter().filter(|sum| sum.requests.requests == 0).count()
    }

    /// Boundaries of the latencies, milliseconds; none where there are no latencies.
    #[must_use]
    pub fn boundaries(&self) -> &[f64] {
        &self.history.boundaries
    }

    /// The sum over all pods and slots.
    #[must_use]
    pub fn total(&self) -> Slot {
        self.sum(0..self.slots())
    }

    /// Stable's latencies over all of it; `None` where there are none.
    #[must_use]
    pub fn baseline(&self) -> Option<Baseline> {
        let slow = slow(&self.total().latency).filter(|slow| slow.n() > 0)?;
        Baseline::new(self.boundaries().to_vec(), slow).ok()
    }

    /// Slot after slot every pod's requests, those that failed as the bad ones.
    #[must_use]
    pub fn failures(&self) -> Vec<Vec<Arm>> {
        let slots = self.history.requests.iter();
        let answered = |count: &Count| count.answered().unwrap_or_default();
        slots.map(|slot| slot.iter().map(answered).collect()).collect()
    }

    /// The same of all, those that were abandoned as the bad ones.
    #[must_use]
    pub fn abandoned(&self) -> Vec<Vec<Arm>> {
        let slots = self.history.requests.iter();
        let sent = |count: &Count| count.sent().unwrap_or_default();
        slots.map(|slot| slot.iter().map(sent).collect()).collect()
    }

    /// The same, those slower than a boundary as the bad ones.
    #[must_use]
    pub fn slower(&self, boundary: usize) -> Vec<Vec<Arm>> {
        let at = |h: &Histogram| slow(h).and_then(|s| s.at(boundary)).unwrap_or_default();
        self.history.latency.iter().map(|slot| slot.iter().map(at).collect()).collect()
    }

    /// One pod's slot; `None` past the end.
    pub(crate) fn slot(&self, slot: usize, pod: usize) -> Option<Slot> {
        if slot >= self.slots() {
            return None;
        }
        let (requests, latency) = of(&self.history, slot, pod);
        let latency = latency.cloned().unwrap_or_default();
        Some(Slot { requests, latency })
    }

    /// What a release that begins at `slot` would know of the other pods: the sum of the last `sum`
    /// slots, and of the last `each` slots pod by pod. `None` where they had no requests.
    pub(crate) fn before(
        &self,
        slot: usize,
        (sum, each): (usize, usize),
        pod: usize,
    ) -> Option<BaselineSample> {
        let slots = slot.saturating_sub(sum)..slot;
        let over = SLOT * u32::try_from(slots.len()).ok()?;
        let mut known = self.sum(slots.clone());
        for slot in slots {
            let (requests, latency) = of(&self.history, slot, pod);
            known = known.without(requests, latency);
        }
        let others: Vec<usize> = (0..self.pods()).filter(|other| *other != pod).collect();
        let mut pods = only(&self.history, slot.saturating_sub(each)..slot, &others);
        pods.from = self.at(slot.saturating_sub(each));
        (known.requests.requests > 0).then(|| BaselineSample {
            over,
            requests: known.requests,
            boundaries: self.boundaries().to_vec(),
            latency: known.latency,
            pods: Ok(pods),
        })
    }

    /// One slot as a tick with `canary` for the canary and all pods but `pod` for stable; `None` past
    /// the end.
    pub(crate) fn tick(&self, slot: usize, pod: usize, canary: Slot) -> Option<Tick> {
        let (requests, latency) = of(&self.history, slot, pod);
        let stable = self.sums.get(slot)?.clone().without(requests, latency);
        let latency = (!self.boundaries().is_empty()).then(|| Latencies {
            boundaries: self.boundaries().to_vec(),
            canary: canary.latency,
            stable: stable.latency,
        });
        Some(Tick {
            from: self.at(slot),
            to: self.at(slot + 1),
            canary: canary.requests,
            stable: stable.requests,
            latency,
            reached: None,
            partial: None,
        })
    }

    /// One past up to a slot, and another from there on.
    #[cfg(test)]
    pub(crate) fn spliced(first: &Self, then: &Self, at: usize) -> Self {
        let mut history = first.history.clone();
        history.requests[at..].clone_from_slice(&then.history.requests[at..]);
        history.latency[at..].clone_from_slice(&then.history.latency[at..]);
        Self::new(history).unwrap()
    }

    fn at(&self, slot: usize) -> Timestamp {
        let seconds = i64::try_from(slot * SLOT_SECONDS).unwrap_or(i64::MAX);
        let at = self.history.from.checked_add(SignedDuration::from_secs(seconds));
        at.unwrap_or(Timestamp::MAX)
    }

    fn sum(&self, slots: std::ops::Range<usize>) -> Slot {
        let mut sum = Slot::empty(self.boundaries().len());
        for slot in self.sums.get(slots).unwrap_or_default() {
            sum.add(slot.requests, Some(&slot.latency));
        }
        sum
    }
}

/// One pod's counts in one slot; nothing where there is no such slot.
fn of(history: &PodHistory, slot: usize, pod: usize) -> (Count, Option<&Histogram>) {
    let requests = history.requests.get(slot).and_then(|slot| slot.get(pod));
    let latency = history.latency.get(slot).and_then(|slot| slot.get(pod));
    (requests.copied().unwrap_or_default(), latency)
}

/// Some slots of some pods; the time of the first slot is left as it is.
fn only(history: &PodHistory, slots: std::ops::Range<usize>, pods: &[usize]) -> PodHistory {
    fn some<T: Clone>(
        all: &[Vec<T>],
        slots: std::ops::Range<usize>,
        pods: &[usize],
    ) -> Vec<Vec<T>> {
        let slots = all.get(slots).unwrap_or_default().iter();
        slots.map(|slot| pods.iter().filter_map(|pod| slot.get(*pod).cloned()).collect()).collect()
    }
    PodHistory {
        from: history.from,
        requests: some(&history.requests, slots.clone(), pods),
        boundaries: history.boundaries.clone(),
        latency: some(&history.latency, slots, pods),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pod = (u64, u64, &'static [u64]);

    /// Slots of pods, each with requests, failures and requests at most at each boundary.
    fn past(boundaries: &[f64], slots: &[&[Pod]]) -> Result<Past, PastError> {
        let requests = |pod: &Pod| Count { requests: pod.0, failed: pod.1, abandoned: 0 };
        let latency = |pod: &Pod| Histogram { requests: pod.0, at_most: pod.2.to_vec() };
        Past::new(PodHistory {
            from: Timestamp::UNIX_EPOCH,
            requests: slots.iter().map(|s| s.iter().map(requests).collect()).collect(),
            boundaries: boundaries.to_vec(),
            latency: slots.iter().map(|s| s.iter().map(latency).collect()).collect(),
        })
    }

    #[test]
    fn what_cannot_be_replayed_is_refused() {
        let one = |slots: &[&[Pod]]| past(&[100.0], slots);
        const GOOD: Pod = (10, 1, &[9]);
        const IDLE: Pod = (0, 0, &[0]);
        assert_eq!(one(&[]), Err(PastError::Pods(0)));
        assert_eq!(one(&[&[GOOD, IDLE]]), Err(PastError::Pods(1)), "one never had a request");
        assert_eq!(one(&[&[GOOD, GOOD], &[GOOD]]), Err(PastError::Uneven(1)));
        assert_eq!(one(&[&[GOOD, GOOD], &[GOOD, (9, 0, &[8, 9])]]), Err(PastError::Uneven(1)));
        for bad in [(10, 11, [9].as_slice()), (10, 0, &[11])] {
            assert_eq!(one(&[&[GOOD, bad]]), Err(PastError::Counts(0)));
        }
        let huge = (u64::MAX / 2, 0, [0].as_slice());
        assert_eq!(one(&[&[huge, GOOD], &[huge, GOOD]]), Err(PastError::Overflow));
    }

    #[test]
    fn one_pod_stands_against_all_others() {
        let slots: [&[Pod]; 3] = [
            &[(10, 1, &[9]), (0, 0, &[0]), (20, 2, &[15]), (30, 3, &[20])],
            &[(0, 0, &[]), (0, 0, &[]), (0, 0, &[]), (0, 0, &[])],
            &[(1, 0, &[1]), (0, 0, &[0]), (2, 0, &[2]), (3, 0, &[3])],
        ];
        let past = past(&[100.0], &slots).unwrap();
        assert_eq!((past.pods(), past.slots(), past.silent()), (3, 3, 1));
        assert_eq!(past.total().requests, Count { requests: 66, failed: 6, abandoned: 0 });
        assert_eq!(past.to().as_second(), 30);
        let canary = past.slot(0, 1).unwrap();
        let tick = past.tick(0, 1, canary).unwrap();
        assert_eq!(tick.canary, Count { requests: 20, failed: 2, abandoned: 0 });
        assert_eq!(tick.stable, Count { requests: 40, failed: 4, abandoned: 0 });
        assert_eq!(tick.latency.unwrap().stable, Histogram { requests: 40, at_most: vec![29] });
        assert_eq!(past.slot(3, 1), None);
        assert_eq!(past.failures()[0][2], Arm::new(30, 3).unwrap());
        assert_eq!(past.slower(0)[0][2], Arm::new(30, 10).unwrap());
    }

    #[test]
    fn a_release_knows_the_other_pods_before_it_and_nothing_after() {
        let slots: [&[Pod]; 3] = [
            &[(1, 0, &[1]), (2, 0, &[2])],
            &[(4, 0, &[4]), (8, 0, &[8])],
            &[(16, 0, &[9]), (16, 0, &[9])],
        ];
        let past = past(&[100.0], &slots).unwrap();
        let known = past.before(2, (1, 60), 0).unwrap();
        assert_eq!((known.over, known.requests.requests), (SLOT, 8));
        let pods = known.pods.unwrap();
        assert_eq!((pods.requests.len(), pods.pods()), (2, 1));
        assert_eq!(past.before(0, (1, 60), 0), None);
    }
}
