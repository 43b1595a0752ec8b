//! A controller process: a look, then the calls to the API server that follow from it, one at a time,
//! so that anything may happen between two. What to do comes from [`turn`], which call is next from
//! [`next`]: the controller's own code.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use json_patch::Patch;
use serde_json::Value;
use surefoot_core::act::{Call, Committed, Stopped, next};
use surefoot_core::api::{Rollout, RolloutStatus};
use surefoot_core::gather::gather;
use surefoot_core::mark::Mark;
use surefoot_core::metrics::wanted;
use surefoot_core::observed::{Action, Delivery, HoldMode};
use surefoot_core::plan::{Plan, Templates, resolve};
use surefoot_core::samples::Samples;
use surefoot_core::trace::Names;
use surefoot_core::turn::{Next, commit, turn};
use surefoot_core::write::{Author, Kind, Refusal, Request, Write};

use crate::metrics::{self, Stretch};
use crate::shared::{Object, Shared, number, text};
use crate::store::{APP, NAMESPACE, Objects, Store, target};
use crate::view::{Frozen, Since, View, copies};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its name is `process-N`.
    pub number: u8,
    /// It has lost the lead and hasn't noticed: so many looks until it does.
    pub former: Option<u8>,
    /// Watches of its that stand still.
    pub frozen: Option<Frozen>,
    /// Since when it has seen the route's weights.
    pub since: Since,
    /// The release that its sampler samples.
    pub sampling: Option<i64>,
    /// What is left to do of its last look.
    pub job: Option<Job>,
    /// How that ended.
    pub ended: Ended,
}

/// What is left to do of a look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Job {
    /// Commit a status, then make the writes.
    Commit {
        /// The one write.
        patch: Shared<Patch>,
        /// What is sampled from then on.
        sampling: Option<i64>,
        /// The writes.
        acts: Shared<Vec<Write>>,
    },
    /// Make writes.
    Act {
        /// The Rollout whose decision stands behind them.
        rollout: Object,
        /// All of them.
        writes: Shared<Vec<Write>>,
        /// How many are made.
        made: usize,
        /// What the reads for the next one have answered.
        answers: Vec<Option<Object>>,
    },
}

/// How the last look of a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// As it should.
    Well,
    /// The commit was refused: somebody wrote the Rollout meanwhile.
    NotCommitted,
    /// Before a write the Rollout carried another decision.
    Superseded,
    /// The object carried a later epoch.
    Fenced,
    /// The object wasn't as the decision saw it.
    Changed,
    /// The write was refused: somebody wrote the object after it was read.
    Conflict,
    /// A reply never came.
    Lost,
}

/// What a look says.
#[derive(Debug, Clone)]
pub struct Look {
    /// What there is to do.
    pub job: Option<Job>,
    /// What is sampled from here on; a job's begins with its commit.
    pub sampling: Option<i64>,
    /// Since when the weights have been seen.
    pub since: Since,
    /// When to look again if nothing happens.
    pub requeue_at: Option<Timestamp>,
}

/// The moment of a look.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The API server.
    pub store: &'a Store,
    /// Stretches of time so far.
    pub stretches: u8,
    /// The latest of them.
    pub past: &'a [Stretch],
}

fn parse(object: &Value) -> Option<Rollout> {
    let mut object = object.clone();
    // Here it orders objects and is no time.
    object["metadata"]["creationTimestamp"] = Value::Null;
    serde_json::from_value(object).ok()
}

impl Process {
    /// One that has just begun.
    #[must_use]
    pub fn new(number: u8) -> Self {
        Self {
            number,
            former: None,
            frozen: None,
            since: None,
            sampling: None,
            job: None,
            ended: Ended::Well,
        }
    }

    /// All that a look depends on, as one number.
    #[must_use]
    pub fn view(&self, moment: Moment<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        copies(&moment.store.objects, self.frozen.as_ref()).hash(&mut hasher);
        (self.number, &self.since, self.sampling, moment.stretches).hash(&mut hasher);
        self.sampling.map(|_| moment.past).hash(&mut hasher);
        hasher.finish()
    }

    /// Observe and decide. Calls nobody.
    #[must_use]
    pub fn look(&self, moment: Moment<'_>) -> Look {
        let objects = copies(&moment.store.objects, self.frozen.as_ref());
        let nothing = Look {
            job: None,
            sampling: self.sampling,
            since: self.since.clone(),
            requeue_at: None,
        };
        let Some(raw) = objects.get(&target(Kind::Rollout, APP)) else { return nothing };
        let Some(rollout) = parse(raw) else { return nothing };
        let now = metrics::at(moment.stretches);
        let view = View { objects: &objects, since: RefCell::new(self.since.clone()), now };
        let found = gather(&rollout, &view);
        let since = view.since.into_inner();
        let status = rollout.status.clone().unwrap_or_default();
        let actions = objects.iter().filter(|(t, _)| t.kind == Kind::RolloutAction);
        let actions = actions.map(|(_, object)| &**object);
        let (seen, stamped) = found.observed(
            resolve(&rollout.spec, &Templates::new()),
            Action::list(actions, APP, text(raw, "/metadata/uid")),
            HoldMode::PausedAtRest,
            // Events leave as soon as they are committed.
            Delivery {
                events: status.outbox.iter().map(|n| n.id.clone()).collect(),
                ..Delivery::default()
            },
        );
        let number = status.release.as_ref().map_or(0, |r| r.number);
        let samples = if self.sampling == Some(number) {
            metrics::samples(&status, moment.past, moment.stretches)
        } else {
            Samples::default()
        };
        let turn = turn(&rollout, &seen, &stamped, &samples, &self.name(), now);
        let plan = turn.plan.as_ref();
        let act = |writes| Job::Act {
            rollout: raw.clone(),
            writes: Shared::shown(writes),
            made: 0,
            answers: Vec::new(),
        };
        let put = |status: &RolloutStatus, sampling, acts| Job::Commit {
            patch: Shared::shown(commit(&rollout, status)),
            sampling,
            acts: Shared::shown(acts),
        };
        let (job, sampling) = match turn.next {
            Next::Rest => (None, sampled(plan, &status)),
            Next::TakeOver(claimed) => {
                (Some(put(&claimed, self.sampling, Vec::new())), self.sampling)
            }
            Next::Stamp(stamps) => (Some(act(stamps)), self.sampling),
            Next::Commit(status, acts) => {
                (Some(put(&status, sampled(plan, &status), acts)), self.sampling)
            }
            Next::Act(acts) => (Some(act(acts)), sampled(plan, &status)),
        };
        Look { job, sampling, since, requeue_at: turn.requeue_at }
    }

    /// Go on from a look.
    pub fn begin(&mut self, look: &Look) {
        self.job.clone_from(&look.job);
        self.sampling = look.sampling;
        self.since.clone_from(&look.since);
        self.ended = Ended::Well;
    }

    fn name(&self) -> String {
        format!("process-{}", self.number)
    }

    /// Take up what came of a call. When its reply is `lost`, the API server has done what was asked,
    /// and the process knows of nothing.
    pub fn answered(&mut self, called: &Called, lost: bool) {
        self.job.clone_from(&called.job);
        match called.ended {
            Some(ended) => self.ended = ended,
            None if lost => (self.job, self.ended) = (None, Ended::Lost),
            None => {
                self.sampling = called.sampling.unwrap_or(self.sampling);
                self.wrote(called.object.as_ref());
            }
        }
    }

    /// An answer to a write of ours.
    fn wrote(&mut self, object: Option<&Object>) {
        let (Some(frozen), Some(object)) = (&mut self.frozen, object) else { return };
        let kind = match text(object, "/kind") {
            "Rollout" => Kind::Rollout,
            "Deployment" => Kind::Deployment,
            "ReplicaSet" => Kind::ReplicaSet,
            "Service" => Kind::Service,
            "VirtualService" => Kind::VirtualService,
            "HTTPRoute" => Kind::HTTPRoute,
            _ => return,
        };
        frozen.wrote.insert(target(kind, text(object, "/metadata/name")), object.clone());
    }

    /// The watches bring nothing new from here on.
    pub fn freeze(&mut self, stale: crate::view::Stale, objects: &Objects) {
        let (objects, wrote) = (Arc::clone(objects), std::collections::BTreeMap::new());
        self.frozen = Some(Frozen { stale, objects, wrote });
    }
}

/// What comes of a call.
#[derive(Debug, Clone)]
pub struct Called {
    /// The API server then.
    pub store: Store,
    /// What is left to do.
    pub job: Option<Job>,
    /// Why nothing is, where it ended early.
    pub ended: Option<Ended>,
    /// What is sampled from here on, where that changes.
    pub sampling: Option<Option<i64>>,
    /// The object that was written, as it was answered.
    pub object: Option<Object>,
}

impl Job {
    /// The next call.
    #[must_use]
    pub fn call(&self, store: &Store, names: &Names) -> Called {
        let store = store.clone();
        let mut called = Called { store, job: None, ended: None, sampling: None, object: None };
        called.ended = match self {
            Job::Commit { patch, sampling, acts } => {
                called.commit(names, patch, *sampling, acts).err()
            }
            Job::Act { rollout, writes, made, answers } => {
                called.act(names, rollout, writes, (*made, answers)).err()
            }
        };
        called
    }
}

impl Called {
    fn commit(
        &mut self,
        names: &Names,
        patch: &Patch,
        sampling: Option<i64>,
        acts: &Shared<Vec<Write>>,
    ) -> Result<(), Ended> {
        let request = Request::Patch(patch.clone());
        let written = self.store.write(names, &target(Kind::Rollout, APP), &request);
        let rollout = written.map_err(|_| Ended::NotCommitted)?;
        self.sampling = Some(sampling);
        self.object.clone_from(&rollout);
        self.job = rollout.filter(|_| !acts.is_empty()).map(|rollout| Job::Act {
            rollout,
            writes: acts.clone(),
            made: 0,
            answers: Vec::new(),
        });
        Ok(())
    }

    fn act(
        &mut self,
        names: &Names,
        rollout: &Object,
        writes: &Shared<Vec<Write>>,
        (made, answers): (usize, &[Option<Object>]),
    ) -> Result<(), Ended> {
        let Some(write) = writes.get(made) else { return Ok(()) };
        let weight = number(rollout, "/status/decision/weight");
        let author = Author {
            rollout: APP,
            uid: text(rollout, "/metadata/uid"),
            namespace: NAMESPACE,
            deployment: APP,
            epoch: number(rollout, "/status/decision/epoch"),
            rivals: &[],
            allowed: Mark {
                release: number(rollout, "/status/decision/release"),
                weight: i32::try_from(weight).unwrap_or(0),
            },
        };
        let by = Committed { author, seq: number(rollout, "/status/decision/seq") };
        let so_far: Vec<Option<&Value>> = answers.iter().map(|a| a.as_deref()).collect();
        let (made, answers) = match next(write, by, &so_far) {
            Ok(Call::Read(target)) => {
                let answer = self.store.objects.get(&target).cloned();
                (made, answers.iter().cloned().chain([answer]).collect())
            }
            Ok(Call::Done) => (made + 1, Vec::new()),
            Ok(Call::Send(target, request)) => {
                let written = self.store.write(names, &target, &request);
                self.object = written.map_err(|_| Ended::Conflict)?;
                (made + 1, Vec::new())
            }
            Err(Stopped::Superseded) => return Err(Ended::Superseded),
            Err(Stopped::Refused(Refusal::Fenced { .. })) => return Err(Ended::Fenced),
            Err(Stopped::Refused(_)) => return Err(Ended::Changed),
        };
        if made < writes.len() {
            let (rollout, writes) = (rollout.clone(), writes.clone());
            self.job = Some(Job::Act { rollout, writes, made, answers });
        }
        Ok(())
    }
}

/// The release that is sampled by this status.
fn sampled(plan: Option<&Plan>, status: &RolloutStatus) -> Option<i64> {
    wanted(plan?, status, NAMESPACE)?;
    Some(status.release.as_ref().map_or(0, |r| r.number))
}
