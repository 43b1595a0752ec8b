//! The definitions as YAML: what `crds/` holds, one file a kind.

use anyhow::{Context, Result};
use surefoot_core::api;

/// Every definition as (file name, YAML).
///
/// # Errors
/// When a definition doesn't serialise, which would be a mistake in its types.
pub fn files() -> Result<Vec<(String, String)>> {
    api::crds()
        .into_iter()
        .map(|crd| {
            let name = format!("{}.yaml", crd.spec.names.plural);
            let value = serde_json::to_value(&crd).context("a definition must serialise")?;
            let yaml = serde_saphyr::to_string(&value).context("a definition must be YAML")?;
            Ok((name, yaml))
        })
        .collect()
}
