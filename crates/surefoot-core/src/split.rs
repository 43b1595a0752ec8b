//! Whether the Services and DestinationRules can tell the two versions apart. Looked at before a
//! release begins; while one is missing or not as it must be, nothing is written.

use serde_json::Value;

use crate::route::subset::{self, Labels};
use crate::routing::{Routing, Side, Split};
use crate::template::HASH_LABEL;

/// What stands in the way, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitProblem {
    /// A Service without cluster IP: clients choose pods by themselves, past any weight.
    #[error(
        "Service {0:?} is headless (clusterIP: None): clients would choose pods past the weights; use one with a cluster IP"
    )]
    Headless(String),
    /// A Service that stands for something outside.
    #[error(
        "Service {0:?} is of type ExternalName and has no pods of its own: use one with a selector"
    )]
    External(String),
    /// A Service whose endpoints somebody else writes.
    #[error("Service {0:?} has no selector: give it the Deployment's")]
    Selectorless(String),
    /// A Service that doesn't select the Deployment's pods.
    #[error(
        "Service {service:?} selects {label}, which the Deployment's pods don't carry: it would reach none of them; remove that from its selector"
    )]
    SelectsOthers {
        /// Its name.
        service: String,
        /// The label that no pod has, as key=value.
        label: String,
    },
    /// The DestinationRule isn't there.
    #[error(
        "DestinationRule {0:?} doesn't exist: create it with the two subsets of traffic.split.subsets"
    )]
    RuleMissing(String),
    /// The DestinationRule is for another host.
    #[error(
        "DestinationRule {rule:?} is for host {host:?}, not for Service {service:?}: name the one that is"
    )]
    RuleForeign {
        /// Its name.
        rule: String,
        /// Its host.
        host: String,
        /// The Service.
        service: String,
    },
    /// Two rules for one host: Istio merges their subsets and silently drops a traffic policy.
    #[error(
        "DestinationRules {first:?} and {second:?} are both for Service {service:?}: Istio would silently drop one's policy; merge them"
    )]
    TwoRules {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// The Service.
        service: String,
    },
    /// A subset isn't there.
    #[error("DestinationRule {rule:?} has no subset {subset:?} (it has: {found}): add it")]
    SubsetMissing {
        /// The rule.
        rule: String,
        /// The subset.
        subset: String,
        /// Those that there are.
        found: String,
    },
    /// A subset selects by a label that the next version may change.
    #[error(
        "subset {subset:?} of DestinationRule {rule:?} selects {label}, which isn't part of the Deployment's selector: it would be empty as soon as a version changes it; write the Deployment's own selector there, or set traffic.adopt: true to let Surefoot do that"
    )]
    SubsetLabels {
        /// The rule.
        rule: String,
        /// The subset.
        subset: String,
        /// The label, as key=value.
        label: String,
    },
    /// A traffic policy would be lost.
    #[error(
        "DestinationRule {rule:?} is for Service {service:?} and there is none for {host:?}: its policy would not apply to requests by the route; make one like it for each of the two Services"
    )]
    RuleWithoutEqual {
        /// The rule.
        rule: String,
        /// The Service that it is for.
        service: String,
        /// The Service that has none.
        host: String,
    },
}

/// The raw objects that are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Objects<'a> {
    /// The Service that clients call.
    pub apex: Option<&'a Value>,
    /// The Service of stable's own, where that is how versions are told apart.
    pub stable: Option<&'a Value>,
    /// The canary's.
    pub canary: Option<&'a Value>,
    /// The Deployment.
    pub deployment: Option<&'a Value>,
    /// The namespace's DestinationRules.
    pub rules: &'a [Value],
}

/// Whether the two versions can be told apart. What is made by us when absent may be absent.
///
/// # Errors
/// The first thing that stands in the way.
pub fn check(routing: &Routing, namespace: &str, objects: Objects<'_>) -> Result<(), SplitProblem> {
    let pods = objects.deployment.and_then(|d| map(d, "/spec/template/metadata/labels"));
    for service in [objects.apex, objects.stable, objects.canary].into_iter().flatten() {
        selects(service, pods.as_ref())?;
    }
    match &routing.split {
        Split::Services { .. } => equals(routing, namespace, objects.rules),
        Split::Subsets { rule, .. } => {
            let selector = objects.deployment.and_then(|d| map(d, "/spec/selector/matchLabels"));
            subsets(routing, rule, namespace, objects.rules, &selector.unwrap_or_default())
        }
    }
}

fn map(object: &Value, pointer: &str) -> Option<Labels> {
    object.pointer(pointer)?.as_object().map(subset::texts)
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The first label of `wanted` that `labels` don't have, as key=value. The hash is ours.
fn lacking(wanted: &Labels, labels: &Labels) -> Option<String> {
    let mut wanted = wanted.iter().filter(|(key, _)| *key != HASH_LABEL);
    wanted.find(|(key, value)| labels.get(*key) != Some(value)).map(|(k, v)| format!("{k}={v}"))
}

fn selects(service: &Value, pods: Option<&Labels>) -> Result<(), SplitProblem> {
    let name = text(service, "/metadata/name");
    if text(service, "/spec/type") == "ExternalName" {
        return Err(SplitProblem::External(name));
    }
    if text(service, "/spec/clusterIP") == "None" {
        return Err(SplitProblem::Headless(name));
    }
    let selector = map(service, "/spec/selector").filter(|selector| !selector.is_empty());
    let selector = selector.ok_or_else(|| SplitProblem::Selectorless(name.clone()))?;
    match pods.and_then(|pods| lacking(&selector, pods)) {
        Some(label) => Err(SplitProblem::SelectsOthers { service: name, label }),
        None => Ok(()),
    }
}

/// A policy for the Service that clients call has equals for the two that the route names.
fn equals(routing: &Routing, namespace: &str, rules: &[Value]) -> Result<(), SplitProblem> {
    let of = |service: &str| rules.iter().find(|rule| subset::is_for(rule, service, namespace));
    let Some(rule) = of(&routing.service) else { return Ok(()) };
    for side in [Side::Stable, Side::Canary] {
        let Some(host) = routing.own_service(side) else { continue };
        if of(host).is_none() {
            return Err(SplitProblem::RuleWithoutEqual {
                rule: text(rule, "/metadata/name"),
                service: routing.service.clone(),
                host: host.to_owned(),
            });
        }
    }
    Ok(())
}

fn subsets(
    routing: &Routing,
    rule: &str,
    namespace: &str,
    rules: &[Value],
    selector: &Labels,
) -> Result<(), SplitProblem> {
    let service = routing.service.clone();
    let named = |r: &&Value| text(r, "/metadata/name") == rule;
    let found = rules.iter().find(named);
    let found = found.ok_or_else(|| SplitProblem::RuleMissing(rule.to_owned()))?;
    if !subset::is_for(found, &service, namespace) {
        let host = text(found, "/spec/host");
        return Err(SplitProblem::RuleForeign { rule: rule.to_owned(), host, service });
    }
    let mut others = rules.iter().filter(|r| !named(r));
    if let Some(second) = others.find(|r| subset::is_for(r, &service, namespace)) {
        let second = text(second, "/metadata/name");
        return Err(SplitProblem::TwoRules { first: rule.to_owned(), second, service });
    }
    for side in [Side::Stable, Side::Canary] {
        let Some(subset) = routing.destination(side).subset else { continue };
        let (rule, name) = (rule.to_owned(), subset.to_owned());
        let Some(labels) = subset::labels(found, subset) else {
            let found = subset::names(found).join(", ");
            return Err(SplitProblem::SubsetMissing { rule, subset: name, found });
        };
        if let Some(label) = lacking(&labels, selector) {
            return Err(SplitProblem::SubsetLabels { rule, subset: name, label });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::rollout::{Apex, Mesh, RouteKind};
    use serde_json::json;

    fn by_services() -> Routing {
        Routing {
            mesh: Mesh::Istio,
            service: "shop".into(),
            apex: Apex::Both,
            split: Split::Services { stable: "shop-stable".into(), canary: "shop-canary".into() },
            kind: RouteKind::VirtualService,
            route: "shop".into(),
            http: Vec::new(),
            more: Vec::new(),
        }
    }

    fn by_subsets() -> Routing {
        let (rule, stable, canary) = ("shop".into(), "stable".into(), "canary".into());
        Routing { split: Split::Subsets { rule, stable, canary }, ..by_services() }
    }

    fn service(name: &str, spec: &Value) -> Value {
        json!({"metadata": {"name": name}, "spec": spec})
    }

    fn rule(name: &str, host: &str, subsets: &Value) -> Value {
        json!({"metadata": {"name": name}, "spec": {"host": host, "subsets": subsets}})
    }

    fn said(routing: &Routing, apex: &Value, rules: &[Value]) -> Option<String> {
        let deployment = json!({"spec": {
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {"metadata": {"labels": {"app": "shop", "version": "v1"}}},
        }});
        let objects = Objects {
            apex: Some(apex),
            stable: None,
            canary: None,
            deployment: Some(&deployment),
            rules,
        };
        check(routing, "prod", objects).err().map(|problem| problem.to_string())
    }

    fn usual() -> Value {
        service("shop", &json!({"selector": {"app": "shop"}}))
    }

    #[test]
    fn services_that_reach_no_pods_by_weight_are_refused() {
        let said = |spec: Value| said(&by_services(), &service("shop", &spec), &[]).unwrap();
        assert_eq!(super::tests::said(&by_services(), &usual(), &[]), None);
        let headless = json!({"clusterIP": "None", "selector": {"app": "shop"}});
        assert!(said(headless).contains("headless"));
        assert!(said(json!({"type": "ExternalName"})).contains("ExternalName"));
        assert!(said(json!({})).contains("no selector"));
        let others = json!({"selector": {"app": "shop", "version": "v2", HASH_LABEL: "x"}});
        assert!(said(others).contains("selects version=v2"));
    }

    #[test]
    fn a_policy_of_the_apex_needs_equals() {
        let apex = rule("policy", "shop.prod.svc.cluster.local", &json!([]));
        let lacks = said(&by_services(), &usual(), std::slice::from_ref(&apex)).unwrap();
        assert!(lacks.contains("none for \"shop-stable\""), "{lacks}");
        let equals =
            [apex, rule("a", "shop-stable", &json!([])), rule("b", "shop-canary", &json!([]))];
        assert_eq!(said(&by_services(), &usual(), &equals), None);
    }

    #[test]
    fn subsets_must_be_there_and_select_what_the_deployment_selects() {
        let subsets =
            |canary: Value| json!([{"name": "stable", "labels": {"app": "shop"}}, canary]);
        let said = |rules: &[Value]| said(&by_subsets(), &usual(), rules);
        let good = rule("shop", "shop", &subsets(json!({"name": "canary"})));
        assert_eq!(said(std::slice::from_ref(&good)), None);
        assert!(said(&[]).unwrap().contains("doesn't exist"));
        let foreign = rule("shop", "shop.test", &json!([]));
        assert!(said(&[foreign]).unwrap().contains("not for Service \"shop\""));
        let second = rule("old", "shop", &json!([]));
        assert!(said(&[good, second]).unwrap().contains("merge them"));
        let missing = rule("shop", "shop", &subsets(json!({"name": "v2"})));
        assert!(said(&[missing]).unwrap().contains("no subset \"canary\" (it has: stable, v2)"));
        let own = json!({"name": "canary", "labels": {"version": "v2", HASH_LABEL: "x"}});
        let own = rule("shop", "shop", &subsets(own));
        assert!(said(&[own]).unwrap().contains("selects version=v2"));
    }
}
