//! The API server as a pure state machine: a request and the time go in, an answer comes out, and
//! what was written is in the history.

mod delete;
mod discovery;
mod meta;
mod namespaces;
mod openapi;
mod patch;
mod read;
mod scale;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::Dice;
use crate::kinds::{Kind, Registry, SELF_REVIEW};
use crate::request::{Request, Strictness, Target, Verb};
use crate::status::Refusal;
use crate::store::{Event, Key, Store};
use crate::table;

pub use watch::{Cursor, Tick};

/// Larger bodies are refused, as the real server refuses them.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// An answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// What the answer warns of.
    pub warnings: Vec<String>,
    /// After how many seconds to try again.
    pub retry_after: Option<u64>,
    /// What it says.
    pub body: Body,
}

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// An object.
    Json(Value),
    /// An object of a media type of its own.
    Typed(&'static str, Value),
    /// Plain text.
    Text(&'static str),
    /// Events, from here on.
    Watch(Box<Cursor>),
}

impl Answer {
    fn json(code: u16, value: Value) -> Answer {
        Answer { code, warnings: Vec::new(), retry_after: None, body: Body::Json(value) }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        let mut answer = Answer::json(refusal.code, refusal.status());
        answer.retry_after = refusal.details.and_then(|d| d["retryAfterSeconds"].as_u64());
        answer
    }
}

/// The state of an API server.
#[derive(Clone, Debug)]
pub struct Machine {
    store: Store,
    registry: Registry,
    dice: Dice,
    /// How many Services had an address so far.
    addresses: u32,
    /// What the answer to come warns of.
    warnings: Vec<String>,
}

/// How something is to be written.
#[derive(Clone, Debug)]
struct How {
    now: Timestamp,
    manager: String,
    strictness: Strictness,
    dry_run: bool,
    /// Where the number of replicas is, if an object is written by way of its scale.
    scaled: Option<String>,
    subresource: Option<String>,
}

/// Where something is to be written.
struct Place {
    kind: Arc<Kind>,
    key: Key,
}

impl Machine {
    /// An empty cluster, save the namespaces `default` and `kube-system`. `seed` determines uids and
    /// generated names; `history` is how many events are kept for watches.
    #[must_use]
    pub fn new(seed: u64, history: usize, now: Timestamp) -> Machine {
        let mut machine = Machine {
            store: Store::new(history),
            registry: Registry::new(),
            dice: Dice::new(seed),
            addresses: 0,
            warnings: Vec::new(),
        };
        for name in ["default", "kube-system"] {
            machine.add_namespace(name, now);
        }
        machine
    }

    /// The same with chance anew, and with so many events that are kept.
    #[must_use]
    pub(crate) fn again(self, seed: u64, history: usize) -> Machine {
        Machine { store: self.store.limited(history), dice: Dice::new(seed), ..self }
    }

    /// The version of the latest write.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.store.version()
    }

    /// What was written after `version`; none when that is no longer all known.
    #[must_use]
    pub fn events_since(&self, version: u64) -> Option<Vec<Event>> {
        Some(self.store.since(version)?.cloned().collect())
    }

    /// Whether such a write came after `version`, or may have come.
    pub(crate) fn any_since(&self, version: u64, such: impl Fn(&Event) -> bool) -> bool {
        self.store.since(version).is_none_or(|mut events| events.any(such))
    }

    /// Forget what happened up to `version`: older watches and pages get 410.
    pub fn compact(&mut self, version: u64) {
        self.store.compact(version);
    }

    /// As it was so many writes ago, or as far back as is known.
    #[must_use]
    pub fn earlier(&self, writes: u64) -> Machine {
        Machine { store: self.store.earlier(writes), ..self.clone() }
    }

    /// What is stored where a request lists, all of it.
    pub(crate) fn items(&self, request: &Request) -> Option<Vec<Arc<Value>>> {
        let target = request.target()?;
        let kind = self.registry.find(&target.group, &target.version, &target.resource)?;
        let resource = kind.resource();
        let stored = self.store.list(&resource, target.namespace.as_deref());
        Some(stored.map(|(_, object)| Arc::clone(object)).collect())
    }

    /// The resources that are stored, each in one version: the path of its API and its plural.
    pub(crate) fn stored_resources(&self) -> Vec<(String, String)> {
        let mut resources = BTreeMap::new();
        for kind in self.registry.all().filter(|kind| kind.plural != SELF_REVIEW) {
            let root = if kind.group.is_empty() { "/api/" } else { "/apis/" };
            let path = format!("{root}{}", kind.api_version());
            resources.entry(kind.resource()).or_insert((path, kind.plural.clone()));
        }
        resources.into_values().collect()
    }

    /// Answer a request.
    pub fn handle(&mut self, request: &Request, now: Timestamp) -> Answer {
        let target = request.target();
        let form = match &target {
            Some(_) => table::Form::wanted(&request.accept),
            None => Ok(table::Form::Whole),
        };
        let form = match form {
            Ok(form) => form,
            Err(refusal) => return refusal.into(),
        };
        let kind =
            target.and_then(|t| self.registry.find(&t.group, &t.version, &t.resource).cloned());
        let mut answer = self.answer(request, now).unwrap_or_else(Answer::from);
        answer.warnings = std::mem::take(&mut self.warnings);
        match (&mut answer.body, kind) {
            (Body::Json(value), Some(kind)) if answer.code < 300 && value["kind"] != "Status" => {
                form.apply(value, &kind, now, request.parameter("includeObject"));
            }
            (Body::Watch(cursor), _) => cursor.show_as(form),
            _ => {}
        }
        answer
    }

    fn answer(&mut self, request: &Request, now: Timestamp) -> Result<Answer, Refusal> {
        if request.body.len() > MAX_BODY {
            let message = format!("the request is larger than {MAX_BODY} bytes");
            return Err(Refusal::new(413, "RequestEntityTooLarge", message));
        }
        let Some(target) = request.target() else { return self.general(request) };
        let Some(kind) = self.registry.find(&target.group, &target.version, &target.resource)
        else {
            return Err(unknown(request, &target));
        };
        let kind = Arc::clone(kind);
        if kind.plural == SELF_REVIEW {
            return self_review(request, &kind);
        }
        let place = place(kind, &target)?;
        self.dispatch(request, &target, place, now)
    }

    fn dispatch(
        &mut self,
        request: &Request,
        target: &Target,
        place: Place,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let how = How {
            now,
            manager: request.manager(),
            strictness: request.strictness()?,
            dry_run: request.is_dry_run(),
            scaled: None,
            subresource: target.subresource.clone(),
        };
        let subresource = target.subresource.as_deref();
        match (request.verb(), subresource) {
            (verb, Some("scale")) if place.kind.scale.is_some() => {
                self.scale(request, verb, &place, &how)
            }
            (Verb::Update, Some("finalize")) if place.kind.plural == "namespaces" => {
                self.update(request, &place, &how)
            }
            (Verb::Create, Some("binding")) if place.kind.plural == "pods" => {
                self.bind(request, &place, &how)
            }
            (_, Some("status")) if !place.kind.status => Err(no_subresource(&place)),
            (_, Some("scale")) => Err(no_subresource(&place)),
            (_, Some(other)) if other != "status" => Err(Refusal::out_of_scope(request)),
            (Verb::Get, _) => self.get(&place),
            (Verb::List, None) => self.list(request, &place, target.namespace.as_deref()),
            (Verb::Watch, None) => self.watch(request, &place, target, now),
            (Verb::Create, None) if target.name.is_none() => self.create(request, &place, &how),
            (Verb::Update, _) if target.name.is_some() => self.update(request, &place, &how),
            (Verb::Patch, _) if target.name.is_some() => self.patch(request, &place, &how),
            (Verb::Delete, None) => self.delete(request, &place, &how),
            (Verb::DeleteCollection, None) => {
                self.delete_collection(request, &place, target.namespace.as_deref(), &how)
            }
            _ => Err(Refusal::not_allowed()),
        }
    }

    /// Requests that are about no resource.
    fn general(&self, request: &Request) -> Result<Answer, Refusal> {
        if request.method != Method::GET {
            return Err(Refusal::out_of_scope(request));
        }
        let path = request.path.trim_end_matches('/');
        match path {
            "/healthz" | "/livez" | "/readyz" => {
                Ok(Answer { body: Body::Text("ok"), ..Answer::json(200, Value::Null) })
            }
            "/version" => Ok(Answer::json(200, discovery::version())),
            "/api" | "/apis" => Ok(self.groups(request, path)),
            "/openapi/v3" => Ok(Answer::json(200, self.openapi_index())),
            // Only asked for files with a `List`, for a kind that needs no answer; nothing is a valid
            // document in protobuf.
            "/openapi/v2" if request.accept.contains("protobuf") => {
                Ok(Answer { body: Body::Text(""), ..Answer::json(200, Value::Null) })
            }
            _ => match path.strip_prefix("/openapi/v3/") {
                Some(version) => self.openapi(version),
                None => self.resources(request, path),
            },
        }
    }
}

/// Which object a request is about. Lists and creations have no name.
fn place(kind: Arc<Kind>, target: &Target) -> Result<Place, Refusal> {
    let namespace = target.namespace.clone().unwrap_or_default();
    if !kind.namespaced && !namespace.is_empty() {
        return Err(Refusal::no_resource());
    }
    let name = target.name.clone().unwrap_or_default();
    if kind.namespaced && namespace.is_empty() && !name.is_empty() {
        return Err(Refusal::no_resource());
    }
    let key = Key { resource: kind.resource(), namespace, name };
    Ok(Place { kind, key })
}

/// The kind has no such subresource; of a custom one the object is said to be missing.
fn no_subresource(place: &Place) -> Refusal {
    if place.kind.is_custom() {
        Refusal::not_found(place.kind.about(&place.key.name))
    } else {
        Refusal::no_resource()
    }
}

/// Groups of Kubernetes itself have more than the sandbox has; others come from definitions.
fn unknown(request: &Request, target: &Target) -> Refusal {
    let own = !target.group.contains('.') || target.group.ends_with(".k8s.io");
    if own && target.group != "gateway.networking.k8s.io" {
        Refusal::out_of_scope(request)
    } else {
        Refusal::no_resource()
    }
}

fn self_review(request: &Request, kind: &Kind) -> Result<Answer, Refusal> {
    if request.method != Method::POST {
        return Err(Refusal::not_allowed());
    }
    let user = request.user.clone().unwrap_or_else(|| "kubernetes-admin".to_owned());
    let mut groups = vec!["system:authenticated"];
    if request.user.is_none() {
        groups.insert(0, "system:masters");
    }
    let review = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {},
        "status": {"userInfo": {"username": user, "groups": groups}},
    });
    Ok(Answer::json(201, review))
}

/// A time as Kubernetes prints it: whole seconds.
#[must_use]
pub fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
