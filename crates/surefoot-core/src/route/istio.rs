//! `networking.istio.io/v1` VirtualService: http routes to the two destinations.

use serde_json::{Value, json};

use super::dialect::Dialect;
use super::problem::Fault;
use crate::api::rollout::RequestMatch;
use crate::routing::{Destination, Routing};

/// Whether `written` names the Service: short, with namespace, or fully qualified.
#[must_use]
pub fn is_host(service: &str, namespace: &str, written: &str) -> bool {
    let Some(rest) = written.strip_prefix(service) else { return false };
    let Some(rest) = rest.strip_prefix('.') else { return rest.is_empty() };
    let Some(rest) = rest.strip_prefix(namespace) else { return false };
    rest.is_empty() || rest == ".svc" || rest.starts_with(".svc.")
}

fn field<'v>(written: &'v Value, name: &str) -> Option<&'v str> {
    written.get("destination")?.get(name)?.as_str()
}

/// More conditions of one entry than this are not ours to write.
const MOST: usize = 64;

/// The kind.
pub(super) struct VirtualService;

impl Dialect for VirtualService {
    fn entry(&self) -> &'static str {
        "http route"
    }

    fn list(&self) -> &'static str {
        "http"
    }

    fn destinations(&self) -> &'static str {
        "route"
    }

    fn identity(&self) -> &'static [&'static str] {
        &["destination"]
    }

    fn unwritten(&self) -> i64 {
        0
    }

    fn empty(&self, route: &Value) -> Fault {
        let has = |kind: &&str| {
            let list = route.get("spec").and_then(|spec| spec.get(*kind)?.as_array());
            list.is_some_and(|list| !list.is_empty())
        };
        match ["tcp", "tls"].into_iter().find(has) {
            Some(kind) => Fault::OtherProtocol { kind },
            None => Fault::Empty { entry: self.entry(), list: self.list() },
        }
    }

    fn entry_fault(&self, entry: &Value) -> Result<(), Fault> {
        if entry.get("delegate").is_some() { Err(Fault::Delegates) } else { Ok(()) }
    }

    /// A subset included: it narrows a host to some of its pods.
    fn leads_to(&self, written: &Value, of: Destination<'_>, namespace: &str) -> bool {
        field(written, "host").is_some_and(|host| is_host(of.service, namespace, host))
            && field(written, "subset") == of.subset
    }

    fn shown(&self, written: &Value) -> String {
        match (field(written, "host"), field(written, "subset")) {
            (Some(host), Some(subset)) => format!("{host} subset {subset}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => "a destination without host".to_owned(),
        }
    }

    fn matches(&self) -> &'static str {
        "match"
    }

    fn keeps_names(&self) -> bool {
        true
    }

    fn narrowed(&self, own: &Value, chosen: &RequestMatch) -> Result<Value, Fault> {
        let mut narrowed = own.as_object().cloned().unwrap_or_default();
        // Two of one name would be one in logs.
        narrowed.remove("name");
        let mut headers = match narrowed.remove("headers") {
            Some(Value::Object(headers)) => headers,
            _ => serde_json::Map::new(),
        };
        for (name, text) in &chosen.headers {
            let without = own.get("withoutHeaders").and_then(Value::as_object);
            let mut taken = headers.keys().chain(without.into_iter().flat_map(|all| all.keys()));
            if taken.any(|own| own.eq_ignore_ascii_case(name)) {
                return Err(Fault::HeaderTwice { entry: self.entry(), header: name.clone() });
            }
            // Written as the mesh writes it.
            headers.insert(name.clone(), json!(text));
        }
        narrowed.insert("headers".to_owned(), Value::Object(headers));
        Ok(Value::Object(narrowed))
    }

    fn any(&self) -> Value {
        json!({})
    }

    fn asks(&self, condition: &Value, chosen: &RequestMatch) -> bool {
        let asks =
            |(name, text)| condition.get("headers")?.get(name).map(|asked| *asked == json!(text));
        chosen.headers.iter().all(|header| asks(header) == Some(true))
    }

    fn most_matches(&self, _: &Value) -> usize {
        MOST
    }

    fn most_entries(&self) -> usize {
        usize::MAX
    }

    /// The first entry that a request meets takes it.
    fn rivals(&self, _: &Value) -> bool {
        false
    }

    fn timeout<'v>(&self, entry: &'v Value) -> Option<&'v str> {
        entry.get("timeout")?.as_str()
    }

    /// What Istio doesn't follow its own webhook refuses.
    fn fit(&self, _: &Value, _: &Routing, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    fn takes_mesh(&self, route: &Value, service: &str, namespace: &str) -> bool {
        let texts = |field: &str| {
            let list = route.get("spec").and_then(|spec| spec.get(field)?.as_array());
            list.into_iter().flatten().filter_map(Value::as_str)
        };
        let mut gateways = texts("gateways").peekable();
        let within = gateways.peek().is_none() || gateways.any(|gateway| gateway == "mesh");
        within && texts("hosts").any(|host| is_host(service, namespace, host))
    }

    /// istiod says nothing of it: only the metrics show that a weight is in force.
    fn accepted(&self, _: &Value, _: &Routing, _: &str) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::rollout::{Apex, Mesh, RouteKind};
    use crate::mark::{Mark, WROTE};
    use crate::route::{BREAK_GLASS, EPOCH, OWNER, Pair, Signature};
    use crate::route::{break_glass, edit, read, timeout_seconds};
    use crate::routing::Split;

    fn route() -> Value {
        json!({
            "metadata": {"name": "shop", "resourceVersion": "7"},
            "spec": {"hosts": ["shop.test"], "http": [{
                "name": "primary", "timeout": "2s", "fieldOfTheFuture": {"a": [1, 2]},
                "route": [
                    {"destination": {"host": "shop-canary"}},
                    {"destination": {"host": "shop-stable.prod.svc.cluster.local"}, "weight": 100, "headers": {}},
                ]
            }]}
        })
    }

    /// Three entries: two of ours, one of somebody else's between them.
    fn several() -> Value {
        let mut several = route();
        let mut second = several["spec"]["http"][0].clone();
        second["name"] = json!("secondary");
        second["timeout"] = json!("5s");
        let other = json!({"name": "static", "route": [{"destination": {"host": "files"}}]});
        several["spec"]["http"].as_array_mut().unwrap().extend([other, second]);
        several
    }

    fn routing(http: &[&str]) -> Routing {
        Routing {
            mesh: Mesh::Istio,
            service: "shop".into(),
            apex: Apex::Both,
            split: Split::Services { stable: "shop-stable".into(), canary: "shop-canary".into() },
            kind: RouteKind::VirtualService,
            route: "shop".into(),
            http: http.iter().map(|&name| name.into()).collect(),
            more: Vec::new(),
        }
    }

    fn by_subset() -> Routing {
        let (rule, stable, canary) = ("shop".into(), "stable".into(), "canary".into());
        Routing { split: Split::Subsets { rule, stable, canary }, ..routing(&[]) }
    }

    const MARK: Signature<'_> =
        Signature { rollout: "shop", epoch: 3, wrote: Mark { release: 1, weight: 10 } };

    #[test]
    fn only_two_weights_and_our_annotations_change() {
        let (routing, mut edited) = (routing(&[]), route());
        let patch = edit(&edited, &routing, "prod", 10, &[], MARK).unwrap().unwrap();
        let lock = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"});
        assert_eq!(json!(patch)[0], lock, "of no other version");
        json_patch::patch(&mut edited, &patch).unwrap();
        assert_eq!(read(&edited, &routing, "prod").unwrap().canary_percent(), Some(10));
        let mut expected = route();
        expected["spec"]["http"][0]["route"][0]["weight"] = json!(10);
        expected["spec"]["http"][0]["route"][1]["weight"] = json!(90);
        expected["metadata"]["annotations"] = json!({EPOCH: "3", OWNER: "shop", WROTE: "1/10"});
        assert_eq!(edited, expected);
        assert_eq!(edit(&edited, &routing, "prod", 10, &[], MARK).unwrap(), None);
    }

    #[test]
    fn breaking_the_glass_writes_the_weights_and_a_mark() {
        let mut route = route();
        let routing = routing(&[]);
        let patch = edit(&route, &routing, "prod", 50, &[], MARK).unwrap().unwrap();
        json_patch::patch(&mut route, &patch).unwrap();
        let patch = break_glass(&route, &routing, "prod", 1, "jo").unwrap();
        let text = serde_json::to_string(&patch).unwrap();
        assert!(text.contains("resourceVersion") && text.contains("\"test\""), "{text}");
        json_patch::patch(&mut route, &patch).unwrap();
        assert_eq!(read(&route, &routing, "prod").unwrap().canary_percent(), Some(0));
        let annotations = json!({EPOCH: "3", OWNER: "shop", WROTE: "1/0", BREAK_GLASS: "jo"});
        assert_eq!(route["metadata"]["annotations"], annotations);
        route["spec"]["http"][0]["route"].as_array_mut().unwrap().swap(0, 1);
        assert!(json_patch::patch(&mut route, &patch).is_err(), "rewritten meanwhile");
    }

    #[test]
    fn a_route_rewritten_meanwhile_fails_the_test_operation() {
        let patch = edit(&route(), &routing(&[]), "prod", 10, &[], MARK).unwrap().unwrap();
        let mut swapped = route();
        swapped["spec"]["http"][0]["route"].as_array_mut().unwrap().swap(0, 1);
        assert!(json_patch::patch(&mut swapped, &patch).is_err());
        let mut renamed = route();
        renamed["spec"]["http"][0]["name"] = json!("other");
        assert!(json_patch::patch(&mut renamed, &patch).is_err());
    }

    #[test]
    fn named_entries_move_as_one_and_the_others_stay() {
        let (routing, mut edited) = (routing(&["secondary", "primary"]), several());
        let patch = edit(&edited, &routing, "prod", 25, &[], MARK).unwrap().unwrap();
        json_patch::patch(&mut edited, &patch).unwrap();
        assert_eq!(read(&edited, &routing, "prod").unwrap().words(), "75/25, 75/25");
        assert_eq!(edited["spec"]["http"][1], several()["spec"]["http"][1]);
        assert_eq!(timeout_seconds(&edited, &routing), Some(5.0));
        edited["spec"]["http"][2]["route"][0]["weight"] = json!(40);
        edited["spec"]["http"][2]["route"][1]["weight"] = json!(60);
        let uneven = read(&edited, &routing, "prod").unwrap();
        assert_eq!((uneven.canary_percent(), uneven.highest()), (None, 40));
    }

    #[test]
    fn names_that_mean_nothing_or_two_things_are_refused() {
        let said = |route: &Value, http: &[&str]| {
            read(route, &routing(http), "prod").unwrap_err().to_string()
        };
        assert!(said(&several(), &[]).contains("(it has: primary, static, secondary)"));
        assert!(said(&several(), &["third"]).contains("no http route named \"third\""));
        let mut twice = several();
        twice["spec"]["http"][2]["name"] = json!("primary");
        assert!(said(&twice, &["primary"]).contains("two http routes named"));
    }

    #[test]
    fn a_subset_is_a_destination_of_its_own() {
        let mut route = route();
        for (place, subset) in [(0, "canary"), (1, "stable")] {
            let destination = json!({"host": "shop.prod.svc.cluster.local", "subset": subset});
            route["spec"]["http"][0]["route"][place]["destination"] = destination;
        }
        let weights = read(&route, &by_subset(), "prod").unwrap();
        assert_eq!(weights.canary_percent(), Some(0));
        let refused = read(&route, &routing(&[]), "prod").unwrap_err().to_string();
        assert!(refused.contains("shop.prod.svc.cluster.local subset canary"), "{refused}");
        assert!(read(&super::tests::route(), &by_subset(), "prod").is_err());
    }

    #[test]
    fn routes_that_are_not_ours_are_refused_by_name() {
        let read = |route: &Value| read(route, &routing(&[]), "prod").map_err(|p| p.fault);
        let mut three = route();
        let extra = json!({"destination": {"host": "other"}});
        three["spec"]["http"][0]["route"].as_array_mut().unwrap().push(extra);
        assert!(matches!(read(&three), Err(Fault::Destinations { .. })));
        let mut subset = route();
        subset["spec"]["http"][0]["route"][0]["destination"]["subset"] = json!("v2");
        assert!(matches!(read(&subset), Err(Fault::Destinations { .. })));
        let mut odd = route();
        odd["spec"]["http"][0]["route"][1]["weight"] = json!(60);
        let weights = read(&odd).unwrap();
        assert_eq!((weights.canary_percent(), weights.words()), (None, "60/0".to_owned()));
        for (stable, canary, share) in [(30, 90, 75), (0, 0, 0), (-5, 1, 100), (2, 1, 34)] {
            assert_eq!(Pair { stable, canary }.share(), share);
        }
        odd["spec"]["http"] = json!([]);
        assert!(matches!(read(&odd), Err(Fault::Empty { .. })));
        odd["spec"]["tcp"] = json!([{"route": []}]);
        assert!(matches!(read(&odd), Err(Fault::OtherProtocol { .. })));
        let mut delegate = route();
        delegate["spec"]["http"][0]["delegate"] = json!({"name": "child"});
        assert!(matches!(read(&delegate), Err(Fault::Delegates)));
        assert!(!is_host("shop-stable", "prod", "shop-stable.other.svc.cluster.local"));
        assert!(!is_host("shop-stable", "prod", "shop-stable2"));
        assert_eq!(timeout_seconds(&route(), &routing(&[])), Some(2.0));
    }
}
