//! The kubelet, played by tasks of this program: pods get addresses, serve,
//! become ready, end gracefully. Everything else about them is Kubernetes.
//!
//! What a pod does is told by annotations of its template:
//!
//! | annotation | value | meaning |
//! |---|---|---|
//! | [`READY_AFTER`] | `0s`, `3s`, … | serving and ready after this (default at once) |
//! | | `never` | runs, never serves nor gets ready |
//! | | `crash` | waits in CrashLoopBackOff |
//! | [`INJECT`] | `enabled` | the proxy beside it is Linkerd's, else Istio's |
//! | [`UNREADY`] | `true` | may be set on a running pod: it serves on, but is not ready |

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backend::{Backend, Behaviours, Identity};
use crate::clock;
use crate::linkerd::INJECT;
use crate::netns::NODE_IP;

/// When a pod serves and is ready; see the module.
pub const READY_AFTER: &str = "e2e.surefoot.dev/ready-after";
/// Whether a serving pod is to be reported as not ready.
pub const UNREADY: &str = "e2e.surefoot.dev/unready";

const NODE: &str = "node-0";
/// The longest a pod goes on serving after its deletion: real grace periods
/// (30 s by default) would only make the tests slow.
const MAX_GRACE: Duration = Duration::from_secs(2);
/// Between attempts to write while the API server does not take it.
const RETRY: Duration = Duration::from_millis(200);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The running stand-in. Its pods end with it.
#[derive(Debug)]
pub struct Kubelet {
    task: JoinHandle<()>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kubelet {
    /// Registers the node and looks after the pods of all namespaces.
    pub async fn start(client: Client, behaviours: Behaviours) -> Result<Kubelet> {
        register(&client).await.context("registering the node")?;
        let node = Arc::new(NodeState { client, behaviours, addresses: AtomicU32::new(0) });
        let task = tokio::spawn(async move {
            // watcher reconnects by itself; the stream never ends.
            if let Err(error) = node.run().await {
                eprintln!("kubelet: {error:#}");
            }
        });
        Ok(Kubelet { task })
    }
}

async fn register(client: &Client) -> Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    let node = serde_json::from_value(
        json!({"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}}),
    )?;
    nodes.create(&PostParams::default(), &node).await?;
    let now = clock::wall().to_string();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": NODE_IP}],
        "capacity": {"cpu": "64", "memory": "256Gi", "pods": "10000"},
        "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "10000"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "stand-in",
            "lastHeartbeatTime": now, "lastTransitionTime": now}],
    }});
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

struct NodeState {
    client: Client,
    behaviours: Behaviours,
    addresses: AtomicU32,
}

/// The task of each pod by uid, with what the task is told: the pod as last seen.
#[derive(Default)]
struct Pods(HashMap<String, Running>);

struct Running {
    latest: watch::Sender<Pod>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The pod object is gone, and with it its process.
        self.task.abort();
    }
}

impl NodeState {
    async fn run(self: Arc<Self>) -> Result<()> {
        let mut pods = Pods::default();
        let mut listed = HashSet::new();
        let api = Api::<Pod>::all(self.client.clone());
        let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
        loop {
            // An error here is a lost connection: the watcher lists anew.
            let Ok(event) = events.try_next().await else { continue };
            match event.ok_or_else(|| anyhow!("the watch of pods ended"))? {
                watcher::Event::Init => listed.clear(),
                watcher::Event::InitApply(pod) => {
                    listed.extend(pod.uid());
                    self.seen(&mut pods, pod);
                }
                watcher::Event::InitDone => pods.0.retain(|uid, _| listed.contains(uid)),
                watcher::Event::Apply(pod) => self.seen(&mut pods, pod),
                watcher::Event::Delete(pod) => {
                    pods.0.remove(&pod.uid().unwrap_or_default());
                }
            }
        }
    }

    fn seen(self: &Arc<Self>, pods: &mut Pods, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        if let Some(running) = pods.0.get(&uid) {
            running.latest.send_replace(pod);
            return;
        }
        let (latest, updates) = watch::channel(pod);
        let node = Arc::clone(self);
        let task = tokio::spawn(async move {
            let name = updates.borrow().name_any();
            if let Err(error) = node.play(updates).await {
                eprintln!("kubelet: pod {name}: {error:#}");
            }
        });
        pods.0.insert(uid, Running { latest, task });
    }

    /// An address that no pod of this run has had: a stale connection must not
    /// find a stranger. The first and last of each 256 are left out.
    fn address(&self) -> Result<Ipv4Addr> {
        let n = self.addresses.fetch_add(1, Ordering::Relaxed);
        match (n / 254, n % 254 + 1) {
            (third @ 0..=254, fourth) => Ok(Ipv4Addr::new(10, 244, third as u8, fourth as u8)),
            _ => bail!("out of pod addresses"),
        }
    }

    /// The life of one pod. Aborted when the pod object is gone.
    async fn play(&self, mut updates: watch::Receiver<Pod>) -> Result<()> {
        let pod = Subject::new(self, &updates.borrow())?;
        let ip = self.address()?;
        pod.bind().await;

        let start = Start::of(pod.ready_after.as_deref())?;
        let started = clock::wall();
        let mut backend = None;
        match start {
            Start::Never => pod.report(&pod.status(ip, started, State::Starting)).await,
            Start::Crash => pod.report(&pod.status(ip, started, State::Crashing)).await,
            Start::After(delay) => tokio::select! {
                () = tokio::time::sleep(delay) => {
                    // Serving comes first: nobody may learn an address that refuses.
                    backend = Some(Backend::start(ip, pod.identity.clone(), &self.behaviours).await?);
                }
                () = deleted(&mut updates) => {}
            },
        }

        while backend.is_some() && !is_deleted(&updates.borrow_and_update()) {
            let unready =
                updates.borrow().annotations().get(UNREADY).is_some_and(|value| value == "true");
            let state = if unready { State::Unready } else { State::Ready };
            pod.report(&pod.status(ip, started, state)).await;
            let shown = |pod: &Pod| {
                is_deleted(pod)
                    || (pod.annotations().get(UNREADY).is_some_and(|v| v == "true") != unready)
            };
            if updates.wait_for(shown).await.is_err() {
                return Ok(());
            }
        }
        deleted(&mut updates).await;
        if backend.is_some() {
            // Requests may still be on their way here, on new connections too.
            let grace = grace(&updates.borrow());
            tokio::time::sleep(grace).await;
        }
        drop(backend);
        pod.remove().await;
        Ok(())
    }
}

fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

async fn deleted(updates: &mut watch::Receiver<Pod>) {
    // An error means that the pod is no longer watched: this task is at its end.
    let _ = updates.wait_for(is_deleted).await;
}

fn grace(pod: &Pod) -> Duration {
    let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(30).max(0);
    Duration::from_secs(seconds.cast_unsigned()).min(MAX_GRACE)
}

/// When the process in a pod starts.
enum Start {
    After(Duration),
    Never,
    Crash,
}

impl Start {
    fn of(annotation: Option<&str>) -> Result<Start> {
        match annotation {
            None => Ok(Start::After(Duration::ZERO)),
            Some("never") => Ok(Start::Never),
            Some("crash") => Ok(Start::Crash),
            Some(delay) => {
                let delay: jiff::SignedDuration =
                    delay.parse().with_context(|| format!("{READY_AFTER}: {delay}"))?;
                Ok(Start::After(delay.unsigned_abs()))
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Runs, has not passed its probe.
    Starting,
    Ready,
    Unready,
    Crashing,
}

/// A pod as its task writes about it.
struct Subject {
    api: Api<Pod>,
    identity: Identity,
    uid: String,
    bound: bool,
    containers: Vec<(String, String)>,
    ready_after: Option<String>,
}

impl Subject {
    fn new(node: &NodeState, pod: &Pod) -> Result<Subject> {
        let namespace = pod.namespace().ok_or_else(|| anyhow!("a pod without namespace"))?;
        let spec = pod.spec.as_ref().ok_or_else(|| anyhow!("a pod without spec"))?;
        let containers: Vec<_> = spec
            .containers
            .iter()
            .map(|c| (c.name.clone(), c.image.clone().unwrap_or_default()))
            .collect();
        let linkerd = pod.annotations().get(INJECT).is_some_and(|value| value == "enabled");
        let image = containers.first().map(|(_, image)| image.clone()).unwrap_or_default();
        Ok(Subject {
            api: Api::namespaced(node.client.clone(), &namespace),
            identity: Identity { namespace, pod: pod.name_any(), image, linkerd },
            uid: pod.uid().unwrap_or_default(),
            bound: spec.node_name.is_some(),
            containers,
            ready_after: pod.annotations().get(READY_AFTER).cloned(),
        })
    }

    /// Gives the pod to our node, as a scheduler would. A pod that is on no
    /// node never reaches an EndpointSlice.
    async fn bind(&self) {
        if self.bound {
            return;
        }
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": self.identity.pod, "uid": self.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        });
        let parameters = PostParams::default();
        self.insist(|| {
            let bound =
                self.api.create_subresource("binding", &self.identity.pod, &parameters, &binding);
            async move { bound.await.map(|_: serde_json::Value| ()) }
        })
        .await;
    }

    async fn report(&self, status: &serde_json::Value) {
        self.insist(|| async move {
            self.api
                .patch_status(&self.identity.pod, &PatchParams::default(), &Patch::Merge(status))
                .await
                .map(drop)
        })
        .await;
    }

    async fn remove(&self) {
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        self.insist(|| async { self.api.delete(&self.identity.pod, &parameters).await.map(drop) })
            .await;
    }

    /// Writes until the API server has taken it, or says that this can't be:
    /// the pod is gone, is another one of that name, or is bound already.
    async fn insist<F, Fut>(&self, mut write: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = kube::Result<()>>,
    {
        loop {
            match tokio::time::timeout(REQUEST_TIMEOUT, write()).await {
                Ok(Ok(())) => return,
                Ok(Err(kube::Error::Api(status)))
                    if status.is_not_found() || status.is_conflict() =>
                {
                    return;
                }
                _ => tokio::time::sleep(RETRY).await,
            }
        }
    }

    fn status(&self, ip: Ipv4Addr, started: jiff::Timestamp, state: State) -> serde_json::Value {
        let now = clock::wall().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let started = started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let ready = state == State::Ready;
        let condition = |kind: &str, holds: bool| json!({"type": kind, "status": if holds { "True" } else { "False" }, "lastTransitionTime": now});
        let containers: Vec<_> = self
            .containers
            .iter()
            .map(|(name, image)| match state {
                State::Crashing => json!({
                    "name": name, "image": image, "imageID": image, "ready": false, "started": false, "restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}},
                    "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": started, "finishedAt": now}},
                }),
                _ => json!({
                    "name": name, "image": image, "imageID": image, "ready": ready, "started": state != State::Starting,
                    "restartCount": 0, "state": {"running": {"startedAt": started}},
                }),
            })
            .collect();
        json!({
            // Another pod of this name is refused with a conflict.
            "metadata": {"uid": self.uid},
            "status": {
                "phase": "Running",
                "startTime": started,
                "hostIP": NODE_IP, "hostIPs": [{"ip": NODE_IP}],
                "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [
                    condition("PodScheduled", true),
                    condition("Initialized", true),
                    condition("ContainersReady", ready),
                    condition("Ready", ready),
                ],
                "containerStatuses": containers,
            },
        })
    }
}
