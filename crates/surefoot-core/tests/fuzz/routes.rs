//! VirtualServices and HTTPRoutes: reading, editing, breaking the glass.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use surefoot_core::api::rollout::{Apex, Mesh, RequestMatch, RouteKind};
use surefoot_core::mark::{Mark, WROTE};
use surefoot_core::route::{BREAK_GLASS, CHOSEN, EPOCH, OWNER, Signature};
use surefoot_core::route::{accepted, break_glass, carries, edit, fit, read, timeout_seconds};
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
    (suffix, any::<bool>(), 0..=100i64, any::<bool>(), 0..4u8).prop_map(
        move |(suffix, swapped, canary, more, own)| {
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
            let mut entry = match form {
                Form::Rules => json!({"backendRefs": route, "timeouts": {"request": "2s"}}),
                Form::Services | Form::Subsets => json!({"route": route, "timeout": "2s"}),
            };
            let path = |path: &str| match form {
                Form::Rules => json!({"path": {"type": "PathPrefix", "value": path}}),
                Form::Services | Form::Subsets => json!({"uri": {"prefix": path}}),
            };
            let header = match form {
                Form::Rules => json!({"headers": [{"name": "X-Team", "value": "a"}]}),
                Form::Services | Form::Subsets => json!({"headers": {"x-team": {"exact": "a"}}}),
            };
            let conditions = match own {
                0 => return entry,
                1 => json!([path("/a")]),
                2 => json!([path("/a"), path("/b")]),
                _ => json!([path("/a"), header]),
            };
            entry[matches(form)] = conditions;
            entry
        },
    )
}

/// An entry's conditions.
fn matches(form: Form) -> &'static str {
    match form {
        Form::Rules => "matches",
        Form::Services | Form::Subsets => "match",
    }
}

/// Requests that may be chosen.
fn chosen() -> impl Strategy<Value = Vec<RequestMatch>> {
    let text = prop_oneof![Just(json!({"exact": "true"})), Just(json!({"regex": ".*canary.*"})),];
    let headers = proptest::collection::btree_map(select(vec!["x-canary", "x-team"]), text, 1..3);
    let one = headers.prop_map(|headers| {
        serde_json::from_value::<RequestMatch>(json!({"headers": headers})).unwrap()
    });
    proptest::collection::vec(one, 0..3)
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
    let meant = |entry: &Value| !ours(entry) && (routing.http.is_empty() || is(entry));
    (0..http.len()).filter(|i| meant(&http[*i])).collect()
}

fn ours(entry: &Value) -> bool {
    entry["name"].as_str().is_some_and(|name| name.starts_with(CHOSEN))
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
    rest["spec"][list].as_array_mut().unwrap().retain(|entry| !ours(entry));
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
    chosen: &[RequestMatch],
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
    let entries = after["spec"][list].as_array().unwrap();
    let meant_now = meant(&after, routing);
    let choosing = if chosen.is_empty() { 0 } else { meant_now.len() };
    prop_assert_eq!(entries.iter().filter(|entry| ours(entry)).count(), choosing);
    for place in meant_now.iter().filter(|_| !chosen.is_empty()) {
        let (own, before) = (&entries[*place], &entries[*place - 1]);
        prop_assert!(ours(before), "not before {own}");
        let (alone, to) = (before[destinations].as_array().unwrap(), &own[destinations]);
        let leads = |to: &Value| to.to_string().contains("shop-canary");
        prop_assert!(alone.len() == 1 && leads(&alone[0]) && to.as_array().unwrap().len() == 2);
        let conditions = |entry: &Value| {
            ["match", "matches"].map(|field| entry[field].as_array().map_or(0, Vec::len))
        };
        let had = conditions(own).into_iter().max().unwrap().max(1);
        prop_assert_eq!(conditions(before).into_iter().max().unwrap(), had * chosen.len());
    }
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
fn holds(
    route: &Value,
    routing: &Routing,
    percent: i32,
    chosen: &[RequestMatch],
) -> Result<(), TestCaseError> {
    let _ = (timeout_seconds(route, routing), accepted(route, routing, "prod"));
    let before = read(route, routing, "prod");
    let sign = Signature { rollout: "shop", epoch: 3, wrote: Mark { release: 1, weight: percent } };
    let edited = edit(route, routing, "prod", percent, chosen, sign);
    let broken = break_glass(route, routing, "prod", 3, "{}");
    prop_assert!(broken.is_ok() || edited.is_err());
    prop_assert!(broken.is_ok() || before.is_err(), "readable and not editable: {:?}", broken);
    prop_assert!(edited.is_ok() || broken.is_err() || !chosen.is_empty(), "{:?}", edited);
    let chosen = chosen.to_vec();
    let write = Write::SetWeight { routing: routing.clone(), percent, chosen: chosen.clone() };
    let request = write.request(Some(route), None, AUTHOR);
    let refused = request.is_err();
    if !is_object(route) {
        return Ok(());
    }
    let (Ok(edited), Ok(broken)) = (edited, broken) else { return Ok(()) };
    let after = match &edited {
        Some(patch) => does(route, routing, percent, &chosen, patch)?,
        None => {
            prop_assert_eq!(before.clone().unwrap().canary_percent(), Some(percent));
            route.clone()
        }
    };
    prop_assert_eq!(carries(&after, routing, "prod", &chosen), Ok(true));
    prop_assert_eq!(edit(&after, routing, "prod", percent, &chosen, sign), Ok(None), "twice");
    does(route, routing, 0, &[], &broken)?;
    // And back.
    let broken = break_glass(&after, routing, "prod", 3, "{}").unwrap();
    does(&after, routing, 0, &[], &broken)?;
    if let Some(patch) = edit(&after, routing, "prod", percent, &[], sign).unwrap() {
        does(&after, routing, percent, &[], &patch)?;
    }
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
        (route, routing) in any_route(), percent in 0..=100i32, chosen in chosen()
    ) {
        holds(&route, &routing, percent, &chosen)?;
    }
}

// What the search has found.

#[test]
fn annotations_that_are_null_are_none() {
    let route = include_str!("../corpus/route-null-annotations.json");
    holds(&serde_json::from_str(route).unwrap(), &routing(vec![], Form::Services), 10, &[])
        .unwrap();
}
