//! Whatever happens between any two calls of the controller, the invariants of every accepted
//! write hold, and when the faults cease the world comes to rest.

#[cfg(test)]
mod world;

use proptest::prelude::*;
use surefoot_core::api::notice::Reason;
use surefoot_core::trace::check;

use crate::world::World;
use crate::world::controller::Mutant;
use crate::world::script::{Event, Op, Setup, script, setup};
use crate::world::story::tell;

/// What a release may be rolled back for.
fn allowed(reason: &str, setup: &Setup) -> bool {
    let always = [
        "the Rollout was deleted",
        "aborted by ",
        "undone by ",
        "superseded",
        "the template went back to stable's",
        "canary pods were ready after",
        "A canary within its tolerance",
    ];
    always.iter().any(|known| reason.contains(known))
        || (reason.starts_with("no usable metrics") && setup.no_data == "rollback")
        || (reason.starts_with("inconclusive") && setup.on_inconclusive == "rollback")
}

fn run(setup: &Setup, events: &[Event]) -> Result<(), TestCaseError> {
    let mut world = World::new(setup, Mutant::Faithful);
    world.play(events);
    let rest = world.come_to_rest();
    let violations: Vec<String> =
        check(&world.store.trace).iter().map(ToString::to_string).collect();
    let story = || tell(&world.store);
    prop_assert!(violations.is_empty(), "{violations:#?}\n{}", story());
    prop_assert!(rest.is_ok(), "{rest:?}\n{}", story());
    for reason in &world.rollbacks {
        prop_assert!(allowed(reason, setup), "rolled back for {reason}\n{}", story());
    }
    told(&world)?;
    // Our own writes are never taken for somebody's.
    let done = |op: fn(&Op) -> bool| events.iter().any(|e| op(&e.op));
    let lowered = done(|op| {
        matches!(op, Op::Lower(_) | Op::Reset { .. } | Op::BreakGlass { .. } | Op::Unchoose)
    });
    prop_assert!(lowered || !world.held_low, "held for a weight nobody lowered\n{}", story());
    let raised = done(|op| matches!(op, Op::Raise(..) | Op::Widen));
    prop_assert!(raised || !world.contested, "undid an edit nobody made\n{}", story());
    Ok(())
}

/// Each piece of news is told at least once, and in order (L4).
fn told(world: &World) -> Result<(), TestCaseError> {
    let (news, messages) = (&world.store.news, &world.store.messages);
    let mut once: Vec<&String> = Vec::new();
    for id in messages {
        if !once.contains(&id) {
            once.push(id);
        }
    }
    // A Rollout that is deleted waits for its news only for a while.
    if world.status().is_some() {
        let ids = news.iter().map(|n| &n.id);
        prop_assert!(once.iter().copied().eq(ids), "{once:?} was told of {news:?}");
    }
    // However often one looks, a step asks once, and once says that it is left without evidence.
    let mut asked = Vec::new();
    let told_once = [
        Reason::ApprovalNeeded,
        Reason::PromotedWithoutEvidence,
        Reason::Extended,
        Reason::GateUnreachable,
    ];
    for notice in news.iter().filter(|n| told_once.contains(&n.reason)) {
        let what = (notice.reason, notice.release, notice.step);
        prop_assert!(!asked.contains(&what), "{what:?} was told twice");
        asked.push(what);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150),
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_history_is_safe_and_ends(setup in setup(), events in script()) {
        run(&setup, &events)?;
    }
}
