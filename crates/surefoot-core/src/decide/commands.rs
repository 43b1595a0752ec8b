//! What people say. Each command is heard once: what it changes is in the status that is committed,
//! with the command's UID beside it, so that neither a restart nor a rewritten object lets it count
//! twice. One from which nothing can come is answered in words.

use super::{Case, in_release};
use crate::api::action::ActionKind;
use crate::api::notice::Reason;
use crate::api::status::{HoldReason, Pause, Phase, Waiting, WaitingKind};
use crate::desired::Forgotten;
use crate::observed::Action;

/// So many commands to one release are remembered as used up. After that only pause and abort count:
/// no step forward may come from one that has been forgotten.
const REMEMBERED: usize = 64;
/// So many commands stay as the audit trail.
const KEPT: usize = 20;
/// So many are deleted in one look.
const DELETED: usize = 10;

/// "by jo" or "by jo: why".
pub(super) fn said(action: &Action) -> String {
    let why = action.spec.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
    format!("by {}{why}", action.spec.requested_by)
}

impl<'a> Case<'a> {
    fn number(&self) -> Option<i64> {
        self.status.release.as_ref().map(|r| r.number)
    }

    /// Whether the command is for the latest release and may still do something.
    fn open(&self, action: &Action) -> bool {
        let full = self.status.used_actions.len() >= REMEMBERED;
        let always = matches!(action.spec.action, ActionKind::Abort | ActionKind::Pause);
        Some(action.spec.release) == self.number()
            && !self.status.used_actions.contains(&action.uid)
            && (always || !full)
    }

    /// The commands of a kind that are open, oldest first.
    pub(super) fn asked(&self, kind: ActionKind) -> impl Iterator<Item = &'a Action> + use<'_, 'a> {
        let seen = self.seen;
        seen.actions.iter().filter(move |a| a.spec.action == kind && self.open(a))
    }

    /// The promotes of exactly this step of this release that nothing has used up, oldest first.
    pub(super) fn promotes(&self) -> impl Iterator<Item = &'a Action> + use<'_, 'a> {
        let step = self.status.step.as_ref().map(|s| s.index);
        self.asked(ActionKind::Promote).filter(move |a| Some(a.spec.step) == step)
    }

    pub(super) fn use_up(&mut self, action: &Action) {
        let used = &mut self.status.used_actions;
        if used.len() >= REMEMBERED || used.contains(&action.uid) {
            return;
        }
        used.push(action.uid.clone());
        if used.len() == REMEMBERED {
            let note = format!(
                "{REMEMBERED} commands to one release are used up: of those to come only pause and \
                 abort count"
            );
            self.notice(Reason::TooManyCommands, note, true);
        }
    }

    /// Use up every open command of these kinds.
    pub(super) fn use_up_all(&mut self, kinds: &[ActionKind]) {
        for kind in kinds {
            let asked: Vec<_> = self.asked(*kind).collect();
            asked.into_iter().for_each(|action| self.use_up(action));
        }
    }

    /// Nothing comes of a command: say why, once.
    pub(super) fn ignore(&mut self, action: &Action, why: &str) {
        if self.status.used_actions.len() >= REMEMBERED {
            return;
        }
        self.use_up(action);
        let note = format!("{} {} is ignored: {why}", action.spec.action.as_str(), said(action));
        self.notice(Reason::Ignored, note, true);
    }

    /// Whether somebody wants no step forward now; what stops it is among the waits then.
    pub(super) fn stopped(&mut self, lead: &str) -> bool {
        if self.rollout.spec.paused {
            self.wait(WaitingKind::Paused, format!("{lead}spec.paused is true: no step forward"));
        }
        self.rollout.spec.paused || self.status.pause.is_some()
    }

    /// An abort of this release, as a command or as a mark on the route, with who and why.
    pub(super) fn abort_asked(&self) -> Option<(String, String)> {
        if let Some(action) = self.asked(ActionKind::Abort).next() {
            return Some((action.spec.requested_by.clone(), format!("aborted {}", said(action))));
        }
        let glass = self.seen.break_glass.as_ref().filter(|g| Some(g.release) >= self.number())?;
        let why = glass.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
        Some((glass.by.clone(), format!("aborted by {} (break-glass){why}", glass.by)))
    }
}

/// Hear what has been said since the last look. An abort is heard before anything else, wherever it
/// stands among the others.
pub(super) fn hear(case: &mut Case<'_>) {
    let seen = case.seen;
    let over = !in_release(case.status.phase) || case.status.phase == Phase::RollingBack;
    if !over && case.abort_asked().is_some() {
        return;
    }
    stale_mark(case);
    for action in &seen.actions {
        if !case.open(action) {
            continue;
        }
        match (action.spec.action, over) {
            (ActionKind::Pause | ActionKind::Resume, true) => {
                case.ignore(action, "no release is under way that could be paused");
            }
            (ActionKind::Pause, false) => pause(case, action),
            (ActionKind::Resume, false) => resume(case, action),
            (ActionKind::PromoteFull, false) => promote_full(case, action),
            (ActionKind::Promote, false) => promote(case, action),
            // These are heard where they can be followed.
            _ => {}
        }
    }
}

/// The mark of somebody who looked at another release than the one under way: it goes, and the
/// weight they wrote stays as any that was lowered.
fn stale_mark(case: &mut Case<'_>) {
    let stale = case.seen.break_glass.as_ref().filter(|g| Some(g.release) < case.number());
    let Some(glass) = stale.filter(|_| in_release(case.status.phase)) else { return };
    case.desired.mended = true;
    if !case.status.outbox.iter().any(|n| n.reason == Reason::BreakGlass) {
        let note =
            format!("the break-glass abort by {} was for release {}", glass.by, glass.release);
        case.notice(Reason::BreakGlass, note, true);
    }
}

fn pause(case: &mut Case<'_>, action: &Action) {
    if case.status.phase == Phase::Promoting {
        let why = "every step has passed and the hand-over goes on; abort still goes back";
        return case.ignore(action, why);
    }
    case.use_up(action);
    if case.status.pause.is_none() {
        case.notice(Reason::PausedByCommand, format!("paused {}", said(action)), false);
    }
    let since = case.status.pause.as_ref().map_or(case.now, |p| p.since);
    let (by, reason) = (action.spec.requested_by.clone(), action.spec.reason.clone());
    case.status.pause = Some(Pause { by, reason, since });
}

/// Ends a pause, and a hold of the step that its author looked at. The clocks begin anew; evidence
/// stays evidence.
fn resume(case: &mut Case<'_>, action: &Action) {
    let paused = case.status.pause.take().is_some();
    let step = case.status.step.as_ref().filter(|s| s.index == action.spec.step);
    let hold = step.and_then(|s| s.hold.as_ref()).map(|h| h.reason);
    if !paused && hold.is_none() {
        let owner = case.rollout.spec.paused.then_some("spec.paused is its owner's to change");
        return case.ignore(action, owner.unwrap_or("nothing of the release is paused or held"));
    }
    case.use_up(action);
    case.notice(Reason::Resumed, format!("resumed {}", said(action)), false);
    let now = case.now;
    let Some(step) = case.status.step.as_mut() else { return };
    if hold.is_some() {
        step.hold = None;
    }
    let weight = hold.is_some_and(HoldReason::is_about_weights);
    step.restoring |= weight;
    if weight {
        case.status.contest = None;
    }
    step.dark_since = None;
    step.dark_seconds = 0;
    step.started_at = match hold {
        // The weight must be written and confirmed first.
        _ if weight => None,
        _ => step.started_at.map(|_| now),
    };
    if step.hold.is_none() && case.status.phase == Phase::Paused {
        case.status.phase = Phase::Stepping;
    }
}

const LOWERED: &str = "the step's weight is not the one on the route: resume or abort";

fn lowered(case: &Case<'_>) -> bool {
    let hold = case.status.step.as_ref().and_then(|s| s.hold.as_ref());
    hold.is_some_and(|h| h.reason.is_about_weights())
}

fn promote(case: &mut Case<'_>, action: &Action) {
    let here = case.status.step.as_ref().is_some_and(|s| s.index == action.spec.step);
    if here && lowered(case) {
        case.ignore(action, LOWERED);
    }
}

/// All that is left of the release by a person's word. Steps that have passed by themselves since
/// they looked make it no less so.
fn promote_full(case: &mut Case<'_>, action: &Action) {
    if lowered(case) {
        return case.ignore(action, LOWERED);
    }
    let index = case.status.step.as_ref().map_or(0, |s| s.index);
    if case.status.phase == Phase::Promoting || action.spec.step > index {
        return;
    }
    case.use_up(action);
    let who = action.spec.requested_by.clone();
    if let Some(release) = case.status.release.as_mut() {
        release.promoted_by = Some(who);
    }
    case.notice(
        Reason::PromotedFull,
        format!("all steps that are left pass {}", said(action)),
        false,
    );
}

/// A pause is what a reader must know first.
pub(super) fn show_pause(case: &mut Case<'_>) {
    let Some(pause) = &case.status.pause else { return };
    let why = pause.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
    let message =
        format!("paused by {}{why}; no step forward until `kubectl surefoot resume`", pause.by);
    match case.status.phase {
        Phase::Stepping => case.status.phase = Phase::Paused,
        Phase::Preparing | Phase::Paused => {}
        _ => return,
    }
    let waits = &mut case.status.waiting_on;
    waits.truncate(19);
    let waiting = Waiting {
        kind: WaitingKind::Resume,
        name: None,
        have: None,
        need: None,
        message,
        until: None,
    };
    waits.insert(0, waiting);
}

/// Commands that can't be followed as things are, at rest: say so.
pub(super) fn answer(case: &mut Case<'_>) {
    let stuck = case
        .status
        .waiting_on
        .iter()
        .find(|w| matches!(w.kind, WaitingKind::Prerequisite | WaitingKind::NativeRollout));
    let Some(why) = stuck.map(|w| w.message.clone()) else { return };
    let asked: Vec<_> = case.asked(ActionKind::Undo).chain(case.asked(ActionKind::Retry)).collect();
    asked.into_iter().for_each(|action| case.ignore(action, &why));
}

/// The trail is kept, but not for ever: of more than [`KEPT`] commands the oldest that can do
/// nothing any more go.
pub(super) fn forget(case: &mut Case<'_>) {
    let seen = case.seen;
    let extra = seen.actions.len().saturating_sub(KEPT).min(DELETED);
    let spent = seen.actions.iter().filter(|action| spent(case, action)).take(extra);
    let forgotten = spent.map(|a| Forgotten { name: a.name.clone(), uid: a.uid.clone() });
    case.desired.forgotten = forgotten.collect();
}

fn spent(case: &Case<'_>, action: &Action) -> bool {
    if Some(action.spec.release) != case.number() {
        return true;
    }
    let newest = |kinds: &[ActionKind]| {
        let mut same =
            case.seen.actions.iter().rev().filter(|a| {
                a.spec.release == action.spec.release && kinds.contains(&a.spec.action)
            });
        same.next().is_some_and(|a| a.uid == action.uid)
    };
    let used = case.status.used_actions.contains(&action.uid);
    let over = !in_release(case.status.phase);
    let index = case.status.step.as_ref().map_or(0, |s| s.index);
    match action.spec.action {
        ActionKind::Abort => over || !newest(&[ActionKind::Abort]),
        ActionKind::Pause | ActionKind::Resume => {
            over || (used && !newest(&[ActionKind::Pause, ActionKind::Resume]))
        }
        ActionKind::Promote => over || used || action.spec.step < index,
        ActionKind::PromoteFull => over || used,
        ActionKind::Retry | ActionKind::Undo => used,
    }
}
