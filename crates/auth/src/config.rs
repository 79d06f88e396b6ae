//! Configuration files of group `apiserver.config.k8s.io`: who is let in (`--authentication-config`) and who decides
//! (`--authorization-config`). Upstream: k8s.io/apiserver/pkg/apis/apiserver.

pub mod authentication;
pub mod authorization;
pub mod file;
mod strict;
mod url;

pub use authentication::AuthenticationConfiguration;
pub use authorization::AuthorizationConfiguration;

use machinery::Causes;
use serde::de::DeserializeOwned;

use crate::limits;
use strict::Shape;

const GROUP: &str = "apiserver.config.k8s.io";
const VERSIONS: &[&str] = &["v1", "v1alpha1", "v1beta1"];
/// The group's kinds.
const KINDS: &[&str] = &[
    "AdmissionConfiguration",
    "AuthenticationConfiguration",
    "AuthorizationConfiguration",
    "EgressSelectorConfiguration",
    "EncryptionConfiguration",
    "TracingConfiguration",
];

/// Reads a file's text strictly: unknown and duplicate fields and wrong types are errors.
fn decode<T: DeserializeOwned>(text: &str, kind: &str, shape: &Shape) -> Result<T, String> {
    if text.len() > limits::CONFIG_BYTES_MAX {
        let max = limits::CONFIG_BYTES_MAX;
        return Err(format!("the file is longer than {max} bytes"));
    }
    let value: serde_json::Value =
        serde_saphyr::from_str(text).map_err(|e| format!("strict decoding error: {e}"))?;
    let text_of = |name: &str| {
        let v = value.get(name).and_then(serde_json::Value::as_str);
        v.unwrap_or_default().to_string()
    };
    let (given, version) = (text_of("kind"), text_of("apiVersion"));
    if given.is_empty() {
        return Err("Object 'Kind' is missing".into());
    }
    if version.is_empty() {
        return Err("Object 'apiVersion' is missing".into());
    }
    let known = version
        .strip_prefix(GROUP)
        .and_then(|v| v.strip_prefix('/'));
    if !known.is_some_and(|v| VERSIONS.contains(&v)) || !KINDS.contains(&given.as_str()) {
        return Err(format!(
            "no kind \"{given}\" is registered for version \"{version}\""
        ));
    }
    if given != kind {
        return Err(format!("expected {kind}, got *apiserver.{given}"));
    }
    strict::check(&value, shape)?;
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// Upstream's text of an aggregate.
pub(crate) fn aggregate(causes: &Causes) -> Result<(), String> {
    if causes.is_empty() {
        return Ok(());
    }
    let texts = causes.as_slice().iter().map(machinery::causes::Cause::text);
    Err(crate::rbac::aggregate("", texts.collect()))
}

#[cfg(test)]
mod tests;
