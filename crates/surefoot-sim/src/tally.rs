//! Shares with their confidence, and quantiles.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

/// How often something happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// How often.
    pub of: u64,
    /// Among how many.
    pub all: u64,
}

impl Share {
    /// Count one more.
    pub fn count(&mut self, happened: bool) {
        self.of += u64::from(happened);
        self.all += 1;
    }

    /// As a fraction; 0 of none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of simulated releases are small")]
    pub fn value(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.of as f64 / self.all as f64 }
    }

    /// The central 95% interval of Clopper and Pearson (1934), exact and never too narrow.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of simulated releases are small")]
    pub fn interval(self) -> (f64, f64) {
        let (k, n) = (self.of as f64, self.all as f64);
        let quantile = |a: f64, b: f64, q: f64| Beta::new(a, b).map(|beta| beta.inverse_cdf(q));
        let low = if self.of == 0 { Ok(0.0) } else { quantile(k, n - k + 1.0, 0.025) };
        let high = if self.of == self.all { Ok(1.0) } else { quantile(k + 1.0, n - k, 0.975) };
        (low.unwrap_or(0.0), high.unwrap_or(1.0))
    }
}

/// The value below which the share `q` in \[0, 1\] of the rising `values` lies; `None` of none.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places in a list that fits into memory"
)]
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    values.get(((last as f64) * q.clamp(0.0, 1.0)).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_clopper_and_pearson() {
        // The rule of three, and R's binom.test(10, 100).
        let none = Share { of: 0, all: 2000 }.interval();
        assert!(none.0 == 0.0 && (none.1 - 0.001_842_7).abs() < 1e-6, "{none:?}");
        let (low, high) = Share { of: 10, all: 100 }.interval();
        assert!((low - 0.049_005).abs() < 1e-5 && (high - 0.176_223).abs() < 1e-5, "{low} {high}");
        assert_eq!(Share { of: 3, all: 3 }.interval().1, 1.0);
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.9)), (Some(3.0), Some(5.0)));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
