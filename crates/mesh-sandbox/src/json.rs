//! Bodies as Prometheus writes them.

use std::fmt::Write;

use crate::labels::Labels;
use crate::promql::Value;
use crate::store::Millis;

/// A number as Go's `strconv.FormatFloat(v, 'f', -1, 64)` writes it.
#[must_use]
pub fn plain(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        // Rust's shortest form has no exponent either.
        format!("{value}")
    }
}

/// A sample's value: with an exponent where it is very large or very small.
fn value(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 || (1e-6..1e21).contains(&size) {
        return plain(value);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

fn instant(at: Millis) -> String {
    let (sign, at) = (if at < 0 { "-" } else { "" }, at.unsigned_abs());
    match at % 1000 {
        0 => format!("{sign}{}", at / 1000),
        fraction => format!("{sign}{}.{fraction:03}", at / 1000),
    }
}

/// An instant as a number like any other, which is how it comes with scalars.
#[expect(clippy::cast_precision_loss, reason = "milliseconds are exact in f64")]
fn seconds(at: Millis) -> String {
    plain(at as f64 / 1000.0)
}

/// Text as Go's JSON has it, which escapes what HTML would take for its own.
fn text(text: &str) -> String {
    let mut json = serde_json::Value::from(text).to_string();
    for (c, escaped) in [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
        ('\u{8}', "\\u0008"),
        ('\u{c}', "\\u000c"),
    ] {
        json = json.replace(c, escaped);
    }
    json
}

fn metric(labels: &Labels) -> String {
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{}:{}", text(name), text(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn point(at: Millis, v: f64) -> String {
    format!("[{},\"{}\"]", instant(at), value(v))
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(","))
}

/// The body of an answer to a query that was evaluated at an instant.
#[must_use]
pub fn success(found: &Value, at: Millis) -> String {
    let (kind, result) = match found {
        Value::Scalar(v) => ("scalar", format!("[{},\"{}\"]", seconds(at), plain(*v))),
        Value::String(s) => ("string", format!("[{},{}]", seconds(at), text(s))),
        Value::Vector(samples) => (
            "vector",
            list(samples, |sample| {
                let (metric, value) = (metric(&sample.labels), point(at, sample.value));
                format!("{{\"metric\":{metric},\"value\":{value}}}")
            }),
        ),
        Value::Matrix(series) => (
            "matrix",
            list(series, |series| {
                let values = list(&series.samples, |(at, value)| point(*at, *value));
                format!("{{\"metric\":{},\"values\":{values}}}", metric(&series.labels))
            }),
        ),
    };
    let mut body = String::from("{\"status\":\"success\",\"data\":{");
    // Writing to a String can't fail.
    let _ = write!(body, "\"resultType\":\"{kind}\",\"result\":{result}}}}}");
    body
}

/// The body of a refusal.
#[must_use]
pub fn error(kind: &str, message: &str) -> String {
    let message = text(message);
    format!("{{\"status\":\"error\",\"errorType\":\"{kind}\",\"error\":{message}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_gos() {
        for (number, shown) in [
            (1.0, "1"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (1e-6, "0.000001"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(value(number), shown);
        }
        assert_eq!(instant(1_767_225_600_050), "1767225600.050");
        assert_eq!(instant(-1500), "-1.500");
        assert_eq!(text("a<\"b\u{7}"), "\"a\\u003c\\\"b\\u0007\"");
    }
}
