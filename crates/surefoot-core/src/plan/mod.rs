//! The validated plan of a release: what a spec means, parsed once, with every default filled in.

mod judge;
mod metric;
mod template;

pub use judge::{ChecksPlan, Comparison, JudgePlan};
pub use metric::{MetricKind, MetricPlan};
pub use template::{Templates, resolve};

use std::time::Duration;

use serde::Serialize;

use crate::api::analysis::{MetricRole, NoDataAction, SourceKind, SourceRef, TemplateKind};
use crate::api::rollout::{
    Apex, Gate, Mesh, OnDelete, OnInconclusive, RequestMatch, RolloutSpec, RouteKind, Step, Undo,
};
use crate::api::text::{CountOrPercent, Percent, Span, TextError};
use crate::engine;
use crate::routing::{Routing, Side};

/// Most bytes of the engine's state in the status; the definition refuses more.
const MOST_BYTES: usize = 65_536;

/// Why a spec can't be followed: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A text value that doesn't parse.
    #[error("{path}: {source}")]
    Text {
        /// Where.
        path: String,
        /// What is wrong with it.
        source: TextError,
    },
    /// Two values that don't go together.
    #[error("{path}: {problem}; {remedy}")]
    Invalid {
        /// Where.
        path: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A template that isn't there.
    #[error("{kind:?} {name:?} doesn't exist: create it or remove it from analysis.templates")]
    TemplateMissing {
        /// Its kind.
        kind: TemplateKind,
        /// Its name.
        name: String,
    },
}

/// What a release follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The Deployment.
    pub deployment: String,
    /// By which names its traffic goes.
    pub routing: Routing,
    /// Whether a route or subsets of another shape are brought into shape.
    pub adopt: bool,
    /// How long a written weight may take to be in force.
    pub propagation_delay: Duration,
    /// The steps; the last has weight 100.
    pub steps: Vec<StepPlan>,
    /// The metrics.
    pub metrics: Vec<MetricPlan>,
    /// Chance of rolling back a release within its tolerances, in (0, 0.5].
    pub false_rollback: f64,
    /// Chance of passing a metric beyond its tolerance, a step, in (0, 0.5].
    pub false_pass: f64,
    /// Where the metrics are.
    pub source: SourceRef,
    /// How long to hold without data.
    pub no_data_after: Duration,
    /// What follows then.
    pub no_data_then: NoDataAction,
    /// What a template promoted lately means.
    pub undo: Undo,
    /// How long canary pods may take.
    pub progress_deadline: Duration,
    /// How long old pods stay.
    pub scale_down_delay: Duration,
    /// What deletion does to the held template.
    pub on_delete: OnDelete,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepPlan {
    /// Per cent, 1 to 100; 0 of a preview.
    pub weight: i32,
    /// The weight that its pods are enough for: its own, of a preview the next step's.
    pub pods_for: i32,
    /// Requests that go to the canary whatever its weight.
    pub chosen: Vec<RequestMatch>,
    /// The user's wish for the number of pods.
    pub replicas: Option<CountOrPercent>,
    /// Whether a person must approve.
    pub approval: bool,
    /// Judged time that must be covered.
    pub min_duration: Duration,
    /// When it is inconclusive.
    pub max_duration: Duration,
    /// Canary requests that must be judged.
    pub min_requests: u64,
    /// What follows when inconclusive.
    pub on_inconclusive: OnInconclusive,
    /// Left out after a change of weight.
    pub settle: Duration,
    /// Left out after the first traffic of a new pod.
    pub warm_up: Duration,
}

impl StepPlan {
    /// How many canary pods the step wants beside `replicas` of the Deployment: at 100 all of them;
    /// else what the user says, or enough for the weight and two where there are as many.
    #[must_use]
    pub fn pods(&self, replicas: u32) -> u32 {
        if self.weight >= 100 {
            return replicas;
        }
        let share = (u64::from(replicas) * u64::from(self.pods_for.unsigned_abs())).div_ceil(100);
        let enough = u32::try_from(share).unwrap_or(replicas).max(replicas.min(2));
        self.replicas.as_ref().and_then(|r| r.of(replicas).ok()).unwrap_or(enough)
    }

    /// Whether the canary gets no traffic by the route yet.
    #[must_use]
    pub fn is_preview(&self) -> bool {
        self.weight == 0
    }
}

impl Plan {
    /// About how long a release takes, in minutes, for a replay of stable's past: that of its steps'
    /// least times, from 10 to 60.
    #[must_use]
    pub fn replayed_minutes(&self) -> usize {
        let minutes: u64 = self.steps.iter().map(|step| step.min_duration.as_secs() / 60).sum();
        usize::try_from(minutes.clamp(10, 60)).unwrap_or(10)
    }

    /// The same with φ ≥ 1 and η in (0, 1] of each sequential metric, in order, as if the Rollout gave
    /// them.
    #[must_use]
    pub fn calibrated(mut self, each: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let sequential = self.metrics.iter_mut().filter(|metric| metric.is_sequential());
        for (metric, known) in sequential.zip(each) {
            metric.calibration = Some(known);
        }
        self
    }

    /// Read a resolved spec.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place and a remedy. Admission refuses most of them;
    /// this is what stands when it could not.
    pub fn of(spec: &RolloutSpec) -> Result<Self, PlanError> {
        let analysis = spec.analysis.clone().unwrap_or_default();
        let steps = steps(spec)?;
        let metrics = metric::plans(&analysis.metrics, spec.traffic.mesh)?;
        if spec.target_ref.name.len() > 46 {
            return Err(PlanError::Invalid {
                path: "targetRef.name".to_owned(),
                problem: "names of its pods would be cut and no longer tell the versions apart"
                    .to_owned(),
                remedy: "give the Deployment a name of at most 46 characters".to_owned(),
            });
        }
        let judged = metrics.iter().any(|m| m.role == MetricRole::Required);
        if !judged && !steps.iter().all(|s| s.approval) {
            return Err(PlanError::Invalid {
                path: "analysis.metrics".to_owned(),
                problem: "no metric is required, so nothing would ever pass a step".to_owned(),
                remedy: "make a metric's role required, or give every step an approval".to_owned(),
            });
        }
        let no_data = analysis.no_data_policy.as_ref();
        let plan = Self {
            deployment: spec.target_ref.name.clone(),
            routing: routing(spec)?,
            adopt: spec.traffic.adopt,
            propagation_delay: span(
                "traffic.propagationDelay",
                spec.traffic.propagation_delay.as_ref(),
                15,
            )?,
            steps,
            metrics,
            false_rollback: risk("analysis.falseRollback", analysis.false_rollback.as_ref(), 0.01)?,
            false_pass: risk("analysis.falsePass", analysis.false_pass.as_ref(), 0.05)?,
            source: analysis.source_ref.unwrap_or(SourceRef {
                kind: SourceKind::ClusterMetricsSource,
                name: "default".to_owned(),
            }),
            no_data_after: span(
                "analysis.noDataPolicy.after",
                no_data.and_then(|p| p.after.as_ref()),
                600,
            )?,
            no_data_then: no_data.and_then(|p| p.then).unwrap_or(NoDataAction::Pause),
            undo: spec.undo.unwrap_or(Undo::Immediate),
            progress_deadline: span("progressDeadline", spec.progress_deadline.as_ref(), 600)?,
            scale_down_delay: span("scaleDownDelay", spec.scale_down_delay.as_ref(), 30)?,
            on_delete: spec.on_delete.unwrap_or(OnDelete::KeepStable),
        };
        let bytes = engine::most_bytes(&plan);
        if bytes > MOST_BYTES {
            return Err(PlanError::Invalid {
                path: "analysis.metrics".to_owned(),
                problem: format!(
                    "the evidence of so many metrics over {} steps may take {} kB, and the status \
                     holds {} kB of it",
                    plan.steps.len(),
                    bytes.div_ceil(1024),
                    MOST_BYTES / 1024
                ),
                remedy: "judge fewer metrics sequentially, or take fewer steps".to_owned(),
            });
        }
        Ok(plan)
    }

    /// The steps with traffic: what there is to judge.
    pub fn judged(&self) -> impl Iterator<Item = &StepPlan> {
        self.steps.iter().filter(|step| !step.is_preview())
    }

    /// Which of the steps with traffic this one is; of a preview the first of them.
    #[must_use]
    pub fn judged_index(&self, index: usize) -> usize {
        let previews = self.steps.iter().take_while(|step| step.is_preview()).count();
        index.saturating_sub(previews)
    }

    /// The same plan without a preview, for what looks at traffic alone.
    #[must_use]
    pub fn with_traffic(&self) -> Self {
        Self { steps: self.judged().cloned().collect(), ..self.clone() }
    }

    /// The same plan as an undo: one step to all traffic.
    #[must_use]
    pub fn immediate(&self) -> Self {
        let last = self.steps.last().cloned().into_iter();
        let steps = last.map(|s| StepPlan { approval: false, ..s }).collect();
        Self { steps, metrics: Vec::new(), ..self.clone() }
    }
}

fn routing(spec: &RolloutSpec) -> Result<Routing, PlanError> {
    let invalid = |path: &str, problem: &str, remedy: &str| PlanError::Invalid {
        path: format!("traffic.{path}"),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    };
    if spec.traffic.routes.is_empty() {
        let remedy = "name the route to the two versions";
        return Err(invalid("routes", "no route is named", remedy));
    }
    let routes = &spec.traffic.routes;
    let twice = routes.iter().enumerate().find(|(i, one)| {
        routes.iter().take(*i).any(|before| (before.kind, &before.name) == (one.kind, &one.name))
    });
    if let Some((i, _)) = twice {
        let problem = "a route is named twice";
        return Err(invalid(&format!("routes[{i}]"), problem, "name it once"));
    }
    if let Some(split) = &spec.traffic.split
        && split.services.is_some() == split.subsets.is_some()
    {
        return Err(invalid(
            "split",
            "not exactly one of services and subsets",
            "give exactly one",
        ));
    }
    let routing = Routing::of(&spec.traffic);
    let [stable, canary] = [Side::Stable, Side::Canary].map(|side| routing.destination(side));
    if stable == canary {
        return Err(invalid("split", "stable and canary are the same", "give two names"));
    }
    if [stable, canary].iter().any(|d| d.subset.is_none() && d.service == routing.service) {
        let remedy = "clients call that one: name two others";
        return Err(invalid("split.services", "one of them is traffic.service", remedy));
    }
    let by = |kind| routing.each().any(|one| one.kind == kind);
    if routing.rule().is_some() && routing.each().any(|r| r.kind != RouteKind::VirtualService) {
        let problem = "an HTTPRoute knows no subsets";
        return Err(invalid("split.subsets", problem, "split by services"));
    }
    if routing.mesh == Mesh::Linkerd && by(RouteKind::VirtualService) {
        let remedy = "name an HTTPRoute or a GRPCRoute of the Service";
        return Err(invalid("routes", "Linkerd reads no VirtualService", remedy));
    }
    if routing.mesh != Mesh::Linkerd && by(RouteKind::GRPCRoute) {
        let remedy = "name a VirtualService or an HTTPRoute";
        return Err(invalid("routes", "a GRPCRoute is shifted on Linkerd only", remedy));
    }
    if routing.apex == Apex::StableOnly && routing.rule().is_some() {
        let remedy = "leave it at both, or split by services";
        return Err(invalid("apex", "subsets reach both versions by traffic.service", remedy));
    }
    Ok(routing)
}

fn steps(spec: &RolloutSpec) -> Result<Vec<StepPlan>, PlanError> {
    let invalid = |problem: &str| PlanError::Invalid {
        path: "steps".to_owned(),
        problem: problem.to_owned(),
        remedy:
            "write rising weights from 1 to 100 with 100 last, at most 20; before them {weight: 0, \
                 preview: true} where you want one"
                .to_owned(),
    };
    let rising = spec.steps.windows(2).all(|w| w[0].weight < w[1].weight);
    if !rising || spec.steps.first().is_none_or(|s| s.weight < 0) || spec.steps.len() > 20 {
        return Err(invalid("the weights don't rise"));
    }
    if spec.steps.iter().any(|step| (step.weight == 0) != step.preview) {
        return Err(invalid("only a preview has weight 0, and it has no other"));
    }
    if spec.steps.iter().any(|s| s.preview) && spec.traffic.apex != Some(Apex::StableOnly) {
        return Err(PlanError::Invalid {
            path: "traffic.apex".to_owned(),
            problem: "callers who don't go by the route would reach a preview's canary".to_owned(),
            remedy: "set it to stableOnly".to_owned(),
        });
    }
    if spec.steps.last().is_none_or(|s| s.weight != 100) {
        return Err(invalid("the last weight is not 100"));
    }
    let default = spec.gate.clone().unwrap_or_default();
    let mut plans = Vec::with_capacity(spec.steps.len());
    for (i, step) in spec.steps.iter().enumerate() {
        let mut plan = step_plan(i, step, &default)?;
        if let Some(next) = spec.steps.get(i + 1).filter(|_| plan.is_preview()) {
            plan.pods_for = next.weight;
            plan.replicas = plan.replicas.or_else(|| next.replicas.clone());
        }
        plans.push(plan);
    }
    Ok(plans)
}

/// Whom a step chooses, checked again for what admission can't tell cheaply, or didn't.
fn chosen(index: usize, step: &Step) -> Result<Vec<RequestMatch>, PlanError> {
    let invalid = |problem: String, remedy: &str| PlanError::Invalid {
        path: format!("steps[{index}].match"),
        problem,
        remedy: remedy.to_owned(),
    };
    if !step.matches.is_empty() && !(1..100).contains(&step.weight) {
        let problem = format!("at weight {} there is nothing to choose", step.weight);
        return Err(invalid(problem, "put it on a step with a weight from 1 to 99"));
    }
    for one in &step.matches {
        if one.headers.is_empty() {
            let remedy = "name a header, or leave it out";
            return Err(invalid("it chooses every request".to_owned(), remedy));
        }
        for (name, text) in &one.headers {
            let letter =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
            if name.is_empty() || name.len() > 64 || !name.bytes().all(letter) {
                let problem = format!("{name:?} is no name of a header");
                let remedy = "write it in lower case, with at most 64 letters, digits, - _ and .";
                return Err(invalid(problem, remedy));
            }
            if text.exact.is_some() == text.regex.is_some() {
                let problem = format!("header {name}: not exactly one of exact and regex");
                return Err(invalid(problem, "give exactly one"));
            }
            if text.exact.as_deref() == Some("") {
                let problem = format!("header {name}: the empty text is exactly nothing");
                return Err(invalid(problem, "write what its value must be, or a regex"));
            }
            let parsed = text.regex.as_deref().map(regex_syntax::parse).transpose();
            if let Err(error) = parsed {
                let why = error.to_string().lines().last().unwrap_or_default().to_owned();
                let problem = format!("header {name}: its regular expression can't be read: {why}");
                return Err(invalid(problem, "write one that RE2 reads"));
            }
        }
    }
    Ok(step.matches.clone())
}

fn step_plan(index: usize, step: &Step, default: &Gate) -> Result<StepPlan, PlanError> {
    let own = step.gate.clone().unwrap_or_default();
    let path = |field: &str| format!("steps[{index}].gate.{field}");
    let pick = |own: &Option<Span>, default: &Option<Span>| own.clone().or(default.clone());
    let min_requests = own.min_requests.or(default.min_requests).unwrap_or(100);
    if let Some(replicas) = &step.replicas {
        let path = format!("steps[{index}].replicas");
        replicas.of(1).map_err(|source| PlanError::Text { path, source })?;
    }
    let span_or = |field: &str, own: &Option<Span>, default: &Option<Span>, seconds: u64| {
        span(&path(field), pick(own, default).as_ref(), seconds)
    };
    let plan = StepPlan {
        weight: step.weight,
        pods_for: step.weight,
        chosen: chosen(index, step)?,
        replicas: step.replicas.clone(),
        approval: step.approval.is_some(),
        min_duration: span_or("minDuration", &own.min_duration, &default.min_duration, 120)?,
        max_duration: span_or("maxDuration", &own.max_duration, &default.max_duration, 3600)?,
        min_requests: u64::try_from(min_requests).unwrap_or(1),
        on_inconclusive: own
            .on_inconclusive
            .or(default.on_inconclusive)
            .unwrap_or(OnInconclusive::Pause),
        settle: span_or("settle", &own.settle, &default.settle, 30)?,
        warm_up: span_or("warmUp", &own.warm_up, &default.warm_up, 90)?,
    };
    if plan.max_duration <= plan.min_duration {
        return Err(PlanError::Invalid {
            path: path("maxDuration"),
            problem: "the step would be inconclusive before it may pass".to_owned(),
            remedy: "make maxDuration longer than minDuration".to_owned(),
        });
    }
    Ok(plan)
}

fn text<T, V>(
    path: String,
    value: Option<&T>,
    parse: impl Fn(&T) -> Result<V, TextError>,
) -> Result<Option<V>, PlanError> {
    value.map(parse).transpose().map_err(|source| PlanError::Text { path, source })
}

fn span(path: &str, value: Option<&Span>, default: u64) -> Result<Duration, PlanError> {
    Ok(text(path.to_owned(), value, Span::duration)?.unwrap_or(Duration::from_secs(default)))
}

fn risk(path: &str, value: Option<&Percent>, default: f64) -> Result<f64, PlanError> {
    let risk = text(path.to_owned(), value, Percent::fraction)?.unwrap_or(default);
    if risk > 0.0 && risk <= 0.5 {
        return Ok(risk);
    }
    Err(PlanError::Invalid {
        path: path.to_owned(),
        problem: format!("{}% is no risk to plan with", risk * 100.0),
        remedy: "use more than 0% and at most 50%".to_owned(),
    })
}

/// A short digest of anything that serialises, the same for equal values.
#[must_use]
pub fn digest(value: &impl Serialize) -> String {
    use sha2::{Digest, Sha256};
    // Values of our own types always serialise; an empty text would only make a digest that
    // equals nothing else.
    let text = serde_json::to_string(value).unwrap_or_default();
    Sha256::digest(text.as_bytes()).iter().take(16).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> RolloutSpec {
        serde_saphyr::from_str(yaml).unwrap()
    }

    const SMALLEST: &str = "
targetRef: {kind: Deployment, name: checkout}
traffic: {mesh: istio, service: checkout, routes: [{kind: VirtualService, name: checkout}]}
steps: [{weight: 10}, {weight: 50}, {weight: 100}]
";

    #[test]
    fn evidence_that_the_status_could_not_hold_is_refused() {
        let weights: Vec<String> = (1..=20).map(|i| format!("{{weight: {}}}", 5 * i)).collect();
        let steps =
            SMALLEST.replace("{weight: 10}, {weight: 50}, {weight: 100}", &weights.join(", "));
        let most = engine::most_bytes(&Plan::of(&spec(&steps)).unwrap());
        assert!(most > MOST_BYTES / 2 && most <= MOST_BYTES, "{most}");
        let latency =
            |i| format!("{{name: l{i}, latency: {{percentile: 99, maxSlowdown: '1.5'}}}}");
        let metrics: Vec<String> = (0..3).map(latency).collect();
        let many = format!("{steps}analysis: {{metrics: [{}]}}\n", metrics.join(", "));
        // What docs/install.md says: three latencies over seven steps, and no more.
        let of = |count: usize| {
            let weights: Vec<String> = weights[20 - count..].to_vec();
            let few =
                SMALLEST.replace("{weight: 10}, {weight: 50}, {weight: 100}", &weights.join(", "));
            Plan::of(&spec(&format!("{few}analysis: {{metrics: [{}]}}\n", metrics.join(", "))))
        };
        assert!(of(7).is_ok() && of(8).is_err());
        let error = Plan::of(&spec(&many)).unwrap_err().to_string();
        assert!(error.starts_with("analysis.metrics: the evidence of so many metrics"), "{error}");
    }

    #[test]
    fn the_smallest_rollout_has_every_default() {
        let plan = Plan::of(&spec(SMALLEST)).unwrap();
        assert_eq!(plan.routing.own_service(Side::Stable), Some("checkout-stable"));
        let metrics: Vec<_> = plan.metrics.iter().map(|m| (m.name.as_str(), m.role)).collect();
        let (required, guard) = (MetricRole::Required, MetricRole::Guard);
        let usual = [("success-rate", required), ("latency", required), ("abandoned", guard)];
        assert_eq!(metrics, usual);
        assert_eq!((plan.false_rollback, plan.false_pass), (0.01, 0.05));
        assert_eq!(plan.steps[0].min_duration, Duration::from_secs(120));
        let pods: Vec<u32> = plan.steps.iter().map(|s| s.pods(10)).collect();
        assert_eq!(pods, [2, 5, 10]);
        assert_eq!(plan.steps[0].pods(1), 1);
    }

    #[test]
    fn the_guard_on_abandoned_requests_is_there_once_and_can_be_changed() {
        let plan = |metrics: &str| {
            Plan::of(&spec(&format!("{SMALLEST}analysis: {{metrics: [{metrics}]}}\n")))
        };
        let success = "{name: s, successRate: {maxDrop: 1pp}}";
        let guards = |metrics: &str| {
            let of = |m: &&MetricPlan| matches!(m.kind, MetricKind::Abandoned { .. });
            let plan = plan(metrics).unwrap();
            let found: Vec<_> = plan.metrics.iter().filter(of).collect();
            assert_eq!(found.len(), 1, "{metrics}");
            (found[0].name.clone(), found[0].role, found[0].importance, found[0].kind.clone())
        };
        let kind = |max_ratio| MetricKind::Abandoned { max_ratio };
        let usual = ("abandoned".to_owned(), MetricRole::Guard, 0.2, kind(None));
        assert_eq!(guards(success), usual);
        let own = "{name: left, role: observe, importance: 2, abandoned: {maxRatio: '1.5'}}";
        let changed = ("left".to_owned(), MetricRole::Observe, 2.0, kind(Some(1.5)));
        assert_eq!(guards(&format!("{success}, {own}")), changed);
        let why = |metrics: &str| plan(metrics).unwrap_err().to_string();
        let taken = why("{name: abandoned, successRate: {maxDrop: 1pp}}");
        assert!(taken.contains("give the metric another name"), "{taken}");
        let required = why("{name: left, role: required, abandoned: {}}");
        assert!(required.contains("can't be shown"), "{required}");
        let judge = why(&format!("{success}, {{name: left, judge: fisher, abandoned: {{}}}}"));
        assert!(judge.contains("does not fit the judge"), "{judge}");
    }

    #[test]
    fn on_linkerd_nothing_is_said_of_abandoned_requests() {
        let plan = |rest: &str| {
            let text = SMALLEST.replace("istio", "linkerd").replace("VirtualService", "HTTPRoute");
            Plan::of(&spec(&format!("{text}{rest}")))
        };
        let usual = plan("").unwrap();
        let metrics: Vec<_> = usual.metrics.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(metrics, ["success-rate", "latency"]);
        let metrics = "{name: s, successRate: {maxDrop: 1pp}}, {name: left, abandoned: {}}";
        let refused =
            plan(&format!("analysis: {{metrics: [{metrics}]}}\n")).unwrap_err().to_string();
        assert!(refused.starts_with("analysis.metrics[left].abandoned: this mesh's"), "{refused}");
        let virtual_service = spec(&SMALLEST.replace("istio", "linkerd"));
        let refused = Plan::of(&virtual_service).unwrap_err().to_string();
        assert!(
            refused.contains("Linkerd reads no VirtualService; name an HTTPRoute or"),
            "{refused}"
        );
        let grpc = SMALLEST.replace("VirtualService", "GRPCRoute");
        let refused = Plan::of(&spec(&grpc)).unwrap_err().to_string();
        assert!(refused.contains("a GRPCRoute is shifted on Linkerd only"), "{refused}");
        assert!(Plan::of(&spec(&grpc.replace("istio", "linkerd"))).is_ok());
        // Linkerd's buckets are finer, so that fewer steps fit; docs/linkerd.md says how many.
        let fits = |steps: &usize| {
            let steps = usual.steps.iter().cycle().take(*steps).cloned().collect();
            engine::most_bytes(&Plan { steps, ..usual.clone() }) <= MOST_BYTES
        };
        assert_eq!((1..=20).take_while(fits).count(), 14);
    }

    #[test]
    fn what_admission_lets_through_is_refused_with_a_remedy() {
        let mut falling = spec(SMALLEST);
        falling.steps.swap(0, 1);
        let said = Plan::of(&falling).unwrap_err().to_string();
        assert!(said.starts_with("steps: the weights don't rise; write"), "{said}");

        let mut ratio = spec(SMALLEST);
        ratio.analysis = Some(
            serde_saphyr::from_str("metrics: [{name: s, successRate: {maxFailureRatio: '2'}}]")
                .unwrap(),
        );
        let said = Plan::of(&ratio).unwrap_err().to_string();
        assert!(
            said.contains("analysis.metrics[s].successRate") && said.contains("give maxDrop"),
            "{said}"
        );

        let with = |metric: &str| {
            let mut spec = spec(SMALLEST);
            spec.analysis =
                Some(serde_saphyr::from_str(&format!("metrics: [{{name: m, {metric}}}]")).unwrap());
            Plan::of(&spec).map_err(|e| e.to_string())
        };
        for (metric, place, remedy) in [
            ("role: guard, successRate: {}", "[m].judge", "give successRate min, maxDrop"),
            ("judge: fisher, importance: 2, successRate: {}", "[m].importance", "leave it out"),
            ("judge: ks, prometheus: {query: up, min: '1'}", "[m].judge", "successRate: {}"),
            ("judge: sequential, prometheus: {query: up, min: '1'}", "[m].judge", "by a threshold"),
            ("judge: threshold, successRate: {min: 99%, maxDrop: 1pp}", "[m].judge", "min alone"),
            ("judge: mannWhitney, successRate: {min: 99%}", "[m].judge", "successRate: {}"),
            ("judge: welch, latency: {max: 1s}", "[m].judge", "percentile alone"),
            ("judge: fisher, latency: {}", "[m].judge", "latency max alone"),
            ("compare: {}, successRate: {maxDrop: 1pp}", "[m].compare", "leave it out"),
            ("checks: {}, successRate: {maxDrop: 1pp}", "[m].checks", "leave it out"),
            (
                "judge: ks, compare: {confidence: 100%}, successRate: {}",
                "[m].compare.confidence",
                "below 100%",
            ),
            (
                "judge: mannWhitney, compare: {allowedIncrease: '0.9'}, successRate: {}",
                "[m].compare.allowedIncrease",
                "at least",
            ),
        ] {
            let said = with(metric).unwrap_err();
            assert!(said.contains(place) && said.contains(remedy), "{metric}: {said}");
        }
        for metric in [
            "judge: mannWhitney, compare: {effectSize: cles, allowedIncrease: '0.7'}, successRate: {}",
            "judge: ks, latency: {percentile: 95}",
            "judge: fisher, latency: {max: 250ms}",
            "judge: threshold, latency: {max: 250ms}, checks: {consecutiveLimit: 2}",
            "judge: threshold, prometheus: {query: up, min: '1'}",
        ] {
            assert!(with(metric).is_ok(), "{metric}: {:?}", with(metric).err());
        }

        let with_steps = |steps: &str, apex: &str| {
            let mut spec = spec(SMALLEST);
            spec.steps = serde_saphyr::from_str(steps).unwrap();
            spec.traffic.apex = Some(serde_saphyr::from_str(apex).unwrap());
            Plan::of(&spec).map_err(|e| e.to_string())
        };
        for (step, said) in [
            ("weight: 100, match: [{headers: {a: {exact: b}}}]", "weight from 1 to 99"),
            ("weight: 10, match: [{headers: {X-A: {exact: b}}}]", "in lower case"),
            ("weight: 10, match: [{headers: {a: {exact: b, regex: b}}}]", "give exactly one"),
            ("weight: 10, match: [{headers: {}}]", "it chooses every request"),
            ("weight: 10, match: [{headers: {a: {regex: '('}}}]", "write one that RE2 reads"),
            ("weight: 10, match: [{headers: {a: {exact: ''}}}]", "write what its value must be"),
        ] {
            let last = if step.contains("100") { "" } else { ", {weight: 100}" };
            let refused = with_steps(&format!("[{{{step}}}{last}]"), "both").unwrap_err();
            assert!(refused.contains("steps[0].match") && refused.contains(said), "{refused}");
        }
        let preview = "[{weight: 0, preview: true}, {weight: 100}]";
        assert!(with_steps(preview, "stableOnly").is_ok());
        let said = with_steps(preview, "both").unwrap_err();
        assert!(said.contains("traffic.apex") && said.contains("set it to stableOnly"), "{said}");
        for steps in ["[{weight: 0}, {weight: 100}]", "[{weight: 5, preview: true}, {weight: 100}]"]
        {
            let said = with_steps(steps, "stableOnly").unwrap_err();
            assert!(said.contains("only a preview has weight 0"), "{steps}: {said}");
        }

        let mut guards = spec(SMALLEST);
        guards.analysis = Some(
            serde_saphyr::from_str("metrics: [{name: l, role: guard, latency: {max: 1s}}]")
                .unwrap(),
        );
        assert!(Plan::of(&guards).unwrap_err().to_string().contains("approval"));
    }
}
