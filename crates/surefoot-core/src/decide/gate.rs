//! What a step must show before it is left, as waits for what it lacks.

use std::time::Duration;

use jiff::Timestamp;

use super::{Case, after, between};
use crate::api::status::{Waiting, WaitingKind};
use crate::engine::{self, Judgement};
use crate::observed::Route;
use crate::plan::{Plan, StepPlan};
use crate::words;

/// How long a timeout of the route counts when it sets none (Istio's default is no timeout).
const NO_TIMEOUT_SECONDS: f64 = 120.0;

/// Of a preview: the checks that need no traffic, and its time.
pub(super) fn of_preview(
    case: &mut Case<'_>,
    step: &StepPlan,
    judgement: &Judgement,
    started: Timestamp,
) -> Vec<Waiting> {
    let mut lacking = judgement.unmet.clone();
    if !case.passed(started, step.min_duration) {
        lacking.push(min_duration(between(started, case.now), step, "ready"));
    }
    lacking
}

/// Time that is still to come; `what` it is counted in.
pub(super) fn min_duration(have: Duration, step: &StepPlan, what: &str) -> Waiting {
    Waiting {
        kind: WaitingKind::MinDuration,
        name: None,
        have: i64::try_from(have.as_secs()).ok(),
        need: i64::try_from(step.min_duration.as_secs()).ok(),
        message: format!("{} of {} {what}", words::span(have), words::span(step.min_duration)),
        until: None,
    }
}

/// Of a step with traffic, judged from `warm_until` on.
pub(super) fn of_traffic(
    case: &mut Case<'_>,
    plan: &Plan,
    step: &StepPlan,
    judgement: &Judgement,
    route: &Route,
    warm_until: Timestamp,
) -> Vec<Waiting> {
    if !case.passed(warm_until, Duration::ZERO) {
        case.waiting(Waiting {
            kind: WaitingKind::WarmUp,
            name: None,
            have: None,
            need: None,
            message: format!(
                "judged from {} on, after the change of weight and the warm-up of new pods",
                clock(warm_until)
            ),
            until: Some(warm_until),
        });
    }
    let mut evidence = judgement.unmet.clone();
    // Who is chosen comes on top of the weight.
    if let Some(share) = judgement.share.filter(|_| step.chosen.is_empty())
        && (share - f64::from(step.weight) / 100.0).abs() > 0.02 + f64::from(step.weight) / 300.0
    {
        evidence.push(Waiting {
            kind: WaitingKind::ExposureMismatch,
            name: None,
            have: None,
            need: None,
            message: format!(
                "the canary gets {} of the requests at weight {}%: is there another route, or does \
                 one client stick to a version?",
                words::percent(share),
                step.weight
            ),
            until: None,
        });
    }
    if step.weight < 100 && judgement.reached.leaks() {
        let engine::Reached { pods, route } = judgement.reached;
        evidence.push(Waiting {
            kind: WaitingKind::Leak,
            name: None,
            have: i64::try_from(pods).ok(),
            need: i64::try_from(route).ok(),
            message: format!(
                "the canary's pods count {} requests where the route sends {}: somebody reaches \
                 them past it; set traffic.apex: stableOnly, or bring the callers into the mesh",
                words::count(pods),
                words::count(route)
            ),
            until: None,
        });
    }
    if judgement.judged < step.min_duration {
        evidence.push(min_duration(judgement.judged, step, "judged"));
    }
    if judgement.canary_requests < step.min_requests {
        evidence.push(Waiting {
            kind: WaitingKind::MinRequests,
            name: None,
            have: i64::try_from(judgement.canary_requests).ok(),
            need: i64::try_from(step.min_requests).ok(),
            message: format!(
                "{} of {} canary requests judged",
                words::count(judgement.canary_requests),
                words::count(step.min_requests)
            ),
            until: None,
        });
    }
    let slow = route.timeout.unwrap_or(NO_TIMEOUT_SECONDS);
    let slow = after(warm_until, Duration::from_secs_f64(slow.clamp(0.0, 86_400.0)));
    if !case.passed(slow, plan.propagation_delay) {
        let until = after(slow, plan.propagation_delay);
        evidence.push(Waiting {
            kind: WaitingKind::SlowRequests,
            name: None,
            have: None,
            need: None,
            message: format!(
                "until {} a request may still run into the route's timeout",
                clock(until)
            ),
            until: Some(until),
        });
    }
    evidence
}

fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S UTC").to_string()
}
