//! A trace as people read it: one line a write, with its time; what says nothing new is left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use surefoot_core::trace::{RolloutState, State};

use super::store::Store;

/// The whole story so far.
pub fn tell(store: &Store) -> String {
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut story = String::new();
    for (event, (at, said)) in store.trace.iter().zip(&store.told) {
        let Some((subject, what)) = line(&event.state) else { continue };
        // Most releases never touch it.
        if matches!(event.state, State::Apex { hash: None }) && !told.contains_key(&subject) {
            continue;
        }
        if told.insert(subject.clone(), what.clone()).as_ref() == Some(&what) {
            continue;
        }
        let (minutes, seconds) = (at / 60, at % 60);
        let said = if said.is_empty() { said.clone() } else { format!(" – {said}") };
        writeln!(story, "{minutes:3}:{seconds:02}  {subject:<16} {what}{said}").expect("memory");
    }
    story
}

fn line(state: &State) -> Option<(String, String)> {
    let pinned = |hash: &Option<String>| hash.clone().unwrap_or_else(|| "all".to_owned());
    Some(match state {
        State::Rollout(rollout) => ("Rollout".to_owned(), decided(rollout)),
        State::RolloutGone => ("Rollout".to_owned(), "gone".to_owned()),
        State::Route { weights, chosen, broken, .. } => {
            let (stable, canary) = (*weights)?;
            let mark = broken.map(|r| format!(", broken glass of release {r}")).unwrap_or_default();
            let chosen = if *chosen { " and the chosen" } else { "" };
            ("route".to_owned(), format!("{stable}/{canary}{chosen}{mark}"))
        }
        State::Pin { side, hash } => (format!("Service {side:?}"), pinned(hash)),
        State::Apex { hash } => ("Service apex".to_owned(), pinned(hash)),
        State::Subsets { stable, canary } => {
            ("subsets".to_owned(), format!("{} and {}", pinned(stable), pinned(canary)))
        }
        State::Reached { pods, .. } => ("endpoints".to_owned(), format!("{} ready", pods.len())),
        State::Ready { side, ready, .. } => {
            (format!("endpoints {side:?}"), format!("{ready} ready"))
        }
        State::ReplicaSet { name, gone: true, .. } => (name.clone(), "gone".to_owned()),
        State::ReplicaSet { name, replicas, .. } => (name.clone(), format!("{replicas} pods")),
        State::Deployment { replicas } => ("Deployment".to_owned(), format!("{replicas} wanted")),
        State::Action { kind, release, step, by } => {
            let what = format!("{} release {release} step {step}", kind.as_str());
            (by.clone(), what)
        }
        State::Metrics { usable } => ("metrics".to_owned(), format!("usable: {usable}")),
    })
}

fn decided(rollout: &RolloutState) -> String {
    let phase = rollout.phase.as_str();
    let Some(d) = &rollout.decision else { return phase.to_owned() };
    format!(
        "{phase}: {:?} {}% in step {} of release {}, {} passed",
        d.verdict,
        d.weight,
        d.step,
        d.release,
        rollout.passes.len()
    )
}
