//! How often a channel is asked: a message a second with a burst, and longer and longer pauses after
//! failures.

use std::time::Duration;

use jiff::Timestamp;

use super::{Outlook, Trouble};
use crate::decide::after;

/// Slack takes one message a second and channel.
const INTERVAL: Duration = Duration::from_secs(1);
/// So many at once after a time of silence.
const BURST: u32 = 3;
/// No pause is longer, whatever the other side asks for.
const LONGEST: Duration = Duration::from_secs(3600);

/// When a channel may be asked next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// When the burst will be whole again.
    whole_at: Timestamp,
    /// Not before this, after a failure.
    not_before: Timestamp,
    /// In a row.
    failures: u32,
}

impl Default for Pace {
    fn default() -> Self {
        let past = Timestamp::UNIX_EPOCH;
        Self { whole_at: past, not_before: past, failures: 0 }
    }
}

impl Pace {
    /// How long to wait before the next message.
    #[must_use]
    pub fn wait(&self, now: Timestamp) -> Duration {
        let room = INTERVAL * (BURST - 1);
        let rate = Duration::try_from(self.whole_at.duration_since(now)).unwrap_or_default();
        let pause = Duration::try_from(self.not_before.duration_since(now)).unwrap_or_default();
        // A clock that was set back must not stop us.
        rate.saturating_sub(room).max(pause).min(LONGEST)
    }

    /// A message is being sent.
    pub fn sending(&mut self, now: Timestamp) {
        self.whole_at = after(self.whole_at.max(now), INTERVAL);
    }

    /// It arrived.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = Timestamp::UNIX_EPOCH;
    }

    /// It didn't. `asked` is what the other side wants us to wait; `jitter`, from 0 to 1, keeps those
    /// that failed together from coming back together. How many failures that makes in a row.
    pub fn failed(
        &mut self,
        now: Timestamp,
        trouble: &Trouble,
        asked: Option<Duration>,
        jitter: f64,
    ) -> u32 {
        self.failures = self.failures.saturating_add(1);
        let (first, most) = match trouble.outlook() {
            Outlook::Passing => (1.0, 60.0),
            Outlook::Ours => (2.0, 15.0),
            Outlook::Lasting => (60.0, 600.0),
        };
        let doublings = i32::try_from(self.failures.min(16)).unwrap_or(16) - 1;
        let pause = f64::min(first * 2f64.powi(doublings), most);
        let pause = Duration::from_secs_f64(pause).max(asked.unwrap_or_default()).min(LONGEST);
        let pause = pause.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0);
        self.not_before = after(now, pause);
        self.failures
    }

    /// Nothing of the past matters any more.
    #[must_use]
    pub fn is_rested(&self, now: Timestamp) -> bool {
        self.whole_at <= now && self.not_before <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
    }

    #[test]
    fn a_burst_then_one_a_second() {
        let mut pace = Pace::default();
        for _ in 0..BURST {
            assert_eq!(pace.wait(at(0)), Duration::ZERO);
            pace.sending(at(0));
        }
        assert_eq!(pace.wait(at(0)), Duration::from_secs(1));
        assert_eq!(pace.wait(at(400)), Duration::from_millis(600));
        assert!(!pace.is_rested(at(2999)) && pace.is_rested(at(3000)));
    }

    #[test]
    fn what_the_other_side_asks_for_is_obeyed_and_bounded() {
        let mut pace = Pace::default();
        pace.failed(at(0), &Trouble::Busy, Some(Duration::from_secs(30)), 0.0);
        assert_eq!(pace.wait(at(0)), Duration::from_secs(30));
        pace.failed(at(0), &Trouble::Busy, Some(Duration::MAX), 1.0);
        assert_eq!(pace.wait(at(0)), LONGEST);
        pace.succeeded();
        assert_eq!(pace.wait(at(0)), Duration::ZERO);
    }

    #[test]
    fn who_refuses_is_not_hammered_and_what_we_can_correct_is_seen_soon() {
        let mut pace = Pace::default();
        pace.failed(at(0), &Trouble::Refused("no_service"), None, 0.0);
        assert_eq!(pace.wait(at(0)), Duration::from_secs(60));
        let mut pace = Pace::default();
        for _ in 0..50 {
            pace.failed(at(0), &Trouble::ChannelInvalid, None, 1.0);
        }
        assert!(pace.wait(at(0)) < Duration::from_secs(20));
    }

    proptest! {
        /// In any stretch of time no more goes out than the burst and one a second.
        #[test]
        fn never_above_the_rate(gaps in proptest::collection::vec(0i64..3000, 1..200)) {
            let mut pace = Pace::default();
            let mut now = 0;
            let mut sent = Vec::new();
            for gap in gaps {
                now += gap;
                now += i64::try_from(pace.wait(at(now)).as_millis()).unwrap();
                pace.sending(at(now));
                sent.push(now);
            }
            for (i, from) in sent.iter().enumerate() {
                let within = sent[i..].iter().take_while(|t| **t <= from + 10_000).count();
                prop_assert!(within <= 10 + BURST as usize, "{within} in 10 s");
            }
        }
    }
}
