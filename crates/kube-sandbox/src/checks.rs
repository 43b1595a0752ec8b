//! What the API server refuses in built-in kinds, as far as controllers meet it.

mod events;
mod pods;

use serde_json::Value;

use crate::selectors::Selector;
use crate::status::Cause;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// What is wrong with an object's name.
#[must_use]
pub fn name(plural: &str, name: &str) -> Option<Cause> {
    let (fits, longest, why) = match plural {
        "namespaces" | "services" => (is_label(name), 63, LABEL),
        _ => (name.split('.').all(is_label), 253, SUBDOMAIN),
    };
    let path = "metadata.name";
    if name.len() > longest {
        let why = format!("must be no more than {longest} bytes");
        return Some(Cause::invalid(path, &name.into(), why));
    }
    (!fits).then(|| Cause::invalid(path, &name.into(), why))
}

/// Whether it is one label of a DNS name.
fn is_label(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.chars().all(|c| letter(c) || c == '-')
        && text.starts_with(letter)
        && text.ends_with(letter)
}

/// What is wrong with a name that may have a prefix, as labels have; of each part.
fn qualified_name(path: &str, name: &str) -> Vec<Cause> {
    let (prefix, plain) = name.split_once('/').map_or((None, name), |(a, b)| (Some(a), b));
    let mut wrong = Vec::new();
    if prefix.is_some_and(|prefix| !prefix.split('.').all(is_label)) {
        wrong.push(format!("prefix part {SUBDOMAIN}"));
    }
    if plain.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if plain.len() > 63 {
        wrong.push("name part must be no more than 63 bytes".to_owned());
    }
    let letter = |c: char| c.is_ascii_alphanumeric();
    if !plain.chars().all(|c| letter(c) || "-_.".contains(c))
        || !plain.starts_with(letter)
        || !plain.ends_with(letter)
    {
        wrong.push(format!("name part {NAME_PART}"));
    }
    wrong.into_iter().map(|why| Cause::invalid(path, &name.into(), why)).collect()
}

/// What is wrong with an object of a built-in resource as the API of `group` takes it; `old` is what
/// it was before.
#[must_use]
pub fn check(
    (group, plural): (&str, &str),
    object: &Value,
    old: Option<&Value>,
    subresource: Option<&str>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    match plural {
        "deployments" | "replicasets" => workload(object, old, &mut causes),
        "pods" => match (old, subresource) {
            (Some(old), Some(_)) => pods::status(object, old, &mut causes),
            (old, _) => {
                pods::spec(&object["spec"], "spec", &mut causes);
                old.inspect(|old| pods::update(object, old, &mut causes));
            }
        },
        "events" => causes = events::check(group, object, old),
        "services" => service(object, old, &mut causes),
        "leases" => lease(object, &mut causes),
        _ => {}
    }
    causes
}

fn workload(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    if spec["replicas"].as_i64().is_some_and(|replicas| replicas < 0) {
        let why = "must be greater than or equal to 0";
        causes.push(Cause::invalid("spec.replicas", &spec["replicas"], why));
    }
    let selector = &spec["selector"];
    let selects = |name: &str| selector[name].as_object().is_some_and(|map| !map.is_empty());
    let labels = &spec["template"]["metadata"]["labels"];
    if selector.is_null() {
        causes.push(Cause::required("spec.selector", ""));
    } else if !selects("matchLabels") && selector["matchExpressions"].is_null() {
        let why = "empty selector is invalid for deployment";
        causes.push(Cause::invalid("spec.selector", selector, why));
    } else if !Selector::of_workload(selector).matches(&spec["template"]) {
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", labels, why));
    }
    if old.is_some_and(|old| old["spec"]["selector"] != *selector) {
        causes.push(Cause::invalid("spec.selector", selector, "field is immutable"));
    }
    pods::spec(&spec["template"]["spec"], "spec.template.spec", causes);
}

fn service(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let headless = spec["clusterIP"] == "None";
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, port) in ports.iter().enumerate().filter(|_| ports.len() > 1) {
        if port["name"].as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(format!("spec.ports[{index}].name"), ""));
        }
    }
    if ports.is_empty() && !headless && spec["type"] != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    let address = |object: &Value| object["spec"]["clusterIP"].clone();
    if old.is_some_and(|old| !address(old).is_null() && address(old) != address(object)) {
        let why = "may not change once set";
        causes.push(Cause::invalid("spec.clusterIPs[0]", &address(object), why));
    }
}

fn lease(object: &Value, causes: &mut Vec<Cause>) {
    for field in ["leaseDurationSeconds", "leaseTransitions"] {
        let value = &object["spec"][field];
        let least = i64::from(field == "leaseDurationSeconds");
        if value.as_i64().is_some_and(|value| value < least) {
            let why =
                format!("must be greater than {}0", if least == 1 { "" } else { "or equal to " });
            causes.push(Cause::invalid(format!("spec.{field}"), value, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_dns_names() {
        assert!(name("pods", "web-0.x").is_none());
        assert!(name("pods", "Web").is_some());
        assert!(name("services", "0web").is_none(), "since Kubernetes 1.37");
        assert!(name("namespaces", "a.b").is_some());
        assert!(name("pods", &"a".repeat(254)).is_some());
    }

    #[test]
    fn a_selector_must_fit_its_template_and_stays() {
        let object = |app: &str, label: &str| {
            json!({"spec": {
                "selector": {"matchLabels": {"app": app}},
                "template": {
                    "metadata": {"labels": {"app": label}},
                    "spec": {"containers": [{"name": "a", "image": "i"}]},
                },
            }})
        };
        assert!(check(("apps", "deployments"), &object("a", "a"), None, None).is_empty());
        assert_eq!(check(("apps", "deployments"), &object("a", "b"), None, None).len(), 1);
        let causes =
            check(("apps", "deployments"), &object("b", "b"), Some(&object("a", "a")), None);
        assert_eq!(causes[0].field, "spec.selector");
    }
}
