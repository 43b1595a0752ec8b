//! A cluster in memory: an API server with its small controllers, a mesh with its traffic and its
//! Prometheus, and applications in it. The real controller runs against it as against any cluster,
//! in real time or in virtual time.

pub mod app;
pub mod cluster;
mod seen;
pub mod timeline;

pub use app::App;
pub use cluster::{Cluster, Conditions};
