//! Where a webhook is: `clientConfig` of webhook configurations and CRDs.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use machinery::object::{at, i64_at, str_at};
use serde_json::Value;

/// The port of a service that names none.
const DEFAULT_PORT: u16 = 443;

/// A Service by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub port: u16,
    /// As given; may be empty.
    pub path: String,
}

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Service(Service),
    Url(String),
    /// The object names neither, which its validation refuses.
    Nothing,
}

/// Where a webhook is and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientConfig {
    pub target: Target,
    /// PEM; empty: the host's authorities.
    pub ca_bundle: Vec<u8>,
}

// === Service ===

impl Service {
    /// The name that the server's certificate must hold.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

// === ClientConfig ===

impl ClientConfig {
    /// From an object's `clientConfig`.
    pub fn from_object(config: &Value) -> Self {
        let target = match at(config, "service") {
            Some(service) => Target::Service(Service {
                namespace: str_at(service, "namespace").into(),
                name: str_at(service, "name").into(),
                port: i64_at(service, "port")
                    .and_then(|p| u16::try_from(p).ok())
                    .filter(|p| *p > 0)
                    .unwrap_or(DEFAULT_PORT),
                path: str_at(service, "path").into(),
            }),
            None => match str_at(config, "url") {
                "" => Target::Nothing,
                url => Target::Url(url.into()),
            },
        };
        Self {
            target,
            ca_bundle: BASE64_STANDARD
                .decode(str_at(config, "caBundle"))
                .unwrap_or_default(),
        }
    }

    /// Host and port as the URL shows them, and the path, always with a slash in front.
    pub(crate) fn address(&self) -> Result<(String, String), String> {
        match &self.target {
            Target::Service(s) => {
                let host = format!("{}:{}", s.server_name(), s.port);
                Ok((host, cleaned(&s.path)))
            }
            Target::Url(url) => {
                let uri: http::Uri = url.parse().map_err(|e| format!("Unparsable URL: {e}"))?;
                let host = uri.authority().map(|a| a.as_str()).unwrap_or_default();
                Ok((host.to_string(), cleaned(uri.path())))
            }
            Target::Nothing => {
                Err("webhook configuration must have either service or URL".to_string())
            }
        }
    }

    /// The URL of a call, its timeout included, for requests and error texts.
    pub(crate) fn url(&self, timeout: Duration) -> Result<(String, String), String> {
        let (host, path) = self.address()?;
        Ok((host, format!("{path}?timeout={}", go_seconds(timeout))))
    }
}

/// A path as Go's `path.Join("/", path)` gives it.
fn cleaned(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}

/// A time in whole seconds, rounded up, as Go prints it: `10s`, `1m0s`.
fn go_seconds(timeout: Duration) -> String {
    let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s}s"),
        (m, s) => format!("{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn urls_are_built_as_upstream_builds_them() {
        let service = |path: Value| json!({"service": {"namespace": "n", "name": "s", "port": 8443, "path": path}});
        for (config, seconds, host, target) in [
            (
                service(json!("/a/b")),
                1.0,
                "s.n.svc:8443",
                "/a/b?timeout=1s",
            ),
            (service(json!("")), 9.2, "s.n.svc:8443", "/?timeout=10s"),
            (service(json!(null)), 60.0, "s.n.svc:8443", "/?timeout=1m0s"),
            (json!({"url": "https://h/x/"}), 2.0, "h", "/x?timeout=2s"),
            (json!({"url": "https://h:1"}), 2.0, "h:1", "/?timeout=2s"),
        ] {
            let url = ClientConfig::from_object(&config).url(Duration::from_secs_f64(seconds));
            assert_eq!(url, Ok((host.into(), target.into())));
        }
        let nothing = ClientConfig::from_object(&json!({}));
        assert_eq!(
            nothing.address(),
            Err("webhook configuration must have either service or URL".into())
        );
    }
}
