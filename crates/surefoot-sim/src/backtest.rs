//! What a Rollout's policy, and the rules of its peers, would have said of stable's own past.
//!
//! Every stable pod is taken for a canary beside the others, for once and again. As they were, none
//! of them was worse: whoever rolls back is wrong. With a fault put into its counts it is: whoever
//! doesn't, has missed it. The requests are real, with all their bursts and drifts, which is more than
//! a simulation knows of them.
//!
//! A release that the past is too short for is left out; where a good one ended, one with a fault that
//! did not is counted as undecided.
//!
//! Releases of different pods at the same time share their requests, and a fault is put into the same
//! releases each time: intervals take releases as independent, and are a guide.

pub mod dependence;
pub mod fault;
pub mod past;
pub mod replay;

use serde::Serialize;

use crate::contest::Judged;
use crate::forecast::End;
use crate::tally::Share;
use replay::{PEERS, Peer, Release};

/// What became of many releases with the same fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The fault.
    pub what: String,
    /// Whether there was none.
    pub null: bool,
    /// The share of the pseudo-canaries' requests that failed, in \[0, 1\].
    pub failing: f64,
    /// Releases that passed every step.
    pub promoted: Share,
    /// Releases with a step that could not tell, and those that were at it when the past ended.
    pub inconclusive: Share,
    /// Who rolled back how often, and when: Surefoot by the Rollout's policy, then the peers.
    pub rules: Vec<Judged>,
}

/// The outcome of releases.
#[must_use]
pub fn outcome(what: String, null: bool, releases: &[Release]) -> Outcome {
    let share = |wanted: fn(Option<End>) -> bool| {
        let mut share = Share::default();
        releases.iter().for_each(|release| share.count(wanted(release.end)));
        share
    };
    let ours = releases.iter().map(|release| match release.end {
        Some(End::RolledBack(_)) => Some(release.took.as_secs_f64()),
        _ => None,
    });
    let mut rules = vec![Judged::of("Surefoot", ours)];
    for (i, rule) in PEERS.into_iter().enumerate() {
        let said = releases.iter().filter_map(|release| match release.peers[i] {
            Peer::Cut => None,
            Peer::WentOn => Some(None),
            Peer::RolledBack(after) => Some(Some(after.as_secs_f64())),
        });
        rules.push(Judged::of(rule, said));
    }
    let requests: u64 = releases.iter().map(|r| r.canary.requests).sum();
    let failed: u64 = releases.iter().map(|r| r.canary.failed).sum();
    Outcome {
        what,
        null,
        failing: Share { of: failed, all: requests }.value(),
        promoted: share(|end| end == Some(End::Promoted)),
        inconclusive: share(|end| matches!(end, None | Some(End::Inconclusive(_)))),
        rules,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use surefoot_core::samples::Count;

    use super::*;

    #[test]
    fn what_did_not_end_is_no_verdict() {
        let release = |end, seconds, peer| Release {
            end,
            took: Duration::from_secs(seconds),
            canary: Count { requests: 100, failed: 1, abandoned: 0 },
            peers: [peer; PEERS.len()],
        };
        let releases = [
            release(Some(End::Promoted), 600, Peer::WentOn),
            release(Some(End::RolledBack(1)), 70, Peer::RolledBack(Duration::from_secs(300))),
            release(Some(End::RolledBack(0)), 90, Peer::WentOn),
            release(Some(End::Inconclusive(0)), 900, Peer::Cut),
            release(None, 50, Peer::Cut),
        ];
        let outcome = outcome("as it was".to_owned(), true, &releases);
        assert_eq!(outcome.promoted, Share { of: 1, all: 5 });
        assert_eq!(outcome.inconclusive, Share { of: 2, all: 5 });
        let [ours, flagger, ..] = outcome.rules.as_slice() else { panic!("{outcome:?}") };
        assert_eq!(ours.rolled_back, Share { of: 2, all: 5 });
        assert_eq!(ours.median_seconds, Some(90.0));
        assert_eq!(flagger.rolled_back, Share { of: 1, all: 3 });
        assert!((outcome.failing - 0.01).abs() < 1e-12);
    }
}
