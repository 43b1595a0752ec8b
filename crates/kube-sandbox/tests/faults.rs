//! Each fault of the plan, as a kube-rs client meets it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use kube_sandbox::{Fault, FaultPlan, Sandbox, Verb, When};
use serde_json::json;
use tokio::time::{Instant, timeout};

fn client(sandbox: &Sandbox) -> Api<ConfigMap> {
    Api::default_namespaced(Client::new(sandbox.service("test"), "default"))
}

fn named(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

async fn create(maps: &Api<ConfigMap>, name: &str) -> Result<ConfigMap, kube::Error> {
    maps.create(&PostParams::default(), &named(name)).await
}

async fn note(maps: &Api<ConfigMap>, name: &str, text: &str) -> ConfigMap {
    let patch = Patch::Merge(json!({"data": {"note": text}}));
    maps.patch(name, &PatchParams::default(), &patch).await.unwrap()
}

fn code<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> u16 {
    match answer {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("{other:?}"),
    }
}

fn a(verb: Verb) -> When {
    When { verb: Some(verb), ..When::default() }
}

#[tokio::test(start_paused = true)]
async fn a_status_is_answered_and_nothing_is_done() {
    let sandbox = Sandbox::new();
    let maps = client(&sandbox);
    let plan = FaultPlan::new()
        .with(a(Verb::Create), Fault::Answer(500))
        .with(a(Verb::List), Fault::Answer(410));
    sandbox.plan(plan);
    assert_eq!(code(create(&maps, "a").await), 500);
    assert_eq!(code(maps.list(&ListParams::default()).await), 410);
    assert!(maps.list(&ListParams::default()).await.unwrap().items.is_empty());
    let calls = sandbox.calls();
    assert_eq!((calls[0].code, calls[0].fault.clone()), (None, Some(Fault::Answer(500))));
    assert_eq!(calls[2].code, Some(200));
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_says_when_to_come_back() {
    let sandbox = Sandbox::new();
    sandbox.plan(FaultPlan::new().with(a(Verb::List), Fault::TooManyRequests(7)));
    let request = kube_sandbox::Request::get("/api/v1/namespaces/default/configmaps");
    let response = sandbox.service("test").answer(request).await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "7");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_was_carried_out() {
    let sandbox = Sandbox::new();
    let maps = client(&sandbox);
    sandbox.plan(FaultPlan::new().with(a(Verb::Create), Fault::DropReply));
    let error = create(&maps, "a").await.unwrap_err();
    assert!(!matches!(error, kube::Error::Api(_)), "{error:?}");
    assert_eq!(maps.get("a").await.unwrap().name_any(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_delayed_request_comes_late_and_a_held_one_when_it_is_let_go() {
    let sandbox = Sandbox::new();
    let maps = client(&sandbox);
    let plan = FaultPlan::new()
        .with(a(Verb::Create), Fault::Delay(Duration::from_secs(9)))
        .with(a(Verb::Get), Fault::DelayReply(Duration::from_secs(3)))
        .with(a(Verb::List), Fault::Hold);
    sandbox.plan(plan);
    let start = Instant::now();
    create(&maps, "a").await.unwrap();
    maps.get("a").await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(12));
    let held = tokio::spawn({
        let maps = maps.clone();
        async move { maps.list(&ListParams::default()).await }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!held.is_finished());
    sandbox.let_go();
    assert_eq!(held.await.unwrap().unwrap().items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_client_never_hears_again() {
    for (fault, exists) in [(Fault::Crash, false), (Fault::CrashAfter, true)] {
        let sandbox = Sandbox::new();
        let maps = client(&sandbox);
        sandbox.plan(FaultPlan::new().with(a(Verb::Create), fault));
        let mut crashes = sandbox.crashes();
        let dead = tokio::spawn(async move { create(&maps, "a").await });
        crashes.changed().await.unwrap();
        dead.abort();
        let after = timeout(Duration::from_secs(60), client(&sandbox).get("a")).await;
        assert!(after.is_err(), "the dead client got an answer");
        let other: Api<ConfigMap> =
            Api::default_namespaced(Client::new(sandbox.service("successor"), "default"));
        assert_eq!(other.get_opt("a").await.unwrap().is_some(), exists);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_read_shows_how_it_was() {
    let sandbox = Sandbox::new();
    let maps = client(&sandbox);
    create(&maps, "a").await.unwrap();
    note(&maps, "a", "1").await;
    note(&maps, "a", "2").await;
    let plan =
        FaultPlan::new().with(a(Verb::Get), Fault::Stale(1)).with(a(Verb::List), Fault::Stale(3));
    sandbox.plan(plan);
    assert_eq!(maps.get("a").await.unwrap().data.unwrap()["note"], "1");
    assert!(maps.list(&ListParams::default()).await.unwrap().items.is_empty());
    assert_eq!(maps.get("a").await.unwrap().data.unwrap()["note"], "2");
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_cut_after_so_many_events() {
    let sandbox = Sandbox::new();
    let maps = client(&sandbox);
    for name in ["a", "b", "c"] {
        create(&maps, name).await.unwrap();
    }
    sandbox.plan(FaultPlan::new().with(a(Verb::Watch), Fault::CutWatch(2)));
    let mut events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    let mut seen = 0;
    while let Ok(Some(_)) = events.try_next().await {
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_skips_what_was_changed_again() {
    let sandbox = Sandbox::new();
    let maps = client(&sandbox);
    let start = create(&maps, "a").await.unwrap().resource_version().unwrap();
    note(&maps, "a", "1").await;
    note(&maps, "a", "2").await;
    sandbox.plan(FaultPlan::new().with(a(Verb::Watch), Fault::SkipEvents));
    let mut events = Box::pin(maps.watch(&WatchParams::default(), &start).await.unwrap());
    let Some(WatchEvent::Modified(map)) = events.try_next().await.unwrap() else { panic!() };
    assert_eq!(map.data.unwrap()["note"], "2");
}

#[tokio::test(start_paused = true)]
async fn a_stale_watch_stays_behind_until_it_is_let_go() {
    let sandbox = Sandbox::new();
    let maps = client(&sandbox);
    create(&maps, "a").await.unwrap();
    create(&maps, "b").await.unwrap();
    sandbox.plan(FaultPlan::new().with(a(Verb::Watch), Fault::Stale(1)));
    let mut events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    let Some(WatchEvent::Added(map)) = events.try_next().await.unwrap() else { panic!() };
    assert_eq!(map.name_any(), "a");
    let quiet = timeout(Duration::from_secs(10), events.try_next()).await;
    assert!(quiet.is_err(), "the newest write isn't seen yet");
    sandbox.let_go();
    let Some(WatchEvent::Added(map)) = events.try_next().await.unwrap() else { panic!() };
    assert_eq!(map.name_any(), "b");
}
