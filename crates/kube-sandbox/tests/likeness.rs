//! What `make fidelity` has shown of the real server, each held by a test.

#![allow(clippy::unwrap_used)]

mod common;

use common::{
    define, definition, delete, deployment, get, json_patch, merge, post, put, shop, template,
};
use kube_sandbox::{Request, Sandbox};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/shop/pods";
const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
const CORE_EVENTS: &str = "/api/v1/namespaces/shop/events";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/shop/widgets";

fn pod() -> Value {
    json!({"metadata": {"name": "a"}, "spec": template("1")["spec"]})
}

fn event() -> Value {
    json!({
        "metadata": {"name": "a"}, "involvedObject": {"namespace": "shop", "name": "web", "kind": "Rollout"},
        "eventTime": "2026-01-01T00:00:00.000001Z", "reportingComponent": "surefoot.dev/controller",
        "reportingInstance": "one", "action": "Promote", "reason": "Promoted", "type": "Normal",
    })
}

/// A sandbox with a kind whose fields have bounds and rules.
fn widgets() -> Sandbox {
    let sandbox = shop();
    let mut widgets = definition("example.com", "v1", "widgets", "Widget");
    let version = &mut widgets["spec"]["versions"][0];
    version["schema"]["openAPIV3Schema"]["properties"] = json!({
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer", "format": "int32"},
                "one": {"type": "array", "items": {"type": "string"}, "maxItems": 1},
                "last": {
                    "type": "array", "items": {"type": "integer"},
                    "x-kubernetes-validations": [{"rule": "self[size(self) - 1] == 1", "message": "ends with 1"}],
                },
                "wait": {
                    "type": "string",
                    "x-kubernetes-validations": [{"rule": "duration(self) > duration('0s')", "message": "waits"}],
                },
            },
        },
        "status": {"type": "object", "properties": {
            "deep": {"type": "object", "properties": {"size": {"type": "integer", "maximum": 9}}},
        }},
    });
    define(&sandbox, &widgets);
    sandbox
}

fn widget(spec: Value) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec,
    })
}

/// Who owns something, by way of which subresource, and whether since a time.
fn owners(object: &Value) -> Vec<(&str, &str, bool)> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut owners = Vec::new();
    for entry in entries {
        let text = |name| entry[name].as_str().unwrap_or_default();
        owners.push((text("manager"), text("subresource"), entry["time"].is_string()));
    }
    owners
}

fn messages(answer: &Value) -> Vec<&str> {
    let causes = answer["details"]["causes"].as_array().into_iter().flatten();
    causes.map(|cause| cause["message"].as_str().unwrap()).collect()
}

#[test]
fn a_pod_ends_in_two_writes() {
    let sandbox = shop();
    let (_, made) = post(&sandbox, PODS, &pod());
    let (code, last) = delete(&sandbox, &format!("{PODS}/a"), &json!({}));
    assert_eq!((code, &last["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(0)));
    assert_eq!(last["metadata"]["generation"], 2);
    let version = |object: &Value| -> u64 {
        object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
    };
    assert_eq!(version(&last), version(&made) + 2);
}

#[test]
fn admission_gives_a_new_pod_its_account_and_an_update_must_repeat_it() {
    let sandbox = shop();
    let (_, made) = post(&sandbox, PODS, &pod());
    assert_eq!(made["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let (code, answer) = put(&sandbox, &format!("{PODS}/a"), &pod());
    assert_eq!(code, 422, "{answer}");
    let mut same = pod();
    same["spec"]["serviceAccountName"] = "default".into();
    let (code, answer) = put(&sandbox, &format!("{PODS}/a"), &same);
    assert_eq!(code, 200, "{answer}");
    assert_eq!(answer["spec"]["priority"], 0);
}

#[test]
fn a_pods_address_is_told_twice_and_must_be_one() {
    let sandbox = shop();
    post(&sandbox, PODS, &pod());
    let status = format!("{PODS}/a/status");
    let (_, answer) = merge(&sandbox, &status, &json!({"status": {"podIP": "10.0.0.1"}}));
    assert_eq!(answer["status"]["podIPs"], json!([{"ip": "10.0.0.1"}]));
    let (code, answer) = merge(&sandbox, &status, &json!({"status": {"podIP": "nowhere"}}));
    assert_eq!((code, &answer["details"]["causes"][0]["field"]), (422, &json!("status.podIPs[0]")));
    let (code, _) = merge(&sandbox, &status, &json!({"status": {"qosClass": "Guaranteed"}}));
    assert_eq!(code, 422);
}

#[test]
fn a_scale_leaves_its_owner_twice_until_the_next_write() {
    let sandbox = shop();
    post(&sandbox, "/apis/apps/v1/namespaces/shop/deployments?fieldManager=maker", &deployment());
    let scale = format!("{WEB}/scale?fieldManager=scaler");
    merge(&sandbox, &scale, &json!({"spec": {"replicas": 3}}));
    let twice = [("maker", "", false), ("maker", "", true)];
    assert_eq!(owners(&get(&sandbox, WEB).1), twice);
    merge(&sandbox, WEB, &json!({}));
    assert_eq!(owners(&get(&sandbox, WEB).1), [("maker", "", true)]);
    // Nobody owns the number any more, and so nobody comes to.
    merge(&sandbox, &scale, &json!({"spec": {"replicas": 5}}));
    assert_eq!(owners(&get(&sandbox, WEB).1), [("maker", "", true)]);
    merge(&sandbox, &format!("{WEB}?fieldManager=other"), &json!({"spec": {"replicas": 4}}));
    merge(&sandbox, &scale, &json!({"spec": {"replicas": 5}}));
    let scaled = [("scaler", "scale", false), ("maker", "", true)];
    assert_eq!(owners(&get(&sandbox, WEB).1), scaled);
}

#[test]
fn each_api_of_events_forgets_who_wrote_by_the_other() {
    let sandbox = shop();
    let (code, answer) = post(&sandbox, &format!("{CORE_EVENTS}?fieldManager=core"), &event());
    assert_eq!(code, 201, "{answer}");
    let uri = format!("{EVENTS}/a?fieldManager=new");
    merge(&sandbox, &uri, &json!({"metadata": {"labels": {"a": "b"}}}));
    let (_, shown) = get(&sandbox, &format!("{EVENTS}/a"));
    assert_eq!(owners(&shown), [("new", "", true)]);
    assert_eq!(shown["regarding"]["name"], "web");
    let (code, answer) = merge(&sandbox, &uri, &json!({"regarding": {"name": "other"}}));
    assert_eq!(code, 422);
    assert!(answer["message"].as_str().unwrap().starts_with("Event \"a\" is invalid"), "{answer}");
}

#[test]
fn nothing_depends_on_an_event() {
    let sandbox = shop();
    post(&sandbox, CORE_EVENTS, &event());
    let foreground = json!({"propagationPolicy": "Foreground"});
    delete(&sandbox, &format!("{CORE_EVENTS}/a"), &foreground);
    assert_eq!(get(&sandbox, &format!("{CORE_EVENTS}/a")).0, 404);
}

#[test]
fn there_are_three_propagation_policies() {
    let sandbox = shop();
    let (code, answer) = delete(&sandbox, WEB, &json!({"propagationPolicy": "Sideways"}));
    assert_eq!((code, &answer["details"]["kind"]), (422, &json!("DeleteOptions")));
}

#[test]
fn a_status_is_validated_as_if_it_were_all() {
    let sandbox = widgets();
    post(&sandbox, WIDGETS, &widget(json!({})));
    let uri = format!("{WIDGETS}/a/status");
    let (code, answer) = merge(&sandbox, &uri, &json!({"status": {"deep": {"size": 10}}}));
    assert_eq!((code, &answer["details"]["causes"][0]["field"]), (422, &json!("status.deep.size")));
    assert_eq!(
        messages(&answer),
        ["Invalid value: 10: deep.size in body should be less than or equal to 9"]
    );
}

#[test]
fn numbers_that_their_format_cannot_hold_are_told_apart() {
    let sandbox = widgets();
    let (_, answer) = post(&sandbox, WIDGETS, &widget(json!({"size": 2_147_483_648_i64})));
    assert_eq!(
        messages(&answer),
        [
            "Invalid value: \"\": Checked value must be of type integer with format int32 in spec.size"
        ]
    );
    assert_eq!(answer["details"]["causes"][0]["field"], "<nil>");
    let (_, answer) = post(&sandbox, WIDGETS, &widget(json!({"one": ["a", "b"]})));
    assert!(messages(&answer)[0].ends_with("must have at most 1 item"), "{answer}");
}

#[test]
fn rules_that_fail_say_so_in_the_real_engines_words() {
    let sandbox = widgets();
    let (_, answer) = post(&sandbox, WIDGETS, &widget(json!({"last": [], "wait": "99999999h"})));
    let said = messages(&answer);
    assert!(said[0].contains("index out of bounds: -1 evaluating rule: ends with 1"), "{answer}");
    let duration = "type conversion error from 'string' to 'google.protobuf.Duration'";
    assert!(said[1].contains(duration), "{answer}");
}

#[test]
fn an_object_of_another_kind_is_told_nothing_else() {
    let sandbox = widgets();
    let mut other = widget(json!({"size": 2_147_483_648_i64}));
    other["kind"] = "Other".into();
    let (code, answer) = post(&sandbox, WIDGETS, &other);
    assert_eq!((code, messages(&answer)), (422, vec!["Invalid value: \"Other\": must be Widget"]));
}

#[test]
fn a_custom_kind_without_a_subresource_seems_to_have_no_object() {
    let sandbox = widgets();
    post(&sandbox, WIDGETS, &widget(json!({})));
    let (code, answer) = get(&sandbox, &format!("{WIDGETS}/a/scale"));
    assert_eq!((code, &answer["message"]), (404, &json!("widgets.example.com \"a\" not found")));
}

#[test]
fn a_list_of_metadata_alone_has_no_items_rather_than_none() {
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io".to_owned();
    let request = Request { accept, ..Request::get(PODS) };
    let (_, list) = common::read(shop().handle(&request));
    assert_eq!((&list["items"], list["metadata"].get("continue")), (&Value::Null, None));
}

#[test]
fn a_table_tells_of_a_pod_that_has_ended() {
    let sandbox = shop();
    post(&sandbox, PODS, &pod());
    let evicted = json!([{"op": "add", "path": "/status", "value": {"phase": "Failed", "reason": "Evicted"}}]);
    json_patch(&sandbox, &format!("{PODS}/a/status"), &evicted);
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io".to_owned();
    let (_, table) = common::read(sandbox.handle(&Request { accept, ..Request::get(PODS) }));
    assert_eq!(table["rows"][0]["cells"][2], "Evicted");
    assert_eq!(table["rows"][0]["conditions"][0]["type"], "Completed");
}
