//! DestinationRules: the pin of a subset.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use surefoot_core::mark::Mark;
use surefoot_core::route::OWNER;
use surefoot_core::route::subset::{Labels, is_for, labels, names};
use surefoot_core::template::HASH_LABEL;
use surefoot_core::write::{Author, Request, Write};

use super::json::{anything, changed, changes, is_object};

const SUBSETS: [&str; 4] = ["stable", "canary", "a/b", "~1"];
pub const AUTHOR: Author<'_> = Author {
    rollout: "shop",
    uid: "u",
    namespace: "prod",
    deployment: "shop",
    epoch: 3,
    rivals: &[],
    allowed: Mark { release: 1, weight: 50 },
};

fn rule() -> impl Strategy<Value = Value> {
    let labels = select(vec![
        Value::Null,
        json!({}),
        json!({"app": "shop", "a/b": "~"}),
        json!({"app": "shop", HASH_LABEL: "old"}),
    ]);
    let subset = (select(SUBSETS.to_vec()), labels).prop_map(|(name, labels)| {
        let mut subset = json!({"name": name, "trafficPolicy": {"a/b": [1]}});
        if !labels.is_null() {
            subset["labels"] = labels;
        }
        subset
    });
    let rule =
        (proptest::collection::vec(subset, 0..4), changes()).prop_map(|(subsets, changes)| {
            let rule = json!({
                "metadata": {"name": "shop", "resourceVersion": "7"},
                "spec": {"host": "shop", "subsets": subsets},
            });
            changed(rule, changes)
        });
    prop_oneof![9 => rule, 1 => anything()]
}

fn pin() -> impl Strategy<Value = (&'static str, Option<String>, Option<Labels>)> {
    let own = Labels::from([("app".to_owned(), "web".to_owned())]);
    (
        select(SUBSETS.to_vec()),
        select(vec![None, Some("new".to_owned())]),
        select(vec![None, Some(Labels::new()), Some(own)]),
    )
}

fn holds(
    rule: &Value,
    name: &str,
    hash: Option<String>,
    own: Option<Labels>,
) -> Result<(), TestCaseError> {
    let (_, before) = (is_for(rule, "shop", "prod"), names(rule));
    let write = Write::PinSubset {
        rule: "shop".into(),
        subset: name.into(),
        hash: hash.clone(),
        labels: own.clone(),
    };
    let Ok(Some(Request::Patch(patch))) = write.request(Some(rule), None, AUTHOR) else {
        return Ok(());
    };
    let place = rule["spec"]["subsets"].as_array().unwrap();
    let place = place.iter().position(|subset| subset["name"] == name).unwrap();
    let found = &rule["spec"]["subsets"][place];
    if !is_object(rule) || found.get("labels").is_some_and(|l| !l.is_object() && !l.is_null()) {
        return Ok(());
    }
    let mut after = rule.clone();
    let applied = json_patch::patch(&mut after, &patch);
    prop_assert!(applied.is_ok(), "{applied:?} of {patch:?}");
    prop_assert_eq!(names(&after), before);
    let mut wanted = own.unwrap_or_else(|| labels(rule, name).unwrap());
    wanted.remove(HASH_LABEL);
    wanted.extend(hash.map(|hash| (HASH_LABEL.to_owned(), hash)));
    prop_assert_eq!(labels(&after, name), Some(wanted));
    let rest = |rule: &Value| {
        let mut rest = rule.clone();
        rest["spec"]["subsets"][place].as_object_mut().unwrap().remove("labels");
        // Our name, and the map that it needs.
        let metadata = rest.get_mut("metadata").and_then(Value::as_object_mut);
        if let Some(metadata) = metadata {
            if let Some(annotations) = metadata.get_mut("annotations") {
                annotations.as_object_mut().map(|map| map.remove(OWNER));
            }
            metadata.retain(|key, v| key != "annotations" || !(v.is_null() || *v == json!({})));
        }
        rest
    };
    prop_assert_eq!(rest(&after), rest(rule));
    prop_assert_eq!(write.request(Some(&after), None, AUTHOR), Ok(None), "twice");
    let mut renamed = rule.clone();
    renamed["spec"]["subsets"][place]["name"] = json!("another");
    // A patch that only puts our name on the rule or takes it off means no subset.
    if after["spec"] != rule["spec"] {
        prop_assert!(json_patch::patch(&mut renamed, &patch).is_err());
    }
    Ok(())
}

proptest! {
    #![proptest_config(super::config())]

    #[test]
    fn a_pin_changes_one_subsets_labels_and_nothing_else(
        rule in rule(), (name, hash, own) in pin()
    ) {
        holds(&rule, name, hash, own)?;
    }
}

// What the search has found.

#[test]
fn a_pin_with_labels_is_made_once() {
    let rule = include_str!("../corpus/rule-subset-without-labels.json");
    let rule = serde_json::from_str(rule).unwrap();
    holds(&rule, "a/b", Some("new".into()), Some(Labels::new())).unwrap();
}

#[test]
fn labels_that_are_null_are_none() {
    let rule = serde_json::from_str(include_str!("../corpus/rule-null-labels.json")).unwrap();
    holds(&rule, "a/b", Some("new".into()), None).unwrap();
}
