//! KMS v2: values are sealed with keys derived from a seed that is the server's own; a plug-in seals the seed, which
//! is stored, sealed, with every value. One call of the plug-in serves all writes until its key changes.
//! Upstream: server/options/encryptionconfig (the probe), storage/value/encrypt/envelope/kmsv2.
//!
//! Reads go on for ever with what is remembered; writes for three minutes after the plug-in was last well. A plug-in
//! that does not answer is not asked again for a while, so that whoever follows the store is not held up.

pub(super) mod envelope;
mod probe;
mod proto;
mod service;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;

use super::metrics::Metrics;
use super::recovery::Recovery;
use crate::limits;
use envelope::{CacheKey, Dek, cache_key, hashed};
use probe::Probe;
pub use proto::EncryptedObject;
use proto::HKDF_SHA256_XNONCE_AES_GCM_SEED;
pub use service::socket;
use service::{Failed, Service};

/// Data keys that were asked for on behalf of a few values.
pub type Fetched = HashMap<CacheKey, Result<Arc<Dek>, String>>;

/// A plug-in and what it vouches for.
pub struct Kms {
    name: String,
    prefix: String,
    pub(super) timeout: Duration,
    service: Service,
    state: RwLock<Option<Arc<State>>>,
    deks: Mutex<Deks>,
    probe: tokio::sync::Mutex<Probe>,
    /// Until when it is not asked to open keys, and why.
    deaf: Mutex<Option<(Instant, String)>>,
    metrics: Arc<Metrics>,
    recovery: Arc<Recovery>,
}

/// What values are sealed with now.
struct State {
    dek: Arc<Dek>,
    /// Without data.
    object: EncryptedObject,
    key: CacheKey,
    expires: SystemTime,
}

/// Opened data keys, and when each was asked for last.
#[derive(Default)]
struct Deks {
    known: HashMap<CacheKey, (Arc<Dek>, u64)>,
    clock: u64,
}

impl Deks {
    fn get(&mut self, key: &CacheKey) -> Option<Arc<Dek>> {
        self.clock += 1;
        let (dek, used) = self.known.get_mut(key)?;
        *used = self.clock;
        Some(dek.clone())
    }

    fn put(&mut self, key: CacheKey, dek: Arc<Dek>) {
        self.clock += 1;
        if self.known.len() >= limits::KMS_DEKS && !self.known.contains_key(&key) {
            let oldest = self.known.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(k, _)| *k) {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(key, (dek, self.clock));
    }
}

// === Kms ===

impl Kms {
    /// A plug-in that is not asked anything yet.
    pub fn new(
        (name, socket): (&str, std::path::PathBuf),
        timeout: Duration,
        metrics: &Arc<Metrics>,
        recovery: &Arc<Recovery>,
    ) -> Self {
        Self {
            name: name.to_string(),
            prefix: format!("k8s:enc:kms:v2:{name}:"),
            timeout,
            service: Service::new(name, socket, timeout, metrics.clone()),
            state: RwLock::default(),
            deks: Mutex::default(),
            probe: tokio::sync::Mutex::default(),
            deaf: Mutex::default(),
            metrics: metrics.clone(),
            recovery: recovery.clone(),
        }
    }

    /// What stored values begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn state(&self) -> Result<Arc<State>, String> {
        let state = self.state.read().clone();
        state.ok_or_else(|| "got unexpected nil transformer".into())
    }

    /// A value as it is stored.
    pub fn seal(&self, key: &[u8], value: &[u8]) -> Result<Bytes, String> {
        let state = self.state()?;
        let now = SystemTime::now();
        if now > state.expires {
            return Err(format!(
                "encryptedDEKSource with keyID hash {:?} expired at {} (current time is {})",
                hashed(&state.object.key_id),
                seconds(state.expires),
                seconds(now)
            ));
        }
        let sealed = state.dek.seal(key, value);
        let sealed = sealed.ok_or("failed to generate info for KDF")?;
        self.metrics
            .key_used(&self.name, true, &state.object.key_id);
        let object = EncryptedObject {
            data: sealed.into(),
            ..state.object.clone()
        };
        let mut out = Vec::with_capacity(self.prefix.len() + object.encoded_len());
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend(object.encode_to_vec());
        Ok(out.into())
    }

    /// A stored value without its prefix, and whether it would be sealed in another way now.
    pub fn open(
        &self,
        key: &[u8],
        stored: Bytes,
        fetched: &Fetched,
    ) -> Result<(Bytes, bool), String> {
        let object = envelope::decode(stored)?;
        let state = self.state().inspect_err(|_| self.recovery.failed())?;
        let id = cache_key(&object);
        let known = self.deks.lock().get(&id);
        let dek = match (known, fetched.get(&id)) {
            (Some(dek), _) => dek,
            (None, Some(Ok(dek))) => dek.clone(),
            (None, Some(Err(why))) => {
                self.recovery.failed();
                return Err(why.clone());
            }
            (None, None) => {
                self.recovery.failed();
                return Err("failed to decrypt DEK, error: it is not known any more".into());
            }
        };
        self.metrics.key_used(&self.name, false, &object.key_id);
        let opened = dek.open(key, &object.data)?;
        let stale = object.key_id != state.object.key_id
            || object.dek_source_type != state.object.dek_source_type;
        Ok((opened.into(), stale))
    }

    /// The sealed data key of a stored value, where it has to be asked for.
    pub fn unknown(&self, stored: Bytes) -> Option<(CacheKey, EncryptedObject)> {
        let object = envelope::decode(stored).ok()?;
        self.state().ok()?;
        let id = cache_key(&object);
        self.deks.lock().get(&id).is_none().then_some((id, object))
    }

    /// Asks for a data key.
    pub async fn fetch(&self, id: CacheKey, object: &EncryptedObject) -> Result<Arc<Dek>, String> {
        let failed = |why: &str| format!("failed to decrypt DEK, error: {why}");
        if let Some((until, why)) = &*self.deaf.lock()
            && Instant::now() < *until
        {
            return Err(failed(why));
        }
        self.metrics.missed();
        let plain = match self.service.decrypt(object).await {
            Ok(plain) => plain,
            Err(Failed { text, deaf }) => {
                if deaf {
                    let until = Instant::now() + limits::KMS_DEAF;
                    *self.deaf.lock() = Some((until, text.clone()));
                }
                return Err(failed(&text));
            }
        };
        let dek = Arc::new(Dek::new(object.dek_source_type, &plain)?);
        self.remember(id, dek.clone());
        Ok(dek)
    }

    fn remember(&self, id: CacheKey, dek: Arc<Dek>) {
        let mut deks = self.deks.lock();
        deks.put(id, dek);
        self.metrics.remembered(&self.name, deks.known.len());
    }

    /// Seals from now on with a new seed, which is sealed by the key with this id.
    async fn rotate(&self, key_id: &str, expires: SystemTime) -> Result<(), String> {
        let before = self.state.read().clone();
        if let Some(state) = before.as_ref().filter(|s| s.object.key_id == key_id) {
            self.enter(State {
                dek: state.dek.clone(),
                object: state.object.clone(),
                key: state.key,
                expires,
            });
            return Ok(());
        }
        let uid = uuid::Uuid::new_v4().to_string();
        let made = self.generate(&uid).await;
        let sealed_by = made.as_ref().map_or("", |(o, _)| &o.key_id).to_string();
        let why = match made {
            Ok((object, dek)) if object.key_id == key_id => {
                let key = cache_key(&object);
                self.enter(State {
                    dek,
                    object,
                    key,
                    expires,
                });
                tracing::info!(
                    provider = self.name,
                    key = hashed(key_id),
                    "values are sealed with a new seed"
                );
                return Ok(());
            }
            Ok(_) => "<nil>".to_string(),
            Err(why) => why,
        };
        let (no_state, until) = match &before {
            None => (
                "got unexpected nil transformer",
                "0001-01-01T00:00:00Z".into(),
            ),
            Some(state) => ("<nil>", seconds(state.expires)),
        };
        let known = before.map(|s| hashed(&s.object.key_id)).unwrap_or_default();
        Err(format!(
            "failed to rotate DEK uid={uid:?}, useSeed=true, errState={no_state}, errGen={why}, statusKeyIDHash={:?}, encryptKeyIDHash={:?}, stateKeyIDHash={known:?}, expirationTimestamp={until}",
            hashed(key_id),
            hashed(&sealed_by)
        ))
    }

    fn enter(&self, state: State) {
        self.remember(state.key, state.dek.clone());
        *self.state.write() = Some(Arc::new(state));
    }

    /// A new seed, and it as the plug-in seals it.
    async fn generate(&self, uid: &str) -> Result<(EncryptedObject, Arc<Dek>), String> {
        let seed = envelope::random::<{ envelope::SEED }>();
        let seed = seed.ok_or("the kernel gives no random numbers")?;
        let dek = Dek::new(HKDF_SHA256_XNONCE_AES_GCM_SEED, &seed)?;
        let sealed = self.service.encrypt(uid, seed.to_vec()).await;
        let sealed = sealed.map_err(|e| format!("failed to encrypt DEK, error: {}", e.text))?;
        let object = EncryptedObject {
            data: Bytes::new(),
            key_id: sealed.key_id,
            dek_source: sealed.ciphertext,
            annotations: sealed.annotations,
            dek_source_type: HKDF_SHA256_XNONCE_AES_GCM_SEED,
        };
        envelope::check_source(&object)?;
        Ok((object, Arc::new(dek)))
    }
}

/// A moment in RFC 3339, in seconds.
fn seconds(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |t| t.to_string())
}
