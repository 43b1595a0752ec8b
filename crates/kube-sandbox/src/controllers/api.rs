//! The API as the controllers use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::{Value, json};

use crate::machine::Body;
use crate::request::Request;
use crate::sandbox::Sandbox;
use crate::service::Service;

/// A controller's way to the API. An error is a status code, 0 for a broken connection; what failed
/// is tried again with the next round.
pub(super) struct Api {
    service: Service,
    name: &'static str,
    /// Whether a call has failed since that was last asked.
    failed: AtomicBool,
}

/// What a call came to.
pub(super) type Outcome = Result<Value, u16>;

impl Api {
    pub(super) fn new(sandbox: &Sandbox, name: &'static str) -> Api {
        Api { service: sandbox.service(name), name, failed: AtomicBool::new(false) }
    }

    /// Whether a call has failed since this was last asked: what failed is tried again.
    pub(super) fn failed(&self) -> bool {
        self.failed.swap(false, Ordering::Relaxed)
    }

    async fn send(&self, method: Method, uri: &str, media: &str, body: String) -> Outcome {
        let request =
            Request { agent: self.name.into(), ..Request::with(method, uri, media, body) };
        let outcome = match self.service.ask(&request).await {
            Ok((answer, _)) => match answer.body {
                Body::Json(value) | Body::Typed(_, value) if answer.code < 300 => Ok(value),
                _ => Err(answer.code),
            },
            Err(_) => Err(0),
        };
        self.failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    }

    /// All objects at a path; none when they can't be had, so that nothing is done.
    pub(super) async fn list(&self, path: &str) -> Option<Vec<Arc<Value>>> {
        let request = Request { agent: self.name.into(), ..Request::get(path) };
        let items = self.service.items(&request).await;
        self.failed.fetch_or(items.is_err(), Ordering::Relaxed);
        items.ok()
    }

    /// The resources that can be listed: path and plural, one version each.
    pub(super) fn resources(&self) -> Vec<(String, String)> {
        self.service.resources()
    }

    pub(super) async fn create(&self, uri: &str, object: &Value) -> Outcome {
        self.send(Method::POST, uri, "application/json", object.to_string()).await
    }

    pub(super) async fn replace(&self, uri: &str, object: &Value) -> Outcome {
        self.send(Method::PUT, uri, "application/json", object.to_string()).await
    }

    /// A merge patch.
    pub(super) async fn merge(&self, uri: &str, patch: &Value) -> Outcome {
        let media = "application/merge-patch+json";
        self.send(Method::PATCH, uri, media, patch.to_string()).await
    }

    /// Deletes an object, if it is still the one with this uid.
    pub(super) async fn delete(&self, uri: &str, uid: &Value, grace: Option<i64>) -> Outcome {
        let mut options = json!({"preconditions": {"uid": uid}});
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = grace.into();
        }
        self.send(Method::DELETE, uri, "application/json", options.to_string()).await
    }

    /// An Event about an object.
    pub(super) async fn event(
        &self,
        object: &Value,
        kind: &str,
        api: &str,
        reason: &str,
        note: &str,
    ) {
        let metadata = &object["metadata"];
        let namespace = text(&metadata["namespace"]);
        let event = json!({
            "metadata": {"generateName": format!("{}.", text(&metadata["name"]))},
            "involvedObject": {
                "kind": kind, "apiVersion": api, "namespace": namespace,
                "name": metadata["name"], "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "reason": reason, "message": note, "type": "Normal", "count": 1,
            "source": {"component": self.name}, "reportingComponent": self.name,
            "firstTimestamp": self.service.time(), "lastTimestamp": self.service.time(),
        });
        // Events are news, not state: a lost one is lost.
        let _ = self.create(&format!("/api/v1/namespaces/{namespace}/events"), &event).await;
    }
}

/// A text, empty when it isn't one.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A number, 0 when it isn't one.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// Where an object is: `path` is that of its API, such as `/apis/apps/v1`.
pub(super) fn uri(path: &str, plural: &str, object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = text(&metadata["name"]);
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{path}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("{path}/{plural}/{name}"),
    }
}

/// The uid of the object's controller.
pub(super) fn controller(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

pub(super) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Whether two objects are in one namespace.
pub(super) fn same_namespace(one: &Value, other: &Value) -> bool {
    one["metadata"]["namespace"] == other["metadata"]["namespace"]
}

/// The reference by which `owner` controls an object.
pub(super) fn owned_by(owner: &Value, api: &str, kind: &str) -> Value {
    json!([{
        "apiVersion": api, "kind": kind, "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    }])
}

/// Whether a condition is True.
pub(super) fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == kind && c["status"] == "True")
}

/// Sets fields of a status to numbers; those that are 0 are left out, as Go leaves them out.
pub(super) fn count(status: &mut Value, name: &str, number: i64) {
    if number != 0 {
        status[name] = number.into();
    }
}
