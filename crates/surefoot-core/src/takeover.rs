//! Taking a Rollout over, lazily: before a controller's first write on it. The epoch goes onto the
//! Rollout first and then onto every object that the release touches, so that whatever an earlier
//! leader still has under way fails.

use jiff::Timestamp;

use crate::api::RolloutStatus;
use crate::api::status::{Decision, Phase, Verdict};
use crate::write::{Target, Write};

/// What stands on an object that a release writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    /// The object.
    pub target: Target,
    /// The epoch of whoever wrote it last.
    pub epoch: i64,
    /// It carries the Rollout's name, where it must.
    pub ours: bool,
}

/// Whether this controller has taken the Rollout over, and nobody has since: an object with a higher
/// epoch (another leader's, or copied from elsewhere) would refuse every write of ours.
#[must_use]
pub fn owned(status: &RolloutStatus, holder: &str, stamped: &[Stamped]) -> bool {
    status.decision.as_ref().is_some_and(|d| {
        d.holder == holder && d.epoch > 0 && stamped.iter().all(|s| s.epoch <= d.epoch)
    })
}

/// The status that takes it over: the same decision under a new epoch. `highest` is the highest
/// epoch found on the objects.
#[must_use]
pub fn claim(status: &RolloutStatus, highest: i64, holder: &str, now: Timestamp) -> RolloutStatus {
    let mut status = status.clone();
    let before = status.decision.take();
    let epoch = before.as_ref().map_or(0, |d| d.epoch).max(highest) + 1;
    status.decision = Some(match before {
        Some(decision) => {
            Decision { seq: decision.seq + 1, epoch, holder: holder.to_owned(), ..decision }
        }
        None => Decision {
            seq: 1,
            epoch,
            holder: holder.to_owned(),
            release: 0,
            step: 0,
            weight: 0,
            verdict: Verdict::Adopt,
            actor: crate::decide::CONTROLLER.to_owned(),
            reason: "first seen".to_owned(),
            at: now,
        },
    });
    status
}

/// The objects that don't carry the decision's epoch (or the Rollout's name) yet and must before anything else is written:
/// at rest the route, in a release all of them.
#[must_use]
pub fn stamps(status: &RolloutStatus, stamped: &[Stamped]) -> Vec<Write> {
    let Some(decision) = &status.decision else { return Vec::new() };
    let rest = matches!(status.phase, Phase::Pending | Phase::Healthy | Phase::Degraded);
    let due = |s: &&Stamped| {
        let written = !rest || s.target.kind.is_route();
        written && (s.epoch < decision.epoch || !s.ours)
    };
    stamped.iter().filter(due).map(|s| Write::Stamp { target: s.target.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::Kind;

    #[test]
    fn a_claim_outranks_every_epoch_found() {
        let now = Timestamp::UNIX_EPOCH;
        let first = claim(&RolloutStatus::default(), 4, "a", now);
        let decision = first.decision.clone().unwrap();
        assert_eq!((decision.epoch, decision.seq), (5, 1));
        assert!(owned(&first, "a", &[]) && !owned(&first, "b", &[]));
        let target = Target { kind: Kind::VirtualService, name: "x".to_owned() };
        let copied = |epoch| [Stamped { target: target.clone(), epoch, ours: true }];
        assert!(owned(&first, "a", &copied(5)) && !owned(&first, "a", &copied(6)));
        let second = claim(&first, 0, "b", now).decision.unwrap();
        assert_eq!((second.epoch, second.seq, second.verdict), (6, 2, Verdict::Adopt));
    }

    #[test]
    fn at_rest_only_the_route_is_stamped() {
        let mut status = claim(&RolloutStatus::default(), 0, "a", Timestamp::UNIX_EPOCH);
        let old = |kind| {
            let target = Target { kind, name: "x".to_owned() };
            Stamped { target, epoch: 0, ours: true }
        };
        let mut stamped = [old(Kind::VirtualService), old(Kind::Service)];
        status.phase = Phase::Healthy;
        assert_eq!(stamps(&status, &stamped).len(), 1);
        status.phase = Phase::Stepping;
        assert_eq!(stamps(&status, &stamped).len(), 2);
        stamped[0].epoch = 1;
        assert_eq!(stamps(&status, &stamped).len(), 1);
        stamped[0].ours = false;
        assert_eq!(stamps(&status, &stamped).len(), 2);
    }
}
