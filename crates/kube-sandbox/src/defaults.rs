//! What the API server fills in for built-in kinds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Fills in the defaults of an object of a built-in resource.
pub fn fill(plural: &str, object: &mut Value) {
    match plural {
        "deployments" => deployment(object),
        "replicasets" => replica_set(object),
        "events" => event(object),
        "pods" => pod(object),
        "services" => service(object),
        "secrets" => secret(object),
        "endpointslices" => endpoint_slice(object),
        "poddisruptionbudgets" | "configmaps" | "leases" => {}
        _ => {}
    }
}

/// Sets a field that isn't there.
fn or(object: &mut Value, name: &str, value: impl Into<Value>) {
    if object[name].is_null() {
        object[name] = value.into();
    }
}

fn items<'a>(object: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

fn deployment(object: &mut Value) {
    let spec = &mut object["spec"];
    or(spec, "replicas", 1);
    or(spec, "revisionHistoryLimit", 10);
    or(spec, "progressDeadlineSeconds", 600);
    or(spec, "strategy", json!({}));
    or(&mut spec["strategy"], "type", "RollingUpdate");
    if spec["strategy"]["type"] == "RollingUpdate" {
        or(&mut spec["strategy"], "rollingUpdate", json!({}));
        or(&mut spec["strategy"]["rollingUpdate"], "maxUnavailable", "25%");
        or(&mut spec["strategy"]["rollingUpdate"], "maxSurge", "25%");
    }
    template(&mut spec["template"]);
    or(object, "status", json!({}));
}

fn replica_set(object: &mut Value) {
    or(&mut object["spec"], "replicas", 1);
    template(&mut object["spec"]["template"]);
    or(object, "status", json!({"replicas": 0}));
}

fn template(template: &mut Value) {
    or(template, "metadata", json!({}));
    or(template, "spec", json!({}));
    pod_spec(&mut template["spec"]);
}

fn pod(object: &mut Value) {
    pod_spec(&mut object["spec"]);
    let spec = &mut object["spec"];
    or(spec, "enableServiceLinks", true);
    if let Some(account) = spec["serviceAccountName"].as_str().map(str::to_owned) {
        or(spec, "serviceAccount", account);
    }
    let quality = quality(spec);
    or(object, "status", json!({"phase": "Pending", "qosClass": quality}));
    let status = &mut object["status"];
    addresses(status);
    for condition in items(status, "conditions") {
        or(condition, "lastProbeTime", Value::Null);
        or(condition, "lastTransitionTime", Value::Null);
    }
    for container in items(status, "containerStatuses") {
        or(container, "lastState", json!({}));
        or(container, "state", json!({}));
    }
}

/// What admission makes of a pod: a new one gets its account and its priority, which stay.
pub fn admit(pod: &mut Value, old: Option<&Value>) {
    let spec = &mut pod["spec"];
    match old {
        None => {
            or(spec, "serviceAccountName", "default");
            let account = spec["serviceAccountName"].clone();
            or(spec, "serviceAccount", account);
            or(spec, "priority", 0);
            or(spec, "preemptionPolicy", "PreemptLowerPriority");
        }
        Some(old) => {
            for name in ["priority", "preemptionPolicy"] {
                or(spec, name, old["spec"][name].clone());
            }
        }
    }
    tolerations(spec);
}

/// A pod stays on a node that is away for five minutes, unless it says otherwise.
fn tolerations(spec: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        or(spec, "tolerations", json!([]));
        let Some(all) = spec["tolerations"].as_array_mut() else { return };
        let is = |field: &Value, text: &str| field.is_null() || field == text;
        if !all.iter().any(|one| is(&one["key"], key) && is(&one["effect"], "NoExecute")) {
            all.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
}

/// How well a pod is served when a node has too little.
fn quality(spec: &Value) -> &'static str {
    let containers = || spec["containers"].as_array().into_iter().flatten();
    let asks = |container: &Value| {
        let resources = &container["resources"];
        ["requests", "limits"].iter().any(|name| resources[*name].is_object())
    };
    let guaranteed = |container: &Value| {
        let limits = &container["resources"]["limits"];
        let requests = &container["resources"]["requests"];
        ["cpu", "memory"].iter().all(|name| {
            !limits[*name].is_null()
                && (requests[*name].is_null() || requests[*name] == limits[*name])
        })
    };
    match () {
        () if !containers().any(asks) => "BestEffort",
        () if containers().all(guaranteed) => "Guaranteed",
        () => "Burstable",
    }
}

/// A pod's first address is told twice.
fn addresses(status: &mut Value) {
    let first = status["podIPs"][0]["ip"].clone();
    match (status["podIP"].clone(), first) {
        (Value::Null, Value::Null) => {}
        (Value::Null, first) => status["podIP"] = first,
        (address, first) if first != address => status["podIPs"] = json!([{"ip": address}]),
        _ => {}
    }
}

/// Some fields are there even if they say nothing.
fn event(object: &mut Value) {
    for name in ["action", "message", "reason", "type"] {
        if let Some(fields) =
            object.as_object_mut().filter(|f| f.get(name).is_some_and(|v| v == ""))
        {
            fields.remove(name);
        }
    }
    for name in ["involvedObject", "source"] {
        or(object, name, json!({}));
    }
    for name in ["reportingComponent", "reportingInstance"] {
        or(object, name, "");
    }
    for name in ["eventTime", "firstTimestamp", "lastTimestamp"] {
        or(object, name, Value::Null);
    }
}

fn pod_spec(spec: &mut Value) {
    or(spec, "restartPolicy", "Always");
    or(spec, "terminationGracePeriodSeconds", 30);
    or(spec, "dnsPolicy", "ClusterFirst");
    or(spec, "securityContext", json!({}));
    or(spec, "schedulerName", "default-scheduler");
    items(spec, "initContainers").for_each(container);
    items(spec, "containers").for_each(container);
    items(spec, "volumes").for_each(volume);
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let latest = !name.contains(':') && !name.contains('@') || name.ends_with(":latest");
    let policy = if latest { "Always" } else { "IfNotPresent" };
    or(container, "imagePullPolicy", policy);
    or(container, "resources", json!({}));
    or(container, "terminationMessagePath", "/dev/termination-log");
    or(container, "terminationMessagePolicy", "File");
    items(container, "ports").for_each(|port| or(port, "protocol", "TCP"));
    for variable in items(container, "env") {
        if let Some(reference) = variable.pointer_mut("/valueFrom/fieldRef") {
            or(reference, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.get_mut(name) {
            probe(found);
        }
    }
}

fn probe(probe: &mut Value) {
    or(probe, "timeoutSeconds", 1);
    or(probe, "periodSeconds", 10);
    or(probe, "successThreshold", 1);
    or(probe, "failureThreshold", 3);
    if let Some(get) = probe.get_mut("httpGet") {
        or(get, "path", "/");
        or(get, "scheme", "HTTP");
    }
}

fn volume(volume: &mut Value) {
    for name in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(source) = volume.get_mut(name) {
            or(source, "defaultMode", 420);
        }
    }
    let named = volume.as_object().is_some_and(|fields| fields.len() > 1);
    if !named {
        volume["emptyDir"] = json!({});
    }
}

fn service(object: &mut Value) {
    let spec = &mut object["spec"];
    or(spec, "sessionAffinity", "None");
    or(spec, "type", "ClusterIP");
    for port in items(spec, "ports") {
        or(port, "protocol", "TCP");
        let number = port["port"].clone();
        or(port, "targetPort", number);
    }
    if spec["type"] != "ExternalName" {
        or(spec, "internalTrafficPolicy", "Cluster");
        or(spec, "ipFamilies", json!(["IPv4"]));
        or(spec, "ipFamilyPolicy", "SingleStack");
        if let Some(address) = spec["clusterIP"].as_str().map(str::to_owned) {
            or(spec, "clusterIPs", json!([address]));
        }
    }
    or(object, "status", json!({"loadBalancer": {}}));
}

fn secret(object: &mut Value) {
    or(object, "type", "Opaque");
    let Some(Value::Object(plain)) = object.as_object_mut().and_then(|o| o.remove("stringData"))
    else {
        return;
    };
    or(object, "data", Value::Object(Map::new()));
    for (key, text) in plain {
        object["data"][key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
    }
}

fn endpoint_slice(object: &mut Value) {
    for port in items(object, "ports") {
        or(port, "name", "");
        or(port, "protocol", "TCP");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_gets_its_defaults() {
        let mut object = json!({"spec": {"template": {"spec": {
            "containers": [{"name": "a", "image": "x/y", "ports": [{"containerPort": 1}]}],
            "volumes": [{"name": "v"}, {"name": "w", "secret": {"secretName": "s"}}],
        }}}});
        fill("deployments", &mut object);
        let spec = &object["spec"];
        assert_eq!(spec["replicas"], 1);
        assert_eq!(spec["strategy"]["rollingUpdate"]["maxSurge"], "25%");
        let pod = &spec["template"]["spec"];
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(pod["containers"][0]["ports"][0]["protocol"], "TCP");
        assert_eq!(pod["volumes"][0], json!({"name": "v", "emptyDir": {}}));
        assert_eq!(pod["volumes"][1]["secret"]["defaultMode"], 420);
    }

    #[test]
    fn a_secrets_text_is_encoded() {
        let mut object = json!({"stringData": {"a": "b"}});
        fill("secrets", &mut object);
        assert_eq!(object, json!({"type": "Opaque", "data": {"a": "Yg=="}}));
    }
}
