//! The same traffic judged by every rule: Flagger's, Argo Rollouts', Kayenta's, a test looked at
//! again and again, and Surefoot's.
//!
//! As in the tables at the top of `statistics.md`: the canary gets 10% and then 50% of the requests
//! for ten minutes each, all rules look every ten seconds at what is left after settling, nobody
//! promotes early, and latencies are judged beside failures by every rule that can.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use surefoot_core::engine::{ISTIO_BOUNDARIES, Run};
use surefoot_core::plan::Plan;
use surefoot_core::samples::{Histogram, Tick};
use surefoot_stats::judge::peers::{Argo, Call, FisherPeeked, Flagger, Kayenta, Limits, Poll};
use surefoot_stats::{Arm, Block, SlowArm};

use crate::tally::{Share, quantile};
use crate::traffic::{Failures, Latency, Traffic};

/// How often the rules look.
pub const POLL: Duration = Duration::from_secs(10);
/// Looks at each weight.
const LOOKS: usize = 60;
/// The canary's share at each.
const WEIGHTS: [f64; 2] = [0.1, 0.5];
pub(crate) const POLLS_A_MINUTE: usize = 6;
/// After 5, 10, 15 and 20 minutes.
pub(crate) const KAYENTA_LOOKS: [usize; 4] = [30, 60, 90, 120];

/// The rules, in the order of a [`Row`].
pub const RULES: [&str; 6] =
    ["Flagger", "Argo", "Kayenta", "Fisher, peeked", "Surefoot", "Surefoot, strict"];

/// Traffic under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// What it is, in words.
    pub name: String,
    /// Whether the canary is no worse than stable: whoever rolls back is wrong.
    pub null: bool,
    /// The traffic.
    pub traffic: Traffic,
}

/// When each rule rolled back one release, seconds after the canary became worse (after the
/// beginning, where it never did); `None`: it didn't, or before, which saw nothing.
pub type Verdicts = [Option<f64>; RULES.len()];

/// What became of many releases of one cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The cell.
    pub name: String,
    /// Whether the canary was no worse.
    pub null: bool,
    /// One for each rule.
    pub rules: Vec<Judged>,
}

/// What one rule made of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// Its name.
    pub rule: &'static str,
    /// Releases that it rolled back.
    pub rolled_back: Share,
    /// The exact 95% interval of that share.
    pub interval: (f64, f64),
    /// Median seconds until it did, of those that it rolled back.
    pub median_seconds: Option<f64>,
}

const LATENCY: Latency = Latency { median: 60.0, p99: 300.0 };

/// The cells of the two tables of `statistics.md`, and those of dependent failures.
#[must_use]
pub fn cells() -> Vec<Cell> {
    let latency = Some(LATENCY);
    let alike = |rps, rate| Traffic { latency, ..Traffic::alike(rps, rate) };
    let cell = |name: &str, null, traffic| Cell { name: name.to_owned(), null, traffic };
    let worse = |rps, stable, canary| Traffic { canary, ..alike(rps, stable) };
    let dependent = |failures| Traffic { failures, ..alike(50.0, 0.005) };
    vec![
        cell("0.1% failures, 50 rps", true, alike(50.0, 0.001)),
        cell("0.5% failures, 5 rps", true, alike(5.0, 0.005)),
        cell("0.9% failures, 50 rps", true, alike(50.0, 0.009)),
        cell(
            "clusters of 3 failures, 0.5%, 50 rps",
            true,
            dependent(Failures::Clusters { size: 3.0 }),
        ),
        cell(
            "beta-binomial, ρ 0.002, 0.5%, 50 rps",
            true,
            dependent(Failures::BetaBinomial { rho: 0.002 }),
        ),
        cell(
            "bursts of pods, ×10 in 2% of the time, 0.5%, 50 rps",
            true,
            dependent(Failures::PodBursts { times: 10.0, share: 0.02 }),
        ),
        cell(
            "static pod differences of 30%, 0.5%, 50 rps",
            true,
            dependent(Failures::StaticPods { spread: 0.3 }),
        ),
        cell(
            "shared outages of 20%, a minute in five, 50 rps",
            true,
            Traffic { failures: Failures::SharedOutages { rate: 0.2 }, ..alike(50.0, 0.001) },
        ),
        cell("0.1% → 0.5% failures, 500 rps", false, worse(500.0, 0.001, 0.005)),
        cell("0.1% → 1% failures, 500 rps", false, worse(500.0, 0.001, 0.01)),
        cell("0.5% → 2% failures, 5 rps", false, worse(5.0, 0.005, 0.02)),
        cell("p99 × 1.5, 500 rps", false, Traffic { slowdown: 1.5, ..alike(500.0, 0.001) }),
        cell(
            "0.1% → 1% failures from 50% on, 500 rps",
            false,
            Traffic { from: 1, ..worse(500.0, 0.001, 0.01) },
        ),
        cell(
            "p99 × 2 from 50% on, 500 rps",
            false,
            Traffic { from: 1, slowdown: 2.0, ..alike(500.0, 0.001) },
        ),
    ]
}

/// One release of a cell, judged by every rule on the same requests. The steps of both plans, the
/// default one and the strict, must begin with weights 10 and 50.
#[must_use]
pub fn release(plans: [&Plan; 2], traffic: &Traffic, seed: u64) -> Verdicts {
    let mut flow = traffic.flow(seed);
    let past = flow.past();
    let limits = || Limits::usual(POLLS_A_MINUTE, ISTIO_BOUNDARIES.to_vec());
    let mut flagger = Flagger::new(limits(), 5);
    let mut argo = Argo::new(limits(), 3);
    let boundaries = ISTIO_BOUNDARIES.to_vec();
    let mut kayenta = Kayenta::new(POLLS_A_MINUTE, KAYENTA_LOOKS.to_vec(), boundaries, 0.99);
    let mut fisher = FisherPeeked::new(0.05);
    let mut ours = plans.map(|plan| Run::begin(plan, Some(&past), Timestamp::UNIX_EPOCH));
    let mut verdicts: Verdicts = [None; RULES.len()];
    let mut early = [false; RULES.len()];
    let worse_from = if traffic.from < WEIGHTS.len() { traffic.from * LOOKS } else { 0 };
    for (step, weight) in WEIGHTS.into_iter().enumerate() {
        for run in ours.iter_mut().flatten().filter(|_| step > 0) {
            run.begin_step(step);
        }
        for look in 1..=LOOKS {
            let tick = flow.tick(step, weight, POLL);
            let Some(sums) = Sums::of(&tick) else { continue };
            let poll = sums.poll();
            let over = |call: Call| call == Call::RollsBack;
            ours.iter_mut().flatten().for_each(|run| run.take(&tick, true));
            let harmed = |i: usize| ours[i].as_ref().is_some_and(Run::harmed);
            let now = [
                over(flagger.look(&poll)),
                over(argo.look(&poll)),
                over(kayenta.look(&poll)),
                over(fisher.look(&poll)),
                harmed(0),
                harmed(1),
            ];
            let looks = step * LOOKS + look;
            #[expect(clippy::cast_precision_loss, reason = "a few looks")]
            let at = looks.saturating_sub(worse_from) as f64 * POLL.as_secs_f64();
            for ((verdict, early), over) in verdicts.iter_mut().zip(&mut early).zip(now) {
                *early |= over && looks <= worse_from;
                if over && !*early {
                    verdict.get_or_insert(at);
                }
            }
        }
    }
    verdicts
}

/// A tick in the statistics' types.
pub(crate) struct Sums {
    requests: Block,
    latency: Option<(SlowArm, SlowArm)>,
}

impl Sums {
    pub(crate) fn of(tick: &Tick) -> Option<Self> {
        let arm = |c: surefoot_core::samples::Count| Arm::new(c.requests, c.failed).ok();
        let slow = |h: &Histogram| {
            SlowArm::new(h.requests, h.at_most.iter().map(|m| h.requests - m).collect()).ok()
        };
        let latency =
            tick.latency.as_ref().and_then(|l| Some((slow(&l.canary)?, slow(&l.stable)?)));
        Some(Self { requests: Block::new(arm(tick.canary)?, arm(tick.stable)?), latency })
    }

    pub(crate) fn poll(&self) -> Poll<'_> {
        Poll { requests: self.requests, latency: self.latency.as_ref().map(|(a, b)| (a, b)) }
    }
}

/// Many releases' verdicts as a row.
#[must_use]
pub fn row(cell: &Cell, verdicts: &[Verdicts]) -> Row {
    let rules = RULES.iter().enumerate().map(|(i, rule)| {
        let mut rolled_back = Share::default();
        let mut after: Vec<f64> = Vec::new();
        for verdict in verdicts {
            rolled_back.count(verdict[i].is_some());
            after.extend(verdict[i]);
        }
        after.sort_by(f64::total_cmp);
        let median_seconds = quantile(&after, 0.5);
        Judged { rule, rolled_back, interval: rolled_back.interval(), median_seconds }
    });
    Row { name: cell.name.clone(), null: cell.null, rules: rules.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example_plan;

    #[test]
    fn a_broken_canary_is_seen_by_every_rule_and_a_good_one_by_none_of_the_sober() {
        let plan = example_plan(&serde_json::json!({}));
        let bad = Traffic { canary: 0.3, ..Traffic::alike(100.0, 0.001) };
        let verdicts = release([&plan; 2], &bad, 1);
        assert!(verdicts.iter().all(Option::is_some), "{verdicts:?}");
        assert_eq!(verdicts[4], Some(10.0), "at the first look");
        let good = release([&plan; 2], &Traffic::alike(100.0, 0.001), 1);
        assert_eq!((good[0], good[1], good[4]), (None, None, None));
    }

    #[test]
    fn what_begins_later_is_counted_from_there() {
        let late = Traffic { from: 1, canary: 0.5, ..Traffic::alike(100.0, 0.001) };
        // Blocks of the metrics are of 15 s, and the crash guard has seen ten good minutes.
        assert_eq!(release([&example_plan(&serde_json::json!({})); 2], &late, 2)[4], Some(20.0));
    }

    #[test]
    fn the_same_seed_is_the_same_release() {
        let plan = example_plan(&serde_json::json!({}));
        let cells = cells();
        let near = &cells[10].traffic;
        assert_eq!(release([&plan; 2], near, 5), release([&plan; 2], near, 5));
    }
}
