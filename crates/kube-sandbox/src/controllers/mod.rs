//! Small controllers, so that Deployments roll out, pods become ready and what lost its owner goes.
//! They use the API as any client does.

mod api;
mod claim;
mod collector;
mod deployments;
mod kubelet;
mod replica_sets;
mod rollout;
mod scaling;
mod slices;

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;

use crate::sandbox::Sandbox;
use crate::store::Event;
use api::Api;

/// On a pod (by its template): when it becomes ready after it was made, such as `3s`; or `never`.
pub const READY_AFTER: &str = "kube-sandbox/ready-after";

/// More rounds than this without coming to rest, and the controllers wait for the next change: so
/// that two of them that undo each other's work don't stop the clock.
const MAX_ROUNDS: usize = 1000;

/// How the controllers behave.
#[derive(Clone, Debug)]
pub struct Settings {
    /// After which time a pod becomes ready, unless its annotation [`READY_AFTER`] says otherwise.
    pub ready_after: Duration,
    /// How long a pod takes to end once it is deleted, at most its own grace period.
    pub ends_after: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { ready_after: Duration::from_secs(1), ends_after: Duration::ZERO }
    }
}

/// The running controllers; they stop when this is dropped.
#[derive(Debug)]
pub struct Controllers {
    task: JoinHandle<()>,
}

impl Drop for Controllers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Controllers {
    /// Starts those for Deployments, ReplicaSets and EndpointSlices, garbage collection and
    /// namespaces, and a kubelet that plays the pods.
    #[must_use]
    pub fn start(sandbox: &Sandbox, settings: Settings) -> Controllers {
        let crew = Crew {
            deployments: Api::new(sandbox, "deployment-controller"),
            replica_sets: Api::new(sandbox, "replicaset-controller"),
            slices: Api::new(sandbox, "endpointslice-controller"),
            collector: Api::new(sandbox, "garbage-collector"),
            kubelet: kubelet::Kubelet::new(Api::new(sandbox, "kubelet"), settings),
            looks: Default::default(),
            sandbox: sandbox.clone(),
        };
        Controllers { task: tokio::spawn(crew.run()) }
    }
}

struct Crew {
    deployments: Api,
    replica_sets: Api,
    slices: Api,
    collector: Api,
    kubelet: kubelet::Kubelet,
    /// The last look of each, in the order of a round.
    looks: [Look; 5],
    sandbox: Sandbox,
}

/// When a controller looked last, and when it has to look again whatever happens.
#[derive(Default)]
struct Look {
    version: u64,
    next: Option<Timestamp>,
}

impl Look {
    /// Whether it is time for another look: something that matters was written since the last one, a
    /// call has failed, or the time has come.
    fn due(&mut self, sandbox: &Sandbox, api: &Api, matters: fn(&Event) -> bool) -> bool {
        let since = std::mem::replace(&mut self.version, sandbox.version());
        let in_time = self.next.is_some_and(|at| at <= sandbox.now());
        let due = api.failed() || in_time || sandbox.any_since(since, matters);
        if due {
            self.next = None;
        }
        due
    }
}

/// Whether it is a write of one of these kinds.
fn is_of(event: &Event, plurals: &[&str]) -> bool {
    plurals.contains(&event.key.resource.plural.as_str())
}

impl Crew {
    async fn run(mut self) {
        let mut versions = self.sandbox.versions();
        loop {
            let mut next = None;
            for _ in 0..MAX_ROUNDS {
                let before = *versions.borrow_and_update();
                next = self.round().await;
                if self.sandbox.version() == before {
                    break;
                }
            }
            let changed = async { versions.changed().await.is_ok() };
            let alive = match next {
                None => changed.await,
                Some(at) => tokio::select! {
                    biased;
                    alive = changed => alive,
                    () = tokio::time::sleep(self.until(at)) => true,
                },
            };
            if !alive {
                return;
            }
        }
    }

    fn until(&self, at: Timestamp) -> Duration {
        let left = at.duration_since(self.sandbox.now());
        Duration::try_from(left).unwrap_or_default().max(Duration::from_millis(1))
    }

    /// Each of them that has something to look at, once; when one of them has to look again.
    async fn round(&mut self) -> Option<Timestamp> {
        let (now, sandbox) = (self.sandbox.now(), &self.sandbox);
        let [deployments, replica_sets, kubelet, slices, collector] = &mut self.looks;
        let sets = |event: &Event| is_of(event, &["deployments", "replicasets"]);
        if deployments.due(sandbox, &self.deployments, sets) {
            deployments.next = deployments::sync(&self.deployments, now).await;
        }
        let pods = |event: &Event| is_of(event, &["replicasets", "pods"]);
        if replica_sets.due(sandbox, &self.replica_sets, pods) {
            replica_sets.next = replica_sets::sync(&self.replica_sets, now).await;
        }
        if kubelet.due(sandbox, self.kubelet.api(), |event| is_of(event, &["pods"])) {
            kubelet.next = self.kubelet.sync(now).await;
        }
        let services = |event: &Event| is_of(event, &["services", "pods", "endpointslices"]);
        if slices.due(sandbox, &self.slices, services) {
            slices::sync(&self.slices).await;
        }
        if collector.due(sandbox, &self.collector, collector::matters) {
            collector::sync(&self.collector).await;
        }
        self.looks.iter().filter_map(|look| look.next).min()
    }
}
