//! What the sampler brings: exact counts between two instants, and numbers of users' own queries.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use surefoot_stats::Arm;

/// Requests of one version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests that were answered, well or not.
    pub requests: u64,
    /// Failed ones of them.
    pub failed: u64,
    /// Requests beside them whose client went away before the answer.
    pub abandoned: u64,
}

impl Count {
    /// Failed ones among those answered; `None` where more failed than there were.
    #[must_use]
    pub fn answered(self) -> Option<Arm> {
        Arm::new(self.requests, self.failed).ok()
    }

    /// Abandoned ones among all; `None` where those are too many to count.
    #[must_use]
    pub fn sent(self) -> Option<Arm> {
        Arm::new(self.requests.checked_add(self.abandoned)?, self.abandoned).ok()
    }
}

/// Latencies of one version: how many requests took at most each boundary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Requests, the boundary of infinity.
    pub requests: u64,
    /// Requests at or below each boundary, rising.
    pub at_most: Vec<u64>,
}

/// Exact counts of both versions over (from, to].
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Start, not included.
    pub from: Timestamp,
    /// End, included.
    pub to: Timestamp,
    /// The canary's requests.
    pub canary: Count,
    /// Stable's.
    pub stable: Count,
    /// Latencies, where they are judged.
    pub latency: Option<Latencies>,
    /// The canary's requests as its own pods' proxies count them, where callers' proxies tell the
    /// versions apart and the pods' are scraped too.
    pub reached: Option<u64>,
    /// Why part of the counts is missing; such a tick is evidence of nothing.
    pub partial: Option<String>,
}

/// Latencies of both versions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latencies {
    /// Finite boundaries, milliseconds, rising.
    pub boundaries: Vec<f64>,
    /// The canary's.
    pub canary: Histogram,
    /// Stable's.
    pub stable: Histogram,
}

/// Stable as it was before the canary.
#[derive(Debug, Clone, PartialEq)]
pub struct BaselineSample {
    /// Over how much time that could be seen.
    pub over: Duration,
    /// Requests and failures.
    pub requests: Count,
    /// Boundaries, milliseconds.
    pub boundaries: Vec<f64>,
    /// Latencies.
    pub latency: Histogram,
    /// Its pods one by one and further back, or why that can't be read.
    pub pods: Result<PodHistory, String>,
}

/// Stable's past pod by pod, in slots of ten seconds without gaps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodHistory {
    /// Start of the first slot.
    pub from: Timestamp,
    /// Slot after slot the requests of each pod, always in the same order. A pod that wasn't there
    /// had none.
    pub requests: Vec<Vec<Count>>,
    /// Boundaries of latencies, milliseconds, rising.
    pub boundaries: Vec<f64>,
    /// The same of latencies; empty where none are judged.
    pub latency: Vec<Vec<Histogram>>,
}

/// One answer of a user's query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scalar {
    /// The instant asked for.
    pub at: Timestamp,
    /// The answer; not a finite number means no data.
    pub value: f64,
    /// That of stable's query at the same instant, where there is one.
    pub stable: Option<f64>,
}

/// Whether metrics can be had.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Health {
    /// Nothing has been asked yet.
    #[default]
    Unknown,
    /// The last question was answered.
    Good,
    /// It wasn't.
    Bad {
        /// Why, with what to do.
        message: String,
        /// Since when.
        since: Timestamp,
    },
}

/// All that has been sampled for one release and is not folded yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Ticks, each beginning where the one before ended.
    pub ticks: Vec<Tick>,
    /// Stable before the canary.
    pub baseline: Option<BaselineSample>,
    /// Answers by metric.
    pub scalars: BTreeMap<String, Vec<Scalar>>,
    /// Whether metrics can be had.
    pub health: Health,
}
