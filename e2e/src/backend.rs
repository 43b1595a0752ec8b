//! What runs in a pod: a small HTTP server whose manners depend on its image.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::clock;
use crate::linkerd::inbound::Inbound;
use crate::sidecars::{Sidecar, Sidecars};

/// The port every pod serves on.
pub const PORT: u16 = 8080;

/// How the pods of one image answer.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Share of requests that fail, 0 to 1. Which ones is pseudo-random, and
    /// the same in every run: a test must not fail by chance.
    pub failure_rate: f64,
    /// The status of a failure.
    pub failure_status: u16,
    /// How long an answer takes.
    pub latency: Duration,
    /// Share of requests that take `slow_latency` instead, 0 to 1.
    pub slow_rate: f64,
    /// How long a slow answer takes.
    pub slow_latency: Duration,
}

impl Default for Behaviour {
    /// Always right, always at once.
    fn default() -> Self {
        Behaviour {
            failure_rate: 0.0,
            failure_status: 500,
            latency: Duration::ZERO,
            slow_rate: 0.0,
            slow_latency: Duration::ZERO,
        }
    }
}

impl Behaviour {
    /// Answers a share of requests with 500.
    pub fn failing(rate: f64) -> Self {
        Behaviour { failure_rate: rate, ..Behaviour::default() }
    }

    /// Answers after a while.
    pub fn slow(latency: Duration) -> Self {
        Behaviour { latency, ..Behaviour::default() }
    }
}

/// The manners of all images, changeable while pods run, and what the pods' proxies count. Clones
/// share the tables.
#[derive(Clone, Debug, Default)]
pub struct Behaviours {
    manners: Arc<RwLock<HashMap<Arm, Arc<Manners>>>>,
    /// The proxies beside the pods.
    pub sidecars: Sidecars,
}

/// A namespace and an image.
type Arm = (String, String);

/// A behaviour and where its pseudo-random sequence has got to.
#[derive(Debug)]
struct Manners {
    seed: u64,
    served: AtomicU64,
    behaviour: RwLock<Behaviour>,
}

impl Behaviours {
    /// Sets how all pods of `image` in `namespace` answer from now on.
    pub fn set(&self, namespace: &str, image: &str, behaviour: Behaviour) {
        *self.of(namespace, image).behaviour.write().unwrap_or_else(PoisonError::into_inner) =
            behaviour;
    }

    fn of(&self, namespace: &str, image: &str) -> Arc<Manners> {
        let arm = (namespace.to_owned(), image.to_owned());
        let mut hasher = DefaultHasher::new();
        arm.hash(&mut hasher);
        let seed = hasher.finish();
        let mut table = self.manners.write().unwrap_or_else(PoisonError::into_inner);
        let manners = table.entry(arm).or_insert_with(|| {
            Arc::new(Manners { seed, served: AtomicU64::new(0), behaviour: RwLock::default() })
        });
        Arc::clone(manners)
    }
}

impl Manners {
    /// What the next request gets: status and delay.
    fn next(&self) -> (u16, Duration) {
        let n = self.served.fetch_add(1, Ordering::Relaxed);
        let behaviour = self.behaviour.read().unwrap_or_else(PoisonError::into_inner);
        let fails = uniform(self.seed, 2 * n) < behaviour.failure_rate;
        let slow = uniform(self.seed, 2 * n + 1) < behaviour.slow_rate;
        (
            if fails { behaviour.failure_status } else { 200 },
            if slow { behaviour.slow_latency } else { behaviour.latency },
        )
    }
}

/// The `n`th number of the sequence `seed`, in [0, 1) (SplitMix64).
pub(crate) fn uniform(seed: u64, n: u64) -> f64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}

/// Which pod a server plays.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name, told in `x-pod`.
    pub pod: String,
    /// The image, whose tag is told in `x-version`.
    pub image: String,
    /// Whether the proxy beside it is Linkerd's.
    pub linkerd: bool,
}

/// A serving pod. Dropping it is the end of the process in the pod: the address
/// refuses connections and the open ones are reset.
#[derive(Debug)]
pub struct Backend {
    _alive: watch::Sender<()>,
}

impl Backend {
    /// Serves on `ip` from the moment this returns.
    pub async fn start(
        ip: Ipv4Addr,
        identity: Identity,
        behaviours: &Behaviours,
    ) -> Result<Backend> {
        let address = SocketAddr::from((ip, PORT));
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("binding {address}"))?;
        let (alive, dead) = watch::channel(());
        let pod = Arc::new(Pod {
            manners: behaviours.of(&identity.namespace, &identity.image),
            version: identity.image.rsplit(':').next().unwrap_or_default().to_owned(),
            proxy: Beside::start(&behaviours.sidecars, &identity, ip).await?,
            name: identity.pod,
        });
        tokio::spawn(accept(listener, pod, dead));
        Ok(Backend { _alive: alive })
    }
}

struct Pod {
    manners: Arc<Manners>,
    version: String,
    name: String,
    proxy: Beside,
}

/// The proxy beside a pod.
enum Beside {
    Istio(Sidecar),
    Linkerd(Inbound),
}

impl Beside {
    async fn start(sidecars: &Sidecars, of: &Identity, ip: Ipv4Addr) -> Result<Beside> {
        if of.linkerd {
            let inbound = Inbound::start(sidecars, &of.namespace, &of.pod, ip).await?;
            return Ok(Beside::Linkerd(inbound));
        }
        Ok(Beside::Istio(sidecars.start(&of.namespace, &of.pod, ip)))
    }

    fn answered(&self, status: u16, took: Duration) {
        match self {
            Beside::Istio(proxy) => proxy.answered(status, took),
            Beside::Linkerd(proxy) => proxy.answered(status, took),
        }
    }
}

async fn accept(listener: TcpListener, pod: Arc<Pod>, mut dead: watch::Receiver<()>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                tokio::spawn(serve(stream, Arc::clone(&pod), dead.clone()));
            },
            _ = dead.changed() => return,
        }
    }
}

async fn serve(stream: TcpStream, pod: Arc<Pod>, mut dead: watch::Receiver<()>) {
    // The answer is one small write; waiting for more would cost 40 ms.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(Arc::clone(&pod), request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = &mut connection => {}
        _ = dead.changed() => {
            // A process that is killed says no goodbye.
            let _ = connection.into_parts().io.into_inner().set_zero_linger();
        }
    }
}

async fn answer(
    pod: Arc<Pod>,
    _request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (start, (status, delay)) = (clock::instant(), pod.manners.next());
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    pod.proxy.answered(status, clock::instant() - start);
    let mut response = Response::new(Full::new(Bytes::from_static(b"ok\n")));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in [("x-version", &pod.version), ("x-pod", &pod.name)] {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_at_the_rate_and_in_the_order_of_every_run() {
        let run = || {
            let behaviours = Behaviours::default();
            behaviours.set("shop", "registry.test/shop:v2", Behaviour::failing(0.05));
            let manners = behaviours.of("shop", "registry.test/shop:v2");
            (0..10_000).map(|_| manners.next().0).collect::<Vec<_>>()
        };
        let statuses = run();
        let failed = statuses.iter().filter(|&&status| status == 500).count();
        assert!((450..550).contains(&failed), "{failed} of 10000");
        assert_eq!(statuses, run());
    }

    #[test]
    fn a_rate_of_one_fails_everything_and_of_zero_nothing() {
        let behaviours = Behaviours::default();
        let manners = behaviours.of("shop", "x:v1");
        assert!((0..1000).all(|_| manners.next().0 == 200));
        behaviours.set("shop", "x:v1", Behaviour::failing(1.0));
        assert!((0..1000).all(|_| manners.next().0 == 500));
    }
}
