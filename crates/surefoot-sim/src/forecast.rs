//! Whole releases by one plan: how long they take, how they end, and what regressions they see.

use std::time::Duration;

use jiff::Timestamp;
use surefoot_core::api::rollout::OnInconclusive;
use surefoot_core::engine::Run;
use surefoot_core::plan::Plan;

use crate::traffic::Traffic;

/// How often the policy looks.
const POLL: Duration = Duration::from_secs(5);
/// A step that goes on for ever is left after so many times its maxDuration.
const EXTENDED: u32 = 24;

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It passed all steps.
    Promoted,
    /// There was harm, at this step.
    RolledBack(usize),
    /// This step was inconclusive and is left to a person, or rolled back for it.
    Inconclusive(usize),
}

/// One release.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// How it ended.
    pub end: End,
    /// How long each begun step took, what is left out included.
    pub steps: Vec<Duration>,
    /// Canary requests of each.
    pub requests: Vec<u64>,
    /// Canary requests that failed, in all.
    pub failed: u64,
}

impl Release {
    /// All of it.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.steps.iter().sum()
    }
}

/// Play one release. `replicas` are the Deployment's, `timeout` is the longest that the route lets a
/// request take.
#[must_use]
pub fn release(
    plan: &Plan,
    traffic: &Traffic,
    replicas: u32,
    timeout: Duration,
    seed: u64,
) -> Release {
    let mut flow = traffic.flow(seed);
    let past = flow.past();
    let begun = Run::begin(plan, Some(&past), Timestamp::UNIX_EPOCH);
    let mut release =
        Release { end: End::Promoted, steps: Vec::new(), requests: Vec::new(), failed: 0 };
    let Some(mut run) = begun else { return release };
    let mut pods = 0;
    for (index, step) in plan.steps.iter().enumerate() {
        if index > 0 {
            run.begin_step(index);
        }
        // What comes up with the step isn't judged while it is cold.
        let grown = step.pods(replicas) > pods;
        pods = step.pods(replicas);
        let left_out = if grown { step.settle.max(step.warm_up) } else { step.settle };
        let slow = left_out + timeout + plan.propagation_delay;
        let last = match step.on_inconclusive {
            OnInconclusive::Extend => step.max_duration * EXTENDED,
            _ => step.max_duration,
        };
        let (mut took, mut requests) = (Duration::ZERO, 0);
        let end = loop {
            let tick = flow.tick(index, f64::from(step.weight) / 100.0, POLL);
            requests += tick.canary.requests;
            release.failed += tick.canary.failed;
            run.take(&tick, took >= left_out);
            took += POLL;
            if run.harmed() {
                break Some(End::RolledBack(index));
            }
            if took >= slow && run.passes() {
                break None;
            }
            if took >= last {
                let goes_on = step.on_inconclusive == OnInconclusive::Promote;
                break (!goes_on).then_some(End::Inconclusive(index));
            }
        };
        release.steps.push(took);
        release.requests.push(requests);
        if let Some(end) = end {
            release.end = end;
            break;
        }
    }
    release
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example_plan;

    fn play(gate: serde_json::Value, traffic: &Traffic) -> Release {
        release(&example_plan(&gate), traffic, 4, Duration::from_secs(15), 1)
    }

    #[test]
    fn a_good_release_takes_the_time_of_its_steps() {
        let release = play(serde_json::json!({}), &Traffic::alike(1000.0, 0.001));
        assert_eq!((release.end, release.steps.len()), (End::Promoted, 3));
        // Two minutes each, and what is left out.
        assert!(release.took() >= Duration::from_secs(3 * 120 + 90 + 30 + 30), "{release:?}");
        assert!(release.took() < Duration::from_secs(720), "{release:?}");
    }

    #[test]
    fn a_bad_one_ends_at_once_and_one_without_traffic_at_its_limit() {
        let bad = Traffic { canary: 1.0, ..Traffic::alike(100.0, 0.001) };
        let release = play(serde_json::json!({}), &bad);
        assert_eq!((release.end, release.took()), (End::RolledBack(0), POLL));
        let gate = serde_json::json!({"maxDuration": "5m"});
        let release = play(gate, &Traffic::alike(0.1, 0.001));
        assert_eq!((release.end, release.took().as_secs()), (End::Inconclusive(0), 300));
    }
}
