//! What is known before trying: releases by chance, from the command line.

pub mod backtest;
pub mod judges;
pub mod manifest;
pub mod plan;
pub mod simulate;

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use surefoot_core::plan::{MetricKind, Plan};
use surefoot_core::words;

use crate::cli::terminal::Terminal;

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for a terminal.
    Table,
    /// JSON, for programs.
    Json,
    /// The same as YAML.
    Yaml,
    /// Markdown, for documents and pull requests.
    Markdown,
}

/// Metrics of the plan that no simulation and no replay judges, each with why.
fn left_out(plan: &Plan) -> impl Iterator<Item = String> {
    plan.metrics.iter().filter_map(|metric| {
        let why = match metric.kind {
            MetricKind::Pairs { .. } => "nobody answers its queries here: it isn't judged",
            _ if metric.is_sequential() => return None,
            _ => "its judge stands outside of falseRollback and falsePass and isn't asked here",
        };
        Some(format!("{}: {why}", metric.name))
    })
}

/// What is said of a preview where only traffic is looked at.
fn previewed(plan: &Plan) -> Option<String> {
    let preview = plan.steps.iter().find(|step| step.is_preview())?;
    let least = words::span(preview.min_duration);
    Some(format!("the preview comes before all this: it takes {least} at least and has no traffic"))
}

/// How rows of cells become a table; the first is the header.
type Lines = dyn Fn(&[Vec<String>]) -> String;

/// A result as it is asked for: its data, or what `say` makes of it.
fn written<T: Serialize>(
    output: Output,
    data: &T,
    say: impl Fn(&T, &Lines) -> String,
) -> Result<String> {
    let width = Terminal::look().style.width;
    Ok(match output {
        Output::Json => serde_json::to_string_pretty(data).context("writing JSON")? + "\n",
        Output::Yaml => serde_saphyr::to_string(data).context("writing YAML")?,
        Output::Markdown => say(data, &markdown),
        Output::Table => say(data, &move |rows| table(rows, width)),
    })
}

/// Do `work` for 0..`runs` on all processors, in their order. The bar counts them on a terminal.
fn each<T: Send>(bar: &ProgressBar, runs: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(0);
    let mut found: Vec<(u64, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut found = Vec::new();
                    loop {
                        let run = next.fetch_add(1, Ordering::Relaxed);
                        if run >= runs {
                            return found;
                        }
                        found.push((run, work(run)));
                        bar.inc(1);
                    }
                })
            })
            .collect();
        // A worker that panics has already said why; its panic goes on here.
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    found.sort_by_key(|(run, _)| *run);
    found.into_iter().map(|(_, found)| found).collect()
}

/// A bar on standard error, which shows itself on a terminal only.
fn bar(runs: u64) -> ProgressBar {
    bar_of("releases", runs)
}

/// The same of something else.
fn bar_of(what: &str, all: u64) -> ProgressBar {
    let template = format!("{{bar:30}} {{pos}}/{{len}} {what}, {{eta}} left {{msg}}");
    let style = ProgressStyle::with_template(&template);
    ProgressBar::new(all).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Seconds in a few characters.
fn seconds(seconds: f64) -> String {
    let span = std::time::Duration::try_from_secs_f64(seconds.round()).unwrap_or_default();
    surefoot_core::words::span(span)
}

/// Rows of cells as a Markdown table; the first is the header.
fn markdown(rows: &[Vec<String>]) -> String {
    let mut lines = rows.iter().map(|row| format!("| {} |\n", row.join(" | ")));
    let mut text = lines.next().unwrap_or_default();
    text += &format!("|{}\n", "---|".repeat(rows.first().map_or(0, Vec::len)));
    text + &lines.collect::<String>()
}

/// The same for a terminal.
fn table(rows: &[Vec<String>], width: usize) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(comfy_table::ContentArrangement::Dynamic)
        .force_no_tty()
        .set_width(u16::try_from(width).unwrap_or(u16::MAX));
    let mut rows = rows.iter();
    table.set_header(rows.next().cloned().unwrap_or_default());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order_whoever_computed_them() {
        let bar = ProgressBar::hidden();
        assert_eq!(each(&bar, 100, |run| run * 2), (0..100).map(|r| r * 2).collect::<Vec<_>>());
        assert_eq!(bar.position(), 100);
    }

    #[test]
    fn a_markdown_table_has_a_line_below_its_header() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["1".to_owned(), "2".to_owned()]];
        assert_eq!(markdown(&rows), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
