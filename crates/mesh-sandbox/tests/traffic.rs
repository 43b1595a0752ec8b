//! The traffic of the mesh as the controller's own questions see it.

#![expect(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mesh_sandbox::{Behaviour, Destination, Load, Mesh, Pod, Route, Settings, World};
use surefoot_core::metrics::answer;
use surefoot_core::metrics::query::{By, Family, Series};
use surefoot_core::metrics::replica::Pinned;
use surefoot_core::metrics::tick;
use surefoot_core::samples::Count;

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

fn labels(version: &str) -> BTreeMap<String, String> {
    [("app".to_owned(), "web".to_owned()), ("version".to_owned(), version.to_owned())].into()
}

fn pod(version: &str, number: u8) -> Pod {
    Pod {
        namespace: "shop".to_owned(),
        name: format!("web-{version}-pod0{number}"),
        ip: format!("10.244.{}.{number}", version.len()),
        labels: labels(version),
        workload: format!("web-{version}"),
        version: version.to_owned(),
        started: start(),
        ready_since: Some(start()),
    }
}

/// Two pods of each version, and a route with this weight for the canary.
fn world(canary: u32) -> World {
    let to = |service: &str, version: &str, weight| Destination {
        service: service.to_owned(),
        selector: labels(version),
        weight,
    };
    World {
        pods: vec![pod("v1", 1), pod("v1", 2), pod("v02", 1), pod("v02", 2)],
        routes: vec![Route {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            apex: [("app".to_owned(), "web".to_owned())].into(),
            destinations: vec![
                to("web-stable", "v1", 100 - canary),
                to("web-canary", "v02", canary),
            ],
        }],
    }
}

/// How the canary behaves, and what traffic there is.
fn settings(behaviour: Behaviour, load: Load) -> Settings {
    let versions = [("v02".to_owned(), behaviour)].into();
    let scrape_interval = Duration::from_secs(1);
    Settings { scrape_interval, versions, load, ..Settings::default() }
}

fn by_service() -> Series {
    Series {
        namespace: "shop".to_owned(),
        stable: "web-stable".to_owned(),
        canary: "web-canary".to_owned(),
        by: By::Service,
        pinned: Pinned::default(),
    }
}

fn by_pod() -> Series {
    let (stable, canary) = ("web-v1".to_owned(), "web-v02".to_owned());
    Series { stable, canary, by: By::Pod { label: "pod".to_owned() }, ..by_service() }
}

fn ask(mesh: &Mesh, query: &str) -> Vec<u8> {
    let answer = mesh.answer("/api/v1/query", &[("query", query)]);
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.body.into_bytes()
}

/// What the sampler would count between two instants: the canary's and stable's.
fn counts(mesh: &Mesh, series: &Series, from: i64, to: i64) -> [Count; 2] {
    let query = series.increments(Family::Requests, after(from), after(to));
    tick::requests(series, &answer::vector(&ask(mesh, &query)).unwrap()).unwrap()
}

/// A mesh with these weights, each for a minute.
fn run(settings: Settings, weights: &[u32]) -> Mesh {
    let mut mesh = Mesh::new(1, settings);
    mesh.advance(start(), &world(weights[0]));
    for (minute, weight) in (1..).zip(weights) {
        mesh.advance(after(minute * 60), &world(*weight));
    }
    mesh
}

fn near(n: u64, expected: u64) -> bool {
    n.abs_diff(expected) * n.abs_diff(expected) < 25 * expected.max(1)
}

#[test]
fn requests_follow_the_weights_and_fail_as_the_version_does() {
    let bad = Behaviour { failing: 0.25, ..Behaviour::default() };
    let mesh = run(settings(bad, Load::default()), &[10, 10, 50, 0]);
    for series in [by_service(), by_pod()] {
        let [canary, stable] = counts(&mesh, &series, 65, 115);
        assert!(near(canary.requests, 500) && near(stable.requests, 4500), "{canary:?} {stable:?}");
        assert!(near(canary.failed, 125) && near(stable.failed, 5), "{canary:?} {stable:?}");
        let [canary, stable] = counts(&mesh, &series, 125, 175);
        assert!(near(canary.requests, 2500) && near(stable.requests, 2500));
        let [canary, stable] = counts(&mesh, &series, 185, 235);
        assert_eq!(canary, Count::default());
        assert!(near(stable.requests, 5000));
    }
}

#[test]
fn a_change_of_weights_takes_its_time() {
    let propagation = Duration::from_secs(20);
    let own = settings(Behaviour::default(), Load::default());
    let mesh = run(Settings { propagation, ..own }, &[50, 50, 0]);
    let [before, _] = counts(&mesh, &by_service(), 122, 138);
    assert!(near(before.requests, 800), "{before:?}");
    let [later, _] = counts(&mesh, &by_service(), 142, 178);
    assert_eq!(later.requests, 0);
}

#[test]
fn a_seed_and_the_same_worlds_give_the_same_answers() {
    let of = |seed, stops: &[i64]| {
        let mut mesh = Mesh::new(seed, settings(Behaviour::default(), Load::default()));
        mesh.advance(start(), &world(30));
        for stop in stops {
            mesh.advance(after(*stop), &world(30));
        }
        ask(&mesh, "istio_requests_total")
    };
    assert_eq!(of(1, &[60]), of(1, &[7, 8, 31, 60]));
    assert_ne!(of(1, &[60]), of(2, &[60]));
}
