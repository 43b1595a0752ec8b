//! Observe: from the watched copies to what a decision looks at. Reads nothing over the network.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;
use surefoot_core::api::analysis::{AnalysisTemplateSpec, TemplateKind};
use surefoot_core::api::rollout::RolloutSpec;
use surefoot_core::api::{Rollout, RolloutActionSpec};
use surefoot_core::decide::in_release;
use surefoot_core::mark::Mark;
use surefoot_core::observed::{Deployment, Observed, ReplicaSet, Route, Service, disrupted_until};
use surefoot_core::plan::{Templates, resolve};
use surefoot_core::route::RouteProblem;
use surefoot_core::route::istio::{self, Host};
use surefoot_core::write::{Kind, Target, epoch_of};

use super::Context;
use super::cache::{Cache, Watched};

/// Names of all that belongs to a Rollout, by its spec.
pub struct Names {
    namespace: String,
    deployment: String,
    apex: String,
    stable: String,
    canary: String,
    route: String,
}

impl Names {
    /// From the plan that a release under way has frozen, else from the spec; neither need be valid.
    #[must_use]
    pub fn of(rollout: &Rollout) -> Self {
        let release = rollout.status.as_ref().filter(|s| in_release(s.phase));
        let frozen = release.and_then(|s| s.release.as_ref()).map(|r| r.plan.clone());
        let frozen = frozen.and_then(|plan| serde_json::from_value::<RolloutSpec>(plan).ok());
        let spec = frozen.as_ref().unwrap_or(&rollout.spec);
        let traffic = &spec.traffic;
        let (stable, canary) = match &traffic.split {
            Some(split) => (split.services.stable.clone(), split.services.canary.clone()),
            None => (format!("{}-stable", traffic.service), format!("{}-canary", traffic.service)),
        };
        Self {
            namespace: rollout.namespace().unwrap_or_default(),
            deployment: spec.target_ref.name.clone(),
            apex: traffic.service.clone(),
            stable,
            canary,
            route: traffic.routes.first().map(|r| r.name.clone()).unwrap_or_default(),
        }
    }

    /// Whether a change of this object concerns the Rollout.
    #[must_use]
    pub fn concern(&self, kind: Watched, name: &str) -> bool {
        match kind {
            Watched::Written(Kind::Deployment) => name == self.deployment,
            // The Deployment's and ours, by our name pattern and the deployment controller's.
            Watched::Written(Kind::ReplicaSet) | Watched::DisruptedPod => {
                name.starts_with(&self.deployment)
            }
            Watched::Written(Kind::Service) | Watched::EndpointSlice => {
                [&self.apex, &self.stable, &self.canary].into_iter().any(|s| s == name)
            }
            Watched::Written(Kind::VirtualService) => name == self.route,
            Watched::Written(Kind::Rollout) | Watched::Action | Watched::Namespace => false,
            Watched::Template
            | Watched::ClusterTemplate
            | Watched::Source
            | Watched::ClusterSource => true,
        }
    }
}

/// What is seen, and the epochs on the objects.
pub fn observe(context: &Context, rollout: &Rollout) -> (Observed, Vec<(Target, i64)>) {
    let names = Names::of(rollout);
    let (cache, ns) = (&context.cache, names.namespace.as_str());
    let uid = rollout.uid().unwrap_or_default();
    let get = |kind: Kind, name: &str| cache.get(Watched::Written(kind), ns, name);
    let raw_deployment = get(Kind::Deployment, &names.deployment);
    let deployment = raw_deployment.as_ref().map(Deployment::of);
    let of_deployment = deployment.as_ref().map(|d| d.uid.clone()).unwrap_or_default();
    let sets = cache.list(Watched::Written(Kind::ReplicaSet), ns, |set| {
        set.owner_references().iter().any(|o| o.uid == of_deployment || o.uid == uid)
    });
    let raw_route = get(Kind::VirtualService, &names.route);
    let mut epochs = Vec::new();
    let mut stamp = |kind: Kind, object: Option<&Value>| {
        if let Some(object) = object {
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            epochs.push((Target { kind, name: name.to_owned() }, epoch_of(object)));
        }
    };
    stamp(Kind::VirtualService, raw_route.as_ref());
    let service = |name: &str| {
        let object = get(Kind::Service, name)?;
        let slices = cache.list(Watched::EndpointSlice, ns, |slice| {
            slice.labels().get("kubernetes.io/service-name").is_some_and(|of| of == name)
        });
        Some((Service::of(&object, &slices), object))
    };
    let (apex, stable, canary) =
        (service(&names.apex), service(&names.stable), service(&names.canary));
    for service in [&stable, &canary].into_iter().flatten() {
        stamp(Kind::Service, Some(&service.1));
    }
    stamp(Kind::Deployment, raw_deployment.as_ref());
    let ours = rollout.status.as_ref().and_then(|s| s.canary.as_ref()).map(|c| &c.replica_set);
    let named = |set: &Value| {
        let name = set.pointer("/metadata/name").and_then(Value::as_str);
        name.is_some() && name == ours.map(String::as_str)
    };
    stamp(Kind::ReplicaSet, sets.iter().find(|set| named(set)));
    let seen = Observed {
        spec: resolve(&rollout.spec, &templates(cache, ns)),
        deployment,
        replica_sets: sets
            .iter()
            .filter_map(|set| ReplicaSet::of(set, &of_deployment, &uid))
            .collect(),
        apex: apex.map(|s| s.0),
        stable: stable.map(|s| s.0),
        canary: canary.map(|s| s.0),
        route: route(context, &uid, &names, raw_route.as_ref()),
        actions: actions(cache, ns, &rollout.name_any(), &uid),
        hold: context.holds.of(&uid),
        delivered: context.notifier.delivered(&uid),
        namespace_terminating: context.terminating(ns),
        disrupted_until: disruption(cache, ns, ours.map(String::as_str)),
    };
    (seen, epochs)
}

/// Until when pods of the canary are being taken away.
fn disruption(cache: &Cache, namespace: &str, canary: Option<&str>) -> Option<Timestamp> {
    let canary = canary?;
    let of_canary = |pod: &DynamicObject| pod.owner_references().iter().any(|o| o.name == canary);
    let pods = cache.list(Watched::DisruptedPod, namespace, of_canary);
    pods.iter().filter_map(disrupted_until).max()
}

fn route(
    context: &Context,
    uid: &str,
    names: &Names,
    object: Option<&Value>,
) -> Result<Route, RouteProblem> {
    let object = object.ok_or_else(|| RouteProblem::Missing { name: names.route.clone() })?;
    let host = |service| Host { service, namespace: &names.namespace };
    let weights = istio::read(object, host(&names.stable), host(&names.canary))?;
    Ok(Route {
        since: context.since(uid, &weights),
        weights,
        timeout: istio::timeout_seconds(object),
        manager: last_manager(object),
        version: super::cache::version(object).to_string(),
        wrote: Mark::of(object),
    })
}

/// Who changed the route last, beside ourselves: whoever owns its http routes now (the list is
/// owned as a whole), else the latest by time.
fn last_manager(object: &Value) -> Option<String> {
    let fields = object.pointer("/metadata/managedFields")?.as_array()?;
    let http = |f: &Value| f.pointer("/fieldsV1/f:spec/f:http").is_some();
    let time = |f: &Value| f.get("time").and_then(Value::as_str).unwrap_or("").to_owned();
    let others =
        fields.iter().filter(|f| f.get("manager").is_some_and(|m| m != crate::client::MANAGER));
    let latest = others.max_by_key(|f| (http(f), time(f)))?;
    Some(latest.get("manager")?.as_str()?.to_owned())
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

fn actions(cache: &Cache, namespace: &str, rollout: &str, uid: &str) -> Vec<RolloutActionSpec> {
    let for_us = |action: &DynamicObject| {
        let text = |field: &str| action.data.pointer(field).and_then(Value::as_str);
        text("/spec/rollout") == Some(rollout) && text("/spec/uid") == Some(uid)
    };
    let actions = cache.list(Watched::Action, namespace, for_us);
    actions.iter().filter_map(|a| serde_json::from_value(a.get("spec")?.clone()).ok()).collect()
}
