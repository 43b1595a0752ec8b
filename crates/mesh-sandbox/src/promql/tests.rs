//! The language where no Prometheus is at hand; `tests/prometheus` asks the real one the same.

use super::*;
use crate::labels::NAME;
use crate::store::stale;

/// A counter that is reset, one that ends, and a histogram; seconds and values.
fn store() -> Store {
    let mut store = Store::new(i64::MAX, 100);
    let mut put = |labels: &[(&str, &str)], samples: &[(i64, f64)]| {
        let labels: Labels = labels.iter().copied().collect();
        for (at, value) in samples {
            store.append(&labels, at * 1000, *value).unwrap();
        }
    };
    let reset = [(0, 10.0), (15, 25.0), (30, 40.0), (45, 5.0), (60, 20.0)];
    put(&[(NAME, "n"), ("x", "1")], &reset);
    put(&[(NAME, "n"), ("x", "2")], &[(0, 1.0), (15, 2.0), (30, stale())]);
    for (le, count) in [("0.5", 4.0), ("1", 8.0), ("+Inf", 10.0)] {
        put(&[(NAME, "h"), ("le", le)], &[(60, count)]);
    }
    store
}

fn ask(query: &str, at: i64) -> Result<Value, Error> {
    instant(&store(), &parse(query)?, at * 1000)
}

/// The values that a query finds, each with its labels.
fn values(query: &str, at: i64) -> Vec<(String, f64)> {
    match ask(query, at).unwrap() {
        Value::Vector(samples) => {
            samples.into_iter().map(|s| (s.labels.to_string(), s.value)).collect()
        }
        Value::Scalar(value) => vec![(String::new(), value)],
        other => panic!("{query}: {other:?}"),
    }
}

fn value(query: &str, at: i64) -> f64 {
    let found = values(query, at);
    assert_eq!(found.len(), 1, "{query}: {found:?}");
    found[0].1
}

#[test]
fn samples_live_five_minutes_or_until_they_end() {
    let first = r#"n{x="1"}"#;
    assert_eq!(value(first, 14), 10.0);
    assert_eq!(value(first, 15), 25.0);
    assert_eq!(value(first, 360), 20.0);
    assert!(values(first, 361).is_empty());
    assert_eq!(value(r#"n{x="2"}"#, 29), 2.0);
    assert!(values(r#"n{x="2"}"#, 30).is_empty());
    assert_eq!(value(r#"last_over_time(n{x="2"}[1m])"#, 60), 2.0);
}

#[test]
fn rates_are_extrapolated_and_know_resets() {
    // 30 up, to 0 by the reset, 5 and 15 up.
    assert_eq!(value(r#"increase(n{x="1"}[60s])"#, 60), 50.0);
    assert_eq!(value(r#"rate(n{x="1"}[60s])"#, 60), 50.0 / 60.0);
    // Half a step beyond the last sample, and not before a counter was 0.
    assert_eq!(value(r#"increase(n{x="1"}[100s])"#, 100), 50.0 * 67.5 / 60.0);
    assert_eq!(value(r#"increase(n{x="1"}[75s])"#, 60), 50.0 * 72.0 / 60.0);
    assert_eq!(value(r#"delta(n{x="1"}[60s])"#, 60), 10.0);
    assert_eq!(value(r#"irate(n{x="1"}[60s])"#, 60), 1.0);
    assert_eq!(value(r#"resets(n{x="1"}[60s])"#, 60), 1.0);
    assert_eq!(value(r#"count_over_time(n{x="1"}[30s])"#, 60), 3.0);
}

#[test]
fn instants_are_explicit() {
    assert_eq!(value(r#"n{x="1"} @ 15 - n{x="1"} @ 0.000"#, 60), 15.0);
    assert_eq!(value(r#"n{x="1"} offset 30s"#, 60), 40.0);
    assert_eq!(value(r#"timestamp(n{x="1"} @ 50)"#, 60), 45.0);
    assert_eq!(value("time()", 60), 60.0);
    assert_eq!(value(r#"max_over_time(sum(n)[60s:15s])"#, 60), 40.0);
}

#[test]
fn vectors_are_matched_by_their_labels() {
    assert_eq!(values("n @ 15 unless n @ 60", 60), [(r#"{__name__="n", x="2"}"#.to_owned(), 2.0)]);
    assert_eq!(values("n @ 0 > 5", 60), [(r#"{__name__="n", x="1"}"#.to_owned(), 10.0)]);
    assert_eq!(value("count(n @ 0 or n @ 15)", 60), 2.0);
    assert_eq!(value("sum(n @ 0 > bool 5)", 60), 1.0);
    let shares = values("n @ 15 / on () group_left sum(n @ 15)", 60);
    assert_eq!(shares[1], (r#"{x="2"}"#.to_owned(), 2.0 / 27.0));
    let said = ask("n @ 0 * on () n @ 0", 60).unwrap_err().to_string();
    assert!(said.contains("many-to-many matching not allowed"), "{said}");
}

#[test]
fn groups_and_histograms() {
    assert_eq!(values("sum by (x) (n @ 0)", 60)[1], (r#"{x="2"}"#.to_owned(), 1.0));
    assert_eq!(values("topk(1, n @ 0)", 60), [(r#"{__name__="n", x="1"}"#.to_owned(), 10.0)]);
    assert_eq!(value("histogram_quantile(0.6, h)", 60), 0.75);
    assert_eq!(value("histogram_quantile(0.99, h)", 60), 1.0);
    assert_eq!(values(r#"absent(n{x="9"})"#, 60), [(r#"{x="9"}"#.to_owned(), 1.0)]);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for (query, name) in [
        ("hour()", "the function hour"),
        ("exp(", "parse error"),
        (r#"{x="1" or x="2"}"#, "or"),
        ("limitk(1, n)", "this aggregation"),
        ("n atan2 n", "this operator"),
    ] {
        let Err(Error::BadData(said)) = ask(query, 60) else { panic!("{query} is not refused") };
        assert!(said.contains(name), "{query}: {said}");
    }
}

#[test]
fn ranges_are_sorted_and_have_gaps() {
    let expr = parse(r#"n{x="2"} > 1 or n{x="1"}"#).unwrap();
    let Value::Matrix(series) = range(&store(), &expr, (0, 30_000), 15_000).unwrap() else {
        panic!("a range is a matrix")
    };
    assert_eq!(series[0].samples, [(0, 10.0), (15_000, 25.0), (30_000, 40.0)]);
    assert_eq!(series[1].samples, [(15_000, 2.0)]);
}
