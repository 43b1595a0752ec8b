//! A cluster in memory with an application, its traffic and the real controller, in virtual time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use kube::Client;
use kube_sandbox::{Answer as Reply, Body, Controllers, Request, Sandbox, Settings as Kubelet};
use mesh_sandbox::{Behaviour, Destination, Load, Mesh, Pod, Route, Settings, World};
use serde_json::{Value, json};
use surefoot::clock::Clock;
use surefoot::controller::hold::Hold;
use surefoot::controller::telemetry::Telemetry;
use surefoot::controller::{Options, Outside, compete};
use surefoot::outbound::{Answer, Outbound, OutboundError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::gate::Gate;

pub const NS: &str = "prod";
pub const ROLLOUT: &str = "/apis/surefoot.dev/v1alpha1/namespaces/prod/rollouts/shop";
pub const ACTIONS: &str = "/apis/surefoot.dev/v1alpha1/namespaces/prod/rolloutactions";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/prod/deployments";
pub const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/prod/deployments/shop";
pub const SETS: &str = "/apis/apps/v1/namespaces/prod/replicasets";
pub const ROUTE: &str = "/apis/networking.istio.io/v1/namespaces/prod/virtualservices/shop";
pub const SERVICES: &str = "/api/v1/namespaces/prod/services";
pub const PODS: &str = "/api/v1/namespaces/prod/pods";

/// A story that takes longer, in virtual time, has failed.
const LIMIT: Duration = Duration::from_secs(1800);
/// How long a frozen controller stays so: longer than its lease and all limits on calls.
pub const FROZEN: Duration = Duration::from_secs(30);

/// What a run is told to do wrong beside the sandbox's plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trouble {
    /// The first controller freezes before this call of its, while a second one stands by.
    pub freeze_at: u64,
}

/// What the traffic and Prometheus are like.
struct Metrics {
    mesh: Mesh,
    world: World,
    /// Whether v2 fails half of its requests from now on.
    bad: bool,
    /// Whether Prometheus answers with 500.
    down: bool,
}

/// The cluster.
pub struct Cluster {
    pub sandbox: Sandbox,
    clock: Clock,
    metrics: Arc<Mutex<Metrics>>,
    _controllers: Controllers,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub fn template(version: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "shop", "version": version}},
        "spec": {"containers": [{"name": "shop", "image": format!("registry.test/shop:{version}")}]},
    })
}

pub fn read(reply: Reply) -> (u16, Value) {
    match reply.body {
        Body::Json(value) | Body::Typed(_, value) => (reply.code, value),
        Body::Text(text) => (reply.code, text.into()),
        Body::Watch(_) => (reply.code, Value::Null),
    }
}

impl Cluster {
    /// Version v1 runs and the objects of its delivery are there; no controller yet.
    pub async fn start(seed: u64, spec: &Value) -> Arc<Self> {
        let start = Timestamp::from_second(1_767_225_600).unwrap_or_default();
        let clock = Clock::Tokio { start, since: Instant::now() };
        let sandbox = Sandbox::builder().seed(seed).history(100_000).build();
        let kubelet = Kubelet { ready_after: Duration::from_secs(1), ends_after: Duration::ZERO };
        let controllers = Controllers::start(&sandbox, kubelet);
        let bad = Behaviour { failing: 0.5, ..Behaviour::default() };
        let settings = Settings {
            scrape_interval: Duration::from_secs(1),
            propagation: Duration::from_millis(200),
            load: Load { rps: 100.0, ..Load::default() },
            behaviour: Behaviour { failing: 0.0, ..Behaviour::default() },
            versions: BTreeMap::from([("bad".to_owned(), bad)]),
            ..Settings::default()
        };
        let mut mesh = Mesh::new(seed, settings);
        let world = World::default();
        mesh.advance(clock.now(), &world);
        let metrics = Arc::new(Mutex::new(Metrics { mesh, world, bad: false, down: false }));
        let cluster = Arc::new(Self {
            sandbox,
            clock,
            metrics,
            _controllers: controllers,
            tasks: Mutex::default(),
        });
        cluster.furnish(spec);
        cluster.until("v1 to run", |c| c.get(DEPLOYMENT)["status"]["availableReplicas"] == 4).await;
        let traffic = tokio::spawn(flow(cluster.clone()));
        lock(&cluster.tasks).push(traffic);
        tokio::time::sleep(Duration::from_secs(15)).await;
        cluster
    }

    fn furnish(&self, spec: &Value) {
        for (_, yaml) in surefoot::crds::files().unwrap() {
            let definition = serde_saphyr::from_str(&yaml).unwrap();
            self.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition);
        }
        for (plural, kind) in
            [("virtualservices", "VirtualService"), ("destinationrules", "DestinationRule")]
        {
            self.post(
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                &definition(plural, kind),
            );
        }
        for name in [NS, "surefoot-system"] {
            self.post("/api/v1/namespaces", &json!({"metadata": {"name": name}}));
        }
        for name in ["shop", "shop-stable", "shop-canary"] {
            let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {"app": "shop"}, "ports": ports},
            });
            self.post(SERVICES, &service);
        }
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "shop"}}, "template": template("v1")},
        });
        self.post(DEPLOYMENTS, &deployment);
        let to = |name: &str, weight: u32| json!({"destination": {"host": format!("{name}.prod.svc.cluster.local")}, "weight": weight});
        let route = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "shop"},
            "spec": {"hosts": ["shop.prod.test"], "http": [{
                "name": "primary", "timeout": "2s", "retries": {"attempts": 0},
                "route": [to("shop-stable", 100), to("shop-canary", 0)],
            }]},
        });
        self.post(ROUTE.trim_end_matches("/shop"), &route);
        let source = json!({
            "apiVersion": "surefoot.dev/v1alpha1", "kind": "MetricsSource", "metadata": {"name": "default"},
            "spec": {"prometheus": {"url": "http://prometheus.test:9090"}},
        });
        self.post("/apis/surefoot.dev/v1alpha1/namespaces/prod/metricssources", &source);
        let rollout = json!({
            "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "shop"},
            "spec": spec,
        });
        self.post(ROLLOUT.trim_end_matches("/shop"), &rollout);
    }

    pub fn get(&self, uri: &str) -> Value {
        read(self.sandbox.handle(&Request::get(uri))).1
    }

    pub fn items(&self, uri: &str) -> Vec<Value> {
        self.get(uri)["items"].as_array().cloned().unwrap_or_default()
    }

    fn send(&self, method: Method, uri: &str, media: &str, body: &Value) {
        let request = Request::with(method, uri, media, body.to_string());
        let (code, answer) = read(self.sandbox.handle(&request));
        assert!(code < 300, "{uri}: {answer}");
    }

    pub fn post(&self, uri: &str, body: &Value) {
        self.send(Method::POST, uri, "application/json", body);
    }

    pub fn merge(&self, uri: &str, body: &Value) {
        self.send(Method::PATCH, uri, "application/merge-patch+json", body);
    }

    pub fn delete(&self, uri: &str) {
        self.send(Method::DELETE, uri, "application/json", &json!({}));
    }

    /// From now on the canary's pods fail.
    pub fn spoil(&self) {
        lock(&self.metrics).bad = true;
    }

    /// Prometheus answers no more.
    pub fn blind(&self) {
        lock(&self.metrics).down = true;
    }

    /// Wait for the moment when something holds; looked at with every write.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut versions = self.sandbox.versions();
        let wait = async {
            while !holds(self) {
                let _ = versions.changed().await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        assert!(waited.is_ok(), "never: {what}: {}", self.get(ROLLOUT)["status"]["message"]);
    }

    /// Start the controller, and start it anew, under another name, whenever it dies.
    pub fn operate(self: &Arc<Self>, trouble: Trouble) {
        let (frozen, _) = watch::channel(false);
        let frozen = Arc::new(frozen);
        let (cluster, ice) = (self.clone(), frozen.clone());
        let first = tokio::spawn(async move {
            for number in 1.. {
                let freeze_at = if number == 1 { trouble.freeze_at } else { 0 };
                cluster.run(&format!("controller-{number}"), freeze_at, ice.clone()).await;
            }
        });
        lock(&self.tasks).push(first);
        if trouble.freeze_at == 0 {
            return;
        }
        let cluster = self.clone();
        let second = tokio::spawn(async move {
            let never = Arc::new(watch::channel(false).0);
            for number in 1.. {
                // It must not be the first to lead.
                tokio::time::sleep(Duration::from_millis(500)).await;
                cluster.run(&format!("standby-{number}"), 0, never.clone()).await;
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
    async fn run(&self, name: &str, freeze_at: u64, frozen: Arc<watch::Sender<bool>>) {
        let mut crashes = self.sandbox.crashes();
        let gate = Gate::new(self.sandbox.service(name), freeze_at, frozen.clone());
        let outside = Outside {
            client: Client::new(gate, NS),
            clock: self.clock,
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

    /// Prometheus, as a controller reaches it.
    fn outbound(&self, frozen: Arc<watch::Sender<bool>>) -> Outbound {
        let (metrics, clock) = (self.metrics.clone(), self.clock);
        Outbound::inside(Arc::new(move |request| {
            let (metrics, mut frozen) = (metrics.clone(), frozen.subscribe());
            Box::pin(async move {
                let _ = frozen.wait_for(|frozen| !frozen).await;
                let mut metrics = lock(&metrics);
                if metrics.down {
                    return Ok(Answer { status: 500, retry_after: None, body: Vec::new() });
                }
                metrics.advance(clock.now());
                let url = request.url();
                let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
                let pairs: Vec<(&str, &str)> =
                    pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                let answer = metrics.mesh.answer(url.path(), &pairs);
                Ok::<_, OutboundError>(Answer {
                    status: answer.status,
                    retry_after: None,
                    body: answer.body.into_bytes(),
                })
            })
        }))
    }

    /// How things stand: pods, and the route's weights.
    fn world(&self, bad: bool) -> World {
        let strings = |value: &Value| -> BTreeMap<String, String> {
            serde_json::from_value(value.clone()).unwrap_or_default()
        };
        let pod = |pod: &Value| {
            let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str);
            let labels = strings(&pod["metadata"]["labels"]);
            let version = labels.get("version").cloned().unwrap_or_default();
            let spoilt = version == "bad" || (bad && version == "v2");
            // A pod that turns bad is another one to the mesh, which fixes behaviour at birth.
            let suffix = if spoilt && version != "bad" { "-bad" } else { "" };
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let ready = conditions
                .filter(|c| c["type"] == "Ready" && c["status"] == "True")
                .find_map(|c| c["lastTransitionTime"].as_str()?.parse().ok());
            Some(Pod {
                namespace: NS.to_owned(),
                name: format!("{}{suffix}", text("/metadata/name")?),
                ip: text("/status/podIP")?.to_owned(),
                version: if spoilt { "bad".to_owned() } else { version },
                labels,
                workload: "shop".to_owned(),
                started: text("/status/startTime")?.parse().ok()?,
                ready_since: ready,
            })
        };
        let route = self.get(ROUTE);
        let destinations =
            route["spec"]["http"][0]["route"].as_array().cloned().unwrap_or_default();
        let destination = |to: &Value| {
            let host = to["destination"]["host"].as_str()?;
            let service = host.split('.').next()?.to_owned();
            let selector = strings(&self.get(&format!("{SERVICES}/{service}"))["spec"]["selector"]);
            Some(Destination {
                service,
                selector,
                weight: u32::try_from(to["weight"].as_u64()?).ok()?,
            })
        };
        let route = Route {
            namespace: NS.to_owned(),
            name: "shop".to_owned(),
            apex: strings(&self.get(&format!("{SERVICES}/shop"))["spec"]["selector"]),
            destinations: destinations.iter().filter_map(destination).collect(),
        };
        World { pods: self.items(PODS).iter().filter_map(pod).collect(), routes: vec![route] }
    }

    /// Let go of everything that runs.
    pub fn stop(&self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

impl Metrics {
    fn advance(&mut self, now: Timestamp) {
        let world = std::mem::take(&mut self.world);
        self.mesh.advance(now, &world);
        self.world = world;
    }
}

/// The mesh follows the cluster: what was, up to each change; what is, from then on.
async fn flow(cluster: Arc<Cluster>) {
    let mut versions = cluster.sandbox.versions();
    loop {
        {
            let mut metrics = lock(&cluster.metrics);
            metrics.advance(cluster.clock.now());
            let bad = metrics.bad;
            metrics.world = cluster.world(bad);
        }
        // Leases change every second; what matters in between comes with a change of its own.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), versions.changed()).await;
    }
}

fn definition(plural: &str, kind: &str) -> Value {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.networking.istio.io")},
        "spec": {
            "group": "networking.istio.io", "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}},
            }],
        },
    })
}
