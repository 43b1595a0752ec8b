//! Who tries: a coordination.k8s.io Lease. It is no safety: two leaders at once are harmless, by the
//! epochs. Renewal is judged by the local clock alone, since another machine's may be off.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

use crate::client::{CallError, limited};
use crate::clock::{Clock, micro};

/// How long a lease holds without renewal.
const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed, and looked at by those who wait.
const PERIOD: Duration = Duration::from_secs(2);

/// The Lease and who we are in it.
pub struct Leader {
    api: Api<Lease>,
    name: String,
    identity: String,
    clock: Clock,
    /// What was seen of another's lease, and since when it has been the same.
    other: Option<(String, Instant)>,
}

impl Leader {
    /// Not leading yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, clock: Clock) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), identity: identity.to_owned(), clock, other: None }
    }

    /// Wait until the lease is ours.
    pub async fn acquire(&mut self) {
        let mut ticks = tokio::time::interval(PERIOD);
        loop {
            ticks.tick().await;
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "lease not acquired"),
            }
        }
    }

    /// Keep it; returns when it is lost.
    pub async fn keep(&mut self) {
        let mut renewed = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(PERIOD);
        loop {
            ticks.tick().await;
            match self.attempt().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "lease not renewed");
                    if renewed.elapsed() >= DURATION {
                        return;
                    }
                }
            }
        }
    }

    /// Give it back, so that another need not wait.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = limited(self.api.get_opt(&self.name)).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = None;
        spec.renew_time = None;
        if let Err(error) =
            limited(self.api.replace(&self.name, &PostParams::default(), &lease)).await
        {
            tracing::warn!(%error, "lease not released: it runs out by itself");
        }
    }

    /// Take or renew it; whether it is ours now.
    async fn attempt(&mut self) -> Result<bool, CallError> {
        let now = MicroTime(micro(self.clock.now()));
        let Some(mut lease) = limited(self.api.get_opt(&self.name)).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(&now, 0)),
            };
            return won(limited(self.api.create(&PostParams::default(), &lease)).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity && !self.expired(&lease) {
            return Ok(false);
        }
        let changes = spec.lease_transitions.unwrap_or(0) + i32::from(holder != self.identity);
        let mut ours = self.spec(&now, changes);
        if holder == self.identity {
            ours.acquire_time = spec.acquire_time;
        }
        lease.spec = Some(ours);
        won(limited(self.api.replace(&self.name, &PostParams::default(), &lease)).await)
    }

    /// The same renewal has been seen for longer than it may stand, by our own clock.
    fn expired(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.other {
            Some((seen, since)) if *seen == version => since.elapsed() >= DURATION,
            _ => {
                self.other = Some((version, Instant::now()));
                false
            }
        }
    }

    fn spec(&self, now: &MicroTime, changes: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now.clone()),
            lease_transitions: Some(changes),
            ..LeaseSpec::default()
        }
    }
}

/// A conflict means that somebody else was quicker.
fn won(answer: Result<Lease, CallError>) -> Result<bool, CallError> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(409) => Ok(false),
        Err(error) => Err(error),
    }
}
