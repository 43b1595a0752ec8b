//! What follows when a step's time is over without enough evidence or without any, as timelines like
//! those of `timelines`.

use std::collections::BTreeSet;

use surefoot_core::api::ActionKind;
use surefoot_core::api::status::{
    Condition, ConditionStatus, HoldReason, Outcome, Phase, ReleaseKind,
};

use super::World;
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

fn without_evidence(world: &World) -> Option<Condition> {
    let status = world.status().expect("it is there");
    status.conditions.into_iter().find(|c| c.kind == "PromotedWithoutEvidence")
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
