//! The cluster: its API server, its mesh and its time.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::Method;
use jiff::Timestamp;
use kube::Client;
use kube::api::ApiResource;
use kube_sandbox::{
    Answer as Reply, Body, Controllers, Machine, Request, Sandbox, Settings as Kubelet, TokioClock,
};
use mesh_sandbox::{Mesh, Settings, World};
use serde_json::{Value, json};
use surefoot_core::api::rollout;
use surefoot_core::plan::Plan;
use surefoot_core::write::Kind;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::app::{App, Object, source};
use super::delivery::Delivery;
use super::{route, seen};
use crate::client::resource;
use crate::clock::Clock;
use crate::controller::hold::Hold;
use crate::controller::telemetry::Telemetry;
use crate::controller::{Options, Outside, compete};
use crate::outbound::{Answer, Outbound};

const MERGE: &str = "application/merge-patch+json";
/// How often at most the mesh looks at the cluster.
const LOOK: Duration = Duration::from_millis(100);

/// How a cluster is to be.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// What chance comes from.
    pub seed: u64,
    /// What time it is at the beginning.
    pub start: Timestamp,
    /// How many writes are remembered.
    pub history: usize,
    /// How pods come and go.
    pub kubelet: Kubelet,
    /// The mesh and its traffic.
    pub mesh: Settings,
    /// Of an image's tag: as which of the mesh's versions its pods behave.
    pub character: fn(&str) -> String,
}

/// The traffic, and whether Prometheus tells of it.
struct Traffic {
    mesh: Mesh,
    world: World,
    down: bool,
}

/// A cluster in memory. What plays in it ends when it is dropped.
pub struct Cluster {
    /// Its API server.
    pub api: Sandbox,
    /// Its time, tokio's.
    pub clock: Clock,
    traffic: Arc<Mutex<Traffic>>,
    _controllers: Controllers,
    flow: JoinHandle<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was answered.
#[must_use]
pub fn read(reply: Reply) -> (u16, Value) {
    match reply.body {
        Body::Json(value) | Body::Typed(_, value) => (reply.code, value),
        Body::Text(text) => (reply.code, text.into()),
        Body::Watch(_) => (reply.code, Value::Null),
    }
}

fn send(api: &Sandbox, method: Method, path: &str, media: &str, body: &Value) -> Result<()> {
    let request = Request::with(method, path, media, body.to_string());
    let (code, answer) = read(api.handle(&request));
    ensure!(code < 300, "{request}: {}", answer["message"].as_str().unwrap_or_default());
    Ok(())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.flow.abort();
    }
}

impl Cluster {
    /// A cluster with the definitions of Surefoot and of the mesh, and traffic once there are routes.
    /// Call it within a tokio runtime, whose clock is the cluster's.
    ///
    /// # Errors
    /// When a definition is refused.
    pub fn start(conditions: Conditions) -> Result<Self> {
        let Conditions { seed, start, history, kubelet, mesh, character } = conditions;
        let clock = Clock::Tokio { start, since: Instant::now() };
        let api = Sandbox::builder()
            .machine(defined()?.clone())
            .seed(seed)
            .history(history)
            .clock(TokioClock::starting_at(start))
            .build();
        let controllers = Controllers::start(&api, kubelet);
        let kind = mesh.kind;
        let mut mesh = Mesh::new(seed, mesh);
        let world = World::default();
        mesh.advance(clock.now(), &world);
        let traffic = Arc::new(Mutex::new(Traffic { mesh, world, down: false }));
        let flow = tokio::spawn(flow(api.clone(), clock, traffic.clone(), character, kind));
        let cluster = Self { api, clock, traffic, _controllers: controllers, flow };
        cluster.post("/api/v1/namespaces", &json!({"metadata": {"name": "surefoot-system"}}))?;
        Ok(cluster)
    }

    /// Make an application, its namespace and its source of metrics where they are missing; what its
    /// objects are called.
    ///
    /// # Errors
    /// When an object can't be made.
    pub fn furnish(&self, app: &App) -> Result<Delivery> {
        let named = |name: &str| json!({"metadata": {"name": name}});
        self.ensure(&Object { path: "/api/v1/namespaces".into(), value: named(&app.namespace) })?;
        let plan = Plan::of(&app.rollout()?).context("the Rollout can't be followed")?;
        self.ensure(&source(&app.namespace, &plan.source))?;
        app.objects()?.iter().try_for_each(|object| self.ensure(object))?;
        Delivery::of(app)
    }

    /// Make an object, unless one of its name is there.
    ///
    /// # Errors
    /// When it is refused.
    pub fn ensure(&self, object: &Object) -> Result<()> {
        let name = object.value["metadata"]["name"].as_str().unwrap_or_default();
        if self.get(&format!("{}/{name}", object.path))["kind"] == "Status" {
            self.post(&object.path, &object.value)?;
        }
        Ok(())
    }

    /// An object, or the Status that says why there is none.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        read(self.api.handle(&Request::get(path))).1
    }

    /// The objects of a list.
    #[must_use]
    pub fn items(&self, path: &str) -> Vec<Value> {
        match self.get(path)["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    }

    /// Make an object.
    ///
    /// # Errors
    /// When it is refused.
    pub fn post(&self, path: &str, body: &Value) -> Result<()> {
        self.send(Method::POST, path, "application/json", body)
    }

    /// Change an object by a merge patch.
    ///
    /// # Errors
    /// When it is refused.
    pub fn merge(&self, path: &str, body: &Value) -> Result<()> {
        self.send(Method::PATCH, path, MERGE, body)
    }

    /// Delete an object.
    ///
    /// # Errors
    /// When that is refused.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, "application/json", &json!({}))
    }

    fn send(&self, method: Method, path: &str, media: &str, body: &Value) -> Result<()> {
        send(&self.api, method, path, media, body)
    }

    /// Wait for the moment when something holds, looked at with every write; whether it came within
    /// the limit.
    pub async fn until(&self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let mut versions = self.api.versions();
        let wait = async {
            while !holds(self) {
                // The sender lives as long as the API server.
                let _ = versions.changed().await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    /// Look at the mesh, or change it, as it is at this moment.
    pub fn mesh<T>(&self, look: impl FnOnce(&mut Mesh) -> T) -> T {
        let mut traffic = lock(&self.traffic);
        traffic.advance(self.clock.now());
        look(&mut traffic.mesh)
    }

    /// Whether Prometheus answers every question with 500.
    pub fn blind(&self, down: bool) {
        lock(&self.traffic).down = down;
    }

    /// What a process of this name works with: the API server, the time and Prometheus.
    #[must_use]
    pub fn outside(&self, name: &str) -> Outside {
        let prometheus = self.prometheus();
        let answer = move |request: reqwest::Request| {
            let answer = prometheus(request.url());
            Box::pin(async move { Ok(answer) }) as _
        };
        Outside {
            client: Client::new(self.api.service(name), "default"),
            clock: self.clock,
            http: Arc::new(Outbound::inside(Arc::new(answer))),
        }
    }

    /// The controller at work, of one namespace or of all, until it is dropped.
    pub fn operate(&self, namespace: Option<&str>) -> impl Future<Output = ()> + Send + use<> {
        let outside = self.outside("surefoot");
        let options = Options {
            namespace: namespace.map(str::to_owned),
            // There are no admission policies here.
            hold: Hold::Paused,
            listen: ([127, 0, 0, 1], 0).into(),
            lease_namespace: "surefoot-system".to_owned(),
            lease: None,
            identity: "surefoot".to_owned(),
        };
        async move {
            let never = std::future::pending();
            let ended = compete(outside, options, Telemetry::default(), never).await;
            tracing::error!(?ended, "the controller ended");
        }
    }

    /// What Prometheus answers at the moment of the question.
    pub fn prometheus(&self) -> impl Fn(&reqwest::Url) -> Answer + Send + Sync + 'static {
        let (traffic, clock) = (self.traffic.clone(), self.clock);
        move |url| {
            let mut traffic = lock(&traffic);
            if traffic.down {
                return Answer { status: 500, retry_after: None, body: Vec::new() };
            }
            traffic.advance(clock.now());
            let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
            let pairs: Vec<(&str, &str)> =
                pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let answer = traffic.mesh.answer(url.path(), &pairs);
            Answer { status: answer.status, retry_after: None, body: answer.body.into_bytes() }
        }
    }
}

impl Traffic {
    fn advance(&mut self, now: Timestamp) {
        let world = std::mem::take(&mut self.world);
        self.mesh.advance(now, &world);
        self.world = world;
    }
}

/// The mesh follows the cluster: what was, up to each change; what is, from then on.
async fn flow(
    api: Sandbox,
    clock: Clock,
    traffic: Arc<Mutex<Traffic>>,
    character: fn(&str) -> String,
    kind: rollout::Mesh,
) {
    let mut versions = api.versions();
    let mut seen = None;
    loop {
        let version = api.version();
        let matters = |seen| api.any_since(seen, |event| seen::matters(&event.key));
        if seen.is_none_or(matters) {
            let mut traffic = lock(&traffic);
            traffic.advance(clock.now());
            traffic.world = seen::world(&api, character);
            for (path, status) in route::verdicts(&api, kind) {
                // Refused where somebody has written it since: that is looked at next.
                let _ = send(&api, Method::PATCH, &path, MERGE, &status);
            }
        }
        seen = Some(version);
        // Changes come in crowds.
        tokio::time::sleep(LOOK).await;
        // The sender lives as long as the API server.
        let _ = versions.changed().await;
    }
}

/// An API server with the definitions of Surefoot and of the mesh. To compile them takes longer than
/// many a story takes, so that it is done once.
fn defined() -> Result<&'static Machine> {
    static DEFINED: OnceLock<Machine> = OnceLock::new();
    if let Some(machine) = DEFINED.get() {
        return Ok(machine);
    }
    let api = Sandbox::new();
    for definition in definitions()? {
        send(&api, Method::POST, DEFINITIONS, "application/json", &definition)?;
    }
    Ok(DEFINED.get_or_init(|| api.machine()))
}

/// Where definitions are made.
pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// The definitions of Surefoot, of Istio and of the Gateway API.
///
/// # Errors
/// When one of ours can't be read.
pub fn definitions() -> Result<Vec<Value>> {
    let mesh = [Kind::VirtualService, Kind::DestinationRule, Kind::HTTPRoute, Kind::GRPCRoute];
    let mut definitions: Vec<Value> = mesh.into_iter().map(definition).collect();
    for (name, yaml) in crate::crds::files()? {
        definitions.push(serde_saphyr::from_str(&yaml).with_context(|| name.clone())?);
    }
    Ok(definitions)
}

fn definition(kind: Kind) -> Value {
    let ApiResource { group, version, kind, plural, .. } = resource(kind);
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "properties": {"spec": anything, "status": anything}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{
                "name": version, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}
