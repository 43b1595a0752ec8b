//! The examples in the documentation are read as the API server and the controller would read them.

#![expect(clippy::unwrap_used, reason = "an example that can't be read fails its test")]

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use surefoot_core::api::NotificationChannelSpec;
use surefoot_core::api::rollout::RolloutSpec;
use surefoot_core::plan::Plan;

/// The spec as its type reads it; a field that the type doesn't know is a mistake.
fn spec<T: Serialize + DeserializeOwned>(object: &Value) -> T {
    let spec: T = serde_json::from_value(object["spec"].clone()).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), object["spec"], "a field is unknown");
    spec
}

#[test]
fn every_yaml_example_is_valid() {
    let documents = [
        include_str!("../docs/install.md"),
        include_str!("../docs/routing.md"),
        include_str!("../docs/linkerd.md"),
        include_str!("../docs/gitops.md"),
        include_str!("../docs/notifications.md"),
    ];
    let blocks = documents.iter().flat_map(|text| text.split("```yaml\n").skip(1));
    let (mut rollouts, mut channels) = (0, 0);
    let documents = blocks.filter_map(|rest| rest.split("```").next());
    for document in documents.flat_map(|block| block.split("---\n")) {
        let object: Value = serde_saphyr::from_str(document).unwrap();
        assert!(object["apiVersion"].is_string() && object["metadata"]["name"].is_string());
        if object["kind"] == "Rollout" {
            Plan::of(&spec::<RolloutSpec>(&object)).unwrap();
            rollouts += 1;
        }
        if object["kind"] == "NotificationChannel" {
            spec::<NotificationChannelSpec>(&object);
            channels += 1;
        }
    }
    assert_eq!((rollouts, channels), (11, 2));
}

#[test]
fn every_file_that_is_named_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in [
        "README.md",
        "docs/install.md",
        "docs/routing.md",
        "docs/linkerd.md",
        "docs/gitops.md",
        "docs/notifications.md",
        "docs/architecture.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let words = text.split(|c: char| c.is_whitespace() || "()`,".contains(c));
        for path in words.filter(|w| w.starts_with("deploy/") || w.starts_with("docs/")) {
            let path = path.trim_end_matches([';', '.', ':']);
            assert!(root.join(path).exists(), "{document} names {path}");
        }
    }
}
