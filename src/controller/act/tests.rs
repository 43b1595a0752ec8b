use std::collections::BTreeMap;

use kube::api::DynamicObject;
use serde_json::json;
use surefoot_core::api::rollout::{Apex, Mesh, RouteKind};
use surefoot_core::api::status::Revision;
use surefoot_core::desired::DeploymentWanted;
use surefoot_core::mark::Mark;
use surefoot_core::routing::{Routing, Split};
use surefoot_core::template::canary_hash;
use surefoot_core::write::{Author, Kind, Refusal};

use super::super::stand_in::{Say, StandIn};
use super::*;

const BY: Committed<'_> = Committed {
    author: Author {
        rollout: "shop",
        uid: "u1",
        namespace: "prod",
        deployment: "shop",
        epoch: 4,
        rivals: &[],
        allowed: Mark { release: 2, weight: 10 },
    },
    seq: 7,
};

fn rollout() -> Value {
    json!({
        "metadata": {"name": "shop", "uid": "u1", "resourceVersion": "70"},
        "status": {"decision": {"seq": 7, "epoch": 4}},
    })
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"image": "shop:v2"}]}})
}

/// All that a release writes; each object's resourceVersion is its own.
fn cluster() -> BTreeMap<&'static str, Value> {
    let destination = |host: &str| json!({"destination": {"host": host}});
    let route = json!({
        "metadata": {
            "name": "shop", "resourceVersion": "10",
            "annotations": {"surefoot.dev/rollout": "shop", "surefoot.dev/break-glass": "{}"},
        },
        "spec": {"http": [{"route": [destination("shop-stable"), destination("shop-canary")]}]},
    });
    let set = json!({
        "metadata": {"name": "shop-1", "uid": "r1", "resourceVersion": "20"},
        "spec": {"replicas": 1, "template": template()},
    });
    let deployment = json!({
        "metadata": {"name": "shop", "uid": "d1", "resourceVersion": "30"},
        "spec": {"replicas": 1, "paused": true, "template": template()},
    });
    let service = json!({
        "metadata": {"name": "shop", "resourceVersion": "40"},
        "spec": {"selector": {"app": "shop"}},
    });
    let rule = json!({
        "metadata": {"name": "shop", "resourceVersion": "50"},
        "spec": {"subsets": [{"name": "stable", "labels": {"app": "shop"}}]},
    });
    let action = json!({"metadata": {"name": "a", "uid": "a1", "resourceVersion": "60"}});
    BTreeMap::from([
        ("virtualservices/shop", route),
        ("replicasets/shop-1", set),
        ("deployments/shop", deployment),
        ("services/shop", service),
        ("destinationrules/shop", rule),
        ("rolloutactions/a", action),
        ("rollouts/shop", rollout()),
    ])
}

/// One that is allowed in spite of the glass in [`cluster`].
fn to_zero() -> Write {
    let routing = Routing {
        mesh: Mesh::Istio,
        kind: RouteKind::VirtualService,
        service: "shop".into(),
        apex: Apex::Both,
        split: Split::Services { stable: "shop-stable".into(), canary: "shop-canary".into() },
        route: "shop".into(),
        http: vec![],
        more: vec![],
    };
    Write::SetWeight { routing, percent: 0, chosen: Vec::new() }
}

async fn made(server: &std::sync::Arc<StandIn>, write: &Write) -> Result<bool, ActError> {
    let (client, cache, telemetry) = (server.client(), Cache::unwatched(), Telemetry::default());
    perform(Tools { client: &client, cache: &cache, telemetry: &telemetry }, BY, write).await
}

#[tokio::test]
async fn the_object_is_read_then_the_rollout_then_it_is_written() {
    let server = StandIn::new(cluster(), Say::Fine);
    assert!(made(&server, &to_zero()).await.unwrap());
    let expected = ["GET virtualservices/shop", "GET rollouts/shop", "PATCH virtualservices/shop"];
    assert_eq!(server.heard(), expected);
    let server = StandIn::new(cluster(), Say::Fine);
    assert!(made(&server, &Write::Adopt { replica_set: "shop-1".into() }).await.unwrap());
    let expected = [
        "GET replicasets/shop-1",
        "GET deployments/shop",
        "GET rollouts/shop",
        "PATCH replicasets/shop-1",
    ];
    assert_eq!(server.heard(), expected, "the Rollout last: what is older says nothing of it");
    let server = StandIn::new(cluster(), Say::Fine);
    assert!(made(&server, &Write::Finalizer { present: true }).await.unwrap());
    assert_eq!(server.heard(), ["GET rollouts/shop", "PATCH rollouts/shop"]);
}

#[tokio::test]
async fn only_what_is_still_committed_is_written() {
    let changed = |pointer: &str, value: Value| {
        let mut rollout = rollout();
        *rollout.pointer_mut(pointer).unwrap() = value;
        Some(rollout)
    };
    let otherwise = [
        ("a later decision", changed("/status/decision/seq", json!(8))),
        ("an earlier one", changed("/status/decision/seq", json!(6))),
        ("a later leader", changed("/status/decision/epoch", json!(5))),
        ("an earlier one", changed("/status/decision/epoch", json!(3))),
        ("a namesake", changed("/metadata/uid", json!("u2"))),
        ("no decision", changed("/status", json!({}))),
        ("no Rollout", None),
    ];
    let write = to_zero();
    let finalizer = Write::Finalizer { present: true };
    for (which, rollout) in otherwise {
        let mut cluster = cluster();
        match rollout {
            Some(rollout) => cluster.insert("rollouts/shop", rollout),
            None => cluster.remove("rollouts/shop"),
        };
        for write in [&write, &finalizer] {
            let server = StandIn::new(cluster.clone(), Say::Fine);
            let error = made(&server, write).await.unwrap_err();
            assert!(matches!(error, ActError::Stopped(Stopped::Superseded)), "{which}: {error}");
            assert!(error.is_conflict());
            assert!(server.writes().is_empty(), "{which}: {:?}", server.heard());
        }
    }
}

#[tokio::test]
async fn nothing_is_written_where_nothing_is_left_to_do_or_the_object_is_another_leaders() {
    let server = StandIn::new(cluster(), Say::Fine);
    let off = Write::Pin { service: "shop".into(), hash: None };
    assert!(!made(&server, &off).await.unwrap());
    let mut fenced = cluster();
    let service = fenced.get_mut("services/shop").unwrap();
    service["metadata"]["annotations"] = json!({"surefoot.dev/epoch": "5"});
    let fenced = StandIn::new(fenced, Say::Fine);
    let pin = Write::Pin { service: "shop".into(), hash: Some("h".into()) };
    let error = made(&fenced, &pin).await.unwrap_err();
    assert!(
        matches!(error, ActError::Stopped(Stopped::Refused(Refusal::Fenced { .. }))),
        "{error}"
    );
    assert!(server.writes().is_empty() && fenced.writes().is_empty());
}

#[tokio::test]
async fn a_write_that_failed_is_not_sent_again() {
    let says = [
        (Say::Failure(409, "modified"), true),
        // What the server says when a patch's `test` finds another value, and what for a schema's no.
        (Say::Failure(422, "the server rejected our request due to an error in our request"), true),
        (Say::Failure(422, "spec.http: Invalid value: \"null\""), false),
        (Say::Failure(429, "too many"), false),
        (Say::Failure(500, "broken"), false),
        (Say::Nothing, false),
    ];
    for (say, conflict) in says {
        let server = StandIn::new(cluster(), say);
        let error = made(&server, &to_zero()).await.unwrap_err();
        assert!(matches!(error, ActError::Call { .. }), "{error}");
        assert_eq!(error.is_conflict(), conflict, "{error}");
        assert_eq!(server.writes().len(), 1, "{say:?}");
    }
}

/// Every write that changes an object there is, with the place it goes to.
fn edits() -> Vec<(Write, &'static str)> {
    let wanted = DeploymentWanted { paused: Some(false), ..DeploymentWanted::default() };
    let set = || "shop-1".to_owned();
    let (route, rule) = ("virtualservices/shop", "destinationrules/shop");
    let (sets, service) = ("replicasets/shop-1", "services/shop");
    let target = |kind, name: &str| Target { kind, name: name.into() };
    let stamp = |kind, name: &str| Write::Stamp { target: target(kind, name) };
    let pin_subset = Write::PinSubset {
        rule: "shop".into(),
        subset: "stable".into(),
        hash: Some("h".into()),
        labels: None,
    };
    vec![
        (to_zero(), route),
        (Write::Disown { route: target(Kind::VirtualService, "shop") }, route),
        (Write::Mend { route: target(Kind::VirtualService, "shop") }, route),
        (stamp(Kind::VirtualService, "shop"), route),
        (stamp(Kind::Service, "shop"), service),
        (stamp(Kind::ReplicaSet, "shop-1"), sets),
        (Write::Pin { service: "shop".into(), hash: Some("h".into()) }, service),
        (pin_subset, rule),
        (Write::TakeOver { replica_set: set() }, sets),
        (Write::Adopt { replica_set: set() }, sets),
        (Write::GiveBack { replica_set: set() }, sets),
        (Write::Deployment { name: "shop".into(), wanted }, "deployments/shop"),
        (Write::Finalizer { present: true }, "rollouts/shop"),
        (Write::Scale { replica_set: set(), replicas: 3 }, "replicasets/shop-1/scale"),
    ]
}

#[tokio::test]
async fn every_edit_is_of_the_version_that_was_read_and_strict() {
    for (write, path) in edits() {
        let server = StandIn::new(cluster(), Say::Fine);
        assert!(made(&server, &write).await.unwrap(), "{write:?}");
        let [call] = server.writes().try_into().unwrap();
        assert_eq!(call.words(), format!("PATCH {path}"));
        let object = &cluster()[path.trim_end_matches("/scale")];
        let version = &object["metadata"]["resourceVersion"];
        let lock = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version});
        assert!(call.body.as_array().unwrap().contains(&lock), "{write:?}: {}", call.body);
        // A Scale has no fields that could be unknown.
        let strict = call.query.contains("fieldValidation=Strict");
        assert!(strict || matches!(write, Write::Scale { .. }), "{write:?}: {}", call.query);
        assert!(call.query.contains("fieldManager=surefoot"), "{}", call.query);
    }
}

#[tokio::test]
async fn what_is_deleted_is_the_one_that_was_seen_as_it_was_read() {
    let set = Write::DeleteReplicaSet { replica_set: "shop-1".into(), uid: "r1".into() };
    let action = Write::DeleteAction { name: "a".into(), uid: "a1".into() };
    for (write, uid, version) in [(set, "r1", "20"), (action, "a1", "60")] {
        let server = StandIn::new(cluster(), Say::Fine);
        assert!(made(&server, &write).await.unwrap());
        let [call] = server.writes().try_into().unwrap();
        assert_eq!(call.method, "DELETE");
        let preconditions = json!({"uid": uid, "resourceVersion": version});
        assert_eq!(call.body["preconditions"], preconditions);
    }
}

#[tokio::test]
async fn a_creation_is_sent_once_and_only_where_there_is_nothing() {
    let revision = |name: &str| Revision {
        replica_set: name.into(),
        hash: canary_hash(&template()),
        images: vec![],
        taken_over: false,
    };
    let server = StandIn::new(cluster(), Say::Fine);
    let there = Write::CreateReplicaSet { revision: revision("shop-1") };
    assert!(!made(&server, &there).await.unwrap());
    assert!(server.writes().is_empty());
    let new = Write::CreateReplicaSet { revision: revision("shop-2") };
    assert!(made(&server, &new).await.unwrap());
    let [call] = server.writes().try_into().unwrap();
    assert_eq!(call.words(), "POST replicasets");
    let made: DynamicObject = serde_json::from_value(call.body).unwrap();
    assert_eq!(made.metadata.name.as_deref(), Some("shop-2"));
}
