//! What a backtest found of how requests hang together, as a file to keep.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use surefoot_core::api::analysis::Metric;
use surefoot_core::plan::digest;
use surefoot_sim::backtest::dependence::Dependence;

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

/// One metric's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Calibrated {
    /// Its name.
    pub name: String,
    /// Requests that it was measured on.
    pub requests: u64,
    /// How many of them were bad.
    pub bad: u64,
    /// φ, at least 1, rounded up.
    pub phi: String,
    /// η in (0, 1], rounded down; absent where history was too short to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<String>,
}

/// Those metrics of which φ is known.
#[must_use]
pub fn metrics(found: &[Dependence]) -> Vec<Calibrated> {
    let known = found.iter().filter_map(|d| {
        Some(Calibrated {
            name: d.metric.clone(),
            requests: d.requests,
            bad: d.bad,
            phi: text((d.phi? * 1000.0).ceil() / 1000.0),
            // Never 0: then it would be no evidence at all.
            eta: d.eta.map(|eta| text(((eta * 1000.0).floor() / 1000.0).max(0.001))),
        })
    });
    known.collect()
}

/// The digest of a Rollout's metrics, those of its templates among them.
#[must_use]
pub fn metrics_digest(metrics: &[Metric]) -> String {
    digest(&metrics)
}

fn text(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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
        let short = Dependence { phi: Some(1.0), eta: None, ..found.clone() };
        let metrics = metrics(&[found, unknown, short]);
        let told: Vec<_> = metrics.iter().map(|m| (m.phi.as_str(), m.eta.as_deref())).collect();
        assert_eq!(told, [("1.231", Some("0.799")), ("1", None)]);
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
