//! The invariants, one function each.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{DecisionState, Event, RolloutState, Side, State, Violation};
use crate::api::action::ActionKind;
use crate::api::status::{Phase, Verdict};
use crate::observed::is_pod_of;
use crate::write::Target;

/// Which invariants the trace breaks, in its order. Events must be sorted by revision.
#[must_use]
pub fn check(events: &[Event]) -> Vec<Violation> {
    let mut checker = Checker::default();
    events.iter().for_each(|event| checker.see(event));
    checker.violations
}

/// All that the invariants remember of the writes so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Checker {
    revision: u64,
    violations: Vec<Violation>,
    rollout: Option<RolloutState>,
    routes: BTreeMap<Target, Route>,
    pins: [Option<String>; 2],
    apex: Option<String>,
    /// The latest release whose hand-over began: its pods may be the Deployment's.
    handed: i64,
    ready: BTreeMap<(usize, String), usize>,
    /// Ready pods by slice, where the two versions are subsets of one Service.
    reached: Option<BTreeMap<String, Vec<String>>>,
    replicas: BTreeMap<String, ReplicaSet>,
    size: u32,
    actions: Vec<Action>,
    /// Rises of the weight since an abort, by release.
    after_abort: BTreeMap<i64, u32>,
    /// Since the step began no moment without usable metrics, as far as is known.
    unusable: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Route {
    weights: Option<(i64, i64)>,
    chosen: bool,
    /// The weights are somebody else's.
    edited: bool,
    rest: Option<Value>,
    epoch: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ReplicaSet {
    hash: String,
    template: String,
    replicas: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Action {
    kind: ActionKind,
    release: i64,
    step: i32,
    by: String,
}

fn place(side: Side) -> usize {
    match side {
        Side::Stable => 0,
        Side::Canary => 1,
    }
}

impl Checker {
    /// One more accepted write.
    pub fn see(&mut self, event: &Event) {
        self.revision = event.revision;
        self.take(&event.state);
    }

    /// What was broken so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    fn broken(&mut self, invariant: &'static str, what: String) {
        self.violations.push(Violation { invariant, revision: self.revision, what });
    }

    fn decision(&self) -> Option<&DecisionState> {
        self.rollout.as_ref()?.decision.as_ref()
    }

    fn ready(&self, side: Side) -> usize {
        if let Some(reached) = &self.reached {
            let pin = self.pins[place(side)].as_ref();
            let sets = || self.replicas.iter().filter(|(_, set)| Some(&set.hash) == pin);
            let selected =
                |pod: &&String| pin.is_none() || sets().any(|(set, _)| is_pod_of(pod, set));
            return reached.values().flatten().filter(selected).count();
        }
        let slices = self.ready.iter().filter(|((p, _), _)| *p == place(side));
        slices.map(|(_, ready)| ready).sum()
    }

    /// The highest of all routes: what exposes most is what counts.
    fn canary_weight(&self) -> i64 {
        let weights = self.routes.values().filter_map(|route| route.weights);
        weights.map(|(_, canary)| canary).max().unwrap_or(0)
    }

    fn take(&mut self, state: &State) {
        match state {
            State::Rollout(next) => self.rollout(next),
            State::RolloutGone => {
                let chosen = self.routes.values().any(|route| route.chosen && !route.edited);
                if self.decision().is_some() && (self.canary_weight() != 0 || chosen) {
                    let weight = self.canary_weight();
                    self.broken(
                        "S16",
                        format!("the Rollout is gone and the canary still has {weight}%"),
                    );
                }
                self.rollout = None;
            }
            State::Route { route, weights, chosen, rest, epoch, broken, edited } => {
                self.broken_glass(route, *weights, *broken, *edited);
                self.chosen(route, *chosen, broken.is_some(), *edited);
                self.route(route, *weights, rest, *epoch, *edited);
            }
            State::Pin { side, hash } => self.pin(*side, hash.as_ref()),
            State::Apex { hash } => self.apex.clone_from(hash),
            State::Subsets { stable, canary } => {
                self.pin(Side::Stable, stable.as_ref());
                self.pin(Side::Canary, canary.as_ref());
            }
            State::Reached { slice, pods } => {
                self.reached.get_or_insert_default().insert(slice.clone(), pods.clone());
            }
            State::Ready { side, slice, ready } => {
                self.ready.insert((place(*side), slice.clone()), *ready);
            }
            State::ReplicaSet { name, gone: true, .. } => {
                self.replicas.remove(name);
            }
            State::ReplicaSet { name, hash, template, replicas, gone: false } => {
                self.replica_set(name, hash, template, *replicas);
            }
            State::Deployment { replicas } => self.size = *replicas,
            State::Action { kind, release, step, by } => {
                let action = Action { kind: *kind, release: *release, step: *step, by: by.clone() };
                self.actions.push(action);
            }
            State::Metrics { usable } => self.unusable = !usable,
        }
    }

    fn rollout(&mut self, next: &RolloutState) {
        let before = self.rollout.replace(next.clone());
        if let Some(d) = next.decision.as_ref().filter(|d| d.verdict == Verdict::Promote) {
            self.handed = d.release;
        }
        self.fence(before.as_ref(), next);
        self.rise(before.as_ref(), next);
        self.passes(before.as_ref(), next);
        self.stable(before.as_ref(), next);
        if next.phase == Phase::Healthy {
            let [stable, canary] = self.pins.clone();
            let pins = [("stable", stable), ("canary", canary), ("apex", self.apex.clone())];
            for (name, hash) in pins {
                if let Some(hash) = hash {
                    self.broken("S17", format!("at rest, and {name} is pinned to {hash}"));
                }
            }
            if before.as_ref().is_some_and(|before| before.phase != Phase::Healthy)
                && self.routes.values().any(|route| route.chosen && !route.edited)
            {
                self.broken("S17", "at rest, and requests are chosen for the canary".to_owned());
            }
        }
    }

    /// S9: neither epoch nor sequence ever falls, and a decision never vanishes.
    fn fence(&mut self, before: Option<&RolloutState>, next: &RolloutState) {
        let Some(old) = before.and_then(|b| b.decision.as_ref()) else { return };
        match &next.decision {
            None => self.broken("S9", "the decision was dropped".to_owned()),
            Some(new) if new.epoch < old.epoch || new.seq < old.seq => {
                let what = format!(
                    "epoch {} seq {} after epoch {} seq {}",
                    new.epoch, new.seq, old.epoch, old.seq
                );
                self.broken("S9", what);
            }
            Some(_) => {}
        }
    }

    /// S3 and S4: a decision's weight rises only after the pass of the step before, and never again
    /// after a rollback. S14: nor after an abort that could have been seen.
    fn rise(&mut self, before: Option<&RolloutState>, next: &RolloutState) {
        let Some(new) = &next.decision else { return };
        let old = before.and_then(|b| b.decision.as_ref());
        let (weight, rolled_back) = match old {
            Some(old) if old.release == new.release => {
                (old.weight, old.verdict == Verdict::Rollback)
            }
            _ => (0, false),
        };
        if rolled_back && (new.weight > 0 || new.verdict != Verdict::Rollback) {
            let what =
                format!("release {} was rolled back and goes on at {}%", new.release, new.weight);
            self.broken("S4", what);
        }
        if new.weight <= weight {
            return;
        }
        let plan = next.release.as_ref().map(|(_, hash)| hash.clone()).unwrap_or_default();
        let passed =
            next.passes.iter().any(|(step, hash, _)| *step == new.step - 1 && *hash == plan);
        if new.step > 0 && !passed {
            let what = format!(
                "weight {} in step {} without a recorded pass of step {}",
                new.weight,
                new.step,
                new.step - 1
            );
            self.broken("S3", what);
        }
        let allowed = usize::try_from(new.step).ok().and_then(|s| next.weights.get(s)).copied();
        let allowed = if next.undo { Some(100) } else { allowed };
        if allowed.is_some_and(|allowed| new.weight > allowed) {
            self.broken("S3", format!("weight {} in step {} of the plan", new.weight, new.step));
        }
        let release = new.release;
        let aborts = |a: &&Action| a.kind == ActionKind::Abort && a.release == release;
        if self.actions.iter().any(|a| aborts(&a)) {
            // One may have been decided before the abort was seen.
            let rises = self.after_abort.entry(release).or_default();
            *rises += 1;
            if *rises > 1 {
                self.broken(
                    "S14",
                    format!("release {release} was aborted and its weight rises again"),
                );
            }
        }
    }

    /// S10: no pass of the controller's own of a step with traffic without usable metrics. S15: a person's pass answers
    /// that person's command for this very release and step.
    fn passes(&mut self, before: Option<&RolloutState>, next: &RolloutState) {
        let Some((number, plan)) = next.release.clone() else { return };
        let same = before.filter(|b| b.release.as_ref().is_some_and(|(n, _)| *n == number));
        let known = same.map_or(0, |b| b.passes.len());
        for (step, hash, actor) in next.passes.iter().skip(known) {
            if *hash != plan {
                self.broken("S3", format!("step {step} passed under another plan"));
            }
            let person = self.actions.iter().any(|a| {
                let here = match a.kind {
                    ActionKind::Promote => a.step == *step,
                    // The whole release, from the step on that its author looked at.
                    ActionKind::PromoteFull => a.step <= *step,
                    _ => false,
                };
                here && a.release == number && a.by == *actor
            });
            if actor != crate::decide::CONTROLLER && !person {
                self.broken(
                    "S15",
                    format!("{actor} never promoted step {step} of release {number}"),
                );
            }
            if actor == crate::decide::CONTROLLER {
                if next.approvals.contains(step) && !next.undo {
                    self.broken("S15", format!("step {step} passed without its approval"));
                }
                // A preview has no traffic, and doesn't pass by what the mesh counts.
                let weight = usize::try_from(*step).ok().and_then(|step| next.weights.get(step));
                if self.unusable && !next.undo && weight != Some(&0) {
                    self.broken("S10", format!("step {step} passed without usable metrics"));
                }
            }
        }
    }

    /// S13: another stable only after the pass of 100%, or found running natively.
    fn stable(&mut self, before: Option<&RolloutState>, next: &RolloutState) {
        let Some(before) = before else { return };
        let (Some(old), Some(new)) = (&before.stable, &next.stable) else { return };
        if old == new {
            return;
        }
        let verdict = next.decision.as_ref().map(|d| d.verdict);
        let steps = if next.undo { 1 } else { next.weights.len() };
        let promoted = verdict == Some(Verdict::Promote) && next.passes.len() >= steps;
        let undone = next.undo && verdict == Some(Verdict::Promote) && !next.passes.is_empty();
        let native = before.phase != Phase::Promoting;
        if !promoted && !undone && !native {
            self.broken("S13", format!("stable goes from {old} to {new} without all passes"));
        }
    }

    /// S14: where somebody broke the glass no weight rises, and it is an abort of the release.
    fn broken_glass(
        &mut self,
        route: &Target,
        weights: Option<(i64, i64)>,
        broken: Option<i64>,
        edited: bool,
    ) {
        let Some(named) = broken else { return };
        let latest = self.rollout.as_ref().and_then(|r| r.release.as_ref()).map_or(0, |(n, _)| *n);
        // One that names none, or none that there is yet, means the one under way.
        let release = named.min(latest);
        let canary = |weights: Option<(i64, i64)>| weights.map_or(0, |(_, canary)| canary);
        let before = canary(self.routes.get(route).and_then(|known| known.weights));
        let now = canary(weights);
        // What somebody else writes is put right like anywhere.
        if now > before && !edited {
            self.broken("S14", format!("the weight rises to {now} where the glass is broken"));
        }
        let known = |a: &Action| a.kind == ActionKind::Abort && a.release == release;
        if !self.actions.iter().any(known) {
            let by = "the mark on the route".to_owned();
            self.actions.push(Action { kind: ActionKind::Abort, release, step: 0, by });
        }
    }

    /// S2: requests are chosen for the canary only by a decision whose step chooses any; S4: not after a
    /// rollback; S14: nor where the glass is broken.
    fn chosen(&mut self, route: &Target, chosen: bool, broken: bool, edited: bool) {
        let known = self.routes.entry(route.clone()).or_default();
        let newly = std::mem::replace(&mut known.chosen, chosen) != chosen && chosen && !edited;
        if newly && self.ready(Side::Canary) == 0 && self.ready(Side::Stable) > 0 {
            self.broken("S5", "requests are chosen for a canary without ready pods".to_owned());
        }
        let Some(rollout) = self.rollout.as_ref().filter(|_| newly) else { return };
        let Some(decision) = rollout.decision.clone() else { return };
        let chooses =
            rollout.choosing.contains(&decision.step) && (1..100).contains(&decision.weight);
        let invariant = match () {
            () if decision.verdict == Verdict::Rollback => "S4",
            () if broken => "S14",
            () if !chooses => "S2",
            () => return,
        };
        let (step, verdict) = (decision.step, decision.verdict);
        let what = format!("requests are chosen for the canary in step {step}, {verdict:?}");
        self.broken(invariant, what);
    }

    fn route(
        &mut self,
        route: &Target,
        weights: Option<(i64, i64)>,
        rest: &Value,
        epoch: i64,
        edited: bool,
    ) {
        let known = self.routes.entry(route.clone()).or_default();
        let before = known.clone();
        known.edited = edited;
        known.weights = weights.or(before.weights);
        if edited {
            // Somebody else's write: what becomes of it is what counts.
            known.rest = Some(rest.clone());
            return;
        }
        known.epoch = epoch;
        known.rest.get_or_insert_with(|| rest.clone());
        if let Some((stable, canary)) = weights {
            let range = 0..=100;
            if !range.contains(&stable) || !range.contains(&canary) || stable + canary != 100 {
                self.broken("S1", format!("weights {stable} and {canary}"));
            }
        }
        if epoch < before.epoch {
            self.broken("S9", format!("epoch {epoch} on the route after {}", before.epoch));
        }
        if before.rest.is_some_and(|before| before != *rest) {
            self.broken("S7", "the route changed beside its two weights".to_owned());
        }
        let before = before.weights;
        let (Some((stable, canary)), Some(decision)) = (weights, self.decision().cloned()) else {
            return;
        };
        if before == weights {
            return;
        }
        if canary > i64::from(decision.weight) && before.is_none_or(|(_, was)| canary > was) {
            let what = format!("canary weight {canary} with a decision for {}", decision.weight);
            self.broken("S2", what.clone());
            if decision.verdict == Verdict::Rollback {
                self.broken("S4", what);
            }
        }
        let (none, some) = (self.ready(Side::Stable), self.ready(Side::Canary));
        if canary > 0 && some == 0 && none > 0 {
            self.broken("S5", format!("canary weight {canary} and no ready canary pod"));
        }
        // Away from a stable that is down is where a fix must be able to go.
        if before.is_none_or(|(was, _)| stable > was) && none == 0 && some > 0 {
            self.broken("S5", format!("stable weight {stable} and no ready stable pod"));
        }
    }

    /// Pods that serve and aren't stable's, where the two versions are subsets of one Service.
    fn strangers(&self) -> usize {
        let stable = self.rollout.as_ref().and_then(|r| r.stable.as_ref());
        let sets = || self.replicas.iter().filter(|(_, set)| Some(&set.hash) == stable);
        let pods = self.reached.iter().flat_map(|reached| reached.values().flatten());
        pods.filter(|pod| !sets().any(|(set, _)| is_pod_of(pod, set))).count()
    }

    /// S12: what the canary Service selects changes only while it has no traffic. S2: after a rollback
    /// stable isn't let go while it would reach the canary's pods.
    fn pin(&mut self, side: Side, hash: Option<&String>) {
        let before = std::mem::replace(&mut self.pins[place(side)], hash.cloned());
        if before.as_ref() == hash {
            return;
        }
        let rolled_back = self.decision();
        let rolled_back =
            rolled_back.is_some_and(|d| d.verdict == Verdict::Rollback && d.release != self.handed);
        let strangers = self.strangers();
        if side == Side::Stable && hash.is_none() && rolled_back && strangers > 0 {
            let what = format!("stable is unpinned while {strangers} canary pods serve");
            self.broken("S2", what);
        }
        let weight = self.canary_weight();
        let chosen = self.routes.values().any(|route| route.chosen);
        if side == Side::Canary && (weight > 0 || chosen) && !self.routes.values().any(|r| r.edited)
        {
            self.broken("S12", format!("the canary Service's selector changes at weight {weight}"));
        }
        if side == Side::Stable
            && let (Some(hash), Some(rollout)) = (hash, &self.rollout)
            && rollout.stable.as_ref().is_some_and(|s| s != hash)
            && rollout.decision.as_ref().is_some_and(|d| d.verdict != Verdict::Promote)
        {
            self.broken(
                "S13",
                format!("stable's Service is pinned to {hash} before the promotion"),
            );
        }
    }

    /// S18: one ReplicaSet a template. S6: stable keeps the pods its weight needs.
    fn replica_set(&mut self, name: &str, hash: &str, template: &str, replicas: u32) {
        let twin =
            self.replicas.iter().find(|(other, set)| *other != name && set.template == template);
        if let Some((other, _)) = twin {
            let what = format!("ReplicaSets {other} and {name} have the same template");
            self.broken("S18", what);
        }
        let stable = self.rollout.as_ref().and_then(|r| r.stable.as_deref()) == Some(hash);
        let before = self.replicas.get(name).map_or(0, |s| s.replicas);
        let share = 100 - self.canary_weight();
        let need = (i64::from(self.size) * share).div_euclid(100);
        let handed =
            self.decision().is_some_and(|d| d.verdict == Verdict::Promote && d.weight == 0);
        let grown = before > 0 && replicas < before && before <= self.size;
        if stable && !handed && grown && i64::from(replicas) < need {
            self.broken(
                "S6",
                format!("stable shrinks to {replicas} pods at {share}% of the traffic"),
            );
        }
        let (hash, template) = (hash.to_owned(), template.to_owned());
        self.replicas.insert(name.to_owned(), ReplicaSet { hash, template, replicas });
    }
}
