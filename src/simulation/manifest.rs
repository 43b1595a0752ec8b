//! The Rollout of a file, with the templates that it names filled in.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use surefoot_core::api::analysis::TemplateKind;
use surefoot_core::api::rollout::RolloutSpec;
use surefoot_core::plan::{Templates, resolve};

/// A Rollout as a file holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its name; empty where it has none.
    pub name: String,
    /// Its namespace, where the file says so.
    pub namespace: Option<String>,
    /// Its spec, resolved.
    pub spec: RolloutSpec,
}

impl Manifest {
    /// Read a file, or standard input for "-".
    ///
    /// # Errors
    /// When it can't be read, or doesn't hold exactly one Rollout that its templates complete.
    pub fn read(path: &Path) -> Result<Self> {
        let text = if path == Path::new("-") {
            std::io::read_to_string(std::io::stdin()).context("can't read standard input")?
        } else {
            std::fs::read_to_string(path)
                .with_context(|| format!("can't read {}", path.display()))?
        };
        Self::parse(&text, path)
    }

    /// The Rollout of a file's text.
    ///
    /// # Errors
    /// When the text doesn't hold exactly one Rollout that its templates complete.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let objects: Vec<Value> = serde_saphyr::from_multiple(text)
            .with_context(|| format!("{} is no YAML", path.display()))?;
        let mut rollouts = objects.iter().filter(|o| o["kind"] == "Rollout");
        let (Some(rollout), None) = (rollouts.next(), rollouts.next()) else {
            bail!("{} must hold exactly one Rollout", path.display());
        };
        let spec: RolloutSpec = serde_json::from_value(rollout["spec"].clone())
            .with_context(|| format!("the Rollout of {}: spec", path.display()))?;
        let mut templates = Templates::new();
        for object in &objects {
            let kind = match object["kind"].as_str() {
                Some("AnalysisTemplate") => TemplateKind::AnalysisTemplate,
                Some("ClusterAnalysisTemplate") => TemplateKind::ClusterAnalysisTemplate,
                _ => continue,
            };
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let template = serde_json::from_value(object["spec"].clone())
                .with_context(|| format!("{kind:?} {name:?}: spec"))?;
            templates.insert((kind, name), template);
        }
        let text = |field: &str| rollout["metadata"][field].as_str().map(str::to_owned);
        Ok(Self {
            name: text("name").unwrap_or_default(),
            namespace: text("namespace"),
            spec: resolve(&spec, &templates).context("the Rollout can't be followed")?,
        })
    }
}
