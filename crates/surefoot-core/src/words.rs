//! Numbers in words, the same everywhere.

use std::time::Duration;

use crate::api::rollout::{RequestMatch, TextMatch};

/// A length of time: "45s", "2m 30s", "1h 5m".
#[must_use]
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) if span < Duration::from_secs(10) && span.subsec_millis() >= 100 => {
            format!("{:.1}s", span.as_secs_f64())
        }
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m {s}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h {m}m"),
    }
}

/// A share as a percentage with the digits it needs: "1.8%", "0.03%", "0%".
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = match percent.abs() {
        p if p == 0.0 || p >= 99.95 => 0,
        p if p >= 1.0 => 1,
        p if p >= 0.1 => 2,
        _ => 3,
    };
    format!("{percent:.digits$}%")
}

/// A step by its weight: "10%"; one without weight is a preview.
#[must_use]
pub fn weight(weight: i32) -> String {
    if weight == 0 { "preview".to_owned() } else { format!("{weight}%") }
}

/// Whom a step chooses beside its weight: ", and requests with x-canary: true".
#[must_use]
pub fn chosen(matches: &[RequestMatch]) -> String {
    let text = |(name, text): (&String, &TextMatch)| match (&text.exact, &text.regex) {
        (Some(exact), _) => format!("{name}: {exact}"),
        (None, regex) => format!("{name}: /{}/", regex.as_deref().unwrap_or_default()),
    };
    let one = |of: &RequestMatch| of.headers.iter().map(text).collect::<Vec<_>>().join(" and ");
    match matches {
        [] => String::new(),
        some => {
            let all: Vec<String> = some.iter().map(one).collect();
            format!(", and requests with {}", all.join(", or with "))
        }
    }
}

/// A count with separators: "12,304".
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_it() {
        assert_eq!(span(Duration::from_secs(150)), "2m 30s");
        assert_eq!(span(Duration::from_millis(1500)), "1.5s");
        assert_eq!(span(Duration::from_secs(3900)), "1h 5m");
        assert_eq!(
            [percent(0.018), percent(0.0003), percent(0.0), percent(1.0)],
            ["1.8%", "0.030%", "0%", "100%"]
        );
        let matches = serde_json::from_value::<Vec<RequestMatch>>(serde_json::json!([
            {"headers": {"x-canary": {"exact": "true"}, "x-team": {"regex": "a|b"}}},
            {"headers": {"cookie": {"regex": ".*canary.*"}}},
        ]));
        let said =
            ", and requests with x-canary: true and x-team: /a|b/, or with cookie: /.*canary.*/";
        assert_eq!((chosen(&matches.unwrap()).as_str(), chosen(&[]).as_str()), (said, ""));
        assert_eq!([count(7), count(7304), count(1_234_567)], ["7", "7,304", "1,234,567"]);
    }
}
