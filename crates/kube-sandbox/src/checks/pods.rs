//! What the API server refuses in pods.

use serde_json::{Value, json};

use super::{LABEL, is_label};
use crate::status::Cause;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What is wrong with the spec of a pod or of a template.
pub(super) fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    containers(&spec["containers"], &format!("{path}.containers"), causes);
    one_of(spec, "restartPolicy", path, &["Always", "OnFailure", "Never"], causes);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(spec, "dnsPolicy", path, &policies, causes);
    let deadline = &spec["activeDeadlineSeconds"];
    if deadline.as_i64().is_some_and(|seconds| seconds < 1) {
        let why = "must be between 1 and 2147483647, inclusive";
        causes.push(Cause::invalid(format!("{path}.activeDeadlineSeconds"), deadline, why));
    }
}

fn containers(list: &Value, path: &str, causes: &mut Vec<Cause>) {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        causes.push(Cause::required(path, ""));
    }
    let mut names: Vec<&str> = Vec::new();
    for (index, container) in list.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = container["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if !is_label(name) {
            causes.push(Cause::invalid(format!("{path}.name"), &name.into(), LABEL));
        }
        if container["image"].as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(format!("{path}.image"), ""));
        }
        if names.contains(&name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &name.into()));
        }
        names.push(name);
    }
}

fn one_of(spec: &Value, field: &str, path: &str, values: &[&str], causes: &mut Vec<Cause>) {
    let value = &spec[field];
    if value.as_str().is_some_and(|value| !values.contains(&value)) {
        let values: Vec<Value> = values.iter().map(|&value| value.into()).collect();
        causes.push(Cause::unsupported(format!("{path}.{field}"), value, &values));
    }
}

/// What is wrong with a pod in the place of `old`: little of a pod may change.
pub(super) fn update(pod: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (spec, before) = (&pod["spec"], &old["spec"]);
    let count = |spec: &Value| spec["containers"].as_array().map_or(0, Vec::len);
    if count(spec) != count(before) {
        let why = "pod updates may not add or remove containers";
        causes.push(Cause::forbidden("spec.containers", why));
        return;
    }
    let path = "spec.activeDeadlineSeconds";
    let deadline = |spec: &Value| spec["activeDeadlineSeconds"].as_i64();
    match (deadline(spec), deadline(before)) {
        (Some(new), Some(old)) if old < new => {
            let why = "must be less than or equal to previous value";
            causes.push(Cause::invalid(path, &new.into(), why));
            return;
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            causes.push(Cause::invalid(path, &Value::Null, why));
        }
        _ => {}
    }
    if !keeps_tolerations(spec, before) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(Cause::forbidden("spec.tolerations", why));
    }
    if fixed(spec) != fixed(before) {
        // The real server goes on with the difference between the two, as Go prints it.
        let why = format!("pod updates may not change fields other than {UPDATABLE}\n");
        causes.push(Cause::forbidden("spec", why));
    }
}

/// Whether each toleration is still there, if for another time.
fn keeps_tolerations(spec: &Value, before: &Value) -> bool {
    let all = |spec: &Value| -> Vec<Value> {
        let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
        all.iter_mut().filter_map(Value::as_object_mut).for_each(|fields| {
            fields.remove("tolerationSeconds");
        });
        all
    };
    let now = all(spec);
    all(before).iter().all(|toleration| now.contains(toleration))
}

/// What no update may change of a pod's spec.
fn fixed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("activeDeadlineSeconds");
        fields.remove("tolerations");
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container["image"] = json!("");
        }
    }
    spec
}

/// What is wrong with a pod's new status.
pub(super) fn status(pod: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (status, before) = (&pod["status"], &old["status"]);
    if status["qosClass"] != before["qosClass"] {
        let why = "field is immutable";
        causes.push(Cause::invalid("status.qosClass", &status["qosClass"], why));
    }
    let known: Vec<&Value> = before["podIPs"].as_array().into_iter().flatten().collect();
    for (index, address) in status["podIPs"].as_array().into_iter().flatten().enumerate() {
        let text = address["ip"].as_str().unwrap_or_default();
        if !known.contains(&address) && text.parse::<std::net::IpAddr>().is_err() {
            let path = format!("status.podIPs[{index}]");
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.push(Cause::invalid(path, &text.into(), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Value {
        let mut pod = json!({"spec": {"containers": [{"name": "web", "image": "web:1"}]}});
        for (name, field) in spec.as_object().into_iter().flatten() {
            pod["spec"][name] = field.clone();
        }
        pod
    }

    fn updated(new: Value, old: Value) -> Vec<String> {
        let mut causes = Vec::new();
        update(&pod(new), &pod(old), &mut causes);
        causes.into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn an_image_may_change_and_little_else() {
        let image = json!({"containers": [{"name": "web", "image": "web:2"}]});
        assert!(updated(image, json!({})).is_empty());
        assert_eq!(updated(json!({"restartPolicy": "Never"}), json!({})), ["spec"]);
        assert_eq!(updated(json!({"containers": []}), json!({})), ["spec.containers"]);
        let (long, short) =
            (json!({"activeDeadlineSeconds": 9}), json!({"activeDeadlineSeconds": 3}));
        assert!(updated(short.clone(), long.clone()).is_empty());
        assert_eq!(updated(long.clone(), short), ["spec.activeDeadlineSeconds"]);
        assert_eq!(updated(json!({}), long), ["spec.activeDeadlineSeconds"]);
        let tolerates =
            |seconds| json!({"tolerations": [{"key": "a", "tolerationSeconds": seconds}]});
        assert!(updated(tolerates(1), tolerates(2)).is_empty());
        assert_eq!(updated(json!({}), tolerates(2)), ["spec.tolerations"]);
    }

    #[test]
    fn names_of_containers_are_labels_and_their_own() {
        let container = |name: &str| json!({"name": name, "image": "i"});
        let wrong = |containers: Value| {
            let mut causes = Vec::new();
            spec(&json!({"containers": containers}), "spec", &mut causes);
            causes.into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        assert!(wrong(json!([container("a"), container("b")])).is_empty());
        assert_eq!(wrong(json!([container("A")])), ["spec.containers[0].name"]);
        assert_eq!(wrong(json!([container("a"), container("a")])), ["spec.containers[1].name"]);
    }
}
