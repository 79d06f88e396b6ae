//! Registry credentials of imagePullSecrets. Upstream: pkg/credentialprovider.

use std::collections::BTreeMap;

use api::core::v1::Secret;
use base64::Engine;
use cri::AuthConfig;
use serde::Deserialize;

#[derive(Deserialize, Default)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default, Clone)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
    #[serde(default, rename = "registrytoken")]
    registry_token: String,
}

/// Credentials by registry pattern.
#[derive(Default)]
pub struct Keyring {
    entries: Vec<(String, AuthConfig)>,
}

// === Keyring ===

impl Keyring {
    /// Adds those of a secret of type dockerconfigjson or dockercfg; others are ignored.
    pub fn add(&mut self, secret: &Secret) -> Result<(), serde_json::Error> {
        let data = |key: &str| secret.data.as_ref().and_then(|d| d.get(key));
        let auths = match secret.type_.as_deref() {
            Some("kubernetes.io/dockerconfigjson") => match data(".dockerconfigjson") {
                Some(bytes) => serde_json::from_slice::<DockerConfigJson>(&bytes.0)?.auths,
                None => return Ok(()),
            },
            Some("kubernetes.io/dockercfg") => match data(".dockercfg") {
                Some(bytes) => serde_json::from_slice(&bytes.0)?,
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let entries = auths
            .into_iter()
            .map(|(registry, a)| (pattern(&registry), config(a)));
        self.entries.extend(entries);
        // Longer patterns are more specific and come first.
        self.entries.sort_by(|a, b| b.0.cmp(&a.0));
        Ok(())
    }

    /// Those that match an image, the most specific first.
    pub fn find(&self, image: &str) -> Vec<AuthConfig> {
        let full = qualified(image);
        let matching = self.entries.iter().filter(|(p, _)| matches(p, &full));
        matching.map(|(_, a)| a.clone()).collect()
    }
}

fn config(a: DockerAuth) -> AuthConfig {
    let decoded = base64::engine::general_purpose::STANDARD.decode(a.auth.trim());
    let text = decoded.ok().and_then(|d| String::from_utf8(d).ok());
    let pair = text.as_deref().and_then(|t| t.split_once(':'));
    let (username, password) = match pair {
        Some((u, p)) if a.username.is_empty() => (u.to_string(), p.to_string()),
        _ => (a.username, a.password),
    };
    AuthConfig {
        username,
        password,
        auth: a.auth,
        identity_token: a.identity_token,
        registry_token: a.registry_token,
    }
}

/// `https://index.docker.io/v1/` and the like as `host[:port][/path]`.
fn pattern(registry: &str) -> String {
    let bare = registry
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    match bare {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        other => other.to_string(),
    }
}

/// The image with its registry.
fn qualified(image: &str) -> String {
    let first = image.split('/').next().unwrap_or_default();
    let has_host =
        image.contains('/') && (first.contains('.') || first.contains(':') || first == "localhost");
    if has_host {
        image.replacen("index.docker.io/", "docker.io/", 1)
    } else if image.contains('/') {
        format!("docker.io/{image}")
    } else {
        format!("docker.io/library/{image}")
    }
}

/// Hosts match label by label with globs; a path must be a prefix.
fn matches(pattern: &str, image: &str) -> bool {
    let (host, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let (image_host, image_path) = image.split_once('/').unwrap_or((image, ""));
    let (labels, image_labels): (Vec<&str>, Vec<&str>) =
        (host.split('.').collect(), image_host.split('.').collect());
    labels.len() == image_labels.len()
        && labels.iter().zip(&image_labels).all(|(p, l)| glob(p, l))
        && image_path.starts_with(path)
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => text.strip_prefix(start).is_some_and(|rest| {
            (0..=rest.len()).any(|i| rest.is_char_boundary(i) && glob(end, &rest[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn registries_globs_and_paths() {
        let config = json!({"auths":{
            "https://index.docker.io/v1/":{"auth":"dTpw"},
            "*.example.com":{"username":"any"},
            "quay.io/team":{"username":"team"}}});
        let encoded = base64::engine::general_purpose::STANDARD.encode(config.to_string());
        let secret: Secret = serde_json::from_value(json!({
            "type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":encoded}}))
        .unwrap();
        let mut ring = Keyring::default();
        ring.add(&secret).unwrap();
        let user = |image: &str| ring.find(image).first().map(|a| a.username.clone());
        assert_eq!(user("busybox:1").as_deref(), Some("u"));
        assert_eq!(user("a.example.com/x").as_deref(), Some("any"));
        assert_eq!(user("a.b.example.com/x"), None);
        assert_eq!(user("quay.io/team/x").as_deref(), Some("team"));
        assert_eq!(user("quay.io/other/x"), None);
    }
}
