//! A metric's evidence in words and bars.

use surefoot_core::api::status::{ArmStatus, Evidence, MetricStatus};
use surefoot_core::words;

use super::page::{Page, Tone};

const BAR: usize = 20;

/// How much of what decides there is, 0 to 100; `None` where the numbers can't be read.
#[must_use]
pub fn percent(evidence: &Evidence) -> Option<u32> {
    let log_e: f64 = evidence.log_e.parse().ok()?;
    let needed: f64 = evidence.needed.parse().ok()?;
    if log_e >= needed {
        return Some(100);
    }
    let percent = (100.0 * log_e / needed).floor();
    // What is not yet decided is never shown as 100.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 99")]
    (!percent.is_nan()).then(|| percent.clamp(0.0, 99.0) as u32)
}

/// The verdict in words.
#[must_use]
pub fn verdict(metric: &MetricStatus) -> &str {
    match metric.verdict.as_str() {
        "Continue" => "undecided",
        "Pass" => "passes",
        "Harm" => "harm",
        "NoData" => "no data yet",
        "NotComparable" => "can't be compared",
        other => other,
    }
}

/// "1.8% bad: 15 of 812 requests (true share in 0.9%–3.0%)".
#[must_use]
pub fn arm(arm: &ArmStatus) -> String {
    format!(
        "{} bad: {} of {} requests (true share in {})",
        arm.rate,
        words::count(arm.bad.unsigned_abs()),
        words::count(arm.requests.unsigned_abs()),
        arm.interval
    )
}

/// A metric on the page.
pub fn put(page: &mut Page, metric: &MetricStatus) {
    let tone = match metric.verdict.as_str() {
        "Pass" => Tone::Good,
        "Harm" => Tone::Bad,
        _ => Tone::Warn,
    };
    let verdict = page.style.paint(tone, verdict(metric));
    page.put("  ", &format!("{} ({}): {verdict}", metric.name, metric.role));
    if let Some(canary) = &metric.canary {
        page.put("    canary  ", &arm(canary));
    }
    if let Some(stable) = &metric.stable {
        page.put("    stable  ", &arm(stable));
    }
    put_bar(page, "pass", metric.pass.as_ref(), Tone::Good, "passes");
    put_bar(page, "harm", metric.harm.as_ref(), Tone::Bad, "rolls back");
    let dispersion = metric.dispersion.as_ref().zip(metric.calibration.as_ref());
    let dispersion = dispersion.map(|(phi, from)| format!("dispersion {phi} ({from})"));
    for note in dispersion.iter().chain(&metric.note) {
        page.put("    ", &page.style.paint(Tone::Faint, note));
    }
}

fn put_bar(page: &mut Page, name: &str, evidence: Option<&Evidence>, tone: Tone, what: &str) {
    let Some(percent) = evidence.and_then(percent) else { return };
    let (full, empty) = bar(percent);
    let full = page.style.paint(tone, &full);
    let empty = page.style.paint(Tone::Faint, &empty);
    page.put(&format!("    {name}    "), &format!("{full}{empty} {percent:>3}% of what {what}"));
}

/// The full and the empty part of a bar.
fn bar(percent: u32) -> (String, String) {
    let full = (percent as usize * BAR / 100).min(BAR);
    ("█".repeat(full), "░".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_a_share_of_what_decides() {
        let share = |log_e: &str, needed: &str| {
            percent(&Evidence { log_e: log_e.to_owned(), needed: needed.to_owned() })
        };
        assert_eq!(share("1.50", "3.00"), Some(50));
        assert_eq!(share("2.999", "3.00"), Some(99));
        assert_eq!(share("7.00", "3.00"), Some(100));
        assert_eq!(share("-2.00", "3.00"), Some(0));
        assert_eq!(share("inf", "inf"), Some(100));
        assert_eq!(share("-inf", "3.00"), Some(0));
        assert_eq!(share("NaN", "3.00"), None);
        assert_eq!(share("", "3.00"), None);
    }

    #[test]
    fn a_bar_is_as_full_as_its_share() {
        assert_eq!(bar(50), ("█".repeat(10), "░".repeat(10)));
        assert_eq!(bar(0).0, "");
        assert_eq!(bar(100).1, "");
    }
}
