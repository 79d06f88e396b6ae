//! What an API server is called among its peers. Upstream: apiserver/pkg/server/config.go, KEP-1965.

use sha2::{Digest, Sha256};

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The name of a kube-apiserver on the host of this name: a hash of both.
pub fn of_host(host: &str) -> String {
    let mut hash = Sha256::new();
    for part in [host, "kube-apiserver"] {
        let size = u16::try_from(part.len()).unwrap_or(u16::MAX);
        hash.update(size.to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash: [u8; 32] = hash.finalize().into();
    format!("apiserver-{}", base32(&hash[..16]))
}

/// RFC 4648 6, in lower case and without padding.
fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    let (mut bits, mut count) = (0u32, 0);
    let mut letter = |five: u32| out.push(char::from(LETTERS[(five & 31) as usize]));
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            letter(bits >> count);
        }
    }
    if count > 0 {
        letter(bits << (5 - count));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_the_name_that_upstream_gives_it() {
        assert_eq!(base32(b"fooba"), "mzxw6ytb");
        assert_eq!(base32(b"foob"), "mzxw6yq");
        let name = of_host("node");
        assert_eq!(name.len(), "apiserver-".len() + 26);
        assert_ne!(name, of_host("other"));
    }
}
