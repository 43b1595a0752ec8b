//! A write that is refused is the first thing the status says, once, and is gone from it when the
//! write is taken.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use surefoot_core::api::Rollout;
use surefoot_core::api::status::{Phase, WaitingKind};
use surefoot_core::decide::{changed, decide};
use surefoot_core::observed::{HoldMode, Observed};
use surefoot_core::refused::Refused;
use surefoot_core::samples::Samples;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn rollout() -> serde_json::Result<Rollout> {
    serde_json::from_value(json!({
        "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "shop", "namespace": "prod"},
        "spec": {
            "targetRef": {"kind": "Deployment", "name": "shop"},
            "traffic": {
                "mesh": "istio", "service": "shop",
                "routes": [{"kind": "VirtualService", "name": "shop"}],
            },
            "steps": [{"weight": 100}],
        },
    }))
}

fn seen(rollout: &Rollout, refused: Option<Refused>) -> Observed {
    Observed { refused, ..Observed::nothing(rollout.spec.clone(), HoldMode::PausedAtRest) }
}

#[test]
fn a_refusal_is_told_first_and_once_and_goes_with_its_cause() {
    let mut rollout = rollout().unwrap();
    let look = |rollout: &Rollout, refused: &Option<Refused>, now| {
        decide(rollout, &seen(rollout, refused.clone()), &Samples::default(), now).status
    };
    rollout.status = Some(look(&rollout, &None, NOW));
    let refused = Refused::again(None, "finalizer of Rollout shop", Some(403), "no", NOW);
    let refused = Some(refused);
    let second = NOW + SignedDuration::from_secs(1);
    let told = look(&rollout, &refused, second);
    assert_eq!(told.waiting_on[0].kind, WaitingKind::Refused);
    assert!(told.message.starts_with("finalizer of Rollout shop is refused since"));
    assert!(told.conditions.iter().any(|c| c.kind == "Ready" && c.reason == "Refused"));
    assert_eq!(told.phase, Phase::Pending);
    let old = rollout.status.replace(told).unwrap();
    assert!(changed(&old, rollout.status.as_ref().unwrap(), second), "told at once");

    // Refused again, in other words: nothing is written for that.
    let third = NOW + SignedDuration::from_secs(2);
    let again =
        Refused::again(refused.as_ref(), "finalizer of Rollout shop", Some(403), "No", third);
    let next = look(&rollout, &Some(again), third);
    assert!(!changed(rollout.status.as_ref().unwrap(), &next, third), "once a try is too often");

    let healed = look(&rollout, &None, third);
    assert!(healed.waiting_on.iter().all(|w| w.kind != WaitingKind::Refused));
    assert!(changed(rollout.status.as_ref().unwrap(), &healed, third), "taken back at once");
}

#[test]
fn a_conflict_is_not_worth_a_word_until_it_goes_on() {
    let rollout = rollout().unwrap();
    let mut refused = None;
    for times in 1..=5 {
        let next = Refused::again(refused.as_ref(), "scale of ReplicaSet x", Some(409), "no", NOW);
        refused = Some(next);
        let outcome = decide(&rollout, &seen(&rollout, refused.clone()), &Samples::default(), NOW);
        let told = outcome.status.waiting_on.iter().any(|w| w.kind == WaitingKind::Refused);
        assert_eq!(told, times == 5, "after {times}");
    }
}
