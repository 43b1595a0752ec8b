//! Latency from histogram buckets: all that is observed is how many requests were slower than each
//! boundary. Nothing of it is interpolated but the tolerance, from stable's own past.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::block::{Arm, Block, CountError, count};
use crate::vote;

/// Exceedance of stable's past that shows best that the canary is not slower.
const PASS_EXCEEDANCE: f64 = 0.05;
/// Exceedances at which a boundary may be the one that passes.
const PASS_RANGE: std::ops::RangeInclusive<f64> = 0.01..=0.25;

/// One version's requests and how many were slower than each finite boundary of a histogram.
///
/// Holds n ≥ slower\[0\] ≥ slower\[1\] ≥ … by construction, also when deserialised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u64, Vec<u64>)", into = "(u64, Vec<u64>)")]
pub struct SlowArm {
    n: u64,
    slower: Vec<u64>,
}

impl SlowArm {
    /// `n` requests, `slower[i]` of them slower than boundary i (n minus the cumulative bucket).
    ///
    /// # Errors
    /// When a count exceeds `n`, or the one at the boundary below it.
    pub fn new(n: u64, slower: Vec<u64>) -> Result<Self, CountError> {
        if let Some(k) = slower.first().filter(|k| **k > n) {
            return Err(CountError::MoreBadThanAll { n, k: *k });
        }
        match slower.windows(2).position(|pair| pair[1] > pair[0]) {
            Some(below) => Err(CountError::NotFalling { boundary: below + 1 }),
            None => Ok(Self { n, slower }),
        }
    }

    /// Nothing counted at this many boundaries.
    #[must_use]
    pub fn empty(boundaries: usize) -> Self {
        Self { n: 0, slower: vec![0; boundaries] }
    }

    /// Requests.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Requests slower than each boundary.
    #[must_use]
    pub fn slower(&self) -> &[u64] {
        &self.slower
    }

    /// The requests with those slower than one boundary as bad; `None` where there is no such
    /// boundary.
    #[must_use]
    pub fn at(&self, boundary: usize) -> Option<Arm> {
        // slower ≤ n holds: the error can't come.
        Arm::new(self.n, *self.slower.get(boundary)?).ok()
    }

    /// Add what fits: nothing where the boundaries differ or the sum overflows.
    pub(crate) fn add_within(&mut self, other: &Self) {
        if self.can_add(other) {
            self.add(other);
        }
    }

    fn can_add(&self, other: &Self) -> bool {
        // Every slower ≤ n: if the sum of n fits, all do.
        self.slower.len() == other.slower.len() && self.n.checked_add(other.n).is_some()
    }

    fn clear(&mut self) {
        self.n = 0;
        self.slower.fill(0);
    }

    fn add(&mut self, other: &Self) {
        self.n += other.n;
        for (sum, more) in self.slower.iter_mut().zip(&other.slower) {
            *sum += more;
        }
    }
}

impl TryFrom<(u64, Vec<u64>)> for SlowArm {
    type Error = CountError;

    fn try_from((n, slower): (u64, Vec<u64>)) -> Result<Self, CountError> {
        Self::new(n, slower)
    }
}

impl From<SlowArm> for (u64, Vec<u64>) {
    fn from(arm: SlowArm) -> Self {
        (arm.n, arm.slower)
    }
}

/// Both versions' latencies over one stretch of time, within one traffic weight. The boundaries are
/// the metric's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowBlock {
    canary: SlowArm,
    stable: SlowArm,
}

impl SlowBlock {
    /// A block of both arms.
    ///
    /// # Errors
    /// When they are counted at different numbers of boundaries.
    pub fn new(canary: SlowArm, stable: SlowArm) -> Result<Self, CountError> {
        let (one, two) = (canary.slower.len(), stable.slower.len());
        if one != two {
            return Err(CountError::Boundaries { canary: one, stable: two });
        }
        Ok(Self { canary, stable })
    }

    /// Nothing counted at this many boundaries.
    #[must_use]
    pub fn empty(boundaries: usize) -> Self {
        Self { canary: SlowArm::empty(boundaries), stable: SlowArm::empty(boundaries) }
    }

    /// The version under test.
    #[must_use]
    pub fn canary(&self) -> &SlowArm {
        &self.canary
    }

    /// The version it is compared with.
    #[must_use]
    pub fn stable(&self) -> &SlowArm {
        &self.stable
    }

    /// How many boundaries it is counted at.
    #[must_use]
    pub fn boundaries(&self) -> usize {
        self.canary.slower.len()
    }

    /// Nothing happened: such a block is skipped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.canary.n == 0 && self.stable.n == 0
    }

    /// The counts at one boundary as a block of bad requests.
    #[must_use]
    pub fn at(&self, boundary: usize) -> Option<Block> {
        Some(Block::new(self.canary.at(boundary)?, self.stable.at(boundary)?))
    }

    /// Add another stretch at the same boundaries. `None`, and nothing changes, when the boundaries are
    /// others or the counts overflow.
    pub fn checked_add_assign(&mut self, other: &Self) -> Option<()> {
        self.can_add(other).then(|| self.add(other))
    }

    /// Nothing counted, at the same boundaries.
    pub(crate) fn clear(&mut self) {
        self.canary.clear();
        self.stable.clear();
    }

    pub(crate) fn can_add(&self, other: &Self) -> bool {
        self.canary.can_add(&other.canary) && self.stable.can_add(&other.stable)
    }

    /// Add a block for which [`can_add`](Self::can_add) holds.
    pub(crate) fn add(&mut self, other: &Self) {
        self.canary.add(&other.canary);
        self.stable.add(&other.stable);
    }
}

/// A baseline that no exceedance can be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// Boundaries must be finite, positive and rising.
    #[error("boundary {0} is not a finite number above the one before it and above 0")]
    Boundaries(usize),
    /// One count for each boundary.
    #[error("{boundaries} boundaries but {counts} counts")]
    Length {
        /// Boundaries.
        boundaries: usize,
        /// Counts.
        counts: usize,
    },
}

/// Stable's latencies before the canary: what tolerances are read from, once, before the release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    boundaries: Vec<f64>,
    counts: SlowArm,
    #[serde(skip)]
    memo: Memo,
}

/// The margins of the slowdown that was asked for first. A release asks for one, with every block,
/// and each is a power. Says nothing that the counts don't: memos are all equal, and not stored.
#[derive(Debug, Clone, Default)]
struct Memo(OnceLock<Margins>);

/// What a baseline says of a slowdown.
#[derive(Debug, Clone)]
pub(crate) struct Margins {
    slowdown: f64,
    boundaries: Vec<Option<f64>>,
    pass: Option<(usize, f64)>,
    /// The usable boundaries, each with its margin.
    pub(crate) usable: Vec<(usize, f64)>,
    /// Those of them that windows vote on.
    pub(crate) voted: Vec<(usize, f64)>,
}

impl PartialEq for Memo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Baseline {
    /// Stable's counts at finite rising boundaries, milliseconds.
    ///
    /// # Errors
    /// When the boundaries don't rise from above 0, or are not as many as the counts.
    pub fn new(boundaries: Vec<f64>, counts: SlowArm) -> Result<Self, BaselineError> {
        if let Some(i) = not_rising(&boundaries) {
            return Err(BaselineError::Boundaries(i));
        }
        if boundaries.len() != counts.slower.len() {
            return Err(BaselineError::Length {
                boundaries: boundaries.len(),
                counts: counts.slower.len(),
            });
        }
        Ok(Self { boundaries, counts, memo: Memo::default() })
    }

    /// Finite boundaries, rising, milliseconds.
    #[must_use]
    pub fn boundaries(&self) -> &[f64] {
        &self.boundaries
    }

    /// Stable's counts at them.
    #[must_use]
    pub fn counts(&self) -> &SlowArm {
        &self.counts
    }

    /// S0 at boundary `i`: the share of requests slower than it. `None` where none was (nothing
    /// can be a multiple of it), or without requests.
    #[must_use]
    pub fn exceedance(&self, i: usize) -> Option<f64> {
        let slower = *self.counts.slower.get(i)?;
        (slower > 0).then(|| count(slower) / count(self.counts.n))
    }

    /// S0 at any `x` milliseconds, by straight lines on logarithmic axes between boundaries.
    ///
    /// `None` below the first and above the last boundary, where the histogram says nothing of the
    /// shape, and where no request was slower.
    #[must_use]
    pub fn exceedance_at(&self, x: f64) -> Option<f64> {
        let above = self.boundaries.iter().position(|b| *b >= x)?;
        let (high, share) = (*self.boundaries.get(above)?, self.exceedance(above)?);
        if high <= x {
            return Some(share);
        }
        let below = above.checked_sub(1)?;
        let (low, start) = (*self.boundaries.get(below)?, self.exceedance(below)?);
        let part = (x / low).ln() / (high / low).ln();
        Some(start * (share / start).powf(part))
    }

    /// R0 at boundary `i`: how many times as many requests may be slower than it when every request
    /// may take `slowdown` times as long, S0(x/m)/S0(x) ≥ 1.
    ///
    /// `None` where the boundary is unusable: x/m lies below the first boundary, or no request of
    /// the past was slower than x.
    #[must_use]
    pub fn margin(&self, i: usize, slowdown: f64) -> Option<f64> {
        match self.known(slowdown) {
            Some(known) => *known.boundaries.get(i)?,
            None => self.margin_of(i, slowdown),
        }
    }

    /// Whether windows vote on boundary `i` with the margin `r0`: with 1, or where so few of stable's
    /// requests were slower that `r0` times as many are a rare kind as well.
    pub(crate) fn votes(&self, i: usize, r0: f64) -> bool {
        vote::applies(r0, self.exceedance(i).unwrap_or(1.0))
    }

    fn margin_of(&self, i: usize, slowdown: f64) -> Option<f64> {
        let then = self.exceedance_at(self.boundaries.get(i)? / slowdown)?;
        Some((then / self.exceedance(i)?).max(1.0))
    }

    /// The boundary that shows that the canary is not slower, and R0 there: of the usable ones that
    /// 1 to 25% of stable's requests exceeded, the one nearest to 5%.
    ///
    /// Nearest by ratio, as the range is: 1% and 25% are equally far. R0 must be above 1, or no
    /// amount of evidence could show it.
    #[must_use]
    pub fn pass_boundary(&self, slowdown: f64) -> Option<(usize, f64)> {
        self.known(slowdown).map_or_else(|| self.pass_boundary_of(slowdown), |known| known.pass)
    }

    fn pass_boundary_of(&self, slowdown: f64) -> Option<(usize, f64)> {
        let fit = |i: usize| {
            let share = self.exceedance(i).filter(|s| PASS_RANGE.contains(s))?;
            let margin = self.margin_of(i, slowdown).filter(|r0| *r0 > 1.0)?;
            Some((i, margin, (share / PASS_EXCEEDANCE).ln().abs()))
        };
        (0..self.boundaries.len())
            .filter_map(fit)
            .min_by(|a, b| a.2.total_cmp(&b.2))
            .map(|(i, margin, _)| (i, margin))
    }

    /// `None` for another slowdown than the one asked for first.
    pub(crate) fn known(&self, slowdown: f64) -> Option<&Margins> {
        let known = self.memo.0.get_or_init(|| {
            let all = 0..self.boundaries.len();
            let boundaries: Vec<_> = all.map(|i| self.margin_of(i, slowdown)).collect();
            let usable: Vec<_> = boundaries
                .iter()
                .enumerate()
                .filter_map(|(i, margin)| Some((i, (*margin)?)))
                .collect();
            let votes = |(i, r0): &(usize, f64)| self.votes(*i, *r0);
            let voted = usable.iter().copied().filter(votes).collect();
            Margins { slowdown, boundaries, pass: self.pass_boundary_of(slowdown), usable, voted }
        });
        (known.slowdown.to_bits() == slowdown.to_bits()).then_some(known)
    }
}

/// The first boundary that is not a finite number above the one before it, and above 0.
pub(crate) fn not_rising(boundaries: &[f64]) -> Option<usize> {
    let before = std::iter::once(&0.0).chain(boundaries);
    boundaries.iter().zip(before).position(|(b, before)| !(b.is_finite() && b > before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(boundaries: &[f64], n: u64, slower: &[u64]) -> Baseline {
        Baseline::new(boundaries.to_vec(), SlowArm::new(n, slower.to_vec()).unwrap()).unwrap()
    }

    #[test]
    fn impossible_histograms_are_refused() {
        assert_eq!(SlowArm::new(5, vec![6, 1]), Err(CountError::MoreBadThanAll { n: 5, k: 6 }));
        assert_eq!(SlowArm::new(5, vec![2, 1, 2]), Err(CountError::NotFalling { boundary: 2 }));
        let one = SlowBlock::new(SlowArm::empty(1), SlowArm::empty(2));
        assert_eq!(one, Err(CountError::Boundaries { canary: 1, stable: 2 }));
        assert!(serde_json::from_str::<SlowArm>("[5, [1, 2]]").is_err());
        for bad in [vec![0.0, 1.0], vec![1.0, 1.0], vec![1.0, f64::INFINITY], vec![f64::NAN, 1.0]] {
            assert!(Baseline::new(bad, SlowArm::empty(2)).is_err());
        }
        assert!(Baseline::new(vec![1.0], SlowArm::empty(2)).is_err());
    }

    #[test]
    fn blocks_of_one_histogram_add_up() {
        let arm = |n, slower: &[u64]| SlowArm::new(n, slower.to_vec()).unwrap();
        let mut sum = SlowBlock::empty(2);
        let one = SlowBlock::new(arm(5, &[4, 1]), arm(9, &[3, 0])).unwrap();
        assert_eq!(sum.checked_add_assign(&one), Some(()));
        assert_eq!(sum.checked_add_assign(&one), Some(()));
        assert_eq!(sum, SlowBlock::new(arm(10, &[8, 2]), arm(18, &[6, 0])).unwrap());
        let before = sum.clone();
        assert_eq!(sum.checked_add_assign(&SlowBlock::empty(3)), None);
        let most = SlowBlock::new(arm(u64::MAX, &[0, 0]), arm(0, &[0, 0])).unwrap();
        assert_eq!(sum.checked_add_assign(&most), None);
        assert_eq!(sum, before);
    }

    #[test]
    fn nothing_is_read_outside_of_the_boundaries() {
        let b = baseline(&[100.0, 200.0, 400.0, 800.0], 1000, &[400, 100, 10, 0]);
        assert_eq!(b.exceedance_at(99.0), None);
        assert_eq!(b.exceedance_at(801.0), None);
        assert_eq!(b.exceedance_at(100.0), Some(0.4));
        assert!((b.exceedance_at(200.0).unwrap() - 0.1).abs() < 1e-15);
        let between = b.exceedance_at(20_000f64.sqrt()).unwrap();
        assert!((between - 0.04f64.sqrt()).abs() < 1e-12, "{between}");
        // Below the first boundary; known; known; nobody was slower than 800 ms.
        assert_eq!(b.margin(0, 1.5), None);
        assert!(b.margin(1, 1.5).unwrap() > 1.0);
        assert_eq!(b.margin(1, 2.0), Some(4.0));
        assert_eq!(b.margin(1, 2.1), None);
        assert_eq!(b.margin(3, 1.5), None);
        assert_eq!(baseline(&[1.0, 2.0], 0, &[0, 0]).margin(1, 1.5), None);
        // Whatever was asked for first.
        for (first, next) in [(1.5, 2.0), (2.0, 1.5)] {
            let b = baseline(&[100.0, 200.0, 400.0, 800.0], 1000, &[400, 100, 10, 0]);
            let asked = |m| (0..4).map(|i| b.margin(i, m)).collect::<Vec<_>>();
            let anew = |m| (0..4).map(|i| b.margin_of(i, m)).collect::<Vec<_>>();
            assert_eq!((asked(first), asked(next)), (anew(first), anew(next)));
            assert_eq!(b.pass_boundary(next), b.pass_boundary_of(next));
        }
    }

    #[test]
    fn the_pass_boundary_is_nearest_five_per_cent() {
        let b = baseline(&[10.0, 100.0, 200.0, 400.0, 800.0], 1000, &[900, 240, 60, 20, 9]);
        assert_eq!(b.pass_boundary(1.5).unwrap().0, 2);
        // 2% is nearer than 24%, by ratio.
        let b = baseline(&[10.0, 100.0, 400.0], 1000, &[900, 240, 20]);
        assert_eq!(b.pass_boundary(1.5).unwrap().0, 2);
        // Nothing within 1 to 25%.
        let b = baseline(&[10.0, 100.0, 400.0], 1000, &[900, 251, 9]);
        assert_eq!(b.pass_boundary(1.5), None);
        // Nobody between x/m and x: no tolerance to pass by, though harm can be shown.
        let b = baseline(&[10.0, 100.0, 400.0], 1000, &[50, 50, 50]);
        assert_eq!(b.pass_boundary(1.5), None);
        assert_eq!(b.margin(2, 1.5), Some(1.0));
    }
}
