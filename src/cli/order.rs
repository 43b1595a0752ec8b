//! Commands of a person: one RolloutAction each, bound to what its author looked at.

use anyhow::{Result, anyhow};
use kube::Resource;
use surefoot_core::api::status::{HoldReason, Outcome, Phase, WaitingKind};
use surefoot_core::api::{ActionKind, RolloutAction, RolloutActionSpec};
use surefoot_core::words::weight as weight_in_words;

use super::view::{View, images, under_way};
use super::watch::Goal;

/// What the API server leaves of `generateName` before its five random characters.
const PREFIX: usize = 58;

/// The words of a command on the command line.
#[must_use]
pub fn words(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::PromoteFull => "promote --full",
        other => other.as_str(),
    }
}

/// What to type to give a command.
#[must_use]
pub fn typed(view: &View<'_>, kind: ActionKind) -> String {
    let (name, namespace) = (view.name(), view.namespace());
    match kind {
        ActionKind::PromoteFull => format!("kubectl surefoot promote {name} --full -n {namespace}"),
        _ => format!("kubectl surefoot {} {name} -n {namespace}", words(kind)),
    }
}

/// Why a command can't be given now.
#[must_use]
pub fn refusal(view: &View<'_>, kind: ActionKind) -> Option<String> {
    let of = format!("Rollout {}/{}", view.namespace(), view.name());
    let phase = view.status.phase;
    match kind {
        ActionKind::Retry => return no_retry(view, &of),
        ActionKind::Undo => return no_undo(view, &of),
        _ => {}
    }
    let word = words(kind);
    let promotes = matches!(kind, ActionKind::Promote | ActionKind::PromoteFull);
    match phase {
        Phase::RollingBack => Some(format!(
            "nothing to {word}: the release of {of} is being rolled back, which is final"
        )),
        Phase::Promoting if promotes => Some(format!(
            "nothing to promote: every step of {of} has passed and the hand-over goes on by itself"
        )),
        Phase::Promoting if kind != ActionKind::Abort => Some(format!(
            "nothing to {word}: every step of {of} has passed and the hand-over goes on by itself; \
             abort still goes back"
        )),
        _ if !under_way(phase) => Some(format!(
            "nothing to {word}: no release of {of} is under way (phase {})",
            phase.as_str()
        )),
        _ if promotes && hold(view).is_some_and(HoldReason::is_about_weights) => Some(format!(
            "the canary's weight of {of} is somebody else's: resume writes it again, abort ends the \
             release; promote then"
        )),
        _ if kind == ActionKind::Resume => no_resume(view, &of),
        _ => None,
    }
}

fn hold(view: &View<'_>) -> Option<HoldReason> {
    view.status.step.as_ref().and_then(|s| s.hold.as_ref()).map(|h| h.reason)
}

fn no_resume(view: &View<'_>, of: &str) -> Option<String> {
    if view.status.pause.is_some() || hold(view).is_some() {
        return None;
    }
    Some(if view.rollout.spec.paused {
        format!(
            "spec.paused of {of} is true, which is its owner's wish and not resume's to override: \
             set it to false in the Rollout"
        )
    } else {
        format!("nothing to resume: the release of {of} is neither paused nor held")
    })
}

fn no_retry(view: &View<'_>, of: &str) -> Option<String> {
    let phase = view.status.phase;
    if view.rolled_back() || phase == Phase::RollingBack {
        return None;
    }
    let now = phase.as_str();
    Some(format!(
        "nothing to try again: no release of {of} has just been rolled back (phase {now})"
    ))
}

fn no_undo(view: &View<'_>, of: &str) -> Option<String> {
    match view.status.phase {
        phase if under_way(phase) || view.rolled_back() => None,
        Phase::Healthy if before(view).is_some() => None,
        Phase::Healthy => {
            Some(format!("nothing to undo: no version before stable of {of} is known"))
        }
        _ if !view.seen() => Some(format!("nothing to undo: no controller has looked at {of} yet")),
        phase => {
            Some(format!("nothing to undo: {of} is {}: {}", phase.as_str(), view.status.message))
        }
    }
}

/// The ReplicaSet of the version that stable replaced.
fn before<'v>(view: &'v View<'_>) -> Option<&'v str> {
    let past = view.status.history.iter().find(|p| p.outcome != Outcome::RolledBack)?;
    let stable = view.status.stable.as_ref()?;
    past.replaced.as_deref().filter(|_| past.replica_set == stable.replica_set)
}

/// What to follow for a command.
#[must_use]
pub fn goal(view: &View<'_>, kind: ActionKind) -> Goal {
    let release = view.status.release.as_ref().map_or(0, |r| r.number);
    match (kind, view.status.phase) {
        (ActionKind::Retry, _) | (ActionKind::Undo, Phase::Healthy) => Goal::After(release),
        (ActionKind::Undo, _) => Goal::Rest,
        _ => Goal::Release(Some(release)),
    }
}

/// The object of a command, for exactly the release and step that are looked at.
///
/// # Errors
/// When the Rollout has no release or no UID, so that there is nothing to bind it to.
pub fn action(
    view: &View<'_>,
    kind: ActionKind,
    reason: Option<String>,
    user: String,
) -> Result<RolloutAction> {
    let release = view.status.release.as_ref();
    let release =
        release.ok_or_else(|| anyhow!("status.release is missing: who wrote this status?"))?;
    let uid = view.rollout.metadata.uid.clone();
    let uid = uid.ok_or_else(|| anyhow!("the Rollout has no UID"))?;
    let step = view.status.step.as_ref().map_or(0, |s| s.index);
    let spec = RolloutActionSpec {
        rollout: view.name().to_owned(),
        uid,
        release: release.number,
        step,
        action: kind,
        reason,
        requested_by: user,
    };
    let word = words(kind).replace(" --", "-");
    let prefix = prefix(view.name(), &format!("-{}-{step}-{word}-", release.number));
    let mut action = RolloutAction::new("", spec);
    // The trail of a Rollout goes with it.
    action.metadata.owner_references = view.rollout.owner_ref(&()).map(|owner| vec![owner]);
    action.metadata.name = None;
    action.metadata.generate_name = Some(prefix);
    Ok(action)
}

/// `<rollout>-<release>-<step>-<action>-`; a long name is cut, for the rest tells more.
fn prefix(name: &str, rest: &str) -> String {
    let room = PREFIX.saturating_sub(rest.len());
    let cut: String = name.chars().take(room).collect();
    format!("{}{rest}", cut.trim_end_matches(['.', '-']))
}

/// What will come of a command, in one line.
#[must_use]
pub fn consequence(view: &View<'_>, kind: ActionKind) -> String {
    let release = view.status.release.as_ref().map_or(0, |r| r.number);
    match kind {
        ActionKind::Abort => {
            let stable = view.status.stable.as_ref().map(|s| format!(" ({})", images(&s.images)));
            format!(
                "release {release} ends: all traffic goes back to stable{}, then the canary's pods go",
                stable.unwrap_or_default()
            )
        }
        ActionKind::Promote => promoted(view),
        ActionKind::PromoteFull => stopped(view).unwrap_or_else(|| {
            format!(
                "release {release} goes to all traffic as soon as its pods are ready, and is \
                 promoted; harm still rolls it back until then"
            )
        }),
        ActionKind::Pause => format!(
            "release {release} stays at its weight until resume; harm and abort still end it"
        ),
        ActionKind::Resume => resumed(view),
        ActionKind::Retry => {
            let paused = if view.rollout.spec.paused { ", once spec.paused is false" } else { "" };
            let back = view.status.phase == Phase::RollingBack;
            let back = if back { ", once the rollback is through" } else { "" };
            format!(
                "the template of release {release} is tried again as a new release{back}{paused}"
            )
        }
        ActionKind::Undo => undone(view, release),
    }
}

/// What keeps a promoted release where it is.
fn stopped(view: &View<'_>) -> Option<String> {
    if view.status.pause.is_some() {
        return Some("it is promoted, but stays where it is until resume".to_owned());
    }
    let paused = view.rollout.spec.paused;
    paused.then(|| "it is promoted, but stays where it is until spec.paused is false".to_owned())
}

fn resumed(view: &View<'_>) -> String {
    let step = view.step();
    let owner = if view.rollout.spec.paused {
        "; spec.paused is true, its owner's wish: no step forward until that is false"
    } else {
        ""
    };
    match hold(view) {
        Some(hold) if hold.is_about_weights() => {
            format!("step {step} gets its weight back and its clocks begin anew{owner}")
        }
        Some(_) => format!("step {step} looks on, and its clocks begin anew{owner}"),
        None => format!("the release goes on; the clocks of step {step} begin anew{owner}"),
    }
}

fn undone(view: &View<'_>, release: i64) -> String {
    let name = &view.rollout.spec.target_ref.name;
    match view.status.phase {
        Phase::Healthy => {
            let paused = if view.rollout.spec.paused { ", once spec.paused is false" } else { "" };
            format!(
                "Deployment {name} gets the template of {} back, which is released as an undo{paused}",
                before(view).unwrap_or("the version before")
            )
        }
        Phase::Degraded => {
            format!("Deployment {name} gets stable's template back: nothing restarts")
        }
        Phase::RollingBack => {
            format!("the rollback goes on; then Deployment {name} gets stable's template back")
        }
        _ => format!(
            "release {release} ends: all traffic goes back to stable, then Deployment {name} gets \
             stable's template back"
        ),
    }
}

fn promoted(view: &View<'_>) -> String {
    let index = view.step();
    let steps = view.plan.as_ref().map(|p| p.steps.as_slice()).unwrap_or_default();
    let weight = steps.get(index).map_or_else(String::new, |s| weight_in_words(s.weight));
    let step = format!("step {index} ({weight})");
    let next = match steps.get(index + 1) {
        Some(next) => format!("{} comes next", weight_in_words(next.weight)),
        None => "the canary is promoted".to_owned(),
    };
    let approval = steps.get(index).is_some_and(|s| s.approval);
    if view.status.pause.is_some() {
        return format!("{step} is promoted, but stays where it is until resume");
    }
    if view.rollout.spec.paused {
        return format!("{step} is promoted, but stays where it is until spec.paused is false");
    }
    match hold(view) {
        None if approval => approved(view, &step, &next),
        Some(_) | None => format!("{step} passes without waiting for its gate; {next}"),
    }
}

/// An approval is one condition beside the gate's.
fn approved(view: &View<'_>, step: &str, next: &str) -> String {
    let mut waits = view.status.waiting_on.iter().filter(|w| w.kind != WaitingKind::Approval);
    match waits.next() {
        Some(wait) => format!("{step} is approved; it still waits: {}", wait.message),
        None => format!("{step} is approved and passes; {next}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_names() {
        assert_eq!(prefix("checkout", "-7-1-abort-"), "checkout-7-1-abort-");
        let long = format!("{}.shop", "a".repeat(46));
        assert_eq!(prefix(&long, "-7-1-abort-"), format!("{}-7-1-abort-", "a".repeat(46)));
    }
}
