use serde_json::{Value, json};

use super::*;

fn schema(node: Value) -> Schema {
    parse(&node, "schema").unwrap()
}

fn widget() -> Schema {
    schema(json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 100},
                    "name": {"type": "string", "pattern": "^[a-z]+$", "default": "x", "maxLength": 5},
                    "ratio": {"type": "number"},
                    "port": {"x-kubernetes-int-or-string": true},
                    "mode": {"type": "string", "enum": ["A", "B"]},
                    "note": {"type": "string", "nullable": true},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "parts": {
                        "type": "array", "maxItems": 3,
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                        "items": {
                            "type": "object",
                            "properties": {
                                "id": {"type": "string"},
                                "n": {"type": "integer", "default": 7},
                            },
                            "x-kubernetes-validations": [
                                {"rule": "!has(oldSelf.n) || self.n >= oldSelf.n", "message": "n never falls"},
                            ],
                        },
                    },
                },
                "x-kubernetes-validations": [
                    {"rule": "!has(self.ratio) || self.ratio <= 1.0", "message": "at most all"},
                    {"rule": "!has(self.parts) || self.parts.map(p, p.n).isSorted()"},
                    {"rule": "self.name.replace('%', '') == self.name"},
                ],
            },
        },
    }))
}

fn wrong(spec: Value, old: Option<Value>) -> Vec<String> {
    let object = |spec: Value| json!({"metadata": {"name": "w"}, "spec": spec});
    let mut value = object(spec);
    let schema = widget();
    default(&mut value, &schema);
    let old = old.map(object);
    let causes = validate(&value, old.as_ref(), &schema, Vec::new(), None);
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let mut value = json!({
        "apiVersion": "x/v1", "kind": "Widget", "metadata": {"name": "w", "anything": 1}, "extra": 1,
        "spec": {"size": 1, "typo": 2, "free": {"a": 1}, "labels": {"a": "b"}, "parts": [{"id": "a", "x": 1}]},
    });
    let mut unknown = Vec::new();
    prune(&mut value, &widget(), &mut unknown);
    assert_eq!(unknown, ["extra", "spec.parts[0].x", "spec.typo"]);
    assert_eq!(
        value["spec"],
        json!({"size": 1, "free": {"a": 1}, "labels": {"a": "b"}, "parts": [{"id": "a"}]})
    );
}

#[test]
fn defaults_are_filled_in_at_every_depth() {
    let mut value = json!({"spec": {"name": null, "note": null, "parts": [{"id": "a"}]}});
    default(&mut value, &widget());
    assert_eq!(value, json!({"spec": {"name": "x", "note": null, "parts": [{"id": "a", "n": 7}]}}));
}

#[test]
fn right_values_pass() {
    let spec = json!({
        "size": 5, "ratio": 1, "port": "http", "mode": "A", "note": null,
        "parts": [{"id": "a", "n": 1}, {"id": "b", "n": 2}],
    });
    assert_eq!(wrong(spec, None), [""; 0]);
}

#[test]
fn wrong_values_are_named_as_the_real_server_names_them() {
    for (spec, expected) in [
        (json!({}), "spec.size: Required value"),
        (
            json!({"size": 101}),
            "spec.size: Invalid value: 101: spec.size in body should be less than or equal to 100",
        ),
        (
            json!({"size": "a"}),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({"size": 1, "mode": "C"}),
            "spec.mode: Unsupported value: \"C\": supported values: \"A\", \"B\"",
        ),
        (
            json!({"size": 1, "name": "A"}),
            "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'",
        ),
        (json!({"size": 1, "name": "abcdef"}), "spec.name: Too long: may not be more than 5 bytes"),
        (
            json!({"size": 1, "parts": [{"id": "a"}, {"id": "a"}]}),
            "spec.parts[1]: Duplicate value: {\"id\":\"a\"}",
        ),
    ] {
        assert_eq!(wrong(spec.clone(), None)[0], expected, "{spec}");
    }
}

#[test]
fn rules_are_asked_unless_what_they_look_at_may_be_missing() {
    let both = wrong(json!({"size": 101, "ratio": 1.5}), None);
    assert!(both[0].contains("less than or equal to 100") && both[1].contains("at most all"));
    let blocked = wrong(json!({"ratio": 1.5}), None);
    assert!(blocked[0].contains("Required") && blocked[1].contains("were not checked"));
    assert_eq!(wrong(json!({"size": 1, "ratio": 1.5}), None), ["spec: Invalid value: at most all"]);
    let falling = json!({"size": 1, "parts": [{"id": "a", "n": 2}, {"id": "b", "n": 1}]});
    assert_eq!(
        wrong(falling, None),
        ["spec: Invalid value: failed rule: !has(self.parts) || self.parts.map(p, p.n).isSorted()"]
    );
}

#[test]
fn transition_rules_see_the_item_of_the_same_key() {
    let old = json!({"size": 1, "parts": [{"id": "a", "n": 5}]});
    let fallen = json!({"size": 1, "parts": [{"id": "a", "n": 4}]});
    assert_eq!(wrong(fallen.clone(), Some(old)), ["spec.parts[0]: Invalid value: n never falls"]);
    assert_eq!(wrong(fallen, None), [""; 0], "nothing before it");
}

#[test]
fn a_schema_that_cant_be_read_is_refused_with_the_place() {
    let node = json!({"properties": {"a": {"type": "strange"}, "b": {"pattern": "("}, "c": {
        "x-kubernetes-validations": [{"rule": "self =="}],
    }}});
    let fields: Vec<String> =
        parse(&node, "s").unwrap_err().into_iter().map(|cause| cause.field).collect();
    assert_eq!(
        fields,
        [
            "s.properties[a].type",
            "s.properties[b].pattern",
            "s.properties[c].x-kubernetes-validations[0].rule"
        ]
    );
}

#[test]
fn rules_that_the_sandbox_cant_evaluate_are_refused_with_the_definition() {
    for rule in [
        json!({"rule": "quantity(self).isGreaterThan(quantity('1'))"}),
        json!({"rule": "self.a.b.isSorted() && self.sum() > 1"}),
        json!({"rule": "oldSelf.orValue(1) == 1", "optionalOldSelf": true}),
    ] {
        let node = json!({"type": "string", "x-kubernetes-validations": [rule]});
        let causes = parse(&node, "s").unwrap_err();
        assert!(causes[0].message.contains("kube-sandbox doesn't know"), "{causes:?}");
    }
}

#[test]
fn addresses_are_told_from_names() {
    let node = json!({"type": "array", "items": {"type": "string"},
        "x-kubernetes-validations": [{"rule": "self.all(h, !isIP(h))", "message": "no addresses"}]});
    let schema = schema(node);
    let wrong = |hosts: Value| validate(&hosts, None, &schema, Vec::new(), None).len();
    assert_eq!((wrong(json!(["a.example"])), wrong(json!(["a", "10.0.0.1"]))), (0, 1));
    assert_eq!(wrong(json!(["::1"])), 1);
}
