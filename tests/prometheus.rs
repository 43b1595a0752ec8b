//! A Prometheus that answers badly, in every way we could think of: no evidence comes of it, the
//! reason is told, and correct answers heal it without a restart. The sampler is the controller's
//! own; the server is scripted.

#![expect(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use surefoot::clock::Clock;
use surefoot::controller::prometheus::Prometheus;
use surefoot::controller::sample::{Sampler, Task};
use surefoot::controller::tasks::Tasks;
use surefoot::outbound::Outbound;
use surefoot_core::api::analysis::{SourceKind, SourceRef};
use surefoot_core::api::rollout::{Mesh, RouteKind};
use surefoot_core::api::source::PrometheusSource;
use surefoot_core::metrics::Wanted;
use surefoot_core::metrics::query::{By, Series};
use surefoot_core::metrics::replica::Pinned;
use surefoot_core::metrics::wanted::Question;
use surefoot_core::samples::{Health, Samples, Scalar};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// No test waits longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// Which question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Freshness,
    Density,
    Irregular,
    Births,
    Counts,
    Resets,
    Buckets,
    Own,
    Doubled,
    Copies,
    Counted,
    Other,
}

impl Asked {
    fn of(query: &str) -> Self {
        match query {
            q if q == OWN || q == OWN_OF_STABLE => Self::Own,
            q if q.contains("timestamp(") => Self::Freshness,
            q if q.starts_with("count by (job, instance) (group without") => Self::Doubled,
            q if q.starts_with("up{") => Self::Copies,
            q if q.starts_with("count(count by (") => Self::Counted,
            q if q.starts_with("max by (job, instance) (count_over_time") => Self::Density,
            q if q.starts_with("count((") => Self::Irregular,
            q if q.starts_with("sum by (job") => Self::Births,
            q if q.starts_with("(resets(") => Self::Resets,
            q if q.starts_with("sum by (") && q.contains("_bucket{") => Self::Buckets,
            q if q.starts_with("sum by (") => Self::Counts,
            _ => Self::Other,
        }
    }
}

/// The query of a user's own.
const OWN: &str = "max(queue_depth)";
/// The same of stable.
const OWN_OF_STABLE: &str = "max(queue_depth_of_stable)";

type Script = Arc<dyn Fn(Asked, f64) -> Option<Response> + Send + Sync>;

/// A server that answers as it should, but for what the script says while it is on.
#[derive(Clone)]
struct Server {
    script: Script,
    bad: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

fn vector(result: &Value) -> Value {
    json!({"status": "success", "data": {"resultType": "vector", "result": result}})
}

fn point(labels: &Value, at: f64, value: &str) -> Value {
    json!({"metric": labels, "value": [at, value]})
}

/// What a Prometheus in good order says: 10 requests of the canary and 90 of stable, none failed.
fn right(asked: Asked, at: f64) -> Value {
    let target = json!({"job": "envoy", "instance": "a"});
    let version = |service: &str, more: &Value| {
        let mut labels = json!({"destination_service_name": service, "response_code": "200"});
        if let (Some(labels), Some(more)) = (labels.as_object_mut(), more.as_object()) {
            labels.extend(more.clone());
        }
        labels
    };
    let counts = |more: &Value, n: [&str; 2]| {
        [point(&version("canary", more), at, n[0]), point(&version("stable", more), at, n[1])]
    };
    let points = match asked {
        Asked::Freshness => vec![point(&target, at, &format!("{:.3}", at - 0.05))],
        Asked::Density => vec![point(&target, at, "60")],
        Asked::Counts => counts(&json!({}), ["10", "90"]).into(),
        Asked::Buckets => [
            counts(&json!({"le": "100"}), ["9", "90"]),
            counts(&json!({"le": "+Inf"}), ["10", "90"]),
        ]
        .concat(),
        Asked::Own => vec![point(&json!({}), at, "3")],
        Asked::Doubled | Asked::Copies | Asked::Counted => Vec::new(),
        Asked::Irregular | Asked::Births | Asked::Resets | Asked::Other => Vec::new(),
    };
    vector(&json!(points))
}

async fn answer(
    State(server): State<Server>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Response {
    let value = |key: &str| asked.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str());
    let (query, at) = (Asked::of(value("query")), value("time").parse().unwrap_or(0.0));
    server.served.fetch_add(1, Ordering::SeqCst);
    if server.bad.load(Ordering::SeqCst)
        && let Some(response) = (server.script)(query, at)
    {
        return response;
    }
    axum::Json(right(query, at)).into_response()
}

struct Bench {
    sampler: Sampler,
    server: Server,
}

fn wanted() -> Wanted {
    let question = Question { query: OWN.to_owned(), stable: Some(OWN_OF_STABLE.to_owned()) };
    Wanted {
        source: SourceRef { kind: SourceKind::MetricsSource, name: "default".into() },
        series: Series {
            mesh: Mesh::Istio,
            route: RouteKind::VirtualService,
            namespace: "shop".into(),
            service: "shop".into(),
            stable: "stable".into(),
            canary: "canary".into(),
            by: By::Service,
            pinned: Pinned::default(),
        },
        reached: None,
        pods: None,
        ticks_from: Some(Clock::System.now()),
        latency: true,
        baseline: false,
        queries: [("queue".to_owned(), question)].into(),
    }
}

fn sampler(url: String) -> Sampler {
    reading(PrometheusSource { url, replica_labels: Vec::new() })
}

fn reading(source: PrometheusSource) -> Sampler {
    let http = Arc::new(Outbound::new().unwrap());
    let sampler = Sampler::new(Prometheus::new(http), Clock::System, Tasks::default());
    sampler.set("uid", 1, Some(Task { wanted: wanted(), source: Ok(source) }), || ());
    sampler
}

/// A sampler at work on a server whose script is on.
async fn bench(script: impl Fn(Asked, f64) -> Option<Response> + Send + Sync + 'static) -> Bench {
    let (bad, served) = (Arc::new(AtomicBool::new(true)), Arc::default());
    let server = Server { script: Arc::new(script), bad, served };
    let app = Router::new().route("/api/v1/query", get(answer)).with_state(server.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Bench { sampler: sampler(format!("http://{address}")), server }
}

async fn until(sampler: &Sampler, what: &str, done: impl Fn(&Samples) -> bool) -> Samples {
    let wait = async {
        loop {
            let samples = sampler.of("uid", 1);
            if done(&samples) {
                return samples;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(DEADLINE, wait).await {
        Ok(samples) => samples,
        Err(_) => panic!("waited in vain for {what}: {:?}", sampler.of("uid", 1)),
    }
}

fn reason(samples: &Samples) -> String {
    match &samples.health {
        Health::Bad { message, .. } => message.clone(),
        other => format!("{other:?}"),
    }
}

/// Nothing comes of it, with the reason; then all is well again.
async fn refused(
    script: impl Fn(Asked, f64) -> Option<Response> + Send + Sync + 'static,
    says: &str,
) {
    let Bench { sampler, server } = bench(script).await;
    let samples = until(&sampler, says, |s| reason(s).contains(says)).await;
    assert!(samples.ticks.is_empty(), "it counts as evidence: {:?}", samples.ticks);
    let both = |a: &Scalar| a.value == 3.0 && a.stable == Some(3.0);
    assert!(samples.scalars.values().flatten().all(both), "{:?}", samples.scalars);
    server.bad.store(false, Ordering::SeqCst);
    heals(&sampler).await;
}

async fn heals(sampler: &Sampler) {
    let well = |s: &Samples| s.health == Health::Good && !s.ticks.is_empty();
    let samples = until(sampler, "correct answers to be believed", well).await;
    let tick = samples.ticks.last().unwrap();
    assert_eq!((tick.canary.requests, tick.stable.requests), (10, 90));
    assert_eq!(tick.partial, None);
}

fn json_body(body: Value) -> Option<Response> {
    Some(axum::Json(body).into_response())
}

fn text(body: impl Into<Body>) -> Option<Response> {
    Some(([(header::CONTENT_TYPE, "application/json")], body.into()).into_response())
}

fn status(code: u16) -> Option<Response> {
    Some((StatusCode::from_u16(code).unwrap(), "no").into_response())
}

/// The counts with this for the canary's value.
fn count(value: Value) -> impl Fn(Asked, f64) -> Option<Response> + Send + Sync {
    move |asked, at| {
        let labels = json!({"destination_service_name": "canary", "response_code": "500"});
        let point = json!({"metric": labels, "value": [at, value]});
        (asked == Asked::Counts).then(|| axum::Json(vector(&json!([point]))).into_response())
    }
}

/// The user's own query with these values.
fn own(values: &'static [&'static str]) -> impl Fn(Asked, f64) -> Option<Response> + Send + Sync {
    move |asked, at| {
        let points: Vec<Value> = (0..)
            .zip(values)
            .map(|(i, value)| point(&json!({"pod": format!("{i}")}), at, value))
            .collect();
        (asked == Asked::Own).then(|| axum::Json(vector(&json!(points))).into_response())
    }
}

macro_rules! bad {
    ($($(#[$doc:meta])* $name:ident: $script:expr => $says:literal;)*) => {$(
        $(#[$doc])*
        #[tokio::test]
        async fn $name() {
            refused($script, $says).await;
        }
    )*};
}

bad! {
    nan: count(json!("NaN")) => "not a finite number";
    plus_infinity: count(json!("+Inf")) => "not a finite number";
    minus_infinity: count(json!("-Inf")) => "not a finite number";
    huge: count(json!("1e308")) => "not a whole number";
    negative: count(json!("-3")) => "not a whole number";
    half_a_request: count(json!("2.5")) => "not a whole number";
    no_number: count(json!("many")) => "not a finite number";
    a_number_in_place_of_a_string: count(json!(7)) => "isn't that of a Prometheus";
    null_value: count(json!(null)) => "isn't that of a Prometheus";
    empty_value: |asked, _| {
        let point = json!({"metric": {}, "value": []});
        (asked == Asked::Counts).then(|| axum::Json(vector(&json!([point]))).into_response())
    } => "isn't that of a Prometheus";
    value_without_number: |asked, at| {
        let point = json!({"metric": {}, "value": [at]});
        (asked == Asked::Counts).then(|| axum::Json(vector(&json!([point]))).into_response())
    } => "isn't that of a Prometheus";
    series_without_value: |asked, _| {
        (asked == Asked::Counts).then(|| axum::Json(vector(&json!([{"metric": {}}]))).into_response())
    } => "without value";
    own_query_nan: own(&["NaN"]) => "metric queue: a value is not a finite number";
    own_query_infinite: own(&["+Inf"]) => "metric queue: a value is not a finite number";
    own_query_empty: own(&[]) => "metric queue: 0 series where exactly one is meant";
    own_query_good_then_bad_series: own(&["1", "900"]) => "metric queue: 2 series";
    own_query_bad_then_good_series: own(&["900", "1"]) => "metric queue: 2 series";
    matrix_for_vector: |_, at| json_body(json!({"status": "success", "data":
        {"resultType": "matrix", "result": [{"metric": {}, "values": [[at, "1"]]}]}}))
        => "the answer is a matrix, a vector was asked for";
    scalar_for_vector: |_, at| json_body(json!({"status": "success", "data":
        {"resultType": "scalar", "result": [at, "1"]}})) => "isn't that of a Prometheus";
    null_result: |_, _| json_body(json!({"status": "success", "data":
        {"resultType": "vector", "result": null}})) => "isn't that of a Prometheus";
    no_data: |_, _| json_body(json!({"status": "success"})) => "no data";
    error_with_200: |_, _| json_body(json!({"status": "error", "errorType": "execution",
        "error": "boom"})) => "the server refuses the query: execution: boom";
    warnings: |asked, at| {
        let mut body = right(asked, at);
        body["warnings"] = json!(["one of the stores is away"]);
        json_body(body)
    } => "may be partial";
    status_500: |_, _| status(500) => "status 500";
    status_401: |_, _| status(401) => "status 401";
    status_429: |_, _| status(429) => "status 429";
    status_422: |_, _| Some((StatusCode::UNPROCESSABLE_ENTITY, axum::Json(json!({
        "status": "error", "errorType": "execution", "error": "too many samples"}))).into_response())
        => "too many samples";
    redirect_to_a_metadata_address: |_, _| {
        let to = [(header::LOCATION, "http://169.254.169.254/latest/meta-data")];
        Some((StatusCode::FOUND, to).into_response())
    } => "status 302";
    html_with_200: |_, _| text("<html>login</html>") => "isn't that of a Prometheus";
    cut_off: |asked, at| {
        let body = right(asked, at).to_string();
        text(body[..body.len() / 2].to_owned())
    } => "isn't that of a Prometheus";
    nothing_at_all: |_, _| text("") => "isn't that of a Prometheus";
    deep: |_, _| text("[".repeat(1_000_000)) => "isn't that of a Prometheus";
    /// Compressed answers are not asked for, so a bomb is a few bytes that are no JSON.
    gzip_bomb: |_, _| {
        let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        Some(([(header::CONTENT_ENCODING, "gzip")], Body::from(bomb.to_vec())).into_response())
    } => "isn't that of a Prometheus";
    a_hundred_megabytes: |_, _| {
        let chunk = vec![b' '; 1 << 20];
        let chunks = futures::stream::iter((0..100).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
        text(Body::from_stream(chunks))
    } => "larger than";
    too_many_series: |asked, at| {
        let points: Vec<Value> = (0..6000).map(|i| point(&json!({"pod": i.to_string()}), at, "1")).collect();
        (asked == Asked::Counts).then(|| axum::Json(vector(&json!(points))).into_response())
    } => "6000 series";
    slow_drip: |_, _| {
        let drops = futures::stream::iter(0..600).then(|_| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, std::io::Error>(" ")
        });
        text(Body::from_stream(drops))
    } => "no answer within 5 s";
    hang: |_, _| text(Body::from_stream(futures::stream::pending::<Result<&str, std::io::Error>>()))
        => "no answer within 5 s";
    old_samples: |asked, at| {
        let old = point(&json!({"job": "envoy", "instance": "a"}), at, &format!("{:.3}", at - 240.0));
        (asked == Asked::Freshness).then(|| axum::Json(vector(&json!([old]))).into_response())
    } => "are stale";
    samples_of_the_future: |asked, at| {
        let far = point(&json!({"job": "envoy", "instance": "a"}), at, &format!("{:.3}", at + 600.0));
        (asked == Asked::Freshness).then(|| axum::Json(vector(&json!([far]))).into_response())
    } => "of the future";
    no_series: |asked, _| {
        let empty = axum::Json(vector(&json!([])));
        (asked == Asked::Freshness).then(|| empty.into_response())
    } => "no series of stable or canary";
    buckets_that_fall: |asked, at| {
        let of = |le: &str, n: &str| point(&json!({"destination_service_name": "canary", "le": le}), at, n);
        let points = json!([of("100", "9"), of("+Inf", "4")]);
        (asked == Asked::Buckets).then(|| axum::Json(vector(&points)).into_response())
    } => "buckets that fall";
}

/// A count that was reset, whose raw samples don't come: it is partial, not smaller.
#[tokio::test]
async fn a_reset_without_its_samples_is_no_evidence() {
    let script = |asked, at| {
        let one = point(&json!({"destination_service_name": "canary"}), at, "1");
        matches!(asked, Asked::Irregular | Asked::Resets)
            .then(|| axum::Json(vector(&json!([one]))).into_response())
    };
    refused(script, "the answer is a vector, a matrix was asked for").await;
}

/// Histograms that have only the bucket of all: counts come, latencies without boundaries.
#[tokio::test]
async fn only_the_bucket_of_all_gives_no_boundary() {
    let script = |asked, at| {
        let labels = |service| json!({"destination_service_name": service, "le": "+Inf"});
        let points =
            json!([point(&labels("canary"), at, "10"), point(&labels("stable"), at, "90")]);
        (asked == Asked::Buckets).then(|| axum::Json(vector(&points)).into_response())
    };
    let Bench { sampler, .. } = bench(script).await;
    let samples = until(&sampler, "a tick", |s| !s.ticks.is_empty()).await;
    let latency = samples.ticks[0].latency.clone().unwrap();
    assert!(latency.boundaries.is_empty());
    assert_eq!(latency.canary.requests, 10);
}

/// No requests at all are counts of zero: the decision waits on those (`no-traffic` on the real
/// parts).
#[tokio::test]
async fn no_requests_are_counts_of_zero() {
    let script = |asked, _| {
        matches!(asked, Asked::Counts | Asked::Buckets)
            .then(|| axum::Json(vector(&json!([]))).into_response())
    };
    let Bench { sampler, .. } = bench(script).await;
    let samples = until(&sampler, "a tick", |s| !s.ticks.is_empty()).await;
    assert_eq!(samples.ticks[0].canary.requests, 0);
}

/// A server that isn't HTTP's: what it does with a connection.
async fn raw(behaviour: &'static (dyn Fn(tokio::net::TcpStream) + Sync)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            behaviour(stream);
        }
    });
    address
}

#[tokio::test]
async fn reset() {
    let address = raw(&|stream| {
        stream.set_zero_linger().unwrap();
        drop(stream);
    })
    .await;
    let sampler = sampler(format!("http://{address}"));
    // Where in the exchange the reset comes is chance.
    let said = ["the connection failed", "can't be reached"];
    until(&sampler, "a reset", |s| said.iter().any(|said| reason(s).contains(said))).await;
}

#[tokio::test]
async fn connection_that_says_nothing() {
    let kept: &'static Mutex<Vec<tokio::net::TcpStream>> = Box::leak(Box::default());
    let behaviour = Box::leak(Box::new(move |stream| kept.lock().unwrap().push(stream)));
    let sampler = sampler(format!("http://{}", raw(behaviour).await));
    until(&sampler, "the limit", |s| reason(s).contains("no answer within 5 s")).await;
}

#[tokio::test]
async fn nonsense_in_place_of_http() {
    let address = raw(&|mut stream| {
        tokio::spawn(async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"220 smtp.test ESMTP\r\n").await;
        });
    })
    .await;
    let sampler = sampler(format!("http://{address}"));
    until(&sampler, "a broken connection", |s| reason(s).contains("the connection failed")).await;
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let sampler = sampler(format!("http://{address}"));
    until(&sampler, "a refusal", |s| reason(s).contains("can't be reached")).await;
}

#[tokio::test]
async fn no_such_name() {
    let sampler = sampler("http://prometheus.invalid:9090".to_owned());
    until(&sampler, "no such name", |s| reason(s).contains("can't be reached")).await;
}

#[tokio::test]
async fn tls_with_a_server_that_has_none() {
    let address = raw(&|mut stream| {
        tokio::spawn(async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        });
    })
    .await;
    let sampler = sampler(format!("https://{address}"));
    until(&sampler, "a failed handshake", |s| matches!(s.health, Health::Bad { .. })).await;
    assert!(sampler.of("uid", 1).ticks.is_empty());
}

/// However bad the answers, no more than the limit of queries is made in a while: no hot loop.
#[tokio::test]
async fn bad_answers_are_not_asked_for_again_and_again() {
    let Bench { sampler, server } = bench(|_, _| status(500)).await;
    until(&sampler, "the reason", |s| reason(s).contains("status 500")).await;
    let since = match sampler.of("uid", 1).health {
        Health::Bad { since, .. } => since,
        other => panic!("{other:?}"),
    };
    let before = server.served.load(Ordering::SeqCst);
    until(&sampler, "three seconds", |_| Clock::System.now().duration_since(since).as_secs() >= 3)
        .await;
    let asked = server.served.load(Ordering::SeqCst) - before;
    assert!(asked <= 12, "{asked} queries in three seconds");
    assert_eq!(first_tick(&sampler), None);
}

fn first_tick(sampler: &Sampler) -> Option<Timestamp> {
    sampler.of("uid", 1).ticks.first().map(|tick| tick.from)
}

/// Two replicas of Prometheus that show the same target, of which these are live.
fn replicas(live: &'static [&'static str]) -> impl Fn(Asked, f64) -> Value {
    move |asked, at| {
        let points: Vec<Value> = live
            .iter()
            .map(|replica| {
                let labels = json!({"job": "envoy", "instance": "a", "replica": replica});
                point(&labels, at, &format!("{:.3}", at - 0.05))
            })
            .collect();
        if asked == Asked::Freshness { vector(&json!(points)) } else { right(asked, at) }
    }
}

/// A server of two replicas, and all that it has been asked; the first one of them goes away.
async fn two_replicas(labels: &[&str]) -> (Sampler, Arc<AtomicBool>, Arc<Mutex<Vec<String>>>) {
    let (away, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let state = (away.clone(), asked.clone());
    let app = Router::new().route(
        "/api/v1/query",
        get(move |Query(query): Query<Vec<(String, String)>>| async move {
            let value = |key| query.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str());
            let at = value("time").parse().unwrap_or(0.0);
            state.1.lock().unwrap().push(value("query").to_owned());
            let live: &[&str] = if state.0.load(Ordering::SeqCst) { &["b"] } else { &["a", "b"] };
            axum::Json(replicas(live)(Asked::of(value("query")), at))
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let replica_labels = labels.iter().map(|l| (*l).to_owned()).collect();
    (reading(PrometheusSource { url, replica_labels }), away, asked)
}

/// One replica is read while it lives; the block in which another takes its place is no evidence.
#[tokio::test]
async fn one_replica_is_read_at_a_time() {
    let (sampler, away, asked) = two_replicas(&["replica"]).await;
    let samples = until(&sampler, "two ticks", |s| s.ticks.len() >= 2).await;
    assert!(samples.ticks.iter().all(|t| t.partial.is_none()), "{:?}", samples.ticks);
    let counts = |asked: &[String]| {
        asked.iter().filter(|q| q.starts_with("sum by (")).cloned().collect::<Vec<_>>()
    };
    let first = counts(&asked.lock().unwrap());
    assert!(first.iter().all(|q| q.contains(r#"replica=~"a""#)), "{first:?}");
    away.store(true, Ordering::SeqCst);
    let partial = |s: &Samples| s.ticks.iter().any(|t| t.partial.is_some());
    let samples = until(&sampler, "a partial tick", partial).await;
    let tick = samples.ticks.iter().find(|t| t.partial.is_some()).unwrap();
    let said = tick.partial.clone().unwrap();
    assert_eq!(said, "Prometheus' replica b is read in place of a: their counts don't join");
    let good =
        |s: &Samples| s.ticks.last().is_some_and(|t| t.from >= tick.to && t.partial.is_none());
    until(&sampler, "whole ticks of the other", good).await;
    let last = counts(&asked.lock().unwrap()).pop().unwrap();
    assert!(last.contains(r#"replica=~"b""#), "{last}");
}

/// The other one is back: the one that is read goes on to be.
#[tokio::test]
async fn a_replica_that_comes_back_changes_nothing() {
    let (sampler, away, _) = two_replicas(&["replica"]).await;
    away.store(true, Ordering::SeqCst);
    until(&sampler, "a tick", |s| s.ticks.len() >= 2).await;
    away.store(false, Ordering::SeqCst);
    let before = sampler.of("uid", 1).ticks.len();
    let samples = until(&sampler, "more ticks", |s| s.ticks.len() >= before + 3).await;
    assert!(samples.ticks[before..].iter().all(|t| t.partial.is_none()), "{:?}", samples.ticks);
}

/// A target under two values of a label that nobody has named would be counted twice.
#[tokio::test]
async fn what_would_be_counted_twice_is_no_evidence() {
    let script = |asked, at| {
        let target = json!({"job": "envoy", "instance": "a"});
        let copy = |value: &str| json!({"job": "envoy", "instance": "a", "prometheus": value});
        let points = match asked {
            Asked::Doubled => json!([point(&target, at, "2")]),
            Asked::Copies => json!([point(&copy("x"), at, "1"), point(&copy("y"), at, "1")]),
            Asked::Counted => json!([point(&json!({}), at, "2")]),
            _ => return None,
        };
        json_body(vector(&points))
    };
    refused(script, "target envoy/a is in Prometheus 2 times, by prometheus (x, y)").await;
}

/// The same target scraped once for the mesh's metrics and once for others is fine.
#[tokio::test]
async fn a_target_scraped_for_other_metrics_too_is_counted_once() {
    let script = |asked, at| {
        let copy = |value: &str| json!({"job": "envoy", "instance": "a", "endpoint": value});
        let points = match asked {
            Asked::Doubled => json!([point(&json!({"job": "envoy", "instance": "a"}), at, "2")]),
            Asked::Copies => json!([point(&copy("x"), at, "1"), point(&copy("y"), at, "1")]),
            Asked::Counted => json!([point(&json!({}), at, "1")]),
            _ => return None,
        };
        json_body(vector(&points))
    };
    let Bench { sampler, .. } = bench(script).await;
    heals(&sampler).await;
}
