//! The hand-over: stable's Service to the tested pods, the weight back, then the pods to the
//! Deployment. `workload.md`, the order of writes; every stage is read off the cluster, so that
//! a restart goes on where it stopped.

use super::{CONTROLLER, Case, rest, step};
use crate::api::notice::Reason;
use crate::api::rollout::Apex;
use crate::api::status::{Outcome, PastRelease, Phase, Revision, Verdict, Waiting, WaitingKind};
use crate::desired::{CanaryWanted, Pin};
use crate::engine;
use crate::observed::{Deployment, HoldMode, Service};
use crate::plan::Plan;
use crate::routing::Side;
use crate::template::{equal, template_digest};

/// All steps have passed.
pub(super) fn begin(case: &mut Case<'_>, actor: &str) {
    case.status.phase = Phase::Promoting;
    if let Some(step) = case.status.step.as_mut() {
        step.handing_over = true;
    }
    case.record(Verdict::Promote, 100, actor, "all steps passed");
    case.desired.weight = Some(100);
    case.wait(WaitingKind::Services, "the stable Service goes over to the tested pods");
}

pub(super) fn decide(case: &mut Case<'_>, plan: &Plan) {
    let Some(canary) = case.status.canary.clone() else {
        return case.fail("InvalidStatus", "status.canary is written by the controller alone");
    };
    if case.adopted() {
        return hand_back(case);
    }
    // Until the pods are the Deployment's, everything can still go back.
    if case.interrupted() {
        return;
    }
    let Some(deployment) = &case.seen.deployment else { return };
    let need = deployment.replicas;
    case.desired.pin_stable = Pin::To(canary.hash.clone());
    case.desired.pin_canary = Pin::To(canary.hash.clone());
    let alone = plan.routing.apex == Apex::StableOnly;
    if alone {
        case.desired.pin_apex = Pin::To(canary.hash.clone());
    }
    case.desired.canary = CanaryWanted::Pods { revision: canary.clone(), replicas: need };
    // What somebody lowers stays: the weight goes to 0 anyway.
    let allowed = case.allowed();
    let lower = case.seen.route.as_ref().is_ok_and(|r| r.weights.highest() < allowed);
    case.desired.weight = (!lower).then_some(allowed);
    if need == 0 {
        // Without pods nothing shows that the deployment controller has seen the hand-over.
        let message = "the Deployment is scaled to 0: the hand-over goes on when it has replicas";
        return case.wait(WaitingKind::CanaryReady, message);
    }
    let serves = |service: &Option<Service>| {
        service.as_ref().is_some_and(|s| {
            s.pin.as_ref() == Some(&canary.hash)
                && s.ready() >= need
                && s.ready() == s.ready_of(&canary.replica_set)
        })
    };
    if !serves(&case.seen.stable) || (alone && !serves(&case.seen.apex)) {
        let stable = plan.routing.destination(Side::Stable);
        return case.wait(
            WaitingKind::Services,
            format!("{stable} must reach the {need} tested pods and no others"),
        );
    }
    if case.allowed() != 0 {
        let reason = "both Services reach the tested pods: the route goes back to stable's";
        case.record(Verdict::Promote, 0, CONTROLLER, reason);
        case.desired.weight = Some(0);
        return case.wait(WaitingKind::RouteWritten, "the route is being written");
    }
    if !in_force(case, plan) {
        return;
    }
    let handed = case.status.step.as_ref().and_then(|s| s.handed_over_at).unwrap_or(case.now);
    if !case.passed(handed, plan.scale_down_delay) {
        return case.waiting(Waiting {
            kind: WaitingKind::ScaleDownDelay,
            name: None,
            have: None,
            need: None,
            message: "no traffic goes to the old pods any more; open connections may end"
                .to_owned(),
            until: Some(super::after(handed, plan.scale_down_delay)),
        });
    }
    let set = case.canary_set();
    if set.is_none_or(|s| s.ready < need || s.replicas != need) {
        return case
            .wait(WaitingKind::CanaryReady, "all tested pods must be ready to be handed over");
    }
    case.desired.canary = CanaryWanted::Adopted(canary);
    case.wait(WaitingKind::Adoption, "the tested pods become the Deployment's");
}

/// Whether the route's weights of the hand-over are written and have had their time.
fn in_force(case: &mut Case<'_>, plan: &Plan) -> bool {
    let route = match &case.seen.route {
        Ok(route) => route.clone(),
        Err(problem) => {
            case.wait(WaitingKind::Prerequisite, problem.to_string());
            return false;
        }
    };
    if case.status.step.as_ref().is_some_and(|s| s.handed_over_at.is_some()) {
        return route.is_off();
    }
    if !route.is_off() {
        case.wait(WaitingKind::RouteWritten, "the route is being written");
        return false;
    }
    let shown = case.samples.ticks.iter().any(|t| t.from >= route.since && step::shows(t, 0));
    if !shown && !case.passed(route.since, plan.propagation_delay) {
        case.wait(WaitingKind::Propagation, "the proxies are taking up the weight");
        return false;
    }
    let now = case.now;
    if let Some(step) = case.status.step.as_mut() {
        step.handed_over_at = Some(now);
    }
    true
}

/// The ReplicaSet is the Deployment's: let the Deployment go, then the Services.
fn hand_back(case: &mut Case<'_>) {
    let (Some(canary), Some(deployment)) = (case.status.canary.clone(), &case.seen.deployment)
    else {
        return;
    };
    if case.seen.route.as_ref().is_ok_and(|r| r.weights.highest() > 0 || r.chosen) {
        case.desired.weight = Some(0);
    }
    let old = case.status.stable.as_ref().and_then(|s| case.seen.replica_set(&s.replica_set));
    let old = old.filter(|s| s.name != canary.replica_set);
    if case.superseded() {
        // It stays held for the next release; the deployment controller looks after its template's
        // pods alone, so the old ones are brought to an end here.
        if let Some(old) = old.filter(|s| s.replicas > 0) {
            if equal(&old.template, &deployment.template) {
                let why = "the template went back to stable's while the pods were handed over";
                return case.roll_back(CONTROLLER, why);
            }
            case.desired.retired = Some(old.name.clone());
        }
    } else if !released(case, &canary, deployment) {
        return;
    }
    let leftover = |service: &Option<Service>| {
        service.as_ref().is_some_and(|s| s.ready() != s.ready_of(&canary.replica_set))
    };
    if old.is_some_and(|s| s.current > 0) || leftover(&case.seen.apex) {
        return case.wait(WaitingKind::OldPods, "the old pods are going");
    }
    case.unpin();
    if case.pinned() {
        return case.wait(WaitingKind::Services, "the Services are being unpinned");
    }
    finish(case);
}

/// Whether the deployment controller has seen the pods as its own, and goes on with them.
fn released(case: &mut Case<'_>, canary: &Revision, deployment: &Deployment) -> bool {
    let set = case.seen.replica_set(&canary.replica_set);
    let replicas = set.map_or(0, |s| s.replicas);
    // One that was taken over has carried a number since long ago: only its pods are proof.
    let counted = replicas > 0 && deployment.updated == replicas;
    let numbered = !canary.taken_over && set.is_some_and(|s| s.numbered);
    if deployment.observed_generation < deployment.generation || !(counted || numbered) {
        case.wait(
            WaitingKind::Adoption,
            "the deployment controller must see the tested pods as its own before it is resumed",
        );
        return false;
    }
    if case.seen.hold == HoldMode::PausedAtRest {
        return true;
    }
    case.desired.deployment.seen = Some(template_digest(&deployment.template));
    case.desired.deployment.paused = Some(false);
    case.desired.deployment.unheld = true;
    if deployment.paused || deployment.held {
        case.wait(WaitingKind::Adoption, "the Deployment is being resumed");
        return false;
    }
    true
}

fn finish(case: &mut Case<'_>) {
    let Some(canary) = case.status.canary.take() else { return };
    if let Some(release) = &case.status.release {
        let why = release.passes.last().map(|p| p.evidence.clone()).unwrap_or_default();
        let mut past = PastRelease {
            number: release.number,
            outcome: Outcome::Promoted,
            kind: release.kind,
            by: release.passes.last().map(|p| p.actor.clone()).unwrap_or_default(),
            replica_set: canary.replica_set.clone(),
            replaced: case.status.stable.as_ref().map(|s| s.replica_set.clone()),
            images: canary.images.clone(),
            started_at: release.started_at,
            ended_at: case.now,
            why,
            passes: Vec::new(),
            analysis: Vec::new(),
            evidence: None,
        };
        engine::keep(&case.status, &mut past);
        let took = super::between(release.started_at, case.now);
        let note = format!("release {} after {}", release.number, crate::words::span(took));
        rest::remember(&mut case.status.history, past);
        case.notice(Reason::Promoted, note, false);
    }
    case.status.stable = Some(Revision { taken_over: false, ..canary });
    super::reach::forget(case);
    case.status.step = None;
    case.status.engine = None;
    case.status.phase = Phase::Healthy;
}
