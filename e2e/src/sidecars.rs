//! What the pods' own proxies would report, played: the pods have none, so what they serve is
//! counted where they answer, and told under the names that Istio's proxies use
//! (`reporter="destination"`). Prometheus learns of the pods by its HTTP discovery.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Where Prometheus asks; `config/prometheus.yml` says the same.
pub const ADDRESS: &str = "127.0.0.1:9091";
/// The port that Istio's proxies are scraped at; it only names the instance here.
const INSTANCE_PORT: u16 = 15020;
/// Istio's boundaries, milliseconds.
const BOUNDARIES: [f64; 15] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0,
    30_000.0, 60_000.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    reporter: &'static str,
    destination_workload_namespace: String,
    request_protocol: &'static str,
    response_code: u16,
    response_flags: &'static str,
}

/// One pod's proxy. Gone from the discovery when dropped.
#[derive(Debug)]
pub struct Sidecar {
    key: Key,
    counts: Arc<Counts>,
    all: Sidecars,
}

/// A namespace and a pod's name.
type Key = (String, String);

#[derive(Debug)]
struct Counts {
    address: Ipv4Addr,
    namespace: String,
    requests: Family<Labels, Counter>,
    durations: Family<Labels, Histogram>,
}

/// All of them. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct Sidecars {
    counts: Arc<RwLock<BTreeMap<Key, Arc<Counts>>>>,
    listed: Arc<RwLock<BTreeMap<SocketAddr, Key>>>,
}

/// A proxy that tells its metrics on an address of its own. Gone from the discovery when dropped.
#[derive(Debug)]
pub struct Listed {
    address: SocketAddr,
    all: Sidecars,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.all.listed.write().unwrap_or_else(PoisonError::into_inner).remove(&self.address);
    }
}

impl Sidecars {
    /// A proxy that has counted nothing yet.
    pub fn start(&self, namespace: &str, pod: &str, address: Ipv4Addr) -> Sidecar {
        let counts = Arc::new(Counts {
            address,
            namespace: namespace.to_owned(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BOUNDARIES)),
        });
        let key = (namespace.to_owned(), pod.to_owned());
        self.write().insert(key.clone(), Arc::clone(&counts));
        Sidecar { key, counts, all: self.clone() }
    }

    /// Let Prometheus scrape a proxy of Linkerd's, of this namespace and pod, at an address.
    pub fn list(&self, address: SocketAddr, namespace: &str, pod: &str) -> Listed {
        let key = (namespace.to_owned(), pod.to_owned());
        self.listed.write().unwrap_or_else(PoisonError::into_inner).insert(address, key);
        Listed { address, all: self.clone() }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Key, Arc<Counts>>> {
        self.counts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Key, Arc<Counts>>> {
        self.counts.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tell Prometheus of them until the task is aborted.
    pub async fn serve(self) -> Result<JoinHandle<()>> {
        let app = Router::new()
            .route("/discovery", get(discovery))
            .route("/metrics/{namespace}/{pod}", get(metrics))
            .with_state(self);
        let listener =
            TcpListener::bind(ADDRESS).await.with_context(|| format!("binding {ADDRESS}"))?;
        Ok(tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                eprintln!("sidecars: {error:#}");
            }
        }))
    }

    fn targets(&self) -> Value {
        let target = |((namespace, pod), counts): (&Key, &Arc<Counts>)| {
            json!({"targets": [ADDRESS], "labels": {
                "__metrics_path__": format!("/metrics/{namespace}/{pod}"),
                "instance": format!("{}:{INSTANCE_PORT}", counts.address),
                "namespace": namespace, "pod": pod,
            }})
        };
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        let elsewhere = listed.iter().map(|(address, (namespace, pod))| {
            json!({"targets": [address.to_string()], "labels": {
                "job": "linkerd-proxy", "namespace": namespace, "pod": pod,
            }})
        });
        self.read().iter().map(target).chain(elsewhere).collect()
    }
}

impl Sidecar {
    /// A request has been answered.
    pub fn answered(&self, status: u16, took: Duration) {
        let labels = Labels {
            reporter: "destination",
            destination_workload_namespace: self.counts.namespace.clone(),
            request_protocol: "http",
            response_code: status,
            response_flags: "-",
        };
        self.counts.durations.get_or_create(&labels).observe(took.as_secs_f64() * 1000.0);
        self.counts.requests.get_or_create(&labels).inc();
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.all.write().remove(&self.key);
    }
}

async fn discovery(State(sidecars): State<Sidecars>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], sidecars.targets().to_string()).into_response()
}

async fn metrics(State(sidecars): State<Sidecars>, Path(key): Path<Key>) -> Response {
    let Some(counts) = sidecars.read().get(&key).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut registry = Registry::default();
    registry.register("istio_requests", "Requests", counts.requests.clone());
    let help = "Durations of requests";
    registry.register("istio_request_duration_milliseconds", help, counts.durations.clone());
    page(&registry)
}

/// Metrics as Prometheus reads them.
pub fn page(registry: &Registry) -> Response {
    let mut body = String::new();
    match text::encode(&mut body, registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_while_it_lives() {
        let sidecars = Sidecars::default();
        let sidecar = sidecars.start("shop", "web-1", Ipv4Addr::new(10, 244, 0, 1));
        sidecar.answered(200, Duration::from_millis(3));
        let targets = sidecars.targets();
        assert_eq!(targets[0]["labels"]["pod"], "web-1");
        assert_eq!(targets[0]["labels"]["instance"], "10.244.0.1:15020");
        drop(sidecar);
        assert_eq!(sidecars.targets(), json!([]));
    }
}
