use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::any;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers every name with the same addresses.
struct Fixed(Vec<IpAddr>);

impl Resolve for Fixed {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses = self.0.clone();
        Box::pin(async move {
            Ok::<Addrs, _>(Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0))))
        })
    }
}

fn resolving(addresses: &[&str]) -> Outbound {
    let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
    Outbound::resolving(Arc::new(Fixed(addresses))).unwrap()
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn metadata_addresses_are_refused_however_they_are_named() {
    for address in [
        "169.254.169.254",
        "169.254.0.1",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "fe80::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "168.63.129.16",
        "100.100.100.200",
    ] {
        let refused = resolving(&[address]).get("http://inner.test/", &[], 10).await;
        assert!(matches!(refused, Err(OutboundError::Forbidden(_))), "{address}: {refused:?}");
        // One among good ones is enough.
        let refused = resolving(&["127.0.0.1", address]).get("http://x.test/", &[], 10).await;
        assert!(matches!(refused, Err(OutboundError::Forbidden(_))), "{address}: {refused:?}");
    }
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/",
        "http://2852039166/",
        "http://0xa9.0xfe.0xa9.0xfe/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[fe80::1]:8080/",
        "http://[fd00:ec2::254]/",
    ] {
        let refused = resolving(&[]).get(url, &[], 10).await;
        assert!(matches!(refused, Err(OutboundError::Forbidden(_))), "{url}: {refused:?}");
    }
}

#[test]
fn where_prometheus_lives_is_allowed() {
    for address in
        ["127.0.0.1", "::1", "::", "10.0.0.1", "172.16.3.4", "192.168.1.1", "fd12::1", "1.1.1.1"]
    {
        assert!(allowed(address.parse().unwrap()).is_ok(), "{address}");
    }
}

#[tokio::test]
async fn only_http_and_https_without_user() {
    let client = Outbound::new().unwrap();
    for url in [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "ftp://127.0.0.1/",
        "http://user:password@127.0.0.1/",
        "http://user@127.0.0.1/",
        "unix:/run/x",
        "not a url",
        "",
    ] {
        let refused = client.get(url, &[], 10).await;
        assert!(matches!(refused, Err(OutboundError::Url)), "{url}: {refused:?}");
    }
}

#[tokio::test]
async fn the_address_that_was_looked_at_is_the_one_that_is_asked() {
    let app = Router::new().route("/", any(|| async { "hello" }));
    let address = serve(app).await;
    let client = resolving(&["127.0.0.1"]);
    let url = format!("http://anything.test:{}/", address.port());
    let answer = client.get(&url, &[("a", "b")], 100).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"hello".as_slice()));
}

#[tokio::test]
async fn redirects_are_answers_and_not_followed() {
    let to = [(header::LOCATION, "http://169.254.169.254/latest/meta-data")];
    let app = Router::new().route("/", any(move || async move { (StatusCode::FOUND, to, "") }));
    let address = serve(app).await;
    let answer = Outbound::new().unwrap().get(&format!("http://{address}/"), &[], 100).await;
    assert_eq!(answer.unwrap().status, 302);
}

#[tokio::test]
async fn a_body_has_its_limit_and_its_time() {
    let app = Router::new()
        .route("/huge", any(|| async { vec![b'x'; 1_000_000] }))
        .route("/busy", any(|| async { (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")]) }));
    let address = serve(app).await;
    let client = Outbound::new().unwrap();
    let huge = client.get(&format!("http://{address}/huge"), &[], 1000).await;
    assert!(matches!(huge, Err(OutboundError::TooLarge(1000))), "{huge:?}");
    let busy = client.get(&format!("http://{address}/busy"), &[], 1000).await.unwrap();
    assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn who_says_nothing_or_drips_is_left_after_five_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
                let mut drops = tokio::time::interval(Duration::from_millis(300));
                while stream.write_all(b"x").await.is_ok() {
                    drops.tick().await;
                }
            });
        }
    });
    let url = format!("http://{address}/");
    let client = Outbound::new().unwrap();
    let answer = tokio::time::timeout(LIMIT * 2, client.get(&url, &[], 5000)).await.unwrap();
    assert!(matches!(answer, Err(OutboundError::TimedOut)), "{answer:?}");
}

#[tokio::test]
async fn an_error_holds_nothing_of_the_url() {
    let client = Outbound::new().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let hidden = "T0SECRET";
    let reset = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resets = reset.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = reset.accept().await {
            stream.set_zero_linger().unwrap();
        }
    });
    for url in [
        format!("http://{address}/services/{hidden}"),
        format!("https://{address}/services/{hidden}"),
        format!("http://{resets}/services/{hidden}"),
        format!("http://{hidden}.invalid/services/{hidden}"),
        format!("http://{hidden}@{address}/"),
        format!("ftp://{address}/{hidden}"),
    ] {
        let error = client.post(&Redacted::new(url), None, &Value::Null, 10).await.unwrap_err();
        let said = format!("{error} {error:?}").to_lowercase();
        assert!(!said.contains(&hidden.to_lowercase()), "{said}");
    }
}

#[tokio::test]
async fn https_speaks_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let first = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut start = [0; 2];
        stream.read_exact(&mut start).await.unwrap();
        start
    });
    let client = Outbound::new().unwrap();
    let answer = client.get(&format!("https://{address}/"), &[], 10).await;
    assert!(answer.is_err());
    assert_eq!(first.await.unwrap(), [0x16, 0x03], "a TLS handshake record");
}
