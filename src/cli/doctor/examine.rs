//! From what was read to findings, by the decision that the controller would take. Pure.

use anyhow::Error;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use surefoot_core::api::Rollout;
use surefoot_core::api::analysis::SourceRef;
use surefoot_core::api::rollout::Mesh;
use surefoot_core::api::status::WaitingKind;
use surefoot_core::decide::decide;
use surefoot_core::gather::gather;
use surefoot_core::observed::{Delivery, HoldMode, Observed};
use surefoot_core::route::Fault;
use surefoot_core::routing::Routing;
use surefoot_core::samples::Samples;
use surefoot_core::words;
use surefoot_core::write::Kind;

use super::found::{Found, Own, Seen};
use crate::cli::measure::Measured;
use crate::cli::view::View;

/// How a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Level {
    /// As a release needs it.
    Good,
    /// A release works, and would work better otherwise.
    Advice,
    /// It couldn't be looked at.
    Unseen,
    /// No release works.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it matters.
    pub level: Level,
    /// What was found, and what to do about it.
    pub message: String,
}

impl Finding {
    fn new(level: Level, message: impl Into<String>) -> Self {
        Self { level, message: message.into() }
    }
}

/// Everything about a Rollout, in the order in which a release needs it.
#[must_use]
pub fn examine(rollout: &Rollout, found: &Found, own: &Own, now: Timestamp) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        own.unseen.iter().map(|why| Finding::new(Level::Unseen, why.clone())).collect();
    let gathered = gather(rollout, &Seen { found, rollout });
    // Whether a new template is held was asked for itself, and news is the notifier's matter.
    let hold = HoldMode::PausedAtRest;
    let (seen, _) = gathered.observed(own.spec.clone(), Vec::new(), hold, Delivery::default());
    findings.extend(match forbidden(rollout, found) {
        // What may not be read can't be told from what isn't there.
        Some(unseen) => vec![unseen],
        None => objects(rollout, &seen, now),
    });
    findings.push(held(rollout, own));
    findings.extend(own.source.iter().map(|(SourceRef { kind, name }, there)| {
        if *there {
            Finding::new(Level::Good, format!("{kind:?} {name} is there"))
        } else {
            Finding::new(Level::Missing, format!("{kind:?} {name:?} doesn't exist: create it"))
        }
    }));
    findings.extend(proxies(rollout, own));
    findings.extend(timeout(&seen));
    findings.extend(controller(rollout, now));
    findings
}

/// Kinds that whoever asks may not list.
fn forbidden(rollout: &Rollout, found: &Found) -> Option<Finding> {
    let routing = Routing::of(&rollout.spec.traffic);
    let needed =
        |kind: &Kind| !kind.is_route() || routing.each().any(|one| Kind::from(one.kind) == *kind);
    let denied = |all: &Result<Vec<Value>, Fault>| matches!(all, Err(Fault::Forbidden));
    let kinds = found.objects.iter().filter(|(kind, all)| needed(kind) && denied(all));
    let mut names: Vec<String> = kinds.map(|(kind, _)| format!("{kind:?}s")).collect();
    if found.slices.as_ref().is_some_and(denied) {
        names.push("EndpointSlices".to_owned());
    }
    let may_not = format!(
        "you may not list {}: Deployment, Services and routes weren't looked at; ask for the right to",
        names.join(", ")
    );
    (!names.is_empty()).then(|| Finding::new(Level::Unseen, may_not))
}

/// Deployment, Services, routes and rules, as the controller's next look would find them.
fn objects(rollout: &Rollout, seen: &Observed, now: Timestamp) -> Vec<Finding> {
    let outcome = decide(rollout, seen, &Samples::default(), now);
    let missing = |kind| {
        matches!(
            kind,
            WaitingKind::Prerequisite
                | WaitingKind::RouteAccepted
                | WaitingKind::NativeRollout
                | WaitingKind::Endpoints
        )
    };
    let waits = outcome.status.waiting_on.iter().filter(|wait| missing(wait.kind));
    let mut messages: Vec<String> = waits.map(|wait| wait.message.clone()).collect();
    // A decision that is about something else doesn't come to these.
    let target = &rollout.spec.target_ref.name;
    let deployment = || format!("Deployment {target:?} doesn't exist: create it");
    let route = match &seen.route {
        Ok(route) => {
            let fit = route.fit.as_ref().err().map(ToString::to_string);
            fit.or_else(|| route.accepted.as_ref().err().cloned())
        }
        Err(problem) => Some(problem.to_string()),
    };
    let split = seen.split.as_ref().err().map(ToString::to_string);
    let gone = seen.deployment.is_none().then(deployment);
    for message in [gone, split, route].into_iter().flatten() {
        if !messages.iter().any(|known| known.contains(&message)) {
            messages.push(message);
        }
    }
    let mut findings: Vec<Finding> =
        messages.into_iter().map(|message| Finding::new(Level::Missing, message)).collect();
    if findings.is_empty() {
        let routes: Vec<String> = Routing::of(&rollout.spec.traffic)
            .each()
            .map(|one| format!("{:?} {}", one.kind, one.route))
            .collect();
        let well = format!(
            "Deployment {}, Service {} and {} are as a release needs them",
            rollout.spec.target_ref.name,
            rollout.spec.traffic.service,
            routes.join(", ")
        );
        findings.push(Finding::new(Level::Good, well));
    }
    findings
}

fn held(rollout: &Rollout, own: &Own) -> Finding {
    let deployment = &rollout.spec.target_ref.name;
    match &own.held {
        Ok(true) => {
            Finding::new(Level::Good, "a new template would be held, and not rolled out natively")
        }
        Ok(false) => Finding::new(
            Level::Missing,
            format!(
                "a new template of Deployment {deployment} would be rolled out natively: it isn't labelled \
                 surefoot.dev/managed yet, or the admission policy of deploy/ isn't there (or bound to this \
                 namespace), or the controller runs with --hold=paused and hasn't looked at it"
            ),
        ),
        Err(why) => Finding::new(
            Level::Advice,
            format!("whether a new template would be held wasn't looked at: {why}"),
        ),
    }
}

/// Whether the pods count their requests themselves.
fn proxies(rollout: &Rollout, own: &Own) -> Option<Finding> {
    let containers = own.containers.as_ref()?;
    let (mesh, proxy, inject) = match rollout.spec.traffic.mesh {
        Mesh::Istio => ("Istio", "istio-proxy", "istio-injection=enabled"),
        Mesh::Linkerd => ("Linkerd", "linkerd-proxy", "linkerd.io/inject=enabled"),
    };
    if containers.iter().any(|name| name == proxy) {
        return Some(Finding::new(Level::Good, format!("its pods have {mesh}'s proxy")));
    }
    let bare = format!("its pods have no container {proxy}");
    let remedy = format!("let {mesh} inject it ({inject} on the namespace) and restart them");
    // Subsets are told apart by what the pods' own proxies count.
    Some(if Routing::of(&rollout.spec.traffic).rule().is_some() {
        Finding::new(
            Level::Missing,
            format!("{bare}, by which alone the metrics tell subsets apart: {remedy}"),
        )
    } else {
        Finding::new(
            Level::Advice,
            format!(
                "{bare}: only callers that have one, or come by a gateway, are split by weight and \
                 counted; {remedy}, or set traffic.apex: stableOnly"
            ),
        )
    })
}

fn timeout(seen: &Observed) -> Option<Finding> {
    let route = seen.route.as_ref().ok()?;
    route.timeout.is_none().then(|| {
        Finding::new(
            Level::Advice,
            "a route has no timeout: each step waits two minutes longer, for requests that may still fail; \
             set one",
        )
    })
}

/// Whether a controller has looked, and what it says is wrong.
fn controller(rollout: &Rollout, now: Timestamp) -> Vec<Finding> {
    let view = View::new(rollout, now);
    let looked = view.seen()
        && rollout.metadata.generation.is_none_or(|now| view.status.observed_generation >= now);
    if !looked {
        return vec![Finding::new(
            Level::Missing,
            "no controller has looked at the Rollout as it is now: is one running, and does it watch this \
             namespace (docs/install.md)?",
        )];
    }
    let mut findings = vec![Finding::new(Level::Good, "the controller has looked at it as it is")];
    let bad = view.bad_conditions();
    findings.extend(
        bad.map(|c| {
            Finding::new(Level::Advice, format!("{} ({}): {}", c.kind, c.reason, c.message))
        }),
    );
    findings
}

/// What Prometheus says of stable's requests.
#[must_use]
pub fn traffic(measured: Result<&Measured, &Error>) -> Finding {
    match measured {
        Err(error) => Finding::new(Level::Missing, format!("{error:#}")),
        Ok(measured) if measured.rps <= 0.0 => Finding::new(
            Level::Missing,
            "Prometheus has no requests of stable: is there traffic, and are its proxies scraped?",
        ),
        Ok(measured) => Finding::new(
            Level::Good,
            format!(
                "Prometheus has {:.1} requests a second of stable, of which {} fail",
                measured.rps,
                words::percent(measured.failing)
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use surefoot_core::api::analysis::SourceKind;
    use surefoot_core::plan::{Templates, resolve};

    use super::*;
    use crate::cli::doctor::{Diagnosis, text};
    use crate::cli::page::Style;

    fn rollout() -> Rollout {
        let rollout = json!({
            "apiVersion": "surefoot.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 3},
            "spec": {
                "targetRef": {"kind": "Deployment", "name": "web"},
                "traffic": {
                    "mesh": "istio", "service": "web",
                    "routes": [{"kind": "VirtualService", "name": "web"}],
                },
                "steps": [{"weight": 10}, {"weight": 100}],
            },
            "status": {"phase": "Healthy", "observedGeneration": 3},
        });
        serde_json::from_value(rollout).unwrap()
    }

    fn found() -> Found {
        let labels = json!({"app": "web"});
        let named = |name: &str| json!({"name": name, "namespace": "shop", "uid": name});
        let service = |name: &str| {
            json!({
                "metadata": named(name),
                "spec": {"selector": labels, "clusterIP": "10.0.0.1", "ports": [{"port": 80}]},
            })
        };
        let to = |host: &str, weight: i64| json!({"destination": {"host": host}, "weight": weight});
        let route = json!([{"route": [to("web-stable", 100), to("web-canary", 0)]}]);
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": []}});
        let status = json!({
            "observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2,
            "availableReplicas": 2,
        });
        let mut deployment = json!({
            "metadata": named("web"), "status": status,
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
        });
        deployment["metadata"]["generation"] = json!(1);
        let mut set =
            json!({"metadata": named("web-1"), "spec": deployment["spec"], "status": status});
        set["metadata"]["labels"] = json!({"app": "web", "pod-template-hash": "1"});
        set["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
        let owner = json!({"kind": "Deployment", "name": "web", "uid": "web", "controller": true});
        set["metadata"]["ownerReferences"] = json!([owner]);
        let mut found = Found::default();
        for (kind, objects) in [
            (Kind::Deployment, vec![deployment]),
            (Kind::ReplicaSet, vec![set]),
            (Kind::Service, vec![service("web"), service("web-stable"), service("web-canary")]),
            (
                Kind::VirtualService,
                vec![json!({"metadata": named("web"), "spec": {"hosts": ["web"], "http": route}})],
            ),
        ] {
            found.objects.insert(kind, Ok(objects));
        }
        found
    }

    fn own(rollout: &Rollout) -> Own {
        Own {
            spec: resolve(&rollout.spec, &Templates::new()),
            source: Some((
                SourceRef { kind: SourceKind::ClusterMetricsSource, name: "default".to_owned() },
                true,
            )),
            unseen: Vec::new(),
            held: Ok(true),
            containers: Some(vec!["app".to_owned(), "istio-proxy".to_owned()]),
        }
    }

    fn missing(findings: &[Finding]) -> Vec<&str> {
        let missing = findings.iter().filter(|finding| finding.level == Level::Missing);
        missing.map(|finding| finding.message.as_str()).collect()
    }

    #[test]
    fn a_rollout_that_works_lacks_nothing() {
        let rollout = rollout();
        let findings = examine(&rollout, &found(), &own(&rollout), Timestamp::UNIX_EPOCH);
        assert_eq!(missing(&findings), Vec::<&str>::new());
        let (namespace, name) = ("shop".to_owned(), "web".to_owned());
        let all = [Diagnosis { namespace, rollout: name, ready: true, findings }];
        let expected = "\
shop/web
  ✓ Deployment web, Service web and VirtualService web are as a release needs
    them
  ✓ a new template would be held, and not rolled out natively
  ✓ ClusterMetricsSource default is there
  ✓ its pods have Istio's proxy
  ! a route has no timeout: each step waits two minutes longer, for requests
    that may still fail; set one
  ✓ the controller has looked at it as it is
  Ready for a release.
";
        assert_eq!(text(&all, Style { width: 78, colour: false }), expected);
    }

    #[test]
    fn what_is_missing_is_told_as_the_controller_tells_it() {
        let rollout = rollout();
        let said = |change: &dyn Fn(&mut Found, &mut Own)| {
            let (mut found, mut own) = (found(), own(&rollout));
            change(&mut found, &mut own);
            let findings = examine(&rollout, &found, &own, Timestamp::UNIX_EPOCH);
            missing(&findings).join(" | ")
        };
        let without = |kind: Kind| {
            said(&|found, _| {
                found.objects.insert(kind, Ok(Vec::new()));
            })
        };
        assert!(without(Kind::Deployment).contains("Deployment \"web\" doesn't exist: create it"));
        assert!(without(Kind::VirtualService).contains("VirtualService \"web\" doesn't exist"));
        let weights = said(&|found, _| {
            let Some(Ok(routes)) = found.objects.get_mut(&Kind::VirtualService) else { return };
            routes[0]["spec"]["http"][0]["route"][1]["weight"] = json!(60);
        });
        assert!(weights.contains("100/60"), "{weights}");
        let native = said(&|_, own| own.held = Ok(false));
        assert!(native.contains("would be rolled out natively"), "{native}");
        let source = said(&|_, own| own.source.as_mut().unwrap().1 = false);
        assert_eq!(source, "ClusterMetricsSource \"default\" doesn't exist: create it");
        let pods = said(&|found, _| {
            found.objects.insert(Kind::ReplicaSet, Ok(Vec::new()));
        });
        assert!(pods.contains("own rollout must end first"), "{pods}");
    }

    #[test]
    fn what_may_not_be_read_is_not_called_missing() {
        let rollout = rollout();
        let mut found = found();
        found.objects.insert(Kind::Service, Err(Fault::Forbidden));
        let findings = examine(&rollout, &found, &own(&rollout), Timestamp::UNIX_EPOCH);
        assert_eq!(missing(&findings), Vec::<&str>::new());
        assert_eq!(findings[0].level, Level::Unseen);
        assert!(findings[0].message.starts_with("you may not list Services: "), "{findings:?}");
    }

    #[test]
    fn nobody_has_looked_at_a_newer_spec() {
        let mut rollout = rollout();
        rollout.metadata.generation = Some(4);
        let findings = examine(&rollout, &found(), &own(&rollout), Timestamp::UNIX_EPOCH);
        assert!(missing(&findings)[0].contains("no controller has looked"), "{findings:?}");
    }

    #[test]
    fn subsets_need_proxies_of_their_own() {
        let mut rollout = rollout();
        let subsets = json!({"destinationRule": "web", "stable": "a", "canary": "b"});
        let split: Value = json!({"subsets": subsets});
        rollout.spec.traffic.split = serde_json::from_value(split).unwrap();
        let mut own = own(&rollout);
        own.containers = Some(vec!["app".to_owned()]);
        let findings = examine(&rollout, &found(), &own, Timestamp::UNIX_EPOCH);
        let missing = missing(&findings).join(" | ");
        assert!(missing.contains("no container istio-proxy, by which alone"), "{missing}");
    }
}
