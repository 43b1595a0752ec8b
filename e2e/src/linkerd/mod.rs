//! A stand-in for Linkerd, whose proxy and policy controller are in no package registry that this
//! repository builds from. It is not Linkerd: it plays, for one namespace, the little of it that a
//! release meets, by the rules that Linkerd's documentation and sources give.
//!
//! | Linkerd | here |
//! |---|---|
//! | policy controller | [`policy`] writes the status of HTTPRoutes |
//! | proxy of a client (outbound) | [`outbound`] splits each request by weight among backends that have ready endpoints |
//! | proxy of a pod (inbound) | [`inbound`] counts what the pod answers, where it answers |
//!
//! The metrics have Linkerd's names, labels and buckets, on port 4191. What is left out: mutual TLS,
//! gRPC and HTTP/2, retries, ServiceProfiles' own rules, and that series without requests vanish.

pub mod inbound;
mod metrics;
mod outbound;
mod policy;
mod rules;
mod seen;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Result;

use crate::load::Entry;
use crate::sidecars::Listed;
use crate::world::{Scene, Task};

/// The annotation by which pods get a proxy of Linkerd's, as its injector has it.
pub const INJECT: &str = "linkerd.io/inject";
/// Where proxies tell their metrics.
pub const METRICS_PORT: u16 = 4191;
/// Where a client's proxy takes its requests.
pub const OUTBOUND_PORT: u16 = 4140;

/// The running stand-in. It ends when dropped.
pub struct Linkerd {
    client: Ipv4Addr,
    _listed: Listed,
    _tasks: Vec<Task>,
}

impl Linkerd {
    /// A policy controller for the scenario's namespace, and a client there with a proxy.
    pub async fn start(scene: &Scene) -> Result<Linkerd> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let client = Ipv4Addr::new(127, 0, 2, NEXT.fetch_add(1, Ordering::Relaxed));
        let (seen, mut tasks) = seen::Seen::start(scene.client(), &scene.namespace);
        let seen = Arc::new(seen);
        tasks.push(Task(tokio::spawn(policy::run(Arc::clone(&seen)))));
        let counts = Arc::new(metrics::Outbound::default());
        let at = |port| SocketAddr::from((client, port));
        tasks.push(outbound::start(at(OUTBOUND_PORT), seen, Arc::clone(&counts)).await?);
        tasks.push(metrics::serve(at(METRICS_PORT), counts).await?);
        let sidecars = &scene.world.behaviours.sidecars;
        let listed = sidecars.list(at(METRICS_PORT), &scene.namespace, "client");
        Ok(Linkerd { client, _listed: listed, _tasks: tasks })
    }

    /// By the client's proxy.
    pub fn entry(&self) -> Entry {
        Entry::Linkerd(self.client)
    }
}
