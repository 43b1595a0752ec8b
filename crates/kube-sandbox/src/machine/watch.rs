//! Watches: a place in the history, and what comes after it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Machine;
use crate::kinds::Kind;
use crate::selectors::Selector;
use crate::status::Refusal;
use crate::store::Event;
use crate::table::Form;

/// Between bookmarks.
const BOOKMARK_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// More events than this come with the next look.
const BATCH: usize = 500;

/// Where a watch stands.
#[derive(Clone, Debug)]
pub struct Cursor {
    pub(super) kind: Arc<Kind>,
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
    /// After which version; none before the objects that are there were sent.
    pub(super) from: Option<u64>,
    pub(super) bookmarks: bool,
    /// Whether the end of the initial objects is marked.
    pub(super) marks_initial: bool,
    pub(super) end: Timestamp,
    pub(super) next_bookmark: Option<Timestamp>,
    pub(super) form: Form,
    pub(super) heads_sent: bool,
    pub(super) include: Option<String>,
    /// So many writes it stays behind.
    pub(super) behind: u64,
}

/// What a look at the history brought.
#[derive(Debug, PartialEq)]
pub enum Tick {
    /// Events, in their order.
    Events(Vec<Value>),
    /// Nothing new; look again at this time, or when something was written.
    Wait(Timestamp),
    /// The watch is over, after this last event.
    End(Option<Value>),
}

impl Cursor {
    /// From now on the watch stays so many writes behind.
    pub(crate) fn lag(&mut self, writes: u64) {
        self.behind = writes;
    }

    pub(super) fn show_as(&mut self, form: Form) {
        self.form = form;
    }

    fn event(&mut self, kind: &str, object: &Value, now: Timestamp) -> Value {
        let mut object = self.kind.served(object);
        self.form.apply(&mut object, &self.kind, now, self.include.as_deref());
        if self.form == Form::Table && self.heads_sent {
            object["columnDefinitions"] = Value::Null;
        }
        self.heads_sent = true;
        json!({"type": kind, "object": object})
    }

    fn bookmark(&self, version: u64, ends_initial: bool) -> Value {
        let mut object = json!({
            "kind": self.kind.kind, "apiVersion": self.kind.api_version(),
            "metadata": {"resourceVersion": version.to_string()},
        });
        if ends_initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        if self.form == Form::Table {
            object = json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": version.to_string()},
                "columnDefinitions": null,
                "rows": [{"cells": [], "object": object}],
            });
        }
        json!({"type": "BOOKMARK", "object": object})
    }

    /// How an event looks to this watch: objects may come into sight or leave it.
    fn seen(&mut self, event: &Event, now: Timestamp) -> Option<Value> {
        let here = self.kind.is_of(&event.key.resource)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == event.key.namespace);
        if !here {
            return None;
        }
        let before = event.before.as_ref().filter(|object| self.selector.matches(object));
        let after = event.after.as_ref().filter(|object| self.selector.matches(object));
        match (before, after) {
            (None, Some(object)) => Some(self.event("ADDED", object, now)),
            (Some(_), Some(object)) => Some(self.event("MODIFIED", object, now)),
            (Some(before), None) => {
                let mut last = Value::clone(event.last.as_ref().unwrap_or(before));
                last["metadata"]["resourceVersion"] = event.version.to_string().into();
                Some(self.event("DELETED", &last, now))
            }
            (None, None) => None,
        }
    }
}

impl Machine {
    /// What a watch has to say now.
    pub fn tick(&self, cursor: &mut Cursor, now: Timestamp) -> Tick {
        let next = *cursor.next_bookmark.get_or_insert(later(now, BOOKMARK_EVERY));
        if now >= cursor.end {
            return Tick::End(None);
        }
        let Some(from) = cursor.from else { return Tick::Events(self.initial(cursor, now)) };
        let Some(news) = self.store.since(from) else {
            let message = format!("too old resource version: {from} ({})", self.store.compacted());
            let status = Refusal::expired(message).status();
            return Tick::End(Some(json!({"type": "ERROR", "object": status})));
        };
        let mut events = Vec::new();
        let mut seen = from;
        let newest = self.version().saturating_sub(cursor.behind);
        for event in news.take_while(|event| event.version <= newest) {
            seen = event.version;
            events.extend(cursor.seen(event, now));
            if events.len() >= BATCH {
                break;
            }
        }
        cursor.from = Some(seen);
        if events.is_empty() && cursor.bookmarks && now >= next {
            cursor.next_bookmark = Some(later(now, BOOKMARK_EVERY));
            events.push(cursor.bookmark(seen, false));
        }
        if !events.is_empty() {
            return Tick::Events(events);
        }
        Tick::Wait(if cursor.bookmarks { next.min(cursor.end) } else { cursor.end })
    }

    /// The objects that are there, as if they were added now.
    fn initial(&self, cursor: &mut Cursor, now: Timestamp) -> Vec<Value> {
        let resource = cursor.kind.resource();
        let version = self.version().saturating_sub(cursor.behind).max(self.store.compacted());
        let found = self.store.at(version, &resource, cursor.namespace.as_deref());
        let mut objects: Vec<Arc<Value>> = found.unwrap_or_default().into_values().collect();
        objects.retain(|object| cursor.selector.matches(object));
        let mut events: Vec<Value> =
            objects.iter().map(|object| cursor.event("ADDED", object, now)).collect();
        cursor.from = Some(version);
        if cursor.marks_initial && cursor.bookmarks {
            events.push(cursor.bookmark(version, true));
        }
        events
    }
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
