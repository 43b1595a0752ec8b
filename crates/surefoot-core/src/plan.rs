//! The validated plan of a release: what a spec means, parsed once, with every default filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::api::analysis::{
    AnalysisTemplateSpec, Metric, MetricRole, NoDataAction, SourceKind, SourceRef, TemplateKind,
};
use crate::api::rollout::{Apex, Gate, OnDelete, OnInconclusive, RolloutSpec, Step, Undo};
use crate::api::text::{CountOrPercent, Percent, Points, Ratio, Span, TextError};
use crate::routing::{Routing, Side};

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
    /// Per cent, 1 to 100.
    pub weight: i32,
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
        let share = (u64::from(replicas) * u64::from(self.weight.unsigned_abs())).div_ceil(100);
        let enough = u32::try_from(share).unwrap_or(replicas).max(replicas.min(2));
        self.replicas.as_ref().and_then(|r| r.of(replicas).ok()).unwrap_or(enough)
    }
}

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricPlan {
    /// Its name.
    pub name: String,
    /// What its verdict counts for.
    pub role: MetricRole,
    /// Required by default only: where stable's latencies can't be compared, a metric that nobody
    /// asked for becomes a guard for the release instead of blocking it.
    pub implicit: bool,
    /// Its share of the false-rollback budget before normalising.
    pub importance: f64,
    /// What is measured.
    pub kind: MetricKind,
}

/// What is measured and against which tolerance.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricKind {
    /// Share of failed requests.
    SuccessRate {
        /// Highest failure rate allowed in any case.
        max_failure_rate: Option<f64>,
        /// Highest excess of the failure rate over stable's.
        max_drop: Option<f64>,
        /// Highest ratio of the failure rates.
        max_failure_ratio: Option<f64>,
    },
    /// Share of slow requests.
    Latency {
        /// The percentile of `max_ms`, as a fraction.
        percentile: f64,
        /// Highest latency at the percentile, milliseconds.
        max_ms: Option<f64>,
        /// Highest slowdown against stable.
        max_slowdown: Option<f64>,
    },
    /// One number against fixed limits.
    Query {
        /// PromQL.
        query: String,
        /// Lowest value allowed.
        min: Option<f64>,
        /// Highest value allowed.
        max: Option<f64>,
        /// How many answers may lie outside.
        failure_limit: u32,
    },
}

impl MetricKind {
    /// Whether the sequential engine judges it (else a threshold does).
    #[must_use]
    pub fn is_sequential(&self) -> bool {
        !matches!(self, MetricKind::Query { .. })
    }
}

/// Templates by kind and name.
pub type Templates = BTreeMap<(TemplateKind, String), AnalysisTemplateSpec>;

/// Put the metrics of the spec's templates in their place, arguments filled in. The result needs
/// nothing else to be understood: it is what a release freezes.
///
/// # Errors
/// When a template or a required argument is missing.
pub fn resolve(spec: &RolloutSpec, templates: &Templates) -> Result<RolloutSpec, PlanError> {
    let mut resolved = spec.clone();
    let Some(analysis) = resolved.analysis.as_mut() else { return Ok(resolved) };
    for reference in std::mem::take(&mut analysis.templates) {
        let template =
            templates.get(&(reference.kind, reference.name.clone())).ok_or_else(|| {
                PlanError::TemplateMissing { kind: reference.kind, name: reference.name.clone() }
            })?;
        let path = format!("analysis.templates[{}]", reference.name);
        let mut args = BTreeMap::new();
        for arg in &template.args {
            let value = reference.args.get(&arg.name).or(arg.default.as_ref());
            let value = value.ok_or_else(|| PlanError::Invalid {
                path: path.clone(),
                problem: format!("argument {:?} has no default and isn't set", arg.name),
                remedy: "set it under args".to_owned(),
            })?;
            args.insert(arg.name.clone(), value.clone());
        }
        if let Some(unknown) = reference.args.keys().find(|k| !args.contains_key(*k)) {
            return Err(PlanError::Invalid {
                path,
                problem: format!("the template has no argument {unknown:?}"),
                remedy: format!("it has: {}", args.keys().cloned().collect::<Vec<_>>().join(", ")),
            });
        }
        for metric in &template.metrics {
            analysis.metrics.push(render(metric, &args, &path)?);
        }
    }
    Ok(resolved)
}

fn render(
    metric: &Metric,
    args: &BTreeMap<String, String>,
    path: &str,
) -> Result<Metric, PlanError> {
    let invalid = |problem: String| PlanError::Invalid {
        path: format!("{path}.metrics[{}]", metric.name),
        problem,
        remedy: "a placeholder is {{args.NAME}}".to_owned(),
    };
    let mut environment = minijinja::Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let mut value = serde_json::to_value(metric).map_err(|e| invalid(e.to_string()))?;
    let context = minijinja::context! { args => args.clone() };
    fill(&mut value, &mut |text| {
        environment.render_str(text, context.clone()).map_err(|e| invalid(e.to_string()))
    })?;
    serde_json::from_value(value).map_err(|e| invalid(e.to_string()))
}

fn fill(
    value: &mut serde_json::Value,
    render: &mut impl FnMut(&str) -> Result<String, PlanError>,
) -> Result<(), PlanError> {
    match value {
        serde_json::Value::String(text) if text.contains("{{") => *text = render(text)?,
        serde_json::Value::Object(map) => map.values_mut().try_for_each(|v| fill(v, render))?,
        serde_json::Value::Array(list) => list.iter_mut().try_for_each(|v| fill(v, render))?,
        _ => {}
    }
    Ok(())
}

impl Plan {
    /// Read a resolved spec.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place and a remedy. Admission refuses most of them;
    /// this is what stands when it could not.
    pub fn of(spec: &RolloutSpec) -> Result<Self, PlanError> {
        let analysis = spec.analysis.clone().unwrap_or_default();
        let steps = steps(spec)?;
        let metrics = metrics(&analysis.metrics)?;
        let judged = metrics.iter().any(|m| m.role == MetricRole::Required);
        if !judged && !steps.iter().all(|s| s.approval) {
            return Err(PlanError::Invalid {
                path: "analysis.metrics".to_owned(),
                problem: "no metric is required, so nothing would ever pass a step".to_owned(),
                remedy: "make a metric's role required, or give every step an approval".to_owned(),
            });
        }
        let no_data = analysis.no_data_policy.as_ref();
        Ok(Self {
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
        })
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
        let remedy = "name the VirtualService that routes to the Service";
        return Err(invalid("routes", "no route is named", remedy));
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
        remedy: "write rising weights from 1 to 100 with 100 last, at most 20".to_owned(),
    };
    let rising = spec.steps.windows(2).all(|w| w[0].weight < w[1].weight);
    if !rising || spec.steps.first().is_none_or(|s| s.weight < 1) || spec.steps.len() > 20 {
        return Err(invalid("the weights don't rise"));
    }
    if spec.steps.last().is_none_or(|s| s.weight != 100) {
        return Err(invalid("the last weight is not 100"));
    }
    let default = spec.gate.clone().unwrap_or_default();
    spec.steps.iter().enumerate().map(|(i, step)| step_plan(i, step, &default)).collect()
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

fn metrics(written: &[Metric]) -> Result<Vec<MetricPlan>, PlanError> {
    if written.is_empty() {
        return Ok(default_metrics());
    }
    let mut plans: Vec<MetricPlan> = Vec::with_capacity(written.len());
    for metric in written {
        if plans.iter().any(|p| p.name == metric.name) {
            return Err(PlanError::Invalid {
                path: format!("analysis.metrics[{}]", metric.name),
                problem: "two metrics have this name".to_owned(),
                remedy: "rename one, here or in the template".to_owned(),
            });
        }
        plans.push(metric_plan(metric)?);
    }
    if plans.len() > 20 {
        return Err(PlanError::Invalid {
            path: "analysis.metrics".to_owned(),
            problem: format!("{} metrics with those of the templates", plans.len()),
            remedy: "use at most 20".to_owned(),
        });
    }
    Ok(plans)
}

/// Success rate within half a percentage point of stable's and latency within half as much again.
fn default_metrics() -> Vec<MetricPlan> {
    let plan = |name: &str, kind| MetricPlan {
        name: name.to_owned(),
        role: MetricRole::Required,
        implicit: true,
        importance: 1.0,
        kind,
    };
    vec![
        plan(
            "success-rate",
            MetricKind::SuccessRate {
                max_failure_rate: None,
                max_drop: Some(0.005),
                max_failure_ratio: None,
            },
        ),
        plan(
            "latency",
            MetricKind::Latency { percentile: 0.99, max_ms: None, max_slowdown: Some(1.5) },
        ),
    ]
}

fn metric_plan(metric: &Metric) -> Result<MetricPlan, PlanError> {
    let path = |field: &str| format!("analysis.metrics[{}].{field}", metric.name);
    let role = metric.role.unwrap_or(MetricRole::Required);
    let kind = match (&metric.success_rate, &metric.latency, &metric.prometheus) {
        (Some(rate), None, None) => {
            let kind = MetricKind::SuccessRate {
                max_failure_rate: text(
                    path("successRate.min"),
                    rate.min.as_ref(),
                    Percent::fraction,
                )?
                .map(|min| 1.0 - min),
                max_drop: text(
                    path("successRate.maxDrop"),
                    rate.max_drop.as_ref(),
                    Points::fraction,
                )?,
                max_failure_ratio: text(
                    path("successRate.maxFailureRatio"),
                    rate.max_failure_ratio.as_ref(),
                    Ratio::value,
                )?,
            };
            if let MetricKind::SuccessRate { max_failure_rate, max_drop: None, .. } = kind
                && role == MetricRole::Required
                && max_failure_rate.is_none()
            {
                return Err(PlanError::Invalid {
                    path: path("successRate"),
                    problem: "a required metric can't pass on a ratio: two perfect versions never \
                              show one"
                        .to_owned(),
                    remedy: "give maxDrop or min".to_owned(),
                });
            }
            if let MetricKind::SuccessRate { max_failure_rate: Some(rate), .. } = kind
                && !(rate > 0.0 && rate < 1.0)
            {
                return Err(PlanError::Invalid {
                    path: path("successRate.min"),
                    problem: "neither 0% nor 100% can be judged".to_owned(),
                    remedy: "use a value between, such as \"99.9%\"".to_owned(),
                });
            }
            kind
        }
        (None, Some(latency), None) => MetricKind::Latency {
            percentile: f64::from(latency.percentile.unwrap_or(99)) / 100.0,
            max_ms: text(path("latency.max"), latency.max.as_ref(), Span::duration)?
                .map(|max| max.as_secs_f64() * 1000.0),
            max_slowdown: text(
                path("latency.maxSlowdown"),
                latency.max_slowdown.as_ref(),
                Ratio::value,
            )?,
        },
        (None, None, Some(query)) => MetricKind::Query {
            query: query.query.clone(),
            min: text(path("prometheus.min"), query.min.as_ref(), |n| n.value())?,
            max: text(path("prometheus.max"), query.max.as_ref(), |n| n.value())?,
            failure_limit: query.failure_limit.unwrap_or(3).unsigned_abs(),
        },
        _ => {
            return Err(PlanError::Invalid {
                path: format!("analysis.metrics[{}]", metric.name),
                problem: "not exactly one of successRate, latency and prometheus is given"
                    .to_owned(),
                remedy: "give exactly one".to_owned(),
            });
        }
    };
    Ok(MetricPlan {
        name: metric.name.clone(),
        role,
        implicit: false,
        importance: f64::from(metric.importance.unwrap_or(1)),
        kind,
    })
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
    fn the_smallest_rollout_has_every_default() {
        let plan = Plan::of(&spec(SMALLEST)).unwrap();
        assert_eq!(plan.routing.own_service(Side::Stable), Some("checkout-stable"));
        assert_eq!(plan.metrics.len(), 2);
        assert_eq!((plan.false_rollback, plan.false_pass), (0.01, 0.05));
        assert_eq!(plan.steps[0].min_duration, Duration::from_secs(120));
        let pods: Vec<u32> = plan.steps.iter().map(|s| s.pods(10)).collect();
        assert_eq!(pods, [2, 5, 10]);
        assert_eq!(plan.steps[0].pods(1), 1);
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

        let mut guards = spec(SMALLEST);
        guards.analysis = Some(
            serde_saphyr::from_str("metrics: [{name: l, role: guard, latency: {max: 1s}}]")
                .unwrap(),
        );
        assert!(Plan::of(&guards).unwrap_err().to_string().contains("approval"));
    }

    #[test]
    fn templates_are_filled_in_and_missing_arguments_named() {
        let mut spec = spec(SMALLEST);
        spec.analysis = Some(
            serde_saphyr::from_str(
                "templates: [{kind: AnalysisTemplate, name: golden, args: {min: '99.5%'}}]",
            )
            .unwrap(),
        );
        let template: AnalysisTemplateSpec = serde_saphyr::from_str(
            "
args: [{name: min}, {name: app, default: shop}]
metrics:
- {name: rate, successRate: {min: '{{args.min}}'}}
- {name: queue, prometheus: {query: 'depth{app=\"{{ args.app }}\"}', max: '100'}}
",
        )
        .unwrap();
        let key = (TemplateKind::AnalysisTemplate, "golden".to_owned());
        let templates = Templates::from([(key.clone(), template)]);
        let plan = Plan::of(&resolve(&spec, &templates).unwrap()).unwrap();
        assert_eq!(plan.metrics.len(), 2);
        let MetricKind::Query { query, .. } = &plan.metrics[1].kind else { unreachable!() };
        assert_eq!(query, "depth{app=\"shop\"}");

        spec.analysis.as_mut().unwrap().templates[0].args.clear();
        let said = resolve(&spec, &templates).unwrap_err().to_string();
        assert!(said.contains("\"min\" has no default"), "{said}");
        assert!(matches!(
            resolve(&spec, &Templates::new()),
            Err(PlanError::TemplateMissing { .. })
        ));
    }
}
