//! The main ways through a release as timelines to read, compared with `tests/golden/*.txt`.
//! `UPDATE_GOLDEN=1` rewrites those.

use std::path::PathBuf;

use serde_json::{Value, json};
use surefoot_core::api::ActionKind;
use surefoot_core::api::status::{Phase, WaitingKind};
use surefoot_core::template::HASH_LABEL;
use surefoot_core::trace::{State, check};

use super::World;
use super::cluster::Mesh;
use super::controller::Mutant;
use super::script::{Op, Setup, Way};
use super::store::text;
use super::story::tell;

/// Version, by its place in `IMAGES`.
pub(super) const NEXT: u8 = 1;
pub(super) const NEWER: u8 = 2;
pub(super) const HARMFUL: u8 = 3;
const NEVER_READY: u8 = 4;
const WORSE: u8 = 5;

fn world(setup: &Setup) -> World {
    let mut world = World::new(setup, Mutant::Faithful);
    world.wait(2);
    world
}

/// A release of `image` that has been under way for so many looks.
pub(super) fn under_way(setup: &Setup, image: u8, looks: usize) -> World {
    let mut world = world(setup);
    world.apply(&Op::Template(image));
    world.wait(looks);
    world
}

/// Let it end, and compare its story.
pub(super) fn ends(mut world: World, name: &str) -> World {
    let rest = world.come_to_rest();
    let story = tell(&world.store);
    assert_eq!(rest, Ok(()), "{story}");
    assert!(check(&world.store.trace).is_empty(), "{:#?}\n{story}", check(&world.store.trace));
    compare(&story, name);
    world
}

fn compare(story: &str, name: &str) {
    let golden = PathBuf::from("tests/golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, story).expect("golden files can be written");
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(story, expected, "{}: UPDATE_GOLDEN=1 rewrites it", golden.display());
}

pub(super) fn say(kind: ActionKind) -> Op {
    Op::Command { kind, release: 0, step: 0 }
}

pub(super) fn promote() -> Op {
    say(ActionKind::Promote)
}

pub(super) fn abort() -> Op {
    say(ActionKind::Abort)
}

/// Somebody lets stable's Service select both versions again and again, between any two calls: no
/// step begins meanwhile, though the canary is ready.
#[test]
fn no_step_begins_while_stable_selects_both_versions() {
    let mut world = under_way(&Setup::plain(), NEXT, 0);
    for _ in 0..200 {
        world.store.edit("Service", "shop-stable", |service| {
            if let Some(selector) = service["spec"]["selector"].as_object_mut() {
                selector.remove(HASH_LABEL);
            }
        });
        world.keep();
        world.creep();
        assert_ne!(
            world.status().map(|s| s.phase),
            Some(Phase::Stepping),
            "{}",
            tell(&world.store)
        );
    }
    assert_eq!(world.status().map(|s| s.phase), Some(Phase::Preparing));
    assert_eq!(world.come_to_rest(), Ok(()), "{}", tell(&world.store));
    assert_eq!(left(&world).0, "shop:v1");
}

#[test]
fn three_steps_to_promoted() {
    ends(under_way(&Setup::plain(), NEXT, 0), "promoted");
}

#[test]
fn promoted_where_deployments_are_paused_at_rest() {
    let setup = Setup { policy: false, ..Setup::plain() };
    ends(under_way(&setup, NEXT, 0), "promoted-paused-at-rest");
}

#[test]
fn promoted_by_subsets() {
    ends(under_way(&Setup { way: Way::Subsets, ..Setup::plain() }, NEXT, 0), "promoted-by-subsets");
}

#[test]
fn harmful_by_subsets() {
    ends(under_way(&Setup { way: Way::Subsets, ..Setup::plain() }, HARMFUL, 0), "harm-by-subsets");
}

#[test]
fn promoted_and_rolled_back_by_an_http_route() {
    let setup = Setup { way: Way::Gateway, ..Setup::plain() };
    ends(under_way(&setup, NEXT, 0), "promoted-by-http-route");
    ends(under_way(&setup, HARMFUL, 0), "harm-by-http-route");
}

/// Chosen requests go to the canary while the first step lasts, by either kind of route; somebody who lets
/// their entry take more is undone, and one who takes it away respected; with an abort they go first of all.
#[test]
fn chosen_requests_come_and_go_with_their_step() {
    for (way, name) in [(Way::Services, "chosen"), (Way::Gateway, "chosen-by-http-route")] {
        let setup = Setup { way, choosing: true, ..Setup::plain() };
        ends(under_way(&setup, NEXT, 0), name);
    }
    let setup = Setup { choosing: true, ..Setup::plain() };
    let mut world = under_way(&setup, NEXT, 0);
    world.until(World::creep, |world| world.weight() == 10);
    world.wait(3);
    world.apply(&Op::Widen);
    world.wait(2);
    assert!(world.contested && !world.held_low);
    world.apply(&Op::Unchoose);
    world.wait(3);
    assert!(world.held_low && world.weight() == 10 && !world.chooses());
    world.apply(&say(ActionKind::Resume));
    world.wait(3);
    assert!(world.chooses(), "{}", tell(&world.store));
    world.apply(&abort());
    ends(world, "chosen-aborted");
}

/// The user's entry now asks for the chosen header itself, and has another weight: that is put right all the
/// same, without a choice, and what is in the way is said.
#[test]
fn a_choice_that_does_not_fit_keeps_no_weight_up() {
    let setup = Setup { choosing: true, ..Setup::plain() };
    let mut world = under_way(&setup, NEXT, 0);
    world.until(World::creep, |world| world.weight() == 10);
    world.wait(3);
    world.store.edit("VirtualService", "shop", |route| {
        let entries = route["spec"]["http"].as_array_mut().expect("a list");
        entries[1]["match"] = json!([{"headers": {"x-canary": {"exact": "false"}}}]);
        entries[1]["route"][0]["weight"] = json!(20);
        entries[1]["route"][1]["weight"] = json!(80);
    });
    world.keep();
    world.wait(3);
    assert!(world.weight() == 10 && !world.chooses(), "{}", tell(&world.store));
    let said = world.status().map(|s| s.message).unwrap_or_default();
    assert!(said.contains("already what the header \"x-canary\" must be"), "{said}");
    world.apply(&abort());
    assert_eq!(world.come_to_rest(), Ok(()), "{}", tell(&world.store));
}

/// The mesh's controller falls silent: the next weight doesn't count as in force. Later it refuses the
/// route as it is: no release begins. What it said is told; a rollback waits for nobody.
#[test]
fn no_weight_is_raised_on_a_route_that_the_mesh_does_not_follow() {
    let setup = Setup { way: Way::Gateway, ..Setup::plain() };
    let mut world = under_way(&setup, NEXT, 0);
    world.until(World::creep, |world| world.weight() == 10);
    world.cluster.mesh = Mesh::Silent;
    world.wait(20);
    let waits = |world: &World| {
        let status = world.status().expect("nobody deletes it");
        status.waiting_on.iter().map(|w| (w.kind, w.message.clone())).collect::<Vec<_>>()
    };
    let said = waits(&world);
    assert!(
        matches!(said.as_slice(), [(WaitingKind::RouteAccepted, said)] if said.contains("hasn't looked")),
        "{said:?}"
    );
    let started = world.status().and_then(|s| s.step).map(|step| step.started_at);
    assert_eq!((world.weight(), started), (50, Some(None)));
    world.cluster.mesh = Mesh::Refuses;
    world.wait(3);
    let said = waits(&world);
    assert!(said[0].1.contains("ResolvedRefs is False, BackendNotFound"), "{said:?}");
    world.apply(&abort());
    world.wait(10);
    assert_eq!((world.weight(), world.status().map(|s| s.phase)), (0, Some(Phase::Degraded)));
    world.apply(&Op::Template(NEWER));
    world.wait(20);
    assert_eq!(waits(&world)[0].0, WaitingKind::RouteAccepted);
    assert_eq!(world.status().and_then(|s| s.release).map(|r| r.number), Some(1));
    world.cluster.mesh = Mesh::Follows;
    ends(world, "route-refused");
}

#[test]
fn promoted_while_callers_outside_reach_stable_only() {
    ends(under_way(&Setup { way: Way::Alone, ..Setup::plain() }, NEXT, 0), "promoted-stable-only");
}

/// Up without traffic, looked at by a person, then all traffic at once.
#[test]
fn a_preview_and_then_all_traffic_at_once() {
    let steps = vec![(0, true), (100, false)];
    let mut world = under_way(&Setup { way: Way::Alone, steps, ..Setup::plain() }, NEXT, 0);
    world.until(World::creep, |world| {
        let status = world.status();
        status.is_some_and(|s| {
            s.waiting_on.iter().any(|w| w.kind == WaitingKind::Approval) && s.phase == Phase::Paused
        })
    });
    assert_eq!(world.weight(), 0);
    world.apply(&promote());
    ends(world, "previewed");
}

/// A person promotes the whole release from its preview: the steps between are passed by their word, and what
/// was asked of the preview stays out of it.
#[test]
fn a_whole_release_is_promoted_from_its_preview() {
    let steps = vec![(0, true), (10, false), (100, false)];
    let mut world = under_way(&Setup { way: Way::Alone, steps, ..Setup::plain() }, NEXT, 0);
    world.until(World::creep, |world| {
        world.status().is_some_and(|s| s.waiting_on.iter().any(|w| w.kind == WaitingKind::Approval))
    });
    world.apply(&say(ActionKind::PromoteFull));
    let last = |world: &World| world.status().and_then(|s| s.step).is_some_and(|s| s.index == 2);
    world.until(World::creep, last);
    let status = world.status().expect("nobody deletes it");
    let begun = status.step.map(|step| (step.index, step.begun_at));
    let counted = status.engine.as_deref().and_then(surefoot_core::engine::folded_until);
    assert_eq!(begun.map(|(index, at)| (index, Some(at))), Some((2, counted)));
    ends(world, "preview-promoted-full");
}

/// What goes wrong in it costs no request.
#[test]
fn a_preview_that_is_aborted() {
    let steps = vec![(0, true), (100, false)];
    let mut world = under_way(&Setup { way: Way::Alone, steps, ..Setup::plain() }, NEXT, 6);
    world.apply(&abort());
    ends(world, "preview-aborted");
}

#[test]
fn a_harmful_version_is_rolled_back() {
    ends(under_way(&Setup::plain(), HARMFUL, 0), "harm");
}

fn judged(metric: Value) -> Setup {
    Setup { metric, ..Setup::plain() }
}

#[test]
fn kayentas_judge_promotes_and_rolls_back() {
    let metric = json!({"name": "success-rate", "judge": "mannWhitney", "successRate": {}});
    ends(under_way(&judged(metric.clone()), NEXT, 0), "promoted-by-mann-whitney");
    ends(under_way(&judged(metric), WORSE, 0), "harm-by-mann-whitney");
}

#[test]
fn a_threshold_as_flaggers_rolls_back_at_the_fifth_missed_check() {
    let checks = json!({"failureLimit": 4, "interval": "15s"});
    let metric = json!({
        "name": "success-rate", "judge": "threshold", "successRate": {"min": "99%"}, "checks": checks,
    });
    ends(under_way(&judged(metric), WORSE, 0), "harm-by-threshold");
}

#[test]
fn pods_that_are_never_ready_are_rolled_back() {
    ends(under_way(&Setup::plain(), NEVER_READY, 0), "never-ready");
}

#[test]
fn a_person_aborts() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    world.apply(&abort());
    ends(world, "abort");
}

#[test]
fn a_person_aborts_the_hand_over() {
    let mut world = handing_over(&Setup::plain());
    world.apply(&abort());
    ends(world, "abort-hand-over");
}

/// The route has long been at 0, but what reaches stable is turned back only now: the proxies get
/// their time for that too before a pod is deleted.
#[test]
fn a_person_aborts_the_hand_over_late() {
    let mut world = handing_over(&Setup { propagation: "10s", ..Setup::plain() });
    world.wait(2);
    world.apply(&abort());
    // A process that ended here would not know how long the route has been at 0.
    world.wait(4);
    ends(world, "abort-hand-over-late");
}

/// All steps have passed, and the weight is back at 0.
fn handing_over(setup: &Setup) -> World {
    let mut world = under_way(setup, NEXT, 0);
    world.until(|world| world.wait(1), |world| world.weight() == 100);
    world.until(|world| world.wait(1), |world| world.weight() == 0);
    world
}

/// The next weight is decided, whatever of it has been written.
pub(super) fn committed_50(world: &World) -> bool {
    world.status().and_then(|s| s.decision).is_some_and(|d| d.weight >= 50)
}

#[test]
fn without_metrics_it_waits_then_goes_on() {
    let mut world = under_way(&Setup::plain(), NEXT, 4);
    world.apply(&Op::Outage(20));
    world.wait(25);
    ends(world, "no-data");
}

#[test]
fn a_step_waits_for_approval() {
    let steps = vec![(10, true), (100, false)];
    let mut world = under_way(&Setup { steps, ..Setup::plain() }, NEXT, 20);
    let beside = Op::Command { kind: ActionKind::Promote, release: 0, step: 1 };
    world.apply(&beside);
    world.wait(4);
    world.apply(&promote());
    ends(world, "approval");
}

#[test]
fn a_newer_template_supersedes() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    world.apply(&Op::Template(NEWER));
    ends(world, "superseded");
}

#[test]
fn the_template_goes_back() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    world.apply(&Op::Template(0));
    ends(world, "taken-back");
}

#[test]
fn an_undo_goes_at_once() {
    let mut world = under_way(&Setup::plain(), NEXT, 40);
    world.apply(&Op::Template(0));
    ends(world, "undo");
}

#[test]
fn a_lowered_weight_is_respected() {
    let mut world = under_way(&Setup::plain(), NEXT, 12);
    world.apply(&Op::Lower(3));
    world.wait(4);
    // A promote is no answer to that, nor a resume by somebody who looked at another step.
    world.apply(&promote());
    world.apply(&Op::Command { kind: ActionKind::Resume, release: 0, step: -1 });
    world.wait(2);
    assert_eq!(world.weight(), 3);
    world.apply(&say(ActionKind::Resume));
    ends(world, "weight-lowered");
}

#[test]
fn a_weight_lowered_before_it_was_confirmed_is_respected() {
    let mut world = under_way(&Setup::plain(), NEXT, 1);
    world.until(World::creep, |world| world.weight() >= 10);
    world.apply(&Op::Reset { whole: true });
    world.wait(12);
    assert_eq!(world.weight(), 0, "somebody's reset was undone\n{}", tell(&world.store));
    world.apply(&promote());
    ends(world, "reset-whole");
}

#[test]
fn an_approval_given_before_is_no_wish_to_raise_the_weight_again() {
    let steps = vec![(10, true), (100, false)];
    let mut world = under_way(&Setup { steps, ..Setup::plain() }, NEXT, 5);
    world.apply(&promote());
    world.wait(1);
    world.apply(&Op::Lower(3));
    world.wait(6);
    assert_eq!(world.weight(), 3, "{}", tell(&world.store));
    world.apply(&promote());
    ends(world, "lowered-after-approval");
}

#[test]
fn a_raised_weight_is_put_right() {
    let mut world = under_way(&Setup::plain(), NEXT, 4);
    world.apply(&Op::Raise(100, 0));
    ends(world, "weight-raised");
}

#[test]
fn a_writer_that_keeps_raising_is_named_and_not_raced() {
    let mut world = under_way(&Setup::plain(), NEXT, 4);
    world.apply(&Op::Raise(80, 60));
    world.wait(20);
    let status = world.status().expect("it is there");
    assert_eq!(status.phase, Phase::Paused, "{}", status.message);
    assert_eq!(status.contest.map(|c| c.manager), Some("somebody".to_owned()));
    let writes = world.store.trace.len();
    world.wait(12);
    // A minute later: six edits of the writer, each put right once.
    let written = world.store.trace.len() - writes;
    assert!(written <= 24, "{written} writes in a minute\n{}", tell(&world.store));
    world.wait(40);
    world.apply(&promote());
    ends(world, "writer-that-keeps-raising");
}

#[test]
fn no_step_is_taken_in_a_fight() {
    let mut world = under_way(&Setup::plain(), NEXT, 4);
    let between = |world: &World| {
        let status = world.status().expect("it is there");
        (status.step.map(|s| s.index), status.decision.map(|d| d.weight))
    };
    // The step to 100% has begun and waits for its pods.
    world.until(|world| world.wait(1), |world| between(world) == (Some(2), Some(50)));
    world.apply(&Op::Raise(80, 30));
    world.wait(12);
    assert_eq!(between(&world), (Some(2), Some(50)), "{}", tell(&world.store));
    ends(world, "no-step-in-a-fight");
}

#[test]
fn a_rollback_does_not_wait_for_the_writer() {
    let mut world = under_way(&Setup::plain(), NEXT, 4);
    world.apply(&Op::Raise(80, 30));
    world.wait(10);
    world.apply(&abort());
    world.wait(1);
    let zero = |s: &State| matches!(s, State::Route { weights: Some((100, 0)), edited: false, .. });
    let rolled = |s: &State| matches!(s, State::Rollout(r) if r.phase == Phase::RollingBack);
    let since = world.store.trace.iter().position(|e| rolled(&e.state)).expect("aborted");
    assert!(world.store.trace[since..].iter().any(|e| zero(&e.state)), "{}", tell(&world.store));
    ends(world, "abort-in-a-fight");
}

#[test]
fn what_happens_during_an_eviction_is_not_judged() {
    let mut world = under_way(&Setup::plain(), NEXT, 4);
    let judged = |world: &World| {
        let status = world.status().expect("it is there");
        (status.step.map(|s| s.index), status.release.map(|r| r.passes.len()))
    };
    world.apply(&Op::Evict(12));
    world.wait(11);
    assert_eq!(judged(&world), (Some(0), Some(0)), "{}", tell(&world.store));
    ends(world, "evicted");
}

/// All of the canary's pods lose their readiness in the middle of a step. They are waited for without
/// traffic, and no step passes meanwhile; once they have been away for as long as new ones may take, the
/// release is rolled back and says why.
#[test]
fn a_canary_whose_pods_stay_away_is_rolled_back() {
    let mut world = under_way(&Setup::plain(), NEXT, 4);
    world.until(World::creep, |world| world.weight() == 10);
    world.wait(2);
    world.apply(&Op::Vanish { canary: true, looks: 100 });
    // Before a request fails on the way there: a mesh that sends them to stable shows none.
    world.lead(20);
    world.wait(5);
    let status = world.status().expect("it is there");
    let waits: Vec<_> = status.waiting_on.iter().map(|w| w.kind).collect();
    assert_eq!((world.weight(), status.phase), (0, Phase::Stepping), "{}", tell(&world.store));
    assert_eq!(waits, [WaitingKind::Endpoints]);
    world.wait(12);
    let status = world.status().expect("it is there");
    let why = status.history.first().map(|past| past.why.clone()).unwrap_or_default();
    assert_eq!(status.phase, Phase::Degraded, "{}", tell(&world.store));
    assert_eq!(why, "the canary has had no ready pod for 1m");
    assert!(status.release.is_some_and(|release| release.passes.is_empty()));
    ends(world, "canary-vanishes");
}

#[test]
fn scaled_to_nothing_it_waits() {
    let mut world = under_way(&Setup::plain(), NEXT, 1);
    world.apply(&Op::Scale(0));
    world.wait(20);
    world.apply(&Op::Scale(3));
    ends(world, "scaled-to-nothing");
}

#[test]
fn deleted_and_stable_kept() {
    let mut world = under_way(&Setup::plain(), NEXT, 8);
    world.apply(&Op::Delete);
    assert_eq!(left(&ends(world, "deleted-keep-stable")), ("shop:v1".to_owned(), true));
}

#[test]
fn deleted_and_reverted() {
    let setup = Setup { revert: true, ..Setup::plain() };
    let mut world = under_way(&setup, NEXT, 8);
    world.apply(&Op::Delete);
    assert_eq!(left(&ends(world, "deleted-revert")), ("shop:v0".to_owned(), false));
}

/// The Deployment's image, and whether it is paused.
pub(super) fn left(world: &World) -> (String, bool) {
    let deployment = world.store.get("Deployment", "shop").expect("nobody deletes it");
    let image = text(&deployment, "/spec/template/spec/containers/0/image").to_owned();
    (image, deployment["spec"]["paused"] == Value::Bool(true))
}

/// What a controller does that isn't ours, and the invariants that it breaks.
fn mutant(mutant: Mutant) -> Vec<&'static str> {
    let mut world = World::new(&Setup::plain(), mutant);
    world.wait(2);
    world.apply(&Op::Template(NEXT));
    for _ in 0..30 {
        world.wait(1);
        if mutant == Mutant::Unfenced && world.weight() > 0 {
            break;
        }
    }
    if mutant == Mutant::Unfenced {
        stale_raise(&mut world);
    }
    let mut found: Vec<_> = check(&world.store.trace).iter().map(|v| v.invariant).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// A leader that has committed the next step and is about to write its weight loses the lead; the
/// new one hears an abort. Then the former one goes on.
fn stale_raise(world: &mut World) {
    world.until(World::creep, committed_50);
    world.apply(&Op::HandOver { frozen: 1, alive: 3 });
    world.apply(&abort());
    world.wait(6);
}

#[test]
fn writes_before_the_commit_are_caught() {
    let found = mutant(Mutant::ActsFirst);
    assert!(found.contains(&"S2"), "{found:?}");
}

#[test]
fn writes_without_the_fence_are_caught() {
    let found = mutant(Mutant::Unfenced);
    assert!(found.contains(&"S2") && found.contains(&"S4"), "{found:?}");
}

#[test]
fn scaled_from_nothing_after_an_undo() {
    let mut world = under_way(&Setup::plain(), NEXT, 40);
    world.apply(&Op::Template(0));
    world.wait(20);
    world.apply(&Op::Template(NEWER));
    world.wait(3);
    world.apply(&Op::Scale(0));
    world.wait(3);
    world.apply(&Op::Scale(3));
    ends(world, "scaled-from-nothing");
}
