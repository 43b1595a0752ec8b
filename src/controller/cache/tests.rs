use kube_sandbox::{Request, Sandbox};
use serde_json::json;

use super::super::tasks::Scope;
use super::*;
use crate::sandbox::cluster::{DEFINITIONS, definitions, read};

const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/prod/httproutes";
const HTTP_ROUTE: Watched = Watched::Written(Kind::HTTPRoute);

fn post(api: &Sandbox, path: &str, body: &Value) {
    let media = "application/json";
    let request = Request::with(http::Method::POST, path, media, body.to_string());
    let (code, answer) = read(api.handle(&request));
    assert_eq!(code, 201, "{answer}");
}

fn is_gateway(definition: &Value) -> bool {
    definition["spec"]["group"] == "gateway.networking.k8s.io"
}

/// A controller starts where the Gateway API isn't served, says so of it alone, and needs no restart
/// once it is.
#[tokio::test(start_paused = true)]
async fn a_cluster_may_lack_the_gateway_api_and_get_it_later() {
    let api = Sandbox::new();
    let (gateway, others): (Vec<_>, Vec<_>) =
        definitions().unwrap().into_iter().partition(is_gateway);
    others.iter().for_each(|definition| post(&api, DEFINITIONS, definition));
    post(&api, "/api/v1/namespaces", &json!({"metadata": {"name": "prod"}}));

    let client = Client::new(api.service("surefoot"), "prod");
    let (changes, mut changed) = mpsc::channel(100);
    let scope = Scope::default();
    let cache = Cache::start(&client, Some("prod"), changes, &scope.tasks()).await;
    assert_eq!(cache.unknown(HTTP_ROUTE), Some(Fault::NotServed));
    assert_eq!(cache.unknown(Watched::Written(Kind::VirtualService)), None);

    gateway.iter().for_each(|definition| post(&api, DEFINITIONS, definition));
    post(
        &api,
        ROUTES,
        &json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "web"}, "spec": {"rules": []},
        }),
    );
    let told = async {
        while let Some(change) = changed.recv().await {
            if change.kind == HTTP_ROUTE {
                return change.name;
            }
        }
        String::new()
    };
    assert_eq!(
        tokio::time::timeout(std::time::Duration::from_secs(60), told).await.unwrap(),
        "web"
    );
    assert_eq!(cache.unknown(HTTP_ROUTE), None);
    assert!(cache.get(HTTP_ROUTE, "prod", "web").is_some());
}

#[test]
fn only_a_word_of_the_server_makes_a_kind_unknown() {
    let said = |code| {
        let status = kube::core::Status::failure("no", "").with_code(code);
        let error = kube::Error::Api(Box::new(status));
        refusal(&watcher::Error::InitialListFailed(error))
    };
    assert_eq!(said(404), Some(Fault::NotServed));
    assert_eq!(said(403), Some(Fault::Forbidden));
    assert_eq!((said(500), said(429)), (None, None));
}
