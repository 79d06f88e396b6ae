//! Data keys, and the stored form of what they seal. Pure.
//! Upstream: storage/value/encrypt/envelope/kmsv2/envelope.go, encrypt/aes/aes_extended_nonce.go.

use ring::hkdf;
use sha2::{Digest, Sha256};

use super::proto::{AES_GCM_KEY, EncryptedObject, HKDF_SHA256_XNONCE_AES_GCM_SEED};
use crate::encryption::provider::{Cipher, TOO_SHORT};

/// Bytes of a seed, of what is mixed into it for one value, and of the key that comes of both.
pub const SEED: usize = 32;
const INFO: usize = 32;
/// Most bytes of a key's id, of a sealed data key, and of annotations, as upstream.
const KEY_ID_BYTES: usize = 1 << 10;
const SOURCE_BYTES: usize = 1 << 10;
const ANNOTATION_BYTES: usize = 32 << 10;

/// What tells sealed data keys apart.
pub type CacheKey = [u8; 32];

/// A data key, or the seed of data keys that are used for one value each.
pub enum Dek {
    Key(Cipher),
    Seed(Box<[u8]>),
}

/// The length of a derived key.
struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

// === Dek ===

impl Dek {
    /// The plain text of a sealed data key of this type.
    pub fn new(kind: i32, plain: &[u8]) -> Result<Self, String> {
        let size = plain.len();
        match kind {
            HKDF_SHA256_XNONCE_AES_GCM_SEED if size < SEED => Err(format!(
                "invalid seed length {size} used for key generation"
            )),
            HKDF_SHA256_XNONCE_AES_GCM_SEED => Ok(Self::Seed(plain.into())),
            _ => match Cipher::new("aesgcm", plain) {
                Some(cipher) => Ok(Self::Key(cipher)),
                None => Err(format!("crypto/aes: invalid key size {size}")),
            },
        }
    }

    /// Opens a sealed value that lies under this key in the store.
    pub fn open(&self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, String> {
        let seed = match self {
            Self::Key(cipher) => return cipher.open(key, data),
            Self::Seed(seed) => seed,
        };
        let (info, sealed) = data.split_at_checked(INFO).ok_or(TOO_SHORT)?;
        derived(seed, info)
            .ok_or("failed to derive read key from KDF")?
            .open(key, sealed)
    }

    /// Seals a value; only seeds do, as a key's nonces could come again after a restart.
    pub fn seal(&self, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let Self::Seed(seed) = self else { return None };
        let mut out = random::<INFO>()?.to_vec();
        let sealed = derived(seed, &out)?.seal(key, value)?;
        out.extend(sealed);
        Some(out)
    }
}

/// Random bytes of the kernel.
pub fn random<const N: usize>() -> Option<[u8; N]> {
    use rand::TryRngCore;
    let mut out = [0; N];
    rand::rngs::OsRng.try_fill_bytes(&mut out).ok()?;
    Some(out)
}

/// HKDF-SHA256 without its extracting step, as seeds are random already.
fn derived(seed: &[u8], info: &[u8]) -> Option<Cipher> {
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, seed);
    let info = [info];
    let mut key = [0; 32];
    prk.expand(&info, KeyLength).ok()?.fill(&mut key).ok()?;
    Cipher::new("aesgcm", &key)
}

// === EncryptedObject ===

/// What is wrong with a sealed data key; its data may be missing.
pub fn check_source(object: &EncryptedObject) -> Result<(), String> {
    if ![AES_GCM_KEY, HKDF_SHA256_XNONCE_AES_GCM_SEED].contains(&object.dek_source_type) {
        return Err(format!(
            "unknown encryptedDEKSourceType: {}",
            object.dek_source_type
        ));
    }
    match object.dek_source.len() {
        0 => {
            return Err(
                "failed to validate encrypted DEK source: encrypted DEK source is empty".into(),
            );
        }
        n if n > SOURCE_BYTES => {
            return Err(format!(
                "failed to validate encrypted DEK source: encrypted DEK source is {n} bytes, which exceeds the max size of {SOURCE_BYTES}"
            ));
        }
        _ => {}
    }
    check_key_id(&object.key_id).map_err(|(_, why)| format!("failed to validate key id: {why}"))?;
    check_annotations(object).map_err(|why| format!("failed to validate annotations: {why}"))
}

/// What is wrong with a key's id: upstream's code of it for metrics, and the text.
pub fn check_key_id(id: &str) -> Result<(), (&'static str, String)> {
    match id.len() {
        0 => Err(("empty", "keyID is empty".into())),
        n if n > KEY_ID_BYTES => Err((
            "too_long",
            format!("keyID is {n} bytes, which exceeds the max size of {KEY_ID_BYTES}"),
        )),
        _ => Ok(()),
    }
}

fn check_annotations(object: &EncryptedObject) -> Result<(), String> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (name, value) in &object.annotations {
        size += name.len() + value.len();
        if let Some(why) = not_a_domain(name) {
            errors.push(format!("annotations: {why}"));
        }
    }
    if size > ANNOTATION_BYTES {
        errors.push(format!(
            "total size of annotations is {size}, which exceeds the max size of {ANNOTATION_BYTES}"
        ));
    }
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(format!("[{}]", errors.join(", "))),
    }
}

/// Upstream: apimachinery's IsFullyQualifiedDomainName.
fn not_a_domain(name: &str) -> Option<String> {
    let shown = machinery::causes::go_quote(name);
    if name.is_empty() {
        return Some("Required value".into());
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    let problems = api::names::dns1123_subdomain(bare);
    if !problems.is_empty() {
        return Some(format!("Invalid value: {shown}: {}", problems.join(",")));
    }
    (bare.split('.').count() < 2).then(|| {
        format!("Invalid value: {shown}: should be a domain with at least two segments separated by dots")
    })
}

/// Reads what is stored behind a provider's prefix.
pub fn decode(stored: bytes::Bytes) -> Result<EncryptedObject, String> {
    let object = <EncryptedObject as prost::Message>::decode(stored);
    let object =
        object.map_err(|e| format!("proto: cannot parse invalid wire-format data: {e}"))?;
    if object.data.is_empty() {
        return Err("encrypted data is empty".into());
    }
    check_source(&object)?;
    Ok(object)
}

/// What tells one sealed data key from others.
pub fn cache_key(object: &EncryptedObject) -> CacheKey {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(&object.dek_source_type.to_be_bytes());
    part(&object.dek_source);
    part(object.key_id.as_bytes());
    for (name, value) in &object.annotations {
        part(name.as_bytes());
        part(value);
    }
    hash.finalize().into()
}

/// A key's id as messages and metrics show it.
pub fn hashed(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let hex: String = Sha256::digest(text.as_bytes())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> EncryptedObject {
        EncryptedObject {
            data: b"x".as_slice().into(),
            key_id: "1".into(),
            dek_source: b"sealed".to_vec(),
            annotations: [("a.example.com".to_string(), b"b".to_vec())].into(),
            dek_source_type: HKDF_SHA256_XNONCE_AES_GCM_SEED,
        }
    }

    #[test]
    fn a_seed_opens_what_it_sealed_where_it_was_sealed() {
        let dek = Dek::new(HKDF_SHA256_XNONCE_AES_GCM_SEED, &[7; SEED]).unwrap();
        let sealed = dek.seal(b"/registry/secrets/n/s", b"value").unwrap();
        assert_eq!(sealed.len(), INFO + 12 + 5 + 16);
        assert_eq!(
            dek.open(b"/registry/secrets/n/s", &sealed).unwrap(),
            b"value"
        );
        assert!(dek.open(b"/registry/secrets/n/t", &sealed).is_err());
        assert_eq!(dek.open(b"k", &sealed[..INFO - 1]), Err(TOO_SHORT.into()));
        assert_ne!(dek.seal(b"k", b"value"), dek.seal(b"k", b"value"));
        let short = Dek::new(HKDF_SHA256_XNONCE_AES_GCM_SEED, &[7; SEED - 1]);
        assert_eq!(
            short.err().unwrap(),
            "invalid seed length 31 used for key generation"
        );
        let key = Dek::new(AES_GCM_KEY, &[7; 32]).unwrap();
        let plain = Cipher::new("aesgcm", &[7; 32]).unwrap();
        let sealed = plain.seal(b"k", b"old").unwrap();
        assert_eq!(key.open(b"k", &sealed).unwrap(), b"old");
        assert!(key.seal(b"k", b"new").is_none());
        assert!(Dek::new(AES_GCM_KEY, &[7; 5]).is_err());
    }

    /// RFC 5869, test case 1, expanded to 32 bytes: the key seals as an AES-GCM key with the first of them does.
    #[test]
    fn keys_are_derived_as_the_rfc_says() {
        let prk = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let okm = hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
        let sealed = derived(&prk, &hex("f0f1f2f3f4f5f6f7f8f9")).unwrap();
        let sealed = sealed.seal(b"k", b"v").unwrap();
        let key = Cipher::new("aesgcm", &okm).unwrap();
        assert_eq!(key.open(b"k", &sealed).unwrap(), b"v");
    }

    /// What upstream's own code (v0.37.2) made of a seed of sevens.
    #[test]
    fn what_upstream_sealed_is_opened() {
        let stored = hex(
            "0a481495dab552b66e10f62ec9bc5a36b162108c1ad506eb1b8d95aa41c9117bd55fdc5e24413e8d940a7f06627b383b54ed6d661fe93ce63f3380641961d822028c1c17266a2630dc4612056b65792d311a0373726322120a0d612e6578616d706c652e636f6d1201622801",
        );
        let object = decode(stored.into()).unwrap();
        assert_eq!(object.key_id, "key-1");
        assert_eq!(object.dek_source, b"src");
        let dek = Dek::new(object.dek_source_type, &[7; SEED]).unwrap();
        let opened = dek.open(b"/registry/secrets/n/s", &object.data);
        assert_eq!(opened, Ok(b"sealed by Go".to_vec()));
    }

    fn hex(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2);
        pairs
            .map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn what_a_plugin_may_not_send_is_told_as_upstream_tells_it() {
        type Change = fn(&mut EncryptedObject);
        let cases: [(Change, &str); 7] = [
            (
                |o| o.dek_source_type = 2,
                "unknown encryptedDEKSourceType: 2",
            ),
            (
                |o| o.dek_source.clear(),
                "failed to validate encrypted DEK source: encrypted DEK source is empty",
            ),
            (
                |o| o.dek_source = vec![0; 1_025],
                "failed to validate encrypted DEK source: encrypted DEK source is 1025 bytes, which exceeds the max size of 1024",
            ),
            (
                |o| o.key_id.clear(),
                "failed to validate key id: keyID is empty",
            ),
            (
                |o| o.key_id = "k".repeat(1_025),
                "failed to validate key id: keyID is 1025 bytes, which exceeds the max size of 1024",
            ),
            (
                |o| {
                    o.annotations.insert("short".into(), Vec::new());
                },
                "failed to validate annotations: annotations: Invalid value: \"short\": should be a domain with at least two segments separated by dots",
            ),
            (
                |o| {
                    o.annotations
                        .insert("b.example.com".into(), vec![0; 32 << 10]);
                },
                "failed to validate annotations: total size of annotations is 32795, which exceeds the max size of 32768",
            ),
        ];
        assert_eq!(check_source(&object()), Ok(()));
        for (change, why) in cases {
            let mut changed = object();
            change(&mut changed);
            assert_eq!(check_source(&changed), Err(why.into()));
            assert_ne!(cache_key(&changed), cache_key(&object()));
        }
    }

    #[test]
    fn the_stored_form_is_upstreams() {
        use prost::Message;
        let mut plain = object();
        plain.annotations.clear();
        let bytes = plain.encode_to_vec();
        assert_eq!(bytes, b"\x0a\x01x\x12\x011\x1a\x06sealed\x28\x01");
        assert_eq!(decode(bytes.into()), Ok(plain));
        assert!(decode(b"garbage".as_slice().into()).is_err());
    }
}
