//! The scenarios that come with Surefoot.

/// The Rollout that they are played with where no other is named: all defaults.
pub const ROLLOUT: &str = include_str!("../../../scenarios/rollout.yaml");

macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        /// Names and YAML.
        pub const SCENARIOS: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../scenarios/", $name, ".yaml")))),*
        ];
    };
}

scenarios!(
    "good",
    "bad-at-once",
    "bad-at-50",
    "slow",
    "cold-start",
    "shared-outage",
    "bursts",
    "low-traffic",
    "prometheus-outage",
    "gitops-reset",
    "autoscaled",
    "eviction",
    "canary-vanishes",
);
