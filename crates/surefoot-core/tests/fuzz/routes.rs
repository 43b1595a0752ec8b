//! VirtualServices and HTTPRoutes: reading, editing, breaking the glass.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use surefoot_core::api::rollout::{Apex, Mesh, RouteKind};
use surefoot_core::mark::{Mark, WROTE};
use surefoot_core::route::{BREAK_GLASS, EPOCH, OWNER, Signature};
use surefoot_core::route::{accepted, break_glass, edit, fit, read, timeout_seconds};
use surefoot_core::routing::{Routing, Split};
use surefoot_core::write::{Request, Write};

use super::json::{anything, changed, changes, is_object};
use super::rules::AUTHOR;

const NAMES: [&str; 6] = ["primary", "a/b", "~1a~0b", "größe", "", "0"];

/// What a route is, and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A VirtualService to two Services.
    Services,
    /// A VirtualService to two subsets.
    Subsets,
    /// An HTTPRoute.
    Rules,
}

const FORMS: [Form; 3] = [Form::Services, Form::Subsets, Form::Rules];

/// The list of entries, that of an entry's destinations, and what names a destination.
fn lists(kind: RouteKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        RouteKind::VirtualService => ("http", "route", "destination"),
        RouteKind::HTTPRoute | RouteKind::GRPCRoute => ("rules", "backendRefs", "name"),
    }
}

fn routing(http: Vec<String>, form: Form) -> Routing {
    let (stable, canary) = ("shop-stable".into(), "shop-canary".into());
    let split = match form {
        Form::Subsets => Split::Subsets { rule: "shop".into(), stable, canary },
        Form::Services | Form::Rules => Split::Services { stable, canary },
    };
    let kind = match form {
        Form::Rules => RouteKind::HTTPRoute,
        Form::Services | Form::Subsets => RouteKind::VirtualService,
    };
    Routing {
        mesh: Mesh::Istio,
        service: "shop".into(),
        apex: Apex::Both,
        split,
        kind,
        route: "shop".into(),
        http,
        more: Vec::new(),
    }
}

/// One entry of a route as people write them.
fn entry(form: Form) -> impl Strategy<Value = Value> {
    let suffix = select(vec!["", ".prod", ".prod.svc", ".prod.svc.cluster.local"]);
    (suffix, any::<bool>(), 0..=100i64, any::<bool>()).prop_map(
        move |(suffix, swapped, canary, more)| {
            let destination = |name: &str, weight: i64| {
                let to = match form {
                    Form::Rules => return json!({"name": name, "port": 80, "weight": weight}),
                    Form::Subsets => json!({"host": format!("shop{suffix}"), "subset": name}),
                    Form::Services => json!({"host": format!("{name}{suffix}")}),
                };
                json!({"destination": to, "weight": weight})
            };
            let mut route =
                vec![destination("shop-stable", 100 - canary), destination("shop-canary", canary)];
            if swapped {
                route.reverse();
            }
            if more {
                route[0]["headers"] = json!({"request": {"set": {"a/b": "~"}}});
            }
            match form {
                Form::Rules => json!({"backendRefs": route, "timeouts": {"request": "2s"}}),
                Form::Services | Form::Subsets => json!({"route": route, "timeout": "2s"}),
            }
        },
    )
}

/// A route that is right or nearly so, and which of its entries are meant.
fn nearly() -> impl Strategy<Value = (Value, Routing)> {
    let entries = |form| proptest::collection::vec((entry(form), any::<bool>()), 1..4);
    let whole = select(FORMS.to_vec()).prop_flat_map(move |form| (Just(form), entries(form)));
    let annotations = select(vec![json!({}), json!({"a/b": "~"}), Value::Null]);
    (whole, 0..NAMES.len(), annotations, changes()).prop_map(
        |((form, entries), first, annotations, changes)| {
            let (mut http, mut wanted) = (Vec::new(), Vec::new());
            let named = entries.len() > 1 || first != 0;
            for (i, (mut entry, meant)) in entries.into_iter().enumerate() {
                let name = NAMES[(first + i) % NAMES.len()];
                if named {
                    entry["name"] = json!(name);
                }
                if named && meant {
                    wanted.push(name.to_owned());
                }
                http.push(entry);
            }
            let routing = routing(wanted, form);
            let mut route = json!({
                "metadata": {"name": "shop", "resourceVersion": "7", "annotations": annotations},
                "spec": {"hosts": ["shop"], "of/the~future": [1, {"a": null}]},
            });
            if form == Form::Rules {
                route["spec"]["parentRefs"] =
                    json!([{"group": "", "kind": "Service", "name": "shop"}]);
            }
            route["spec"][lists(routing.kind).0] = json!(http);
            if route["metadata"]["annotations"] == json!({}) {
                route["metadata"].as_object_mut().unwrap().remove("annotations");
            }
            (changed(route, changes), routing)
        },
    )
}

fn any_route() -> impl Strategy<Value = (Value, Routing)> {
    let names = proptest::collection::vec(select(NAMES.to_vec()).prop_map(str::to_owned), 0..3);
    prop_oneof![
        9 => nearly(),
        1 => (anything(), names, select(FORMS.to_vec()))
            .prop_map(|(route, names, form)| (route, routing(names, form))),
    ]
}

/// Places of the entries that are meant, found without the code under test.
fn meant(route: &Value, routing: &Routing) -> Vec<usize> {
    let http = route["spec"][lists(routing.kind).0].as_array().unwrap();
    let is = |entry: &Value| routing.http.iter().any(|name| entry["name"] == *name);
    (0..http.len()).filter(|i| routing.http.is_empty() || is(&http[*i])).collect()
}

/// The route without what we may change.
fn others(route: &Value, routing: &Routing) -> Value {
    let mut rest = route.clone();
    let (list, destinations, _) = lists(routing.kind);
    for entry in meant(route, routing) {
        for destination in rest["spec"][list][entry][destinations].as_array_mut().unwrap() {
            destination.as_object_mut().unwrap().remove("weight");
        }
    }
    let metadata = rest["metadata"].as_object_mut().unwrap();
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        for ours in [EPOCH, OWNER, WROTE, BREAK_GLASS] {
            annotations.remove(ours);
        }
    }
    if metadata.get("annotations").is_some_and(|a| a.is_null() || *a == json!({})) {
        metadata.remove("annotations");
    }
    rest
}

/// A patch does what was asked for and nothing else, and is for this very route.
fn does(
    route: &Value,
    routing: &Routing,
    percent: i32,
    patch: &json_patch::Patch,
) -> Result<Value, TestCaseError> {
    let mut after = route.clone();
    let applied = json_patch::patch(&mut after, patch);
    prop_assert!(applied.is_ok(), "{applied:?} of {patch:?}");
    prop_assert_eq!(others(&after, routing), others(route, routing));
    let weights = read(&after, routing, "prod").unwrap();
    prop_assert_eq!(weights.canary_percent(), Some(percent));
    prop_assert_eq!(weights.0.len(), routing.http.len().max(1));
    let (list, destinations, named) = lists(routing.kind);
    for entry in meant(route, routing) {
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut other = route.clone();
            change(&mut other["spec"][list][entry]);
            json_patch::patch(&mut other, patch).is_err()
        };
        prop_assert!(refused(&|e| e[destinations].as_array_mut().unwrap().reverse()), "swapped");
        for place in 0..2 {
            let elsewhere = json!({"host": "elsewhere"});
            prop_assert!(refused(&|e| e[destinations][place][named] = elsewhere.clone()));
        }
        if route["spec"][list][entry].get("name").is_some() {
            prop_assert!(refused(&|e| e["name"] = json!("another")), "renamed");
            let nameless = |e: &mut Value| drop(e.as_object_mut().unwrap().remove("name"));
            prop_assert!(refused(&nameless), "nameless");
        }
    }
    Ok(after)
}

/// All that is promised of any route.
fn holds(route: &Value, routing: &Routing, percent: i32) -> Result<(), TestCaseError> {
    let _ = (timeout_seconds(route, routing), accepted(route, routing, "prod"));
    let before = read(route, routing, "prod");
    let sign = Signature { rollout: "shop", epoch: 3, wrote: Mark { release: 1, weight: percent } };
    let edited = edit(route, routing, "prod", percent, sign);
    let broken = break_glass(route, routing, "prod", 3, "{}");
    prop_assert_eq!(edited.is_ok(), broken.is_ok());
    prop_assert!(edited.is_ok() || before.is_err(), "readable and not editable: {:?}", edited);
    let write = Write::SetWeight { routing: routing.clone(), percent };
    let request = write.request(Some(route), None, AUTHOR);
    let refused = request.is_err();
    if !is_object(route) {
        return Ok(());
    }
    let (Ok(edited), Ok(broken)) = (edited, broken) else { return Ok(()) };
    let after = match &edited {
        Some(patch) => does(route, routing, percent, patch)?,
        None => {
            prop_assert_eq!(before.clone().unwrap().canary_percent(), Some(percent));
            route.clone()
        }
    };
    prop_assert_eq!(edit(&after, routing, "prod", percent, sign), Ok(None), "twice");
    does(route, routing, 0, &broken)?;
    if let Ok(request) = request {
        prop_assert_eq!(request, edited.map(Request::Patch));
    }
    let raises =
        percent > 0 && before.is_ok_and(|w| w.canary_percent().is_none_or(|w| w < percent));
    let followed = fit(route, routing, "prod").is_ok();
    prop_assert!(followed || !raises || refused, "raised on a route that the mesh doesn't follow");
    Ok(())
}

proptest! {
    #![proptest_config(super::config())]

    #[test]
    fn an_edit_changes_two_weights_an_entry_and_nothing_else(
        (route, routing) in any_route(), percent in 0..=100i32
    ) {
        holds(&route, &routing, percent)?;
    }
}

// What the search has found.

#[test]
fn annotations_that_are_null_are_none() {
    let route = include_str!("../corpus/route-null-annotations.json");
    holds(&serde_json::from_str(route).unwrap(), &routing(vec![], Form::Services), 10).unwrap();
}
