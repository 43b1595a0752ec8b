//! What `crds/` holds is what the code says; `make crds` writes it anew.

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn the_definitions_in_the_repository_are_those_of_the_code() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let files = surefoot::crds::files().unwrap();
    for (name, yaml) in &files {
        let have = std::fs::read_to_string(directory.join(name)).unwrap_or_default();
        assert!(have == *yaml, "crds/{name} is not what the code says: run `make crds`");
    }
    let wanted: BTreeSet<String> = files.into_iter().map(|(name, _)| name).collect();
    let there = std::fs::read_dir(directory).unwrap();
    let there: BTreeSet<String> =
        there.map(|f| f.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(there, wanted);
}

#[test]
fn the_reference_is_that_of_the_code() {
    let have = include_str!("../docs/reference.md");
    assert!(have == surefoot::crds::reference().unwrap(), "run `make crds`");
}

#[test]
fn every_field_is_explained() {
    for (name, yaml) in surefoot::crds::files().unwrap() {
        let crd: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut silent = Vec::new();
        walk(schema, "", &mut silent);
        assert!(silent.is_empty(), "{name}: no doc comment: {silent:?}");
    }
}

fn walk(schema: &serde_json::Value, path: &str, silent: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if field["description"].as_str().is_none_or(|d| d.trim().is_empty()) {
            silent.push(path.clone());
        }
        walk(field, &path, silent);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), silent);
    }
}
