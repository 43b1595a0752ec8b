//! Commands of a person: one RolloutAction each, bound to what its author looked at.

use anyhow::{Result, anyhow};
use surefoot_core::api::status::{HoldReason, Phase, WaitingKind};
use surefoot_core::api::{ActionKind, RolloutAction, RolloutActionSpec};

use super::view::{View, images, under_way};

/// What the API server leaves of `generateName` before its five random characters.
const PREFIX: usize = 58;

/// What to type to give a command.
#[must_use]
pub fn typed(view: &View<'_>, kind: ActionKind) -> String {
    format!("kubectl surefoot {} {} -n {}", kind.as_str(), view.name(), view.namespace())
}

/// Why a command can't be given now.
#[must_use]
pub fn refusal(view: &View<'_>, kind: ActionKind) -> Option<String> {
    let (namespace, name, word) = (view.namespace(), view.name(), kind.as_str());
    let phase = view.status.phase;
    match (phase, kind) {
        (Phase::RollingBack, _) => Some(format!(
            "nothing to {word}: the release of Rollout {namespace}/{name} is being rolled back, \
             which is final"
        )),
        (Phase::Promoting, ActionKind::Promote) => Some(format!(
            "nothing to promote: every step of Rollout {namespace}/{name} has passed and the \
             hand-over goes on by itself"
        )),
        _ if !under_way(phase) => Some(format!(
            "nothing to {word}: no release of Rollout {namespace}/{name} is under way (phase {})",
            phase.as_str()
        )),
        _ => None,
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
    let prefix = prefix(view.name(), &format!("-{}-{step}-{}-", release.number, kind.as_str()));
    let mut action = RolloutAction::new("", spec);
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
    }
}

fn promoted(view: &View<'_>) -> String {
    let index = view.step();
    let steps = view.plan.as_ref().map(|p| p.steps.as_slice()).unwrap_or_default();
    let weight = steps.get(index).map_or(0, |s| s.weight);
    let step = format!("step {index} ({weight}%)");
    let next = match steps.get(index + 1) {
        Some(next) => format!("{}% comes next", next.weight),
        None => "the canary is promoted".to_owned(),
    };
    let approval = steps.get(index).is_some_and(|s| s.approval);
    let hold = view.status.step.as_ref().and_then(|s| s.hold.as_ref()).map(|h| h.reason);
    if view.rollout.spec.paused {
        return format!("{step} is promoted, but stays where it is until spec.paused is false");
    }
    match hold {
        Some(HoldReason::WeightLowered | HoldReason::TrafficOwnershipConflict) => {
            format!("{step} gets its weight back and goes on")
        }
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
