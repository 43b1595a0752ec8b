//! The real controller against an API server in memory, crashed at every call it makes: each run must
//! end as the clean one does, and break no invariant on the way.
//!
//! `cargo test --test crash` takes every 20th crash of the shortest story, `make crash` every point of
//! all. Environment: `CRASH=all`, `ONLY="story …"`, `KINDS="before …"`, `POINTS=n` for every nth point,
//! `CALL=n` for those at the nth call.
#![expect(clippy::unwrap_used, reason = "a test")]

mod branch;
mod cluster;
mod gate;
mod outcome;
mod points;
mod story;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kube_sandbox::FaultPlan;
use serde_json::Value;
use tokio::time::Instant;

use branch::{Branches, Chosen, Point, Tallies, Tally};
use cluster::{Cluster, FROZEN};
use points::{FIRST, KINDS, Kind};
use story::{STORIES, Story};

/// A run is a great many small objects, made and thrown away.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What came of a run.
struct Run {
    outcome: Value,
    violation: Option<String>,
    /// Calls of the first controller.
    calls: usize,
    /// Virtual time.
    took: Duration,
}

/// What goes wrong in a run.
#[derive(Clone)]
enum Trouble {
    Nothing,
    /// Calls, when they arrive.
    Calls(Arc<Branches>),
    /// The first controller, before it sends a call.
    Freezes(Arc<Branches>),
}

/// Play a story. With trouble it ends in many processes, one for each thing that goes wrong.
fn run(story: Story, trouble: Trouble) -> Result<Run, String> {
    let runtime = surefoot::sandbox::runtime().map_err(|e| e.to_string())?;
    let branches = match &trouble {
        Trouble::Nothing => None,
        Trouble::Calls(of) | Trouble::Freezes(of) => Some(of.clone()),
    };
    let ended = runtime.block_on(async {
        let began = Instant::now();
        let cluster = Cluster::start(7, &story.spec()).await;
        let (mut freezes, branches) = (None, branches.clone());
        match trouble {
            Trouble::Nothing => {}
            Trouble::Calls(of) => {
                let ask = move |client: &str, request: &kube_sandbox::Request| {
                    of.arrives(client, request.verb())
                };
                cluster.inner.api.plan(FaultPlan::new().asking(ask));
            }
            Trouble::Freezes(of) => freezes = Some(of),
        }
        cluster.operate(freezes);
        let told = cluster.clone();
        // A story that doesn't end panics, with what it waited for.
        let played = tokio::spawn(async move {
            story.play(&told).await;
            // What is left to be done is done, and whoever was frozen has come back.
            let point = branches.and_then(|branches| branches.point());
            let frozen = point.is_some_and(|point| point.kind == Kind::Frozen);
            let tail = if frozen { FROZEN } else { Duration::ZERO };
            tokio::time::sleep(tail + Duration::from_secs(5)).await;
        })
        .await;
        let ended = match played {
            Ok(()) => {
                let calls = cluster.inner.api.calls();
                Ok(Run {
                    outcome: outcome::outcome(&cluster),
                    violation: outcome::violation(&cluster.inner.api, story),
                    calls: calls.iter().filter(|call| call.client == FIRST).count(),
                    took: began.elapsed(),
                })
            }
            Err(error) if error.is_panic() => {
                let panic = error.into_panic();
                let text = panic.downcast_ref::<String>().cloned();
                Err(text.unwrap_or_else(|| "it panicked".to_owned()))
            }
            Err(error) => Err(error.to_string()),
        };
        cluster.stop();
        ended
    });
    // A branch is about to end: what it holds goes with its process, without being touched (and so copied).
    if branches.is_some_and(|branches| branches.point().is_some()) {
        std::mem::forget(runtime);
    }
    ended
}

/// All chosen points of a story; what came of them.
fn enumerate(name: &str, story: Story, chosen: &Chosen) -> Option<Tallies> {
    let start = Instant::now();
    let clean = match run(story, Trouble::Nothing) {
        Ok(Run { violation: Some(why), .. }) | Err(why) => {
            println!("{name}: the clean run: {why}");
            return None;
        }
        Ok(clean) => clean,
    };
    let pairs = chosen.pairs && story == Story::Abort;
    let kinds =
        |frozen| chosen.kinds.iter().copied().filter(move |k| (*k == Kind::Frozen) == frozen);
    let mut all = Tallies::new();
    for frozen in [false, true] {
        let kinds: Vec<Kind> = kinds(frozen).collect();
        if kinds.is_empty() {
            continue;
        }
        let branches = Arc::new(Branches::new(Chosen { kinds, pairs, ..chosen.clone() }));
        let trouble = if frozen { Trouble::Freezes } else { Trouble::Calls };
        let fate = fate(run(story, trouble(branches.clone())), &clean.outcome);
        if let Some(why) = &fate {
            println!("  {name}, {}: {why}", place(branches.point()));
        }
        for (kind, tally) in branches.end(fate.is_none()) {
            all.entry(kind).or_default().add(tally);
        }
        // The trunk is a clean run.
        if fate.is_some() {
            return None;
        }
    }
    let what = format!("{name:<18}{:>6}{:>6.0} s", clean.calls, clean.took.as_secs_f64());
    println!("{what}{}", row(&all, start.elapsed()));
    Some(all)
}

/// Why a run doesn't end as the clean one.
fn fate(run: Result<Run, String>, clean: &Value) -> Option<String> {
    match run {
        Err(why) => Some(why),
        Ok(run) => run.violation.or_else(|| outcome::difference(clean, &run.outcome)),
    }
}

/// What went wrong, for whoever wants to see it again.
fn place(point: Option<Point>) -> String {
    let Some(Point { kind, nth, then }) = point else { return "nothing wrong".to_owned() };
    let name = KINDS.iter().find(|(of, _)| *of == kind).map_or("", |(_, name)| name);
    let then = then.map_or(String::new(), |then| format!(" and call {then} of the next"));
    format!("{name}, CALL={nth}{then}")
}

/// A row of the table: points by kind (or `survived/points`), all that were survived, the time.
fn row(tallies: &Tallies, took: Duration) -> String {
    let mut row = String::new();
    let mut all = Tally::default();
    for (kind, name) in KINDS {
        let tally = tallies.get(&kind).copied().unwrap_or_default();
        all.add(tally);
        let width = name.len().max(5) + 1;
        let cell = match tally {
            Tally { points: 0, .. } => "-".to_owned(),
            Tally { points, survived } if points == survived => points.to_string(),
            Tally { points, survived } => format!("{survived}/{points}"),
        };
        row.push_str(&format!("{cell:>width$}"));
    }
    let survived = format!("{}/{}", all.survived, all.points);
    row + &format!("{survived:>13}{:>7.1} s", took.as_secs_f64())
}

fn head() -> String {
    let kinds = KINDS.map(|(_, name)| format!("{name:>width$}", width = name.len().max(5) + 1));
    format!(
        "{:<18}{:>6}{:>8}{}{:>13}{:>9}",
        "story",
        "calls",
        "virtual",
        kinds.concat(),
        "survived",
        "time"
    )
}

fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if !variable("RUST_LOG").is_empty() {
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    }
    let everything = variable("CRASH") == "all";
    let (only, kinds) = (variable("ONLY"), variable("KINDS"));
    let only: Vec<&str> = only.split_whitespace().collect();
    let kinds: Vec<&str> = kinds.split_whitespace().collect();
    let wanted = |(kind, name): &(Kind, &str)| {
        let plain = matches!(kind, Kind::Before | Kind::After | Kind::Lost);
        if kinds.is_empty() { everything || plain } else { kinds.contains(name) }
    };
    let chosen = Chosen {
        kinds: KINDS.iter().filter(|kind| wanted(kind)).map(|(kind, _)| *kind).collect(),
        every: variable("POINTS").parse().unwrap_or(if everything { 1 } else { 20 }).max(1),
        call: variable("CALL").parse().ok(),
        pairs: KINDS.iter().any(|kind| kind.0 == Kind::Pair && wanted(kind)),
    };
    let start = Instant::now();
    let mut all = Tallies::new();
    let mut well = true;
    println!("{}", head());
    for (name, story) in STORIES {
        let wanted = if only.is_empty() {
            everything || story == Story::Abort
        } else {
            only.contains(&name)
        };
        if !wanted {
            continue;
        }
        let Some(tallies) = enumerate(name, story, &chosen) else {
            well = false;
            continue;
        };
        for (kind, tally) in tallies {
            well &= tally.points == tally.survived;
            all.entry(kind).or_default().add(tally);
        }
    }
    println!("{:<32}{}", "all", row(&all, start.elapsed()));
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
