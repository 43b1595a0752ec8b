//! The traffic of the mesh as the controller's own questions see it.

#![expect(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mesh_sandbox::{Behaviour, Destination, Load, Mesh, Pod, Route, Settings, World};
use surefoot_core::api::rollout;
use surefoot_core::metrics::LINKERD_BOUNDARIES;
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
            called: "web".to_owned(),
            grpc: false,
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
        mesh: rollout::Mesh::Istio,
        route: rollout::RouteKind::HTTPRoute,
        service: "web".to_owned(),
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

#[test]
fn pods_of_one_version_differ_by_chance() {
    let mesh = run(settings(Behaviour::default(), Load::default()), &[50, 50]);
    let page = |pod: &str| mesh.page(Some(("shop", pod))).unwrap();
    assert_ne!(page("web-v1-pod01"), page("web-v1-pod02"));
    assert!(mesh.page(Some(("shop", "nobody"))).is_none());
}

/// One number of an answer: the sum of what a query finds.
fn number(mesh: &Mesh, query: &str) -> f64 {
    let points = answer::vector(&ask(mesh, &format!("sum({query}) or vector(0)"))).unwrap();
    points[0].value
}

#[test]
fn what_fails_is_tried_again_and_the_caller_sees_only_the_end() {
    let bad = Behaviour { failing: 0.2, ..Behaviour::default() };
    let load = Load { retries: 2, ..Load::default() };
    let mesh = run(settings(bad, load), &[50, 50]);
    let [seen, _] = counts(&mesh, &by_service(), 10, 110);
    let [done, _] = counts(&mesh, &by_pod(), 10, 110);
    // Of 5,000 requests 1,000 fail at first, 200 of those again, 40 for good.
    assert!(near(seen.requests, 5000) && near(seen.failed, 40), "{seen:?}");
    assert!(near(done.requests, 6200) && near(done.failed, 1240), "{done:?}");
}

#[test]
fn what_is_never_answered_is_counted_when_its_caller_gives_up() {
    let bad = Behaviour { failing: 0.0, hanging: 0.1, ..Behaviour::default() };
    let load = Load { timeout: Duration::from_secs(30), ..Load::default() };
    let mesh = run(settings(bad, load), &[50, 50]);
    let gave_up = |at: i64, reporter: &str, flags: &str| {
        let select = format!("{{reporter=\"{reporter}\", response_flags=\"{flags}\"}}");
        number(&mesh, &format!("istio_requests_total{select} @ {}", after(at).as_second()))
    };
    assert!(gave_up(29, "source", "UT") == 0.0 && gave_up(29, "destination", "DC") == 0.0);
    for (reporter, flags) in [("source", "UT"), ("destination", "DC")] {
        let n = gave_up(110, reporter, flags);
        assert!((320.0..480.0).contains(&n), "{reporter}: {n} of about 400");
    }
    // Clients that left are no failures of the version.
    let [done, _] = counts(&mesh, &by_pod(), 50, 110);
    assert_eq!(done.failed, 0);
    let slow = "istio_request_duration_milliseconds_bucket{response_code=\"504\", le=\"10000\"}";
    assert_eq!(number(&mesh, slow), 0.0);
}

#[test]
fn callers_without_a_proxy_come_past_the_weights() {
    let load = Load { unmeshed: 0.5, ..Load::default() };
    let mesh = run(settings(Behaviour::default(), load), &[0, 0]);
    let [seen, stable] = counts(&mesh, &by_service(), 10, 110);
    assert!(seen.requests == 0 && near(stable.requests, 5000), "{seen:?} {stable:?}");
    let [reached, stable] = counts(&mesh, &by_pod(), 10, 110);
    assert!(near(reached.requests, 2500) && near(stable.requests, 7500), "{reached:?} {stable:?}");
}

#[test]
fn a_pod_is_slow_while_it_is_cold() {
    let cold = Behaviour { cold: Duration::from_secs(60), slower: 20.0, ..Behaviour::default() };
    let mesh = run(settings(cold, Load::default()), &[50, 50, 50]);
    let slow = |from: i64| {
        let over = |le: &str| {
            let select = format!("{{pod=~\"web-v02.*\", le=\"{le}\"}}");
            let of = "increase(istio_request_duration_milliseconds_bucket";
            number(&mesh, &format!("{of}{select}[40s] @ {})", after(from + 40).as_second()))
        };
        1.0 - over("100") / over("+Inf")
    };
    assert!(slow(10) > 0.9, "{}", slow(10));
    assert!(slow(100) < 0.1, "{}", slow(100));
}

#[test]
fn without_ready_pods_the_caller_gets_503() {
    let mut world = world(50);
    for pod in world.pods.iter_mut().filter(|pod| pod.version == "v02") {
        pod.ready_since = None;
    }
    let mut mesh = Mesh::new(1, settings(Behaviour::default(), Load::default()));
    mesh.advance(start(), &world);
    mesh.advance(after(60), &world);
    let [canary, stable] = counts(&mesh, &by_service(), 10, 50);
    assert!(canary.failed == canary.requests && near(canary.failed, 2000), "{canary:?}");
    assert!(near(stable.requests, 2000), "{stable:?}");
    let none = "istio_requests_total{response_flags=\"UH\", destination_workload=\"\"}";
    assert!(number(&mesh, none) > 0.0);
}

#[test]
fn proxies_that_start_anew_or_go_are_seen_as_such() {
    let mut mesh = Mesh::new(1, settings(Behaviour::default(), Load::default()));
    let mut world = world(50);
    mesh.advance(start(), &world);
    mesh.advance(after(60), &world);
    world.pods[0].started = after(60);
    world.pods.pop();
    mesh.advance(after(120), &world);
    let one = "resets(istio_requests_total{pod=\"web-v1-pod01\", response_code=\"200\"}[2m])";
    assert_eq!(number(&mesh, one), 1.0);
    assert_eq!(number(&mesh, "up"), 4.0);
    assert_eq!(number(&mesh, "count(up offset 70s)"), 5.0);
    assert_eq!(number(&mesh, "count(istio_requests_total{pod=\"web-v02-pod02\"})"), 0.0);
}

#[test]
fn a_day_has_its_shape_and_minutes_their_noise() {
    let at = |hour: i64, load: Load| {
        let mut mesh = Mesh::new(1, settings(Behaviour::default(), load));
        mesh.advance(after(hour * 3600), &world(50));
        mesh.advance(after(hour * 3600 + 120), &world(50));
        counts(&mesh, &by_service(), hour * 3600 + 10, hour * 3600 + 110)
            .map(|count| count.requests)
            .iter()
            .sum::<u64>()
    };
    let day = Load { day: 0.5, ..Load::default() };
    assert!(near(at(18, day.clone()), 15_000) && near(at(6, day), 5000));
    let noisy = Load { noise: 0.5, ..Load::default() };
    assert!(!near(at(1, noisy), 10_000));
}

/// The same on Linkerd.
fn on_linkerd(settings: Settings) -> Settings {
    Settings { kind: rollout::Mesh::Linkerd, ..settings }
}

fn as_linkerd(series: Series) -> Series {
    Series { mesh: rollout::Mesh::Linkerd, ..series }
}

#[test]
fn linkerds_proxies_count_the_same_under_their_own_names() {
    let bad = Behaviour { failing: 0.25, ..Behaviour::default() };
    let mesh = run(on_linkerd(settings(bad, Load::default())), &[10, 10, 0]);
    for series in [as_linkerd(by_service()), as_linkerd(by_pod())] {
        let [canary, stable] = counts(&mesh, &series, 65, 115);
        assert!(near(canary.requests, 500) && near(stable.requests, 4500), "{canary:?} {stable:?}");
        assert!(near(canary.failed, 125) && near(stable.failed, 5), "{canary:?} {stable:?}");
        let query = series.increments(Family::Latency, after(65), after(115));
        let points = answer::vector(&ask(&mesh, &query)).unwrap();
        let latencies = tick::latencies(&series, &points).unwrap();
        assert_eq!(latencies.boundaries, LINKERD_BOUNDARIES);
        assert!(near(latencies.canary.requests, 500), "{:?}", latencies.canary);
        // Half of them take up to 20 ms.
        assert!(near(2 * latencies.stable.at_most[6], 4500), "{:?}", latencies.stable);
    }
    assert_eq!(number(&mesh, "{__name__=~\"istio.*\"}"), 0.0);
}

#[test]
fn linkerd_sends_the_share_of_a_version_without_pods_to_the_other() {
    let mut world = world(50);
    for pod in world.pods.iter_mut().filter(|pod| pod.version == "v02") {
        pod.ready_since = None;
    }
    let of = |world: &World| {
        let mut mesh = Mesh::new(1, on_linkerd(settings(Behaviour::default(), Load::default())));
        mesh.advance(start(), world);
        mesh.advance(after(60), world);
        counts(&mesh, &as_linkerd(by_service()), 10, 50)
    };
    let [canary, stable] = of(&world);
    assert_eq!(canary, Count::default(), "a canary without pods looks healthy");
    assert!(near(stable.requests, 4000) && near(stable.failed, 4), "{stable:?}");
    // Where nobody has any, the proxies say so at once.
    world.pods.iter_mut().for_each(|pod| pod.ready_since = None);
    let [canary, stable] = of(&world);
    assert!(canary.failed == canary.requests && near(canary.failed, 2000), "{canary:?}");
    assert!(stable.failed == stable.requests && near(stable.failed, 2000), "{stable:?}");
    // All weights 0: connections are dropped, and nobody counts them.
    world.routes[0].destinations.iter_mut().for_each(|to| to.weight = 0);
    assert_eq!(of(&world), [Count::default(); 2]);
}

#[test]
fn linkerd_counts_each_try_and_only_what_a_timeout_ends() {
    let bad = Behaviour { failing: 0.0, hanging: 0.1, ..Behaviour::default() };
    let load = Load { timeout: Duration::from_secs(30), ..Load::default() };
    let mesh = run(on_linkerd(settings(bad, load)), &[50, 50]);
    let [canary, _] = counts(&mesh, &as_linkerd(by_service()), 50, 110);
    assert!((200..400).contains(&canary.failed), "{canary:?}");
    let [canary, _] = counts(&mesh, &as_linkerd(by_pod()), 50, 110);
    assert_eq!((canary.failed, canary.abandoned), (0, 0));
    let bad = Behaviour { failing: 0.2, ..Behaviour::default() };
    let load = Load { retries: 2, ..Load::default() };
    let mesh = run(on_linkerd(settings(bad, load)), &[50, 50]);
    let [seen, _] = counts(&mesh, &as_linkerd(by_service()), 10, 110);
    assert!(near(seen.requests, 6200) && near(seen.failed, 1240), "{seen:?}");
}
