//! Getting, listing, and the start of a watch.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::watch::Cursor;
use super::{Answer, Body, Machine, Place};
use crate::kinds::Kind;
use crate::request::{Request, Target};
use crate::selectors::Selector;
use crate::status::{About, Cause, Refusal};
use crate::store::Key;

/// A watch without a limit of its own ends after this; the real server takes 30 to 60 minutes.
const WATCH_LIMIT: SignedDuration = SignedDuration::from_mins(45);

/// Where the next page of a list begins.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    /// The version that all pages show.
    rv: u64,
    /// The last object of the page before: namespace and name.
    after: (String, String),
}

impl Machine {
    pub(super) fn get(&self, place: &Place) -> Result<Answer, Refusal> {
        let found = self.find(place)?;
        Ok(Answer::json(200, place.kind.served(&found)))
    }

    pub(super) fn list(
        &self,
        request: &Request,
        place: &Place,
        namespace: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let kind = &place.kind;
        let selector = selector(request, kind)?;
        let from = request.parameter("continue").map(token).transpose()?;
        let version = match &from {
            Some(from) => from.rv,
            None => self.list_version(request)?,
        };
        let resource = kind.resource();
        if version == self.version() {
            let all = self.store.list(&resource, namespace);
            return Ok(self.page(request, kind, all, from, version, &selector));
        }
        let then = self.store.at(version, &resource, namespace);
        let then = then.ok_or_else(|| too_old_page(from.is_some()))?;
        Ok(self.page(request, kind, then.iter(), from, version, &selector))
    }

    fn page<'a>(
        &self,
        request: &Request,
        kind: &Kind,
        all: impl Iterator<Item = (&'a Key, &'a Arc<Value>)>,
        from: Option<Continue>,
        version: u64,
        selector: &Selector,
    ) -> Answer {
        let limit = request.parameter("limit").and_then(|text| text.parse().ok()).unwrap_or(0);
        let behind = |key: &Key| {
            let place = (&key.namespace, &key.name);
            from.as_ref().is_none_or(|from| place > (&from.after.0, &from.after.1))
        };
        let mut selected =
            all.filter(|(key, object)| behind(key) && selector.matches(object)).peekable();
        let mut items = Vec::new();
        let mut last = None;
        while let Some((key, object)) = selected.next_if(|_| limit == 0 || items.len() < limit) {
            items.push(kind.served(object));
            last = Some(key);
        }
        let mut extra = Map::new();
        let rest = selected.count();
        if let (Some(key), true) = (last, rest > 0) {
            let after = (key.namespace.clone(), key.name.clone());
            let token = serde_json::to_vec(&Continue { rv: version, after }).unwrap_or_default();
            extra.insert("continue".into(), URL_SAFE_NO_PAD.encode(token).into());
            if selector.is_empty() {
                extra.insert("remainingItemCount".into(), rest.into());
            }
        }
        Answer::json(200, self.list_of(kind, items, version, extra.into()))
    }

    /// A list of objects; built-in lists don't repeat the kind with each item.
    pub(super) fn list_of(
        &self,
        kind: &Kind,
        mut items: Vec<Value>,
        version: u64,
        mut metadata: Value,
    ) -> Value {
        if !kind.is_custom() {
            for fields in items.iter_mut().filter_map(Value::as_object_mut) {
                fields.remove("kind");
                fields.remove("apiVersion");
            }
        }
        if kind.is_custom() && metadata["continue"].is_null() {
            metadata["continue"] = "".into();
        }
        metadata["resourceVersion"] = version.to_string().into();
        json!({
            "kind": kind.list_kind, "apiVersion": kind.api_version(),
            "metadata": metadata, "items": items,
        })
    }

    /// The version that a list is to show.
    fn list_version(&self, request: &Request) -> Result<u64, Refusal> {
        let wanted = request.parameter("resourceVersion");
        let matching = request.parameter("resourceVersionMatch");
        let now = self.version();
        let Some(text) = wanted else {
            return match matching {
                Some(_) => Err(list_options(Cause::forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ))),
                None => Ok(now),
            };
        };
        let version = number(text)?;
        if version > now {
            return Err(too_large(version, now));
        }
        match matching {
            Some("Exact") if version == 0 => Err(list_options(Cause::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ))),
            Some("Exact") => Ok(version),
            _ => Ok(now),
        }
    }

    pub(super) fn watch(
        &self,
        request: &Request,
        place: &Place,
        target: &Target,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let selector = selector(request, &place.kind)?;
        let initial = request.parameter("sendInitialEvents").map(|value| value == "true");
        watch_options(request, initial)?;
        let wanted = request.parameter("resourceVersion").map(number).transpose()?;
        let limit = request.parameter("timeoutSeconds").and_then(|text| text.parse().ok());
        let limit = limit.map_or(WATCH_LIMIT, SignedDuration::from_secs);
        let from = match (wanted, initial) {
            (None | Some(0), Some(false)) => Some(self.version()),
            (None | Some(0), _) | (_, Some(true)) => None,
            (Some(version), _) => Some(version),
        };
        let cursor = Cursor {
            kind: Arc::clone(&place.kind),
            namespace: target.namespace.clone(),
            selector,
            from,
            bookmarks: request.flag("allowWatchBookmarks"),
            marks_initial: initial == Some(true),
            end: now.checked_add(limit).unwrap_or(Timestamp::MAX),
            next_bookmark: None,
            form: crate::table::Form::default(),
            heads_sent: false,
            include: request.parameter("includeObject").map(str::to_owned),
            behind: 0,
        };
        Ok(Answer { body: Body::Watch(Box::new(cursor)), ..Answer::json(200, Value::Null) })
    }
}

pub(super) fn selector(request: &Request, kind: &Kind) -> Result<Selector, Refusal> {
    let fields: Vec<&str> = kind.fields.iter().map(String::as_str).collect();
    let known = (kind.is_custom() || !fields.is_empty()).then_some(fields.as_slice());
    let labels = request.parameter("labelSelector");
    Selector::parse(labels, request.parameter("fieldSelector"), known)
}

fn list_options(cause: Cause) -> Refusal {
    Refusal::invalid(About { group: "meta.k8s.io", kind: "ListOptions", name: "" }, &[cause])
}

/// Parameters that don't fit each other.
fn watch_options(request: &Request, initial: Option<bool>) -> Result<(), Refusal> {
    let matching = request.parameter("resourceVersionMatch");
    let wrong = match (initial, matching) {
        (None, Some(_)) => Cause::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (Some(_), Some("NotOlderThan")) => return Ok(()),
        (Some(_), _) => Cause::forbidden(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (None, None) => return Ok(()),
    };
    Err(list_options(wrong))
}

fn number(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| {
        let value = Value::from(text);
        list_options(Cause::invalid("resourceVersion", &value, "must be an unsigned integer"))
    })
}

fn token(text: &str) -> Result<Continue, Refusal> {
    let decoded = URL_SAFE_NO_PAD.decode(text).ok();
    decoded
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| Refusal::bad_request("continue key is not valid: it is none that was given"))
}

fn too_large(version: u64, now: u64) -> Refusal {
    let message = format!("Timeout: Too large resource version: {version}, current: {now}");
    Refusal {
        details: Some(json!({
            "causes": [{
                "reason": "ResourceVersionTooLarge", "message": "Too large resource version",
            }],
            "retryAfterSeconds": 1,
        })),
        ..Refusal::new(504, "Timeout", message)
    }
}

fn too_old_page(is_page: bool) -> Refusal {
    Refusal::expired(if is_page {
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter."
    } else {
        "The resourceVersion for the provided list is too old."
    })
}
