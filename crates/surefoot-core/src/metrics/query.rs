//! PromQL for exact counts between two instants (`statistics.md`, "Data").
//!
//! Increments are differences of last samples, never `increase()`, which extrapolates and loses
//! first samples. Every instant is explicit: a question has the same answer whenever it is asked.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

/// How much further back than the block a last sample is looked for.
const LOOKBACK: Duration = Duration::from_secs(300);

/// Which of the mesh's series to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `istio_requests_total`.
    Requests,
    /// `istio_request_duration_milliseconds_bucket`.
    Latency,
}

impl Family {
    fn metric(self) -> &'static str {
        match self {
            Family::Requests => "istio_requests_total",
            Family::Latency => "istio_request_duration_milliseconds_bucket",
        }
    }

    /// Labels that tell counts apart.
    fn labels(self) -> &'static str {
        match self {
            Family::Requests => {
                "destination_service_name, request_protocol, response_code, grpc_response_status, response_flags"
            }
            Family::Latency => "destination_service_name, response_code, response_flags, le",
        }
    }
}

/// The series of the two Services, as their callers' proxies report them: that sees what never
/// reached a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Namespace of both.
    pub namespace: String,
    /// The Service that reaches stable.
    pub stable: String,
    /// The Service that reaches the canary.
    pub canary: String,
}

/// A PromQL string literal.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A regular expression that matches exactly this text.
fn exactly(text: &str) -> String {
    let mut regex = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() && c != '-' && c != '_' {
            regex.push('\\');
        }
        regex.push(c);
    }
    regex
}

fn seconds(at: Timestamp) -> String {
    format!("{}.{:03}", at.as_second(), at.subsec_millisecond().max(0))
}

fn range(from: Timestamp, to: Timestamp) -> String {
    let block = Duration::try_from(to.duration_since(from)).unwrap_or_default();
    format!("{}ms", (block + LOOKBACK).as_millis())
}

impl Series {
    fn selector(&self, family: Family) -> String {
        let names = format!("{}|{}", exactly(&self.stable), exactly(&self.canary));
        format!(
            "{}{{reporter=\"source\", destination_service_namespace={}, destination_service_name=~{}}}",
            family.metric(),
            literal(&self.namespace),
            literal(&names)
        )
    }

    /// For each scraped target, the time of its newest sample.
    #[must_use]
    pub fn freshness(&self) -> String {
        format!("max by (job, instance) (timestamp({}))", self.selector(Family::Requests))
    }

    /// For each scraped target, how many samples a series had within `window`.
    #[must_use]
    pub fn density(&self, window: Duration) -> String {
        let selector = self.selector(Family::Requests);
        format!(
            "max by (job, instance) (count_over_time({selector}[{}s]))",
            window.as_secs().max(1)
        )
    }

    /// Sums of increments over (from, to], of all series that were neither born nor reset between.
    #[must_use]
    pub fn increments(&self, family: Family, from: Timestamp, to: Timestamp) -> String {
        let (last, first, resets) = self.ends(family, from, to);
        format!("sum by ({}) (({last} - {first}) unless {resets})", family.labels())
    }

    /// The series that were born or reset between: usually none.
    #[must_use]
    pub fn irregular(&self, family: Family, from: Timestamp, to: Timestamp) -> String {
        let (last, first, resets) = self.ends(family, from, to);
        format!("count(({last} unless {first}) or {resets})")
    }

    /// Sums over the series that were born between, by target.
    #[must_use]
    pub fn births(&self, family: Family, from: Timestamp, to: Timestamp) -> String {
        let (last, first, resets) = self.ends(family, from, to);
        let labels = family.labels();
        format!("sum by (job, instance, {labels}) (({last} unless {first}) unless {resets})")
    }

    /// The series that were reset between, each with all of its labels.
    #[must_use]
    pub fn resets(&self, family: Family, from: Timestamp, to: Timestamp) -> String {
        self.ends(family, from, to).2
    }

    fn ends(&self, family: Family, from: Timestamp, to: Timestamp) -> (String, String, String) {
        let (selector, range) = (self.selector(family), range(from, to));
        let (t0, t1) = (seconds(from), seconds(to));
        (
            format!("last_over_time({selector}[{range}] @ {t1})"),
            format!("last_over_time({selector}[{range}] @ {t0})"),
            format!("(resets({selector}[{range}] @ {t1}) > 0)"),
        )
    }

    /// The raw samples of one series up to `to`.
    #[must_use]
    pub fn raw(
        &self,
        family: Family,
        labels: &[(String, String)],
        from: Timestamp,
        to: Timestamp,
    ) -> String {
        let mut selector = format!("{}{{", family.metric());
        for (name, value) in labels.iter().filter(|(name, _)| name != "__name__") {
            // Writing to a String can't fail.
            let _ = write!(selector, "{name}={}, ", literal(value));
        }
        format!("{}}}[{}] @ {}", selector.trim_end_matches(", "), range(from, to), seconds(to))
    }

    /// Whether each target was up at its last scrape before `at`.
    #[must_use]
    pub fn up(&self, from: Timestamp, to: Timestamp) -> String {
        format!("last_over_time(up[{}] @ {}) == 1", range(from, to), seconds(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        Series {
            namespace: "shop".into(),
            stable: "checkout-stable".into(),
            canary: "checkout-canary".into(),
        }
    }

    #[test]
    fn every_instant_is_explicit() {
        let (t0, t1) =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T00:00:15.5Z".parse().unwrap());
        let query = series().increments(Family::Requests, t0, t1);
        assert!(query.contains("[315500ms] @ 1767225615.500"), "{query}");
        assert!(query.contains("@ 1767225600.000"), "{query}");
        assert!(
            query.starts_with("sum by (destination_service_name, request_protocol, response_code")
        );
        assert!(!query.contains("increase"));
    }

    #[test]
    fn values_are_escaped() {
        let hostile = vec![("path".to_owned(), "a\"} or up #\\".to_owned())];
        let t = Timestamp::UNIX_EPOCH;
        let query = series().raw(Family::Requests, &hostile, t, t);
        assert!(query.contains(r#"path="a\"} or up #\\""#), "{query}");
        assert_eq!(exactly("a.b"), "a\\.b");
    }
}
