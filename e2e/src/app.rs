//! The application that scenarios deliver: a Deployment with the Services and
//! the route that a team would have before Surefoot comes.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::wait::wait_until;
use crate::world::Scene;

/// The route's API version.
pub const ISTIO: &str = "networking.istio.io/v1";

/// The image of a version of `app`.
pub fn image(app: &str, version: &str) -> String {
    format!("registry.test/{app}:{version}")
}

/// A Deployment of `version`, as YAML; named like the app unless `name` differs.
pub fn deployment(name: &str, app: &str, version: &str, replicas: u32) -> String {
    let image = image(app, version);
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {replicas}
  selector:
    matchLabels: {{app: {app}, track: {name}}}
  template:
    metadata:
      labels: {{app: {app}, track: {name}, version: {version}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: {app}
        image: {image}
        ports: [{{containerPort: 8080}}]
"#
    )
}

/// A Service in front of the pods with these labels, as YAML.
pub fn service(name: &str, selector: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  selector: {{{selector}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
"#
    )
}

/// A host-level route between `<app>-stable` and `<app>-canary` at 100/0, as
/// YAML. Retries are off: they would hide the failures that tests look for.
pub fn route(namespace: &str, app: &str) -> String {
    format!(
        r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: {app}
spec:
  hosts: [{app}.{namespace}.test]
  gateways: [mesh-gateway/gateway]
  http:
  - name: primary
    retries: {{attempts: 0}}
    route:
    - destination: {{host: {app}-stable.{namespace}.svc.cluster.local}}
      weight: 100
    - destination: {{host: {app}-canary.{namespace}.svc.cluster.local}}
      weight: 0
"#
    )
}

/// Waits until all pods of a Deployment are available.
pub async fn available(scene: &Scene, name: &str) -> Result<()> {
    wait_until(&format!("Deployment {name} to be available"), Duration::from_secs(60), || async {
        let deployment = scene.get("apps/v1", "Deployment", name).await?;
        let status = &deployment["status"];
        Ok(status["observedGeneration"] == deployment["metadata"]["generation"]
            && status["availableReplicas"] == deployment["spec"]["replicas"]
            && status["updatedReplicas"] == deployment["spec"]["replicas"])
    })
    .await
}

/// Sets the canary's weight, and the stable one's to the rest, by JSON Patch.
pub async fn shift(scene: &Scene, app: &str, canary: u32) -> Result<()> {
    let patch: json_patch::Patch = serde_json::from_value(json!([
        {"op": "test", "path": "/spec/http/0/name", "value": "primary"},
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 100 - canary},
        {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": canary},
    ]))?;
    let api = scene.api(ISTIO, "VirtualService").await?;
    api.patch(app, &kube::api::PatchParams::default(), &kube::api::Patch::Json::<()>(patch))
        .await?;
    Ok(())
}
