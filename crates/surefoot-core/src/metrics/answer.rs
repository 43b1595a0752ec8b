//! Prometheus' answers, read strictly: whatever isn't exactly what was asked for is an error with a
//! reason, never a zero.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Series more than this in one answer are refused.
const MOST_SERIES: usize = 5000;

/// Why an answer can't be used. Bodies are never echoed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not JSON of the query API.
    #[error("the answer isn't that of a Prometheus query API: {0}")]
    Malformed(String),
    /// The server says that it failed.
    #[error("the server refuses the query: {kind}: {message}")]
    Refused {
        /// `errorType`.
        kind: String,
        /// `error`, cut short.
        message: String,
    },
    /// The server says that something is missing.
    #[error("the server warns that its answer may be partial: {0}")]
    Warned(String),
    /// Another type of result.
    #[error("the answer is a {found}, a {wanted} was asked for")]
    Type {
        /// What came.
        found: String,
        /// What was wanted.
        wanted: &'static str,
    },
    /// Too many series.
    #[error("{0} series in one answer; at most 5,000 are read")]
    TooMany(usize),
    /// A value that is no number.
    #[error("a value is not a finite number")]
    NotANumber,
    /// A count that is negative, broken, or beyond exact numbers.
    #[error("a count is {0}: not a whole number from 0 to 2^53")]
    NotACount(String),
    /// More or fewer series than one.
    #[error("{0} series where exactly one is meant: narrow the query down, or aggregate it")]
    NotOne(usize),
}

#[derive(Deserialize)]
struct Body {
    status: String,
    data: Option<Data>,
    #[serde(rename = "errorType", default)]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Vec<Raw>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
    values: Option<Vec<(f64, String)>>,
}

/// One series of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value, finite.
    pub value: f64,
}

impl Point {
    /// A label, empty where it is absent, as in PromQL.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// One series of a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// (Seconds since the epoch, value), in order of time, finite.
    pub samples: Vec<(f64, f64)>,
}

impl Track {
    /// A label, empty where it is absent, as in PromQL.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The server's own words, for a line of a log or a status.
fn short(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn body(text: &[u8], wanted: &'static str) -> Result<Vec<Raw>, AnswerError> {
    // serde_json limits depth; its message names a place, never content.
    let body: Body = serde_json::from_slice(text)
        .map_err(|e| AnswerError::Malformed(format!("{:?} at line {}", e.classify(), e.line())))?;
    if body.status != "success" {
        let (kind, message) = (short(&body.error_type), short(&body.error));
        return Err(AnswerError::Refused { kind, message });
    }
    if let Some(warning) = body.warnings.first() {
        return Err(AnswerError::Warned(short(warning)));
    }
    let data = body.data.ok_or_else(|| AnswerError::Malformed("no data".to_owned()))?;
    if data.result_type != wanted {
        return Err(AnswerError::Type { found: short(&data.result_type), wanted });
    }
    if data.result.len() > MOST_SERIES {
        return Err(AnswerError::TooMany(data.result.len()));
    }
    Ok(data.result)
}

fn finite(text: &str) -> Result<f64, AnswerError> {
    let value: f64 = text.parse().map_err(|_| AnswerError::NotANumber)?;
    if value.is_finite() { Ok(value) } else { Err(AnswerError::NotANumber) }
}

/// An instant vector.
///
/// # Errors
/// When it is anything else, or a value is not finite.
pub fn vector(text: &[u8]) -> Result<Vec<Point>, AnswerError> {
    body(text, "vector")?
        .into_iter()
        .map(|raw| {
            let (_, value) = raw
                .value
                .ok_or_else(|| AnswerError::Malformed("a series without value".to_owned()))?;
            Ok(Point { labels: raw.metric, value: finite(&value)? })
        })
        .collect()
}

/// A range of each of several series.
///
/// # Errors
/// When it is anything else, or a value is not finite.
pub fn tracks(text: &[u8]) -> Result<Vec<Track>, AnswerError> {
    body(text, "matrix")?
        .into_iter()
        .map(|raw| {
            let values = raw
                .values
                .ok_or_else(|| AnswerError::Malformed("a series without values".to_owned()))?;
            let samples = values.into_iter().map(|(at, value)| Ok((at, finite(&value)?)));
            Ok(Track { labels: raw.metric, samples: samples.collect::<Result<_, _>>()? })
        })
        .collect()
}

/// The samples of a single series, (seconds since the epoch, value).
///
/// # Errors
/// When it is anything but one series of finite values.
pub fn samples(text: &[u8]) -> Result<Vec<(f64, f64)>, AnswerError> {
    let mut series = tracks(text)?;
    match (series.pop(), series.len()) {
        (Some(only), 0) => Ok(only.samples),
        (last, before) => Err(AnswerError::NotOne(before + usize::from(last.is_some()))),
    }
}

/// The one number of a user's query.
///
/// # Errors
/// When there isn't exactly one series with a finite value.
pub fn scalar(text: &[u8]) -> Result<f64, AnswerError> {
    match vector(text)?.as_slice() {
        [one] => Ok(one.value),
        several => Err(AnswerError::NotOne(several.len())),
    }
}

/// A count as a whole number.
///
/// # Errors
/// When it is negative, broken or too large to be exact.
pub fn count(value: f64) -> Result<u64, AnswerError> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if (0.0..=EXACT).contains(&value) && value.fract() == 0.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked above"
        )]
        return Ok(value as u64);
    }
    Err(AnswerError::NotACount(value.to_string()))
}

/// Two counts together.
///
/// # Errors
/// When that is too large to be exact.
pub fn sum(a: u64, b: u64) -> Result<u64, AnswerError> {
    let sum = a.checked_add(b).filter(|sum| *sum <= 1 << 53);
    sum.ok_or_else(|| AnswerError::NotACount(format!("{a} and {b} more")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(result: &str) -> Vec<u8> {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#)
            .into()
    }

    #[test]
    fn only_one_finite_number_is_one() {
        let good = answer(r#"[{"metric":{},"value":[1,"0.5"]}]"#);
        assert_eq!(scalar(&good), Ok(0.5));
        let two = answer(
            r#"[{"metric":{"a":"1"},"value":[1,"1"]},{"metric":{"a":"2"},"value":[1,"1"]}]"#,
        );
        assert_eq!(scalar(&two), Err(AnswerError::NotOne(2)));
        assert_eq!(scalar(&answer("[]")), Err(AnswerError::NotOne(0)));
        for bad in ["NaN", "+Inf", "-Inf", "Inf", "abc", ""] {
            let text = answer(&format!(r#"[{{"metric":{{}},"value":[1,"{bad}"]}}]"#));
            assert_eq!(scalar(&text), Err(AnswerError::NotANumber), "{bad}");
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_never_echoed() {
        for bad in [
            answer(r#"[{"metric":{},"value":[]}]"#),
            answer(r#"[{"metric":{},"value":[1]}]"#),
            answer(r#"[{"metric":{},"value":[1,2]}]"#),
            answer(r#"[{"metric":{}}]"#),
            b"<html>secret</html>".to_vec(),
            b"null".to_vec(),
            b"{\"status\":\"success\"".to_vec(),
            vec![b'['; 100_000],
        ] {
            let said = scalar(&bad).unwrap_err();
            assert!(matches!(said, AnswerError::Malformed(_)), "{said}");
            assert!(!said.to_string().contains("secret"));
        }
        let warned = br#"{"status":"success","warnings":["store gone"],"data":{"resultType":"vector","result":[]}}"#;
        assert!(matches!(vector(warned), Err(AnswerError::Warned(_))));
        let failed = br#"{"status":"error","errorType":"bad_data","error":"x"}"#;
        assert!(matches!(vector(failed), Err(AnswerError::Refused { .. })));
        let matrix = br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert!(matches!(vector(matrix), Err(AnswerError::Type { .. })));
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!(count(12.0), Ok(12));
        for bad in [-1.0, 0.5, 1e308] {
            assert!(count(bad).is_err(), "{bad}");
        }
        assert_eq!(sum((1 << 53) - 1, 1), Ok(1 << 53));
        assert!(sum(1 << 53, 1).is_err() && sum(u64::MAX, 1).is_err());
    }
}
