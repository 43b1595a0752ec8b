//! Clients: a steady stream of requests through the gateway, and what came back.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::linkerd::OUTBOUND_PORT;
use crate::parts::envoy::{GATEWAY, PUBLIC, SIDECAR};

/// Bounds that no scenario should come near.
const MAX_SAMPLES: usize = 1_000_000;
const MAX_DURATION: Duration = Duration::from_secs(1800);
const MAX_IN_FLIGHT: usize = 512;
/// How long a client usually waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// By which proxy requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The gateway: from outside of the mesh.
    Gateway,
    /// The same by its listener for the Gateway API.
    Public,
    /// A client's own: from within.
    Sidecar,
    /// The same of Linkerd's, at this address.
    Linkerd(Ipv4Addr),
}

impl Entry {
    fn address(self) -> SocketAddr {
        match self {
            Entry::Gateway => GATEWAY,
            Entry::Public => PUBLIC,
            Entry::Sidecar => SIDECAR,
            Entry::Linkerd(client) => SocketAddr::from((client, OUTBOUND_PORT)),
        }
    }
}

/// What came of one request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was sent, since the start of the load.
    pub sent: Duration,
    /// How long the answer took.
    pub latency: Duration,
    /// The version that answered; none when the gateway itself did, or nobody.
    pub version: Option<Arc<str>>,
    /// The HTTP status, or why there was none.
    pub outcome: Result<u16, Arc<str>>,
}

impl Sample {
    /// Anything but a 2xx: each request of a test is one that should succeed.
    pub fn failed(&self) -> bool {
        !matches!(self.outcome, Ok(200..300))
    }

    /// When the answer was there, since the start of the load.
    pub fn answered(&self) -> Duration {
        self.sent + self.latency
    }
}

/// Requests at a steady rate, however slowly they are answered (open loop),
/// from now until the handle is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    started: Instant,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    samples: Mutex<Vec<Sample>>,
    skipped: Mutex<u64>,
}

impl Load {
    /// Starts `per_second` requests for `host`, by clients that leave when an answer
    /// takes longer than `patience`, at most [`PATIENCE`].
    pub fn start(entry: Entry, host: &str, per_second: u32, patience: Duration) -> Result<Load> {
        Load::with(entry, host, per_second, patience, &[])
    }

    /// The same with further headers.
    pub fn with(
        entry: Entry,
        host: &str,
        per_second: u32,
        patience: Duration,
        headers: &[(&str, &str)],
    ) -> Result<Load> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(patience)
            .tcp_nodelay(true)
            .build()
            .context("building the load's client")?;
        let request = client.get(format!("http://{}/", entry.address())).header("host", host);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.build().context("building the load's request")?;
        let started = clock::instant();
        let shared = Arc::new(Shared::default());
        let task =
            tokio::spawn(send(client, request, per_second.max(1), started, Arc::clone(&shared)));
        Ok(Load { started, shared, task })
    }

    /// Time since the start, to compare with [`Sample::sent`].
    pub fn elapsed(&self) -> Duration {
        clock::instant() - self.started
    }

    /// All that has been answered so far.
    pub fn report(&self) -> Report {
        Report { samples: lock(&self.shared.samples).clone(), skipped: *lock(&self.shared.skipped) }
    }

    /// Sends no more; what has been answered stays.
    pub fn end(&self) {
        self.task.abort();
    }

    /// Sends no more, waits for the open answers and returns everything.
    pub async fn stop(mut self) -> Result<Report> {
        self.task.abort();
        let _ = (&mut self.task).await;
        // The sender is gone, so each open request holds one of these.
        crate::wait::wait_until("the last answers", PATIENCE + Duration::from_secs(1), || {
            std::future::ready(Ok(Arc::strong_count(&self.shared) == 1))
        })
        .await?;
        Ok(self.report())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn send(
    client: reqwest::Client,
    request: reqwest::Request,
    per_second: u32,
    started: Instant,
    shared: Arc<Shared>,
) {
    let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..MAX_SAMPLES {
        ticks.tick().await;
        if clock::instant() - started > MAX_DURATION {
            return;
        }
        let (Ok(permit), Some(request)) =
            (Arc::clone(&in_flight).try_acquire_owned(), request.try_clone())
        else {
            *lock(&shared.skipped) += 1;
            continue;
        };
        let client = client.clone();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let sent = clock::instant();
            let (outcome, version) = exchange(&client, request).await;
            let sample =
                Sample { sent: sent - started, latency: clock::instant() - sent, version, outcome };
            lock(&shared.samples).push(sample);
            drop(permit);
        });
    }
}

async fn exchange(
    client: &reqwest::Client,
    request: reqwest::Request,
) -> (Result<u16, Arc<str>>, Option<Arc<str>>) {
    let answer = async {
        let response = client.execute(request).await?;
        let status = response.status().as_u16();
        let version = response
            .headers()
            .get("x-version")
            .and_then(|value| value.to_str().ok())
            .map(Arc::from);
        // Only a whole answer is an answer.
        response.bytes().await?;
        Ok::<_, reqwest::Error>((status, version))
    };
    match answer.await {
        Ok((status, version)) => (Ok(status), version),
        Err(error) => (Err(Arc::from(format!("{:#}", anyhow!(error)))), None),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a load has seen, in the order of the answers.
#[derive(Clone, Debug)]
pub struct Report {
    /// The requests.
    pub samples: Vec<Sample>,
    /// Requests that were not sent because too many were open: should be 0.
    pub skipped: u64,
}

/// Counts of some requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub requests: usize,
    /// Those that failed.
    pub failed: usize,
}

impl Report {
    /// Counts of all requests.
    pub fn total(&self) -> Counts {
        count(&self.samples)
    }

    /// Counts by version; the key of answers without one is empty.
    pub fn versions(&self) -> BTreeMap<String, Counts> {
        let mut versions = BTreeMap::<String, Counts>::new();
        for sample in &self.samples {
            let counts = versions
                .entry(sample.version.as_deref().unwrap_or_default().to_owned())
                .or_default();
            counts.requests += 1;
            counts.failed += usize::from(sample.failed());
        }
        versions
    }

    /// Counts of one version.
    pub fn version(&self, version: &str) -> Counts {
        self.versions().get(version).copied().unwrap_or_default()
    }

    /// Share of the answered requests that `version` answered.
    pub fn share(&self, version: &str) -> f64 {
        self.version(version).requests as f64 / self.samples.len().max(1) as f64
    }

    /// The requests sent in a span of time since the start of the load.
    pub fn between(&self, from: Duration, to: Duration) -> Report {
        let samples = self
            .samples
            .iter()
            .filter(|sample| (from..to).contains(&sample.sent))
            .cloned()
            .collect();
        Report { samples, skipped: 0 }
    }

    /// The requests sent since then.
    pub fn since(&self, from: Duration) -> Report {
        self.between(from, Duration::MAX)
    }

    /// Second by second: counts by version.
    pub fn seconds(&self) -> BTreeMap<u64, BTreeMap<String, Counts>> {
        let mut seconds = BTreeMap::<u64, Report>::new();
        for sample in &self.samples {
            let second = seconds
                .entry(sample.sent.as_secs())
                .or_insert_with(|| Report { samples: vec![], skipped: 0 });
            second.samples.push(sample.clone());
        }
        seconds.into_iter().map(|(second, report)| (second, report.versions())).collect()
    }

    /// When the first answer of `version` was there.
    pub fn first_answer(&self, version: &str) -> Option<Duration> {
        self.of(version).map(Sample::answered).min()
    }

    /// When the last answer of `version` was there.
    pub fn last_answer(&self, version: &str) -> Option<Duration> {
        self.of(version).map(Sample::answered).max()
    }

    /// When the first failure of `version` was there.
    pub fn first_failure(&self, version: &str) -> Option<Duration> {
        self.of(version).filter(|sample| sample.failed()).map(Sample::answered).min()
    }

    /// The latency that a share of the answers of `version` did not exceed.
    pub fn latency(&self, version: &str, share: f64) -> Option<Duration> {
        let mut latencies: Vec<_> = self.of(version).map(|sample| sample.latency).collect();
        latencies.sort_unstable();
        let rank = (share * latencies.len() as f64).ceil() as usize;
        latencies.get(rank.saturating_sub(1)).copied()
    }

    /// The failures by what they were, for messages.
    pub fn failures(&self) -> BTreeMap<String, usize> {
        let mut failures = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.failed()) {
            let what = match &sample.outcome {
                Ok(status) => {
                    format!("{status} from {}", sample.version.as_deref().unwrap_or("the gateway"))
                }
                Err(error) => error.to_string(),
            };
            *failures.entry(what).or_default() += 1;
        }
        failures
    }

    fn of<'a>(&'a self, version: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.version.as_deref() == Some(version))
    }
}

fn count(samples: &[Sample]) -> Counts {
    Counts {
        requests: samples.len(),
        failed: samples.iter().filter(|sample| sample.failed()).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sent: u64, version: Option<&str>, status: u16) -> Sample {
        Sample {
            sent: Duration::from_millis(sent),
            latency: Duration::from_millis(10),
            version: version.map(Arc::from),
            outcome: Ok(status),
        }
    }

    #[test]
    fn a_report_tells_versions_and_times_apart() {
        let samples = vec![
            sample(0, Some("v1"), 200),
            sample(500, Some("v2"), 500),
            sample(1500, Some("v1"), 200),
            sample(1600, None, 503),
        ];
        let report = Report { samples, skipped: 0 };
        assert_eq!(report.total(), Counts { requests: 4, failed: 2 });
        assert_eq!(report.version("v2"), Counts { requests: 1, failed: 1 });
        assert_eq!(report.first_failure("v2"), Some(Duration::from_millis(510)));
        assert_eq!(report.last_answer("v1"), Some(Duration::from_millis(1510)));
        assert_eq!(report.first_failure("v1"), None);
        assert_eq!(report.since(Duration::from_secs(1)).total().failed, 1);
        assert_eq!(report.seconds()[&0].len(), 2);
    }
}
