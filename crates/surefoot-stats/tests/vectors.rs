//! The reference values, to a relative 1e-9.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::collections::BTreeSet;

use serde_json::Value;
use surefoot_stats::grid::{
    ABSOLUTE_SAFE_WEIGHTS, HARM, OBJECTIVE_SAFE, SAFE, SAFE_WEIGHTS, log_mean, log_mix,
};
use surefoot_stats::{Arm, Baseline, Block, absolute, interval, objective, share};

/// Kinds of test that a later change brings.
const LATER: [&str; 10] = [
    "confseq-betabin",
    "confseq-normal",
    "confseq-lil",
    "lindon-malek",
    "quantile-cs-0.5",
    "quantile-cs-0.9",
    "quantile-cs-0.99",
    "sign-1",
    "classical",
    "planner",
];

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/sequential.json")).unwrap()
}

fn close(id: &str, have: f64, want: &Value) {
    let want = want.as_f64().unwrap();
    let error = (have - want).abs() / want.abs().max(1e-12);
    assert!(error <= 1e-9, "{id}: {have} is not {want} (relative error {error:e})");
}

fn blocks(input: &Value) -> Vec<Block> {
    let block = |b: &Value| {
        let n: Vec<u64> = b.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        Block { canary: Arm { n: n[0], k: n[1] }, stable: Arm { n: n[2], k: n[3] } }
    };
    input["blocks"].as_array().or(input["windows"].as_array()).unwrap().iter().map(block).collect()
}

fn pair(input: &Value) -> Block {
    let n = |name: &str| input[name].as_u64().unwrap();
    Block { canary: Arm { n: n("n1"), k: n("k1") }, stable: Arm { n: n("n0"), k: n("k0") } }
}

fn one(input: &Value) -> Arm {
    Arm { n: input["n"].as_u64().unwrap(), k: input["k"].as_u64().unwrap() }
}

fn check(id: &str, input: &Value, output: &Value) -> bool {
    let number = |name: &str| input[name].as_f64().unwrap();
    match id {
        "share-1" | "share-2" | "share-4" | "share-tempered" => {
            let mut logs = [0.0; 12];
            let phi = input["phi"].as_f64().unwrap_or(1.0);
            for (i, block) in blocks(input).iter().enumerate() {
                share::harm(&mut logs, block, number("R0"), &HARM, phi);
                if let Some(all) = output.get("cumulative") {
                    close(id, log_mean(&logs), &all[i]);
                }
            }
            close(id, log_mean(&logs), &output["logE"]);
            if let Some(at_two) = output.get("logE_R2") {
                close(id, logs[2], at_two);
                close(id, logs[4], &output["logE_R5"]);
                close(id, log_mean(&logs).exp(), &output["E"]);
            }
        }
        "share-promote" => {
            let mut logs = [0.0; 6];
            share::promote(&mut logs, &blocks(input)[0], number("R0"), &SAFE, 1.0);
            let mixed = log_mix(SAFE_WEIGHTS.iter().copied().zip(logs));
            close(id, mixed, &output["logE"]);
        }
        "abs-rollback" => {
            let (block, d) = (pair(input), number("delta"));
            let (th1, th0) = (number("th1"), number("th0"));
            let (star1, star0) = absolute::project(5000.0, 45000.0, th1, th0, d);
            close(id, star1, &output["th1s"]);
            close(id, star0, &output["th0s"]);
            close(id, absolute::log_e(&block, th1, th0, d), &output["logE"]);
        }
        "abs-promote-mix" => {
            let mut logs = [0.0; 3];
            absolute::promote(&mut logs, &pair(input), number("p0"), number("delta"), 1.0);
            close(id, log_mix(ABSOLUTE_SAFE_WEIGHTS.iter().copied().zip(logs)), &output["logE"]);
        }
        "one-rollback" => {
            let mut logs = [0.0; 12];
            objective::add(&mut logs, one(input), number("p"), &HARM, 1.0);
            close(id, log_mean(&logs), &output["logE"]);
        }
        "one-promote" => {
            let mut logs = [0.0; 5];
            objective::add(&mut logs, one(input), number("p"), &OBJECTIVE_SAFE, 1.0);
            close(id, log_mean(&logs), &output["logE"]);
        }
        "cs-beta-300-0" => {
            let (lower, upper) = interval::rate(one(input), number("alpha"));
            assert_eq!(lower, 0.0);
            close(id, upper, &output["upper"]);
            close(id, interval::log_mixture(one(input), 0.01), &output["logM_at_0_01"]);
        }
        "combine" => {
            let list = |name: &str| -> Vec<f64> {
                input[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
            };
            let mixed = log_mix(
                list("weights").into_iter().zip(list("logE")).collect::<Vec<_>>().into_iter(),
            );
            close(id, mixed, &output["logE"]);
        }
        "slowdown-margin" => {
            let share = |x: &Value| (x.as_f64().unwrap() * 1e6).round() as u64;
            let baseline = Baseline {
                n: 1_000_000,
                boundaries: vec![100.0, 250.0, 500.0],
                slower: input["S0"].as_array().unwrap().iter().map(share).collect(),
            };
            close(id, baseline.margin(1, 1.2).unwrap(), &output["R_250"]);
            close(id, baseline.margin(2, 1.2).unwrap(), &output["R_500"]);
        }
        "hedged-1" => {
            // The likelihood half; the window vote is a later change's.
            let mut logs = [0.0; 12];
            for block in blocks(input) {
                share::harm(&mut logs, &block, 1.0, &HARM, number("phi"));
            }
            close(id, log_mean(&logs), &output["logE_lr"]);
        }
        _ => return false,
    }
    true
}

#[test]
fn every_vector_of_these_kinds_matches() {
    let mut unknown = BTreeSet::new();
    let mut checked = 0;
    for vector in vectors()["vectors"].as_array().unwrap() {
        let id = vector["id"].as_str().unwrap();
        if check(id, &vector["input"], &vector["output"]) {
            checked += 1;
        } else {
            unknown.insert(id.to_owned());
        }
    }
    let later: BTreeSet<String> = LATER.iter().map(|s| (*s).to_owned()).collect();
    assert_eq!(unknown, later, "each vector is either checked or named as a later change's");
    assert_eq!(checked, 13);
}

#[test]
fn the_copy_is_the_original() {
    let original = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/vectors/sequential.json");
    match std::fs::read_to_string(&original) {
        Ok(text) => assert_eq!(text, include_str!("vectors/sequential.json")),
        Err(_) => println!("the design material is not here; the copy stands alone"),
    }
}
