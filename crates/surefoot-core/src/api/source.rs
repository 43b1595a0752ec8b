//! Where metrics come from: MetricsSource in a namespace, ClusterMetricsSource for all.

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::rules;

/// A Prometheus (or a server with its query API) that holds the mesh's metrics.
#[derive(CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "surefoot.dev",
    version = "v1alpha1",
    kind = "MetricsSource",
    namespaced,
    shortname = "sfms",
    category = "surefoot",
    crates(kube_core = "::kube_core"),
    doc = "A Prometheus that holds the mesh's metrics, for the Rollouts of this namespace.",
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.prometheus.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MetricsSourceSpec {
    /// The Prometheus server.
    pub prometheus: PrometheusSource,
}

/// The same as MetricsSource, for every namespace.
#[derive(CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "surefoot.dev",
    version = "v1alpha1",
    kind = "ClusterMetricsSource",
    shortname = "sfcms",
    category = "surefoot",
    crates(kube_core = "::kube_core"),
    doc = "A Prometheus that holds the mesh's metrics, for the Rollouts of every namespace.",
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.prometheus.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterMetricsSourceSpec {
    /// The Prometheus server.
    pub prometheus: PrometheusSource,
}

/// How to reach a Prometheus server.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusSource {
    /// Base URL, http or https, without user and password; `/api/v1/query` is added to it.
    #[schemars(length(min = 8, max = 1024))]
    #[schemars(extend("x-kubernetes-validations" = rules(&[(
        "self.matches('^https?://[^@/?#]+(/[^?#]*)?$')",
        "must be an http or https URL without user, password, query or fragment, such as http://prometheus.monitoring:9090",
    )])))]
    pub url: String,
    /// Labels by which copies of one series differ, where several replicas of Prometheus scrape the
    /// same targets and this server shows them all, as a Thanos without deduplication does; such as
    /// `prometheus_replica`. One replica is read at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$")), extend("x-kubernetes-list-type" = "set"))]
    pub replica_labels: Vec<String>,
}
