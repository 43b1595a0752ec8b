//! VirtualServices: reading, editing, breaking the glass.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use surefoot_core::api::rollout::Apex;
use surefoot_core::mark::{Mark, WROTE};
use surefoot_core::route::istio::{break_glass, edit, read, timeout_seconds};
use surefoot_core::route::{BREAK_GLASS, EPOCH, OWNER, Signature};
use surefoot_core::routing::{Routing, Split};
use surefoot_core::write::{Author, Request, Write};

use super::json::{anything, changed, changes, is_object};

const NAMES: [&str; 6] = ["primary", "a/b", "~1a~0b", "größe", "", "0"];

fn routing(http: Vec<String>, subsets: bool) -> Routing {
    let (stable, canary) = ("shop-stable".into(), "shop-canary".into());
    let split = if subsets {
        Split::Subsets { rule: "shop".into(), stable, canary }
    } else {
        Split::Services { stable, canary }
    };
    Routing { service: "shop".into(), apex: Apex::Both, split, route: "shop".into(), http }
}

/// One entry of a route as people write them.
fn entry(subsets: bool) -> impl Strategy<Value = Value> {
    let suffix = select(vec!["", ".prod", ".prod.svc", ".prod.svc.cluster.local"]);
    (suffix, any::<bool>(), 0..=100i64, any::<bool>()).prop_map(
        move |(suffix, swapped, canary, more)| {
            let destination = |name: &str, weight: i64| {
                let to = if subsets {
                    json!({"host": format!("shop{suffix}"), "subset": name})
                } else {
                    json!({"host": format!("{name}{suffix}")})
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
            json!({"route": route, "timeout": "2s"})
        },
    )
}

/// A route that is right or nearly so, and which of its entries are meant.
fn nearly() -> impl Strategy<Value = (Value, Routing)> {
    let entries = |subsets| proptest::collection::vec((entry(subsets), any::<bool>()), 1..4);
    let whole = any::<bool>().prop_flat_map(move |subsets| (Just(subsets), entries(subsets)));
    let annotations = select(vec![json!({}), json!({"a/b": "~"}), Value::Null]);
    (whole, 0..NAMES.len(), annotations, changes()).prop_map(
        |((subsets, entries), first, annotations, changes)| {
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
            let mut route = json!({
                "metadata": {"name": "shop", "resourceVersion": "7", "annotations": annotations},
                "spec": {"hosts": ["shop"], "http": http, "of/the~future": [1, {"a": null}]},
            });
            if route["metadata"]["annotations"] == json!({}) {
                route["metadata"].as_object_mut().unwrap().remove("annotations");
            }
            (changed(route, changes), routing(wanted, subsets))
        },
    )
}

fn any_route() -> impl Strategy<Value = (Value, Routing)> {
    let names = proptest::collection::vec(select(NAMES.to_vec()).prop_map(str::to_owned), 0..3);
    prop_oneof![
        9 => nearly(),
        1 => (anything(), names, any::<bool>())
            .prop_map(|(route, names, subsets)| (route, routing(names, subsets))),
    ]
}

/// Places of the entries that are meant, found without the code under test.
fn meant(route: &Value, routing: &Routing) -> Vec<usize> {
    let http = route["spec"]["http"].as_array().unwrap();
    let is = |entry: &Value| routing.http.iter().any(|name| entry["name"] == *name);
    (0..http.len()).filter(|i| routing.http.is_empty() || is(&http[*i])).collect()
}

/// The route without what we may change.
fn others(route: &Value, routing: &Routing) -> Value {
    let mut rest = route.clone();
    for entry in meant(route, routing) {
        for destination in rest["spec"]["http"][entry]["route"].as_array_mut().unwrap() {
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
    for entry in meant(route, routing) {
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut other = route.clone();
            change(&mut other["spec"]["http"][entry]);
            json_patch::patch(&mut other, patch).is_err()
        };
        prop_assert!(refused(&|e| e["route"].as_array_mut().unwrap().reverse()), "swapped");
        for place in 0..2 {
            let elsewhere = json!({"host": "elsewhere"});
            prop_assert!(refused(&|e| e["route"][place]["destination"] = elsewhere.clone()));
        }
        if route["spec"]["http"][entry].get("name").is_some() {
            prop_assert!(refused(&|e| e["name"] = json!("another")), "renamed");
            let nameless = |e: &mut Value| drop(e.as_object_mut().unwrap().remove("name"));
            prop_assert!(refused(&nameless), "nameless");
        }
    }
    Ok(after)
}

fn author() -> Author<'static> {
    Author {
        rollout: "shop",
        uid: "u",
        namespace: "prod",
        deployment: "shop",
        epoch: 3,
        rivals: &[],
        allowed: Mark { release: 1, weight: 50 },
    }
}

/// All that is promised of any route.
fn holds(route: &Value, routing: &Routing, percent: i32) -> Result<(), TestCaseError> {
    let _ = timeout_seconds(route, routing);
    let before = read(route, routing, "prod");
    let sign = Signature { rollout: "shop", epoch: 3, wrote: Mark { release: 1, weight: percent } };
    let edited = edit(route, routing, "prod", percent, sign);
    let broken = break_glass(route, routing, "prod", 3, "{}");
    prop_assert_eq!(edited.is_ok(), broken.is_ok());
    prop_assert!(edited.is_ok() || before.is_err(), "readable and not editable: {:?}", edited);
    let write = Write::SetWeight { routing: routing.clone(), percent };
    let request = write.request(Some(route), None, author());
    if !is_object(route) {
        return Ok(());
    }
    let (Ok(edited), Ok(broken)) = (edited, broken) else { return Ok(()) };
    let after = match &edited {
        Some(patch) => does(route, routing, percent, patch)?,
        None => {
            prop_assert_eq!(before.unwrap().canary_percent(), Some(percent));
            route.clone()
        }
    };
    prop_assert_eq!(edit(&after, routing, "prod", percent, sign), Ok(None), "twice");
    does(route, routing, 0, &broken)?;
    if let Ok(request) = request {
        prop_assert_eq!(request, edited.map(Request::Patch));
    }
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
    holds(&serde_json::from_str(route).unwrap(), &routing(vec![], false), 10).unwrap();
}
