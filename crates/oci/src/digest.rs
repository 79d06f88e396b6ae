//! Content digests, `algorithm:hex`. Follows opencontainers/go-digest: sha256, sha384 and sha512, lower-case hex.

use std::fmt;
use std::io::Read;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A checked digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    text: String,
    colon: usize,
}

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("invalid checksum digest format")]
    Format,
    #[error("unsupported digest algorithm")]
    Unsupported,
    #[error("invalid checksum digest length")]
    Length,
}

/// Hashes what is written to it.
#[derive(Clone)]
pub enum Hasher {
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

/// A reader that hashes and counts what passes.
pub struct Hashing<R> {
    inner: R,
    hasher: Hasher,
    bytes: u64,
}

// === Digest ===

impl Digest {
    /// Checks a text.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let colon = text.find(':').ok_or(DigestError::Format)?;
        let (algorithm, hex) = (&text[..colon], &text[colon + 1..]);
        let length = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            other if is_algorithm(other) && !hex.is_empty() => {
                return Err(DigestError::Unsupported);
            }
            _ => return Err(DigestError::Format),
        };
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Format);
        }
        if hex.len() != length {
            return Err(DigestError::Length);
        }
        Ok(Self {
            text: text.to_string(),
            colon,
        })
    }

    /// The SHA-256 of some bytes.
    pub fn of(data: &[u8]) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(data);
        hasher.finish()
    }

    /// `sha256`, `sha384` or `sha512`.
    pub fn algorithm(&self) -> &str {
        &self.text[..self.colon]
    }

    /// The part after the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.colon + 1..]
    }

    /// `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A hasher of this digest's algorithm.
    pub fn hasher(&self) -> Hasher {
        match self.algorithm() {
            "sha512" => Hasher::Sha512(sha2::Sha512::new()),
            "sha384" => Hasher::Sha384(sha2::Sha384::new()),
            _ => Hasher::sha256(),
        }
    }

    /// Whether these bytes are the ones.
    pub fn matches(&self, data: &[u8]) -> bool {
        let mut hasher = self.hasher();
        hasher.update(data);
        hasher.finish() == *self
    }
}

fn is_algorithm(text: &str) -> bool {
    !text.is_empty()
        && text.split(['+', '.', '_', '-']).all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text
    }
}

// === Hasher ===

impl Hasher {
    /// SHA-256.
    pub fn sha256() -> Self {
        Self::Sha256(sha2::Sha256::new())
    }

    /// Takes more bytes.
    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(h) => h.update(data),
            Self::Sha384(h) => h.update(data),
            Self::Sha512(h) => h.update(data),
        }
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Digest {
        let (algorithm, hash) = match self {
            Self::Sha256(h) => ("sha256", h.finalize().to_vec()),
            Self::Sha384(h) => ("sha384", h.finalize().to_vec()),
            Self::Sha512(h) => ("sha512", h.finalize().to_vec()),
        };
        let mut text = String::with_capacity(algorithm.len() + 1 + hash.len() * 2);
        text.push_str(algorithm);
        text.push(':');
        for byte in hash {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Digest {
            colon: algorithm.len(),
            text,
        }
    }
}

// === Hashing ===

impl<R: Read> Hashing<R> {
    /// Hashes what is read from `inner` with the algorithm of `like`.
    pub fn new(inner: R, like: &Digest) -> Self {
        Self {
            inner,
            hasher: like.hasher(),
            bytes: 0,
        }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads what is left, then gives the digest and the number of bytes.
    pub fn finish(mut self) -> std::io::Result<(Digest, u64)> {
        std::io::copy(&mut self, &mut std::io::sink())?;
        Ok((self.hasher.finish(), self.bytes))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, DigestError};

    #[test]
    fn digests_are_checked_as_upstream_does() {
        let good = format!("sha256:{}", "a".repeat(64));
        assert_eq!(Digest::parse(&good).unwrap().hex(), "a".repeat(64));
        for (text, error) in [
            ("", DigestError::Format),
            ("sha256", DigestError::Format),
            ("sha256:abc", DigestError::Length),
            ("md5:abc", DigestError::Unsupported),
            (":abc", DigestError::Format),
        ] {
            assert_eq!(Digest::parse(text), Err(error), "{text}");
        }
        let upper = format!("sha256:{}", "A".repeat(64));
        assert_eq!(Digest::parse(&upper), Err(DigestError::Format));
    }

    #[test]
    fn the_digest_of_nothing_is_known() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        assert!(Digest::parse(empty).unwrap().matches(b""));
    }
}
