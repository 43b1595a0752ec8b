//! The bodies of patches and deletions.

use kube_sandbox::Dice;
use serde_json::{Value, json};

use super::objects::Kind;
use super::pick;

pub const JSON_PATCH: &str = "application/json-patch+json";
pub const MERGE_PATCH: &str = "application/merge-patch+json";
pub const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

fn one_of(dice: &mut Dice, choices: &[Value]) -> Value {
    choices[pick(dice, choices.len())].clone()
}

pub fn json_patch(dice: &mut Dice) -> Value {
    let choices = [
        json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "$LAST"}, {"op": "add", "path": "/metadata/annotations", "value": {"x": "y"}}]),
        json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "$FIRST"}, {"op": "add", "path": "/metadata/annotations", "value": {"x": "z"}}]),
        json!([{"op": "test", "path": "/metadata/name", "value": "nobody"}]),
        json!([{"op": "test", "path": "/metadata/name", "value": "a"}, {"op": "add", "path": "/metadata/labels", "value": {"q": "r"}}]),
        json!([{"op": "remove", "path": "/spec/nothing"}]),
        json!([{"op": "add", "path": "/spec/unknownField", "value": 1}]),
        json!([{"op": "remove", "path": "/metadata/finalizers"}]),
        json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/late"]}]),
        json!([{"op": "replace", "path": "/metadata/uid", "value": "other"}]),
    ];
    one_of(dice, &choices)
}

/// One that fits the kind, or one of all.
pub fn merge_patch(dice: &mut Dice, kind: &Kind) -> Value {
    let own = kind.changes();
    if !own.is_empty() && pick(dice, 2) == 0 {
        return one_of(dice, &own);
    }
    let choices = [
        json!({"metadata": {"labels": {"app": "web", "x": "1"}}}),
        json!({"metadata": {"labels": {"app": null}}}),
        json!({"metadata": {"annotations": {"a": "1"}}}),
        json!({"metadata": {"finalizers": null}}),
        json!({"metadata": {"finalizers": ["example.com/wait"]}}),
        json!({"metadata": {"resourceVersion": "$FIRST", "annotations": {"b": "1"}}}),
        json!({"metadata": {"name": "other"}}),
        json!({"spec": {"replicas": 4}}),
        json!({"spec": {"replicas": "many"}}),
        json!({"spec": {"size": 5}}),
        json!({"spec": {"size": 2}}),
        json!({"spec": {"size": null}}),
        json!({"spec": {"name": "TOOLONG"}}),
        json!({"spec": {"mode": "C"}}),
        json!({"spec": {"ratio": 2.5}}),
        json!({"spec": {"ratio": 1}}),
        json!({"spec": {"port": true}}),
        json!({"spec": {"parts": [{"id": "p"}, {"id": "p"}]}}),
        json!({"spec": {"parts": [{"n": 1}]}}),
        json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}),
        json!({"spec": {"paused": true, "minReadySeconds": 5}}),
        json!({"data": {"c": "d"}}),
        json!({"unknown": {"c": "d"}}),
        json!({}),
    ];
    one_of(dice, &choices)
}

pub fn strategic(dice: &mut Dice) -> Value {
    let choices = [
        json!({"metadata": {"labels": {"s": "1"}}}),
        json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}),
        json!({"spec": {"template": {"spec": {"containers": [{"name": "other", "image": "o:1"}]}}}}),
        json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "$patch": "delete"}]}}}}),
        json!({"spec": {"ports": [{"port": 81, "name": "b"}]}}),
        json!({"spec": {"ports": [{"port": 80, "name": "a"}]}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        json!({"metadata": {"finalizers": ["example.com/more"]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/more", "example.com/wait"]}}),
    ];
    one_of(dice, &choices)
}

pub fn deletion(dice: &mut Dice) -> Value {
    let choices = [
        json!({}),
        json!({"propagationPolicy": "Background"}),
        json!({"propagationPolicy": "Foreground"}),
        json!({"preconditions": {"uid": "$UID"}}),
        json!({"preconditions": {"uid": "nobody"}}),
        json!({"preconditions": {"resourceVersion": "$LAST"}}),
        json!({"preconditions": {"resourceVersion": "$FIRST"}}),
        json!({"dryRun": ["All"]}),
        json!({"gracePeriodSeconds": 0}),
        json!({"gracePeriodSeconds": 3}),
        json!({"propagationPolicy": "Orphan"}),
        json!({"propagationPolicy": "Sideways"}),
    ];
    one_of(dice, &choices)
}

/// A patch of a status, with its form.
pub fn status(dice: &mut Dice, kind: &Kind) -> (&'static str, Value) {
    match kind.plural {
        "rollouts" => rollout_status(dice),
        "pods" => (MERGE_PATCH, pod_status(dice)),
        _ => {
            let choices = [
                json!({"status": {"replicas": 2}}),
                json!({"status": {"phase": "x"}, "spec": {"size": 9}}),
                json!({"metadata": {"labels": {"s": "t"}}}),
            ];
            (MERGE_PATCH, one_of(dice, &choices))
        }
    }
}

/// Commits as the controller makes them: most follow each other, some are a stale leader's or go
/// against a rollback.
fn rollout_status(dice: &mut Dice) -> (&'static str, Value) {
    let verdict = ["Start", "Pass", "Advance", "Rollback", "Rollback", "Maybe"][pick(dice, 6)];
    let weight = [0, 10, 101][pick(dice, 3)];
    let decision = json!({
        "epoch": 1 + pick(dice, 3), "seq": 1 + pick(dice, 6), "release": 1 + pick(dice, 2),
        "step": 0, "weight": weight, "verdict": verdict,
        "at": "2026-01-01T00:00:00Z", "actor": "controller", "holder": "one", "reason": "it is so",
    });
    let version = ["$LAST", "$LAST", "$LAST", "$FIRST"][pick(dice, 4)];
    let commit = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/status", "value": {"phase": "Stepping", "decision": decision}},
    ]);
    match pick(dice, 8) {
        0 => (MERGE_PATCH, json!({"status": {"decision": {"seq": 1 + pick(dice, 6)}}})),
        1 => (MERGE_PATCH, json!({"status": {"decision": null, "unknown": 1}})),
        2 => (MERGE_PATCH, json!({"status": {"phase": "Odd", "message": "m"}})),
        3 => (JSON_PATCH, json!([{"op": "remove", "path": "/status"}])),
        _ => (JSON_PATCH, commit),
    }
}

fn pod_status(dice: &mut Dice) -> Value {
    let container = |state: Value, ready: bool| {
        json!({"status": {"phase": "Running", "containerStatuses": [{
            "name": "web", "image": "web:1", "imageID": "", "ready": ready, "restartCount": 0, "state": state,
        }]}})
    };
    let choices = [
        json!({"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.0.0.9"}}),
        json!({"status": {"phase": "Running", "podIP": "10.0.0.2"}}),
        json!({"status": {"podIP": "nowhere"}}),
        json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}),
        json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x", "message": "y"}]}}),
        json!({"status": {"phase": "Failed", "reason": "Evicted", "message": "no room"}}),
        json!({"status": {"phase": "Succeeded"}}),
        json!({"status": {"qosClass": "Guaranteed"}}),
        json!({"status": {"nothing": 1}, "spec": {"restartPolicy": "Never"}}),
        json!({"metadata": {"uid": "$UID", "labels": {"s": "t"}}}),
        json!({"metadata": {"uid": "another"}, "status": {"phase": "Running"}}),
        container(json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}), true),
        container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), false),
    ];
    one_of(dice, &choices)
}
