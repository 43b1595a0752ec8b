//! Time series in memory: samples at the instants of scrapes, bounded in age and number.

use std::collections::{BTreeMap, HashMap};

use crate::labels::{Labels, NAME};

/// Milliseconds since the epoch.
pub type Millis = i64;

/// The bits of the NaN that says: the series has ended here.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// The value that ends a series.
#[must_use]
pub fn stale() -> f64 {
    f64::from_bits(STALE)
}

/// Whether a value ends a series.
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels, the metric's name among them.
    pub labels: Labels,
    /// When and what, in order of time.
    pub samples: Vec<(Millis, f64)>,
}

impl Series {
    /// The samples of an interval, both ends included.
    #[must_use]
    pub fn between(&self, from: Millis, to: Millis) -> &[(Millis, f64)] {
        let start = self.samples.partition_point(|(at, _)| *at < from);
        let end = self.samples.partition_point(|(at, _)| *at <= to);
        self.samples.get(start..end).unwrap_or_default()
    }
}

/// Why a sample can't be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not newer than the series' last one.
    #[error("out of order sample")]
    OutOfOrder,
    /// There are as many series as may be.
    #[error("too many series")]
    TooManySeries,
}

/// Where a series lies in a store; a guess, until it is looked up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place(usize);

/// All series by their labels, which is the order in which Prometheus has them.
#[derive(Debug, Clone)]
pub struct Store {
    /// By the metric's name.
    named: HashMap<String, BTreeMap<Labels, usize>>,
    kept: Vec<Series>,
    /// Those of `kept` that are no longer in use.
    free: Vec<usize>,
    retention: Millis,
    most_series: usize,
}

impl Store {
    /// An empty one that keeps samples for so many milliseconds, of at most so many series.
    #[must_use]
    pub fn new(retention: Millis, most_series: usize) -> Self {
        let (named, kept, free) = (HashMap::new(), Vec::new(), Vec::new());
        Self { named, kept, free, retention, most_series }
    }

    /// Add a sample.
    ///
    /// # Errors
    /// When it comes too late, or is of one series too many.
    pub fn append(&mut self, labels: &Labels, at: Millis, value: f64) -> Result<(), Refused> {
        self.append_at(&mut Place::default(), labels, at, value)
    }

    /// Add a sample to a series that is looked up only if it isn't at its place, which is then told.
    ///
    /// # Errors
    /// When it comes too late, or is of one series too many.
    pub fn append_at(
        &mut self,
        place: &mut Place,
        labels: &Labels,
        at: Millis,
        value: f64,
    ) -> Result<(), Refused> {
        let there = self.kept.get(place.0);
        if there.is_none_or(|series| series.samples.is_empty() || series.labels != *labels) {
            let named = self.named.get(labels.get(NAME));
            match named.and_then(|named| named.get(labels)) {
                Some(found) => *place = Place(*found),
                None => *place = self.begin(labels)?,
            }
        }
        let Some(series) = self.kept.get_mut(place.0) else { return Ok(()) };
        if series.samples.last().is_some_and(|(last, _)| *last >= at) {
            return Err(Refused::OutOfOrder);
        }
        series.samples.push((at, value));
        Ok(())
    }

    /// A new series.
    fn begin(&mut self, labels: &Labels) -> Result<Place, Refused> {
        if self.kept.len() - self.free.len() >= self.most_series {
            return Err(Refused::TooManySeries);
        }
        let place = self.free.pop().unwrap_or(self.kept.len());
        let series = Series { labels: labels.clone(), samples: Vec::new() };
        match self.kept.get_mut(place) {
            Some(free) => *free = series,
            None => self.kept.push(series),
        }
        let named = self.named.entry(labels.get(NAME).to_owned()).or_default();
        named.insert(labels.clone(), place);
        Ok(Place(place))
    }

    /// Forget the samples that are too old at this instant, and series that have none left.
    pub fn forget(&mut self, now: Millis) {
        let oldest = now.saturating_sub(self.retention);
        let (kept, free) = (&mut self.kept, &mut self.free);
        for named in self.named.values_mut() {
            named.retain(|_, place| {
                let Some(series) = kept.get_mut(*place) else { return false };
                let old = series.samples.partition_point(|(at, _)| *at < oldest);
                series.samples.drain(..old);
                if series.samples.is_empty() {
                    free.push(*place);
                }
                !series.samples.is_empty()
            });
        }
        self.named.retain(|_, named| !named.is_empty());
    }

    /// All series, or those of one name.
    #[must_use]
    pub fn series(&self, name: Option<&str>) -> Vec<&Series> {
        let at = |place: &usize| self.kept.get(*place);
        if let Some(name) = name {
            let named = self.named.get(name).into_iter().flat_map(BTreeMap::values);
            return named.filter_map(at).collect();
        }
        let places = self.named.values().flat_map(BTreeMap::values);
        let mut all: Vec<&Series> = places.filter_map(at).collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Labels {
        Labels::from_iter([(NAME, name)])
    }

    #[test]
    fn everything_is_bounded() {
        let mut store = Store::new(1000, 2);
        assert_eq!(store.append(&of("a"), 10, 1.0), Ok(()));
        assert_eq!(store.append(&of("a"), 10, 2.0), Err(Refused::OutOfOrder));
        assert_eq!(store.append(&of("b"), 500, 1.0), Ok(()));
        assert_eq!(store.append(&of("c"), 500, 1.0), Err(Refused::TooManySeries));
        store.forget(1200);
        assert_eq!(store.append(&of("c"), 1200, 1.0), Ok(()), "a has gone");
        let names: Vec<_> = store.series(None).iter().map(|s| s.labels.get(NAME)).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(store.series(Some("c")).len(), 1);
        assert_eq!(store.series(Some("a")).len(), 0);
    }

    #[test]
    fn both_ends_belong_to_an_interval() {
        let samples = [10, 20, 30].map(|at| (at, 0.0)).to_vec();
        let series = Series { labels: of("a"), samples };
        assert_eq!(series.between(10, 20).len(), 2);
        assert_eq!(series.between(11, 29).len(), 1);
        assert_eq!(series.between(31, 9).len(), 0);
        assert!(is_stale(stale()) && !is_stale(f64::NAN));
    }
}
