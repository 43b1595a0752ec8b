//! A service as it is now, measured as the controller would before a release: by the same questions to
//! the same metrics source.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use surefoot_core::api::analysis::{
    AnalysisTemplateSpec, SourceKind, SourceRef, TemplateKind, TemplateRef,
};
use surefoot_core::api::source::PrometheusSource;
use surefoot_core::api::{
    AnalysisTemplate, ClusterAnalysisTemplate, ClusterMetricsSource, MetricsSource, Rollout,
};
use surefoot_core::engine::{Dispersion, dispersions};
use surefoot_core::metrics;
use surefoot_core::plan::{Plan, Templates, resolve};
use surefoot_core::samples::{BaselineSample, Health, Histogram};
use tokio::sync::Notify;

use super::fetch;
use super::trouble::trouble;
use crate::client::limited;
use crate::clock::Clock;
use crate::controller::prometheus::Prometheus;
use crate::controller::sample::{Sampler, Task};
use crate::controller::tasks::Tasks;
use crate::outbound::Outbound;

/// No measuring may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// What a release would begin with.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The Rollout as the controller follows it.
    pub plan: Plan,
    /// Requests a second to stable.
    pub rps: f64,
    /// Share of them that fail.
    pub failing: f64,
    /// Median and 99th percentile of its latencies, milliseconds, read off between two boundaries of
    /// the histogram; `None` without latencies.
    pub latency: Option<[f64; 2]>,
    /// Pods of the Deployment.
    pub replicas: u32,
    /// By what each sequential metric would be judged.
    pub dispersions: Vec<Dispersion>,
    /// Over how much time that was seen.
    pub over: Duration,
}

/// Measure the stable version of a Rollout; Prometheus is asked at `url`, or where the Rollout's source
/// says.
///
/// # Errors
/// In one line: what is missing, or who doesn't answer, and what to do.
pub async fn measure(
    client: &Client,
    namespace: &str,
    name: &str,
    url: Option<&str>,
) -> Result<Measured> {
    let rollout = fetch::rollout(&fetch::one(client, namespace, name).await?)?;
    let templates = templates(client, namespace, &rollout).await?;
    let spec = resolve(&rollout.spec, &templates).context("the Rollout can't be followed")?;
    let plan = Plan::of(&spec).context("the Rollout can't be followed")?;
    let status = rollout.status.clone().unwrap_or_default();
    let Some(mut wanted) = metrics::past(&plan, &status, namespace) else {
        bail!(
            "Rollout {namespace}/{name} has nothing to measure: it needs a success rate or a latency, \
             and a controller that has taken it over (see `kubectl surefoot status {name}`)"
        );
    };
    wanted.latency = true;
    let SourceRef { kind, name } = &plan.source;
    let source = source(client, namespace, &plan.source).await?;
    let mut source =
        source.with_context(|| format!("{kind:?} {name:?} doesn't exist: create it"))?;
    if let Some(url) = url {
        url.clone_into(&mut source.url);
    }
    let asked = source.url.clone();
    let task = Task { wanted, source: Ok(source) };
    let past = sampled(task, rollout.uid().unwrap_or_default()).await.with_context(|| {
        format!(
            "asking {asked} for stable's last minutes; from outside of the cluster give --prometheus, \
             such as http://127.0.0.1:9090 beside `kubectl port-forward`"
        )
    })?;
    let target = &rollout.spec.target_ref.name;
    let deployment: Deployment = get(&Api::namespaced(client.clone(), namespace), target).await?;
    let replicas = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let requests = past.requests.requests;
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    let (all, failed) = (requests as f64, past.requests.failed as f64);
    Ok(Measured {
        rps: all / past.over.as_secs_f64().max(1.0),
        failing: if all > 0.0 { failed / all } else { 0.0 },
        latency: percentiles(&past.boundaries, &past.latency),
        replicas: u32::try_from(replicas).unwrap_or(1).max(1),
        dispersions: dispersions(&plan, &past),
        over: past.over,
        plan,
    })
}

/// Stable's past, as a release's sampler brings it.
async fn sampled(task: Task, uid: String) -> Result<BaselineSample> {
    let http = Outbound::new().map_err(|e| anyhow!("no HTTP client: {e}"))?;
    let sampler = Sampler::new(Prometheus::new(Arc::new(http)), Clock::System, Tasks::default());
    let news = Arc::new(Notify::new());
    let wake = {
        let news = news.clone();
        move || news.notify_one()
    };
    sampler.set(&uid, 0, Some(task), wake);
    let brought = async {
        loop {
            news.notified().await;
            let samples = sampler.of(&uid, 0);
            if let Some(past) = samples.baseline {
                return Ok(past);
            }
            if let Health::Bad { message, .. } = samples.health {
                bail!(message);
            }
        }
    };
    let limited = tokio::time::timeout(LIMIT, brought).await;
    limited.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", LIMIT.as_secs())))
}

async fn get<K>(api: &Api<K>, name: &str) -> Result<K>
where
    K: Resource + Clone + DeserializeOwned + Debug,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    find(api, name).await?.with_context(|| format!("{kind} {name:?} doesn't exist: create it"))
}

async fn find<K>(api: &Api<K>, name: &str) -> Result<Option<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug,
    K::DynamicType: Default,
{
    let what = format!("reading {} {name:?}", K::kind(&K::DynamicType::default()));
    match limited(api.get(name)).await {
        Err(error) if error.is_missing() => Ok(None),
        answer => answer.map(Some).map_err(|error| anyhow!(trouble(&what, &error))),
    }
}

/// Where a Rollout's metrics are; none where nobody has made it.
pub(super) async fn source(
    client: &Client,
    namespace: &str,
    reference: &SourceRef,
) -> Result<Option<PrometheusSource>> {
    let name = &reference.name;
    Ok(match reference.kind {
        SourceKind::MetricsSource => {
            let api: Api<MetricsSource> = Api::namespaced(client.clone(), namespace);
            find(&api, name).await?.map(|source| source.spec.prometheus)
        }
        SourceKind::ClusterMetricsSource => {
            let api: Api<ClusterMetricsSource> = Api::all(client.clone());
            find(&api, name).await?.map(|source| source.spec.prometheus)
        }
    })
}

/// The templates that a Rollout names and that are there: those that aren't its plan names.
pub(super) async fn templates(
    client: &Client,
    namespace: &str,
    rollout: &Rollout,
) -> Result<Templates> {
    let mut templates = Templates::new();
    let named = rollout.spec.analysis.iter().flat_map(|analysis| &analysis.templates);
    for TemplateRef { kind, name, .. } in named {
        let spec = match kind {
            TemplateKind::AnalysisTemplate => {
                let api: Api<AnalysisTemplate> = Api::namespaced(client.clone(), namespace);
                let Some(template) = find(&api, name).await? else { continue };
                template.spec
            }
            TemplateKind::ClusterAnalysisTemplate => {
                let api: Api<ClusterAnalysisTemplate> = Api::all(client.clone());
                let Some(template) = find(&api, name).await? else { continue };
                let spec = template.spec;
                AnalysisTemplateSpec { args: spec.args, metrics: spec.metrics }
            }
        };
        templates.insert((*kind, name.clone()), spec);
    }
    Ok(templates)
}

/// Median and 99th percentile between a histogram's boundaries, as if latencies were spread evenly
/// between two on a scale of logarithms. `None` where there are no requests, or nothing to tell the
/// two apart.
fn percentiles(boundaries: &[f64], histogram: &Histogram) -> Option<[f64; 2]> {
    let found = [percentile(boundaries, histogram, 0.5)?, percentile(boundaries, histogram, 0.99)?];
    (found[0] < found[1]).then_some(found)
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
fn percentile(boundaries: &[f64], histogram: &Histogram, share: f64) -> Option<f64> {
    let wanted = share * histogram.requests as f64;
    let at = histogram.at_most.iter().position(|n| *n as f64 >= wanted && *n > 0)?;
    let upper = *boundaries.get(at)?;
    let lower = if at == 0 { upper / 2.0 } else { *boundaries.get(at - 1)? };
    let below = if at == 0 { 0 } else { *histogram.at_most.get(at - 1)? } as f64;
    let within = *histogram.at_most.get(at)? as f64 - below;
    let part = if within > 0.0 { (wanted - below) / within } else { 1.0 };
    Some(lower * (upper / lower).powf(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_their_boundaries() {
        let histogram = Histogram { requests: 1000, at_most: vec![0, 400, 900, 990] };
        let [median, p99] = percentiles(&[5.0, 10.0, 40.0, 250.0], &histogram).unwrap();
        // A fifth of the way from 10 to 40, and all of it to 250.
        assert!((median - 10.0 * 4f64.powf(0.2)).abs() < 1e-9, "{median}");
        assert!((p99 - 250.0).abs() < 1e-9, "{p99}");
        assert_eq!(percentiles(&[5.0], &Histogram { requests: 9, at_most: vec![1] }), None);
        assert_eq!(percentiles(&[5.0], &Histogram::default()), None);
    }
}
