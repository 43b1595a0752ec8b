//! What kube-rs sees of a sandbox: watchers, pages, conflicts, definitions; and that a run can be
//! repeated.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{
    define, definition, delete, deployment, get, json_patch, merge, post, shop, strategic,
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use kube_sandbox::{Controllers, Sandbox, Settings};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

fn maps(sandbox: &Sandbox) -> Api<ConfigMap> {
    Api::namespaced(Client::new(sandbox.service("test"), "shop"), "shop")
}

fn make(sandbox: &Sandbox, name: &str) -> Value {
    post(sandbox, MAPS, &json!({"metadata": {"name": name}})).1
}

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_objects_come_change_and_go_by_lists_or_streams() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let sandbox = shop();
        make(&sandbox, "a");
        let mut events = Box::pin(watcher(maps(&sandbox), config.labels("!hidden")));
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "done") {
            match events.next().await.unwrap().unwrap() {
                watcher::Event::Init => seen.push("init".to_owned()),
                watcher::Event::InitApply(map) => seen.push(format!("has {}", map.name_any())),
                watcher::Event::InitDone => seen.push("done".to_owned()),
                _ => panic!(),
            }
        }
        assert_eq!(seen, ["init", "has a", "done"]);
        make(&sandbox, "b");
        merge(&sandbox, &format!("{MAPS}/a"), &json!({"metadata": {"labels": {"hidden": "1"}}}));
        let mut next = async || events.next().await.unwrap().unwrap();
        assert!(matches!(next().await, watcher::Event::Apply(map) if map.name_any() == "b"));
        assert!(matches!(next().await, watcher::Event::Delete(map) if map.name_any() == "a"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_before_the_history_gets_410_and_a_watcher_lists_anew() {
    let sandbox = shop();
    let old = make(&sandbox, "a")["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut events =
        Box::pin(watcher(maps(&sandbox), watcher::Config::default()).default_backoff());
    while !matches!(events.next().await.unwrap().unwrap(), watcher::Event::InitDone) {}
    make(&sandbox, "b");
    sandbox.compact(sandbox.version());
    let mut stream = Box::pin(maps(&sandbox).watch(&WatchParams::default(), &old).await.unwrap());
    let Some(WatchEvent::Error(status)) = stream.try_next().await.unwrap() else { panic!() };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    let mut restarted = false;
    loop {
        match events.next().await.unwrap() {
            Ok(watcher::Event::Init) => restarted = true,
            Ok(watcher::Event::InitDone) => break,
            _ => {}
        }
    }
    assert!(restarted);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_every_minute_and_a_watch_ends_in_time() {
    let sandbox = Sandbox::new();
    let client = Client::new(sandbox.service("test"), "default");
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let start = sandbox.now();
    let parameters = WatchParams::default().timeout(150);
    let mut events = Box::pin(maps.watch(&parameters, "0").await.unwrap());
    let mut bookmarks = 0;
    while let Some(event) = events.try_next().await.unwrap() {
        assert!(matches!(event, WatchEvent::Bookmark(_)));
        bookmarks += 1;
    }
    let passed = sandbox.now().duration_since(start).as_secs();
    assert_eq!((bookmarks, passed), (2, 150));
}

#[tokio::test(start_paused = true)]
async fn pages_show_one_version() {
    let sandbox = shop();
    for name in ["a", "b", "c"] {
        make(&sandbox, name);
    }
    let maps = maps(&sandbox);
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(1));
    let token = first.metadata.continue_.clone().unwrap();
    maps.delete("c", &DeleteParams::default()).await.unwrap();
    let second = maps.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    let names: Vec<String> = second.items.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["c"], "as it was when the list began");
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    sandbox.compact(sandbox.version());
    let late = maps.list(&ListParams::default().limit(2).continue_token(&token)).await;
    assert!(matches!(late, Err(kube::Error::Api(status)) if status.code == 410));
}

#[tokio::test(start_paused = true)]
async fn stale_writes_conflict() {
    let sandbox = shop();
    make(&sandbox, "a");
    let maps = maps(&sandbox);
    let old = maps.get("a").await.unwrap();
    let patch = Patch::Merge(json!({"data": {"x": "1"}}));
    maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    let late = maps.replace("a", &PostParams::default(), &old).await;
    assert!(matches!(late, Err(kube::Error::Api(status)) if status.is_conflict()));
}

#[test]
fn json_patches_fail_as_on_the_real_server() {
    let sandbox = shop();
    let uri = format!("{MAPS}/a");
    let version = make(&sandbox, "a")["metadata"]["resourceVersion"].clone();
    let replace = |version: &Value| {
        json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/data", "value": {"x": version}},
        ])
    };
    assert_eq!(json_patch(&sandbox, &uri, &replace(&version)).0, 200);
    assert_eq!(json_patch(&sandbox, &uri, &replace(&version)).0, 409, "stale");
    let test = json!([{"op": "test", "path": "/data/x", "value": "other"}]);
    let (code, answer) = json_patch(&sandbox, &uri, &test);
    assert_eq!((code, &answer["reason"]), (422, &json!("Invalid")));
}

#[test]
fn a_patch_that_changes_nothing_writes_nothing() {
    let sandbox = shop();
    make(&sandbox, "a");
    let uri = format!("{MAPS}/a");
    merge(&sandbox, &uri, &json!({"data": {"x": "1"}}));
    let version = sandbox.version();
    merge(&sandbox, &uri, &json!({"data": {"x": "1"}}));
    assert_eq!(sandbox.version(), version);
}

#[test]
fn generations_rise_with_the_spec_alone() {
    let sandbox = shop();
    let uri = "/apis/apps/v1/namespaces/shop/deployments";
    post(&sandbox, uri, &deployment());
    let web = format!("{uri}/web");
    let generation = |sandbox: &Sandbox| get(sandbox, &web).1["metadata"]["generation"].clone();
    merge(&sandbox, &web, &json!({"metadata": {"labels": {"a": "b"}}}));
    merge(&sandbox, &format!("{web}/status"), &json!({"status": {"replicas": 3}}));
    assert_eq!(generation(&sandbox), 1);
    let image = json!({"spec": {"template": {"spec": {
        "containers": [{"name": "web", "image": "web:2"}],
    }}}});
    let (_, patched) = strategic(&sandbox, &web, &image);
    assert_eq!(patched["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
    assert_eq!(generation(&sandbox), 2);
    assert_eq!(merge(&sandbox, &format!("{web}/scale"), &json!({"spec": {"replicas": 5}})).0, 200);
    assert_eq!(get(&sandbox, &format!("{web}/scale")).1["status"]["selector"], "app=web");
    assert_eq!(generation(&sandbox), 3);
}

#[test]
fn finalizers_hold_an_object_until_they_are_done() {
    let sandbox = shop();
    let object = json!({"metadata": {"generateName": "a-", "finalizers": ["example.com/wait"]}});
    let name = post(&sandbox, MAPS, &object).1["metadata"]["name"].clone();
    let uri = format!("{MAPS}/{}", name.as_str().unwrap());
    delete(&sandbox, &uri, &json!({}));
    assert!(get(&sandbox, &uri).1["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(merge(&sandbox, &uri, &json!({"metadata": {"finalizers": ["b"]}})).0, 422);
    merge(&sandbox, &uri, &json!({"metadata": {"finalizers": null}}));
    assert_eq!(get(&sandbox, &uri).0, 404);
}

#[test]
fn events_are_one_resource_in_two_groups() {
    let sandbox = shop();
    let event = json!({
        "metadata": {"name": "e"}, "note": "hello", "type": "Normal", "reason": "r", "action": "a",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "shop"},
        "reportingController": "me", "reportingInstance": "one",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    });
    let (code, made) = post(&sandbox, "/apis/events.k8s.io/v1/namespaces/shop/events", &event);
    assert_eq!((code, &made["note"]), (201, &json!("hello")));
    let selected = "/api/v1/namespaces/shop/events?fieldSelector=involvedObject.name%3Dp";
    let found = &get(&sandbox, selected).1["items"][0];
    assert_eq!((&found["message"], &found["reportingComponent"]), (&json!("hello"), &json!("me")));
}

/// A definition that fences stale leaders by transition rules at its root.
#[test]
fn rules_at_the_root_fence_a_stale_leader() {
    let sandbox = shop();
    let text = include_str!("../../../crds/rollouts.yaml");
    define(&sandbox, &serde_saphyr::from_str(text).unwrap());
    let uri = "/apis/surefoot.dev/v1alpha1/namespaces/shop/rollouts";
    let rollout = json!({
        "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"},
        "spec": {
            "targetRef": {"kind": "Deployment", "name": "web"},
            "traffic": {
                "mesh": "istio", "service": "web",
                "routes": [{"kind": "VirtualService", "name": "web"}],
            },
            "steps": [{"weight": 10}, {"weight": 100}],
        },
    });
    let mut falling = rollout.clone();
    falling["spec"]["steps"] = json!([{"weight": 50}, {"weight": 10}, {"weight": 100}]);
    let (code, refused) = post(&sandbox, uri, &falling);
    let message = refused["message"].as_str().unwrap();
    assert!(code == 422 && message.contains("each step's weight must be above"), "{refused}");
    assert_eq!(post(&sandbox, uri, &rollout).0, 201);
    let write = |epoch: i64, seq: i64, verdict: &str, weight: i64| {
        let decision = json!({
            "seq": seq, "epoch": epoch, "holder": "one", "release": 2, "step": 0, "weight": weight,
            "verdict": verdict, "actor": "me", "reason": "a test", "at": "2026-01-01T00:00:00Z",
        });
        let patch = json!([{"op": "add", "path": "/status", "value": {"decision": decision}}]);
        json_patch(&sandbox, &format!("{uri}/web/status"), &patch)
    };
    let (code, written) = write(3, 5, "Advance", 10);
    assert_eq!((code, &written["status"]["conditions"]), (200, &json!([])), "an empty default");
    let (code, refused) = write(2, 6, "Advance", 10);
    assert!(refused["message"].as_str().unwrap().contains("stale leader"), "{code} {refused}");
    assert_eq!(write(3, 6, "Rollback", 0).0, 200);
    assert_eq!(write(3, 7, "Advance", 50).0, 422, "a rollback is final");
}

#[test]
fn managed_fields_say_who_wrote_what() {
    let sandbox = shop();
    define(&sandbox, &definition("networking.istio.io", "v1", "virtualservices", "VirtualService"));
    let uri = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices";
    let route = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "web"}, "spec": {"hosts": ["web"], "http": [{"weight": 100}]},
    });
    post(&sandbox, &format!("{uri}?fieldManager=maker"), &route);
    let web = format!("{uri}/web?fieldManager=other");
    let (_, web) = merge(&sandbox, &web, &json!({"spec": {"http": [{"weight": 90}]}}));
    let owner = |field: &str| -> Vec<&str> {
        let entries = web["metadata"]["managedFields"].as_array().unwrap();
        let owns = |e: &&Value| e.pointer(&format!("/fieldsV1/f:spec/f:{field}")).is_some();
        entries.iter().filter(owns).map(|e| e["manager"].as_str().unwrap()).collect()
    };
    assert_eq!((owner("hosts"), owner("http")), (vec!["maker"], vec!["other"]));
}

#[tokio::test]
async fn kinds_are_discovered_with_their_scope_and_subresources() {
    let sandbox = shop();
    define(&sandbox, &definition("example.com", "v1", "widgets", "Widget"));
    let client = Client::new(sandbox.service("test"), "shop");
    let discovery = kube::discovery::Discovery::new(client).run().await.unwrap();
    let kind = kube::core::GroupVersionKind::gvk("example.com", "v1", "Widget");
    let (resource, capabilities) = discovery.resolve_gvk(&kind).unwrap();
    assert_eq!(resource.plural, "widgets");
    assert!(capabilities.subresources.iter().any(|(sub, _)| sub.plural == "status"));
    delete(
        &sandbox,
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com",
        &json!({}),
    );
    assert_eq!(get(&sandbox, "/apis/example.com/v1/widgets").0, 404);
}

/// All that a run wrote, as text.
async fn written(seed: u64) -> String {
    let sandbox = Sandbox::builder().seed(seed).build();
    let _controllers = Controllers::start(&sandbox, Settings::default());
    post(&sandbox, "/api/v1/namespaces", &json!({"metadata": {"name": "shop"}}));
    post(&sandbox, "/apis/apps/v1/namespaces/shop/deployments", &deployment());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let events = sandbox.events_since(0).unwrap();
    events
        .iter()
        .filter_map(|event| event.after.as_ref())
        .map(|object| format!("{object}\n"))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_repeated_byte_for_byte() {
    let first = written(1).await;
    assert!(first.lines().count() > 20);
    assert_eq!(first, written(1).await);
    assert_ne!(first, written(2).await);
}
