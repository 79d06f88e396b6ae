//! Encryption at rest: values are sealed on their way into the store and opened on their way out, by
//! the rules of an EncryptionConfiguration and in upstream's stored format. Above it everything is plain.
//! Upstream: apiserver/pkg/storage/value, server/options/encryptionconfig.

mod config;
mod provider;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use machinery::{Descriptor, GroupResource};
use parking_lot::RwLock;
use store::backend::{Backend, WatchStream};
use store::{
    Error, Event, KeyValue, LeaseInfo, Op, OpResult, Range, RangeResponse, Store, Txn, TxnResponse,
};

pub use config::{EncryptionConfig, KeySpec, new_key};
use provider::Providers;

/// What stands in the place of a value that cannot be opened; the reason follows.
const UNREADABLE: &[u8] = b"\0unreadable: ";

/// Which providers a resource has. Cheap to clone; all clones change together.
#[derive(Clone)]
pub struct Encryption(Arc<Shared>);

struct Shared {
    rules: RwLock<Arc<Rules>>,
    /// Resources by the prefix of their keys, with slashes around it.
    resources: BTreeMap<String, GroupResource>,
    /// Held by writes on their way, so that a change of rules can wait for them.
    writing: tokio::sync::RwLock<()>,
}

/// The providers of resources, `*.<group>` and `*.*`.
#[derive(Default)]
pub struct Rules(BTreeMap<(String, String), Arc<Providers>>);

/// A store whose values are sealed.
pub struct Sealed {
    inner: Store,
    encryption: Encryption,
}

/// Why a value read from a store cannot be used, if it could not be opened.
pub fn unreadable(value: &[u8]) -> Option<String> {
    let why = value.strip_prefix(UNREADABLE)?;
    Some(String::from_utf8_lossy(why).into_owned())
}

// === Encryption ===

impl Encryption {
    /// The rules of a configuration for these resources, and for any custom one.
    pub fn new(config: &EncryptionConfig, resources: &[Descriptor]) -> Result<Self, String> {
        let of = |d: &Descriptor| (crate::registry::storage_prefix(d), d.group_resource());
        Ok(Self(Arc::new(Shared {
            rules: RwLock::new(Arc::new(config.rules()?)),
            resources: resources.iter().filter(|d| d.stored).map(of).collect(),
            writing: tokio::sync::RwLock::default(),
        })))
    }

    /// Takes over another configuration. When this returns nothing is on its way by the old one.
    pub async fn replace(&self, config: &EncryptionConfig) -> Result<(), String> {
        *self.0.rules.write() = Arc::new(config.rules()?);
        drop(self.0.writing.write().await);
        Ok(())
    }

    /// The store with its values sealed.
    pub fn over(&self, inner: Store) -> Store {
        Store::new(Sealed {
            inner,
            encryption: self.clone(),
        })
    }

    /// Seals anew what is not sealed as it would be now; gives how many values that were. What changes
    /// meanwhile is sealed by whoever changes it.
    pub async fn reseal(&self, raw: &Store) -> Result<usize, Error> {
        let mut done = 0;
        let mut range = Range {
            limit: crate::limits::PAGE,
            ..Range::prefix(crate::cache::ROOT)
        };
        loop {
            let page = raw.range(range.clone()).await?;
            for kv in &page.kvs {
                let Some(plain) = self.stale(kv) else {
                    continue;
                };
                let value = self.seal(&kv.key, plain);
                let put = raw.update(kv.key.clone(), value, kv.mod_revision, kv.lease);
                match put.await {
                    Ok(_) => done += 1,
                    Err(store::WriteError::Conflict(_)) => {}
                    Err(store::WriteError::Store(error)) => return Err(error),
                }
            }
            let Some(last) = page.kvs.last().filter(|_| page.more) else {
                return Ok(done);
            };
            let mut next = last.key.to_vec();
            next.push(0);
            range.key = next.into();
        }
    }

    /// The plain value of a key that is not sealed with the first key.
    fn stale(&self, kv: &KeyValue) -> Option<Bytes> {
        let providers = self.providers(&kv.key)?;
        match providers.open(&kv.key, &kv.value) {
            Ok((plain, true)) => Some(plain),
            _ => None,
        }
    }

    fn providers(&self, key: &[u8]) -> Option<Arc<Providers>> {
        let rules = self.0.rules.read().clone();
        if rules.0.is_empty() {
            return None;
        }
        let text = std::str::from_utf8(key).ok()?;
        let mut upto = self.0.resources.range(..=text.to_string());
        let known = upto
            .next_back()
            .filter(|(p, _)| text.starts_with(p.as_str()));
        let (group, resource) = match known {
            Some((_, r)) => (r.group.to_string(), r.resource.to_string()),
            None => {
                // Custom resources lie under their group and name.
                let rest = text.strip_prefix(crate::cache::ROOT)?;
                let mut parts = rest.split('/');
                let group = parts.next().filter(|g| g.contains('.'))?;
                (group.to_string(), parts.next()?.to_string())
            }
        };
        let all = |g: &str| (g.to_string(), "*".to_string());
        let found = rules.0.get(&(group.clone(), resource));
        let found = found.or_else(|| rules.0.get(&all(&group)));
        found.or_else(|| rules.0.get(&all("*"))).cloned()
    }

    fn seal(&self, key: &[u8], value: Bytes) -> Bytes {
        match self.providers(key) {
            Some(providers) => providers.seal(key, value),
            None => value,
        }
    }

    fn open(&self, kv: &mut KeyValue) {
        let opened = match self.providers(&kv.key) {
            Some(providers) => providers.open(&kv.key, &kv.value).map(|(v, _)| v),
            None => provider::plain(&kv.value),
        };
        kv.value = opened.unwrap_or_else(|why| [UNREADABLE, why.as_bytes()].concat().into());
    }

    fn open_event(&self, event: &mut Event) {
        match event {
            Event::Put { kv, before } => {
                self.open(kv);
                before.iter_mut().for_each(|b| self.open(b));
            }
            Event::Delete { before, .. } => before.iter_mut().for_each(|b| self.open(b)),
        }
    }
}

// === Sealed ===

#[async_trait]
impl Backend for Sealed {
    async fn txn(&self, mut txn: Txn) -> Result<TxnResponse, Error> {
        let _writing = self.encryption.0.writing.read().await;
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            if let Op::Put { key, value, .. } = op {
                *value = self.encryption.seal(key, std::mem::take(value));
            }
        }
        let mut answer = self.inner.txn(txn).await?;
        let open = |kv: &mut KeyValue| self.encryption.open(kv);
        for result in &mut answer.results {
            match result {
                OpResult::Put { before } | OpResult::Got(before) => {
                    before.iter_mut().for_each(open)
                }
                OpResult::Deleted { before } => before.iter_mut().for_each(open),
            }
        }
        Ok(answer)
    }

    async fn range(&self, range: Range) -> Result<RangeResponse, Error> {
        let bare = range.keys_only || range.count_only;
        let mut found = self.inner.range(range).await?;
        if !bare {
            found.kvs.iter_mut().for_each(|kv| self.encryption.open(kv));
        }
        Ok(found)
    }

    async fn watch(&self, range: Range, start_revision: u64) -> Result<WatchStream, Error> {
        let inner = self.inner.watch(range, start_revision).await?;
        let encryption = self.encryption.clone();
        Ok(Box::pin(inner.map(move |batch| {
            batch.map(|mut batch| {
                batch
                    .events
                    .iter_mut()
                    .for_each(|e| encryption.open_event(e));
                batch
            })
        })))
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.inner.request_progress().await
    }

    async fn revision(&self) -> Result<u64, Error> {
        self.inner.revision().await
    }

    async fn lease_grant(&self, id: i64, ttl: Duration) -> Result<i64, Error> {
        self.inner.lease_grant(id, ttl).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<Duration, Error> {
        self.inner.lease_keep_alive(id).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), Error> {
        self.inner.lease_revoke(id).await
    }

    async fn lease_time_to_live(&self, id: i64) -> Result<LeaseInfo, Error> {
        self.inner.lease_time_to_live(id).await
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    async fn size(&self) -> Result<u64, Error> {
        self.inner.size().await
    }

    async fn snapshot(&self, to: &Path) -> Result<u64, Error> {
        self.inner.snapshot(to).await
    }

    async fn verify(&self) -> Result<(), Error> {
        self.inner.verify().await
    }
}
