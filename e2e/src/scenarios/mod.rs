//! The scenarios: a file a theme, and a line each in [`all`].

mod admission;
mod api_faults;
mod api_server_away;
mod backtest;
mod bad_midway;
mod bad_objects;
mod bad_prometheus;
mod chosen;
mod commands;
mod crowd;
mod edits;
mod faults;
mod figures;
mod http_route;
mod init;
mod judged;
mod kills;
mod leaders;
mod linkerd;
mod mutant;
mod notified;
mod people;
mod pod_lives;
mod pods;
mod preview;
mod promoted;
mod replicas;
mod rolled_back;
mod routing;
mod self_check;
mod several_routes;
mod simulated;

use crate::runner::Scenario;
use crate::scenario;
use crate::way::Way;

/// All scenarios; the long ones first, so that the others run beside them.
fn all() -> Vec<Scenario> {
    let stories = vec![
        scenario!("at-rest", figures::at_rest, idle),
        scenario!("as-bad-as-before", judged::as_bad_as_before),
        scenario!("judged-by-pairs", judged::by_pairs),
        scenario!("prometheus-down", faults::prometheus_down, fault = "Prometheus down"),
        scenario!("a-b-a-b", people::a_b_a_b),
        scenario!("a-b-a-b-paused-at-rest", people::a_b_a_b_paused_at_rest),
        scenario!("new-image-midway", people::new_image_midway),
        scenario!("promoted", promoted::play),
        scenario!("promoted-paused-at-rest", promoted::paused_at_rest),
        scenario!("rolled-back-at-10", rolled_back::at_10),
        scenario!("rolled-back-at-10-paused-at-rest", rolled_back::at_10_paused_at_rest),
        scenario!("rolled-back-at-50", rolled_back::at_50),
        scenario!("rolled-back-at-100", rolled_back::at_100),
        scenario!("rolled-back-on-latency", rolled_back::on_latency),
        scenario!("fails-everything", rolled_back::fails_everything),
        scenario!("clients-give-up", rolled_back::clients_give_up),
        scenario!("as-simulated-good", simulated::good),
        scenario!("as-simulated-patient", simulated::patient),
        scenario!("as-simulated-bad-at-once", simulated::bad_at_once),
        scenario!("as-simulated-bad-at-50", simulated::bad_at_50),
        scenario!("as-simulated-fails-everything", simulated::fails_everything),
        scenario!("never-ready", rolled_back::never_ready),
        scenario!("no-traffic", faults::no_traffic, fault = "no traffic"),
        scenario!("abort", people::abort),
        scenario!("abort-paused-at-rest", people::abort_paused_at_rest),
        scenario!("abort-while-prometheus-hangs", people::abort_while_prometheus_hangs),
        scenario!("approval", people::approval),
        scenario!("image-reverted-midway", people::image_reverted_midway),
        scenario!("native-undo", people::native_undo),
        scenario!("scale-midway", people::scale_midway),
        scenario!("deleted-midway", people::deleted_midway),
        scenario!("deleted-midway-revert", people::deleted_midway_revert),
        scenario!("notified", notified::story),
        scenario!("notified-killed", notified::killed),
        scenario!("notified-channel-hangs", notified::channel_hangs),
        scenario!("notified-secret-missing", notified::secret_missing),
        scenario!("pause-resume", commands::pause_resume),
        scenario!("retry", commands::retry),
        scenario!("undo-degraded", commands::undo_degraded),
        scenario!("undo-degraded-paused-at-rest", commands::undo_degraded_paused_at_rest),
        scenario!("undo-healthy", commands::undo_healthy),
        scenario!("undo-healthy-paused-at-rest", commands::undo_healthy_paused_at_rest),
        scenario!("promote-full", commands::promote_full),
        scenario!("set-image-restart", commands::set_image_restart),
        scenario!("break-glass", commands::break_glass),
        scenario!("history-list", commands::history_list),
        scenario!("bad-midway-route-deleted", bad_midway::route_deleted),
        scenario!("bad-midway-canary-service-deleted", bad_midway::canary_service_deleted),
        scenario!("bad-midway-subset-removed", bad_midway::subset_removed),
        scenario!("bad-midway-right-withdrawn", bad_midway::right_withdrawn),
        scenario!("bad-midway-policy-denies", bad_midway::policy_denies),
        scenario!("bad-midway-quota", bad_midway::quota),
        scenario!("bad-midway-template-mutated", bad_midway::template_mutated),
        scenario!("bad-midway-replicas-0", bad_midway::replicas_0),
        scenario!("bad-midway-source-missing", bad_midway::source_missing),
        scenario!("bad-midway-source-wrong", bad_midway::source_wrong),
        scenario!("bad-midway-spec-edited", bad_midway::spec_edited),
        scenario!("prometheus-replicas", replicas::play),
        scenario!("bad-prometheus", bad_prometheus::play),
        scenario!("backtest", backtest::play),
        scenario!("promoted-by-subsets", routing::promoted_by_subsets),
        scenario!("promoted-by-subsets-paused-at-rest", routing::promoted_by_subsets_paused),
        scenario!("rolled-back-by-subsets", routing::rolled_back_by_subsets),
        scenario!("promoted-by-http-route", http_route::promoted),
        scenario!("promoted-by-gateway-http-route", http_route::promoted_by_gateway),
        scenario!("rolled-back-by-http-route", http_route::rolled_back),
        scenario!("http-route-refused", http_route::refused),
        scenario!("promoted-by-two-routes", several_routes::promoted),
        scenario!("one-of-two-routes-refuses", several_routes::one_refuses),
        scenario!("preview-promoted", preview::promoted),
        scenario!("preview-promoted-paused-at-rest", preview::promoted_paused_at_rest),
        scenario!("preview-aborted", preview::aborted),
        scenario!("chosen-promoted", chosen::promoted),
        scenario!("chosen-promoted-by-http-route", chosen::promoted_by_http_route),
        scenario!("chosen-aborted-on-linkerd", chosen::aborted_on_linkerd),
        scenario!("promoted-on-linkerd", linkerd::promoted),
        scenario!("rolled-back-on-linkerd", linkerd::rolled_back),
        scenario!("abort-on-linkerd", linkerd::abort),
        scenario!("linkerd-canary-vanishes", linkerd::canary_vanishes),
        scenario!("linkerd-service-profile", linkerd::service_profile),
        scenario!("linkerd-route-filters", linkerd::route_filters),
        scenario!("named-http-routes", routing::named_http_routes),
        scenario!("adopted-weights", routing::adopted_weights),
        scenario!("adopted-subsets", routing::adopted_subsets),
        scenario!("two-rollouts-on-one-route", routing::two_rollouts),
        scenario!("init-one-destination", init::one_destination),
        scenario!("init-policy", init::policy),
        scenario!("init-no-route", init::no_route),
        scenario!("init-split-services", init::split_services),
        scenario!("init-split-subsets", init::split_subsets),
        scenario!("init-several-http", init::several_http),
        scenario!("init-http-route", init::http_route),
        scenario!("init-linkerd", init::linkerd),
        scenario!("stable-only", routing::stable_only),
        scenario!("leak", routing::leak),
        scenario!("killed-0", kills::killed_0, fault = "controller killed, 4 moments each"),
        scenario!("killed-1", kills::killed_1, fault = "controller killed, 4 moments each"),
        scenario!("killed-2", kills::killed_2, fault = "controller killed, 4 moments each"),
        scenario!("killed-3", kills::killed_3, fault = "controller killed, 4 moments each"),
        scenario!("killed-4", kills::killed_4, fault = "controller killed, 4 moments each"),
        scenario!("killed-5", kills::killed_5, fault = "controller killed, 4 moments each"),
        scenario!("killed-6", kills::killed_6, fault = "controller killed, 4 moments each"),
        scenario!("killed-7", kills::killed_7, fault = "controller killed, 4 moments each"),
        scenario!(
            "leader-frozen-at-weight",
            leaders::frozen_at_weight,
            fault = "leader frozen and thawed"
        ),
        scenario!(
            "leader-frozen-at-commit",
            leaders::frozen_at_commit,
            fault = "leader frozen and thawed"
        ),
        scenario!(
            "leader-frozen-at-scale",
            leaders::frozen_at_scale,
            fault = "leader frozen and thawed"
        ),
        scenario!("leader-killed", leaders::killed, fault = "leader killed, another takes over"),
        scenario!("lease-deleted", leaders::lease_deleted, fault = "Lease deleted"),
        scenario!("many-objects", leaders::many_objects),
        scenario!("api-late-replies", api_faults::late_replies, fault = "API: answers 1-30 s late"),
        scenario!(
            "api-late-requests",
            api_faults::late_requests,
            fault = "API: requests 1-30 s late"
        ),
        scenario!("api-conflicts", api_faults::conflicts, fault = "API: 409"),
        scenario!("api-throttled", api_faults::throttled, fault = "API: 429"),
        scenario!("api-errors", api_faults::errors, fault = "API: 500"),
        scenario!("api-lost-replies", api_faults::lost_replies, fault = "API: replies lost"),
        scenario!("api-watches-cut", api_faults::watches_cut, fault = "API: watches cut"),
        scenario!("edited-by-hand", edits::by_hand, fault = "weights edited by hand"),
        scenario!("edited-in-a-fight", edits::fight, fault = "a writer that fights"),
        scenario!("gitops-applies", edits::gitops_applies, fault = "GitOps resets the route"),
        scenario!("gitops-applies-http-route", edits::gitops_applies_http_route),
        scenario!("promoted-by-delegate", edits::promoted_by_delegate),
        scenario!("gitops-replaces", edits::gitops_replaces, fault = "GitOps resets the route"),
        scenario!("pods-evicted", pods::evicted, fault = "canary pods evicted"),
        scenario!("endpoints-lost", pods::endpoints_lost, fault = "canary endpoints lost"),
        scenario!("namespace-deleted", pods::namespace_deleted, fault = "namespace deleted"),
        scenario!("mutant-adopts-too-early", mutant::play),
        scenario!("pod-lives", pod_lives::play),
        scenario!("self-check", self_check::play, alone),
        scenario!("figures", figures::play, alone),
        scenario!("figures-detection", figures::detection, alone),
        scenario!("aborts-24-at-once", crowd::aborts, alone),
        scenario!("bad-canaries-24-at-once", crowd::reactions, alone),
        scenario!("api-server-frozen", api_faults::frozen, alone, fault = "API server frozen"),
        scenario!("crd-outdated", api_faults::crd_outdated, alone, fault = "CRD outdated"),
        scenario!("api-server-away", api_server_away::play, alone),
    ];
    stories
        .into_iter()
        .chain(by_other_ways())
        .chain(bad_objects::all())
        .chain(admission::all())
        .collect()
}

/// What Istio's VirtualServices are tried by, with HTTPRoutes on Istio and on Linkerd as well.
fn by_other_ways() -> Vec<Scenario> {
    macro_rules! ways {
        ($($name:literal: $play:path,)*) => {
            vec![$(
                Scenario {
                    name: concat!($name, "-by-http-route"),
                    way: Way::HttpRoute,
                    ..scenario!($name, $play)
                },
                Scenario {
                    name: concat!($name, "-on-linkerd"),
                    way: Way::Linkerd,
                    ..scenario!($name, $play)
                },
            )*]
        };
    }
    ways![
        "a-b-a-b": people::a_b_a_b,
        "new-image-midway": people::new_image_midway,
        "rolled-back-at-50": rolled_back::at_50,
        "rolled-back-at-100": rolled_back::at_100,
        "rolled-back-on-latency": rolled_back::on_latency,
        "fails-everything": rolled_back::fails_everything,
        "never-ready": rolled_back::never_ready,
        "no-traffic": faults::no_traffic,
        "prometheus-down": faults::prometheus_down,
        "approval": people::approval,
        "image-reverted-midway": people::image_reverted_midway,
        "native-undo": people::native_undo,
        "scale-midway": people::scale_midway,
        "deleted-midway": people::deleted_midway,
        "deleted-midway-revert": people::deleted_midway_revert,
        "abort-while-prometheus-hangs": people::abort_while_prometheus_hangs,
        "pause-resume": commands::pause_resume,
        "retry": commands::retry,
        "undo-degraded": commands::undo_degraded,
        "undo-healthy": commands::undo_healthy,
        "promote-full": commands::promote_full,
        "break-glass": commands::break_glass,
        "pods-evicted": pods::evicted,
        "endpoints-lost": pods::endpoints_lost,
    ]
}

/// Those whose names contain one of the filters, or are one; all without a filter.
pub fn matching(filters: &[String], exact: bool) -> Vec<Scenario> {
    let is =
        |name: &str, filter: &String| if exact { name == filter } else { name.contains(filter) };
    let wanted = |scenario: &Scenario| {
        filters.is_empty() || filters.iter().any(|filter| is(scenario.name, filter))
    };
    all().into_iter().filter(wanted).collect()
}
