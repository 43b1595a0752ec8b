//! What happened to a release, as it is told: from the writes that the API server accepted.

use std::time::Duration;

use jiff::Timestamp;
use kube_sandbox::{Event, Sandbox};
use serde::Serialize;

use super::delivery::Delivery;
use super::route::{called, weight};
use crate::cli::times::between;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Seconds after the beginning.
    pub at: u64,
    /// The canary's share of the route from here on, per cent.
    pub weight: i64,
    /// Who or what: the reason of the controller's news, "route", or "scenario".
    pub what: String,
    /// In words.
    pub note: String,
}

/// A timeline that grows with the writes.
#[derive(Debug)]
pub struct Timeline {
    of: Delivery,
    began: Timestamp,
    version: u64,
    weight: i64,
    lines: Vec<Line>,
}

impl Timeline {
    /// From this moment and this write on.
    #[must_use]
    pub fn new(of: Delivery, began: Timestamp, version: u64) -> Self {
        Self { of, began, version, weight: 0, lines: Vec::new() }
    }

    /// What the scenario does.
    pub fn scenario(&mut self, now: Timestamp, note: &str) {
        self.add(now, "scenario", note.to_owned());
    }

    fn add(&mut self, now: Timestamp, what: &str, note: String) {
        let at = between(self.began, now).as_secs();
        self.lines.push(Line { at, weight: self.weight, what: what.to_owned(), note });
    }

    /// Take in what has been written since the last time; the new lines.
    pub fn follow(&mut self, api: &Sandbox) -> &[Line] {
        let known = self.lines.len();
        let events = api.events_since(self.version).unwrap_or_default();
        self.version = events.last().map_or(self.version, |event| event.version);
        for event in &events {
            self.written(event, api.now());
        }
        &self.lines[known..]
    }

    fn written(&mut self, event: &Event, now: Timestamp) {
        let Some(after) = &event.after else { return };
        let Delivery { namespace, rollout, kind, route, .. } = &self.of;
        if event.key.namespace != *namespace {
            return;
        }
        match event.key.resource.plural.as_str() {
            plural
                if called(plural) == Some(*kind)
                    && event.key.name == *route
                    && weight(after) != self.weight =>
            {
                let before = std::mem::replace(&mut self.weight, weight(after));
                let note = format!("{before}% → {}%", self.weight);
                self.add(now, "route", note);
            }
            // As they lie in the store: in the form of the core group.
            "events"
                if after["reportingComponent"] == "surefoot.dev/controller"
                    && after["involvedObject"]["name"] == rollout.as_str() =>
            {
                let text = |field: &str| after[field].as_str().unwrap_or_default().to_owned();
                self.add(now, &text("reason"), text("message"));
            }
            _ => {}
        }
    }

    /// The lines so far.
    #[must_use]
    pub fn into_lines(self) -> Vec<Line> {
        self.lines
    }
}

impl Line {
    /// When it was, as a clock shows it.
    #[must_use]
    pub fn clock(&self) -> String {
        let at = Duration::from_secs(self.at).as_secs();
        format!("{}:{:02}:{:02}", at / 3600, at / 60 % 60, at % 60)
    }
}
