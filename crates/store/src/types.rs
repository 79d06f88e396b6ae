//! The words of etcd v3: keys, transactions, ranges, events. Upstream: etcd api/v3 rpc.proto.

use std::time::Duration;

use bytes::Bytes;

/// One key at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: u64,
    pub mod_revision: u64,
    /// 1 at creation, one more with each change.
    pub version: u64,
    /// 0 for none.
    pub lease: i64,
}

/// What a compare looks at, and the value it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// 0 for a key that does not exist.
    ModRevision(u64),
    CreateRevision(u64),
    Version(u64),
    Value(Bytes),
}

/// How a compare compares: the key's property stands left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// One condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: Bytes,
    pub target: Target,
    pub comparison: Comparison,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    /// Deletes one key.
    Delete { key: Bytes },
    /// Deletes `[key, end)`.
    DeleteRange { key: Bytes, end: Bytes },
    /// Reads within the transaction.
    Get { key: Bytes },
}

/// Compares, and what to do if all hold or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// The key before the put.
    Put {
        before: Option<KeyValue>,
    },
    /// The keys that were deleted.
    Deleted {
        before: Vec<KeyValue>,
    },
    Got(Option<KeyValue>),
}

/// The answer to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    pub succeeded: bool,
    /// The store's revision after the transaction; its own where it wrote anything.
    pub revision: u64,
    pub results: Vec<OpResult>,
}

/// A read of `[key, end)`, or of `key` alone where `end` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub key: Bytes,
    pub end: Bytes,
    /// 0 for no limit.
    pub limit: usize,
    /// 0 for the newest.
    pub revision: u64,
    pub keys_only: bool,
    pub count_only: bool,
}

/// The answer to a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut the list short.
    pub more: bool,
    /// How many keys there are in the range, limit or not.
    pub count: usize,
    /// The store's revision at the read.
    pub revision: u64,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Put {
        kv: KeyValue,
        before: Option<KeyValue>,
    },
    /// `revision` is the deletion's.
    Delete {
        key: Bytes,
        revision: u64,
        before: Option<KeyValue>,
    },
}

/// All events of one revision that a watcher asked for, in order. Without events it is a progress
/// notice (see `Backend::request_progress`): all events up to the revision have been given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    pub revision: u64,
    pub events: Vec<Event>,
}

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Its whole lifetime.
    pub granted: Duration,
    /// What is left of it.
    pub left: Duration,
    /// The keys attached to it, in order.
    pub keys: Vec<Bytes>,
}

// === Compare ===

impl Compare {
    /// The key must not exist.
    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            target: Target::ModRevision(0),
            comparison: Comparison::Equal,
        }
    }

    /// The key must have been changed last at this revision.
    pub fn unchanged(key: impl Into<Bytes>, mod_revision: u64) -> Self {
        let target = Target::ModRevision(mod_revision);
        Self {
            key: key.into(),
            target,
            comparison: Comparison::Equal,
        }
    }

    /// Whether the condition holds for the key as it is.
    pub fn holds(&self, now: Option<&KeyValue>) -> bool {
        use std::cmp::Ordering;
        let order = match &self.target {
            Target::ModRevision(n) => now.map_or(0, |kv| kv.mod_revision).cmp(n),
            Target::CreateRevision(n) => now.map_or(0, |kv| kv.create_revision).cmp(n),
            Target::Version(n) => now.map_or(0, |kv| kv.version).cmp(n),
            // As in etcd, a compare of the value of an absent key never holds.
            Target::Value(v) => match now {
                Some(kv) => kv.value.cmp(v),
                None => return false,
            },
        };
        match self.comparison {
            Comparison::Equal => order == Ordering::Equal,
            Comparison::NotEqual => order != Ordering::Equal,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::Less => order == Ordering::Less,
        }
    }
}

// === Range ===

impl Range {
    /// Everything that starts with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key = prefix.into();
        let end = prefix_end(&key);
        Self {
            key,
            end,
            ..Self::default()
        }
    }

    /// One key.
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            ..Self::default()
        }
    }

    /// Whether a key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.end.is_empty() {
            return key == self.key;
        }
        key >= &self.key[..] && (self.end[..] == [0] || key < &self.end[..])
    }
}

// === Event ===

impl Event {
    /// The key it happened to.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { kv, .. } => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// The first key after all keys with this prefix; `\0` (everything) where there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}
