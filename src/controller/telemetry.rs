//! What the controller says of itself: `/metrics`, `/healthz`, `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use surefoot_core::api::status::Phase;
use surefoot_core::write::Kind;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Cause {
    verb: &'static str,
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Result_ {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Delivered {
    kind: &'static str,
    result: &'static str,
}

/// Counters and the state of the process. Label sets are fixed: no names of users' objects.
#[derive(Clone, Default)]
pub struct Telemetry {
    calls: Family<Cause, Counter>,
    reconciles: Family<Result_, Counter>,
    ended: Family<Ended, Counter>,
    deliveries: Family<Delivered, Counter>,
    leading: Gauge,
    ready: Arc<AtomicBool>,
}

impl Telemetry {
    /// A read of the API server, outside of watches.
    pub fn read(&self, kind: Kind) {
        let cause = match kind {
            Kind::Rollout => "rollout",
            Kind::Deployment => "deployment",
            Kind::ReplicaSet => "replicaset",
            Kind::Service => "service",
            Kind::VirtualService => "virtualservice",
            Kind::HTTPRoute => "httproute",
            Kind::GRPCRoute => "grpcroute",
            Kind::DestinationRule => "destinationrule",
            Kind::RolloutAction => "rolloutaction",
        };
        self.calls.get_or_create(&Cause { verb: "read", cause }).inc();
    }

    /// A read of a Secret, by its name.
    pub fn secret(&self) {
        self.calls.get_or_create(&Cause { verb: "read", cause: "secret" }).inc();
    }

    /// An attempt to deliver news: an Event or a message, and what came of it.
    pub fn delivered(&self, kind: &'static str, result: &'static str) {
        self.deliveries.get_or_create(&Delivered { kind, result }).inc();
    }

    /// Messages that will never be sent: their channel was out of reach for too long.
    pub fn given_up(&self, count: i64) {
        let count = u64::try_from(count).unwrap_or(0);
        if count > 0 {
            let kind = Delivered { kind: "slack", result: "GaveUp" };
            self.deliveries.get_or_create(&kind).inc_by(count);
        }
    }

    /// A write to the API server.
    pub fn write(&self, cause: &'static str) {
        self.calls.get_or_create(&Cause { verb: "write", cause }).inc();
    }

    /// A reconcile that ended.
    pub fn reconciled(&self, result: &'static str) {
        self.reconciles.get_or_create(&Result_ { result }).inc();
    }

    /// A Rollout's phase went from one to another.
    pub fn phase(&self, from: Phase, to: Phase) {
        let outcome = match (from, to) {
            (Phase::Promoting, Phase::Healthy) => "promoted",
            (Phase::RollingBack, Phase::Degraded) => "rolled_back",
            _ => return,
        };
        self.ended.get_or_create(&Ended { outcome }).inc();
    }

    /// Whether this process leads.
    pub fn leads(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }

    /// The API server answers and, as the leader, all watches have been listed.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("surefoot");
        let help = "Calls to the Kubernetes API outside of watches, the Lease and Events";
        registry.register("api_calls", help, self.calls.clone());
        registry.register("reconciles", "Reconciles by their result", self.reconciles.clone());
        registry.register("releases_ended", "Releases by how they ended", self.ended.clone());
        let help = "Attempts to deliver Events and messages, by what came of them";
        registry.register("deliveries", help, self.deliveries.clone());
        registry.register("leading", "Whether this process holds the Lease", self.leading.clone());
        if let Some((resident, cpu)) = process() {
            let memory: Gauge = Gauge::default();
            memory.set(resident);
            let help = "Resident memory of this process";
            registry.register_with_unit("process_resident_memory", help, Unit::Bytes, memory);
            let seconds: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
            seconds.set(cpu);
            let help = "Processor time of this process";
            registry.register_with_unit("process_cpu", help, Unit::Seconds, seconds);
        }
        registry
    }
}

/// Resident bytes and processor seconds, where the system tells.
fn process() -> Option<(i64, f64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    let kilobytes: i64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields after the name in parentheses; user and system time are the 12th and 13th of them, in
    // ticks of a hundredth of a second (USER_HZ, the same on every Linux).
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((kilobytes * 1024, (user + system) / 100.0))
}

/// Serve the three endpoints.
///
/// # Errors
/// When the address can't be listened on.
pub async fn serve(address: SocketAddr, telemetry: Telemetry) -> Result<()> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(telemetry);
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}"))?;
    tracing::info!(%address, "serving /metrics, /healthz and /readyz");
    axum::serve(listener, app).await.context("serving metrics")
}

async fn ready(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    if telemetry.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the API server hasn't answered, or not all that is watched has been listed yet\n",
        )
    }
}

async fn metrics(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    let mut body = String::new();
    // Writing to a String can't fail.
    let _ = text::encode(&mut body, &telemetry.registry());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], body)
}
