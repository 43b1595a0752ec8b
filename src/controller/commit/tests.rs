use serde_json::{Value, json};
use surefoot_core::api::status::Phase;

use super::super::stand_in::{Say, StandIn};
use super::*;

fn rollout() -> Value {
    json!({
        "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "shop", "namespace": "prod", "uid": "u1", "resourceVersion": "70"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "shop"},
            "traffic": {"mesh": "istio", "service": "shop", "routes": []}, "steps": []},
    })
}

async fn committed(say: Say) -> (Result<Rollout, CommitError>, std::sync::Arc<StandIn>) {
    let server = StandIn::new([("rollouts/shop", rollout())], say);
    let status = RolloutStatus { phase: Phase::Healthy, ..RolloutStatus::default() };
    let rollout = serde_json::from_value(rollout()).unwrap();
    (put(&server.client(), &rollout, &status).await, server)
}

#[tokio::test]
async fn the_whole_status_goes_onto_the_version_that_was_read() {
    let (committed, server) = committed(Say::Fine).await;
    assert_eq!(committed.unwrap().uid().as_deref(), Some("u1"));
    assert_eq!(server.heard(), ["PATCH rollouts/shop/status"]);
    let [call] = server.writes().try_into().unwrap();
    assert!(call.query.contains("fieldValidation=Strict"), "{}", call.query);
    let status = RolloutStatus { phase: Phase::Healthy, ..RolloutStatus::default() };
    let expected = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "70"},
        {"op": "add", "path": "/status", "value": status},
    ]);
    assert_eq!(call.body, expected);
}

#[tokio::test]
async fn a_refusal_is_told_for_what_it_is_and_nothing_is_sent_again() {
    let is = |error: &CommitError| match error {
        CommitError::Conflict => "conflict",
        CommitError::Outdated(_) => "outdated",
        CommitError::Fenced(_) => "fenced",
        CommitError::Call(_) => "call",
    };
    for (say, expected) in [
        (Say::Failure(409, "modified"), "conflict"),
        (Say::Failure(404, "gone"), "conflict"),
        (Say::Failure(422, "stale leader"), "fenced"),
        (Say::Failure(422, "strict decoding error: unknown field \"status.x\""), "outdated"),
        (Say::Failure(400, "strict decoding error: unknown field \"status.x\""), "outdated"),
        (Say::Failure(500, "broken"), "call"),
        (Say::Nothing, "call"),
    ] {
        let (committed, server) = committed(say).await;
        assert_eq!(is(&committed.unwrap_err()), expected, "{say:?}");
        assert_eq!(server.heard(), ["PATCH rollouts/shop/status"], "{say:?}");
    }
}
