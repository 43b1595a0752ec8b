//! Functions of the samples in a range, and quantiles.

use super::select::Matrix;
use crate::store::Millis;

type Samples<'a> = &'a [(Millis, f64)];

/// What a function of a range is called with beside the samples.
pub struct Range {
    /// Start of the range.
    pub from: Millis,
    /// End of the range.
    pub to: Millis,
    /// The instant of the evaluation.
    pub at: Millis,
    /// The function's number, if it has one.
    pub number: f64,
}

impl Range {
    /// That of a range's samples.
    pub fn of(matrix: &Matrix, at: Millis, number: f64) -> Self {
        Self { from: matrix.from, to: matrix.to, at, number }
    }
}

/// A function of the samples of one series in a range; there is at least one.
pub type OverTime = fn(Samples, &Range) -> Option<f64>;

/// The function of this name.
pub fn over_time(name: &str) -> Option<OverTime> {
    Some(match name {
        "avg_over_time" => |samples, _| Some(mean(samples)),
        "changes" => |samples, _| {
            let differ = |(a, b): &(f64, f64)| a != b && !(a.is_nan() && b.is_nan());
            Some(count(neighbours(samples).filter(differ)))
        },
        "count_over_time" => |samples, _| Some(count(samples.iter())),
        "delta" => |samples, range| extrapolated(samples, range, false, false),
        "deriv" => |samples, _| {
            let (first, _) = *samples.first()?;
            (samples.len() > 1).then(|| regression(samples, first).0)
        },
        "idelta" => |samples, _| instant(samples, false),
        "increase" => |samples, range| extrapolated(samples, range, true, false),
        "irate" => |samples, _| instant(samples, true),
        "last_over_time" => |samples, _| Some(samples.last()?.1),
        "max_over_time" => |samples, _| {
            samples.iter().map(|s| s.1).reduce(|a, b| if b > a || a.is_nan() { b } else { a })
        },
        "min_over_time" => |samples, _| {
            samples.iter().map(|s| s.1).reduce(|a, b| if b < a || a.is_nan() { b } else { a })
        },
        "predict_linear" => |samples, range| {
            let (slope, intercept) = regression(samples, range.at);
            (samples.len() > 1).then_some(slope * range.number + intercept)
        },
        "present_over_time" => |_, _| Some(1.0),
        "quantile_over_time" => |samples, range| {
            let values: Vec<f64> = samples.iter().map(|s| s.1).collect();
            Some(quantile(range.number, &values))
        },
        "rate" => |samples, range| extrapolated(samples, range, true, true),
        "resets" => |samples, _| Some(count(neighbours(samples).filter(|(a, b)| b < a))),
        "stddev_over_time" => |samples, _| Some(variance(samples).sqrt()),
        "stdvar_over_time" => |samples, _| Some(variance(samples)),
        "sum_over_time" => |samples, _| {
            let sum = sum(samples.iter().map(|s| s.1));
            Some(if sum.0.is_infinite() { sum.0 } else { sum.0 + sum.1 })
        },
        _ => return None,
    })
}

fn neighbours(samples: Samples) -> impl Iterator<Item = (f64, f64)> {
    samples.iter().zip(samples.iter().skip(1)).map(|(a, b)| (a.1, b.1))
}

#[expect(clippy::cast_precision_loss, reason = "a few samples")]
fn count<T>(items: impl Iterator<Item = T>) -> f64 {
    items.count() as f64
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds are exact in f64")]
fn seconds(span: Millis) -> f64 {
    span as f64 / 1000.0
}

/// `rate`, `increase` and `delta`: the difference of the last and the first sample, and what it would
/// be if it went on like this to the ends of the range, when these are near.
fn extrapolated(samples: Samples, range: &Range, counter: bool, rate: bool) -> Option<f64> {
    let ((first_at, first), (last_at, last)) = (*samples.first()?, *samples.last()?);
    if samples.len() < 2 {
        return None;
    }
    let mut result = last - first;
    if counter {
        for (before, _) in neighbours(samples).filter(|(a, b)| b < a) {
            result += before;
        }
    }
    let mut to_start = seconds(first_at - range.from);
    let to_end = seconds(range.to - last_at);
    let sampled = seconds(last_at - first_at);
    let average = sampled / count(samples.iter().skip(1));
    if counter && result > 0.0 && first >= 0.0 {
        // A counter began at 0.
        let to_zero = sampled * (first / result);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    let threshold = average * 1.1;
    let mut whole = sampled;
    for end in [to_start, to_end] {
        whole += if end < threshold { end } else { average / 2.0 };
    }
    let mut factor = whole / sampled;
    if rate {
        factor /= seconds(range.to - range.from);
    }
    Some(result * factor)
}

/// `irate` and `idelta`: the last two samples.
fn instant(samples: Samples, rate: bool) -> Option<f64> {
    let [.., (before_at, before), (at, last)] = samples else { return None };
    let span = at - before_at;
    if span == 0 {
        return None;
    }
    let result = if rate && last < before { *last } else { last - before };
    Some(if rate { result / seconds(span) } else { result })
}

/// A sum and what is lost of it by rounding.
fn add((sum, lost): (f64, f64), more: f64) -> (f64, f64) {
    let total = sum + more;
    let gone = if sum.abs() >= more.abs() { (sum - total) + more } else { (more - total) + sum };
    (total, lost + gone)
}

fn sum(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((0.0, 0.0), add)
}

fn mean(samples: Samples) -> f64 {
    let (mut mean, mut count) = ((0.0_f64, 0.0), 0.0);
    for (_, value) in samples {
        count += 1.0;
        if mean.0.is_infinite() {
            let alike = value.is_infinite() && (mean.0 > 0.0) == (*value > 0.0);
            if alike || value.is_finite() {
                continue;
            }
        }
        mean = add(mean, value / count - mean.0 / count);
    }
    if mean.0.is_infinite() { mean.0 } else { mean.0 + mean.1 }
}

fn variance(samples: Samples) -> f64 {
    let (mut mean, mut squares, mut count) = ((0.0, 0.0), (0.0, 0.0), 0.0);
    for (_, value) in samples {
        count += 1.0;
        let delta = value - (mean.0 + mean.1);
        mean = add(mean, delta / count);
        squares = add(squares, delta * (value - (mean.0 + mean.1)));
    }
    (squares.0 + squares.1) / count
}

/// Slope per second, and value at an instant, of the line through the samples.
fn regression(samples: Samples, at: Millis) -> (f64, f64) {
    let initial = samples.first().map_or(f64::NAN, |s| s.1);
    #[expect(clippy::float_cmp, reason = "whether they are all the same")]
    if samples.iter().all(|s| s.1 == initial) {
        return if initial.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, initial) };
    }
    let of = |term: fn(f64, f64) -> f64| {
        let (total, lost) = sum(samples.iter().map(|(t, y)| term(seconds(t - at), *y)));
        total + lost
    };
    let (n, x, y) = (count(samples.iter()), of(|x, _| x), of(|_, y| y));
    let (xy, xx) = (of(|x, y| x * y), of(|x, _| x * x));
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// The quantile of values, interpolated between two of them.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks of a few samples"
)]
pub fn quantile(q: f64, values: &[f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let mut sorted = values.to_vec();
    // NaN comes first.
    sorted.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    let last = values.len() as f64 - 1.0;
    let rank = q * last;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(last);
    let weight = rank - rank.floor();
    sorted[lower as usize] * (1.0 - weight) + sorted[upper as usize] * weight
}

/// The quantile that a histogram's buckets, of cumulative counts by their upper bounds, let guess.
pub fn bucket_quantile(q: f64, mut buckets: Vec<(f64, f64)>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        kept.1 += if same { later.1 } else { 0.0 };
        same
    });
    let mut most = f64::NEG_INFINITY;
    for (_, count) in &mut buckets {
        if *count > most {
            most = *count;
        } else if *count < most {
            *count = most;
        }
    }
    let [finite @ .., (top, observations)] = buckets.as_slice() else { return f64::NAN };
    let Some((highest, _)) = finite.last() else { return f64::NAN };
    if *top != f64::INFINITY || *observations == 0.0 {
        return f64::NAN;
    }
    let rank = q * observations;
    let reaches = |count: f64| count >= rank;
    let place = finite.partition_point(|(_, count)| !reaches(*count));
    let Some((end, below)) = finite.get(place) else { return *highest };
    let (start, before) = match place.checked_sub(1).and_then(|i| finite.get(i)) {
        Some(lower) => *lower,
        None if *end <= 0.0 => return *end,
        None => (0.0, 0.0),
    };
    start + (end - start) * ((rank - before) / (below - before))
}
