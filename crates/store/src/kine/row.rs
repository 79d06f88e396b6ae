//! A row of kine's table: one change of one key.

use bytes::Bytes;

use super::session::{Dialect, Value};
use crate::types::{Event, KeyValue, WatchBatch};

/// The columns of a row, read as `k`.
pub const COLUMNS: &str =
    "k.id, k.name, k.created, k.deleted, k.create_revision, k.prev_revision, k.lease,
   k.k0s_version, k.k0s_position, k.k0s_lease, k.value";

/// The same without the value.
pub const BARE: &str =
    "k.id, k.name, k.created, k.deleted, k.create_revision, k.prev_revision, k.lease,
   k.k0s_version, k.k0s_position, k.k0s_lease, NULL";

/// How many columns that is.
pub const WIDTH: usize = 11;

/// The row that keeps the compacted revision in `prev_revision`; no key.
pub const COMPACT: &[u8] = b"compact_rev_key";

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: i64,
    pub key: Bytes,
    /// The key was not there before.
    pub created: bool,
    pub deleted: bool,
    /// 0 for a row that creates or deletes.
    pub create_revision: i64,
    /// The id of the key's change before, 0 for none.
    pub previous: i64,
    /// Seconds to live, kine's lease; 0 for ever.
    pub ttl: i64,
    /// Unknown of rows that kine wrote.
    pub version: Option<i64>,
    /// Its place among the rows of its transaction.
    pub position: i64,
    pub lease: Option<i64>,
    pub value: Bytes,
}

impl Row {
    /// Reads `COLUMNS`; nothing for the columns of no row.
    pub fn read(columns: &[Value], dialect: &Dialect) -> Option<Self> {
        let [
            id,
            name,
            created,
            deleted,
            create,
            previous,
            ttl,
            version,
            position,
            lease,
            value,
        ] = columns
        else {
            return None;
        };
        Some(Self {
            id: id.some()?,
            key: (dialect.decode)(&name.bytes()?),
            created: created.int() != 0,
            deleted: deleted.int() != 0,
            create_revision: create.int(),
            previous: previous.int(),
            ttl: ttl.int(),
            version: version.some(),
            position: position.int(),
            lease: lease.some(),
            value: value.bytes().unwrap_or_default(),
        })
    }

    /// The revision of its transaction.
    pub fn revision(&self) -> u64 {
        revision_of(self.id, self.position)
    }

    /// Whether it is no change of a key: the compacted revision, or a filled gap.
    pub fn is_internal(&self) -> bool {
        self.key == COMPACT || (self.deleted && self.previous == 0 && self.key.starts_with(b"gap-"))
    }

    /// The key as this row left it; nothing after a deletion.
    pub fn kv(&self) -> Option<KeyValue> {
        (!self.deleted).then(|| KeyValue {
            key: self.key.clone(),
            value: self.value.clone(),
            create_revision: self.created_at(),
            mod_revision: self.revision(),
            version: self.version().unsigned_abs(),
            lease: self.lease.unwrap_or(self.ttl),
        })
    }

    /// The revision that created the key.
    pub fn created_at(&self) -> u64 {
        if self.created {
            self.revision()
        } else {
            self.create_revision.unsigned_abs()
        }
    }

    /// kine counts no versions: its rows are the first or the second.
    pub fn version(&self) -> i64 {
        self.version.unwrap_or(if self.created { 1 } else { 2 })
    }

    /// The change for watchers, given the key's row before.
    pub fn event(&self, before: Option<KeyValue>) -> Event {
        match self.kv() {
            Some(kv) => Event::Put { kv, before },
            None => Event::Delete {
                key: self.key.clone(),
                revision: self.revision(),
                before,
            },
        }
    }
}

/// The revision of a row: the id of the first row of its transaction.
pub fn revision_of(id: i64, position: i64) -> u64 {
    (id - position).unsigned_abs()
}

/// Puts a row's event to its revision's batch. Rows that are no changes give a batch without events.
pub fn gather(batches: &mut Vec<WatchBatch>, row: &Row, before: Option<KeyValue>) {
    let revision = row.revision();
    if batches.last().is_none_or(|b| b.revision != revision) {
        batches.push(WatchBatch {
            revision,
            events: Vec::new(),
        });
    }
    if let Some(last) = batches.last_mut().filter(|_| !row.is_internal()) {
        last.events.push(row.event(before));
    }
}
