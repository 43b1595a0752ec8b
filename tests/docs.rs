//! The examples in the documentation are read as the API server and the controller would read them.

use serde_json::Value;
use surefoot_core::api::rollout::RolloutSpec;
use surefoot_core::plan::Plan;

#[test]
fn every_yaml_example_is_valid() {
    let text = include_str!("../docs/install.md");
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut rollouts = 0;
    for block in blocks {
        let object: Value = serde_saphyr::from_str(block).unwrap();
        assert!(object["apiVersion"].is_string() && object["metadata"]["name"].is_string());
        if object["kind"] == "Rollout" {
            let spec: RolloutSpec = serde_json::from_value(object["spec"].clone()).unwrap();
            assert_eq!(serde_json::to_value(&spec).unwrap(), object["spec"], "a field is unknown");
            Plan::of(&spec).unwrap();
            rollouts += 1;
        }
    }
    assert_eq!(rollouts, 2);
}

#[test]
fn every_file_that_is_named_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in ["README.md", "docs/install.md", "docs/architecture.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let words = text.split(|c: char| c.is_whitespace() || "()`,".contains(c));
        for path in words.filter(|w| w.starts_with("deploy/") || w.starts_with("docs/")) {
            let path = path.trim_end_matches([';', '.', ':']);
            assert!(root.join(path).exists(), "{document} names {path}");
        }
    }
}
