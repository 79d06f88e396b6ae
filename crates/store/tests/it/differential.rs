//! The same random calls to SQLite and to a real etcd: every answer, error, event and the hash of
//! the contents must be equal, revisions included.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::{
    Compare, Comparison, Error, Op, Range, RangeResponse, Store, Target, Txn, TxnResponse,
    WatchBatch,
};

/// Another one may be given in `$STORE_SEED`.
const SEED: u64 = 20_261_124;
const CALLS: usize = 1_200;
const KEYS: u32 = 24;

#[tokio::test(flavor = "multi_thread")]
async fn random_calls_have_equal_answers() {
    let Some(program) = super::etcd::program() else {
        return;
    };
    let server = super::etcd::Server::start(&program, None);
    let theirs = server.store("").await;
    let dir = tempfile::tempdir().expect("a directory");
    let ours = super::sqlite::open(&dir.path().join("state.db"));
    let seed = match std::env::var("STORE_SEED") {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => SEED,
    };
    let mut calls = Calls {
        random: StdRng::seed_from_u64(seed),
        newest: 1,
        compacted: 0,
        leases: Vec::new(),
    };
    assert_eq!(revision(&ours).await, revision(&theirs).await);
    for n in 0..CALLS {
        let call = calls.next();
        let (a, b) = (
            carry_out(&ours, &call).await,
            carry_out(&theirs, &call).await,
        );
        assert_eq!(a, b, "call {n} of seed {seed}: {call:?}");
        calls.note(&call, &a);
    }
    assert!(calls.compacted > 0 && calls.newest > CALLS as u64 / 8);
    let hash = ours.hash(0).await.expect("hash");
    assert_eq!(hash, theirs.hash(0).await.expect("hash"));
    ours.verify().await.expect("verify");
    // Whatever is left of history is the same for a watcher. What stood before the first events is
    // left out: what compaction took of that is each store's own affair.
    let (a, b) = (
        events(&ours, calls.compacted, calls.newest).await,
        events(&theirs, calls.compacted, calls.newest).await,
    );
    assert!(!a.is_empty());
    assert_eq!(a, b);
}

#[derive(Debug)]
enum Call {
    Txn(Txn),
    Range(Range),
    Compact(u64),
    Grant(i64),
    Revoke(i64),
    LeaseKeys(i64),
}

#[derive(Debug, PartialEq)]
enum Answer {
    Txn(TxnResponse),
    Range(RangeResponse),
    Keys(Vec<Bytes>),
    Done(u64),
    Failed(String),
}

struct Calls {
    random: StdRng,
    newest: u64,
    compacted: u64,
    leases: Vec<i64>,
}

impl Calls {
    fn next(&mut self) -> Call {
        match self.random.random_range(0..100) {
            0..60 => Call::Txn(self.txn()),
            60..92 => Call::Range(self.range()),
            92..94 => Call::Compact(self.revision()),
            94..96 => Call::Grant(self.random.random_range(1..30)),
            96..97 => Call::Revoke(self.lease()),
            _ => Call::LeaseKeys(self.lease()),
        }
    }

    fn note(&mut self, call: &Call, answer: &Answer) {
        match (call, answer) {
            (Call::Txn(_), Answer::Txn(r)) => self.newest = r.revision,
            (Call::Compact(at), Answer::Done(_)) => self.compacted = *at,
            (Call::Grant(id), Answer::Done(_)) => self.leases.push(*id),
            (Call::Revoke(id), Answer::Done(now)) => {
                self.leases.retain(|l| l != id);
                self.newest = *now;
            }
            _ => {}
        }
    }

    fn key(&mut self) -> Bytes {
        let n = self.random.random_range(0..KEYS);
        // Some keys are prefixes of others.
        match n % 3 {
            0 => format!("k{}", n / 3).into(),
            1 => format!("k{}/x", n / 3).into(),
            _ => vec![b'k', 0xff, (n / 3) as u8].into(),
        }
    }

    fn lease(&mut self) -> i64 {
        self.random.random_range(1..30)
    }

    /// Mostly one that exists.
    fn revision(&mut self) -> u64 {
        self.random.random_range(1..=self.newest + 1)
    }

    fn span(&mut self) -> (Bytes, Bytes) {
        match self.random.random_range(0..4) {
            0 => (self.key(), Bytes::new()),
            1 => (Bytes::new(), Bytes::from_static(&[0])),
            2 => {
                let key = self.key();
                let end = store::prefix_end(&key);
                (key, end)
            }
            _ => (self.key(), self.key()),
        }
    }

    fn range(&mut self) -> Range {
        let (key, end) = self.span();
        Range {
            key,
            end,
            limit: [0, 0, 1, 3][self.random.random_range(0..4)],
            revision: match self.random.random_range(0..3) {
                0 => self.revision(),
                _ => 0,
            },
            keys_only: self.random.random_bool(0.2),
            count_only: self.random.random_bool(0.1),
        }
    }

    fn txn(&mut self) -> Txn {
        let some = |c: &mut Self, most, make: fn(&mut Self) -> Op| -> Vec<Op> {
            (0..c.random.random_range(0..=most))
                .map(|_| make(c))
                .collect()
        };
        let compares = (0..self.random.random_range(0..=2))
            .map(|_| self.compare())
            .collect();
        Txn {
            compares,
            success: some(self, 4, Self::op),
            failure: some(self, 2, Self::op),
        }
    }

    fn compare(&mut self) -> Compare {
        let target = match self.random.random_range(0..4) {
            0 => Target::ModRevision(self.random.random_range(0..=self.newest)),
            1 => Target::CreateRevision(self.random.random_range(0..=self.newest)),
            2 => Target::Version(self.random.random_range(0..4)),
            _ => Target::Value(self.value()),
        };
        let comparison = [
            Comparison::Equal,
            Comparison::NotEqual,
            Comparison::Greater,
            Comparison::Less,
        ][self.random.random_range(0..4)];
        Compare {
            key: self.key(),
            target,
            comparison,
        }
    }

    fn value(&mut self) -> Bytes {
        self.random.random_range(0..5).to_string().into()
    }

    fn op(&mut self) -> Op {
        match self.random.random_range(0..10) {
            0..5 => Op::Put {
                key: self.key(),
                value: self.value(),
                lease: match self.random.random_range(0..6) {
                    0 => self.lease(),
                    1 if !self.leases.is_empty() => {
                        self.leases[self.random.random_range(0..self.leases.len())]
                    }
                    _ => 0,
                },
            },
            5..7 => Op::Delete { key: self.key() },
            7 => {
                let (key, end) = self.span();
                match end.is_empty() {
                    true => Op::Delete { key },
                    false => Op::DeleteRange { key, end },
                }
            }
            _ => Op::Get { key: self.key() },
        }
    }
}

async fn revision(s: &Store) -> u64 {
    s.revision().await.expect("revision")
}

async fn carry_out(s: &Store, call: &Call) -> Answer {
    let done = async {
        Ok::<_, Error>(match call {
            Call::Txn(txn) => Answer::Txn(s.txn(txn.clone()).await?),
            Call::Range(range) => Answer::Range(s.range(range.clone()).await?),
            Call::Compact(at) => {
                s.compact(*at).await?;
                Answer::Done(s.revision().await?)
            }
            Call::Grant(id) => {
                // Long enough not to end during the test.
                s.lease_grant(*id, Duration::from_secs(86_400)).await?;
                Answer::Done(s.revision().await?)
            }
            Call::Revoke(id) => {
                s.lease_revoke(*id).await?;
                Answer::Done(s.revision().await?)
            }
            Call::LeaseKeys(id) => Answer::Keys(s.lease_time_to_live(*id).await?.keys),
        })
    };
    done.await.unwrap_or_else(|e| Answer::Failed(e.to_string()))
}

async fn events(s: &Store, from: u64, until: u64) -> Vec<WatchBatch> {
    let mut watch = s.watch(Range::prefix(""), from).await.expect("watch");
    let mut all = Vec::new();
    while all.last().is_none_or(|b: &WatchBatch| b.revision < until) {
        let batch = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        all.push(batch.expect("in time").expect("more").expect("batch"));
    }
    for event in all.iter_mut().flat_map(|b| &mut b.events) {
        match event {
            store::Event::Put { before, .. } | store::Event::Delete { before, .. } => {
                before.take_if(|kv| kv.mod_revision <= from);
            }
        }
    }
    all
}
