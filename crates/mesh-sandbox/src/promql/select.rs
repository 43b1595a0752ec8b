//! From the store: what selectors and subqueries take of it.

use std::collections::HashMap;
use std::time::SystemTime;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{AtModifier, Expr, Offset, VectorSelector};

use super::{Error, Eval, LOOKBACK, SUBQUERY_STEP, Sample, millis, unknown};
use crate::labels::NAME;
use crate::store::{Millis, Series, is_stale};

/// What a range selector or subquery gives a function.
pub struct Matrix {
    /// Samples of each series that has any, none of them an end of one.
    pub series: Vec<Series>,
    /// Start of the range.
    pub from: Millis,
    /// End of the range.
    pub to: Millis,
}

/// A time as the parser has it.
fn since_epoch(time: SystemTime) -> Millis {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => -millis(before.duration()),
    }
}

fn offset(offset: Option<&Offset>) -> Millis {
    match offset {
        None => 0,
        Some(Offset::Pos(back)) => millis(*back),
        Some(Offset::Neg(ahead)) => -millis(*ahead),
    }
}

impl Eval<'_> {
    fn moment(&self, pinned: Option<&AtModifier>, back: Option<&Offset>, at: Millis) -> Millis {
        let at = match pinned {
            None => at,
            Some(AtModifier::Start) => self.start,
            Some(AtModifier::End) => self.end,
            Some(AtModifier::At(time)) => since_epoch(*time),
        };
        at.saturating_sub(offset(back))
    }

    /// The series that a selector names.
    fn selected(&self, selector: &VectorSelector) -> Result<Vec<&Series>, Error> {
        if !selector.matchers.or_matchers.is_empty() {
            return Err(unknown("matchers that are joined by or"));
        }
        let matchers = &selector.matchers.matchers;
        let equal = matchers.iter().find(|m| m.name == NAME && m.op == MatchOp::Equal);
        let name = selector.name.as_deref().or(equal.map(|m| m.value.as_str()));
        // Few values occur in many series; regular expressions are slow.
        let mut known: Vec<(&Matcher, HashMap<&str, bool>)> =
            matchers.iter().map(|matcher| (matcher, HashMap::new())).collect();
        let mut found: Vec<&Series> = Vec::new();
        for series in self.store.series(name) {
            let matches = known.iter_mut().all(|(matcher, known)| {
                let value = series.labels.get(&matcher.name);
                *known.entry(value).or_insert_with(|| matcher.is_match(value))
            });
            if matches {
                found.push(series);
            }
        }
        Ok(found)
    }

    /// The last sample of each series, with the instant of its scrape.
    pub fn vector_selector(
        &self,
        selector: &VectorSelector,
        at: Millis,
    ) -> Result<Vec<Sample>, Error> {
        let at = self.moment(selector.at.as_ref(), selector.offset.as_ref(), at);
        let last = self.selected(selector)?.into_iter().filter_map(|series| {
            let (at, value) = *series.between(at.saturating_sub(LOOKBACK), at).last()?;
            let labels = series.labels.clone();
            (!is_stale(value)).then_some(Sample { labels, value, at })
        });
        Ok(last.collect())
    }

    /// What a range selector or a subquery, perhaps in parentheses, gives.
    pub fn matrix(&self, expr: &Expr, at: Millis) -> Result<Matrix, Error> {
        match expr {
            Expr::Paren(inner) => self.matrix(&inner.expr, at),
            Expr::MatrixSelector(selector) => {
                let to = self.moment(selector.vs.at.as_ref(), selector.vs.offset.as_ref(), at);
                let from = to.saturating_sub(millis(selector.range));
                let series = self.selected(&selector.vs)?.into_iter().map(|series| {
                    let samples = series.between(from, to).iter().copied();
                    let samples = samples.filter(|(_, value)| !is_stale(*value)).collect();
                    Series { labels: series.labels.clone(), samples }
                });
                let series = series.filter(|series| !series.samples.is_empty()).collect();
                Ok(Matrix { series, from, to })
            }
            Expr::Subquery(subquery) => {
                let to = self.moment(subquery.at.as_ref(), subquery.offset.as_ref(), at);
                let from = to.saturating_sub(millis(subquery.range));
                let step = subquery.step.map_or(SUBQUERY_STEP, millis).max(1);
                // Steps lie on multiples of themselves.
                let first = from.div_euclid(step) * step;
                let first = if first < from { first + step } else { first };
                let series = self.steps(&subquery.expr, (first, to), step)?;
                Ok(Matrix { series, from, to })
            }
            _ => Err(unknown("this place for anything but a range")),
        }
    }
}
