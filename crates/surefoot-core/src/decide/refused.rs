//! A write that the API server refuses: said first, and nothing goes on meanwhile.

use super::Case;
use crate::api::status::{Phase, Waiting, WaitingKind};

/// Say what is refused. A release that has weights to write is as good as paused, and what is at
/// rest is not as it should be.
pub(super) fn tell(case: &mut Case<'_>) {
    let Some(refused) = case.seen.refused.as_ref().filter(|refused| refused.matters()) else {
        return;
    };
    case.status.phase = match case.status.phase {
        Phase::Healthy => Phase::Degraded,
        Phase::Stepping => Phase::Paused,
        phase => phase,
    };
    let waiting = Waiting {
        kind: WaitingKind::Refused,
        name: None,
        have: None,
        need: None,
        message: refused.words(),
        until: None,
    };
    // It is the first thing to know.
    case.status.waiting_on.insert(0, waiting);
    case.status.waiting_on.truncate(20);
}
