//! `doctor`: whether a Rollout would work, and what it lacks.
//!
//! [`found`] reads what the controller would, [`examine`] asks the controller's own decision about it (it is
//! pure), and this file says what came of it.

pub mod examine;
pub mod found;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use kube::{Client, ResourceExt};
use serde::Serialize;

use self::examine::{Finding, Level};
use super::page::{Page, Style, Tone};
use super::terminal::{Terminal, show};
use super::{fetch, measure};
use crate::clock::Clock;

/// Options of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The Rollout; without it all of the namespace
    pub name: Option<String>,
    /// Also ask Prometheus for stable's requests, at this address as seen from here
    #[arg(long, value_name = "URL")]
    pub prometheus: Option<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Forms of `doctor`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For a terminal
    #[default]
    Text,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
}

/// What was found of one Rollout.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub rollout: String,
    /// Everything was looked at, and nothing is missing.
    pub ready: bool,
    /// All that was looked at, in the order in which a release needs it.
    pub findings: Vec<Finding>,
}

/// Look, and say what is missing: success where nothing is.
///
/// # Errors
/// In one line: the API server can't be asked, or there is nothing to look at.
pub async fn run(client: &Client, namespace: &str, options: &Options) -> Result<ExitCode> {
    let objects = match &options.name {
        Some(name) => vec![fetch::one(client, namespace, name).await?],
        None => fetch::all(client, Some(namespace)).await?,
    };
    anyhow::ensure!(
        !objects.is_empty(),
        "no Rollouts in namespace {namespace}: `kubectl surefoot init deployment/NAME` writes one"
    );
    let found = found::find(client, namespace).await?;
    let mut all = Vec::new();
    for object in &objects {
        let rollout = fetch::rollout(object)?;
        let own = found::own(client, namespace, &rollout).await;
        let mut findings = examine::examine(&rollout, &found, &own, Clock::System.now());
        if let Some(url) = &options.prometheus {
            let name = rollout.name_any();
            let measured = measure::measure(client, namespace, &name, Some(url)).await;
            findings.push(examine::traffic(measured.as_ref()));
        }
        let fine = |level| matches!(level, Level::Good | Level::Advice);
        let ready = findings.iter().all(|finding| fine(finding.level));
        let (namespace, rollout) = (namespace.to_owned(), rollout.name_any());
        all.push(Diagnosis { namespace, rollout, ready, findings });
    }
    show(&match options.output {
        Output::Text => text(&all, Terminal::look().style),
        Output::Json => serde_json::to_string_pretty(&all).context("writing JSON")? + "\n",
        Output::Yaml => serde_saphyr::to_string(&all).context("writing YAML")?,
    })?;
    let ready = all.iter().all(|diagnosis| diagnosis.ready);
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As text.
#[must_use]
pub fn text(all: &[Diagnosis], style: Style) -> String {
    let mut page = Page::new(style);
    for Diagnosis { namespace, rollout, findings, .. } in all {
        page.heading(&format!("{namespace}/{rollout}"));
        for Finding { level, message } in findings {
            let (tone, sign) = match level {
                Level::Good => (Tone::Good, "✓"),
                Level::Advice => (Tone::Warn, "!"),
                Level::Unseen => (Tone::Warn, "?"),
                Level::Missing => (Tone::Bad, "✗"),
            };
            page.put(&format!("  {} ", style.paint(tone, sign)), message);
        }
        let count = |level| findings.iter().filter(|f| f.level == level).count();
        let sum = match count(Level::Missing) {
            0 if count(Level::Unseen) > 0 => {
                "Nothing is missing of what could be looked at.".to_owned()
            }
            0 => "Ready for a release.".to_owned(),
            1 => "One thing is missing.".to_owned(),
            n => format!("{n} things are missing."),
        };
        page.put("  ", &sum);
    }
    page.finish()
}
