//! The loop that follows the store: one watch over everything, each event to the cache of its key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use client::{Cache, Change, ChangeKind, Entry};
use futures::StreamExt;
use machinery::Descriptor;
use store::{Acks, Event, KeyValue, Range, Store, WatchBatch};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::rounds::Rounds;
use super::{Key, WatchCache, with_revision};
use crate::limits;

/// Every key the API server owns.
pub const ROOT: &str = "/registry/";

/// Asks the loop for a new cache, or to forget one.
enum Order {
    Add(
        Arc<Descriptor>,
        String,
        oneshot::Sender<Result<Arc<WatchCache>, String>>,
    ),
    Remove(String),
    /// Read everything anew.
    Reload,
}

/// A handle on the loop. Cheap to clone.
#[derive(Clone)]
pub struct Follower {
    orders: mpsc::Sender<Order>,
    progress: watch::Receiver<u64>,
}

struct Loop {
    store: Store,
    caches: BTreeMap<String, Arc<WatchCache>>,
    progress: watch::Sender<u64>,
    /// The same, ahead of what waits are told.
    now: Arc<AtomicU64>,
    /// Writes are answered once they are taken over here.
    acks: Option<Acks>,
    rounds: Rounds,
}

// === Follower ===

impl Follower {
    /// Starts following a store.
    pub async fn start(store: Store) -> Result<Self, store::Error> {
        let revision = store.revision().await?;
        let (progress, seen) = watch::channel(revision);
        let (orders, waiting) = mpsc::channel(64);
        let looped = Loop {
            acks: store.follow(Range::prefix(ROOT)),
            store,
            caches: BTreeMap::new(),
            progress,
            now: Arc::new(AtomicU64::new(revision)),
            rounds: Rounds::default(),
        };
        tokio::spawn(looped.run(waiting));
        Ok(Self {
            orders,
            progress: seen,
        })
    }

    /// Makes and fills the cache of a resource stored under `prefix` (with a trailing slash), or
    /// gives the one that is there.
    pub async fn add(&self, d: Arc<Descriptor>, prefix: String) -> Result<Arc<WatchCache>, String> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| "the store is closed".to_string();
        self.orders
            .send(Order::Add(d, prefix, reply))
            .await
            .map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }

    /// Forgets a cache; its watchers end.
    pub async fn remove(&self, prefix: &str) {
        // Without a loop there is no cache either.
        let _ = self.orders.send(Order::Remove(prefix.to_string())).await;
    }

    /// Has every cache brought to the store's newest state, values that could not be read among it.
    pub async fn reload(&self) {
        // Without a loop there is nothing to reload.
        let _ = self.orders.send(Order::Reload).await;
    }

    /// The revision every cache is at.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.clone()
    }
}

// === Loop ===

impl Loop {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let from = self.now.load(Ordering::Acquire) + 1;
            let mut watch = match self.store.watch(Range::prefix(ROOT), from).await {
                Ok(w) => w.ready_chunks(limits::FOLLOWED_AT_ONCE),
                Err(store::Error::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "the store cannot be followed, loading everything anew");
                    if !self.reload().await {
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                    continue;
                }
            };
            loop {
                tokio::select! {
                    biased;
                    batches = watch.next() => match self.batches(batches.unwrap_or_default()) {
                        Ok(()) => {}
                        Err(store::Error::Closed) => return self.close(),
                        Err(error) => {
                            tracing::warn!(%error, "the watch of the store broke");
                            break;
                        }
                    },
                    () = self.rounds.due() => self.rounds.begin(Instant::now()),
                    order = orders.recv() => match order {
                        // What the watch has under way is older than what is read now.
                        Some(Order::Reload) => {
                            if self.reload().await {
                                break;
                            }
                        }
                        Some(order) => self.order(order).await,
                        None => return self.close(),
                    },
                }
            }
        }
    }

    fn close(&self) {
        for cache in self.caches.values() {
            cache.close();
        }
    }

    fn cache_of(&self, key: &[u8]) -> Option<&Arc<WatchCache>> {
        let text = std::str::from_utf8(key).ok()?;
        // The greatest prefix that is not after the key is the only one that can be its prefix:
        // prefixes end in a slash and none is a prefix of another.
        let (prefix, cache) = self.caches.range(..=text.to_string()).next_back()?;
        text.starts_with(prefix.as_str()).then_some(cache)
    }

    /// What came together, none where the store is closed: watchers are told once.
    fn batches(
        &mut self,
        batches: Vec<Result<WatchBatch, store::Error>>,
    ) -> Result<(), store::Error> {
        let mut changed = Vec::new();
        let mut done = match batches.is_empty() {
            true => Err(store::Error::Closed),
            false => Ok(()),
        };
        for batch in batches {
            match batch {
                Ok(batch) => self.batch(batch, &mut changed),
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
        }
        let now = Instant::now();
        for cache in changed {
            self.rounds.tell(&cache, now);
        }
        // Where changes never cease the loop has no time to wait for this.
        self.rounds.begin(now);
        self.told();
        done
    }

    fn batch(&self, batch: WatchBatch, changed: &mut Vec<Arc<WatchCache>>) {
        for event in batch.events {
            let Some(cache) = self.cache_of(event.key()) else {
                continue;
            };
            cache.note_received();
            let change = match event {
                Event::Put { kv, .. } => put(cache, &kv),
                Event::Delete { key, revision, .. } => deleted(cache, &key, revision),
            };
            match change {
                Ok(Some(change)) => {
                    cache.apply(change, batch.revision);
                    if !changed.iter().any(|c| Arc::ptr_eq(c, cache)) {
                        changed.push(cache.clone());
                    }
                }
                Ok(None) => {}
                Err((key, error)) => {
                    cache.note_broken(&key, &error.to_string());
                    tracing::error!(key, %error, "stored object cannot be read and is left out");
                }
            }
        }
        self.now.store(batch.revision, Ordering::Release);
    }

    /// Wakes who waits for what was taken over.
    fn told(&self) {
        let now = self.now.load(Ordering::Acquire);
        self.progress.send_if_modified(|told| {
            let news = *told != now;
            *told = now;
            news
        });
        if let Some(acks) = &self.acks {
            acks.seen(now);
        }
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::Add(descriptor, prefix, reply) => {
                let made = match self.caches.get(&prefix) {
                    Some(known) => Ok(known.clone()),
                    None => self.fill(descriptor, prefix).await,
                };
                // The caller may have given up waiting.
                let _ = reply.send(made);
            }
            Order::Reload => {}
            Order::Remove(prefix) => {
                if let Some(cache) = self.caches.remove(&prefix) {
                    cache.close();
                }
            }
        }
    }

    async fn fill(
        &mut self,
        d: Arc<Descriptor>,
        prefix: String,
    ) -> Result<Arc<WatchCache>, String> {
        let revision = self.now.load(Ordering::Acquire);
        let cache = WatchCache::new(
            d,
            prefix.clone(),
            self.now.clone(),
            self.progress.subscribe(),
        );
        let range = Range {
            revision,
            ..Range::prefix(prefix.clone())
        };
        let found = self.store.range(range).await.map_err(|e| e.to_string())?;
        let mut broken = Vec::new();
        {
            let mut state = cache.state.write();
            state.ring.forgotten = revision;
            for kv in found.kvs {
                match entry(&cache, &kv) {
                    Ok(e) => {
                        let key = Key::of(&e);
                        state.insert(key, Arc::new(e));
                    }
                    Err((key, error)) => {
                        tracing::error!(key, %error, "stored object cannot be read and is left out");
                        broken.push((key, error.to_string()));
                    }
                }
            }
        }
        for (key, why) in &broken {
            cache.note_broken(key, why);
        }
        let cache = Arc::new(cache);
        self.caches.insert(prefix, cache.clone());
        Ok(cache)
    }

    /// Brings every cache to the store's newest state by comparing, after history was compacted away.
    async fn reload(&mut self) -> bool {
        let Ok(revision) = self.store.revision().await else {
            return false;
        };
        for (prefix, cache) in &self.caches {
            let range = Range {
                revision,
                ..Range::prefix(prefix.clone())
            };
            let Ok(found) = self.store.range(range).await else {
                return false;
            };
            // Changes of many revisions come at once now: nobody could resume in their midst.
            cache.forget(u64::MAX);
            let mut missing: BTreeMap<Vec<u8>, Arc<Entry>> = cache
                .list(None)
                .into_iter()
                .map(|e| (key_of(prefix, &e), e))
                .collect();
            for kv in found.kvs {
                let known = missing.remove(&kv.key[..]);
                if known.is_some_and(|e| e.revision == kv.mod_revision) {
                    continue;
                }
                match put(cache, &kv) {
                    Ok(Some(change)) => cache.apply(change, revision),
                    Ok(None) => {}
                    Err((key, error)) => cache.note_broken(&key, &error.to_string()),
                }
            }
            for key in missing.keys() {
                if let Ok(Some(change)) = deleted(cache, key, revision) {
                    cache.apply(change, revision);
                }
            }
            cache.forget(revision);
        }
        self.now.store(revision, Ordering::Release);
        self.told();
        true
    }
}

fn key_of(prefix: &str, e: &Entry) -> Vec<u8> {
    format!("{prefix}{}", e.key()).into_bytes()
}

/// A key whose value does not parse.
pub type Bad = (String, serde_json::Error);

/// The entry of a stored object.
pub fn entry(cache: &WatchCache, kv: &KeyValue) -> Result<Entry, Bad> {
    make(
        cache,
        &kv.key,
        with_revision(&kv.value, kv.mod_revision),
        kv.mod_revision,
    )
}

pub(super) fn make(
    cache: &WatchCache,
    key: &[u8],
    bytes: Bytes,
    revision: u64,
) -> Result<Entry, Bad> {
    let bad = |e| (String::from_utf8_lossy(key).into_owned(), e);
    if let Some(why) = crate::encryption::unreadable(&bytes) {
        return Err(bad(serde::de::Error::custom(why)));
    }
    let strategy = &cache.descriptor.strategy;
    // Where fields differ by version they are looked up when they are asked for.
    let fields = if strategy.selectable_keys().is_empty() || strategy.selects_shown() {
        Vec::new()
    } else {
        let value = serde_json::from_slice(&bytes).map_err(bad)?;
        let all = strategy.selectable_fields(&value);
        all.into_iter()
            .map(|(k, v)| (k, v.into_boxed_str()))
            .collect()
    };
    Entry::new(bytes, revision, fields).map_err(bad)
}

fn put(cache: &WatchCache, kv: &KeyValue) -> Result<Option<Change>, Bad> {
    let entry = Arc::new(entry(cache, kv)?);
    let before = cache.get(&entry.namespace, &entry.name);
    let kind = if before.is_some() {
        ChangeKind::Modified
    } else {
        ChangeKind::Added
    };
    Ok(Some(Change {
        kind,
        entry,
        before,
    }))
}

/// The last state of a deleted object, under the deletion's revision.
fn deleted(cache: &WatchCache, key: &[u8], revision: u64) -> Result<Option<Change>, Bad> {
    let text = String::from_utf8_lossy(key);
    let rest = text.strip_prefix(cache.prefix.as_str()).unwrap_or("");
    let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
    let Some(before) = cache.get(namespace, name) else {
        cache.mended(namespace, name);
        return Ok(None);
    };
    let bad = |e| (text.to_string(), e);
    let mut value = before.value().map_err(bad)?;
    machinery::object::remove(&mut value, "metadata.resourceVersion");
    let stored = serde_json::to_vec(&value).map_err(bad)?;
    let entry = Arc::new(make(
        cache,
        key,
        with_revision(&stored, revision),
        revision,
    )?);
    Ok(Some(Change {
        kind: ChangeKind::Deleted,
        entry,
        before: Some(before),
    }))
}
