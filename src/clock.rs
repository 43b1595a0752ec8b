//! The one place where time comes in.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Where "now" comes from.
#[derive(Debug, Clone, Copy, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// Tokio's, which a test may pause: it was `start` at `since`.
    Tokio {
        /// What time it was then.
        start: Timestamp,
        /// When that was.
        since: Instant,
    },
}

impl Clock {
    /// The present instant.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is injected")]
    pub fn now(self) -> Timestamp {
        match self {
            Clock::System => Timestamp::now(),
            Clock::Tokio { start, since } => {
                let passed = SignedDuration::try_from(since.elapsed());
                start
                    .saturating_add(passed.unwrap_or(SignedDuration::MAX))
                    .unwrap_or(Timestamp::MAX)
            }
        }
    }
}

/// In whole microseconds, as Leases and Events want it.
#[must_use]
pub fn micro(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
