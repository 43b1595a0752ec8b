//! `surefoot judges`: the same simulated releases judged by Flagger's, Argo Rollouts', Kayenta's and
//! our rules, side by side.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use surefoot_core::plan::Plan;
use surefoot_sim::contest::{self, Judged, RULES, Row};
use surefoot_stats::calibration::{ASSUMED_ETA, ASSUMED_PHI};

use super::{Lines, Output, bar, each, seconds, written};

/// Options of `surefoot judges`.
#[derive(Debug, Args)]
pub struct Options {
    /// Simulated releases for each row without a regression
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    runs: u64,
    /// The same for each row with one
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    regression_runs: u64,
    /// The first seed: the same one gives the same tables
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How to write the tables
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Run it; the tables as text.
///
/// # Errors
/// When the result can't be written as JSON.
pub fn run(options: &Options) -> Result<String> {
    let (usual, strict) = (plan(&json!([]))?, plan(&strict())?);
    let cells = contest::cells();
    let runs = |null: bool| if null { options.runs } else { options.regression_runs };
    let bar = bar(cells.iter().map(|cell| runs(cell.null)).sum());
    let mut rows = Vec::new();
    for (i, cell) in (0_u64..).zip(&cells) {
        bar.set_message(cell.name.clone());
        // Far apart, so that no two rows share releases.
        let first = options.seed.wrapping_add(i << 40);
        let releases = each(&bar, runs(cell.null), |run| {
            contest::release([&usual, &strict], &cell.traffic, first.wrapping_add(run))
        });
        rows.push(contest::row(cell, &releases));
    }
    bar.finish_and_clear();
    written(options.output, &rows, |rows, table| tables(rows, table))
}

/// No tolerance but what a guard needs: the canary must not fail more often than stable at all, and
/// not be slower.
fn strict() -> serde_json::Value {
    json!([
        {"name": "success-rate", "role": "guard", "successRate": {"maxFailureRatio": "1.01"}},
        {"name": "latency", "role": "guard", "latency": {"maxSlowdown": "1.05"}},
    ])
}

/// A Rollout that leaves everything to the defaults but its metrics, and those too where there are
/// none.
fn plan(metrics: &serde_json::Value) -> Result<Plan> {
    let spec = json!({
        "targetRef": {"kind": "Deployment", "name": "app"},
        "traffic": {
            "mesh": "istio", "service": "app", "routes": [{"kind": "VirtualService", "name": "app"}],
        },
        "steps": [{"weight": 10, "approval": {}}, {"weight": 50, "approval": {}}, {"weight": 100, "approval": {}}],
        "analysis": {"metrics": metrics},
    });
    let spec = serde_json::from_value(spec).context("the compared Rollout")?;
    Plan::of(&spec).context("the compared Rollout")
}

fn tables(rows: &[Row], table: &Lines) -> String {
    let header = |what: &str| {
        std::iter::once(what.to_owned()).chain(RULES.map(str::to_owned)).collect::<Vec<_>>()
    };
    let part = |null: bool, what: &str, cell: fn(&Judged) -> String| {
        let body = rows.iter().filter(|row| row.null == null).map(|row| {
            std::iter::once(row.name.clone()).chain(row.rules.iter().map(cell)).collect()
        });
        table(&std::iter::once(header(what)).chain(body).collect::<Vec<_>>())
    };
    let known = rows.iter().map(|row| {
        let told = row.calibrated.iter().flat_map(|known| [spread(known.phi), spread(known.eta)]);
        std::iter::once(row.name.clone()).chain(told).collect()
    });
    let header = ["calibrated", "φ of failures", "η", "φ of latencies", "η"].map(str::to_owned);
    let known: Vec<Vec<String>> = std::iter::once(header.to_vec()).chain(known).collect();
    format!(
        "10% of the traffic for ten minutes, then 50% for ten; every rule looks every 10 s, after what \
         it leaves out: settle 30 s, and warmUp 90 s where pods are new.\n\
         Surefoot: the defaults (maxDrop 0.5pp, maxSlowdown 1.5: less is no harm). \
         Strict: maxFailureRatio 1.01, maxSlowdown 1.05.\n\
         Assumed: φ {ASSUMED_PHI}, η {ASSUMED_ETA}. Calibrated: from two hours of ten stable pods before each release.\n\n\
         Rolled back, with the 95% limit above, though the canary is no worse:\n\n{}\n\
         Rolled back because the canary is worse, and after how long (median):\n\n{}\n\
         What was calibrated, median and 5% to 95% of the releases:\n\n{}",
        part(true, "no regression", wrong),
        part(false, "regression", right),
        table(&known),
    )
}

fn spread([low, median, high]: [f64; 3]) -> String {
    format!("{median:.2} ({low:.2}–{high:.2})")
}

fn wrong(judged: &Judged) -> String {
    let (share, limit) = (100.0 * judged.rolled_back.value(), 100.0 * judged.interval.1);
    format!("{share:.2}% (≤ {limit:.2}%)")
}

fn right(judged: &Judged) -> String {
    let share = 100.0 * judged.rolled_back.value();
    match judged.median_seconds {
        None => "never".to_owned(),
        Some(after) if share > 99.9 => seconds(after),
        Some(after) => format!("{share:.0}%, {}", seconds(after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_releases_make_both_tables() {
        let options = Options { runs: 2, regression_runs: 2, seed: 1, output: Output::Markdown };
        let text = run(&options).unwrap();
        assert_eq!(text, run(&options).unwrap(), "the same seed, the same tables");
        let (wrong, right) = text.split_once("Rolled back because").unwrap();
        assert_eq!(wrong.matches("\n| ").count(), 9, "{wrong}");
        let (right, known) = right.split_once("What was calibrated").unwrap();
        assert_eq!(right.matches("\n| ").count(), 7, "{right}");
        assert_eq!(known.matches("\n| ").count(), 15, "{known}");
    }
}
