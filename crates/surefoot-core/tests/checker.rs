//! The checker can fail: for each invariant a history that is right, and the one change that breaks
//! exactly that invariant.

use serde_json::{Value, json};
use surefoot_core::api::action::ActionKind;
use surefoot_core::api::status::{Phase, Verdict};
use surefoot_core::trace::{DecisionState, Event, RolloutState, Side, State, check};
use surefoot_core::write::{Kind, Target};

fn decision(seq: i64, step: i32, weight: i32, verdict: Verdict) -> DecisionState {
    DecisionState { seq, epoch: 1, release: 1, step, weight, verdict }
}

fn rollout(phase: Phase, passed: &[i32], decision: DecisionState) -> RolloutState {
    RolloutState {
        phase,
        release: Some((1, "plan".to_owned())),
        weights: vec![10, 100],
        choosing: vec![0],
        passes: passed.iter().map(|i| (*i, "plan".to_owned(), "surefoot".to_owned())).collect(),
        approvals: Vec::new(),
        undo: false,
        decision: Some(decision),
        stable: Some("old".to_owned()),
    }
}

fn named(name: &str) -> Target {
    Target { kind: Kind::VirtualService, name: name.to_owned() }
}

fn route(canary: i64) -> State {
    State::Route {
        route: named("shop"),
        weights: Some((100 - canary, canary)),
        chosen: false,
        rest: json!({"hosts": ["shop"]}),
        epoch: 1,
        broken: None,
        edited: false,
    }
}

fn ready(side: Side, ready: usize) -> State {
    State::Ready { side, slice: format!("{side:?}"), ready }
}

fn set(name: &str, replicas: u32) -> State {
    State::ReplicaSet {
        name: name.to_owned(),
        hash: name.to_owned(),
        template: format!("template of {name}"),
        replicas,
        gone: false,
    }
}

fn pin(side: Side, hash: Option<&str>) -> State {
    State::Pin { side, hash: hash.map(str::to_owned) }
}

fn command(kind: ActionKind, release: i64, step: i32) -> State {
    State::Action { kind, release, step, by: "jo".to_owned() }
}

fn at(phase: Phase, passed: &[i32], decision: DecisionState) -> State {
    State::Rollout(Box::new(rollout(phase, passed, decision)))
}

/// A release through two steps to its end, nothing wrong with it.
fn good() -> Vec<State> {
    use Phase::{Healthy, Preparing, Promoting, Stepping};
    let mut end = rollout(Healthy, &[0, 1], decision(7, 1, 0, Verdict::Promote));
    end.stable = Some("new".to_owned());
    vec![
        State::Deployment { replicas: 4 },
        route(0),
        set("old", 4),
        ready(Side::Stable, 4),
        at(Preparing, &[], decision(1, 0, 0, Verdict::Start)),
        pin(Side::Stable, Some("old")),
        pin(Side::Canary, Some("new")),
        set("new", 0),
        set("new", 2),
        ready(Side::Canary, 2),
        at(Stepping, &[], decision(2, 0, 10, Verdict::Advance)),
        route(10),
        set("new", 4),
        ready(Side::Canary, 4),
        at(Stepping, &[0], decision(4, 1, 100, Verdict::Advance)),
        route(100),
        at(Promoting, &[0, 1], decision(6, 1, 100, Verdict::Promote)),
        pin(Side::Stable, Some("new")),
        at(Promoting, &[0, 1], decision(7, 1, 0, Verdict::Promote)),
        route(0),
        set("old", 0),
        pin(Side::Stable, None),
        pin(Side::Canary, None),
        State::Rollout(Box::new(end)),
    ]
}

/// The places of `good` that the cases below change.
const STARTED: usize = 4;
const CANARY_PINNED: usize = 6;
const CANARY_READY: usize = 9;
const FIRST: usize = 10;
const AT_10: usize = 11;
const SECOND: usize = 14;
const AT_100: usize = 15;
const PROMOTED: usize = 16;
const BACK_AT_0: usize = 19;
const STABLE_FREE: usize = 21;
const END: usize = 23;

fn broken(states: &[State]) -> Vec<&'static str> {
    let events: Vec<Event> = (1..)
        .zip(states)
        .map(|(revision, state)| Event { revision, state: state.clone() })
        .collect();
    let mut found: Vec<_> = check(&events).iter().map(|v| v.invariant).collect();
    found.dedup();
    found
}

/// The good history with some changes.
fn changed(change: impl FnOnce(&mut Vec<State>)) -> Vec<&'static str> {
    let mut states = good();
    change(&mut states);
    broken(&states)
}

fn edit(state: &mut State, change: impl FnOnce(&mut RolloutState)) {
    let State::Rollout(rollout) = state else { panic!("{state:?} is no Rollout") };
    change(rollout);
}

#[test]
fn nothing_is_wrong_with_a_good_release() {
    assert_eq!(broken(&good()), [""; 0]);
}

#[test]
fn s1_weights_are_a_pair_of_ours() {
    let odd = State::Route {
        route: named("shop"),
        weights: Some((95, 10)),
        chosen: false,
        rest: json!({"hosts": ["shop"]}),
        epoch: 1,
        broken: None,
        edited: false,
    };
    assert_eq!(changed(|s| s[AT_10] = odd), ["S1"]);
}

#[test]
fn s2_no_weight_above_the_decision() {
    assert_eq!(changed(|s| s[AT_10] = route(11)), ["S2"]);
    assert_eq!(changed(|s| s.swap(FIRST, AT_10)), ["S2"]);
}

#[test]
fn what_somebody_else_writes_is_not_held_against_us() {
    let theirs = |canary, epoch| State::Route {
        route: named("shop"),
        weights: Some((100 - canary, canary)),
        chosen: false,
        rest: json!({"hosts": ["shop"]}),
        broken: None,
        epoch,
        edited: true,
    };
    let undone =
        |raise: State| changed(|s| drop(s.splice(AT_10 + 1..AT_10 + 1, [raise, route(10)])));
    assert_eq!(undone(theirs(80, 1)), [""; 0]);
    assert_eq!(undone(theirs(80, 0)), [""; 0], "the whole route was replaced");
    assert_eq!(undone(route(80)), ["S2"], "the same by us");
}

#[test]
fn s3_no_rise_without_the_pass_before() {
    let none = |r: &mut RolloutState| r.passes.clear();
    assert_eq!(changed(|s| edit(&mut s[SECOND], none)), ["S3"]);
    let other = |r: &mut RolloutState| r.passes[0].1 = "another plan".to_owned();
    assert_eq!(changed(|s| edit(&mut s[SECOND], other))[0], "S3");
    let more = |r: &mut RolloutState| r.decision.as_mut().unwrap().weight = 11;
    assert_eq!(changed(|s| edit(&mut s[FIRST], more)), ["S3"]);
}

#[test]
fn s4_a_rollback_is_final() {
    let back = at(Phase::RollingBack, &[], decision(3, 0, 0, Verdict::Rollback));
    let again = changed(|s| s.insert(AT_10, back.clone()));
    assert_eq!(again, ["S2", "S4"], "the weight rises, by route and by decision");
    let committed = changed(|s| {
        s[AT_10] = route(0);
        s.insert(AT_10, back);
    });
    assert_eq!(committed, ["S4"]);
}

#[test]
fn s5_no_weight_without_ready_pods() {
    assert_eq!(changed(|s| s[CANARY_READY] = ready(Side::Canary, 0)), ["S5"]);
    assert_eq!(changed(|s| s.insert(BACK_AT_0, ready(Side::Stable, 0))), ["S5"]);
    let neither = |s: &mut Vec<State>| {
        s.insert(BACK_AT_0, ready(Side::Stable, 0));
        s.insert(BACK_AT_0, ready(Side::Canary, 0));
    };
    assert_eq!(changed(neither), [""; 0], "where nobody is ready nothing is lost");
}

#[test]
fn s6_stable_keeps_the_pods_its_weight_needs() {
    assert_eq!(changed(|s| s.insert(AT_10 + 1, set("old", 2))), ["S6"]);
}

#[test]
fn s7_the_rest_of_the_route_is_not_ours() {
    let rest: Value = json!({"hosts": ["another"]});
    let other = State::Route {
        route: named("shop"),
        weights: Some((90, 10)),
        chosen: false,
        rest,
        epoch: 1,
        broken: None,
        edited: false,
    };
    assert_eq!(changed(|s| s[AT_10] = other)[0], "S7");
}

#[test]
fn each_of_several_routes_is_held_to_the_decision() {
    let other = |canary| State::Route {
        route: named("outside"),
        weights: Some((100 - canary, canary)),
        chosen: false,
        rest: json!({"hosts": ["outside"]}),
        epoch: 1,
        broken: None,
        edited: false,
    };
    let goes = |weight, back| {
        changed(|s| {
            if back {
                s.insert(BACK_AT_0 + 1, other(0));
            }
            s.insert(AT_10 + 1, other(weight));
        })
    };
    assert_eq!(goes(10, true), [""; 0]);
    assert_eq!(goes(50, true), ["S2"], "above the decision's");
    assert_eq!(goes(10, false), ["S12"], "still at 10% when the canary's Service is let go");
}

/// The weights of [`route`], and requests chosen beside.
fn choosing(canary: i64, edited: bool) -> State {
    let State::Route { route, weights, rest, epoch, broken, .. } = route(canary) else {
        panic!("it is a route")
    };
    State::Route { route, weights, chosen: true, rest, epoch, broken, edited }
}

#[test]
fn s2_and_s4_requests_are_chosen_by_a_step_that_does() {
    assert_eq!(changed(|s| s[AT_10] = choosing(10, false)), [""; 0]);
    assert_eq!(changed(|s| s[AT_100] = choosing(100, false)), ["S2"]);
    assert_eq!(changed(|s| s[AT_100] = choosing(100, true)), [""; 0], "somebody else's");
    assert_eq!(changed(|s| s.swap(FIRST, AT_10)), ["S2"]);
    let early = changed(|s| s.insert(STARTED + 1, choosing(0, false)));
    assert_eq!(early, ["S5", "S2", "S12"], "before any weight and any pod");
    let back = |r: &mut RolloutState| r.decision.as_mut().unwrap().verdict = Verdict::Rollback;
    let late = changed(|s| {
        edit(&mut s[SECOND], back);
        s.truncate(SECOND + 1);
        s.push(choosing(10, false));
    });
    assert!(late.contains(&"S4"), "{late:?}");
    let left = changed(|s| {
        s[AT_10] = choosing(10, false);
        s[AT_100] = choosing(100, false);
        s[BACK_AT_0] = choosing(0, false);
    });
    assert_eq!(left, ["S12", "S17"], "it was put there rightly, and is never taken away");
}

#[test]
fn s9_epochs_and_decisions_never_go_back() {
    let stale = |r: &mut RolloutState| r.decision.as_mut().unwrap().seq = 0;
    assert_eq!(changed(|s| edit(&mut s[END], stale)), ["S9"]);
    let old = State::Route {
        route: named("shop"),
        weights: Some((90, 10)),
        chosen: false,
        rest: json!({"hosts": ["shop"]}),
        epoch: 0,
        broken: None,
        edited: false,
    };
    assert_eq!(changed(|s| s[AT_10] = old), ["S9"]);
    let none = |r: &mut RolloutState| r.decision = None;
    assert_eq!(changed(|s| edit(&mut s[END], none))[0], "S9");
}

#[test]
fn s10_no_pass_without_metrics() {
    let usable = |usable| State::Metrics { usable };
    assert_eq!(changed(|s| s.insert(SECOND, usable(false))), ["S10"]);
    let back = changed(|s| {
        s.insert(SECOND, usable(true));
        s.insert(SECOND, usable(false));
    });
    assert_eq!(back, [""; 0]);
}

#[test]
fn s12_the_canary_has_no_traffic_when_its_service_changes() {
    assert_eq!(changed(|s| s.insert(AT_10 + 1, pin(Side::Canary, Some("newer")))), ["S12"]);
    let same = changed(|s| s.insert(AT_10 + 1, pin(Side::Canary, Some("new"))));
    assert_eq!(same, [""; 0], "the same selector again is no change");
}

#[test]
fn s13_stable_changes_after_all_passes() {
    let early = changed(|s| s.insert(AT_10, pin(Side::Stable, Some("new"))));
    assert_eq!(early, ["S13"]);
    let unpassed = changed(|s| {
        let forget = |r: &mut RolloutState| drop(r.passes.pop());
        [PROMOTED, PROMOTED + 2, END].into_iter().for_each(|i| edit(&mut s[i], forget));
    });
    assert_eq!(unpassed, ["S13"]);
}

#[test]
fn s14_an_abort_is_heard() {
    let once = changed(|s| s.insert(SECOND, command(ActionKind::Abort, 1, 0)));
    assert_eq!(once, [""; 0], "one rise may have been decided before");
    let twice = changed(|s| s.insert(STARTED + 1, command(ActionKind::Abort, 1, 0)));
    assert_eq!(twice, ["S14"]);
    let other = changed(|s| s.insert(STARTED + 1, command(ActionKind::Abort, 2, 0)));
    assert_eq!(other, [""; 0]);
}

#[test]
fn s14_a_broken_glass_is_heard() {
    let glass = |canary, release| State::Route {
        route: named("shop"),
        weights: Some((100 - canary, canary)),
        chosen: false,
        rest: json!({"hosts": ["shop"]}),
        edited: false,
        epoch: 1,
        broken: Some(release),
    };
    let raised = changed(|s| s[AT_100] = glass(100, 1));
    assert_eq!(raised, ["S14"]);
    let twice = changed(|s| s.insert(STARTED + 1, glass(0, 1)));
    assert_eq!(twice, ["S14"], "an abort of its release");
    let ahead = changed(|s| s.insert(STARTED + 1, glass(0, 2)));
    assert_eq!(ahead, ["S14"], "one that there isn't yet means the one under way");
    let stale = changed(|s| s.insert(STARTED + 1, glass(0, 0)));
    assert_eq!(stale, [""; 0], "an earlier one means nothing to this");
}

#[test]
fn s15_a_whole_release_is_promoted_by_somebody() {
    let promoted = |kind, step| {
        changed(|s| {
            let jo = |r: &mut RolloutState| r.passes.iter_mut().for_each(|p| p.2 = "jo".to_owned());
            [SECOND, PROMOTED, PROMOTED + 2, END].into_iter().for_each(|i| edit(&mut s[i], jo));
            s.insert(SECOND, command(kind, 1, step));
        })
    };
    assert_eq!(promoted(ActionKind::PromoteFull, 0), [""; 0]);
    assert_eq!(promoted(ActionKind::PromoteFull, 1), ["S15"], "the first step before its author");
    assert_eq!(promoted(ActionKind::Promote, 0), ["S15"], "one step alone");
    assert_eq!(promoted(ActionKind::Resume, 0)[0], "S15");
}

#[test]
fn s15_an_approval_is_for_one_release_and_step() {
    let approved = |release, step| {
        changed(|s| {
            let jo = |r: &mut RolloutState| {
                r.approvals = vec![0];
                r.passes[0].2 = "jo".to_owned();
            };
            [SECOND, PROMOTED, PROMOTED + 2, END].into_iter().for_each(|i| edit(&mut s[i], jo));
            s.insert(SECOND, command(ActionKind::Promote, release, step));
        })
    };
    assert_eq!(approved(1, 0), [""; 0]);
    assert_eq!(approved(1, 1), ["S15"]);
    assert_eq!(approved(2, 0), ["S15"]);
    let unasked = |r: &mut RolloutState| r.approvals = vec![0];
    assert_eq!(changed(|s| edit(&mut s[SECOND], unasked)), ["S15"]);
}

#[test]
fn s16_a_deleted_rollout_leaves_stable_alone() {
    assert_eq!(changed(|s| s.insert(AT_100, State::RolloutGone)), ["S16"]);
    assert_eq!(changed(|s| s.push(State::RolloutGone)), [""; 0]);
}

#[test]
fn s17_at_rest_nothing_is_pinned() {
    assert_eq!(changed(|s| drop(s.remove(STABLE_FREE))), ["S17"]);
}

#[test]
fn s18_one_replica_set_a_template() {
    let twin = State::ReplicaSet {
        name: "twin".to_owned(),
        hash: "twin".to_owned(),
        template: "template of new".to_owned(),
        replicas: 0,
        gone: false,
    };
    assert_eq!(changed(|s| s.insert(CANARY_PINNED + 3, twin))[0], "S18");
}
