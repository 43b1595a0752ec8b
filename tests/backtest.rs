//! `surefoot backtest` where there is nothing to replay: what it says, and what to do. The server is
//! scripted; the real Prometheus is in the end-to-end tests.

#![expect(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

const ROLLOUT: &str = "
kind: Rollout
metadata: {name: shop, namespace: shop}
spec:
  targetRef: {kind: Deployment, name: shop}
  traffic: {mesh: istio, service: shop, routes: [{kind: VirtualService, name: shop}]}
  steps: [{weight: 10}, {weight: 100}]
";
const START: f64 = 1_772_344_800.0;
const FROM: &str = "2026-03-01T06:00:00Z";
const MINUTES: &str = "2026-03-01T06:05:00Z";

/// Files of one test, gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("rollout.yaml"), ROLLOUT).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn backtest(scratch: &Scratch, url: &str, more: &[&str]) -> Output {
    until(scratch, url, MINUTES, more).await
}

async fn until(scratch: &Scratch, url: &str, to: &str, more: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_surefoot"))
        .current_dir(&scratch.0)
        .args(["backtest", "-f", "rollout.yaml", "--prometheus", url])
        .args(["--from", FROM, "--to", to])
        .args(more)
        .output()
        .await
        .unwrap()
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A server that answers.
async fn server(pods: usize, doubled: bool) -> String {
    Server { pods, doubled, ranges: Arc::new(AtomicUsize::new(usize::MAX)) }.start().await
}

/// So many pods that answer 10 requests in ten seconds each.
#[derive(Clone)]
struct Server {
    pods: usize,
    /// Whether a target is scraped twice.
    doubled: bool,
    /// How many range queries more are answered.
    ranges: Arc<AtomicUsize>,
}

impl Server {
    async fn start(self) -> String {
        let app = Router::new()
            .route("/api/v1/query", get(answer))
            .route("/api/v1/query_range", get(answer))
            .with_state(self);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }
}

async fn answer(
    State(server): State<Server>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Response {
    let query = asked["query"].as_str();
    let pods = (0..server.pods).map(|i| format!("shop-6c-0000{i}"));
    let left = || server.ranges.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
    if asked.contains_key("start") && left().is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let (kind, result): (&str, Value) = if query.starts_with("sum by (pod) (max_over_time") {
        let points = pods.map(|pod| json!({"metric": {"pod": pod}, "value": [0, "10"]}));
        ("vector", points.collect())
    } else if query.starts_with("count by (job, instance)") && server.doubled {
        ("vector", json!([{"metric": {"job": "a", "instance": "b"}, "value": [0, "2"]}]))
    } else if query.starts_with("sum by (pod, request_protocol") {
        assert_eq!(asked["step"], "10s");
        let [start, end] = ["start", "end"].map(|end| asked[end].parse::<f64>().unwrap());
        let slots = (0..).map(|i| start + 10.0 * f64::from(i)).take_while(|at| *at <= end);
        let values: Vec<Value> = slots.map(|at| json!([at, format!("{}", at - START)])).collect();
        let track = |pod| json!({"metric": {"pod": pod, "response_code": "200"}, "values": values});
        ("matrix", pods.map(track).collect())
    } else if query.starts_with("sum by (pod, le)") {
        ("matrix", json!([]))
    } else {
        ("vector", json!([]))
    };
    let body = json!({"status": "success", "data": {"resultType": kind, "result": result}});
    Json(body).into_response()
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_as_the_problem() {
    let scratch = Scratch::new("backtest-unreachable");
    // Nobody listens on a port that has just been given back.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let said = refused(&backtest(&scratch, &url, &[]).await);
    assert!(said.contains("looking for the pods") && said.contains("can't be reached"), "{said}");
}

#[tokio::test]
async fn a_history_without_requests_says_where_to_look() {
    let scratch = Scratch::new("backtest-empty");
    let said = refused(&backtest(&scratch, &server(0, false).await, &[]).await);
    for words in ["Deployment shop in namespace shop", "reporter=\"destination\"", "pod_name"] {
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn one_pod_has_nobody_to_be_compared_with_and_what_was_fetched_is_kept() {
    let scratch = Scratch::new("backtest-one");
    let url = server(1, false).await;
    let said = refused(&backtest(&scratch, &url, &["--state", "state"]).await);
    assert!(said.contains("shop-6c in shop can't be replayed"), "{said}");
    assert!(said.contains("at least 2 are needed"), "{said}");
    let kept = std::fs::read_to_string(scratch.0.join("state")).unwrap();
    assert_eq!(kept.lines().count(), 2, "{kept}");
    let other = backtest(&scratch, "http://127.0.0.1:1", &["--state", "state"]).await;
    assert!(refused(&other).contains("another question"));
}

#[tokio::test]
async fn an_interrupted_run_asks_for_what_it_lacks() {
    let scratch = Scratch::new("backtest-interrupted");
    // The first half an hour's requests and latencies.
    let ranges = Arc::new(AtomicUsize::new(2));
    let url = Server { pods: 2, doubled: false, ranges: ranges.clone() }.start().await;
    let ask = || until(&scratch, &url, "2026-03-01T06:40:00Z", &["--state", "state", "-o", "json"]);
    let said = refused(&ask().await);
    assert!(said.contains("piece 2 of 2; the same command goes on from there"), "{said}");
    ranges.store(2, SeqCst);
    let output = ask().await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(ranges.load(SeqCst), 0);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["requests"], 240 * 10 * 2, "{report}");
}

#[tokio::test]
async fn targets_that_are_there_twice_are_refused_with_the_remedy() {
    let scratch = Scratch::new("backtest-doubled");
    let said = refused(&backtest(&scratch, &server(2, true).await, &[]).await);
    assert!(said.contains("more than once") && said.contains("--replica LABEL=VALUE"), "{said}");
}

#[tokio::test]
async fn two_pods_are_enough_for_a_result_that_says_what_it_lacks() {
    let scratch = Scratch::new("backtest-two");
    let output = backtest(&scratch, &server(2, false).await, &["-o", "yaml"]).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let report: Value = serde_saphyr::from_str(&text).unwrap();
    // 30 slots of ten requests of both.
    assert_eq!((&report["pods"], &report["requests"]), (&json!(2), &json!(600)), "{report}");
    assert!(!report["warnings"].as_array().unwrap().is_empty(), "{report}");
    assert!(output.stderr.is_empty(), "no bar where no terminal is: {output:?}");
}
