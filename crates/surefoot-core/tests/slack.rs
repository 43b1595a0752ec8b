//! Messages for Slack, compared with `tests/golden/slack/*.json`. `UPDATE_GOLDEN=1` rewrites those.

#![expect(clippy::unwrap_used, reason = "a message that isn't as it must be fails its test")]

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;
use surefoot_core::api::notice::{Notice, Reason};
use surefoot_core::notify::slack::{Letter, message};

fn notice(reason: Reason, note: &str) -> Notice {
    Notice {
        id: "7-18c0-0".to_owned(),
        warning: false,
        reason,
        note: note.to_owned(),
        at: Timestamp::from_second(1_750_000_000).unwrap(),
        release: 4,
        step: Some(1),
        weight: 50,
        actor: "surefoot".to_owned(),
        evidence: String::new(),
        images: vec!["registry.example/checkout:v2".to_owned()],
        to: vec![],
    }
}

fn compare(name: &str, notice: &Notice, omitted: i64, dashboard: Option<&str>) -> Value {
    let letter = Letter { namespace: "shop", name: "checkout", notice, omitted, dashboard };
    let message = message(&letter);
    within_slacks_limits(&message);
    let text = serde_json::to_string_pretty(&message).unwrap() + "\n";
    let golden = PathBuf::from("tests/golden/slack").join(format!("{name}.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(text, expected, "{}: UPDATE_GOLDEN=1 rewrites it", golden.display());
    message
}

/// What Block Kit demands, wherever the text came from.
fn within_slacks_limits(message: &Value) {
    let length = |text: &Value| text.as_str().unwrap().chars().count();
    let attachment = &message["attachments"][0];
    let blocks = message["blocks"].as_array().unwrap().iter();
    let blocks: Vec<&Value> = blocks.chain(attachment["blocks"].as_array().unwrap()).collect();
    assert!(blocks.len() <= 50);
    for block in blocks {
        match block["type"].as_str().unwrap() {
            "header" => {
                assert_eq!(block["text"]["type"], "plain_text");
                assert!((1..=150).contains(&length(&block["text"]["text"])));
            }
            "section" => {
                if let Some(text) = block.get("text") {
                    assert!((1..=3000).contains(&length(&text["text"])));
                }
                let fields = block["fields"].as_array().into_iter().flatten();
                assert!(fields.clone().count() <= 10);
                fields.for_each(|f| assert!((1..=2000).contains(&length(&f["text"]))));
            }
            "context" => assert!((1..=10).contains(&block["elements"].as_array().unwrap().len())),
            other => panic!("a block of type {other}"),
        }
    }
}

#[test]
fn promoted() {
    let evidence = "10%: success-rate passed on 1,204 requests\n100%: the crash guard saw nothing";
    let notice = Notice {
        evidence: evidence.to_owned(),
        weight: 100,
        step: Some(2),
        ..notice(Reason::Promoted, "release 4 after 12m 30s")
    };
    compare("promoted", &notice, 0, Some("https://grafana.example/d/x?a={{namespace}}&b={{name}}"));
}

#[test]
fn rolled_back() {
    let note =
        "release 4: crash guard: the canary fails 25.0% of 300 requests, stable 0.19% of 2,700";
    let notice = Notice { warning: true, ..notice(Reason::RolledBack, note) };
    compare("rolled-back", &notice, 12, None);
}

#[test]
fn approval() {
    let note = "step 1 (50%) waits for a person: kubectl surefoot promote";
    compare("approval", &notice(Reason::ApprovalNeeded, note), 0, None);
}

#[test]
fn outside_of_any_release() {
    let notice = Notice {
        release: 0,
        step: None,
        weight: 0,
        images: vec![],
        ..notice(Reason::Adopted, "shop-5d9 was found running")
    };
    compare("adopted", &notice, 0, None);
}

#[test]
fn hostile_text_stays_text() {
    let hostile =
        "<!channel> <@U012|x> *bold* _it_ ~s~ `code` :tada: & &amp; a\u{202e}b\u{0}\u{7}\r\t";
    let notice = Notice {
        actor: format!("eve {hostile}"),
        images: vec![format!("registry/<!here>:{hostile}")],
        note: format!("release 4: aborted by eve: {hostile}\nsecond line"),
        warning: true,
        ..notice(Reason::RollingBack, "")
    };
    let message = compare("hostile", &notice, 0, Some("https://x.example/|<!channel>?{{name}}"));
    let text = message.to_string();
    assert!(!text.contains('<') && !text.contains('>'), "{text}");
}

#[test]
fn too_long_is_cut_and_empty_is_a_dash() {
    let long = "&".repeat(5000);
    let notice = Notice {
        note: long.clone(),
        evidence: long.clone(),
        actor: long.clone(),
        images: vec![long; 4],
        ..notice(Reason::StepPassed, "")
    };
    let letter = Letter {
        namespace: "shop",
        name: "checkout",
        notice: &notice,
        omitted: 1,
        dashboard: None,
    };
    within_slacks_limits(&message(&letter));
    let empty = Notice { note: " ".to_owned(), ..notice.clone() };
    within_slacks_limits(&message(&Letter { notice: &empty, ..letter }));
}
