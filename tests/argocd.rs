//! What Argo CD makes of a Rollout: its own language reads the script that is shipped.
#![expect(clippy::unwrap_used, reason = "a test")]

use mlua::{Lua, LuaSerdeExt, Table};
use serde_json::{Value, json};

/// Status and message of the health of an object.
fn health(object: &Value) -> (String, String) {
    let lua = Lua::new();
    lua.globals().set("obj", lua.to_value(object).unwrap()).unwrap();
    let script = include_str!("../deploy/argocd-health.lua");
    let said: Table = lua.load(script).eval().unwrap();
    (said.get("status").unwrap(), said.get("message").unwrap())
}

fn rollout(phase: &str, stalled: bool) -> Value {
    let stalled = if stalled { "True" } else { "False" };
    json!({
        "metadata": {"name": "shop", "generation": 2},
        "status": {
            "phase": phase, "message": "step 1 of 3", "observedGeneration": 2,
            "conditions": [{"type": "Ready", "status": "False", "message": "not yet"},
                {"type": "Stalled", "status": stalled, "message": "no such route"}],
        },
    })
}

#[test]
fn each_phase_has_its_health() {
    let cases = [
        ("Pending", "Progressing"),
        ("Healthy", "Healthy"),
        ("Preparing", "Progressing"),
        ("Stepping", "Progressing"),
        ("Paused", "Suspended"),
        ("Promoting", "Progressing"),
        ("RollingBack", "Progressing"),
        ("Degraded", "Degraded"),
    ];
    for (phase, wanted) in cases {
        let said = health(&rollout(phase, false));
        assert_eq!(said, (wanted.to_owned(), "step 1 of 3".to_owned()), "{phase}");
    }
}

#[test]
fn what_cant_go_on_is_degraded_and_says_why() {
    let said = health(&rollout("Pending", true));
    assert_eq!(said, ("Degraded".to_owned(), "no such route".to_owned()));
}

#[test]
fn nothing_is_said_of_a_spec_that_nobody_has_looked_at() {
    let new = json!({"metadata": {"name": "shop", "generation": 1}});
    assert_eq!(health(&new).0, "Progressing");
    let mut edited = rollout("Healthy", false);
    edited["metadata"]["generation"] = json!(3);
    assert_eq!(health(&edited).0, "Progressing");
}
