//! What a backtest found of how requests hang together, as a file to keep.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use surefoot_core::api::analysis::{Metric, MetricCalibration};
use surefoot_core::api::text::Number;
use surefoot_core::metrics::history;
use surefoot_core::plan::digest;
use surefoot_sim::backtest::dependence::Dependence;
use surefoot_sim::backtest::past::SLOT;
use surefoot_stats::calibration::ASSUMED_PHI;

/// φ and η of each metric. Numbers are text, as everywhere in the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Calibration {
    /// `Calibration`: a plain file, no object of the API server's.
    pub kind: String,
    /// The namespace that it was measured in.
    pub namespace: String,
    /// The Deployment.
    pub deployment: String,
    /// The ReplicaSet whose pods it was measured on.
    pub replica_set: String,
    /// How many of them.
    pub pods: usize,
    /// Start of the history.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// A digest of the metrics that it is for: of others φ and η are others.
    pub metrics_digest: String,
    /// The metrics that history told something of.
    pub metrics: Vec<Calibrated>,
}

/// One metric's: its `calibration` is what the Rollout's metric of this name may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Calibrated {
    /// Its name.
    pub name: String,
    /// φ, rounded up, and η, rounded down.
    pub calibration: MetricCalibration,
    /// Requests that it was measured on.
    pub requests: u64,
    /// How many of them were bad.
    pub bad: u64,
}

/// Those metrics of which φ is known. A `short` history may show that requests hang together more
/// than is assumed, and not that they do less: a burst may just not have come yet.
#[must_use]
pub fn metrics(found: &[Dependence], short: bool) -> Vec<Calibrated> {
    let known = found.iter().filter_map(|d| {
        let phi = if short { d.phi?.max(ASSUMED_PHI) } else { d.phi? };
        let dispersion = text((phi * 1000.0).ceil() / 1000.0);
        // Never 0: then it would be no evidence at all.
        let eta = |eta: f64| text(((eta * 1000.0).floor() / 1000.0).max(0.001));
        Some(Calibrated {
            name: d.metric.clone(),
            calibration: MetricCalibration { dispersion, vote_exponent: d.eta.map(eta) },
            requests: d.requests,
            bad: d.bad,
        })
    });
    known.collect()
}

/// Whether so many slots are too few for that, by the controller's own measure.
#[must_use]
pub fn is_short(slots: usize) -> bool {
    history::is_short(SLOT * u32::try_from(slots).unwrap_or(u32::MAX))
}

/// The digest of a Rollout's metrics, those of its templates among them, but for what is known of
/// their dispersion already.
#[must_use]
pub fn metrics_digest(metrics: &[Metric]) -> String {
    let bare = |metric: &Metric| Metric { calibration: None, ..metric.clone() };
    digest(&metrics.iter().map(bare).collect::<Vec<_>>())
}

fn text(number: f64) -> Number {
    let text = format!("{number:.3}");
    Number(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_errs_on_the_safe_side_and_can_be_read_again() {
        let found = Dependence {
            metric: "success-rate".to_owned(),
            boundary_ms: None,
            requests: 1000,
            bad: 60,
            phi: Some(1.2301),
            phi_by_seconds: Vec::new(),
            eta: Some(0.7999),
            eta_by_minutes: Vec::new(),
        };
        let unknown = Dependence { phi: None, ..found.clone() };
        let brief = Dependence { phi: Some(4.0), eta: None, ..found.clone() };
        let told = |short| {
            let metrics = metrics(&[found.clone(), unknown.clone(), brief.clone()], short);
            metrics.into_iter().map(|m| m.calibration).collect::<Vec<_>>()
        };
        let calibration = |phi: &str, eta: Option<&str>| MetricCalibration {
            dispersion: phi.into(),
            vote_exponent: eta.map(Into::into),
        };
        assert_eq!(told(false), [calibration("1.231", Some("0.799")), calibration("4", None)]);
        assert_eq!(told(true), [calibration("3", Some("0.799")), calibration("4", None)]);
        assert!(is_short(647) && !is_short(648), "an hour and 48 minutes");
        let metrics = metrics(&[found, brief], false);
        let calibration = Calibration {
            kind: "Calibration".to_owned(),
            namespace: "shop".to_owned(),
            deployment: "web".to_owned(),
            replica_set: "web-6c".to_owned(),
            pods: 4,
            from: Timestamp::UNIX_EPOCH,
            to: Timestamp::UNIX_EPOCH,
            metrics_digest: metrics_digest(&[]),
            metrics,
        };
        let yaml = serde_saphyr::to_string(&calibration).unwrap();
        // Text stays text: 1 would be read as a number.
        assert_eq!(serde_saphyr::from_str::<Calibration>(&yaml).unwrap(), calibration, "{yaml}");
        assert!(serde_saphyr::from_str::<Calibration>(&(yaml + "more: 1\n")).is_err());
    }
}
