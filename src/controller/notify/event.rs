//! A notice as an Event.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use surefoot_core::api::notice::Notice;

use super::Sender;
use crate::client::{CallError, limited};
use crate::clock::micro;

/// Write the Event, unless it has been written before.
pub(super) async fn write(
    client: &Client,
    instance: &str,
    sender: &Sender,
    notice: &Notice,
) -> Result<(), CallError> {
    let Sender { uid, namespace, name } = sender;
    let short = uid.get(..8).unwrap_or(uid);
    let reason = format!("{:?}", notice.reason);
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{short}.{}", notice.id)),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some(reason.clone()),
        event_time: Some(MicroTime(micro(notice.at))),
        reason: Some(reason),
        note: Some(notice.note.clone()),
        type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("surefoot.dev/v1alpha1".to_owned()),
            kind: Some("Rollout".to_owned()),
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("surefoot.dev/controller".to_owned()),
        reporting_instance: Some(instance.chars().take(128).collect()),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    match limited(api.create(&PostParams::default(), &event)).await {
        Ok(_) => Ok(()),
        // It has been sent before.
        Err(error) if error.code() == Some(409) => Ok(()),
        Err(error) => Err(error),
    }
}
