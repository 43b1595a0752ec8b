//! Instants in words, seen from now.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use surefoot_core::words;

const DAY: u64 = 24 * 3600;

/// From `from` to `to`, zero where clocks disagree.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// A length of time in whole seconds, days first where there are any: "3d 4h", "2m 5s".
#[must_use]
pub fn length(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / DAY, seconds % DAY / 3600) {
        (0, _) => words::span(Duration::from_secs(seconds)),
        (days, 0) => format!("{days}d"),
        (days, hours) => format!("{days}d {hours}h"),
    }
}

/// "2m 5s ago".
#[must_use]
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", length(between(at, now)))
}

/// "2m 5s left", or that the time is up.
#[must_use]
pub fn left(until: Timestamp, now: Timestamp) -> String {
    if until <= now {
        "due now".to_owned()
    } else {
        format!("{} left", length(between(now, until)))
    }
}

/// The time of day, with the date where it isn't today's (all in UTC).
#[must_use]
pub fn clock(at: Timestamp, now: Timestamp) -> String {
    let day = |t: Timestamp| t.to_zoned(TimeZone::UTC).date();
    if day(at) == day(now) {
        at.strftime("%H:%M:%S UTC").to_string()
    } else {
        at.strftime("%Y-%m-%d %H:%M UTC").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_it() {
        let now: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(ago(at("2026-03-02T09:57:55Z"), now), "2m 5s ago");
        assert_eq!(ago(at("2026-02-27T06:00:00Z"), now), "3d 4h ago");
        assert_eq!(left(at("2026-03-02T10:01:00Z"), now), "1m left");
        assert_eq!(left(now, now), "due now");
        assert_eq!(clock(at("2026-03-02T09:57:55Z"), now), "09:57:55 UTC");
        assert_eq!(clock(at("2026-03-01T23:59:59Z"), now), "2026-03-01 23:59 UTC");
    }
}
