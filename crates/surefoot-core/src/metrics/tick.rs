//! From answers to counts: sums by version, failed or not, fast or slow.

use std::collections::BTreeMap;

use super::answer::{AnswerError, Point, count, sum};
use super::query::{Family, Series};
use crate::routing::Side;
use crate::samples::{Count, Histogram, Latencies};

/// Sums of increments of request counters.
///
/// # Errors
/// When a sum isn't a count.
pub fn requests(series: &Series, points: &[Point]) -> Result<[Count; 2], AnswerError> {
    let mut arms = [Count::default(); 2];
    for point in points {
        let Some(arm) = arm(series, Family::Requests, point) else { continue };
        add(series, &mut arms[arm], point, count(point.value)?)?;
    }
    Ok(arms)
}

/// Add so many requests with the labels of a point.
pub(super) fn add(
    series: &Series,
    seen: &mut Count,
    point: &Point,
    n: u64,
) -> Result<(), AnswerError> {
    let vocabulary = series.vocabulary();
    if vocabulary.left(point) {
        seen.abandoned = sum(seen.abandoned, n)?;
        return Ok(());
    }
    seen.requests = sum(seen.requests, n)?;
    seen.failed = sum(seen.failed, if vocabulary.failed(point) { n } else { 0 })?;
    Ok(())
}

/// 0 for the canary, 1 for stable.
fn arm(series: &Series, family: Family, point: &Point) -> Option<usize> {
    series.side(family, |label| point.label(label).to_owned()).map(|side| match side {
        Side::Canary => 0,
        Side::Stable => 1,
    })
}

/// Sums of increments of latency buckets, over all boundaries that occur.
///
/// # Errors
/// When a sum isn't a count, or the buckets don't add up.
pub fn latencies(series: &Series, points: &[Point]) -> Result<Latencies, AnswerError> {
    let mut sums: [BTreeMap<u64, u64>; 2] = Default::default();
    let mut boundaries: BTreeMap<u64, f64> = BTreeMap::new();
    for point in points.iter().filter(|p| !series.vocabulary().left(p)) {
        let Some(arm) = arm(series, Family::Latency, point) else { continue };
        let boundary = boundary(point.label("le"))?;
        // Positive floats sort as their bits do.
        boundaries.insert(boundary.to_bits(), boundary);
        let total = sums[arm].entry(boundary.to_bits()).or_default();
        *total = sum(*total, count(point.value)?)?;
    }
    let finite: Vec<(u64, f64)> =
        boundaries.into_iter().filter(|(_, boundary)| boundary.is_finite()).collect();
    let histogram = |sums: &BTreeMap<u64, u64>| {
        let requests = sums.get(&f64::INFINITY.to_bits()).copied().unwrap_or(0);
        let at_most: Vec<u64> =
            finite.iter().map(|(bits, _)| sums.get(bits).copied().unwrap_or(0)).collect();
        let histogram = Histogram { requests, at_most };
        if rises(&histogram) {
            return Ok(histogram);
        }
        Err(AnswerError::Malformed("buckets that fall".to_owned()))
    };
    let [canary, stable] = [histogram(&sums[0])?, histogram(&sums[1])?];
    Ok(Latencies { boundaries: finite.into_iter().map(|(_, b)| b).collect(), canary, stable })
}

/// What a bucket's `le` says: its boundary, milliseconds, which may be infinite.
pub(super) fn boundary(le: &str) -> Result<f64, AnswerError> {
    let boundary = if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap_or(f64::NAN) };
    if boundary.is_nan() || boundary <= 0.0 {
        return Err(AnswerError::Malformed("a bucket without boundary".to_owned()));
    }
    Ok(boundary)
}

/// Whether no boundary has more requests below it than the next one.
pub(super) fn rises(histogram: &Histogram) -> bool {
    let rising = histogram.at_most.windows(2).all(|w| w[0] <= w[1]);
    rising && histogram.at_most.last().is_none_or(|last| *last <= histogram.requests)
}

/// The increase of a counter over (from, to] from its raw samples, resets and all: after a reset it
/// counts from 0. Seconds since the epoch.
#[must_use]
pub fn raw_increase(samples: &[(f64, f64)], from: f64, to: f64) -> f64 {
    let mut last: Option<f64> = None;
    let mut sum = 0.0;
    for (at, value) in samples.iter().filter(|(at, _)| *at <= to) {
        if *at > from {
            sum += match last {
                Some(last) if *value >= last => value - last,
                _ => *value,
            };
        }
        last = Some(*value);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::rollout::{Mesh, RouteKind};
    use crate::metrics::query::By;

    fn series() -> Series {
        Series {
            mesh: Mesh::Istio,
            route: RouteKind::VirtualService,
            namespace: "n".into(),
            service: "x".into(),
            stable: "s".into(),
            canary: "c".into(),
            by: By::Service,
            pinned: Default::default(),
        }
    }

    fn point(labels: &[(&str, &str)], value: f64) -> Point {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Point { labels, value }
    }

    #[test]
    fn failures_are_told_from_clients_that_left() {
        let of = |service: &str, code: &str, flags: &str, value: f64| {
            point(
                &[
                    ("destination_service_name", service),
                    ("response_code", code),
                    ("response_flags", flags),
                ],
                value,
            )
        };
        let points = [
            of("c", "200", "-", 90.0),
            of("c", "503", "UF,URX", 9.0),
            of("c", "0", "DC", 5.0),
            of("s", "404", "-", 7.0),
            of("other", "500", "-", 7.0),
        ];
        let [canary, stable] = requests(&series(), &points).unwrap();
        assert_eq!(canary, Count { requests: 99, failed: 9, abandoned: 5 });
        assert_eq!(stable, Count { requests: 7, ..Count::default() });
        assert!(requests(&series(), &[of("c", "200", "", -1.0)]).is_err());
    }

    #[test]
    fn grpc_goes_by_its_own_status() {
        let of = |status: &str| {
            point(
                &[
                    ("destination_service_name", "c"),
                    ("request_protocol", "grpc"),
                    ("response_code", "200"),
                    ("grpc_response_status", status),
                ],
                1.0,
            )
        };
        let points: Vec<Point> = ["0", "5", "14", "2"].map(of).into();
        assert_eq!(
            requests(&series(), &points).unwrap()[0],
            Count { requests: 4, failed: 2, abandoned: 0 }
        );
    }

    #[test]
    fn buckets_are_sorted_by_number_and_must_rise() {
        let of =
            |le: &str, value: f64| point(&[("destination_service_name", "s"), ("le", le)], value);
        let points = [of("+Inf", 10.0), of("1000", 9.0), of("50", 4.0)];
        let latencies = latencies(&series(), &points).unwrap();
        assert_eq!(latencies.boundaries, [50.0, 1000.0]);
        assert_eq!(latencies.stable, Histogram { requests: 10, at_most: vec![4, 9] });
        assert_eq!(latencies.canary.at_most, [0, 0]);
        assert!(super::latencies(&series(), &[of("+Inf", 1.0), of("50", 4.0)]).is_err());
    }

    #[test]
    fn a_reset_counts_from_zero() {
        let samples = [(0.0, 100.0), (10.0, 110.0), (20.0, 3.0), (30.0, 8.0), (40.0, 9.0)];
        assert_eq!(raw_increase(&samples, 5.0, 30.0), 10.0 + 3.0 + 5.0);
        assert_eq!(raw_increase(&[(20.0, 3.0)], 5.0, 30.0), 3.0);
    }
}
