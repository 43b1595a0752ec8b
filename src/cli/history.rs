//! Releases that ended and the commands that were given, as tables.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, Width};
use kube::ResourceExt;
use serde_json::{Value, json};
use surefoot_core::api::RolloutAction;
use surefoot_core::api::status::{Outcome, PastRelease, ReleaseKind};
use surefoot_core::decide::CONTROLLER;

use super::glance::outcome;
use super::order::words;
use super::page::{Style, Tone};
use super::times::{ago, between, length};
use super::view::{View, images};

/// Columns that the last one, a text, gets at least.
const TEXT: u16 = 12;

/// Releases, newest first, and then commands. Texts are cut where the line would be too long, but
/// for `wide`.
#[must_use]
pub fn render(view: &View<'_>, actions: &[RolloutAction], style: Style, wide: bool) -> String {
    let heading = |text: &str| style.paint(Tone::Strong, text);
    let history = &view.status.history;
    let mut text = if history.is_empty() {
        "no release has ended yet\n".to_owned()
    } else {
        let header = ["RELEASE", "OUTCOME", "IMAGES", "BY", "ENDED", "TOOK", "WHY"];
        table(&header, history.iter().map(|p| past(p, view)), style, wide)
    };
    if !actions.is_empty() {
        let header = ["RELEASE", "STEP", "COMMAND", "BY", "GIVEN", "REASON"];
        text += &format!("\n{}\n", heading("Commands"));
        text += &table(&header, actions.iter().map(|a| command(a, view)), style, wide);
    }
    text
}

fn past(past: &PastRelease, view: &View<'_>) -> Vec<String> {
    let (_, word) = outcome(past.outcome);
    let kind = match past.kind {
        ReleaseKind::New => "",
        ReleaseKind::Undo => " (undo)",
        ReleaseKind::Retry => " (retry)",
    };
    let native = past.outcome == Outcome::Outside;
    let by = match past.by.as_str() {
        "" => "-",
        CONTROLLER => "the controller",
        user => user,
    };
    vec![
        if native { "-".to_owned() } else { past.number.to_string() },
        format!("{word}{kind}"),
        images(&past.images),
        by.to_owned(),
        ago(past.ended_at, view.now),
        if native { "-".to_owned() } else { length(between(past.started_at, past.ended_at)) },
        past.why.clone(),
    ]
}

fn command(action: &RolloutAction, view: &View<'_>) -> Vec<String> {
    let spec = &action.spec;
    let given = action.creation_timestamp().map(|at| ago(at.0, view.now));
    vec![
        spec.release.to_string(),
        spec.step.to_string(),
        words(spec.action).to_owned(),
        spec.requested_by.clone(),
        given.unwrap_or_else(|| "-".to_owned()),
        spec.reason.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

fn table(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    style: Style,
    wide: bool,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(if wide {
        ContentArrangement::Disabled
    } else {
        ContentArrangement::Dynamic
    });
    table.set_truncation_indicator("…").force_no_tty();
    table.set_width(u16::try_from(style.width).unwrap_or(u16::MAX));
    table.set_header(header.to_vec());
    for cells in rows {
        let mut row = Row::from(cells);
        row.max_height(1);
        table.add_row(row);
    }
    let last = header.len().saturating_sub(1);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if i == last { 0 } else { 2 }));
        // Images and reasons give way first.
        let text = i == last || header.get(i) == Some(&"IMAGES");
        column.set_constraint(if text {
            ColumnConstraint::LowerBoundary(Width::Fixed(TEXT))
        } else {
            ColumnConstraint::ContentWidth
        });
    }
    table.trim_fmt() + "\n"
}

/// The same for programs.
#[must_use]
pub fn document(view: &View<'_>, actions: &[RolloutAction]) -> Value {
    let commands: Vec<Value> = actions
        .iter()
        .map(|action| {
            let at = action.creation_timestamp().map(|at| at.0.to_string());
            json!({"name": action.name_any(), "at": at, "spec": action.spec})
        })
        .collect();
    json!({
        "namespace": view.namespace(), "rollout": view.name(),
        "releases": view.status.history, "commands": commands,
    })
}
