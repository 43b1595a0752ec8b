//! What the controller would see of a namespace, read once.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use serde_json::Value;
use surefoot_core::api::Rollout;
use surefoot_core::api::analysis::SourceRef;
use surefoot_core::api::rollout::RolloutSpec;
use surefoot_core::claim::{Rival, rivals};
use surefoot_core::gather::Source;
use surefoot_core::plan::{Plan, PlanError, resolve};
use surefoot_core::route::{Fault, Override, Weights};
use surefoot_core::write::{Kind, Target};

use crate::cli::command::MANAGER;
use crate::cli::trouble::trouble;
use crate::cli::{fetch, measure};
use crate::client::{limited, objects, raw, resource};
use crate::controller::cache::Watched;
use crate::controller::hold::would_hold;

/// What a release reads of a namespace.
const KINDS: [Kind; 7] = [
    Kind::Deployment,
    Kind::ReplicaSet,
    Kind::Service,
    Kind::VirtualService,
    Kind::HTTPRoute,
    Kind::GRPCRoute,
    Kind::DestinationRule,
];

/// A namespace.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Objects by kind, or why they aren't known.
    pub objects: BTreeMap<Kind, Result<Vec<Value>, Fault>>,
    /// EndpointSlices, or why they aren't known.
    pub slices: Option<Result<Vec<Value>, Fault>>,
    /// What takes requests away from routes on Linkerd.
    pub overrides: [Option<Result<Vec<Value>, Fault>>; 2],
    /// Rollouts that can be read.
    pub rollouts: Vec<Rollout>,
}

/// What is a Rollout's own matter.
#[derive(Debug)]
pub struct Own {
    /// Its spec with its templates' metrics.
    pub spec: Result<RolloutSpec, PlanError>,
    /// Its metrics source, and whether it is there; none where that isn't known.
    pub source: Option<(SourceRef, bool)>,
    /// What couldn't be read of it, and why.
    pub unseen: Vec<String>,
    /// Whether a new template would be held; why that can't be told.
    pub held: Result<bool, String>,
    /// Names of the containers of one of its pods; none where there are no pods, or they can't be read.
    pub containers: Option<Vec<String>>,
}

/// Read a namespace.
///
/// # Errors
/// In one line: the API server can't be asked.
pub async fn find(client: &Client, namespace: &str) -> Result<Found> {
    let mut found = Found::default();
    for kind in KINDS {
        found.objects.insert(kind, list(client, namespace, &resource(kind)).await?);
    }
    found.slices = Some(list(client, namespace, &Watched::EndpointSlice.resource()).await?);
    for (place, kind) in [Override::ServiceProfile, Override::TrafficSplit].into_iter().enumerate()
    {
        let resource = Watched::Override(kind).resource();
        found.overrides[place] = Some(list(client, namespace, &resource).await?);
    }
    let rollouts = fetch::all(client, Some(namespace)).await?;
    found.rollouts = rollouts.iter().filter_map(|object| fetch::rollout(object).ok()).collect();
    Ok(found)
}

/// All of a kind; why the API server doesn't give them, as the controller would say it.
async fn list(
    client: &Client,
    namespace: &str,
    resource: &ApiResource,
) -> Result<Result<Vec<Value>, Fault>> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    match fetch::pages(&api).await {
        Ok(all) => Ok(Ok(all.iter().map(raw).collect())),
        Err(error) if error.code() == Some(404) => Ok(Err(Fault::NotServed)),
        Err(error) if error.code() == Some(403) => Ok(Err(Fault::Forbidden)),
        Err(error) => {
            Err(anyhow!(trouble(&format!("listing {} of {namespace}", resource.plural), &error)))
        }
    }
}

/// Read what is a Rollout's own matter.
pub async fn own(client: &Client, namespace: &str, rollout: &Rollout) -> Own {
    let mut unseen = Vec::new();
    let spec = match measure::templates(client, namespace, rollout).await {
        Ok(templates) => resolve(&rollout.spec, &templates),
        Err(error) => {
            unseen.push(format!("{error:#}"));
            Ok(RolloutSpec { analysis: None, ..rollout.spec.clone() })
        }
    };
    let plan = spec.as_ref().ok().and_then(|spec| Plan::of(spec).ok());
    let source = match plan.map(|plan| plan.source) {
        Some(reference) => match measure::source(client, namespace, &reference).await {
            Ok(source) => Some((reference, source.is_some())),
            Err(error) => {
                unseen.push(format!("{error:#}"));
                None
            }
        },
        None => None,
    };
    let deployment = &rollout.spec.target_ref.name;
    let held = would_hold(client, namespace, deployment, MANAGER).await;
    Own {
        spec,
        source,
        unseen,
        held: held.map_err(|error| trouble("a dry run of a new template", &error)),
        containers: containers(client, namespace, deployment).await,
    }
}

async fn containers(client: &Client, namespace: &str, deployment: &str) -> Option<Vec<String>> {
    let deployment = limited(objects(client, Kind::Deployment, namespace).get(deployment)).await;
    let deployment = raw(&deployment.ok()?);
    let labels = deployment.pointer("/spec/selector/matchLabels")?.as_object()?;
    let term = |(key, value): (&String, &Value)| Some(format!("{key}={}", value.as_str()?));
    let selector = labels.iter().map(term).collect::<Option<Vec<_>>>()?.join(",");
    let pods = Watched::DisruptedPod.resource();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &pods);
    let page = limited(api.list(&ListParams::default().labels(&selector).limit(1))).await.ok()?;
    let pod = page.items.first()?;
    let lists = ["/spec/containers", "/spec/initContainers"];
    let all = lists.iter().filter_map(|list| pod.data.pointer(list)?.as_array()).flatten();
    Some(all.filter_map(|c| c.get("name")?.as_str().map(str::to_owned)).collect())
}

/// What is found, as one Rollout's decision looks at it.
pub struct Seen<'a> {
    /// The namespace.
    pub found: &'a Found,
    /// The Rollout.
    pub rollout: &'a Rollout,
}

impl Seen<'_> {
    fn of(&self, kind: Kind, keep: impl Fn(&Value) -> bool) -> Vec<Value> {
        let all = self.found.objects.get(&kind).and_then(|all| all.as_ref().ok());
        let mut kept: Vec<Value> = all.into_iter().flatten().filter(|o| keep(o)).cloned().collect();
        kept.sort_by_key(|o| [text(o, "/metadata/creationTimestamp"), text(o, "/metadata/name")]);
        kept
    }
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Source for Seen<'_> {
    fn get(&self, kind: Kind, name: &str) -> Option<Value> {
        self.of(kind, |object| text(object, "/metadata/name") == name).pop()
    }

    fn unknown(&self, kind: Kind) -> Option<Fault> {
        self.found.objects.get(&kind)?.as_ref().err().cloned()
    }

    fn replica_sets(&self, owners: [&str; 2]) -> Vec<Value> {
        self.of(Kind::ReplicaSet, |set| {
            let of = set.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            of.into_iter().flatten().any(|o| owners.contains(&text(o, "/uid").as_str()))
        })
    }

    fn slices(&self, service: &str) -> Vec<Value> {
        let of = |slice: &&Value| {
            slice
                .pointer("/metadata/labels/kubernetes.io~1service-name")
                .is_some_and(|n| n == service)
        };
        let known = self.found.slices.as_ref().and_then(|all| all.as_ref().ok());
        known.into_iter().flatten().filter(of).cloned().collect()
    }

    fn all(&self, kind: Kind) -> Vec<Value> {
        self.of(kind, |_| true)
    }

    fn overrides(&self, kind: Override) -> Result<Vec<Value>, Fault> {
        let place = usize::from(kind == Override::TrafficSplit);
        self.found.overrides[place].clone().unwrap_or(Ok(Vec::new()))
    }

    fn since(&self, _: &Weights, _: bool) -> Timestamp {
        Timestamp::MIN
    }

    fn rivals(&self, things: &BTreeSet<Target>) -> Vec<Rival> {
        rivals(self.rollout, things, &self.found.rollouts)
    }
}
