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
    sandbox: Sandbox,
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

    /// Each of them once; when one of them has to look again.
    async fn round(&mut self) -> Option<Timestamp> {
        let now = self.sandbox.now();
        let times = [
            deployments::sync(&self.deployments, now).await,
            replica_sets::sync(&self.replica_sets, now).await,
            self.kubelet.sync(now).await,
        ];
        slices::sync(&self.slices).await;
        collector::sync(&self.collector).await;
        times.into_iter().flatten().min()
    }
}
