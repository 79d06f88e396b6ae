//! Which requests a proxy lets through.

use regex::Regex;

use crate::error::{Error, Result};

/// Lists of regular expressions.
#[derive(Debug)]
pub struct Filter {
    accept_paths: Vec<Regex>,
    reject_paths: Vec<Regex>,
    accept_hosts: Vec<Regex>,
    reject_methods: Vec<Regex>,
}

// === Filter ===

impl Filter {
    /// Reads the flags, each a list with commas.
    pub fn parse(
        accept_paths: &str,
        reject_paths: &str,
        accept_hosts: &str,
        reject_methods: &str,
    ) -> Result<Self> {
        Ok(Self {
            accept_paths: list(accept_paths)?,
            reject_paths: list(reject_paths)?,
            accept_hosts: list(accept_hosts)?,
            reject_methods: list(reject_methods)?,
        })
    }

    /// Whether a request goes through; `host` may have a port.
    pub fn accepts(&self, method: &str, path: &str, host: &str) -> bool {
        let is = |all: &[Regex], text: &str| all.iter().any(|r| r.is_match(text));
        !is(&self.reject_paths, path)
            && !is(&self.reject_methods, method)
            && is(&self.accept_paths, path)
            && is(&self.accept_hosts, without_port(host))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn list(text: &str) -> Result<Vec<Regex>> {
    let all = text.split(',').filter(|_| !text.is_empty());
    all.map(|one| {
        Regex::new(one).map_err(|e| Error::text(format!("invalid expression {one}: {e}")))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_hosts_and_no_shells_go_through() {
        let filter = Filter::parse(
            "^.*",
            "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach",
            r"^localhost$,^127\.0\.0\.1$,^\[::1\]$",
            "^$",
        )
        .unwrap();
        for (host, path, expected) in [
            ("localhost:8001", "/api/v1/pods", true),
            ("127.0.0.1", "/", true),
            ("[::1]:8001", "/", true),
            ("evil.example", "/", false),
            ("localhost", "/api/v1/namespaces/n/pods/p/exec", false),
        ] {
            assert_eq!(filter.accepts("GET", path, host), expected, "{host} {path}");
        }
        assert!(Filter::parse("(", "", "", "").is_err());
    }
}
