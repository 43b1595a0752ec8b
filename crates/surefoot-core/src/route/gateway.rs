//! `gateway.networking.k8s.io/v1` HTTPRoute and GRPCRoute: rules with backendRefs to the two Services.
//!
//! Several meshes read it, each as much of it as it knows, and each says on the route itself whether
//! it does. A weight is raised only on a route that is followed as it stands.

use serde_json::{Value, json};

use super::dialect::Dialect;
use super::problem::Fault;
use super::{items, shifted, text};
use crate::api::rollout::{Mesh, RequestMatch};
use crate::routing::{Destination, Routing};

const GROUP: &str = "gateway.networking.k8s.io";
const RULE: &str = "a rule";

/// What a mesh makes of these routes.
struct Support {
    /// What people call it.
    mesh: &'static str,
    /// The controller whose word on a route counts.
    controller: &'static str,
    /// Whether it leaves out of which generation of the route its word is.
    undated: bool,
    /// Whether it takes requests of a Gateway, beside those of a Service.
    gateways: bool,
    /// Fields of a rule that it reads.
    fields: &'static [&'static str],
    /// What else stands in the way, where one thing that it doesn't know takes the whole route with it.
    strict: Option<Strict>,
    /// Filters of a rule that it follows. (One that redirects sends nothing to either version.)
    filters: &'static [&'static str],
    /// Filters of a backendRef that it follows.
    backend_filters: &'static [&'static str],
}

/// What a mesh knows that leaves out a route with anything else in it.
struct Strict {
    /// Fields of the route's spec.
    spec: &'static [&'static str],
    /// Fields of a backendRef.
    backend: &'static [&'static str],
    /// Filters of the rules that aren't shifted.
    elsewhere: &'static [&'static str],
}

fn support(mesh: Mesh) -> Support {
    match mesh {
        Mesh::Istio => Support {
            mesh: "Istio",
            controller: "istio.io/gateway-controller",
            undated: false,
            gateways: true,
            fields: &["name", "matches", "filters", "backendRefs", "timeouts", "retry"],
            strict: None,
            filters: &[
                "RequestHeaderModifier",
                "ResponseHeaderModifier",
                "RequestMirror",
                "URLRewrite",
                "CORS",
            ],
            backend_filters: &["RequestHeaderModifier", "ResponseHeaderModifier"],
        },
        // It parses routes of Gateway API 1.2.1: what came later makes it see none at all.
        Mesh::Linkerd => Support {
            mesh: "Linkerd",
            controller: "linkerd.io/policy-controller",
            undated: true,
            gateways: false,
            fields: &["name", "matches", "filters", "backendRefs", "timeouts"],
            strict: Some(Strict {
                spec: &["parentRefs", "hostnames", "rules"],
                backend: &["group", "kind", "namespace", "name", "port", "weight", "filters"],
                elsewhere: &["RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect"],
            }),
            filters: &["RequestHeaderModifier", "ResponseHeaderModifier"],
            backend_filters: &["RequestHeaderModifier", "ResponseHeaderModifier"],
        },
    }
}

/// What a reference means, with its defaults filled in.
#[derive(PartialEq, Eq)]
struct Reference<'v> {
    group: &'v str,
    kind: &'v str,
    namespace: &'v str,
    name: &'v str,
    section: Option<&'v str>,
    port: Option<i64>,
}

impl<'v> Reference<'v> {
    fn of(written: &'v Value, group: &'v str, kind: &'v str, namespace: &'v str) -> Self {
        let group = text(written, "group").unwrap_or(group);
        Self {
            group: if group == "core" { "" } else { group },
            kind: text(written, "kind").unwrap_or(kind),
            namespace: text(written, "namespace").unwrap_or(namespace),
            name: text(written, "name").unwrap_or_default(),
            section: text(written, "sectionName"),
            port: written.get("port").and_then(Value::as_i64),
        }
    }

    /// What a route is attached to.
    fn parent(written: &'v Value, namespace: &'v str) -> Self {
        Self::of(written, GROUP, "Gateway", namespace)
    }

    /// Where requests go.
    fn backend(written: &'v Value, namespace: &'v str) -> Self {
        Self::of(written, "", "Service", namespace)
    }

    fn is_service(&self, name: &str, namespace: &str) -> bool {
        (self.group, self.kind) == ("", "Service")
            && (self.namespace, self.name) == (namespace, name)
    }

    fn is_gateway(&self) -> bool {
        (self.group, self.kind) == (GROUP, "Gateway")
    }

    fn shown(&self, namespace: &str) -> String {
        let Self { kind, name, .. } = self;
        if self.namespace == namespace {
            format!("{kind} {name:?}")
        } else {
            format!("{kind} {name:?} of namespace {}", self.namespace)
        }
    }
}

/// As many the definitions take: headers of a condition, conditions of a rule, rules of a route.
const MOST_HEADERS: usize = 16;
const MOST_MATCHES: usize = 64;
const MOST_RULES: usize = 16;

/// The two kinds.
pub(super) struct GatewayRoute {
    /// It is a GRPCRoute.
    pub(super) grpc: bool,
}

impl Dialect for GatewayRoute {
    fn entry(&self) -> &'static str {
        "rule"
    }

    fn list(&self) -> &'static str {
        "rules"
    }

    fn destinations(&self) -> &'static str {
        "backendRefs"
    }

    fn identity(&self) -> &'static [&'static str] {
        &["group", "kind", "namespace", "name", "port"]
    }

    fn unwritten(&self) -> i64 {
        1
    }

    fn empty(&self, _: &Value) -> Fault {
        Fault::Empty { entry: self.entry(), list: self.list() }
    }

    fn entry_fault(&self, _: &Value) -> Result<(), Fault> {
        Ok(())
    }

    fn leads_to(&self, written: &Value, of: Destination<'_>, namespace: &str) -> bool {
        of.subset.is_none()
            && Reference::backend(written, namespace).is_service(of.service, namespace)
    }

    fn shown(&self, written: &Value) -> String {
        match (text(written, "kind"), text(written, "namespace"), text(written, "name")) {
            (_, _, None) => "a backendRef without name".to_owned(),
            (None | Some("Service"), None, Some(name)) => name.to_owned(),
            (None | Some("Service"), Some(namespace), Some(name)) => format!("{name}.{namespace}"),
            (Some(kind), _, Some(name)) => format!("{kind} {name}"),
        }
    }

    fn matches(&self) -> &'static str {
        "matches"
    }

    /// Definitions before v1.4 of the Gateway API drop them.
    fn keeps_names(&self) -> bool {
        false
    }

    fn narrowed(&self, own: &Value, chosen: &RequestMatch) -> Result<Value, Fault> {
        let mut narrowed = own.as_object().cloned().unwrap_or_default();
        let mut headers = items(own, "headers").to_vec();
        for (name, wanted) in &chosen.headers {
            let same = |h: &Value| text(h, "name").is_some_and(|n| n.eq_ignore_ascii_case(name));
            if headers.iter().any(same) {
                return Err(Fault::HeaderTwice { entry: self.entry(), header: name.clone() });
            }
            let (kind, value) = match (&wanted.exact, &wanted.regex) {
                (Some(exact), _) => ("Exact", exact.as_str()),
                (None, regex) => ("RegularExpression", regex.as_deref().unwrap_or_default()),
            };
            headers.push(json!({"type": kind, "name": name, "value": value}));
        }
        if headers.len() > MOST_HEADERS {
            let (entry, count, most) = (self.entry(), headers.len(), MOST_HEADERS);
            let what = "headers in a condition";
            return Err(Fault::TooMany { entry, what, count, most });
        }
        narrowed.insert("headers".to_owned(), Value::Array(headers));
        Ok(Value::Object(narrowed))
    }

    fn any(&self) -> Value {
        if self.grpc { json!({}) } else { json!({"path": {"type": "PathPrefix", "value": "/"}}) }
    }

    fn asks(&self, condition: &Value, chosen: &RequestMatch) -> bool {
        chosen.headers.iter().all(|(name, wanted)| {
            let same = |h: &&Value| text(h, "name").is_some_and(|n| n.eq_ignore_ascii_case(name));
            let Some(asked) = items(condition, "headers").iter().find(same) else { return false };
            text(asked, "value") == wanted.exact.as_deref().or(wanted.regex.as_deref())
                && (text(asked, "type") == Some("RegularExpression")) == wanted.exact.is_none()
        })
    }

    /// A filter that replaces the prefix that was met goes by one.
    fn most_matches(&self, entry: &Value) -> usize {
        let refs = items(entry, "backendRefs").iter().flat_map(|to| items(to, "filters"));
        let mut filters = items(entry, "filters").iter().chain(refs);
        let replaces = |filter: &Value| {
            let kind = filter.pointer("/urlRewrite/path/type").and_then(Value::as_str);
            kind == Some("ReplacePrefixMatch")
        };
        if filters.any(replaces) { 1 } else { MOST_MATCHES }
    }

    fn most_entries(&self) -> usize {
        MOST_RULES
    }

    /// After paths and methods the rule with most headers takes a request, then the one with most query
    /// parameters, in whatever order they are written.
    fn rivals(&self, entry: &Value) -> bool {
        let fields = ["headers", "queryParams"];
        let mut conditions = items(entry, "matches").iter();
        conditions.any(|one| fields.iter().any(|field| !items(one, field).is_empty()))
    }

    fn timeout<'v>(&self, entry: &'v Value) -> Option<&'v str> {
        text(entry.get("timeouts")?, "request")
    }

    fn fit(&self, route: &Value, routing: &Routing, namespace: &str) -> Result<(), Fault> {
        let support = support(routing.mesh);
        let spec = route.get("spec").unwrap_or(&Value::Null);
        attached(spec, routing, namespace, &support)?;
        if let Some(strict) = &support.strict {
            strictly(spec, strict, &support)?;
        }
        for rule in shifted(route, routing) {
            reads(rule, support.fields, RULE, &support)?;
            follows(rule, support.filters, &support)?;
            for backend in items(rule, "backendRefs") {
                follows(backend, support.backend_filters, &support)?;
                if backend.get("port").and_then(Value::as_i64).is_none() {
                    let service = text(backend, "name").unwrap_or_default().to_owned();
                    return Err(Fault::NoPort { service });
                }
            }
        }
        Ok(())
    }

    fn takes_mesh(&self, route: &Value, service: &str, namespace: &str) -> bool {
        let parents = route.get("spec").map_or(&[][..], |spec| items(spec, "parentRefs"));
        let mut parents = parents.iter().map(|p| Reference::parent(p, namespace));
        parents.any(|parent| parent.is_service(service, namespace))
    }

    fn accepted(&self, route: &Value, routing: &Routing, namespace: &str) -> Result<(), String> {
        let support = support(routing.mesh);
        let controller = support.controller;
        let spec = route.get("spec").unwrap_or(&Value::Null);
        let generation = route.pointer("/metadata/generation").and_then(Value::as_i64);
        let parents = items(spec, "parentRefs").iter().map(|p| Reference::parent(p, namespace));
        let said = route.get("status").map_or(&[][..], |status| items(status, "parents"));
        for parent in parents {
            let shown = parent.shown(namespace);
            let is = |said: &&Value| {
                said.get("parentRef").is_some_and(|p| Reference::parent(p, namespace) == parent)
            };
            let by = |said: &Value| text(said, "controllerName").unwrap_or_default().to_owned();
            let Some(ours) = said.iter().filter(is).find(|said| by(said) == controller) else {
                let others: Vec<String> = said.iter().filter(is).map(by).collect();
                return Err(match others.as_slice() {
                    [] => format!("{controller} has said nothing of the route to {shown} yet"),
                    some => format!(
                        "{controller} has said nothing of the route to {shown}, only {} has",
                        some.join(", ")
                    ),
                });
            };
            for kind in ["Accepted", "ResolvedRefs"] {
                let mut conditions = items(ours, "conditions").iter();
                let condition = conditions.find(|c| text(c, "type") == Some(kind));
                let seen = condition.and_then(|c| c.get("observedGeneration")?.as_i64());
                let current = seen >= generation || (seen.is_none() && support.undated);
                let Some(condition) = condition.filter(|_| current) else {
                    return Err(format!(
                        "{controller} hasn't looked yet at the route to {shown} as it is now ({kind})"
                    ));
                };
                if text(condition, "status") != Some("True") {
                    return Err(format!(
                        "{controller} doesn't follow the route to {shown}: {kind} is {}, {}: {}",
                        text(condition, "status").unwrap_or("unknown"),
                        text(condition, "reason").unwrap_or("no reason"),
                        text(condition, "message").unwrap_or_default()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// It takes the requests of the Service that clients call, or those of Gateways, or both; of Gateways
/// only where the mesh has any.
fn attached(
    spec: &Value,
    routing: &Routing,
    namespace: &str,
    support: &Support,
) -> Result<(), Fault> {
    let service = &routing.service;
    let fault = |found| {
        let other = if support.gateways { " or of a Gateway" } else { "" };
        Fault::Parent { found, service: service.clone(), other }
    };
    let parents = items(spec, "parentRefs");
    if parents.is_empty() {
        return Err(fault("nothing".to_owned()));
    }
    for parent in parents.iter().map(|p| Reference::parent(p, namespace)) {
        let taken = support.gateways && parent.is_gateway();
        if !taken && !parent.is_service(service, namespace) {
            return Err(fault(parent.shown(namespace)));
        }
    }
    Ok(())
}

/// That nothing anywhere in the route makes the mesh leave it out.
fn strictly(spec: &Value, strict: &Strict, support: &Support) -> Result<(), Fault> {
    reads(spec, strict.spec, "its spec", support)?;
    for rule in items(spec, "rules") {
        reads(rule, support.fields, RULE, support)?;
        follows(rule, strict.elsewhere, support)?;
        for backend in items(rule, "backendRefs") {
            reads(backend, strict.backend, "a backendRef", support)?;
        }
    }
    Ok(())
}

fn reads(
    owner: &Value,
    known: &[&str],
    within: &'static str,
    support: &Support,
) -> Result<(), Fault> {
    let mut fields = owner.as_object().into_iter().flat_map(serde_json::Map::keys);
    match fields.find(|field| !known.contains(&field.as_str())) {
        Some(field) => Err(Fault::Field { field: field.clone(), within, mesh: support.mesh }),
        None => Ok(()),
    }
}

fn follows(owner: &Value, filters: &[&str], support: &Support) -> Result<(), Fault> {
    for filter in items(owner, "filters") {
        let kind = text(filter, "type").unwrap_or("without type");
        if !filters.contains(&kind) {
            return Err(Fault::Filter { filter: kind.to_owned(), mesh: support.mesh });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mark::{Mark, WROTE};
    use crate::route::{BREAK_GLASS, EPOCH, OWNER, Signature};
    use crate::route::{accepted, break_glass, edit, fit, read, timeout_seconds, without_weights};
    use crate::write::{Author, Refusal, Write};

    const ISTIO: &str = "istio.io/gateway-controller";
    const MARK: Signature<'_> =
        Signature { rollout: "shop", epoch: 3, wrote: Mark { release: 1, weight: 10 } };

    fn routing(rules: &[&str]) -> Routing {
        let traffic = json!({
            "mesh": "istio", "service": "shop",
            "routes": [{"kind": "HTTPRoute", "name": "web", "http": rules}],
        });
        Routing::of(&serde_json::from_value(traffic).unwrap())
    }

    fn condition(kind: &str, status: &str) -> Value {
        json!({
            "type": kind, "status": status, "reason": "Because", "message": "it is so",
            "observedGeneration": 4,
        })
    }

    /// A route of the Service, in the order that people rarely write, that istiod has accepted.
    fn route() -> Value {
        json!({
            "metadata": {"name": "web", "resourceVersion": "7", "generation": 4},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "shop", "port": 80}],
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "timeouts": {"request": "1m30s"},
                    "backendRefs": [
                        {"name": "shop-canary", "port": 80, "weight": 0, "fieldOfTheFuture": [1]},
                        {"group": "", "kind": "Service", "name": "shop-stable", "port": 80, "weight": 100},
                    ],
                }],
            },
            "status": {"parents": [{
                "parentRef": {"group": "core", "kind": "Service", "name": "shop", "namespace": "prod", "port": 80},
                "controllerName": ISTIO,
                "conditions": [condition("Accepted", "True"), condition("ResolvedRefs", "True")],
            }]},
        })
    }

    /// `route()` with one thing changed.
    fn with(pointer: &str, value: Value) -> Value {
        let mut route = route();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match route.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            other => other[key] = value,
        }
        route
    }

    fn apply(mut route: Value, patch: &json_patch::Patch) -> Value {
        json_patch::patch(&mut route, patch).unwrap();
        route
    }

    #[test]
    fn only_two_weights_and_our_annotations_change() {
        let routing = routing(&[]);
        let patch = edit(&route(), &routing, "prod", 10, &[], MARK).unwrap().unwrap();
        let lock = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"});
        assert_eq!(json!(patch)[0], lock, "of no other version");
        let edited = apply(route(), &patch);
        let mut expected = route();
        expected["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(10);
        expected["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(90);
        expected["metadata"]["annotations"] = json!({EPOCH: "3", OWNER: "shop", WROTE: "1/10"});
        assert_eq!(edited, expected);
        assert_eq!(read(&edited, &routing, "prod").unwrap().canary_percent(), Some(10));
        assert_eq!(edit(&edited, &routing, "prod", 10, &[], MARK).unwrap(), None);
        let bare = |route| without_weights(route, &routing)["spec"].clone();
        assert_eq!(bare(&edited), bare(&route()));
        assert_eq!(timeout_seconds(&edited, &routing), Some(90.0));
    }

    #[test]
    fn a_route_rewritten_meanwhile_fails_the_test_operation() {
        let patch = edit(&route(), &routing(&[]), "prod", 10, &[], MARK).unwrap().unwrap();
        let backend = "/spec/rules/0/backendRefs/1";
        for (field, value) in [
            ("name", json!("elsewhere")),
            ("port", json!(81)),
            ("kind", json!("ServiceImport")),
            ("group", json!("multicluster.x-k8s.io")),
        ] {
            let mut other = with(&format!("{backend}/{field}"), value);
            assert!(json_patch::patch(&mut other, &patch).is_err(), "{field}");
        }
        let mut swapped = route();
        swapped["spec"]["rules"][0]["backendRefs"].as_array_mut().unwrap().reverse();
        assert!(json_patch::patch(&mut swapped, &patch).is_err());
    }

    #[test]
    fn breaking_the_glass_needs_no_mesh_that_follows() {
        let routing = routing(&[]);
        let mut broken = with("/spec/rules/0/filters", json!([{"type": "ExtensionRef"}]));
        broken["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(50);
        broken["status"] = Value::Null;
        assert!(fit(&broken, &routing, "prod").is_err());
        let broken =
            apply(broken.clone(), &break_glass(&broken, &routing, "prod", 1, "jo").unwrap());
        assert_eq!(read(&broken, &routing, "prod").unwrap().words(), "100/0");
        let annotations = json!({WROTE: "1/0", BREAK_GLASS: "jo"});
        assert_eq!(broken["metadata"]["annotations"], annotations);
    }

    #[test]
    fn a_weight_rises_only_on_a_route_that_the_mesh_follows() {
        let author = Author {
            rollout: "shop",
            uid: "u",
            namespace: "prod",
            deployment: "shop",
            epoch: 3,
            rivals: &[],
            allowed: Mark { release: 1, weight: 50 },
        };
        let set = |route: &Value, percent| {
            let write = Write::SetWeight { routing: routing(&[]), percent, chosen: Vec::new() };
            write.request(Some(route), None, author).map(|request| request.is_some())
        };
        let mut route = route();
        route["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(20);
        route["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(80);
        assert_eq!(set(&route, 50), Ok(true));
        route["spec"]["rules"][0]["filters"] = json!([{"type": "ExtensionRef"}]);
        assert!(matches!(set(&route, 50), Err(Refusal::Route(_))));
        assert_eq!([set(&route, 10), set(&route, 0)], [Ok(true), Ok(true)]);
    }

    #[test]
    fn a_weight_that_is_not_written_is_1() {
        let mut route = route();
        for backend in route["spec"]["rules"][0]["backendRefs"].as_array_mut().unwrap() {
            backend.as_object_mut().unwrap().remove("weight");
        }
        let weights = read(&route, &routing(&[]), "prod").unwrap();
        assert_eq!((weights.words(), weights.highest()), ("1/1".to_owned(), 50));
        // As is, all of them 0 would be read: nobody answers then.
        for at in ["0", "1"] {
            route["spec"]["rules"][0]["backendRefs"][at.parse::<usize>().unwrap()]["weight"] =
                json!(0);
        }
        let weights = read(&route, &routing(&[]), "prod").unwrap();
        assert_eq!((weights.words(), weights.canary_percent()), ("0/0".to_owned(), None));
    }

    #[test]
    fn routes_that_are_not_ours_are_refused_by_name() {
        let said = |route: &Value, rules: &[&str]| {
            read(route, &routing(rules), "prod").unwrap_err().to_string()
        };
        let to = |backend: Value| with("/spec/rules/0/backendRefs/0", backend);
        let found = |backend| said(&to(backend), &[]);
        assert_eq!(
            found(json!({"name": "shop-canary", "namespace": "test", "port": 80})),
            "HTTPRoute \"web\" must route to exactly shop-stable and shop-canary, but routes to: \
             shop-canary.test, shop-stable"
        );
        let import = json!({"kind": "ServiceImport", "name": "shop-canary", "port": 80});
        assert!(found(import).contains("ServiceImport shop-canary"));
        assert!(
            said(&with("/spec/rules", json!([])), &[]).contains("no rule (spec.rules is empty)")
        );
        let mut two = route();
        let mut second = two["spec"]["rules"][0].clone();
        second["name"] = json!("second");
        two["spec"]["rules"].as_array_mut().unwrap().push(second);
        assert!(said(&two, &[]).contains("(it has: one without name, second)"));
        assert!(said(&two, &["first"]).contains("no rule named \"first\""));
        assert_eq!(read(&two, &routing(&["second"]), "prod").unwrap().words(), "100/0");
        let mut three = route();
        let extra = json!({"name": "other", "port": 80});
        three["spec"]["rules"][0]["backendRefs"].as_array_mut().unwrap().push(extra);
        assert!(said(&three, &[]).contains("shop-canary, shop-stable, other"));
    }

    #[test]
    fn what_the_mesh_does_not_follow_is_named() {
        let said = |route: &Value| fit(route, &routing(&[]), "prod").map_err(|p| p.to_string());
        assert_eq!(said(&route()), Ok(()));
        let rule = "/spec/rules/0";
        let filters =
            |at: &str, kind: &str| with(&format!("{rule}{at}/filters"), json!([{"type": kind}]));
        for follows in ["RequestMirror", "URLRewrite", "RequestHeaderModifier"] {
            assert_eq!(said(&filters("", follows)), Ok(()));
        }
        for (route, words) in [
            (filters("", "ExtensionRef"), "the filter ExtensionRef, with which Istio"),
            (filters("", "RequestRedirect"), "the filter RequestRedirect"),
            (filters("/backendRefs/1", "URLRewrite"), "the filter URLRewrite"),
            (
                with(&format!("{rule}/sessionPersistence"), json!({})),
                "the field sessionPersistence",
            ),
            (
                with(&format!("{rule}/backendRefs/0/port"), Value::Null),
                "\"shop-canary\" without a port",
            ),
            (with("/spec/parentRefs", json!([])), "takes its requests from nothing"),
            (with("/spec/parentRefs/0/name", json!("other")), "from Service \"other\""),
            (with("/spec/parentRefs/0/namespace", json!("test")), "of namespace test"),
            (with("/spec/parentRefs/0/kind", json!("Namespace")), "from Namespace \"shop\""),
        ] {
            let refused = said(&route).unwrap_err();
            assert!(
                refused.starts_with("HTTPRoute \"web\" ") && refused.contains(words),
                "{refused}"
            );
        }
        let gateway = json!({"name": "public", "namespace": "edge"});
        assert_eq!(said(&with("/spec/parentRefs/0", gateway)), Ok(()));
    }

    #[test]
    fn the_mesh_must_have_accepted_the_route_as_it_is_now() {
        let said = |route: &Value| accepted(route, &routing(&[]), "prod");
        assert_eq!(said(&route()), Ok(()));
        let parent = "/status/parents/0";
        let refs = format!("{parent}/conditions/1");
        for (route, words) in [
            (
                with("/status", Value::Null),
                "istio.io/gateway-controller has said nothing of the route to Service \"shop\" yet",
            ),
            (
                with(&format!("{parent}/controllerName"), json!("example.com/c")),
                "only example.com/c has",
            ),
            (with(&format!("{parent}/parentRef/name"), json!("other")), "said nothing"),
            (with(&format!("{parent}/parentRef/port"), json!(81)), "said nothing"),
            (with(&format!("{parent}/conditions/0"), json!({})), "hasn't looked yet"),
            (with(&format!("{refs}/observedGeneration"), json!(3)), "as it is now (ResolvedRefs)"),
            (with("/metadata/generation", json!(5)), "hasn't looked yet"),
            (
                with(&refs, condition("ResolvedRefs", "False")),
                "ResolvedRefs is False, Because: it is so",
            ),
            (
                with(&format!("{parent}/conditions/0"), condition("Accepted", "Unknown")),
                "Accepted is Unknown",
            ),
        ] {
            let refused = said(&route).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
        // Each of its parents counts.
        let mut both = route();
        both["spec"]["parentRefs"].as_array_mut().unwrap().push(json!({"name": "public"}));
        assert!(said(&both).unwrap_err().contains("Gateway \"public\""));
    }

    /// `route()` as Linkerd reads it, with one thing changed; its controller never says of which
    /// generation its word is.
    fn on_linkerd(pointer: &str, value: Value) -> (Value, Routing) {
        let mut route = with(pointer, value);
        if pointer != "/spec/rules/0/backendRefs/0" {
            let canary = json!({"name": "shop-canary", "port": 80, "weight": 0});
            route["spec"]["rules"][0]["backendRefs"][0] = canary;
        }
        let said = &mut route["status"]["parents"][0];
        said["controllerName"] = json!("linkerd.io/policy-controller");
        for condition in said["conditions"].as_array_mut().unwrap() {
            condition.as_object_mut().unwrap().remove("observedGeneration");
        }
        (route, Routing { mesh: Mesh::Linkerd, ..routing(&[]) })
    }

    #[test]
    fn linkerd_leaves_out_a_route_for_one_thing_that_it_does_not_know() {
        let said = |pointer: &str, value: Value| {
            let (route, routing) = on_linkerd(pointer, value);
            fit(&route, &routing, "prod").map_err(|p| p.to_string())
        };
        assert_eq!(said("/metadata/labels", json!({})), Ok(()));
        let filters = |kind: &str| ("/spec/rules/0/filters", json!([{"type": kind}]));
        let (at, redirects) = filters("RequestRedirect");
        assert!(said(at, redirects.clone()).is_err());
        let elsewhere = |filters: Value| {
            let (mut route, mut routing) = on_linkerd("/spec/rules/0/name", json!("main"));
            let other = json!({"filters": filters, "backendRefs": [{"name": "x", "port": 1}]});
            route["spec"]["rules"].as_array_mut().unwrap().push(other);
            routing.http = vec!["main".to_owned()];
            fit(&route, &routing, "prod").map_err(|p| p.to_string())
        };
        assert_eq!(elsewhere(redirects), Ok(()));
        let mirror = elsewhere(json!([{"type": "RequestMirror"}])).unwrap_err();
        assert!(mirror.contains("the filter RequestMirror, with which Linkerd"), "{mirror}");
        for kind in ["RequestMirror", "URLRewrite", "ExtensionRef", "CORS"] {
            let (at, filters) = filters(kind);
            let refused = said(at, filters).unwrap_err();
            assert!(refused.contains(&format!("{kind}, with which Linkerd")), "{refused}");
        }
        for (at, value, words) in [
            ("/spec/rules/0/retry", json!({}), "the field retry in a rule, which Linkerd"),
            ("/spec/useDefaultGateways", json!("All"), "useDefaultGateways in its spec"),
            (
                "/spec/rules/0/backendRefs/0",
                json!({"name": "shop-canary", "port": 80, "weight": 0, "new": 1}),
                "new in a backendRef",
            ),
            (
                "/spec/parentRefs/0",
                json!({"name": "public"}),
                "from Gateway \"public\" (spec.parentRefs): let it take those of Service \"shop\"",
            ),
        ] {
            let refused = said(at, value).unwrap_err();
            assert!(refused.contains(words) && !refused.contains("or of a Gateway"), "{refused}");
        }
    }

    #[test]
    fn linkerds_word_on_a_route_is_without_a_generation() {
        let said = |pointer: &str, value: Value| {
            let (route, routing) = on_linkerd(pointer, value);
            accepted(&route, &routing, "prod")
        };
        assert_eq!(said("/metadata/labels", json!({})), Ok(()));
        let refs = "/status/parents/0/conditions/1";
        let refused = said(refs, condition("ResolvedRefs", "False")).unwrap_err();
        assert!(refused.contains("linkerd.io/policy-controller doesn't follow"), "{refused}");
        // Istio's word is only as good as its date.
        let (mut route, _) = on_linkerd("/metadata/labels", json!({}));
        route["status"]["parents"][0]["controllerName"] = json!(ISTIO);
        assert!(accepted(&route, &routing(&[]), "prod").is_err());
        // And should Linkerd ever date its own, an old one doesn't count.
        let (mut route, routing) = on_linkerd("/metadata/labels", json!({}));
        route["status"]["parents"][0]["conditions"][0]["observedGeneration"] = json!(3);
        assert!(accepted(&route, &routing, "prod").is_err());
    }
}
