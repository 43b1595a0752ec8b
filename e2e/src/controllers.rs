//! Controllers from outside: what they say of themselves.

use anyhow::Result;

use crate::parts::Process;

/// All metrics of the controller that listens there.
pub(crate) async fn metrics(port: u16) -> Result<Vec<(String, f64)>> {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let http = reqwest::Client::builder().no_proxy().build()?;
    let text = http.get(url).send().await?.text().await?;
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    Ok(lines
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect())
}

/// A controller beside the first, killed when dropped.
pub struct Another {
    /// Its process.
    pub process: Process,
    pub(crate) port: u16,
}

impl Another {
    /// Whether it leads.
    pub async fn leads(&self) -> Result<bool> {
        let metrics = metrics(self.port).await?;
        Ok(metrics.iter().any(|(name, value)| name == "surefoot_leading" && *value > 0.0))
    }
}
