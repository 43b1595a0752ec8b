use surefoot_core::api::analysis::{SourceKind, SourceRef};
use surefoot_core::api::rollout::{Mesh, RouteKind};
use surefoot_core::metrics::query::By;
use surefoot_core::samples::{Count, Histogram, PodHistory};

use std::collections::BTreeMap;

use super::*;
use crate::outbound::Outbound;

fn task(ticks_from: Option<Timestamp>) -> Task {
    let series = Series {
        mesh: Mesh::Istio,
        route: RouteKind::VirtualService,
        service: "shop".into(),
        namespace: "shop".into(),
        stable: "stable".into(),
        canary: "canary".into(),
        by: By::Service,
        pinned: Pinned::default(),
    };
    let wanted = Wanted {
        source: SourceRef { kind: SourceKind::MetricsSource, name: "default".into() },
        series,
        reached: None,
        pods: None,
        ticks_from,
        latency: false,
        baseline: ticks_from.is_none(),
        queries: BTreeMap::new(),
    };
    Task { wanted, source: Err("nobody is asked here".to_owned()) }
}

#[tokio::test]
async fn stables_past_is_let_go_of_once_the_release_has_begun() {
    let http = Arc::new(Outbound::new().unwrap());
    let sampler = Sampler::new(Prometheus::new(http), Clock::System, Tasks::default());
    sampler.set("uid", 1, Some(task(None)), || {});
    let past = BaselineSample {
        over: Duration::from_secs(600),
        requests: Count { requests: 10, failed: 0, abandoned: 0 },
        boundaries: Vec::new(),
        latency: Histogram::default(),
        pods: Ok(PodHistory::default()),
    };
    lock(&lock(&sampler.releases)["uid"].samples).baseline = Some(past.clone());
    sampler.set("uid", 1, Some(task(None)), || {});
    assert_eq!(sampler.of("uid", 1).baseline, Some(past));
    sampler.set("uid", 1, Some(task(Some(Timestamp::UNIX_EPOCH))), || {});
    assert_eq!(sampler.of("uid", 1).baseline, None);
}
