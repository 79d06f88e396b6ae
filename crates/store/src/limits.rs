//! Bounds of this crate.

use std::time::Duration;

/// Largest value, as etcd's default request size.
pub const VALUE_BYTES: usize = 3 << 19;
/// Longest key.
pub const KEY_BYTES: usize = 4 << 10;
/// Most operations of one transaction, as etcd's `--max-txn-ops`.
pub const TXN_OPS: usize = 128;
/// Transactions waiting for the writer; callers wait for room.
pub const WRITE_QUEUE: usize = 4_096;
/// Transactions that share one durable commit at most.
pub const GROUP_COMMIT: usize = 512;
/// How long a commit is put off at most for callers that are about to write.
pub const GROUP_WAIT: Duration = Duration::from_millis(2);
/// How often it is looked for them meanwhile: who comes does not have to wake the writer.
pub const GROUP_LOOK: Duration = Duration::from_micros(100);
/// Batches a live watcher may lag behind before it is cut off.
pub const WATCH_BATCHES: usize = 8_192;
/// Revisions read from history at a time.
pub const HISTORY_PAGE: usize = 1_000;
/// Read connections.
pub const READERS: usize = 4;
/// Live leases.
pub const LEASES: usize = 1_000_000;

/// Addresses of one etcd cluster.
pub const ETCD_ENDPOINTS: usize = 64;
/// Time for one call of etcd with its repeats.
pub const ETCD_CALL: Duration = Duration::from_secs(10);
/// How long etcd's machine may leave what was sent to it unacknowledged (TCP_USER_TIMEOUT).
pub const ETCD_SILENT: Duration = Duration::from_secs(2);
/// Keys asked of etcd at a time.
pub const ETCD_PAGE: usize = 1_000;
/// Largest answer of etcd: a page of the largest values.
pub const ETCD_ANSWER: usize = ETCD_PAGE * (VALUE_BYTES + KEY_BYTES + 64);
/// Largest request to etcd; a cluster may be set to take more than the default.
pub const ETCD_REQUEST: usize = TXN_OPS * (VALUE_BYTES + KEY_BYTES + 64);
/// Requests that wait on one watch's stream.
pub const ETCD_WATCH_REQUESTS: usize = 8;
/// Keys that `Store::hash` reads at a time.
pub const HASH_PAGE: usize = 1_000;
/// Largest SQLite file unless the owner says otherwise: etcd's largest advised quota.
pub const QUOTA_BYTES: u64 = 8 << 30;
/// Rows that compaction looks at between two commits.
pub const COMPACT_ROWS: i64 = 500;
/// Pages in the write-ahead log at which SQLite moves them to the file.
pub const WAL_CHECKPOINT_PAGES: i64 = 2_000;
/// What is kept of the write-ahead log's file when it is begun anew.
pub const WAL_KEPT_BYTES: i64 = 16 << 20;
/// Size at which the writer waits for readers so that the write-ahead log can be cut.
pub const WAL_BYTES: u64 = 64 << 20;
/// SQLite's page caches, of the writer and of each reader. The writer's is looked through as a whole whenever a commit
/// split a page.
pub const WRITER_CACHE_KIB: i64 = 2_048;
pub const READER_CACHE_KIB: i64 = 1_024;
/// Shortest time between two looks for leases that have ended.
pub const LEASE_TICK: Duration = Duration::from_millis(500);
/// Revisions of history that are kept at most, however young.
pub const HISTORY_REVISIONS: u64 = 500_000;
/// How long opening a file waits for its last owner to let go of it.
pub const OPEN_WAIT: Duration = Duration::from_secs(5);

/// Hosts of one data source.
pub const SQL_PLACES: usize = 16;
/// Time for one connection to a database.
pub const SQL_CONNECT: Duration = Duration::from_secs(5);
/// Time for one call of a database with its repeats.
pub const SQL_CALL: Duration = Duration::from_secs(10);
/// Time for one statement after which its connection is given up.
pub const SQL_STATEMENT: Duration = Duration::from_secs(30);
/// Time for the first connection and the tables: a database may be starting.
pub const SQL_OPEN: Duration = Duration::from_secs(60);
/// Connections that read.
pub const SQL_READERS: usize = 4;
/// Statements a connection keeps prepared.
pub const SQL_STATEMENTS: usize = 128;
/// Bytes of values that share one commit, and of one statement, unless a single one is larger.
pub const SQL_BATCH_BYTES: usize = 4 << 20;
/// Parameters or rows of one statement; a power of two.
pub const SQL_LIST: usize = 256;
/// Rows of history read at a time.
pub const SQL_PAGE: usize = 200;
/// How often other writers' rows are looked for where nobody tells of them.
pub const SQL_POLL: Duration = Duration::from_secs(1);
/// How long a missing row is waited for before its place is filled, as kine.
pub const SQL_GAP: Duration = Duration::from_secs(1);
/// More missing rows than this are no writers in flight.
pub const SQL_GAP_ROWS: i64 = 10_000;
/// How often the ends of other servers' leases are looked for.
pub const SQL_LEASES: Duration = Duration::from_secs(5);
/// Leases ended at a time.
pub const SQL_LEASES_ENDED: usize = 1_000;
