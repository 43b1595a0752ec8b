//! The scale subresource.

use serde_json::{Value, json};

use super::{Answer, How, Machine, Place, meta, patch};
use crate::kinds::{Kind, Scale};
use crate::request::{Request, Verb};
use crate::status::{About, Cause, Refusal};

impl Machine {
    pub(super) fn scale(
        &mut self,
        request: &Request,
        verb: Verb,
        place: &Place,
        how: &How,
    ) -> Result<Answer, Refusal> {
        let Some(scale) = &place.kind.scale else { return Err(Refusal::no_resource()) };
        let old = self.find(place)?;
        let mut shown = shown(&place.kind, scale, &old);
        match verb {
            Verb::Get => return Ok(Answer::json(200, shown)),
            Verb::Patch => patch::patched(request, &mut shown)?,
            Verb::Update => {
                shown = serde_json::from_slice(&request.body).map_err(|error| {
                    Refusal::bad_request(format!("a Scale must be JSON: {error}"))
                })?;
            }
            _ => return Err(Refusal::not_allowed()),
        }
        let name = place.key.name.as_str();
        let replicas = shown["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 && !place.kind.is_custom() {
            let why = "must be greater than or equal to 0";
            let cause = Cause::invalid("spec.replicas", &shown["spec"]["replicas"], why);
            let about = About { group: "autoscaling", kind: "Scale", name };
            return Err(Refusal::invalid(about, &[cause]));
        }
        let mut object = Value::clone(&old);
        let version = meta::text(&shown, "resourceVersion");
        if version.is_empty() {
            meta::set(&mut object, "resourceVersion", meta::text(&old, "resourceVersion"));
        } else {
            meta::set(&mut object, "resourceVersion", version);
        }
        set(&mut object, &scale.spec, replicas.into());
        // What is written is the object itself, by way of its scale.
        let way = How { subresource: None, scaled: Some(scale.spec.clone()), ..how.clone() };
        self.replace(place, &old, object, &way)?;
        let now = if how.dry_run { old } else { self.find(place)? };
        Ok(Answer::json(200, self::shown(&place.kind, scale, &now)))
    }
}

/// What is wrong with the numbers of replicas of a custom object; of a status with its own alone.
pub(super) fn check(kind: &Kind, object: &Value, subresource: Option<&str>) -> Vec<Cause> {
    let Some(scale) = &kind.scale else { return Vec::new() };
    let pointers = [Some(&scale.spec).filter(|_| subresource.is_none()), Some(&scale.status)];
    pointers.into_iter().flatten().filter_map(|pointer| number(object, pointer)).collect()
}

fn number(object: &Value, pointer: &str) -> Option<Cause> {
    let value = object.pointer(pointer)?;
    let path = pointer.replace('/', ".");
    match (value.as_i64(), value) {
        (Some(number), _) if number < 0 => {
            Some(Cause::invalid(path, value, "should be a non-negative integer"))
        }
        (None, Value::String(text)) => {
            let why =
                format!("{path} accessor error: {text} is of the type string, expected int64");
            Some(Cause::invalid(path, &0.into(), why))
        }
        _ => None,
    }
}

/// An object as a `Scale`.
fn shown(kind: &Kind, scale: &Scale, object: &Value) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let metadata = &object["metadata"];
    let mut shown = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {}, "status": {"replicas": number(&scale.status)},
    });
    if kind.namespaced {
        shown["metadata"]["namespace"] = metadata["namespace"].clone();
    }
    let replicas = number(&scale.spec);
    if replicas != 0 {
        shown["spec"]["replicas"] = replicas.into();
    }
    let selector = scale.selector.as_ref().and_then(|pointer| object.pointer(pointer));
    match selector {
        Some(Value::String(text)) => shown["status"]["selector"] = text.clone().into(),
        Some(Value::Object(fields)) => {
            let labels = fields.get("matchLabels").and_then(Value::as_object);
            let terms: Vec<String> = labels
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect();
            shown["status"]["selector"] = terms.join(",").into();
        }
        _ => {}
    }
    shown
}

/// Sets a field at a pointer, making the objects on the way; not below what is no object.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for name in pointer.split('/').skip(1) {
        if !place.is_object() && !place.is_null() {
            return;
        }
        place = &mut place[name];
    }
    *place = value;
}
