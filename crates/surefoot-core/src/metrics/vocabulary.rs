//! What differs between the meshes' metrics: names, labels, and which requests failed. All else (the
//! instants that are asked for, births, resets, replicas) is the same.

use super::answer::Point;
use super::istio::Istio;
use super::linkerd::Linkerd;
use super::query::{By, Family};
use crate::api::rollout::{Mesh, RouteKind};

/// A metric, and by which of its labels series are chosen and told apart.
pub(crate) struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Matchers of all that is counted, each with a comma behind it.
    pub matchers: &'static str,
    /// The label with the versions' namespace.
    pub namespace: &'static str,
    /// The label with a version's Service. (Pods are named by a label of Prometheus' own.)
    pub service: &'static str,
    /// The labels with namespace and name of the Service that clients call, where there are such.
    pub called: Option<[&'static str; 2]>,
    /// Labels that tell counts apart, beside that of the version.
    pub labels: &'static str,
}

/// How a mesh speaks of requests.
pub(crate) trait Vocabulary: Sync {
    /// The metric of a family, as these report it of a kind of route.
    fn metric(&self, by: &By, family: Family, route: RouteKind) -> &'static Metric;
    /// Matchers, each behind a comma, that leave out latencies of clients that went away.
    fn stayed(&self) -> &'static str;
    /// Whether the client went away before the answer.
    fn left(&self, point: &Point) -> bool;
    /// Whether the request failed.
    fn failed(&self, point: &Point) -> bool;
    /// The upper ends of the latency buckets, milliseconds, where none have been seen yet.
    fn boundaries(&self) -> &'static [f64];
    /// Whether requests that clients gave up are counted.
    fn counts_abandoned(&self) -> bool;
}

/// How this mesh speaks.
pub(crate) fn vocabulary(mesh: Mesh) -> &'static dyn Vocabulary {
    match mesh {
        Mesh::Istio => &Istio,
        Mesh::Linkerd => &Linkerd,
    }
}

/// gRPC statuses that are failures of the server: the number, and the name that some meshes write.
const GRPC_FAILURES: [(&str, &str); 5] = [
    ("2", "UNKNOWN"),
    ("4", "DEADLINE_EXCEEDED"),
    ("13", "INTERNAL"),
    ("14", "UNAVAILABLE"),
    ("15", "DATA_LOSS"),
];

/// Whether a gRPC status is a failure of the server.
pub(super) fn grpc_fails(status: &str) -> bool {
    GRPC_FAILURES.iter().any(|(number, name)| status == *number || status == *name)
}
