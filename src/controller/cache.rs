//! What the API server has told us, by watch, and what we have written ourselves since.
//!
//! A decision never looks at an object older than our own last write of it: the answer to a write
//! lies over the watch's copy until the watch has come that far.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::Value;
use surefoot_core::observed::is_disrupted;
use surefoot_core::route::{Fault, Override};
use surefoot_core::write::Kind;
use tokio::sync::{mpsc, watch};

use super::lock;
use super::tasks::Tasks;
use crate::client::{self, raw};

/// Kinds that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Watched {
    /// An object that we also write.
    Written(Kind),
    /// discovery.k8s.io EndpointSlice.
    EndpointSlice,
    /// A kind that takes requests away from routes.
    Override(Override),
    /// v1 Namespace, to know of those that are going away.
    Namespace,
    /// v1 Pod, only those that are being taken away.
    DisruptedPod,
    /// surefoot.dev RolloutAction.
    Action,
    /// surefoot.dev AnalysisTemplate.
    Template,
    /// surefoot.dev ClusterAnalysisTemplate.
    ClusterTemplate,
    /// surefoot.dev MetricsSource.
    Source,
    /// surefoot.dev ClusterMetricsSource.
    ClusterSource,
    /// surefoot.dev NotificationChannel.
    Channel,
}

/// After which time a kind that may be missing is asked for again.
const MISSING: Duration = Duration::from_secs(30);

/// Every watch.
pub const WATCHED: [Watched; 18] = [
    Watched::Written(Kind::Deployment),
    Watched::Written(Kind::ReplicaSet),
    Watched::Written(Kind::Service),
    Watched::Written(Kind::VirtualService),
    Watched::Written(Kind::HTTPRoute),
    Watched::Written(Kind::GRPCRoute),
    Watched::Written(Kind::DestinationRule),
    Watched::EndpointSlice,
    Watched::Override(Override::ServiceProfile),
    Watched::Override(Override::TrafficSplit),
    Watched::Namespace,
    Watched::DisruptedPod,
    Watched::Action,
    Watched::Template,
    Watched::ClusterTemplate,
    Watched::Source,
    Watched::ClusterSource,
    Watched::Channel,
];

impl Watched {
    /// How the API server names it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let ours = |kind: &str, plural: &str| ApiResource {
            group: "surefoot.dev".into(),
            version: "v1alpha1".into(),
            api_version: "surefoot.dev/v1alpha1".into(),
            kind: kind.into(),
            plural: plural.into(),
        };
        match self {
            Watched::Written(kind) => client::resource(kind),
            Watched::EndpointSlice => ApiResource {
                group: "discovery.k8s.io".into(),
                version: "v1".into(),
                api_version: "discovery.k8s.io/v1".into(),
                kind: "EndpointSlice".into(),
                plural: "endpointslices".into(),
            },
            Watched::Override(Override::ServiceProfile) => ApiResource {
                group: "linkerd.io".into(),
                version: "v1alpha2".into(),
                api_version: "linkerd.io/v1alpha2".into(),
                kind: "ServiceProfile".into(),
                plural: "serviceprofiles".into(),
            },
            Watched::Override(Override::TrafficSplit) => ApiResource {
                group: "split.smi-spec.io".into(),
                version: "v1alpha1".into(),
                api_version: "split.smi-spec.io/v1alpha1".into(),
                kind: "TrafficSplit".into(),
                plural: "trafficsplits".into(),
            },
            Watched::Namespace => ApiResource {
                group: String::new(),
                version: "v1".into(),
                api_version: "v1".into(),
                kind: "Namespace".into(),
                plural: "namespaces".into(),
            },
            Watched::DisruptedPod => ApiResource {
                group: String::new(),
                version: "v1".into(),
                api_version: "v1".into(),
                kind: "Pod".into(),
                plural: "pods".into(),
            },
            Watched::Action => ours("RolloutAction", "rolloutactions"),
            Watched::Template => ours("AnalysisTemplate", "analysistemplates"),
            Watched::ClusterTemplate => ours("ClusterAnalysisTemplate", "clusteranalysistemplates"),
            Watched::Source => ours("MetricsSource", "metricssources"),
            Watched::ClusterSource => ours("ClusterMetricsSource", "clustermetricssources"),
            Watched::Channel => ours("NotificationChannel", "notificationchannels"),
        }
    }

    /// Whether the controller works without it: not every cluster serves it, and nobody need grant it
    /// who doesn't use it.
    fn is_optional(self) -> bool {
        matches!(self, Watched::Written(Kind::HTTPRoute | Kind::GRPCRoute) | Watched::Override(_))
    }

    fn is_cluster_wide(self) -> bool {
        matches!(self, Watched::Namespace | Watched::ClusterTemplate | Watched::ClusterSource)
    }
}

/// Something changed: a kind, its namespace (none for cluster-wide kinds) and name.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its kind.
    pub kind: Watched,
    /// Its namespace.
    pub namespace: Option<String>,
    /// The object that a Rollout would know: a slice's Service, an action's Rollout.
    pub name: String,
}

struct Watch {
    store: Store<DynamicObject>,
    resource: ApiResource,
    /// The newest resourceVersion that the watch has brought.
    seen: Arc<Mutex<u64>>,
    answer: watch::Receiver<Answer>,
}

/// What the API server said of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// Nothing yet.
    None,
    /// Its objects.
    Listed,
    /// Why it doesn't give them.
    Refused(Fault),
}

type Key = (Watched, String, String);

/// The copies.
pub struct Cache {
    watches: HashMap<Watched, Watch>,
    written: Mutex<HashMap<Key, (u64, Value)>>,
}

/// An object's resourceVersion as a number, 0 where there is none. Comparable within a kind
/// (Kubernetes 1.35 promises it; every release with etcd has done so).
#[must_use]
pub fn version(object: &Value) -> u64 {
    let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    version.and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl Cache {
    /// Without any watch: it knows what was written, and nothing else.
    #[cfg(test)]
    pub(super) fn unwatched() -> Self {
        Self { watches: HashMap::new(), written: Mutex::default() }
    }

    /// Start every watch; changes go to `changes`, which must be read from the start. Ready when all
    /// have been listed.
    pub async fn start(
        client: &Client,
        namespace: Option<&str>,
        changes: mpsc::Sender<Change>,
        tasks: &Tasks,
    ) -> Self {
        let mut watches = HashMap::new();
        for kind in WATCHED {
            let resource = kind.resource();
            let api = match namespace {
                Some(namespace) if !kind.is_cluster_wide() => {
                    Api::namespaced_with(client.clone(), namespace, &resource)
                }
                _ => Api::all_with(client.clone(), &resource),
            };
            let writer = Writer::new(resource.clone());
            let store = writer.as_reader();
            let seen = Arc::new(Mutex::new(0));
            let config = match (kind, namespace) {
                (Watched::Namespace, Some(only)) => {
                    watcher::Config::default().fields(&format!("metadata.name={only}"))
                }
                _ => watcher::Config::default(),
            };
            let stream = watcher(api, config).default_backoff();
            let (says, answer) = watch::channel(Answer::None);
            tasks.spawn(follow(kind, stream, writer, seen.clone(), says, changes.clone()));
            watches.insert(kind, Watch { store, resource, seen, answer });
        }
        for (kind, watch) in &mut watches {
            let enough = |answer: &Answer| match answer {
                Answer::None => false,
                Answer::Listed => true,
                Answer::Refused(_) => kind.is_optional(),
            };
            // The sender lives as long as its task; without it the process is ending.
            let _ = watch.answer.wait_for(enough).await;
        }
        Self { watches, written: Mutex::new(HashMap::new()) }
    }

    /// The object, as the watch or our own last write has it, whichever is newer.
    #[must_use]
    pub fn get(&self, kind: Watched, namespace: &str, name: &str) -> Option<Value> {
        let watch = self.watches.get(&kind)?;
        let mut reference = ObjectRef::new_with(name, watch.resource.clone());
        if !kind.is_cluster_wide() {
            reference = reference.within(namespace);
        }
        let cached = watch.store.get(&reference).map(|object| raw(&object));
        let key = (kind, namespace.to_owned(), name.to_owned());
        let mut written = lock(&self.written);
        match written.get(&key) {
            Some((at, ours)) if *lock(&watch.seen) < *at => Some(ours.clone()),
            Some(_) => {
                written.remove(&key);
                cached
            }
            None => cached,
        }
    }

    /// Why nothing is known of a kind, where that is so.
    #[must_use]
    pub fn unknown(&self, kind: Watched) -> Option<Fault> {
        match &*self.watches.get(&kind)?.answer.borrow() {
            Answer::Refused(why) => Some(why.clone()),
            Answer::None | Answer::Listed => None,
        }
    }

    /// All objects of a kind in a namespace that `keep`, oldest first.
    pub fn list(
        &self,
        kind: Watched,
        namespace: &str,
        keep: impl Fn(&DynamicObject) -> bool,
    ) -> Vec<Value> {
        let Some(watch) = self.watches.get(&kind) else { return Vec::new() };
        let here = |o: &DynamicObject| {
            kind.is_cluster_wide() || o.metadata.namespace.as_deref() == Some(namespace)
        };
        let cached = watch.store.state_filter(|o| here(o) && keep(o));
        let mut objects: HashMap<String, Value> =
            cached.iter().map(|o| (o.name_any(), raw(o))).collect();
        let seen = *lock(&watch.seen);
        let mut written = lock(&self.written);
        // What the watch has come up with isn't needed any more.
        written.retain(|(k, ..), (at, _)| *k != kind || *at > seen);
        for ((k, ns, name), (_, ours)) in written.iter() {
            let newer = *k == kind && ns == namespace;
            let object = newer.then(|| serde_json::from_value::<DynamicObject>(ours.clone()));
            if let Some(Ok(object)) = object {
                objects.remove(name);
                if keep(&object) {
                    objects.insert(name.clone(), ours.clone());
                }
            }
        }
        let mut objects: Vec<Value> = objects.into_values().collect();
        let age = |o: &Value| {
            let text = |p: &str| o.pointer(p).and_then(Value::as_str).unwrap_or("").to_owned();
            (text("/metadata/creationTimestamp"), text("/metadata/name"))
        };
        objects.sort_by_key(age);
        objects
    }

    /// Our own write of an object, as the API server answered it.
    pub fn wrote(&self, kind: Watched, namespace: &str, object: &Value) {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let key = (kind, namespace.to_owned(), name.to_owned());
        lock(&self.written).insert(key, (version(object), object.clone()));
    }
}

async fn follow(
    kind: Watched,
    stream: impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>>,
    writer: Writer<DynamicObject>,
    seen: Arc<Mutex<u64>>,
    says: watch::Sender<Answer>,
    changes: mpsc::Sender<Change>,
) {
    let keep_managers = matches!(kind, Watched::Written(kind) if kind.is_route());
    // Of pods nearly all are dropped, so that they take no memory however many there are.
    let wanted = move |event: &watcher::Result<watcher::Event<DynamicObject>>| match event {
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
            kind != Watched::DisruptedPod || is_disrupted(&object.data)
        }
        _ => true,
    };
    let stream = stream.filter(move |event| std::future::ready(wanted(event)));
    let stream = stream.modify(move |object| {
        if !keep_managers {
            object.managed_fields_mut().clear();
        }
    });
    let mut stream = std::pin::pin!(reflector::reflector(writer, stream));
    let mut listed = false;
    while let Some(event) = stream.next().await {
        let object = match &event {
            Ok(
                watcher::Event::Apply(object)
                | watcher::Event::InitApply(object)
                | watcher::Event::Delete(object),
            ) => object,
            Ok(watcher::Event::Init) => continue,
            Ok(watcher::Event::InitDone) => {
                listed = true;
                says.send_replace(Answer::Listed);
                continue;
            }
            Err(error) => {
                let answer = refusal(error).map(Answer::Refused);
                // An API server that has just come up may not know for a moment what it served before.
                let missing = kind.is_optional() && answer.is_some() && !listed;
                let new = answer.is_none_or(|answer| says.send_replace(answer.clone()) != answer);
                // What may be missing is asked for again and again, and told of once.
                if new || !kind.is_optional() {
                    tracing::warn!(?kind, %error, "watch interrupted");
                }
                // The stream's own back-off begins anew with each list: it would ask every second.
                if missing {
                    tokio::time::sleep(MISSING).await;
                }
                continue;
            }
        };
        let version = object.resource_version().and_then(|v| v.parse().ok()).unwrap_or(0);
        {
            let mut seen = lock(&seen);
            *seen = (*seen).max(version);
        }
        let change = Change { kind, namespace: object.namespace(), name: known_as(kind, object) };
        if changes.send(change).await.is_err() {
            return;
        }
    }
}

/// Why the API server doesn't list a kind, where it has said so.
fn refusal(error: &watcher::Error) -> Option<Fault> {
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return None };
    match status.code {
        404 => Some(Fault::NotServed),
        403 => Some(Fault::Forbidden),
        _ => None,
    }
}

/// The name by which a Rollout knows of the object.
fn known_as(kind: Watched, object: &DynamicObject) -> String {
    let known = match kind {
        Watched::EndpointSlice => object.labels().get("kubernetes.io/service-name").cloned(),
        Watched::Action => {
            object.data.pointer("/spec/rollout").and_then(Value::as_str).map(str::to_owned)
        }
        Watched::DisruptedPod => object.owner_references().first().map(|owner| owner.name.clone()),
        _ => None,
    };
    known.unwrap_or_else(|| object.name_any())
}

#[cfg(test)]
mod tests;
