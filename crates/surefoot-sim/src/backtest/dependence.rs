//! How requests of stable's past hang together: φ by the length of a window, and η by that of a
//! release (`surefoot_stats::{dispersion, replay}`).

use serde::Serialize;
use surefoot_core::plan::{MetricKind, Plan};
use surefoot_stats::dispersion::{self, WINDOWS};
use surefoot_stats::grid::HARM;
use surefoot_stats::{Arm, Calibration, History, replay};

use super::past::Past;

/// Lengths of a release for which η is told, in minutes.
pub const RELEASES: [usize; 4] = [10, 20, 30, 60];

/// How one metric's bad requests hang together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependence {
    /// The metric.
    pub metric: String,
    /// Of a latency, the boundary at which requests hang together the most, milliseconds.
    pub boundary_ms: Option<f64>,
    /// Requests.
    pub requests: u64,
    /// Bad ones: failed, or slower than the boundary.
    pub bad: u64,
    /// φ, at least 1; `None`: too few were bad.
    pub phi: Option<f64>,
    /// Pearson's ratio in windows of so many seconds, of which the largest makes φ.
    pub phi_by_seconds: Vec<(usize, Option<f64>)>,
    /// η in (0, 1], for a release as long as the engine takes the plan's for; `None`: too few were bad, or the past is
    /// too short.
    pub eta: Option<f64>,
    /// The same for releases of so many minutes.
    pub eta_by_minutes: Vec<(usize, Option<f64>)>,
}

/// Every sequential metric's; of latencies none where there are none.
#[must_use]
pub fn dependence(plan: &Plan, past: &Past) -> Vec<Dependence> {
    let minutes = plan.replayed_minutes();
    let sequential = plan.metrics.iter().filter(|metric| metric.is_sequential());
    let each = sequential.filter_map(|metric| {
        let of = |boundary_ms, counts: Vec<Vec<Arm>>| {
            of(&metric.name, boundary_ms, &counts, minutes, plan.false_rollback)
        };
        match metric.kind {
            MetricKind::SuccessRate { .. } => of(None, past.failures()),
            MetricKind::Latency { .. } => {
                let all = past.boundaries().iter().enumerate();
                let all = all.filter_map(|(i, ms)| of(Some(*ms), past.slower(i)));
                worst(all.collect())
            }
            MetricKind::Abandoned { .. } => of(None, past.abandoned()),
            MetricKind::Query { .. } | MetricKind::Pairs { .. } => None,
        }
    });
    each.collect()
}

/// That of the boundary with the largest φ, and of several such the one that tells the most of slow
/// requests; with the smallest η of any, as the engine takes them.
fn worst(all: Vec<Dependence>) -> Option<Dependence> {
    let eta = all.iter().filter_map(|d| d.eta).reduce(f64::min);
    let phi = |d: &Dependence| d.phi.unwrap_or(0.0);
    let even = |d: &Dependence| d.bad.min(d.requests - d.bad);
    let worst = all.iter().max_by(|a, b| phi(a).total_cmp(&phi(b)).then(even(a).cmp(&even(b))))?;
    Some(Dependence { eta, ..worst.clone() })
}

fn of(
    metric: &str,
    boundary_ms: Option<f64>,
    counts: &[Vec<Arm>],
    minutes: usize,
    alpha: f64,
) -> Option<Dependence> {
    let history = History::new(counts).ok()?;
    let known = Calibration::of(&history, minutes, alpha, 0, 0);
    let told = known.phi.is_some();
    let eta = |minutes| replay::eta(&replay::largest(&history, 1.0, &HARM, minutes), alpha);
    let eta_by_minutes = RELEASES.map(|m| (m, told.then(|| eta(m)).flatten()));
    let phi_by_seconds = WINDOWS.map(|s| (s, dispersion::in_windows(&history, s)));
    Some(Dependence {
        metric: metric.to_owned(),
        boundary_ms,
        requests: history.total().n(),
        bad: history.total().k(),
        phi: known.phi,
        phi_by_seconds: phi_by_seconds.to_vec(),
        eta: known.eta,
        eta_by_minutes: eta_by_minutes.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use surefoot_core::samples::{Count, Histogram, PodHistory};

    use super::*;
    use crate::example_plan;

    /// Four pods: each in turn fails `burst` requests of 100, and is slow with twice as many; all are
    /// slower than 1 ms.
    fn past(burst: u64) -> Past {
        let bad = |slot: usize, pod| if slot % 4 == pod { burst } else { 0 };
        let each = |slot| (0..4).map(move |pod| bad(slot, pod));
        let latency = |bad| Histogram { requests: 100, at_most: vec![0, 100 - 2 * bad, 100] };
        Past::new(PodHistory {
            requests: (0..720)
                .map(|s| {
                    each(s).map(|failed| Count { requests: 100, failed, abandoned: 0 }).collect()
                })
                .collect(),
            boundaries: vec![1.0, 100.0, 250.0],
            latency: (0..720).map(|s| each(s).map(latency).collect()).collect(),
            ..PodHistory::default()
        })
        .unwrap()
    }

    #[test]
    fn bursts_are_told_of_each_metric_by_window_and_release() {
        let plan = example_plan(&serde_json::json!({}));
        let found = dependence(&plan, &past(5));
        let [counts, latency, abandoned] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((abandoned.metric.as_str(), abandoned.phi), ("abandoned", None), "nobody left");
        assert!((counts.phi.unwrap() - 5.0).abs() < 1e-9, "{counts:?}");
        assert!((counts.phi_by_seconds[0].1.unwrap() - 5.0).abs() < 1e-9, "{counts:?}");
        assert!(counts.phi_by_seconds[4].1.unwrap() < 1.0, "in turn: very even in the long run");
        assert_eq!((counts.requests, counts.bad), (720 * 400, 720 * 5));
        assert_eq!(latency.boundary_ms, Some(100.0));
        assert!((latency.phi.unwrap() - 10.0).abs() < 1e-9, "{latency:?}");
        assert_eq!(counts.eta_by_minutes.iter().map(|e| e.0).collect::<Vec<_>>(), RELEASES);
        assert!(counts.eta.is_some_and(|eta| eta > 0.9));
    }

    #[test]
    fn of_all_boundaries_the_largest_phi_and_the_smallest_eta_are_told() {
        let plan = example_plan(&serde_json::json!({}));
        let one = dependence(&plan, &past(5)).remove(1);
        let other = Dependence { phi: Some(2.0), eta: Some(0.3), ..one.clone() };
        let worst = worst(vec![other, one.clone()]).unwrap();
        assert_eq!((worst.phi, worst.eta), (one.phi, Some(0.3)));
    }

    #[test]
    fn what_nobody_or_everybody_exceeds_tells_nothing_of_slow_requests() {
        let plan = example_plan(&serde_json::json!({}));
        let found = dependence(&plan, &past(0));
        assert_eq!(found[0].phi, None, "nothing failed");
        // All are slower than 1 ms, which is no dispersion.
        assert_eq!(found[1].phi, Some(1.0));
        let calm = dependence(&plan, &past(1));
        assert_eq!(calm[1].boundary_ms, Some(100.0), "{calm:?}");
    }
}
