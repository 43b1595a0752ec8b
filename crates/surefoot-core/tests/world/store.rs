//! The API server: raw objects under one resourceVersion counter, with optimistic concurrency,
//! admission and the fence of the Rollout's definition.

use std::collections::BTreeMap;
use std::sync::Arc;

use json_patch::{Patch, PatchErrorKind};
use serde_json::{Value, json};
use surefoot_core::api::notice::Notice;
use surefoot_core::observed::{HELD, MANAGED};
use surefoot_core::trace::{Event, Names, State};
use surefoot_core::write::Target;

/// Kind and name.
pub type Key = (&'static str, String);
/// All objects at one moment; cheap to keep.
pub type Objects = BTreeMap<Key, Arc<Value>>;

/// The store as it was.
pub struct Moment {
    pub revision: u64,
    pub objects: Objects,
}

pub const NAMESPACE: &str = "prod";

/// The status codes that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// 404
    NotFound,
    /// 409
    Conflict,
    /// 422
    Invalid(String),
}

pub struct Store {
    pub objects: Objects,
    /// Every accepted write, in order.
    pub trace: Vec<Event>,
    /// When each of them was made, seconds, and what a Rollout said then.
    pub told: Vec<(i64, String)>,
    /// The notices that were committed for the channel, in order.
    pub news: Vec<Notice>,
    /// Ids of the messages that the channel got, in order.
    pub messages: Vec<String>,
    /// Now, seconds.
    pub clock: i64,
    pub names: Names,
    /// The admission policy that holds new templates is installed.
    pub policy: bool,
    revision: u64,
}

pub fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// Where a route has the weights of stable and the canary: in its last entry, before which may be one
/// for chosen requests.
pub fn places(route: &Value) -> [String; 2] {
    let (list, to) = match text(route, "/kind") {
        "VirtualService" => ("http", "route"),
        _ => ("rules", "backendRefs"),
    };
    let last = route["spec"][list].as_array().map_or(0, |entries| entries.len() - 1);
    [0, 1].map(|place| format!("/spec/{list}/{last}/{to}/{place}/weight"))
}

/// The canary's weight on the route, 0 where there is none.
pub fn canary_weight(store: &Store) -> i64 {
    let Target { kind, name } = store.names.routing.target();
    let route = store.get(kind.name(), &name);
    route.map_or(0, |route| number(&route, &places(&route)[1]))
}

fn key(object: &Value) -> Key {
    let kind = match text(object, "/kind") {
        "Rollout" => "Rollout",
        "Deployment" => "Deployment",
        "ReplicaSet" => "ReplicaSet",
        "Service" => "Service",
        "EndpointSlice" => "EndpointSlice",
        "VirtualService" => "VirtualService",
        "HTTPRoute" => "HTTPRoute",
        "RolloutAction" => "RolloutAction",
        "DestinationRule" => "DestinationRule",
        other => panic!("no such kind: {other:?}"),
    };
    (kind, text(object, "/metadata/name").to_owned())
}

impl Store {
    pub fn new(names: Names, policy: bool) -> Self {
        Self {
            objects: Objects::new(),
            trace: Vec::new(),
            told: Vec::new(),
            news: Vec::new(),
            messages: Vec::new(),
            clock: 0,
            names,
            policy,
            revision: 0,
        }
    }

    pub fn get(&self, kind: &'static str, name: &str) -> Option<Arc<Value>> {
        self.objects.get(&(kind, name.to_owned())).cloned()
    }

    pub fn list(&self, kind: &'static str) -> Vec<Arc<Value>> {
        let of_kind = self.objects.iter().filter(|((k, _), _)| *k == kind);
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    /// As it is now.
    pub fn moment(&self) -> Moment {
        Moment { revision: self.revision, objects: self.objects.clone() }
    }

    /// POST.
    pub fn create(&mut self, mut object: Value) -> Result<Arc<Value>, Refused> {
        let key = key(&object);
        if self.objects.contains_key(&key) {
            return Err(Refused::Conflict);
        }
        let revision = self.revision + 1;
        object["metadata"]["namespace"] = json!(NAMESPACE);
        object["metadata"]["uid"] = json!(format!("{}-{revision}", key.1));
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!(format!("{revision:08}"));
        Ok(self.put(key, object))
    }

    /// PATCH with a JSON Patch, on the object or one of its subresources.
    pub fn patch(
        &mut self,
        kind: &'static str,
        name: &str,
        patch: &Patch,
    ) -> Result<Arc<Value>, Refused> {
        let old = self.get(kind, name).ok_or(Refused::NotFound)?;
        let mut new = old.as_ref().clone();
        json_patch::patch(&mut new, patch).map_err(|error| match error.kind {
            PatchErrorKind::TestFailed => Refused::Invalid("a test failed".to_owned()),
            _ => Refused::Invalid(error.to_string()),
        })?;
        let version = "/metadata/resourceVersion";
        if text(&new, version) != text(&old, version) {
            return Err(Refused::Conflict);
        }
        self.replace(&old, new)
    }

    /// PUT by somebody else, who always reads first.
    pub fn edit(&mut self, kind: &'static str, name: &str, change: impl FnOnce(&mut Value)) {
        let Some(old) = self.get(kind, name) else { return };
        let mut new = old.as_ref().clone();
        change(&mut new);
        self.replace(&old, new).expect("outsiders edit what admission allows");
    }

    /// DELETE with preconditions.
    pub fn delete(
        &mut self,
        kind: &'static str,
        name: &str,
        uid: &str,
        version: &str,
    ) -> Result<(), Refused> {
        let old = self.get(kind, name).ok_or(Refused::NotFound)?;
        if text(&old, "/metadata/uid") != uid || text(&old, "/metadata/resourceVersion") != version
        {
            return Err(Refused::Conflict);
        }
        self.remove(kind, name);
        Ok(())
    }

    /// DELETE by somebody else; finalizers are waited for.
    pub fn remove(&mut self, kind: &'static str, name: &str) {
        let Some(old) = self.get(kind, name) else { return };
        let mut new = old.as_ref().clone();
        let finalizers = old.pointer("/metadata/finalizers").and_then(Value::as_array);
        if finalizers.is_some_and(|f| !f.is_empty()) {
            new["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
            self.put((kind, name.to_owned()), new);
            return;
        }
        self.revision += 1;
        new["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.record(Event::of(&new, true, &self.names), &new);
        self.objects.remove(&(kind, name.to_owned()));
    }

    /// Something that only a simulation knows.
    pub fn note(&mut self, state: State) {
        self.record(Some(Event { revision: self.revision, state }), &Value::Null);
    }

    fn record(&mut self, event: Option<Event>, object: &Value) {
        let said = text(object, "/status/message").to_owned();
        self.told.extend(event.iter().map(|_| (self.clock, said.clone())));
        self.trace.extend(event);
    }

    fn replace(&mut self, old: &Value, mut new: Value) -> Result<Arc<Value>, Refused> {
        let key = key(&new);
        if key.0 == "Rollout" {
            fence(old, &new)?;
        }
        if key.0 == "Deployment" {
            self.hold(old, &mut new);
        }
        if new == *old {
            return Ok(Arc::new(new));
        }
        if new.get("spec") != old.get("spec") {
            new["metadata"]["generation"] = json!(number(old, "/metadata/generation") + 1);
        }
        let finalizers = new.pointer("/metadata/finalizers").and_then(Value::as_array);
        let done = finalizers.is_none_or(Vec::is_empty);
        let going = new.pointer("/metadata/deletionTimestamp").is_some();
        let name = key.1.clone();
        let kind = key.0;
        let stored = self.put(key, new);
        if going && done {
            self.remove(kind, &name);
        }
        Ok(stored)
    }

    /// The policy: the request that changes the template also pauses the Deployment.
    fn hold(&self, old: &Value, new: &mut Value) {
        let label = new.pointer("/metadata/labels").and_then(|l| l.get(MANAGED));
        let managed = label.is_some_and(|v| v == "true");
        if self.policy && managed && old["spec"]["template"] != new["spec"]["template"] {
            new["spec"]["paused"] = json!(true);
            new["metadata"]["annotations"][HELD] = json!("true");
        }
    }

    fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.record(Event::of(&object, false, &self.names), &object);
        let object = Arc::new(object);
        self.objects.insert(key, object.clone());
        object
    }
}

/// The transition rules at the root of the Rollout's definition, as `api::rollout` has them.
fn fence(old: &Value, new: &Value) -> Result<(), Refused> {
    let Some(before) = old.pointer("/status/decision") else { return Ok(()) };
    let refuse = |why: &str| Err(Refused::Invalid(why.to_owned()));
    let Some(after) = new.pointer("/status/decision") else { return refuse("decision dropped") };
    if number(after, "/epoch") < number(before, "/epoch")
        || number(after, "/seq") < number(before, "/seq")
    {
        return refuse("stale leader");
    }
    let (was, is) = (number(before, "/release"), number(after, "/release"));
    let stays = text(after, "/verdict") == "Rollback" && number(after, "/weight") == 0;
    if text(before, "/verdict") == "Rollback" && !(is > was || (is == was && stays)) {
        return refuse("a rollback is final for its release");
    }
    Ok(())
}
