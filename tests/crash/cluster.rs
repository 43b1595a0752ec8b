//! A cluster in memory with an application, its traffic and the real controller, in virtual time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube_sandbox::Settings as Kubelet;
use mesh_sandbox::{Behaviour, Load, Settings};
use serde_json::Value;
use surefoot::controller::hold::Hold;
use surefoot::controller::telemetry::Telemetry;
use surefoot::controller::{Options, Outside, compete};
use surefoot::outbound::Outbound;
use surefoot::sandbox::{App, Cluster as Sandboxed, Conditions, Delivery};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::branch::Branches;
use crate::gate::Gate;

pub const NS: &str = "prod";
pub const ROLLOUT: &str = "/apis/surefoot.dev/v1alpha1/namespaces/prod/rollouts/shop";
pub const ACTIONS: &str = "/apis/surefoot.dev/v1alpha1/namespaces/prod/rolloutactions";
pub const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/prod/deployments/shop";
pub const SETS: &str = "/apis/apps/v1/namespaces/prod/replicasets";
pub const SERVICES: &str = "/api/v1/namespaces/prod/services";

/// A story that takes longer, in virtual time, has failed.
const LIMIT: Duration = Duration::from_secs(1800);
/// How long a frozen controller stays so: longer than its lease and all limits on calls.
pub const FROZEN: Duration = Duration::from_secs(12);

/// The cluster.
pub struct Cluster {
    pub inner: Sandboxed,
    delivery: Delivery,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How the pods of a version answer that fails half of its requests.
fn bad() -> Behaviour {
    Behaviour { failing: 0.5, ..Behaviour::default() }
}

impl Cluster {
    /// Version v1 runs and the objects of its delivery are there; no controller yet.
    pub async fn start(seed: u64, spec: &Value) -> Arc<Self> {
        let mesh = Settings {
            kind: serde_json::from_value(spec["traffic"]["mesh"].clone()).unwrap(),
            scrape_interval: Duration::from_secs(1),
            propagation: Duration::from_millis(200),
            load: Load { rps: 1000.0, ..Load::default() },
            behaviour: Behaviour { failing: 0.0, ..Behaviour::default() },
            versions: BTreeMap::from([("bad".to_owned(), bad())]),
            ..Settings::default()
        };
        let inner = Sandboxed::start(Conditions {
            seed,
            start: Timestamp::from_second(1_767_225_600).unwrap(),
            history: 100_000,
            kubelet: Kubelet { ready_after: Duration::from_secs(1), ends_after: Duration::ZERO },
            mesh,
            character: str::to_owned,
        })
        .unwrap();
        let app = App {
            namespace: NS.to_owned(),
            name: "shop".to_owned(),
            spec: spec.clone(),
            replicas: 4,
            version: "v1".to_owned(),
        };
        let delivery = inner.furnish(&app).unwrap();
        let cluster = Arc::new(Self { inner, delivery, tasks: Mutex::default() });
        cluster.until("v1 to run", |c| c.get(DEPLOYMENT)["status"]["availableReplicas"] == 4).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        cluster
    }

    pub fn get(&self, uri: &str) -> Value {
        self.inner.get(uri)
    }

    /// The routes.
    pub fn routes(&self) -> Vec<Value> {
        self.delivery.route_paths().iter().map(|path| self.get(path)).collect()
    }

    /// The canary's weight on the first of them.
    pub fn weight(&self) -> i64 {
        self.delivery.weight(&self.inner)
    }

    pub fn items(&self, uri: &str) -> Vec<Value> {
        self.inner.items(uri)
    }

    pub fn post(&self, uri: &str, body: &Value) {
        self.inner.post(uri, body).unwrap();
    }

    pub fn merge(&self, uri: &str, body: &Value) {
        self.inner.merge(uri, body).unwrap();
    }

    pub fn delete(&self, uri: &str) {
        self.inner.delete(uri).unwrap();
    }

    /// From now on the canary's pods fail.
    pub fn spoil(&self) {
        self.inner.mesh(|mesh| mesh.behave("v2", bad()));
    }

    /// Prometheus answers no more.
    pub fn blind(&self) {
        self.inner.blind(true);
    }

    /// Wait for the moment when something holds; looked at with every write.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let came = self.inner.until(LIMIT, |_| holds(self)).await;
        assert!(came, "never: {what}: {}", self.get(ROLLOUT)["status"]["message"]);
    }

    /// Start the controller, and start it anew, under another name, whenever it dies. Where it may freeze
    /// a second one stands by.
    pub fn operate(self: &Arc<Self>, freezes: Option<Arc<Branches>>) {
        let (frozen, _) = watch::channel(false);
        let frozen = Arc::new(frozen);
        let (cluster, ice, branches) = (self.clone(), frozen.clone(), freezes.clone());
        let first = tokio::spawn(async move {
            for number in 1.. {
                let name = format!("controller-{number}");
                cluster.run(&name, branches.clone(), ice.clone()).await;
            }
        });
        lock(&self.tasks).push(first);
        if freezes.is_none() {
            return;
        }
        let cluster = self.clone();
        let second = tokio::spawn(async move {
            let never = Arc::new(watch::channel(false).0);
            for number in 1.. {
                // It must not be the first to lead.
                tokio::time::sleep(Duration::from_millis(500)).await;
                cluster.run(&format!("standby-{number}"), None, never.clone()).await;
            }
        });
        let thaw = tokio::spawn(async move {
            let mut is = frozen.subscribe();
            if is.wait_for(|frozen| *frozen).await.is_ok() {
                tokio::time::sleep(FROZEN).await;
                frozen.send_replace(false);
            }
        });
        lock(&self.tasks).extend([second, thaw]);
    }

    /// One process, until it dies.
    async fn run(
        &self,
        name: &str,
        branches: Option<Arc<Branches>>,
        frozen: Arc<watch::Sender<bool>>,
    ) {
        let mut crashes = self.inner.api.crashes();
        let gate = Gate::new(self.inner.api.service(name), name, branches, frozen.clone());
        let outside = Outside {
            client: Client::new(gate, NS),
            clock: self.inner.clock,
            http: Arc::new(self.outbound(frozen)),
        };
        let options = Options {
            namespace: Some(NS.to_owned()),
            hold: Hold::Paused,
            listen: ([127, 0, 0, 1], 0).into(),
            lease_namespace: "surefoot-system".to_owned(),
            lease: None,
            identity: name.to_owned(),
        };
        let process = compete(outside, options, Telemetry::default(), std::future::pending());
        tokio::select! {
            _ = crashes.changed() => {}
            _ = process => {}
        }
        // As long as a container takes to come up again.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// Prometheus, as a controller that may be frozen reaches it.
    fn outbound(&self, frozen: Arc<watch::Sender<bool>>) -> Outbound {
        let prometheus = Arc::new(self.inner.prometheus());
        Outbound::inside(Arc::new(move |request| {
            let (prometheus, mut frozen) = (prometheus.clone(), frozen.subscribe());
            Box::pin(async move {
                let _ = frozen.wait_for(|frozen| !frozen).await;
                Ok(prometheus(request.url()))
            })
        }))
    }

    /// Let go of everything that runs.
    pub fn stop(&self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}
