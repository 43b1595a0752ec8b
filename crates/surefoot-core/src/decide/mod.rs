//! The decision: what ought to be now, and why. Pure; deciding twice is the same as once.
//!
//! One file a stretch of a release's way: at [`rest`], [`prepare`], [`step`], [`promote`],
//! [`rollback`], and [`delete`] for a Rollout that goes away.

mod commands;
mod delete;
mod gate;
mod outbox;
mod outcome;
mod ownership;
mod pass;
mod prepare;
mod promote;
mod reach;
mod refused;
mod rest;
mod rollback;
mod step;
mod undo;

pub use outcome::{changed, outdated, summary};

use std::time::Duration;

use jiff::Timestamp;

use crate::api::Rollout;
use crate::api::action::ActionKind;
use crate::api::notice::Reason;
use crate::api::rollout::{RequestMatch, RolloutSpec};
use crate::api::status::{
    Decision, Hold, Phase, ReleaseKind, RolloutStatus, Verdict, Waiting, WaitingKind,
};
use crate::desired::{Desired, Pin};
use crate::observed::{HoldMode, Observed, Owner, ReplicaSet};
use crate::plan::{Plan, PlanError};
use crate::samples::Samples;
use crate::template::{equal, template_digest};
use crate::write::FINALIZER;

/// Who decides when nobody asked.
pub const CONTROLLER: &str = "surefoot";

/// What came out of one look.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The status to commit.
    pub status: RolloutStatus,
    /// What ought to be, once the status is committed.
    pub desired: Desired,
    /// The plan that `desired` speaks of; `None` when there is none that makes sense.
    pub plan: Option<Plan>,
    /// When to look again if nothing happens.
    pub requeue_at: Option<Timestamp>,
    /// How many messages are given up for good by this.
    pub given_up: i64,
}

/// Decide.
#[must_use]
pub fn decide(rollout: &Rollout, seen: &Observed, samples: &Samples, now: Timestamp) -> Outcome {
    let old = rollout.status.clone().unwrap_or_default();
    let deleting = rollout.metadata.deletion_timestamp.is_some();
    let plan = plan_of(rollout, &old, seen);
    let mut status = old.clone();
    status.waiting_on.clear();
    let wanted = &rollout.spec.notifications;
    let settled = outbox::settle(&mut status.outbox, wanted, &seen.delivery, now);
    let mut case = Case {
        rollout,
        seen,
        samples,
        now,
        deleting,
        status,
        settled,
        desired: Desired::default(),
        requeue_at: None,
    };
    // Only a status that somebody else wrote has a frozen plan that can't be read. The way back
    // needs names alone, and those the spec has too.
    let unreadable = plan.as_ref().err().filter(|_| in_release(old.phase)).map(ToString::to_string);
    let plan = match (plan, &unreadable) {
        (Err(error), Some(_)) => bare(rollout).map_err(|_| error),
        (plan, _) => plan,
    };
    match &plan {
        // Nothing can be put right there any more, nor must anything wait for us.
        _ if seen.namespace_terminating => case.give_way(),
        Ok(_) if unreadable.is_some() && old.phase != Phase::RollingBack => {
            let error = unreadable.unwrap_or_default();
            case.roll_back(CONTROLLER, format!("the frozen plan can't be read: {error}"));
        }
        Err(error) if deleting => case.abandon(&error.to_string()),
        Err(error) => {
            case.fail("InvalidSpec", &error.to_string());
            commands::answer(&mut case);
        }
        Ok(plan) => case.go(plan),
    }
    if let (Ok(plan), Some(weight)) = (&plan, case.desired.weight) {
        case.desired.chosen = case.chosen(plan, weight).to_vec();
    }
    ownership::settle(&mut case);
    refused::tell(&mut case);
    outcome::finish(case, plan.ok(), &old)
}

/// Whether a release is under way in this phase.
#[must_use]
pub fn in_release(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Preparing | Phase::Stepping | Phase::Paused | Phase::Promoting | Phase::RollingBack
    )
}

/// The frozen plan while a release is under way, else that of the spec.
fn plan_of(rollout: &Rollout, status: &RolloutStatus, seen: &Observed) -> Result<Plan, PlanError> {
    match &status.release {
        Some(release) if in_release(status.phase) => {
            let frozen: RolloutSpec =
                serde_json::from_value(release.plan.clone()).map_err(|e| PlanError::Invalid {
                    path: "status.release.plan".to_owned(),
                    problem: e.to_string(),
                    remedy: "it is written by the controller alone".to_owned(),
                })?;
            let plan = Plan::of(&frozen)?;
            Ok(if is_immediate(release.kind, &plan) { plan.immediate() } else { plan })
        }
        // Templates matter only when a release begins; what runs must not stall for them, nor what
        // goes away.
        _ if rollout.metadata.deletion_timestamp.is_some() => bare(rollout),
        _ => match &seen.spec {
            Ok(spec) => Plan::of(spec),
            Err(error) => {
                bare(rollout)?;
                Err(error.clone())
            }
        },
    }
}

/// The plan of the spec without its analysis: what is left when templates are missing.
fn bare(rollout: &Rollout) -> Result<Plan, PlanError> {
    Plan::of(&RolloutSpec { analysis: None, ..rollout.spec.clone() })
}

/// What a release freezes of the spec: all but `paused` and `notifications`, which count at any time.
fn frozen(spec: &RolloutSpec) -> serde_json::Value {
    // The type was read from JSON and goes back to it.
    serde_json::to_value(RolloutSpec { paused: false, notifications: Vec::new(), ..spec.clone() })
        .unwrap_or_default()
}

fn is_immediate(kind: ReleaseKind, plan: &Plan) -> bool {
    kind == ReleaseKind::Undo && plan.undo == crate::api::rollout::Undo::Immediate
}

/// A decision in the making: all that is looked at, and what has been concluded so far.
struct Case<'a> {
    rollout: &'a Rollout,
    seen: &'a Observed,
    samples: &'a Samples,
    now: Timestamp,
    deleting: bool,
    status: RolloutStatus,
    settled: outbox::Settled,
    desired: Desired,
    requeue_at: Option<Timestamp>,
}

impl Case<'_> {
    fn go(&mut self, plan: &Plan) {
        if self.deleting && !in_release(self.status.phase) {
            return delete::decide(self, plan);
        }
        if !self.deleting && !self.has_finalizer() {
            self.desired.finalizer = Some(true);
        }
        if self.status.phase != Phase::Promoting {
            self.revive();
        }
        commands::hear(self);
        match self.status.phase {
            Phase::Pending | Phase::Healthy | Phase::Degraded => {
                rest::decide(self, plan);
                commands::answer(self);
            }
            Phase::Preparing => prepare::decide(self, plan),
            Phase::Stepping | Phase::Paused => step::decide(self, plan),
            Phase::Promoting => promote::decide(self, plan),
            Phase::RollingBack => rollback::decide(self, plan),
        }
        commands::show_pause(self);
        commands::forget(self);
        self.sweep();
    }

    /// A ReplicaSet of ours without pods that is of no version goes: a request of a former leader that
    /// arrived after its release was over made it, and a creation has no version to be held to.
    fn sweep(&mut self) {
        let before = self.rollout.status.iter().flat_map(|s| [&s.stable, &s.canary]);
        let named = before.chain([&self.status.stable, &self.status.canary]).flatten();
        let named: Vec<&str> = named.map(|revision| revision.replica_set.as_str()).collect();
        let stray = |set: &&ReplicaSet| {
            set.owner == Owner::Rollout
                && set.replicas == 0
                && !set.deleting
                && !named.contains(&set.name.as_str())
        };
        let strays = self.seen.replica_sets.iter().filter(stray).map(|set| set.name.clone());
        self.desired.strays = strays.collect();
    }

    /// Look again no later than this.
    fn wake(&mut self, at: Timestamp) {
        self.requeue_at = Some(self.requeue_at.map_or(at, |have| have.min(at)));
    }

    /// `span` after `since`; wakes then if that is still to come. Whether it has passed.
    fn passed(&mut self, since: Timestamp, span: Duration) -> bool {
        let at = after(since, span);
        if self.now < at {
            self.wake(at);
        }
        self.now >= at
    }

    fn wait(&mut self, kind: WaitingKind, message: impl Into<String>) {
        self.waiting(Waiting {
            kind,
            name: None,
            have: None,
            need: None,
            message: message.into(),
            until: None,
        });
    }

    fn waiting(&mut self, waiting: Waiting) {
        if self.status.waiting_on.len() < 20 {
            self.status.waiting_on.push(waiting);
        }
    }

    /// Record a decision. Its epoch and holder are the committer's.
    fn record(&mut self, verdict: Verdict, weight: i32, actor: &str, reason: impl Into<String>) {
        let before = self.status.decision.take();
        self.status.decision = Some(Decision {
            seq: before.as_ref().map_or(1, |d| d.seq + 1),
            epoch: before.as_ref().map_or(0, |d| d.epoch),
            holder: before.map(|d| d.holder).unwrap_or_default(),
            release: self.status.release.as_ref().map_or(0, |r| r.number),
            step: self.status.step.as_ref().map_or(0, |s| s.index),
            weight,
            verdict,
            actor: actor.to_owned(),
            reason: reason.into(),
            at: self.now,
        });
    }

    /// The weight that the committed decision allows.
    fn allowed(&self) -> i32 {
        self.status.decision.as_ref().map_or(0, |d| d.weight)
    }

    /// Whom the committed decision chooses for the canary beside this weight: nobody where that is none, and
    /// nobody needs to be where it is all.
    fn chosen<'p>(&self, plan: &'p Plan, weight: i32) -> &'p [RequestMatch] {
        let decision = self.status.decision.as_ref().filter(|_| (1..100).contains(&weight));
        let index = decision.and_then(|d| usize::try_from(d.step).ok());
        let step = index.and_then(|index| plan.steps.get(index));
        step.map_or(&[], |step| &step.chosen)
    }

    /// Something the user must put right before anything can go on. Routes are left alone.
    fn fail(&mut self, reason: &str, message: &str) {
        let fresh = self.status.stable.is_none();
        if !in_release(self.status.phase) {
            self.status.phase = if fresh { Phase::Pending } else { Phase::Degraded };
        }
        self.wait(WaitingKind::Prerequisite, format!("{reason}: {message}"));
    }

    /// Deleted, and the spec can't tell what there is to put back: let it go, and say so.
    fn abandon(&mut self, problem: &str) {
        if !self.status.outbox.iter().any(|n| n.reason == Reason::Abandoned) {
            let note = format!("deleted while its spec couldn't be followed: {problem}");
            self.notice(Reason::Abandoned, note, true);
        }
        self.desired.finalizer = Some(false);
    }

    /// The namespace is going away, and all that is in it.
    fn give_way(&mut self) {
        self.desired.finalizer = self.has_finalizer().then_some(false);
    }

    /// The canary's ReplicaSet.
    fn canary_set(&self) -> Option<&ReplicaSet> {
        let canary = self.status.canary.as_ref()?;
        self.seen.replica_set(&canary.replica_set)
    }

    /// The canary has become the Deployment's.
    fn adopted(&self) -> bool {
        self.canary_set().is_some_and(|set| set.owner == Owner::Deployment)
    }

    /// The Deployment's template is no longer the release's.
    fn superseded(&self) -> bool {
        let (Some(release), Some(deployment)) = (&self.status.release, &self.seen.deployment)
        else {
            return false;
        };
        deployment.generation != release.deployment_generation
            && template_digest(&deployment.template) != release.template_digest
    }

    /// What ends a release early, whatever stage it is at: deletion, abort, a new template, a
    /// Deployment that is gone. Rolls back and says so.
    fn interrupted(&mut self) -> bool {
        if self.deleting {
            self.roll_back(CONTROLLER, "the Rollout was deleted");
        } else if self.seen.deployment.is_none() {
            self.roll_back(CONTROLLER, "the Deployment is gone");
        } else if let Some((who, why)) = self.abort_asked() {
            self.roll_back(&who, why);
        } else if let Some((who, why)) = undo::interrupt(self) {
            self.roll_back(&who, why);
        } else if self.superseded() {
            self.roll_back(
                CONTROLLER,
                "the Deployment has a new template: this release is superseded",
            );
        } else {
            return false;
        }
        true
    }

    /// Begin the way back: weight 0 before anything else.
    fn roll_back(&mut self, actor: &str, reason: impl Into<String>) {
        let reason = reason.into();
        self.status.phase = Phase::RollingBack;
        self.status.pause = None;
        // A retry must know of what it tries again.
        self.use_up_all(&[ActionKind::Retry, ActionKind::Pause, ActionKind::Resume]);
        // The way back doesn't wait for whoever raced it forward.
        self.status.contest = None;
        if let Some(step) = self.status.step.as_mut() {
            step.hold = None;
        }
        self.record(Verdict::Rollback, 0, actor, reason.clone());
        let release = self.status.release.as_ref().map_or(0, |r| r.number);
        self.notice(Reason::RollingBack, format!("release {release}: {reason}"), true);
        self.status.waiting_on.clear();
        rollback::desire(self);
    }

    /// Everything selects all versions again.
    fn unpin(&mut self) {
        self.desired.pin_stable = Pin::Off;
        self.desired.pin_canary = Pin::Off;
        self.desired.pin_apex = Pin::Off;
    }

    /// Whether something is still pinned to a version.
    fn pinned(&self) -> bool {
        let ways = [&self.seen.stable, &self.seen.canary, &self.seen.apex];
        ways.into_iter().flatten().any(|way| way.pin.is_some())
    }

    fn hold(&mut self, hold: Hold) {
        self.notice(hold.reason.into(), hold.message.clone(), true);
        self.held(hold);
    }

    /// Hold the step without a word.
    fn held(&mut self, hold: Hold) {
        self.status.phase = Phase::Paused;
        // What people said before they could know of the hold doesn't end it.
        let promotes: Vec<_> = self.promotes().collect();
        promotes.into_iter().for_each(|action| self.use_up(action));
        if let Some(release) = self.status.release.as_mut() {
            release.promoted_by = None;
        }
        if let Some(step) = self.status.step.as_mut() {
            step.approved_by = None;
            step.hold = Some(hold);
        }
    }

    /// What the Deployment's label and pause must be at rest.
    fn rest_deployment(&mut self) {
        let Some(deployment) = &self.seen.deployment else { return };
        self.desired.deployment.managed = Some(true);
        self.desired.deployment.owner.clone_from(&self.rollout.metadata.name);
        match self.seen.hold {
            HoldMode::PausedAtRest => self.desired.deployment.paused = Some(true),
            // A pause that isn't our policy's is the user's.
            HoldMode::Policy { .. } if deployment.held => {
                self.desired.deployment.seen = Some(template_digest(&deployment.template));
                self.desired.deployment.paused = Some(false);
                self.desired.deployment.unheld = true;
            }
            HoldMode::Policy { .. } => {}
        }
    }

    /// A Deployment that is scaled up from 0 while a new template is held revives its newest
    /// ReplicaSet, which after an undo isn't stable's: put that right.
    fn revive(&mut self) {
        let (Some(deployment), Some(stable)) = (&self.seen.deployment, &self.status.stable) else {
            return;
        };
        let Some(stable) = self.seen.replica_set(&stable.replica_set) else { return };
        let empty = stable.owner == Owner::Deployment && stable.replicas == 0;
        if !deployment.paused || deployment.replicas == 0 || !empty {
            return;
        }
        let canary = self.status.canary.as_ref().map(|c| &c.replica_set);
        let wrong = self.seen.replica_sets.iter().find(|set| {
            set.owner == Owner::Deployment
                && set.replicas > 0
                && canary != Some(&set.name)
                && !equal(&set.template, &deployment.template)
        });
        if let Some(wrong) = wrong
            && !equal(&stable.template, &deployment.template)
        {
            self.desired.revived = Some((stable.name.clone(), deployment.replicas));
            self.desired.retired = Some(wrong.name.clone());
        }
    }

    fn has_finalizer(&self) -> bool {
        let list = self.rollout.metadata.finalizers.as_deref().unwrap_or_default();
        list.iter().any(|f| f == FINALIZER)
    }
}

/// `since` and `span` later, saturating.
pub(crate) fn after(since: Timestamp, span: Duration) -> Timestamp {
    since.saturating_add(jiff::SignedDuration::try_from(span).unwrap_or_default()).unwrap_or(since)
}

/// How much time lies between, 0 where `to` is before `from` (clocks may disagree).
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
