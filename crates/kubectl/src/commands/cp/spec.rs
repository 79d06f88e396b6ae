//! `[[namespace/]pod:]path`, and paths of containers, which are always Unix paths.

use crate::error::{Error, Result};

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub namespace: Option<String>,
    pub pod: Option<String>,
    pub path: String,
}

// === Spec ===

impl Spec {
    /// Reads an argument.
    pub fn parse(text: &str) -> Result<Self> {
        let bad =
            || Error::text("filespec must match the canonical format: [[namespace/]pod:]file/path");
        let Some((place, path)) = text.split_once(':') else {
            return Ok(Self {
                namespace: None,
                pod: None,
                path: trimmed(text).to_string(),
            });
        };
        let (namespace, pod) = match place.split('/').collect::<Vec<_>>().as_slice() {
            [""] => return Err(bad()),
            [pod] => (None, (*pod).to_string()),
            [namespace, pod] => (Some((*namespace).to_string()), (*pod).to_string()),
            _ => return Err(bad()),
        };
        Ok(Self {
            namespace,
            pod: Some(pod),
            path: trimmed(path).to_string(),
        })
    }
}

fn trimmed(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => path,
    }
}

/// A path without `.`, `..` in its middle, and doubled slashes. Upstream: Go's path.Clean.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        match (part, parts.last()) {
            ("..", Some(&last)) if last != ".." => {
                parts.pop();
            }
            ("..", None) if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// The last part of a path.
pub fn base(path: &str) -> String {
    let path = clean(path);
    path.rsplit('/').next().unwrap_or(&path).to_string()
}

/// All but the last part.
pub fn folder(path: &str) -> String {
    match clean(path).rsplit_once('/') {
        Some(("", _)) => "/".into(),
        Some((folder, _)) => folder.to_string(),
        None => ".".into(),
    }
}

/// A path within a folder.
pub fn join(folder: &str, inner: &str) -> String {
    clean(&format!("{folder}/{inner}"))
}

/// What `tar` calls a path: without its slashes at the front, and with no way out of it.
pub fn stripped(path: &str) -> String {
    let cleaned = clean(path.trim_start_matches(['/', '\\']));
    let mut rest = cleaned.as_str();
    while let Some(inner) = rest.strip_prefix("../") {
        rest = inner;
    }
    match rest {
        "." | ".." => String::new(),
        rest => rest.trim_start_matches('/').to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_of_a_copy_are_read() {
        let spec = |text: &str| Spec::parse(text).unwrap();
        assert_eq!(spec("/a/b/").path, "/a/b");
        assert_eq!(spec("p:/a").pod.as_deref(), Some("p"));
        assert_eq!(spec("n/p:/a").namespace.as_deref(), Some("n"));
        for bad in [":/a", "a/b/c:/d"] {
            assert!(Spec::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_cannot_leave_their_folder() {
        for (path, expected) in [
            ("/a/../b//c/.", "/b/c"),
            ("../../x", "../../x"),
            ("/..", "/"),
            ("", "."),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        assert_eq!(stripped("/../../etc/x"), "etc/x");
        assert_eq!(stripped("../.."), "");
        assert_eq!((base("/a/b"), folder("/a/b")), ("b".into(), "/a".into()));
        assert_eq!((base("a"), folder("a")), ("a".into(), ".".into()));
    }
}
