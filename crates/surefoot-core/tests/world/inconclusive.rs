//! What follows when a step's time is over without enough evidence or without any, as timelines like
//! those of `timelines`.

use std::collections::BTreeSet;

use surefoot_core::api::ActionKind;
use surefoot_core::api::status::{
    Condition, ConditionStatus, HoldReason, Outcome, Phase, ReleaseKind, WaitingKind,
};

use super::World;
use super::controller::Mutant;
use super::script::{Op, Setup};
use super::store::text;
use super::timelines::{HARMFUL, NEWER, NEXT, abort, ends, promote, say, under_way};

/// Too few requests for the gate of 50 within 4 minutes at 10%.
const FEW: u64 = 2;

/// A release with hardly any traffic, so many looks after its first step's weight was written.
fn quiet(on_inconclusive: &'static str, looks: usize) -> World {
    let mut world = under_way(&Setup { on_inconclusive, ..Setup::plain() }, NEXT, 0);
    world.traffic.rate = Some(FEW);
    world.wait(looks);
    world
}

/// A release where there has never been more traffic than that.
fn always_quiet(on_inconclusive: &'static str) -> World {
    let setup = Setup { on_inconclusive, ..Setup::plain() };
    let mut world = World::new(&setup, Mutant::Faithful);
    world.traffic.rate = Some(FEW);
    world.wait(130);
    world.apply(&Op::Template(NEXT));
    world.wait(4);
    world
}

fn condition(world: &World, kind: &str) -> Option<Condition> {
    let status = world.status().expect("it is there");
    status.conditions.into_iter().find(|c| c.kind == kind)
}

fn without_evidence(world: &World) -> Option<Condition> {
    condition(world, "PromotedWithoutEvidence")
}

/// Every notice of this kind that there has been.
fn told(world: &World, reason: &str) -> BTreeSet<String> {
    let rollouts = world.history.iter().flat_map(|m| m.objects.values());
    let outboxes = rollouts.filter_map(|o| o["status"]["outbox"].as_array().cloned());
    let notices = outboxes.flatten().filter(|n| n["reason"] == reason);
    notices.map(|n| text(&n, "/id").to_owned()).collect()
}

#[test]
fn an_inconclusive_step_is_held_until_a_person_decides() {
    let mut world = quiet("pause", 70);
    let step = world.status().and_then(|s| s.step).expect("a step");
    assert_eq!(step.hold.map(|h| h.reason), Some(HoldReason::Inconclusive));
    // More traffic alone doesn't end it.
    world.traffic.rate = None;
    world.wait(20);
    assert_eq!(world.weight(), 10);
    world.apply(&promote());
    let world = ends(world, "inconclusive-pause");
    assert_eq!(without_evidence(&world), None);
}

#[test]
fn an_inconclusive_step_that_is_resumed_looks_on() {
    let mut world = quiet("pause", 70);
    world.apply(&say(ActionKind::Resume));
    world.wait(1);
    assert_eq!(world.status().map(|s| s.phase), Some(Phase::Stepping));
    world.traffic.rate = None;
    ends(world, "inconclusive-resumed");
}

#[test]
fn an_inconclusive_step_is_rolled_back_where_the_plan_says_so() {
    let world = ends(quiet("rollback", 0), "inconclusive-rollback");
    let status = world.status().expect("it is there");
    assert_eq!(status.history[0].outcome, Outcome::RolledBack);
    assert!(status.history[0].why.starts_with("inconclusive after 4m"), "{:?}", status.history[0]);
    assert!(status.history[0].evidence.is_some(), "it is known what there was");
}

#[test]
fn an_inconclusive_step_is_extended_and_said_so_once() {
    let mut world = quiet("extend", 120);
    let step = world.status().and_then(|s| s.step).expect("a step");
    assert!(step.overdue && step.hold.is_none() && step.index == 0);
    assert_eq!(told(&world, "Extended").len(), 1);
    world.traffic.rate = None;
    ends(world, "inconclusive-extend");
}

#[test]
fn what_is_promoted_without_evidence_says_so_until_the_next_release() {
    let mut world = ends(quiet("promote", 0), "inconclusive-promote");
    let status = world.status().expect("it is there");
    assert_eq!(status.history[0].outcome, Outcome::Promoted);
    let said = &status.history[0].passes[0].evidence;
    assert!(said.starts_with("inconclusive after 4m: success-rate"), "{said}");
    assert_eq!(without_evidence(&world).map(|c| c.status), Some(ConditionStatus::True));
    world.traffic.rate = None;
    world.apply(&Op::Template(NEWER));
    world.wait(3);
    assert_eq!(without_evidence(&world), None);
}

#[test]
fn without_metrics_it_is_rolled_back_where_the_plan_says_so() {
    let mut world = under_way(&Setup { no_data: "rollback", ..Setup::plain() }, NEXT, 4);
    world.apply(&Op::Outage(40));
    world.wait(20);
    let world = ends(world, "no-data-rollback");
    let history = world.status().map(|s| s.history).expect("it is there");
    assert!(history[0].why.starts_with("no usable metrics for"), "{:?}", history[0]);
}

#[test]
fn each_retry_says_which_try_it_is() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    for time in ["second", "third", "4th"] {
        world.apply(&abort());
        world.wait(20);
        world.apply(&say(ActionKind::Retry));
        world.wait(1);
        let status = world.status().expect("it is there");
        let reason = status.decision.map(|d| d.reason).unwrap_or_default();
        assert!(reason.contains(&format!("for the {time} time")), "{reason}");
        assert_eq!(status.release.map(|r| r.kind), Some(ReleaseKind::Retry));
        world.wait(6);
    }
}

#[test]
fn images_that_failed_before_are_said_to_have() {
    let mut world = under_way(&Setup::plain(), HARMFUL, 30);
    let began = |world: &mut World, image| {
        world.apply(&Op::Template(image));
        world.wait(2);
        world.status().and_then(|s| s.decision).map(|d| d.reason).unwrap_or_default()
    };
    let reason = began(&mut world, NEWER);
    assert!(!reason.contains("failed with"), "{reason}");
    world.apply(&abort());
    world.wait(20);
    let reason = began(&mut world, HARMFUL);
    assert!(reason.contains("images that release 1 failed with"), "{reason}");
}

#[test]
fn a_gate_out_of_reach_is_said_at_the_steps_beginning() {
    let mut world = always_quiet("pause");
    let status = world.status().expect("it is there");
    let step = status.step.expect("a step");
    let gates: Vec<_> = step.unreachable.iter().map(|g| (g.metric.as_deref(), g.need)).collect();
    // 2 requests a second for 230 of 240 seconds, of which the canary gets a tenth.
    assert_eq!(gates, [(Some("success-rate"), Some(100)), (None, Some(50))]);
    assert!(step.unreachable.iter().all(|g| g.coming == 46), "{:?}", step.unreachable);
    let said = condition(&world, "GateUnreachable").expect("a condition");
    assert_eq!(said.status, ConditionStatus::True);
    assert!(said.message.contains("raise the weight or gate.maxDuration"), "{}", said.message);
    assert_eq!(told(&world, "GateUnreachable").len(), 1);
    world.wait(3);
    let waits = world.status().map(|s| s.waiting_on).unwrap_or_default();
    let kinds = waits.iter().filter(|w| w.kind == WaitingKind::GateUnreachable).count();
    assert_eq!(kinds, 2, "{waits:?}");
    // Nothing has been made easier: the step is held at its end.
    world.wait(60);
    assert_eq!(world.weight(), 10);
    world.apply(&promote());
    let world = ends(world, "gate-unreachable");
    assert_eq!(condition(&world, "GateUnreachable"), None);
}

#[test]
fn more_traffic_brings_a_gate_within_reach() {
    let mut world = always_quiet("pause");
    world.traffic.rate = Some(4);
    world.wait(20);
    // 92 requests come now: enough for minRequests, not for the evidence.
    let step = world.status().and_then(|s| s.step).expect("a step");
    let left: Vec<_> = step.unreachable.iter().map(|g| g.metric.as_deref()).collect();
    assert_eq!((step.index, left), (0, vec![Some("success-rate")]));
    world.traffic.rate = None;
    world.wait(15);
    let step = world.status().and_then(|s| s.step).expect("a step");
    assert_eq!((step.index > 0, step.unreachable), (true, Vec::new()));
    let said = condition(&world, "GateUnreachable").expect("a condition");
    assert_eq!(said.status, ConditionStatus::False);
}

#[test]
fn a_step_without_an_end_is_never_out_of_reach() {
    let world = always_quiet("extend");
    let step = world.status().and_then(|s| s.step).expect("a step");
    assert_eq!(step.unreachable, Vec::new());
}
