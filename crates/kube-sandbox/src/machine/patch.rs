//! Patching: JSON patch, merge patch, strategic merge patch.

use serde_json::Value;

use super::write::{Unknown, fill, unknown_fields};
use super::{Answer, How, Machine, Place, meta};
use crate::kinds::Kind;
use crate::request::Request;
use crate::status::{About, Cause, Refusal};
use crate::strategic;

/// More operations than that are refused, as the real server refuses them.
const MAX_OPERATIONS: usize = 10_000;

impl Machine {
    pub(super) fn patch(
        &mut self,
        request: &Request,
        place: &Place,
        how: &How,
    ) -> Result<Answer, Refusal> {
        let kind = &place.kind;
        form(request, kind.is_custom())?;
        let old = self.find(place)?;
        let mut patched = kind.served(&old);
        let applied = applied(request, &mut patched, kind.is_custom())?;
        let shown = || shown(request, kind, &old);
        let (mut object, unknown) = match kind.read(patched) {
            Ok(read) => read,
            Err(why) if applied == Form::Strategic => return Err(Refusal::bad_request(why)),
            Err(why) => return Err(unreadable(&shown(), &why)),
        };
        match unknown_fields(&unknown, how.strictness) {
            Unknown::Refused(why) => return Err(unreadable(&shown(), &why)),
            Unknown::Warned(warnings) => self.warnings.extend(warnings),
        }
        fixed_uid(kind, &object, &old)?;
        if object["metadata"]["resourceVersion"].is_null() {
            let version = old["metadata"]["resourceVersion"].clone();
            meta::set(&mut object, "resourceVersion", version);
        }
        let object = kind.stored(object);
        self.replace(place, &old, object, how)
    }

    /// POST to a pod's `binding`: the pod gets its node.
    pub(super) fn bind(
        &mut self,
        request: &Request,
        place: &Place,
        how: &How,
    ) -> Result<Answer, Refusal> {
        let old = self.find(place)?;
        let binding: Value = serde_json::from_slice(&request.body)
            .map_err(|error| Refusal::bad_request(format!("a Binding must be JSON: {error}")))?;
        if !old["spec"]["nodeName"].is_null() {
            let why = format!("pod {} is already assigned to node", place.key.name);
            return Err(Refusal::conflict(
                About { group: "", kind: "pods/binding", name: &place.key.name },
                why,
            ));
        }
        let mut object = Value::clone(&old);
        object["spec"]["nodeName"] = binding["target"]["name"].clone();
        fill(&place.kind, &mut object);
        self.save(&place.kind, place.key.clone(), object, how)?;
        let status = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        });
        Ok(Answer::json(201, status))
    }
}

/// Patches what a subresource shows of an object.
pub(super) fn patched(request: &Request, shown: &mut Value) -> Result<(), Refusal> {
    applied(request, shown, false).map(|_| ())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Merge,
    Strategic,
}

/// Of which form a patch is.
fn form(request: &Request, is_custom: bool) -> Result<Form, Refusal> {
    Ok(match request.media() {
        "application/json-patch+json" => Form::Json,
        "application/merge-patch+json" => Form::Merge,
        "application/strategic-merge-patch+json" if !is_custom => Form::Strategic,
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
            return Err(Refusal::out_of_scope(format!(
                "{request}: server-side apply is for the real server"
            )));
        }
        _ => {
            return Err(Refusal::unsupported_media(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
    })
}

fn applied(request: &Request, object: &mut Value, is_custom: bool) -> Result<Form, Refusal> {
    let form = form(request, is_custom)?;
    match form {
        Form::Json => json(&request.body, object)?,
        Form::Merge => {
            let patch = value(&request.body)?;
            if !patch.is_object() {
                return Err(Refusal::bad_request("a merge patch must be an object"));
            }
            json_patch::merge(object, &patch);
        }
        Form::Strategic => strategic::merge(object, &value(&request.body)?)?,
    }
    Ok(form)
}

fn value(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))
}

fn json(body: &[u8], object: &mut Value) -> Result<(), Refusal> {
    let operations: json_patch::Patch = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
    if operations.len() > MAX_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        );
        return Err(Refusal::new(413, "RequestEntityTooLarge", message));
    }
    json_patch::patch(object, &operations).map_err(|_| {
        // The real server says no more either.
        let message = "the server rejected our request due to an error in our request";
        Refusal { details: Some(serde_json::json!({})), ..Refusal::new(422, "Invalid", message) }
    })
}

/// A patch can't give an object another uid. Of custom objects the server says so twice.
fn fixed_uid(kind: &Kind, object: &Value, old: &Value) -> Result<(), Refusal> {
    let (given, uid) = (&object["metadata"]["uid"], &old["metadata"]["uid"]);
    if given.is_null() || given == uid {
        return Ok(());
    }
    let cause = Cause::invalid("metadata.uid", given, "field is immutable");
    let causes = vec![cause; if kind.is_custom() { 2 } else { 1 }];
    Err(kind.invalid(meta::text(old, "name"), &causes))
}

/// The patched object as text: of those that can't be read.
fn shown(request: &Request, kind: &Kind, old: &Value) -> String {
    let mut patched = kind.served(old);
    // It has been applied before.
    let _ = applied(request, &mut patched, kind.is_custom());
    patched.to_string()
}

/// The patched object can't be read as its kind.
fn unreadable(patched: &str, why: &str) -> Refusal {
    let value = Value::from(patched);
    let cause = Cause::invalid("patch", &value, why);
    Refusal::invalid(About { group: "", kind: "", name: "" }, &[cause])
}
