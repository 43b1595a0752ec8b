//! One lane: a Rollout's notices to one place, one after another.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use surefoot_core::api::NotificationChannelSpec;
use surefoot_core::api::notice::Notice;
use surefoot_core::notify::slack::{Letter, message};
use tokio::sync::futures::OwnedNotified;

use super::super::lock;
use super::{AFTERWARDS, Lane, Notifier, Sender, event, slack};

/// Between two tries of an Event, at first and at most.
const EVENT_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What a lane has to do.
struct Task {
    notice: Notice,
    /// Where to; none for Events.
    channel: Option<(String, NotificationChannelSpec)>,
    /// Resolves when the channel's object has become another one.
    changed: OwnedNotified,
}

/// Deliver until nothing is left.
pub(super) async fn run(notifier: Arc<Notifier>, sender: Sender, lane: Lane) {
    let mut failures = 0;
    while let Some(task) = next(&notifier, &sender.uid, &lane) {
        let Task { notice, channel, changed } = task;
        match channel {
            None => write(&notifier, &sender, &notice, &mut failures).await,
            Some((name, spec)) => tell(&notifier, &sender, &notice, &name, &spec, changed).await,
        }
    }
}

/// The next task; without one the lane is taken down in the same moment.
fn next(notifier: &Notifier, uid: &str, lane: &Lane) -> Option<Task> {
    let mut boxes = lock(&notifier.boxes);
    let letterbox = boxes.get_mut(uid)?;
    let now = notifier.clock.now();
    let over =
        letterbox.gone.is_some_and(|gone| now.duration_since(gone).unsigned_abs() > AFTERWARDS);
    let task = letterbox.next(lane).filter(|_| !over).cloned().and_then(|notice| {
        let channel = match lane {
            Lane::Events => None,
            Lane::Channel(name) => {
                let spec = letterbox.channels.get(name)?.as_ref().ok()?.clone();
                Some((name.clone(), spec))
            }
        };
        Some(Task { notice, channel, changed: letterbox.changed.clone().notified_owned() })
    });
    if task.is_none() {
        letterbox.lanes.remove(lane);
        let empty = letterbox.gone.is_some() || letterbox.outbox.is_empty();
        if empty && letterbox.lanes.is_empty() {
            boxes.remove(uid);
        }
    }
    task
}

async fn write(notifier: &Notifier, sender: &Sender, notice: &Notice, failures: &mut u32) {
    let written = {
        // The semaphore is never closed; a permit is all that is wanted of it.
        let _permit = notifier.events.acquire().await.ok();
        event::write(&notifier.client, &notifier.instance, sender, notice).await
    };
    notifier.telemetry.delivered("event", if written.is_ok() { "delivered" } else { "failed" });
    match written {
        Ok(()) => {
            *failures = 0;
            let mut boxes = lock(&notifier.boxes);
            let Some(letterbox) = boxes.get_mut(&sender.uid) else { return };
            letterbox.known.events.insert(notice.id.clone());
            // One look takes all of them along.
            if letterbox.next(&Lane::Events).is_none() {
                (letterbox.wake)();
            }
        }
        Err(error) => {
            tracing::warn!(
                namespace = sender.namespace,
                name = sender.name,
                notice = notice.id,
                %error,
                "Event not delivered"
            );
            let pause = EVENT_PAUSE.0.saturating_mul(1 << (*failures).min(16));
            *failures += 1;
            tokio::time::sleep(pause.min(EVENT_PAUSE.1).mul_f64(1.0 + jitter() / 4.0)).await;
        }
    }
}

/// Wait for the channel's turn and send; whatever comes of it is noted.
async fn tell(
    notifier: &Notifier,
    sender: &Sender,
    notice: &Notice,
    channel: &str,
    spec: &NotificationChannelSpec,
    changed: OwnedNotified,
) {
    let turn = notifier.turn(&sender.namespace, channel, spec);
    let mut turn = turn.lock().await;
    if turn.spec != *spec {
        // What another spec led to says nothing of this one.
        *turn = super::Turn { pace: Default::default(), spec: spec.clone() };
    }
    let wait = turn.pace.wait(notifier.clock.now());
    if !wait.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // The channel's object is another one: look again.
            () = changed => return,
        }
    }
    // While we waited for the turn, the notice may have gone from the outbox.
    let Some(omitted) = still_wanted(notifier, &sender.uid, notice, channel) else { return };
    let letter = Letter {
        namespace: &sender.namespace,
        name: &sender.name,
        notice,
        omitted,
        dashboard: spec.dashboard_url.as_deref(),
    };
    turn.pace.sending(notifier.clock.now());
    notifier.telemetry.secret();
    let sent = {
        let _permit = notifier.messages.acquire().await.ok();
        let (client, http) = (&notifier.client, &notifier.http);
        slack::send(client, http, &sender.namespace, &spec.slack, message(&letter)).await
    };
    let now = notifier.clock.now();
    let mut boxes = lock(&notifier.boxes);
    let letterbox = boxes.get_mut(&sender.uid);
    match sent {
        Ok(()) => {
            notifier.telemetry.delivered("slack", "delivered");
            turn.pace.succeeded();
            if let Some(letterbox) = letterbox {
                letterbox.delivered(channel, &notice.id);
            }
        }
        Err(failure) => {
            let trouble = failure.trouble;
            notifier.telemetry.delivered("slack", trouble.reason());
            tracing::warn!(
                namespace = sender.namespace,
                name = sender.name,
                channel,
                notice = notice.id,
                reason = trouble.reason(),
                %trouble,
                "message not delivered"
            );
            let failures = turn.pace.failed(now, &trouble, failure.asked, jitter());
            if let Some(letterbox) = letterbox {
                letterbox.trouble(channel, trouble, failures);
            }
        }
    }
}

/// How many notices the channel has missed, if it still wants this one.
fn still_wanted(notifier: &Notifier, uid: &str, notice: &Notice, channel: &str) -> Option<i64> {
    let boxes = lock(&notifier.boxes);
    let now = boxes.get(uid)?.next(&Lane::Channel(channel.to_owned()))?;
    (now.id == notice.id).then(|| now.recipient(channel).map(|r| r.omitted)).flatten()
}

/// From 0 to 1, another one each time.
fn jitter() -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "eight bits are enough")]
    let bits = RandomState::new().hash_one(0u8) as u8;
    f64::from(bits) / 255.0
}
