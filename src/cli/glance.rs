//! One Rollout at a glance: what runs, what is tested, what it waits for, and on what evidence.

use surefoot_core::api::status::{
    Outcome, PastRelease, Phase, Release, ReleaseKind, Revision, RolloutStatus, Waiting,
};
use surefoot_core::words;

use super::evidence;
use super::outlook::outlook;
use super::page::{Page, Style, Tone};
use super::times::{ago, between, clock, left, length};
use super::view::{Mark, View, image, images, under_way};

/// The page. `wide` adds what only matters to those who look into the machinery.
#[must_use]
pub fn render(view: &View<'_>, style: Style, wide: bool) -> String {
    let mut page = Page::new(style);
    title(&mut page, view);
    if !view.seen() {
        let hint =
            "no controller has looked at it yet: does Surefoot run and watch this namespace?";
        page.put("  ", &style.paint(Tone::Warn, hint));
        return page.finish();
    }
    versions(&mut page, view);
    if wide {
        machinery(&mut page, &view.status);
    }
    waits(&mut page, view);
    metrics(&mut page, view, wide);
    ways(&mut page, view);
    last_release(&mut page, view);
    conditions(&mut page, view);
    page.finish()
}

/// The tone of a phase.
#[must_use]
pub fn tone(phase: Phase) -> Tone {
    match phase {
        Phase::Healthy => Tone::Good,
        Phase::Degraded | Phase::RollingBack => Tone::Bad,
        Phase::Pending | Phase::Paused => Tone::Warn,
        Phase::Preparing | Phase::Stepping | Phase::Promoting => Tone::Strong,
    }
}

fn title(page: &mut Page, view: &View<'_>) {
    let phase = view.status.phase;
    let shown = page.style.paint(tone(phase), phase.as_str());
    let name = page.style.paint(Tone::Strong, &format!("{}/{}", view.namespace(), view.name()));
    let traffic = if view.seen() { format!(" · {}", view.traffic()) } else { String::new() };
    page.put("", &format!("{name} · {shown}{traffic}"));
    let message = &view.status.message;
    let said = view.status.waiting_on.iter().any(|w| &w.message == message);
    if !message.is_empty() && !said {
        page.put("  ", message);
    }
}

fn versions(page: &mut Page, view: &View<'_>) {
    let status = &view.status;
    if under_way(status.phase)
        && let Some(release) = &status.release
    {
        page.put("  release  ", &began(release, view));
    }
    revision(page, "stable", status.stable.as_ref());
    revision(page, "canary", status.canary.as_ref());
    let steps = steps(view, page.style);
    if !steps.is_empty() {
        page.put("  steps    ", &steps);
    }
}

fn began(release: &Release, view: &View<'_>) -> String {
    let kind = match release.kind {
        ReleaseKind::New => "a new template",
        ReleaseKind::Undo => "an undo",
        ReleaseKind::Retry => "the template that was rolled back, tried again",
    };
    format!("{}, {kind}, began {}", release.number, ago(release.started_at, view.now))
}

fn revision(page: &mut Page, name: &str, revision: Option<&Revision>) {
    let Some(revision) = revision else { return };
    let mut lead = format!("  {name}   ");
    for name in &revision.images {
        page.put(&lead, &image(name));
        lead = " ".repeat(lead.len());
    }
    let set = format!("ReplicaSet {}", revision.replica_set);
    page.put(&lead, &page.style.paint(Tone::Faint, &set));
}

/// "10% ✓ → 50% ● → 100%".
#[must_use]
pub fn steps(view: &View<'_>, style: Style) -> String {
    let steps = view.steps().into_iter().map(|(weight, mark)| (words::weight(weight), mark));
    let steps = steps.map(|(step, mark)| match mark {
        Mark::Passed => style.paint(Tone::Good, &format!("{step} ✓")),
        Mark::Current => style.paint(Tone::Strong, &format!("{step} ●")),
        Mark::Failed => style.paint(Tone::Bad, &format!("{step} ✗")),
        Mark::Ahead => step,
    });
    steps.collect::<Vec<_>>().join(" → ")
}

fn machinery(page: &mut Page, status: &RolloutStatus) {
    if let Some(d) = &status.decision {
        let text = format!("{} {:?} by {}, epoch {}, {}", d.seq, d.verdict, d.actor, d.epoch, d.at);
        page.put("  decision ", &text);
        page.put("  holder   ", &d.holder);
    }
    if let Some(release) = &status.release {
        let text = format!("{}, template {}", release.plan_hash, release.template_hash);
        page.put("  plan     ", &text);
    }
    if let Some(step) = &status.step {
        let begun =
            format!("{} begun {}, {} ready pods", step.index, step.begun_at, step.ready_pods);
        page.put("  step     ", &begun);
    }
}

fn waits(page: &mut Page, view: &View<'_>) {
    if view.status.waiting_on.is_empty() {
        return;
    }
    page.heading("Waiting for");
    for waiting in &view.status.waiting_on {
        page.put("  • ", &wait(waiting, view));
    }
}

/// A wait's message, with the time it has left.
fn wait(waiting: &Waiting, view: &View<'_>) -> String {
    match waiting.until {
        Some(until) => format!("{} ({})", waiting.message, left(until, view.now)),
        None => waiting.message.clone(),
    }
}

fn metrics(page: &mut Page, view: &View<'_>, wide: bool) {
    // At rest it speaks of a release that is over and went well.
    if view.status.analysis.is_empty() || (view.status.phase == Phase::Healthy && !wide) {
        return;
    }
    page.heading(&match view.status.step.as_ref() {
        Some(step) => {
            let of = format!("Evidence of step {} ({})", step.index, words::weight(step.weight));
            match step.judged_from {
                Some(from) => format!("{of}, judged from {}", clock(from, view.now)),
                None => of,
            }
        }
        None => "Evidence when the release ended".to_owned(),
    });
    view.status.analysis.iter().for_each(|metric| evidence::put(page, metric));
}

fn ways(page: &mut Page, view: &View<'_>) {
    let ways = outlook(view);
    if ways.is_empty() {
        return;
    }
    page.heading("What would decide it");
    for (name, way) in ways {
        page.put(&format!("  {name:<8} "), &way);
    }
}

fn last_release(page: &mut Page, view: &View<'_>) {
    let Some(past) = view.status.history.first() else { return };
    page.heading("Last release");
    page.put("  ", &ended(past, view, page.style));
    if !past.images.is_empty() {
        page.put("  ", &images(&past.images));
    }
    // A rollback's reason is the message already.
    if !view.status.message.contains(&past.why) {
        page.put("  ", &past.why);
    }
}

fn ended(past: &PastRelease, view: &View<'_>, style: Style) -> String {
    let (tone, outcome) = outcome(past.outcome);
    let took = length(between(past.started_at, past.ended_at));
    let when = ago(past.ended_at, view.now);
    let outcome = style.paint(tone, outcome);
    match past.outcome {
        Outcome::Outside => format!("{outcome} {when}"),
        _ => format!("{} {outcome} {when}, after {took}", past.number),
    }
}

/// An outcome in words.
#[must_use]
pub fn outcome(outcome: Outcome) -> (Tone, &'static str) {
    match outcome {
        Outcome::Promoted => (Tone::Good, "promoted"),
        Outcome::RolledBack => (Tone::Bad, "rolled back"),
        Outcome::Outside => (Tone::Warn, "rolled out natively"),
    }
}

fn conditions(page: &mut Page, view: &View<'_>) {
    let bad: Vec<_> = view.bad_conditions().collect();
    if bad.is_empty() {
        return;
    }
    page.heading("To be looked at");
    for c in bad {
        let kind = page.style.paint(Tone::Warn, &format!("{} is {:?}", c.kind, c.status));
        page.put("  ! ", &format!("{kind}: {} ({})", c.message, c.reason));
    }
}
