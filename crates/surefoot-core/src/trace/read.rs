//! From raw objects to what the checker looks at.

use serde_json::{Value, json};

use super::{DecisionState, Event, Names, RolloutState, Side, State};
use crate::api::rollout::{RolloutSpec, Step};
use crate::api::status::ReleaseKind;
use crate::api::{ActionKind, RolloutActionSpec, RolloutStatus};
use crate::mark::{Mark, WROTE};
use crate::observed::{BreakGlass, Service};
use crate::route::{self, BREAK_GLASS, EPOCH, OWNER, subset};
use crate::routing::Routing;
use crate::template::{HASH_LABEL, template_digest};
use crate::write::epoch_of;

impl Event {
    /// Read a raw object as it is after a write (or as it was when deleted); `None` when it isn't
    /// one of the Rollout's.
    #[must_use]
    pub fn of(object: &Value, deleted: bool, names: &Names) -> Option<Self> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        let revision = text("/metadata/resourceVersion").parse().ok()?;
        let name = text("/metadata/name");
        if text("/metadata/namespace") != names.namespace {
            return None;
        }
        let routing = &names.routing;
        let side = |service: &str| {
            let sides = [Side::Stable, Side::Canary];
            sides.into_iter().find(|side| routing.own_service(*side) == Some(service))
        };
        let is = |one: &Routing| text("/kind") == one.target().kind.name() && name == one.route;
        if let Some(one) = routing.each().find(is).filter(|_| !deleted) {
            return Some(Event { revision, state: route(object, &one, &names.namespace) });
        }
        let state = match text("/kind") {
            "Rollout" if name == names.rollout && deleted => State::RolloutGone,
            "Rollout" if name == names.rollout => State::Rollout(Box::new(rollout(object)?)),
            "DestinationRule" if routing.rule() == Some(name) && !deleted => {
                // A subset that somebody takes out reaches nothing; where it is put back, what it
                // selects must be what it selected.
                let pin = |side| {
                    let labels = subset::labels(object, routing.destination(side).subset?)?;
                    Some(labels.get(HASH_LABEL).cloned())
                };
                State::Subsets { stable: pin(Side::Stable)?, canary: pin(Side::Canary)? }
            }
            "Service" if name == routing.service && !deleted => {
                State::Apex { hash: Service::of(object, &[]).pin }
            }
            "Service" if !deleted => {
                State::Pin { side: side(name)?, hash: Service::of(object, &[]).pin }
            }
            "EndpointSlice" => {
                let of = object.pointer("/metadata/labels")?.get("kubernetes.io/service-name")?;
                let endpoints = Service::of(&json!({}), std::slice::from_ref(object)).endpoints;
                let ready = endpoints.into_iter().filter(|e| e.ready && !deleted);
                let (slice, of) = (name.to_owned(), of.as_str()?);
                if routing.rule().is_some() && of == routing.service {
                    State::Reached { slice, pods: ready.map(|e| e.pod).collect() }
                } else {
                    State::Ready { side: side(of)?, slice, ready: ready.count() }
                }
            }
            "ReplicaSet" => replica_set(object, deleted)?,
            "Deployment" if name == names.deployment && !deleted => State::Deployment {
                replicas: u32::try_from(object.pointer("/spec/replicas")?.as_u64()?).ok()?,
            },
            "RolloutAction" if !deleted => {
                let spec: RolloutActionSpec =
                    serde_json::from_value(object.get("spec")?.clone()).ok()?;
                if spec.rollout != names.rollout {
                    return None;
                }
                action(spec.action, &spec)
            }
            _ => return None,
        };
        Some(Event { revision, state })
    }
}

fn action(kind: ActionKind, spec: &RolloutActionSpec) -> State {
    State::Action { kind, release: spec.release, step: spec.step, by: spec.requested_by.clone() }
}

fn rollout(object: &Value) -> Option<RolloutState> {
    let status = object.get("status").cloned().unwrap_or_else(|| json!({}));
    Some(RolloutState::of(&serde_json::from_value(status).ok()?))
}

impl RolloutState {
    /// What matters of a status.
    #[must_use]
    pub fn of(status: &RolloutStatus) -> Self {
        let release = status.release.as_ref();
        let plan: Option<RolloutSpec> =
            release.and_then(|r| serde_json::from_value(r.plan.clone()).ok());
        let steps = plan.map(|p| p.steps).unwrap_or_default();
        Self {
            phase: status.phase,
            release: release.map(|r| (r.number, r.plan_hash.clone())),
            weights: steps.iter().map(|s| s.weight).collect(),
            choosing: which(&steps, |step| !step.matches.is_empty()),
            approvals: which(&steps, |step| step.approval.is_some()),
            passes: release
                .into_iter()
                .flat_map(|r| &r.passes)
                .map(|p| (p.step, p.plan_hash.clone(), p.actor.clone()))
                .collect(),
            undo: release.is_some_and(|r| r.kind == ReleaseKind::Undo),
            decision: status.decision.as_ref().map(|d| DecisionState {
                seq: d.seq,
                epoch: d.epoch,
                release: d.release,
                step: d.step,
                weight: d.weight,
                verdict: d.verdict,
            }),
            stable: status.stable.as_ref().map(|s| s.hash.clone()),
        }
    }
}

/// Indices of these steps.
fn which(steps: &[Step], are: impl Fn(&Step) -> bool) -> Vec<i32> {
    (0i32..).zip(steps).filter(|(_, step)| are(step)).map(|(i, _)| i).collect()
}

fn route(object: &Value, routing: &Routing, namespace: &str) -> State {
    // A route that can't be read may carry anything; one that can has a pair of weights for each
    // entry, and what counts is the one that exposes most.
    let weights = route::read(object, routing, namespace).ok();
    let weights = weights.and_then(|weights| weights.0.into_iter().max_by_key(|p| p.share()));
    let weights = weights.map(|pair| (pair.stable, pair.canary));
    let mut rest = route::without_weights(object, routing);
    if let Some(metadata) = rest.get_mut("metadata").and_then(Value::as_object_mut) {
        for noise in ["resourceVersion", "generation", "managedFields"] {
            metadata.remove(noise);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(EPOCH);
            annotations.remove(OWNER);
            annotations.remove(BREAK_GLASS);
            annotations.remove(WROTE);
        }
        if metadata.get("annotations") == Some(&json!({})) {
            metadata.remove("annotations");
        }
    }
    if let Some(rest) = rest.as_object_mut() {
        rest.remove("status");
    }
    let broken = BreakGlass::of(object).map(|g| g.release);
    // Ours always carry an epoch, and can be read; others are somebody's.
    let epoch = epoch_of(object);
    let wrote = Mark::of(object).map(|mark| i64::from(mark.weight));
    let edited =
        epoch == 0 || weights.is_none_or(|(_, now)| wrote.is_some_and(|wrote| now != wrote));
    let chosen = route::has_chosen(object, routing);
    State::Route { route: routing.target(), weights, chosen, rest, epoch, broken, edited }
}

fn replica_set(object: &Value, gone: bool) -> Option<State> {
    let template = object.pointer("/spec/template")?;
    let hash = object.pointer("/metadata/labels")?.get(HASH_LABEL)?.as_str()?;
    Some(State::ReplicaSet {
        name: object.pointer("/metadata/name")?.as_str()?.to_owned(),
        hash: hash.to_owned(),
        template: template_digest(template),
        replicas: u32::try_from(object.pointer("/spec/replicas")?.as_u64()?).ok()?,
        gone,
    })
}
