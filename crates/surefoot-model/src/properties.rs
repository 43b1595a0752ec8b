//! What must always hold, what must hold at rest, and what must be reached lest the rest hold of
//! nothing.

use stateright::{Model, Property};
use surefoot_core::api::status::{HoldReason, Outcome, Phase, ReleaseKind, RolloutStatus, Verdict};
use surefoot_core::template::HASH_LABEL;
use surefoot_core::write::Kind;

use crate::model::{Happening, Protocol, World, weight, weights};
use crate::process::{Ended, Job};
use crate::shared::Object;

impl Model for Protocol {
    type State = World;
    type Action = Happening;

    fn init_states(&self) -> Vec<World> {
        vec![self.beginning()]
    }

    fn actions(&self, world: &World, may: &mut Vec<Happening>) {
        self.happenings(world, may);
    }

    fn next_state(&self, before: &World, happening: Happening) -> Option<World> {
        let mut after = before.clone();
        self.change(&mut after, happening);
        (after != *before).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = invariants();
        all.push(Property::always("S8 a decision before its effect", |_, world: &World| {
            decided(world)
        }));
        all.push(Property::always("at rest it is settled", settled));
        all.extend(reached());
        all
    }
}

/// One for each invariant that the checker of traces knows.
fn invariants() -> Vec<Property<Protocol>> {
    macro_rules! unbroken {
        ($($name:literal $what:literal,)*) => {
            vec![$(Property::always(concat!($name, " ", $what), |_, world: &World| {
                world.store.checker.violations().iter().all(|v| v.invariant != $name)
            }),)*]
        };
    }
    unbroken![
        "S1" "weights sum to 100",
        "S2" "no weight above the committed decision's",
        "S3" "a weight rises after a recorded pass",
        "S4" "after a rollback no weight rises",
        "S5" "no weight without ready pods",
        "S6" "stable keeps the pods for its weight",
        "S7" "the rest of the route stays",
        "S9" "epochs and sequence never fall",
        "S10" "missing metrics never pass",
        "S12" "what the canary selects changes at weight 0",
        "S13" "stable changes after 100% and its pass",
        "S14" "an abort beats all else",
        "S15" "a person's pass is of that step",
        "S17" "at rest nothing is pinned",
        "S18" "one ReplicaSet a template",
    ]
}

/// Whether a ReplicaSet is of a version that the committed status names, or none of ours.
fn named(status: &RolloutStatus, name: &str, set: &Object) -> bool {
    let owners = set["metadata"]["ownerReferences"].as_array();
    let ours = owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "Rollout"));
    let mut known = [&status.stable, &status.canary].into_iter().flatten();
    !ours || known.any(|revision| revision.replica_set == name)
}

/// S8: what stands in the cluster for a version is of one that the committed status names. A former
/// leader's request may make a ReplicaSet late, without pods; it goes with the next look.
fn decided(world: &World) -> bool {
    let status = &world.store.status;
    let known = || [&status.stable, &status.canary].into_iter().flatten();
    world.store.objects.iter().all(|(target, object)| match target.kind {
        Kind::ReplicaSet => object["spec"]["replicas"] == 0 || named(status, &target.name, object),
        Kind::Service => {
            let pin = object["spec"]["selector"].get(HASH_LABEL);
            pin.is_none_or(|pin| known().any(|r| *pin == r.hash))
        }
        _ => true,
    })
}

/// Nothing is left to do and nothing is waited for: the Rollout says how it ended, the route carries
/// what is committed, and no ReplicaSet of ours is of no version. A former leader may still have a write under way.
fn settled(model: &Protocol, world: &World) -> bool {
    let rests = model.at_rest(world).is_some_and(|look| look.requeue_at.is_none());
    if !rests {
        return true;
    }
    let status = &world.store.status;
    let Some(decision) = &status.decision else { return false };
    let ended = matches!(status.phase, Phase::Healthy | Phase::Degraded | Phase::Paused);
    let hold = status.step.as_ref().and_then(|step| step.hold.as_ref()).map(|hold| hold.reason);
    let committed = i64::from(decision.weight);
    let carries = match hold {
        Some(HoldReason::WeightLowered) => weight(&world.store) <= committed,
        _ => weights(&world.store).all(|weight| weight == committed),
    };
    let swept = world.store.objects.iter().all(|(target, object)| {
        target.kind != Kind::ReplicaSet || named(status, &target.name, object)
    });
    ended && !status.message.is_empty() && carries && swept
}

fn kind_ended(world: &World, kind: ReleaseKind) -> bool {
    let status = &world.store.status;
    let of_kind = status.release.as_ref().is_some_and(|release| release.kind == kind);
    of_kind && status.phase == Phase::Healthy
}

/// A process that has lost the lead, in the middle of the writes of one decision or after it.
fn former(world: &World, is: impl Fn(Ended, Option<&Job>) -> bool) -> bool {
    let other = world.processes[1 - world.leader].as_ref();
    other.is_some_and(|process| is(process.ended, process.job.as_ref()))
}

fn reached() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes("promoted", |_, world: &World| {
            let status = &world.store.status;
            let promoted = status.history.first().is_some_and(|p| p.outcome == Outcome::Promoted);
            promoted && status.phase == Phase::Healthy
        }),
        Property::sometimes("rolled back", |_, world: &World| {
            let status = &world.store.status;
            let back = status.decision.as_ref().is_some_and(|d| d.verdict == Verdict::Rollback);
            back && status.phase == Phase::Degraded
        }),
        Property::sometimes("a former leader's commit is refused", |_, world: &World| {
            former(world, |ended, _| ended == Ended::NotCommitted)
        }),
        Property::sometimes("a former leader finds another decision", |_, world: &World| {
            former(world, |ended, _| ended == Ended::Superseded)
        }),
        Property::sometimes("a former leader's write is refused", |_, world: &World| {
            former(world, |ended, _| ended == Ended::Conflict)
        }),
        Property::sometimes("a stale view's commit is refused", |_, world: &World| {
            let stale = |p: &&crate::process::Process| p.frozen.is_some();
            let mut stale = world.processes.iter().flatten().filter(stale);
            stale.any(|process| process.ended == Ended::NotCommitted)
        }),
        Property::sometimes("a lost reply is overcome", |_, world: &World| {
            world.used.losses > 0
                && world.store.status.phase == Phase::Healthy
                && world.used.time > 4
        }),
        Property::sometimes("a hand-over between the writes of a decision", |_, world: &World| {
            former(world, |_, job| matches!(job, Some(Job::Act { made, .. }) if *made > 0))
        }),
        Property::sometimes("a raised weight is put right", |_, world: &World| {
            let status = &world.store.status;
            let allowed = status.decision.as_ref().map(|d| i64::from(d.weight));
            status.contest.is_some() && allowed == Some(weight(&world.store))
        }),
        Property::sometimes("a lowered weight is respected", |_, world: &World| {
            let hold = world.store.status.step.as_ref().and_then(|step| step.hold.as_ref());
            hold.is_some_and(|hold| hold.reason == HoldReason::WeightLowered)
        }),
        Property::sometimes("a release is undone", |_, world: &World| {
            kind_ended(world, ReleaseKind::Undo)
        }),
    ]
}
