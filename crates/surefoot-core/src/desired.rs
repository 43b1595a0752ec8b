//! What ought to be, and the writes that get there from what is.

use serde_json::Value;

use crate::api::rollout::RequestMatch;
use crate::api::status::Revision;
use crate::observed::{Observed, OneRoute, Owner, Service};
use crate::plan::Plan;
use crate::routing::Side;
use crate::write::Write;

/// The state that a decision wants at this moment. What is left out is left alone. Stages that must
/// wait for one another are wanted one after another, each once the one before has been seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// Our finalizer on the Rollout.
    pub finalizer: Option<bool>,
    /// Both Services exist.
    pub services: bool,
    /// What the stable Service selects.
    pub pin_stable: Pin,
    /// What the canary Service selects.
    pub pin_canary: Pin,
    /// What the Service that clients call selects.
    pub pin_apex: Pin,
    /// The canary's pods.
    pub canary: CanaryWanted,
    /// The canary's weight on the route, per cent.
    pub weight: Option<i32>,
    /// With it: requests that go to the canary whatever its weight.
    pub chosen: Vec<RequestMatch>,
    /// Stable's ReplicaSet, when it has lost its pods to another one, and how many it gets.
    pub revived: Option<(String, u32)>,
    /// An old ReplicaSet of the Deployment that goes to 0 pods.
    pub retired: Option<String>,
    /// ReplicaSets of ours that are of no version: they go.
    pub strays: Vec<String>,
    /// The Deployment.
    pub deployment: DeploymentWanted,
    /// The route is no longer ours.
    pub disowned: bool,
    /// The mark of a break-glass abort is taken off the route.
    pub mended: bool,
    /// Commands beyond those that are kept.
    pub forgotten: Vec<Forgotten>,
}

/// A command that has done what it can do and goes, by its name and UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What a Service selects beside the Deployment's own labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Pin {
    /// Whatever it does.
    #[default]
    Leave,
    /// Nothing: all versions.
    Off,
    /// One version, by its hash.
    To(String),
}

/// The canary's pods.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum CanaryWanted {
    /// Whatever they do.
    #[default]
    Leave,
    /// Its ReplicaSet exists, is the Rollout's, and has that many.
    Pods {
        /// The version.
        revision: Revision,
        /// How many.
        replicas: u32,
    },
    /// Its ReplicaSet is the Deployment's.
    Adopted(Revision),
    /// Gone; a ReplicaSet that was taken over is given back with no pods.
    Absent(Revision),
}

/// The Deployment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeploymentWanted {
    /// Our label.
    pub managed: Option<bool>,
    /// The name of the Rollout that it belongs to.
    pub owner: Option<String>,
    /// `spec.paused`.
    pub paused: Option<bool>,
    /// The policy's annotation is taken off.
    pub unheld: bool,
    /// Another pod template.
    pub template: Option<Value>,
    /// Digest of the template that the decision saw. A Deployment that is let go with another one
    /// would roll that out natively.
    pub seen: Option<String>,
}

/// The writes that turn what is seen into what is desired, in the order in which to make them:
/// traffic away from pods before the pods go, pods before the traffic comes.
#[must_use]
pub fn writes(desired: &Desired, seen: &Observed, plan: &Plan) -> Vec<Write> {
    let mut writes = Vec::new();
    if desired.finalizer == Some(true) {
        writes.push(Write::Finalizer { present: true });
    }
    if desired.services {
        let sides = [
            (Side::Stable, &seen.stable, &desired.pin_stable),
            (Side::Canary, &seen.canary, &desired.pin_canary),
        ];
        for (side, found, pin) in sides {
            let Some(name) = plan.routing.own_service(side).filter(|_| found.is_none()) else {
                continue;
            };
            // One that is made in the middle of a release must not reach the other version.
            let hash = match pin {
                Pin::To(hash) => Some(hash.clone()),
                Pin::Off | Pin::Leave => None,
            };
            let like = plan.routing.service.clone();
            writes.push(Write::CreateService { name: name.to_owned(), like, hash });
        }
    }
    let weighed = |one: &OneRoute| {
        let percent = desired.weight?;
        // A choice that doesn't go together with the route keeps no weight from being put right.
        let chosen = if one.carries(&desired.chosen).is_ok() { &desired.chosen[..] } else { &[] };
        let change = change(one, percent, chosen)?;
        let (routing, chosen) = (one.routing.clone(), chosen.to_vec());
        Some((change, Write::SetWeight { routing, percent, chosen }))
    };
    let weighed = seen.routes.iter().filter_map(weighed);
    let (less, more): (Vec<_>, Vec<_>) = weighed.partition(|(change, _)| *change == Change::Less);
    writes.extend(less.into_iter().map(|(_, write)| write));
    let mended = seen.routes.iter().filter(|one| desired.mended && one.broken);
    writes.extend(mended.map(|one| Write::Mend { route: one.routing.target() }));
    let pins = [(&desired.pin_stable, &seen.stable), (&desired.pin_canary, &seen.canary)];
    for (wanted, found) in pins {
        writes.extend(found.as_ref().and_then(|found| pin(wanted, found, seen, plan)));
    }
    let apex = seen.apex.as_ref().and_then(|apex| pin_service(&desired.pin_apex, apex));
    writes.extend(apex);
    canary_writes(&desired.canary, seen, &mut writes);
    if let Some((replica_set, replicas)) = desired.revived.clone() {
        writes.push(Write::Scale { replica_set, replicas });
    }
    let retired = desired.retired.as_ref().and_then(|name| seen.replica_set(name));
    if let Some(set) = retired.filter(|set| set.replicas > 0) {
        writes.push(Write::Scale { replica_set: set.name.clone(), replicas: 0 });
    }
    writes.extend(more.into_iter().map(|(_, write)| write));
    deployment_writes(&desired.deployment, seen, plan, &mut writes);
    let owned = |one: &&OneRoute| one.found.as_ref().is_ok_and(|route| route.owner.is_some());
    let disowned = seen.routes.iter().filter(owned).filter(|_| desired.disowned);
    writes.extend(disowned.map(|one| Write::Disown { route: one.routing.target() }));
    // Whatever fails here holds up nothing that matters more.
    let strays = desired.strays.iter().filter_map(|name| seen.replica_set(name));
    writes.extend(strays.map(|set| Write::DeleteReplicaSet {
        replica_set: set.name.clone(),
        uid: set.uid.clone(),
    }));
    writes.extend(
        desired.forgotten.iter().map(|action| Write::DeleteAction {
            name: action.name.clone(),
            uid: action.uid.clone(),
        }),
    );
    if desired.finalizer == Some(false) {
        writes.push(Write::Finalizer { present: false });
    }
    writes
}

/// What is left to write when there is no plan: the Rollout may be let go.
#[must_use]
pub fn last(desired: &Desired) -> Option<Write> {
    (desired.finalizer == Some(false)).then_some(Write::Finalizer { present: false })
}

/// What a weight changes of the requests that the canary gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Less,
    More,
}

/// `None` where it is so already. A route that can't be read is written to all the same: what is wrong with
/// it is said then. One that isn't there carries no weight and can't be written.
fn change(one: &OneRoute, percent: i32, chosen: &[RequestMatch]) -> Option<Change> {
    let now = match &one.found {
        Ok(route) => route.weights.canary_percent(),
        Err(problem) if problem.is_missing() => return None,
        Err(_) => None,
    };
    match now {
        None => Some(Change::Less),
        Some(now) if percent < now => Some(Change::Less),
        Some(now) if percent > now => Some(Change::More),
        Some(_) if one.carries(chosen) == Ok(true) => None,
        Some(_) if chosen.is_empty() => Some(Change::Less),
        Some(_) => Some(Change::More),
    }
}

impl Pin {
    /// The hash to be pinned to, or none; `None` when it is to be left as it is.
    fn wanted(&self) -> Option<Option<String>> {
        match self {
            Pin::Leave => None,
            Pin::Off => Some(None),
            Pin::To(hash) => Some(Some(hash.clone())),
        }
    }
}

fn pin_service(wanted: &Pin, found: &Service) -> Option<Write> {
    let hash = wanted.wanted().filter(|hash| *hash != found.pin)?;
    Some(Write::Pin { service: found.name.clone(), hash })
}

fn pin(wanted: &Pin, found: &Service, seen: &Observed, plan: &Plan) -> Option<Write> {
    let Some(rule) = plan.routing.rule() else { return pin_service(wanted, found) };
    let foreign = found.foreign && plan.adopt;
    let hash = wanted.wanted().filter(|hash| foreign || *hash != found.pin)?;
    let labels = seen.deployment.as_ref().filter(|_| foreign).map(|d| d.selector.clone());
    Some(Write::PinSubset { rule: rule.to_owned(), subset: found.name.clone(), hash, labels })
}

fn canary_writes(wanted: &CanaryWanted, seen: &Observed, writes: &mut Vec<Write>) {
    match wanted {
        CanaryWanted::Leave => {}
        CanaryWanted::Pods { revision, replicas } => {
            match seen.replica_set(&revision.replica_set) {
                None => writes.push(Write::CreateReplicaSet { revision: revision.clone() }),
                Some(set) if set.deleting => {}
                Some(set) if set.owner == Owner::Deployment => {
                    writes.push(Write::TakeOver { replica_set: set.name.clone() });
                }
                Some(set) if set.replicas != *replicas => {
                    writes
                        .push(Write::Scale { replica_set: set.name.clone(), replicas: *replicas });
                }
                Some(_) => {}
            }
        }
        CanaryWanted::Adopted(revision) => {
            let set = seen.replica_set(&revision.replica_set);
            if set.is_some_and(|s| s.owner == Owner::Rollout && !s.deleting) {
                writes.push(Write::Adopt { replica_set: revision.replica_set.clone() });
            }
        }
        CanaryWanted::Absent(revision) => {
            let set = seen.replica_set(&revision.replica_set);
            let Some(set) = set.filter(|s| s.owner == Owner::Rollout && !s.deleting) else {
                return;
            };
            let name = set.name.clone();
            writes.push(match (revision.taken_over, set.replicas) {
                (true, 0) => Write::GiveBack { replica_set: name },
                (true, _) => Write::Scale { replica_set: name, replicas: 0 },
                (false, _) => Write::DeleteReplicaSet { replica_set: name, uid: set.uid.clone() },
            });
        }
    }
}

fn deployment_writes(
    wanted: &DeploymentWanted,
    seen: &Observed,
    plan: &Plan,
    writes: &mut Vec<Write>,
) {
    let Some(deployment) = &seen.deployment else { return };
    let changes = wanted.managed.is_some_and(|m| m != deployment.managed)
        || wanted.owner.as_ref().is_some_and(|owner| deployment.owner.as_ref() != Some(owner))
        || wanted.paused.is_some_and(|p| p != deployment.paused)
        || (wanted.unheld && deployment.held)
        || wanted.template.is_some();
    if changes {
        writes.push(Write::Deployment { name: plan.deployment.clone(), wanted: wanted.clone() });
    }
}
