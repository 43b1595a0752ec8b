//! The one client for servers whose addresses users write down: Prometheus and Slack.
//!
//! http and https only; no user in the URL; no redirects; no proxy from the environment. A name is
//! resolved once a connection, and the connection goes to the addresses that were looked at: never to
//! a link-local or a metadata address. Five seconds in all and a limit on the answer. An error never
//! holds the URL or what the server sent.

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Method, Request, Url};
use serde_json::Value;

use crate::redacted::Redacted;

/// No request may take longer, with everything.
pub const LIMIT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The URL is none that a request may go to.
    #[error("the URL must be http or https, without user and password")]
    Url,
    /// The address is one that nobody has business with.
    #[error("{0} is a link-local or metadata address: nothing is sent there")]
    Forbidden(IpAddr),
    /// Nothing came in time.
    #[error("no answer within 5 s")]
    TimedOut,
    /// There is no such name, nobody listens, or TLS failed.
    #[error("the server can't be reached")]
    Unreachable,
    /// The connection broke.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// The answer is too large.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// TLS can't be set up on this machine.
    #[error("no https from here: {0}")]
    Tls(String),
}

/// What a server answered. Redirects are answers like any other.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// How long the server asks to be left alone, where it says so in seconds.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

/// A server within this process that answers in place of the network.
pub type Inside =
    Arc<dyn Fn(Request) -> BoxFuture<'static, Result<Answer, OutboundError>> + Send + Sync>;

/// The client.
pub struct Outbound(Way);

/// How requests reach their server.
enum Way {
    Network {
        plain: Client,
        /// Needs the system's certificates, which a machine that only speaks http may not have.
        secure: Result<Client, String>,
    },
    Inside(Inside),
}

impl Outbound {
    /// All requests go to `server`, without a socket: for runs in virtual time. URLs are looked at
    /// all the same.
    #[must_use]
    pub fn inside(server: Inside) -> Self {
        Self(Way::Inside(server))
    }

    /// A client that asks the system's resolver.
    ///
    /// # Errors
    /// When not even a client for plain http can be made.
    pub fn new() -> Result<Self, reqwest::Error> {
        Self::resolving(Arc::new(System))
    }

    /// A client with a resolver of one's own; its answers are looked at all the same.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub fn resolving(resolver: Arc<dyn Resolve>) -> Result<Self, reqwest::Error> {
        // An error says that there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let resolver = Arc::new(Guarded(resolver));
        let builder = || {
            ClientBuilder::new()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .dns_resolver(resolver.clone())
                .timeout(LIMIT)
                .connect_timeout(LIMIT)
                .retry(reqwest::retry::never())
                .user_agent(concat!("surefoot/", env!("CARGO_PKG_VERSION")))
        };
        let secure = builder().https_only(true).build();
        Ok(Self(Way::Network {
            plain: builder().tls_certs_only([]).build()?,
            secure: secure.map_err(|error| deepest(&error)),
        }))
    }

    /// GET with a query.
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub async fn get(
        &self,
        url: &str,
        query: &[(&str, &str)],
        largest: usize,
    ) -> Result<Answer, OutboundError> {
        let mut url = checked(url)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.exchange(Request::new(Method::GET, url), largest).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub async fn post(
        &self,
        url: &Redacted,
        bearer: Option<&Redacted>,
        json: &Value,
        largest: usize,
    ) -> Result<Answer, OutboundError> {
        let mut request = Request::new(Method::POST, checked(url.expose())?);
        *request.body_mut() = Some(json.to_string().into());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = bearer {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            // Such as a token with a line break.
            let mut value = value.map_err(|_| OutboundError::Url)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        self.exchange(request, largest).await
    }

    async fn exchange(&self, request: Request, largest: usize) -> Result<Answer, OutboundError> {
        let client = match &self.0 {
            Way::Inside(server) => {
                let answer = tokio::time::timeout(LIMIT, server(request)).await;
                let answer = answer.map_err(|_| OutboundError::TimedOut)??;
                let fits = answer.body.len() <= largest;
                return if fits { Ok(answer) } else { Err(OutboundError::TooLarge(largest)) };
            }
            Way::Network { plain, .. } if request.url().scheme() == "http" => plain,
            Way::Network { secure, .. } => {
                secure.as_ref().map_err(|problem| OutboundError::Tls(problem.clone()))?
            }
        };
        let answer = client.execute(request).await.map_err(|e| why(&e))?;
        let (status, retry_after) = (answer.status().as_u16(), retry_after(answer.headers()));
        let mut body = Vec::new();
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| why(&e))?;
            if body.len() + chunk.len() > largest {
                return Err(OutboundError::TooLarge(largest));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, retry_after, body })
    }
}

/// A URL that a request may go to. A literal address is never resolved: however it was written, here
/// it is in its usual form.
fn checked(url: &str) -> Result<Url, OutboundError> {
    let url = Url::parse(url).map_err(|_| OutboundError::Url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(OutboundError::Url);
    }
    let host = url.host_str().ok_or(OutboundError::Url)?;
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        allowed(address)?;
    }
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(OutboundError::Url) }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// In words that hold nothing of the URL: it may be a secret.
fn why(error: &reqwest::Error) -> OutboundError {
    let mut source: Option<&dyn StdError> = Some(error);
    while let Some(at) = source {
        if let Some(Forbidden(address)) = at.downcast_ref::<Forbidden>() {
            return OutboundError::Forbidden(*address);
        }
        source = at.source();
    }
    if error.is_timeout() {
        OutboundError::TimedOut
    } else if error.is_connect() {
        OutboundError::Unreachable
    } else if error.is_builder() {
        // Such as a token that can't be a header.
        OutboundError::Url
    } else {
        OutboundError::Broken(deepest(error))
    }
}

/// The last of an error's causes: those before it may name the URL.
fn deepest(error: &reqwest::Error) -> String {
    let Some(mut cause) = error.source() else { return "for no reason that it tells".to_owned() };
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// An address that was refused, on its way through the client's errors.
#[derive(Debug, thiserror::Error)]
#[error("a link-local or metadata address")]
struct Forbidden(IpAddr);

impl From<Forbidden> for OutboundError {
    fn from(Forbidden(address): Forbidden) -> Self {
        OutboundError::Forbidden(address)
    }
}

/// Metadata services outside of the link-local ranges: AWS (IPv6), Google (IPv6), Azure, Alibaba,
/// Oracle.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Loopback and private ranges are where Prometheus lives; link-local ones are where credentials are
/// handed out.
fn allowed(address: IpAddr) -> Result<(), Forbidden> {
    let plain = match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
    };
    let link_local = match plain {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local || METADATA.contains(&plain) { Err(Forbidden(address)) } else { Ok(()) }
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, by NAT64 or by 6to4.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = v6.segments();
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match parts {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] if high != 0 => Some(join(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// A resolver whose answers have been looked at. One bad address spoils the name: who mixes them
/// means no good.
struct Guarded(Arc<dyn Resolve>);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let answer = self.0.resolve(name);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = answer.await?.collect();
            for address in &addresses {
                allowed(address.ip())?;
            }
            Ok::<Addrs, _>(Box::new(addresses.into_iter()))
        })
    }
}

/// The system's resolver.
struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok::<Addrs, _>(Box::new(addresses.into_iter()))
        })
    }
}

#[cfg(test)]
mod tests;
