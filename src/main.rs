//! `surefoot`: the controller, and what is generated from its types.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use surefoot::client::Connection;
use surefoot::simulation::{backtest, judges, plan};
use surefoot::{cli, controller, crds};

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

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Controller(options) => {
            log_to_stderr();
            controller::run(&arguments.connection, options).await
        }
        Command::Plan(options) => cli::terminal::show(&plan::run(&options)?),
        Command::Backtest(options) => cli::terminal::show(&backtest::run(&options).await?),
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
    }
}

/// JSON lines, fields first; RUST_LOG sets the level.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube_runtime=warn"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .init();
}
