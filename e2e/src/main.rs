//! The command line of the end-to-end tests.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use surefoot_e2e::{demo, netns, runner, scenarios, scope, up};

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios and say how they went
    Run {
        /// Only scenarios whose names contain one of these
        filters: Vec<String>,
        /// The names are whole ones
        #[arg(long)]
        exact: bool,
        /// How many at a time
        #[arg(long, short, default_value_t = 2)]
        jobs: usize,
        /// Name them and run nothing
        #[arg(long)]
        list: bool,
    },
    /// A release that is promoted and one that is rolled back, live, with their timelines
    Demo,
    /// Write down which requests controller, plugin and kubectl send
    Scope {
        /// The list
        file: PathBuf,
    },
    /// Start everything with an example application, until Ctrl-C
    Up {
        /// Requests per second to the example
        #[arg(long, default_value_t = 20)]
        rate: u32,
    },
}

fn main() -> ExitCode {
    match start(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("surefoot-e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(command: Command) -> Result<bool> {
    if let Command::Run { list: true, filters, exact, .. } = &command {
        scenarios::matching(filters, *exact)
            .iter()
            .for_each(|scenario| println!("{}", scenario.name));
        return Ok(true);
    }
    netns::enter()?;
    // An error says that there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let work = async {
            match command {
                Command::Run { filters, exact, jobs, .. } => {
                    runner::run(scenarios::matching(&filters, exact), jobs).await
                }
                Command::Demo => demo::demo().await.map(|()| true),
                Command::Scope { file } => scope::scope(&file).await,
                Command::Up { rate } => up::up(rate).await.map(|()| true),
            }
        };
        // Dropping the work drops the parts, and the parts' processes with them.
        tokio::select! {
            result = work => result,
            interrupted = interrupted() => interrupted.map(|()| false),
        }
    })
}

async fn interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    eprintln!("stopping");
    Ok(())
}
