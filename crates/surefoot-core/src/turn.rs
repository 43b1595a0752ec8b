//! One look at a Rollout, up to what has to be written and in which order (`protocol.md`, steps 1 to
//! 5). The controller, the random walks and the model checker all go by this.

use jiff::Timestamp;
use json_patch::{Patch, PatchOperation};
use serde_json::json;

use crate::api::{Rollout, RolloutStatus};
use crate::decide::{changed, decide};
use crate::desired::{last, writes};
use crate::observed::Observed;
use crate::plan::Plan;
use crate::samples::Samples;
use crate::takeover::{Stamped, claim, owned, stamps};
use crate::write::Write;

/// What to do now. Each write is a call of [`crate::act::next`], each status one conditional write of
/// the whole; when one of them fails, all of it is dropped.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Nothing.
    Rest,
    /// Commit this status, which takes the Rollout over, and look again.
    TakeOver(Box<RolloutStatus>),
    /// Put our epoch on these objects, which an earlier leader may still write, and look again.
    Stamp(Vec<Write>),
    /// Commit this status, and only then make the writes.
    Commit(Box<RolloutStatus>, Vec<Write>),
    /// Make the writes of the decision that is committed.
    Act(Vec<Write>),
}

/// What came out of a look.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// What to do now.
    pub next: Next,
    /// The plan that is followed; `None` when there is none that makes sense.
    pub plan: Option<Plan>,
    /// When to look again if nothing happens.
    pub requeue_at: Option<Timestamp>,
    /// How many messages are given up for good by this.
    pub given_up: i64,
}

/// Decide, and say what comes next for the controller that goes by the name of `holder`.
#[must_use]
pub fn turn(
    rollout: &Rollout,
    seen: &Observed,
    stamped: &[Stamped],
    samples: &Samples,
    holder: &str,
    now: Timestamp,
) -> Turn {
    let old = rollout.status.clone().unwrap_or_default();
    let outcome = decide(rollout, seen, samples, now);
    // Without a plan that makes sense there is still the Rollout to be let go.
    let acts = match &outcome.plan {
        Some(plan) => writes(&outcome.desired, seen, plan),
        None => last(&outcome.desired).into_iter().collect(),
    };
    // Where the namespace goes away, so may our rights: the Rollout is let go and nothing else.
    let commits = changed(&old, &outcome.status, now) && !seen.namespace_terminating;
    let next = if !commits && acts.is_empty() {
        Next::Rest
    } else if !seen.namespace_terminating && !owned(&old, holder, stamped) {
        // Nothing is written, not even a status, before the Rollout is ours.
        let highest = stamped.iter().map(|s| s.epoch).max().unwrap_or(0);
        Next::TakeOver(Box::new(claim(&old, highest, holder, now)))
    } else {
        // Nor before every object that an earlier leader may still write carries our epoch.
        let stamps = stamps(&old, stamped);
        if !stamps.is_empty() && !seen.namespace_terminating {
            Next::Stamp(stamps)
        } else if commits {
            Next::Commit(Box::new(outcome.status), acts)
        } else {
            Next::Act(acts)
        }
    };
    Turn { next, plan: outcome.plan, requeue_at: outcome.requeue_at, given_up: outcome.given_up }
}

/// The one write that commits a status: onto the Rollout as it was read, or not at all.
#[must_use]
pub fn commit(rollout: &Rollout, status: &RolloutStatus) -> Patch {
    let version = &rollout.metadata.resource_version;
    let operations = [
        json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}),
        json!({"op": "add", "path": "/status", "value": status}),
    ];
    // Each is one.
    let operations = operations.map(serde_json::from_value::<PatchOperation>);
    Patch(operations.into_iter().flatten().collect())
}
