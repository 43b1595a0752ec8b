//! Functions.

use std::collections::HashMap;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{Call, Expr};
use regex::Regex;

use super::aggregate::{sorted, unwrapped};
use super::over_time::{Range, bucket_quantile, over_time};
use super::{Error, Eval, Sample, Value, distinct, unknown};
use crate::labels::{Labels, NAME};
use crate::store::Millis;

#[expect(clippy::cast_precision_loss, reason = "milliseconds are exact in f64")]
fn seconds(at: Millis) -> f64 {
    at as f64 / 1000.0
}

/// A function of one number.
fn pointwise(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        "sqrt" => f64::sqrt,
        _ => return None,
    })
}

impl Eval<'_> {
    /// What a function gives.
    pub fn call(&self, call: &Call, at: Millis) -> Result<Value, Error> {
        let name = call.func.name;
        let args: Vec<&Expr> = call.args.args.iter().map(|arg| &**arg).collect();
        if let Some(function) = over_time(name) {
            // Where a function has a number too, the range is at the other end.
            let (range, number) = match args.as_slice() {
                [range] => (*range, f64::NAN),
                [number, range] if name == "quantile_over_time" => {
                    (*range, self.scalar(number, at)?)
                }
                [range, number] => (*range, self.scalar(number, at)?),
                _ => return Err(unknown(&format!("these arguments of {name}"))),
            };
            let matrix = self.matrix(range, at)?;
            let over = Range::of(&matrix, at, number);
            let samples = matrix.series.into_iter().filter_map(|series| {
                let value = function(&series.samples, &over)?;
                let keeps_name = name == "last_over_time";
                let labels = if keeps_name { series.labels } else { series.labels.nameless() };
                Some(Sample { labels, value, at })
            });
            return distinct(samples.collect()).map(Value::Vector);
        }
        if let (Some(function), [arg]) = (pointwise(name), args.as_slice()) {
            return self.mapped(arg, at, |sample| function(sample.value));
        }
        match (name, args.as_slice()) {
            ("time", []) => Ok(Value::Scalar(seconds(at))),
            ("vector", [arg]) => {
                let value = self.scalar(arg, at)?;
                Ok(Value::Vector(vec![Sample { labels: Labels::default(), value, at }]))
            }
            ("scalar", [arg]) => Ok(Value::Scalar(match self.vector(arg, at)?.as_slice() {
                [only] => only.value,
                _ => f64::NAN,
            })),
            ("timestamp", [arg]) => self.timestamp(arg, at),
            ("absent", [arg]) => {
                let present = !self.vector(arg, at)?.is_empty();
                Ok(absent(arg, present, at))
            }
            ("absent_over_time", [arg]) => {
                let present = !self.matrix(arg, at)?.series.is_empty();
                Ok(absent(arg, present, at))
            }
            ("clamp", [arg, min, max]) => {
                let (min, max) = (self.scalar(min, at)?, self.scalar(max, at)?);
                let clamped = self.mapped(arg, at, |s| larger(min, smaller(max, s.value)))?;
                Ok(if max < min { Value::Vector(Vec::new()) } else { clamped })
            }
            ("clamp_max", [arg, max]) => {
                let max = self.scalar(max, at)?;
                self.mapped(arg, at, |s| smaller(max, s.value))
            }
            ("clamp_min", [arg, min]) => {
                let min = self.scalar(min, at)?;
                self.mapped(arg, at, |s| larger(min, s.value))
            }
            ("round", [arg, rest @ ..]) => {
                let to = rest.first().map_or(Ok(1.0), |to| self.scalar(to, at))?;
                let inverse = 1.0 / to;
                self.mapped(arg, at, |s| (s.value * inverse + 0.5).floor() / inverse)
            }
            ("sort" | "sort_desc", [arg]) => {
                let samples = self.vector(arg, at)?;
                Ok(Value::Vector(sorted(name == "sort_desc", samples)))
            }
            ("histogram_quantile", [q, arg]) => {
                let q = self.scalar(q, at)?;
                distinct(histograms(q, self.vector(arg, at)?, at)).map(Value::Vector)
            }
            ("label_replace", [arg, texts @ ..]) => {
                let texts = self.texts(texts, at)?;
                let [target, replacement, source, regex] = texts.as_slice() else {
                    return Err(unknown("these arguments of label_replace"));
                };
                let samples = self.vector(arg, at)?;
                replaced(samples, target, replacement, source, regex).map(Value::Vector)
            }
            ("label_join", [arg, texts @ ..]) => {
                let texts = self.texts(texts, at)?;
                let [target, separator, sources @ ..] = texts.as_slice() else {
                    return Err(unknown("these arguments of label_join"));
                };
                let joined = self.vector(arg, at)?.into_iter().map(|sample| {
                    let values: Vec<&str> = sources.iter().map(|s| sample.labels.get(s)).collect();
                    let labels = sample.labels.with(target, &values.join(separator));
                    Sample { labels, ..sample }
                });
                distinct(joined.collect()).map(Value::Vector)
            }
            _ => Err(unknown(&format!("the function {name}"))),
        }
    }

    fn mapped(
        &self,
        arg: &Expr,
        at: Millis,
        function: impl Fn(&Sample) -> f64,
    ) -> Result<Value, Error> {
        let samples = self.vector(arg, at)?.into_iter().map(|sample| Sample {
            value: function(&sample),
            labels: sample.labels.nameless(),
            at,
        });
        distinct(samples.collect()).map(Value::Vector)
    }

    /// Of a selector the instants of the scrapes, of anything else that of the evaluation.
    fn timestamp(&self, arg: &Expr, at: Millis) -> Result<Value, Error> {
        let samples = match arg {
            Expr::Paren(inner) => return self.timestamp(&inner.expr, at),
            Expr::VectorSelector(selector) => self.vector_selector(selector, at)?,
            arg => self.vector(arg, at)?,
        };
        let times = samples.into_iter().map(|sample| Sample {
            labels: sample.labels.nameless(),
            value: seconds(sample.at),
            at,
        });
        distinct(times.collect()).map(Value::Vector)
    }

    fn texts(&self, args: &[&Expr], at: Millis) -> Result<Vec<String>, Error> {
        let text = |arg: &&Expr| match self.value(arg, at)? {
            Value::String(text) => Ok(text),
            _ => Err(unknown("this place for anything but text")),
        };
        args.iter().map(text).collect()
    }
}

/// Go's `math.Min`: NaN if either is, but for what nothing is below.
fn smaller(a: f64, b: f64) -> f64 {
    let either = a == f64::NEG_INFINITY || b == f64::NEG_INFINITY;
    if !either && (a.is_nan() || b.is_nan()) { f64::NAN } else { a.min(b) }
}

/// Go's `math.Max`: NaN if either is, but for what nothing is above.
fn larger(a: f64, b: f64) -> f64 {
    -smaller(-a, -b)
}

/// One sample if nothing is present, with the labels that were asked for.
fn absent(arg: &Expr, present: bool, at: Millis) -> Value {
    if present {
        return Value::Vector(Vec::new());
    }
    let matchers: &[Matcher] = match unwrapped(arg) {
        Expr::VectorSelector(selector) => &selector.matchers.matchers,
        Expr::MatrixSelector(selector) => &selector.vs.matchers.matchers,
        _ => &[],
    };
    let mut told: HashMap<&str, &str> = HashMap::new();
    for matcher in matchers.iter().filter(|matcher| matcher.name != NAME) {
        let new = matcher.op == MatchOp::Equal && !told.contains_key(&*matcher.name);
        told.insert(&matcher.name, if new { &matcher.value } else { "" });
    }
    Value::Vector(vec![Sample { labels: told.into_iter().collect(), value: 1.0, at }])
}

/// A quantile of each histogram.
fn histograms(q: f64, samples: Vec<Sample>, at: Millis) -> Vec<Sample> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut found: Vec<(Labels, Vec<(f64, f64)>)> = Vec::new();
    for sample in samples {
        // The parser takes what Go's does: Inf, +Inf, 1e3.
        let Ok(boundary) = sample.labels.get("le").parse::<f64>() else { continue };
        let key = sample.labels.filtered(|name| name != "le");
        let place = *places.entry(key.clone()).or_insert(found.len());
        if place == found.len() {
            found.push((key.nameless(), Vec::new()));
        }
        if let Some((_, buckets)) = found.get_mut(place) {
            buckets.push((boundary, sample.value));
        }
    }
    let quantile = |(labels, buckets)| Sample { labels, value: bucket_quantile(q, buckets), at };
    found.into_iter().map(quantile).collect()
}

fn replaced(
    samples: Vec<Sample>,
    target: &str,
    replacement: &str,
    source: &str,
    regex: &str,
) -> Result<Vec<Sample>, Error> {
    let refused =
        |what: &str, of: &str| Error::Execution(format!("invalid {what} in label_replace(): {of}"));
    let anchored =
        Regex::new(&format!("^(?:{regex})$")).map_err(|_| refused("regular expression", regex))?;
    let is_name =
        |i: usize, c: char| c == '_' || c.is_ascii_alphabetic() || i > 0 && c.is_ascii_digit();
    if target.is_empty() || !target.chars().enumerate().all(|(i, c)| is_name(i, c)) {
        return Err(refused("destination label name", target));
    }
    let each = samples.into_iter().map(|sample| {
        let Some(found) = anchored.captures(sample.labels.get(source)) else { return sample };
        let mut value = String::new();
        found.expand(replacement, &mut value);
        Sample { labels: sample.labels.with(target, &value), ..sample }
    });
    distinct(each.collect())
}
