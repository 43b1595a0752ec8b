//! `networking.istio.io/v1` DestinationRule: the two subsets that tell versions apart.
//!
//! The rule is the user's. Of its two subsets only the label `pod-template-hash` is ours, and that
//! only during a release: at rest they select what the Deployment itself selects, so that nothing
//! goes empty whatever happens natively.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::istio::is_host;
use crate::template::HASH_LABEL;

/// Labels that select pods.
pub type Labels = BTreeMap<String, String>;

/// Whether the rule is for this Service.
#[must_use]
pub fn is_for(rule: &Value, service: &str, namespace: &str) -> bool {
    let host = rule.pointer("/spec/host").and_then(Value::as_str);
    host.is_some_and(|host| is_host(service, namespace, host))
}

/// A subset's place in the rule; `None` when there is none of that name.
#[must_use]
pub fn place(rule: &Value, subset: &str) -> Option<usize> {
    let subsets = rule.pointer("/spec/subsets")?.as_array()?;
    subsets.iter().position(|s| s.get("name").is_some_and(|name| name == subset))
}

/// Names of the rule's subsets.
#[must_use]
pub fn names(rule: &Value) -> Vec<String> {
    let subsets = rule.pointer("/spec/subsets").and_then(Value::as_array);
    let names = subsets.into_iter().flatten().filter_map(|s| s.get("name")?.as_str());
    names.map(str::to_owned).collect()
}

/// A subset's labels.
#[must_use]
pub fn labels(rule: &Value, subset: &str) -> Option<Labels> {
    let place = place(rule, subset)?;
    let labels = rule.pointer(&format!("/spec/subsets/{place}/labels")).and_then(Value::as_object);
    Some(labels.map(texts).unwrap_or_default())
}

/// The texts of a map.
#[must_use]
pub fn texts(map: &Map<String, Value>) -> Labels {
    map.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

/// Labels without the hash.
#[must_use]
pub fn without_hash(labels: &Labels) -> Labels {
    labels.iter().filter(|(k, _)| *k != HASH_LABEL).map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_is_read_as_it_is() {
        let rule = json!({"spec": {"host": "shop.prod.svc.cluster.local", "subsets": [
            {"name": "other"}, {"name": "stable", "labels": {"app": "shop", HASH_LABEL: "h"}},
        ]}});
        assert!(is_for(&rule, "shop", "prod") && !is_for(&rule, "shop", "test"));
        assert_eq!(place(&rule, "stable"), Some(1));
        assert_eq!(labels(&rule, "other"), Some(Labels::new()));
        assert_eq!(labels(&rule, "canary"), None);
        let labels = labels(&rule, "stable").unwrap();
        assert_eq!(without_hash(&labels), Labels::from([("app".into(), "shop".into())]));
        assert_eq!(names(&rule), ["other", "stable"]);
    }
}
