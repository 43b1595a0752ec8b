//! What proxies say of requests, as each mesh puts it.

use surefoot_core::api::rollout::Mesh;

use crate::labels::{Labels, NAME};
use crate::world::{Destination, Pod, Route};

/// What came of requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Good,
    /// Answered that they failed.
    Failed,
    /// The pod was still at it when the client went away.
    Left,
    /// The callers' proxy gave up.
    TimedOut,
    /// Nobody was there.
    Nobody,
}

/// The counter in which requests count, and the histogram of their latencies, by its name without an
/// ending. Where there is none, nothing is said of them.
#[derive(Clone, Default)]
pub struct Said {
    /// Of the counter.
    pub counter: Option<Labels>,
    /// Of the histogram.
    pub latency: Option<Labels>,
}

/// What a pod's proxy says.
pub fn at_pod(mesh: Mesh, grpc: bool, pod: &Pod, outcome: Outcome) -> Said {
    match mesh {
        Mesh::Istio => istio(&[
            ("reporter", "destination"),
            ("destination_workload_namespace", &pod.namespace),
            ("request_protocol", "http"),
            ("response_code", istio_code(outcome)),
            ("response_flags", istio_flags(outcome)),
        ]),
        // A response that was never begun is in no counter.
        Mesh::Linkerd => linkerd_code(outcome).map_or_else(Said::default, |code| {
            let good = outcome == Outcome::Good;
            let status_code = if grpc { "200" } else { code };
            let own = [
                ("direction", "inbound"),
                ("srv_port", "8080"),
                ("route_name", "default"),
                ("status_code", status_code),
            ];
            let own: Labels = own.into_iter().collect();
            let class = own.with("classification", if good { "success" } else { "failure" });
            let status = if good { "0" } else { "13" };
            let class = if grpc { class.with("grpc_status", status) } else { class };
            let counter = class.with(NAME, "response_total");
            Said { counter: Some(counter), latency: Some(own.with(NAME, LINKERD_LATENCY)) }
        }),
    }
}

/// What the callers' proxy says of requests by a route to a pod, or to nobody.
pub fn at_caller(
    mesh: Mesh,
    route: &Route,
    to: &Destination,
    pod: Option<&Pod>,
    outcome: Outcome,
) -> Said {
    match mesh {
        Mesh::Istio => istio_caller(&route.namespace, to, pod, outcome),
        Mesh::Linkerd => linkerd_caller(route, to, pod, outcome),
    }
}

fn istio(own: &[(&str, &str)]) -> Said {
    let own: Labels = own.iter().copied().collect();
    Said {
        counter: Some(own.with(NAME, "istio_requests_total")),
        latency: Some(own.with(NAME, "istio_request_duration_milliseconds")),
    }
}

fn istio_code(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Good => "200",
        Outcome::Failed => "500",
        Outcome::Left => "0",
        Outcome::TimedOut => "504",
        Outcome::Nobody => "503",
    }
}

fn istio_flags(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Good | Outcome::Failed => "-",
        Outcome::Left => "DC",
        Outcome::TimedOut => "UT",
        Outcome::Nobody => "UH",
    }
}

fn istio_caller(namespace: &str, to: &Destination, pod: Option<&Pod>, outcome: Outcome) -> Said {
    let host = format!("{}.{namespace}.svc.cluster.local", to.service);
    let version = pod.map(|pod| pod.labels.get("version").map_or("latest", String::as_str));
    istio(&[
        ("reporter", "source"),
        ("destination_service", host.as_str()),
        ("destination_service_name", &to.service),
        ("destination_service_namespace", namespace),
        ("destination_workload", pod.map_or("", |pod| &pod.workload)),
        ("destination_workload_namespace", pod.map_or("", |pod| &pod.namespace)),
        ("destination_version", version.unwrap_or_default()),
        ("request_protocol", "http"),
        ("response_code", istio_code(outcome)),
        ("response_flags", istio_flags(outcome)),
    ])
}

const LINKERD_LATENCY: &str = "response_latency_ms";

/// The status of a response, where there was one.
fn linkerd_code(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Good => Some("200"),
        Outcome::Failed => Some("500"),
        Outcome::Left | Outcome::TimedOut | Outcome::Nobody => None,
    }
}

/// Counted by the route's backend, measured by the pod.
fn linkerd_caller(route: &Route, to: &Destination, pod: Option<&Pod>, outcome: Outcome) -> Said {
    let error = match outcome {
        Outcome::TimedOut => "REQUEST_TIMEOUT",
        Outcome::Nobody => "FAIL_FAST",
        Outcome::Good | Outcome::Failed | Outcome::Left => "",
    };
    let code = linkerd_code(outcome);
    let (name, kind) = if route.grpc {
        ("outbound_grpc_route_backend_response_statuses_total", "GRPCRoute")
    } else {
        ("outbound_http_route_backend_response_statuses_total", "HTTPRoute")
    };
    let status = match (route.grpc, outcome) {
        (false, _) => ("http_status", code.unwrap_or_default()),
        (true, Outcome::Good) => ("grpc_status", "OK"),
        (true, Outcome::Failed) => ("grpc_status", "INTERNAL"),
        (true, Outcome::Left | Outcome::TimedOut | Outcome::Nobody) => ("grpc_status", "UNKNOWN"),
    };
    let counter = [
        (NAME, name),
        ("parent_group", "core"),
        ("parent_kind", "Service"),
        ("parent_namespace", &route.namespace),
        ("parent_name", &route.called),
        ("route_group", "gateway.networking.k8s.io"),
        ("route_kind", kind),
        ("route_namespace", &route.namespace),
        ("route_name", &route.name),
        ("backend_group", "core"),
        ("backend_kind", "Service"),
        ("backend_namespace", &route.namespace),
        ("backend_name", &to.service),
        status,
        ("error", error),
    ];
    let code = code.map(|code| if route.grpc { "200" } else { code });
    let latency = pod.zip(code).map(|(pod, code)| {
        [
            (NAME, LINKERD_LATENCY),
            ("direction", "outbound"),
            ("dst_namespace", &pod.namespace),
            ("dst_service", &to.service),
            ("dst_pod", &pod.name),
            ("status_code", code),
        ]
        .into_iter()
        .collect()
    });
    Said { counter: Some(counter.into_iter().collect()), latency }
}
