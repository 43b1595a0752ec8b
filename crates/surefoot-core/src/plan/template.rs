//! The metrics of templates, put in their place.

use std::collections::BTreeMap;

use super::PlanError;
use crate::api::analysis::{AnalysisTemplateSpec, Metric, TemplateKind};
use crate::api::rollout::RolloutSpec;
use crate::metrics::wanted::PLACEHOLDERS;

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
    // What is only known in a release is left as it is.
    let (canary, stable) = (PLACEHOLDERS[0].0, PLACEHOLDERS[1].0);
    let context = minijinja::context! {
        args => args.clone(), canaryPods => canary, stablePods => stable,
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{MetricKind, Plan};

    #[test]
    fn templates_are_filled_in_and_missing_arguments_named() {
        let mut spec: RolloutSpec = serde_saphyr::from_str(
            "
targetRef: {kind: Deployment, name: checkout}
traffic: {mesh: istio, service: checkout, routes: [{kind: VirtualService, name: checkout}]}
steps: [{weight: 100}]
",
        )
        .unwrap();
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
        assert_eq!(plan.metrics.len(), 3, "and the guard on abandoned requests");
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
