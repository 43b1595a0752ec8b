//! The decision in words that a person on call understands. Pure, and knows of no terminal.

use serde::Serialize;
use surefoot_core::api::ActionKind;
use surefoot_core::api::status::{
    Decision, MetricStatus, PastRelease, Phase, ReleaseEvidence, StepPass, Verdict, Waiting,
};
use surefoot_core::words;

use super::account::Account;
use super::formula::formulas;
use super::glance::outcome;
use super::order::{consequence, refusal, typed};
use super::outlook::outlook;
use super::times::{ago, between, clock, left, length};
use super::view::{View, images, under_way};
use super::waits::ends;

/// An explanation: a sentence, then sections in the order in which somebody asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Namespace of the Rollout.
    pub namespace: String,
    /// Its name.
    pub rollout: String,
    /// When it was looked at.
    pub at: String,
    /// Its phase.
    pub phase: String,
    /// All in one sentence.
    pub summary: String,
    /// The rest.
    pub sections: Vec<Section>,
    /// The numbers, as the status has them.
    pub metrics: Vec<MetricStatus>,
    /// Those of the release as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<ReleaseEvidence>,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// What is answered.
    pub title: String,
    /// The answer, point by point.
    pub points: Vec<String>,
}

/// Explain a Rollout, with the formulas where they are asked for. Sections that have nothing to say are
/// left out.
#[must_use]
pub fn explain(view: &View<'_>, formula: bool) -> Explanation {
    let status = &view.status;
    let account = Account {
        metrics: &status.analysis,
        evidence: status.evidence.as_ref(),
        ended: !matches!(status.phase, Phase::Stepping | Phase::Paused),
    };
    let before = [
        ("Why it was rolled back", rolled_back(view, &account)),
        ("How it looks", looks(view, &account)),
        ("What was decided last", decided(view)),
        ("What has passed", passed(view)),
        ("What it waits for", waits(view)),
        ("What would decide it", ways(view)),
        ("What you can do", commands(view)),
    ];
    let after = [
        ("Releases before", status.history.iter().map(|p| past(p, view)).collect()),
        ("To be looked at", conditions(view)),
    ];
    let mut sections = named(before);
    sections.extend(account.numbers());
    if formula {
        sections.extend(formulas(&account));
    }
    sections.extend(named(after));
    Explanation {
        namespace: view.namespace().to_owned(),
        rollout: view.name().to_owned(),
        at: view.now.to_string(),
        phase: status.phase.as_str().to_owned(),
        summary: summary(view),
        sections,
        metrics: status.analysis.clone(),
        evidence: status.evidence.clone(),
    }
}

/// Those that have something to say.
pub(super) fn named<const N: usize>(sections: [(&str, Vec<String>); N]) -> Vec<Section> {
    let said = sections.into_iter().filter(|(_, points)| !points.is_empty());
    said.map(|(title, points)| Section { title: title.to_owned(), points }).collect()
}

/// What the evidence says of a release under way.
fn looks(view: &View<'_>, account: &Account<'_>) -> Vec<String> {
    let judged = matches!(view.status.phase, Phase::Stepping | Phase::Paused | Phase::Promoting);
    if judged { account.verdict() } else { Vec::new() }
}

fn summary(view: &View<'_>) -> String {
    let status = &view.status;
    if !view.seen() {
        return "No controller has looked at this Rollout yet: does Surefoot run, and does it watch \
                this namespace?"
            .to_owned();
    }
    let release = status.release.as_ref().map_or(0, |r| r.number);
    let version =
        status.canary.as_ref().map_or_else(String::new, |c| format!(" of {}", images(&c.images)));
    let what = match status.phase {
        Phase::Pending => "Nothing has begun yet".to_owned(),
        Phase::Healthy => "All is well and no release is under way".to_owned(),
        Phase::Preparing => format!("Release {release}{version} is being prepared"),
        Phase::Stepping => format!("Release {release}{version} is being judged"),
        Phase::Paused => format!("Release {release}{version} is held"),
        Phase::Promoting => {
            format!("Release {release}{version} has passed and is being handed over")
        }
        Phase::RollingBack => format!("Release {release}{version} is being rolled back"),
        Phase::Degraded if view.rolled_back() => format!("Release {release} was rolled back"),
        Phase::Degraded => "Something is not as it must be".to_owned(),
    };
    // What it waits for and why it was rolled back is told below.
    let told = status.waiting_on.iter().any(|w| w.message == status.message)
        || view.rollback().is_some_and(|d| status.message.ends_with(&d.reason));
    let said = if status.message.is_empty() || told {
        String::new()
    } else {
        format!(" The controller says: {}.", ended(&status.message))
    };
    format!("{what}; {}.{said}", view.traffic())
}

fn rolled_back(view: &View<'_>, account: &Account<'_>) -> Vec<String> {
    let ongoing = under_way(view.status.phase) || view.status.phase == Phase::Degraded;
    let Some(decision) = view.rollback().filter(|_| ongoing) else { return Vec::new() };
    let last = format!(
        "It is final for release {}: this template is not tried again by itself.",
        decision.release
    );
    if !is_controller(decision) {
        let asked = format!("{} asked for it.", decision.actor);
        return vec![format!("{}.", ended(&decision.reason)), asked, last];
    }
    let mut told =
        account.condemned().unwrap_or_else(|| vec![format!("{}.", ended(&decision.reason))]);
    told.push("Nobody asked for it: the controller decided on what it measured or saw.".to_owned());
    told.push(last);
    told
}

fn is_controller(decision: &Decision) -> bool {
    decision.actor == surefoot_core::decide::CONTROLLER
}

fn decided(view: &View<'_>) -> Vec<String> {
    let Some(decision) = &view.status.decision else { return Vec::new() };
    let who = if is_controller(decision) { "the controller" } else { decision.actor.as_str() };
    let when = format!("{}, {}", clock(decision.at, view.now), ago(decision.at, view.now));
    let mut told = vec![format!("{when}: {who} decided that {}.", meaning(decision))];
    if decision.verdict != Verdict::Rollback {
        told.push(format!("On this: {}.", ended(&decision.reason)));
    }
    let (seq, holder) = (decision.seq, &decision.holder);
    told.push(format!("It is decision {seq} of this Rollout, written by {holder}."));
    told
}

fn meaning(decision: &Decision) -> String {
    match decision.verdict {
        Verdict::Adopt => "what was found running is stable".to_owned(),
        Verdict::Start => format!("release {} begins, without traffic yet", decision.release),
        Verdict::Pass => format!("step {} has passed", decision.step),
        Verdict::Advance if decision.weight == 0 => {
            "the canary is previewed without traffic".to_owned()
        }
        Verdict::Advance => format!("the canary may get {}% of the traffic", decision.weight),
        Verdict::Promote => "the canary becomes the Deployment's own version".to_owned(),
        Verdict::Rollback => "all traffic goes back to stable".to_owned(),
    }
}

fn passed(view: &View<'_>) -> Vec<String> {
    // At rest the passes are those of a release long over.
    let shown = under_way(view.status.phase) || view.rolled_back();
    let release = view.status.release.as_ref().filter(|_| shown);
    release.iter().flat_map(|r| &r.passes).map(|p| pass(p, view)).collect()
}

pub(super) fn pass(pass: &StepPass, view: &View<'_>) -> String {
    let who = if pass.actor == surefoot_core::decide::CONTROLLER {
        String::new()
    } else {
        format!(", by {}", pass.actor)
    };
    let at = clock(pass.at, view.now);
    let weight = words::weight(pass.weight);
    format!("Step {} ({weight}) at {at}{who}: {}.", pass.step, ended(&pass.evidence))
}

fn waits(view: &View<'_>) -> Vec<String> {
    view.status.waiting_on.iter().map(|w| wait(w, view)).collect()
}

fn wait(waiting: &Waiting, view: &View<'_>) -> String {
    let until = waiting.until.map_or_else(String::new, |until| {
        format!(" At the latest at {} ({}).", clock(until, view.now), left(until, view.now))
    });
    format!("{}. {}{until}", ended(&waiting.message), ends(waiting.kind))
}

fn ways(view: &View<'_>) -> Vec<String> {
    let ways = outlook(view).into_iter();
    ways.map(|(name, way)| format!("{}: {way}.", name)).collect()
}

fn commands(view: &View<'_>) -> Vec<String> {
    if !under_way(view.status.phase) && !view.rolled_back() {
        return Vec::new();
    }
    let held = view.status.step.as_ref().is_some_and(|s| s.hold.is_some());
    let advised = |kind: &ActionKind| match kind {
        ActionKind::Resume => held || view.status.pause.is_some(),
        // A promote before there is anything to look at is nobody's advice.
        ActionKind::Promote => view.status.step.is_some(),
        ActionKind::Undo => view.rolled_back(),
        ActionKind::PromoteFull | ActionKind::Pause => false,
        ActionKind::Abort | ActionKind::Retry => true,
    };
    let kinds = [
        ActionKind::Abort,
        ActionKind::Promote,
        ActionKind::Resume,
        ActionKind::Undo,
        ActionKind::Retry,
    ];
    let kinds = kinds.into_iter().filter(advised);
    let given = kinds.filter(|kind| refusal(view, *kind).is_none());
    let mut commands: Vec<String> =
        given.map(|kind| format!("{}: {}.", typed(view, kind), consequence(view, kind))).collect();
    let (name, namespace) = (view.name(), view.namespace());
    commands.push(format!("kubectl surefoot status {name} -n {namespace} --watch: follow it."));
    commands
}

fn past(past: &PastRelease, view: &View<'_>) -> String {
    let (_, outcome) = outcome(past.outcome);
    format!(
        "Release {} {outcome} {} after {}, {}: {}.",
        past.number,
        ago(past.ended_at, view.now),
        length(between(past.started_at, past.ended_at)),
        images(&past.images),
        ended(&past.why)
    )
}

fn conditions(view: &View<'_>) -> Vec<String> {
    let bad = view.bad_conditions();
    bad.map(|c| format!("{} is {:?}: {}.", c.kind, c.status, c.message)).collect()
}

/// Without the full stop that is put behind it anyway.
pub(super) fn ended(text: &str) -> &str {
    text.trim_end_matches('.')
}
