//! Linkerd's metrics. Callers' proxies count what comes of each backend of a route, that which never
//! reached a pod among it (`FAIL_FAST`, `LOAD_SHED` and the like, which `response_total` doesn't know);
//! the pods' own count what they answered, by the pod: pods of a ReplicaSet that a Rollout owns have no
//! label `deployment`.
//!
//! A request whose client went away before the answer is in no counter, so that nothing is said of
//! those here; what a timeout of the route ended is a failure. What the proxies count by response
//! vanishes after ten minutes without a request and begins again at 0: a reset like any other.

use super::answer::Point;
use super::query::{By, Family};
use super::vocabulary::{Metric, Vocabulary, grpc_fails};
use crate::api::rollout::RouteKind;

/// Linkerd's latency buckets, milliseconds.
pub const LINKERD_BOUNDARIES: [f64; 25] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0,
    1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0,
];

/// By route, so that requests for a version's own Service don't count as the route's.
static CALLERS_REQUESTS: Metric = Metric {
    name: "outbound_http_route_backend_response_statuses_total",
    matchers: "",
    namespace: "backend_namespace",
    service: "backend_name",
    called: Some(["parent_namespace", "parent_name"]),
    labels: "http_status, error",
};

/// The same of a GRPCRoute. The status is a name, and UNKNOWN where there was none.
static CALLERS_CALLS: Metric = Metric {
    name: "outbound_grpc_route_backend_response_statuses_total",
    labels: "grpc_status, error",
    ..CALLERS_REQUESTS
};

/// By the Service under which the pod was found, which is the version's own. (The route's own
/// durations have seven buckets, and are of no use beyond a glance.)
static CALLERS_LATENCY: Metric = Metric {
    name: "response_latency_ms_bucket",
    matchers: "direction=\"outbound\", ",
    namespace: "dst_namespace",
    service: "dst_service",
    called: None,
    labels: "status_code, le",
};

const fn at_pods(name: &'static str, labels: &'static str) -> Metric {
    // Port 4191 is the proxy's own, which Prometheus asks; the kubelet's probes come by a route of
    // Linkerd's making.
    let matchers = "direction=\"inbound\", srv_port!=\"4191\", route_name!=\"probe\", ";
    Metric { name, matchers, namespace: "namespace", service: "", called: None, labels }
}

static PODS_REQUESTS: Metric =
    at_pods("response_total", "status_code, classification, grpc_status, error");
static PODS_LATENCY: Metric = at_pods("response_latency_ms_bucket", "status_code, le");

/// The mesh.
pub(super) struct Linkerd;

impl Vocabulary for Linkerd {
    fn metric(&self, by: &By, family: Family, route: RouteKind) -> &'static Metric {
        match (by, family) {
            (By::Service, Family::Requests) if route == RouteKind::GRPCRoute => &CALLERS_CALLS,
            (By::Service, Family::Requests) => &CALLERS_REQUESTS,
            (By::Service, Family::Latency) => &CALLERS_LATENCY,
            (By::Pod { .. }, Family::Requests) => &PODS_REQUESTS,
            (By::Pod { .. }, Family::Latency) => &PODS_LATENCY,
        }
    }

    fn stayed(&self) -> &'static str {
        ""
    }

    fn left(&self, _: &Point) -> bool {
        false
    }

    fn failed(&self, point: &Point) -> bool {
        if !point.label("error").is_empty() {
            return true;
        }
        let status = point.label("grpc_status");
        if !status.is_empty() {
            return grpc_fails(status);
        }
        point.label("classification") == "failure" || point.label("http_status").starts_with('5')
    }

    fn boundaries(&self) -> &'static [f64] {
        &LINKERD_BOUNDARIES
    }

    fn counts_abandoned(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::rollout::Mesh;
    use crate::metrics::query::Series;
    use crate::metrics::tick::{latencies, requests};
    use crate::samples::{Count, Histogram};

    fn series(by: By) -> Series {
        let (stable, canary) = match by {
            By::Service => ("web-stable", "web-canary"),
            By::Pod { .. } => ("web-6c", "web-sf1"),
        };
        Series {
            mesh: Mesh::Linkerd,
            route: RouteKind::HTTPRoute,
            namespace: "shop".into(),
            service: "web".into(),
            stable: stable.into(),
            canary: canary.into(),
            by,
            pinned: Default::default(),
        }
    }

    fn point(labels: &[(&str, &str)], value: f64) -> Point {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Point { labels, value }
    }

    #[test]
    fn callers_count_by_backend_of_the_route() {
        let series = series(By::Service);
        let t = Timestamp::UNIX_EPOCH;
        let query = series.increments(Family::Requests, t, t);
        let counted = "outbound_http_route_backend_response_statuses_total{\
                       parent_namespace=\"shop\", parent_name=\"web\", backend_namespace=\"shop\", \
                       backend_name=~\"web-stable|web-canary\"}";
        assert!(query.starts_with("sum by (backend_name, http_status, error)"), "{query}");
        assert!(query.contains(counted), "{query}");
        let query = series.increments(Family::Latency, t, t);
        assert!(query.starts_with("sum by (dst_service, status_code, le)"), "{query}");
        assert!(query.contains("direction=\"outbound\", dst_namespace=\"shop\""), "{query}");
        let of = |status: &str, error: &str, value: f64| {
            let labels =
                [("backend_name", "web-canary"), ("http_status", status), ("error", error)];
            point(&labels, value)
        };
        let points = [
            of("200", "", 90.0),
            of("404", "", 5.0),
            of("503", "", 3.0),
            of("", "FAIL_FAST", 2.0),
            of("200", "RESET", 1.0),
        ];
        let [canary, _] = requests(&series, &points).unwrap();
        assert_eq!(canary, Count { requests: 101, failed: 6, abandoned: 0 });
        let of = |le: &str, value: f64| point(&[("dst_service", "web-stable"), ("le", le)], value);
        let told = latencies(&series, &[of("+Inf", 10.0), of("20", 9.0), of("3", 4.0)]).unwrap();
        assert_eq!(told.boundaries, [3.0, 20.0]);
        assert_eq!(told.stable, Histogram { requests: 10, at_most: vec![4, 9] });
    }

    #[test]
    fn calls_by_a_grpc_route_go_by_their_own_status() {
        let series = Series { route: RouteKind::GRPCRoute, ..series(By::Service) };
        let query =
            series.increments(Family::Requests, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        assert!(query.starts_with("sum by (backend_name, grpc_status, error)"), "{query}");
        let counted = "outbound_grpc_route_backend_response_statuses_total{parent_namespace=";
        assert!(query.contains(counted), "{query}");
        let of = |status: &str, error: &str, value: f64| {
            let labels =
                [("backend_name", "web-canary"), ("grpc_status", status), ("error", error)];
            point(&labels, value)
        };
        let points = [
            of("OK", "", 90.0),
            of("NOT_FOUND", "", 5.0),
            of("UNAVAILABLE", "", 3.0),
            of("UNKNOWN", "FAIL_FAST", 2.0),
            of("OK", "RESET", 1.0),
        ];
        let [canary, _] = requests(&series, &points).unwrap();
        assert_eq!(canary, Count { requests: 101, failed: 6, abandoned: 0 });
        // Latencies, and what pods tell, have one name for both.
        let by_pod = Series { by: By::Pod { label: "pod".into() }, ..series };
        assert!(by_pod.found().contains("response_total{direction=\"inbound\""));
    }

    #[test]
    fn pods_count_what_they_answered() {
        let series = series(By::Pod { label: "pod".into() });
        let query = series.found();
        assert!(!query.contains("deployment"), "{query}");
        let counted = "response_total{direction=\"inbound\", srv_port!=\"4191\", \
                       route_name!=\"probe\", namespace=\"shop\", pod=~\"web-6c-.{5}|web-sf1-.{5}\"}";
        assert!(query.contains(counted), "{query}");
        let of = |class: &str, grpc: &str, value: f64| {
            let own = ("pod", "web-sf1-x7k2p");
            point(&[own, ("classification", class), ("grpc_status", grpc)], value)
        };
        // By our own rule a caller's mistake isn't the server's, whatever the proxy makes of it.
        let points = [
            of("success", "", 90.0),
            of("failure", "", 3.0),
            of("failure", "7", 2.0),
            of("failure", "14", 1.0),
        ];
        let [canary, stable] = requests(&series, &points).unwrap();
        assert_eq!(canary, Count { requests: 96, failed: 4, abandoned: 0 });
        assert_eq!(stable, Count::default());
    }
}
