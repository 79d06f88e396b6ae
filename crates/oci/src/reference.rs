//! Image references: `[domain/]path[:tag][@digest]`. Follows distribution/reference: its grammar, limits, error
//! texts, and Docker Hub's defaults (`docker.io`, `library/`, `latest`).

use std::fmt;

use crate::digest::{Digest, DigestError};

const NAME_LENGTH: usize = 255;
const TAG_LENGTH: usize = 128;
const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";

/// A normalized reference. Where neither tag nor digest was given the tag is `latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("invalid reference format")]
    Format,
    #[error("repository name must have at least one component")]
    NameEmpty,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("repository name must not be more than {NAME_LENGTH} characters")]
    NameTooLong,
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    #[error("{0}")]
    Digest(DigestError),
}

// === Reference ===

impl Reference {
    /// Parses and normalizes what a user wrote.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if is_identifier(text) {
            return Err(ReferenceError::Identifier(text.to_string()));
        }
        let (domain, rest) = split_domain(text);
        let (unpinned, digest) = match rest.split_once('@') {
            Some((before, digest)) => (before, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match unpinned.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (unpinned, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(path.to_string()));
        }
        if text.is_empty() {
            return Err(ReferenceError::NameEmpty);
        }
        if !is_domain(&domain) || !path.split('/').all(is_path_component) {
            return Err(ReferenceError::Format);
        }
        if domain.len() + 1 + path.len() > NAME_LENGTH {
            return Err(ReferenceError::NameTooLong);
        }
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(ReferenceError::Format);
        }
        let digest = digest.map(parse_digest).transpose()?;
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_string()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_string()),
        };
        Ok(Self {
            domain,
            path: path.to_string(),
            tag,
            digest,
        })
    }

    /// Registry as written, such as `docker.io` or `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `domain/path`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag, `latest` where nothing was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `domain/path:tag`, if there is a tag and no digest.
    pub fn tagged(&self) -> Option<String> {
        match (&self.tag, &self.digest) {
            (Some(tag), None) => Some(format!("{}:{tag}", self.repository())),
            _ => None,
        }
    }

    /// `domain/path@digest` with the given digest.
    pub fn with_digest(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.repository())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

// === the grammar ===

fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    Digest::parse(text).map_err(|e| match e {
        // The grammar wants at least 32 hex digits; only then is the digest itself looked at.
        DigestError::Unsupported | DigestError::Length if text.len() >= 39 => {
            ReferenceError::Digest(e)
        }
        _ => ReferenceError::Format,
    })
}

/// The first component is a domain if it looks like one; else it is Docker Hub's.
fn split_domain(text: &str) -> (String, String) {
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest)) if looks_like_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    let domain = if domain == LEGACY_DOMAIN {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    let rest = if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        format!("library/{rest}")
    } else {
        rest.to_string()
    };
    (domain.to_string(), rest)
}

fn looks_like_domain(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost" || text.to_lowercase() != text
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                let hex = |b: u8| b.is_ascii_hexdigit() || b == b':';
                if address.is_empty() || !address.bytes().all(hex) {
                    return false;
                }
                return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    port.is_none_or(is_port) && host.split('.').all(is_domain_component)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(|b| alphanumeric(*b));
    if !ends(bytes.first()) || !ends(bytes.last()) {
        return false;
    }
    bytes.split(|b| alphanumeric(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    text.len() <= TAG_LENGTH
        && bytes.next().is_some_and(word)
        && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn references_are_normalized() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (given, wanted) in [
            ("busybox", "docker.io/library/busybox:latest".to_string()),
            ("busybox:1", "docker.io/library/busybox:1".into()),
            ("a/b", "docker.io/a/b:latest".into()),
            (
                "index.docker.io/busybox",
                "docker.io/library/busybox:latest".into(),
            ),
            ("localhost/x", "localhost/x:latest".into()),
            ("localhost:5000/x/y:z", "localhost:5000/x/y:z".into()),
            ("[::1]:5000/x", "[::1]:5000/x:latest".into()),
            ("Host/x", "Host/x:latest".into()),
            (
                "registry.k8s.io/pause:3.10",
                "registry.k8s.io/pause:3.10".into(),
            ),
            ("x__y/a-----b:T", "docker.io/x__y/a-----b:T".into()),
        ] {
            assert_eq!(
                Reference::parse(given).unwrap().to_string(),
                wanted,
                "{given}"
            );
        }
        let pinned = Reference::parse(&format!("q.io/a:t@{digest}")).unwrap();
        assert_eq!(pinned.to_string(), format!("q.io/a:t@{digest}"));
        assert_eq!(pinned.tagged(), None);
    }

    #[test]
    fn errors_are_upstreams() {
        let long = format!("x.io/{}", "a".repeat(251));
        for (given, wanted) in [
            ("", "repository name must have at least one component"),
            ("a//b", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a:-t", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("x.io/", "invalid reference format"),
            ("a@sha256:zz", "invalid reference format"),
            (
                "a@sha256:abcdef00000000000000000000000000000000",
                "invalid checksum digest length",
            ),
            (
                "busyBox",
                "invalid reference format: repository name (library/busyBox) must be lowercase",
            ),
            (
                long.as_str(),
                "repository name must not be more than 255 characters",
            ),
            ("a b", "invalid reference format"),
        ] {
            assert_eq!(
                Reference::parse(given).unwrap_err().to_string(),
                wanted,
                "{given}"
            );
        }
        let hex = "a".repeat(64);
        assert_eq!(
            Reference::parse(&hex).unwrap_err().to_string(),
            format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings")
        );
    }
}
