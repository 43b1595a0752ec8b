//! A release that has ended, explained from what the status keeps of it.

use anyhow::{Result, bail};
use surefoot_core::api::status::{Outcome, PastRelease, ReleaseKind};
use surefoot_core::decide::CONTROLLER;

use super::account::Account;
use super::explain::{Explanation, Section, ended, explain as now, named, pass};
use super::glance::outcome;
use super::times::{ago, between, clock, length};
use super::view::{View, images, under_way};

/// Explain release `number`.
///
/// # Errors
/// When the status doesn't keep it: which ones it does.
pub fn explain(view: &View<'_>, number: i64, formula: bool) -> Result<Explanation> {
    let numbered = |p: &&PastRelease| p.outcome != Outcome::Outside;
    let kept = || view.status.history.iter().filter(numbered);
    if let Some(past) = kept().find(|p| p.number == number) {
        return Ok(told(view, past, formula));
    }
    let current = view.status.release.as_ref().filter(|r| r.number == number);
    if current.is_some() && (under_way(view.status.phase) || view.rolled_back()) {
        return Ok(now(view, formula));
    }
    let numbers: Vec<String> = kept().map(|p| p.number.to_string()).collect();
    if numbers.is_empty() {
        bail!("no release of {} has ended yet: leave --release out", view.name());
    }
    bail!(
        "the status of {} doesn't keep release {number}: choose one of {}",
        view.name(),
        numbers.join(", ")
    );
}

fn told(view: &View<'_>, past: &PastRelease, formula: bool) -> Explanation {
    let account =
        Account { metrics: &past.analysis, evidence: past.evidence.as_ref(), ended: true };
    let why = if past.outcome == Outcome::RolledBack && past.by == CONTROLLER {
        account.condemned()
    } else {
        None
    };
    let mut sections = named([
        ("Why it ended so", why.unwrap_or_else(|| vec![format!("{}.", ended(&past.why))])),
        ("What had passed", past.passes.iter().map(|p| pass(p, view)).collect()),
    ]);
    sections.extend(account.numbers());
    let missing = match (past.evidence.is_some(), formula) {
        (false, _) => Some("The status keeps no numbers of this release."),
        (true, true) => {
            Some("The status keeps the counts of releases that have ended, not their tests.")
        }
        (true, false) => None,
    };
    sections.extend(missing.map(|text| Section {
        title: "What isn't known any more".to_owned(),
        points: vec![text.to_owned()],
    }));
    Explanation {
        namespace: view.namespace().to_owned(),
        rollout: view.name().to_owned(),
        at: view.now.to_string(),
        phase: view.status.phase.as_str().to_owned(),
        summary: summary(view, past),
        sections,
        metrics: past.analysis.clone(),
        evidence: past.evidence.clone(),
    }
}

fn summary(view: &View<'_>, past: &PastRelease) -> String {
    let kind = match past.kind {
        ReleaseKind::New => "",
        ReleaseKind::Undo => ", an undo,",
        ReleaseKind::Retry => ", a template tried again,",
    };
    let by = match past.by.as_str() {
        "" => String::new(),
        CONTROLLER => ", by the controller".to_owned(),
        user => format!(", by {user}"),
    };
    format!(
        "Release {} of {}{kind} was {} at {} ({}), after {}{by}.",
        past.number,
        images(&past.images),
        outcome(past.outcome).1,
        clock(past.ended_at, view.now),
        ago(past.ended_at, view.now),
        length(between(past.started_at, past.ended_at))
    )
}
