//! A controller's way to the sandbox that can be frozen between two calls: what it sends from then on
//! arrives when it is thawed, even if it gave up waiting long before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use kube::client::Body;
use kube_sandbox::{ConnectionLost, ResponseBody, Service};
use tokio::sync::watch;

/// How long a call takes.
const WAY: Duration = Duration::from_millis(1);

/// The way, and the number of the call before which it freezes.
#[derive(Clone)]
pub struct Gate {
    inner: Service,
    freeze_at: u64,
    calls: Arc<AtomicU64>,
    /// Whether it is frozen.
    frozen: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// Freezes before this call, counted from 1; 0: never.
    pub fn new(inner: Service, freeze_at: u64, frozen: Arc<watch::Sender<bool>>) -> Self {
        Self { inner, freeze_at, calls: Arc::default(), frozen }
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
        if self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.freeze_at {
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
