//! A controller with many Rollouts at rest: what it asks of the API server, and that it writes nothing.
//!
//! `cargo test --test week` takes six hours of ten Rollouts, `make week` seven days of a hundred.
//! Environment: `DAYS`, `ROLLOUTS`. Time is virtual.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube_sandbox::{Call, Settings as Kubelet, Verb};
use mesh_sandbox::{Load, Settings};
use serde_json::json;
use surefoot::sandbox::{self, App, Cluster, Conditions, Delivery};

const HOUR: Duration = Duration::from_secs(3600);
/// What isn't at rest this long after it was made never will be.
const READY: Duration = Duration::from_secs(600);
/// The controller, among the clients.
const CONTROLLER: &str = "surefoot";

fn app(number: usize) -> App {
    let name = format!("shop-{number}");
    let spec = json!({
        "targetRef": {"kind": "Deployment", "name": name},
        "traffic": {
            "mesh": "istio", "service": name,
            "routes": [{"kind": "VirtualService", "name": name}],
        },
        "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}],
    });
    App {
        namespace: format!("team-{}", number % 10),
        name,
        spec,
        replicas: 2,
        version: "v1".to_owned(),
    }
}

/// How often the controller called, by what.
#[derive(Default)]
struct Calls(BTreeMap<(&'static str, String), u64>);

impl Calls {
    fn add(&mut self, call: &Call) {
        let verb = match call.verb {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Other => "other",
        };
        *self.0.entry((verb, call.resource.clone())).or_default() += 1;
    }

    /// Those that change something, but for the lease: to renew it is how a leader rests.
    fn writes(&self) -> u64 {
        let reads = ["get", "list", "watch"];
        let writes = self
            .0
            .iter()
            .filter(|((verb, resource), _)| !reads.contains(verb) && resource != "leases");
        writes.map(|(_, count)| count).sum()
    }

    fn table(&self) -> String {
        let row = |((verb, resource), count): (&(&str, String), &u64)| {
            format!("{:<28}{count:>9}\n", format!("{verb} {resource}"))
        };
        self.0.iter().map(row).collect()
    }
}

/// Rest for so many hours.
async fn rest(cluster: &Cluster, hours: u32) -> Calls {
    let mut calls = Calls::default();
    cluster.api.forget_calls();
    for _ in 0..hours {
        tokio::time::sleep(HOUR).await;
        // The traffic up to now: it is worked out when somebody looks.
        cluster.mesh(|_| ());
        cluster
            .api
            .calls()
            .iter()
            .filter(|call| call.client == CONTROLLER)
            .for_each(|c| calls.add(c));
        cluster.api.forget_calls();
    }
    calls
}

async fn play(rollouts: usize, hours: u32) -> Result<u64> {
    let cluster = Cluster::start(Conditions {
        seed: 1,
        start: Timestamp::from_second(1_767_225_600)?,
        history: 20_000,
        kubelet: Kubelet { ready_after: Duration::from_secs(2), ends_after: Duration::ZERO },
        mesh: Settings {
            // Nobody judges by it: a few steps an hour are enough.
            scrape_interval: Duration::from_secs(600),
            load: Load { rps: 10.0, ..Load::default() },
            ..Settings::default()
        },
        character: str::to_owned,
    })?;
    let all: Vec<Delivery> =
        (0..rollouts).map(|number| cluster.furnish(&app(number))).collect::<Result<_>>()?;
    tokio::spawn(cluster.operate(None));
    let ready = |cluster: &Cluster| all.iter().all(|one| one.is_ready(cluster));
    ensure!(cluster.until(READY, ready).await, "the Rollouts don't come to rest");
    // What is told is told by then.
    tokio::time::sleep(READY).await;

    let calls = rest(&cluster, hours).await;
    let sum: u64 = calls.0.values().sum();
    print!("{}", calls.table());
    println!("{sum} calls, {} writes beside the lease", calls.writes());

    // It is at rest, and not dead.
    let one = all.first().context("no Rollout")?;
    one.set_version(&cluster, "v2")?;
    let moves = |cluster: &Cluster| !one.is_ready(cluster);
    ensure!(cluster.until(READY, moves).await, "a new version at the end isn't seen");
    Ok(calls.writes())
}

fn number(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    }
}

fn main() -> ExitCode {
    let played = (|| {
        let (days, rollouts) = (number("DAYS", 0)?, number("ROLLOUTS", 10)?);
        let hours = if days == 0 { 6 } else { u32::try_from(days)? * 24 };
        #[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
        let start = std::time::Instant::now();
        let writes = sandbox::runtime()?.block_on(play(rollouts, hours))?;
        let took = start.elapsed().as_secs_f64();
        println!("{rollouts} Rollouts at rest for {hours} virtual hours: {took:.1} s");
        ensure!(writes == 0, "a controller at rest writes nothing");
        anyhow::Ok(())
    })();
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
