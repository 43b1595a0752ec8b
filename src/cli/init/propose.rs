//! From what is there to what is missing: pure.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use surefoot_core::api::rollout::RolloutSpec;
use surefoot_core::route::istio::is_host;
use surefoot_core::route::read;
use surefoot_core::routing::Routing;

use super::found::Found;

/// What the user has decided already.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// The Service that clients call.
    pub service: Option<String>,
    /// The VirtualService.
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

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn names<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    objects.into_iter().map(name).collect::<Vec<_>>().join(", ")
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
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
        None => Shape::new(service),
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
    let rollout = shape.rollout(deployment, namespace, service, route.map_or(service, name));
    checked(&rollout.object, &steps, route, namespace)?;
    steps.push(rollout);
    Ok(steps)
}

/// The controller reads the route just so: if it couldn't, this would be wrong.
fn checked(rollout: &Value, steps: &[Step], route: Option<&Value>, namespace: &str) -> Result<()> {
    let spec: RolloutSpec = serde_json::from_value(rollout["spec"].clone())?;
    let changed = steps.iter().map(|step| &step.object).find(|o| o["kind"] == "VirtualService");
    let route = changed.or(route).context("there is no route")?;
    read(route, &Routing::of(&spec.traffic), namespace)?;
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
        found.routes.iter().any(|route| has_host(route, name(service), namespace))
    };
    let is_half = |service: &&&Value| {
        let mut entries = found.routes.iter().flat_map(|route| list(route, "/spec/http"));
        entries.any(|entry| {
            let to = |d: &Value| goes_to(d, name(service), namespace);
            list(entry, "/route").len() > 1 && list(entry, "/route").iter().any(to)
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

fn goes_to(destination: &Value, service: &str, namespace: &str) -> bool {
    is_host(service, namespace, text(destination, "/destination/host"))
}

fn has_host(route: &Value, service: &str, namespace: &str) -> bool {
    let hosts = list(route, "/spec/hosts");
    hosts.iter().filter_map(Value::as_str).any(|host| is_host(service, namespace, host))
}

/// The VirtualService for the Service; none where there is none yet.
fn route<'a>(
    found: &'a Found,
    wishes: &Wishes,
    service: &str,
    namespace: &str,
) -> Result<Option<&'a Value>> {
    if let Some(wanted) = &wishes.route {
        let chosen = found.routes.iter().find(|route| name(route) == wanted);
        return chosen.map(Some).with_context(|| {
            format!("there is no VirtualService {wanted} (there are: {})", names(&found.routes))
        });
    }
    let called: Vec<&Value> =
        found.routes.iter().filter(|route| has_host(route, service, namespace)).collect();
    ensure!(
        called.len() < 2,
        "several VirtualServices are for host {service}, of which only one can win: make one of them, or say by --route which one (of {})",
        names(called)
    );
    if let [one] = called.as_slice() {
        return Ok(Some(one));
    }
    // One for another name, a gateway's, that goes where the Service does.
    let own = selecting(found);
    let goes = |route: &&Value| {
        let mut destinations = list(route, "/spec/http").iter().flat_map(|e| list(e, "/route"));
        destinations.any(|d| own.iter().any(|own| goes_to(d, name(own), namespace)))
    };
    let all: Vec<&Value> = found.routes.iter().filter(goes).collect();
    match all.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => bail!(
            "several VirtualServices go to Service {service}: say by --route whose weights are to be shifted (of {})",
            names(all)
        ),
    }
}

/// A route's http entries as they are to be, and what they split between.
struct Shape {
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
    fn new(service: &str) -> Self {
        let (stable, canary) = (format!("{service}-stable"), format!("{service}-canary"));
        let entry = json!({"route": pair(&json!({"destination": {"host": service}}), service, &stable, &canary)});
        Self {
            split: Split::Services { stable, canary },
            http: vec![entry],
            named: Vec::new(),
            changes: vec![format!("requests to {service} are split between its two versions")],
            adopt: None,
        }
    }

    fn of(route: &Value, found: &Found, service: &str, namespace: &str) -> Result<Self> {
        let http = list(route, "/spec/http");
        let called = name(route);
        ensure!(
            !http.is_empty(),
            "VirtualService {called} has no http routes: only those can be shifted"
        );
        let mut shape = Self {
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
                    "the http routes of VirtualService {called} split in different ways: make them alike first"
                ),
                _ => split = Some(of),
            }
        }
        let Some(split) = split else {
            bail!("no http route of VirtualService {called} goes to Service {service}: add one");
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
        let destinations = list(entry, "/route");
        let host = |d: &Value| text(d, "/destination/host").to_owned();
        let subset = |d: &Value| text(d, "/destination/subset").to_owned();
        let weight = |d: &Value| d.get("weight").and_then(Value::as_i64).unwrap_or(0);
        let is_apex = |d: &Value| goes_to(d, service, namespace);
        let own = |d: &Value| {
            let mut services = found.services.iter().map(name);
            services.find(|name| is_host(name, namespace, &host(d))).map(str::to_owned)
        };
        match destinations {
            [one] if is_apex(one) => {
                let Split::Services { stable, canary } = &self.split else { return Ok(None) };
                let of = Split::Services { stable: stable.clone(), canary: canary.clone() };
                self.http[i]["route"] = pair(one, service, stable, canary);
                self.changes.push(format!(
                    "{} gets two destinations, all traffic on {stable}",
                    title(entry, i)
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
                "{} of VirtualService {called} goes to {} destinations: leave one, or stable and canary",
                title(entry, i),
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
                self.changes.push(format!("http route {} is called {called}", i + 1));
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
                object["spec"]["http"] = json!(self.http);
                object
            }
            None => json!({
                "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                "metadata": {"name": service, "namespace": namespace},
                "spec": {"hosts": [service], "http": self.http},
            }),
        };
        let verb = if now.is_some() { "Changed" } else { "New" };
        let why = format!("{verb}: {}. All else stays as it is.", self.changes.join("; "));
        Some(Step { now: now.cloned(), ..Step::new(why, object) })
    }

    fn rollout(&self, deployment: &str, namespace: &str, service: &str, route: &str) -> Step {
        let mut reference = json!({"kind": "VirtualService", "name": route});
        if !self.named.is_empty() {
            reference["http"] = json!(self.named);
        }
        let mut traffic = json!({"mesh": "istio", "service": service, "routes": [reference]});
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

fn title(entry: &Value, i: usize) -> String {
    match entry.get("name").and_then(Value::as_str) {
        Some(name) => format!("http route {name}"),
        None => format!("http route {}", i + 1),
    }
}

/// A destination made two, its other fields kept.
fn pair(one: &Value, service: &str, stable: &str, canary: &str) -> Value {
    let host = text(one, "/destination/host").to_owned();
    // In whatever length the host is written.
    let rest = host.strip_prefix(service).unwrap_or_default().to_owned();
    let to = |name: &str, weight: i32| {
        let mut to = one.clone();
        to["destination"]["host"] = json!(format!("{name}{rest}"));
        if let Some(destination) = to["destination"].as_object_mut() {
            destination.remove("subset");
        }
        to["weight"] = json!(weight);
        to
    };
    json!([to(stable, 100), to(canary, 0)])
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
