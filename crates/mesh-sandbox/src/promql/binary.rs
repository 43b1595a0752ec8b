//! Operators between two expressions.

use std::collections::{HashMap, HashSet};

use promql_parser::parser::token::{
    T_ADD, T_DIV, T_EQLC, T_GTE, T_GTR, T_LAND, T_LOR, T_LSS, T_LTE, T_LUNLESS, T_MOD, T_MUL,
    T_NEQ, T_POW, T_SUB, TokenId,
};
use promql_parser::parser::{
    BinModifier, BinaryExpr, LabelModifier, VectorMatchCardinality, VectorMatchFillValues,
};

use super::{Error, Eval, Sample, Value, distinct, unknown};
use crate::labels::{Labels, NAME};
use crate::store::Millis;

/// What an operator makes of two numbers: a value, and for comparisons whether it holds.
fn apply(op: TokenId, l: f64, r: f64) -> Result<(f64, bool), Error> {
    #[expect(clippy::float_cmp, reason = "that is what the operators compare")]
    let result = match op {
        T_ADD => (l + r, true),
        T_SUB => (l - r, true),
        T_MUL => (l * r, true),
        T_DIV => (l / r, true),
        T_MOD => (l % r, true),
        T_POW => (l.powf(r), true),
        T_EQLC => (l, l == r),
        T_NEQ => (l, l != r),
        T_GTR => (l, l > r),
        T_LSS => (l, l < r),
        T_GTE => (l, l >= r),
        T_LTE => (l, l <= r),
        _ => return Err(unknown("this operator")),
    };
    Ok(result)
}

fn compares(op: TokenId) -> bool {
    matches!(op, T_EQLC | T_NEQ | T_GTR | T_LSS | T_GTE | T_LTE)
}

fn flag(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// By which labels the two sides are matched.
struct Matching<'a> {
    on: bool,
    labels: &'a [String],
}

impl Matching<'_> {
    fn names(&self, name: &str) -> bool {
        self.labels.iter().any(|own| own == name)
    }

    fn key(&self, labels: &Labels) -> Labels {
        if self.on {
            return labels.filtered(|name| self.names(name));
        }
        labels.filtered(|name| name != NAME && !self.names(name))
    }
}

impl Eval<'_> {
    /// The value of an operator's expression.
    pub fn binary(&self, binary: &BinaryExpr, at: Millis) -> Result<Value, Error> {
        let none = BinModifier::default();
        let modifier = binary.modifier.as_ref().unwrap_or(&none);
        if modifier.fill_values != VectorMatchFillValues::default() {
            return Err(unknown("fill"));
        }
        let (op, bool) = (binary.op.id(), modifier.return_bool);
        match (self.value(&binary.lhs, at)?, self.value(&binary.rhs, at)?) {
            (Value::Scalar(l), Value::Scalar(r)) => {
                let (value, holds) = apply(op, l, r)?;
                Ok(Value::Scalar(if compares(op) { flag(holds) } else { value }))
            }
            (Value::Vector(l), Value::Scalar(r)) => {
                let each = l.into_iter().map(|s| (apply(op, s.value, r), s.value, s));
                with_scalar(op, bool, each)
            }
            (Value::Scalar(l), Value::Vector(r)) => {
                let each = r.into_iter().map(|s| (apply(op, l, s.value), s.value, s));
                with_scalar(op, bool, each)
            }
            (Value::Vector(l), Value::Vector(r)) => {
                let matching = match &modifier.matching {
                    Some(LabelModifier::Include(of)) => Matching { on: true, labels: &of.labels },
                    Some(LabelModifier::Exclude(of)) => Matching { on: false, labels: &of.labels },
                    None => Matching { on: false, labels: &[] },
                };
                match op {
                    T_LAND => Ok(Value::Vector(filtered(l, &r, &matching, true))),
                    T_LUNLESS => Ok(Value::Vector(filtered(l, &r, &matching, false))),
                    T_LOR => distinct(either(l, r, &matching)).map(Value::Vector),
                    _ => pairs(op, l, r, modifier, &matching).and_then(distinct).map(Value::Vector),
                }
            }
            _ => Err(unknown("operators between ranges or texts")),
        }
    }
}

/// Each sample with what the operator made of it and what it was.
fn with_scalar(
    op: TokenId,
    bool: bool,
    each: impl Iterator<Item = (Result<(f64, bool), Error>, f64, Sample)>,
) -> Result<Value, Error> {
    let mut samples = Vec::new();
    for (result, own, mut sample) in each {
        let (value, holds) = result?;
        sample.value = match (compares(op), bool) {
            (false, _) => value,
            (true, true) => flag(holds),
            (true, false) if holds => own,
            (true, false) => continue,
        };
        if bool || !compares(op) {
            sample.labels = sample.labels.nameless();
        }
        samples.push(sample);
    }
    distinct(samples).map(Value::Vector)
}

fn filtered(l: Vec<Sample>, r: &[Sample], by: &Matching, present: bool) -> Vec<Sample> {
    let keys: HashSet<Labels> = r.iter().map(|sample| by.key(&sample.labels)).collect();
    l.into_iter().filter(|sample| keys.contains(&by.key(&sample.labels)) == present).collect()
}

fn either(l: Vec<Sample>, r: Vec<Sample>, by: &Matching) -> Vec<Sample> {
    let keys: HashSet<Labels> = l.iter().map(|sample| by.key(&sample.labels)).collect();
    let new = r.into_iter().filter(|sample| !keys.contains(&by.key(&sample.labels)));
    l.into_iter().chain(new).collect()
}

/// Arithmetic and comparison of two vectors.
fn pairs(
    op: TokenId,
    l: Vec<Sample>,
    r: Vec<Sample>,
    modifier: &BinModifier,
    by: &Matching,
) -> Result<Vec<Sample>, Error> {
    let refused = |said: String| Err(Error::Execution(said));
    if l.is_empty() || r.is_empty() {
        return Ok(Vec::new());
    }
    let swapped = matches!(modifier.card, VectorMatchCardinality::OneToMany(_));
    let one_to_one = modifier.card == VectorMatchCardinality::OneToOne;
    // The many are on the left from here on.
    let (many, one) = if swapped { (r, l) } else { (l, r) };
    let mut ones: HashMap<Labels, &Sample> = HashMap::with_capacity(one.len());
    for sample in &one {
        let key = by.key(&sample.labels);
        if let Some(other) = ones.insert(key, sample) {
            let side = if swapped { "left" } else { "right" };
            return refused(format!(
                "found duplicate series for the match group {} on the {side} hand-side of the \
                 operation: [{}, {}];many-to-many matching not allowed: matching labels must be \
                 unique on one side",
                by.key(&sample.labels),
                sample.labels,
                other.labels
            ));
        }
    }
    let mut taken: HashMap<Labels, HashSet<Labels>> = HashMap::new();
    let mut samples = Vec::new();
    for sample in many {
        let key = by.key(&sample.labels);
        let Some(other) = ones.get(&key) else { continue };
        let (l, r) =
            if swapped { (other.value, sample.value) } else { (sample.value, other.value) };
        let (mut value, holds) = apply(op, l, r)?;
        if modifier.return_bool {
            value = flag(holds);
        } else if !holds {
            continue;
        }
        let labels = result(op, &sample.labels, &other.labels, modifier, by);
        let before = taken.contains_key(&key);
        if one_to_one && before {
            return refused(
                "multiple matches for labels: many-to-one matching must be explicit \
                 (group_left/group_right)"
                    .to_owned(),
            );
        }
        if !taken.entry(key).or_default().insert(labels.clone()) && !one_to_one {
            return refused(
                "multiple matches for labels: grouping labels must ensure unique matches"
                    .to_owned(),
            );
        }
        samples.push(Sample { labels, value, at: sample.at });
    }
    Ok(samples)
}

fn result(
    op: TokenId,
    many: &Labels,
    one: &Labels,
    modifier: &BinModifier,
    by: &Matching,
) -> Labels {
    let keep_name = compares(op) && !modifier.return_bool;
    let mut labels = many.filtered(|name| {
        let matched = match &modifier.card {
            VectorMatchCardinality::OneToOne => by.names(name) == by.on,
            _ => true,
        };
        matched && (keep_name || name != NAME)
    });
    for included in modifier.card.labels().map_or(&[][..], |of| &of.labels) {
        labels = labels.with(included, one.get(included));
    }
    labels
}
