//! Releases by chance: what Surefoot's policy, the very code that the controller runs, and the rules
//! of its peers do on traffic of which the truth is known.
//!
//! Pure: chance comes in as a seed, and the same seed gives the same release.
//!
//! | module | what it holds |
//! |---|---|
//! | [`traffic`] | requests, failures and latencies of two versions |
//! | [`past`] | stable's pods before a release, for calibration |
//! | [`contest`] | the same traffic judged by every rule |
//! | [`forecast`] | whole releases by one plan |
//! | [`backtest`] | what of all that stable's own past would have made |
//! | [`tally`] | shares with their confidence, and medians |
#![deny(missing_docs)]

pub mod backtest;
pub mod contest;
pub mod forecast;
pub mod past;
pub mod tally;
pub mod traffic;

/// Three steps and the default metrics.
#[cfg(test)]
fn example_plan(gate: &serde_json::Value) -> surefoot_core::plan::Plan {
    let spec = serde_json::json!({
        "targetRef": {"kind": "Deployment", "name": "shop"},
        "traffic": {
            "mesh": "istio", "service": "shop",
            "routes": [{"kind": "VirtualService", "name": "shop"}],
        },
        "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}],
        "gate": gate,
    });
    surefoot_core::plan::Plan::of(&serde_json::from_value(spec).unwrap()).unwrap()
}
