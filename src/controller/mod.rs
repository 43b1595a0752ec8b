//! The controller: watches wake the reconcile, the reconcile decides, commits and acts.

pub mod act;
pub mod cache;
pub mod commit;
pub mod hold;
pub mod lease;
pub mod notify;
pub mod observe;
pub mod prometheus;
pub mod reconcile;
pub mod sample;
#[cfg(test)]
mod stand_in;
pub mod tasks;
pub mod telemetry;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use surefoot_core::api::Rollout;
use surefoot_core::api::analysis::{SourceKind, SourceRef};
use surefoot_core::api::source::PrometheusSource;
use surefoot_core::notify::Trouble;
use surefoot_core::refused::Refused;
use surefoot_core::route::Weights;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::act::Tools;
use self::cache::{Cache, Change, Watched};
use self::hold::{Hold, Holds};
use self::lease::{Lead, Leader};
use self::notify::{Channels, Notifier};
use self::prometheus::Prometheus;
use self::reconcile::{ReconcileError, reconcile};
use self::sample::Sampler;
use self::tasks::{Scope, Tasks};
use self::telemetry::Telemetry;
use crate::client::Connection;
use crate::clock::Clock;
use crate::outbound::Outbound;

type Guarded = DeserializeGuard<Rollout>;

/// Reconciles under way at once.
const CONCURRENCY: u16 = 16;

/// How to run the controller.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Only this namespace; default: all, for which the rules of deploy/namespace.yaml must be
    /// granted by a ClusterRole
    #[arg(long, env = "SUREFOOT_NAMESPACE")]
    pub namespace: Option<String>,
    /// How new templates are held until they are released
    #[arg(long, env = "SUREFOOT_HOLD", value_enum, default_value = "policy")]
    pub hold: Hold,
    /// Where to serve /metrics, /healthz and /readyz
    #[arg(long, env = "SUREFOOT_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Namespace of the Lease that says which of several controllers tries
    #[arg(long, env = "POD_NAMESPACE", default_value = "surefoot-system")]
    pub lease_namespace: String,
    /// Name of the Lease; default: surefoot, with the namespace behind it where there is one
    #[arg(long)]
    pub lease: Option<String>,
    /// Who this process is in the Lease; the pod's name
    #[arg(long, env = "POD_NAME", default_value = "surefoot")]
    pub identity: String,
}

/// Why a Rollout is looked at, beside its own changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// New samples.
    Sampled,
    /// News has been delivered, or can't be.
    Delivered,
    /// A dry run has shown something.
    Probed,
}

/// The weights of a Rollout's route, whether requests are chosen beside them, and since when.
type Sent = ((Weights, bool), Timestamp);

/// All that a reconcile works with.
pub struct Context {
    client: Client,
    clock: Clock,
    cache: Cache,
    sampler: Sampler,
    notifier: Arc<Notifier>,
    telemetry: Telemetry,
    holds: Holds,
    /// Unique to this process: a restarted one takes over anew.
    holder: String,
    /// Rollouts as our own last commits left them.
    latest: Mutex<HashMap<String, Rollout>>,
    /// Since when each route has been seen with its weights.
    weights: Mutex<HashMap<String, Sent>>,
    /// UIDs of the Rollouts that have been looked at, by namespace and name.
    uids: Mutex<HashMap<(String, String), String>>,
    /// Pauses after failures, by Rollout.
    failures: Mutex<HashMap<String, u32>>,
    /// What the API server refused last, by Rollout.
    refused: Mutex<HashMap<String, Refused>>,
    rollouts: Store<Guarded>,
    alarm: Alarm,
    lead: Lead,
    /// When each Rollout was last taken over.
    claims: Mutex<HashMap<String, Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn version(rollout: &Rollout) -> u64 {
    rollout.resource_version().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Makes the controller look at a Rollout. What holds one doesn't hold the controller.
#[derive(Clone)]
struct Alarm(mpsc::UnboundedSender<ObjectRef<Guarded>>);

impl Alarm {
    fn wake(&self, rollout: &Rollout, why: Woken) {
        tracing::trace!(name = rollout.name_any(), ?why, "wake");
        let namespace = rollout.namespace().unwrap_or_default();
        // The receiver lives as long as the controller runs.
        let _ = self.0.send(ObjectRef::new(&rollout.name_any()).within(&namespace));
    }
}

impl Context {
    /// The Rollout as the watch or our own last commit has it, whichever is newer.
    fn newest(&self, watched: &Rollout) -> Rollout {
        let uid = watched.uid().unwrap_or_default();
        let mut latest = lock(&self.latest);
        match latest.get(&uid) {
            Some(ours) if version(ours) > version(watched) => ours.clone(),
            Some(_) => {
                latest.remove(&uid);
                watched.clone()
            }
            None => watched.clone(),
        }
    }

    fn remember(&self, committed: &Rollout) {
        lock(&self.latest).insert(committed.uid().unwrap_or_default(), committed.clone());
    }

    /// A Rollout is looked at.
    fn meet(&self, rollout: &Rollout) {
        let place = (rollout.namespace().unwrap_or_default(), rollout.name_any());
        let uid = rollout.uid().unwrap_or_default();
        let before = lock(&self.uids).insert(place, uid.clone());
        if let Some(before) = before.filter(|before| *before != uid) {
            self.forget(&before);
        }
    }

    /// There is no Rollout of that name any more, whoever took its finalizer off.
    fn part(&self, namespace: &str, name: &str) {
        let uid = lock(&self.uids).remove(&(namespace.to_owned(), name.to_owned()));
        if let Some(uid) = uid {
            self.forget(&uid);
        }
    }

    fn forget(&self, uid: &str) {
        lock(&self.latest).remove(uid);
        lock(&self.weights).remove(uid);
        lock(&self.failures).remove(uid);
        lock(&self.refused).remove(uid);
        lock(&self.claims).remove(uid);
        self.holds.forget(uid);
        self.notifier.part(uid);
        self.sampler.set(uid, 0, None, || ());
    }

    /// How long to wait before the Rollout is taken over, where that was done just now: another leads
    /// too, and by then one of the two knows that it doesn't.
    fn rivalry(&self, uid: &str) -> Option<Duration> {
        let last = lock(&self.claims).get(uid)?.elapsed();
        (2 * lease::PERIOD).checked_sub(last)
    }

    fn claimed(&self, uid: String) {
        lock(&self.claims).insert(uid, Instant::now());
    }

    /// What a write is made with.
    fn tools(&self) -> Tools<'_> {
        Tools { client: &self.client, cache: &self.cache, telemetry: &self.telemetry }
    }

    /// Since when this process has seen these weights on the Rollout's route, with chosen requests beside
    /// them or without.
    fn since(&self, uid: &str, weights: &Weights, chosen: bool) -> Timestamp {
        let now = self.clock.now();
        let mut known = lock(&self.weights);
        match known.get(uid) {
            Some((same, since)) if *same == (weights.clone(), chosen) => *since,
            _ => {
                known.insert(uid.to_owned(), ((weights.clone(), chosen), now));
                now
            }
        }
    }

    /// Remember what was refused, so that the next decision can say it.
    fn refuse(&self, uid: &str, error: &ReconcileError) {
        let ReconcileError::Act(error) = error else { return };
        let mut refused = lock(&self.refused);
        let next = error.refused(refused.get(uid), self.clock.now());
        refused.insert(uid.to_owned(), next);
    }

    fn refusal(&self, uid: &str) -> Option<Refused> {
        lock(&self.refused).get(uid).cloned()
    }

    fn terminating(&self, namespace: &str) -> bool {
        let found = self.cache.get(Watched::Namespace, namespace, namespace);
        found.is_some_and(|n| n.pointer("/metadata/deletionTimestamp").is_some())
    }

    /// A metrics source, or what is wrong with it.
    fn source(&self, reference: &SourceRef, namespace: &str) -> Result<PrometheusSource, String> {
        let kind = match reference.kind {
            SourceKind::MetricsSource => Watched::Source,
            SourceKind::ClusterMetricsSource => Watched::ClusterSource,
        };
        let found = self.cache.get(kind, namespace, &reference.name);
        let source = found.ok_or_else(|| {
            format!("{:?} {:?} doesn't exist: create it", reference.kind, reference.name)
        })?;
        let prometheus = source.pointer("/spec/prometheus").cloned().unwrap_or_default();
        serde_json::from_value(prometheus).map_err(|e| {
            let (kind, name) = (reference.kind, &reference.name);
            format!("{kind:?} {name:?}: spec.prometheus can't be read: {e}: write it anew")
        })
    }

    /// The channels that a Rollout names, as their objects say.
    fn channels(&self, rollout: &Rollout) -> Channels {
        let namespace = rollout.namespace().unwrap_or_default();
        let channel = |name: &str| {
            let found = self.cache.get(Watched::Channel, &namespace, name);
            let spec = found.ok_or(Trouble::ChannelMissing)?.get("spec").cloned();
            serde_json::from_value(spec.unwrap_or_default()).map_err(|_| Trouble::ChannelInvalid)
        };
        let named = rollout.spec.notifications.iter().map(|n| &n.channel);
        named.map(|name| (name.clone(), channel(name))).collect()
    }

    /// How long to wait after a failure: at once for a conflict, else longer and longer, up to 30 s.
    fn pause(&self, uid: &str, error: &ReconcileError) -> Duration {
        let conflict = match error {
            ReconcileError::Act(error) => error.is_conflict(),
            ReconcileError::Commit(error) => matches!(error, commit::CommitError::Conflict),
        };
        let mut failures = lock(&self.failures);
        let count = failures.entry(uid.to_owned()).or_default();
        *count = count.saturating_add(1);
        let first = if conflict { 0.05 } else { 0.8 };
        let pause: f64 = first * 2f64.powi(i32::try_from((*count).min(16)).unwrap_or(16) - 1);
        // Rollouts that failed together shall not come back together.
        let jitter =
            uid.bytes().fold(u32::from(*count != 0), |a, b| a.rotate_left(5) ^ u32::from(b));
        let jitter = 1.0 + f64::from(jitter % 256) / 1024.0;
        Duration::from_secs_f64((pause * jitter).min(30.0))
    }
}

fn failed(rollout: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let uid = rollout.uid().unwrap_or_default();
    let pause = context.pause(&uid, error);
    context.refuse(&uid, error);
    context.telemetry.reconciled("retry");
    tracing::warn!(
        namespace = rollout.namespace(),
        name = rollout.name_any(),
        %error,
        again_in = ?pause,
        "reconcile ended early"
    );
    Action::requeue(pause)
}

async fn step(rollout: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let uid = rollout.uid().unwrap_or_default();
    let action = reconcile(rollout, context.clone()).await?;
    lock(&context.failures).remove(&uid);
    context.telemetry.reconciled("ok");
    // What the status says of it must go too.
    let told = lock(&context.refused).remove(&uid).is_some_and(|refused| refused.matters());
    Ok(if told { Action::requeue(Duration::ZERO) } else { action })
}

/// What a controller works with of the world outside: a test may give it another world.
#[derive(Clone)]
pub struct Outside {
    /// The way to the API server.
    pub client: Client,
    /// The time.
    pub clock: Clock,
    /// The way to metrics and channels.
    pub http: Arc<Outbound>,
}

/// Run until told to stop, or until the lead is lost.
///
/// # Errors
/// When the API server can't be reached at the start, the address can't be listened on, or the
/// lead was lost (then the process must end: another leads).
pub async fn run(connection: &Connection, options: Options) -> Result<()> {
    let (client, _) = connection.client().await?;
    let telemetry = Telemetry::default();
    let server = tokio::spawn(telemetry::serve(options.listen, telemetry.clone()));
    let version = client.apiserver_version().await.context("the API server doesn't answer")?;
    tracing::info!(version = version.git_version, identity = options.identity, "connected");
    // One that waits for its turn is ready; one that leads, once it has seen everything.
    telemetry.set_ready(true);
    let http = Arc::new(Outbound::new().context("setting up the client for metrics and channels")?);
    let outside = Outside { client, clock: Clock::System, http };
    tokio::select! {
        ended = compete(outside, options, telemetry, stop()) => ended,
        server = server => server.context("the metrics server ended")?,
    }
}

/// Wait for the lead, and lead until told to stop or until the lead is lost.
///
/// # Errors
/// When the lead was lost, or reconciles didn't end in time.
pub async fn compete(
    outside: Outside,
    options: Options,
    telemetry: Telemetry,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let mut stop = std::pin::pin!(stop);
    let lease = options.lease.clone().unwrap_or_else(|| match &options.namespace {
        Some(namespace) => format!("surefoot-{namespace}"),
        None => "surefoot".to_owned(),
    });
    let (client, clock) = (outside.client.clone(), outside.clock);
    let mut leader =
        Leader::new(client, &options.lease_namespace, &lease, &options.identity, clock);
    tokio::select! {
        () = leader.acquire() => {}
        () = &mut stop => return Ok(()),
    }
    tracing::info!(lease, "leading");
    telemetry.leads(true);
    let (sender, stopped) = tokio::sync::oneshot::channel::<()>();
    let scope = Scope::default();
    let (lead, tasks) = (leader.lead(), scope.tasks());
    // It says when it has ended.
    let (over, ended) = tokio::sync::oneshot::channel::<()>();
    scope.tasks().spawn(async move {
        self::lead(outside, options, telemetry, lead, stopped, tasks).await;
        let _ = over.send(());
    });
    let lost = tokio::select! {
        () = leader.keep() => true,
        () = stop => false,
    };
    if lost {
        // Nothing may be written any more; what is under way is fenced by the epochs.
        drop(scope);
        anyhow::bail!("the lease was lost: another controller leads");
    }
    tracing::info!("stopping: reconciles under way end first");
    // The receiver may be gone if the controller ended by itself.
    let _ = sender.send(());
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
    drop(scope);
    leader.release().await;
    ended.context("reconciles didn't end within 20 s")?.context("the controller panicked")
}

/// SIGTERM or SIGINT.
async fn stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

async fn lead(
    outside: Outside,
    options: Options,
    telemetry: Telemetry,
    lead: Lead,
    stopped: tokio::sync::oneshot::Receiver<()>,
    tasks: Tasks,
) {
    let Outside { client, clock, http } = outside;
    let rollouts: Api<Guarded> = match &options.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let controller = Controller::new(rollouts, watcher::Config::default());
    let known = controller.store();
    let (changes, mut changed) = mpsc::channel(1024);
    let (wake, woken) = mpsc::unbounded_channel();
    let waker = wake.clone();
    // From the start, or the first lists would wait for each other once the channel is full.
    tasks.spawn(async move {
        while let Some(change) = changed.recv().await {
            for rollout in known.state_filter(|r| concerns(&change, r)) {
                let reference = ObjectRef::from_obj(rollout.as_ref());
                if waker.send(reference).is_err() {
                    return;
                }
            }
        }
    });
    telemetry.set_ready(false);
    let cache = Cache::start(&client, options.namespace.as_deref(), changes, &tasks).await;
    telemetry.set_ready(true);
    let instant = clock.now().as_nanosecond();
    let holder = format!("{}_{}_{instant:x}", options.identity, std::process::id());
    let identity = options.identity.clone();
    let notifier = Notifier::new(
        client.clone(),
        http.clone(),
        telemetry.clone(),
        clock,
        identity,
        tasks.clone(),
    );
    let context = Arc::new(Context {
        cache,
        sampler: Sampler::new(Prometheus::new(http), clock, tasks),
        notifier: Arc::new(notifier),
        telemetry,
        holds: Holds::new(options.hold),
        holder: holder.chars().rev().take(128).collect::<Vec<_>>().into_iter().rev().collect(),
        latest: Mutex::default(),
        weights: Mutex::default(),
        uids: Mutex::default(),
        failures: Mutex::default(),
        refused: Mutex::default(),
        rollouts: controller.store(),
        claims: Mutex::default(),
        lead,
        alarm: Alarm(wake),
        client,
        clock,
    });
    let woken = futures::stream::unfold(woken, |mut woken| async {
        woken.recv().await.map(|reference| (reference, woken))
    });
    let config = kube::runtime::controller::Config::default().concurrency(CONCURRENCY);
    controller
        .with_config(config)
        .reconcile_on(woken)
        .graceful_shutdown_on(async {
            let _ = stopped.await;
        })
        .run(step, failed, context.clone())
        .for_each(|result| async {
            use kube::runtime::controller::Error;
            match result {
                Err(Error::ObjectNotFound(gone)) => {
                    context.part(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
                }
                Err(error @ Error::QueueError(_)) => {
                    tracing::warn!(%error, "watch of Rollouts interrupted");
                }
                _ => {}
            }
        })
        .await;
}

/// Whether a change concerns a Rollout.
fn concerns(change: &Change, rollout: &Guarded) -> bool {
    let Ok(rollout) = &rollout.0 else { return false };
    if change.namespace.is_some() && change.namespace != rollout.namespace() {
        return false;
    }
    match change.kind {
        Watched::Action => change.name == rollout.name_any(),
        Watched::Namespace => rollout.namespace().is_some_and(|n| n == change.name),
        kind => observe::concerns(rollout, kind, &change.name),
    }
}
