//! A Rollout as somebody looks at it: what every way of showing it has to know.

use jiff::Timestamp;
use surefoot_core::api::Rollout;
use surefoot_core::api::rollout::{RolloutSpec, Undo};
use surefoot_core::api::status::{
    Condition, ConditionStatus, Decision, Phase, ReleaseKind, RolloutStatus, Verdict, WaitingKind,
};
use surefoot_core::plan::Plan;

/// A Rollout, at an instant.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The object.
    pub rollout: &'a Rollout,
    /// Its status; empty where no controller has looked at it yet.
    pub status: RolloutStatus,
    /// What the release follows, or the next one will. `None` where the spec can't be followed.
    pub plan: Option<Plan>,
    /// When it is looked at.
    pub now: Timestamp,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It has passed.
    Passed,
    /// It is under way.
    Current,
    /// The release was rolled back there.
    Failed,
    /// It is still to come.
    Ahead,
}

impl<'a> View<'a> {
    /// Look at a Rollout.
    #[must_use]
    pub fn new(rollout: &'a Rollout, now: Timestamp) -> Self {
        let status = rollout.status.clone().unwrap_or_default();
        let plan = plan(&rollout.spec, &status);
        Self { rollout, status, plan, now }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.rollout.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.rollout.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Whether a controller has ever written its status.
    #[must_use]
    pub fn seen(&self) -> bool {
        self.rollout.status.is_some()
    }

    /// Index of the step under way.
    #[must_use]
    pub fn step(&self) -> usize {
        self.status.step.as_ref().and_then(|s| usize::try_from(s.index).ok()).unwrap_or(0)
    }

    /// The steps' weights, each with where it stands.
    #[must_use]
    pub fn steps(&self) -> Vec<(i32, Mark)> {
        let weights = self.plan.iter().flat_map(|p| &p.steps).map(|s| s.weight);
        weights.enumerate().map(|(i, weight)| (weight, self.mark(i))).collect()
    }

    fn mark(&self, index: usize) -> Mark {
        if !under_way(self.status.phase) && !self.rolled_back() {
            return Mark::Ahead;
        }
        let is = |step: i32| usize::try_from(step) == Ok(index);
        let passes = self.status.release.iter().flat_map(|r| &r.passes);
        let failed = self.rollback().is_some_and(|d| is(d.step));
        let current = self.status.step.as_ref().is_some_and(|s| is(s.index));
        match (passes.into_iter().any(|p| is(p.step)), failed, current) {
            (true, ..) => Mark::Passed,
            (_, true, _) => Mark::Failed,
            (_, _, true) => Mark::Current,
            _ => Mark::Ahead,
        }
    }

    /// The latest release ended in a rollback, and nothing has come after it.
    #[must_use]
    pub fn rolled_back(&self) -> bool {
        self.status.phase == Phase::Degraded && self.rollback().is_some()
    }

    /// The decision to roll the latest release back.
    #[must_use]
    pub fn rollback(&self) -> Option<&Decision> {
        self.status.decision.as_ref().filter(|d| d.verdict == Verdict::Rollback)
    }

    /// Who gets the traffic now.
    #[must_use]
    pub fn traffic(&self) -> String {
        let weight = self.status.decision.as_ref().map_or(0, |d| d.weight);
        let step = self.status.step.as_ref();
        let confirmed = step.is_some_and(|s| s.started_at.is_some() && s.hold.is_none());
        match (self.status.phase, weight) {
            (Phase::Promoting, _) => "the tested pods get all traffic".to_owned(),
            (Phase::RollingBack, _) => "the traffic goes back to stable".to_owned(),
            (_, 0) => "stable gets all traffic".to_owned(),
            (_, weight) if confirmed => format!("the canary gets {weight}%"),
            // Not written yet, without ready pods, or lowered by somebody.
            (_, weight) => format!("the canary may get {weight}%"),
        }
    }

    /// Conditions that are not as they should be and that neither the phase nor a wait tells.
    pub fn bad_conditions(&self) -> impl Iterator<Item = &Condition> {
        use ConditionStatus::{False, True};
        let waited = self.status.waiting_on.iter().any(|w| w.kind == WaitingKind::HoldReady);
        self.status.conditions.iter().filter(move |c| match (c.kind.as_str(), c.status) {
            ("HoldReady", False) => !waited,
            ("SpecChangePending" | "PromotedWithoutEvidence" | "NotificationsFailing", True) => {
                true
            }
            _ => false,
        })
    }
}

/// Whether a release is under way.
#[must_use]
pub fn under_way(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Preparing | Phase::Stepping | Phase::Paused | Phase::Promoting | Phase::RollingBack
    )
}

/// The frozen plan of the release that is shown, else the spec's.
fn plan(spec: &RolloutSpec, status: &RolloutStatus) -> Option<Plan> {
    let release = status.release.as_ref().filter(|_| {
        let rollback = status.decision.as_ref().is_some_and(|d| d.verdict == Verdict::Rollback);
        under_way(status.phase) || (status.phase == Phase::Degraded && rollback)
    });
    let Some(release) = release else { return next(spec) };
    let frozen: RolloutSpec = serde_json::from_value(release.plan.clone()).ok()?;
    let plan = Plan::of(&frozen).ok()?;
    let immediate = release.kind == ReleaseKind::Undo && plan.undo == Undo::Immediate;
    Some(if immediate { plan.immediate() } else { plan })
}

/// The steps of the next release. What its templates hold is not known here.
fn next(spec: &RolloutSpec) -> Option<Plan> {
    let mut bare = spec.clone();
    bare.analysis = None;
    Plan::of(&bare).ok()
}

/// A digest in an image's name, shortened: nobody reads 64 of them.
#[must_use]
pub fn image(name: &str) -> String {
    const SHOWN: usize = 12;
    match name.split_once("@sha256:") {
        Some((repository, digest)) if digest.len() > SHOWN => {
            let short: String = digest.chars().take(SHOWN).collect();
            format!("{repository}@sha256:{short}…")
        }
        _ => name.to_owned(),
    }
}

/// Images on one line.
#[must_use]
pub fn images(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|n| image(n)).collect();
    if names.is_empty() { "unknown image".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_short() {
        let digest = "0123456789abcdef".repeat(4);
        let names = [format!("shop@sha256:{digest}"), "side:1".to_owned()];
        assert_eq!(images(&names), "shop@sha256:0123456789ab…, side:1");
        assert_eq!(images(&[]), "unknown image");
    }
}
