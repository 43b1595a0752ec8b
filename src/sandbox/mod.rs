//! A cluster in memory: an API server with its small controllers, a mesh with its traffic and its
//! Prometheus, and applications in it. The real controller runs against it as against any cluster,
//! in real time or in virtual time.

pub mod app;
pub mod cluster;
pub mod delivery;
pub mod route;
mod seen;
pub mod timeline;

pub use app::App;
pub use cluster::{Cluster, Conditions};
pub use delivery::{Delivery, ended};

/// A runtime whose clock is paused: it jumps to the next timer once nothing is left to do.
///
/// # Errors
/// When the system refuses what a runtime needs.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()
}
