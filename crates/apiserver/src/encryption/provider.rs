//! Sealing and opening values. Upstream: storage/value/{transformer.go,encrypt/{aes,secretbox,identity}}.
//!
//! A sealed value is `k8s:enc:<provider>:v1:<key's name>:`, then the nonce, then what the cipher made.

use aes::cipher::block_padding::{NoPadding, Pkcs7};
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, AeadCore, KeyInit, Payload};
use std::sync::Arc;

use bytes::Bytes;
use crypto_secretbox::XSalsa20Poly1305;
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::kms::{Fetched, Kms};

const SEALED: &[u8] = b"k8s:enc:";
const BLOCK: usize = 16;
const GCM_NONCE: usize = 12;
const SECRETBOX_NONCE: usize = 24;
pub(super) const TOO_SHORT: &str = "the stored data was shorter than the required size";

/// A cipher with its key.
pub enum Cipher {
    Cbc(Vec<u8>),
    Gcm(Box<dyn Gcm>),
    Secretbox(Box<XSalsa20Poly1305>),
}

/// AES-GCM with any length of key.
pub trait Gcm: Send + Sync {
    fn seal(&self, nonce: &[u8], value: &[u8], key: &[u8]) -> Option<Vec<u8>>;
    fn open(&self, nonce: &[u8], sealed: &[u8], key: &[u8]) -> Option<Vec<u8>>;
}

/// One entry of a resource's list: a cipher with several keys, or none.
pub enum Provider {
    Identity,
    Keys {
        /// `k8s:enc:aescbc:v1:`.
        prefix: String,
        /// By name; the first one seals.
        keys: Vec<(String, Cipher)>,
        /// What is said where no key has the stored name.
        unknown: &'static str,
    },
    Kms(Arc<Kms>),
}

/// A resource's list; the first one seals.
pub struct Providers(pub Vec<Arc<Provider>>);

impl<A> Gcm for A
where
    A: Aead + AeadCore<NonceSize = U12> + Send + Sync,
{
    fn seal(&self, nonce: &[u8], msg: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
        self.encrypt(nonce.into(), Payload { msg, aad }).ok()
    }

    fn open(&self, nonce: &[u8], msg: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
        self.decrypt(nonce.into(), Payload { msg, aad }).ok()
    }
}

/// A value of a resource without providers.
pub fn plain(value: &Bytes) -> Result<Bytes, String> {
    match value.starts_with(SEALED) {
        true => Err("identity transformer tried to read encrypted data".into()),
        false => Ok(value.clone()),
    }
}

// === Cipher ===

impl Cipher {
    /// A cipher of a provider; `None` for a key of the wrong length.
    pub fn new(provider: &str, key: &[u8]) -> Option<Self> {
        let gcm = |c: Box<dyn Gcm>| Some(Self::Gcm(c));
        match (provider, key.len()) {
            ("aescbc", 16 | 24 | 32) => Some(Self::Cbc(key.to_vec())),
            ("aesgcm", 16) => gcm(Box::new(aes_gcm::Aes128Gcm::new_from_slice(key).ok()?)),
            ("aesgcm", 24) => gcm(Box::new(
                aes_gcm::AesGcm::<aes::Aes192, U12>::new_from_slice(key).ok()?,
            )),
            ("aesgcm", 32) => gcm(Box::new(aes_gcm::Aes256Gcm::new_from_slice(key).ok()?)),
            ("secretbox", 32) => {
                let cipher = XSalsa20Poly1305::new_from_slice(key).ok()?;
                Some(Self::Secretbox(Box::new(cipher)))
            }
            _ => None,
        }
    }

    /// Nonce and sealed value.
    pub(super) fn seal(&self, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let size = match self {
            Self::Cbc(_) => BLOCK,
            Self::Gcm(_) => GCM_NONCE,
            Self::Secretbox(_) => SECRETBOX_NONCE,
        };
        let mut nonce = vec![0; size];
        OsRng.try_fill_bytes(&mut nonce).ok()?;
        let sealed = match self {
            Self::Cbc(secret) => cbc_seal(secret, &nonce, value)?,
            Self::Gcm(cipher) => cipher.seal(&nonce, value, key)?,
            Self::Secretbox(cipher) => cipher.encrypt(nonce.as_slice().into(), value).ok()?,
        };
        nonce.extend(sealed);
        Some(nonce)
    }

    pub(super) fn open(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Cbc(secret) => {
                let (iv, data) = stored.split_at_checked(BLOCK).ok_or(TOO_SHORT)?;
                cbc_open(secret, iv, data)
            }
            Self::Gcm(cipher) => {
                let (nonce, data) = stored.split_at_checked(GCM_NONCE).ok_or(TOO_SHORT)?;
                let opened = cipher.open(nonce, data, key);
                opened.ok_or("cipher: message authentication failed".into())
            }
            Self::Secretbox(cipher) => {
                let (nonce, data) = stored.split_at_checked(SECRETBOX_NONCE).ok_or(TOO_SHORT)?;
                let opened = cipher.decrypt(nonce.into(), data);
                opened.map_err(|_| "output array was not large enough for encryption".into())
            }
        }
    }
}

fn cbc_seal(secret: &[u8], iv: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    macro_rules! sealed {
        ($cipher:ty) => {
            cbc::Encryptor::<$cipher>::new_from_slices(secret, iv)
                .ok()?
                .encrypt_padded_vec_mut::<Pkcs7>(value)
        };
    }
    Some(match secret.len() {
        16 => sealed!(aes::Aes128),
        24 => sealed!(aes::Aes192),
        _ => sealed!(aes::Aes256),
    })
}

fn cbc_open(secret: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, String> {
    if data.is_empty() || !data.len().is_multiple_of(BLOCK) {
        return Err("the stored data is not a multiple of the block size".into());
    }
    macro_rules! opened {
        ($cipher:ty) => {
            cbc::Decryptor::<$cipher>::new_from_slices(secret, iv)
                .ok()
                .and_then(|c| c.decrypt_padded_vec_mut::<NoPadding>(data).ok())
        };
    }
    let opened = match secret.len() {
        16 => opened!(aes::Aes128),
        24 => opened!(aes::Aes192),
        _ => opened!(aes::Aes256),
    };
    let mut opened = opened.ok_or("the stored data is not a multiple of the block size")?;
    let pad = opened.last().map_or(0, |b| usize::from(*b));
    if pad == 0 || pad > opened.len() {
        return Err("invalid PKCS7 data (empty or not padded)".into());
    }
    let size = opened.len() - pad;
    if opened[size..].iter().any(|b| usize::from(*b) != pad) {
        return Err("invalid padding on input".into());
    }
    opened.truncate(size);
    Ok(opened)
}

// === Providers ===

impl Provider {
    /// What the values begin with that it sealed.
    pub fn prefix(&self) -> &str {
        match self {
            Self::Identity => "",
            Self::Keys { prefix, .. } => prefix,
            Self::Kms(kms) => kms.prefix(),
        }
    }

    fn open(
        &self,
        key: &[u8],
        value: &Bytes,
        fetched: &Fetched,
    ) -> Option<Result<(Bytes, bool), String>> {
        let rest = value.strip_prefix(self.prefix().as_bytes())?;
        let (keys, unknown) = match self {
            Self::Identity => return Some(plain(value).map(|v| (v, false))),
            Self::Kms(kms) => return Some(kms.open(key, value.slice_ref(rest), fetched)),
            Self::Keys { keys, unknown, .. } => (keys, unknown),
        };
        let mut errors = Vec::new();
        for (i, (name, cipher)) in keys.iter().enumerate() {
            let named = rest.strip_prefix(name.as_bytes());
            let Some(stored) = named.and_then(|r| r.strip_prefix(b":")) else {
                continue;
            };
            match cipher.open(key, stored) {
                Ok(opened) => return Some(Ok((opened.into(), i > 0))),
                Err(why) => errors.push(why),
            }
        }
        Some(Err(joined(errors).unwrap_or((*unknown).to_string())))
    }

    fn seal(&self, key: &[u8], value: Bytes) -> Result<Bytes, String> {
        let (prefix, keys) = match self {
            Self::Identity => return Ok(value),
            Self::Kms(kms) => return kms.seal(key, &value),
            Self::Keys { prefix, keys, .. } => (prefix, keys),
        };
        let (name, cipher) = keys.first().ok_or("the provider has no keys")?;
        // Without random numbers nothing may be written: not plain, and not with a known nonce.
        let sealed = cipher.seal(key, &value);
        let sealed = sealed.ok_or("the kernel gives no random numbers")?;
        let parts = [prefix.as_bytes(), name.as_bytes(), b":", &sealed];
        Ok(parts.concat().into())
    }
}

/// Errors as Go's aggregate shows them.
fn joined(mut errors: Vec<String>) -> Option<String> {
    match errors.len() {
        0 => None,
        1 => errors.pop(),
        _ => Some(format!("[{}]", errors.join(", "))),
    }
}

impl Providers {
    /// Who seals: its prefix, as metrics name it.
    pub fn sealer(&self) -> &str {
        let first = self.0.first().map_or("", |p| p.prefix());
        if first.is_empty() { "identity" } else { first }
    }

    /// Who opens a value, as metrics name it.
    pub fn opener(&self, value: &[u8]) -> &str {
        let mut all = self.0.iter().map(|p| p.prefix());
        match all.find(|p| value.starts_with(p.as_bytes())) {
            None => "unknown",
            Some("") => "identity",
            Some(prefix) => prefix,
        }
    }

    /// A value as it is stored.
    pub fn seal(&self, key: &[u8], value: Bytes) -> Result<Bytes, String> {
        match self.0.first() {
            Some(first) => first.seal(key, value),
            None => Ok(value),
        }
    }

    /// The plug-in that a stored value needs, and what is stored for it.
    pub fn kms(&self, value: &Bytes) -> Option<(&Arc<Kms>, Bytes)> {
        self.0.iter().find_map(|provider| match &**provider {
            Provider::Kms(kms) => {
                let rest = value.strip_prefix(kms.prefix().as_bytes())?;
                Some((kms, value.slice_ref(rest)))
            }
            _ => None,
        })
    }

    /// A stored value, and whether it would be sealed in another way now.
    pub fn open(
        &self,
        key: &[u8],
        value: &Bytes,
        fetched: &Fetched,
    ) -> Result<(Bytes, bool), String> {
        let mut errors = Vec::new();
        for (i, provider) in self.0.iter().enumerate() {
            match provider.open(key, value, fetched) {
                None => {}
                Some(Ok((opened, stale))) => return Ok((opened, stale || i > 0)),
                Some(Err(why)) => errors.push(why),
            }
        }
        Err(joined(errors).unwrap_or("no matching prefix found".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str, keys: &[(&str, &[u8])]) -> Arc<Provider> {
        let one = |(n, k): &(&str, &[u8])| (n.to_string(), Cipher::new(name, k).unwrap());
        Arc::new(Provider::Keys {
            prefix: format!("k8s:enc:{name}:v1:"),
            keys: keys.iter().map(one).collect(),
            unknown: "no matching key",
        })
    }

    fn opened(of: &Providers, key: &[u8], value: &Bytes) -> Result<(Bytes, bool), String> {
        of.open(key, value, &Fetched::default())
    }

    const OLD: &[u8] = &[1; 32];
    const NEW: &[u8] = &[2; 32];

    #[test]
    fn every_cipher_opens_what_it_sealed_and_nothing_else() {
        for (name, size) in [
            ("aescbc", 16),
            ("aescbc", 24),
            ("aescbc", 32),
            ("aesgcm", 16),
            ("aesgcm", 24),
            ("aesgcm", 32),
            ("secretbox", 32),
        ] {
            let key = vec![7; size];
            let all = Providers(vec![provider(name, &[("k1", &key)])]);
            for length in [0, 1, 15, 16, 17, 1_000] {
                let value = Bytes::from(vec![b'v'; length]);
                let sealed = all.seal(b"/registry/secrets/n/s", value.clone()).unwrap();
                assert!(sealed.starts_with(format!("k8s:enc:{name}:v1:k1:").as_bytes()));
                let found = opened(&all, b"/registry/secrets/n/s", &sealed);
                assert_eq!(found, Ok((value, false)), "{name} {size} {length}");
                let again = all.seal(b"/registry/secrets/n/s", Bytes::new());
                assert_ne!(again, all.seal(b"/registry/secrets/n/s", Bytes::new()));
                for cut in [sealed.len() - 1, 24, 10] {
                    let cut = sealed.slice(..cut.min(sealed.len()));
                    assert!(opened(&all, b"/registry/secrets/n/s", &cut).is_err());
                }
                // Only this one binds a value to its key.
                let elsewhere = opened(&all, b"/registry/secrets/n/other", &sealed);
                assert_eq!(elsewhere.is_err(), name == "aesgcm");
            }
            assert!(Cipher::new(name, &[0; 15]).is_none());
        }
    }

    /// What upstream's own test stores, and a value that Go sealed.
    #[test]
    fn old_keys_open_and_the_first_one_seals() {
        let key = b"/registry/secrets/n/s";
        let value = Bytes::from_static(b"{}");
        let old = Providers(vec![provider("aescbc", &[("old", OLD)])]);
        let both = Providers(vec![
            provider("aescbc", &[("new", NEW), ("old", OLD)]),
            Arc::new(Provider::Identity),
        ]);
        let sealed = old.seal(key, value.clone()).unwrap();
        assert_eq!(opened(&both, key, &sealed), Ok((value.clone(), true)));
        assert_eq!(
            opened(&both, key, &both.seal(key, value.clone()).unwrap()),
            Ok((value.clone(), false))
        );
        assert_eq!(opened(&both, key, &value), Ok((value.clone(), true)));
        let new = Providers(vec![provider("aescbc", &[("new", NEW)])]);
        assert_eq!(opened(&new, key, &sealed), Err("no matching key".into()));
        assert_eq!(
            opened(&new, key, &value),
            Err("no matching prefix found".into())
        );
        let other = Providers(vec![provider("secretbox", &[("old", OLD)])]);
        assert_eq!(
            opened(&other, key, &sealed),
            Err("no matching prefix found".into())
        );
        let none = Providers(vec![Arc::new(Provider::Identity)]);
        let why = "identity transformer tried to read encrypted data";
        assert_eq!(opened(&none, key, &sealed), Err(why.into()));
        assert_eq!(none.seal(key, value.clone()), Ok(value));
    }
}
