//! Runs scenarios, several at once, and says how each went.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::IsTerminal;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use futures::{StreamExt, stream};

use crate::clock;
use crate::way::Way;
use crate::world::{Scene, World};

/// A scenario is over by then, or hangs.
const SCENARIO_LIMIT: Duration = Duration::from_secs(600);

/// One story: a namespace with something in it, what is done to it, and what
/// must then be true.
#[derive(Clone)]
pub struct Scenario {
    /// The name, also of the namespace.
    pub name: &'static str,
    /// The story. An error is a failed scenario; its text says what was wrong.
    pub play: Play,
    /// Whether it stops shared parts, so that no other may run beside it.
    pub alone: bool,
    /// Whether it does nothing but wait for minutes, so that it takes no other's place.
    pub idle: bool,
    /// Which fault it plays, for the table at the end.
    pub fault: Option<&'static str>,
    /// By which kind of route, where it doesn't say itself.
    pub way: Way,
}

/// What the judge of the trace found.
#[derive(Debug)]
pub struct Violations {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub told: String,
}

impl Scenario {
    /// One of a table: the story is the same, the data differ.
    pub fn row<F>(
        name: &'static str,
        play: impl Fn(Arc<Scene>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let play: Play = Arc::new(move |scene| Box::pin(play(scene)));
        let way = Way::default();
        Self { name, play, alone: false, idle: false, fault: None, way }
    }
}

impl std::fmt::Display for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} violations: {}", self.count, self.told)
    }
}

impl std::error::Error for Violations {}

/// A story, boxed; see [`scenario!`](crate::scenario).
pub type Play = Arc<dyn Fn(Arc<Scene>) -> Told + Send + Sync>;

/// A story being told.
pub type Told = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Makes a [`Scenario`] of a name and an `async fn(Arc<Scene>) -> Result<()>`;
/// with `, alone` one that stops shared parts, with `, idle` one that only waits, with `, fault = "…"` one that plays a fault.
#[macro_export]
macro_rules! scenario {
    ($name:literal, $play:path) => {
        $crate::runner::Scenario {
            name: $name,
            play: std::sync::Arc::new(|scene| Box::pin($play(scene))),
            alone: false,
            idle: false,
            fault: None,
            way: $crate::way::Way::VirtualService,
        }
    };
    ($name:literal, $play:path, idle) => {
        $crate::runner::Scenario { idle: true, ..$crate::scenario!($name, $play) }
    };
    ($name:literal, $play:path, alone $($rest:tt)*) => {
        $crate::runner::Scenario { alone: true, ..$crate::scenario!($name, $play $($rest)*) }
    };
    ($name:literal, $play:path, fault = $fault:literal) => {
        $crate::runner::Scenario { fault: Some($fault), ..$crate::scenario!($name, $play) }
    };
}

/// Runs the scenarios, at most `jobs` at a time; whether all passed.
pub async fn run(scenarios: Vec<Scenario>, jobs: usize) -> Result<bool> {
    if scenarios.is_empty() {
        bail!("no scenario of that name");
    }
    let start = clock::instant();
    let world = Arc::new(World::start().await?);
    println!("parts are up after {:.1} s", (clock::instant() - start).as_secs_f64());
    run_in(&world, scenarios, jobs).await
}

/// The same in a world that runs already.
pub async fn run_in(world: &Arc<World>, scenarios: Vec<Scenario>, jobs: usize) -> Result<bool> {
    let mut failed = 0;
    let mut faults = Faults::default();
    let total = scenarios.len();
    let (alone, together): (Vec<_>, Vec<_>) =
        scenarios.into_iter().partition(|scenario| scenario.alone);
    for (scenarios, jobs) in [(together, jobs.max(1)), (alone, 1)] {
        let (idle, busy): (Vec<_>, Vec<_>) =
            scenarios.into_iter().partition(|scenario| scenario.idle);
        let start = |scenarios| stream::iter(scenarios).map(|scenario| timed(world, scenario));
        let aside = idle.len().max(1);
        let mut results =
            stream::select(start(busy).buffer_unordered(jobs), start(idle).buffer_unordered(aside));
        while let Some((Scenario { name, fault, .. }, took, result)) = results.next().await {
            let seconds = took.as_secs_f64();
            faults.note(fault, &result);
            match result {
                Ok(()) => println!("{} {name:<32} {seconds:6.1} s", paint("32", "ok  ")),
                Err(error) => {
                    failed += 1;
                    world.folders.keep();
                    println!("{} {name:<32} {seconds:6.1} s  {error:#}", paint("31", "FAIL"));
                }
            }
        }
    }
    if failed > 0 {
        println!("logs: {}", world.folders.run.display());
    }
    faults.print();
    println!("{} passed, {failed} failed", total - failed);
    Ok(failed == 0)
}

/// Fault by fault: scenarios that ran, those that failed, and violations of the invariants.
#[derive(Default)]
struct Faults(BTreeMap<&'static str, (usize, usize, usize)>);

impl Faults {
    fn note(&mut self, fault: Option<&'static str>, result: &Result<()>) {
        let Some(fault) = fault else { return };
        let (ran, failed, violations) = self.0.entry(fault).or_default();
        *ran += 1;
        if let Err(error) = result {
            *failed += 1;
            *violations += error.downcast_ref::<Violations>().map_or(0, |v| v.count);
        }
    }

    fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        let widest = self.0.keys().map(|fault| fault.len()).max().unwrap_or(0);
        println!("{:<widest$}  scenarios  failed  violations", "fault");
        for (fault, (ran, failed, violations)) in &self.0 {
            println!("{fault:<widest$}  {ran:>9}  {failed:>6}  {violations:>10}");
        }
    }
}

async fn timed(world: &Arc<World>, scenario: Scenario) -> (Scenario, Duration, Result<()>) {
    let start = clock::instant();
    let result = play(Arc::clone(world), scenario.clone()).await;
    (scenario, clock::instant() - start, result)
}

/// Plays one scenario in a task of its own, so that a panic is its own too.
async fn play(world: Arc<World>, scenario: Scenario) -> Result<()> {
    let scene = Arc::new(Scene::open(world, scenario.name, scenario.way).await?);
    let mut story = tokio::spawn((scenario.play)(Arc::clone(&scene)));
    let result = match tokio::time::timeout(SCENARIO_LIMIT, &mut story).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(anyhow!(panic)),
        Err(_) => {
            story.abort();
            let _ = story.await;
            Err(anyhow!("not over after {SCENARIO_LIMIT:?}"))
        }
    };
    if result.is_err() {
        scene.dump()?;
    }
    match Arc::into_inner(scene) {
        Some(scene) => result.and(scene.close().await),
        None => result.and(Err(anyhow!("the scenario left a task behind"))),
    }
}

fn paint(colour: &str, text: &str) -> String {
    if std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
