use std::path::Path;

use surefoot_core::samples::{Count, Histogram};

use super::*;

const ROLLOUT: &str = "
kind: Rollout
metadata: {name: shop, namespace: shop}
spec:
  targetRef: {kind: Deployment, name: shop}
  traffic: {mesh: istio, service: shop, routes: [{kind: VirtualService, name: shop}]}
  steps: [{weight: 10}, {weight: 50}, {weight: 100}]
";

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text, Path::new("rollout.yaml")).unwrap()
}

fn options() -> Options {
    Options {
        filename: "rollout.yaml".into(),
        prometheus: "http://127.0.0.1:1".to_owned(),
        from: "2026-03-01T06:00:00Z".parse().unwrap(),
        to: "2026-03-01T10:00:00Z".parse().unwrap(),
        namespace: None,
        replica_set: None,
        replica: None,
        route_timeout: Duration::from_secs(15),
        seed: 1,
        state: None,
        write_calibration: None,
        output: Output::Table,
    }
}

fn asked(options: &Options, text: &str) -> Result<Question> {
    let manifest = manifest(text);
    let plan = Plan::of(&manifest.spec).unwrap();
    question(options, &manifest, &plan, "2026-03-02T00:00:00Z".parse().unwrap())
}

/// Four pods of which each fails in turn, and is slow twice as often.
fn history(slots: usize) -> PodHistory {
    let each = |slot: usize| (0..4).map(move |pod| u64::from(slot % 4 == pod));
    let latency = |bad| Histogram { requests: 1000, at_most: vec![950, 1000 - 2 * bad] };
    PodHistory {
        from: options().from,
        requests: (0..slots)
            .map(|s| each(s).map(|failed| Count { requests: 1000, failed, abandoned: 0 }).collect())
            .collect(),
        boundaries: vec![100.0, 250.0],
        latency: (0..slots).map(|s| each(s).map(latency).collect()).collect(),
    }
}

fn told(slots: usize) -> Report {
    let plan = Plan::of(&manifest(ROLLOUT).spec).unwrap();
    let question = asked(&options(), ROLLOUT).unwrap();
    let pods = (0..4).map(|i| format!("shop-6c-0000{i}")).collect();
    let found = Found { label: "pod".into(), replica_set: "shop-6c".into(), pods };
    report(&options(), &plan, &question, &found, history(slots)).unwrap()
}

#[test]
fn the_time_and_the_namespace_are_looked_at_before_anything_is_asked() {
    assert_eq!(asked(&options(), ROLLOUT).unwrap().slots, 4 * 360);
    let why = |change: fn(&mut Options)| {
        let mut options = options();
        change(&mut options);
        asked(&options, ROLLOUT).unwrap_err().to_string()
    };
    assert!(why(|o| o.to = o.from).contains("after --from"));
    assert!(why(|o| o.from = "2026-02-01T00:00:00Z".parse().unwrap()).contains("72 hours"));
    assert!(why(|o| o.to = "2026-03-02T01:00:00Z".parse().unwrap()).contains("future"));
    let nameless = ROLLOUT.replace(", namespace: shop", "");
    let error = asked(&options(), &nameless).unwrap_err().to_string();
    assert!(error.contains("--namespace"), "{error}");
}

#[test]
fn every_table_is_there_and_the_numbers_add_up() {
    let report = told(1440);
    assert_eq!((report.requests, report.failed), (1440 * 4000, 1440));
    let lines = say::report(&report, &super::super::markdown);
    assert!(lines.starts_with("4h of 4 pods of shop-6c in shop"), "{lines}");
    assert!(lines.contains("| success-rate | 1,440 | 5,760,000 | 1.00 |"), "{lines}");
    assert!(lines.contains("| as it was | 0.025% | 0.0% | 0.0% | 0.0% |"), "{lines}");
    let faults = report.outcomes.len();
    assert_eq!(faults, 1 + FAILING.len() + SLOW.len());
    let worst = &report.outcomes[5];
    assert_eq!(worst.what, "5.0% more fail");
    assert_eq!(worst.rules[0].rolled_back.value(), 1.0, "{worst:?}");
    // The same data, as data.
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["outcomes"][0]["promoted"]["all"], report.outcomes[0].promoted.all);
    assert_eq!(json["dependence"][0]["phiBySeconds"][0][0], 10);
}

#[test]
fn a_short_history_says_what_it_cannot_tell() {
    let report = told(60);
    let all = report.warnings.join("\n");
    assert!(all.contains("only 0 releases"), "{all}");
    assert!(all.contains("20 minutes"), "{all}");
    let text = say::report(&report, &|rows| super::super::table(rows, 120));
    assert!(text.contains("4 more did not end within this time"), "{text}");
    // An hour tells φ, and is too short to believe in little of it.
    let told = told(400).warnings.join("\n");
    assert!(told.contains("not less"), "{told}");
}

#[test]
fn a_rollout_that_holds_what_was_found_is_judged_by_it() {
    let found = calibration(&told(1440), &[]).metrics;
    let metrics = found.iter().map(|m| {
        let (kind, tolerance) = match m.name.as_str() {
            "latency" => ("latency", serde_json::json!({"maxSlowdown": "1.5"})),
            _ => ("successRate", serde_json::json!({"maxDrop": "0.5pp"})),
        };
        serde_json::json!({"name": m.name, "calibration": m.calibration, kind: tolerance})
    });
    let analysis = serde_json::json!({"metrics": metrics.collect::<Vec<_>>()});
    let spec = manifest(&format!("{ROLLOUT}  analysis: {analysis}")).spec;
    let plan = Plan::of(&spec).unwrap();
    let given: Vec<_> = plan.metrics.iter().map(|m| m.calibration).collect();
    assert_eq!(given, [Some((1.0, 1.0)), Some((2.0, 1.0)), None], "the last guards by itself");
}

#[test]
fn the_calibration_is_of_these_metrics() {
    let report = told(1440);
    let calibration = calibration(&report, &[]);
    assert_eq!(calibration.metrics[0].name, "success-rate");
    assert_eq!(calibration.metrics[0].calibration.dispersion, "1".into());
    assert_eq!((calibration.pods, calibration.to), (4, options().to));
    let other =
        manifest(&format!("{ROLLOUT}  analysis: {{metrics: [{{name: a, successRate: {{}}}}]}}"));
    let metrics = other.spec.analysis.unwrap().metrics;
    let own = calibration::metrics_digest(&metrics);
    let mut given = metrics.clone();
    given[0].calibration = Some(calibration.metrics[0].calibration.clone());
    assert_eq!(calibration::metrics_digest(&given), own, "to follow it changes nothing");
    assert_ne!(super::calibration(&report, &metrics).metrics_digest, calibration.metrics_digest);
}

#[test]
fn one_replica_is_named_by_label_and_value() {
    assert_eq!(replica("r=a=b"), Ok(("r".to_owned(), "a=b".to_owned())));
    for bad in ["r", "=a", "1r=a", "r\"=a"] {
        assert!(replica(bad).is_err(), "{bad}");
    }
}

/// The blocks of the documentation that begin like this.
fn blocks(text: &str, begin: &str) -> Vec<String> {
    let blocks = text.split(begin).skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

#[test]
fn the_examples_of_the_documentation_can_be_followed() {
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }
    let text = std::fs::read_to_string("docs/backtest.md").unwrap();
    let yaml = blocks(&text, "```yaml\n");
    let [rollout, calibration] = yaml.as_slice() else { panic!("{yaml:?}") };
    let commands = blocks(&text, "```\nsurefoot ");
    let [command] = commands.as_slice() else { panic!("{commands:?}") };
    let command: Command = clap::Parser::try_parse_from(command.split_whitespace()).unwrap();
    let asked = asked(&command.options, rollout);
    assert_eq!(asked.unwrap_err().to_string().split(':').next(), Some("--to is in the future"));
    let plan = Plan::of(&manifest(rollout).spec).unwrap();
    let now = command.options.to;
    let question = question(&command.options, &manifest(rollout), &plan, now).unwrap();
    assert_eq!((question.namespace.as_str(), question.pieces()), ("backtest", 48));
    let calibration: Calibration = serde_saphyr::from_str(calibration).unwrap();
    let known: Vec<&str> = calibration.metrics.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(known, ["success-rate", "latency"], "of those abandoned there were too few");
    assert!(known.iter().all(|known| plan.metrics.iter().any(|m| m.name == *known)));
    let digest = calibration::metrics_digest(&[]);
    assert_eq!(calibration.metrics_digest, digest, "it is that Rollout's");
}
