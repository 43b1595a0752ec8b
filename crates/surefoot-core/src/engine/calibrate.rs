//! φ and η of each metric: from stable's past pod by pod where that tells them, else assumed.
//!
//! Read when the release begins and committed with its first weight, before the canary has a
//! request: later they could be chosen to please (`statistics.md`, "Dependence").

use std::time::Duration;

use serde::{Deserialize, Serialize};
use surefoot_stats::calibration::{ASSUMED_ETA, ASSUMED_PHI, Calibration};
use surefoot_stats::dispersion::FEWEST_BAD;
use surefoot_stats::history::History;
use surefoot_stats::{Arm, Test};

use crate::metrics::history::{after, is_short, slot};
use crate::plan::{MetricKind, MetricPlan, Plan};
use crate::samples::{BaselineSample, Count, Histogram, PodHistory};
use crate::words;

/// Bytes of a reason that are kept.
const REASON: usize = 160;
/// No metric's is longer in the state, in bytes: the reason, and numbers.
pub(super) const MOST_BYTES: usize = REASON + 32;

/// φ and η of a metric, and where they are from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Calibrated {
    pub phi: f64,
    pub eta: f64,
    pub source: Source,
}

/// Where φ is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Source {
    /// The Rollout gives it.
    Given,
    /// Assumed, for this reason.
    Assumed(String),
    /// So many seconds of so many pods' past.
    Past { seconds: u64, pods: u64 },
    /// The same, but too short to trust it with less than is assumed.
    ShortPast { seconds: u64, pods: u64 },
}

impl Calibrated {
    fn assumed(why: &str) -> Self {
        let why = why[..why.floor_char_boundary(REASON)].to_owned();
        Self { phi: ASSUMED_PHI, eta: ASSUMED_ETA, source: Source::Assumed(why) }
    }

    /// Where φ is from, for a reader of the status.
    pub fn in_words(&self) -> String {
        let past = |seconds: &u64, pods: &u64| {
            format!("{} of {pods} pods' past", words::span(Duration::from_secs(*seconds)))
        };
        match &self.source {
            Source::Given => "given by the Rollout".to_owned(),
            Source::Assumed(why) => format!("assumed: {why}"),
            Source::Past { seconds, pods } => past(seconds, pods),
            Source::ShortPast { seconds, pods } => {
                format!("{}, too short for less than {ASSUMED_PHI}", past(seconds, pods))
            }
        }
    }
}

/// Of a metric that is tested like this.
pub(super) fn of(
    plan: &Plan,
    metric: &MetricPlan,
    test: &Test,
    baseline: Option<&BaselineSample>,
) -> Calibrated {
    if let Some((phi, eta)) = metric.calibration {
        return Calibrated { phi, eta, source: Source::Given };
    }
    if matches!(test, Test::Pairs(_)) {
        return Calibrated::assumed("nothing tells how the answers of a query hang together");
    }
    let pods = match baseline.map(|b| &b.pods) {
        None => return Calibrated::assumed("stable's past is unknown"),
        Some(Err(why)) => return Calibrated::assumed(why),
        Some(Ok(pods)) => pods,
    };
    let counts = match test {
        // Of pairs it has been said.
        Test::Counts(_) | Test::Pairs(_) => requests(pods, metric).map(|history| vec![history]),
        // A boundary that only one of two kinds of proxies has says nothing here.
        Test::Latency(test) => {
            let each = test.boundaries.iter().filter_map(|ms| slower(pods, *ms));
            each.collect::<Result<Vec<_>, _>>()
        }
    };
    let histories = match counts {
        Ok(histories) => histories,
        Err(why) => return Calibrated::assumed(&why),
    };
    let minutes = plan.replayed_minutes();
    let (from, to) = (pods.from, after(pods.from, pods.requests.len()));
    let (from, to) = (from.as_millisecond(), to.as_millisecond());
    let each = histories.iter().map(|h| Calibration::of(h, minutes, plan.false_rollback, from, to));
    // Of several boundaries the one at which requests hang together the most.
    let found = each
        .filter_map(|c| Some((c.phi?, c.exponent())))
        .reduce(|a, b| (a.0.max(b.0), a.1.min(b.1)));
    let (over, pods) = (seen(pods), pods.pods());
    let seconds = over.as_secs();
    let Some((phi, eta)) = found else {
        let span = words::span(over);
        return Calibrated::assumed(&format!(
            "fewer than {FEWEST_BAD} bad requests in {span} of {pods} pods' past"
        ));
    };
    if is_short(over) {
        let phi = phi.max(ASSUMED_PHI);
        return Calibrated { phi, eta, source: Source::ShortPast { seconds, pods } };
    }
    Calibrated { phi, eta, source: Source::Past { seconds, pods } }
}

/// From the first slot with a request on.
fn seen(pods: &PodHistory) -> Duration {
    let any = |count: &Count| count.requests + count.abandoned > 0;
    let first = pods.requests.iter().position(|slot| slot.iter().any(any));
    let slots = first.map_or(0, |first| pods.requests.len() - first);
    slot() * u32::try_from(slots).unwrap_or(u32::MAX)
}

fn requests(pods: &PodHistory, metric: &MetricPlan) -> Result<History, String> {
    let arm = match metric.kind {
        MetricKind::Abandoned { .. } => Count::sent,
        _ => Count::answered,
    };
    let arms = |slot: &Vec<Count>| slot.iter().map(|count| arm(*count)).collect();
    let slots: Option<Vec<Vec<Arm>>> = pods.requests.iter().map(arms).collect();
    history(slots)
}

/// Requests slower than a boundary as the bad ones; `None` where it is none of the past's.
fn slower(pods: &PodHistory, ms: f64) -> Option<Result<History, String>> {
    let at = pods.boundaries.iter().position(|b| b.to_bits() == ms.to_bits())?;
    let slots = pods.latency.iter().map(|slot| {
        let arm = |histogram: &Histogram| {
            let slow = histogram.requests.checked_sub(*histogram.at_most.get(at)?)?;
            Arm::new(histogram.requests, slow).ok()
        };
        slot.iter().map(arm).collect()
    });
    Some(history(slots.collect()))
}

fn history(slots: Option<Vec<Vec<Arm>>>) -> Result<History, String> {
    let slots = slots.ok_or_else(|| "the pods' past has counts that can't be".to_owned())?;
    History::new(&slots).map_err(|e| e.to_string())
}

impl PodHistory {
    /// How many pods.
    #[must_use]
    pub fn pods(&self) -> u64 {
        self.requests.first().map_or(0, Vec::len) as u64
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn plan() -> Plan {
        let spec = "
targetRef: {kind: Deployment, name: shop}
traffic: {mesh: istio, service: shop, routes: [{kind: VirtualService, name: shop}]}
analysis: {metrics: [{name: success, successRate: {maxDrop: 1pp}}, {name: latency, latency: {maxSlowdown: '1.5'}}]}
steps: [{weight: 10}, {weight: 100}]
";
        Plan::of(&serde_saphyr::from_str(spec).unwrap()).unwrap()
    }

    /// Each slot one of `pods` pods fails `burst` times and is slow twice as often.
    fn baseline(slots: usize, pods: usize, burst: u64) -> BaselineSample {
        let bad = |slot: usize, pod: usize| if slot % pods == pod { burst } else { 0 };
        let each = |slot| (0..pods).map(move |pod| bad(slot, pod));
        let latency = |bad| Histogram { requests: 100, at_most: vec![100 - 2 * bad] };
        let pods = PodHistory {
            from: Timestamp::UNIX_EPOCH,
            requests: (0..slots)
                .map(|s| {
                    each(s).map(|failed| Count { requests: 100, failed, abandoned: 0 }).collect()
                })
                .collect(),
            boundaries: vec![100.0],
            latency: (0..slots).map(|s| each(s).map(latency).collect()).collect(),
        };
        BaselineSample {
            over: Duration::from_secs(600),
            requests: Count { requests: 60_000, failed: 60, abandoned: 0 },
            boundaries: vec![100.0],
            latency: Histogram { requests: 60_000, at_most: vec![59_000] },
            pods: Ok(pods),
        }
    }

    /// Of success rate and latency.
    fn calibrated(baseline: &BaselineSample) -> [Calibrated; 2] {
        of_plan(&plan(), baseline)
    }

    fn of_plan(plan: &Plan, baseline: &BaselineSample) -> [Calibrated; 2] {
        let (policy, known) = super::super::policy(plan, Some(baseline));
        for (metric, known) in policy.metrics.iter().zip(&known) {
            assert_eq!((metric.phi, metric.eta), (known.phi, known.eta), "the policy judges by it");
        }
        let [counts, latency, _abandoned] = known.try_into().unwrap();
        [counts, latency]
    }

    #[test]
    fn abandoned_requests_are_calibrated_on_their_own() {
        let mut past = baseline(720, 4, 1);
        for (slot, pods) in past.pods.as_mut().unwrap().requests.iter_mut().enumerate() {
            pods[slot % 4].abandoned = 3;
        }
        let (_, known) = super::super::policy(&plan(), Some(&past));
        let [counts, _, abandoned] = &known[..] else { panic!("{known:?}") };
        assert!((counts.phi - 1.0).abs() < 1e-9, "{counts:?}");
        assert!((2.9..3.1).contains(&abandoned.phi), "three leave at a time: {abandoned:?}");
    }

    #[test]
    fn what_the_rollout_gives_is_not_measured() {
        let mut given = plan();
        given.metrics[0].calibration = Some((2.5, 0.5));
        let [counts, latency] = of_plan(&given, &baseline(720, 4, 5));
        assert_eq!((counts.phi, counts.eta), (2.5, 0.5));
        assert_eq!(counts.in_words(), "given by the Rollout");
        assert_eq!(latency.in_words(), "2h of 4 pods' past");
    }

    #[test]
    fn bursts_in_stables_past_are_what_the_release_is_judged_by() {
        let [counts, latency] = calibrated(&baseline(720, 4, 5));
        assert!((counts.phi - 5.0).abs() < 1e-9, "{counts:?}");
        assert!((latency.phi - 10.0).abs() < 1e-9, "{latency:?}");
        assert_eq!(counts.in_words(), "2h of 4 pods' past");
        let [calm, _] = calibrated(&baseline(720, 4, 1));
        assert!((calm.phi - 1.0).abs() < 1e-9, "{calm:?}");
    }

    #[test]
    fn a_short_past_can_only_warn() {
        let [calm, _] = calibrated(&baseline(60, 4, 1));
        assert!((calm.phi - ASSUMED_PHI).abs() < 1e-9, "{calm:?}");
        assert_eq!(calm.in_words(), "10m of 4 pods' past, too short for less than 3");
        let [wild, _] = calibrated(&baseline(60, 4, 7));
        assert!((wild.phi - 7.0).abs() < 1e-9, "{wild:?}");
    }

    #[test]
    fn where_the_past_does_not_tell_it_is_said_why() {
        let why = |baseline: &BaselineSample| calibrated(baseline)[0].in_words();
        assert_eq!(
            why(&baseline(720, 4, 0)),
            "assumed: fewer than 50 bad requests in 2h of 4 pods' past"
        );
        assert!(why(&baseline(720, 1, 5)).contains("at least 2 are needed"));
        let unread =
            BaselineSample { pods: Err("no pod is scraped".to_owned()), ..baseline(1, 2, 0) };
        assert_eq!(why(&unread), "assumed: no pod is scraped");
    }
}
