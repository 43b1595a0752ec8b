//! From raw objects, wherever they are kept, to what a decision looks at. The controller's watched
//! copies and the simulated ones of the tests go through this same door.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::api::Rollout;
use crate::api::rollout::{Apex, RolloutSpec};
use crate::claim::{self, Claim, Rival};
use crate::decide::in_release;
use crate::mark::Mark;
use crate::observed::{
    Action, BreakGlass, Delivery, Deployment, HoldMode, Observed, OneRoute, ReplicaSet, Route,
    Service,
};
use crate::plan::PlanError;
use crate::route::{
    self, BREAK_GLASS, Fault, OWNER, Override, Pair, RouteProblem, Weights, annotation,
};
use crate::routing::{Routing, Side};
use crate::split::{self, Objects, SplitProblem};
use crate::takeover::Stamped;
use crate::write::{Kind, Target, epoch_of};

/// Raw objects of the Rollout's namespace.
pub trait Source {
    /// One by kind and name.
    fn get(&self, kind: Kind, name: &str) -> Option<Value>;
    /// Why nothing is known of a kind of route, where that is so.
    fn unknown(&self, kind: Kind) -> Option<Fault>;
    /// ReplicaSets that one of these UIDs owns, oldest first.
    fn replica_sets(&self, owners: [&str; 2]) -> Vec<Value>;
    /// EndpointSlices of a Service.
    fn slices(&self, service: &str) -> Vec<Value>;
    /// All of a kind.
    fn all(&self, kind: Kind) -> Vec<Value>;
    /// All of a kind that takes requests away from routes, or why they aren't known.
    ///
    /// # Errors
    /// That.
    fn overrides(&self, kind: Override) -> Result<Vec<Value>, Fault>;
    /// Since when these weights have been seen, with chosen requests beside them or without.
    fn since(&self, weights: &Weights, chosen: bool) -> Timestamp;
    /// Other Rollouts that name some of these things, which are the Rollout's.
    fn rivals(&self, things: &BTreeSet<Target>) -> Vec<Rival>;
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// The Deployment.
    pub deployment: Option<Deployment>,
    /// ReplicaSets that the Deployment or the Rollout owns, oldest first.
    pub replica_sets: Vec<ReplicaSet>,
    /// The Service that clients call.
    pub apex: Option<Service>,
    /// The Service or subset that reaches stable.
    pub stable: Option<Service>,
    /// The Service or subset that reaches the canary.
    pub canary: Option<Service>,
    /// Whether they can tell the versions apart.
    pub split: Result<(), SplitProblem>,
    /// What the routes say together.
    pub route: Result<Route, RouteProblem>,
    /// Each of them.
    pub routes: Vec<OneRoute>,
    /// Who brought the traffic back by hand.
    pub break_glass: Option<BreakGlass>,
    /// What of the Rollout's things is another Rollout's.
    pub claim: Option<Claim>,
    /// Other Rollouts that name some of the same things.
    pub rivals: Vec<Rival>,
    /// What stands on all objects that a release writes, but for those that are a rival's; nothing
    /// at rest where one is.
    pub stamped: Vec<Stamped>,
}

impl Gathered {
    /// All that a decision looks at, and what is stamped on the objects. That the namespace goes, pods
    /// are disrupted or something was refused is for the caller to add.
    #[must_use]
    pub fn observed(
        self,
        spec: Result<RolloutSpec, PlanError>,
        actions: Vec<Action>,
        hold: HoldMode,
        delivery: Delivery,
    ) -> (Observed, Vec<Stamped>) {
        let seen = Observed {
            spec,
            deployment: self.deployment,
            replica_sets: self.replica_sets,
            apex: self.apex,
            stable: self.stable,
            canary: self.canary,
            split: self.split,
            route: self.route,
            routes: self.routes,
            claim: self.claim,
            rivals: self.rivals,
            actions,
            break_glass: self.break_glass,
            hold,
            delivery,
            namespace_terminating: false,
            disrupted_until: None,
            refused: None,
        };
        (seen, self.stamped)
    }
}

/// The spec that counts: that which a release under way has frozen, else the Rollout's own. Neither
/// need be valid.
#[must_use]
pub fn followed(rollout: &Rollout) -> Cow<'_, RolloutSpec> {
    let release = rollout.status.as_ref().filter(|s| in_release(s.phase));
    let frozen = release.and_then(|s| s.release.as_ref()).map(|r| r.plan.clone());
    let frozen = frozen.and_then(|plan| serde_json::from_value::<RolloutSpec>(plan).ok());
    frozen.map_or(Cow::Borrowed(&rollout.spec), Cow::Owned)
}

/// Read everything that belongs to a Rollout.
#[must_use]
pub fn gather(rollout: &Rollout, source: &impl Source) -> Gathered {
    let spec = followed(rollout);
    let routing = Routing::of(&spec.traffic);
    let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
    let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
    let raw_deployment = source.get(Kind::Deployment, &spec.target_ref.name);
    let deployment = raw_deployment.as_ref().map(Deployment::of);
    let owner = deployment.as_ref().map(|d| d.uid.clone()).unwrap_or_default();
    let raw_sets = source.replica_sets([&owner, uid]);
    let sets = raw_sets.iter().filter_map(|set| ReplicaSet::of(set, &owner, uid));
    let replica_sets: Vec<ReplicaSet> = sets.collect();
    let raw_routes: Vec<(Routing, Option<Value>)> = routing
        .each()
        .map(|one| {
            let object = source.get(one.kind.into(), &one.route);
            (one, object)
        })
        .collect();
    let rules = source.all(Kind::DestinationRule);
    let raw_apex = source.get(Kind::Service, &routing.service);
    let own = |side| source.get(Kind::Service, routing.own_service(side)?);
    let (raw_stable, raw_canary) = (own(Side::Stable), own(Side::Canary));
    let service = |raw: &Option<Value>| {
        let raw = raw.as_ref()?;
        let name = raw.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        Some(Service::of(raw, &source.slices(name)))
    };
    let apex = service(&raw_apex);
    let named = |rule: &&Value| {
        routing.rule().is_some_and(|name| rule.pointer("/metadata/name").is_some_and(|n| n == name))
    };
    let raw_rule = rules.iter().find(named);
    let version = |side, raw: &Option<Value>| match routing.destination(side).subset {
        None => service(raw),
        Some(subset) => {
            let selector = deployment.as_ref().map(|d| d.selector.clone()).unwrap_or_default();
            Service::of_subset(raw_rule?, subset, apex.as_ref()?, &replica_sets, &selector)
        }
    };
    let (stable, canary) = (version(Side::Stable, &raw_stable), version(Side::Canary, &raw_canary));
    let objects = Objects {
        apex: raw_apex.as_ref(),
        stable: raw_stable.as_ref(),
        canary: raw_canary.as_ref(),
        deployment: raw_deployment.as_ref(),
        rules: &rules,
    };
    let ours = rollout.status.as_ref().and_then(|s| s.canary.as_ref());
    let is_ours = |set: &&Value| {
        let name = set.pointer("/metadata/name").and_then(Value::as_str);
        name.is_some() && name == ours.map(|canary| canary.replica_set.as_str())
    };
    let mut written: Vec<(Kind, Option<&Value>)> =
        raw_routes.iter().map(|(one, object)| (one.kind.into(), object.as_ref())).collect();
    written.extend([
        (Kind::Service, raw_stable.as_ref()),
        (Kind::Service, raw_canary.as_ref()),
        (Kind::Service, raw_apex.as_ref().filter(|_| routing.apex == Apex::StableOnly)),
        (Kind::DestinationRule, raw_rule),
        (Kind::Deployment, raw_deployment.as_ref()),
        (Kind::ReplicaSet, raw_sets.iter().find(is_ours)),
    ]);
    let things = claim::things(&spec);
    let rivals = source.rivals(&things);
    let us = rollout.metadata.name.as_deref().unwrap_or_default();
    let target = |kind, object: &Value| Target { kind, name: text(object, "/metadata/name") };
    let owner = |(kind, object): &(Kind, Option<&Value>)| {
        let object = (*object)?;
        Some((target(*kind, object), annotation(object, OWNER)?.to_owned()))
    };
    let owners: BTreeMap<Target, String> = written.iter().filter_map(owner).collect();
    let claim = claim::claimed(us, &things, &owners, &rivals);
    let rests = !rollout.status.as_ref().is_some_and(|status| in_release(status.phase));
    let stamped = |(kind, object): (Kind, Option<&Value>)| {
        let object = object?;
        let target = target(kind, object);
        let owner = owners.get(&target).map(String::as_str);
        if (rests && claim.is_some()) || claim::theirs(&rivals, &target, owner).is_some() {
            return None;
        }
        let named = owner == Some(us);
        // A Rollout that goes away takes its name off.
        let goes = rollout.metadata.deletion_timestamp.is_some();
        let ours = !kind.is_route() || named || goes;
        Some(Stamped { target, epoch: epoch_of(object), ours })
    };
    let routes = read_all(&raw_routes, namespace, source);
    let none = || Err(routing.problem(route::missing(routing.kind)));
    let glass = |(_, object): &(Routing, Option<Value>)| BreakGlass::of(object.as_ref()?);
    Gathered {
        split: split::check(&routing, namespace, objects),
        route: Route::together(&routes).unwrap_or_else(none),
        routes,
        break_glass: raw_routes.iter().find_map(glass),
        stamped: written.into_iter().filter_map(stamped).collect(),
        claim,
        rivals,
        deployment,
        replica_sets,
        apex,
        stable,
        canary,
    }
}

/// Each of the routes. Their weights are in force since all of them are as they are now.
fn read_all(
    raw: &[(Routing, Option<Value>)],
    namespace: &str,
    source: &impl Source,
) -> Vec<OneRoute> {
    let mut routes: Vec<OneRoute> = raw
        .iter()
        .map(|(routing, object)| OneRoute {
            routing: routing.clone(),
            found: read(routing, namespace, object.as_ref(), source),
            broken: object.as_ref().is_some_and(|object| annotation(object, BREAK_GLASS).is_some()),
            raw: object.clone().unwrap_or_default(),
            namespace: namespace.to_owned(),
        })
        .collect();
    let pairs = |one: &OneRoute| Some(one.found.as_ref().ok()?.weights.0.clone());
    let weights: Vec<Pair> = routes.iter().filter_map(pairs).flatten().collect();
    let chosen = routes.iter().any(|one| one.found.as_ref().is_ok_and(|route| route.chosen));
    if !weights.is_empty() {
        let since = source.since(&Weights(weights), chosen);
        routes.iter_mut().filter_map(|one| one.found.as_mut().ok()).for_each(|r| r.since = since);
    }
    routes
}

fn read(
    routing: &Routing,
    namespace: &str,
    object: Option<&Value>,
    source: &impl Source,
) -> Result<Route, RouteProblem> {
    let none = || {
        let fault = source.unknown(routing.kind.into());
        routing.problem(fault.unwrap_or_else(|| route::missing(routing.kind)))
    };
    let object = object.ok_or_else(none)?;
    let weights = route::read(object, routing, namespace)?;
    Ok(Route {
        since: Timestamp::MIN,
        weights,
        chosen: route::has_chosen(object, routing),
        timeout: route::timeout_seconds(object, routing),
        fit: route::fit(object, routing, namespace).and_then(|()| {
            route::alone(object, routing, namespace, |kind| source.all(kind.into()))?;
            route::heeded(routing, namespace, |kind| source.overrides(kind))
        }),
        accepted: route::accepted(object, routing, namespace),
        manager: last_manager(object, route::list(routing.kind)),
        owner: annotation(object, OWNER).map(str::to_owned),
        version: text(object, "/metadata/resourceVersion"),
        wrote: Mark::of(object),
    })
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Who changed the route last, beside ourselves: whoever owns the list of what is shifted now (it is
/// owned as a whole), else the latest by time.
fn last_manager(object: &Value, list: &str) -> Option<String> {
    let fields = object.pointer("/metadata/managedFields")?.as_array()?;
    let list = format!("/fieldsV1/f:spec/f:{list}");
    let owns = |f: &Value| f.pointer(&list).is_some();
    let others = fields.iter().filter(|f| text(f, "/manager") != MANAGER);
    let latest = others.max_by_key(|f| (owns(f), text(f, "/time")))?;
    Some(text(latest, "/manager")).filter(|name| !name.is_empty())
}

/// The name under which the controller's fields are managed.
pub const MANAGER: &str = "surefoot";
