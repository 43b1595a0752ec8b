//! Answers of Prometheus: finite numbers and whole counts, or an error that echoes nothing.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Deserialize;
use serde_json::{Value, json};
use surefoot_core::api::rollout::{Mesh, RouteKind};
use surefoot_core::metrics::answer::{AnswerError, Point, count, samples, scalar, vector};
use surefoot_core::metrics::query::{By, Series};
use surefoot_core::metrics::replica::Pinned;
use surefoot_core::metrics::tick::{latencies, raw_increase, requests};
use surefoot_core::samples::Histogram;

use super::json::{SECRET, TEXTS, anything, changed, changes};

/// Values as Prometheus writes them, and as it had better not.
const VALUES: [&str; 20] = [
    "0",
    "1",
    "17",
    "1e3",
    "9007199254740992",
    "100",
    "0.5",
    "-1",
    "-0",
    "NaN",
    "+Inf",
    "-Inf",
    "inf",
    "1e308",
    "1e999",
    "9007199254740993",
    "1_0",
    " 1",
    "",
    SECRET,
];

/// A body; readable where it fails.
#[derive(Clone)]
struct Text(Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

fn row() -> impl Strategy<Value = Value> {
    let label = |values: &[&'static str]| select(values.to_vec());
    let whole = select(VALUES[..5].to_vec());
    let value = prop_oneof![8 => whole, 2 => select(VALUES.to_vec())];
    (
        label(&["c", "s", "other", "c-abcde"]),
        label(&["200", "503", "0", "", SECRET]),
        label(&["-", "DC", "UF,URX", SECRET]),
        label(&["50", "1000", "+Inf", "-5", "NaN", "x", ""]),
        label(&["http", "grpc"]),
        label(&["0", "14", ""]),
        value,
    )
        .prop_map(|(service, code, flags, le, protocol, status, value)| {
            json!({
                "metric": {
                    "destination_service_name": service, "response_code": code,
                    "response_flags": flags, "le": le, "request_protocol": protocol,
                    "grpc_response_status": status, "secret": SECRET, "backend_name": service,
                    "dst_service": service, "http_status": code, "error": flags, "grpc_status": status,
                },
                "value": [1_700_000_000.123, value],
                "values": [[1, value], [2.5, value]],
            })
        })
}

/// A complaint of the server's, in whatever words.
fn complaint() -> impl Strategy<Value = Option<(&'static str, String)>> {
    let long = "é\n".repeat(2000);
    let words =
        prop_oneof![select(TEXTS.to_vec()).prop_map(str::to_owned), any::<String>(), Just(long)];
    let some = (select(vec!["error", "errorType", "warnings"]), words).prop_map(Some);
    prop_oneof![5 => Just(None), 1 => some]
}

/// An answer that is right or nearly so. Now and then it is long.
fn nearly() -> impl Strategy<Value = Text> {
    let many = prop_oneof![12 => Just(5), 1 => Just(4900)];
    let kind = select(vec!["vector", "vector", "matrix", "scalar"]);
    let rows = proptest::collection::vec(row(), 0..5);
    let splice = (any::<Index>(), select(b"\"{}[],:0e9\\\xff".to_vec()), any::<bool>());
    let splices = prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(splice, 1..3)];
    let rows = (rows, many).prop_map(|(rows, many): (Vec<Value>, usize)| {
        let times = if rows.is_empty() { 0 } else { (many / rows.len()).max(1) };
        std::iter::repeat_n(rows, times).flatten().collect::<Vec<_>>()
    });
    (rows, complaint(), kind, changes(), splices).prop_map(
        |(rows, complaint, kind, changes, splices)| {
            let mut body = changed(json!({"resultType": kind, "result": rows}), changes);
            body = json!({"status": "success", "infos": [SECRET], "data": body});
            if let Some((field, text)) = complaint {
                let status = if field == "warnings" { "success" } else { "error" };
                body["status"] = json!(status);
                body[field] = if field == "warnings" { json!([text]) } else { json!(text) };
            }
            let mut text = body.to_string().into_bytes();
            for (place, byte, instead) in splices {
                let place = place.index(text.len());
                if instead {
                    text[place] = byte;
                } else {
                    text.truncate(place);
                    text.push(byte);
                }
            }
            Text(text)
        },
    )
}

fn any_answer() -> impl Strategy<Value = Text> {
    prop_oneof![
        8 => nearly(),
        1 => anything().prop_map(|json| Text(json.to_string().into_bytes())),
        1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Text),
    ]
}

/// What the server itself says of its answer, which is told; by design it may hold anything.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    #[serde(rename = "errorType")]
    kind: String,
    error: String,
    warnings: Vec<String>,
    data: SaidOfData,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SaidOfData {
    #[serde(rename = "resultType")]
    kind: String,
}

/// Whether the server itself says this. Read by type, since what is not looked at may be nested
/// deeper than a document can be read.
fn says(text: &[u8], what: &str) -> bool {
    let said: Said = serde_json::from_slice(text).unwrap_or_default();
    let words = [said.kind, said.error, said.warnings.concat(), said.data.kind];
    words.iter().any(|words| words.contains(what))
}

fn quiet(error: &AnswerError, text: &[u8]) -> Result<(), TestCaseError> {
    let words = error.to_string();
    prop_assert!(words.chars().count() <= 600, "too long: {words}");
    prop_assert!(!words.chars().any(char::is_control), "{words:?}");
    prop_assert!(!words.contains(SECRET) || says(text, SECRET), "echoed: {words}");
    Ok(())
}

fn rises(histogram: &Histogram, boundaries: usize) -> bool {
    let all = histogram.at_most.iter().chain([&histogram.requests]).collect::<Vec<_>>();
    histogram.at_most.len() == boundaries && all.windows(2).all(|w| w[0] <= w[1])
}

fn counted(points: &[Point], text: &[u8]) -> Result<(), TestCaseError> {
    let pod = By::Pod { label: "destination_service_name".into() };
    let ways = [(Mesh::Istio, By::Service), (Mesh::Istio, pod.clone())];
    for (mesh, by) in ways.into_iter().chain([(Mesh::Linkerd, By::Service), (Mesh::Linkerd, pod)]) {
        let series = Series {
            mesh,
            route: RouteKind::GRPCRoute,
            service: "x".into(),
            namespace: "n".into(),
            stable: "s".into(),
            canary: "c".into(),
            by,
            pinned: Pinned::default(),
        };
        match requests(&series, points) {
            Ok(arms) => prop_assert!(arms.iter().all(|arm| arm.failed <= arm.requests)),
            Err(error) => quiet(&error, text)?,
        }
        match latencies(&series, points) {
            Ok(l) => {
                let positive = l.boundaries.iter().all(|b| b.is_finite() && *b > 0.0);
                let sorted = l.boundaries.windows(2).all(|w| w[0] < w[1]);
                prop_assert!(positive && sorted, "{:?}", l.boundaries);
                let n = l.boundaries.len();
                prop_assert!(rises(&l.canary, n) && rises(&l.stable, n), "{l:?}");
            }
            Err(error) => quiet(&error, text)?,
        }
    }
    Ok(())
}

/// All that is promised of any answer.
fn holds(text: &[u8]) -> Result<(), TestCaseError> {
    let points = vector(text);
    match &points {
        Ok(points) => {
            prop_assert!(points.iter().all(|point| point.value.is_finite()));
            for point in points {
                if let Ok(n) = count(point.value) {
                    #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
                    let same = n as f64 == point.value;
                    prop_assert!(same, "{n} is not {}", point.value);
                }
            }
            counted(points, text)?;
        }
        Err(error) => quiet(error, text)?,
    }
    match scalar(text) {
        Ok(value) => prop_assert!(value.is_finite() && points.is_ok_and(|p| p.len() == 1)),
        Err(error) => quiet(&error, text)?,
    }
    match samples(text) {
        Ok(samples) => {
            prop_assert!(samples.iter().all(|(at, value)| at.is_finite() && value.is_finite()));
            let increase = raw_increase(&samples, 0.0, 10.0);
            if let Err(error) = count(increase) {
                quiet(&error, text)?;
            }
        }
        Err(error) => quiet(&error, text)?,
    }
    Ok(())
}

proptest! {
    #![proptest_config(super::config())]

    #[test]
    fn an_answer_is_finite_numbers_or_an_error_that_echoes_nothing(text in any_answer()) {
        holds(&text.0)?;
    }
}

// What the search has found.

#[test]
fn a_complaint_of_several_lines_is_told_in_one() {
    let text = include_bytes!("../corpus/answer-error-of-several-lines.json");
    holds(text).unwrap();
    let told = vector(text).unwrap_err().to_string();
    assert!(told.contains("first line second"), "{told}");
}

#[test]
fn more_requests_than_can_be_counted_are_an_error() {
    let text = include_bytes!("../corpus/answer-more-than-can-be-counted.json");
    holds(text).unwrap();
    let (by, points) = (By::Service, vector(text).unwrap());
    let series = Series {
        mesh: Mesh::Istio,
        route: RouteKind::VirtualService,
        service: "x".into(),
        namespace: "n".into(),
        stable: "s".into(),
        canary: "c".into(),
        by,
        pinned: Pinned::default(),
    };
    assert!(matches!(requests(&series, &points), Err(AnswerError::NotACount(_))));
    assert!(matches!(latencies(&series, &points), Err(AnswerError::NotACount(_))));
    // As many as an answer may have: no sum of them may wrap around to a small one.
    let many: Vec<Point> = points.into_iter().cycle().take(5000).collect();
    assert!(matches!(requests(&series, &many), Err(AnswerError::NotACount(_))));
}
