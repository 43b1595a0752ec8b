//! The watched copies of a namespace that the stand-in goes by.

use std::net::Ipv4Addr;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::{self, Lookup, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::rules;
use crate::world::Task;

/// Routes, Services and endpoints as last seen.
pub struct Seen {
    /// The namespace.
    pub namespace: String,
    /// Its HTTPRoutes.
    pub routes: Api<DynamicObject>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    known: Store<DynamicObject>,
    changes: watch::Receiver<u64>,
}

/// Keep a store up to date; each event counts as a change.
fn follow<K>(api: Api<K>, writer: reflector::store::Writer<K>, changed: &watch::Sender<u64>) -> Task
where
    K: Resource + Lookup + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    <K as Lookup>::DynamicType: Eq + std::hash::Hash + Clone + Send + Sync,
{
    let changed = changed.clone();
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let stream = reflector::reflector(writer, events);
    Task(tokio::spawn(stream.for_each(move |_| {
        changed.send_modify(|n| *n += 1);
        std::future::ready(())
    })))
}

impl Seen {
    /// Begin to watch; until the tasks are dropped.
    pub fn start(client: &Client, namespace: &str) -> (Seen, Vec<Task>) {
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
        let kind = ApiResource::from_gvk_with_plural(&kind, "httproutes");
        let routes = Api::namespaced_with(client.clone(), namespace, &kind);
        let (sender, changes) = watch::channel(0);
        let (services, of_services) = reflector::store();
        let (slices, of_slices) = reflector::store();
        let of_routes = reflector::store::Writer::new(kind);
        let known = of_routes.as_reader();
        let tasks = vec![
            follow(Api::namespaced(client.clone(), namespace), of_services, &sender),
            follow(Api::namespaced(client.clone(), namespace), of_slices, &sender),
            follow(routes.clone(), of_routes, &sender),
        ];
        let namespace = namespace.to_owned();
        (Seen { namespace, routes, services, slices, known, changes }, tasks)
    }

    /// How often something has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// The HTTPRoutes, as JSON.
    pub fn http_routes(&self) -> Vec<Value> {
        let routes = self.known.state();
        routes.iter().filter_map(|route| serde_json::to_value(&**route).ok()).collect()
    }

    /// The route that the requests for a Service follow, if there is one.
    pub fn route_of(&self, service: &str) -> Option<Value> {
        let takes = |route: &Value| rules::parents(route).any(|parent| parent["name"] == service);
        self.http_routes().into_iter().find(|route| rules::is_followed(route) && takes(route))
    }

    /// A Service's cluster IP; `None` where there is no such Service.
    pub fn cluster_ip(&self, service: &str) -> Option<String> {
        let services = self.services.state();
        let service = services.iter().find(|known| known.name_any() == service)?;
        Some(service.spec.as_ref()?.cluster_ip.clone().unwrap_or_default())
    }

    /// The addresses of a Service's ready endpoints.
    pub fn ready(&self, service: &str) -> Vec<Ipv4Addr> {
        let slices = self.slices.state();
        let own = slices.iter().filter(|slice| {
            slice.labels().get("kubernetes.io/service-name").is_some_and(|name| name == service)
        });
        let ends = own.flat_map(|slice| &slice.endpoints);
        let ready = ends.filter(|end| {
            end.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
        });
        ready.flat_map(|end| &end.addresses).filter_map(|ip| ip.parse().ok()).collect()
    }
}
