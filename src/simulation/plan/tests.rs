use std::path::Path;

use surefoot_core::plan::MetricPlan;

use super::*;

const ROLLOUT: &str = "
kind: Rollout
metadata: {name: shop}
spec:
  targetRef: {kind: Deployment, name: shop}
  traffic: {mesh: istio, service: shop, routes: [{kind: VirtualService, name: shop}]}
  steps: [{weight: 10}, {weight: 50}, {weight: 100}]
  analysis:
    templates: [{kind: AnalysisTemplate, name: golden}]
---
kind: AnalysisTemplate
metadata: {name: golden}
spec:
  metrics: [{name: success-rate, successRate: {maxDrop: 0.5pp, min: '99%'}}]
";

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text, Path::new("rollout.yaml")).unwrap()
}

fn options(rps: f64, output: Output) -> Options {
    Options {
        filename: "rollout.yaml".into(),
        rps,
        baseline: 0.001,
        latency_median: 60.0,
        latency_p99: 300.0,
        replicas: 4,
        phi: None,
        eta: None,
        play: Play { route_timeout: Duration::from_secs(15), runs: 40, seed: 1, output },
    }
}

#[test]
fn a_service_that_was_measured_is_judged_by_its_own_dispersion() {
    let told = |phi: f64, output| {
        let known = |metric: &MetricPlan| Dispersion {
            metric: metric.name.clone(),
            phi,
            eta: 1.0,
            from: "2h of 4 pods' past".to_owned(),
        };
        let plan = Plan::of(&manifest(ROLLOUT).spec).unwrap();
        let measured = Measured {
            rps: 9.876,
            failing: 0.001,
            latency: None,
            replicas: 4,
            dispersions: plan.metrics.iter().map(known).collect(),
            over: Duration::from_secs(600),
            plan,
        };
        of(&measured, &options(1.0, output).play).unwrap()
    };
    let seconds = |phi| {
        let forecast: Value = serde_json::from_str(&told(phi, Output::Json)).unwrap();
        forecast["seconds"][0].as_f64().unwrap()
    };
    // As many times as many requests, less the time that no requests shorten.
    assert!(seconds(3.0) > 2.0 * seconds(1.0), "{} {}", seconds(3.0), seconds(1.0));
    let text = told(1.25, Output::Table);
    assert!(
        text.starts_with("9.88 requests a second of which 0.10% fail (measured over the last 10m)"),
        "{text}"
    );
    assert!(text.contains("success-rate: dispersion 1.25 (2h of 4 pods' past).\n"), "{text}");
}

#[test]
fn enough_traffic_promotes_what_is_good_and_catches_what_is_bad() {
    let forecast: Value =
        serde_json::from_str(&planned(&manifest(ROLLOUT), &options(200.0, Output::Json)).unwrap())
            .unwrap();
    assert_eq!(forecast["promoted"]["of"], 40, "{forecast}");
    assert_eq!(forecast["warnings"], serde_json::json!([]));
    let worst = &forecast["regressions"][6];
    assert_eq!(worst["what"], "100% of requests fail");
    assert_eq!(
        (&worst["rolledBack"]["of"], &worst["seconds"]),
        (&Value::from(10), &Value::from(5.0))
    );
    let mild = &forecast["regressions"][0]["rolledBack"]["of"];
    assert_eq!(mild, 0, "what the tolerance allows is left alone");
}

#[test]
fn too_little_traffic_is_said_with_what_to_change() {
    let text = planned(&manifest(ROLLOUT), &options(0.5, Output::Table)).unwrap();
    assert!(text.contains("Warning: at 10%") && text.contains("maxDuration"), "{text}");
    let markdown = planned(&manifest(ROLLOUT), &options(0.5, Output::Markdown)).unwrap();
    assert!(markdown.contains("| step | median |"), "{markdown}");
}

#[test]
fn a_dispersion_that_is_given_is_what_the_forecast_judges_by() {
    let seconds = |phi| {
        let options = Options { phi, ..options(10.0, Output::Json) };
        let told = planned(&manifest(ROLLOUT), &options).unwrap();
        let forecast: Value = serde_json::from_str(&told).unwrap();
        forecast["seconds"][0].as_f64().unwrap()
    };
    assert!(seconds(None) > 2.0 * seconds(Some(1.0)), "{} {}", seconds(None), seconds(Some(1.0)));
    assert!(dispersion("0.9").is_err() && dispersion("NaN").is_err() && dispersion("1") == Ok(1.0));
    assert!(exponent("0").is_err() && exponent("1.1").is_err() && exponent("0.5") == Ok(0.5));
}

#[test]
fn what_occurred_is_seen_in_the_chart() {
    assert_eq!(chart(&[0, 1, 100, 50]), " ▁█▄");
    assert_eq!(chart(&[]), "");
}

#[test]
fn what_is_no_number_of_its_kind_is_refused() {
    assert_eq!(share("0.1%"), Ok(0.001));
    assert!(share("100%").is_err() && share("0.1").is_err());
    assert!(positive("0").is_err() && positive("NaN").is_err() && positive("50").is_ok());
    assert!(millis("0s").is_err() && millis("60ms") == Ok(60.0));
}

#[test]
fn the_example_of_the_documentation_can_be_planned() {
    let text = std::fs::read_to_string("docs/planning.md").unwrap();
    let example = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let text = planned(&manifest(example), &options(100.0, Output::Table)).unwrap();
    assert!(text.contains("promoted in 100.0%, rolled back in 0.0%"), "{text}");
}
