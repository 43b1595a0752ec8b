//! What the plugin shows, compared with files. `UPDATE_GOLDEN=1 cargo test --test cli` writes them
//! anew: read the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a fixture that can't be read fails its test")]

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use surefoot::cli::page::{Style, visible};
use surefoot::cli::table::Columns;
use surefoot::cli::view::View;
use surefoot::cli::watch::{End, Goal, end, followed, line};
use surefoot::cli::{change, document, explain, glance, history, order, past, table};
use surefoot_core::api::status::{BoundKind, Outcome, PastRelease, Phase, ReleaseKind, TestSide};
use surefoot_core::api::{ActionKind, Rollout, RolloutAction};

const PLAIN: Style = Style { width: 80, colour: false };
const FIXTURES: [&str; 12] = [
    "approval",
    "healthy",
    "lowered",
    "nodata",
    "paused",
    "preparing",
    "promoting",
    "refused",
    "rolledback",
    "rollingback",
    "stepping",
    "unseen",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli")
}

fn fixture(name: &str) -> Rollout {
    let path = folder().join(format!("{name}.yaml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn now() -> Timestamp {
    "2026-03-02T10:00:00Z".parse().unwrap()
}

fn compare(name: &str, text: &str) {
    let path = folder().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} differs; it should be:\n{golden}\nbut is:\n{text}");
}

fn without_escapes(text: &str) -> String {
    let mut pieces = text.split('\u{1b}');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |plain, piece| plain + piece.split_once('m').map_or("", |(_, rest)| rest))
}

/// Everything that is laid out, for every fixture.
fn pages(style: Style) -> Vec<(String, String)> {
    let mut pages = Vec::new();
    for name in FIXTURES {
        let rollout = fixture(name);
        let view = View::new(&rollout, now());
        pages.push((format!("{name}.status.txt"), glance::render(&view, style, false)));
        let explanation = explain::explain(&view, false);
        pages.push((format!("{name}.explain.txt"), document::text(&explanation, style)));
    }
    for name in ["stepping", "rolledback"] {
        let rollout = fixture(name);
        let explanation = explain::explain(&View::new(&rollout, now()), true);
        pages.push((format!("{name}.formula.txt"), document::text(&explanation, style)));
    }
    let rollout = fixture("rolledback");
    for release in [7, 6] {
        let explanation = past::explain(&View::new(&rollout, now()), release, true).unwrap();
        pages.push((format!("release.{release}.txt"), document::text(&explanation, style)));
    }
    let stepping = fixture("stepping");
    let wide = glance::render(&View::new(&stepping, now()), style, true);
    pages.push(("stepping.wide.txt".to_owned(), wide));
    let rollouts = FIXTURES.map(fixture);
    let views: Vec<_> = rollouts.iter().map(|r| View::new(r, now())).collect();
    for (name, namespace) in [("table.txt", false), ("table.all.txt", true)] {
        let columns = Columns { namespace, wide: false };
        pages.push((name.to_owned(), table::render(&views, columns, style)));
    }
    pages
}

#[test]
fn pages_are_as_recorded() {
    for (name, text) in pages(PLAIN) {
        compare(&name, &text);
    }
    let rollout = fixture("stepping");
    let columns = Columns { namespace: true, wide: true };
    compare("table.wide.txt", &table::render(&[View::new(&rollout, now())], columns, PLAIN));
    let rollout = fixture("rolledback");
    let explanation = explain::explain(&View::new(&rollout, now()), false);
    compare("rolledback.explain.md", &document::markdown(&explanation));
    let json = serde_json::to_string_pretty(&explanation).unwrap() + "\n";
    compare("rolledback.explain.json", &json);
    let yaml = serde_saphyr::to_string(&explanation).unwrap();
    let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(read, serde_json::to_value(&explanation).unwrap());
}

#[test]
fn nothing_is_wider_than_the_terminal() {
    for (width, colour) in [(80, false), (80, true), (50, true)] {
        for (name, text) in pages(Style { width, colour }) {
            // A table keeps its columns; below 80 the terminal cuts it.
            if width < 80 && name.starts_with("table") {
                continue;
            }
            for line in text.lines() {
                assert!(visible(line) <= width, "{name} at {width}: {line}");
            }
        }
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    let colourful = pages(Style { width: 80, colour: true });
    for ((name, plain), (_, colourful)) in pages(PLAIN).into_iter().zip(colourful) {
        assert!(!plain.contains('\u{1b}'), "{name} has escapes without colour");
        assert_eq!(plain, without_escapes(&colourful), "{name}");
    }
}

#[test]
fn a_watch_ends_with_its_release() {
    let mut rollout = fixture("stepping");
    let view = View::new(&rollout, now());
    let release = followed(&view);
    assert_eq!((release, end(&view, release)), (Some(7), None));

    let ended = |rollout: &Rollout| end(&View::new(rollout, now()), release);
    let past = |number, outcome| {
        let status = fixture("rolledback").status.unwrap();
        PastRelease { number, outcome, ..status.history[0].clone() }
    };
    let status = rollout.status.as_mut().unwrap();
    status.phase = Phase::Healthy;
    status.history.insert(0, past(7, Outcome::Promoted));
    assert_eq!(ended(&rollout), Some(End::Well));

    // Stable's template came back and the next release has begun: this one still went badly.
    let status = rollout.status.as_mut().unwrap();
    status.phase = Phase::Preparing;
    status.history[0] = past(7, Outcome::RolledBack);
    assert_eq!(ended(&rollout), Some(End::Badly));
}

#[test]
fn without_a_release_a_watch_ends_at_once() {
    let ended = |name| {
        let rollout = fixture(name);
        let view = View::new(&rollout, now());
        (followed(&view), end(&view, None))
    };
    assert_eq!(ended("healthy"), (None, Some(End::Well)));
    assert_eq!(ended("rolledback"), (None, Some(End::Badly)));
    assert_eq!(ended("unseen"), (None, Some(End::Badly)));
}

#[test]
fn a_change_is_one_line() {
    let rollout = fixture("approval");
    assert_eq!(
        line(&View::new(&rollout, now())),
        "10:00:00 Paused 50% step 1 (50%) waits for a person: kubectl surefoot promote\n"
    );
}

#[test]
fn a_command_is_bound_to_what_was_looked_at() {
    let rollout = fixture("approval");
    let view = View::new(&rollout, now());
    let reason = Some("looks good".to_owned());
    let action = order::action(&view, ActionKind::Promote, reason, "alice".to_owned()).unwrap();
    assert_eq!(action.metadata.name, None);
    assert_eq!(action.metadata.generate_name.as_deref(), Some("checkout-7-1-promote-"));
    assert_eq!(action.spec.uid, "6f1c9f0e-2c1d-4b7e-9a57-0d3f5a1c2b3d");
    assert_eq!((action.spec.release, action.spec.step), (7, 1));
    assert_eq!(action.spec.requested_by, "alice");
}

#[test]
fn a_command_says_what_comes_of_it() {
    let rollouts = [
        "approval",
        "stepping",
        "lowered",
        "paused",
        "preparing",
        "promoting",
        "rollingback",
        "rolledback",
        "healthy",
        "unseen",
    ]
    .map(fixture);
    let said: String = rollouts
        .iter()
        .flat_map(|rollout| ActionKind::ALL.map(|kind| (rollout, kind)))
        .map(|(rollout, kind)| {
            let view = View::new(rollout, now());
            let phase = view.status.phase.as_str();
            let said = match order::refusal(&view, kind) {
                Some(refusal) => format!("error: {refusal}"),
                None => order::consequence(&view, kind),
            };
            format!("{phase}, {}: {said}\n", order::words(kind))
        })
        .collect();
    compare("commands.txt", &said);
}

#[test]
fn what_a_change_brings_is_said() {
    let rollouts = ["healthy", "stepping", "rolledback", "unseen"].map(fixture);
    let said: String = rollouts
        .iter()
        .map(|rollout| {
            let view = View::new(rollout, now());
            format!("{}: {}\n", view.status.phase.as_str(), change::next(&view, false))
        })
        .collect();
    compare("changes.txt", &said);
    let mut owners = fixture("healthy");
    owners.spec.paused = true;
    let said = change::next(&View::new(&owners, now()), false);
    assert!(said.contains("once spec.paused is false"), "{said}");
    assert!(change::next(&View::new(&owners, now()), true).contains("nothing comes of it"));
}

#[test]
fn the_owners_pause_is_not_resumed() {
    let mut rollout = fixture("stepping");
    rollout.spec.paused = true;
    let said = order::refusal(&View::new(&rollout, now()), ActionKind::Resume);
    assert!(said.as_ref().is_some_and(|s| s.contains("owner's wish")), "{said:?}");
    let mut rollout = fixture("paused");
    rollout.spec.paused = true;
    let view = View::new(&rollout, now());
    assert_eq!(order::refusal(&view, ActionKind::Resume), None);
    assert!(order::consequence(&view, ActionKind::Resume).contains("until that is false"));
}

#[test]
fn a_full_promotion_has_a_name_that_the_api_takes() {
    let rollout = fixture("approval");
    let view = View::new(&rollout, now());
    let action = order::action(&view, ActionKind::PromoteFull, None, "alice".to_owned()).unwrap();
    assert_eq!(action.metadata.generate_name.as_deref(), Some("checkout-7-1-promote-full-"));
    let owners = action.metadata.owner_references.unwrap();
    assert_eq!(owners[0].uid, action.spec.uid);
    assert_eq!((owners.len(), owners[0].controller), (1, None), "it goes with its Rollout");
}

/// A Rollout with a release of every kind behind it, and its commands, newest first.
fn with_past() -> (Rollout, Vec<RolloutAction>) {
    let mut rollout = fixture("rolledback");
    let status = rollout.status.as_mut().unwrap();
    let last = status.history[0].clone();
    status.history[0].by = "surefoot".to_owned();
    let past = |number, outcome, kind, by: &str, why: &str| PastRelease {
        number,
        outcome,
        kind,
        by: by.to_owned(),
        why: why.to_owned(),
        ..last.clone()
    };
    status.history.extend([
        past(6, Outcome::Promoted, ReleaseKind::Retry, "alice", "the whole release was promoted"),
        past(5, Outcome::RolledBack, ReleaseKind::New, "bob", "aborted by bob: too many errors"),
        past(4, Outcome::Promoted, ReleaseKind::Undo, "surefoot", "an undo isn't judged"),
        past(3, Outcome::Outside, ReleaseKind::New, "", "rolled out natively"),
    ]);
    let view = View::new(&rollout, now());
    let mut actions = Vec::new();
    for (kind, by, reason) in [
        (ActionKind::Abort, "bob", Some("too many errors")),
        (ActionKind::PromoteFull, "alice@example.com", None),
    ] {
        let reason = reason.map(str::to_owned);
        let mut action = order::action(&view, kind, reason, by.to_owned()).unwrap();
        let at = "2026-03-02T09:30:00Z".parse::<Timestamp>().unwrap();
        action.metadata.creation_timestamp = Some(Time(at));
        action.metadata.name = Some(format!("checkout-7-1-{by}"));
        actions.push(action);
    }
    (rollout, actions)
}

#[test]
fn history_is_as_recorded() {
    let (rollout, actions) = with_past();
    let view = View::new(&rollout, now());
    for width in [80, 120] {
        let text = history::render(&view, &actions, Style { width, colour: false }, false);
        assert!(width < 120 || text.lines().all(|l| visible(l) <= width), "{text}");
        compare(&format!("history.{width}.txt"), &text);
    }
    compare("history.wide.txt", &history::render(&view, &actions, PLAIN, true));
    let json = serde_json::to_string_pretty(&history::document(&view, &actions)).unwrap() + "\n";
    compare("history.json", &json);
    let none = fixture("unseen");
    let text = history::render(&View::new(&none, now()), &[], PLAIN, false);
    assert_eq!(text, "no release has ended yet\n");
}

#[test]
fn a_watch_waits_for_the_release_that_is_to_come() {
    let mut rollout = fixture("healthy");
    let latest = rollout.status.as_ref().unwrap().release.as_ref().unwrap().number;
    let goal = Goal::After(latest).with(&View::new(&rollout, now()));
    assert_eq!((goal, goal.reached(&View::new(&rollout, now()))), (Goal::After(latest), None));
    let status = rollout.status.as_mut().unwrap();
    status.release.as_mut().unwrap().number = latest + 1;
    status.phase = Phase::Stepping;
    let goal = goal.with(&View::new(&rollout, now()));
    assert_eq!(goal, Goal::Release(Some(latest + 1)));
    assert_eq!(goal.reached(&View::new(&rollout, now())), None);
    rollout.status.as_mut().unwrap().phase = Phase::Healthy;
    assert_eq!(goal.reached(&View::new(&rollout, now())), Some(End::Well));
    let failed = fixture("rolledback");
    assert_eq!(Goal::Rest.reached(&View::new(&failed, now())), None);
}

#[test]
fn a_release_that_is_not_kept_is_an_error_that_names_those_that_are() {
    let rollout = fixture("rolledback");
    let said = past::explain(&View::new(&rollout, now()), 3, false).unwrap_err().to_string();
    assert!(said.contains("doesn't keep release 3: choose one of 7, 6"), "{said}");
    let rollout = fixture("unseen");
    let said = past::explain(&View::new(&rollout, now()), 3, false).unwrap_err().to_string();
    assert!(said.contains("leave --release out"), "{said}");
    // One that is under way is explained as it stands.
    let rollout = fixture("stepping");
    let view = View::new(&rollout, now());
    assert_eq!(past::explain(&view, 7, false).unwrap(), explain::explain(&view, false));
}

/// What a reader has: the texts of the status and the formulas that are printed.
#[test]
fn the_formula_gives_the_numbers_that_are_shown() {
    let number = |text: &str| text.parse::<f64>().unwrap();
    let mut computed = 0;
    for name in ["stepping", "rolledback"] {
        let status = fixture(name).status.unwrap();
        let tests = status.analysis.iter().flat_map(|m| m.tests.iter().map(move |test| (m, test)));
        for (metric, test) in tests {
            let phi = number(metric.dispersion.as_deref().unwrap());
            let [n1, k1, n0, k0] = test.counts.iter().map(|n| *n as f64).collect::<Vec<_>>()[..]
            else {
                panic!("four counts")
            };
            let value = number(&test.value);
            let ratio = |r: f64| {
                k1 * (r / value).ln() - (k1 + k0) * ((r * n1 + n0) / (value * n1 + n0)).ln()
            };
            let th0 = test.predicted.as_deref().map_or(0.0, number);
            let difference = |th1: f64| {
                let n = n1 + n0;
                let (b, c) = (n * value - n1 * th1 - n0 * th0, -n0 * th0 * value);
                let t = (-b + (b * b - 4.0 * n * c).sqrt()) / (2.0 * n);
                k1 * (th1 / (t + value)).ln() + k0 * (th0 / t).ln()
                    - n1 * (th1 - t - value)
                    - n0 * (th0 - t)
            };
            let mixed: Vec<(f64, f64)> = match (test.side, test.bound) {
                (TestSide::Harm, BoundKind::Difference) => {
                    let h = [1.25, 1.6, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];
                    h.map(|h| (0.125, difference(th0 + value * h))).into()
                }
                (TestSide::Safety, BoundKind::Difference) => {
                    let th1 = [(0.2, th0 / 2.0), (0.6, th0), (0.2, th0 + value / 4.0)];
                    th1.map(|(w, th1)| (w, difference(th1))).into()
                }
                (TestSide::Harm, BoundKind::Ratio) => {
                    let slow = [1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];
                    let failed =
                        [1.25, 1.5, 2.0, 3.0, 5.0, 9.0, 16.0, 30.0, 60.0, 150.0, 400.0, 1000.0];
                    let grid = if test.slower_than.is_some() { &slow[..] } else { &failed[..] };
                    grid.iter().map(|h| (1.0 / grid.len() as f64, ratio(value * h))).collect()
                }
                (TestSide::Safety, BoundKind::Ratio) => {
                    let w = [0.05, 0.05, 0.1, 0.1, 0.2, 0.5];
                    let r = [0.05, 0.25, 0.5, 0.75, 0.9, 1.0];
                    w.into_iter().zip(r.map(ratio)).collect()
                }
                (_, BoundKind::Objective | BoundKind::Pairs) => panic!("none of these has one"),
            };
            let e: f64 = mixed.iter().map(|(w, log)| w * (log / phi).exp()).sum();
            let shown = number(&test.in_one_block);
            assert!((e.ln() - shown).abs() < 0.02, "{name}: {test:?}: {}", e.ln());
            computed += 1;
        }
    }
    assert_eq!(computed, 10);
}
