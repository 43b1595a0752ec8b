//! Runs scenarios, several at once, and says how each went.

use std::future::Future;
use std::io::IsTerminal;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use futures::{StreamExt, stream};

use crate::clock;
use crate::world::{Scene, World};

/// A scenario is over by then, or hangs.
const SCENARIO_LIMIT: Duration = Duration::from_secs(600);

/// One story: a namespace with something in it, what is done to it, and what
/// must then be true.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name, also of the namespace.
    pub name: &'static str,
    /// The story. An error is a failed scenario; its text says what was wrong.
    pub play: Play,
    /// Whether it stops shared parts, so that no other may run beside it.
    pub alone: bool,
}

/// A story, boxed; see [`scenario!`](crate::scenario).
pub type Play = fn(Arc<Scene>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Makes a [`Scenario`] of a name and an `async fn(Arc<Scene>) -> Result<()>`;
/// with `, alone` one that stops shared parts.
#[macro_export]
macro_rules! scenario {
    ($name:literal, $play:path) => {
        $crate::runner::Scenario { name: $name, play: |scene| Box::pin($play(scene)), alone: false }
    };
    ($name:literal, $play:path, alone) => {
        $crate::runner::Scenario { alone: true, ..$crate::scenario!($name, $play) }
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

    let mut failed = 0;
    let total = scenarios.len();
    let (alone, together): (Vec<_>, Vec<_>) =
        scenarios.into_iter().partition(|scenario| scenario.alone);
    for (scenarios, jobs) in [(together, jobs.max(1)), (alone, 1)] {
        let mut results =
            stream::iter(scenarios).map(|scenario| timed(&world, scenario)).buffer_unordered(jobs);
        while let Some((name, took, result)) = results.next().await {
            let seconds = took.as_secs_f64();
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
    println!("{} passed, {failed} failed", total - failed);
    Ok(failed == 0)
}

async fn timed(world: &Arc<World>, scenario: Scenario) -> (&'static str, Duration, Result<()>) {
    let start = clock::instant();
    let result = play(Arc::clone(world), scenario).await;
    (scenario.name, clock::instant() - start, result)
}

/// Plays one scenario in a task of its own, so that a panic is its own too.
async fn play(world: Arc<World>, scenario: Scenario) -> Result<()> {
    let scene = Arc::new(Scene::open(world, scenario.name).await?);
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
