//! The real controller against an API server in memory, crashed at every call it makes: each run must
//! end as the clean one does, and break no invariant on the way.
//!
//! `cargo test --test crash` takes every 20th crash of the shortest story, `make crash` every point of
//! all. Environment: `CRASH=all`, `ONLY="story …"`, `POINTS=n` for every nth point.
#![expect(clippy::unwrap_used, reason = "a lock is poisoned only by a panic that has been told")]

mod cluster;
mod gate;
mod outcome;
mod story;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use kube_sandbox::{Call, Fault, FaultPlan, Verb, When};
use serde_json::Value;
use tokio::time::Instant;

use cluster::{Cluster, FROZEN, Trouble};
use story::{STORIES, Story};

/// Threads that runs go over.
const THREADS: usize = 2;

/// One thing that goes wrong.
#[derive(Debug, Clone)]
struct Point {
    kind: &'static str,
    /// Before which calls of which controller, and what.
    faults: Vec<(&'static str, u64, Fault)>,
    trouble: Trouble,
}

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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(async {
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

/// Every point of a story, from the calls of its clean run.
fn points(calls: &[Call], everything: bool) -> Vec<Point> {
    let own: Vec<&Call> = calls.iter().filter(|c| c.client == "controller-1").collect();
    let mut points = Vec::new();
    let mut add = |kind, nth, fault| {
        let faults = vec![("controller-1", nth, fault)];
        points.push(Point { kind, faults, trouble: Trouble::default() });
    };
    for (nth, call) in (1..).zip(&own) {
        add("crash before", nth, Fault::Crash);
        if !matches!(call.verb, Verb::Get | Verb::List | Verb::Watch) {
            add("crash after", nth, Fault::CrashAfter);
            add("reply lost", nth, Fault::DropReply);
        }
        if !everything {
            continue;
        }
        add("500", nth, Fault::Answer(500));
        add("429", nth, Fault::TooManyRequests(1));
        add("late", nth, Fault::Delay(Duration::from_secs(4)));
        match call.verb {
            Verb::Watch => {
                add("410", nth, Fault::Answer(410));
                add("watch cut", nth, Fault::CutWatch(1));
                add("events skipped", nth, Fault::SkipEvents);
            }
            Verb::Get | Verb::List => add("stale read", nth, Fault::Stale(3)),
            _ => {}
        }
    }
    if everything {
        for nth in (1..).take(own.len()) {
            points.push(Point {
                kind: "frozen",
                faults: Vec::new(),
                trouble: Trouble { freeze_at: nth },
            });
        }
    }
    points
}

/// All points of a story; whether all survived.
fn enumerate(name: &str, story: Story, everything: bool, every: usize) -> bool {
    let start = Instant::now();
    let clean = match run(story, None) {
        Ok(clean) => clean,
        Err(why) => {
            println!("{name}: the clean run: {why}");
            return false;
        }
    };
    if let Some(violation) = clean.violation {
        println!("{name}: the clean run: {violation}");
        return false;
    }
    let once = start.elapsed();
    let points: Vec<Point> = points(&clean.calls, everything).into_iter().step_by(every).collect();
    let total = points.len();
    let queue = Mutex::new(VecDeque::from(points));
    let fates = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some(point) = queue.lock().unwrap().pop_front() else { return };
                    let fate = fate(story, &point, &clean.outcome);
                    let mut fates = fates.lock().unwrap();
                    if let Some(why) = &fate {
                        println!(
                            "  {name}, {} {:?} {:?}: {why}",
                            point.kind, point.faults, point.trouble
                        );
                    }
                    fates.push((point.kind, fate.is_none()));
                    if fates.len() % 100 == 0 {
                        eprintln!("  {name}: {} of {total}", fates.len());
                    }
                }
            });
        }
    });
    let fates = fates.into_inner().unwrap();
    let survived = fates.iter().filter(|(_, well)| *well).count();
    let calls = clean.calls.iter().filter(|c| c.client == "controller-1").count();
    println!(
        "{name:<18} {calls:>6} calls {:>6.0} virtual s {total:>6} points {survived:>6} survived {:>7.1} s ({:.2} s a run)",
        clean.took.as_secs_f64(),
        start.elapsed().as_secs_f64(),
        once.as_secs_f64(),
    );
    survived == total
}

/// Why a point wasn't survived.
fn fate(story: Story, point: &Point, clean: &Value) -> Option<String> {
    match run(story, Some(point)) {
        Err(why) => Some(why),
        Ok(run) => run.violation.or_else(|| outcome::difference(clean, &run.outcome)),
    }
}

fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if !variable("RUST_LOG").is_empty() {
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    }
    let everything = variable("CRASH") == "all";
    let only = variable("ONLY");
    let only: Vec<&str> = only.split_whitespace().collect();
    let every = variable("POINTS").parse().unwrap_or(if everything { 1 } else { 20 }).max(1);
    let mut well = true;
    for (name, story) in STORIES {
        let wanted = if only.is_empty() {
            everything || story == Story::Abort
        } else {
            only.contains(&name)
        };
        if wanted {
            well &= enumerate(name, story, everything, every);
        }
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
