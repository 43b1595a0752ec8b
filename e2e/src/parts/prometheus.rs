//! Prometheus, scraping the gateway every second.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Launch, Process, answers};

/// Where Prometheus listens.
pub const ADDRESS: &str = "127.0.0.1:9090";
const CONFIG: &str = include_str!("../../config/prometheus.yml");

/// The same configuration with every target scraped twice, under two values of `label`.
pub fn twice(label: &str) -> Result<String> {
    let mut config: Value = serde_saphyr::from_str(CONFIG).context("reading prometheus.yml")?;
    let jobs = config["scrape_configs"].as_array().cloned().unwrap_or_default();
    let copies = ["a", "b"].into_iter().flat_map(|copy| {
        jobs.iter().map(move |job| {
            let name = job["job_name"].as_str().unwrap_or_default();
            let mut job = job.clone();
            job["relabel_configs"] = json!([
                {"target_label": "job", "replacement": name},
                {"target_label": label, "replacement": copy},
            ]);
            job["job_name"] = json!(format!("{name}-{copy}"));
            job
        })
    });
    let others = ["a", "b"].into_iter().map(|copy| strangers(label, copy));
    config["scrape_configs"] = copies.chain(others).collect();
    Ok(config.to_string())
}

/// Targets that have nothing to do with any release: as many as a cluster has, and as doubled.
fn strangers(label: &str, copy: &str) -> Value {
    let targets: Vec<Value> = (0..40)
        .map(|i| json!({"targets": [ADDRESS], "labels": {"instance": format!("stranger-{i}")}}))
        .collect();
    json!({
        "job_name": format!("strangers-{copy}"),
        "static_configs": targets,
        "relabel_configs": [
            {"target_label": "job", "replacement": "strangers"},
            {"target_label": label, "replacement": copy},
        ],
        "metric_relabel_configs": [{"source_labels": ["__name__"], "regex": "up", "action": "keep"}],
        "scrape_interval": "15s",
        "scrape_timeout": "5s",
    })
}

/// The running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    /// Its process, to be frozen or killed.
    pub process: Process,
    address: &'static str,
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
        Self::start_at(bin, data, logs, "prometheus", CONFIG, ADDRESS).await
    }

    /// Starts one with a name, a configuration and an address of its own.
    pub async fn start_at(
        bin: &Path,
        data: &Path,
        logs: &Path,
        name: &'static str,
        text: &str,
        address: &'static str,
    ) -> Result<Prometheus> {
        let config = data.join(format!("{name}.yml"));
        std::fs::write(&config, text).with_context(|| format!("writing {name}.yml"))?;
        let mut process = Process::start(Launch {
            name,
            binary: &bin.join("prometheus"),
            args: vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", data.join(name).display()),
                format!("--web.listen-address={address}"),
                "--web.console.libraries=".into(),
                "--web.console.templates=".into(),
                "--log.level=warn".into(),
            ],
            env: &[],
            logs,
            piped: false,
        })?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("http://{address}/-/ready");
        process.ready(|| answers(&http, &url)).await?;
        Ok(Prometheus { process, address, http })
    }

    /// An instant query that gives a vector.
    pub async fn query(&self, query: &str) -> Result<Vec<Point>> {
        let answer: Answer = self
            .http
            .get(format!("http://{}/api/v1/query", self.address))
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
