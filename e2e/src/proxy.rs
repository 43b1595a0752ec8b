//! A door that a scenario can shut: a TCP proxy in front of a shared part, so
//! that one scenario's outage is not everybody's.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Resets what is open and refuses what comes: the part is down.
    Refuse,
    /// Takes connections and says nothing, on open ones too: the part hangs.
    Hang,
}

/// The proxy; gone when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of `target` on an address of its own. (A port
    /// that the kernel picks could be taken while the proxy refuses.)
    pub async fn start(target: SocketAddr) -> Result<Proxy> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let host = Ipv4Addr::new(127, 0, 1, NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from((host, target.port()));
        let listener = listen(address).await?;
        let (mode, modes) = watch::channel(Mode::Pass);
        let task = tokio::spawn(run(listener, address, target, modes));
        Ok(Proxy { address, mode, task })
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it does, at once.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("binding the proxy's {address}"))
}

async fn run(
    listener: TcpListener,
    address: SocketAddr,
    target: SocketAddr,
    mut modes: watch::Receiver<Mode>,
) {
    let mut door = Some(listener);
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Refuse {
            door = None;
        } else if door.is_none() {
            door = listen(address).await.ok();
        }
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            stream = accept(door.as_ref()) => {
                tokio::spawn(connection(stream, target, modes.clone()));
            }
        }
    }
}

async fn accept(door: Option<&TcpListener>) -> TcpStream {
    if let Some(door) = door {
        loop {
            if let Ok((stream, _)) = door.accept().await {
                return stream;
            }
        }
    }
    std::future::pending().await
}

/// Passes bytes on for as long as the mode allows; then holds or resets.
async fn connection(mut client: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Mode>) {
    let mut server = None;
    loop {
        let mode = *modes.borrow_and_update();
        match mode {
            Mode::Refuse => {
                let _ = client.set_zero_linger();
                return;
            }
            Mode::Hang => {
                if modes.changed().await.is_err() {
                    return;
                }
            }
            Mode::Pass => {
                let upstream = match &mut server {
                    Some(upstream) => upstream,
                    none => match TcpStream::connect(target).await {
                        Ok(stream) => none.insert(stream),
                        Err(_) => return,
                    },
                };
                tokio::select! {
                    biased; // nothing passes once the mode has changed
                    changed = modes.changed() => if changed.is_err() { return },
                    _ = copy_bidirectional(&mut client, upstream) => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// One byte there and back.
    async fn echo(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_u8(7).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn modes_hold_for_open_and_new_connections() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let proxy = Proxy::start(target).await.unwrap();
        let mut open = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(echo(&mut open).await.unwrap(), 7);

        proxy.set(Mode::Hang);
        let silent = tokio::time::timeout(Duration::from_millis(200), echo(&mut open)).await;
        assert!(silent.is_err(), "answered although it hangs");
        proxy.set(Mode::Pass);
        assert_eq!(open.read_u8().await.unwrap(), 7, "what was held back arrives");

        proxy.set(Mode::Refuse);
        assert!(echo(&mut open).await.is_err(), "open connections are reset");
        crate::wait::wait_until("refusal", Duration::from_secs(5), || async {
            Ok(TcpStream::connect(proxy.address).await.is_err())
        })
        .await
        .unwrap();
        proxy.set(Mode::Pass);
        crate::wait::wait_until("the way back", Duration::from_secs(5), || async {
            Ok(echo(&mut TcpStream::connect(proxy.address).await?).await? == 7)
        })
        .await
        .unwrap();
    }
}
