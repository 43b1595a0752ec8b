//! Aggregations over instant vectors.

use std::collections::HashMap;

use promql_parser::parser::token::{
    T_AVG, T_BOTTOMK, T_COUNT, T_COUNT_VALUES, T_GROUP, T_MAX, T_MIN, T_QUANTILE, T_STDDEV,
    T_STDVAR, T_SUM, T_TOPK, TokenId,
};
use promql_parser::parser::{AggregateExpr, Expr, LabelModifier};

use super::over_time::quantile;
use super::{Error, Eval, Sample, unknown};
use crate::json::plain;
use crate::labels::{Labels, NAME};
use crate::store::Millis;

impl Eval<'_> {
    /// One sample of each group, or for `topk` and `bottomk` some of each.
    pub fn aggregate(&self, aggregate: &AggregateExpr, at: Millis) -> Result<Vec<Sample>, Error> {
        let op = aggregate.op.id();
        let param = aggregate.param.as_deref();
        let mut samples = self.vector(&aggregate.expr, at)?;
        let mut added: Option<&str> = None;
        if op == T_COUNT_VALUES {
            let Some(Expr::StringLiteral(label)) = param.map(unwrapped) else {
                return Err(unknown("count_values without a label"));
            };
            for sample in &mut samples {
                sample.labels = sample.labels.with(&label.val, &plain(sample.value));
            }
            added = Some(&label.val);
        }
        let keeps = matches!(op, T_TOPK | T_BOTTOMK);
        let number = match param {
            Some(param) if op != T_COUNT_VALUES => self.scalar(param, at)?,
            _ => f64::NAN,
        };
        let number = if keeps { whole(number)? } else { number };
        if keeps && number < 1.0 {
            return Ok(Vec::new());
        }
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut groups: Vec<(Labels, Vec<Sample>)> = Vec::new();
        for sample in samples {
            let key = grouped(&sample.labels, aggregate.modifier.as_ref(), added);
            let place = *places.entry(key.clone()).or_insert(groups.len());
            if place == groups.len() {
                groups.push((key, Vec::new()));
            }
            if let Some((_, group)) = groups.get_mut(place) {
                group.push(sample);
            }
        }
        if keeps {
            let some = groups.into_iter().flat_map(|(_, group)| best(op == T_TOPK, number, group));
            return Ok(some.map(|sample| Sample { at, ..sample }).collect());
        }
        groups
            .into_iter()
            .map(|(labels, group)| {
                let values: Vec<f64> = group.iter().map(|sample| sample.value).collect();
                Ok(Sample { labels, value: of(op, number, &values)?, at })
            })
            .collect()
    }
}

/// What is in the parentheses.
pub fn unwrapped(expr: &Expr) -> &Expr {
    match expr {
        Expr::Paren(inner) => unwrapped(&inner.expr),
        expr => expr,
    }
}

fn grouped(labels: &Labels, modifier: Option<&LabelModifier>, added: Option<&str>) -> Labels {
    let added = |name: &str| added == Some(name);
    match modifier {
        None => labels.filtered(added),
        Some(LabelModifier::Include(of)) => {
            labels.filtered(|name| added(name) || of.labels.iter().any(|own| own == name))
        }
        Some(LabelModifier::Exclude(of)) => {
            labels.filtered(|name| name != NAME && !of.labels.iter().any(|own| own == name))
        }
    }
}

/// The number of samples that `topk` is asked for.
fn whole(number: f64) -> Result<f64, Error> {
    if number.is_nan() || number.abs() >= 9_223_372_036_854_775_808.0 {
        let said = format!("Scalar value {} overflows int64", plain(number));
        return Err(Error::Execution(said));
    }
    Ok(number.trunc())
}

/// The largest or smallest, best first. Of equals those that came first stay, in the order of a heap
/// that is built and sorted as Prometheus does it.
fn best(largest: bool, k: f64, group: Vec<Sample>) -> Vec<Sample> {
    let less = |a: &Sample, b: &Sample| worse(largest, a, b);
    let mut heap: Vec<Sample> = Vec::new();
    for sample in group {
        #[expect(clippy::cast_precision_loss, reason = "a few samples")]
        let full = heap.len() as f64 >= k;
        if full && !less(&heap[0], &sample) {
            continue;
        }
        if full {
            pop(&mut heap, less);
        }
        heap.push(sample);
        let mut child = heap.len() - 1;
        while child > 0 && less(&heap[child], &heap[(child - 1) / 2]) {
            heap.swap(child, (child - 1) / 2);
            child = (child - 1) / 2;
        }
    }
    sorted(largest, heap)
}

fn worse(largest: bool, a: &Sample, b: &Sample) -> bool {
    a.value.is_nan() || if largest { a.value < b.value } else { a.value > b.value }
}

/// From the largest on, or from the smallest on; what is no number comes last. Go sorts up to twelve
/// by insertion, as this does; more of them it may put elsewhere among their equals.
pub fn sorted(largest: bool, mut samples: Vec<Sample>) -> Vec<Sample> {
    for i in 1..samples.len() {
        let mut j = i;
        while j > 0 && worse(largest, &samples[j - 1], &samples[j]) {
            samples.swap(j, j - 1);
            j -= 1;
        }
    }
    samples
}

/// Take the first one off a heap that is not empty.
fn pop(heap: &mut Vec<Sample>, less: impl Fn(&Sample, &Sample) -> bool) {
    heap.swap_remove(0);
    let mut parent = 0;
    loop {
        let (left, right) = (2 * parent + 1, 2 * parent + 2);
        if left >= heap.len() {
            return;
        }
        let second = heap.get(right).is_some_and(|right| less(right, &heap[left]));
        let child = if second { right } else { left };
        if !less(&heap[child], &heap[parent]) {
            return;
        }
        heap.swap(child, parent);
        parent = child;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few samples")]
fn of(op: TokenId, number: f64, values: &[f64]) -> Result<f64, Error> {
    let count = values.len() as f64;
    let extreme = |better: fn(f64, f64) -> bool| {
        let worse = |a: f64, b: &f64| if better(*b, a) || a.is_nan() { *b } else { a };
        values.iter().skip(1).fold(values.first().copied().unwrap_or(f64::NAN), worse)
    };
    Ok(match op {
        T_SUM => values.iter().copied().reduce(|a, b| a + b).unwrap_or(0.0),
        T_AVG => mean(values),
        T_COUNT | T_COUNT_VALUES => count,
        T_GROUP => 1.0,
        T_MAX => extreme(|a, b| a > b),
        T_MIN => extreme(|a, b| a < b),
        T_QUANTILE => quantile(number, values),
        T_STDVAR => variance(values),
        T_STDDEV => variance(values).sqrt(),
        _ => return Err(unknown("this aggregation")),
    })
}

/// The mean, calculated so that it can't overflow.
fn mean(values: &[f64]) -> f64 {
    let (mut mean, mut count) = (values.first().copied().unwrap_or(f64::NAN), 1.0);
    for value in values.iter().skip(1) {
        count += 1.0;
        if mean.is_infinite() {
            let alike = value.is_infinite() && (mean > 0.0) == (*value > 0.0);
            if alike || value.is_finite() {
                continue;
            }
        }
        mean += value / count - mean / count;
    }
    mean
}

fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut sum, mut count) = (values.first().copied().unwrap_or(f64::NAN), 0.0, 1.0);
    for value in values.iter().skip(1) {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        sum += delta * (value - mean);
    }
    sum / count
}
