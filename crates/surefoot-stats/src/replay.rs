//! A/A replay: what the evidence would have made of versions that don't differ.
//!
//! History is judged with every pod of stable once as the canary. The largest ln E that each reaches
//! says how far the evidence runs by itself; the exponent η brings it back under the threshold.

/// The largest exponent η ≤ 1 with which at most the share `alpha` of the replays would have rolled
/// back: of their largest ln E, times η, no more reach `threshold` = ln(1/α). `None` without replays.
///
/// With fewer than 1/α replays none may: η is then what the worst of them asks for.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "replays are few, alpha is in (0, 1)"
)]
pub fn exponent(largest: &[f64], threshold: f64, alpha: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = largest.iter().copied().filter(|log| !log.is_nan()).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let allowed = (sorted.len() as f64 * alpha.clamp(0.0, 1.0)).floor() as usize;
    let worst = *sorted.get(allowed.min(sorted.len().checked_sub(1)?))?;
    // Just below the threshold, which rolls back when it is reached.
    Some(if worst < threshold { 1.0 } else { threshold / worst * (1.0 - 1e-9) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_allowed_reach_the_threshold() {
        let largest: Vec<f64> = (0..200).map(f64::from).collect();
        let (threshold, alpha) = (4.6, 0.01);
        let eta = exponent(&largest, threshold, alpha).unwrap();
        let over = |eta: f64| largest.iter().filter(|log| *log * eta >= threshold).count();
        assert_eq!(over(eta), 2);
        assert_eq!(over(eta * (1.0 + 1e-6)), 3, "and it is the largest such");
    }

    #[test]
    fn well_behaved_history_needs_none() {
        assert_eq!(exponent(&[0.5, 1.0, -2.0], 4.6, 0.01), Some(1.0));
        assert_eq!(exponent(&[f64::NAN], 4.6, 0.01), None);
        assert_eq!(exponent(&[], 4.6, 0.01), None);
        assert!(exponent(&[9.2], 4.6, 0.01).unwrap() < 0.5);
    }
}
