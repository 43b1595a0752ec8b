//! `surefoot simulate`: the real controller delivers a release in virtual time, in a cluster in
//! memory, against what a scenario says.

pub mod library;
pub mod play;
pub mod scenario;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use surefoot_sim::tally::{Share, quantile};

use self::play::{End, Ended, play};
use self::scenario::Scenario;
use super::manifest::Manifest;
use super::{Lines, Output, bar_of, each, seconds, written};
use crate::cli::page::{Page, Style};
use crate::cli::terminal::Terminal;
use crate::cli::times::between;
use crate::clock::Clock;

/// Options of `surefoot simulate`.
#[derive(Debug, Args)]
pub struct Options {
    /// The file with the Rollout, and the AnalysisTemplates that it names; "-" is standard input.
    /// Default: the Rollout of the examples, with all its defaults
    #[arg(short, long)]
    filename: Option<PathBuf>,
    /// A file with a scenario, or the name of one of the library (--list); may be given several times
    #[arg(short, long, required_unless_present_any = ["list", "schema", "all"])]
    scenario: Vec<String>,
    /// All scenarios of the library
    #[arg(long, conflicts_with = "scenario")]
    all: bool,
    /// The first seed: the same one gives the same run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds: 1 tells a timeline, more tell how often what comes of it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,
    /// How to write it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Name the scenarios of the library
    #[arg(long, exclusive = true)]
    list: bool,
    /// Write the JSON schema of scenarios
    #[arg(long, exclusive = true)]
    schema: bool,
}

/// What came of all seeds of a scenario.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tallied {
    scenario: String,
    description: String,
    seeds: u64,
    promoted: Share,
    rolled_back: Share,
    held: Share,
    unfinished: Share,
    /// Seconds until it ended: median and 90th percentile.
    seconds: Option<[f64; 2]>,
    /// Requests that the canary failed: the same.
    canary_failed: Option<[f64; 2]>,
    /// The share of requests that the canary got until then, median.
    canary_share: Option<f64>,
}

/// Run it; the result as text.
///
/// # Errors
/// When a file can't be read or followed, or a release never begins.
pub fn run(options: &Options) -> Result<String> {
    if options.schema {
        let schema = schemars::schema_for!(Scenario);
        return Ok(serde_json::to_string_pretty(&schema).context("the schema")? + "\n");
    }
    if options.list {
        let lines = library::SCENARIOS.iter().map(|(name, text)| {
            let scenario = Scenario::parse(text).with_context(|| (*name).to_owned())?;
            Ok(vec![(*name).to_owned(), scenario.description])
        });
        let mut rows = vec![vec!["SCENARIO".to_owned(), "WHAT IT SHOWS".to_owned()]];
        rows.extend(lines.collect::<Result<Vec<_>>>()?);
        return Ok(super::table(&rows, Terminal::look().style.width));
    }
    let manifest = match &options.filename {
        Some(path) => Manifest::read(path)?,
        None => Manifest::parse(library::ROLLOUT, Path::new("the examples' Rollout"))?,
    };
    let named = if options.all {
        library::SCENARIOS.iter().map(|(name, _)| (*name).to_owned()).collect()
    } else {
        options.scenario.clone()
    };
    let scenarios: Vec<(String, Scenario)> =
        named.iter().map(|name| Ok((name.clone(), find(name)?))).collect::<Result<_>>()?;
    match (scenarios.as_slice(), options.seeds) {
        ([(_, scenario)], 1) => {
            let ended = play(&manifest, scenario, options.seed)?;
            told(&ended, options.output)
        }
        _ => tallied(&manifest, &scenarios, options),
    }
}

/// A scenario by its name or its file.
fn find(name: &str) -> Result<Scenario> {
    if let Some((_, text)) = library::SCENARIOS.iter().find(|(known, _)| *known == name) {
        return Scenario::parse(text).with_context(|| name.to_owned());
    }
    let path = Path::new(name);
    if !path.exists() && path.extension().is_none() {
        let known: Vec<&str> = library::SCENARIOS.iter().map(|(name, _)| *name).collect();
        bail!("there is no file and no scenario {name:?}; the library has {}", known.join(", "));
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    Scenario::parse(&text).with_context(|| format!("{} is no scenario", path.display()))
}

/// One run, as it is asked for.
fn told(ended: &Ended, output: Output) -> Result<String> {
    if output == Output::Table {
        return Ok(story(ended, Terminal::look().style));
    }
    written(output, ended, |ended, lines| {
        let mut rows = vec![["time", "weight", "what", "note"].map(str::to_owned).to_vec()];
        rows.extend(ended.timeline.iter().map(|line| {
            vec![line.clock(), format!("{}%", line.weight), line.what.clone(), line.note.clone()]
        }));
        format!("{}\n{}\n", lines(&rows), sum(ended))
    })
}

/// A run as lines of text.
#[must_use]
pub fn story(ended: &Ended, style: Style) -> String {
    let mut page = Page::new(style);
    for line in &ended.timeline {
        let lead = format!("{:>8} {:>4}%  {:<18} ", line.clock(), line.weight, line.what);
        page.put(&lead, &line.note);
    }
    page.put("", "");
    page.put("", &sum(ended));
    page.finish()
}

/// A run in a sentence.
fn sum(ended: &Ended) -> String {
    let mut text = String::new();
    let after = seconds(Duration::from_secs(ended.seconds).as_secs_f64());
    // Writing to a String doesn't fail.
    let _ = write!(text, "{} after {after}", ended.end.words());
    let _ = write!(
        text,
        ": {} requests, {} failed; the canary answered {} and failed {}",
        ended.requests, ended.failed, ended.canary_requests, ended.canary_failed
    );
    text
}

fn tallied(
    manifest: &Manifest,
    scenarios: &[(String, Scenario)],
    options: &Options,
) -> Result<String> {
    let bar = bar_of("releases", options.seeds * scenarios.len() as u64);
    let (began, mut played) = (Clock::System.now(), 0);
    let mut all = Vec::new();
    for (name, scenario) in scenarios {
        bar.set_message(name.clone());
        let runs = each(&bar, options.seeds, |run| {
            play(manifest, scenario, options.seed.wrapping_add(run))
        });
        let runs: Vec<Ended> =
            runs.into_iter().collect::<Result<_>>().with_context(|| name.clone())?;
        played += runs.iter().map(|run| run.played).sum::<u64>();
        all.push(tally(name, scenario, &runs));
    }
    bar.finish_and_clear();
    let took = between(began, Clock::System.now()).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "seconds of simulated days")]
    let days = played as f64 / 86_400.0;
    // Not part of the result, which is the same wherever it is made.
    eprintln!("{days:.1} virtual days in {took:.0} s: {:.2} days a second", days / took.max(0.001));
    written(options.output, &all, |all, lines| say(all, lines))
}

fn tally(name: &str, scenario: &Scenario, runs: &[Ended]) -> Tallied {
    let of = |end: End| {
        let mut share = Share::default();
        runs.iter().for_each(|run| share.count(run.end == end));
        share
    };
    let numbers = |number: fn(&Ended) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(number).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let both = |all: &[f64]| Some([quantile(all, 0.5)?, quantile(all, 0.9)?]);
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are exact in f64")]
    let (seconds, failed, share) = (
        numbers(|run| run.seconds as f64),
        numbers(|run| run.canary_failed as f64),
        numbers(|run| run.canary_requests as f64 / run.requests.max(1) as f64),
    );
    Tallied {
        scenario: name.to_owned(),
        description: scenario.description.clone(),
        seeds: runs.len() as u64,
        promoted: of(End::Promoted),
        rolled_back: of(End::RolledBack),
        held: of(End::Held),
        unfinished: of(End::Unfinished),
        seconds: both(&seconds),
        canary_failed: both(&failed),
        canary_share: quantile(&share, 0.5),
    }
}

fn say(all: &[Tallied], lines: &Lines) -> String {
    let header = [
        "scenario",
        "promoted",
        "rolled back",
        "held",
        "not ended",
        "time (90%)",
        "canary failed (90%)",
        "canary's share",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for one in all {
        let pair = |pair: Option<[f64; 2]>, say: fn(f64) -> String| {
            pair.map_or("-".to_owned(), |[half, most]| format!("{} ({})", say(half), say(most)))
        };
        rows.push(vec![
            one.scenario.clone(),
            percent(&one.promoted),
            percent(&one.rolled_back),
            percent(&one.held),
            percent(&one.unfinished),
            pair(one.seconds, seconds),
            pair(one.canary_failed, |n| format!("{n:.0}")),
            one.canary_share.map_or("-".to_owned(), |share| format!("{:.0}%", share * 100.0)),
        ]);
    }
    lines(&rows)
}

fn percent(share: &Share) -> String {
    surefoot_core::words::percent(share.value())
}
