//! Prometheus, scraping the gateway every second.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::{Launch, Process, answers};

/// Where Prometheus listens.
pub const ADDRESS: &str = "127.0.0.1:9090";

/// The running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    /// Its process, to be frozen or killed.
    pub process: Process,
    http: reqwest::Client,
}

/// One element of an instant vector.
#[derive(Clone, Debug, Deserialize)]
pub struct Point {
    /// The labels.
    #[serde(rename = "metric")]
    pub labels: BTreeMap<String, String>,
    value: (f64, String),
}

impl Point {
    /// The value.
    pub fn value(&self) -> f64 {
        self.value.1.parse().unwrap_or(f64::NAN)
    }

    /// A label's value; empty when absent, as Prometheus sees it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    result: serde_json::Value,
}

impl Prometheus {
    /// Starts it and waits until it answers queries.
    pub async fn start(bin: &Path, data: &Path, logs: &Path) -> Result<Prometheus> {
        let config = data.join("prometheus.yml");
        std::fs::write(&config, include_str!("../../config/prometheus.yml"))
            .context("writing prometheus.yml")?;
        let mut process = Process::start(Launch {
            name: "prometheus",
            binary: &bin.join("prometheus"),
            args: vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", data.join("prometheus").display()),
                format!("--web.listen-address={ADDRESS}"),
                "--web.console.libraries=".into(),
                "--web.console.templates=".into(),
                "--log.level=warn".into(),
            ],
            env: &[],
            logs,
            piped: false,
        })?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("http://{ADDRESS}/-/ready");
        process.ready(|| answers(&http, &url)).await?;
        Ok(Prometheus { process, http })
    }

    /// An instant query that gives a vector.
    pub async fn query(&self, query: &str) -> Result<Vec<Point>> {
        let answer: Answer = self
            .http
            .get(format!("http://{ADDRESS}/api/v1/query"))
            .query(&[("query", query)])
            .timeout(Duration::from_secs(5))
            .send()
            .await?
            .json()
            .await?;
        if let Some(error) = answer.error {
            bail!("{query}: {error}");
        }
        let data = answer.data.ok_or_else(|| anyhow!("{query}: no data"))?;
        serde_json::from_value(data.result).with_context(|| format!("{query} is no vector"))
    }
}
