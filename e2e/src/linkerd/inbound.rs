//! A pod's proxy: what the pod answers is counted where it answers, and told on the pod's own address.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::METRICS_PORT;
use super::metrics::{self, serve};
use crate::sidecars::{Listed, Sidecars};
use crate::world::Task;

/// The proxy beside one pod. Gone, and its page with it, when dropped.
#[derive(Debug)]
pub struct Inbound {
    counts: Arc<metrics::Inbound>,
    _page: Task,
    _listed: Listed,
}

impl Inbound {
    /// One that has counted nothing yet.
    pub async fn start(
        sidecars: &Sidecars,
        namespace: &str,
        pod: &str,
        ip: Ipv4Addr,
    ) -> Result<Inbound> {
        let counts = Arc::new(metrics::Inbound::default());
        let address = SocketAddr::from((ip, METRICS_PORT));
        let page = serve(address, Arc::clone(&counts)).await?;
        let listed = sidecars.list(address, namespace, pod);
        Ok(Inbound { counts, _page: page, _listed: listed })
    }

    /// A request has been answered.
    pub fn answered(&self, status: u16, took: Duration) {
        self.counts.answered(status, took);
    }
}
