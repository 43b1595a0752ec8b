//! What the kubectl plugin shows and does.
//!
//! Rendering is pure: a [`view::View`] of a Rollout at an instant becomes text ([`glance`],
//! [`table`], [`explain`], [`document`]), and a command becomes an object ([`order`]). The rest reads
//! from the API server ([`fetch`], [`watch`]) or writes to it ([`command`]).

pub mod account;
pub mod change;
pub mod command;
pub mod doctor;
pub mod document;
pub mod evidence;
pub mod explain;
pub mod fetch;
pub mod formula;
pub mod glance;
pub mod glass;
pub mod history;
pub mod init;
pub mod measure;
pub mod order;
pub mod outlook;
pub mod page;
pub mod past;
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

use self::arguments::{Follow, ListOptions, Order, PlanOptions, StatusOptions};
use self::watch::Goal;
use crate::simulation;

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
        Command::Explain(options) => show::explanation(&client, &namespace, options).await,
        Command::List(ListOptions { all_namespaces, output }) => {
            let (name, watch, timeout) = (None, false, None);
            let options = StatusOptions { name, all_namespaces, watch, timeout, output };
            show::status(&client, &namespace, options).await
        }
        Command::History { name, output } => {
            show::history(&client, &namespace, &name, output).await
        }
        Command::Promote { order, full } => {
            let kind = if full { ActionKind::PromoteFull } else { ActionKind::Promote };
            act(&client, &namespace, kind, order.order, Some(order.follow)).await
        }
        Command::Abort { order, break_glass: true } => {
            let said = glass::break_glass(&client, &namespace, &order.name, order.reason).await?;
            terminal::show(&said)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Abort { order, .. } => {
            act(&client, &namespace, ActionKind::Abort, order, None).await
        }
        Command::Pause(order) => act(&client, &namespace, ActionKind::Pause, order, None).await,
        Command::Resume(order) => act(&client, &namespace, ActionKind::Resume, order, None).await,
        Command::Retry(order) => {
            act(&client, &namespace, ActionKind::Retry, order.order, Some(order.follow)).await
        }
        Command::Undo(order) => {
            act(&client, &namespace, ActionKind::Undo, order.order, Some(order.follow)).await
        }
        Command::SetImage { name, images, follow } => {
            let made = change::Change::Images(images);
            changed(&client, &namespace, &name, made, follow).await
        }
        Command::Restart { name, follow } => {
            changed(&client, &namespace, &name, change::Change::Restart, follow).await
        }
        Command::Plan(PlanOptions { name, prometheus, play }) => {
            let url = prometheus.as_deref();
            let measured = measure::measure(&client, &namespace, &name, url).await?;
            terminal::show(&simulation::plan::of(&measured, &play)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor(options) => doctor::run(&client, &namespace, &options).await,
        Command::Init(options) => {
            terminal::show(&init::run(&client, &namespace, &options).await?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completion { .. } => Ok(ExitCode::SUCCESS),
    }
}

async fn act(
    client: &Client,
    namespace: &str,
    kind: ActionKind,
    order: Order,
    follow: Option<Follow>,
) -> Result<ExitCode> {
    let given = command::command(client, namespace, &order.name, kind, order.reason).await?;
    terminal::show(&given.said)?;
    match follow.filter(|follow| follow.watch) {
        Some(follow) => show::follow(client, namespace, &order.name, follow, given.goal).await,
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn changed(
    client: &Client,
    namespace: &str,
    name: &str,
    change: change::Change,
    follow: Follow,
) -> Result<ExitCode> {
    let made = change::change(client, namespace, name, change).await?;
    terminal::show(&made.said)?;
    match made.after.filter(|_| follow.watch) {
        Some(after) => show::follow(client, namespace, name, follow, Goal::After(after)).await,
        None => Ok(ExitCode::SUCCESS),
    }
}
