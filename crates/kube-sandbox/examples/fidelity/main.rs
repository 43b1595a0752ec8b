//! Sends the same seeded sequences of requests to the sandbox and to a real kube-apiserver, and
//! compares what they answer: status codes, bodies, events of watches. Then plays the same edits of a
//! Deployment under the real controllers and under the sandbox's, and compares what becomes of them.
//!
//! One sequence alone is told in full.
//!
//! `cargo run -p kube-sandbox --example fidelity -- <control plane> [sequences] [first seed]`, where the
//! control plane is the program of `e2e/controlplane`; or, in its place, the kubeconfig of a server that has
//! no controllers which write meanwhile (for the second part it needs them, and they must be let go by then).

mod compare;
mod control_plane;
mod grammar;
mod side;
mod workload;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube_sandbox::{Controllers, Sandbox, Settings};
use serde_json::Value;

use grammar::Step;
use side::{Reply, Side};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Sequences that run at the same time: more doesn't make the server quicker.
const AT_ONCE: usize = 8;
/// Of each difference so many examples are printed.
const EXAMPLES: usize = 2;

/// What became of the sequences.
#[derive(Default)]
struct Tally {
    sequences: usize,
    requests: usize,
    agreed: usize,
    /// What sequences ended with.
    differing: usize,
    allowed: BTreeMap<&'static str, usize>,
    /// What differs, with examples.
    differences: BTreeMap<String, (usize, Vec<String>)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Error> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("give the path of a control plane or a kubeconfig")?;
    let sequences: u64 = arguments.next().map_or(Ok(300), |text| text.parse())?;
    let first: u64 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let control_plane = control_plane::ControlPlane::start_or_use(&path)?;
    let real = client(control_plane.kubeconfig()).await?;
    let server = Sandbox::new();
    let sandbox = Client::new(server.service("fidelity"), "default");
    prepare(&real).await?;
    prepare(&sandbox).await?;
    let began = tokio::time::Instant::now();
    let runs = (first..first + sequences).map(|seed| run(seed, real.clone(), sandbox.clone()));
    let mut runs = futures::stream::iter(runs).buffer_unordered(AT_ONCE);
    let mut tally = Tally::default();
    while let Some(outcome) = runs.next().await {
        let exchanges = outcome?;
        if sequences == 1 {
            exchanges.iter().for_each(Exchange::tell);
        }
        tally.add(&exchanges);
    }
    let answers = tally.print(began.elapsed());
    control_plane.resume_controllers()?;
    let settings = Settings { ready_after: Duration::ZERO, ..Settings::default() };
    let _controllers = Controllers::start(&server, settings);
    let (steps, differences) = workload::compare(&real, &sandbox).await?;
    println!("workload: {steps} steps, {} with differences", differences.len());
    differences.iter().for_each(|difference| println!("    {difference}"));
    Ok(if differences.is_empty() { answers } else { ExitCode::FAILURE })
}

async fn client(path: &std::path::Path) -> Result<Client, Error> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Adds the custom kinds of the grammar, and waits until they are served.
async fn prepare(client: &Client) -> Result<(), Error> {
    let mut side = Side::new(client.clone(), String::new());
    for definition in grammar::definitions()? {
        let uri = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let (group, name) = (&definition["spec"]["group"], &definition["spec"]["names"]["plural"]);
        let version = &definition["spec"]["versions"][0]["name"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let served = format!("/apis/{}/{}/{}", text(group), text(version), text(name));
        side.send(&Step::post(uri, definition.clone())).await?;
        let mut looks = 0;
        while side.send(&Step::get(&served)).await?.code != 200 {
            looks += 1;
            if looks > 100 {
                return Err(format!("{served} is not served").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// A step with what both sides answered.
struct Exchange {
    seed: u64,
    step: Step,
    real: Reply,
    sandbox: Reply,
}

impl Exchange {
    /// For whoever looks into one sequence.
    fn tell(&self) {
        let Exchange { step, real, sandbox, .. } = self;
        println!("{step}\n  {} {}\n  {} {}", real.code, real.body, sandbox.code, sandbox.body);
    }
}

async fn run(seed: u64, real: Client, sandbox: Client) -> Result<Vec<Exchange>, Error> {
    let namespace = format!("fidelity-{seed}");
    let mut sides = [Side::new(real, namespace.clone()), Side::new(sandbox, namespace.clone())];
    let mut exchanges = Vec::new();
    for step in grammar::sequence(seed, &namespace) {
        let [real, sandbox] = &mut sides;
        let (real, sandbox) = tokio::join!(real.send(&step), sandbox.send(&step));
        exchanges.push(Exchange { seed, step, real: real?, sandbox: sandbox? });
    }
    Ok(exchanges)
}

impl Tally {
    fn add(&mut self, exchanges: &[Exchange]) {
        self.sequences += 1;
        for exchange in exchanges {
            self.requests += 1;
            let differences = compare::differences(&exchange.real, &exchange.sandbox);
            let mut differs = false;
            for difference in &differences {
                differs |= self.count(exchange, difference);
            }
            if differs {
                self.differing += 1;
                // What comes after it may only be its consequence.
                return;
            }
            self.agreed += usize::from(differences.is_empty());
        }
    }

    /// Counts a difference; whether it is one that may not be.
    fn count(&mut self, exchange: &Exchange, difference: &compare::Difference) -> bool {
        if let Some(reason) = compare::allowed(&exchange.step, difference) {
            *self.allowed.entry(reason).or_default() += 1;
            return false;
        }
        let key = format!("{} {}", exchange.step.name, difference.path);
        let found = self.differences.entry(key).or_default();
        found.0 += 1;
        if found.1.len() < EXAMPLES {
            found.1.push(format!(
                "seed {} {}\n      real    {}\n      sandbox {}",
                exchange.seed, exchange.step, difference.real, difference.sandbox
            ));
        }
        true
    }

    fn print(&self, took: Duration) -> ExitCode {
        for (what, (count, examples)) in &self.differences {
            println!("{count} × {what}");
            for example in examples {
                println!("    {example}");
            }
        }
        println!(
            "{} sequences, {} requests in {} s: {} agree, {} differ as allowed, {} otherwise",
            self.sequences,
            self.requests,
            took.as_secs(),
            self.agreed,
            self.requests - self.agreed - self.differing,
            self.differing
        );
        for (reason, count) in &self.allowed {
            println!("allowed {count} ×: {reason}");
        }
        if self.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
