//! The built-in kinds in scope.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::codec::through;
use super::{Generation, Kind, Scale, Shape};

/// The resource that tells clients who they are; it can only be created.
pub const SELF_REVIEW: &str = "selfsubjectreviews";

type Read = fn(serde_json::Value) -> Result<serde_json::Value, String>;

/// Group and version, plural, kind, short names (by comma), how it is read.
type Row = (&'static str, &'static str, &'static str, &'static str, Read);

const KINDS: [Row; 17] = [
    ("v1", "configmaps", "ConfigMap", "cm", through::<core::ConfigMap>),
    ("v1", "events", "Event", "ev", through::<core::Event>),
    ("v1", "namespaces", "Namespace", "ns", through::<core::Namespace>),
    ("v1", "nodes", "Node", "no", through::<core::Node>),
    ("v1", "pods", "Pod", "po", through::<core::Pod>),
    ("v1", "secrets", "Secret", "", through::<core::Secret>),
    ("v1", "serviceaccounts", "ServiceAccount", "sa", through::<core::ServiceAccount>),
    ("v1", "services", "Service", "svc", through::<core::Service>),
    ("apps/v1", "deployments", "Deployment", "deploy", through::<apps::Deployment>),
    ("apps/v1", "replicasets", "ReplicaSet", "rs", through::<apps::ReplicaSet>),
    (
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "crd,crds",
        through::<CustomResourceDefinition>,
    ),
    (
        "authentication.k8s.io/v1",
        SELF_REVIEW,
        "SelfSubjectReview",
        "",
        through::<SelfSubjectReview>,
    ),
    (
        "autoscaling/v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        "hpa",
        through::<HorizontalPodAutoscaler>,
    ),
    ("coordination.k8s.io/v1", "leases", "Lease", "", through::<Lease>),
    ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", "", through::<EndpointSlice>),
    ("events.k8s.io/v1", "events", "Event", "ev", through::<Event>),
    (
        "policy/v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        "pdb",
        through::<PodDisruptionBudget>,
    ),
];

/// All of them.
#[must_use]
pub fn builtin() -> Vec<Kind> {
    KINDS.into_iter().map(row).collect()
}

fn row((api, plural, kind, short, read): Row) -> Kind {
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    let words = |text: &str| text.split(',').filter(|w| !w.is_empty()).map(str::to_owned).collect();
    let generation = match plural {
        "deployments" => Generation::SpecAndAnnotations,
        "pods" | "replicasets" | "endpointslices" | "poddisruptionbudgets" => Generation::Spec,
        "customresourcedefinitions" => Generation::Spec,
        _ => Generation::None,
    };
    let scale = matches!(plural, "deployments" | "replicasets").then(|| Scale {
        spec: "/spec/replicas".into(),
        status: "/status/replicas".into(),
        selector: Some("/spec/selector".into()),
    });
    Kind {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        list_kind: format!("{kind}List"),
        plural: plural.into(),
        singular: kind.to_lowercase(),
        short_names: words(short),
        categories: words(category(plural)),
        namespaced: !matches!(
            plural,
            "namespaces" | "nodes" | "customresourcedefinitions" | SELF_REVIEW
        ),
        status: has_status(plural),
        scale,
        generation,
        unconditional: !matches!(
            plural,
            "leases" | "customresourcedefinitions" | "poddisruptionbudgets"
        ),
        returns_deleted: matches!(plural, "pods" | "services" | "serviceaccounts"),
        fields: fields(plural).iter().map(|&field| field.to_owned()).collect(),
        columns: Vec::new(),
        shape: Shape::Typed(read),
    }
}

fn has_status(plural: &str) -> bool {
    matches!(
        plural,
        "namespaces"
            | "nodes"
            | "pods"
            | "services"
            | "deployments"
            | "replicasets"
            | "customresourcedefinitions"
            | "horizontalpodautoscalers"
            | "poddisruptionbudgets"
    )
}

fn category(plural: &str) -> &'static str {
    match plural {
        "pods" | "services" | "deployments" | "replicasets" | "horizontalpodautoscalers" => "all",
        "customresourcedefinitions" => "api-extensions",
        _ => "",
    }
}

fn fields(plural: &str) -> &'static [&'static str] {
    match plural {
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "namespaces" => &["status.phase"],
        "secrets" => &["type"],
        "services" => &["spec.clusterIP", "spec.type"],
        _ => &[],
    }
}
