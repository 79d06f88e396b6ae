//! Encryption at rest: values are sealed on their way into the store and opened on their way out, by
//! the rules of an EncryptionConfiguration and in upstream's stored format. Above it everything is plain.
//! Upstream: apiserver/pkg/storage/value, server/options/encryptionconfig.

mod config;
mod kms;
mod metrics;
mod provider;
mod recovery;
mod reload;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use machinery::{Descriptor, GroupResource};
use parking_lot::RwLock;
use store::backend::{Backend, WatchStream};
use store::{
    Acks, Error, Event, KeyValue, LeaseInfo, Op, OpResult, Range, RangeResponse, Store, Txn,
    TxnResponse,
};

pub use config::{EncryptionConfig, KeySpec, new_key};
use kms::{Fetched, Kms};
use metrics::Metrics;
use provider::Providers;
use recovery::Recovery;
pub use reload::FileReload;

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
    metrics: Arc<Metrics>,
    recovery: Arc<Recovery>,
    /// Whether the configuration follows a file.
    reloads: AtomicBool,
}

/// The providers by group and resource, `*` for any.
#[derive(Default)]
pub struct Rules {
    providers: BTreeMap<String, BTreeMap<String, Arc<Providers>>>,
    /// KMS plug-ins among them.
    plugins: Vec<Arc<Kms>>,
}

impl Rules {
    /// Asks the plug-ins for the first time, and keeps asking them.
    async fn start(&self) {
        futures::future::join_all(self.plugins.iter().map(Kms::start)).await;
    }

    /// Which plug-ins are not well, upstream's text.
    async fn check(&self) -> Result<(), String> {
        let all = self.plugins.iter().map(|kms| kms.check());
        let all = futures::future::join_all(all).await;
        let named = all.into_iter().enumerate();
        let errors: Vec<String> = named
            .filter_map(|(i, answer)| Some(format!("kms-provider-{i}: {}", answer.err()?)))
            .collect();
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.concat()),
            _ => Err(format!("[{}]", errors.join(", "))),
        }
    }
}

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
        let (metrics, recovery) = <(Arc<Metrics>, Arc<Recovery>)>::default();
        let rules = config.rules(&metrics, &recovery)?;
        metrics.in_force(&config.hash);
        Ok(Self(Arc::new(Shared {
            rules: RwLock::new(Arc::new(rules)),
            resources: resources.iter().filter(|d| d.stored).map(of).collect(),
            writing: tokio::sync::RwLock::default(),
            metrics,
            recovery,
            reloads: AtomicBool::new(false),
        })))
    }

    /// Begins to ask KMS plug-ins; returns when each has answered once or was given up.
    pub async fn start(&self) {
        let rules = self.rules();
        rules.start().await;
    }

    /// The API server's own name, whose hash the metrics carry.
    pub fn identify(&self, id: &str, config: &EncryptionConfig) {
        self.0.metrics.identify(id);
        self.0.metrics.in_force(&config.hash);
    }

    /// Takes over another configuration. When this returns nothing is on its way by the old one.
    pub async fn replace(&self, config: &EncryptionConfig) -> Result<(), String> {
        let rules = config.rules(&self.0.metrics, &self.0.recovery)?;
        rules.start().await;
        self.enter(rules).await;
        Ok(())
    }

    async fn enter(&self, rules: Rules) {
        *self.0.rules.write() = Arc::new(rules);
        drop(self.0.writing.write().await);
        if self.0.recovery.any_failed() {
            self.0.recovery.again();
        }
    }

    fn rules(&self) -> Arc<Rules> {
        self.0.rules.read().clone()
    }

    /// Whether health checks are to ask: where there are plug-ins, or may be some day.
    pub fn has_check(&self) -> bool {
        self.0.reloads.load(Ordering::Relaxed) || !self.rules().plugins.is_empty()
    }

    /// Which KMS plug-ins are not well.
    pub async fn check(&self) -> Result<(), String> {
        let rules = self.rules();
        rules.check().await
    }

    /// Tells when values that could not be opened should be tried again.
    pub fn recovered(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.recovery.told()
    }

    /// The counters as text.
    pub fn text(&self) -> String {
        self.0.metrics.text()
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
            let fetched = self.fetch(&page.kvs).await;
            for kv in &page.kvs {
                let Some(plain) = self.stale(kv, &fetched) else {
                    continue;
                };
                let value = self.seal(&kv.key, plain)?;
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

    /// The plain value of a key that is not sealed as it would be now.
    fn stale(&self, kv: &KeyValue, fetched: &Fetched) -> Option<Bytes> {
        let (_, providers) = self.providers(&kv.key)?;
        match providers.open(&kv.key, &kv.value, fetched) {
            Ok((plain, true)) => Some(plain),
            _ => None,
        }
    }

    /// The resource under a key, and its providers.
    fn providers(&self, key: &[u8]) -> Option<(String, Arc<Providers>)> {
        let rules = self.rules();
        if rules.providers.is_empty() {
            return None;
        }
        let text = std::str::from_utf8(key).ok()?;
        let upto = (Bound::Unbounded, Bound::Included(text));
        let last = self.0.resources.range::<str, _>(upto).next_back();
        let known = last.filter(|(p, _)| text.starts_with(p.as_str()));
        let (group, resource): (&str, &str) = match known {
            Some((_, r)) => (&r.group, &r.resource),
            None => {
                // Custom resources lie under their group and name.
                let rest = text.strip_prefix(crate::cache::ROOT)?;
                let mut parts = rest.split('/');
                let group = parts.next().filter(|g| g.contains('.'))?;
                (group, parts.next()?)
            }
        };
        let of = |group: &str, resource: &str| rules.providers.get(group)?.get(resource);
        let found = of(group, resource).or_else(|| of(group, "*"));
        let found = found.or_else(|| of("*", "*"))?;
        let shown = match group.is_empty() {
            true => resource.to_string(),
            false => format!("{resource}.{group}"),
        };
        Some((shown, found.clone()))
    }

    fn seal(&self, key: &[u8], value: Bytes) -> Result<Bytes, Error> {
        let Some((resource, providers)) = self.providers(key) else {
            return Ok(value);
        };
        let begun = Instant::now();
        let sealed = providers.seal(key, value);
        let by = (true, providers.sealer());
        let failed = sealed.is_err();
        self.0
            .metrics
            .transformed(&resource, by, begun.elapsed(), failed);
        sealed.map_err(Error::Unsealed)
    }

    /// Asks for the data keys that these values need and nobody remembers, each once, a few at a time.
    async fn fetch<'a>(&self, kvs: impl IntoIterator<Item = &'a KeyValue>) -> Fetched {
        if self.rules().plugins.is_empty() {
            return Fetched::default();
        }
        let mut wanted = HashMap::new();
        for kv in kvs {
            let Some((_, providers)) = self.providers(&kv.key) else {
                continue;
            };
            if let Some((kms, stored)) = providers.kms(&kv.value)
                && let Some((id, object)) = kms.unknown(stored)
            {
                wanted.entry(id).or_insert_with(|| (kms.clone(), object));
            }
        }
        let asked = wanted.into_iter().map(|(id, (kms, object))| async move {
            let answer = kms.fetch(id, &object).await;
            (id, answer)
        });
        let asked = futures::stream::iter(asked);
        asked
            .buffer_unordered(crate::limits::KMS_CALLS)
            .collect()
            .await
    }

    fn open(&self, kv: &mut KeyValue, fetched: &Fetched) {
        let opened = match self.providers(&kv.key) {
            Some((resource, providers)) => {
                let begun = Instant::now();
                let opened = providers.open(&kv.key, &kv.value, fetched);
                let by = (false, providers.opener(&kv.value));
                let failed = opened.is_err();
                self.0
                    .metrics
                    .transformed(&resource, by, begun.elapsed(), failed);
                opened.map(|(v, _)| v)
            }
            None => provider::plain(&kv.value),
        };
        kv.value = opened.unwrap_or_else(|why| [UNREADABLE, why.as_bytes()].concat().into());
    }

    /// Opens values where they are.
    async fn open_all(&self, mut kvs: Vec<&mut KeyValue>) {
        let fetched = self.fetch(kvs.iter().map(|kv| &**kv)).await;
        for kv in &mut kvs {
            self.open(kv, &fetched);
        }
    }
}

/// The values that an event tells of.
fn told(event: &mut Event) -> impl Iterator<Item = &mut KeyValue> {
    let (now, before) = match event {
        Event::Put { kv, before } => (Some(kv), before),
        Event::Delete { before, .. } => (None, before),
    };
    now.into_iter().chain(before.iter_mut())
}

// === Sealed ===

#[async_trait]
impl Backend for Sealed {
    async fn txn(&self, mut txn: Txn) -> Result<TxnResponse, Error> {
        let _writing = self.encryption.0.writing.read().await;
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            if let Op::Put { key, value, .. } = op {
                *value = self.encryption.seal(key, std::mem::take(value))?;
            }
        }
        let mut answer = self.inner.txn(txn).await?;
        let all = answer.results.iter_mut().flat_map(|result| match result {
            OpResult::Put { before } | OpResult::Got(before) => before.iter_mut().collect(),
            OpResult::Deleted { before } => before.iter_mut().collect::<Vec<_>>(),
        });
        let all = Iterator::collect(all);
        self.encryption.open_all(all).await;
        Ok(answer)
    }

    async fn range(&self, range: Range) -> Result<RangeResponse, Error> {
        let bare = range.keys_only || range.count_only;
        let mut found = self.inner.range(range).await?;
        if !bare {
            self.encryption
                .open_all(found.kvs.iter_mut().collect())
                .await;
        }
        Ok(found)
    }

    async fn watch(&self, range: Range, start_revision: u64) -> Result<WatchStream, Error> {
        let inner = self.inner.watch(range, start_revision).await?;
        let encryption = self.encryption.clone();
        Ok(Box::pin(inner.then(move |batch| {
            let encryption = encryption.clone();
            async move {
                let mut batch = batch?;
                let all = batch.events.iter_mut().flat_map(told).collect();
                encryption.open_all(all).await;
                Ok(batch)
            }
        })))
    }

    fn follow(&self, range: Range) -> Option<Acks> {
        self.inner.follow(range)
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
