//! What people say, as timelines like those of `timelines`.

use serde_json::Value;
use surefoot_core::api::ActionKind;
use surefoot_core::api::status::{HoldReason, Phase, ReleaseKind};

use super::World;
use super::script::{Op, Setup};
use super::store::text;
use super::story::tell;
use super::timelines::{
    HARMFUL, NEWER, NEXT, abort, committed_50, ends, left, promote, say, under_way,
};

#[test]
fn a_paused_release_stays_at_its_weight() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    world.apply(&say(ActionKind::Pause));
    world.wait(60);
    assert_eq!(world.weight(), 10);
    assert_eq!(world.status().map(|s| s.phase), Some(Phase::Paused));
    world.apply(&say(ActionKind::Resume));
    ends(world, "paused");
}

#[test]
fn harm_ends_a_paused_release() {
    let mut world = under_way(&Setup::plain(), HARMFUL, 2);
    world.apply(&say(ActionKind::Pause));
    ends(world, "paused-harm");
}

#[test]
fn an_abort_beats_what_is_said_with_it() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    for kind in ActionKind::ALL {
        world.apply(&say(kind));
    }
    let world = ends(world, "all-at-once");
    // What remains of it all is the undo: stable's template is back.
    assert_eq!(left(&world), ("shop:v0".to_owned(), false));
}

#[test]
fn held_for_no_data_it_is_resumed() {
    let mut world = under_way(&Setup::plain(), NEXT, 4);
    world.apply(&Op::Silence(60));
    world.wait(15);
    world.apply(&say(ActionKind::Resume));
    world.wait(4);
    assert_eq!(world.status().map(|s| s.phase), Some(Phase::Stepping), "it looks on");
    ends(world, "no-data-resumed");
}

#[test]
fn what_failed_is_tried_again() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    world.apply(&abort());
    world.wait(20);
    world.apply(&say(ActionKind::Retry));
    let world = ends(world, "retry");
    let history = world.status().map(|s| s.history).unwrap_or_default();
    assert_eq!(history[0].kind, ReleaseKind::Retry);
}

#[test]
fn a_release_is_undone() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    world.apply(&say(ActionKind::Undo));
    assert_eq!(left(&ends(world, "undo-midway")), ("shop:v0".to_owned(), false));
}

#[test]
fn a_failed_release_is_undone() {
    for (policy, name) in [(true, "undo-degraded"), (false, "undo-degraded-paused-at-rest")] {
        let mut world = under_way(&Setup { policy, ..Setup::plain() }, NEXT, 40);
        world.apply(&Op::Template(HARMFUL));
        world.wait(30);
        assert_eq!(world.status().map(|s| s.phase), Some(Phase::Degraded));
        // Twice means once: stable's, not that of the version before.
        world.apply(&say(ActionKind::Undo));
        world.apply(&say(ActionKind::Undo));
        assert_eq!(left(&ends(world, name)), ("shop:v1".to_owned(), !policy));
    }
}

#[test]
fn at_rest_the_version_before_comes_back() {
    for (policy, name) in [(true, "undo-healthy"), (false, "undo-healthy-paused-at-rest")] {
        let mut world = under_way(&Setup { policy, ..Setup::plain() }, NEXT, 40);
        assert_eq!(world.status().map(|s| s.phase), Some(Phase::Healthy));
        world.apply(&say(ActionKind::Undo));
        let world = ends(world, name);
        assert_eq!(left(&world), ("shop:v0".to_owned(), !policy));
        let release = world.status().and_then(|s| s.release);
        assert_eq!(release.map(|r| r.kind), Some(ReleaseKind::Undo));
    }
}

#[test]
fn an_undo_that_cannot_be_done_is_answered() {
    let mut world = under_way(&Setup::plain(), NEXT, 40);
    let name = world.store.list("ReplicaSet").into_iter().find(|s| s["spec"]["replicas"] == 0);
    let name = name.map(|s| text(&s, "/metadata/name").to_owned()).expect("stable's old one");
    world.store.remove("ReplicaSet", &name);
    world.apply(&say(ActionKind::Undo));
    world.wait(1);
    let rollouts = world.history.iter().flat_map(|m| m.objects.values());
    let mut notes =
        rollouts.filter(|o| text(o, "/kind") == "Rollout").map(|o| &o["status"]["outbox"]);
    let answered = |note: &Value| note.to_string().contains("its ReplicaSet is gone");
    assert!(notes.any(answered), "{}", tell(&world.store));
    assert_eq!(left(&world), ("shop:v1".to_owned(), false));
}

#[test]
fn nothing_is_undone_where_it_would_roll_out_natively() {
    let mut world = under_way(&Setup::plain(), NEXT, 40);
    (world.policy_acts, world.store.policy) = (false, false);
    world.apply(&say(ActionKind::Undo));
    world.wait(10);
    assert_eq!(left(&world), ("shop:v1".to_owned(), false));
}

#[test]
fn a_retry_said_before_anything_failed_is_none() {
    let mut world = under_way(&Setup::plain(), HARMFUL, 1);
    world.apply(&say(ActionKind::Retry));
    let world = ends(world, "retry-too-early");
    assert_eq!(world.status().and_then(|s| s.release).map(|r| r.number), Some(1));
}

#[test]
fn an_approval_given_before_a_hold_does_not_end_it() {
    let steps = vec![(10, true), (100, false)];
    let mut world = under_way(&Setup { steps, ..Setup::plain() }, NEXT, 4);
    world.apply(&Op::Outage(60));
    world.apply(&promote());
    world.wait(25);
    let status = world.status().expect("it is there");
    let step = status.step.expect("a step");
    let held = step.hold.map(|h| h.reason);
    assert_eq!((step.index, held), (0, Some(HoldReason::NoData)));
    world.apply(&promote());
    world.wait(2);
    assert_eq!(world.status().and_then(|s| s.step).map(|s| s.index), Some(1));
}

#[test]
fn the_newest_pause_is_kept() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    world.apply(&say(ActionKind::Pause));
    world.wait(2);
    for _ in 0..25 {
        world.apply(&Op::Command { kind: ActionKind::Promote, release: 0, step: 1 });
    }
    world.wait(4);
    assert!(world.store.get("RolloutAction", "command-1").is_some());
}

#[test]
fn a_release_hears_so_many_commands_and_always_an_abort() {
    let steps = vec![(10, true), (100, false)];
    let mut world = under_way(&Setup { steps, ..Setup::plain() }, NEXT, 8);
    for _ in 0..35 {
        world.apply(&say(ActionKind::Pause));
        world.wait(1);
        world.apply(&say(ActionKind::Resume));
        world.wait(1);
    }
    let status = world.status().expect("it is there");
    assert_eq!((status.phase, status.used_actions.len()), (Phase::Paused, 64));
    assert!(status.pause.is_some(), "a pause counts, a resume doesn't");
    world.apply(&abort());
    world.wait(20);
    assert_eq!(world.status().map(|s| s.phase), Some(Phase::Degraded));
}

#[test]
fn a_template_set_meanwhile_beats_an_undo() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    world.apply(&say(ActionKind::Undo));
    world.wait(1);
    world.apply(&Op::Template(NEWER));
    assert_eq!(left(&ends(world, "undo-superseded")), ("shop:v2".to_owned(), false));
}

#[test]
fn a_whole_release_is_promoted() {
    let steps = vec![(10, true), (50, false), (100, true)];
    let mut world = under_way(&Setup { steps, ..Setup::plain() }, NEXT, 4);
    world.apply(&say(ActionKind::PromoteFull));
    let world = ends(world, "promote-full");
    let release = world.status().and_then(|s| s.release).expect("a release");
    assert_eq!(release.passes.len(), 3);
    assert!(release.passes.iter().all(|p| p.actor == "person-1"), "{:?}", release.passes);
}

#[test]
fn harm_ends_a_release_promoted_in_full() {
    let mut world = under_way(&Setup::plain(), HARMFUL, 2);
    world.apply(&say(ActionKind::PromoteFull));
    let world = ends(world, "promote-full-harm");
    assert_eq!(world.status().map(|s| s.phase), Some(Phase::Degraded));
}

/// The controller stands still between its commit of the next step and the write; the glass is
/// broken, and it goes on where it was.
#[test]
fn a_broken_glass_stops_a_write_under_way() {
    let mut world = under_way(&Setup::plain(), NEXT, 0);
    world.until(World::creep, committed_50);
    world.apply(&Op::BreakGlass { release: 0 });
    world.wait(2);
    ends(world, "break-glass-under-way");
}

/// No controller is there when the glass is broken; another one comes.
#[test]
fn a_broken_glass_is_an_abort() {
    let mut world = under_way(&Setup::plain(), NEXT, 0);
    world.until(World::creep, committed_50);
    assert_eq!(world.weight(), 10, "50% is decided and not written");
    world.apply(&Op::BreakGlass { release: 0 });
    assert_eq!(world.weight(), 0);
    world.apply(&Op::Crash);
    let world = ends(world, "break-glass");
    let history = world.status().map(|s| s.history).unwrap_or_default();
    assert_eq!(history[0].by, "person-1");
}

/// The same, and the one that had decided goes on as if it still led.
#[test]
fn a_leader_that_has_lost_the_lead_does_not_mend_a_broken_glass() {
    let mut world = under_way(&Setup::plain(), NEXT, 0);
    world.until(World::creep, committed_50);
    world.apply(&Op::BreakGlass { release: 0 });
    world.apply(&Op::HandOver { frozen: 0, alive: 3 });
    world.wait(4);
    ends(world, "break-glass-hand-over");
}

#[test]
fn twenty_commands_are_kept() {
    let steps = vec![(10, true), (100, false)];
    let mut world = under_way(&Setup { steps, ..Setup::plain() }, NEXT, 8);
    for _ in 0..15 {
        world.apply(&say(ActionKind::Pause));
        world.wait(1);
        world.apply(&say(ActionKind::Resume));
        world.wait(1);
    }
    world.apply(&say(ActionKind::Pause));
    world.wait(4);
    let kept: Vec<String> = world
        .store
        .list("RolloutAction")
        .iter()
        .map(|a| text(a, "/metadata/name").to_owned())
        .collect();
    assert_eq!(kept.len(), 20, "{kept:?}");
    assert!(kept.contains(&"command-31".to_owned()), "{kept:?}");
    assert_eq!(world.status().map(|s| s.phase), Some(Phase::Paused));
}
