//! The outbox: news is put in where the choice is made, and leaves when everybody has it, or when a
//! channel stayed out of reach for too long. Nothing is dropped without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{Case, after, outcome};
use crate::api::notice::{Notice, Notification, Reason, Recipient};
use crate::api::status::{Condition, ConditionStatus};
use crate::notify::Trouble;
use crate::observed::Delivery;
use crate::words;

/// The condition that tells of channels out of reach.
const CONDITION: &str = "NotificationsFailing";
/// Its reason after news was given up.
const GAVE_UP: &str = "GaveUp";
/// How many notices wait at most.
const MOST: usize = 50;
/// For how long a channel in trouble is tried with one notice.
const GIVE_UP: Duration = Duration::from_secs(3600);
/// How long a Rollout that goes away waits for its last news to be sent.
const FAREWELL: Duration = Duration::from_secs(10);
/// Characters of a note.
const NOTE: usize = 1000;
/// Characters of the evidence.
const EVIDENCE: usize = 2000;
/// Images that are named, and characters of each.
const IMAGES: (usize, usize) = (4, 300);

/// What has become of the outbox since the last look.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Channels that got something.
    told: BTreeSet<String>,
    /// How many notices each channel will never get.
    given_up: BTreeMap<String, i64>,
}

impl Settled {
    /// How many messages will never be sent.
    pub(super) fn given_up(&self) -> i64 {
        self.given_up.values().sum()
    }
}

/// Take out what has been delivered, what nobody wants any more, and what has waited in vain.
pub(super) fn settle(
    outbox: &mut Vec<Notice>,
    wanted: &[Notification],
    seen: &Delivery,
    now: Timestamp,
) -> Settled {
    let mut settled = Settled::default();
    let mut omitted: BTreeMap<String, i64> = BTreeMap::new();
    for notice in outbox.iter_mut() {
        let late = now >= after(notice.at, GIVE_UP);
        let id = notice.id.clone();
        notice.to.retain_mut(|to| {
            if !wanted.iter().any(|w| w.channel == to.channel) {
                return false;
            }
            if seen.told.contains(&(to.channel.clone(), id.clone())) {
                settled.told.insert(to.channel.clone());
                return false;
            }
            to.omitted += omitted.remove(&to.channel).unwrap_or(0);
            if late && seen.troubles.contains_key(&to.channel) {
                *settled.given_up.entry(to.channel.clone()).or_default() += 1;
                omitted.insert(to.channel.clone(), to.omitted + 1);
                return false;
            }
            true
        });
    }
    outbox.retain(|n| !n.to.is_empty() || !seen.events.contains(&n.id));
    settled
}

/// Bring the outbox down to its size. Who still gets later news is told how much is missing.
fn make_room(outbox: &mut Vec<Notice>) {
    while outbox.len() > MOST {
        // At most one notice a channel is its last, so among so many there is one that is nobody's.
        let followed = |i: usize, to: &Recipient| {
            outbox.iter().skip(i + 1).any(|n| n.recipient(&to.channel).is_some())
        };
        let expendable =
            (0..outbox.len()).find(|i| outbox[*i].to.iter().all(|to| followed(*i, to)));
        let gone = outbox.remove(expendable.unwrap_or(0));
        for lost in gone.to {
            let mut later = outbox.iter_mut().flat_map(|n| n.to.iter_mut());
            if let Some(next) = later.find(|to| to.channel == lost.channel) {
                next.omitted += lost.omitted + 1;
            }
        }
    }
}

impl Case<'_> {
    /// News for people, sent once the decision is committed.
    pub(super) fn notice(&mut self, reason: Reason, note: impl Into<String>, warning: bool) {
        let decision = self.status.decision.as_ref();
        let seq = decision.map_or(0, |d| d.seq);
        // One decision may have news at several times, the first of them long delivered; and of several
        // kinds at one time.
        let (when, kind) = (self.now.as_millisecond(), reason as u8);
        let mut number = 0;
        let id = loop {
            let id = format!("{seq}-{when:x}-{kind}-{number}");
            if !self.status.outbox.iter().any(|n| n.id == id) {
                break id;
            }
            number += 1;
        };
        let release = self.status.release.as_ref();
        let images = release.map(|r| r.images.as_slice()).unwrap_or_default();
        let promoted = reason == Reason::Promoted;
        let evidence = if promoted { self.evidence() } else { String::new() };
        // After the hand-over the canary's arm of the route has nothing, and the release everything.
        let weight = if promoted { 100 } else { decision.map_or(0, |d| d.weight) };
        let wanted = self.rollout.spec.notifications.iter().filter(|n| n.wants(reason));
        let notice = Notice {
            id,
            warning,
            reason,
            note: cut(&note.into(), NOTE),
            at: self.now,
            release: release.map_or(0, |r| r.number),
            step: self.status.step.as_ref().map(|s| s.index),
            weight,
            actor: decision.map(|d| d.actor.clone()).unwrap_or_default(),
            evidence,
            images: images.iter().take(IMAGES.0).map(|i| cut(i, IMAGES.1)).collect(),
            to: wanted.map(|n| Recipient { channel: n.channel.clone(), omitted: 0 }).collect(),
        };
        self.status.outbox.push(notice);
        make_room(&mut self.status.outbox);
    }

    /// What each step passed on, a line each.
    fn evidence(&self) -> String {
        let passes = self.status.release.iter().flat_map(|r| &r.passes);
        let lines: Vec<String> = passes
            .map(|p| format!("{}: {}", words::weight(p.weight), cut(&p.evidence, 400)))
            .collect();
        cut(&lines.join("\n"), EVIDENCE)
    }

    /// Before a Rollout goes away: whether somebody still waits for its news, and not for too long.
    pub(super) fn bids_farewell(&mut self) -> bool {
        let waits = self.status.outbox.iter().filter(|n| !n.to.is_empty());
        let Some(last) = waits.map(|n| n.at).max() else { return false };
        !self.passed(last, FAREWELL)
    }

    /// Channels that can't be reached, as a condition: there from the first trouble on.
    pub(super) fn notifications(&mut self) {
        let troubles = self.troubles();
        let have = self.status.conditions.iter().find(|c| c.kind == CONDITION);
        if let Some((reason, message)) = told(&troubles, &self.settled) {
            let message = cut(&message, NOTE);
            return outcome::set(
                &mut self.status,
                self.now,
                CONDITION,
                ConditionStatus::True,
                reason,
                &message,
            );
        }
        if have.is_some_and(|have| have.status == ConditionStatus::True && self.healed(have)) {
            let message = "channels are being reached again";
            outcome::set(
                &mut self.status,
                self.now,
                CONDITION,
                ConditionStatus::False,
                "Delivering",
                message,
            );
        }
    }

    /// What is wrong with channels that the spec names; most only matters while something waits.
    fn troubles(&mut self) -> Vec<(String, Trouble)> {
        let mut troubles = Vec::new();
        for notification in &self.rollout.spec.notifications {
            let channel = &notification.channel;
            let mut waiting =
                self.status.outbox.iter().filter(|n| n.recipient(channel).is_some()).map(|n| n.at);
            let oldest = waiting.next();
            let Some(trouble) = self.seen.delivery.troubles.get(channel) else { continue };
            if oldest.is_some() || *trouble == Trouble::ChannelMissing {
                troubles.push((channel.clone(), trouble.clone()));
            }
            if let Some(oldest) = oldest {
                let _ = self.passed(oldest, GIVE_UP);
            }
        }
        troubles
    }

    /// Nothing is in trouble now; whether what was has been shown to be over.
    fn healed(&self, have: &Condition) -> bool {
        let waits = self.status.outbox.iter().any(|n| !n.to.is_empty());
        !self.settled.told.is_empty()
            || self.rollout.spec.notifications.is_empty()
            || have.reason == Trouble::ChannelMissing.reason()
            || (have.reason != GAVE_UP && !waits)
    }
}

/// The reason and the sentence of the condition, where there is something to say.
fn told(troubles: &[(String, Trouble)], settled: &Settled) -> Option<(&'static str, String)> {
    let given_up = settled.given_up.iter().map(|(channel, count)| {
        format!("channel {channel}: {count} given up after {}", crate::words::span(GIVE_UP))
    });
    let said = troubles.iter().map(|(channel, trouble)| format!("channel {channel}: {trouble}"));
    let sentences: Vec<String> = given_up.chain(said).collect();
    let reason = troubles.first().map_or(GAVE_UP, |(_, trouble)| trouble.reason());
    (!sentences.is_empty()).then(|| (reason, sentences.join("; ")))
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::status::Phase;
    use crate::api::{Rollout, RolloutStatus};
    use crate::decide::{Outcome, decide};
    use crate::desired::Desired;
    use crate::observed::{HoldMode, Observed};
    use crate::samples::Samples;

    fn wanted(channels: &[&str]) -> Vec<Notification> {
        let wants = |channel: &&str| Notification { channel: (*channel).into(), events: vec![] };
        channels.iter().map(wants).collect()
    }

    fn notice(number: i64, channels: &[&str]) -> Notice {
        let to = |channel: &&str| Recipient { channel: (*channel).into(), omitted: 0 };
        Notice {
            id: number.to_string(),
            warning: false,
            reason: Reason::Started,
            note: String::new(),
            at: Timestamp::UNIX_EPOCH,
            release: 1,
            step: None,
            weight: 0,
            actor: String::new(),
            evidence: String::new(),
            images: vec![],
            to: channels.iter().map(to).collect(),
        }
    }

    fn hours(hours: i64) -> Timestamp {
        Timestamp::from_second(hours * 3600).unwrap()
    }

    #[test]
    fn a_notice_leaves_when_its_event_and_every_channel_have_it() {
        let mut outbox = vec![notice(1, &["a", "b"])];
        let mut seen = Delivery::default();
        seen.events.insert("1".into());
        seen.told.insert(("a".into(), "1".into()));
        settle(&mut outbox, &wanted(&["a", "b"]), &seen, hours(0));
        assert_eq!(outbox[0].to, vec![Recipient { channel: "b".into(), omitted: 0 }]);
        seen.told.insert(("b".into(), "1".into()));
        let settled = settle(&mut outbox, &wanted(&["a", "b"]), &seen, hours(0));
        assert!(outbox.is_empty() && settled.given_up() == 0);
    }

    #[test]
    fn what_waited_in_vain_for_an_hour_is_counted_on_what_comes_next() {
        let mut outbox = vec![notice(1, &["a"]), notice(2, &["a"]), notice(3, &["a"])];
        outbox[2].at = hours(1);
        let mut seen = Delivery::default();
        let settled = settle(&mut outbox, &wanted(&["a"]), &seen, hours(9));
        assert_eq!(settled.given_up(), 0, "nobody has tried yet");
        seen.troubles.insert("a".into(), Trouble::ChannelMissing);
        let settled = settle(&mut outbox, &wanted(&["a"]), &seen, hours(1));
        assert_eq!(settled.given_up(), 2);
        assert_eq!(outbox[2].to[0].omitted, 2);
        assert_eq!(outbox.len(), 3, "their Events are still to be written");
    }

    #[test]
    fn a_channel_that_the_spec_no_longer_names_gets_nothing() {
        let mut outbox = vec![notice(1, &["a"])];
        settle(&mut outbox, &wanted(&["b"]), &Delivery::default(), hours(0));
        assert!(outbox[0].to.is_empty());
    }

    /// A Rollout that waits for its Deployment, as it stands after a look at `delivery`.
    fn look(rollout: &mut Rollout, delivery: Delivery, now: Timestamp) -> Outcome {
        let seen = Observed {
            delivery,
            ..Observed::nothing(rollout.spec.clone(), HoldMode::PausedAtRest)
        };
        let outcome = decide(rollout, &seen, &Samples::default(), now);
        rollout.status = Some(outcome.status.clone());
        outcome
    }

    fn rollout(channels: &[&str]) -> Rollout {
        let spec = serde_json::json!({
            "targetRef": {"kind": "Deployment", "name": "shop"},
            "traffic": {"mesh": "istio", "service": "shop",
                "routes": [{"kind": "VirtualService", "name": "shop"}]},
            "steps": [{"weight": 100}],
        });
        let mut rollout = Rollout::new("shop", serde_json::from_value(spec).unwrap());
        rollout.spec.notifications = wanted(channels);
        rollout
    }

    fn failing(rollout: &Rollout) -> Option<(ConditionStatus, String)> {
        let conditions = &rollout.status.as_ref()?.conditions;
        let found = conditions.iter().find(|c| c.kind == CONDITION)?;
        Some((found.status, found.reason.clone()))
    }

    fn trouble(channel: &str, trouble: Trouble) -> Delivery {
        Delivery { troubles: [(channel.to_owned(), trouble)].into(), ..Delivery::default() }
    }

    #[test]
    fn news_of_one_moment_has_ids_of_its_own_even_when_the_first_is_gone() {
        let (rollout, samples) = (rollout(&[]), Samples::default());
        let seen = Observed::nothing(rollout.spec.clone(), HoldMode::PausedAtRest);
        let mut case = Case {
            rollout: &rollout,
            seen: &seen,
            samples: &samples,
            now: hours(0),
            deleting: false,
            status: RolloutStatus::default(),
            settled: Settled::default(),
            desired: Desired::default(),
            requeue_at: None,
        };
        case.notice(Reason::StepPassed, "it passed", false);
        let delivered = case.status.outbox.remove(0);
        case.notice(Reason::Advancing, "the next one begins", false);
        assert_ne!(case.status.outbox[0].id, delivered.id);
    }

    #[test]
    fn a_missing_channel_is_said_at_once_and_heals() {
        let mut rollout = rollout(&["a"]);
        look(&mut rollout, Delivery::default(), hours(0));
        assert_eq!(failing(&rollout), None, "no word without trouble");
        look(&mut rollout, trouble("a", Trouble::ChannelMissing), hours(0));
        let missing = Some((ConditionStatus::True, "ChannelMissing".to_owned()));
        assert_eq!(failing(&rollout), missing);
        look(&mut rollout, Delivery::default(), hours(0));
        assert_eq!(failing(&rollout).unwrap().0, ConditionStatus::False);
    }

    #[test]
    fn trouble_stays_said_until_something_arrives_and_giving_up_is_said_too() {
        let mut rollout = rollout(&["a"]);
        let status = RolloutStatus { outbox: vec![notice(1, &["a"])], ..Default::default() };
        rollout.status = Some(status);
        let busy = || trouble("a", Trouble::Busy);
        let outcome = look(&mut rollout, busy(), hours(0));
        assert_eq!(failing(&rollout), Some((ConditionStatus::True, "Busy".to_owned())));
        assert_eq!(outcome.requeue_at, Some(hours(1)), "the time to give up");
        // A new process has not tried yet.
        look(&mut rollout, Delivery::default(), hours(0));
        assert_eq!(failing(&rollout), Some((ConditionStatus::True, "Busy".to_owned())));
        let outcome = look(&mut rollout, busy(), hours(1));
        let gave_up = Some((ConditionStatus::True, GAVE_UP.to_owned()));
        assert_eq!((outcome.given_up, failing(&rollout)), (1, gave_up.clone()));
        let outcome = look(&mut rollout, busy(), hours(1));
        assert_eq!((outcome.given_up, failing(&rollout)), (0, gave_up));
        rollout.status.as_mut().unwrap().outbox.push(notice(2, &["a"]));
        let told = [("a".to_owned(), "2".to_owned())].into();
        look(&mut rollout, Delivery { told, ..Delivery::default() }, hours(1));
        assert_eq!(failing(&rollout).unwrap().0, ConditionStatus::False);
    }

    #[test]
    fn what_a_channel_got_is_written_at_once() {
        let mut rollout = rollout(&["a"]);
        let outbox = vec![notice(1, &["a"]), notice(2, &["a"])];
        rollout.status = Some(RolloutStatus { outbox, ..Default::default() });
        look(&mut rollout, Delivery::default(), hours(0));
        let mut before = rollout.status.clone().unwrap();
        before.phase = Phase::Stepping;
        let mut after = before.clone();
        after.outbox[0].to.clear();
        assert!(outcome::changed(&before, &after, hours(0)));
    }

    proptest! {
        /// However news comes in, a channel hears of each piece: by itself, or as one of those that
        /// are missing.
        #[test]
        fn a_flood_is_bounded_and_nothing_is_missing_unsaid(
            wants in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 10), 1..200)
        ) {
            let names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
            let mut outbox = Vec::new();
            let mut sent = [0; 10];
            for (number, wants) in wants.iter().enumerate() {
                let to: Vec<&str> =
                    names.iter().zip(wants).filter(|(_, w)| **w).map(|(n, _)| *n).collect();
                for (count, _) in sent.iter_mut().zip(wants).filter(|(_, w)| **w) {
                    *count += 1;
                }
                outbox.push(notice(number as i64, &to));
                make_room(&mut outbox);
                prop_assert!(outbox.len() <= MOST);
            }
            for (name, sent) in names.iter().zip(sent) {
                let heard: i64 =
                    outbox.iter().filter_map(|n| n.recipient(name)).map(|r| r.omitted + 1).sum();
                prop_assert_eq!(heard, sent);
            }
        }
    }
}
