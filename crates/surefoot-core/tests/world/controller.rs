//! One controller process: the reconcile of `src/controller/reconcile.rs`, one call to the API
//! server at a time, so that anything may happen between two.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use json_patch::Patch;
use serde_json::{Value, json};
use surefoot_core::act::{Call, Committed, next};
use surefoot_core::api::{Rollout, RolloutStatus};
use surefoot_core::mark::Mark;
use surefoot_core::observed::{Delivery, HoldMode};
use surefoot_core::plan::Plan;
use surefoot_core::turn::{Next, turn};
use surefoot_core::write::{Author, Kind, Request, Write, epoch_of};

use super::script::CHANNEL;
use super::store::{Moment, NAMESPACE, Refused, Store, number, text};
use super::traffic::{Sampler, Traffic};
use super::view::{Cache, Lags};

/// A mistake put in on purpose, to see that the checker notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// None: as it is.
    Faithful,
    /// Writes are made before the decision is committed.
    ActsFirst,
    /// The Rollout isn't read before a write, and an epoch on an object isn't looked at.
    Unfenced,
}

pub struct Controller {
    pub holder: String,
    pub cache: Cache,
    pub sampler: Sampler,
    mutant: Mutant,
    /// The Rollout as our own last commit left it.
    latest: Option<Arc<Value>>,
    delivery: Delivery,
    job: Option<Job>,
}

/// What is left of a reconcile.
enum Job {
    /// Commit `status` onto `base`, then act.
    Commit {
        base: Arc<Value>,
        status: Box<RolloutStatus>,
        then: Option<Box<Then>>,
    },
    Act(Act),
}

struct Then {
    acts: Vec<Write>,
    plan: Option<Plan>,
}

struct Act {
    rollout: Arc<Value>,
    writes: VecDeque<Write>,
    /// To the reads of the first of them so far.
    answers: Vec<Option<Arc<Value>>>,
}

impl Act {
    fn of(rollout: Arc<Value>, writes: impl IntoIterator<Item = Write>) -> Self {
        let writes = writes.into_iter().collect();
        Self { rollout, writes, answers: Vec::new() }
    }
}

/// What one call did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do at this moment.
    Idle,
    /// Something was read.
    Read,
    /// Something was written.
    Wrote,
    /// The call failed and the reconcile with it.
    Failed,
}

fn parse(object: &Value) -> Rollout {
    let mut object = object.clone();
    // Creation times order the objects of the store; here nobody reads them.
    object["metadata"]["creationTimestamp"] = Value::Null;
    serde_json::from_value(object).expect("the store holds Rollouts")
}

impl Controller {
    pub fn start(holder: &str, history: &[Moment], mutant: Mutant) -> Self {
        Self {
            holder: holder.to_owned(),
            cache: Cache::start(history),
            sampler: Sampler::default(),
            mutant,
            latest: None,
            delivery: Delivery::default(),
            job: None,
        }
    }

    pub fn busy(&self) -> bool {
        self.job.is_some()
    }

    /// The reply of a call never came: the reconcile ends, and nothing is known of the write.
    pub fn lose(&mut self) {
        self.job = None;
    }

    pub fn lag(&mut self, lags: Lags) {
        self.cache.lags = lags;
    }

    pub fn sample(&mut self, traffic: &Traffic, now: Timestamp) {
        self.sampler.sample(traffic, now);
    }

    /// Make the next call; a new reconcile begins where none is under way.
    pub fn call(
        &mut self,
        store: &mut Store,
        history: &[Moment],
        hold: HoldMode,
        now: Timestamp,
    ) -> Progress {
        if self.job.is_none() {
            self.cache.follow(history);
            if self.tell(store) {
                return Progress::Read;
            }
            self.job = self.reconcile(store, hold, now);
        }
        match self.job.take() {
            None => Progress::Idle,
            Some(Job::Commit { base, status, then }) => self.commit(store, &base, &status, then),
            Some(Job::Act(act)) => self.act(store, act),
        }
    }

    /// The Rollout as the watch or our own last commit has it, whichever is newer.
    fn newest(&mut self, store: &Store) -> Option<Arc<Value>> {
        let watched = self.cache.get("Rollout", &store.names.rollout)?;
        let version = |o: &Value| text(o, "/metadata/resourceVersion").parse::<u64>().unwrap_or(0);
        match &self.latest {
            Some(ours) if version(ours) > version(&watched) => Some(ours.clone()),
            _ => Some(watched),
        }
    }

    /// As the lanes of `controller::notify` do: the first that the channel doesn't have, and the next
    /// only after a commit. Whether a message went out.
    fn tell(&mut self, store: &mut Store) -> bool {
        // The channel can be reached one time in four, so that news piles up.
        if store.clock / 5 % 4 != 0 {
            return false;
        }
        let Some(rollout) = self.newest(store) else { return false };
        let outbox = parse(&rollout).status.map(|s| s.outbox).unwrap_or_default();
        let first = outbox.iter().find(|n| n.recipient(CHANNEL).is_some());
        let Some(first) = first else { return false };
        let new = self.delivery.told.insert((CHANNEL.to_owned(), first.id.clone()));
        if new {
            store.messages.push(first.id.clone());
        }
        new
    }

    fn reconcile(&mut self, store: &Store, hold: HoldMode, now: Timestamp) -> Option<Job> {
        let raw = self.newest(store)?;
        let rollout = parse(&raw);
        let finalizers = rollout.metadata.finalizers.clone().unwrap_or_default();
        if rollout.metadata.deletion_timestamp.is_some() && finalizers.is_empty() {
            return None;
        }
        let (seen, stamped) = self.cache.observe(&rollout, hold, &self.delivery, now);
        let old = rollout.status.clone().unwrap_or_default();
        let samples = self.sampler.of(old.release.as_ref().map_or(0, |r| r.number));
        let turn = turn(&rollout, &seen, &stamped, &samples, &self.holder, now);
        let plan = turn.plan;
        match turn.next {
            Next::Rest => {
                self.sampler.set(plan.as_ref(), &old, NAMESPACE);
                None
            }
            Next::TakeOver(status) => Some(Job::Commit { base: raw, status, then: None }),
            Next::Stamp(stamps) => Some(Job::Act(Act::of(raw, stamps))),
            Next::Commit(_, acts) if self.mutant == Mutant::ActsFirst && !acts.is_empty() => {
                Some(Job::Act(Act::of(raw, acts)))
            }
            Next::Commit(status, acts) => {
                let then = Some(Box::new(Then { acts, plan }));
                Some(Job::Commit { base: raw, status, then })
            }
            Next::Act(acts) => {
                self.sampler.set(plan.as_ref(), &old, NAMESPACE);
                Some(Job::Act(Act::of(raw, acts)))
            }
        }
    }

    fn commit(
        &mut self,
        store: &mut Store,
        base: &Value,
        status: &RolloutStatus,
        then: Option<Box<Then>>,
    ) -> Progress {
        let version = text(base, "/metadata/resourceVersion");
        let patch: Patch = serde_json::from_value(json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/status", "value": status},
        ]))
        .expect("a patch");
        let Ok(committed) = store.patch("Rollout", &store.names.rollout.clone(), &patch) else {
            return Progress::Failed;
        };
        self.latest = Some(committed.clone());
        self.cache.wrote("Rollout", &committed);
        if let Some(then) = then {
            let status = parse(&committed).status.unwrap_or_default();
            self.sampler.set(then.plan.as_ref(), &status, NAMESPACE);
            let news = status.outbox.iter().filter(|n| n.recipient(CHANNEL).is_some());
            for notice in news {
                if store.news.iter().all(|known| known.id != notice.id) {
                    store.news.push(notice.clone());
                }
            }
            self.delivery.events = status.outbox.iter().map(|n| n.id.clone()).collect();
            if !then.acts.is_empty() {
                self.job = Some(Job::Act(Act::of(committed, then.acts)));
            }
        }
        Progress::Wrote
    }

    /// The next of: read the object, read the other one, read the Rollout, write.
    fn act(&mut self, store: &mut Store, mut act: Act) -> Progress {
        let Some(write) = act.writes.front().cloned() else { return Progress::Read };
        let rollout = act.rollout.clone();
        let epoch = number(&rollout, "/status/decision/epoch");
        let author = Author {
            rollout: text(&rollout, "/metadata/name"),
            uid: text(&rollout, "/metadata/uid"),
            namespace: NAMESPACE,
            deployment: text(&rollout, "/spec/targetRef/name"),
            epoch: match (self.mutant, act.answers.first()) {
                (Mutant::Unfenced, Some(Some(fresh))) => epoch.max(epoch_of(fresh)),
                _ => epoch,
            },
            rivals: &[],
            allowed: Mark {
                release: number(&rollout, "/status/decision/release"),
                weight: i32::try_from(number(&rollout, "/status/decision/weight")).unwrap_or(0),
            },
        };
        let by = Committed { author, seq: number(&rollout, "/status/decision/seq") };
        let answers: Vec<_> = act.answers.iter().map(Option::as_deref).collect();
        let done = match next(&write, by, &answers) {
            Ok(Call::Read(target)) => {
                // Unfenced, what was committed is taken for what is.
                let skips = self.mutant == Mutant::Unfenced && target.kind == Kind::Rollout;
                let answer = store.get(target.kind.name(), &target.name);
                act.answers.push(if skips {
                    Some(unfenced(&rollout, author.epoch))
                } else {
                    answer
                });
                self.job = Some(Job::Act(act));
                return Progress::Read;
            }
            Err(_) => return Progress::Failed,
            Ok(Call::Done) => Progress::Read,
            Ok(Call::Send(target, request)) => {
                match self.send(store, target.kind.name(), &target.name, request) {
                    Ok(()) => Progress::Wrote,
                    Err(_) => return Progress::Failed,
                }
            }
        };
        act.writes.pop_front();
        if !act.writes.is_empty() {
            self.job = Some(Job::Act(Act::of(rollout, act.writes)));
        }
        done
    }

    fn send(
        &mut self,
        store: &mut Store,
        kind: &'static str,
        name: &str,
        request: Request,
    ) -> Result<(), Refused> {
        match request {
            Request::Create(object) => {
                let made = store.create(object)?;
                self.cache.wrote(kind, &made);
            }
            Request::Patch(patch) => {
                let made = store.patch(kind, name, &patch)?;
                self.cache.wrote(kind, &made);
            }
            // The watch brings these.
            Request::Scale(patch) => drop(store.patch(kind, name, &patch)?),
            Request::Delete { uid, version } => store.delete(kind, name, &uid, &version)?,
        }
        Ok(())
    }
}

/// The Rollout as it was committed, whoever has led since.
fn unfenced(committed: &Arc<Value>, epoch: i64) -> Arc<Value> {
    let mut rollout = committed.as_ref().clone();
    rollout["status"]["decision"]["epoch"] = json!(epoch);
    Arc::new(rollout)
}
