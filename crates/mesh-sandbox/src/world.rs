//! What the caller says: how things stand in the cluster, and how its traffic is.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Sub};
use std::time::Duration;

use jiff::Timestamp;
use surefoot_core::api::rollout;
use surefoot_sim::traffic::{Failures, Latency};

/// Names and values of labels, or those that a selector asks for.
pub type Pairs = BTreeMap<String, String>;

/// How things stand: pods, and where requests are to go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// All pods with a proxy.
    pub pods: Vec<Pod>,
    /// All routes with traffic.
    pub routes: Vec<Route>,
}

/// A pod and its proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: String,
    /// Its labels.
    pub labels: Pairs,
    /// The workload that it is of, such as a Deployment's name.
    pub workload: String,
    /// The version that it runs: how that behaves is in [`Settings::versions`].
    pub version: String,
    /// When its proxy started. Where that changes its counters begin anew.
    pub started: Timestamp,
    /// Since when it is ready; `None`: it is not.
    pub ready_since: Option<Timestamp>,
}

/// A route, such as one entry of a VirtualService.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its namespace.
    pub namespace: String,
    /// Its name: what traffic it has is in [`Settings::loads`].
    pub name: String,
    /// The Service that callers name.
    pub called: String,
    /// Whether its requests are gRPC calls; on Istio proxies tell them as HTTP all the same here.
    pub grpc: bool,
    /// The labels of the pods that callers without a proxy reach: those of the Service.
    pub apex: Pairs,
    /// Where requests go.
    pub destinations: Vec<Destination>,
}

/// A Service, or a subset of its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The Service's name; its namespace is the route's.
    pub service: String,
    /// The labels of the pods that are meant, those of a subset among them.
    pub selector: Pairs,
    /// Its share, relative to the others'.
    pub weight: u32,
}

/// What callers of a route got, by the Service that they were sent to ("" for those without a proxy)
/// and the version of the pod that answered ("" where nobody was there).
pub type Tallies = BTreeMap<(String, String), Tally>;

/// What callers got, the last try of each request counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests, those that nobody will answer among them.
    pub requests: u64,
    /// Those that failed, or wait in vain.
    pub failed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.failed += more.failed;
    }
}

impl Sub for Tally {
    type Output = Self;

    /// What came after an earlier moment.
    fn sub(self, earlier: Self) -> Self {
        Self { requests: self.requests - earlier.requests, failed: self.failed - earlier.failed }
    }
}

/// What is true of the traffic, and how it is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Whose mesh it is: how its proxies speak of requests, and what they make of a destination without
    /// pods.
    pub kind: rollout::Mesh,
    /// Prometheus' scrape interval; traffic flows in tenths of it.
    pub scrape_interval: Duration,
    /// How long after a change of weights requests follow it.
    pub propagation: Duration,
    /// How long samples are kept.
    pub retention: Duration,
    /// No more series are kept.
    pub most_series: usize,
    /// The traffic of routes, by `namespace/name`.
    pub loads: BTreeMap<String, Load>,
    /// The traffic of all others.
    pub load: Load,
    /// How versions behave.
    pub versions: BTreeMap<String, Behaviour>,
    /// How all others do.
    pub behaviour: Behaviour,
}

impl Default for Settings {
    /// Istio; scrapes every 15 s, kept for three hours; 100 requests a second, of which 1 in 1,000 fails.
    fn default() -> Self {
        Self {
            kind: rollout::Mesh::Istio,
            scrape_interval: Duration::from_secs(15),
            propagation: Duration::from_secs(1),
            retention: Duration::from_secs(3 * 3600),
            most_series: 100_000,
            loads: BTreeMap::new(),
            load: Load::default(),
            versions: BTreeMap::new(),
            behaviour: Behaviour::default(),
        }
    }
}

/// Requests that come to a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// A second, on the average of a day.
    pub rps: f64,
    /// By what share of that the busiest hour, 18:00 UTC, is above and the calmest one below.
    pub day: f64,
    /// Each minute differs by a log-normal factor of mean 1 with this coefficient of variation.
    pub noise: f64,
    /// The share that comes from callers without a proxy, whom no weight guides.
    pub unmeshed: f64,
    /// How often the caller's proxy tries again when a pod answers that it failed.
    pub retries: u32,
    /// After how long the caller's proxy gives up.
    pub timeout: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            rps: 100.0,
            day: 0.0,
            noise: 0.0,
            unmeshed: 0.0,
            retries: 0,
            timeout: Duration::from_secs(15),
        }
    }
}

/// How the pods of a version answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    /// The share of requests that fail with status 500.
    pub failing: f64,
    /// How those hang together.
    pub failures: Failures,
    /// How long answers take.
    pub latency: Latency,
    /// For how long after it became ready a pod is cold.
    pub cold: Duration,
    /// How many times as long a cold pod takes.
    pub slower: f64,
    /// The share of requests that are never answered.
    pub hanging: f64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            failing: 0.001,
            failures: Failures::Independent,
            latency: Latency { median: 20.0, p99: 200.0 },
            cold: Duration::ZERO,
            slower: 1.0,
            hanging: 0.0,
        }
    }
}
