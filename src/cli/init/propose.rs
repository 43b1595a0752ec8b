//! From what is there to what is missing: pure.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use surefoot_core::api::rollout::{Mesh, RolloutSpec};
use surefoot_core::route::istio::is_host;
use surefoot_core::route::read;
use surefoot_core::routing::Routing;

use super::form::Form;
use super::found::Found;

/// What the user has decided already.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// Whose routes and metrics these are.
    pub mesh: Mesh,
    /// The Service that clients call.
    pub service: Option<String>,
    /// The route, as in "web" or "httproute/web".
    pub route: Option<String>,
    /// Where Prometheus is.
    pub prometheus: String,
}

/// An object to make, or to change.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Why, for a person.
    pub why: String,
    /// The object as it is to be.
    pub object: Value,
    /// As it is now; none where it is to be made.
    pub now: Option<Value>,
    /// Whether its pods must be ready before what comes next refers to it.
    pub awaited: bool,
}

impl Step {
    fn new(why: impl Into<String>, object: Value) -> Self {
        Self { why: why.into(), object, now: None, awaited: false }
    }
}

/// How the route tells the two versions apart.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Split {
    Services { stable: String, canary: String },
    Subsets { rule: String, stable: String, canary: String },
}

pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn names<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    objects.into_iter().map(name).collect::<Vec<_>>().join(", ")
}

pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What it takes, in the order in which it is to be applied.
///
/// # Errors
/// What is in the way, and what to do about it.
pub fn propose(found: &Found, wishes: &Wishes) -> Result<Vec<Step>> {
    let (deployment, namespace) =
        (name(&found.deployment), text(&found.deployment, "/metadata/namespace"));
    let released = |rollout: &&Value| text(rollout, "/spec/targetRef/name") == deployment;
    if let Some(rollout) = found.rollouts.iter().find(released) {
        bail!("Rollout {} releases Deployment {deployment} already", name(rollout));
    }
    let apex = apex(found, wishes)?;
    let service = name(apex);
    ensure!(
        service.len() <= 56,
        "the name of Service {service} is longer than 56 characters: its versions' names would be too long"
    );
    let route = route(found, wishes, service, namespace)?;
    let shape = match route {
        Some(route) => Shape::of(route, found, service, namespace)?,
        None => Shape::new(wishes.mesh, apex)?,
    };
    let mut steps = Vec::new();
    if let Split::Services { stable, canary } = &shape.split {
        steps.extend(services(found, apex, stable, canary));
        steps.extend(equals(found, service, namespace, stable, canary)?);
    }
    let source = found.sources.iter().any(|source| name(source) == "default");
    if !source {
        steps.push(metrics_source(namespace, &wishes.prometheus));
    }
    steps.extend(shape.step(route, service, namespace));
    let called = route.map_or(service, name);
    let rollout = shape.rollout(wishes.mesh, deployment, namespace, service, called);
    checked(&rollout.object, &steps, route, namespace)?;
    steps.push(rollout);
    Ok(steps)
}

/// The controller reads the route just so: if it couldn't, this would be wrong.
fn checked(rollout: &Value, steps: &[Step], route: Option<&Value>, namespace: &str) -> Result<()> {
    let spec: RolloutSpec = serde_json::from_value(rollout["spec"].clone())?;
    let routing = Routing::of(&spec.traffic);
    let kind = routing.target().kind.name();
    let changed = steps.iter().map(|step| &step.object).find(|o| o["kind"] == kind);
    let route = changed.or(route).context("there is no route")?;
    read(route, &routing, namespace)?;
    Ok(())
}

/// Services that select the Deployment's pods.
fn selecting(found: &Found) -> Vec<&Value> {
    let labels = found.deployment.pointer("/spec/template/metadata/labels");
    let selects = |service: &&Value| {
        let selector = service.pointer("/spec/selector").and_then(Value::as_object);
        selector.is_some_and(|selector| {
            let fits =
                |(key, value): (&String, &Value)| labels.and_then(|l| l.get(key)) == Some(value);
            !selector.is_empty() && selector.iter().all(fits)
        })
    };
    found.services.iter().filter(selects).collect()
}

/// The Service that clients call.
fn apex<'a>(found: &'a Found, wishes: &Wishes) -> Result<&'a Value> {
    let all = selecting(found);
    let deployment = name(&found.deployment);
    if let Some(wanted) = &wishes.service {
        let chosen = all.iter().find(|service| name(service) == wanted);
        return chosen.copied().with_context(|| {
            format!(
                "no Service {wanted} selects the pods of Deployment {deployment} (these do: {})",
                names(all)
            )
        });
    }
    // Of several the one that a route is for, or the one that is no version's own.
    let namespace = text(&found.deployment, "/metadata/namespace");
    let is_host = |service: &&&Value| {
        found.routes.iter().any(|route| Form::of(route).is_for(route, name(service), namespace))
    };
    let is_half = |service: &&&Value| {
        found.routes.iter().any(|route| {
            let form = Form::of(route);
            let to = |d: &Value| form.goes_to(d, name(service), namespace);
            let mut all = form.entries(route).iter().map(|entry| destinations(form, entry));
            all.any(|all| all.len() > 1 && all.iter().any(to))
        })
    };
    let hosts: Vec<&Value> = all.iter().filter(is_host).copied().collect();
    let others: Vec<&Value> = all.iter().filter(|service| !is_half(service)).copied().collect();
    match (all.as_slice(), hosts.as_slice(), others.as_slice()) {
        ([], _, _) => bail!(
            "no Service selects the pods of Deployment {deployment}: make the one that clients call first"
        ),
        ([one], _, _) | (_, [one], _) | (_, [], [one]) => Ok(one),
        _ => bail!(
            "several Services select the pods of Deployment {deployment}: say by --service which one clients call (of {})",
            names(all)
        ),
    }
}

fn destinations(form: Form, entry: &Value) -> &[Value] {
    entry.get(form.destinations()).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Routes as people name them: "VirtualService web, HTTPRoute web".
fn titles<'a>(routes: impl IntoIterator<Item = &'a Value>) -> String {
    let title = |route: &Value| format!("{} {}", Form::of(route).name(), name(route));
    routes.into_iter().map(title).collect::<Vec<_>>().join(", ")
}

/// The route for the Service; none where there is none yet.
fn route<'a>(
    found: &'a Found,
    wishes: &Wishes,
    service: &str,
    namespace: &str,
) -> Result<Option<&'a Value>> {
    let routes: Vec<&Value> =
        found.routes.iter().filter(|route| reads(wishes.mesh, route)).collect();
    if let Some(wanted) = &wishes.route {
        let (kind, called) =
            wanted.split_once('/').map_or((None, wanted.as_str()), |(k, n)| (Some(k), n));
        let is_kind = |route: &Value| {
            kind.is_none_or(|kind| kind.eq_ignore_ascii_case(Form::of(route).name()))
        };
        let chosen: Vec<&Value> = routes
            .iter()
            .filter(|route| name(route) == called && is_kind(route))
            .copied()
            .collect();
        return match chosen.as_slice() {
            [one] => Ok(Some(one)),
            [] => bail!("there is no route {wanted} (there are: {})", titles(routes)),
            _ => bail!(
                "several routes are called {called}: say by --route virtualservice/{called} or httproute/{called} which one"
            ),
        };
    }
    let is_for = |route: &&&Value| Form::of(route).is_for(route, service, namespace);
    let called: Vec<&Value> = routes.iter().filter(is_for).copied().collect();
    ensure!(
        called.len() < 2,
        "several routes take the requests to {service}: make one of them, or say by --route whose weights are to be shifted (of {})",
        titles(called)
    );
    if let [one] = called.as_slice() {
        return Ok(Some(one));
    }
    // One for another name, a gateway's, that goes where the Service does.
    let own = selecting(found);
    let goes = |route: &&&Value| {
        let form = Form::of(route);
        let mut all = form.entries(route).iter().flat_map(|entry| destinations(form, entry));
        all.any(|d| own.iter().any(|own| form.goes_to(d, name(own), namespace)))
    };
    let all: Vec<&Value> = routes.iter().filter(goes).copied().collect();
    match all.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => bail!(
            "several routes go to Service {service}: say by --route whose weights are to be shifted (of {})",
            titles(all)
        ),
    }
}

/// Whether a mesh reads such a route.
fn reads(mesh: Mesh, route: &Value) -> bool {
    mesh == Mesh::Istio || Form::of(route) == Form::HTTPRoute
}

/// A route's entries as they are to be, and what they split between.
struct Shape {
    form: Form,
    split: Split,
    http: Vec<Value>,
    /// Names of the entries that are shifted, where there are others.
    named: Vec<String>,
    /// What is changed, in words; empty: nothing.
    changes: Vec<String>,
    /// Why the controller must bring it to 100/0 first.
    adopt: Option<String>,
}

impl Shape {
    /// For a Service that no route is for.
    fn new(mesh: Mesh, apex: &Value) -> Result<Self> {
        let service = name(apex);
        let form = match mesh {
            Mesh::Istio => Form::VirtualService,
            Mesh::Linkerd => Form::HTTPRoute,
        };
        let (stable, canary) = (format!("{service}-stable"), format!("{service}-canary"));
        // A VirtualService keeps the port that was called.
        let ports = list(apex, "/spec/ports");
        ensure!(
            ports.len() == 1 || form == Form::VirtualService,
            "Service {service} has {} ports, and an HTTPRoute goes to one: make the route first, with the port that clients call",
            ports.len()
        );
        let port = ports.first().and_then(|port| port.get("port")).cloned().unwrap_or_default();
        let one = form.destination(service, &port);
        let mut entry = json!({});
        entry[form.destinations()] = form.pair(&one, service, &stable, &canary);
        Ok(Self {
            form,
            split: Split::Services { stable, canary },
            http: vec![entry],
            named: Vec::new(),
            changes: vec![format!("requests to {service} are split between its two versions")],
            adopt: None,
        })
    }

    fn of(route: &Value, found: &Found, service: &str, namespace: &str) -> Result<Self> {
        let form = Form::of(route);
        let (http, called, kind) = (form.entries(route), name(route), form.name());
        let entries = form.entry();
        ensure!(!http.is_empty(), "{kind} {called} has no {entries}s: only those can be shifted");
        let mut shape = Self {
            form,
            split: Split::Services {
                stable: format!("{service}-stable"),
                canary: format!("{service}-canary"),
            },
            http: http.to_vec(),
            named: Vec::new(),
            changes: Vec::new(),
            adopt: None,
        };
        let mut split: Option<Split> = None;
        let mut shifted = Vec::new();
        for (i, entry) in http.iter().enumerate() {
            ensure!(
                entry.get("delegate").is_none(),
                "VirtualService {called} hands requests on to another one: say by --route which one that is"
            );
            let Some(of) = shape.entry(i, entry, found, service, namespace, called)? else {
                continue;
            };
            shifted.push(i);
            match &split {
                Some(before) if *before != of => bail!(
                    "the {entries}s of {kind} {called} split in different ways: make them alike first"
                ),
                _ => split = Some(of),
            }
        }
        let Some(split) = split else {
            bail!("no {entries} of {kind} {called} goes to Service {service}: add one");
        };
        shape.split = split;
        if http.len() > 1 {
            shape.name(&shifted);
        }
        Ok(shape)
    }

    /// What an entry splits between from now on; none where it isn't about the Service.
    fn entry(
        &mut self,
        i: usize,
        entry: &Value,
        found: &Found,
        service: &str,
        namespace: &str,
        called: &str,
    ) -> Result<Option<Split>> {
        let form = self.form;
        let subset = |d: &Value| form.subset(d).to_owned();
        let weight = |d: &Value| form.weight(d);
        let is_apex = |d: &Value| form.goes_to(d, service, namespace);
        let own = |d: &Value| {
            let mut services = found.services.iter().map(name);
            services.find(|name| form.goes_to(d, name, namespace)).map(str::to_owned)
        };
        match destinations(form, entry) {
            [one] if is_apex(one) => {
                let Split::Services { stable, canary } = &self.split else { return Ok(None) };
                let of = Split::Services { stable: stable.clone(), canary: canary.clone() };
                self.http[i][form.destinations()] = form.pair(one, service, stable, canary);
                self.changes.push(format!(
                    "{} gets two destinations, all traffic on {stable}",
                    title(form, entry, i)
                ));
                Ok(Some(of))
            }
            [one, two]
                if is_apex(one)
                    && is_apex(two)
                    && !subset(one).is_empty()
                    && !subset(two).is_empty() =>
            {
                let (stable, canary) =
                    if weight(two) > weight(one) { (two, one) } else { (one, two) };
                let mut rules = found
                    .rules
                    .iter()
                    .filter(|rule| is_host(service, namespace, text(rule, "/spec/host")));
                let rule = rules.next().with_context(|| {
                    format!("VirtualService {called} names subsets of {service}, but no DestinationRule has them: make it first")
                })?;
                self.adopt = Some("the subsets tell versions apart by labels of their own, which the next version won't have".to_owned());
                Ok(Some(Split::Subsets {
                    rule: name(rule).to_owned(),
                    stable: subset(stable),
                    canary: subset(canary),
                }))
            }
            [one, two] => {
                let (Some(first), Some(second)) = (own(one), own(two)) else { return Ok(None) };
                let (stable, canary) =
                    if weight(two) > weight(one) { (second, first) } else { (first, second) };
                let weights = [weight(one).max(weight(two)), weight(one).min(weight(two))];
                if weights != [100, 0] {
                    self.adopt = Some(format!(
                        "the route is at {}/{}, and releases begin at 100/0",
                        weights[0], weights[1]
                    ));
                }
                Ok(Some(Split::Services { stable, canary }))
            }
            some if some.iter().any(is_apex) => bail!(
                "{} of {} {called} goes to {} destinations: leave one, or stable and canary",
                title(form, entry, i),
                form.name(),
                some.len()
            ),
            _ => Ok(None),
        }
    }

    /// Where there are several entries, those that are shifted need names.
    fn name(&mut self, shifted: &[usize]) {
        for i in shifted {
            let entry = &mut self.http[*i];
            let known = entry.get("name").and_then(Value::as_str).map(str::to_owned);
            let called = known.unwrap_or_else(|| {
                let called = format!("shifted-{}", i + 1);
                entry["name"] = json!(called);
                self.changes.push(format!("{} {} is called {called}", self.form.entry(), i + 1));
                called
            });
            self.named.push(called);
        }
    }

    /// The route to be made or changed; none where it is right.
    fn step(&self, now: Option<&Value>, service: &str, namespace: &str) -> Option<Step> {
        if self.changes.is_empty() {
            return None;
        }
        let object = match now {
            Some(now) => {
                let mut object = now.clone();
                object["spec"][self.form.list()] = json!(self.http);
                object
            }
            None => self.form.route(service, namespace, &self.http),
        };
        let verb = if now.is_some() { "Changed" } else { "New" };
        let why = format!("{verb}: {}. All else stays as it is.", self.changes.join("; "));
        Some(Step { now: now.cloned(), ..Step::new(why, object) })
    }

    fn rollout(
        &self,
        mesh: Mesh,
        deployment: &str,
        namespace: &str,
        service: &str,
        route: &str,
    ) -> Step {
        let mut reference = json!({"kind": self.form.name(), "name": route});
        if !self.named.is_empty() {
            reference["http"] = json!(self.named);
        }
        let mut traffic = json!({"mesh": mesh, "service": service, "routes": [reference]});
        match &self.split {
            Split::Services { stable, canary } => {
                let usual = [format!("{service}-stable"), format!("{service}-canary")];
                if [stable, canary] != [&usual[0], &usual[1]] {
                    traffic["split"] = json!({"services": {"stable": stable, "canary": canary}});
                }
            }
            Split::Subsets { rule, stable, canary } => {
                let subsets = json!({"destinationRule": rule, "stable": stable, "canary": canary});
                traffic["split"] = json!({"subsets": subsets});
            }
        }
        if self.adopt.is_some() {
            traffic["adopt"] = json!(true);
        }
        let adopted = self.adopt.as_ref().map(|why| format!(" adopt: {why}.")).unwrap_or_default();
        let why = format!(
            "How new versions of {deployment} are released: 10% of the traffic, then half, then all, each \
             as soon as the success rate and latency show that it is no worse. `kubectl surefoot plan \
             {deployment}` says how long that takes at the present traffic.{adopted}"
        );
        let object = json!({
            "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": deployment, "namespace": namespace},
            "spec": {
                "targetRef": {"kind": "Deployment", "name": deployment},
                "traffic": traffic,
                "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}],
            },
        });
        Step::new(why, object)
    }
}

fn title(form: Form, entry: &Value, i: usize) -> String {
    match entry.get("name").and_then(Value::as_str) {
        Some(name) => format!("{} {name}", form.entry()),
        None => format!("{} {}", form.entry(), i + 1),
    }
}

/// The versions' Services, where they are missing.
fn services<'a>(
    found: &'a Found,
    apex: &'a Value,
    stable: &'a str,
    canary: &'a str,
) -> impl Iterator<Item = Step> + 'a {
    let missing = |wanted: &str| !found.services.iter().any(|service| name(service) == wanted);
    let sides = [(stable, "stable"), (canary, "canary")];
    sides.into_iter().filter(move |(wanted, _)| missing(wanted)).map(move |(wanted, side)| {
        let ports: Vec<Value> = list(apex, "/spec/ports")
            .iter()
            .map(|port| {
                let mut port = port.clone();
                if let Some(port) = port.as_object_mut() {
                    port.remove("nodePort");
                }
                port
            })
            .collect();
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": wanted, "namespace": text(apex, "/metadata/namespace")},
            "spec": {"selector": apex.pointer("/spec/selector"), "ports": ports},
        });
        let why = format!(
            "Reaches the {side} version while a release is under way; at rest it selects what {} does. The \
             route names it: it must be there 15 s before, or requests get 503 until the mesh knows it.",
            name(apex)
        );
        Step { awaited: true, ..Step::new(why, object) }
    })
}

/// A DestinationRule for the Service doesn't count for its versions' Services: equals of it, where they
/// are missing.
fn equals(
    found: &Found,
    service: &str,
    namespace: &str,
    stable: &str,
    canary: &str,
) -> Result<Vec<Step>> {
    let of = |host: &str| -> Vec<&Value> {
        let is = |rule: &&Value| is_host(host, namespace, text(rule, "/spec/host"));
        found.rules.iter().filter(is).collect()
    };
    let rules = of(service);
    let Some(rule) = rules.first() else { return Ok(Vec::new()) };
    ensure!(
        rules.len() == 1,
        "several DestinationRules are for host {service}, and only the first one's policy counts: make one of {}",
        names(rules)
    );
    let mut spec = rule.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    spec.remove("subsets");
    let missing = [stable, canary].into_iter().filter(|host| of(host).is_empty());
    Ok(missing
        .map(|host| {
            let mut spec: Map<String, Value> = spec.clone();
            spec.insert("host".to_owned(), json!(host));
            let object = json!({
                "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
                "metadata": {"name": host, "namespace": namespace},
                "spec": spec,
            });
            let why = format!(
                "The policy of DestinationRule {} is for host {service} alone: the same for {host}, which \
                 requests go to from now on.",
                name(rule)
            );
            Step::new(why, object)
        })
        .collect())
}

fn metrics_source(namespace: &str, url: &str) -> Step {
    let object = json!({
        "apiVersion": "surefoot.dev/v1alpha1", "kind": "MetricsSource",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {"prometheus": {"url": url}},
    });
    Step::new(
        "Where the mesh's metrics are. Look whether the address is right: without metrics no release goes on.",
        object,
    )
}
