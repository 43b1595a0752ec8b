//! The API as the controllers use it.

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::request::Request;
use crate::sandbox::Sandbox;
use crate::service::Service;

/// A controller's way to the API. An error is a status code, 0 for a broken connection; what failed
/// is tried again with the next round.
pub(super) struct Api {
    service: Service,
    name: &'static str,
}

/// What a call came to.
pub(super) type Outcome = Result<Value, u16>;

impl Api {
    pub(super) fn new(sandbox: &Sandbox, name: &'static str) -> Api {
        Api { service: sandbox.service(name), name }
    }

    async fn send(&self, method: Method, uri: &str, media: &str, body: String) -> Outcome {
        let request =
            Request { agent: self.name.into(), ..Request::with(method, uri, media, body) };
        let response = self.service.answer(request).await.map_err(|_| 0u16)?;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|_| 0u16)?.to_bytes();
        let value = serde_json::from_slice(&body).map_err(|_| 0u16)?;
        if code < 300 { Ok(value) } else { Err(code) }
    }

    /// All objects at a path; none when they can't be had, so that nothing is done.
    pub(super) async fn list(&self, path: &str) -> Option<Vec<Value>> {
        let mut list = self.send(Method::GET, path, "", String::new()).await.ok()?;
        match list["items"].take() {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(super) async fn get(&self, uri: &str) -> Outcome {
        self.send(Method::GET, uri, "", String::new()).await
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
