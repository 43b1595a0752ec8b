//! The kinds of the sequences, and objects of them: right ones, and ones with something wrong.

use kube_sandbox::Dice;
use serde_json::{Value, json};

use super::pick;
use crate::Error;

/// A kind, as one API serves it.
#[derive(Clone, Copy)]
pub struct Kind {
    pub path: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
}

const fn kind(path: &'static str, plural: &'static str, kind: &'static str) -> Kind {
    Kind { path, plural, kind }
}

/// The uid of an object that isn't there.
const UID: &str = "00000000-0000-4000-8000-000000000000";
const CORE: &str = "/api/v1";
const APPS: &str = "/apis/apps/v1";
const SUREFOOT: &str = "/apis/surefoot.dev/v1alpha1";

/// A sequence is about one of these: a resource, by the APIs that serve it. What is named twice comes
/// twice as often.
pub const RESOURCES: [&[Kind]; 12] = [
    &[kind(CORE, "configmaps", "ConfigMap")],
    &[kind(CORE, "services", "Service")],
    &[kind(CORE, "pods", "Pod")],
    &[kind(CORE, "pods", "Pod")],
    &[kind(CORE, "events", "Event"), kind("/apis/events.k8s.io/v1", "events", "Event")],
    &[kind(APPS, "deployments", "Deployment")],
    &[kind(APPS, "replicasets", "ReplicaSet")],
    &[kind("/apis/coordination.k8s.io/v1", "leases", "Lease")],
    &[kind("/apis/example.com/v1", "widgets", "Widget")],
    &[kind(SUREFOOT, "rollouts", "Rollout")],
    &[kind(SUREFOOT, "rollouts", "Rollout")],
    &[kind(SUREFOOT, "rolloutactions", "RolloutAction")],
];

/// The definitions of the custom kinds: one that has everything, and Surefoot's own.
pub fn definitions() -> Result<Vec<Value>, Error> {
    let mut definitions = vec![widgets()];
    for text in [
        include_str!("../../../../../crds/rollouts.yaml"),
        include_str!("../../../../../crds/rolloutactions.yaml"),
    ] {
        definitions.push(serde_saphyr::from_str(text)?);
    }
    Ok(definitions)
}

/// Defaults, bounds, rules, status, scale.
fn widgets() -> Value {
    let spec = json!({
        "type": "object", "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 0, "maximum": 10},
            "replicas": {"type": "integer", "default": 1},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "default": "x"},
            "mode": {"type": "string", "enum": ["A", "B"]},
            "ratio": {"type": "number"},
            "port": {"x-kubernetes-int-or-string": true},
            "parts": {
                "type": "array", "maxItems": 3,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                "items": {
                    "type": "object", "required": ["id"],
                    "properties": {"id": {"type": "string"}, "n": {"type": "integer", "default": 7}},
                },
            },
        },
        "x-kubernetes-validations": [
            {"rule": "self.size >= oldSelf.size", "message": "size never falls"},
            {"rule": "!has(self.ratio) || self.ratio <= 1.0", "message": "at most all"},
        ],
    });
    let status = json!({
        "type": "object",
        "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string"}},
    });
    let subresources = json!({
        "status": {},
        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": subresources,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
            }],
        },
    })
}

impl Kind {
    /// The `apiVersion` of its objects.
    pub fn api_version(&self) -> &'static str {
        self.path.trim_start_matches("/apis/").trim_start_matches("/api/")
    }

    /// An object with which nothing is wrong.
    pub fn plain(&self, name: &str, namespace: &str) -> Value {
        let mut object = json!({
            "apiVersion": self.api_version(), "kind": self.kind,
            "metadata": {"name": name, "labels": {"app": "web"}},
        });
        match self.plural {
            "configmaps" => object["data"] = json!({"a": "b"}),
            "services" => {
                object["spec"] = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
            }
            "deployments" | "replicasets" => object["spec"] = workload(),
            "pods" => object["spec"] = template()["spec"].clone(),
            "leases" => {
                object["spec"] = json!({"holderIdentity": "me", "leaseDurationSeconds": 15});
            }
            "rollouts" => object["spec"] = rollout(),
            "rolloutactions" => object["spec"] = action(),
            "events" => merge(&mut object, &self.event(namespace)),
            _ => object["spec"] = json!({"size": 3, "parts": [{"id": "p"}]}),
        }
        object
    }

    /// What an Event says; the two APIs have other names for it.
    fn event(&self, namespace: &str) -> Value {
        let about = json!({
            "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout", "name": "shop",
            "namespace": namespace, "uid": UID,
        });
        let (about_as, note, who) = match self.path {
            CORE => ("involvedObject", "message", "reportingComponent"),
            _ => ("regarding", "note", "reportingController"),
        };
        json!({
            "eventTime": "2020-01-01T00:00:00.000001Z", "reason": "Promoted", "action": "Promote",
            "type": "Normal", "reportingInstance": "one",
            (who): "surefoot.dev/controller", (about_as): about, (note): "all is well",
        })
    }

    /// An object, as often as not with something wrong.
    pub fn object(&self, dice: &mut Dice, name: &str, namespace: &str) -> Value {
        let mut object = self.plain(name, namespace);
        if pick(dice, 2) == 0
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("labels");
        }
        if pick(dice, 6) == 0 {
            object["metadata"]["finalizers"] = json!(["example.com/wait"]);
        }
        match pick(dice, 14) {
            0 => object["extra"] = 1.into(),
            1 => object["metadata"]["namespace"] = "elsewhere".into(),
            2 => object["metadata"]["name"] = "Bad_Name".into(),
            3 => object["metadata"]["resourceVersion"] = "1".into(),
            4 if self.plural != "events" => object["spec"]["replicas"] = (-1).into(),
            5 if self.plural != "events" => object["spec"]["size"] = 11.into(),
            6 => object["kind"] = "Other".into(),
            7..=10 => {
                let changes = self.changes();
                if !changes.is_empty() {
                    merge(&mut object, &changes[pick(dice, changes.len())]);
                }
            }
            _ => {}
        }
        object
    }

    /// What may differ, rightly or wrongly, in an object of this kind: merge patches.
    pub fn changes(&self) -> Vec<Value> {
        match (self.plural, self.path) {
            ("pods", _) => pods(),
            ("rollouts", _) => rollouts(),
            ("rolloutactions", _) => actions(),
            ("events", CORE) => core_events(),
            ("events", _) => events(),
            _ => Vec::new(),
        }
    }
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, field) in patch {
                if field.is_null() {
                    into.remove(name);
                } else {
                    merge(into.entry(name.clone()).or_insert(Value::Null), field);
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

fn workload() -> Value {
    let selector = json!({"matchLabels": {"app": "web"}});
    json!({"replicas": 2, "selector": selector, "template": template()})
}

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]}]},
    })
}

fn pods() -> Vec<Value> {
    vec![
        json!({"spec": {"nodeName": "node"}}),
        json!({"spec": {"nodeName": "node", "terminationGracePeriodSeconds": 5}}),
        json!({"spec": {"containers": [{"name": "web", "image": "web:2", "ports": [{"containerPort": 80}]}]}}),
        json!({"spec": {"containers": [{"name": "web"}]}}),
        json!({"spec": {"containers": [{"name": "Web", "image": "web:1"}]}}),
        json!({"spec": {"containers": []}}),
        json!({"spec": {"containers": [{"name": "web", "image": "web:1"}, {"name": "web", "image": "web:1"}]}}),
        json!({"spec": {"activeDeadlineSeconds": 60}}),
        json!({"spec": {"restartPolicy": "Never"}}),
        json!({"spec": {"restartPolicy": "Sometimes"}}),
        json!({"spec": {"dnsPolicy": "Default"}}),
        json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}}),
        json!({"spec": {"readinessGates": [{"conditionType": "example.com/ready"}]}}),
        json!({"spec": {"containers": [{
            "name": "web", "image": "web:1", "resources": {"requests": {"cpu": "100m"}},
            "readinessProbe": {"httpGet": {"port": 80}}, "env": [{"name": "A", "value": "b"}],
        }]}}),
    ]
}

fn core_events() -> Vec<Value> {
    vec![
        json!({"eventTime": null}),
        json!({"eventTime": null, "reportingComponent": null, "reportingInstance": null, "action": null,
            "count": 1, "firstTimestamp": "2020-01-01T00:00:00Z", "lastTimestamp": "2020-01-01T00:00:00Z",
            "source": {"component": "kubelet"}}),
        json!({"count": 2, "lastTimestamp": "2020-01-01T00:01:00Z"}),
        json!({"involvedObject": {"namespace": "elsewhere"}}),
        json!({"involvedObject": {"namespace": null}}),
        json!({"eventTime": null, "involvedObject": {"namespace": "elsewhere"}}),
        json!({"message": "another"}),
        json!({"message": "n".repeat(1025)}),
        json!({"reason": null, "action": ""}),
        json!({"reportingComponent": "not a name"}),
        json!({"reportingComponent": null, "reportingInstance": ""}),
        json!({"type": "Odd"}),
        json!({"series": {"count": 3, "lastObservedTime": "2020-01-01T00:02:00.000000Z"}}),
    ]
}

fn events() -> Vec<Value> {
    vec![
        json!({"eventTime": null}),
        json!({"eventTime": null, "reportingController": null}),
        json!({"regarding": {"namespace": "elsewhere"}}),
        json!({"regarding": {"namespace": null}}),
        json!({"regarding": {"name": "another"}}),
        json!({"note": "another"}),
        json!({"note": "n".repeat(1025)}),
        json!({"reason": null, "action": ""}),
        json!({"reason": "Another"}),
        json!({"reportingController": "not a name"}),
        json!({"reportingInstance": "i".repeat(129)}),
        json!({"type": "Odd"}),
        json!({"deprecatedCount": 2}),
        json!({"deprecatedSource": {"component": "kubelet"}}),
        json!({"deprecatedLastTimestamp": "2020-01-01T00:00:00Z"}),
        json!({"series": {"count": 3, "lastObservedTime": "2020-01-01T00:02:00.000000Z"}}),
        json!({"series": {"count": 1, "lastObservedTime": "2020-01-01T00:02:00.000000Z"}}),
    ]
}

/// The Rollout of the end-to-end tests.
fn rollout() -> Value {
    json!({
        "targetRef": {"kind": "Deployment", "name": "shop"},
        "traffic": {
            "mesh": "istio", "service": "shop", "propagationDelay": "1s",
            "routes": [{"kind": "VirtualService", "name": "shop"}],
        },
        "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}],
        "gate": {"minDuration": "4s", "maxDuration": "60s", "minRequests": 30},
        "analysis": {
            "sourceRef": {"kind": "MetricsSource", "name": "default"},
            "metrics": [{"name": "success-rate", "successRate": {"maxDrop": "5pp"}}],
        },
        "scaleDownDelay": "1s",
    })
}

fn rollouts() -> Vec<Value> {
    let metrics = |metric: Value| json!({"spec": {"analysis": {"metrics": [metric]}}});
    let rate = |more: Value| {
        let mut metric = json!({"name": "success-rate", "successRate": {"maxDrop": "5pp"}});
        merge(&mut metric, &more);
        metrics(metric)
    };
    let split = |split: Value| json!({"spec": {"traffic": {"split": split}}});
    vec![
        json!({"spec": {"paused": true}}),
        json!({"spec": {"undo": "steps", "onDelete": "revert"}}),
        json!({"spec": {"undo": "never"}}),
        json!({"spec": {"steps": []}}),
        json!({"spec": {"steps": [{"weight": 10}]}}),
        json!({"spec": {"steps": [{"weight": 50}, {"weight": 10}, {"weight": 100}]}}),
        json!({"spec": {"steps": [{"weight": 50}, {"weight": 50}, {"weight": 100}]}}),
        json!({"spec": {"steps": [{"weight": 0}, {"weight": 101}, {"weight": 1.5}]}}),
        json!({"spec": {"steps": [{"weight": 10, "approval": {}}, {"weight": 100, "replicas": "25%"}]}}),
        json!({"spec": {"steps": [{"weight": "10"}, {"weight": 100}]}}),
        json!({"spec": {"steps": [{"replicas": "1"}, {"weight": 100}]}}),
        json!({"spec": {"steps": "all"}}),
        json!({"spec": {"gate": {"minDuration": "0s", "settle": "25h"}}}),
        json!({"spec": {"gate": {"minDuration": "soon"}}}),
        json!({"spec": {"gate": {"minRequests": 0, "onInconclusive": "wait"}}}),
        json!({"spec": {"gate": null}}),
        json!({"spec": {"scaleDownDelay": "99999999h"}}),
        json!({"spec": {"progressDeadline": "{{ args.deadline }}"}}),
        json!({"spec": {"targetRef": {"name": "Other/shop"}}}),
        json!({"spec": {"targetRef": {"name": "a".repeat(50)}}}),
        json!({"spec": {"targetRef": {"kind": "StatefulSet", "namespace": "other"}}}),
        json!({"spec": {"traffic": {"service": ""}}}),
        json!({"spec": {"traffic": {"routes": [{"kind": "VirtualService", "name": "a"}, {"kind": "VirtualService", "name": "a"}]}}}),
        json!({"spec": {"traffic": {"routes": []}}}),
        split(json!({"services": {"stable": "shop", "canary": "shop-canary"}})),
        split(json!({"services": {"stable": "shop-stable", "canary": "shop-canary"}})),
        split(json!({"services": {"stable": "shop-stable", "canary": "shop-stable"}})),
        split(json!({"subsets": {"destinationRule": "shop", "stable": "a", "canary": "b"}})),
        split(json!({})),
        json!({"spec": {"traffic": {"apex": "stableOnly", "split": {"subsets": {"destinationRule": "shop", "stable": "a", "canary": "a"}}}}}),
        rate(json!({"role": "guard"})),
        rate(json!({"judge": "fisher"})),
        rate(json!({"judge": "threshold", "checks": {"interval": "1s"}})),
        rate(json!({"successRate": {"maxDrop": null}})),
        rate(json!({"latency": {"max": "100ms"}})),
        rate(json!({"importance": 101})),
        rate(json!({"calibration": {"dispersion": "0.5"}})),
        rate(json!({"calibration": {"dispersion": "2.5", "voteExponent": "0"}})),
        metrics(json!({"name": "slow", "latency": {"max": "100ms", "percentile": 99}})),
        metrics(json!({"name": "slow", "latency": {"max": "25h"}})),
        metrics(json!({"name": "q", "prometheus": {"query": "up", "min": "1"}})),
        metrics(json!({"name": "q", "prometheus": {"query": "up"}, "judge": "fisher"})),
        metrics(json!({"name": "A b", "abandoned": {}})),
        json!({"spec": {"analysis": {"falsePass": "60%", "falseRollback": "1%"}}}),
        json!({"spec": {"analysis": {"falsePass": "1pp"}}}),
        json!({"spec": {"notifications": [{"channel": "c", "events": ["Started", "Started"]}]}}),
        json!({"spec": {"notifications": [{"channel": "c"}, {"channel": "c", "events": ["Ended"]}]}}),
        json!({"spec": {"analysis": null}}),
        json!({"spec": null}),
    ]
}

fn action() -> Value {
    json!({
        "rollout": "shop", "uid": UID, "release": 2, "step": 0, "action": "promote",
        "requestedBy": "admin",
    })
}

fn actions() -> Vec<Value> {
    vec![
        json!({"spec": {"action": "destroy"}}),
        json!({"spec": {"action": "abort", "reason": "too slow"}}),
        json!({"spec": {"reason": "r".repeat(513)}}),
        json!({"spec": {"reason": null}}),
        json!({"spec": {"release": 0}}),
        json!({"spec": {"release": 9_007_199_254_740_993_i64}}),
        json!({"spec": {"release": "2"}}),
        json!({"spec": {"step": 20}}),
        json!({"spec": {"step": -1}}),
        json!({"spec": {"step": 2_147_483_648_i64}}),
        json!({"spec": {"step": 0.5}}),
        json!({"spec": {"uid": ""}}),
        json!({"spec": {"uid": null, "requestedBy": null}}),
        json!({"spec": {"rollout": "r".repeat(254)}}),
        json!({"spec": {"other": {"a": [1]}}}),
        json!({"status": {"a": 1}}),
        json!({"spec": null}),
    ]
}
