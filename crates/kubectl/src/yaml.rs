//! YAML as kubectl writes it (`api::yaml`), and the documents it reads. Upstream: sigs.k8s.io/yaml.

use serde_json::Value;

pub use api::yaml::to_string;

/// The documents of a text, JSON or YAML; empty ones are left out.
pub fn parse_all(text: &str) -> Result<Vec<Value>, String> {
    let start = text.trim_start();
    if start.starts_with('{') {
        let all: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect();
        // What begins like JSON may still be YAML's flow style.
        if let Ok(all) = all {
            return Ok(all);
        }
    }
    let all: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|e| format!("error converting YAML to JSON: {e}"))?;
    Ok(all.into_iter().filter(|v| !v.is_null()).collect())
}

#[cfg(test)]
mod tests;
