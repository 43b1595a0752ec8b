//! PromQL as Prometheus 2.42 evaluates it, for the part of the language that this crate knows; what it
//! does not know it refuses by name.

mod aggregate;
mod binary;
mod call;
mod over_time;
mod regexes;
mod select;
#[cfg(test)]
mod tests;

use std::time::Duration;

use promql_parser::parser::{self, Expr};

use crate::labels::Labels;
use crate::store::{Millis, Series, Store};

/// How far back an instant vector looks for a sample.
const LOOKBACK: Millis = 300_000;
/// The step of subqueries that name none: Prometheus' default evaluation interval.
const SUBQUERY_STEP: Millis = 60_000;

/// What an expression evaluates to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// Text.
    String(String),
    /// One sample of each of several series.
    Vector(Vec<Sample>),
    /// Samples of each of several series.
    Matrix(Vec<Series>),
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// When it was scraped, or of when it was calculated.
    pub at: Millis,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It can't be understood, or this crate doesn't know a part of it.
    #[error("{0}")]
    BadData(String),
    /// The data don't allow it.
    #[error("{0}")]
    Execution(String),
}

/// A query's text, understood.
///
/// # Errors
/// When it can't be.
pub fn parse(query: &str) -> Result<Expr, Error> {
    if let Some(expr) = regexes::parse(query) {
        return Ok(expr);
    }
    // Where in the text it is this parser does not say.
    parser::parse(query).map_err(|said| Error::BadData(format!("1:1: parse error: {said}")))
}

/// The value of an expression at an instant.
///
/// # Errors
/// When the data don't allow it, or this crate doesn't know a part of it.
pub fn instant(store: &Store, expr: &Expr, at: Millis) -> Result<Value, Error> {
    Eval { store, start: at, end: at }.value(expr, at)
}

/// The value of an expression at `start` and every `step` after it, up to `end`.
///
/// # Errors
/// When the data don't allow it, or this crate doesn't know a part of it.
pub fn range(
    store: &Store,
    expr: &Expr,
    (start, end): (Millis, Millis),
    step: Millis,
) -> Result<Value, Error> {
    let mut series = Eval { store, start, end }.steps(expr, (start, end), step)?;
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Value::Matrix(series))
}

/// Something that is not of the language as this crate knows it.
fn unknown(what: &str) -> Error {
    Error::BadData(format!("mesh-sandbox does not know {what}"))
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// One evaluation; `start` and `end` are those of the whole query.
struct Eval<'a> {
    store: &'a Store,
    start: Millis,
    end: Millis,
}

impl Eval<'_> {
    /// The value of any expression at an instant.
    fn value(&self, expr: &Expr, at: Millis) -> Result<Value, Error> {
        match expr {
            Expr::NumberLiteral(number) => Ok(Value::Scalar(number.val)),
            Expr::StringLiteral(text) => Ok(Value::String(text.val.clone())),
            Expr::Paren(inner) => self.value(&inner.expr, at),
            Expr::Unary(inner) => match self.value(&inner.expr, at)? {
                Value::Scalar(value) => Ok(Value::Scalar(-value)),
                Value::Vector(samples) => {
                    let negated = samples.into_iter().map(|sample| Sample {
                        labels: sample.labels.nameless(),
                        value: -sample.value,
                        at,
                    });
                    distinct(negated.collect()).map(Value::Vector)
                }
                _ => Err(unknown("the negation of a range or of text")),
            },
            Expr::VectorSelector(selector) => {
                let mut samples = self.vector_selector(selector, at)?;
                samples.iter_mut().for_each(|sample| sample.at = at);
                Ok(Value::Vector(samples))
            }
            Expr::MatrixSelector(_) | Expr::Subquery(_) => {
                Ok(Value::Matrix(self.matrix(expr, at)?.series))
            }
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, at).map(Value::Vector),
            Expr::Binary(binary) => self.binary(binary, at),
            Expr::Call(call) => self.call(call, at),
            Expr::Extension(_) => Err(unknown("extensions")),
        }
    }

    fn vector(&self, expr: &Expr, at: Millis) -> Result<Vec<Sample>, Error> {
        match self.value(expr, at)? {
            Value::Vector(samples) => Ok(samples),
            _ => Err(unknown("this place for anything but an instant vector")),
        }
    }

    fn scalar(&self, expr: &Expr, at: Millis) -> Result<f64, Error> {
        match self.value(expr, at)? {
            Value::Scalar(value) => Ok(value),
            _ => Err(unknown("this place for anything but a number")),
        }
    }

    /// The values of an expression at several instants, by series, in order of first appearance.
    fn steps(
        &self,
        expr: &Expr,
        (start, end): (Millis, Millis),
        step: Millis,
    ) -> Result<Vec<Series>, Error> {
        let mut places = std::collections::HashMap::<Labels, usize>::new();
        let mut series: Vec<Series> = Vec::new();
        let mut at = start;
        while at <= end {
            let samples = match self.value(expr, at)? {
                Value::Vector(samples) => samples,
                Value::Scalar(value) => vec![Sample { labels: Labels::default(), value, at }],
                _ => return Err(unknown("a range of ranges or of texts")),
            };
            for sample in samples {
                let place = *places.entry(sample.labels.clone()).or_insert(series.len());
                if place == series.len() {
                    series.push(Series { labels: sample.labels, samples: Vec::new() });
                }
                if let Some(series) = series.get_mut(place) {
                    series.samples.push((at, sample.value));
                }
            }
            at = at.saturating_add(step.max(1));
        }
        Ok(series)
    }
}

/// Samples of which no two have the same labels.
fn distinct(samples: Vec<Sample>) -> Result<Vec<Sample>, Error> {
    let mut seen = std::collections::HashSet::with_capacity(samples.len());
    if samples.iter().all(|sample| seen.insert(&sample.labels)) {
        return Ok(samples);
    }
    Err(Error::Execution("vector cannot contain metrics with the same labelset".to_owned()))
}
