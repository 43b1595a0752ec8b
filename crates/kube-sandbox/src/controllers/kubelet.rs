//! The pods, played: they get a node and an address, become ready, and end.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::api::{Api, is_deleting, text, uri};
use super::{READY_AFTER, Settings};
use crate::machine::seconds;

const CORE: &str = "/api/v1";
/// The node that all pods run on. There needn't be an object of that name.
const NODE: &str = "sandbox";

pub(super) struct Kubelet {
    api: Api,
    settings: Settings,
    /// Since when each pod runs, by uid.
    since: BTreeMap<String, Timestamp>,
    /// Since when each pod ends, by uid.
    ending: BTreeMap<String, Timestamp>,
    addresses: u32,
}

impl Kubelet {
    pub(super) fn new(api: Api, settings: Settings) -> Kubelet {
        let (since, ending) = (BTreeMap::new(), BTreeMap::new());
        Kubelet { api, settings, since, ending, addresses: 0 }
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    pub(super) async fn sync(&mut self, now: Timestamp) -> Option<Timestamp> {
        let pods = self.api.list("/api/v1/pods").await?;
        let lives = |uid: &String| pods.iter().any(|pod| text(&pod["metadata"]["uid"]) == uid);
        self.since.retain(|uid, _| lives(uid));
        self.ending.retain(|uid, _| lives(uid));
        let mut next = None;
        for pod in &pods {
            let at =
                if is_deleting(pod) { self.end(pod, now).await } else { self.play(pod, now).await };
            next = [next, at].into_iter().flatten().min();
        }
        next
    }

    /// Brings a pod to life; when there is more to do.
    async fn play(&mut self, pod: &Value, now: Timestamp) -> Option<Timestamp> {
        if matches!(text(&pod["status"]["phase"]), "Failed" | "Succeeded") {
            return None;
        }
        let uri = uri(CORE, "pods", pod);
        if pod["spec"]["nodeName"].is_null() {
            let binding = json!({"target": {"kind": "Node", "name": NODE}});
            self.api.create(&format!("{uri}/binding"), &binding).await.ok()?;
        }
        let since = *self.since.entry(text(&pod["metadata"]["uid"]).to_owned()).or_insert(now);
        let ready_at = self.ready_at(pod, since);
        let is_ready = ready_at.is_some_and(|at| at <= now);
        if pod["status"]["podIP"].is_null() || is_ready != reported(pod) {
            let address = match pod["status"]["podIP"].as_str() {
                Some(address) => address.to_owned(),
                None => self.address(),
            };
            let status = status(pod, &address, is_ready, since, now);
            // With the uid, since the name may be another pod's by now.
            let patch = json!({"metadata": {"uid": pod["metadata"]["uid"]}, "status": status});
            let _ = self.api.merge(&format!("{uri}/status"), &patch).await;
        }
        ready_at.filter(|at| *at > now)
    }

    fn ready_at(&self, pod: &Value, since: Timestamp) -> Option<Timestamp> {
        let delay = match pod["metadata"]["annotations"][READY_AFTER].as_str() {
            Some("never") => return None,
            Some(text) => text.parse::<SignedDuration>().ok(),
            None => None,
        };
        let usual = || SignedDuration::try_from(self.settings.ready_after).unwrap_or_default();
        since.checked_add(delay.unwrap_or_else(usual)).ok()
    }

    fn address(&mut self) -> String {
        self.addresses = (self.addresses + 1) % 65_000;
        format!("10.244.{}.{}", self.addresses / 250, self.addresses % 250 + 1)
    }

    /// Ends a pod that is being deleted; when there is more to do.
    async fn end(&mut self, pod: &Value, now: Timestamp) -> Option<Timestamp> {
        let since = *self.ending.entry(text(&pod["metadata"]["uid"]).to_owned()).or_insert(now);
        let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        let usual = SignedDuration::try_from(self.settings.ends_after).unwrap_or_default();
        let end = since.checked_add(usual.min(SignedDuration::from_secs(grace))).ok()?;
        if end > now {
            return Some(end);
        }
        if grace > 0 {
            let uid = &pod["metadata"]["uid"];
            let _ = self.api.delete(&uri(CORE, "pods", pod), uid, Some(0)).await;
        }
        None
    }
}

/// Whether the pod's status says that it is ready.
fn reported(pod: &Value) -> bool {
    super::api::has_condition(pod, "Ready")
}

fn status(pod: &Value, address: &str, ready: bool, since: Timestamp, now: Timestamp) -> Value {
    let condition = |kind: &str, is: bool, at: Timestamp| {
        json!({
            "type": kind, "status": if is { "True" } else { "False" },
            "lastTransitionTime": seconds(at),
        })
    };
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let containers: Vec<Value> = containers
        .map(|container| {
            json!({
                "name": container["name"], "image": container["image"], "imageID": "",
                "ready": ready, "started": true, "restartCount": 0,
                "state": {"running": {"startedAt": seconds(since)}},
            })
        })
        .collect();
    json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "hostIP": "10.0.0.1", "startTime": seconds(since),
        "conditions": [
            condition("PodScheduled", true, since),
            condition("Initialized", true, since),
            condition("ContainersReady", ready, now),
            condition("Ready", ready, now),
        ],
        "containerStatuses": containers,
    })
}
