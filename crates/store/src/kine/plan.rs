//! What a batch of requests writes, given what the table holds: pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;

use super::row::{self, Row};
use crate::error::Error;
use crate::limits;
use crate::types::{KeyValue, LeaseInfo, Op, OpResult, Range, Txn, TxnResponse, WatchBatch};
use crate::work::{Outcome, Work};

/// A lease by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub ttl_ms: i64,
    pub ends_ms: i64,
}

/// What the requests need to know of the table.
#[derive(Debug, Default)]
pub struct View {
    /// The newest row of each key, deletions too.
    pub rows: BTreeMap<Bytes, Row>,
    pub leases: HashMap<i64, Lease>,
    /// The table's last row and its revision.
    pub last: i64,
    pub revision: u64,
    pub now_ms: i64,
}

/// A row to write, and the value it replaces.
#[derive(Debug)]
pub struct Write {
    pub row: Row,
    pub old: Option<Bytes>,
}

/// What is to be done.
#[derive(Default)]
pub struct Plan {
    pub writes: Vec<Write>,
    /// Leases as they will be; nothing for those that end.
    pub leases: BTreeMap<i64, Option<Lease>>,
    pub outcomes: Vec<Result<Outcome, Error>>,
    pub batches: Vec<WatchBatch>,
}

impl Plan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.leases.is_empty()
    }
}

/// What requests touch.
#[derive(Debug, Default)]
pub struct Needs {
    pub keys: Vec<Bytes>,
    pub ranges: Vec<Range>,
    pub leases: Vec<i64>,
    /// Leases whose keys are needed too.
    pub leased: Vec<i64>,
    /// Whether leases that have ended are to go.
    pub ended: bool,
}

impl Needs {
    /// Of a batch.
    pub fn of(batch: &[Work]) -> Self {
        let mut needs = Self::default();
        for work in batch {
            match work {
                Work::Txn(txn, _) => needs.txn(txn),
                Work::LeaseGrant(id, ..) | Work::LeaseKeepAlive(id, _) => needs.leases.push(*id),
                Work::LeaseRevoke(id, _) | Work::LeaseInfo(id, _) => {
                    needs.leases.push(*id);
                    needs.leased.push(*id);
                }
                Work::Tick => needs.ended = true,
                Work::Compact(..) => {}
            }
        }
        needs.keys.sort();
        needs.keys.dedup();
        needs.leases.sort_unstable();
        needs.leases.dedup();
        needs
    }

    fn txn(&mut self, txn: &Txn) {
        self.keys.extend(txn.compares.iter().map(|c| c.key.clone()));
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Put { key, lease, .. } => {
                    self.keys.push(key.clone());
                    if *lease != 0 {
                        self.leases.push(*lease);
                    }
                }
                Op::Delete { key } | Op::Get { key } => self.keys.push(key.clone()),
                Op::DeleteRange { key, end } => self.ranges.push(span(key, end)),
            }
        }
    }
}

fn span(key: &Bytes, end: &Bytes) -> Range {
    Range {
        key: key.clone(),
        end: end.clone(),
        ..Range::default()
    }
}

/// Carries out a batch on a view of the table.
pub fn evaluate(view: View, batch: &[Work]) -> Plan {
    let mut state = State {
        view,
        plan: Plan::default(),
        first: 0,
    };
    for work in batch {
        let outcome = state.carry_out(work);
        state.plan.outcomes.push(outcome);
    }
    state.plan
}

/// The table as it becomes.
struct State {
    view: View,
    plan: Plan,
    /// The id of the first row of the transaction under way; 0 before it.
    first: i64,
}

impl State {
    fn carry_out(&mut self, work: &Work) -> Result<Outcome, Error> {
        match work {
            Work::Txn(txn, _) => self.txn(txn).map(Outcome::Txn),
            Work::LeaseGrant(id, ttl, _) => self.grant(*id, *ttl).map(Outcome::Lease),
            Work::LeaseKeepAlive(id, _) => {
                let lease = *self.view.leases.get(id).ok_or(Error::LeaseNotFound)?;
                let ends_ms = self.view.now_ms + lease.ttl_ms;
                self.set_lease(*id, Some(Lease { ends_ms, ..lease }));
                Ok(Outcome::Lifetime(millis(lease.ttl_ms)))
            }
            Work::LeaseRevoke(id, _) => {
                self.view.leases.get(id).ok_or(Error::LeaseNotFound)?;
                self.end_lease(*id);
                Ok(Outcome::Done)
            }
            Work::LeaseInfo(id, _) => {
                let lease = *self.view.leases.get(id).ok_or(Error::LeaseNotFound)?;
                Ok(Outcome::Info(LeaseInfo {
                    granted: millis(lease.ttl_ms),
                    left: millis((lease.ends_ms - self.view.now_ms).max(0)),
                    keys: self.leased(*id),
                }))
            }
            Work::Tick => {
                let now = self.view.now_ms;
                let leases = self.view.leases.iter();
                let ended = leases.filter(|(_, l)| l.ends_ms <= now).map(|(id, _)| *id);
                for id in ended.collect::<Vec<_>>() {
                    self.end_lease(id);
                }
                Ok(Outcome::Done)
            }
            // Carried out elsewhere.
            Work::Compact(..) => Ok(Outcome::Done),
        }
    }

    fn grant(&mut self, id: i64, ttl: Duration) -> Result<i64, Error> {
        if id != 0 && self.view.leases.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        let mut id = id;
        // No table is near so many rows; kine's leases, which are seconds, are far below.
        let mut candidate = (self.view.last.max(1)) << 20;
        while id == 0 {
            candidate += 1;
            if !self.view.leases.contains_key(&candidate) {
                id = candidate;
            }
        }
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX / 2);
        let ends_ms = self.view.now_ms + ttl_ms;
        self.set_lease(id, Some(Lease { ttl_ms, ends_ms }));
        Ok(id)
    }

    fn set_lease(&mut self, id: i64, lease: Option<Lease>) {
        match lease {
            Some(lease) => self.view.leases.insert(id, lease),
            None => self.view.leases.remove(&id),
        };
        self.plan.leases.insert(id, lease);
    }

    fn leased(&self, id: i64) -> Vec<Bytes> {
        let rows = self.view.rows.values();
        rows.filter(|r| !r.deleted && r.lease == Some(id))
            .map(|r| r.key.clone())
            .collect()
    }

    fn end_lease(&mut self, id: i64) {
        self.begin();
        for key in self.leased(id) {
            self.delete(&key);
        }
        self.set_lease(id, None);
    }

    /// The key as it is, unless it is not there.
    fn now(&self, key: &Bytes) -> Option<KeyValue> {
        self.view.rows.get(key).and_then(Row::kv)
    }

    fn begin(&mut self) {
        self.first = self.view.last + 1;
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnResponse, Error> {
        let holds = |c: &crate::Compare| c.holds(self.now(&c.key).as_ref());
        let succeeded = txn.compares.iter().all(holds);
        let ops = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        // Everything that can be refused is refused before the first write.
        for op in ops {
            match op {
                Op::Put { lease, .. } if *lease != 0 && !self.view.leases.contains_key(lease) => {
                    return Err(Error::LeaseNotFound);
                }
                Op::Put { key, .. } if key == row::COMPACT => {
                    return Err(Error::Backend {
                        operation: "txn",
                        message: "compact_rev_key is a row of the store itself".into(),
                    });
                }
                _ => {}
            }
        }
        self.begin();
        let results = ops.iter().map(|op| self.op(op)).collect();
        Ok(TxnResponse {
            succeeded,
            revision: self.view.revision,
            results,
        })
    }

    fn op(&mut self, op: &Op) -> OpResult {
        match op {
            Op::Put { key, value, lease } => OpResult::Put {
                before: self.put(key, value, *lease),
            },
            Op::Delete { key } => OpResult::Deleted {
                before: self.delete(key).into_iter().collect(),
            },
            Op::DeleteRange { key, end } => {
                let range = span(key, end);
                let from = self.view.rows.range(key.clone()..);
                let keys: Vec<Bytes> = from
                    .map(|(k, _)| k)
                    .filter(|k| range.contains(k))
                    .cloned()
                    .collect();
                OpResult::Deleted {
                    before: keys.iter().filter_map(|k| self.delete(k)).collect(),
                }
            }
            Op::Get { key } => OpResult::Got(self.now(key)),
        }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, lease: i64) -> Option<KeyValue> {
        let before = self.view.rows.get(key);
        let (previous, live) = before.map_or((0, None), |r| (r.id, Some(r).filter(|r| !r.deleted)));
        let ttl_ms = self.view.leases.get(&lease).map_or(0, |l| l.ttl_ms);
        let row = Row {
            id: 0,
            key: key.clone(),
            created: live.is_none(),
            deleted: false,
            create_revision: live.map_or(0, |r| to_i64(r.created_at())),
            previous,
            ttl: ((ttl_ms + 999) / 1000).min(i64::from(i32::MAX)),
            version: Some(live.map_or(1, |r| r.version() + 1)),
            position: 0,
            lease: (lease != 0).then_some(lease),
            value: value.clone(),
        };
        let before = live.and_then(Row::kv);
        self.write(row, before.clone());
        before
    }

    fn delete(&mut self, key: &Bytes) -> Option<KeyValue> {
        let live = self.view.rows.get(key).filter(|r| !r.deleted)?;
        let before = live.kv();
        let row = Row {
            id: 0,
            key: key.clone(),
            created: false,
            deleted: true,
            create_revision: 0,
            previous: live.id,
            ttl: 0,
            version: None,
            position: 0,
            lease: None,
            value: Bytes::new(),
        };
        self.write(row, before.clone());
        before
    }

    /// Appends a row to the transaction under way.
    fn write(&mut self, mut row: Row, before: Option<KeyValue>) {
        row.id = self.view.last + 1;
        row.position = row.id - self.first;
        self.view.last = row.id;
        self.view.revision = row.revision();
        let old = before.as_ref().map(|kv| kv.value.clone());
        row::gather(&mut self.plan.batches, &row, before);
        self.view.rows.insert(row.key.clone(), row.clone());
        self.plan.writes.push(Write { row, old });
    }
}

/// How much a request weighs in a batch.
pub fn weight(work: &Work) -> usize {
    let Work::Txn(txn, _) = work else { return 0 };
    let ops = txn.success.iter().chain(&txn.failure);
    ops.map(|op| match op {
        Op::Put { value, .. } => value.len(),
        // What a range holds is not known yet.
        Op::DeleteRange { .. } => limits::SQL_BATCH_BYTES,
        _ => 0,
    })
    .sum()
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

/// Revisions fit: they are ids of rows.
pub fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Compare;
    use tokio::sync::oneshot;

    fn b(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn put(key: &str, value: &str, lease: i64) -> Op {
        Op::Put {
            key: b(key),
            value: b(value),
            lease,
        }
    }

    fn txn(compares: Vec<Compare>, success: Vec<Op>) -> Work {
        let txn = Txn {
            compares,
            success,
            failure: Vec::new(),
        };
        Work::Txn(txn, oneshot::channel().0)
    }

    /// A row as kine writes it.
    fn kine(id: i64, key: &str, previous: i64, deleted: bool) -> Row {
        Row {
            id,
            key: b(key),
            created: previous == 0,
            deleted,
            create_revision: if previous == 0 { 0 } else { previous },
            previous,
            ttl: 0,
            version: None,
            position: 0,
            lease: None,
            value: b("kine"),
        }
    }

    fn view(rows: Vec<Row>) -> View {
        let last = rows.iter().map(|r| r.id).max().unwrap_or(1);
        View {
            rows: rows.into_iter().map(|r| (r.key.clone(), r)).collect(),
            last,
            revision: last.unsigned_abs(),
            now_ms: 1_000_000,
            ..View::default()
        }
    }

    #[test]
    fn rows_of_one_batch_follow_one_another() {
        let batch = [
            txn(
                vec![Compare::absent("a")],
                vec![put("a", "1", 0), put("b", "1", 0)],
            ),
            txn(vec![Compare::unchanged("a", 8)], vec![put("a", "2", 0)]),
            txn(vec![Compare::unchanged("a", 8)], vec![put("a", "3", 0)]),
            txn(
                vec![],
                vec![Op::DeleteRange {
                    key: b("a"),
                    end: b("c"),
                }],
            ),
        ];
        let plan = evaluate(view(vec![kine(7, "z", 0, false)]), &batch);
        let rows: Vec<_> = plan
            .writes
            .iter()
            .map(|w| (w.row.id, w.row.position, w.row.previous, w.row.deleted))
            .collect();
        let expected = [
            (8, 0, 0, false),
            (9, 1, 0, false),
            (10, 0, 8, false),
            (11, 0, 10, true),
            (12, 1, 9, true),
        ];
        assert_eq!(rows, expected);
        let revisions: Vec<_> = plan
            .outcomes
            .iter()
            .map(|o| match o {
                Ok(Outcome::Txn(t)) => (t.succeeded, t.revision),
                _ => panic!("no transaction"),
            })
            .collect();
        assert_eq!(revisions, [(true, 8), (true, 10), (false, 10), (true, 11)]);
        let batches: Vec<_> = plan
            .batches
            .iter()
            .map(|b| (b.revision, b.events.len()))
            .collect();
        assert_eq!(batches, [(8, 2), (10, 1), (11, 2)]);
        assert_eq!(plan.writes[2].old, Some(b("1")));
    }

    #[test]
    fn kines_rows_are_gone_on_from() {
        let rows = vec![
            kine(5, "a", 0, false),
            kine(6, "gone", 3, true),
            kine(9, "c", 2, false),
        ];
        let batch = [txn(
            vec![
                Compare::unchanged("a", 5),
                Compare::absent("gone"),
                Compare::unchanged("c", 9),
            ],
            vec![put("a", "x", 0), put("gone", "x", 0), put("c", "x", 0)],
        )];
        let plan = evaluate(view(rows), &batch);
        let rows: Vec<_> = plan
            .writes
            .iter()
            .map(|w| {
                (
                    w.row.created,
                    w.row.create_revision,
                    w.row.previous,
                    w.row.version,
                )
            })
            .collect();
        let expected = [
            (false, 5, 5, Some(2)),
            (true, 0, 6, Some(1)),
            (false, 2, 9, Some(3)),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn leases_live_by_the_databases_clock() {
        let grant = |id| Work::LeaseGrant(id, Duration::from_millis(1_500), oneshot::channel().0);
        let batch = [
            grant(77),
            grant(77),
            txn(vec![], vec![put("a", "1", 77), put("b", "1", 77)]),
            txn(vec![], vec![put("b", "2", 0)]),
            txn(vec![], vec![put("c", "1", 78)]),
            Work::LeaseInfo(77, oneshot::channel().0),
            Work::LeaseRevoke(77, oneshot::channel().0),
        ];
        let plan = evaluate(view(vec![]), &batch);
        assert!(matches!(plan.outcomes[1], Err(Error::LeaseExists)));
        assert!(matches!(plan.outcomes[4], Err(Error::LeaseNotFound)));
        match &plan.outcomes[5] {
            Ok(Outcome::Info(info)) => assert_eq!(info.keys, ["a"]),
            _ => panic!("no lease"),
        }
        // kine knows whole seconds.
        assert_eq!((plan.writes[0].row.ttl, plan.writes[2].row.ttl), (2, 0));
        assert_eq!(plan.leases.get(&77), Some(&None));
        let last = &plan.writes.last().expect("some").row;
        assert!(last.deleted && last.key == "a");
    }
}
