//! What the kubectl plugin shows and does.
//!
//! Rendering is pure: a [`view::View`] of a Rollout at an instant becomes text ([`glance`],
//! [`table`], [`explain`], [`document`]), and a command becomes an object ([`order`]). The rest reads
//! from the API server ([`fetch`], [`watch`]) or writes to it ([`command`]).

pub mod command;
pub mod document;
pub mod evidence;
pub mod explain;
pub mod fetch;
pub mod glance;
pub mod order;
pub mod outlook;
pub mod page;
pub mod table;
pub mod terminal;
pub mod times;
pub mod trouble;
pub mod view;
pub mod waits;
pub mod watch;

mod arguments;
mod show;

pub use arguments::{Arguments, Command};

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;
use kube::Client;
use surefoot_core::api::ActionKind;

/// Do what the command line asks for.
///
/// # Errors
/// In one line for the user: what failed and what to do.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Command::Completion { shell } = arguments.command {
        let mut command = Arguments::command();
        clap_complete::generate(shell, &mut command, arguments::BINARY, &mut std::io::stdout());
        return Ok(ExitCode::SUCCESS);
    }
    let (client, default) = arguments.connection.client().await?;
    let namespace = arguments.namespace.unwrap_or(default);
    match arguments.command {
        Command::Status(options) => show::status(&client, &namespace, options).await,
        Command::Explain { name, output } => {
            show::explanation(&client, &namespace, &name, output).await
        }
        Command::Promote(order) => act(&client, &namespace, ActionKind::Promote, order).await,
        Command::Abort(order) => act(&client, &namespace, ActionKind::Abort, order).await,
        Command::Completion { .. } => Ok(ExitCode::SUCCESS),
    }
}

async fn act(
    client: &Client,
    namespace: &str,
    kind: ActionKind,
    order: arguments::Order,
) -> Result<ExitCode> {
    let said = command::command(client, namespace, &order.name, kind, order.reason).await?;
    terminal::show(&said)?;
    Ok(ExitCode::SUCCESS)
}
