//! What a transaction must be before any backend is asked to carry it out: within the bounds, and
//! no key written twice. The texts are etcd's.

use bytes::Bytes;

use crate::error::Error;
use crate::limits;
use crate::types::{Op, Range, Txn};

/// Refuses a transaction that passes a bound or writes a key twice.
pub fn txn(txn: &Txn) -> Result<(), Error> {
    if txn.compares.len() > limits::TXN_OPS {
        return Err(Error::TooLarge("too many operations in txn request".into()));
    }
    if txn.compares.iter().any(|c| c.key.is_empty()) {
        return Err(Error::TooLarge("key is not provided".into()));
    }
    list(&txn.success)?;
    list(&txn.failure)
}

/// Checks one list of operations.
fn list(ops: &[Op]) -> Result<(), Error> {
    if ops.len() > limits::TXN_OPS {
        return Err(Error::TooLarge("too many operations in txn request".into()));
    }
    let mut keys: Vec<&Bytes> = Vec::new();
    for op in ops {
        let (key, size) = match op {
            Op::Put { key, value, .. } => (key, value.len()),
            Op::Delete { key } | Op::DeleteRange { key, .. } | Op::Get { key } => (key, 0),
        };
        // A range of everything begins at the empty key.
        if key.is_empty() && !matches!(op, Op::DeleteRange { .. }) {
            return Err(Error::TooLarge("key is not provided".into()));
        }
        if key.len() > limits::KEY_BYTES || size > limits::VALUE_BYTES {
            return Err(Error::TooLarge("request is too large".into()));
        }
        if matches!(op, Op::Put { .. } | Op::Delete { .. }) {
            if keys.contains(&key) {
                return Err(Error::DuplicateKey);
            }
            keys.push(key);
        }
    }
    // As in etcd, a range that is deleted may not hold a key that the same list puts.
    for op in ops {
        if let Op::DeleteRange { key, end } = op {
            let range = Range {
                key: key.clone(),
                end: end.clone(),
                ..Range::default()
            };
            if keys.iter().any(|k| range.contains(k)) {
                return Err(Error::DuplicateKey);
            }
        }
    }
    Ok(())
}
