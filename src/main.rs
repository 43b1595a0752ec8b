//! `surefoot`: the controller, and what is generated from its types.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use surefoot::client::Connection;
use surefoot::simulation::{backtest, judges, plan, simulate};
use surefoot::{cli, controller, crds, demo};

/// Progressive delivery for Istio that knows what it is doing
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the controller
    Controller(controller::Options),
    /// Say what a Rollout would do at so much traffic, by simulation, before it is tried
    Plan(plan::Options),
    /// Play a release by the real controller in virtual time, in a cluster in memory
    Simulate(simulate::Options),
    /// See a good release and a bad one in a cluster in memory, which kubectl can talk to
    Demo(demo::Options),
    /// Compare the rules of Flagger, Argo Rollouts and Kayenta with ours on simulated releases
    Judges(judges::Options),
    /// Say what a Rollout, and other tools, would have made of stable's past, read from Prometheus
    Backtest(backtest::Options),
    /// Write the custom resource definitions, one YAML file a kind
    Crds {
        /// The folder to write to; default: all on standard output
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// Write the reference of every field, in Markdown
    Reference,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let done: Result<()> = match arguments.command {
        Command::Controller(options) => {
            log_to_stderr("info,kube_runtime=warn");
            runtime()?.block_on(controller::run(&arguments.connection, options))
        }
        Command::Plan(options) => cli::terminal::show(&plan::run(&options)?),
        Command::Backtest(options) => {
            cli::terminal::show(&runtime()?.block_on(backtest::run(&options))?)
        }
        Command::Simulate(options) => {
            log_to_stderr("error");
            cli::terminal::show(&simulate::run(&options)?)
        }
        Command::Demo(options) => {
            log_to_stderr("error");
            return demo::run(&options);
        }
        Command::Judges(options) => cli::terminal::show(&judges::run(&options)?),
        Command::Crds { directory: Some(directory) } => {
            for (name, yaml) in crds::files()? {
                let path = directory.join(name);
                std::fs::write(&path, yaml)
                    .with_context(|| format!("can't write {}", path.display()))?;
            }
            Ok(())
        }
        Command::Reference => {
            print!("{}", crds::reference()?);
            Ok(())
        }
        Command::Crds { directory: None } => {
            for (_, yaml) in crds::files()? {
                println!("---\n{}", yaml.trim_end());
            }
            Ok(())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// What waits for the network waits here; what is simulated has a runtime of its own.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().context("starting a runtime")
}

/// JSON lines, fields first; RUST_LOG sets the level, in place of this one.
fn log_to_stderr(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .init();
}
