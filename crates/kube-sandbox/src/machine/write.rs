//! Creating and updating.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Answer, How, Machine, Place, meta, seconds};
use crate::kinds::{Generation, Kind, custom, established};
use crate::request::{Request, Strictness};
use crate::status::{About, Cause, Refusal};
use crate::store::Key;
use crate::{checks, defaults, managed, schema};

/// What unknown fields come to.
pub(super) enum Unknown {
    /// A refusal's words.
    Refused(String),
    /// Warnings.
    Warned(Vec<String>),
}

impl Machine {
    pub(super) fn create(
        &mut self,
        request: &Request,
        place: &Place,
        how: &How,
    ) -> Result<Answer, Refusal> {
        let kind = &place.kind;
        if kind.namespaced && place.key.namespace.is_empty() {
            return Err(Refusal::not_allowed());
        }
        let input = decoded(request, kind)?;
        let object = self.read(kind, input, how)?;
        self.add(place, object, how)
    }

    fn add(&mut self, place: &Place, object: Value, how: &How) -> Result<Answer, Refusal> {
        let kind = &place.kind;
        let mut object = self.named(kind, object, &place.key.namespace)?;
        self.allowed(kind, &object, &place.key.namespace)?;
        self.dress(kind, &mut object, &place.key.namespace, how)?;
        let key = Key { name: meta::text(&object, "name").to_owned(), ..place.key.clone() };
        let name = key.name.clone();
        validate(kind, &object, None, None)?;
        if let Some(found) = self.store.get(&key) {
            let mut refusal = Refusal::already_exists(kind.about(&name));
            if meta::is_deleting(found) {
                refusal.message = format!("object is being deleted: {}", refusal.message);
            }
            return Err(refusal);
        }
        let stored = self.save(kind, key, object, how)?;
        Ok(Answer::json(201, kind.served(&stored)))
    }

    /// Reads an object; unknown fields are refused, warned of or dropped in silence.
    fn read(&mut self, kind: &Kind, input: Value, how: &How) -> Result<Value, Refusal> {
        let (name, version) = (&kind.kind, &kind.version);
        let said = |why: &str| {
            Refusal::bad_request(format!(
                "{name} in version {version:?} cannot be handled as a {name}: {why}"
            ))
        };
        let (object, unknown) = kind.read(input).map_err(|error| said(&error))?;
        match unknown_fields(&unknown, how.strictness) {
            Unknown::Refused(why) => Err(said(&why)),
            Unknown::Warned(warnings) => {
                self.warnings.extend(warnings);
                Ok(kind.stored(object))
            }
        }
    }

    /// Gives an object its name, and sees that its namespace is the one of the request.
    fn named(&mut self, kind: &Kind, mut object: Value, namespace: &str) -> Result<Value, Refusal> {
        let given = meta::text(&object, "namespace");
        if !given.is_empty() && given != namespace {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if !meta::text(&object, "resourceVersion").is_empty() {
            let message = "resourceVersion should not be set on objects to be created";
            // Oddly the real server takes this for its own fault.
            return Err(Refusal::new(500, "", message));
        }
        let (name, base) = (meta::text(&object, "name"), meta::text(&object, "generateName"));
        if name.is_empty() {
            if base.is_empty() {
                let cause = Cause::required("metadata.name", "name or generateName is required");
                return Err(kind.invalid("", &[cause]));
            }
            let base: String = base.chars().take(58).collect();
            object["metadata"]["name"] = format!("{base}{}", self.dice.suffix()).into();
        }
        Ok(object)
    }

    /// Whether something may be created in the namespace.
    fn allowed(&self, kind: &Kind, object: &Value, namespace: &str) -> Result<(), Refusal> {
        if !kind.namespaced {
            return Ok(());
        }
        let about = About { group: "", kind: "namespaces", name: namespace };
        let Some(found) = self.store.get(&super::namespaces::key(namespace)) else {
            return Err(Refusal::not_found(about));
        };
        if !meta::is_deleting(found) {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let mut refusal = Refusal::forbidden(kind.about(meta::text(object, "name")), why);
        if let Some(details) = &mut refusal.details {
            details["causes"] = json!([{
                "reason": "NamespaceTerminating", "field": "metadata.namespace",
                "message": format!("namespace {namespace} is being terminated"),
            }]);
        }
        Err(refusal)
    }

    /// What the server adds to a new object.
    fn dress(
        &mut self,
        kind: &Kind,
        object: &mut Value,
        namespace: &str,
        how: &How,
    ) -> Result<(), Refusal> {
        let uid = self.dice.uid();
        for name in
            ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields"]
        {
            meta::unset(object, name);
        }
        meta::set(object, "uid", uid);
        meta::set(object, "creationTimestamp", seconds(how.now));
        if kind.namespaced {
            meta::set(object, "namespace", namespace);
        }
        if kind.generation != Generation::None {
            meta::set(object, "generation", 1);
        }
        if kind.status
            && let Value::Object(fields) = object
        {
            fields.remove("status");
        }
        if kind.plural == "services" {
            self.give_address(object);
        }
        if kind.plural == "namespaces" {
            super::namespaces::dress(object);
        }
        fill(kind, object);
        if kind.plural == "customresourcedefinitions" {
            custom(object).map_err(|causes| kind.invalid(meta::text(object, "name"), &causes))?;
            established(object, how.now);
        }
        managed::wrote(kind, object, None, &how.manager, how.subresource.as_deref(), how.now);
        if kind.plural == "pods" {
            defaults::admit(object, None);
        }
        Ok(())
    }

    /// The next address for a Service that wants one.
    fn give_address(&mut self, object: &mut Value) {
        let spec = &mut object["spec"];
        let wants = spec["type"] != "ExternalName";
        if wants && spec["clusterIP"].as_str().is_none_or(str::is_empty) {
            self.addresses = (self.addresses + 1) % 65_000;
            let (high, low) = (self.addresses / 250, self.addresses % 250 + 1);
            spec["clusterIP"] = format!("10.96.{high}.{low}").into();
        }
    }

    /// Stores an object, unless it is only a trial; a definition starts to be served.
    pub(super) fn save(
        &mut self,
        kind: &Kind,
        key: Key,
        object: Value,
        how: &How,
    ) -> Result<Arc<Value>, Refusal> {
        if how.dry_run {
            return Ok(Arc::new(object));
        }
        if kind.plural == "customresourcedefinitions" {
            let kinds = custom(&object).map_err(|causes| kind.invalid(&key.name, &causes))?;
            let group = object["spec"]["group"].as_str().unwrap_or_default();
            let plural = object["spec"]["names"]["plural"].as_str().unwrap_or_default();
            self.registry.drop(group, plural);
            kinds.into_iter().for_each(|kind| self.registry.add(kind));
        }
        Ok(self.store.put(key, object))
    }

    pub(super) fn update(
        &mut self,
        request: &Request,
        place: &Place,
        how: &How,
    ) -> Result<Answer, Refusal> {
        let kind = &place.kind;
        let input = decoded(request, kind)?;
        let object = self.read(kind, input, how)?;
        let given = meta::text(&object, "namespace");
        if !given.is_empty() && given != place.key.namespace {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let name = place.key.name.as_str();
        if meta::text(&object, "name") != name {
            return Err(meta::misnamed(meta::text(&object, "name"), name));
        }
        let creates = matches!(kind.plural.as_str(), "services" | "leases" | "events");
        if creates && how.subresource.is_none() && self.store.get(&place.key).is_none() {
            return self.create_by_update(place, object, how);
        }
        let old = self.find(place)?;
        self.replace(place, &old, object, how)
    }

    /// A few kinds are created by an update when they aren't there.
    fn create_by_update(
        &mut self,
        place: &Place,
        mut object: Value,
        how: &How,
    ) -> Result<Answer, Refusal> {
        let uid = meta::text(&object, "uid");
        if !uid.is_empty() {
            return Err(meta::other_uid(&place.kind, &place.key, uid, ""));
        }
        meta::unset(&mut object, "resourceVersion");
        self.add(place, object, how)
    }

    /// The stored object, or 404.
    pub(super) fn find(&self, place: &Place) -> Result<Arc<Value>, Refusal> {
        let found = self.store.get(&place.key).cloned();
        found.ok_or_else(|| Refusal::not_found(place.kind.about(&place.key.name)))
    }

    /// Puts an object in the place of the one that is there, as far as the subresource goes.
    pub(super) fn replace(
        &mut self,
        place: &Place,
        old: &Arc<Value>,
        mut object: Value,
        how: &How,
    ) -> Result<Answer, Refusal> {
        let kind = &place.kind;
        meta::precheck(kind, &place.key, &object, old)?;
        meta::keep(&mut object, old);
        let mut object = part(kind, object, old, how.subresource.as_deref());
        fill(kind, &mut object);
        if kind.plural == "services" && object["spec"]["clusterIP"].is_null() {
            object["spec"]["clusterIP"] = old["spec"]["clusterIP"].clone();
            object["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
        }
        // Who wrote what is recorded before admission has its say.
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        managed::tidy(kind, &mut object);
        match &how.scaled {
            Some(pointer) => managed::scaled(kind, &mut object, old, &how.manager, pointer),
            None if object != **old && managed::is_tracked(old) => {
                let subresource = how.subresource.as_deref();
                managed::wrote(kind, &mut object, Some(old), &how.manager, subresource, how.now);
            }
            None => {}
        }
        if kind.plural == "pods" && how.subresource.is_none() {
            defaults::admit(&mut object, Some(old));
        }
        validate(kind, &object, Some(old), how.subresource.as_deref())?;
        if how.subresource.is_none() {
            meta::count(kind, &mut object, old);
        }
        if managed::is_same(&object, old) {
            return Ok(Answer::json(200, kind.served(old)));
        }
        if meta::is_deleting(&object) && super::delete::is_free(kind, &object) {
            let served = kind.served(&object);
            self.vanish(place, object, how);
            return Ok(Answer::json(200, served));
        }
        let stored = self.save(kind, place.key.clone(), object, how)?;
        Ok(Answer::json(200, kind.served(&stored)))
    }
}

/// The body as an object of this kind.
pub(super) fn decoded(request: &Request, kind: &Kind) -> Result<Value, Refusal> {
    match request.media() {
        "application/json" | "" => {}
        "application/vnd.kubernetes.protobuf" | "application/yaml" | "application/cbor" => {
            return Err(Refusal::out_of_scope(format!(
                "{request}: bodies must be JSON (kubectl sends JSON with -f)"
            )));
        }
        other => {
            return Err(Refusal::unsupported_media(format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, not {other}"
            )));
        }
    }
    let input: Value = serde_json::from_slice(&request.body).map_err(|error| {
        let (name, version) = (&kind.kind, &kind.version);
        Refusal::bad_request(format!(
            "{name} in version {version:?} cannot be handled as a {name}: {error}"
        ))
    })?;
    let (api_version, name) = (kind.api_version(), &kind.kind);
    let given = |field: &str| input[field].as_str().unwrap_or_default().to_owned();
    let (given_version, given_kind) = (given("apiVersion"), given("kind"));
    if !given_version.is_empty() && given_version != api_version {
        return Err(Refusal::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !given_kind.is_empty() && given_kind != *name && !kind.is_custom() {
        return Err(Refusal::bad_request(format!(
            "{given_kind} in version {:?} cannot be handled as a {name}: no kind {given_kind:?} is registered for version {api_version:?} in scheme \"pkg/runtime/scheme.go:111\"",
            kind.version
        )));
    }
    Ok(input)
}

/// What these unknown fields come to.
pub(super) fn unknown_fields(unknown: &[String], strictness: Strictness) -> Unknown {
    let named: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    match strictness {
        Strictness::Strict if !named.is_empty() => {
            Unknown::Refused(format!("strict decoding error: {}", named.join(", ")))
        }
        Strictness::Warn => Unknown::Warned(named),
        _ => Unknown::Warned(Vec::new()),
    }
}

/// Fills in defaults.
pub(super) fn fill(kind: &Kind, object: &mut Value) {
    match kind.schema() {
        Some(schema) => schema::default(object, schema),
        None => defaults::fill(&kind.plural, object),
    }
}

/// What is wrong with an object as it is to be stored.
fn validate(
    kind: &Kind,
    object: &Value,
    old: Option<&Value>,
    subresource: Option<&str>,
) -> Result<(), Refusal> {
    let name = meta::text(object, "name");
    let given = object["kind"].as_str().unwrap_or_default();
    if given != kind.kind {
        let mut causes = meta::check(object, old);
        causes.push(Cause::invalid("kind", &given.into(), format!("must be {}", kind.kind)));
        return Err(Refusal::invalid(About { group: &kind.group, kind: given, name }, &causes));
    }
    // The core group's Events may have any name.
    let named = old.is_none() && (kind.plural != "events" || !kind.group.is_empty());
    let mut causes: Vec<Cause> =
        checks::name(&kind.plural, name).into_iter().filter(|_| named).collect();
    causes.extend(meta::check(object, old));
    if kind.is_custom() && old.is_some() {
        // The real server says it twice.
        causes.extend(meta::check(object, old));
    }
    causes.extend(match kind.schema() {
        Some(schema) => {
            let more = super::scale::check(kind, object, subresource);
            schema::validate(object, old, schema, more, subresource)
        }
        None => checks::check((&kind.group, &kind.plural), object, old, subresource),
    });
    if causes.is_empty() { Ok(()) } else { Err(kind.invalid(name, &causes)) }
}

/// The part of an object that a request may change; the rest stays.
fn part(kind: &Kind, mut object: Value, old: &Value, subresource: Option<&str>) -> Value {
    match subresource {
        Some("status") => {
            let mut kept = old.clone();
            if !kind.is_custom() {
                kept["metadata"] = object["metadata"].take();
            }
            if kind.plural == "deployments" {
                kept["metadata"]["labels"] = old["metadata"]["labels"].clone();
                if kept["metadata"]["labels"].is_null() {
                    meta::unset(&mut kept, "labels");
                }
            }
            match object["status"].take() {
                Value::Null => {
                    if let Value::Object(fields) = &mut kept {
                        fields.remove("status");
                    }
                }
                status => kept["status"] = status,
            }
            if kind.plural == "pods" && kept["status"]["qosClass"].is_null() {
                kept["status"]["qosClass"] = old["status"]["qosClass"].clone();
            }
            kept
        }
        Some("finalize") => {
            let mut kept = old.clone();
            kept["spec"] = object["spec"].take();
            kept
        }
        _ => {
            if kind.status
                && let Value::Object(fields) = &mut object
            {
                match old.get("status") {
                    Some(status) => fields.insert("status".into(), status.clone()),
                    None => fields.remove("status"),
                };
            }
            object
        }
    }
}
