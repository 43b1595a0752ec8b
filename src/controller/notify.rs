//! Events, from the committed outbox: at least once, and never twice, since an Event's name is made
//! of the Rollout and the notice.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use surefoot_core::api::Rollout;
use surefoot_core::api::status::Notice;

use crate::client::{CallError, limited};
use crate::clock::micro;

/// Which notices have been delivered, by Rollout.
pub struct Notifier {
    client: Client,
    instance: String,
    delivered: Mutex<HashMap<String, Vec<String>>>,
}

impl Notifier {
    /// Nothing delivered yet.
    #[must_use]
    pub fn new(client: Client, instance: String) -> Self {
        Self { client, instance, delivered: Mutex::new(HashMap::new()) }
    }

    /// Ids of notices that have been delivered and may leave the outbox.
    #[must_use]
    pub fn delivered(&self, uid: &str) -> Vec<String> {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<String>>> {
        self.delivered.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Forget a Rollout that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Send what is in the outbox. Failures stay there for the next time.
    pub async fn deliver(&self, rollout: &Rollout) -> bool {
        let uid = rollout.uid().unwrap_or_default();
        let outbox = rollout.status.as_ref().map(|s| s.outbox.as_slice()).unwrap_or_default();
        let mut known = self.delivered(&uid);
        known.retain(|id| outbox.iter().any(|n| n.id == *id));
        let mut sent = false;
        for notice in outbox {
            if known.contains(&notice.id) {
                continue;
            }
            match self.send(rollout, notice).await {
                Ok(()) => {
                    known.push(notice.id.clone());
                    sent = true;
                }
                Err(error) => tracing::warn!(notice = notice.id, %error, "Event not delivered"),
            }
        }
        self.lock().insert(uid, known);
        sent
    }

    /// Say what can't be put into the outbox, since no status can be written. Once, until the Event is
    /// forgotten.
    pub async fn tell(&self, rollout: &Rollout, reason: &str, note: &str, at: Timestamp) {
        let notice = Notice {
            id: reason.to_lowercase(),
            warning: true,
            reason: reason.to_owned(),
            note: note.chars().take(1000).collect(),
            at,
        };
        if let Err(error) = self.send(rollout, &notice).await {
            tracing::warn!(reason, %error, "Event not delivered");
        }
    }

    async fn send(&self, rollout: &Rollout, notice: &Notice) -> Result<(), CallError> {
        let namespace = rollout.namespace().unwrap_or_default();
        let uid = rollout.uid().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{}.{}", rollout.name_any(), short(&uid), notice.id)),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some(notice.reason.clone()),
            event_time: Some(MicroTime(micro(notice.at))),
            reason: Some(notice.reason.clone()),
            note: Some(notice.note.clone()),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some("surefoot.dev/v1alpha1".to_owned()),
                kind: Some("Rollout".to_owned()),
                name: Some(rollout.name_any()),
                namespace: Some(namespace.clone()),
                uid: Some(uid),
                ..ObjectReference::default()
            }),
            reporting_controller: Some("surefoot.dev/controller".to_owned()),
            reporting_instance: Some(self.instance.chars().take(128).collect()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        match limited(api.create(&PostParams::default(), &event)).await {
            Ok(_) => Ok(()),
            // It has been sent before.
            Err(error) if error.code() == Some(409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}
