//! When there is nothing left to put right, the Rollout is let go; and what is said when nothing can
//! be committed.

use jiff::Timestamp;
use serde_json::{Value, json};
use surefoot_core::api::Rollout;
use surefoot_core::api::status::ConditionStatus;
use surefoot_core::decide::{changed, decide, outdated};
use surefoot_core::desired::{last, writes};
use surefoot_core::observed::{HoldMode, Observed, Owner, ReplicaSet};
use surefoot_core::samples::Samples;
use surefoot_core::write::{FINALIZER, Write};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const GO: Write = Write::Finalizer { present: false };

fn rollout(deleted: bool, steps: Value, status: Value) -> serde_json::Result<Rollout> {
    let mut rollout = json!({
        "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "shop", "namespace": "prod", "finalizers": [FINALIZER]},
        "spec": {
            "targetRef": {"kind": "Deployment", "name": "shop"},
            "traffic": {
                "mesh": "istio", "service": "shop",
                "routes": [{"kind": "VirtualService", "name": "shop"}],
            },
            "steps": steps,
        },
        "status": status,
    });
    if deleted {
        rollout["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
    }
    serde_json::from_value(rollout)
}

fn nothing(rollout: &Rollout, namespace_terminating: bool) -> Observed {
    Observed {
        namespace_terminating,
        ..Observed::nothing(rollout.spec.clone(), HoldMode::PausedAtRest)
    }
}

#[test]
fn a_namespace_that_goes_away_does_not_wait_for_a_release() {
    let status = json!({"phase": "Stepping"});
    for deleted in [false, true] {
        let rollout = rollout(deleted, json!([{"weight": 100}]), status.clone()).unwrap();
        let seen = nothing(&rollout, true);
        let outcome = decide(&rollout, &seen, &Samples::default(), NOW);
        let plan = outcome.plan.unwrap();
        assert_eq!(writes(&outcome.desired, &seen, &plan), [GO], "deleted: {deleted}");
    }
}

#[test]
fn what_a_former_leader_made_too_late_goes() {
    let rollout = rollout(false, json!([{"weight": 100}]), json!({"phase": "Degraded"})).unwrap();
    let set = |name: &str, owner, replicas| ReplicaSet {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        owner,
        hash: String::new(),
        template: Value::Null,
        replicas,
        current: 0,
        ready: 0,
        numbered: false,
        deleting: false,
    };
    let mut seen = nothing(&rollout, false);
    seen.replica_sets = vec![
        set("shop-late", Owner::Rollout, 0),
        set("shop-old", Owner::Deployment, 0),
        set("shop-with-pods", Owner::Rollout, 1),
        ReplicaSet { deleting: true, ..set("shop-going", Owner::Rollout, 0) },
    ];
    let goes = Write::DeleteReplicaSet {
        replica_set: "shop-late".to_owned(),
        uid: "uid-of-shop-late".to_owned(),
    };
    let outcome = decide(&rollout, &seen, &Samples::default(), NOW);
    assert_eq!(writes(&outcome.desired, &seen, &outcome.plan.unwrap()), [goes]);
    let mut named = rollout.clone();
    let revision = json!({"hash": "1", "replicaSet": "shop-late", "images": []});
    named.status.as_mut().unwrap().canary = Some(serde_json::from_value(revision).unwrap());
    let outcome = decide(&named, &seen, &Samples::default(), NOW);
    assert_eq!(writes(&outcome.desired, &seen, &outcome.plan.unwrap()), []);
}

#[test]
fn a_spec_that_makes_no_sense_does_not_hold_a_deleted_rollout() {
    let rollout = rollout(true, json!([]), json!({})).unwrap();
    let outcome = decide(&rollout, &nothing(&rollout, false), &Samples::default(), NOW);
    assert_eq!(outcome.plan, None);
    assert_eq!(last(&outcome.desired), Some(GO));
}

#[test]
fn an_outdated_definition_is_told_once() {
    let old = rollout(false, json!([{"weight": 100}]), json!({})).unwrap().status.unwrap();
    let told = outdated(&old, "unknown field", NOW).unwrap();
    let stalled = told.conditions.iter().find(|c| c.kind == "Stalled").unwrap();
    assert_eq!((stalled.status, stalled.reason.as_str()), (ConditionStatus::True, "CRDOutdated"));
    assert_eq!(outdated(&told, "unknown field", NOW), None);
    assert!(changed(&told, &old, NOW), "the next decision takes it back");
}
