//! Slack: a notice as a message in Block Kit, and what Slack's answers mean.
//!
//! Text that people or servers wrote goes into `plain_text` objects, where Slack formats nothing and
//! mentions nobody; only our own words and names that Kubernetes has checked are `mrkdwn`.

use serde_json::{Value, json};

use super::Trouble;
use crate::api::notice::{Notice, Reason};
use crate::words;

/// Characters of a header block.
const HEADER: usize = 150;
/// Characters of a section's text.
const TEXT: usize = 3000;
/// Characters of a section's field.
const FIELD: usize = 2000;
/// Characters of the text that stands in where blocks can't be shown.
const FALLBACK: usize = 1000;

/// A notice and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// The Rollout's namespace.
    pub namespace: &'a str,
    /// The Rollout.
    pub name: &'a str,
    /// What happened.
    pub notice: &'a Notice,
    /// How many earlier notices the channel never got.
    pub omitted: i64,
    /// Where to look, with placeholders.
    pub dashboard: Option<&'a str>,
}

/// The message, without the Slack channel.
#[must_use]
pub fn message(letter: &Letter<'_>) -> Value {
    let Letter { namespace, name, notice, .. } = letter;
    let title = format!("{namespace}/{name}: {}", headline(notice));
    let header = json!({"type": "header", "text": plain(&title, HEADER)});
    let mut fields = vec![bold("Rollout", &format!("{namespace}/{name}"))];
    if notice.release > 0 {
        fields.push(bold("Release", &notice.release.to_string()));
        fields.push(bold("Weight", &format!("{}%", notice.weight)));
    }
    if let Some(step) = notice.step {
        fields.push(bold("Step", &step.to_string()));
    }
    if !notice.actor.is_empty() {
        fields.push(plain(&format!("By: {}", notice.actor), FIELD));
    }
    if !notice.images.is_empty() {
        fields.push(plain(&format!("Image: {}", notice.images.join(", ")), FIELD));
    }
    let mut blocks = vec![json!({"type": "section", "text": plain(&notice.note, TEXT)})];
    if !notice.evidence.is_empty() {
        blocks.push(json!({"type": "section", "text": plain(&notice.evidence, TEXT)}));
    }
    blocks.push(json!({"type": "section", "fields": fields}));
    blocks.push(json!({"type": "context", "elements": context(letter)}));
    json!({
        "text": fit(&format!("{title}: {}", notice.note), FALLBACK),
        "blocks": [header],
        "attachments": [{"color": colour(notice), "blocks": blocks}],
        "mrkdwn": false,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// When, where to look, and what is missing.
fn context(letter: &Letter<'_>) -> Vec<Value> {
    let at = letter.notice.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let mut elements = vec![plain(&at, TEXT)];
    if let Some(link) = letter.dashboard.and_then(|url| link(url, letter)) {
        elements.push(json!({"type": "mrkdwn", "text": link, "verbatim": true}));
    }
    if letter.omitted > 0 {
        let count = words::count(letter.omitted.unsigned_abs());
        let missing = format!("and {count} more before this one that didn't get through");
        elements.push(plain(&missing, TEXT));
    }
    elements
}

fn link(url: &str, letter: &Letter<'_>) -> Option<String> {
    let url = url.replace("{{namespace}}", letter.namespace).replace("{{name}}", letter.name);
    let web = url.starts_with("https://") || url.starts_with("http://");
    let clean = url.chars().all(|c| c.is_ascii_graphic() && !"<>|".contains(c));
    (web && clean && url.len() < TEXT / 2).then(|| format!("<{}|Dashboard>", fit(&url, TEXT)))
}

/// What happened, in two or three words.
fn headline(notice: &Notice) -> &'static str {
    match notice.reason {
        Reason::Adopted => "adopted",
        Reason::Started => "release started",
        Reason::Advancing => "weight raised",
        Reason::StepPassed => "step passed",
        Reason::ApprovalNeeded => "approval needed",
        Reason::Inconclusive => "paused: not enough evidence",
        Reason::Extended => "step extended",
        Reason::GateUnreachable => "gate out of reach",
        Reason::NoData => "paused: no metrics",
        Reason::WeightLowered => "paused: weight lowered",
        Reason::CRDOutdated => "definition outdated",
        Reason::WeightRestored => "weight put right",
        Reason::TrafficOwnershipConflict => "somebody fights over the weights",
        Reason::PausedByCommand => "paused by somebody",
        Reason::Resumed => "resumed",
        Reason::PromotedFull => "all steps passed by somebody",
        Reason::Undoing => "undoing",
        Reason::Ignored => "command ignored",
        Reason::TooManyCommands => "too many commands",
        Reason::BreakGlass => "traffic brought back by hand",
        Reason::PromotedWithoutEvidence => "promoted without evidence",
        Reason::Promoted => "promoted",
        Reason::RollingBack => "rolling back",
        Reason::RolledBack => "rolled back",
        Reason::ReleasedOutside => "released outside of Surefoot",
        Reason::Abandoned => "abandoned",
        Reason::Deleted => "deleted",
    }
}

/// By severity: green, blue, yellow, red.
fn colour(notice: &Notice) -> &'static str {
    match notice.reason {
        Reason::Promoted => "#2eb886",
        Reason::RollingBack | Reason::RolledBack | Reason::BreakGlass => "#d00000",
        Reason::ApprovalNeeded => "#daa038",
        _ if notice.warning => "#daa038",
        _ => "#439fe0",
    }
}

/// Ours alone: `value` must hold nothing that Slack formats.
fn bold(label: &str, value: &str) -> Value {
    json!({"type": "mrkdwn", "text": fit(&format!("*{label}*\n{value}"), FIELD), "verbatim": true})
}

fn plain(text: &str, most: usize) -> Value {
    let text = fit(text, most);
    // An empty text object is refused.
    let text = if text.trim().is_empty() { "–".to_owned() } else { text };
    json!({"type": "plain_text", "text": text, "emoji": false})
}

/// Escaped as Slack wants it, without control characters and marks that turn the direction of
/// writing, and no longer than `most` with all of that.
fn fit(text: &str, most: usize) -> String {
    let mut fitted = String::new();
    let mut length = 0;
    for c in text.chars() {
        let mut own = [0; 4];
        let escaped = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\n' => "\n",
            c if c.is_control() => " ",
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => "",
            c => c.encode_utf8(&mut own),
        };
        let more = escaped.chars().count();
        // Room for the mark that says that there was more.
        if length + more > most - 1 {
            fitted.push('…');
            break;
        }
        length += more;
        fitted.push_str(escaped);
    }
    fitted
}

/// Which of Slack's doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// An incoming webhook.
    Webhook,
    /// `chat.postMessage`.
    PostMessage,
}

/// What Slack says when it refuses for good, to be told without repeating what a server sent.
const REFUSALS: [&str; 34] = [
    "account_inactive",
    "action_prohibited",
    "as_user_not_supported",
    "cannot_reply_to_message",
    "channel_is_archived",
    "channel_not_found",
    "ekm_access_denied",
    "enterprise_is_restricted",
    "invalid_arguments",
    "invalid_attachments",
    "invalid_auth",
    "invalid_blocks",
    "invalid_blocks_format",
    "invalid_payload",
    "invalid_token",
    "is_archived",
    "missing_scope",
    "msg_blocks_too_long",
    "msg_too_long",
    "no_active_hooks",
    "no_permission",
    "no_service",
    "no_service_id",
    "no_team",
    "no_text",
    "not_allowed_token_type",
    "not_authed",
    "not_in_channel",
    "posting_to_general_channel_denied",
    "restricted_action",
    "team_access_not_granted",
    "team_disabled",
    "token_expired",
    "token_revoked",
];

/// What Slack says when it will have the message later.
const LATER: [&str; 5] =
    ["fatal_error", "internal_error", "request_timeout", "rollup_error", "service_unavailable"];

/// Whether the message has arrived.
///
/// # Errors
/// When it hasn't, as far as the answer tells.
pub fn arrived(door: Door, status: u16, body: &[u8]) -> Result<(), Trouble> {
    match (door, status, word(door, body)) {
        (_, 200, Some("ok")) => Ok(()),
        (_, 429, _) | (_, 200, Some("ratelimited" | "rate_limited")) => Err(Trouble::Busy),
        (_, 408 | 500..=599, _) => {
            Err(Trouble::Unreachable(format!("Slack answers with status {status}")))
        }
        (_, 200 | 400..=499, Some(word)) => {
            if LATER.contains(&word) {
                return Err(Trouble::Unreachable("Slack has trouble of its own".to_owned()));
            }
            let known = REFUSALS.into_iter().find(|refusal| *refusal == word);
            known.map_or(Err(Trouble::Strange(status)), |refusal| Err(Trouble::Refused(refusal)))
        }
        _ => Err(Trouble::Strange(status)),
    }
}

/// The one word of an answer: "ok", or what is wrong.
fn word(door: Door, body: &[u8]) -> Option<&str> {
    match door {
        Door::Webhook => std::str::from_utf8(body).ok().map(str::trim),
        Door::PostMessage => {
            let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
            if answer.ok { Some("ok") } else { answer.error.filter(|e| *e != "ok") }
        }
    }
}

#[derive(serde::Deserialize)]
struct Answer<'a> {
    ok: bool,
    #[serde(borrow, default)]
    error: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_read_without_believing_them() {
        use Door::{PostMessage, Webhook};
        let busy = Err(Trouble::Busy);
        let refused = |word| Err(Trouble::Refused(word));
        for (door, status, body, said) in [
            (Webhook, 200, "ok", Ok(())),
            (Webhook, 200, "ok\n", Ok(())),
            (Webhook, 200, "<html>hello", Err(Trouble::Strange(200))),
            (Webhook, 302, "ok", Err(Trouble::Strange(302))),
            (Webhook, 403, "invalid_token", refused("invalid_token")),
            (Webhook, 404, "no_service", refused("no_service")),
            (Webhook, 404, "<script>", Err(Trouble::Strange(404))),
            (Webhook, 429, "", busy.clone()),
            (PostMessage, 200, r#"{"ok":true,"ts":"1"}"#, Ok(())),
            (PostMessage, 200, r#"{"ok":false,"error":"ratelimited"}"#, busy),
            (
                PostMessage,
                200,
                r#"{"ok":false,"error":"channel_not_found"}"#,
                refused("channel_not_found"),
            ),
            (PostMessage, 200, r#"{"ok":false,"error":"ok"}"#, Err(Trouble::Strange(200))),
            (PostMessage, 200, r#"{"ok":false,"error":"gibberish"}"#, Err(Trouble::Strange(200))),
            (PostMessage, 200, r#"{"ok":"#, Err(Trouble::Strange(200))),
            (PostMessage, 200, "ok", Err(Trouble::Strange(200))),
        ] {
            assert_eq!(arrived(door, status, body.as_bytes()), said, "{status} {body}");
        }
        for (status, body) in [(500, "rollup_error"), (503, ""), (400, "rollup_error")] {
            let said = arrived(Webhook, status, body.as_bytes());
            assert!(matches!(said, Err(Trouble::Unreachable(_))), "{status} {body}: {said:?}");
        }
    }

    fn letters(text: &str) -> usize {
        text.chars().count()
    }

    proptest! {
        /// Whatever the words are, Slack's limits hold and nothing in them reaches its parser.
        #[test]
        fn any_text_fits(text in "(?s).{0,4000}", most in 10usize..3000) {
            let fitted = fit(&text, most);
            prop_assert!(letters(&fitted) <= most);
            prop_assert!(!fitted.contains(['<', '>']));
            prop_assert!(fitted.chars().all(|c| c == '\n' || !c.is_control()));
            for rest in fitted.split('&').skip(1) {
                let whole = ["amp;", "lt;", "gt;"].iter().any(|e| rest.starts_with(e));
                prop_assert!(whole, "a broken escape: &{rest}");
            }
        }
    }
}
