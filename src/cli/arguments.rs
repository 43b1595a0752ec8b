//! The command line.

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::SignedDuration;

use crate::client::Connection;
use crate::simulation::plan::Play;

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
    /// Show all Rollouts of a namespace: status without a name
    #[command(visible_alias = "ls")]
    List(ListOptions),
    /// Show the releases that ended, and who gave which command
    History {
        /// The Rollout
        name: String,
        /// How to show it
        #[arg(short, long, value_enum)]
        output: Option<HistoryOutput>,
    },
    /// Approve the step that is under way, or go past its gate
    Promote {
        /// Which, and how to follow it
        #[command(flatten)]
        order: Followed,
        /// Go past the gates of all steps that are left, to all traffic and the hand-over
        #[arg(long)]
        full: bool,
    },
    /// Bring all traffic back to stable and end the release
    Abort {
        /// Which
        #[command(flatten)]
        order: Order,
        /// Write the route without waiting for a controller, which takes it as an abort when it is
        /// back
        #[arg(long)]
        break_glass: bool,
    },
    /// Keep the release at its weight until resume; harm and abort still end it
    Pause(Order),
    /// End a pause, or a hold of the step: its clocks begin anew
    Resume(Order),
    /// After a rollback: try the same template again, as a new release
    Retry(Followed),
    /// Put the template of the version before back into the Deployment
    Undo(Followed),
    /// Set images of the Deployment, which begins a release
    SetImage {
        /// The Rollout
        name: String,
        /// Container and image, as in app=registry.example/app:v2; * is every container
        #[arg(required = true, value_name = "CONTAINER=IMAGE", value_parser = image)]
        images: Vec<(String, String)>,
        /// How to follow it
        #[command(flatten)]
        follow: Follow,
    },
    /// Restart the pods of the Deployment, which is a release of the same images
    Restart {
        /// The Rollout
        name: String,
        /// How to follow it
        #[command(flatten)]
        follow: Follow,
    },
    /// Tell what was decided, why, and what comes next
    Explain(ExplainOptions),
    /// Tell what a release would do at the service's present traffic, before it is tried
    Plan(PlanOptions),
    /// Look at what a Rollout needs, and say what is missing: 0 where nothing is, else 1
    Doctor(super::doctor::Options),
    /// Write the Rollout for a Deployment, and what its route, Services and rules need for it
    Init(super::init::Options),
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

/// Options of `explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainOptions {
    /// The Rollout
    pub name: String,
    /// A release that has ended, by its number; the last ten are kept
    #[arg(long)]
    pub release: Option<i64>,
    /// Also the formulas with their numbers, to compute the verdict again
    #[arg(long)]
    pub formula: bool,
    /// How to tell it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ExplainOutput,
}

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanOptions {
    /// The Rollout
    pub name: String,
    /// Where Prometheus is from here, such as http://127.0.0.1:9090; default: as the Rollout's metrics
    /// source says
    #[arg(long, value_name = "URL")]
    pub prometheus: Option<String>,
    /// How to play it.
    #[command(flatten)]
    pub play: Play,
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

/// A command that one may want to follow.
#[derive(Debug, Clone, Args)]
pub struct Followed {
    /// The command.
    #[command(flatten)]
    pub order: Order,
    /// How to follow it.
    #[command(flatten)]
    pub follow: Follow,
}

/// Whether to follow what comes of a command.
#[derive(Debug, Clone, Copy, Args)]
pub struct Follow {
    /// Follow what comes of it until it ends: 0 when all is well then, 1 when it was rolled back
    #[arg(short, long)]
    pub watch: bool,
    /// Follow no longer than this, such as 30m
    #[arg(long, requires = "watch", value_parser = span)]
    pub timeout: Option<std::time::Duration>,
}

/// Options of `list`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ListOptions {
    /// The Rollouts of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// How to show them
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
}

/// Forms of `history`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HistoryOutput {
    /// Nothing is cut
    Wide,
    /// Releases and commands as JSON
    Json,
    /// Releases and commands as YAML
    Yaml,
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
    /// The same as YAML
    Yaml,
    /// For a ticket or a pull request
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

fn image(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((container, image)) if !container.is_empty() && !image.trim().is_empty() => {
            Ok((container.to_owned(), image.to_owned()))
        }
        _ => Err("write it as CONTAINER=IMAGE".to_owned()),
    }
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
    fn images_name_their_container() {
        let pair = ("app".to_owned(), "shop:v2@sha256:1=".to_owned());
        assert_eq!(image("app=shop:v2@sha256:1="), Ok(pair));
        assert!(image("shop:v2").is_err() && image("=x").is_err() && image("app=").is_err());
    }

    #[test]
    fn spans_are_as_go_writes_them() {
        assert_eq!(span("1h30m"), Ok(std::time::Duration::from_secs(5400)));
        assert!(span("-5m").is_err() && span("0s").is_err() && span("soon").is_err());
    }
}
