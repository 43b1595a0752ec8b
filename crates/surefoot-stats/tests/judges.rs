//! Kayenta's judge against reference values.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use serde_json::Value;
use surefoot_stats::judge::Direction;
use surefoot_stats::judge::mann_whitney::{Class, MannWhitney, NanStrategy};

/// Reference values of Kayenta's judge, computed with R's `wilcox.test` algorithm (Kayenta's own):
/// values of both versions, settings, and what they must give.
const VECTORS: &str = include_str!("vectors/mannwhitney.json");

fn values(case: &Value, arm: &str) -> Vec<f64> {
    case[arm].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn judge(params: &Value) -> MannWhitney {
    let mut judge = MannWhitney {
        direction: match params["direction"].as_str() {
            Some("increase") => Direction::Increase,
            Some("decrease") => Direction::Decrease,
            Some("either") | None => Direction::Either,
            Some(other) => panic!("{other}"),
        },
        critical: params["critical"].as_bool().unwrap_or(false),
        must_have_data: params["required"].as_bool().unwrap_or(false),
        nan: match params["nan"].as_str() {
            Some("replace") => NanStrategy::Replace,
            None => NanStrategy::Remove,
            Some(other) => panic!("{other}"),
        },
        ..MannWhitney::default()
    };
    if let Some(confidence) = params["conf"].as_f64() {
        judge.confidence = confidence;
    }
    if let Some(tolerance) = params["tolerance"].as_f64() {
        judge.tolerance = tolerance;
    }
    let limits = [("eff", &mut judge.effect.allowed), ("crit", &mut judge.effect.critical)];
    for (name, limits) in limits {
        if let Some(pair) = params[name].as_array() {
            limits.decrease = pair[0].as_f64().unwrap();
            limits.increase = pair[1].as_f64().unwrap();
        }
    }
    judge.validate().unwrap();
    judge
}

#[test]
fn kayenta_judges_alike() {
    let cases: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    assert_eq!(cases.len(), 26);
    for case in &cases {
        let (name, expect) = (case["name"].as_str().unwrap(), &case["expect"]);
        let found =
            judge(&case["params"]).classify(&values(case, "experiment"), &values(case, "control"));
        let class = match expect["cls"].as_str().unwrap() {
            "Pass" => Class::Pass,
            "High" => Class::High,
            "Low" => Class::Low,
            "Nodata" => Class::NoData,
            "NodataFailMetric" => Class::NoDataFails,
            other => panic!("{other}"),
        };
        assert_eq!(found.class, class, "{name}");
        assert_eq!(found.critical, expect["critical"].as_bool().unwrap(), "{name}");
        let close = |field: &str, found: Option<f64>| {
            let expected = expect[field].as_f64();
            assert_eq!(found.is_some(), expected.is_some(), "{name}: {field}");
            let off = found.zip(expected).map_or(0.0, |(a, b)| (a - b).abs());
            assert!(off < 1e-9, "{name}: {field} is {found:?}, not {expected:?}");
        };
        close("deviation", Some(found.effect));
        close("lo", found.shift.map(|s| s.low));
        close("hi", found.shift.map(|s| s.high));
        close("est", found.shift.map(|s| s.estimate));
    }
}
