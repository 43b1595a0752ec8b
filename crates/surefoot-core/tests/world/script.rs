//! What may happen, and in which settings: the search space.

use proptest::prelude::*;
use serde_json::{Value, json};
use surefoot_core::api::ActionKind;

use super::view::Lags;

/// Where news is told.
pub const CHANNEL: &str = "releases";

/// A Rollout and its cluster.
#[derive(Debug, Clone)]
pub struct Setup {
    pub steps: Vec<(i32, bool)>,
    pub replicas: u32,
    pub policy: bool,
    pub on_inconclusive: &'static str,
    pub undo: &'static str,
    pub no_data: &'static str,
    pub revert: bool,
    pub way: Way,
    /// The only metric.
    pub metric: Value,
    /// A channel is told of everything.
    pub told: bool,
    /// How long proxies may take to see a change.
    pub propagation: &'static str,
    /// The first weight's step chooses requests as well.
    pub choosing: bool,
}

/// How the two versions are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A Service each.
    Services,
    /// A Service each, and callers outside of the mesh reach stable only.
    Alone,
    /// Two subsets.
    Subsets,
    /// A Service each, and an HTTPRoute between them.
    Gateway,
}

impl Way {
    /// The kind of route that it takes.
    pub fn route(self) -> &'static str {
        match self {
            Way::Services | Way::Alone | Way::Subsets => "VirtualService",
            Way::Gateway => "HTTPRoute",
        }
    }
}

impl Setup {
    /// Three steps, the policy, all else by default.
    pub fn plain() -> Self {
        Self {
            steps: vec![(10, false), (50, false), (100, false)],
            replicas: 4,
            policy: true,
            on_inconclusive: "pause",
            undo: "immediate",
            no_data: "pause",
            revert: false,
            way: Way::Services,
            metric: sequential(),
            told: false,
            propagation: "5s",
            choosing: false,
        }
    }

    pub fn spec(&self) -> Value {
        let mut steps: Vec<Value> = self
            .steps
            .iter()
            .map(|(weight, approval)| {
                let mut step = json!({"weight": weight});
                if *weight == 0 {
                    step["preview"] = json!(true);
                }
                if *approval {
                    step["approval"] = json!({});
                }
                step
            })
            .collect();
        let first = steps.iter_mut().find(|step| step["weight"] != 0 && step["weight"] != 100);
        if let Some(step) = first.filter(|_| self.choosing) {
            step["match"] = json!([{"headers": {"x-canary": {"exact": "true"}}}]);
        }
        let channels: &[Value] = if self.told { &[json!({"channel": CHANNEL})] } else { &[] };
        let mut spec = json!({
            "notifications": channels,
            "targetRef": {"kind": "Deployment", "name": "shop"},
            "traffic": {
                "mesh": "istio", "service": "shop",
                "routes": [{"kind": self.way.route(), "name": "shop"}],
                "propagationDelay": self.propagation,
            },
            "steps": steps,
            "gate": {
                "minDuration": "15s", "maxDuration": "4m", "minRequests": 50, "settle": "5s",
                "warmUp": "10s", "onInconclusive": self.on_inconclusive,
            },
            "analysis": {
                "metrics": [self.metric],
                "noDataPolicy": {"after": "40s", "then": self.no_data},
            },
            "undo": self.undo,
            "progressDeadline": "1m",
            "scaleDownDelay": "10s",
            "onDelete": if self.revert { "revert" } else { "keepStable" },
        });
        match self.way {
            Way::Services | Way::Gateway => {}
            Way::Alone => spec["traffic"]["apex"] = json!("stableOnly"),
            Way::Subsets => {
                let subsets = json!({"destinationRule": "shop", "stable": "old", "canary": "new"});
                spec["traffic"]["split"] = json!({"subsets": subsets});
            }
        }
        spec
    }
}

/// One thing that happens: so many looks after the one before, and so many of the controller's
/// calls into that look.
#[derive(Debug, Clone)]
pub struct Event {
    pub after: u8,
    pub calls: u8,
    pub op: Op,
}

#[derive(Debug, Clone)]
pub enum Op {
    /// The Deployment gets this of the templates.
    Template(u8),
    /// The Deployment gets this size.
    Scale(u8),
    /// A person's command, for the release and step under way or that far beside.
    Command { kind: ActionKind, release: i8, step: i8 },
    /// Somebody brings the traffic back by hand, for the release under way or so far beside.
    BreakGlass { release: i8 },
    /// `spec.paused`.
    Pause(bool),
    /// The plan is edited.
    Edit(u8),
    /// The process ends, another begins.
    Crash,
    /// The reply to the last call never arrives.
    LoseReply,
    /// Another process leads; the former is frozen for so many looks, and then goes on for some.
    HandOver { frozen: u8, alive: u8 },
    /// The watches lag, each its own way, for so many looks.
    Lag(Lags, u8),
    /// No metrics.
    Outage(u8),
    /// Metrics with a part missing.
    Partial(u8),
    /// No requests.
    Silence(u8),
    /// No ready pods of one version.
    Vanish { canary: bool, looks: u8 },
    /// The canary's pods are taken away and replaced for so many looks.
    Evict(u8),
    /// Somebody lowers the canary's weight.
    Lower(u8),
    /// Somebody raises it, and again for so many looks whenever it isn't that.
    Raise(u8, u8),
    /// The route is put back to 100/0, and with that to what it was before we noted anything on it.
    Reset { whole: bool },
    /// Somebody takes the entry for chosen requests away.
    Unchoose,
    /// Somebody lets it take all requests.
    Widen,
    /// The Rollout is deleted.
    Delete,
}

fn sequential() -> Value {
    json!({"name": "success-rate", "successRate": {"maxDrop": "5pp"}})
}

pub fn setup() -> impl Strategy<Value = Setup> {
    let below = proptest::collection::btree_set(1..100i32, 0..4);
    // As many as there are steps at most, a preview and the last one among them.
    let approvals = proptest::collection::vec(proptest::bool::weighted(0.15), 5);
    (
        below,
        approvals,
        1..6u32,
        any::<bool>(),
        prop::sample::select(vec!["pause", "rollback", "extend", "promote"]),
        prop::sample::select(vec!["immediate", "steps"]),
        prop::sample::select(vec!["pause", "pause", "rollback"]),
        any::<bool>(),
        prop::sample::select(vec![Way::Services, Way::Alone, Way::Subsets, Way::Gateway]),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(
                below,
                approvals,
                replicas,
                policy,
                on_inconclusive,
                undo,
                no_data,
                revert,
                way,
                preview,
                choosing,
            )| {
                let preview = (preview && way == Way::Alone).then_some(0);
                let weights = preview.into_iter().chain(below).chain([100]);
                let steps = weights.zip(approvals).collect();
                Setup {
                    steps,
                    replicas,
                    policy,
                    on_inconclusive,
                    undo,
                    no_data,
                    revert,
                    way,
                    metric: sequential(),
                    told: true,
                    propagation: "5s",
                    choosing,
                }
            },
        )
}

pub fn op() -> impl Strategy<Value = Op> {
    let beside = || prop_oneof![4 => Just(0i8), 1 => -1..2i8];
    prop_oneof![
        6 => (0..5u8).prop_map(Op::Template),
        2 => (0..7u8).prop_map(Op::Scale),
        4 => (prop::sample::select(ActionKind::ALL.to_vec()), beside(), beside())
            .prop_map(|(kind, release, step)| Op::Command { kind, release, step }),
        1 => beside().prop_map(|release| Op::BreakGlass { release }),
        1 => any::<bool>().prop_map(Op::Pause),
        1 => (1..100u8).prop_map(Op::Edit),
        4 => Just(Op::Crash),
        2 => Just(Op::LoseReply),
        4 => (0..6u8, 1..4u8).prop_map(|(frozen, alive)| Op::HandOver { frozen, alive }),
        3 => (prop::array::uniform9(0..6u8), 1..6u8).prop_map(|(lags, looks)| Op::Lag(lags, looks)),
        1 => (1..20u8).prop_map(Op::Outage),
        1 => (1..4u8).prop_map(Op::Partial),
        1 => (1..20u8).prop_map(Op::Silence),
        1 => (any::<bool>(), 1..5u8).prop_map(|(canary, looks)| Op::Vanish { canary, looks }),
        1 => (1..6u8).prop_map(Op::Evict),
        1 => (0..100u8).prop_map(Op::Lower),
        2 => (1..101u8, 0..8u8).prop_map(|(weight, looks)| Op::Raise(weight, looks)),
        1 => any::<bool>().prop_map(|whole| Op::Reset { whole }),
        1 => Just(Op::Unchoose),
        1 => Just(Op::Widen),
        1 => Just(Op::Delete),
    ]
}

/// A release begins and then anything happens, most of it within the time a release takes.
pub fn script() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..14u8, 0..14u8, op()).prop_map(|(after, calls, op)| Event { after, calls, op });
    let first = (1..5u8).prop_map(|i| Event { after: 2, calls: 0, op: Op::Template(i) });
    (first, proptest::collection::vec(event, 1..12))
        .prop_map(|(first, rest)| std::iter::once(first).chain(rest).collect())
}
