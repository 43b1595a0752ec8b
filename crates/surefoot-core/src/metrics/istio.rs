//! Istio's metrics, reported by the callers' proxies (`reporter="source"`) and by the pods' own.

use super::answer::Point;
use super::query::{By, Family};
use super::vocabulary::{Metric, Vocabulary, grpc_fails};
use crate::api::rollout::RouteKind;
use crate::engine::ISTIO_BOUNDARIES;

const REQUESTS: &str = "istio_requests_total";
const LATENCY: &str = "istio_request_duration_milliseconds_bucket";
const REQUEST_LABELS: &str =
    "request_protocol, response_code, grpc_response_status, response_flags";
const LATENCY_LABELS: &str = "response_code, response_flags, le";

const fn at_callers(name: &'static str, labels: &'static str) -> Metric {
    Metric {
        name,
        matchers: "reporter=\"source\", ",
        namespace: "destination_service_namespace",
        service: "destination_service_name",
        called: None,
        labels,
    }
}

const fn at_pods(name: &'static str, labels: &'static str) -> Metric {
    Metric {
        matchers: "reporter=\"destination\", ",
        namespace: "destination_workload_namespace",
        ..at_callers(name, labels)
    }
}

static CALLERS_REQUESTS: Metric = at_callers(REQUESTS, REQUEST_LABELS);
static CALLERS_LATENCY: Metric = at_callers(LATENCY, LATENCY_LABELS);
static PODS_REQUESTS: Metric = at_pods(REQUESTS, REQUEST_LABELS);
static PODS_LATENCY: Metric = at_pods(LATENCY, LATENCY_LABELS);

/// The mesh.
pub(super) struct Istio;

impl Vocabulary for Istio {
    fn metric(&self, by: &By, family: Family, _: RouteKind) -> &'static Metric {
        match (by, family) {
            (By::Service, Family::Requests) => &CALLERS_REQUESTS,
            (By::Service, Family::Latency) => &CALLERS_LATENCY,
            (By::Pod { .. }, Family::Requests) => &PODS_REQUESTS,
            (By::Pod { .. }, Family::Latency) => &PODS_LATENCY,
        }
    }

    fn stayed(&self) -> &'static str {
        ", response_code!=\"0\", response_flags!~\"(.*,)?DC(,.*)?\""
    }

    fn left(&self, point: &Point) -> bool {
        point.label("response_code") == "0"
            || point.label("response_flags").split(',').any(|f| f == "DC")
    }

    fn failed(&self, point: &Point) -> bool {
        if point.label("request_protocol") == "grpc" {
            let status = point.label("grpc_response_status");
            if !status.is_empty() {
                return grpc_fails(status);
            }
        }
        point.label("response_code").starts_with('5')
    }

    fn boundaries(&self) -> &'static [f64] {
        &ISTIO_BOUNDARIES
    }

    fn counts_abandoned(&self) -> bool {
        true
    }
}
