//! Questions that are really asked: every one that the controller's builders make, and those of
//! common templates for Argo Rollouts and Flagger.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use surefoot_core::api::rollout::{Mesh, RouteKind};
use surefoot_core::metrics::history::Answering;
use surefoot_core::metrics::query::{By, Family, Series};
use surefoot_core::metrics::replica::Pinned;

use crate::Question;
use crate::data::after;

fn seconds(at: Timestamp) -> String {
    format!("{}.{:03}", at.as_second(), at.subsec_millisecond())
}

fn now(query: &str, at: Timestamp) -> Question {
    Question::instant(query, &seconds(at))
}

/// The ways in which the versions can be told apart, and replicas be read.
fn series() -> Vec<Series> {
    let names = |stable: &str, canary: &str, by, pinned| Series {
        mesh: Mesh::Istio,
        route: RouteKind::VirtualService,
        service: "web".to_owned(),
        namespace: "shop".to_owned(),
        stable: stable.to_owned(),
        canary: canary.to_owned(),
        by,
        pinned,
    };
    let pinned = |label: &str, value: &str| Pinned {
        labels: vec![label.to_owned()],
        replicas: [vec![value.to_owned()]].into(),
    };
    let pod = || By::Pod { label: "pod".to_owned() };
    vec![
        names("web-stable", "web-canary", By::Service, Pinned::default()),
        names("web-6c", "web-sf1", pod(), Pinned::default()),
        names("web-6c", "web-sf1", pod(), pinned("job", "sidecars")),
        // A replica without the label.
        names("web-stable", "web-canary", By::Service, pinned("replica", "")),
    ]
}

/// Whatever the builders of the controller, of its past and of backtests ask.
pub fn own() -> Vec<Question> {
    let mut questions = Vec::new();
    let spans =
        [(100, 110), (205, 235), (235, 265), (400, 415), (490, 520), (600, 660), (695, 720)];
    for series in series() {
        for (from, to) in spans {
            let (from, to) = (after(from), after(to) + SignedDuration::from_millis(500));
            for family in [Family::Requests, Family::Latency] {
                for query in [
                    series.increments(family, from, to),
                    series.irregular(family, from, to),
                    series.births(family, from, to),
                    series.resets(family, from, to),
                ] {
                    questions.push(now(&query, to));
                }
            }
            let target = ("sidecars".to_owned(), "10.244.2.2:15020".to_owned());
            let labels = ["reporter", "response_code"].map(str::to_owned);
            for query in [
                series.found(),
                series.freshness(),
                series.doubled(),
                series.copies(&target),
                series.counted(&target, &labels),
                series.density(Duration::from_secs(60)),
                series.up(from, to),
            ] {
                questions.push(now(&query, to));
            }
        }
    }
    let by_pod = &series()[1];
    let pods = ["web-6c-pod01", "web-6c-pod02"].map(str::to_owned);
    for family in [Family::Requests, Family::Latency] {
        let one = [
            ("__name__", "istio_requests_total"),
            ("reporter", "destination"),
            ("pod", "web-6c-pod02"),
            ("response_code", "200"),
        ];
        let one = one.map(|(name, value)| (name.to_owned(), value.to_owned()));
        questions.push(now(&by_pod.raw(family, &one, after(480), after(520)), after(520)));
        let past = by_pod.past(family, &pods);
        let (start, end) = (seconds(after(0)), seconds(after(800)));
        questions.push(Question::range(&past, &start, &end, "10s"));
    }
    questions.push(now(&by_pod.pods(), after(300)));
    for (replica_set, replica) in [(None, None), (Some("web-6c"), Some(("job", "sidecars")))] {
        let answering = Answering {
            mesh: Mesh::Istio,
            namespace: "shop",
            deployment: "web",
            replica_set,
            label: "pod",
            replica,
            over: SignedDuration::from_hours(2),
        };
        questions.push(now(&answering.query(), after(800)));
    }
    questions
}

/// Success rates, error rates and latencies as others' templates ask for them.
const COMMON: [&str; 26] = [
    // Argo Rollouts' documentation and its analysis templates.
    r#"sum(irate(istio_requests_total{reporter="source",destination_service=~"web-canary.shop.svc.cluster.local",response_code!~"5.*"}[5m])) / sum(irate(istio_requests_total{reporter="source",destination_service=~"web-canary.shop.svc.cluster.local"}[5m]))"#,
    r#"sum(rate(istio_requests_total{destination_service_name="web-canary",response_code!~"5.*"}[2m])) / sum(rate(istio_requests_total{destination_service_name="web-canary"}[2m]))"#,
    r#"histogram_quantile(0.95, sum(irate(istio_request_duration_milliseconds_bucket{reporter="source",destination_service_name="web-stable"}[1m])) by (le))"#,
    r#"sum(increase(istio_requests_total{response_code=~"5.*"}[60s])) or vector(0)"#,
    "sum by (destination_service_name) (rate(istio_requests_total[1m])) > 0",
    r#"scalar(sum(rate(istio_requests_total{response_code="500"}[1m]))) < bool 0.05"#,
    // Flagger's built-in ones for Istio.
    r#"sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="shop",destination_workload=~"web",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="shop"}[1m])) * 100"#,
    r#"histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace=~"shop"}[1m])) by (le))"#,
    r#"100 - sum(rate(istio_requests_total{reporter="source",response_code!="404"}[1m])) / sum(rate(istio_requests_total{reporter="source"}[1m])) * 100"#,
    r#"sum(rate(istio_requests_total{destination_workload!="",response_code=~"5.*"}[1m])) / ignoring () group_left sum(rate(istio_requests_total[1m]))"#,
    // And what people write themselves.
    "topk(3, sum by (pod, response_code) (rate(istio_requests_total[5m])))",
    "bottomk(2, sum by (pod) (rate(istio_requests_total[2m])))",
    "avg(rate(istio_request_duration_milliseconds_sum[2m]) / rate(istio_request_duration_milliseconds_count[2m])) by (pod)",
    r#"histogram_quantile(0.5, rate(istio_request_duration_milliseconds_bucket{response_code="200"}[2m]))"#,
    "max_over_time(up[5m]) == 1",
    r#"absent(istio_requests_total{destination_service_name="nobody",reporter="source"})"#,
    r#"absent(up{job="sidecars"})"#,
    r#"label_replace(up, "host", "$1", "instance", "(.*):.*")"#,
    "time() - process_start_time_seconds",
    "sum without (le) (rate(istio_request_duration_milliseconds_bucket[1m])) offset 1m",
    "sum(rate(istio_requests_total[1m] offset 1m)) / sum(rate(istio_requests_total[1m]))",
    "rate(istio_requests_total[1m]) / on (pod) group_left (instance) up",
    "max_over_time(sum(rate(istio_requests_total[1m]))[3m:15s])",
    "clamp_max(sum(rate(istio_requests_total[1m])), 10)",
    r#"sum(istio_request_duration_milliseconds_bucket{le="100"}) / sum(istio_request_duration_milliseconds_count)"#,
    "quantile(0.9, rate(istio_requests_total[1m]))",
];

/// These at several instants and over ranges.
pub fn common() -> Vec<Question> {
    let mut questions = Vec::new();
    for query in COMMON {
        for at in [90, 245, 400, 505, 650, 760] {
            questions.push(now(query, after(at)));
        }
        for (start, end, step) in [(0, 900, "30"), (230, 300, "7s"), (480, 760, "1m")] {
            questions.push(Question::range(
                query,
                &seconds(after(start)),
                &seconds(after(end)),
                step,
            ));
        }
    }
    questions
}

/// Parameters in every spelling, and wrong ones.
pub fn corners() -> Vec<Question> {
    let mut questions = Vec::new();
    for time in [
        "1767226000",
        "1767226000.0005",
        "1767226000.289",
        "1.767226e9",
        "2026-01-01T00:06:40Z",
        "2026-01-01T01:06:40.25+01:00",
        "now",
        "2026-01-01",
    ] {
        questions.push(Question::instant("up", time));
        questions.push(Question::instant("vector(time())", time));
    }
    let range = |start: &str, end: &str, step: &str| Question::range("up", start, end, step);
    let (start, end) = ("1767226000", "1767226060");
    for step in ["15", "15s", "0.5", "1m", "1m30s", "0", "-1", "0s", "x", "", "0.001", "0.005"] {
        questions.push(range(start, end, step));
    }
    questions.extend([
        range(end, start, "15"),
        range(start, start, "15"),
        range("x", end, "15"),
        range(start, "", "15"),
        // The most values that there may be, and one more.
        range("1767226000", "1767237000", "1"),
        range("1767226000", "1767237001", "1"),
        Question::range("up[5m]", start, end, "15"),
        Question::range("\"text\"", start, end, "15"),
        Question::range("1", start, end, "15"),
        Question::instant("\"text\"", start),
        Question::instant("up[1m]", start),
        Question::instant("", start),
        Question::instant("sum(", start),
    ]);
    for timeout in ["x", "1h", "2.5"] {
        let params = [("query", "up"), ("time", start), ("timeout", timeout)];
        questions.push(Question::new("/api/v1/query", &params));
    }
    questions
}
