//! The engine in one go, for planning and simulation: the code that judges a release, without its
//! state being written between two looks.

use std::time::Duration;

use jiff::Timestamp;
use surefoot_stats::{Pass, Role, State, Test};

use super::{Engine, begin, begin_step, reach};
use crate::plan::Plan;
use crate::samples::{BaselineSample, Tick};

/// A release under way.
#[derive(Clone)]
pub struct Run<'a> {
    plan: &'a Plan,
    engine: Engine,
    step: usize,
}

impl<'a> Run<'a> {
    /// At its first step, with stable's past where there is one. `None` for a plan without steps.
    #[must_use]
    pub fn begin(plan: &'a Plan, past: Option<&BaselineSample>, now: Timestamp) -> Option<Self> {
        Some(Self { plan, engine: Engine::decode(&begin(plan, past, now))?, step: 0 })
    }

    /// Begin another step; one that the plan doesn't have changes nothing.
    pub fn begin_step(&mut self, step: usize) {
        if let Some(engine) = Engine::decode(&begin_step(&self.engine.encode(), step)) {
            (self.engine, self.step) = (engine, step);
        }
    }

    /// Take a tick; whether it is judged, or only the crash guard looks.
    pub fn take(&mut self, tick: &Tick, judged: bool) {
        let longest = self.plan.steps.get(self.step).map_or(Duration::ZERO, |s| s.min_duration);
        self.engine.take(tick, judged, longest);
    }

    /// Whether there was harm, now or before.
    #[must_use]
    pub fn harmed(&self) -> bool {
        self.engine.state.harm(&self.engine.policy).reached
    }

    /// Whether the step passes now, by all sequential metrics that must pass, its time and its
    /// requests. Nobody answers users' queries here: pairs of them are left out.
    #[must_use]
    pub fn passes(&self) -> bool {
        let Some(step) = self.plan.steps.get(self.step) else { return false };
        let (policy, state): (_, &State) = (&self.engine.policy, &self.engine.state);
        let judged = Duration::from_millis(self.engine.judged);
        judged >= step.min_duration
            && self.engine.step.canary.n() >= step.min_requests
            && policy.metrics.iter().enumerate().all(|(i, metric)| {
                let pass = state.pass(policy, i);
                let left_out =
                    metric.role != Role::Required || matches!(metric.test, Test::Pairs(_));
                left_out || pass.reached() || pass == Pass::NoStableTraffic
            })
    }

    /// What of the present step's gate can't be met at so many requests a second, in words with what
    /// to change.
    #[must_use]
    pub fn unreachable(&self, rate: f64) -> Vec<String> {
        let gates = reach::unreachable(self.plan, &self.engine.encode(), self.step, rate);
        let step = self.plan.steps.get(self.step);
        step.map_or_else(Vec::new, |step| gates.iter().map(|g| reach::in_words(g, step)).collect())
    }
}
