//! The API server: raw objects with optimistic concurrency, the fence of the Rollout's definition, and
//! the checker of the invariants, which sees every accepted write.

use std::collections::BTreeMap;
use std::sync::Arc;

use json_patch::Patch;
use serde_json::{Value, json};
use surefoot_core::api::RolloutStatus;
use surefoot_core::routing::Routing;
use surefoot_core::trace::{Checker, Event, Names, State};
use surefoot_core::write::{Kind, Request, Target};

use crate::native;
use crate::shared::{Object, Shared, number, text, version};

/// The namespace of everything.
pub const NAMESPACE: &str = "prod";
/// The name of the application: of its Rollout, Deployment, Service and VirtualService.
pub const APP: &str = "shop";
/// Versions that each object may have: the next one of its name begins above.
const SPAN: u64 = 1000;

/// All objects at one moment.
pub type Objects = Arc<BTreeMap<Target, Object>>;

/// Why a write isn't accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// 404, or 409: it isn't as it was read.
    Conflict,
    /// 422: the fence, or a test of the patch.
    Invalid,
}

/// The API server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Store {
    /// Every object.
    pub objects: Objects,
    /// The Rollout's status, read.
    pub status: Shared<RolloutStatus>,
    /// What the invariants remember, and what was broken.
    pub checker: Shared<Checker>,
    births: u64,
}

/// By which names things are known.
#[must_use]
pub fn names(routing: &Routing) -> Names {
    Names {
        rollout: APP.to_owned(),
        deployment: APP.to_owned(),
        routing: routing.clone(),
        namespace: NAMESPACE.to_owned(),
    }
}

/// Kind and name.
#[must_use]
pub fn target(kind: Kind, name: &str) -> Target {
    Target { kind, name: name.to_owned() }
}

impl Default for Store {
    fn default() -> Self {
        let checker = Shared::new(Checker::default());
        let status = Shared::following(RolloutStatus::default());
        Self { objects: Objects::default(), status, checker, births: 0 }
    }
}

impl Store {
    /// GET.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.objects.get(&target(kind, name))
    }

    /// LIST.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |(t, _)| t.kind == kind).map(|(_, object)| object)
    }

    /// The Rollout.
    #[must_use]
    pub fn rollout(&self) -> Option<&Object> {
        self.get(Kind::Rollout, APP)
    }

    /// One write, and what the native controllers make of it. The object as it is now, where the
    /// answer has it.
    ///
    /// # Errors
    /// When it isn't accepted.
    pub fn write(
        &mut self,
        names: &Names,
        target: &Target,
        request: &Request,
    ) -> Result<Option<Object>, Refused> {
        let answer = match request {
            Request::Create(object) => Some(self.create(names, target.kind, object.clone())?),
            Request::Patch(patch) => Some(self.patch(names, target, patch)?),
            Request::Scale(patch) => {
                self.patch(names, target, patch)?;
                None
            }
            Request::Delete { uid, version } => {
                let old = self.objects.get(target).ok_or(Refused::Conflict)?;
                let same = text(old, "/metadata/uid") == uid
                    && text(old, "/metadata/resourceVersion") == version;
                if !same {
                    return Err(Refused::Conflict);
                }
                self.remove(names, target);
                None
            }
        };
        if matches!(target.kind, Kind::Deployment | Kind::ReplicaSet | Kind::Service) {
            native::settle(self, names);
        }
        Ok(answer)
    }

    /// The same by somebody else, who reads first.
    pub fn edit(&mut self, names: &Names, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let target = target(kind, name);
        let Some(old) = self.objects.get(&target).cloned() else { return };
        let mut new = Value::clone(&old);
        change(&mut new);
        if new != *old {
            self.replace(names, target, &old, new);
        }
    }

    /// POST, without any native controller's answer.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn create(
        &mut self,
        names: &Names,
        kind: Kind,
        mut object: Value,
    ) -> Result<Object, Refused> {
        let target = target(kind, text(&object, "/metadata/name"));
        if self.objects.contains_key(&target) {
            return Err(Refused::Conflict);
        }
        self.births += 1;
        object["metadata"]["namespace"] = json!(NAMESPACE);
        object["metadata"]["uid"] = json!(format!("{}-{}", target.name, self.births));
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!(format!("{:04}", self.births));
        object["metadata"]["resourceVersion"] = json!((self.births * SPAN).to_string());
        Ok(self.put(names, target, object))
    }

    fn patch(&mut self, names: &Names, target: &Target, patch: &Patch) -> Result<Object, Refused> {
        let old = self.objects.get(target).cloned().ok_or(Refused::Conflict)?;
        let mut new = Value::clone(&old);
        json_patch::patch(&mut new, patch).map_err(|_| Refused::Invalid)?;
        if version(&new) != version(&old) {
            return Err(Refused::Conflict);
        }
        if target.kind == Kind::Rollout {
            fence(&old, &new)?;
        }
        if new == *old {
            return Ok(old);
        }
        Ok(self.replace(names, target.clone(), &old, new))
    }

    fn replace(&mut self, names: &Names, target: Target, old: &Value, mut new: Value) -> Object {
        if new.get("spec") != old.get("spec") {
            new["metadata"]["generation"] = json!(number(old, "/metadata/generation") + 1);
        }
        new["metadata"]["resourceVersion"] = json!((version(old) + 1).to_string());
        self.put(names, target, new)
    }

    fn put(&mut self, names: &Names, target: Target, object: Value) -> Object {
        self.see(Event::of(&object, false, names));
        if target.kind == Kind::Rollout {
            let status = object.get("status").cloned().unwrap_or_default();
            self.status = Shared::following(serde_json::from_value(status).unwrap_or_default());
        }
        let object = Object::new(object);
        Arc::make_mut(&mut self.objects).insert(target, object.clone());
        object
    }

    fn remove(&mut self, names: &Names, target: &Target) {
        if let Some(object) = Arc::make_mut(&mut self.objects).remove(target) {
            self.see(Event::of(&object, true, names));
        }
    }

    /// The checker looks at a write. It is told of no revision: that would tell equal states apart.
    pub fn see(&mut self, event: Option<Event>) {
        let Some(event) = event else { return };
        let mut checker = Checker::clone(&self.checker);
        checker.see(&Event { revision: 0, ..event });
        self.checker = Shared::new(checker);
    }

    /// Whether metrics can be had from here on.
    pub fn usable(&mut self, usable: bool) {
        self.see(Some(Event { revision: 0, state: State::Metrics { usable } }));
    }
}

/// The transition rules at the root of the Rollout's definition, as `api::rollout` has them.
fn fence(old: &Value, new: &Value) -> Result<(), Refused> {
    let Some(before) = old.pointer("/status/decision") else { return Ok(()) };
    let Some(after) = new.pointer("/status/decision") else { return Err(Refused::Invalid) };
    if number(after, "/epoch") < number(before, "/epoch")
        || number(after, "/seq") < number(before, "/seq")
    {
        return Err(Refused::Invalid);
    }
    let (was, is) = (number(before, "/release"), number(after, "/release"));
    let stays = text(after, "/verdict") == "Rollback" && number(after, "/weight") == 0;
    if text(before, "/verdict") == "Rollback" && !(is > was || (is == was && stays)) {
        return Err(Refused::Invalid);
    }
    Ok(())
}
