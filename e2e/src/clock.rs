//! The only place that reads a clock: everything else is handed a time.
#![expect(clippy::disallowed_methods, reason = "somewhere time must come in")]

use std::time::Instant;

use jiff::Timestamp;

/// The time of day, for what is written down.
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// A point in time, for what is measured.
pub fn instant() -> Instant {
    Instant::now()
}
