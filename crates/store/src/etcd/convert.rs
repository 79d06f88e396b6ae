//! This crate's words as etcd's messages and back, with the key prefix put on and taken off.

use bytes::Bytes;

use super::proto::{self, CompareTo, Request, Response};
use crate::error::Error;
use crate::types::{
    Compare, Comparison, Event, KeyValue, Op, OpResult, Range, RangeResponse, Target, Txn,
    TxnResponse, prefix_end,
};

/// What stands before every key in etcd, and what of the key it stands for.
#[derive(Clone)]
pub struct Prefix {
    there: Bytes,
    here: Bytes,
}

impl Prefix {
    /// `there` in etcd where keys here begin with `here`.
    pub fn new(there: Bytes, here: Bytes) -> Self {
        Self { there, here }
    }

    /// Refuses a transaction on keys that have no place in etcd.
    pub fn check(&self, txn: &Txn) -> Result<(), Error> {
        let ops = txn.success.iter().chain(&txn.failure).map(|op| match op {
            Op::Put { key, .. } | Op::Delete { key } | Op::Get { key } => key,
            Op::DeleteRange { key, .. } => key,
        });
        let mut keys = ops.chain(txn.compares.iter().map(|c| &c.key));
        match keys.find(|k| !k.starts_with(&self.here)) {
            None => Ok(()),
            Some(key) => Err(Error::Backend {
                operation: "txn",
                message: format!(
                    "{} does not begin with {}",
                    String::from_utf8_lossy(key),
                    String::from_utf8_lossy(&self.here)
                ),
            }),
        }
    }

    /// A key as etcd has it. One that has no place there is put where all that have come after or before it.
    fn key(&self, key: &Bytes) -> Bytes {
        match key.strip_prefix(&self.here[..]) {
            Some(_) if self.there == self.here => key.clone(),
            Some(rest) => [&self.there[..], rest].concat().into(),
            None if *key < self.here => self.there.clone(),
            None => prefix_end(&self.there),
        }
    }

    /// `[key, end)` in etcd: its spelling of "from the first key" and "to the last one" is `\0`.
    pub fn bounds(&self, key: &Bytes, end: &Bytes) -> (Bytes, Bytes) {
        let mut low = self.key(key);
        if low.is_empty() && !end.is_empty() {
            low = Bytes::from_static(&[0]);
        }
        let high = match &end[..] {
            [] => Bytes::new(),
            [0] => prefix_end(&self.there),
            _ => self.key(end),
        };
        (low, high)
    }

    /// A key without the prefix; nothing for one that does not have it.
    pub fn strip(&self, key: Vec<u8>) -> Option<Bytes> {
        let key = Bytes::from(key);
        let rest = key.strip_prefix(&self.there[..])?;
        Some(if self.here.is_empty() {
            key.slice(self.there.len()..)
        } else {
            [&self.here[..], rest].concat().into()
        })
    }

    fn key_value(&self, kv: proto::KeyValue) -> Option<KeyValue> {
        Some(KeyValue {
            key: self.strip(kv.key)?,
            value: kv.value.into(),
            create_revision: number(kv.create_revision),
            mod_revision: number(kv.mod_revision),
            version: number(kv.version),
            lease: kv.lease,
        })
    }

    pub fn range_request(&self, range: &Range) -> proto::RangeRequest {
        let (key, range_end) = self.bounds(&range.key, &range.end);
        proto::RangeRequest {
            key,
            range_end,
            limit: i64::try_from(range.limit).unwrap_or(i64::MAX),
            revision: to_i64(range.revision),
            keys_only: range.keys_only,
            count_only: range.count_only,
        }
    }

    pub fn range_response(&self, answer: proto::RangeResponse) -> RangeResponse {
        RangeResponse {
            kvs: answer
                .kvs
                .into_iter()
                .filter_map(|kv| self.key_value(kv))
                .collect(),
            more: answer.more,
            count: usize::try_from(answer.count).unwrap_or(0),
            revision: number(answer.header.map_or(0, |h| h.revision)),
        }
    }

    pub fn txn_request(&self, txn: &Txn) -> proto::TxnRequest {
        proto::TxnRequest {
            compare: txn.compares.iter().map(|c| self.compare(c)).collect(),
            success: txn.success.iter().map(|op| self.request(op)).collect(),
            failure: txn.failure.iter().map(|op| self.request(op)).collect(),
        }
    }

    fn compare(&self, c: &Compare) -> proto::Compare {
        let (target, to) = match &c.target {
            Target::Version(n) => (0, CompareTo::Version(to_i64(*n))),
            Target::CreateRevision(n) => (1, CompareTo::CreateRevision(to_i64(*n))),
            Target::ModRevision(n) => (2, CompareTo::ModRevision(to_i64(*n))),
            Target::Value(v) => (3, CompareTo::Value(v.clone())),
        };
        let result = match c.comparison {
            Comparison::Equal => 0,
            Comparison::Greater => 1,
            Comparison::Less => 2,
            Comparison::NotEqual => 3,
        };
        proto::Compare {
            result,
            target,
            key: self.key(&c.key),
            to: Some(to),
        }
    }

    fn request(&self, op: &Op) -> proto::RequestOp {
        let request = match op {
            Op::Put { key, value, lease } => Request::Put(proto::PutRequest {
                key: self.key(key),
                value: value.clone(),
                lease: *lease,
                prev_kv: true,
            }),
            Op::Delete { key } => Request::DeleteRange(proto::DeleteRangeRequest {
                key: self.key(key),
                range_end: Bytes::new(),
                prev_kv: true,
            }),
            Op::DeleteRange { key, end } => {
                let (key, range_end) = self.bounds(key, end);
                Request::DeleteRange(proto::DeleteRangeRequest {
                    key,
                    range_end,
                    prev_kv: true,
                })
            }
            Op::Get { key } => Request::Range(proto::RangeRequest {
                key: self.key(key),
                ..Default::default()
            }),
        };
        proto::RequestOp {
            request: Some(request),
        }
    }

    /// The answer to a transaction of which `ops` were carried out.
    pub fn txn_response(
        &self,
        answer: proto::TxnResponse,
        ops: &[Op],
    ) -> Result<TxnResponse, Error> {
        let odd = || Error::Backend {
            operation: "txn",
            message: "the answers do not fit the operations".into(),
        };
        if answer.responses.len() != ops.len() {
            return Err(odd());
        }
        let one = |r: proto::ResponseOp| match r.response? {
            Response::Put(r) => Some(OpResult::Put {
                before: r.prev_kv.and_then(|kv| self.key_value(kv)),
            }),
            Response::DeleteRange(r) => Some(OpResult::Deleted {
                before: r
                    .prev_kvs
                    .into_iter()
                    .filter_map(|kv| self.key_value(kv))
                    .collect(),
            }),
            Response::Range(r) => Some(OpResult::Got(
                r.kvs.into_iter().next().and_then(|kv| self.key_value(kv)),
            )),
        };
        let results = answer.responses.into_iter().map(|r| one(r).ok_or_else(odd));
        Ok(TxnResponse {
            succeeded: answer.succeeded,
            revision: number(answer.header.map_or(0, |h| h.revision)),
            results: results.collect::<Result<_, _>>()?,
        })
    }

    /// An event and its revision.
    pub fn event(&self, event: proto::Event) -> Option<(u64, Event)> {
        let kv = event.kv?;
        let revision = number(kv.mod_revision);
        let before = event.prev_kv.and_then(|kv| self.key_value(kv));
        let event = if event.kind == 1 {
            Event::Delete {
                key: self.strip(kv.key)?,
                revision,
                before,
            }
        } else {
            Event::Put {
                kv: self.key_value(kv)?,
                before,
            }
        };
        Some((revision, event))
    }
}

/// etcd's counts are never negative.
pub fn number(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Counts fit: they begin at 0 and grow by one.
pub fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
