//! The end of every decision: conditions, the message, and whether it is worth a write.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{Case, Outcome, between};
use crate::api::status::{
    Condition, ConditionStatus, HoldReason, Phase, RolloutStatus, Verdict, WaitingKind,
};
use crate::observed::HoldMode;
use crate::plan::{Plan, digest};

/// Evidence alone is written at most this often.
const CHECKPOINT: Duration = Duration::from_secs(60);
/// A new kind of wait is written at most this often.
const WAITS: Duration = Duration::from_secs(10);

pub(super) fn finish(mut case: Case<'_>, plan: Option<Plan>, old: &RolloutStatus) -> Outcome {
    case.status.observed_generation = case.rollout.metadata.generation.unwrap_or(0);
    if let Some(claim) = case.seen.claim.as_ref().filter(|_| super::in_release(case.status.phase)) {
        let message = format!("in the middle of a release {claim}");
        case.wait(WaitingKind::Prerequisite, message);
        case.status.waiting_on.rotate_right(1);
    }
    case.status.message = summary(&case.status);
    conditions(&mut case);
    case.notifications();
    if old.checkpoint_at.is_some_and(|at| at > case.now) {
        case.status.checkpoint_at = None;
    }
    if changed(old, &case.status, case.now) {
        case.status.checkpoint_at = Some(case.now);
    } else if let Some(at) = old.checkpoint_at
        && volatile(old) != volatile(&case.status)
    {
        let pause = if kinds(old) == kinds(&case.status) { CHECKPOINT } else { WAITS };
        case.wake(super::after(at, pause));
    }
    Outcome {
        given_up: case.settled.given_up(),
        status: case.status,
        desired: case.desired,
        plan,
        requeue_at: case.requeue_at,
    }
}

/// The phase with its first reason, in one line.
#[must_use]
pub fn summary(status: &RolloutStatus) -> String {
    let decision = status.decision.as_ref();
    let why = || decision.map(|d| d.reason.clone()).unwrap_or_default();
    let first = status.waiting_on.first().map(|w| w.message.clone());
    let refused = status.waiting_on.first().filter(|w| w.kind == WaitingKind::Refused);
    let text = match status.phase {
        _ if refused.is_some() => first.unwrap_or_default(),
        Phase::Healthy => first.unwrap_or_else(|| "at rest".to_owned()),
        Phase::Degraded if decision.is_some_and(|d| d.verdict == Verdict::Rollback) => {
            match status.waiting_on.first() {
                Some(w)
                    if matches!(
                        w.kind,
                        WaitingKind::Prerequisite
                            | WaitingKind::RouteAccepted
                            | WaitingKind::TrafficOwnership
                    ) =>
                {
                    w.message.clone()
                }
                _ => format!("rolled back: {}", why()),
            }
        }
        Phase::RollingBack => format!("rolling back: {}", why()),
        _ => first.unwrap_or_else(why),
    };
    text.chars().take(1000).collect()
}

/// Whether the new status must be written now: anything but evidence at once, new kinds of wait
/// every ten seconds, evidence every sixty.
#[must_use]
pub fn changed(old: &RolloutStatus, new: &RolloutStatus, now: Timestamp) -> bool {
    if firm(old) != firm(new) {
        return true;
    }
    if volatile(old) == volatile(new) {
        return false;
    }
    let since = old.checkpoint_at.map_or(Duration::MAX, |at| between(at, now));
    since >= CHECKPOINT || (since >= WAITS && kinds(old) != kinds(new))
}

/// The kinds of wait. What the mesh says of a route is a kind of its own each.
fn kinds(status: &RolloutStatus) -> BTreeSet<(WaitingKind, &str)> {
    let kinds = status.waiting_on.iter().map(|w| match w.kind {
        WaitingKind::RouteAccepted => (w.kind, w.message.as_str()),
        kind => (kind, ""),
    });
    kinds.collect()
}

fn firm(status: &RolloutStatus) -> RolloutStatus {
    let mut firm = status.clone();
    firm.message.clear();
    // That a write is refused is told at once, and that it no longer is.
    firm.waiting_on.retain(|w| w.kind == WaitingKind::Refused);
    firm.waiting_on.iter_mut().for_each(|w| w.message.clear());
    firm.analysis.clear();
    firm.evidence = None;
    firm.engine = None;
    firm.checkpoint_at = None;
    for condition in &mut firm.conditions {
        condition.message.clear();
        condition.last_transition_time = Timestamp::UNIX_EPOCH;
    }
    if let Some(release) = firm.release.as_mut() {
        release.deployment_generation = 0;
    }
    if let Some(step) = firm.step.as_mut() {
        step.ready_pods = 0;
        step.dark_since = None;
        step.dark_seconds = 0;
    }
    // What a channel got is written at once, so that a crash repeats one message at most. Events
    // have names and can't repeat: they leave with the next write, and at rest, where nothing else
    // would take them along, by themselves.
    if !matches!(status.phase, Phase::Healthy | Phase::Degraded | Phase::Pending) {
        let undelivered = firm.outbox.last().map(|n| n.id.clone());
        firm.outbox.retain(|n| !n.to.is_empty() || Some(&n.id) == undelivered.as_ref());
    }
    firm
}

fn volatile(status: &RolloutStatus) -> (&[crate::api::status::Waiting], &Option<String>) {
    (&status.waiting_on, &status.engine)
}

/// kstatus reads Reconciling and Stalled; people read Ready.
fn conditions(case: &mut Case<'_>) {
    use ConditionStatus::{False, True};
    let now = case.now;
    let phase = case.status.phase;
    let stalled = matches!(phase, Phase::Degraded)
        || (phase == Phase::Pending && !case.status.waiting_on.is_empty());
    let healthy = phase == Phase::Healthy;
    let message = case.status.message.clone();
    let reason = reason(&case.status);
    set(&mut case.status, now, "Ready", if healthy { True } else { False }, &reason, &message);
    let moving = !healthy && !stalled;
    set(&mut case.status, now, "Reconciling", if moving { True } else { False }, &reason, &message);
    set(&mut case.status, now, "Stalled", if stalled { True } else { False }, &reason, &message);
    let paused =
        case.seen.deployment.as_ref().is_some_and(|d| d.paused || super::in_release(phase));
    let (hold, hold_reason, hold_message) = match case.seen.hold {
        HoldMode::Policy { ready: true } => {
            (True, "Policy", "a new template is held by admission policy")
        }
        HoldMode::Policy { ready: false } => {
            (False, "PolicyMissing", "a new template would roll out natively")
        }
        HoldMode::PausedAtRest if paused => {
            (True, "PausedAtRest", "the Deployment stays paused at rest")
        }
        HoldMode::PausedAtRest => (False, "NotPaused", "the Deployment isn't paused yet"),
    };
    set(&mut case.status, now, "HoldReady", hold, hold_reason, hold_message);
    let pending = super::in_release(phase)
        && case.seen.spec.as_ref().is_ok_and(|spec| {
            let plan = digest(&super::frozen(spec));
            case.status.release.as_ref().is_some_and(|r| r.plan_hash != plan)
        });
    let (status, why) = if pending {
        (True, "the spec was edited during a release: the edit counts from the next one")
    } else {
        (False, "the release follows the spec")
    };
    set(
        &mut case.status,
        now,
        "SpecChangePending",
        status,
        if pending { "Frozen" } else { "InSync" },
        why,
    );
}

fn reason(status: &RolloutStatus) -> String {
    let hold = status.step.as_ref().and_then(|s| s.hold.as_ref());
    match (status.phase, hold.map(|h| h.reason), status.waiting_on.first()) {
        (Phase::Paused, Some(HoldReason::Inconclusive), _) => "Inconclusive".to_owned(),
        (Phase::Paused, Some(HoldReason::NoData), _) => "NoData".to_owned(),
        (Phase::Paused, Some(HoldReason::WeightLowered), _) => "WeightLowered".to_owned(),
        (Phase::Paused, Some(HoldReason::TrafficOwnershipConflict), _) => {
            "TrafficOwnershipConflict".to_owned()
        }
        (_, _, Some(w)) if w.kind == WaitingKind::Refused => "Refused".to_owned(),
        (Phase::Degraded, _, Some(w)) if w.kind == WaitingKind::TrafficOwnership => {
            "TrafficOwnershipConflict".to_owned()
        }
        (Phase::Paused | Phase::Pending, None, Some(waiting)) => format!("{:?}", waiting.kind),
        (phase, ..) => phase.as_str().to_owned(),
    }
}

pub(super) fn set(
    of: &mut RolloutStatus,
    now: Timestamp,
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
) {
    let observed_generation = of.observed_generation;
    let next = |last_transition_time| Condition {
        kind: kind.to_owned(),
        status,
        observed_generation,
        last_transition_time,
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    match of.conditions.iter_mut().find(|c| c.kind == kind) {
        Some(have) => {
            let at = if have.status == status { have.last_transition_time } else { now };
            *have = next(at);
        }
        None => of.conditions.push(next(now)),
    }
}

/// The status that says that no other one can be written, with no field that an older definition of
/// the kind might not know; `None` when it says so already.
#[must_use]
pub fn outdated(old: &RolloutStatus, message: &str, now: Timestamp) -> Option<RolloutStatus> {
    const REASON: &str = "CRDOutdated";
    if old.conditions.iter().any(|c| c.kind == "Stalled" && c.reason == REASON) {
        return None;
    }
    let mut status = old.clone();
    status.message = message.chars().take(1000).collect();
    let message = status.message.clone();
    set(&mut status, now, "Ready", ConditionStatus::False, REASON, &message);
    set(&mut status, now, "Reconciling", ConditionStatus::False, REASON, &message);
    set(&mut status, now, "Stalled", ConditionStatus::True, REASON, &message);
    Some(status)
}

/// The plan said to go on without enough evidence; that stays to be seen until the next release.
pub(super) fn without_evidence(case: &mut Case<'_>) {
    let message = "a step was left at maxDuration without enough evidence, as the plan says";
    let now = case.now;
    set(
        &mut case.status,
        now,
        "PromotedWithoutEvidence",
        ConditionStatus::True,
        "OnInconclusive",
        message,
    );
}
