//! What `init` proposes for what is there, compared with `tests/cli/init/NAME.yaml`.
//! `UPDATE_GOLDEN=1 cargo test --test init` writes them anew: read the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a fixture that can't be read fails its test")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use surefoot::cli::init::found::Found;
use surefoot::cli::init::pages::pages;
use surefoot::cli::init::propose::{Step, Wishes, propose};
use surefoot_core::api::rollout::Mesh;

fn found(text: &str) -> Found {
    let mut found = Found::default();
    for document in text.split("---\n") {
        let object: Value = serde_saphyr::from_str(document).unwrap();
        match object["kind"].as_str().unwrap() {
            "Deployment" => found.deployment = object,
            "Service" => found.services.push(object),
            "VirtualService" | "HTTPRoute" => found.routes.push(object),
            "DestinationRule" => found.rules.push(object),
            "MetricsSource" => found.sources.push(object),
            "Rollout" => found.rollouts.push(object),
            other => panic!("{other}"),
        }
    }
    found
}

fn fixture(name: &str) -> Found {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cli/init/{name}.in.yaml"));
    found(&fs::read_to_string(path).unwrap())
}

fn wishes() -> Wishes {
    Wishes {
        mesh: Mesh::Istio,
        service: None,
        route: None,
        prometheus: "http://prometheus.istio-system:9090".into(),
    }
}

fn linkerd() -> Wishes {
    let prometheus = "http://prometheus.linkerd-viz:9090".into();
    Wishes { mesh: Mesh::Linkerd, prometheus, ..wishes() }
}

fn proposes(name: &str) -> Vec<Step> {
    proposes_for(name, &wishes())
}

fn proposes_for(name: &str, wishes: &Wishes) -> Vec<Step> {
    let steps = propose(&fixture(name), wishes).unwrap();
    let text = pages(&steps).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cli/init/{name}.yaml"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} differs; it should be:\n{golden}\nbut is:\n{text}");
    // Once it is applied there is nothing left but to say so.
    let mut after = fixture(name);
    for step in &steps {
        let place = match step.object["kind"].as_str().unwrap() {
            "Service" => &mut after.services,
            "VirtualService" | "HTTPRoute" => &mut after.routes,
            "DestinationRule" => &mut after.rules,
            "MetricsSource" => &mut after.sources,
            _ => continue,
        };
        place.retain(|object| object["metadata"]["name"] != step.object["metadata"]["name"]);
        place.push(step.object.clone());
    }
    let again = propose(&after, wishes).unwrap();
    let kinds: Vec<&str> = again.iter().map(|s| s.object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Rollout"], "{name}: applied once, it asks for more");
    assert_eq!(again[0].object, steps.last().unwrap().object);
    steps
}

#[test]
fn a_service_without_route() {
    assert_eq!(proposes("no-route").len(), 5);
}

#[test]
fn a_route_with_one_destination() {
    proposes("one-destination");
}

#[test]
fn a_policy_for_the_service() {
    proposes("policy");
}

#[test]
fn a_route_that_splits_between_services() {
    assert_eq!(proposes("split-services").len(), 1);
}

#[test]
fn a_route_that_splits_between_subsets() {
    assert_eq!(proposes("split-subsets").len(), 1);
}

#[test]
fn a_route_with_several_entries() {
    proposes("several-http");
}

#[test]
fn an_http_route_with_one_backend() {
    proposes("http-route");
}

#[test]
fn an_http_route_of_a_gateway_with_several_rules() {
    proposes("http-route-of-a-gateway");
}

#[test]
fn a_service_without_route_on_linkerd() {
    assert_eq!(proposes_for("linkerd-no-route", &linkerd()).len(), 5);
}

#[test]
fn a_route_on_linkerd() {
    proposes_for("linkerd-http-route", &linkerd());
}

#[test]
fn of_two_kinds_of_route_one_is_chosen() {
    let mut both = fixture("http-route");
    both.routes.extend(fixture("one-destination").routes);
    let refused = refuses(&both, &wishes());
    assert!(refused.contains("(of HTTPRoute web, VirtualService web)"), "{refused}");
    let named = |route: &str| Wishes { route: Some(route.into()), ..wishes() };
    let refused = refuses(&both, &named("web"));
    assert!(refused.contains("virtualservice/web or httproute/web"), "{refused}");
    let kind = |wishes: &Wishes| {
        let rollout = propose(&both, wishes).unwrap().pop().unwrap();
        rollout.object["spec"]["traffic"]["routes"][0]["kind"].clone()
    };
    assert_eq!(kind(&named("virtualservice/web")), "VirtualService");
    assert_eq!(kind(&named("httproute/web")), "HTTPRoute");
    // Linkerd reads no VirtualService.
    assert_eq!(kind(&linkerd()), "HTTPRoute");
    let refused = refuses(&both, &named("other"));
    assert!(refused.contains("there is no route other (there are: HTTPRoute web"), "{refused}");
    let mut ports = fixture("linkerd-no-route");
    ports.services[0]["spec"]["ports"] = json!([{"port": 80}, {"port": 81}]);
    assert!(refuses(&ports, &linkerd()).contains("has 2 ports, and an HTTPRoute goes to one"));
}

fn refuses(found: &Found, wishes: &Wishes) -> String {
    propose(found, wishes).unwrap_err().to_string()
}

#[test]
fn what_only_a_person_can_decide_is_asked() {
    let mut none = fixture("no-route");
    none.services.clear();
    assert!(refuses(&none, &wishes()).contains("make the one that clients call first"));

    let mut two = fixture("no-route");
    let mut second = two.services[0].clone();
    second["metadata"]["name"] = json!("web-too");
    two.services.push(second);
    assert!(refuses(&two, &wishes()).contains("say by --service which one"));
    let chosen = Wishes { service: Some("web-too".into()), ..wishes() };
    let rollout = propose(&two, &chosen).unwrap().pop().unwrap();
    assert_eq!(rollout.object["spec"]["traffic"]["service"], "web-too");
    let wrong = Wishes { service: Some("other".into()), ..wishes() };
    assert!(refuses(&two, &wrong).contains("these do: web, web-too"));

    let mut routes = fixture("one-destination");
    let mut second = routes.routes[0].clone();
    second["metadata"]["name"] = json!("web-too");
    routes.routes.push(second);
    assert!(refuses(&routes, &wishes()).contains("several routes take the requests to web"));

    let mut released = fixture("one-destination");
    released.rollouts.push(json!({
        "kind": "Rollout", "metadata": {"name": "r"}, "spec": {"targetRef": {"name": "web"}},
    }));
    assert!(refuses(&released, &wishes()).contains("Rollout r releases Deployment web already"));

    let mut delegates = fixture("one-destination");
    delegates.routes[0]["spec"]["http"][0]["delegate"] = json!({"name": "child"});
    assert!(refuses(&delegates, &wishes()).contains("hands requests on"));

    let mut elsewhere = fixture("one-destination");
    elsewhere.routes[0]["spec"]["http"][0]["route"][0]["destination"]["host"] = json!("other");
    assert!(refuses(&elsewhere, &wishes()).contains("no http route of VirtualService web goes to"));

    let mut unalike = fixture("several-http");
    unalike.services.extend(fixture("split-services").services.into_iter().skip(2));
    unalike.routes[0]["spec"]["http"][0]["route"] = json!([
        {"destination": {"host": "web-primary"}, "weight": 100},
        {"destination": {"host": "web-next"}, "weight": 0},
    ]);
    assert!(refuses(&unalike, &wishes()).contains("split in different ways"));

    let mut rules = fixture("policy");
    rules.rules.push(rules.rules[0].clone());
    assert!(refuses(&rules, &wishes()).contains("several DestinationRules are for host web"));

    let mut ruleless = fixture("split-subsets");
    ruleless.rules.clear();
    assert!(refuses(&ruleless, &wishes()).contains("no DestinationRule has them"));
}
