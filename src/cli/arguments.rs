//! The command line.

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::SignedDuration;

use crate::client::Connection;

/// The plugin's file name, by which kubectl finds it.
pub const BINARY: &str = "kubectl-surefoot";
/// The longest reason that a RolloutAction takes.
const REASON: usize = 512;

/// See and steer releases of Surefoot
#[derive(Debug, Parser)]
#[command(name = BINARY, bin_name = "kubectl surefoot", version)]
pub struct Arguments {
    /// How to reach the API server.
    #[command(flatten)]
    pub connection: Connection,
    /// Namespace of the Rollout; default: that of the context
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the plugin can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show where a Rollout stands, or all Rollouts of a namespace
    Status(StatusOptions),
    /// Approve the step that is under way, or go past its gate
    Promote(Order),
    /// Bring all traffic back to stable and end the release
    Abort(Order),
    /// Tell what was decided, why, and what comes next
    Explain {
        /// The Rollout
        name: String,
        /// How to tell it
        #[arg(short, long, value_enum, default_value_t)]
        output: ExplainOutput,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Options of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusOptions {
    /// The Rollout; without it all of the namespace
    pub name: Option<String>,
    /// The Rollouts of all namespaces
    #[arg(short = 'A', long, conflicts_with = "name")]
    pub all_namespaces: bool,
    /// Follow the release until it ends: 0 when all is well then, 1 when it was rolled back
    #[arg(short, long, requires = "name")]
    pub watch: bool,
    /// Follow no longer than this, such as 30m
    #[arg(long, requires = "watch", value_parser = span)]
    pub timeout: Option<std::time::Duration>,
    /// How to show it
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
}

/// A command to a Rollout.
#[derive(Debug, Clone, Args)]
pub struct Order {
    /// The Rollout
    pub name: String,
    /// Why; shown in its status and Events
    #[arg(long, value_parser = reason)]
    pub reason: Option<String>,
}

/// Forms of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// More of it
    Wide,
    /// The object as JSON
    Json,
    /// The object as YAML
    Yaml,
    /// Only the name
    Name,
}

/// Forms of `explain`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainOutput {
    /// For a terminal
    #[default]
    Text,
    /// For programs
    Json,
    /// For a ticket
    Markdown,
}

impl Arguments {
    /// Of the command line. Ends the process with 2 where it makes no sense.
    #[must_use]
    pub fn read() -> Self {
        let arguments = Self::parse();
        if let Command::Status(StatusOptions { watch: true, output: Some(output), .. }) =
            &arguments.command
            && *output != Output::Wide
        {
            let why = "--watch shows pages: it goes with --output=wide only";
            Self::command().error(ErrorKind::ArgumentConflict, why).exit();
        }
        arguments
    }
}

fn span(text: &str) -> Result<std::time::Duration, String> {
    let span: Option<SignedDuration> = text.parse().ok();
    let span = span.and_then(|span| std::time::Duration::try_from(span).ok());
    span.filter(|span| !span.is_zero()).ok_or_else(|| "write it as 90s, 30m or 1h30m".to_owned())
}

fn reason(text: &str) -> Result<String, String> {
    if text.chars().count() > REASON {
        return Err(format!("at most {REASON} characters are kept"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn spans_are_as_go_writes_them() {
        assert_eq!(span("1h30m"), Ok(std::time::Duration::from_secs(5400)));
        assert!(span("-5m").is_err() && span("0s").is_err() && span("soon").is_err());
    }
}
