//! Stable's past pod by pod, from range queries: what calibration and backtests read
//! (`statistics.md`, "Dependence").

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use surefoot_stats::history::SLOT_SECONDS;

use super::answer::{AnswerError, Point, Track, count, sum};
use super::query::{By, Family, Series, exactly, literal};
use super::tick::{add, boundary, rises};
use super::vocabulary::{Metric, vocabulary};
use crate::api::rollout::{Mesh, RouteKind};
use crate::routing::Side;
use crate::samples::{Count, Histogram, PodHistory};

/// How far back a calibration looks.
pub const LENGTH: SignedDuration = SignedDuration::from_hours(2);
/// Slots asked for in one query: half an hour.
pub const PIECE: usize = 180;
/// Of more pods than this an even sample is read.
pub const MOST_PODS: usize = 20;

/// Whether a past is too short to believe in less dispersion than is assumed: a burst may just not
/// have come yet. Of [`LENGTH`] a tenth may be missing, for scrapes that failed and a minute without a
/// request.
#[must_use]
pub fn is_short(past: Duration) -> bool {
    past.as_secs() < LENGTH.unsigned_abs().as_secs() / 10 * 9
}

/// Length of a slot.
#[must_use]
pub fn slot() -> Duration {
    Duration::from_secs(SLOT_SECONDS as u64)
}

/// The instant so many slots after another.
#[must_use]
pub fn after(from: Timestamp, slots: usize) -> Timestamp {
    from + slot() * u32::try_from(slots).unwrap_or(u32::MAX)
}

/// Stable's pods among the answers of [`Series::pods`], in order of their names; of more than
/// [`MOST_PODS`] an even sample.
#[must_use]
pub fn pods(series: &Series, points: &[Point]) -> Vec<String> {
    const FAMILY: Family = Family::Requests;
    let stable = points.iter().filter(|point| {
        series.side(FAMILY, |label| point.label(label).to_owned()) == Some(Side::Stable)
    });
    let mut names: Vec<String> =
        stable.map(|point| point.label(series.version_label(FAMILY)).to_owned()).collect();
    names.sort();
    names.dedup();
    let all = names.len();
    let kept = |i: &usize| all <= MOST_PODS || i * MOST_PODS / all != (i + 1) * MOST_PODS / all;
    names.into_iter().enumerate().filter(|(i, _)| kept(i)).map(|(_, name)| name).collect()
}

/// Which pods of a Deployment answered requests, and about how many, when nobody knows any more which
/// ReplicaSet was its stable one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answering<'a> {
    /// Whose metrics tell.
    pub mesh: Mesh,
    /// Namespace of the Deployment.
    pub namespace: &'a str,
    /// Its name.
    pub deployment: &'a str,
    /// Only those of this ReplicaSet.
    pub replica_set: Option<&'a str>,
    /// The label that names a pod.
    pub label: &'a str,
    /// Of several replicas of Prometheus the one that is read, by label and value.
    pub replica: Option<(&'a str, &'a str)>,
    /// How long before the instant that is asked for.
    pub over: SignedDuration,
}

impl Answering<'_> {
    /// PromQL: for each pod the highest that its counters were.
    #[must_use]
    pub fn query(&self) -> String {
        let Answering { label, over, .. } = self;
        let by = By::Pod { label: (*label).to_owned() };
        let Metric { name, matchers, namespace, .. } =
            vocabulary(self.mesh).metric(&by, Family::Requests, RouteKind::HTTPRoute);
        let pods = match self.replica_set {
            Some(set) => format!("{}-.{{5}}", exactly(set)),
            None => format!("{}-[a-z0-9]+-.{{5}}", exactly(self.deployment)),
        };
        let replica = self.replica.map(|(label, value)| format!(", {label}={}", literal(value)));
        format!(
            "sum by ({label}) (max_over_time({name}{{{matchers}{namespace}={}, {label}=~{}{}}}[{}s]))",
            literal(self.namespace),
            literal(&pods),
            replica.unwrap_or_default(),
            over.as_secs(),
        )
    }
}

/// What one query is asked for: `slots` slots from an instant on, of these pods.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece<'a> {
    /// Whose series; told apart by pod.
    pub series: &'a Series,
    /// The pods, in the order in which they are told.
    pub pods: &'a [String],
    /// Start of the first slot.
    pub from: Timestamp,
    /// How many slots, at most [`PIECE`].
    pub slots: usize,
}

impl Piece<'_> {
    /// End of the last slot.
    #[must_use]
    pub fn to(&self) -> Timestamp {
        after(self.from, self.slots)
    }

    /// Requests in each slot of each pod.
    ///
    /// # Errors
    /// When an increment isn't a count.
    pub fn requests(&self, tracks: &[Track]) -> Result<Vec<Vec<Count>>, AnswerError> {
        let mut slots = vec![vec![Count::default(); self.pods.len()]; self.slots];
        self.increments(tracks, |point, pod, slot| {
            let n = count(point.value)?;
            let Some(seen) = slots.get_mut(slot).and_then(|pods| pods.get_mut(pod)) else {
                return Ok(());
            };
            add(self.series, seen, point, n)
        })?;
        Ok(slots)
    }

    /// Latencies in each slot of each pod, over all boundaries that occur; those too, milliseconds.
    ///
    /// # Errors
    /// When an increment isn't a count, or buckets fall.
    pub fn latencies(
        &self,
        tracks: &[Track],
    ) -> Result<(Vec<f64>, Vec<Vec<Histogram>>), AnswerError> {
        let mut boundaries: BTreeMap<u64, f64> = BTreeMap::new();
        for track in tracks {
            let boundary = boundary(track.label("le"))?;
            // Positive floats sort as their bits do.
            boundaries.insert(boundary.to_bits(), boundary);
        }
        let finite: Vec<f64> = boundaries.into_values().filter(|b| b.is_finite()).collect();
        let none = Histogram { requests: 0, at_most: vec![0; finite.len()] };
        let mut slots = vec![vec![none; self.pods.len()]; self.slots];
        self.increments(tracks, |point, pod, slot| {
            let (n, le) = (count(point.value)?, boundary(point.label("le"))?);
            let Some(seen) = slots.get_mut(slot).and_then(|pods| pods.get_mut(pod)) else {
                return Ok(());
            };
            let at = finite.iter().position(|b| b.to_bits() == le.to_bits());
            let total = at.and_then(|i| seen.at_most.get_mut(i)).unwrap_or(&mut seen.requests);
            *total = sum(*total, n)?;
            Ok(())
        })?;
        if slots.iter().flatten().all(rises) {
            return Ok((finite, slots));
        }
        Err(AnswerError::Malformed("buckets that fall".to_owned()))
    }

    /// Calls `take` with each series' increment in each slot, and the numbers of pod and slot.
    ///
    /// A series that turns up while its pod was known began at 0. Where the pod itself turns up, or
    /// one of its counters falls, nothing of it is counted in that slot.
    fn increments(
        &self,
        tracks: &[Track],
        mut take: impl FnMut(&Point, usize, usize) -> Result<(), AnswerError>,
    ) -> Result<(), AnswerError> {
        for (pod, name) in self.pods.iter().enumerate() {
            let label = self.series.version_label(Family::Requests);
            let own = tracks.iter().filter(|track| track.label(label) == name);
            let (mut points, own): (Vec<Point>, Vec<_>) = own
                .map(|track| (Point { labels: track.labels.clone(), value: 0.0 }, self.grid(track)))
                .unzip();
            for slot in 0..self.slots {
                let at = |i: usize| own.iter().map(move |values| values.get(i).copied().flatten());
                let known = at(slot).any(|value| value.is_some());
                let fell = at(slot)
                    .zip(at(slot + 1))
                    .any(|ends| matches!(ends, (Some(a), Some(b)) if b < a));
                if !known || fell {
                    continue;
                }
                for (point, (first, last)) in points.iter_mut().zip(at(slot).zip(at(slot + 1))) {
                    let Some(last) = last else { continue };
                    point.value = last - first.unwrap_or(0.0);
                    if point.value != 0.0 {
                        take(point, pod, slot)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A series' values at the slots' ends, the first slot's start among them.
    fn grid(&self, track: &Track) -> Vec<Option<f64>> {
        let mut values = vec![None; self.slots + 1];
        #[expect(clippy::cast_precision_loss, reason = "milliseconds are exact in f64")]
        let start = self.from.as_millisecond() as f64 / 1000.0;
        for (at, value) in &track.samples {
            let slot = (at - start) / slot().as_secs_f64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "below 0 and beyond the end is nobody's place"
            )]
            if slot > -0.5
                && let Some(place) = values.get_mut(slot.round() as usize)
            {
                *place = Some(*value);
            }
        }
        values
    }
}

impl PodHistory {
    /// What comes after it. A time without any request knows no boundaries and has 0 at each.
    ///
    /// # Errors
    /// When the boundaries of latencies are other ones, as after an upgrade of the mesh.
    pub fn append(&mut self, mut later: PodHistory) -> Result<(), AnswerError> {
        if self.boundaries.is_empty() {
            self.boundaries.clone_from(&later.boundaries);
        } else if !later.boundaries.is_empty() && later.boundaries != self.boundaries {
            return Err(AnswerError::Malformed("boundaries of latencies that change".to_owned()));
        }
        self.requests.append(&mut later.requests);
        self.latency.append(&mut later.latency);
        for histogram in self.latency.iter_mut().flatten() {
            histogram.at_most.resize(self.boundaries.len(), 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        Series {
            mesh: Mesh::Istio,
            route: RouteKind::VirtualService,
            namespace: "shop".into(),
            service: "web".into(),
            stable: "web-6c".into(),
            canary: "web-sf1".into(),
            by: By::Pod { label: "pod".into() },
            pinned: Default::default(),
        }
    }

    fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("web-6c-{i:05}")).collect()
    }

    fn track(own: &[(&str, &str)], values: &[(u32, f64)]) -> Track {
        let samples = values.iter().map(|(slot, v)| (1000.0 + f64::from(*slot) * 10.0, *v));
        Track { labels: labels(own), samples: samples.collect() }
    }

    fn piece<'a>(series: &'a Series, pods: &'a [String], slots: usize) -> Piece<'a> {
        Piece { series, pods, from: Timestamp::from_second(1000).unwrap(), slots }
    }

    #[test]
    fn of_many_pods_an_even_sample_is_read() {
        let series = series();
        let points = |count| {
            let mut names = names(count);
            names.extend(["web-sf1-00000".to_owned(), "other-00000".to_owned()]);
            let point = |n: String| Point { labels: labels(&[("pod", &n)]), value: 1.0 };
            names.into_iter().map(point).collect::<Vec<_>>()
        };
        assert_eq!(pods(&series, &points(3)), names(3));
        let some = pods(&series, &points(50));
        assert_eq!(some.len(), MOST_PODS);
        assert!(some.iter().any(|p| p > &names(45)[44]) && some.iter().any(|p| p < &names(6)[5]));
        assert!(pods(&series, &[]).is_empty());
    }

    #[test]
    fn a_failure_that_makes_its_series_is_counted_and_a_new_pod_is_not() {
        let (series, pods) = (series(), names(2));
        let ok = [("pod", "web-6c-00000"), ("response_code", "200")];
        let bad = [("pod", "web-6c-00000"), ("response_code", "500")];
        let gone = [("pod", "web-6c-00000"), ("response_code", "0")];
        let new = [("pod", "web-6c-00001"), ("response_code", "500")];
        let tracks = [
            track(&ok, &[(0, 100.0), (1, 110.0), (2, 110.0), (3, 150.0)]),
            track(&bad, &[(2, 3.0), (3, 3.0)]),
            track(&gone, &[(1, 7.0)]),
            track(&new, &[(1, 40.0), (2, 41.0), (3, 5.0)]),
        ];
        let piece = piece(&series, &pods, 3);
        let count = |requests, failed| Count { requests, failed, abandoned: 0 };
        let slots = piece.requests(&tracks).unwrap();
        let first: Vec<_> = slots.iter().map(|s| s[0]).collect();
        let left = Count { abandoned: 7, ..count(10, 0) };
        assert_eq!(first, [left, count(3, 3), count(40, 0)]);
        // It turned up in the first slot and was reset in the third.
        let second: Vec<_> = slots.iter().map(|s| s[1]).collect();
        assert_eq!(second, [count(0, 0), count(1, 1), count(0, 0)]);
        let broken = [track(&ok, &[(0, 0.5), (1, 1.0)])];
        assert!(piece.requests(&broken).is_err());
    }

    #[test]
    fn pieces_make_one_history() {
        let (series, pods) = (series(), names(1));
        let of =
            |le: &str, values: &[(u32, f64)]| track(&[("pod", "web-6c-00000"), ("le", le)], values);
        let tracks = [
            of("+Inf", &[(0, 10.0), (1, 14.0), (2, 15.0)]),
            of("5", &[(0, 4.0), (1, 7.0), (2, 8.0)]),
        ];
        let piece = piece(&series, &pods, 2);
        assert_eq!(piece.to(), Timestamp::from_second(1020).unwrap());
        let (boundaries, latency) = piece.latencies(&tracks).unwrap();
        assert_eq!(boundaries, [5.0]);
        let seen: Vec<_> = latency.iter().map(|s| (s[0].requests, s[0].at_most[0])).collect();
        assert_eq!(seen, [(4, 3), (1, 1)]);
        let mut history = PodHistory { boundaries, latency, ..PodHistory::default() };
        let silent =
            PodHistory { latency: vec![vec![Histogram::default()]], ..PodHistory::default() };
        history.append(silent.clone()).unwrap();
        let mut whole = silent;
        whole.append(history).unwrap();
        let seen: Vec<_> = whole.latency.iter().map(|s| s[0].at_most.clone()).collect();
        assert_eq!(seen, [[0], [3], [1], [0]]);
        let other = PodHistory { boundaries: vec![1.0], ..PodHistory::default() };
        assert!(whole.append(other).is_err());
        let falls = [of("+Inf", &[(0, 0.0), (1, 1.0)]), of("5", &[(0, 0.0), (1, 2.0)])];
        assert!(piece.latencies(&falls).is_err());
    }

    #[test]
    fn names_are_taken_literally_and_one_replica_can_be_read() {
        let any = Answering {
            mesh: Mesh::Istio,
            namespace: "shop",
            deployment: "web.v1",
            replica_set: None,
            label: "pod_name",
            replica: None,
            over: SignedDuration::from_hours(1),
        };
        let query = any.query();
        assert!(query.contains(r#"pod_name=~"web\\.v1-[a-z0-9]+-.{5}"}[3600s]"#), "{query}");
        let replica = Some(("r", "a\"b"));
        let query = Answering { replica_set: Some("web-6c"), replica, ..any }.query();
        assert!(query.contains(r#"pod_name=~"web-6c-.{5}", r="a\"b"}"#), "{query}");
    }

    #[test]
    fn only_the_pods_that_were_chosen_are_asked_for() {
        let (series, pods) = (series(), names(2));
        let query = series.past(Family::Latency, &pods);
        assert!(query.starts_with("sum by (pod, le) ("), "{query}");
        assert!(query.contains(r#"pod=~"web-6c-00000|web-6c-00001""#), "{query}");
        assert!(series.pods().contains(r#"pod=~"web-6c-.{5}""#), "{}", series.pods());
    }
}
