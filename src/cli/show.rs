//! The commands that only look.

use std::process::ExitCode;

use anyhow::{Context, Result};
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde::Serialize;
use serde_json::json;

use super::arguments::{
    ExplainOptions, ExplainOutput, Follow, HistoryOutput, Output, StatusOptions,
};
use super::page::Style;
use super::table::Columns;
use super::terminal::{Terminal, show};
use super::view::View;
use super::watch::{self, End, Goal, Watch};
use super::{document, explain, fetch, glance, history, past, table};
use crate::clock::Clock;

pub(super) async fn status(
    client: &Client,
    namespace: &str,
    options: StatusOptions,
) -> Result<ExitCode> {
    let terminal = Terminal::look();
    let wide = options.output == Some(Output::Wide);
    let Some(name) = options.name else {
        let all = options.all_namespaces;
        let objects = fetch::all(client, (!all).then_some(namespace)).await?;
        return many(&objects, options.output, Columns { namespace: all, wide }, terminal.style);
    };
    if options.watch {
        let (name, timeout) = (name.as_str(), options.timeout);
        let watch = Watch { namespace, name, goal: None, wide, timeout, terminal };
        return watched(client, watch).await;
    }
    let object = fetch::one(client, namespace, &name).await?;
    show(&match options.output {
        Some(Output::Json) => as_json(&bare(object))?,
        Some(Output::Yaml) => as_yaml(&bare(object))?,
        Some(Output::Name) => named(&object),
        Some(Output::Wide) | None => {
            let rollout = fetch::rollout(&object)?;
            glance::render(&View::new(&rollout, Clock::System.now()), terminal.style, wide)
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn watched(client: &Client, watch: Watch<'_>) -> Result<ExitCode> {
    Ok(match watch::follow(client, watch).await? {
        End::Well => ExitCode::SUCCESS,
        End::Badly => ExitCode::FAILURE,
    })
}

/// Follow what comes of a command.
pub(super) async fn follow(
    client: &Client,
    namespace: &str,
    name: &str,
    follow: Follow,
    goal: Goal,
) -> Result<ExitCode> {
    let (terminal, timeout) = (Terminal::look(), follow.timeout);
    let goal = Some(goal);
    watched(client, Watch { namespace, name, goal, wide: false, timeout, terminal }).await
}

pub(super) async fn history(
    client: &Client,
    namespace: &str,
    name: &str,
    output: Option<HistoryOutput>,
) -> Result<ExitCode> {
    let rollout = fetch::rollout(&fetch::one(client, namespace, name).await?)?;
    let view = View::new(&rollout, Clock::System.now());
    let actions = match fetch::actions(client, &view).await {
        Ok(actions) => actions,
        Err(error) => {
            eprintln!("warning: {error:#}");
            Vec::new()
        }
    };
    let document = || history::document(&view, &actions);
    show(&match output {
        Some(HistoryOutput::Json) => as_json(&document())?,
        Some(HistoryOutput::Yaml) => as_yaml(&document())?,
        wide => history::render(&view, &actions, Terminal::look().style, wide.is_some()),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn many(
    objects: &[DynamicObject],
    output: Option<Output>,
    columns: Columns,
    style: Style,
) -> Result<ExitCode> {
    let list = || {
        let items: Vec<_> = objects.iter().cloned().map(bare).collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items})
    };
    show(&match output {
        Some(Output::Json) => as_json(&list())?,
        Some(Output::Yaml) => as_yaml(&list())?,
        Some(Output::Name) => objects.iter().map(named).collect(),
        Some(Output::Wide) | None => rows(objects, columns, style, Clock::System.now()),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The table. A Rollout that can't be read is said beside it: the others are still of use.
fn rows(objects: &[DynamicObject], columns: Columns, style: Style, now: Timestamp) -> String {
    let rollouts: Vec<_> = objects.iter().map(fetch::rollout).collect();
    for error in rollouts.iter().filter_map(|r| r.as_ref().err()) {
        eprintln!("warning: {error:#}");
    }
    let views: Vec<_> = rollouts.iter().flatten().map(|r| View::new(r, now)).collect();
    if views.is_empty() {
        return "no Rollouts found\n".to_owned();
    }
    table::render(&views, columns, style)
}

pub(super) async fn explanation(
    client: &Client,
    namespace: &str,
    options: ExplainOptions,
) -> Result<ExitCode> {
    let rollout = fetch::rollout(&fetch::one(client, namespace, &options.name).await?)?;
    let view = View::new(&rollout, Clock::System.now());
    let explanation = match options.release {
        Some(release) => past::explain(&view, release, options.formula)?,
        None => explain::explain(&view, options.formula),
    };
    show(&match options.output {
        ExplainOutput::Text => document::text(&explanation, Terminal::look().style),
        ExplainOutput::Markdown => document::markdown(&explanation),
        ExplainOutput::Json => as_json(&explanation)?,
        ExplainOutput::Yaml => as_yaml(&explanation)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Without the record of who manages which field, as kubectl shows objects.
fn bare(mut object: DynamicObject) -> DynamicObject {
    object.metadata.managed_fields = None;
    object
}

fn named(object: &DynamicObject) -> String {
    format!("rollout.surefoot.dev/{}\n", object.name_any())
}

fn as_json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("an object must be JSON")? + "\n")
}

fn as_yaml(value: &impl Serialize) -> Result<String> {
    serde_saphyr::to_string(value).context("an object must be YAML")
}
