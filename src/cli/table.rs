//! Many Rollouts as a short table, a line each.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, Width};
use surefoot_core::api::status::RolloutStatus;

use super::page::Style;
use super::times::{between, length};
use super::view::{View, images};

/// Columns that a message gets at least.
const MESSAGE: u16 = 12;

/// Which columns there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Columns {
    /// The namespace first.
    pub namespace: bool,
    /// Also the Deployment, the images and the age.
    pub wide: bool,
}

/// The table. The last column is cut where the line would be too long; a wide table never is.
#[must_use]
pub fn render(views: &[View<'_>], columns: Columns, style: Style) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(if columns.wide {
        ContentArrangement::Disabled
    } else {
        ContentArrangement::Dynamic
    });
    table.set_truncation_indicator("…").force_no_tty();
    table.set_width(u16::try_from(style.width).unwrap_or(u16::MAX));
    table.set_header(header(columns));
    for view in views {
        let mut row = Row::from(cells(view, columns));
        row.max_height(1);
        table.add_row(row);
    }
    let last = table.column_count().saturating_sub(1);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if i == last { 0 } else { 2 }));
        column.set_constraint(if i == last {
            ColumnConstraint::LowerBoundary(Width::Fixed(MESSAGE))
        } else {
            ColumnConstraint::ContentWidth
        });
    }
    table.trim_fmt() + "\n"
}

fn header(columns: Columns) -> Vec<&'static str> {
    let mut header = Vec::new();
    if columns.namespace {
        header.push("NAMESPACE");
    }
    header.extend(["NAME", "PHASE", "WEIGHT", "RELEASE"]);
    if columns.wide {
        header.extend(["DEPLOYMENT", "AGE", "STABLE", "CANARY"]);
    }
    header.push("MESSAGE");
    header
}

fn cells(view: &View<'_>, columns: Columns) -> Vec<String> {
    let status = &view.status;
    let mut cells = Vec::new();
    if columns.namespace {
        cells.push(view.namespace().to_owned());
    }
    cells.extend([
        view.name().to_owned(),
        status.phase.as_str().to_owned(),
        status.decision.as_ref().map_or("-".to_owned(), |d| format!("{}%", d.weight)),
        status.release.as_ref().map_or("-".to_owned(), |r| r.number.to_string()),
    ]);
    if columns.wide {
        cells.extend([view.rollout.spec.target_ref.name.clone(), age(view)]);
        cells.extend(versions(status));
    }
    let unseen = "no controller has looked at it yet";
    cells.push(if view.seen() { status.message.clone() } else { unseen.to_owned() });
    cells
}

fn versions(status: &RolloutStatus) -> [String; 2] {
    [&status.stable, &status.canary]
        .map(|r| r.as_ref().map_or("-".to_owned(), |r| images(&r.images)))
}

fn age(view: &View<'_>) -> String {
    let created = view.rollout.metadata.creation_timestamp.as_ref();
    created.map_or("-".to_owned(), |t| length(between(t.0, view.now)))
}
