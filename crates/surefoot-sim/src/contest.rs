//! The same traffic judged by every rule: Flagger's, Argo Rollouts', Kayenta's, a test looked at
//! again and again, and Surefoot's.
//!
//! As in the tables at the top of `statistics.md`: the canary gets 10% and then 50% of the requests
//! for ten minutes each, all rules look every ten seconds at what is left after settling, nobody
//! promotes early, and latencies are judged beside failures by every rule that can.
//!
//! Surefoot judges each release four times: by its defaults and by a strict plan, each with φ and η
//! assumed and with φ and η calibrated, as in production, from two hours of stable's pods that flowed
//! before the same release.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use surefoot_core::engine::{ISTIO_BOUNDARIES, Run, dispersions};
use surefoot_core::plan::Plan;
use surefoot_core::samples::{Count, Histogram, Tick};
use surefoot_stats::judge::peers::{Argo, Call, FisherPeeked, Flagger, Kayenta, Limits, Poll};
use surefoot_stats::{Block, SlowArm, SlowBlock};

use crate::past;
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

/// What is counted at once: the controller scrapes more often than the others look.
const TICK: Duration = Duration::from_secs(5);

/// The rules, in the order of a [`Row`]: our four last.
pub const RULES: [&str; 9] = [
    "Flagger",
    "Argo",
    "Kayenta",
    "Fisher at 5%, peeked",
    "Fisher at 1%, peeked",
    "Surefoot, φ assumed",
    "Surefoot, calibrated",
    "strict, φ assumed",
    "strict, calibrated",
];
/// How many of them aren't ours.
const PEERS: usize = 5;

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

/// One release, judged by everyone.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// When each rule rolled it back.
    pub verdicts: Verdicts,
    /// φ and η that were calibrated of failures, and of latencies.
    pub calibrated: [(f64, f64); 2],
}

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
    /// What was calibrated of failures, and of latencies.
    pub calibrated: [Calibrated; 2],
}

/// φ and η over the releases: 5%, median and 95%.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Calibrated {
    /// How many times more counts vary than those of independent requests.
    pub phi: [f64; 3],
    /// How far votes are trusted.
    pub eta: [f64; 3],
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
/// default one and the strict, must begin with weights 10 and 50, and both must judge failures first
/// and latencies second.
#[must_use]
pub fn release(plans: [&Plan; 2], traffic: &Traffic, seed: u64) -> Release {
    let mut flow = traffic.flow(seed);
    let read = past::calibrating(&mut flow);
    let unread = past::sum_of(&read);
    let limits = || Limits::usual(POLLS_A_MINUTE, ISTIO_BOUNDARIES.to_vec());
    let mut flagger = Flagger::new(limits(), 5);
    let mut argo = Argo::new(limits(), 3);
    let boundaries = ISTIO_BOUNDARIES.to_vec();
    let mut kayenta = Kayenta::new(POLLS_A_MINUTE, KAYENTA_LOOKS.to_vec(), boundaries, 0.99);
    let mut fisher = [0.05, 0.01].map(FisherPeeked::new);
    let [usual, strict] = plans;
    let begin = |plan, past| Run::begin(plan, Some(past), Timestamp::UNIX_EPOCH);
    let mut calibrated = [(f64::NAN, f64::NAN); 2];
    for (known, found) in calibrated.iter_mut().zip(dispersions(usual, &read)) {
        *known = (found.phi, found.eta);
    }
    // What the pods' past tells doesn't depend on the tolerances.
    let [usually, strictly] = plans.map(|plan| plan.clone().calibrated(calibrated));
    let mut ours = [usual, &usually, strict, &strictly].map(|plan| begin(plan, &unread));
    let mut verdicts: Verdicts = [None; RULES.len()];
    let mut early = [false; RULES.len()];
    let worse_from = if traffic.from < WEIGHTS.len() { traffic.from * LOOKS } else { 0 };
    for (step, weight) in WEIGHTS.into_iter().enumerate() {
        for run in ours.iter_mut().flatten().filter(|_| step > 0) {
            run.begin_step(step);
        }
        for look in 1..=LOOKS {
            let mut sums = Sums::default();
            for _ in 0..POLL.as_secs() / TICK.as_secs() {
                let tick = flow.tick(step, weight, TICK);
                sums.add(&tick);
                ours.iter_mut().flatten().for_each(|run| run.take(&tick, true));
            }
            let poll = sums.poll();
            let over = |call: Call| call == Call::RollsBack;
            let mut now = [false; RULES.len()];
            let peers = [
                over(flagger.look(&poll)),
                over(argo.look(&poll)),
                over(kayenta.look(&poll)),
                over(fisher[0].look(&poll)),
                over(fisher[1].look(&poll)),
            ];
            now[..PEERS].copy_from_slice(&peers);
            for (now, run) in now[PEERS..].iter_mut().zip(&ours) {
                *now = run.as_ref().is_some_and(Run::harmed);
            }
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
    Release { verdicts, calibrated }
}

/// Ticks together, in the statistics' types.
#[derive(Default)]
pub(crate) struct Sums {
    requests: Block,
    latency: Option<SlowBlock>,
}

impl Sums {
    /// One tick alone.
    pub(crate) fn of(tick: &Tick) -> Self {
        let mut sums = Self::default();
        sums.add(tick);
        sums
    }

    /// Add what can be: counts of simulated ticks can, and those of a past that was checked.
    fn add(&mut self, tick: &Tick) {
        let arm = |c: Count| c.answered().unwrap_or_default();
        let more = Block::new(arm(tick.canary), arm(tick.stable));
        self.requests = self.requests.checked_add(more).unwrap_or(self.requests);
        let slow = |h: &Histogram| {
            SlowArm::new(h.requests, h.at_most.iter().map(|m| h.requests - m).collect()).ok()
        };
        let more = tick
            .latency
            .as_ref()
            .and_then(|l| SlowBlock::new(slow(&l.canary)?, slow(&l.stable)?).ok());
        match (&mut self.latency, more) {
            (Some(sum), Some(more)) => drop(sum.checked_add_assign(&more)),
            (none, more) => *none = more,
        }
    }

    pub(crate) fn poll(&self) -> Poll<'_> {
        let latency = self.latency.as_ref().map(|block| (block.canary(), block.stable()));
        Poll { requests: self.requests, latency }
    }
}

impl Judged {
    /// What a rule made of releases: after how many seconds it rolled each back, if it did.
    pub(crate) fn of(rule: &'static str, said: impl Iterator<Item = Option<f64>>) -> Self {
        let mut rolled_back = Share::default();
        let mut after: Vec<f64> = Vec::new();
        for said in said {
            rolled_back.count(said.is_some());
            after.extend(said);
        }
        after.sort_by(f64::total_cmp);
        let median_seconds = quantile(&after, 0.5);
        Self { rule, rolled_back, interval: rolled_back.interval(), median_seconds }
    }
}

/// Many releases as a row.
#[must_use]
pub fn row(cell: &Cell, releases: &[Release]) -> Row {
    let rules = RULES
        .iter()
        .enumerate()
        .map(|(i, rule)| Judged::of(rule, releases.iter().map(|release| release.verdicts[i])));
    let spread = |of: &dyn Fn(&Release) -> f64| {
        let mut values: Vec<f64> = releases.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        [0.05, 0.5, 0.95].map(|q| quantile(&values, q).unwrap_or(f64::NAN))
    };
    let calibrated = [0, 1].map(|metric| Calibrated {
        phi: spread(&|release| release.calibrated[metric].0),
        eta: spread(&|release| release.calibrated[metric].1),
    });
    Row { name: cell.name.clone(), null: cell.null, rules: rules.collect(), calibrated }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example_plan;

    #[test]
    fn a_broken_canary_is_seen_by_every_rule_and_a_good_one_by_none_of_the_sober() {
        let plan = example_plan(&serde_json::json!({}));
        let bad = Traffic { canary: 0.3, ..Traffic::alike(100.0, 0.001) };
        let verdicts = release([&plan; 2], &bad, 1).verdicts;
        assert!(verdicts.iter().all(Option::is_some), "{verdicts:?}");
        assert_eq!(verdicts[PEERS], Some(10.0), "at the first look");
        let good = release([&plan; 2], &Traffic::alike(100.0, 0.001), 1).verdicts;
        assert_eq!((good[0], good[1], good[PEERS]), (None, None, None));
    }

    #[test]
    fn what_begins_later_is_counted_from_there() {
        let late = Traffic { from: 1, canary: 0.5, ..Traffic::alike(100.0, 0.001) };
        // Blocks of the metrics are of 15 s, and the crash guard has seen ten good minutes.
        let plan = example_plan(&serde_json::json!({}));
        assert_eq!(release([&plan; 2], &late, 2).verdicts[PEERS], Some(20.0));
    }

    #[test]
    fn what_is_calibrated_is_what_is_judged_by() {
        let plan = example_plan(&serde_json::json!({}));
        let traffic = Traffic { canary: 0.01, ..Traffic::alike(500.0, 0.001) };
        let found = release([&plan; 2], &traffic, 3);
        let (phi, eta) = found.calibrated[0];
        assert!((1.0..1.4).contains(&phi) && eta > 0.9, "{:?}", found.calibrated);
        let [assumed, read, strict, strictly] = found.verdicts[PEERS..] else { panic!("four") };
        assert!(read.unwrap() < 0.6 * assumed.unwrap(), "φ is a third: {read:?} {assumed:?}");
        assert_eq!((strict, strictly), (assumed, read), "the same plan");
    }

    #[test]
    fn the_same_seed_is_the_same_release() {
        let plan = example_plan(&serde_json::json!({}));
        let cells = cells();
        let near = &cells[10].traffic;
        assert_eq!(release([&plan; 2], near, 5), release([&plan; 2], near, 5));
    }
}
