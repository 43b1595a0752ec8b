//! Whose weights are on the route. Raised by somebody else they are put right at once; a writer that
//! keeps at it is named, and answered now and then only. Lowered ones are somebody's wish and stay until
//! a person decides.

use std::time::Duration;

use super::{Case, after, between};
use crate::api::notice::Reason;
use crate::api::rollout::RequestMatch;
use crate::api::status::{Contest, Hold, HoldReason, Phase, Waiting, WaitingKind};
use crate::mark::Mark;
use crate::observed::{OneRoute, Route, Service};

/// So many edits, each within [`WITHIN`] of the one before, are a fight.
const FIGHT: i32 = 5;
const WITHIN: Duration = Duration::from_secs(60);
/// In a fight weights are put right no more often than this.
const PACE: Duration = Duration::from_secs(10);
/// A fight is over when nobody has raised the weight for so long.
const CALM: Duration = Duration::from_secs(300);
const FIGHTS: &str = "keeps undoing what is written to the route";

/// Look at what has been decided about the weight: where that undoes somebody's edit, count it, and
/// don't race who keeps editing.
pub(super) fn settle(case: &mut Case<'_>) {
    expire(case);
    if let Some((route, what)) = edited(case) {
        undo(case, &route, &what);
    }
    if let Some(contest) = fight(case) {
        tell(case, &contest);
    }
}

/// The route, where somebody raised the canary's weight above what is wanted, or changed who is chosen
/// for it, and what they did.
fn edited(case: &Case<'_>) -> Option<(Route, String)> {
    let wanted = case.desired.weight?;
    let release = case.status.release.as_ref().map_or(0, |r| r.number);
    case.seen.routes.iter().find_map(|one| {
        let route = one.found.as_ref().ok()?;
        let wrote = route.wrote?;
        let found = route.weights.highest();
        if found > wanted && found > wrote.weight {
            let what = format!("set the canary's weight to {found}%: back to {wanted}%");
            return Some((route.clone(), what));
        }
        // Weight and choice are written at once: what we wrote had both.
        let ours = wrote == Mark { release, weight: wanted } && found == wanted;
        let other = ours && !one.is_untouched(&case.desired.chosen);
        let what = "changed which requests go to the canary whatever its weight: put right";
        other.then(|| (route.clone(), what.to_owned()))
    })
}

/// Put it right and count that, unless it is too soon to do so again.
fn undo(case: &mut Case<'_>, route: &Route, what: &str) {
    let ready = |service: &Option<Service>| service.as_ref().map_or(0, Service::ready);
    if ready(&case.seen.stable) == 0 && ready(&case.seen.canary) > 0 {
        // Whoever raised it had a reason: there is nobody else to answer.
        case.desired.weight = None;
        let message =
            "stable has no ready pod: the weights stay as somebody set them until it has one";
        return case.wait(WaitingKind::Endpoints, message);
    }
    let before = case.status.contest.clone();
    // Decided already: the write may have failed.
    if before.as_ref().is_some_and(|c| c.version == route.version) {
        return;
    }
    let next = before.as_ref().filter(|c| c.count >= FIGHT).map(|c| after(c.at, PACE));
    if let Some(next) = next.filter(|next| case.now < *next) {
        case.desired.weight = None;
        return case.wake(next);
    }
    let lately = before.filter(|c| c.count >= FIGHT || between(c.at, case.now) <= WITHIN);
    let lately = lately.map_or(0, |c| c.count);
    let manager = route.manager.clone().unwrap_or_else(|| "somebody".to_owned());
    // Of a fight people are told once.
    if lately + 1 < FIGHT {
        let note = format!("{manager} {what}");
        case.notice(Reason::WeightRestored, note, true);
    } else if lately < FIGHT {
        let note = format!("{manager} {FIGHTS}");
        case.notice(Reason::TrafficOwnershipConflict, note, true);
    }
    case.status.contest = Some(Contest {
        manager: manager.chars().take(200).collect(),
        count: (lately + 1).min(FIGHT),
        at: case.now,
        version: route.version.clone(),
    });
}

/// The latest contest, where it is a fight.
fn fight(case: &Case<'_>) -> Option<Contest> {
    case.status.contest.clone().filter(|c| c.count >= FIGHT)
}

/// A fight that nobody fights any more is forgotten. One that holds a step is a person's matter.
fn expire(case: &mut Case<'_>) {
    let Some(at) = fight(case).map(|c| c.at) else { return };
    if !held_for(case, HoldReason::TrafficOwnershipConflict) && case.passed(at, CALM) {
        case.status.contest = None;
    }
}

/// Say who fights, and hold the step for it.
fn tell(case: &mut Case<'_>, contest: &Contest) {
    let message = format!("{} {FIGHTS}", contest.manager);
    match case.status.phase {
        Phase::Stepping | Phase::Paused => {
            if !held_for(case, HoldReason::TrafficOwnershipConflict) {
                let (reason, since) = (HoldReason::TrafficOwnershipConflict, case.now);
                case.held(Hold { reason, since, message: message.clone() });
            }
            case.status.phase = Phase::Paused;
        }
        Phase::Healthy => case.status.phase = Phase::Degraded,
        _ => {}
    }
    let pace = crate::words::span(PACE);
    let waiting = Waiting {
        kind: WaitingKind::TrafficOwnership,
        name: Some(contest.manager.clone()),
        have: None,
        need: None,
        message: format!(
            "{message}: it is put right once in {pace}. Make it leave that alone, then \
             `kubectl surefoot resume` or `abort` a release that is held"
        ),
        until: None,
    };
    // It is the first thing to know.
    case.status.waiting_on.insert(0, waiting);
    case.status.waiting_on.truncate(20);
}

/// Whether the step is held for this reason.
pub(super) fn held_for(case: &Case<'_>, reason: HoldReason) -> bool {
    let hold = case.status.step.as_ref().and_then(|s| s.hold.as_ref());
    hold.is_some_and(|h| h.reason == reason)
}

/// The route on which somebody lowered the canary's weight below what we wrote, or took away the entry by
/// which requests were chosen for it.
fn below(case: &Case<'_>, wrote: i32, chosen: &[RequestMatch]) -> Option<Route> {
    let release = case.status.release.as_ref().map_or(0, |r| r.number);
    let written = Some(Mark { release, weight: wrote });
    let lower = |one: &&OneRoute| {
        let Ok(route) = &one.found else { return false };
        let at = route.weights.canary_percent() == Some(wrote);
        let fewer = || !route.chosen && one.carries(chosen) == Ok(false);
        let below = if at { fewer() } else { route.weights.highest() <= wrote };
        // Who broke the glass for another release meant to lower it.
        let theirs = route.wrote == written || case.seen.break_glass.is_some();
        below && (theirs || held_for(case, HoldReason::WeightLowered))
    };
    case.seen.routes.iter().find(lower).and_then(|one| one.found.clone().ok())
}

/// Whether somebody lowered what we wrote: the canary's weight, with these requests beside it.
pub(super) fn lowered(case: &Case<'_>, wrote: i32, chosen: &[RequestMatch]) -> bool {
    let restoring = case.status.step.as_ref().is_some_and(|s| s.restoring);
    !restoring && below(case, wrote, chosen).is_some()
}

/// Leave what was lowered as it is, until a person decides.
pub(super) fn respect(case: &mut Case<'_>, wrote: i32, chosen: &[RequestMatch]) {
    let route = below(case, wrote, chosen);
    let manager = route.as_ref().and_then(|r| r.manager.as_deref()).unwrap_or("somebody");
    let weights = route.as_ref().map(|r| r.weights.words()).unwrap_or_default();
    let what = match &route {
        Some(route) if route.weights.canary_percent() == Some(wrote) => {
            "took the chosen requests off the canary".to_owned()
        }
        _ => format!("lowered the canary's weight from {wrote}%"),
    };
    let message = format!(
        "{manager} {what}: the route is {weights} and stays so until \
         `kubectl surefoot resume` or `abort`"
    );
    if !held_for(case, HoldReason::WeightLowered)
        && !held_for(case, HoldReason::TrafficOwnershipConflict)
    {
        let since = case.now;
        case.hold(Hold { reason: HoldReason::WeightLowered, since, message: message.clone() });
    }
    case.status.phase = Phase::Paused;
    case.desired.weight = None;
    case.wait(WaitingKind::WeightLowered, message);
}

/// End a hold for the weight. What it does now begins anew.
pub(super) fn release(case: &mut Case<'_>) {
    if let Some(step) = case.status.step.as_mut() {
        step.hold = None;
        step.started_at = None;
    }
    case.status.phase = Phase::Stepping;
}
