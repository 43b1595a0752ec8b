//! A step: pods for it, its weight committed, written and confirmed, then judged.

use std::slice::from_ref;
use std::time::Duration;

use super::ownership::{held_for, lowered, release, respect};
use super::pass::{pass, pass_full};
use super::{CONTROLLER, Case, after, between, gate, prepare, reach};
use crate::api::analysis::NoDataAction;
use crate::api::notice::Reason;
use crate::api::rollout::{OnInconclusive, RequestMatch};
use crate::api::status::{
    Hold, HoldReason, Phase, ReleaseKind, StepStatus, Verdict, Waiting, WaitingKind,
};
use crate::engine::{self, Judgement};
use crate::observed::{OneRoute, Route};
use crate::plan::{Plan, StepPlan};
use crate::route::RouteProblem;
use crate::routing::Side;
use crate::samples::{Health, Tick};
use crate::words;

/// How long the canary may get no request before that is worth a word.
const QUIET: Duration = Duration::from_secs(30);

/// Begin step `index`; its weight follows at once where its pods are ready.
pub(super) fn enter(case: &mut Case<'_>, plan: &Plan, index: usize) {
    let Some(step) = plan.steps.get(index) else { return };
    // Whatever step comes next: a person may promote the whole release from its preview.
    let left = case.status.step.as_ref().filter(|_| index > 0);
    let previewed = left.is_some_and(|s| s.weight == 0);
    // Pods of a preview have had no traffic to get warm by.
    let ready_pods = case.status.step.as_ref().filter(|_| !previewed).map_or(0, |s| s.ready_pods);
    let told = left.filter(|_| previewed).map(|s| s.unreachable.clone()).unwrap_or_default();
    let traffic = plan.judged_index(index);
    let rate = if index == 0 {
        let baseline = case.samples.baseline.as_ref();
        case.status.engine = Some(engine::begin(plan, baseline, case.now));
        engine::reach::before(baseline)
    } else if let Some(state) = case.status.engine.take() {
        let (state, rate) = if previewed {
            (engine::end_preview(&state, case.now), None)
        } else {
            let rate = engine::reach::now(&state);
            (state, rate)
        };
        // The first step with traffic has begun with the engine.
        let next = if traffic > 0 { engine::begin_step(&state, traffic) } else { state };
        case.status.engine = Some(next);
        rate
    } else {
        None
    };
    // What the first step with traffic can't be left by is known, and said, before its preview.
    let first = index + usize::from(step.is_preview());
    let unreachable =
        if previewed && traffic == 0 { told } else { reach::look(case, plan, first, rate) };
    case.status.step = Some(StepStatus {
        index: i32::try_from(index).unwrap_or(i32::MAX),
        weight: step.weight,
        begun_at: case.now,
        started_at: None,
        judged_from: None,
        ready_pods,
        restoring: false,
        evidence_waived: false,
        overdue: false,
        unreachable,
        approval_asked: false,
        approved_by: None,
        hold: None,
        empty_since: None,
        dark_since: None,
        dark_seconds: 0,
        handing_over: false,
        handed_over_at: None,
    });
    case.status.phase = Phase::Stepping;
    if let Some(first) = plan.steps.get(first).filter(|_| !previewed) {
        reach::tell(case, first);
    }
    advance(case, plan, index, step);
}

pub(super) fn decide(case: &mut Case<'_>, plan: &Plan) {
    if case.interrupted() {
        return;
    }
    let index = case.status.step.as_ref().and_then(|s| usize::try_from(s.index).ok()).unwrap_or(0);
    let Some(step) = plan.steps.get(index) else {
        return case.fail("InvalidStatus", "status.step lies outside of the plan");
    };
    disrupted(case, step);
    let judgement = engine::judge(plan, &case.status, case.samples);
    case.status.engine = Some(judgement.engine.clone());
    engine::show(&judgement, &mut case.status);
    // Harm is acted on at any time, whatever else is going on.
    if let Some(harm) = &judgement.harm {
        return case.roll_back(CONTROLLER, harm.clone());
    }
    // A preview allows no weight: that it has begun is on record all the same.
    let started = case.status.decision.as_ref().is_some_and(|d| d.verdict == Verdict::Start);
    if case.allowed() < step.weight || (step.is_preview() && started) {
        return advance(case, plan, index, step);
    }
    if !prepare::pin(case, plan) {
        return;
    }
    follow(case, plan, index);
    if case.status.phase == Phase::RollingBack || !endpoints(case, plan, step) {
        return;
    }
    let Some(route) = in_force(case, step) else { return };
    let Some(started) = confirm(case, plan, step, &route, &judgement) else { return };
    let ended = more_pods(case, step);
    if immediate(case, plan) {
        return pass(case, plan, index, CONTROLLER, "an undo isn't judged".to_owned());
    }
    if let Some(who) = case.status.release.as_ref().and_then(|r| r.promoted_by.clone()) {
        return pass_full(case, plan, index, &who);
    }
    if case.status.step.as_ref().is_some_and(|s| s.approved_by.is_none()) {
        let who = case.promotes().next().map(|action| action.spec.requested_by.clone());
        if let Some(step) = case.status.step.as_mut() {
            step.approved_by = who;
        }
    }
    let approved = case.status.step.as_ref().and_then(|s| s.approved_by.clone());
    // Where the plan asks for no approval, a promote stands for the evidence itself.
    if let Some(who) = approved.clone().filter(|_| !step.approval || held(case)) {
        return pass(case, plan, index, &who, format!("promoted by {who} before the gate was met"));
    }
    reach::again(case, plan, index, step);
    let data = data(case, plan, step, &judgement, started);
    if case.status.phase == Phase::RollingBack {
        return;
    }
    let lacking = if step.is_preview() {
        gate::of_preview(case, step, &judgement, started)
    } else {
        gate::of_traffic(case, plan, step, &judgement, &route, ended)
    };
    let waived = lacks(case, step, lacking, data);
    if case.status.phase == Phase::RollingBack {
        return;
    }
    let met = case.status.waiting_on.is_empty();
    if step.approval && approved.is_none() {
        case.wait(
            WaitingKind::Approval,
            format!(
                "step {index} ({}) waits for a person: kubectl surefoot promote",
                words::weight(step.weight)
            ),
        );
        if met {
            ask(case, &seen(case, step, &judgement));
        }
    }
    if case.status.waiting_on.is_empty() {
        let who = approved.unwrap_or_else(|| CONTROLLER.to_owned());
        let seen = seen(case, step, &judgement);
        let evidence =
            waived.map_or_else(|| seen.clone(), |lacked| format!("{lacked}. Seen: {seen}"));
        return pass(case, plan, index, &who, evidence);
    }
    case.status.phase =
        if held(case) || (met && step.approval) { Phase::Paused } else { Phase::Stepping };
}

/// What the step has shown, in words.
fn seen(case: &Case<'_>, step: &StepPlan, judgement: &Judgement) -> String {
    if !step.is_preview() {
        return engine::evidence_in_words(judgement);
    }
    let since = case.status.step.as_ref().and_then(|s| s.started_at).unwrap_or(case.now);
    let asked = judgement.metrics.iter().filter(|m| m.role == "required" && m.verdict == "Pass");
    let asked: Vec<&str> = asked.map(|m| m.name.as_str()).collect();
    let checks = if asked.is_empty() { String::new() } else { format!(", {}", asked.join(", ")) };
    format!("ready for {} without traffic{checks}", words::span(between(since, case.now)))
}

/// Tell people, once a step, that only their approval is missing.
fn ask(case: &mut Case<'_>, evidence: &str) {
    let Some(step) = case.status.step.as_mut().filter(|s| !s.approval_asked) else { return };
    step.approval_asked = true;
    let note = format!(
        "step {} ({}) waits for a person, kubectl surefoot promote or abort: {evidence}",
        step.index,
        words::weight(step.weight)
    );
    case.notice(Reason::ApprovalNeeded, note, false);
}

fn held(case: &Case<'_>) -> bool {
    case.status.step.as_ref().is_some_and(|s| s.hold.is_some())
}

fn immediate(case: &Case<'_>, plan: &Plan) -> bool {
    plan.metrics.is_empty()
        && case.status.release.as_ref().is_some_and(|r| r.kind == ReleaseKind::Undo)
}

/// The pods are ready: the step's weight may be written.
fn advance(case: &mut Case<'_>, plan: &Plan, index: usize, step: &StepPlan) {
    if !prepare::pin(case, plan) {
        return;
    }
    // What the step before was allowed stays in force meanwhile.
    let allowed = case.allowed();
    let chosen = case.chosen(plan, allowed);
    match prepare::canary(case, plan, index) {
        Some(true) => {}
        Some(false) => return keep(case, allowed, chosen),
        None => return,
    }
    if case.stopped("") {
        case.status.phase = Phase::Paused;
        return keep(case, allowed, chosen);
    }
    if held_for(case, HoldReason::TrafficOwnershipConflict) {
        return keep(case, allowed, chosen);
    }
    if lowered(case, allowed, chosen) {
        return respect(case, allowed, chosen);
    }
    if !followed(case, from_ref(step)) {
        return keep(case, allowed, chosen);
    }
    case.status.phase = Phase::Stepping;
    let reason = match plan.routing.own_service(Side::Canary).filter(|_| step.is_preview()) {
        Some(service) => {
            format!("step {index}: preview, the canary is reached by Service {service} alone")
        }
        None => {
            let chosen = words::chosen(&step.chosen);
            format!("step {index}: {}% to the canary{chosen}", step.weight)
        }
    };
    case.record(Verdict::Advance, step.weight, CONTROLLER, reason.clone());
    case.notice(Reason::Advancing, reason, false);
    case.desired.weight = Some(step.weight);
    if step.is_preview() {
        case.waiting(gate::min_duration(Duration::ZERO, step, "ready"));
    } else {
        case.wait(WaitingKind::RouteWritten, "the route is being written");
    }
}

/// Between two steps: a weight above what is allowed is put right, one below is somebody's wish and
/// stays, and a canary without pods gets nothing.
fn keep(case: &mut Case<'_>, allowed: i32, chosen: &[RequestMatch]) {
    let stable = case.seen.stable.as_ref().map_or(0, crate::observed::Service::ready);
    let more = |one: &OneRoute| {
        let at = |route: &Route| route.weights.canary_percent() == Some(allowed);
        one.found.as_ref().is_ok_and(|route| {
            route.weights.highest() > allowed || (at(route) && !one.is_untouched(chosen))
        })
    };
    let raised = case.seen.routes.iter().any(more);
    case.desired.weight =
        if canary_ready(case) == 0 && stable > 0 { Some(0) } else { raised.then_some(allowed) };
}

fn canary_ready(case: &Case<'_>) -> u32 {
    let Some(canary) = &case.status.canary else { return 0 };
    case.seen.canary.as_ref().map_or(0, |s| s.ready_of(&canary.replica_set))
}

/// Keep the number of pods right for the Deployment's size, without holding anything up for it.
fn follow(case: &mut Case<'_>, plan: &Plan, index: usize) {
    let waits = case.status.waiting_on.len();
    // Pods that were ready once and are gone are the endpoints' matter, not the deadline's.
    let begun = case.status.step.as_mut().map(|s| std::mem::replace(&mut s.begun_at, case.now));
    let _ = prepare::canary(case, plan, index);
    if let (Some(step), Some(begun)) = (case.status.step.as_mut(), begun) {
        step.begun_at = begun;
    }
    case.status.waiting_on.truncate(waits);
    case.requeue_at = None;
}

/// Without ready canary pods no traffic goes there, at once; the decision stays and the clock
/// stops. (A mesh that sends such a canary's share to stable would make it look healthy.) Pods that
/// stay away as long as new ones may take are a failed release. Where stable has none either, nothing
/// is gained by moving, and the canary isn't to blame.
fn endpoints(case: &mut Case<'_>, plan: &Plan, step: &StepPlan) -> bool {
    case.desired.weight = Some(step.weight);
    if canary_ready(case) > 0 {
        if let Some(status) = case.status.step.as_mut() {
            status.empty_since = None;
        }
        return true;
    }
    if let Some(status) = case.status.step.as_mut() {
        status.started_at = None;
        status.judged_from = None;
    }
    let stable = case.seen.stable.as_ref().map_or(0, crate::observed::Service::ready);
    if stable == 0 {
        if let Some(status) = case.status.step.as_mut() {
            status.empty_since = None;
        }
        case.desired.weight = None;
        case.wait(
            WaitingKind::Endpoints,
            "neither version has a ready pod: the weights stay as they are",
        );
        return false;
    }
    let now = case.now;
    let since = case.status.step.as_mut().map_or(now, |s| *s.empty_since.get_or_insert(now));
    if case.passed(since, plan.progress_deadline) {
        let span = words::span(between(since, now));
        case.roll_back(CONTROLLER, format!("the canary has had no ready pod for {span}"));
        return false;
    }
    case.desired.weight = Some(0);
    case.waiting(Waiting {
        kind: WaitingKind::Endpoints,
        name: None,
        have: None,
        need: None,
        message: "the canary has no ready pod: its weight is 0 until one is back".to_owned(),
        until: Some(after(since, plan.progress_deadline)),
    });
    false
}

/// What of a route that can be read keeps requests from being chosen as these steps do.
pub(super) fn unchoosable(case: &Case<'_>, steps: &[StepPlan]) -> Option<RouteProblem> {
    let found = case.seen.routes.iter().filter(|one| one.found.is_ok());
    let mut each = found.flat_map(|one| steps.iter().map(move |step| one.carries(&step.chosen)));
    each.find_map(Result::err)
}

/// Whether the mesh follows the route as it is now, and requests can be chosen on it as these steps do: on
/// one that it doesn't follow no weight is raised, and none counts as in force.
pub(super) fn followed(case: &mut Case<'_>, steps: &[StepPlan]) -> bool {
    if let Some(problem) = unchoosable(case, steps) {
        case.wait(WaitingKind::Prerequisite, problem.to_string());
        return false;
    }
    match case.seen.route.as_ref().map(|route| (&route.fit, &route.accepted)) {
        Ok((Ok(()), Ok(()))) => return true,
        Ok((Ok(()), Err(said))) => case.wait(WaitingKind::RouteAccepted, said.clone()),
        Ok((Err(problem), _)) | Err(problem) => {
            case.wait(WaitingKind::Prerequisite, problem.to_string());
        }
    }
    false
}

/// The route, once it carries the step's weight and the mesh follows it. A weight raised by somebody is put right; one that
/// was lowered is respected until a person decides.
fn in_force(case: &mut Case<'_>, step: &StepPlan) -> Option<Route> {
    let route = match &case.seen.route {
        Ok(route) => route.clone(),
        Err(problem) => {
            case.desired.weight = None;
            case.wait(WaitingKind::Prerequisite, problem.to_string());
            return None;
        }
    };
    let carries = |one: &OneRoute| one.carries(&step.chosen) != Ok(false);
    let carried = case.seen.routes.iter().all(carries);
    if route.weights.canary_percent() == Some(step.weight) && carried {
        if let Some(step) = case.status.step.as_mut() {
            step.restoring = false;
        }
        if held_for(case, HoldReason::WeightLowered) {
            // Whoever lowered it has put it back.
            release(case);
        }
        // Where requests can't be chosen it isn't followed.
        return followed(case, from_ref(step)).then_some(route);
    }
    if lowered(case, step.weight, &step.chosen) {
        respect(case, step.weight, &step.chosen);
        return None;
    }
    case.wait(WaitingKind::RouteWritten, "the route is being written");
    None
}

/// When the step's clock started: once the weight was seen in the metrics, or has had its time.
fn confirm(
    case: &mut Case<'_>,
    plan: &Plan,
    step: &StepPlan,
    route: &Route,
    judgement: &Judgement,
) -> Option<jiff::Timestamp> {
    if let Some(started) = case.status.step.as_ref().and_then(|s| s.started_at) {
        return Some(started);
    }
    // A preview changes no weight.
    let shows = |t: &Tick| t.from >= route.since && shows(t, step.weight);
    // Who is chosen makes the canary's share another than the weight.
    let shown = step.chosen.is_empty() && judgement.last.as_ref().is_some_and(shows);
    let seen = step.is_preview() || shown;
    if !seen && !case.passed(route.since, plan.propagation_delay) {
        case.waiting(Waiting {
            kind: WaitingKind::Propagation,
            name: None,
            have: None,
            need: None,
            message: "the proxies are taking up the weight".to_owned(),
            until: Some(after(route.since, plan.propagation_delay)),
        });
        return None;
    }
    let ready = canary_ready(case);
    let now = case.now;
    if let Some(status) = case.status.step.as_mut() {
        let wait = match () {
            () if step.is_preview() => Duration::ZERO,
            () if ready > status.ready_pods => step.warm_up,
            () => step.settle,
        };
        status.started_at = Some(now);
        status.judged_from = Some(after(now, wait));
        status.ready_pods = ready;
    }
    Some(now)
}

/// Whether a tick's split is that of the weight: within four standard deviations and two points.
pub(super) fn shows(tick: &Tick, weight: i32) -> bool {
    let total = tick.canary.requests + tick.stable.requests;
    if total < 20 || tick.partial.is_some() {
        return false;
    }
    if weight == 0 {
        return tick.canary.requests == 0;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of one tick are far below 2^52")]
    let (canary, total) = (tick.canary.requests as f64, total as f64);
    let expected = f64::from(weight) / 100.0;
    let deviation = (expected * (1.0 - expected) / total).sqrt();
    (canary / total - expected).abs() <= 4.0 * deviation + 0.02
}

/// More canary pods than before are warming up: what they do is not judged yet. When that ends.
fn more_pods(case: &mut Case<'_>, step: &StepPlan) -> jiff::Timestamp {
    let ready = canary_ready(case);
    let now = case.now;
    let Some(status) = case.status.step.as_mut() else { return now };
    if ready > status.ready_pods && !step.is_preview() {
        let warm = after(now, step.warm_up);
        status.judged_from = Some(status.judged_from.map_or(warm, |from| from.max(warm)));
    }
    status.ready_pods = ready;
    status.judged_from.unwrap_or(now)
}

/// What the canary does while its pods are being taken away is not held against it, nor for it. (The
/// crash guard watches all the same.)
fn disrupted(case: &mut Case<'_>, step: &StepPlan) {
    let Some(until) = case.seen.disrupted_until else { return };
    let from = case.status.step.as_mut().and_then(|s| s.judged_from.as_mut());
    from.into_iter().for_each(|from| *from = (*from).max(after(until, step.settle)));
}

/// Whether there are usable metrics; holds, then follows the policy, when there are none. A preview has no
/// traffic to be counted, only users' queries to be answered.
fn data(
    case: &mut Case<'_>,
    plan: &Plan,
    step: &StepPlan,
    judgement: &Judgement,
    started: jiff::Timestamp,
) -> bool {
    let bad = match &case.samples.health {
        Health::Bad { message, since } => Some((message.clone(), *since)),
        Health::Unknown if judgement.last.is_none() && !step.is_preview() => {
            // The sampler has just begun: its first round tells, one way or the other.
            Some(("no metrics have been read yet".to_owned(), case.now))
        }
        _ => None,
    };
    let partial = judgement.last.as_ref().and_then(|t| t.partial.clone());
    let partial = partial.map(|why| (why, judgement.canary_seen.unwrap_or(started)));
    // A few quiet seconds are nothing; the policy counts from the last request.
    let quiet = plan.no_data_after.min(QUIET);
    let silent = || {
        let since = judgement.canary_seen.map_or(started, |seen| seen.max(started));
        let gap = between(since, judgement.until.max(since));
        (gap >= quiet || judgement.canary_seen.is_none()).then(|| {
            let message =
                "the canary gets no requests: is there traffic, and does it come by the route?";
            (message.to_owned(), since)
        })
    };
    let no_data_hold = case.status.step.as_ref().and_then(|s| s.hold.as_ref());
    let no_data_hold = no_data_hold.is_some_and(|h| h.reason == HoldReason::NoData);
    let traffic = || partial.or_else(silent).filter(|_| !step.is_preview());
    let Some((message, since)) = bad.or_else(traffic) else {
        lit(case);
        if no_data_hold && let Some(step) = case.status.step.as_mut() {
            step.hold = None;
            case.status.phase = Phase::Stepping;
            case.notice(Reason::Resumed, "metrics are back", false);
        }
        return true;
    };
    let now = case.now;
    if let Some(step) = case.status.step.as_mut() {
        step.dark_since.get_or_insert(since.max(started).min(now));
    }
    let deadline = after(since.max(started), plan.no_data_after);
    if case.now >= deadline && !no_data_hold && !held(case) {
        let words = format!(
            "no usable metrics for {}: {message}",
            words::span(between(since.max(started), case.now))
        );
        match plan.no_data_then {
            NoDataAction::Rollback => case.roll_back(CONTROLLER, words),
            NoDataAction::Pause => {
                let since = case.now;
                case.hold(Hold { reason: HoldReason::NoData, since, message: words });
            }
        }
        if case.status.phase == Phase::RollingBack {
            return false;
        }
    } else if case.now < deadline {
        case.wake(deadline);
    }
    case.waiting(Waiting {
        kind: WaitingKind::Metrics,
        name: None,
        have: None,
        need: None,
        message,
        until: Some(deadline).filter(|d| *d > case.now),
    });
    false
}

/// Metrics are usable: time without them is over, and counted.
fn lit(case: &mut Case<'_>) {
    let now = case.now;
    let Some(step) = case.status.step.as_mut() else { return };
    if let Some(since) = step.dark_since.take() {
        let dark = i64::try_from(between(since, now).as_secs()).unwrap_or(i64::MAX);
        step.dark_seconds = step.dark_seconds.saturating_add(dark);
    }
}

/// What the step still lacks, as waits; when its time is over, what the plan says of that. Where it
/// says to go on all the same, what was lacking.
fn lacks(
    case: &mut Case<'_>,
    step: &StepPlan,
    evidence: Vec<Waiting>,
    data: bool,
) -> Option<String> {
    if held(case) {
        let hold = case.status.step.as_ref().and_then(|s| s.hold.clone());
        let message = hold.map(|h| h.message).unwrap_or_default();
        case.wait(
            WaitingKind::Decision,
            format!("{message} (kubectl surefoot promote, resume or abort)"),
        );
    }
    let lacking = !evidence.is_empty();
    reach::wait(case, step, &evidence).into_iter().for_each(|w| case.waiting(w));
    evidence.into_iter().for_each(|w| case.waiting(w));
    // A paused release stays where it is.
    if lacking && data && !held(case) && case.status.pause.is_none() {
        return inconclusive(case, step);
    }
    None
}

fn inconclusive(case: &mut Case<'_>, step: &StepPlan) -> Option<String> {
    let (started, dark) =
        case.status.step.as_ref().and_then(|s| Some((s.started_at?, s.dark_seconds)))?;
    let dark = Duration::from_secs(dark.unsigned_abs());
    if !case.passed(started, step.max_duration.saturating_add(dark)) {
        return None;
    }
    // What to change is told by waits of its own.
    let lacking = |w: &&Waiting| w.kind != WaitingKind::GateUnreachable;
    let missing = case.status.waiting_on.iter().filter(lacking).map(|w| w.message.as_str());
    let missing: Vec<&str> = missing.collect();
    let message =
        format!("inconclusive after {}: {}", words::span(step.max_duration), missing.join("; "));
    match step.on_inconclusive {
        OnInconclusive::Extend => {
            let step = case.status.step.as_mut().filter(|s| !s.overdue);
            if let Some(step) = step {
                step.overdue = true;
                case.notice(Reason::Extended, format!("{message}; the step goes on"), false);
            }
        }
        OnInconclusive::Rollback => case.roll_back(CONTROLLER, message),
        OnInconclusive::Promote => {
            let step = case.status.step.as_mut().filter(|s| !s.evidence_waived);
            if let Some(step) = step {
                step.evidence_waived = true;
                case.notice(Reason::PromotedWithoutEvidence, message.clone(), true);
            }
            super::outcome::without_evidence(case);
            case.status.waiting_on.retain(|w| w.kind == WaitingKind::WarmUp);
            return Some(message);
        }
        OnInconclusive::Pause => {
            let since = case.now;
            case.hold(Hold { reason: HoldReason::Inconclusive, since, message: message.clone() });
            case.wait(WaitingKind::Decision, message);
            // What a person can do comes before what is lacking.
            case.status.waiting_on.rotate_right(1);
        }
    }
    None
}
