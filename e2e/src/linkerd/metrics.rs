//! What the proxies count, as Linkerd's do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use surefoot_core::metrics::LINKERD_BOUNDARIES;
use tokio::net::TcpListener;

use super::METRICS_PORT;
use crate::backend::PORT;
use crate::sidecars;
use crate::world::Task;

/// Latencies within Linkerd's boundaries, milliseconds.
#[derive(Clone, Debug)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LINKERD_BOUNDARIES)
    }
}

type Latencies<L> = Family<L, Histogram, Buckets>;

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

/// A page with metrics.
pub trait Page: Send + Sync + 'static {
    /// The page has been asked for.
    fn asked(&self) {}
    /// Put the metrics into a registry.
    fn register(&self, registry: &mut Registry);
}

/// Which backend of which route, and what came of it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Backend {
    /// `core`.
    pub parent_group: &'static str,
    /// `Service`.
    pub parent_kind: &'static str,
    /// Of the Service that was called.
    pub parent_namespace: String,
    /// Its name.
    pub parent_name: String,
    /// Of the route.
    pub route_kind: &'static str,
    /// Its name.
    pub route_name: String,
    /// `Service`.
    pub backend_kind: &'static str,
    /// Of the Service that was chosen.
    pub backend_namespace: String,
    /// Its name.
    pub backend_name: String,
    /// Of the response, if there was one.
    pub http_status: String,
    /// Why there was none, or not all of it.
    pub error: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Destination {
    direction: &'static str,
    dst_namespace: String,
    dst_service: String,
    target_ip: String,
    status_code: u16,
}

/// What a client's proxy counts.
#[derive(Debug)]
pub struct Outbound {
    statuses: Family<Backend, Counter>,
    latencies: Latencies<Destination>,
}

impl Default for Outbound {
    fn default() -> Self {
        let latencies = Family::new_with_constructor(Buckets);
        Self { statuses: Family::default(), latencies }
    }
}

impl Outbound {
    /// A request to a backend has ended.
    pub fn ended(&self, backend: &Backend) {
        self.statuses.get_or_create(backend).inc();
    }

    /// A pod has answered.
    pub fn answered(&self, backend: &Backend, target: SocketAddr, status: u16, took: Duration) {
        let labels = Destination {
            direction: "outbound",
            dst_namespace: backend.backend_namespace.clone(),
            dst_service: backend.backend_name.clone(),
            target_ip: target.ip().to_string(),
            status_code: status,
        };
        self.latencies.get_or_create(&labels).observe(millis(took));
    }
}

impl Page for Outbound {
    fn register(&self, registry: &mut Registry) {
        let help = "Completed responses";
        let name = "outbound_http_route_backend_response_statuses";
        registry.register(name, help, self.statuses.clone());
        registry.register("response_latency_ms", "Latencies", self.latencies.clone());
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    direction: &'static str,
    srv_port: u16,
    route_name: &'static str,
    status_code: u16,
    classification: &'static str,
    grpc_status: &'static str,
    error: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Status {
    direction: &'static str,
    srv_port: u16,
    route_name: &'static str,
    status_code: u16,
}

/// What a pod's proxy counts.
#[derive(Debug)]
pub struct Inbound {
    responses: Family<Answer, Counter>,
    latencies: Latencies<Status>,
}

impl Default for Inbound {
    fn default() -> Self {
        let latencies = Family::new_with_constructor(Buckets);
        Self { responses: Family::default(), latencies }
    }
}

impl Inbound {
    /// The pod has answered.
    pub fn answered(&self, status_code: u16, took: Duration) {
        self.counted(PORT, "default", status_code, took);
    }

    /// The server at a port of the pod has answered a request that came by a route of this name.
    fn counted(&self, srv_port: u16, route_name: &'static str, status_code: u16, took: Duration) {
        let direction = "inbound";
        let classification = if status_code < 500 { "success" } else { "failure" };
        let labels = Answer {
            direction,
            srv_port,
            route_name,
            status_code,
            classification,
            grpc_status: "",
            error: "",
        };
        self.responses.get_or_create(&labels).inc();
        let labels = Status { direction, srv_port, route_name, status_code };
        self.latencies.get_or_create(&labels).observe(millis(took));
    }
}

impl Page for Inbound {
    /// Scrapes and the kubelet's probes come by the proxy too, and are counted with the rest. (There is a
    /// probe with each scrape here.)
    fn asked(&self) {
        self.counted(METRICS_PORT, "default", 200, Duration::ZERO);
        self.counted(PORT, "probe", 200, Duration::ZERO);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("response", "Responses", self.responses.clone());
        registry.register("response_latency_ms", "Latencies", self.latencies.clone());
    }
}

/// Serve a page until the task is dropped.
pub async fn serve<P: Page>(address: SocketAddr, page: Arc<P>) -> Result<Task> {
    let app = Router::new().route("/metrics", get(metrics::<P>)).with_state(page);
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("binding {address}"))?;
    Ok(Task(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            eprintln!("linkerd: {error:#}");
        }
    })))
}

async fn metrics<P: Page>(State(page): State<Arc<P>>) -> Response {
    page.asked();
    let mut registry = Registry::default();
    page.register(&mut registry);
    sidecars::page(&registry)
}
