//! Time and what Prometheus has of it: one stretch after another, each with a verdict of chance.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use surefoot_core::api::RolloutStatus;
use surefoot_core::engine::folded_until;
use surefoot_core::samples::{BaselineSample, Count, Health, Histogram, Samples, Tick};

/// Seconds in a stretch: longer than any wait of the plan but that for an inconclusive step.
pub const STRETCH: i64 = 60;
/// Requests in a stretch.
const REQUESTS: u64 = 20_000;
/// One of so many fails in stable, and in a good canary.
const USUAL: u64 = 500;

/// What the metrics of a stretch show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The canary does as well as stable.
    Pass,
    /// Every fourth of its requests fails.
    Harm,
    /// Nothing: they can't be had.
    Nothing,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// The canary's weight on the route, per cent.
    pub weight: i64,
    /// What is seen of it.
    pub verdict: Verdict,
}

/// So many stretches after the beginning.
#[must_use]
pub fn at(stretches: u8) -> Timestamp {
    Timestamp::UNIX_EPOCH
        + SignedDuration::from_secs(1_900_000_000 + i64::from(stretches) * STRETCH)
}

fn failing(requests: u64, one_of: u64) -> Count {
    Count { requests, failed: requests / one_of, abandoned: 0 }
}

/// What the sampler of a process has for a status: ticks from where its engine ends.
#[must_use]
pub fn samples(status: &RolloutStatus, past: &[Stretch], stretches: u8) -> Samples {
    let baseline = BaselineSample {
        over: Duration::from_mins(10),
        requests: failing(REQUESTS * 10, USUAL),
        boundaries: Vec::new(),
        latency: Histogram::default(),
        pods: Err("only their sum is simulated".to_owned()),
    };
    let mut samples =
        Samples { baseline: Some(baseline), health: Health::Good, ..Samples::default() };
    let first = usize::from(stretches).saturating_sub(past.len());
    let begins = |place: usize| at(u8::try_from(first + place).unwrap_or(u8::MAX));
    let dark = past.iter().rev().take_while(|s| s.verdict == Verdict::Nothing).count();
    if dark > 0 {
        let (message, since) = ("no answer".to_owned(), begins(past.len() - dark));
        samples.health = Health::Bad { message, since };
    }
    let Some(from) = status.engine.as_deref().and_then(folded_until) else { return samples };
    for (place, stretch) in past.iter().enumerate() {
        let (begin, end) = (begins(place), begins(place + 1));
        // What couldn't be read then can't be read before it is over.
        if end <= from || place >= past.len() - dark {
            continue;
        }
        let follows = samples.ticks.last().map_or(from, |tick| tick.to) == begin;
        if !follows {
            break;
        }
        let canary = REQUESTS * u64::try_from(stretch.weight).unwrap_or(0) / 100;
        let one_of = if stretch.verdict == Verdict::Harm { 4 } else { USUAL };
        samples.ticks.push(Tick {
            from: begin,
            to: end,
            canary: failing(canary, one_of),
            stable: failing(REQUESTS - canary, USUAL),
            latency: None,
            reached: None,
            partial: None,
        });
    }
    samples
}

/// What of the past may still be asked for.
pub(crate) fn forget(past: &mut Vec<Stretch>, status: &RolloutStatus, stretches: u8) {
    let from = status.engine.as_deref().and_then(folded_until).unwrap_or(at(stretches));
    let first = usize::from(stretches).saturating_sub(past.len());
    let ends = |place: usize| at(u8::try_from(first + place + 1).unwrap_or(u8::MAX));
    let old = (0..past.len()).take_while(|place| ends(*place) <= from).count();
    past.drain(..old);
}
