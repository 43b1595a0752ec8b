//! Who tries: a coordination.k8s.io Lease. It is no safety: two leaders at once are harmless, by the
//! epochs. Renewal is judged by the local clock alone, since another machine's may be off.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

use super::lock;
use crate::client::{CallError, limited};
use crate::clock::{Clock, micro};

/// How long a lease holds without renewal. Short, since it costs nothing to be wrong: who takes over
/// too early only fences the other off.
const DURATION: Duration = Duration::from_secs(4);
/// How often it is renewed, and looked at by those who wait.
pub const PERIOD: Duration = Duration::from_secs(1);

/// How sure this process is to lead. One that was frozen, or cut off, longer than its lease holds
/// isn't, and starts nothing before it has looked.
#[derive(Clone, Default)]
pub struct Lead(Arc<Mutex<Option<Instant>>>);

impl Lead {
    /// Renewed just now.
    #[cfg(test)]
    pub(super) fn held() -> Self {
        let lead = Self::default();
        lead.renewed(Instant::now());
        lead
    }

    fn renewed(&self, at: Instant) {
        *lock(&self.0) = Some(at);
    }

    /// Whether the lease was ours and still holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        lock(&self.0).is_some_and(|renewed| renewed.elapsed() < DURATION)
    }
}

/// The Lease and who we are in it.
pub struct Leader {
    api: Api<Lease>,
    name: String,
    identity: String,
    clock: Clock,
    lead: Lead,
    /// What was seen of another's lease, and since when it has been the same.
    other: Option<(String, Instant)>,
    /// The lease as our last renewal left it: the next need not read it first.
    ours: Option<Lease>,
}

impl Leader {
    /// Not leading yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, clock: Clock) -> Self {
        let api = Api::namespaced(client, namespace);
        Self {
            api,
            name: name.to_owned(),
            identity: identity.to_owned(),
            clock,
            lead: Lead::default(),
            other: None,
            ours: None,
        }
    }

    /// To ask whether it still is.
    #[must_use]
    pub fn lead(&self) -> Lead {
        self.lead.clone()
    }

    /// Wait until the lease is ours.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(Held::Ours) => return,
                Ok(Held::Contested) => {}
                // No later than the moment at which it runs out.
                Ok(Held::Until(end)) => {
                    tokio::time::sleep_until(end.min(Instant::now() + PERIOD)).await;
                    continue;
                }
                Err(error) => tracing::warn!(%error, "lease not acquired"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Keep it; returns when another is seen to hold it. As long as the API server doesn't answer
    /// nobody else can, and what is written meanwhile the epochs judge.
    pub async fn keep(&mut self) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.attempt().await {
                Ok(Held::Ours | Held::Contested) => {}
                Ok(Held::Until(_)) => return,
                Err(error) => tracing::warn!(%error, "lease not renewed"),
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

    /// Take or renew it; whose it is now.
    async fn attempt(&mut self) -> Result<Held, CallError> {
        let started = Instant::now();
        let now = MicroTime(micro(self.clock.now()));
        let found = match self.ours.take() {
            Some(lease) => Some(lease),
            None => limited(self.api.get_opt(&self.name)).await?,
        };
        let Some(mut lease) = found else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(&now, 0)),
            };
            let answer = limited(self.api.create(&PostParams::default(), &lease)).await;
            return self.won(answer, started);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity {
            let end = self.end(&lease);
            if Instant::now() < end {
                return Ok(Held::Until(end));
            }
        }
        let changes = spec.lease_transitions.unwrap_or(0) + i32::from(holder != self.identity);
        let mut ours = self.spec(&now, changes);
        if holder == self.identity {
            ours.acquire_time = spec.acquire_time;
        }
        lease.spec = Some(ours);
        let answer = limited(self.api.replace(&self.name, &PostParams::default(), &lease)).await;
        self.won(answer, started)
    }

    fn won(
        &mut self,
        answer: Result<Lease, CallError>,
        started: Instant,
    ) -> Result<Held, CallError> {
        match answer {
            Ok(lease) => {
                self.lead.renewed(started);
                self.ours = Some(lease);
                Ok(Held::Ours)
            }
            Err(error) if error.code() == Some(409) => Ok(Held::Contested),
            Err(error) => Err(error),
        }
    }

    /// When another's lease runs out: so long after its latest renewal was first seen, by our own
    /// clock.
    fn end(&mut self, lease: &Lease) -> Instant {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.other {
            Some((seen, since)) if *seen == version => *since,
            _ => Instant::now(),
        };
        self.other = Some((version, since));
        since + DURATION
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

/// Whose the lease is.
enum Held {
    /// Ours.
    Ours,
    /// Somebody else was quicker just now; the next look tells who.
    Contested,
    /// Another's, unless it is renewed no longer than until then.
    Until(Instant),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_that_was_not_renewed_in_time_is_none() {
        assert!(!Lead::default().holds(), "never acquired");
        let lead = Lead::held();
        assert!(lead.holds());
        lead.renewed(Instant::now().checked_sub(DURATION).unwrap());
        assert!(!lead.holds(), "frozen for as long as the lease holds");
    }
}
