//! What happened to the objects of one namespace, in the order in which the API
//! server did it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use futures::TryStreamExt;
use jiff::Timestamp;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock;

/// What is recorded: path of the API, resource.
const WATCHED: [(&str, &str); 11] = [
    ("/api/v1", "events"),
    ("/api/v1", "pods"),
    ("/api/v1", "services"),
    ("/apis/apps/v1", "deployments"),
    ("/apis/apps/v1", "replicasets"),
    ("/apis/discovery.k8s.io/v1", "endpointslices"),
    ("/apis/gateway.networking.k8s.io/v1", "httproutes"),
    ("/apis/networking.istio.io/v1", "destinationrules"),
    ("/apis/networking.istio.io/v1", "virtualservices"),
    ("/apis/surefoot.dev/v1alpha1", "rolloutactions"),
    ("/apis/surefoot.dev/v1alpha1", "rollouts"),
];

/// More than any scenario writes.
const MAX_ENTRIES: usize = 50_000;
/// The server ends each watch after this; the next goes on where it stopped.
const WATCH_SECONDS: u32 = 290;
const RECONNECT: Duration = Duration::from_millis(200);

/// How an object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Change {
    /// Created, or there when the recording began.
    Added,
    /// Written.
    Modified,
    /// Gone.
    Deleted,
}

/// One accepted write.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The resourceVersion: one order for all kinds, since one etcd holds them.
    pub version: u64,
    /// When we learned of it.
    pub at: Timestamp,
    /// The resource, such as `replicasets`.
    pub resource: &'static str,
    /// What was done.
    pub change: Change,
    /// The object after it (the last state of a deleted one), every field as sent.
    pub object: Arc<Value>,
}

impl Entry {
    /// The object's name.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// Records from its start until it is dropped.
#[derive(Debug)]
pub struct Recorder {
    log: Arc<Mutex<Log>>,
    news: Arc<Notify>,
    _watches: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<Entry>,
    /// Where writes were missed, and why.
    holes: Vec<String>,
}

impl Recorder {
    /// Starts recording a namespace. Kinds whose CRD is missing are left out.
    pub async fn start(client: &Client, namespace: &str) -> Result<Recorder> {
        let log = Arc::new(Mutex::new(Log::default()));
        let news = Arc::new(Notify::new());
        let mut watches = JoinSet::new();
        for (api, resource) in WATCHED {
            let watch = Watch {
                client: client.clone(),
                request: Request::new(format!("{api}/namespaces/{namespace}/{resource}")),
                resource,
                log: Arc::clone(&log),
                news: Arc::clone(&news),
            };
            let caught_up = watch.catch_up().await;
            if let Some((version, _)) = caught_up.with_context(|| format!("listing {resource}"))? {
                watches.spawn(watch.run(version));
            }
        }
        Ok(Recorder { log, news, _watches: watches })
    }

    /// Every write so far, in order; an error when one may have been missed,
    /// since a trace with a hole proves nothing.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let holes = lock(&self.log).holes.join("; ");
        ensure!(holes.is_empty(), "the record is incomplete: {holes}");
        Ok(self.known())
    }

    /// [`Recorder::entries`], holes or not: a restarted API server has no
    /// events from before, and what was written about then may be seen late
    /// and only in its last state.
    pub fn known(&self) -> Vec<Entry> {
        let mut entries = lock(&self.log).entries.clone();
        // Each watch is in order; between watches the arrival is not.
        entries.sort_by_key(|entry| entry.version);
        entries
    }

    /// Waits until `wanted` finds what it looks for among the writes that come; looks at each as soon
    /// as it is known.
    pub async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Entry) -> Option<T>,
    ) -> Result<T> {
        let mut place = 0;
        let search = async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                let found = {
                    let log = lock(&self.log);
                    let found = log.entries.iter().skip(place).find_map(&mut wanted);
                    place = log.entries.len();
                    found
                };
                match found {
                    Some(found) => return found,
                    None => news.await,
                }
            }
        };
        tokio::time::timeout(limit, search)
            .await
            .with_context(|| format!("waited {limit:?} in vain for {what}"))
    }

    /// What happened to one object.
    pub fn history(&self, resource: &str, name: &str) -> Result<Vec<Entry>> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.resource == resource && entry.name() == name);
        Ok(entries)
    }

    /// What is known as JSON lines, for the run folder.
    pub fn dump(&self) -> String {
        self.known()
            .iter()
            .filter_map(|entry| serde_json::to_string(entry).ok())
            .map(|line| line + "\n")
            .collect()
    }
}

struct Watch {
    client: Client,
    request: Request,
    resource: &'static str,
    log: Arc<Mutex<Log>>,
    news: Arc<Notify>,
}

/// Why a watch ended.
enum Stop {
    /// The server no longer has the events that come next.
    Gone,
    /// The connection is lost; all that was missed can still be had.
    Away,
    /// An event that can't be written down.
    Broken(anyhow::Error),
}

impl From<kube::Error> for Stop {
    fn from(error: kube::Error) -> Stop {
        match error {
            kube::Error::Api(status) if status.code == 410 => Stop::Gone,
            _ => Stop::Away,
        }
    }
}

impl Watch {
    async fn run(self, mut version: String) {
        loop {
            let Err(stop) = self.follow(&mut version).await;
            match stop {
                Stop::Gone => match self.catch_up().await {
                    Ok(Some((now, 0))) => version = now,
                    Ok(Some((now, missed))) => {
                        self.hole(format!(
                            "{missed} {} changed between {version} and {now}",
                            self.resource
                        ));
                        version = now;
                    }
                    Ok(None) | Err(_) => tokio::time::sleep(RECONNECT).await,
                },
                Stop::Away => tokio::time::sleep(RECONNECT).await,
                Stop::Broken(error) => return self.hole(format!("{}: {error:#}", self.resource)),
            }
        }
    }

    /// Watches on from `version` until the connection is lost.
    async fn follow(&self, version: &mut String) -> Result<Infallible, Stop> {
        let parameters = WatchParams::default().timeout(WATCH_SECONDS);
        loop {
            let request = self
                .request
                .watch(&parameters, version)
                .map_err(|error| Stop::Broken(error.into()))?;
            let mut events = pin!(self.client.request_events::<Value>(request).await?);
            while let Some(event) = events.try_next().await? {
                let (change, object) = match event {
                    WatchEvent::Added(object) => (Change::Added, object),
                    WatchEvent::Modified(object) => (Change::Modified, object),
                    WatchEvent::Deleted(object) => (Change::Deleted, object),
                    WatchEvent::Bookmark(bookmark) => {
                        *version = bookmark.metadata.resource_version;
                        continue;
                    }
                    WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
                };
                *version =
                    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                self.note(version, change, object).map_err(Stop::Broken)?;
            }
        }
    }

    /// Brings the record up to what is there now; returns where a watch has to
    /// begin and how many objects differed from the record, or nothing when
    /// the cluster does not know the kind.
    async fn catch_up(&self) -> Result<Option<(String, usize)>> {
        let list: Value =
            match self.client.request(self.request.list(&ListParams::default())?).await {
                Ok(list) => list,
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        let mut recorded = self.living();
        let mut differing = 0;
        for item in list["items"].as_array().into_iter().flatten() {
            let uid = item["metadata"]["uid"].as_str().unwrap_or_default();
            let version = item["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            let change = match recorded.remove(uid) {
                Some(known) if known["metadata"]["resourceVersion"] == version => continue,
                Some(_) => Change::Modified,
                None => Change::Added,
            };
            self.note(version, change, item.clone())?;
            differing += 1;
        }
        let now = list["metadata"]["resourceVersion"]
            .as_str()
            .ok_or_else(|| anyhow!("a list without version"))?;
        differing += recorded.len();
        for gone in recorded.into_values() {
            self.note(now, Change::Deleted, Value::clone(&gone))?;
        }
        Ok(Some((now.to_owned(), differing)))
    }

    /// The objects that exist as far as the record goes, by uid.
    fn living(&self) -> HashMap<String, Arc<Value>> {
        let mut living = HashMap::new();
        for entry in lock(&self.log).entries.iter().filter(|entry| entry.resource == self.resource)
        {
            let uid = entry.object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            match entry.change {
                Change::Deleted => living.remove(&uid),
                _ => living.insert(uid, Arc::clone(&entry.object)),
            };
        }
        living
    }

    fn note(&self, version: &str, change: Change, object: Value) -> Result<()> {
        let version = version.parse().with_context(|| format!("resourceVersion {version:?}"))?;
        let entry = Entry {
            version,
            at: clock::wall(),
            resource: self.resource,
            change,
            object: Arc::new(object),
        };
        let mut log = lock(&self.log);
        ensure!(log.entries.len() < MAX_ENTRIES, "more than {MAX_ENTRIES} writes");
        log.entries.push(entry);
        self.news.notify_waiters();
        Ok(())
    }

    fn hole(&self, what: String) {
        lock(&self.log).holes.push(what);
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
