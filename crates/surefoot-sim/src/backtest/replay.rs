//! One pod's past as if it had been a canary's, judged by the very policy and by the rules of the
//! peers.

use std::time::Duration;

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use surefoot_core::api::rollout::OnInconclusive;
use surefoot_core::engine::Run;
use surefoot_core::plan::{Plan, StepPlan};
use surefoot_core::samples::{Count, Histogram, Tick};
use surefoot_stats::Baseline;
use surefoot_stats::judge::peers::{Argo, Call, FisherPeeked, Flagger, Kayenta, Limits};

use super::fault::Fault;
use super::past::{Past, SLOT};
use crate::contest::{KAYENTA_LOOKS, POLLS_A_MINUTE, Sums};
use crate::forecast::End;

/// The peers' rules, in the order of [`Release::peers`].
pub const PEERS: [&str; 4] = ["Flagger", "Argo", "Kayenta", "Fisher, peeked"];
/// How long the peers look, in slots: as long as Kayenta.
pub const PEERS_LOOK: usize = 120;
/// Stable's past that a release begins with, in slots: what the controller reads of all pods
/// together, and of each.
const KNOWN: (usize, usize) = (60, 720);
/// A step that goes on for ever is left after so many times its maxDuration.
const EXTENDED: u32 = 24;

/// What is replayed, and how.
#[derive(Debug, Clone)]
pub struct Replay<'a> {
    /// What it is judged by.
    pub plan: &'a Plan,
    /// Stable's past.
    pub past: &'a Past,
    /// The Deployment's pods: with how many a step grows, and leaves out their first time.
    pub replicas: u32,
    /// The longest that the route lets a request take.
    pub timeout: Duration,
    /// The chance by which faults are put in. The same seed gives the same releases.
    pub seed: u64,
}

/// One release that never was.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// How it ended; `None`: the past ended first, though it would not have with a good canary.
    pub end: Option<End>,
    /// How long it took till then.
    pub took: Duration,
    /// What the pseudo-canary did meanwhile.
    pub canary: Count,
    /// When each of [`PEERS`] rolled back, from the beginning on.
    pub peers: [Peer; PEERS.len()],
}

/// What became of one pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// Its releases as they were, then those with each fault, in the same order.
    pub releases: Vec<Vec<Release>>,
    /// Whether the past ended within another one.
    pub cut: bool,
}

/// What became of a release by a peer's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The past ends before its last look: whatever it says by then would be half the story.
    Cut,
    /// It had no objection.
    WentOn,
    /// It rolled back after so long.
    RolledBack(Duration),
}

impl Replay<'_> {
    /// One pod's releases, one after the other through the whole past: first as they were, then the
    /// same ones with each of `faults`. One that the past is too short for is left out of all.
    ///
    /// They begin on a grid as wide as a release takes at least, or the peers: so that no request is
    /// judged in two releases of a pod, and one that is stopped at once is not tried again at once.
    #[must_use]
    pub fn pod(&self, pod: usize, faults: &[Fault]) -> Replayed {
        let baseline = self.past.baseline();
        let (first, stride) = (self.first(), self.stride());
        let mut releases = vec![Vec::new(); faults.len() + 1];
        let (mut start, mut cut) = (first, false);
        while start < self.past.slots() && !cut {
            let known = self.past.before(start, KNOWN, pod);
            let begun = Run::begin(self.plan, known.as_ref(), Timestamp::UNIX_EPOCH);
            let Some(begun) = begun else { break };
            let all = std::iter::once(Fault::None).chain(faults.iter().copied());
            let mut took = 0;
            for (fault, releases) in all.zip(&mut releases) {
                let stream = Stream { replay: self, pod, fault, baseline: baseline.as_ref() };
                let release = stream.release(begun.clone(), start);
                if fault == Fault::None {
                    took = slots(release.took);
                    cut = release.end.is_none();
                    if cut {
                        break;
                    }
                }
                releases.push(release);
            }
            start += took.div_ceil(stride).max(1) * stride;
        }
        Replayed { releases, cut }
    }

    /// How long a release takes at least: what it leaves out, and each step's least time.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        let steps = self
            .steps()
            .map(|(step, left_out)| (left_out + step.min_duration).max(left_out + self.hangs()));
        steps.sum()
    }

    /// Each step, and how much of its beginning is left out: more where cold pods come up with it.
    fn steps(&self) -> impl Iterator<Item = (&StepPlan, Duration)> {
        let mut pods = 0;
        self.plan.steps.iter().map(move |step| {
            let grown = step.pods(self.replicas) > pods;
            pods = step.pods(self.replicas);
            (step, if grown { step.settle.max(step.warm_up) } else { step.settle })
        })
    }

    /// How long a request may hang: no step passes sooner.
    fn hangs(&self) -> Duration {
        self.timeout + self.plan.propagation_delay
    }

    /// The first release begins after as much past as a release knows, at most a quarter of all that
    /// there is.
    fn first(&self) -> usize {
        KNOWN.1.min(self.past.slots() / 4)
    }

    fn stride(&self) -> usize {
        slots(self.shortest()).max(self.left_out_first() + PEERS_LOOK)
    }

    /// What the first step leaves out, in slots.
    fn left_out_first(&self) -> usize {
        self.steps().next().map_or(0, |(_, left_out)| slots(left_out))
    }
}

/// One pod's requests as a canary's, with a fault.
struct Stream<'a> {
    replay: &'a Replay<'a>,
    pod: usize,
    fault: Fault,
    /// Stable's latencies.
    baseline: Option<&'a Baseline>,
}

impl Stream<'_> {
    /// A slot's tick with the fault put in; `None` past the end.
    fn tick(&self, slot: usize) -> Option<Tick> {
        let mut canary = self.replay.past.slot(slot, self.pod)?;
        // Of the pod and the slot alone, so that all judges get the same requests.
        let own = ((self.pod as u64) << 32) | slot as u64;
        let mut chance = StdRng::seed_from_u64(self.replay.seed.wrapping_add(own));
        self.fault.put(&mut canary, self.baseline, &mut chance);
        self.replay.past.tick(slot, self.pod, canary)
    }

    fn release(&self, run: Run<'_>, start: usize) -> Release {
        let (took, canary) = (Duration::ZERO, Count::default());
        let mut release = Release { end: None, took, canary, peers: self.peers(start) };
        release.end = self.judge(run, start, &mut release);
        release
    }

    /// By the policy, as in [`crate::forecast`]; `None` when the past ends first.
    fn judge(&self, mut run: Run<'_>, start: usize, release: &mut Release) -> Option<End> {
        let mut slots = start..;
        for (index, (step, left_out)) in self.replay.steps().enumerate() {
            if index > 0 {
                run.begin_step(index);
            }
            let last = match step.on_inconclusive {
                OnInconclusive::Extend => step.max_duration * EXTENDED,
                _ => step.max_duration,
            };
            let mut took = Duration::ZERO;
            loop {
                let mut tick = self.tick(slots.next()?)?;
                if step.weight >= 100 {
                    alone(&mut tick);
                }
                release.canary.requests += tick.canary.requests;
                release.canary.failed += tick.canary.failed;
                run.take(&tick, took >= left_out);
                took += SLOT;
                release.took += SLOT;
                if run.harmed() {
                    return Some(End::RolledBack(index));
                }
                if took >= left_out + self.replay.hangs() && run.passes() {
                    break;
                }
                if took >= last {
                    if step.on_inconclusive == OnInconclusive::Promote {
                        break;
                    }
                    return Some(End::Inconclusive(index));
                }
            }
        }
        Some(End::Promoted)
    }

    /// By the peers' rules: they look for as long as Kayenta does, after what the first step leaves
    /// out.
    fn peers(&self, start: usize) -> [Peer; PEERS.len()] {
        let boundaries = self.replay.past.boundaries().to_vec();
        let limits = || Limits::usual(POLLS_A_MINUTE, boundaries.clone());
        let (mut flagger, mut argo) = (Flagger::new(limits(), 5), Argo::new(limits(), 3));
        let looks = KAYENTA_LOOKS.to_vec();
        let mut kayenta = Kayenta::new(POLLS_A_MINUTE, looks, boundaries.clone(), 0.99);
        let mut fisher = FisherPeeked::new(0.05);
        let mut said = [Peer::WentOn; PEERS.len()];
        let first = start + self.replay.left_out_first();
        if first + PEERS_LOOK > self.replay.past.slots() {
            return [Peer::Cut; PEERS.len()];
        }
        for (look, after) in (first..first + PEERS_LOOK).zip(first - start + 1..) {
            let Some(tick) = self.tick(look) else { continue };
            let sums = Sums::of(&tick);
            let poll = sums.poll();
            let calls =
                [flagger.look(&poll), argo.look(&poll), kayenta.look(&poll), fisher.look(&poll)];
            for (said, call) in said.iter_mut().zip(calls) {
                if call == Call::RollsBack && *said == Peer::WentOn {
                    *said = Peer::RolledBack(SLOT * u32::try_from(after).unwrap_or(u32::MAX));
                }
            }
        }
        said
    }
}

/// At 100% nobody else gets requests.
fn alone(tick: &mut Tick) {
    tick.stable = Count::default();
    if let Some(latency) = &mut tick.latency {
        let at_most = vec![0; latency.boundaries.len()];
        latency.stable = Histogram { requests: 0, at_most };
    }
}

fn slots(span: Duration) -> usize {
    usize::try_from(span.as_secs().div_ceil(SLOT.as_secs())).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
