//! The metadata of objects.

use serde_json::Value;

use crate::kinds::{Generation, Kind};
use crate::status::{Cause, Refusal};
use crate::store::Key;

/// Sets a field of an object's metadata.
pub(super) fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    object["metadata"][name] = value.into();
}

/// Removes a field of an object's metadata.
pub(super) fn unset(object: &mut Value, name: &str) {
    if let Some(fields) = object["metadata"].as_object_mut() {
        fields.remove(name);
    }
}

/// A text of an object's metadata; empty when it isn't there.
pub(super) fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"][name].as_str().unwrap_or_default()
}

/// Whether an object is being deleted.
pub(super) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// An object's finalizers.
pub(super) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

/// What only the server writes.
const SERVERS: [&str; 6] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "uid",
];

/// Takes over from the stored object what a client can't change.
pub(super) fn keep(object: &mut Value, old: &Value) {
    let old = &old["metadata"];
    for name in SERVERS {
        match old.get(name) {
            Some(value) => set(object, name, value.clone()),
            None => unset(object, name),
        }
    }
    for name in ["generateName", "namespace", "name"] {
        if let Some(value) = old.get(name).filter(|_| object["metadata"][name].is_null()) {
            set(object, name, value.clone());
        }
    }
}

/// The object has another name than its URL.
pub(super) fn misnamed(given: &str, name: &str) -> Refusal {
    Refusal::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({name})"
    ))
}

/// The object isn't the one that the client means.
pub(super) fn other_uid(kind: &Kind, key: &Key, given: &str, uid: &str) -> Refusal {
    // Where the real server keeps the object.
    let place = match (kind.is_custom(), kind.plural.as_str()) {
        (true, plural) => format!("{}/{plural}", kind.group),
        (_, "services") => "services/specs".to_owned(),
        (_, plural) => plural.to_owned(),
    };
    let space = Some(&key.namespace).filter(|namespace| !namespace.is_empty());
    let space = space.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{place}/{space}{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {given}, UID in object meta: {uid}",
        key.name
    );
    Refusal::conflict(kind.about(&key.name), why)
}

/// Checks name, uid and version of an update against the stored object.
pub(super) fn precheck(kind: &Kind, key: &Key, object: &Value, old: &Value) -> Result<(), Refusal> {
    let name = text(old, "name");
    let given = text(object, "name");
    if given != name {
        return Err(misnamed(given, name));
    }
    let (uid, old_uid) = (text(object, "uid"), text(old, "uid"));
    if !uid.is_empty() && uid != old_uid {
        return Err(other_uid(kind, key, uid, old_uid));
    }
    let version = text(object, "resourceVersion");
    if version.is_empty() || version == "0" {
        if kind.unconditional {
            return Ok(());
        }
        let value = Value::from(0);
        let cause =
            Cause::invalid("metadata.resourceVersion", &value, "must be specified for an update");
        return Err(Refusal::invalid(kind.about(name), &[cause]));
    }
    if version.parse::<u64>().is_err() {
        let value = Value::from(version);
        let cause =
            Cause::invalid("metadata.resourceVersion", &value, "must be an unsigned integer");
        return Err(kind.invalid(name, &[cause]));
    }
    if version != text(old, "resourceVersion") {
        return Err(Refusal::stale(kind.about(name)));
    }
    Ok(())
}

/// What is wrong with the new metadata, given the old.
pub(super) fn check(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    for name in ["labels", "annotations"] {
        for (key, _) in object["metadata"][name].as_object().into_iter().flatten() {
            let plain = key.rsplit('/').next().unwrap_or_default();
            let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if plain.is_empty() || plain.len() > 63 || !plain.chars().all(valid) {
                let path = format!("metadata.{name}");
                let why = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
                causes.push(Cause::invalid(path, &key.as_str().into(), why));
            }
        }
    }
    let references = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    if references.filter(|owner| owner["controller"] == true).count() > 1 {
        let path = "metadata.ownerReferences";
        let why = "Only one reference can have Controller set to true";
        causes.push(Cause::invalid(path, &object["metadata"]["ownerReferences"], why));
    }
    if let Some(old) = old.filter(|old| is_deleting(old)) {
        let before = finalizers(old);
        let fresh: Vec<&str> =
            finalizers(object).into_iter().filter(|name| !before.contains(name)).collect();
        if !fresh.is_empty() {
            let fresh: Vec<String> = fresh.iter().map(|name| format!("{name:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                fresh.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", why));
        }
    }
    causes
}

/// Raises the generation if what it counts has changed.
pub(super) fn count(kind: &Kind, object: &mut Value, old: &Value) {
    let annotations = || object["metadata"]["annotations"] != old["metadata"]["annotations"];
    let rises = match kind.generation {
        Generation::None => false,
        Generation::Spec => body_differs(kind, object, old),
        Generation::SpecAndAnnotations => body_differs(kind, object, old) || annotations(),
    };
    if rises {
        raise(object);
    }
}

/// Raises the generation, if there is one.
pub(super) fn raise(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64() {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

/// Whether anything beside metadata and status differs.
fn body_differs(kind: &Kind, object: &Value, old: &Value) -> bool {
    let fields = |object: &Value| {
        let mut object = object.clone();
        if let Value::Object(fields) = &mut object {
            fields.remove("metadata");
            fields.remove("apiVersion");
            if kind.status {
                fields.remove("status");
            }
        }
        object
    };
    fields(object) != fields(old)
}
