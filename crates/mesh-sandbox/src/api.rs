//! The query API: from a path and parameters to an answer.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::json;
use crate::promql::{self, Error};
use crate::store::{Millis, Store};

/// The version of Prometheus that this one answers like.
pub const VERSION: &str = "2.42.0";
/// No answer has more values of one series.
const MOST_STEPS: Millis = 11_000;

/// An answer to an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    fn good(body: String) -> Self {
        Self { status: 200, body }
    }

    fn refusal(error: &Error) -> Self {
        let (status, kind) = match error {
            Error::BadData(_) => (400, "bad_data"),
            Error::Execution(_) => (422, "execution"),
        };
        Self { status, body: json::error(kind, &error.to_string()) }
    }
}

/// Answer as Prometheus would at this instant, if these were the series that it has.
#[must_use]
pub fn answer(store: &Store, now: Millis, path: &str, params: &[(&str, &str)]) -> Answer {
    let params: BTreeMap<&str, &str> = params.iter().rev().copied().collect();
    let asked = match path {
        "/api/v1/query" => query(store, now, &params),
        "/api/v1/query_range" => query_range(store, &params),
        "/api/v1/status/buildinfo" => Ok(format!(
            "{{\"status\":\"success\",\"data\":{{\"version\":\"{VERSION}\",\"revision\":\"\",\
             \"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}}}}"
        )),
        _ => return Answer { status: 404, body: "404 page not found\n".to_owned() },
    };
    asked.map_or_else(|error| Answer::refusal(&error), Answer::good)
}

fn query(store: &Store, now: Millis, params: &BTreeMap<&str, &str>) -> Result<String, Error> {
    let asked = params.get("time").filter(|text| !text.is_empty());
    let at = asked.map_or(Ok(now), |text| {
        time(text)
            .map_err(|said| invalid("time", format_args!("Invalid time value for 'time': {said}")))
    })?;
    check_timeout(params)?;
    let expr = promql::parse(params.get("query").copied().unwrap_or_default())
        .map_err(|said| invalid("query", said))?;
    Ok(json::success(&promql::instant(store, &expr, at)?, at))
}

fn query_range(store: &Store, params: &BTreeMap<&str, &str>) -> Result<String, Error> {
    let text = |name: &str| params.get(name).copied().unwrap_or_default();
    let instant = |name: &str| time(text(name)).map_err(|said| invalid(name, said));
    let (start, end) = (instant("start")?, instant("end")?);
    if end < start {
        return Err(invalid("end", "end timestamp must not be before start time"));
    }
    let step = duration("step", text("step"))?;
    if step <= 0 {
        return Err(invalid(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if (end - start) / step > MOST_STEPS {
        return Err(Error::BadData(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
             resolution (?step=XX)"
                .to_owned(),
        ));
    }
    check_timeout(params)?;
    let expr = promql::parse(text("query"))?;
    let kind = match expr.value_type() {
        promql_parser::parser::value::ValueType::Matrix => "range vector",
        promql_parser::parser::value::ValueType::String => "string",
        _ => return Ok(json::success(&promql::range(store, &expr, (start, end), step)?, end)),
    };
    Err(Error::BadData(format!(
        "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
    )))
}

fn invalid(name: &str, said: impl fmt::Display) -> Error {
    Error::BadData(format!("invalid parameter \"{name}\": {said}"))
}

fn check_timeout(params: &BTreeMap<&str, &str>) -> Result<(), Error> {
    params.get("timeout").map_or(Ok(()), |text| duration("timeout", text).map(|_| ()))
}

/// An instant: seconds since the epoch, or as RFC 3339 has it.
#[expect(clippy::cast_possible_truncation, reason = "as Prometheus does it; it saturates")]
fn time(text: &str) -> Result<Millis, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        let fraction = (seconds.fract() * 1000.0).round() / 1000.0;
        let fraction = (fraction * 1e9) as i64;
        return Ok((seconds as i64).saturating_mul(1000).saturating_add(fraction / 1_000_000));
    }
    let parsed = text.parse::<Timestamp>().map(Timestamp::as_millisecond);
    parsed.map_err(|_| format!("cannot parse {text:?} to a valid timestamp"))
}

/// A duration: seconds, or with units.
#[expect(clippy::cast_possible_truncation, reason = "as Prometheus does it; it saturates")]
fn duration(name: &str, text: &str) -> Result<Millis, Error> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok((seconds * 1e9) as i64 / 1_000_000);
    }
    // The parser of durations takes none for 0, as queries may have none of 0.
    if ["0s", "0m", "0h", "0d", "0ms"].contains(&text) {
        return Ok(0);
    }
    let parsed = promql_parser::util::parse_duration(text);
    let cannot = |_| invalid(name, format_args!("cannot parse {text:?} to a valid duration"));
    let parsed = parsed.map_err(cannot)?;
    Ok(Millis::try_from(parsed.as_millis()).unwrap_or(Millis::MAX))
}
