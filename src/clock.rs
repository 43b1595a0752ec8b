//! The one place where time comes in.

use jiff::Timestamp;

/// Where "now" comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// The present instant.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is injected")]
    pub fn now(self) -> Timestamp {
        Timestamp::now()
    }
}

/// In whole microseconds, as Leases and Events want it.
#[must_use]
pub fn micro(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
