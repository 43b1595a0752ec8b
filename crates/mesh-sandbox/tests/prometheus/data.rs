//! Samples: those of a mesh in which much happens, and odd ones.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mesh_sandbox::labels::{Labels, NAME};
use mesh_sandbox::store::{Store, stale};
use mesh_sandbox::{Behaviour, Destination, Load, Mesh, Pod, Route, Settings, World};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// When it all begins, seconds since the epoch: 2026-01-01.
pub const START: i64 = 1_767_225_600;

/// So many seconds later.
pub fn after(seconds: i64) -> Timestamp {
    Timestamp::from_second(START).unwrap() + SignedDuration::from_secs(seconds)
}

fn pod(version: &str, number: u8, started: i64, ready: Option<i64>) -> Pod {
    Pod {
        namespace: "shop".to_owned(),
        name: format!("web-{version}-pod0{number}"),
        ip: format!("10.244.{}.{number}", version.len()),
        labels: [("app".to_owned(), "web".to_owned()), ("v".to_owned(), version.to_owned())].into(),
        workload: "web".to_owned(),
        version: version.to_owned(),
        started: after(started),
        ready_since: ready.map(after),
    }
}

fn world(pods: Vec<Pod>, canary: u32) -> World {
    let to = |service: &str, version: &str, weight| Destination {
        service: service.to_owned(),
        selector: [("v".to_owned(), version.to_owned())].into(),
        weight,
    };
    let destinations = vec![to("web-stable", "6c", 100 - canary), to("web-canary", "sf1", canary)];
    let route = Route {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        called: "web".to_owned(),
        grpc: false,
        apex: [("app".to_owned(), "web".to_owned())].into(),
        destinations,
    };
    World { pods, routes: vec![route] }
}

/// A quarter of an hour: a canary without pods, with pods, with pods that restart and go.
pub fn mesh() -> Mesh {
    let bad = Behaviour {
        failing: 0.05,
        hanging: 0.01,
        cold: Duration::from_secs(30),
        slower: 3.0,
        ..Behaviour::default()
    };
    let load = Load {
        rps: 20.0,
        noise: 0.3,
        unmeshed: 0.1,
        retries: 1,
        timeout: Duration::from_secs(3),
        ..Load::default()
    };
    let settings = Settings {
        scrape_interval: Duration::from_secs(5),
        versions: [("sf1".to_owned(), bad)].into(),
        load,
        ..Settings::default()
    };
    let stable =
        |restarted| vec![pod("6c", 1, 0, Some(0)), pod("6c", 2, restarted, Some(restarted))];
    let with = |mut pods: Vec<Pod>, more: Vec<Pod>| {
        pods.extend(more);
        pods
    };
    let mut mesh = Mesh::new(3, settings);
    mesh.advance(after(0), &world(stable(0), 0));
    mesh.advance(after(200), &world(stable(0), 0));
    mesh.advance(after(210), &world(stable(0), 10));
    mesh.advance(after(240), &world(with(stable(0), vec![pod("sf1", 1, 230, None)]), 10));
    let canary = vec![pod("sf1", 1, 230, Some(240)), pod("sf1", 2, 240, Some(250))];
    mesh.advance(after(500), &world(with(stable(0), canary.clone()), 30));
    mesh.advance(after(700), &world(with(stable(500), canary[..1].to_vec()), 50));
    mesh.advance(after(900), &world(stable(500), 0));
    mesh
}

/// Series of all kinds: counters that fall, gauges that are no numbers, gaps, ends, histograms with
/// boundaries in several spellings.
pub fn odd() -> Store {
    let mut chance = StdRng::seed_from_u64(11);
    let mut samples: Vec<(i64, Labels, f64)> = Vec::new();
    let start = START * 1000;
    for name in ["a", "b", "c"] {
        for (i, x) in ["1", "2", "3"].into_iter().enumerate() {
            for y in ["u", "v", "<w>"].into_iter().take(3 - usize::from(name == "b")) {
                let labels = Labels::from_iter([(NAME, name), ("x", x), ("y", y)]);
                let labels = if name == "c" { labels.with("z", x) } else { labels };
                let mut value = f64::from(chance.random_range(0..40u32));
                let mut at = start + chance.random_range(0..15_000i64);
                let begins = start + chance.random_range(0..400_000i64) * i64::from(i > 1);
                while at < start + 900_000 {
                    value = match chance.random_range(0..40u32) {
                        0 => 0.0,
                        1 if name == "c" => f64::NAN,
                        2 if name == "c" => f64::INFINITY,
                        3 if name == "c" => -value,
                        4 => value + chance.random_range(0.0..1.0),
                        5 if name == "c" => value * 1e9,
                        6 if name == "c" => value / 1e9,
                        _ => value + f64::from(chance.random_range(0..9u32)),
                    };
                    let gap = chance.random_range(0..60u32);
                    if at >= begins && gap > 2 {
                        samples.push((at, labels.clone(), value));
                    }
                    if gap == 2 {
                        samples.push((at, labels.clone(), stale()));
                        at += 60_000;
                    }
                    at += if gap == 3 { 400_000 } else { 15_000 + chance.random_range(0..20i64) };
                }
            }
        }
    }
    for x in ["1", "2"] {
        let mut counts = [0.0; 5];
        for scrape in 0..60i64 {
            let les = ["0.5", "1", "5e0", "10.0", "+Inf"];
            let mut more = 0.0;
            for (count, le) in counts.iter_mut().zip(les) {
                more += f64::from(chance.random_range(0..6u32));
                *count += more;
                let labels = Labels::from_iter([(NAME, "h_bucket"), ("le", le), ("x", x)]);
                // Scraped in the middle of a change.
                let falls = if le == "5e0" && scrape % 3 == 0 { 7.0 } else { 0.0 };
                samples.push((start + scrape * 15_000, labels, (*count - falls).max(0.0)));
            }
        }
    }
    samples.sort_by_key(|sample| sample.0);
    let mut store = Store::new(i64::MAX, 10_000);
    for (at, labels, value) in samples {
        store.append(&labels, at, value).unwrap();
    }
    store
}
