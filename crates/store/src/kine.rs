//! The backend in a PostgreSQL or MySQL database, in the table that kine (k0s's and k3s's adapter) lays out, so
//! that a cluster's table is used in place. Upstream: kine pkg/logstructured, pkg/drivers.
//!
//! kine's table `kine` has a row for each change; its `id` is the revision, `name` the key, `prev_revision` the id of
//! the key's row before (a unique index on both is what makes a change compare-and-set), `created` and
//! `deleted` say what the change was, `lease` is a number of seconds to live, `old_value` the value before.
//! The row `compact_rev_key` keeps the compacted revision in `prev_revision`; a row `gap-N` stands where id N was
//! taken by a writer that gave up. What etcd has and this table lacks is kept so:
//!
//! - *Transactions of many operations*: rows with ids in a row, written by one transaction of the
//!   database; `k0s_position` counts them from 0. Their revision is the first one's id, so revisions have gaps.
//! - *Versions*: `k0s_version`. Rows that kine wrote have none: they count as the first where they create, else as
//!   the second.
//! - *Leases*: the table `k0s_lease` (lifetime, and end by the database's clock), `k0s_lease` on the rows. `lease`
//!   still says the seconds, so that kine ends them too. Rows of kine's live `lease` seconds from when they are seen.
//! - *One writer at a time*: each batch locks the row `lock` of the table `k0s_number`, then takes the ids after the
//!   table's last one. A kine that writes at the same time is refused by, or refuses, the unique indexes;
//!   the batch is then tried again on what is there.
//! - *A watch without gap*: rows are told in order of ids, and none before all before it are there. A
//!   missing one that does not come within a second is filled, as kine does, so that it never will.
//! - *A range at a revision*: of each name the newest row before the first row after that revision.
//!
//! kine ignores the columns and tables it does not know, so either may follow the other.

mod dsn;
mod expire;
mod follow;
mod mysql;
mod net;
mod plan;
mod postgres;
mod row;
mod session;
mod shared;
mod sql;
mod watching;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::backend::{Backend, WatchStream};
use crate::check;
use crate::error::Error;
use crate::limits;
use crate::types::{LeaseInfo, Op, Range, RangeResponse, Txn, TxnResponse};
use crate::work::{Reply, Work};
use session::{Connector, Dialect, Fault, Purpose, Session};
use shared::{Pause, Shared};
use sql::Last;
use writer::Writer;

/// Which database, and how to talk to it.
#[derive(Clone, Default)]
pub struct KineConfig {
    /// `postgres://…` or `mysql://…`, see `dsn`.
    pub data_source: String,
    /// kine's `--ca-file`, `--cert-file`, `--key-file`; as there, they ask for verified TLS unless the data source
    /// says otherwise.
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// A database as a store. Dropping it ends its connections after the write in flight.
pub struct Kine {
    shared: Arc<Shared>,
    work: mpsc::Sender<Work>,
    /// One compaction at a time.
    compaction: Mutex<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Kine {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

// === Kine ===

impl Kine {
    /// Whether a data source is one of this backend's.
    pub fn takes(data_source: &str) -> bool {
        dsn::parse(data_source).is_ok()
            || ["postgres://", "postgresql://", "mysql://"]
                .iter()
                .any(|scheme| data_source.starts_with(scheme))
    }

    /// Connects, makes the database and its tables where they are absent. Waits up to `limits::SQL_OPEN`
    /// for a database that is starting.
    pub async fn open(config: KineConfig) -> Result<Self, Error> {
        let source = source(config)?;
        let poke = Arc::new(Notify::new());
        let word = word();
        let called = poke.clone();
        let connector = Connector::new(source, word, Arc::new(move || called.notify_one()))?;
        let (last, compacted, mortal) = prepare(&connector).await?;
        tracing::info!(source = ?connector.source, revision = last.revision, "connected to the database");
        let shared = Arc::new(Shared::new(connector, poke, &last, compacted));
        mortal.iter().for_each(|row| shared.note(row));
        let (work, waiting) = mpsc::channel(limits::WRITE_QUEUE);
        // The writer ends by itself when its last sender is gone.
        tokio::spawn(Writer::new(shared.clone(), word).run(waiting));
        let tasks = vec![
            tokio::spawn(follow::follow(shared.clone())),
            tokio::spawn(expire::run(shared.clone(), work.downgrade())),
        ];
        Ok(Self {
            shared,
            work,
            compaction: Mutex::new(()),
            tasks,
        })
    }

    async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Work) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let sent = self.work.send(make(reply)).await;
        sent.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    fn check(&self, txn: &Txn) -> Result<(), Error> {
        check::txn(txn)?;
        let d = self.shared.dialect();
        for op in txn.success.iter().chain(&txn.failure) {
            if let Op::Put { key, .. } = op
                && (d.encode)(key).len() > d.name_bytes
            {
                return Err(Error::TooLarge("request is too large".into()));
            }
        }
        Ok(())
    }

    /// Notes a compaction, unless there is nothing to compact.
    async fn begin_compaction(&self, revision: u64) -> Result<(), Error> {
        let mut session = self.writing().await?;
        let s = &mut *session;
        let done = async {
            s.begin().await?;
            sql::lock(s).await?;
            let current = sql::last(s, self.shared.dialect()).await?.revision;
            let compact_revision = sql::compacted(s).await?;
            if revision > current {
                let asked = revision;
                return Ok(Err(Error::FutureRevision { asked, current }));
            }
            if revision <= compact_revision {
                return Ok(Err(Error::Compacted { compact_revision }));
            }
            sql::set_compacted(s, revision).await?;
            s.commit().await?;
            Ok(Ok(()))
        };
        let done = tokio::time::timeout(limits::SQL_CALL, done).await;
        let done: Result<_, Fault> = done.unwrap_or(Err(Fault::Lost("no answer in time".into())));
        done.map_err(|fault| fault.error("compact"))?
    }

    /// A connection of its own, for what is not the writer's.
    async fn writing(&self) -> Result<Box<dyn Session>, Error> {
        let made = self.shared.connector.connect(Purpose::Write).await;
        made.map_err(|fault| fault.error("connect"))
    }
}

/// The data source with the files of the configuration.
fn source(config: KineConfig) -> Result<dsn::Source, Error> {
    let mut source = dsn::parse(&config.data_source)?;
    let given = [&config.ca_file, &config.cert_file, &config.key_file];
    let word = ["sslmode=", "tls="]
        .iter()
        .any(|w| config.data_source.contains(w));
    if given.iter().any(|f| f.is_some()) && !word {
        source.tls.mode = dsn::TlsMode::VerifyFull;
    }
    source.tls.ca = source.tls.ca.or(config.ca_file);
    source.tls.cert = source.tls.cert.or(config.cert_file);
    source.tls.key = source.tls.key.or(config.key_file);
    Ok(source)
}

/// What tells this process from others on the same database.
fn word() -> i64 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new();
    let mut hasher = random.build_hasher();
    hasher.write_u32(std::process::id());
    (hasher.finish() >> 1).cast_signed()
}

/// Makes what is absent and reads where the table is.
async fn prepare(connector: &Connector) -> Result<(Last, u64, Vec<row::Row>), Error> {
    let deadline = Instant::now() + limits::SQL_OPEN;
    let mut pause = Pause::new();
    loop {
        let once = async {
            connector.create().await?;
            let mut session = connector.connect(Purpose::Write).await?;
            let s = &mut *session;
            s.prepare().await?;
            let mortal = sql::mortal(s, connector.dialect).await?;
            let last = sql::last(s, connector.dialect).await?;
            Ok::<_, Fault>((last, sql::compacted(s).await?, mortal))
        };
        match tokio::time::timeout_at(deadline, once).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(fault @ (Fault::Lost(_) | Fault::Again(_)))) if Instant::now() < deadline => {
                tracing::warn!(%fault, source = ?connector.source, "the database cannot be opened yet");
            }
            Ok(Err(fault)) => return Err(fault.error("open the database")),
            Err(_) => {
                let why = Fault::Lost("no answer in time".into());
                return Err(why.error("open the database"));
            }
        }
        pause.wait().await;
    }
}

/// Reads where the table is; nothing for a table in which rows are missing before its last one.
async fn settled(
    shared: &Shared,
    s: &mut dyn Session,
    d: &'static Dialect,
) -> Result<Result<Last, i64>, Fault> {
    let (last, whole) = shared.last(s, d).await?;
    Ok(if whole { Ok(last) } else { Err(last.id) })
}

#[async_trait]
impl Backend for Kine {
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        self.check(&txn)?;
        self.ask(|reply| Work::Txn(txn, reply)).await
    }

    async fn range(&self, range: Range) -> Result<RangeResponse, Error> {
        let deadline = Instant::now() + limits::SQL_CALL;
        loop {
            let (shared, asked) = (self.shared.clone(), range.clone());
            let once = self.shared.read("range", move |s, d| {
                let (shared, range) = (shared.clone(), asked.clone());
                async move {
                    match settled(&shared, s, d).await? {
                        Ok(last) => sql::range(s, d, &range, &last).await.map(Ok),
                        Err(missing) => Ok(Err(missing)),
                    }
                }
                .boxed()
            });
            match once.await? {
                Ok(answer) => return answer,
                Err(id) => self.wait(id, deadline).await?,
            }
        }
    }

    async fn watch(&self, range: Range, start_revision: u64) -> Result<WatchStream, Error> {
        let current = self.revision().await?;
        let compacted = self.shared.read("watch", |s, _| sql::compacted(s).boxed());
        let compact_revision = compacted.await?;
        if start_revision != 0 && start_revision < compact_revision {
            return Err(Error::Compacted { compact_revision });
        }
        let start = match start_revision {
            0 => current + 1,
            start => start,
        };
        watching::open(&self.shared, range, start)
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.shared.hub.request_progress();
        Ok(())
    }

    async fn revision(&self) -> Result<u64, Error> {
        if self.shared.hub.is_closed() {
            return Err(Error::Closed);
        }
        let deadline = Instant::now() + limits::SQL_CALL;
        loop {
            let shared = self.shared.clone();
            let once = self.shared.read("revision", move |s, d| {
                let shared = shared.clone();
                async move { settled(&shared, s, d).await }.boxed()
            });
            match once.await? {
                Ok(last) => return Ok(last.revision),
                Err(id) => self.wait(id, deadline).await?,
            }
        }
    }

    async fn lease_grant(&self, id: i64, ttl: Duration) -> Result<i64, Error> {
        self.ask(|reply| Work::LeaseGrant(id, ttl, reply)).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<Duration, Error> {
        self.ask(|reply| Work::LeaseKeepAlive(id, reply)).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), Error> {
        self.ask(|reply| Work::LeaseRevoke(id, reply)).await
    }

    async fn lease_time_to_live(&self, id: i64) -> Result<LeaseInfo, Error> {
        self.ask(|reply| Work::LeaseInfo(id, reply)).await
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        let _alone = self.compaction.lock().await;
        self.begin_compaction(revision).await?;
        self.shared.hub.set_compacted(revision);
        // Rows go only when watchers have been told of them.
        self.shared.reach(plan::to_i64(revision)).await?;
        let mut session = self.writing().await?;
        let s = &mut *session;
        let done = async {
            let mut next = Some(sql::cleaned(s).await?);
            while let Some(from) = next {
                s.begin().await?;
                next = sql::clean(s, from, revision).await?;
                s.commit().await?;
            }
            Ok(())
        };
        // What is left is taken by the next one.
        let done: Result<(), Fault> = done.await;
        done.map_err(|fault| fault.error("compact"))
    }

    async fn size(&self) -> Result<u64, Error> {
        let rows = self.shared.read("size", move |s, d| {
            async move { s.query(d.size, &[]).await }.boxed()
        });
        Ok(rows.await?.first().map_or(0, |r| r[0].int()).unsigned_abs())
    }

    async fn snapshot(&self, _: &Path) -> Result<u64, Error> {
        Err(Error::Backend {
            operation: "snapshot",
            message:
                "a PostgreSQL or MySQL database is saved by its own programs (pg_dump, mysqldump)"
                    .into(),
        })
    }

    async fn verify(&self) -> Result<(), Error> {
        match self
            .shared
            .read("verify", |s, _| sql::impossible(s).boxed())
            .await?
        {
            0 => Ok(()),
            n => Err(Error::Backend {
                operation: "verify",
                message: format!("{n} impossible rows of history"),
            }),
        }
    }
}

impl Kine {
    /// Waits for the rows before one.
    async fn wait(&self, id: i64, deadline: Instant) -> Result<(), Error> {
        self.shared.poke.notify_one();
        match tokio::time::timeout_at(deadline, self.shared.reach(id)).await {
            Ok(done) => done,
            Err(_) => Err(Error::Backend {
                operation: "read",
                message: "rows before the last one are missing".into(),
            }),
        }
    }
}
