//! The mesh's metrics: which questions to ask (typed builders of PromQL), and what the answers mean.

pub mod answer;
pub mod history;
mod istio;
mod linkerd;
pub mod query;
pub mod replica;
pub mod tick;
mod vocabulary;
pub mod wanted;

pub use linkerd::LINKERD_BOUNDARIES;
pub(crate) use vocabulary::vocabulary;
pub use wanted::{Wanted, past, wanted};

use crate::api::rollout::{Mesh, RouteKind};
use query::{By, Family};

/// The upper ends of a mesh's latency buckets, milliseconds, where none have been seen yet.
#[must_use]
pub fn boundaries(mesh: Mesh) -> &'static [f64] {
    vocabulary(mesh).boundaries()
}

/// The metric in which a mesh's pods tell their latencies, for people.
#[must_use]
pub fn pods_latency(mesh: Mesh) -> &'static str {
    let by = By::Pod { label: String::new() };
    vocabulary(mesh).metric(&by, Family::Latency, RouteKind::HTTPRoute).name
}
