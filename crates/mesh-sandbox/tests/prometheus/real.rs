//! The real Prometheus: started for a test, given samples, asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mesh_sandbox::labels::Labels;
use mesh_sandbox::store::Store;

/// No request of remote write has more samples.
const BATCH: usize = 5000;

/// Where `make setup` puts it.
pub fn binary() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/bin/prometheus")
}

/// A running one, killed when dropped.
pub struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// One that has no series and scrapes nothing.
    pub fn start(name: &str) -> Prometheus {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("prometheus.yml"), "global: {}\n").unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = std::fs::File::create(place.join("log")).unwrap();
        let process = Command::new(binary())
            .arg(format!("--config.file={}", place.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", place.join("data").display()))
            // The samples are of another time, and no block of them is written while the test lasts.
            .args(["--storage.tsdb.retention.time=100y", "--storage.tsdb.min-block-duration=7d"])
            .args(["--storage.tsdb.max-block-duration=7d", "--web.enable-remote-write-receiver"])
            .arg(format!("--web.listen-address={address}"))
            .args(["--web.console.libraries=", "--web.console.templates="])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut prometheus = Prometheus { process, address };
        while prometheus.ask("/-/ready", &[]).map(|(status, _)| status) != Some(200) {
            let ended = prometheus.process.try_wait().unwrap();
            assert!(ended.is_none(), "Prometheus does not start: {}/log", place.display());
            std::thread::yield_now();
        }
        prometheus
    }

    /// Give it all samples of a store, in order of time.
    pub fn fill(&self, store: &Store) -> usize {
        let mut all: Vec<(i64, usize, f64)> = Vec::new();
        let series = store.series(None);
        for (place, series) in series.iter().enumerate() {
            all.extend(series.samples.iter().map(|(at, value)| (*at, place, *value)));
        }
        all.sort_by_key(|(at, place, _)| (*at, *place));
        for batch in all.chunks(BATCH) {
            let written = |(at, place, value): &(i64, usize, f64)| {
                field(1, &time_series(&series[*place].labels, *at, *value))
            };
            let request: Vec<u8> = batch.iter().flat_map(written).collect();
            let body = snap::raw::Encoder::new().compress_vec(&request).unwrap();
            let head = format!(
                "POST /api/v1/write HTTP/1.0\r\nContent-Encoding: snappy\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let (status, said) = self.exchange(&[head.as_bytes(), &body].concat()).unwrap();
            assert!((200..300).contains(&status), "{status}: {said}");
        }
        all.len()
    }

    /// Ask it; `None` if it does not answer at all.
    pub fn ask(&self, path: &str, params: &[(String, String)]) -> Option<(u16, String)> {
        let pairs = params.iter().map(|(name, value)| format!("{name}={}", percent(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        self.exchange(format!("GET {path}?{query} HTTP/1.0\r\n\r\n").as_bytes())
    }

    /// HTTP/1.0 ends an answer by closing the connection, and knows no chunks.
    fn exchange(&self, request: &[u8]) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        stream.write_all(request).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// One series with one sample, as the messages of remote write (protobuf) have it.
fn time_series(labels: &Labels, at: i64, value: f64) -> Vec<u8> {
    let label = |(name, value): (&str, &str)| {
        field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat())
    };
    let mut message: Vec<u8> = labels.iter().flat_map(label).collect();
    // Field 1 is a double, field 2 an integer.
    let sample = [&[0x09][..], &value.to_le_bytes(), &[0x10], &varint(at.cast_unsigned())].concat();
    message.extend(field(2, &sample));
    message
}

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
