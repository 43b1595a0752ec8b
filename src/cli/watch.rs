//! Following a release until it ends.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use futures::{Stream, StreamExt};
use kube::Client;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use surefoot_core::api::Rollout;
use surefoot_core::api::status::{Outcome, Phase};
use surefoot_core::write::Kind;

use super::terminal::{Terminal, frame, show};
use super::times::length;
use super::trouble::trouble;
use super::view::{View, under_way};
use super::{fetch, glance};
use crate::client::{CallError, objects};
use crate::clock::Clock;

/// How a followed release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Promoted, or nothing was under way and all is well.
    Well,
    /// Rolled back, or nothing was under way and something is wrong.
    Badly,
}

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// A release until it ends; none: how things stand.
    Release(Option<i64>),
    /// The first release after this one, which may not have begun yet.
    After(i64),
    /// Stable's template on its way back: until everything is at rest.
    Rest,
}

impl Goal {
    /// The same, once what is to come has come.
    #[must_use]
    pub fn with(self, view: &View<'_>) -> Self {
        let number = view.status.release.as_ref().map(|r| r.number);
        match self {
            Goal::After(before) if number > Some(before) => Goal::Release(number),
            other => other,
        }
    }

    /// Whether it has been reached, and how that went.
    #[must_use]
    pub fn reached(self, view: &View<'_>) -> Option<End> {
        match self {
            Goal::Release(number) => end(view, number),
            Goal::After(_) => None,
            Goal::Rest => (view.status.phase == Phase::Healthy).then_some(End::Well),
        }
    }
}

/// What is followed and how it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Watch<'a> {
    /// Namespace of the Rollout.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What of it; none: the release under way.
    pub goal: Option<Goal>,
    /// Everything about it.
    pub wide: bool,
    /// How long at most.
    pub timeout: Option<Duration>,
    /// Where it is shown.
    pub terminal: Terminal,
}

/// Number of the release under way, which is the one to follow.
#[must_use]
pub fn followed(view: &View<'_>) -> Option<i64> {
    let release = view.status.release.as_ref().filter(|_| under_way(view.status.phase));
    release.map(|r| r.number)
}

/// Whether the release that is followed has ended, and how. Without one, how things stand.
#[must_use]
pub fn end(view: &View<'_>, followed: Option<i64>) -> Option<End> {
    let mut history = view.status.history.iter();
    // A native rollout is remembered under the number of the release before it.
    let past = history.find(|p| Some(p.number) == followed && p.outcome != Outcome::Outside);
    match (past.map(|p| p.outcome), view.status.phase) {
        (Some(Outcome::RolledBack), _) => Some(End::Badly),
        (Some(_), _) => Some(End::Well),
        (None, phase) if under_way(phase) => None,
        (None, Phase::Healthy) => Some(End::Well),
        (None, _) => Some(End::Badly),
    }
}

/// A change as one line: time, phase, weight, message.
#[must_use]
pub fn line(view: &View<'_>) -> String {
    format!("{} {}\n", view.now.strftime("%H:%M:%S"), change(view))
}

/// What of a status makes a new line.
fn change(view: &View<'_>) -> String {
    let weight = view.status.decision.as_ref().map_or(0, |d| d.weight);
    format!("{} {weight}% {}", view.status.phase.as_str(), view.status.message)
}

/// Show the Rollout on each change until its release ends.
///
/// # Errors
/// It isn't there or goes away, the API server refuses, or the time is up.
pub async fn follow(client: &Client, watch: Watch<'_>) -> Result<End> {
    let ended = until_end(client, watch);
    let Some(timeout) = watch.timeout else { return ended.await };
    match tokio::time::timeout(timeout, ended).await {
        Ok(end) => end,
        Err(_) => bail!("the release hasn't ended within {}", length(timeout)),
    }
}

async fn until_end(client: &Client, watch: Watch<'_>) -> Result<End> {
    let first = fetch::rollout(&fetch::one(client, watch.namespace, watch.name).await?)?;
    let view = View::new(&first, Clock::System.now());
    let mut goal = watch.goal.unwrap_or(Goal::Release(followed(&view))).with(&view);
    if let Some(end) = goal.reached(&view) {
        show(&glance::render(&view, watch.terminal.style, watch.wide))?;
        return Ok(end);
    }
    let mut screen = Screen { watch, last: String::new() };
    screen.clear()?;
    screen.draw(&view)?;
    let changes = changes(client, watch);
    let mut changes = pin!(changes);
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut rollout = first;
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(change) => rollout = same(change?, &rollout, watch)?,
                None => bail!("the watch ended"),
            },
            // What is left of each wait goes down on a screen.
            _ = seconds.tick(), if watch.terminal.lines.is_some() => {}
        }
        let view = View::new(&rollout, Clock::System.now());
        screen.draw(&view)?;
        goal = goal.with(&view);
        if let Some(end) = goal.reached(&view) {
            return Ok(end);
        }
    }
}

/// The Rollout as it is now; another one of its name is not the one that was followed.
fn same(now: Option<Rollout>, before: &Rollout, watch: Watch<'_>) -> Result<Rollout> {
    let same = now.filter(|now| now.metadata.uid == before.metadata.uid);
    same.ok_or_else(|| anyhow!("Rollout {}/{} was deleted", watch.namespace, watch.name))
}

fn changes(
    client: &Client,
    watch: Watch<'_>,
) -> impl Stream<Item = Result<Option<Rollout>>> + use<> {
    let api = objects(client, Kind::Rollout, watch.namespace);
    let what = format!("watching Rollout {}/{}", watch.namespace, watch.name);
    let fields = format!("metadata.name={}", watch.name);
    let events = watcher(api, watcher::Config::default().fields(&fields)).default_backoff();
    let mut there = true;
    events.filter_map(move |event| {
        let change = match event {
            Ok(event) => present(event, &mut there).map(Ok),
            Err(error) => lasting(error).map(|error| Err(anyhow!(trouble(&what, &error)))),
        };
        let change = change.map(|change| match change? {
            Some(object) => fetch::rollout(&object).map(Some),
            None => Ok(None),
        });
        std::future::ready(change)
    })
}

/// The object after an event; `Some(None)` when it is gone, which a new list alone may show.
fn present(
    event: watcher::Event<DynamicObject>,
    there: &mut bool,
) -> Option<Option<DynamicObject>> {
    match event {
        watcher::Event::Init => {
            *there = false;
            None
        }
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
            *there = true;
            Some(Some(object))
        }
        watcher::Event::InitDone => (!*there).then_some(None),
        watcher::Event::Delete(_) => Some(None),
    }
}

/// An error that trying again doesn't mend; the watcher comes back from all others by itself.
fn lasting(error: watcher::Error) -> Option<CallError> {
    let error = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => CallError::Kube(error),
        watcher::Error::WatchError(status) => CallError::Kube(kube::Error::Api(status)),
        watcher::Error::NoResourceVersion => return None,
    };
    matches!(error.code(), Some(401 | 403 | 404)).then_some(error)
}

/// A screen that is drawn over, or lines one below the other.
struct Screen<'a> {
    watch: Watch<'a>,
    last: String,
}

impl Screen<'_> {
    fn clear(&self) -> Result<()> {
        if self.watch.terminal.lines.is_some() { show("\u{1b}[2J") } else { Ok(()) }
    }

    fn draw(&mut self, view: &View<'_>) -> Result<()> {
        // The window may have changed its size.
        if self.watch.terminal.lines.is_some() {
            self.watch.terminal = Terminal::look();
        }
        if let Some(lines) = self.watch.terminal.lines {
            let page = glance::render(view, self.watch.terminal.style, self.watch.wide);
            return show(&frame(&page, lines));
        }
        let change = change(view);
        if change == self.last {
            return Ok(());
        }
        self.last = change;
        show(&line(view))
    }
}
