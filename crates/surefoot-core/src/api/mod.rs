//! The kinds that users and the controller write. One file a kind; the CRDs are generated from here.

pub mod action;
pub mod analysis;
pub mod channel;
mod evidence;
pub mod judge;
pub mod notice;
pub mod rollout;
mod schema;
pub mod source;
pub mod status;
pub mod text;

pub use action::{ActionKind, RolloutAction, RolloutActionSpec};
pub use analysis::{AnalysisTemplate, ClusterAnalysisTemplate};
pub use channel::{NotificationChannel, NotificationChannelSpec};
pub use rollout::{Rollout, RolloutSpec};
pub use source::{ClusterMetricsSource, MetricsSource, MetricsSourceSpec};
pub use status::RolloutStatus;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt;

/// The API group of every kind here.
pub const GROUP: &str = "surefoot.dev";

/// The custom resource definitions, in the order in which to install them.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        rollout::definition(),
        analysis::AnalysisTemplate::crd(),
        analysis::ClusterAnalysisTemplate::crd(),
        source::MetricsSource::crd(),
        source::ClusterMetricsSource::crd(),
        action::RolloutAction::crd(),
        channel::NotificationChannel::crd(),
    ];
    for version in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            schema::unwrap_lines(root);
        }
    }
    crds
}
