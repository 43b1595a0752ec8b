//! The library's scenarios as stories: each is played once, and what happened is compared with
//! `scenarios/timelines/NAME.txt`. `UPDATE_GOLDEN=1 cargo test --test scenarios` writes them anew: read
//! the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "what can't be read fails its test")]

use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;
use surefoot::cli::page::Style;
use surefoot::simulation::manifest::Manifest;
use surefoot::simulation::simulate::library::{ROLLOUT, SCENARIOS};
use surefoot::simulation::simulate::play::{End, play};
use surefoot::simulation::simulate::scenario::Scenario;
use surefoot::simulation::simulate::story;

static MANIFEST: LazyLock<Manifest> =
    LazyLock::new(|| Manifest::parse(ROLLOUT, Path::new("scenarios/rollout.yaml")).unwrap());

fn scenario(name: &str) -> Scenario {
    let (_, text) = SCENARIOS.iter().find(|(known, _)| *known == name).unwrap();
    Scenario::parse(text).unwrap()
}

/// Plays it, and compares.
fn tells(name: &str, end: End) {
    compares(name, &MANIFEST, name, end);
}

/// Plays a scenario with a Rollout, and compares with this timeline.
fn compares(name: &str, manifest: &Manifest, timeline: &str, end: End) {
    let ended = play(manifest, &scenario(name), 1).unwrap();
    let style = Style { width: 100, colour: false };
    let text = format!("{}\n\n{}", scenario(name).description, story(&ended, style));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/timelines");
    let path = folder.join(format!("{timeline}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{timeline} differs; it should be:\n{golden}\nbut is:\n{text}");
    assert_eq!(ended.end, end, "{text}");
}

macro_rules! scenarios {
    ($($test:ident: $name:literal ends $end:ident),* $(,)?) => {
        $(#[test]
        fn $test() {
            tells($name, End::$end);
        })*

        #[test]
        fn every_scenario_of_the_library_is_told() {
            let told = [$($name),*];
            assert_eq!(told.as_slice(), SCENARIOS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        }
    };
}

scenarios! {
    good: "good" ends Promoted,
    bad_at_once: "bad-at-once" ends RolledBack,
    bad_at_50: "bad-at-50" ends RolledBack,
    slow: "slow" ends RolledBack,
    cold_start: "cold-start" ends Promoted,
    shared_outage: "shared-outage" ends Promoted,
    bursts: "bursts" ends Promoted,
    low_traffic: "low-traffic" ends Held,
    prometheus_outage: "prometheus-outage" ends Promoted,
    gitops_reset: "gitops-reset" ends Held,
    autoscaled: "autoscaled" ends Promoted,
    eviction: "eviction" ends Promoted,
    canary_vanishes: "canary-vanishes" ends RolledBack,
}

/// The same by an HTTPRoute as by a VirtualService, moment by moment.
#[test]
fn an_http_route_tells_the_same_stories() {
    let rollout = ROLLOUT.replace("VirtualService", "HTTPRoute");
    let manifest = Manifest::parse(&rollout, Path::new("rollout.yaml")).unwrap();
    for name in ["good", "bad-at-50", "gitops-reset"] {
        let lines = |manifest| {
            let ended = play(manifest, &scenario(name), 1).unwrap();
            story(&ended, Style { width: 100, colour: false })
        };
        assert_eq!(lines(&manifest), lines(&MANIFEST), "{name}");
    }
}

/// Within the mesh by one route and from a gateway by another, which are moved as one.
#[test]
fn two_routes_end_as_one_does() {
    let one = "routes: [{kind: VirtualService, name: checkout}]";
    let two = "routes: [{kind: HTTPRoute, name: checkout}, {kind: VirtualService, name: public}]";
    let rollout = ROLLOUT.replace(one, two);
    assert_ne!(rollout, ROLLOUT);
    let manifest = Manifest::parse(&rollout, Path::new("rollout.yaml")).unwrap();
    for (name, end) in [("good", End::Promoted), ("bad-at-50", End::RolledBack)] {
        let ended = play(&manifest, &scenario(name), 1).unwrap();
        assert_eq!(ended.end, end, "{name}: {}", ended.why);
    }
}

/// On Linkerd, which speaks of requests in other words, counts no clients that left, and sends the share
/// of a canary without pods to stable.
fn on_linkerd(name: &str, end: End) {
    let manifest = by_linkerd("HTTPRoute");
    compares(name, &manifest, &format!("linkerd-{name}"), end);
}

fn by_linkerd(kind: &str) -> Manifest {
    let rollout = ROLLOUT.replace("VirtualService", kind).replace("istio", "linkerd");
    Manifest::parse(&rollout, Path::new("rollout.yaml")).unwrap()
}

/// Calls by a GRPCRoute have their own statuses under a name of their own, and are judged alike.
#[test]
fn a_grpc_route_ends_as_an_http_route_does() {
    for (name, end) in [("good", End::Promoted), ("bad-at-50", End::RolledBack)] {
        let ended = play(&by_linkerd("GRPCRoute"), &scenario(name), 1).unwrap();
        assert_eq!(ended.end, end, "{name}: {}", ended.why);
    }
}

#[test]
fn linkerd_good() {
    on_linkerd("good", End::Promoted);
}

#[test]
fn linkerd_bad_at_50() {
    on_linkerd("bad-at-50", End::RolledBack);
}

#[test]
fn linkerd_slow() {
    on_linkerd("slow", End::RolledBack);
}

#[test]
fn linkerd_canary_vanishes() {
    on_linkerd("canary-vanishes", End::RolledBack);
}

/// Up without traffic, then all of it at once, and the way back as fast.
fn blue_green(name: &str, end: End) {
    let steps = "steps: [{weight: 10}, {weight: 50}, {weight: 100}]";
    // Where stable has no traffic to compare with, an objective judges.
    let blue_green = "steps: [{weight: 0, preview: true}, {weight: 100}]\n  analysis: {metrics: [{name: success-rate, successRate: {min: \"99%\"}}]}";
    let rollout = ROLLOUT.replace(steps, blue_green);
    let rollout = rollout.replace("service: checkout", "service: checkout\n    apex: stableOnly");
    let manifest = Manifest::parse(&rollout, Path::new("rollout.yaml")).unwrap();
    assert_eq!(manifest.spec.steps.len(), 2);
    compares(name, &manifest, &format!("blue-green-{name}"), end);
}

#[test]
fn blue_green_good() {
    blue_green("good", End::Promoted);
}

#[test]
fn blue_green_bad_at_once() {
    blue_green("bad-at-once", End::RolledBack);
}

#[test]
fn a_seed_gives_the_same_run_again_and_another_one_another() {
    let run = |seed| serde_json::to_string(&play(&MANIFEST, &scenario("slow"), seed).unwrap());
    assert_eq!(run(5).unwrap(), run(5).unwrap());
    assert_ne!(run(5).unwrap(), run(6).unwrap());
}

#[test]
fn the_schema_of_scenarios_is_the_one_that_is_checked_in() {
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(Scenario)).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/schema.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), schema);
}

#[test]
fn a_mistake_in_a_scenario_is_told_with_its_place() {
    let wrong = [
        ("{traffic: {rps: -1}}", "traffic: rps: -1 isn't from 0 to 1000000"),
        ("{canary: {failing: 150%}}", "a percentage from 0% to 100%"),
        ("{canary: {latency: {median: 2s, p99: 1s}}}", "p99 must be above the median"),
        ("{events: [{do: {scale: 0}}]}", "events[0]: do.scale: from 1 to 100"),
        ("{events: [{do: {image: \"a b\"}}]}", "do.image: a tag"),
        ("{events: [{times: 3, do: resetRoute}]}", "times without every"),
        ("{stable: {failures: {clusters: {size: 0.5}}}}", "clusters.size: 0.5 isn't from 1"),
        ("{trafic: {}}", "trafic"),
        ("{mesh: {scrapeInterval: 10ms}}", "at least 1s"),
    ];
    for (text, expected) in wrong {
        let error = format!("{:#}", Scenario::parse(text).unwrap_err());
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_is_not_said_of_the_canary_is_as_stable() {
    let text = "{stable: {failing: 2%, hanging: 1%}, canary: {hanging: 3%}}";
    let scenario = Scenario::parse(text).unwrap();
    let canary = serde_json::to_value(scenario.canary()).unwrap();
    let expected: Value = serde_json::from_str(r#"{"failing": "2%", "hanging": "3%"}"#).unwrap();
    assert_eq!(canary, expected);
}

#[test]
fn the_example_in_the_documentation_is_a_scenario() {
    let document = include_str!("../docs/simulate.md");
    let example = document.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(Scenario::parse(example.unwrap()).unwrap().events.len(), 5);
}
