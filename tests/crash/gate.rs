//! A controller's way to the sandbox that can be frozen between two calls: what it sends from then on
//! arrives when it is thawed, even if it gave up waiting long before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use kube::client::Body;
use kube_sandbox::{ConnectionLost, ResponseBody, Service};
use tokio::sync::watch;

use crate::branch::Branches;

/// How long a call takes.
const WAY: Duration = Duration::from_millis(1);

/// The way of one controller.
#[derive(Clone)]
pub struct Gate {
    inner: Service,
    client: String,
    /// Which calls it may freeze before.
    branches: Option<Arc<Branches>>,
    /// Whether it is frozen.
    frozen: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// The way of `client`, which freezes at the calls that `branches` says.
    pub fn new(
        inner: Service,
        client: &str,
        branches: Option<Arc<Branches>>,
        frozen: Arc<watch::Sender<bool>>,
    ) -> Self {
        Self { inner, client: client.to_owned(), branches, frozen }
    }
}

impl tower_service::Service<http::Request<Body>> for Gate {
    type Response = http::Response<ResponseBody>;
    type Error = ConnectionLost;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if self.branches.as_ref().is_some_and(|branches| branches.freezes(&self.client)) {
            self.frozen.send_replace(true);
        }
        let arrives = self.inner.call(request);
        // As quick as no real one; but no two that follow each other are of one instant.
        let call = Box::pin(async move {
            tokio::time::sleep(WAY).await;
            arrives.await
        });
        let mut frozen = self.frozen.subscribe();
        if !*frozen.borrow() {
            return call;
        }
        // In a task of its own, or it would be gone when the caller gives up.
        let late = tokio::spawn(async move {
            let _ = frozen.wait_for(|frozen| !frozen).await;
            call.await
        });
        Box::pin(async move { late.await.unwrap_or(Err(ConnectionLost)) })
    }
}
