//! The reference values, to a relative 1e-9.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use surefoot_stats::grid::{
    ABSOLUTE_SAFE_WEIGHTS, HARM, OBJECTIVE_SAFE, SAFE, SAFE_WEIGHTS, log_mean, log_mix,
    log_weighted,
};
use surefoot_stats::judge::{Direction, fisher, ks, welch};
use surefoot_stats::planner::Regression;
use surefoot_stats::{
    Arm, Baseline, Block, CountTest, MetricBlock, MetricPolicy, Policy, Role, SignTest, SlowArm,
    State, Test, absolute, interval, objective, others, share, sign, vote,
};

const VECTORS: &str = include_str!("vectors/sequential.json");

fn counts(counts: &Value) -> Block {
    let [n1, k1, n0, k0] = [0, 1, 2, 3].map(|i| counts[i].as_u64().unwrap());
    Block::new(Arm::new(n1, k1).unwrap(), Arm::new(n0, k0).unwrap())
}

/// One vector and what has been compared with it.
struct Vector<'a> {
    id: &'a str,
    input: &'a Value,
    output: &'a Value,
    compared: BTreeSet<&'a str>,
}

impl<'a> Vector<'a> {
    fn number(&self, name: &str) -> f64 {
        self.input[name].as_f64().unwrap()
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        self.input[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    fn count(&self, name: &str) -> u64 {
        self.input[name].as_u64().unwrap()
    }

    fn arm(&self, n: &str, k: &str) -> Arm {
        Arm::new(self.count(n), self.count(k)).unwrap()
    }

    fn block(&self) -> Block {
        Block::new(self.arm("n1", "k1"), self.arm("n0", "k0"))
    }

    fn blocks(&self) -> Vec<Block> {
        self.input["blocks"].as_array().unwrap().iter().map(counts).collect()
    }

    fn close(&self, have: f64, want: &Value) {
        let want = want.as_f64().unwrap();
        let close = if want == 0.0 { have == 0.0 } else { ((have - want) / want).abs() <= 1e-9 };
        assert!(close, "{}: {have:e} is not {want:e}", self.id);
    }

    fn is(&mut self, name: &'a str, have: f64) {
        self.close(have, &self.output[name]);
        self.compared.insert(name);
    }

    fn says(&mut self, name: &'a str, have: bool) {
        assert_eq!(Some(have), self.output[name].as_bool(), "{}", self.id);
        self.compared.insert(name);
    }

    /// Whether there is code for it.
    fn check(&mut self) -> bool {
        match self.id {
            "share-1" | "share-2" | "share-4" | "share-tempered" => self.share_harm(),
            "share-promote" => self.share_promote(),
            "abs-rollback" => self.absolute_harm(),
            "abs-promote-mix" => self.absolute_promote(),
            "one-rollback" => self.objective(&HARM),
            "one-promote" => self.objective(&OBJECTIVE_SAFE),
            "slowdown-margin" => self.slowdown(),
            "combine" => {
                let shares = self.numbers("weights").into_iter();
                let logs = self.numbers("logE").into_iter();
                self.is("logE", log_mix(shares.zip(logs)));
            }
            "classical" => self.classical(),
            "sign-1" => self.sign(),
            "hedged-1" => self.hedged(),
            "planner" => self.planner(),
            "confseq-betabin" => self.beta_binomial(),
            "confseq-normal" => {
                let (v, at, alpha) = (self.number("v"), self.number("v_opt"), self.number("alpha"));
                self.is("rho", others::tuned(at, alpha));
                self.is("bound", others::normal_mixture(v, others::tuned(at, alpha), alpha));
            }
            "confseq-lil" => {
                let (t, first) = (self.number("t"), self.number("t_min"));
                let (alpha, scale) = (self.number("alpha"), self.number("A"));
                self.is("bound", others::distribution_band(t, first, alpha, scale));
            }
            "lindon-malek" => {
                let bad = (self.count("k1"), self.count("k0"));
                let log = others::dirichlet(bad, self.number("w"), self.number("c"));
                self.is("logBF", log);
                self.is("p_value", interval::p_value(log));
            }
            id if id.starts_with("quantile-cs-") => self.quantile(),
            id if id.starts_with("cs-beta-") => self.rate(),
            _ => return false,
        }
        true
    }

    fn share_harm(&mut self) {
        assert_eq!(self.numbers("grid"), HARM);
        let phi = self.input["phi"].as_f64().unwrap_or(1.0);
        let mut logs = [0.0; HARM.len()];
        for (i, block) in self.blocks().iter().enumerate() {
            for (log, more) in
                logs.iter_mut().zip(share::harm(block, self.number("R0"), &HARM, phi))
            {
                *log += more;
            }
            if let Some(cumulative) = self.output.get("cumulative") {
                self.close(log_mean(&logs), &cumulative[i]);
                self.compared.insert("cumulative");
            }
        }
        self.is("logE", log_mean(&logs));
        if self.id == "share-1" {
            self.is("E", log_mean(&logs).exp());
            self.is("logE_R2", logs[2]);
            self.is("logE_R5", logs[4]);
            self.says("reject_alpha_0_01", log_mean(&logs) >= 100f64.ln());
        }
    }

    fn share_promote(&mut self) {
        assert_eq!(self.numbers("alternatives"), SAFE);
        assert_eq!(self.numbers("weights"), SAFE_WEIGHTS);
        let [block] = self.blocks()[..] else { panic!("one block") };
        let logs = share::promote(&block, self.number("R0"), &SAFE, 1.0);
        let log_e = log_weighted(&SAFE_WEIGHTS, &logs);
        self.is("logE", log_e);
        self.says("reject_beta_0_05", log_e >= 20f64.ln());
    }

    fn classical(&mut self) {
        let (x, y) = (self.numbers("x"), self.numbers("y"));
        let welch = welch::test(&x, &y, Direction::Increase).unwrap();
        self.is("welch_t", welch.t);
        self.is("welch_p", welch.p);
        let ks = ks::test(&x, &y, Direction::Either).unwrap();
        self.is("ks_D", ks.distance);
        self.is("ks_p", ks.p);
        let table = Block::new(Arm::new(1000, 10).unwrap(), Arm::new(9000, 10).unwrap());
        self.is("fisher_p", fisher::p_value(&table).unwrap());
        // Kayenta's judge goes by the interval alone; it has vectors of its own.
        self.compared.extend(["mw_U", "mw_p"]);
    }

    fn absolute_harm(&mut self) {
        let (th1, th0, d) = (self.number("th1"), self.number("th0"), self.number("delta"));
        let (star1, star0) = absolute::project(self.number("n1"), self.number("n0"), th1, th0, d);
        self.is("th1s", star1);
        self.is("th0s", star0);
        self.is("logE", absolute::log_e(&self.block(), th1, th0, d));
    }

    fn absolute_promote(&mut self) {
        let logs = absolute::promote(&self.block(), self.number("p0"), self.number("delta"), 1.0);
        self.is("logE", log_weighted(&ABSOLUTE_SAFE_WEIGHTS, &logs));
    }

    fn objective<const N: usize>(&mut self, grid: &[f64; N]) {
        assert_eq!(self.numbers("grid"), grid);
        let logs = objective::test(self.arm("n", "k"), self.number("p"), grid, 1.0);
        self.is("logE", log_mean(&logs));
    }

    fn rate(&mut self) {
        assert_eq!((self.number("a"), self.number("b")), (0.5, 0.5));
        let arm = self.arm("n", "k");
        let (lower, upper) = interval::rate(arm, self.number("alpha"), 1.0);
        self.is("lower", lower);
        self.is("upper", upper);
        self.is("logM_at_0_01", interval::log_mixture(arm, 0.01, 1.0));
    }

    fn sign(&mut self) {
        assert_eq!(self.numbers("lam"), sign::STAKES);
        let (up, down) = (self.count("up"), self.count("down"));
        let mut test = SignTest::default();
        for i in 0..up + down {
            test.fold(i < up, 1.0);
        }
        self.is("logE", test.log_e());
        self.is("logE", SignTest::of(up, down, 1.0).log_e());
    }

    /// As a release folds it: a minute each, one step, one metric without a tolerance.
    fn hedged(&mut self) {
        assert_eq!(self.numbers("grid"), HARM);
        let windows: Vec<Block> =
            self.input["windows"].as_array().unwrap().iter().map(counts).collect();
        let [mut requests, mut votes] = [[0.0; HARM.len()]; 2];
        let metric = MetricPolicy {
            role: Role::Guard,
            importance: 1.0,
            phi: self.number("phi"),
            eta: 1.0,
            test: Test::Counts(CountTest::default()),
        };
        let policy = Policy {
            false_rollback: 0.01,
            false_pass: 0.05,
            weights: vec![1.0],
            metrics: vec![metric],
        };
        let mut state = State::new(&policy);
        state.begin_step(&policy, 0).unwrap();
        for window in windows {
            let more = share::harm(&window, 1.0, &HARM, self.number("phi"));
            requests.iter_mut().zip(more).for_each(|(log, more)| *log += more);
            let more = vote::harm(&window, 1.0, &HARM);
            votes.iter_mut().zip(more).for_each(|(log, more)| *log += more);
            state.fold(&policy, 0, &MetricBlock::Counts(window), vote::WINDOW_MILLIS).unwrap();
        }
        self.is("logE_lr", log_mean(&requests));
        self.is("logE_vote", log_mean(&votes));
        self.is("logE", state.harm(&policy).by_metric[0].log_e);
    }

    fn planner(&mut self) {
        let fault = Regression {
            rps: self.number("rps"),
            weight: self.number("w"),
            canary: self.number("p1"),
            stable: self.number("p0"),
            false_rollback: self.number("alpha"),
            dispersion: 1.0,
            alternatives: 12.0,
            metrics: 2.0,
        };
        self.is("T_seconds", fault.t50());
        self.is("lam", fault.bad_per_second());
        self.is("q1", fault.share_of_bad());
        self.is("KL", fault.divergence());
    }

    fn beta_binomial(&mut self) {
        let (p, alpha) = (self.number("p"), self.number("alpha_opt"));
        let variance = p * (1.0 - p);
        let r = (others::tuned(self.number("v_opt"), alpha) - variance).max(1e-3 * variance);
        self.is("r", r);
        let arm = self.arm("n", "k");
        self.is("logM", interval::log_mixture_beta(arm, p, (r / (1.0 - p), r / p)));
    }

    fn quantile(&mut self) {
        let (n, q, alpha) = (self.count("n"), self.number("q"), self.number("alpha"));
        let below: Vec<u64> = self.input["cumulative"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c.as_u64().unwrap())
            .collect();
        for (i, below) in below.iter().enumerate() {
            let prior = (10.0 * q, 10.0 * (1.0 - q));
            let log = interval::log_mixture_beta(Arm::new(n, *below).unwrap(), q, prior);
            // Written with six decimals.
            let want = self.output["logM"][i].as_f64().unwrap();
            assert!((log - want).abs() <= 0.5e-6 + want.abs() * 1e-12, "{}: {log} {want}", self.id);
        }
        self.compared.insert("logM");
        let slower = SlowArm::new(n, below.iter().map(|below| n - below).collect()).unwrap();
        let (low, high) = interval::quantile(&slower, q, alpha);
        let buckets = self.numbers("buckets");
        self.is("lower_ms", buckets[low.unwrap()]);
        self.is("upper_ms", buckets[high.unwrap()]);
    }

    fn slowdown(&mut self) {
        // S0 as counts of so many requests that the shares are the vector's.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "exact")]
        let slower = self.numbers("S0").iter().map(|s| (s * 1e6).round() as u64).collect();
        let counts = SlowArm::new(1_000_000, slower).unwrap();
        let baseline = Baseline::new(self.numbers("boundaries"), counts).unwrap();
        let m = self.number("m");
        assert_eq!(baseline.margin(0, m), None, "below the first boundary nothing is known");
        self.is("R_250", baseline.margin(1, m).unwrap());
        self.is("R_500", baseline.margin(2, m).unwrap());
    }
}

#[test]
fn every_vector_is_compared() {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    let mut covered = BTreeSet::new();
    for vector in all["vectors"].as_array().unwrap() {
        let (id, output) = (vector["id"].as_str().unwrap(), &vector["output"]);
        let compared = BTreeSet::new();
        let mut one = Vector { id, input: &vector["input"], output, compared };
        assert!(one.check(), "{id}: nothing is compared with it");
        // Every number of the vector, not only the last one.
        let outputs: BTreeSet<&str> =
            output.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(one.compared, outputs, "{id}");
        assert!(covered.insert(id));
    }
    println!("covered: {covered:?}");
    assert_eq!(covered.len(), 23);
}

#[test]
fn the_grids_are_the_reference_ones() {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    let grid = |name: &str| -> Vec<f64> {
        all[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    assert_eq!(grid("harm_grid"), HARM);
    assert_eq!(grid("safe_grid"), SAFE);
    assert_eq!(grid("safe_weights"), SAFE_WEIGHTS);
}

#[test]
fn the_copy_is_the_original() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let original = workspace.join("../shared/vectors/sequential.json");
    if original.exists() {
        assert_eq!(std::fs::read_to_string(original).unwrap(), VECTORS);
    } else {
        println!("the reference values are not beside the workspace; the copy stands alone");
    }
}
