//! The watch cache: one copy of each resource's objects, shared by network watchers and by every
//! in-process part. It follows the store through one watch; `Follower` is that loop.

pub(crate) mod follow;
mod history;
mod live;
mod rounds;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, OnceLock};

use api::cbor::Order;
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use client::{Cache, Change, ChangeKind, Entry, Subscription};
use machinery::Descriptor;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};

pub use follow::{Follower, ROOT, entry};
pub use history::{Broken, History, Step};
use live::Ring;
pub use live::{CutOff, Live};

use crate::fairness::Stored;

/// One change as network watchers share it: its JSON frame is made at most once.
pub struct CacheEvent {
    pub change: Change,
    pub revision: u64,
    json: OnceLock<Bytes>,
    protobuf: OnceLock<Option<Bytes>>,
    cbor: OnceLock<Option<Bytes>>,
}

/// The objects of one resource.
pub struct WatchCache {
    pub descriptor: Arc<Descriptor>,
    /// Key prefix in the store, with a trailing slash.
    pub prefix: String,
    state: RwLock<State>,
    /// Changes that were read from the store.
    received: AtomicU64,
    /// The revision all caches of the process are at.
    now: Arc<AtomicU64>,
    /// The same, for those who wait; told behind it.
    progress: watch::Receiver<u64>,
    /// Told when there are new events.
    news: watch::Sender<()>,
    /// When that was last.
    told: Mutex<Option<tokio::time::Instant>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Arc<Entry>>,
    /// What cannot be read, and why.
    broken: BTreeMap<Key, String>,
    /// Bytes of all of them.
    bytes: usize,
    ring: Ring,
    parts: Vec<mpsc::Sender<Change>>,
}

/// Namespace and name, in the order of the store's keys: `a-b/x` comes before `a/x`, and pages that begin in the
/// cache go on in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    namespace: Box<str>,
    name: Box<str>,
}

/// Where a network watch begins.
pub enum Start {
    /// Everything that is there now, as ADDED, then what comes.
    Snapshot,
    /// What came after a revision.
    After(u64),
}

/// A begun network watch.
pub struct Begun {
    pub snapshot: Vec<Arc<Entry>>,
    pub replay: Vec<Arc<CacheEvent>>,
    pub revision: u64,
    /// What came up to here is known already: the cache may be behind the store's history.
    pub after: u64,
    /// What comes.
    pub live: Live,
}

/// The revision asked for has left the ring.
#[derive(Debug)]
pub struct TooOld;

// === Key ===

impl Key {
    fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    fn of(entry: &Entry) -> Self {
        Self {
            namespace: entry.namespace.clone(),
            name: entry.name.clone(),
        }
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        let slash = std::iter::once(b'/');
        self.namespace.bytes().chain(slash).chain(self.name.bytes())
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&*self.namespace, &*other.namespace);
        match a.cmp(b) {
            Ordering::Equal => self.name.cmp(&other.name),
            _ if a.starts_with(b) || b.starts_with(a) => self.bytes().cmp(other.bytes()),
            different => different,
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

// === CacheEvent ===

impl CacheEvent {
    /// One change at a revision.
    pub fn new(change: Change, revision: u64) -> Self {
        Self {
            change,
            revision,
            json: OnceLock::new(),
            protobuf: OnceLock::new(),
            cbor: OnceLock::new(),
        }
    }

    /// `{"type":...,"object":...}` and a newline, made once and shared.
    pub fn json(&self) -> Bytes {
        self.json
            .get_or_init(|| frame(self.change.kind, &self.change.entry.bytes))
            .clone()
    }

    /// The protobuf frame, made once and shared; `None` where the object has no such form.
    pub fn protobuf(&self) -> Option<Bytes> {
        let make = || protobuf_frame(self.change.kind.name(), &self.change.entry.bytes);
        self.protobuf.get_or_init(make).clone()
    }

    /// The CBOR frame, made once and shared.
    pub fn cbor(&self) -> Option<Bytes> {
        let make = || {
            let value = serde_json::from_slice(&self.change.entry.bytes).ok()?;
            let name = self.change.kind.name();
            Some(api::cbor::watch_frame(name, &value, Order::Any).into())
        };
        self.cbor.get_or_init(make).clone()
    }
}

/// A protobuf watch frame of an object's JSON.
pub fn protobuf_frame(name: &str, object: &[u8]) -> Option<Bytes> {
    let value = serde_json::from_slice(object).ok()?;
    match api::protobuf::encode(&value) {
        Ok(data) => Some(api::protobuf::watch_frame(name, &data).into()),
        Err(error) => {
            tracing::error!(%error, "an object has no protobuf form");
            None
        }
    }
}

/// A JSON watch frame.
pub fn frame(kind: ChangeKind, object: &[u8]) -> Bytes {
    frame_named(kind.name(), object)
}

/// A JSON watch frame of any type.
pub fn frame_named(name: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}

// === WatchCache ===

impl WatchCache {
    fn new(
        descriptor: Arc<Descriptor>,
        prefix: String,
        now: Arc<AtomicU64>,
        progress: watch::Receiver<u64>,
    ) -> Self {
        Self {
            now,
            descriptor,
            prefix,
            state: RwLock::default(),
            received: AtomicU64::new(0),
            progress,
            news: watch::Sender::new(()),
            told: Mutex::new(None),
        }
    }

    /// Entries of a namespace (or all) in order, after a key if one is given, and the revision.
    pub fn snapshot(&self, namespace: Option<&str>) -> (Vec<Arc<Entry>>, u64) {
        let state = self.state.read();
        let revision = self.now.load(Acquire);
        (state.entries(namespace), revision)
    }

    /// Why an object that is stored cannot be read, if that is so.
    pub fn broken(&self, namespace: &str, name: &str) -> Option<String> {
        let state = self.state.read();
        if state.broken.is_empty() {
            return None;
        }
        state.broken.get(&Key::new(namespace, name)).cloned()
    }

    /// The key of the first object of a namespace (or any) that cannot be read, and why.
    pub fn any_broken(&self, namespace: Option<&str>) -> Option<(String, String)> {
        let state = self.state.read();
        let inside = |n: &str| namespace.is_none_or(|ns| ns == n);
        let mut all = state.broken.iter().filter(|(k, _)| inside(&k.namespace));
        let (Key { namespace, name }, why) = all.next()?;
        let key = match namespace.is_empty() {
            true => format!("{}{name}", self.prefix),
            false => format!("{}{namespace}/{name}", self.prefix),
        };
        Some((key, why.clone()))
    }

    /// How many changes were read from the store.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    fn note_received(&self) {
        self.received.fetch_add(1, Relaxed);
    }

    fn note_broken(&self, key: &str, why: &str) {
        let rest = key.strip_prefix(self.prefix.as_str()).unwrap_or("");
        let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
        let mut state = self.state.write();
        let key = Key::new(namespace, name);
        state.remove(&key);
        state.broken.insert(key, why.to_string());
    }

    /// An object that could not be read is gone.
    fn mended(&self, namespace: &str, name: &str) {
        let mut state = self.state.write();
        state.broken.remove(&Key::new(namespace, name));
    }

    /// How much there is.
    pub fn stored(&self) -> Stored {
        let state = self.state.read();
        Stored {
            objects: state.objects.len() as u64,
            bytes: state.bytes as u64,
        }
    }

    /// Begins a network watch.
    pub fn begin(self: &Arc<Self>, start: Start) -> Result<Begun, TooOld> {
        // Most tries of a replay of history end here and must not hold up others.
        if let Start::After(from) = start
            && from < self.state.read().ring.forgotten
        {
            return Err(TooOld);
        }
        let state = self.state.read();
        let revision = self.now.load(Acquire);
        let (snapshot, replay) = match start {
            Start::Snapshot => (state.entries(None), Vec::new()),
            Start::After(from) if from < state.ring.forgotten => return Err(TooOld),
            Start::After(from) => (Vec::new(), state.ring.later(from)),
        };
        let live = Live::new(self.clone(), state.ring.next());
        let after = match start {
            Start::Snapshot => 0,
            Start::After(from) => from,
        };
        Ok(Begun {
            snapshot,
            replay,
            revision,
            after,
            live,
        })
    }

    fn apply(&self, change: Change, revision: u64) {
        let mut state = self.state.write();
        let key = Key::of(&change.entry);
        match change.kind {
            ChangeKind::Deleted => state.remove(&key),
            _ => state.insert(key, change.entry.clone()),
        }
        state.parts.retain(|p| p.try_send(change.clone()).is_ok());
        // A watcher that is behind by more than the ring is cut off: it resumes from history or lists anew.
        let event = CacheEvent::new(change, revision);
        state.ring.push(Arc::new(event));
    }

    /// Tells the watchers that there is something new.
    fn announce(&self) {
        self.news.send_replace(());
    }

    /// Cuts off network watchers and remembers nothing up to a revision. They resume from the store's
    /// history, or list anew where that is compacted.
    fn forget(&self, revision: u64) {
        self.state.write().ring.forget(revision);
        self.announce();
    }

    fn close(&self) {
        let mut state = self.state.write();
        state.ring.close();
        state.parts.clear();
        drop(state);
        self.announce();
    }
}

impl State {
    fn insert(&mut self, key: Key, entry: Arc<Entry>) {
        if !self.broken.is_empty() {
            self.broken.remove(&key);
        }
        self.bytes += entry.bytes.len();
        if let Some(before) = self.objects.insert(key, entry) {
            self.bytes -= before.bytes.len();
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(before) = self.objects.remove(key) {
            self.bytes -= before.bytes.len();
        }
    }

    fn entries(&self, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        match namespace {
            None => self.objects.values().cloned().collect(),
            Some(ns) => {
                let all = self.objects.range(Key::new(ns, "")..);
                all.take_while(|(k, _)| &*k.namespace == ns)
                    .map(|(_, e)| e.clone())
                    .collect()
            }
        }
    }
}

#[async_trait]
impl Cache for WatchCache {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.state
            .read()
            .objects
            .get(&Key::new(namespace, name))
            .cloned()
    }

    fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        self.state.read().entries(namespace)
    }

    fn revision(&self) -> u64 {
        self.now.load(Acquire)
    }

    fn subscribe(&self) -> Subscription {
        let (sender, changes) = mpsc::channel(client::limits::SUBSCRIPTION_CHANGES);
        let mut state = self.state.write();
        state.parts.push(sender);
        Subscription {
            snapshot: state.entries(None),
            revision: self.now.load(Acquire),
            changes,
        }
    }

    async fn wait_for(&self, revision: u64) {
        if self.revision() >= revision {
            return;
        }
        let mut progress = self.progress.clone();
        // An error means that the follower ended with the process; there is nothing to wait for.
        let _ = progress.wait_for(|r| *r >= revision).await;
    }
}

/// Puts `"resourceVersion":"N"` first into the metadata of an encoded object. Stored objects have
/// none, and their maps are sorted, so `metadata` follows `apiVersion` and `kind`.
///
/// An object that upstream's API server stored in protobuf, in a store that was handed over, is read as JSON.
pub fn with_revision(stored: &[u8], revision: u64) -> Bytes {
    const MARK: &[u8] = b"\"metadata\":{";
    if stored.starts_with(api::protobuf::MAGIC) {
        let read = api::protobuf::decode(stored).map_err(|e| e.to_string());
        return match read.and_then(|v| serde_json::to_vec(&v).map_err(|e| e.to_string())) {
            Ok(json) => with_revision(&json, revision),
            Err(error) => {
                tracing::error!(error, "a stored object in protobuf cannot be read");
                Bytes::copy_from_slice(stored)
            }
        };
    }
    let at = top_level(stored, MARK).map(|i| i + MARK.len());
    let Some(at) = at else {
        return Bytes::copy_from_slice(stored);
    };
    let empty = stored.get(at) == Some(&b'}');
    let text = format!(
        "\"resourceVersion\":\"{revision}\"{}",
        if empty { "" } else { "," }
    );
    let mut out = BytesMut::with_capacity(stored.len() + text.len());
    out.put_slice(&stored[..at]);
    out.put_slice(text.as_bytes());
    out.put_slice(&stored[at..]);
    out.freeze()
}

/// Where `mark` begins at depth one of a JSON object.
pub fn top_level(json: &[u8], mark: &[u8]) -> Option<usize> {
    let (mut depth, mut i) = (0usize, 0);
    while i < json.len() {
        match json[i] {
            b'"' if depth == 1 && json[i..].starts_with(mark) => return Some(i),
            b'"' => {
                i += 1;
                while i < json.len() && json[i] != b'"' {
                    i += if json[i] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Key, with_revision};

    #[test]
    fn keys_are_in_the_stores_order() {
        let all = [
            ("", "a"),
            ("a", ""),
            ("a-b", "x"),
            ("a", "b"),
            ("a", "x"),
            ("ab", "a"),
            ("b", "a"),
        ];
        let mut keys: Vec<Key> = all.iter().map(|(n, m)| Key::new(n, m)).collect();
        let mut texts: Vec<String> = all.iter().map(|(n, m)| format!("{n}/{m}")).collect();
        keys.sort();
        texts.sort();
        let sorted: Vec<String> = keys
            .iter()
            .map(|k| format!("{}/{}", k.namespace, k.name))
            .collect();
        assert_eq!(sorted, texts);
    }

    #[test]
    fn the_revision_goes_into_the_objects_own_metadata() {
        for (stored, expected) in [
            (
                r#"{"apiVersion":"v1","kind":"A","metadata":{"name":"x"}}"#,
                r#"{"apiVersion":"v1","kind":"A","metadata":{"resourceVersion":"7","name":"x"}}"#,
            ),
            (
                r#"{"a":{"metadata":{"b":1}},"aa":"\"metadata\":{","metadata":{}}"#,
                r#"{"a":{"metadata":{"b":1}},"aa":"\"metadata\":{","metadata":{"resourceVersion":"7"}}"#,
            ),
        ] {
            assert_eq!(with_revision(stored.as_bytes(), 7), expected);
        }
    }

    #[test]
    fn what_upstream_stored_in_protobuf_is_read() {
        let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": "b"}, "data": {"k": "v"}});
        let stored = api::protobuf::encode(&object).expect("a form");
        let read: serde_json::Value =
            serde_json::from_slice(&with_revision(&stored, 7)).expect("JSON");
        assert_eq!(read["metadata"]["resourceVersion"], "7");
        assert_eq!(
            (&read["kind"], &read["data"]["k"]),
            (&object["kind"], &object["data"]["k"])
        );
    }
}
