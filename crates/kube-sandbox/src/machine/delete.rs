//! Deleting: at once, gracefully, or once the finalizers are done.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Answer, How, Machine, Place, meta, seconds};
use crate::kinds::Kind;
use crate::request::Request;
use crate::status::{About, Cause, Refusal};
use crate::store::Key;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a client says about a deletion, in the body or as parameters.
#[derive(Clone, Debug, Default)]
struct Options {
    grace: Option<i64>,
    policy: Option<String>,
    uid: Option<String>,
    version: Option<String>,
}

/// Whether an object that is being deleted may go.
pub(super) fn is_free(kind: &Kind, object: &Value) -> bool {
    let namespace_done = kind.plural != "namespaces"
        || object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    meta::finalizers(object).is_empty() && namespace_done && grace == 0
}

impl Machine {
    pub(super) fn delete(
        &mut self,
        request: &Request,
        place: &Place,
        how: &How,
    ) -> Result<Answer, Refusal> {
        let (options, dry_run) = options(request)?;
        let how = How { dry_run: how.dry_run || dry_run, ..how.clone() };
        self.delete_one(place, &options, &how)
    }

    fn delete_one(
        &mut self,
        place: &Place,
        options: &Options,
        how: &How,
    ) -> Result<Answer, Refusal> {
        let kind = &place.kind;
        let old = self.find(place)?;
        preconditions(kind, options, &old)?;
        if is_pending(kind, options, &old) {
            return Ok(Answer::json(200, kind.served(&old)));
        }
        let mut object = Value::clone(&old);
        // Nothing depends on an Event.
        if kind.plural != "events" {
            finalize(&mut object, options.policy.as_deref());
        }
        let grace = grace(kind, &object, options);
        let done = grace == 0
            && meta::finalizers(&object).is_empty()
            && (kind.plural != "namespaces" || is_free(kind, &object))
            && !self.holds_instances(kind, &object, how);
        let ends = old["metadata"]["deletionGracePeriodSeconds"].as_i64() == Some(0);
        if done && kind.plural == "pods" && !ends {
            // A pod ends gracefully, if at once.
            if !meta::is_deleting(&object) {
                meta::raise(&mut object);
            }
            meta::set(&mut object, "deletionTimestamp", seconds(how.now));
            meta::set(&mut object, "deletionGracePeriodSeconds", 0);
            object = Value::clone(&*self.save(kind, place.key.clone(), object, how)?);
        }
        if done {
            let last = self.vanish(place, object, how);
            return Ok(Answer::json(200, success(kind, last)));
        }
        let earlier = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
        if !meta::is_deleting(&object) || earlier.is_some_and(|earlier| grace < earlier) {
            if !meta::is_deleting(&object) {
                meta::raise(&mut object);
            }
            let end = how.now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(how.now);
            meta::set(&mut object, "deletionTimestamp", seconds(end));
            if kind.plural != "namespaces" {
                meta::set(&mut object, "deletionGracePeriodSeconds", grace);
            }
        }
        if kind.plural == "namespaces" {
            object["status"]["phase"] = "Terminating".into();
            // A namespace's deletion has no grace.
            meta::set(&mut object, "deletionTimestamp", seconds(how.now));
        }
        if object == *old {
            return Ok(Answer::json(200, kind.served(&old)));
        }
        let stored = self.save(kind, place.key.clone(), object, how)?;
        Ok(Answer::json(200, kind.served(&stored)))
    }

    /// The object goes; returns its last state as it is served.
    pub(super) fn vanish(&mut self, place: &Place, object: Value, how: &How) -> Value {
        let kind = &place.kind;
        if how.dry_run {
            return kind.served(&object);
        }
        let last = self.store.remove(&place.key);
        if kind.plural == "customresourcedefinitions" {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
            let group = text("/spec/group").unwrap_or_default();
            self.registry.drop(group, text("/spec/names/plural").unwrap_or_default());
        }
        let mut last = last.map_or(object, |last| kind.served(&last));
        if kind.is_custom() {
            self.forget_definition(kind, how.now);
        }
        if let Some(fields) = last.as_object_mut() {
            fields.entry("kind").or_insert_with(|| kind.kind.clone().into());
        }
        last
    }

    /// Deletes the objects of a definition that is to go; whether some are left.
    fn holds_instances(&mut self, kind: &Kind, definition: &Value, how: &How) -> bool {
        if kind.plural != "customresourcedefinitions" || how.dry_run {
            return false;
        }
        let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
        let group = text("/spec/group").unwrap_or_default();
        let plural = text("/spec/names/plural").unwrap_or_default();
        let found = self.registry.all().find(|k| k.group == group && k.plural == plural).cloned();
        let Some(instances) = found else { return false };
        let resource = instances.resource();
        let keys: Vec<Key> = self.store.list(&resource, None).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let place = Place { kind: instances.clone(), key };
            // One that is being deleted already needs nothing more.
            let _ = self.delete_one(&place, &Options::default(), &How::own(how.now));
        }
        self.store.list(&resource, None).next().is_some()
    }

    /// A definition that waited for its last object goes with it.
    fn forget_definition(&mut self, kind: &Kind, now: Timestamp) {
        let resource = kind.resource();
        if self.store.list(&resource, None).next().is_some() {
            return;
        }
        let Some(definitions) =
            self.registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions").cloned()
        else {
            return;
        };
        let key = Key {
            resource: definitions.resource(),
            namespace: String::new(),
            name: format!("{}.{}", kind.plural, kind.group),
        };
        let waits = self
            .store
            .get(&key)
            .is_some_and(|d| meta::is_deleting(d) && meta::finalizers(d).is_empty());
        if waits && let Some(object) = self.store.get(&key).map(|found| Value::clone(found)) {
            let place = Place { kind: definitions, key };
            self.vanish(&place, object, &How::own(now));
        }
    }

    pub(super) fn delete_collection(
        &mut self,
        request: &Request,
        place: &Place,
        namespace: Option<&str>,
        how: &How,
    ) -> Result<Answer, Refusal> {
        let kind = &place.kind;
        if kind.namespaced && namespace.is_none() {
            return Err(Refusal::not_allowed());
        }
        let (options, dry_run) = options(request)?;
        let how = How { dry_run: how.dry_run || dry_run, ..how.clone() };
        let selector = super::read::selector(request, kind)?;
        let resource = kind.resource();
        let found = self.store.list(&resource, namespace);
        let found = found.filter(|(_, object)| selector.matches(object));
        let found: Vec<(Key, Value)> =
            found.map(|(key, object)| (key.clone(), kind.served(object))).collect();
        let mut items = Vec::new();
        for (key, object) in found {
            let place = Place { kind: kind.clone(), key };
            match self.delete_one(&place, &options, &how) {
                Ok(_) => items.push(object),
                Err(refusal) if refusal.code == 404 => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Answer::json(200, self.list_of(kind, items, self.version(), json!({}))))
    }
}

fn options(request: &Request) -> Result<(Options, bool), Refusal> {
    let mut options = Options {
        grace: request.parameter("gracePeriodSeconds").and_then(|text| text.parse().ok()),
        policy: request.parameter("propagationPolicy").map(str::to_owned),
        ..Options::default()
    };
    if request.body.is_empty() {
        return Ok((options, false));
    }
    if !matches!(request.media(), "application/json" | "") {
        return Err(Refusal::out_of_scope(format!("{request}: bodies must be JSON")));
    }
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Refusal::bad_request(format!("DeleteOptions must be JSON: {error}")))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    options.grace = body["gracePeriodSeconds"].as_i64().or(options.grace);
    options.policy = text(&body["propagationPolicy"]).or(options.policy);
    if let Some(policy) = &options.policy {
        known(policy)?;
    }
    options.uid = text(&body["preconditions"]["uid"]);
    options.version = text(&body["preconditions"]["resourceVersion"]);
    let dry_run = body["dryRun"].as_array().is_some_and(|all| all.iter().any(|v| v == "All"));
    Ok((options, dry_run))
}

/// Whether there is such a propagation policy.
fn known(policy: &str) -> Result<(), Refusal> {
    let policies = ["Foreground", "Background", "Orphan", "nil"].map(Value::from);
    if policies[..3].contains(&policy.into()) {
        return Ok(());
    }
    let cause = Cause::unsupported("propagationPolicy", &policy.into(), &policies);
    let about = About { group: "meta.k8s.io", kind: "DeleteOptions", name: "" };
    Err(Refusal::invalid(about, &[cause]))
}

fn preconditions(kind: &Kind, options: &Options, object: &Value) -> Result<(), Refusal> {
    let about = kind.about_kind(meta::text(object, "name"));
    let (uid, version) = (meta::text(object, "uid"), meta::text(object, "resourceVersion"));
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        );
        return Err(Refusal::conflict(about, why));
    }
    if let Some(wanted) = options.version.as_deref().filter(|wanted| *wanted != version) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        );
        return Err(Refusal::conflict(about, why));
    }
    Ok(())
}

/// Whether a pod is ending already, and not to end sooner: then nothing about it changes.
fn is_pending(kind: &Kind, options: &Options, old: &Value) -> bool {
    let earlier = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    kind.plural == "pods" && earlier > 0 && options.grace.is_none_or(|grace| grace >= earlier)
}

/// The finalizers by which dependents are orphaned, or deleted first.
fn finalize(object: &mut Value, policy: Option<&str>) {
    let Some(policy) = policy else { return };
    let mut names: Vec<String> = meta::finalizers(object)
        .into_iter()
        .filter(|name| !matches!(*name, ORPHAN | FOREGROUND))
        .map(str::to_owned)
        .collect();
    match policy {
        "Orphan" => names.push(ORPHAN.into()),
        "Foreground" => names.push(FOREGROUND.into()),
        _ => {}
    }
    if names.is_empty() {
        meta::unset(object, "finalizers");
    } else {
        meta::set(object, "finalizers", names);
    }
}

/// How long a pod may take; everything else goes at once.
fn grace(kind: &Kind, object: &Value, options: &Options) -> i64 {
    let running = kind.plural == "pods"
        && !object["spec"]["nodeName"].is_null()
        && !matches!(object["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if !running {
        return 0;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let wanted = options.grace.unwrap_or(own).max(0);
    match object["metadata"]["deletionGracePeriodSeconds"].as_i64() {
        Some(earlier) => wanted.min(earlier),
        None => wanted,
    }
}

/// What a deletion answers: a few kinds the object, the others a `Status`.
fn success(kind: &Kind, last: Value) -> Value {
    if kind.returns_deleted {
        return last;
    }
    let mut details = json!({
        "name": last["metadata"]["name"], "kind": kind.plural, "uid": last["metadata"]["uid"],
    });
    if !kind.group.is_empty() {
        details["group"] = kind.group.clone().into();
    }
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    })
}
