//! The real controller against an API server in memory, crashed at every call it makes: each run must
//! end as the clean one does, and break no invariant on the way.
//!
//! `cargo test --test crash` takes every 20th crash of the shortest story, `make crash` every point of
//! all. Environment: `CRASH=all`, `ONLY="story …"`, `KINDS="before …"`, `POINTS=n` for every nth point.
#![expect(clippy::unwrap_used, reason = "a lock is poisoned only by a panic that has been told")]

mod cluster;
mod gate;
mod outcome;
mod points;
mod story;

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use kube_sandbox::{Call, FaultPlan, When};
use serde_json::Value;
use tokio::time::Instant;

use cluster::{Cluster, FROZEN};
use points::{FIRST, KINDS, Kind, Point, calls_of, points};
use story::{STORIES, Story};

/// A run is a great many small objects, made and thrown away.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads that runs go over.
const THREADS: usize = 2;

/// What came of a run.
struct Run {
    outcome: Value,
    violation: Option<String>,
    calls: Vec<Call>,
    /// Virtual time.
    took: Duration,
}

/// Play a story with what is to go wrong.
fn run(story: Story, point: Option<&Point>) -> Result<Run, String> {
    surefoot::sandbox::runtime().map_err(|e| e.to_string())?.block_on(async {
        let began = Instant::now();
        let cluster = Cluster::start(7, &story.spec()).await;
        let mut plan = FaultPlan::new();
        for (client, nth, fault) in point.iter().flat_map(|p| &p.faults) {
            let when =
                When { nth: Some(*nth), client: Some((*client).to_owned()), ..When::default() };
            plan = plan.with(when, fault.clone());
        }
        cluster.inner.api.plan(plan);
        cluster.operate(point.map(|p| p.trouble).unwrap_or_default());
        let told = cluster.clone();
        // A story that doesn't end panics, with what it waited for.
        let frozen = point.is_some_and(|p| p.trouble.freeze_at > 0);
        let played = tokio::spawn(async move {
            story.play(&told).await;
            // What is left to be done is done, and whoever was frozen has come back.
            let tail = if frozen { FROZEN } else { Duration::ZERO };
            tokio::time::sleep(tail + Duration::from_secs(8)).await;
        })
        .await;
        let ended = match played {
            Ok(()) => Ok(Run {
                outcome: outcome::outcome(&cluster),
                violation: outcome::violation(&cluster.inner.api, story),
                calls: cluster.inner.api.calls(),
                took: began.elapsed(),
            }),
            Err(error) if error.is_panic() => {
                let panic = error.into_panic();
                let text = panic.downcast_ref::<String>().cloned();
                Err(text.unwrap_or_else(|| "it panicked".to_owned()))
            }
            Err(error) => Err(error.to_string()),
        };
        cluster.stop();
        ended
    })
}

/// Which points are taken.
struct Chosen {
    kinds: Vec<Kind>,
    /// Every nth.
    every: usize,
    /// The story of which pairs are taken, too.
    pairs: Option<Story>,
}

impl Chosen {
    fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

/// How many points of a kind there were, and how many of them were survived.
#[derive(Clone, Copy, Default)]
struct Tally {
    points: usize,
    survived: usize,
}

/// The points of a story that are still to be run, and what came of the others.
#[derive(Default)]
struct Progress {
    queue: VecDeque<Point>,
    tallies: BTreeMap<Kind, Tally>,
    running: usize,
}

/// The same for several threads.
#[derive(Default)]
struct Work {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Work {
    /// The next point; none when all have been run. Those that run may bring more.
    fn next(&self) -> Option<Point> {
        let progress = self.progress.lock().unwrap();
        let waits = |progress: &mut Progress| progress.queue.is_empty() && progress.running > 0;
        let mut progress = self.changed.wait_while(progress, waits).unwrap();
        let point = progress.queue.pop_front()?;
        progress.running += 1;
        Some(point)
    }

    /// A point has been run.
    fn done(&self, kind: Kind, survived: bool, more: Vec<Point>) {
        let mut progress = self.progress.lock().unwrap();
        progress.running -= 1;
        let tally = progress.tallies.entry(kind).or_default();
        tally.points += 1;
        tally.survived += usize::from(survived);
        progress.queue.extend(more);
        self.changed.notify_all();
    }
}

/// All chosen points of a story; what came of them.
fn enumerate(name: &str, story: Story, chosen: &Chosen) -> Option<BTreeMap<Kind, Tally>> {
    let start = Instant::now();
    let clean = match run(story, None) {
        Ok(clean) => clean,
        Err(why) => {
            println!("{name}: the clean run: {why}");
            return None;
        }
    };
    if let Some(violation) = clean.violation {
        println!("{name}: the clean run: {violation}");
        return None;
    }
    let queue: VecDeque<Point> = points(&clean.calls)
        .into_iter()
        .filter(|point| chosen.has(point.kind))
        .step_by(chosen.every)
        .collect();
    let pairs = chosen.pairs == Some(story);
    let work =
        Work { progress: Mutex::new(Progress { queue, ..Progress::default() }), ..Work::default() };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(point) = work.next() {
                    let (fate, calls) = fate(story, &point, &clean.outcome);
                    if let Some(why) = &fate {
                        println!("  {name}, {point:?}: {why}");
                    }
                    let mut more = Vec::new();
                    if pairs && point.kind == Kind::Before {
                        more.extend(
                            points::pairs(&point, &calls).into_iter().step_by(chosen.every),
                        );
                    }
                    work.done(point.kind, fate.is_none(), more);
                }
            });
        }
    });
    let tallies = work.progress.into_inner().unwrap().tallies;
    let calls = calls_of(&clean.calls, FIRST).len();
    let what = format!("{name:<18}{calls:>6}{:>6.0} s", clean.took.as_secs_f64());
    println!("{what}{}", row(&tallies, start.elapsed()));
    Some(tallies)
}

/// Why a point wasn't survived, and the calls on the way.
fn fate(story: Story, point: &Point, clean: &Value) -> (Option<String>, Vec<Call>) {
    match run(story, Some(point)) {
        Err(why) => (Some(why), Vec::new()),
        Ok(run) => {
            let why = run.violation.or_else(|| outcome::difference(clean, &run.outcome));
            (why, run.calls)
        }
    }
}

/// A row of the table: points by kind (or `survived/points`), all that were survived, the time.
fn row(tallies: &BTreeMap<Kind, Tally>, took: Duration) -> String {
    let mut row = String::new();
    let mut all = Tally::default();
    for (kind, name) in KINDS {
        let tally = tallies.get(&kind).copied().unwrap_or_default();
        all.points += tally.points;
        all.survived += tally.survived;
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
        pairs: None,
    };
    let chosen = Chosen { pairs: chosen.has(Kind::Pair).then_some(Story::Abort), ..chosen };
    let start = Instant::now();
    let mut all: BTreeMap<Kind, Tally> = BTreeMap::new();
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
            let sum = all.entry(kind).or_default();
            sum.points += tally.points;
            sum.survived += tally.survived;
        }
    }
    println!("{:<32}{}", "all", row(&all, start.elapsed()));
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
