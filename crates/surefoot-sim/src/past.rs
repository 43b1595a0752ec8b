//! Stable before a release: two hours of its pods, one by one, as the controller reads them.

use surefoot_core::engine::ISTIO_BOUNDARIES;
use surefoot_core::metrics::history::{LENGTH, slot};
use surefoot_core::samples::{BaselineSample, Count, Histogram, PodHistory};

use crate::traffic::Flow;

/// So much of the flow, from which φ and η of a release that comes next are calibrated. The baseline is
/// the sum of it.
pub fn calibrating(flow: &mut Flow) -> BaselineSample {
    let mut pods = PodHistory { boundaries: ISTIO_BOUNDARIES.to_vec(), ..PodHistory::default() };
    let mut sum = (Count::default(), Histogram::default());
    sum.1.at_most = vec![0; ISTIO_BOUNDARIES.len()];
    let slots = LENGTH.unsigned_abs().as_secs() / slot().as_secs();
    for _ in 0..slots {
        let (requests, latency): (Vec<Count>, Vec<_>) = flow.pods(slot()).into_iter().unzip();
        let latency: Vec<Histogram> = latency.into_iter().flatten().collect();
        for count in &requests {
            sum.0.requests += count.requests;
            sum.0.failed += count.failed;
        }
        for histogram in &latency {
            sum.1.requests += histogram.requests;
            for (sum, more) in sum.1.at_most.iter_mut().zip(&histogram.at_most) {
                *sum += more;
            }
        }
        pods.requests.push(requests);
        pods.latency.push(latency);
    }
    BaselineSample {
        over: LENGTH.unsigned_abs(),
        requests: sum.0,
        boundaries: pods.boundaries.clone(),
        latency: sum.1,
        pods: Ok(pods),
    }
}

/// The same where the pods can't be told apart: φ and η are assumed.
#[must_use]
pub fn sum_of(past: &BaselineSample) -> BaselineSample {
    BaselineSample {
        over: past.over,
        requests: past.requests,
        boundaries: past.boundaries.clone(),
        latency: past.latency.clone(),
        pods: Err("only their sum is known".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use surefoot_core::engine::dispersions;

    use super::*;
    use crate::example_plan;
    use crate::traffic::{Failures, Latency, Traffic};

    fn traffic(failures: Failures) -> Traffic {
        let latency = Some(Latency { median: 60.0, p99: 300.0 });
        Traffic { failures, latency, ..Traffic::alike(50.0, 0.005) }
    }

    #[test]
    fn the_baseline_is_the_sum_of_the_pods() {
        let traffic = traffic(Failures::Independent);
        let past = calibrating(&mut traffic.flow(1));
        let pods = past.pods.as_ref().unwrap();
        assert_eq!((pods.requests.len(), pods.latency.len()), (720, 720));
        let requests = pods.requests.iter().flatten().map(|count| count.requests);
        assert_eq!(past.requests.requests, requests.sum::<u64>());
        assert_eq!(past.latency.requests, past.requests.requests);
        // Two hours at 50 a second, give or take four standard deviations.
        assert!(past.requests.requests.abs_diff(360_000) < 2400, "{:?}", past.requests);
    }

    #[test]
    fn what_hangs_together_is_calibrated_as_much_as_it_does() {
        let plan = example_plan(&serde_json::json!({}));
        let phi = |failures| {
            let traffic = traffic(failures);
            let past = calibrating(&mut traffic.flow(1));
            let judged = |past: &BaselineSample| {
                let each = dispersions(&plan, past).into_iter();
                each.map(|known| known.phi).collect::<Vec<_>>()
            };
            assert_eq!(judged(&sum_of(&past)), [3.0, 3.0, 3.0], "assumed");
            let [failed, slow, _abandoned] = judged(&past)[..] else { panic!("three metrics") };
            assert!((1.0..1.4).contains(&slow), "{failures:?}: latencies are independent, {slow}");
            failed
        };
        let independent = phi(Failures::Independent);
        assert!((1.0..1.4).contains(&independent), "{independent}");
        // E[size²]/E[size] of a geometric size with mean 3.
        let clusters = phi(Failures::Clusters { size: 3.0 });
        assert!((clusters / 5.0 - 1.0).abs() < 0.3, "{clusters}");
        // A minute of a pod has 1.5 failures on average: 1.27 or, once in 50, ten times as many.
        let bursts = phi(Failures::PodBursts { times: 10.0, share: 0.02 });
        assert!((bursts / 2.7 - 1.0).abs() < 0.4, "{bursts}");
    }
}
