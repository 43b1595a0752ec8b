//! Delivery of news, beside the reconcile: Events and messages leave from the committed outbox.
//!
//! Each Rollout has a lane for its Events and one for each channel that something waits for. A lane
//! goes through the outbox in its order and ends when nothing is left for it, so that at rest there
//! is none. A channel gets its next notice only when a commit says that it has the one before: a
//! crash can repeat one message, not more. (An Event's name is made of the Rollout and the notice, so
//! it can't repeat.) What waits is bounded by the outbox, what is under way by two numbers, and both
//! are served first come, first served.

mod event;
mod lane;
mod slack;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use surefoot_core::api::notice::{Notice, Reason};
use surefoot_core::api::{NotificationChannelSpec, Rollout};
use surefoot_core::decide::CONTROLLER;
use surefoot_core::notify::pace::Pace;
use surefoot_core::notify::{Outlook, Trouble};
use surefoot_core::observed::Delivery;
use tokio::sync::{Notify, Semaphore};

use super::lock;
use super::tasks::Tasks;
use super::telemetry::Telemetry;
use crate::clock::Clock;
use crate::outbound::Outbound;

/// Messages under way at once, in the whole process.
const MESSAGES: usize = 16;
/// Events under way at once.
const EVENTS: usize = 8;
/// How long the news of a Rollout that is gone is still tried.
const AFTERWARDS: Duration = Duration::from_secs(300);

/// Channels of a Rollout as their objects say, or why they can't be used.
pub type Channels = BTreeMap<String, Result<NotificationChannelSpec, Trouble>>;

/// Where a lane goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lane {
    /// To the API server.
    Events,
    /// To a NotificationChannel.
    Channel(String),
}

/// What a lane delivers for.
#[derive(Clone)]
struct Sender {
    uid: String,
    namespace: String,
    name: String,
}

/// A Rollout with news.
struct Letterbox {
    sender: Sender,
    /// The committed outbox.
    outbox: Vec<Notice>,
    channels: Channels,
    /// What has been delivered, until a commit says so too.
    known: Delivery,
    lanes: HashSet<Lane>,
    /// Wakes lanes that pause, when a channel has changed.
    changed: Arc<Notify>,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// When the Rollout went away.
    gone: Option<Timestamp>,
}

/// A channel's pace, and the spec that it has been kept for. Who holds the lock sends.
struct Turn {
    pace: Pace,
    spec: NotificationChannelSpec,
}

type Turns = HashMap<(String, String), Arc<tokio::sync::Mutex<Turn>>>;

/// Delivers.
pub struct Notifier {
    client: Client,
    http: Arc<Outbound>,
    clock: Clock,
    telemetry: Telemetry,
    instance: String,
    tasks: Tasks,
    boxes: Mutex<HashMap<String, Letterbox>>,
    turns: Mutex<Turns>,
    messages: Semaphore,
    events: Semaphore,
}

impl Notifier {
    /// Nothing to deliver yet.
    #[must_use]
    pub fn new(
        client: Client,
        http: Arc<Outbound>,
        telemetry: Telemetry,
        clock: Clock,
        instance: String,
        tasks: Tasks,
    ) -> Self {
        Self {
            client,
            http,
            clock,
            telemetry,
            instance,
            tasks,
            boxes: Mutex::default(),
            turns: Mutex::default(),
            messages: Semaphore::new(MESSAGES),
            events: Semaphore::new(EVENTS),
        }
    }

    /// What is known of the delivery of a Rollout's news.
    #[must_use]
    pub fn known(&self, uid: &str) -> Delivery {
        lock(&self.boxes).get(uid).map(|b| b.known.clone()).unwrap_or_default()
    }

    /// The committed outbox of a Rollout: deliver what is in it. Never waits. `wake` is called when
    /// the next look at the Rollout would find something new.
    pub fn offer(
        self: &Arc<Self>,
        rollout: &Rollout,
        channels: Channels,
        wake: impl Fn() + Send + Sync + 'static,
    ) {
        let outbox = rollout.status.as_ref().map(|s| s.outbox.clone()).unwrap_or_default();
        let uid = rollout.uid().unwrap_or_default();
        let mut boxes = lock(&self.boxes);
        if outbox.is_empty() && boxes.get(&uid).is_none_or(|b| b.lanes.is_empty()) {
            boxes.remove(&uid);
            return;
        }
        let letterbox = boxes.entry(uid.clone()).or_insert_with(|| Letterbox {
            sender: Sender {
                uid,
                namespace: rollout.namespace().unwrap_or_default(),
                name: rollout.name_any(),
            },
            outbox: Vec::new(),
            channels: Channels::new(),
            known: Delivery::default(),
            lanes: HashSet::new(),
            changed: Arc::new(Notify::new()),
            wake: Arc::new(wake),
            gone: None,
        });
        letterbox.refill(outbox, channels);
        self.start(letterbox);
    }

    /// Say what can't be put into the outbox, since no status can be written: once, until the Event
    /// is forgotten.
    pub async fn tell(&self, rollout: &Rollout, reason: Reason, note: &str) {
        let notice = Notice {
            id: format!("{reason:?}").to_lowercase(),
            warning: true,
            reason,
            note: note.chars().take(1000).collect(),
            at: self.clock.now(),
            release: 0,
            step: None,
            weight: 0,
            actor: CONTROLLER.to_owned(),
            evidence: String::new(),
            images: Vec::new(),
            to: Vec::new(),
        };
        let sender = Sender {
            uid: rollout.uid().unwrap_or_default(),
            namespace: rollout.namespace().unwrap_or_default(),
            name: rollout.name_any(),
        };
        if let Err(error) = event::write(&self.client, &self.instance, &sender, &notice).await {
            tracing::warn!(?reason, %error, "Event not delivered");
        }
    }

    /// Start the lanes that have something to do and don't run.
    fn start(self: &Arc<Self>, letterbox: &mut Letterbox) {
        for lane in letterbox.due() {
            if letterbox.lanes.insert(lane.clone()) {
                self.tasks.spawn(lane::run(self.clone(), letterbox.sender.clone(), lane));
            }
        }
    }

    /// The Rollout is gone. What its last outbox held is still tried for a while.
    pub fn part(self: &Arc<Self>, uid: &str) {
        let mut boxes = lock(&self.boxes);
        let Some(letterbox) = boxes.get_mut(uid) else { return };
        letterbox.part(self.clock.now());
        self.start(letterbox);
        if letterbox.lanes.is_empty() {
            boxes.remove(uid);
        }
    }

    /// The pace of a channel; who locks it is the only one to send there.
    fn turn(
        &self,
        namespace: &str,
        channel: &str,
        spec: &NotificationChannelSpec,
    ) -> Arc<tokio::sync::Mutex<Turn>> {
        let now = self.clock.now();
        let mut turns = lock(&self.turns);
        // Whoever waits holds a second reference; one at rest holds nothing worth keeping.
        turns.retain(|_, turn| {
            Arc::strong_count(turn) > 1 || turn.try_lock().is_ok_and(|t| !t.pace.is_rested(now))
        });
        let key = (namespace.to_owned(), channel.to_owned());
        let fresh = || Turn { pace: Pace::default(), spec: spec.clone() };
        turns.entry(key).or_insert_with(|| Arc::new(tokio::sync::Mutex::new(fresh()))).clone()
    }
}

impl Letterbox {
    fn refill(&mut self, outbox: Vec<Notice>, channels: Channels) {
        if self.channels != channels {
            self.channels = channels;
            self.changed.notify_waiters();
        }
        self.outbox = outbox;
        let (outbox, channels) = (&self.outbox, &self.channels);
        let find = |id: &String| outbox.iter().find(|n| n.id == *id);
        self.known.events.retain(|id| find(id).is_some());
        self.known.told.retain(|(channel, id)| {
            find(id).is_some_and(|notice| notice.recipient(channel).is_some())
        });
        self.known.troubles.retain(|channel, _| channels.contains_key(channel));
    }

    /// No commit will ever say what has been delivered: it counts at once.
    fn part(&mut self, now: Timestamp) {
        self.gone.get_or_insert(now);
        self.wake = Arc::new(|| ());
        for (channel, id) in std::mem::take(&mut self.known.told) {
            self.delivered(&channel, &id);
        }
    }

    /// A channel has a notice.
    fn delivered(&mut self, channel: &str, id: &str) {
        self.known.troubles.remove(channel);
        if self.gone.is_none() {
            self.known.told.insert((channel.to_owned(), id.to_owned()));
            return (self.wake)();
        }
        if let Some(notice) = self.outbox.iter_mut().find(|n| n.id == id) {
            notice.to.retain(|to| to.channel != channel);
        }
    }

    /// Lanes with something to do now.
    fn due(&self) -> Vec<Lane> {
        let channels = self.channels.keys().map(|name| Lane::Channel(name.clone()));
        let mut lanes: Vec<Lane> = channels.chain([Lane::Events]).collect();
        lanes.retain(|lane| self.next(lane).is_some());
        lanes
    }

    /// What a lane delivers next. To a channel nothing, before what it has got is committed.
    fn next(&self, lane: &Lane) -> Option<&Notice> {
        match lane {
            Lane::Events => self.outbox.iter().find(|n| !self.known.events.contains(&n.id)),
            Lane::Channel(name) => {
                self.channels.get(name).filter(|channel| channel.is_ok())?;
                let notice = self.outbox.iter().find(|n| n.recipient(name).is_some())?;
                let told = self.known.told.contains(&(name.clone(), notice.id.clone()));
                (!told).then_some(notice)
            }
        }
    }

    /// A failure is worth a word when it lasts: at once where somebody must correct something, else
    /// from the second in a row on.
    fn trouble(&mut self, channel: &str, trouble: Trouble, failures: u32) {
        if trouble.outlook() == Outlook::Passing && failures < 2 {
            return;
        }
        let before = self.known.troubles.insert(channel.to_owned(), trouble.clone());
        if before.map(|b| b.reason()) != Some(trouble.reason()) {
            (self.wake)();
        }
    }
}

#[cfg(test)]
mod tests;
