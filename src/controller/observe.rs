//! Observe: from the watched copies to what a decision looks at. Reads nothing over the network.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use serde_json::Value;
use surefoot_core::api::Rollout;
use surefoot_core::api::analysis::{AnalysisTemplateSpec, TemplateKind};
use surefoot_core::api::rollout::Mesh;
use surefoot_core::claim::{self, Rival};
use surefoot_core::gather::{Source, followed, gather};
use surefoot_core::observed::{Action, Delivery, Observed, disrupted_until};
use surefoot_core::plan::{Templates, resolve};
use surefoot_core::route::{Fault, Override, Weights};
use surefoot_core::routing::{Routing, Side};
use surefoot_core::takeover::Stamped;
use surefoot_core::write::{Kind, Target};

use super::Context;
use super::cache::{Cache, Watched};

/// Whether a change of this object concerns the Rollout.
#[must_use]
pub fn concerns(rollout: &Rollout, kind: Watched, name: &str) -> bool {
    let spec = followed(rollout);
    let routing = Routing::of(&spec.traffic);
    match kind {
        Watched::Written(Kind::Deployment) => name == spec.target_ref.name,
        // The Deployment's and ours, by our name pattern and the deployment controller's.
        Watched::Written(Kind::ReplicaSet) => name.starts_with(&spec.target_ref.name),
        Watched::Written(Kind::Service) | Watched::EndpointSlice => {
            let own = [Side::Stable, Side::Canary].map(|side| routing.own_service(side));
            name == routing.service || own.contains(&Some(name))
        }
        Watched::Written(kind @ (Kind::VirtualService | Kind::HTTPRoute | Kind::GRPCRoute)) => {
            // One of another kind may take the same requests.
            !routing.each().any(|one| kind == one.kind.into())
                || routing.goes_by(&Target { kind, name: name.to_owned() })
        }
        // Any of them may be for the Service that clients call.
        Watched::Written(Kind::DestinationRule) => true,
        Watched::Override(_) => routing.mesh == Mesh::Linkerd,
        Watched::DisruptedPod => name.starts_with(&spec.target_ref.name),
        Watched::Written(Kind::Rollout | Kind::RolloutAction)
        | Watched::Action
        | Watched::Namespace => false,
        Watched::Channel => rollout.spec.notifications.iter().any(|n| n.channel == name),
        Watched::Template | Watched::ClusterTemplate | Watched::Source | Watched::ClusterSource => {
            true
        }
    }
}

/// The watched copies of one namespace.
struct Copies<'a> {
    context: &'a Context,
    rollout: &'a Rollout,
    namespace: &'a str,
    uid: &'a str,
}

impl Source for Copies<'_> {
    fn get(&self, kind: Kind, name: &str) -> Option<Value> {
        self.context.cache.get(Watched::Written(kind), self.namespace, name)
    }

    fn unknown(&self, kind: Kind) -> Option<Fault> {
        self.context.cache.unknown(Watched::Written(kind))
    }

    fn replica_sets(&self, owners: [&str; 2]) -> Vec<Value> {
        self.list(Watched::Written(Kind::ReplicaSet), |set| {
            set.owner_references().iter().any(|o| owners.contains(&o.uid.as_str()))
        })
    }

    fn slices(&self, service: &str) -> Vec<Value> {
        self.list(Watched::EndpointSlice, |slice| {
            slice.labels().get("kubernetes.io/service-name").is_some_and(|of| of == service)
        })
    }

    fn all(&self, kind: Kind) -> Vec<Value> {
        self.list(Watched::Written(kind), |_| true)
    }

    fn overrides(&self, kind: Override) -> Result<Vec<Value>, Fault> {
        let kind = Watched::Override(kind);
        self.context.cache.unknown(kind).map_or(Ok(()), Err)?;
        Ok(self.list(kind, |_| true))
    }

    fn rivals(&self, things: &BTreeSet<Target>) -> Vec<Rival> {
        let here = |guard: &DeserializeGuard<Rollout>| {
            guard.0.as_ref().is_ok_and(|r| r.namespace() == self.rollout.namespace())
        };
        let others = self.context.rollouts.state_filter(here);
        let others = others.iter().filter_map(|guard| guard.0.as_ref().ok());
        claim::rivals(self.rollout, things, others)
    }

    fn since(&self, weights: &Weights, chosen: bool) -> Timestamp {
        self.context.since(self.uid, weights, chosen)
    }
}

impl Copies<'_> {
    fn list(&self, kind: Watched, keep: impl Fn(&DynamicObject) -> bool) -> Vec<Value> {
        self.context.cache.list(kind, self.namespace, keep)
    }
}

/// What is seen, and what is stamped on the objects.
pub fn observe(context: &Context, rollout: &Rollout) -> (Observed, Vec<Stamped>) {
    let namespace = rollout.namespace().unwrap_or_default();
    let uid = rollout.uid().unwrap_or_default();
    let found = gather(rollout, &Copies { context, rollout, namespace: &namespace, uid: &uid });
    let (cache, ns) = (&context.cache, namespace.as_str());
    let canary = rollout.status.as_ref().and_then(|s| s.canary.as_ref());
    let (seen, stamped) = found.observed(
        resolve(&rollout.spec, &templates(cache, ns)),
        actions(cache, ns, &rollout.name_any(), &uid),
        context.holds.of(&uid),
        delivery(context, rollout),
    );
    let seen = Observed {
        namespace_terminating: context.terminating(ns),
        refused: context.refusal(&uid),
        disrupted_until: disruption(cache, ns, canary.map(|c| c.replica_set.as_str())),
        ..seen
    };
    (seen, stamped)
}

/// Until when pods of the canary are being taken away.
fn disruption(cache: &Cache, namespace: &str, canary: Option<&str>) -> Option<Timestamp> {
    let canary = canary?;
    let of_canary = |pod: &DynamicObject| pod.owner_references().iter().any(|o| o.name == canary);
    let pods = cache.list(Watched::DisruptedPod, namespace, of_canary);
    pods.iter().filter_map(disrupted_until).max()
}

/// What the notifier knows, and channels that can't be used whether or not anything waits for them.
fn delivery(context: &Context, rollout: &Rollout) -> Delivery {
    let mut delivery = context.notifier.known(&rollout.uid().unwrap_or_default());
    for (name, channel) in context.channels(rollout) {
        if let Err(trouble) = channel {
            delivery.troubles.insert(name, trouble);
        }
    }
    delivery
}

fn templates(cache: &Cache, namespace: &str) -> Templates {
    let mut templates = Templates::new();
    for (watched, kind) in [
        (Watched::Template, TemplateKind::AnalysisTemplate),
        (Watched::ClusterTemplate, TemplateKind::ClusterAnalysisTemplate),
    ] {
        for object in cache.list(watched, namespace, |_| true) {
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let spec = object.get("spec").cloned().unwrap_or_default();
            // One that doesn't parse is as good as missing: the plan names it.
            if let Ok(spec) = serde_json::from_value::<AnalysisTemplateSpec>(spec) {
                templates.insert((kind, name.to_owned()), spec);
            }
        }
    }
    templates
}

fn actions(cache: &Cache, namespace: &str, rollout: &str, uid: &str) -> Vec<Action> {
    let for_us = |action: &DynamicObject| {
        action.data.pointer("/spec/rollout").and_then(Value::as_str) == Some(rollout)
    };
    Action::list(&cache.list(Watched::Action, namespace, for_us), rollout, uid)
}
