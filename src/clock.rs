//! The one place where time comes in.

use std::time::Duration;

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

/// How long the system's clock runs between two steps of a paced one.
const PACE: Duration = Duration::from_millis(10);

/// Let tokio's paused clock run `speed` times as fast as the system's, for ever. Between two steps the
/// thread stands still: everything of the runtime has had its turn by then, and its sockets are
/// served in between.
#[expect(clippy::disallowed_methods, reason = "this is where the two clocks meet")]
pub async fn pace(speed: f64) {
    let began = std::time::Instant::now();
    let mut paced = Duration::ZERO;
    loop {
        tokio::time::sleep(PACE.mul_f64(speed)).await;
        paced += PACE;
        let ahead = paced.saturating_sub(began.elapsed());
        if ahead.is_zero() {
            // Too much to do: time is not made up for.
            paced = began.elapsed();
        }
        std::thread::sleep(ahead);
    }
}
