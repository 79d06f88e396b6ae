//! MySQL and MariaDB: kine's table as its mysql driver lays it out, but for the type of `name`, which is
//! made VARBINARY: kine's ASCII text takes `A` for `a` and `a` for `a `, which are different keys. Upstream:
//! kine pkg/drivers/mysql.

use async_trait::async_trait;
use bytes::Bytes;
use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, Opts, OptsBuilder, Params, SslOpts};

use super::dsn::{Place, Source, TlsMode};
use super::net;
use super::session::{Dialect, Fault, Purpose, Session, Value};
use crate::error::Error;
use crate::limits;

pub const DIALECT: Dialect = Dialect {
    now: "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
    size: "SELECT CAST(SUM(data_length + index_length) AS SIGNED) FROM information_schema.TABLES
       WHERE table_schema = DATABASE() AND table_name = 'kine'",
    // An id of our choice moves the counter that kine takes ids from.
    wrote: None,
    name_bytes: NAME_BYTES,
    encode: Bytes::copy_from_slice,
    decode: Bytes::copy_from_slice,
};

/// As much as fits an index beside a number.
const NAME_BYTES: usize = 2_048;

/// The name of the lock under which tables are made.
const LOCK: &str = "k0s_kine";

const TABLE: &str = "CREATE TABLE IF NOT EXISTS kine (id BIGINT UNSIGNED AUTO_INCREMENT, name VARBINARY(2048),
  created INTEGER, deleted INTEGER, create_revision BIGINT UNSIGNED, prev_revision BIGINT UNSIGNED,
  lease INTEGER, value MEDIUMBLOB, old_value MEDIUMBLOB, k0s_version BIGINT, k0s_position INTEGER,
  k0s_lease BIGINT, PRIMARY KEY (id), INDEX kine_name_index (name), INDEX kine_name_id_index (name, id),
  INDEX kine_id_deleted_index (id, deleted), INDEX kine_prev_revision_index (prev_revision),
  UNIQUE INDEX kine_name_prev_revision_uindex (name, prev_revision), INDEX k0s_lease_index (k0s_lease))
  ENGINE = InnoDB";

const OWN: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS k0s_number (name VARCHAR(64) PRIMARY KEY, value BIGINT NOT NULL)
       ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS k0s_lease (id BIGINT PRIMARY KEY, ttl_ms BIGINT NOT NULL,
       ends_ms BIGINT NOT NULL) ENGINE = InnoDB",
    "INSERT IGNORE INTO k0s_number VALUES ('lock', 0), ('cleaned', 0)",
    "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value)
       SELECT 'compact_rev_key', 1, 0, 0, 0, 0, '', NULL FROM DUAL
       WHERE NOT EXISTS (SELECT 1 FROM kine WHERE name = 'compact_rev_key')",
];

/// What a table of kine lacks, by column.
const CHANGES: &[(&str, &str)] = &[
    ("k0s_version", "ADD COLUMN k0s_version BIGINT"),
    ("k0s_position", "ADD COLUMN k0s_position INTEGER"),
    (
        "k0s_lease",
        "ADD COLUMN k0s_lease BIGINT, ADD INDEX k0s_lease_index (k0s_lease)",
    ),
];

/// Makes connections to MySQL.
#[derive(Clone)]
pub struct Connector {
    source: Source,
    tls: Option<SslOpts>,
}

/// A connection.
struct MySql {
    conn: Conn,
    purpose: Purpose,
}

// === Connector ===

impl Connector {
    pub fn new(source: Source) -> Result<Self, Error> {
        let tls = ssl(&source)?;
        Ok(Self { source, tls })
    }

    pub async fn connect(&self, purpose: Purpose) -> Result<Box<dyn Session>, Fault> {
        let conn = self.conn(Some(&self.source.database)).await?;
        let mut session = MySql { conn, purpose };
        let level = match purpose {
            Purpose::Write => "READ COMMITTED",
            Purpose::Read | Purpose::Listen => "REPEATABLE READ",
        };
        session
            .simple(&format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}"))
            .await?;
        session.simple("SET SESSION autocommit = 1").await?;
        Ok(Box::new(session))
    }

    /// Makes the database where there is none.
    pub async fn create(&self) -> Result<(), Fault> {
        match self.conn(Some(&self.source.database)).await {
            Ok(_) => return Ok(()),
            Err(Fault::Refused(why)) if why.contains("Unknown database") => {}
            Err(fault) => return Err(fault),
        }
        let mut conn = self.conn(None).await?;
        let name = self.source.database.replace('`', "``");
        let sql = format!("CREATE DATABASE IF NOT EXISTS `{name}`");
        conn.query_drop(sql).await.map_err(|e| fault(&e))
    }

    async fn conn(&self, database: Option<&str>) -> Result<Conn, Fault> {
        match self.open(database, self.tls.clone()).await {
            Err(Fault::Refused(why)) if self.source.tls.mode == TlsMode::Prefer => {
                tracing::debug!(why, "the database is asked without TLS");
                self.open(database, None).await
            }
            done => done,
        }
    }

    async fn open(&self, database: Option<&str>, tls: Option<SslOpts>) -> Result<Conn, Fault> {
        let mut builder = OptsBuilder::default()
            .user(Some(self.source.user.clone()))
            .pass(self.source.password.clone())
            .db_name(database)
            .prefer_socket(false)
            .tcp_nodelay(true)
            .stmt_cache_size(limits::SQL_STATEMENTS)
            .init(settings(&self.source));
        let Some(place) = self.source.places.first() else {
            return Err(Fault::Refused("no address".into()));
        };
        builder = match place {
            Place::Unix(path) => builder.socket(Some(path.display().to_string())),
            Place::Tcp(host, port) => builder
                .ip_or_hostname(host.clone())
                .tcp_port(*port)
                .resolved_ips(Some(net::addresses(host).await.map_err(Fault::Lost)?))
                .ssl_opts(tls),
        };
        let made = Conn::new(Opts::from(builder));
        match tokio::time::timeout(self.source.connect_timeout, made).await {
            Ok(done) => done.map_err(|e| fault(&e)),
            Err(_) => Err(Fault::Lost(format!("{place:?}: no answer in time"))),
        }
    }
}

/// Numbers as they are, the rest as text.
fn settings(source: &Source) -> Vec<String> {
    let all = source.settings.iter();
    all.map(|(name, value)| match value.parse::<f64>() {
        Ok(_) => format!("SET SESSION {name} = {value}"),
        Err(_) => {
            let value = value
                .trim_matches('\'')
                .replace('\\', "\\\\")
                .replace('\'', "''");
            format!("SET SESSION {name} = '{value}'")
        }
    })
    .collect()
}

fn ssl(source: &Source) -> Result<Option<SslOpts>, Error> {
    let tls = &source.tls;
    if tls.mode == TlsMode::Disable {
        return Ok(None);
    }
    let mut made = SslOpts::default();
    match tls.mode {
        TlsMode::VerifyFull | TlsMode::Disable => {}
        TlsMode::VerifyCa => made = made.with_danger_skip_domain_validation(true),
        TlsMode::Require | TlsMode::Prefer => {
            made = made
                .with_danger_accept_invalid_certs(true)
                .with_danger_skip_domain_validation(true);
        }
    }
    if let Some(ca) = &tls.ca {
        made = made
            .with_root_certs(vec![net::read(ca)?.into()])
            .with_disable_built_in_roots(true);
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        let identity = ClientIdentity::new(net::read(cert)?.into(), net::read(key)?.into());
        made = made.with_client_identity(Some(identity));
    }
    Ok(Some(made))
}

// === MySql ===

impl MySql {
    async fn simple(&mut self, sql: &str) -> Result<(), Fault> {
        self.conn.query_drop(sql).await.map_err(|e| fault(&e))
    }

    async fn bring_up(&mut self) -> Result<(), Fault> {
        let columns = "SELECT column_name, data_type FROM information_schema.COLUMNS
             WHERE table_schema = DATABASE() AND table_name = 'kine'";
        let known = self.query(columns, &[]).await?;
        let text = |v: &Value| {
            v.bytes()
                .map(|b| String::from_utf8_lossy(&b).to_lowercase())
        };
        let known: Vec<_> = known.iter().map(|r| (text(&r[0]), text(&r[1]))).collect();
        if known.is_empty() {
            self.simple(TABLE).await?;
        }
        let mut changes = Vec::new();
        if known
            .iter()
            .any(|(n, t)| n.as_deref() == Some("name") && t.as_deref() != Some("varbinary"))
        {
            changes.push("MODIFY COLUMN name VARBINARY(2048)");
        }
        for (column, change) in CHANGES {
            if !known.is_empty() && !known.iter().any(|(n, _)| n.as_deref() == Some(*column)) {
                changes.push(change);
            }
        }
        if !changes.is_empty() {
            self.simple(&format!("ALTER TABLE kine {}", changes.join(", ")))
                .await?;
        }
        for sql in OWN {
            self.simple(sql).await?;
        }
        let lazy = "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit";
        if self
            .query(lazy, &[])
            .await?
            .first()
            .is_none_or(|r| r[0].int() != 1)
        {
            tracing::warn!(
                "innodb_flush_log_at_trx_commit is not 1: what the database acknowledges is not durable"
            );
        }
        Ok(())
    }
}

#[async_trait]
impl Session for MySql {
    async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>, Fault> {
        let values: Vec<mysql_async::Value> = values.iter().map(to_mysql).collect();
        let params = match values.is_empty() {
            true => Params::Empty,
            false => Params::Positional(values),
        };
        let rows: Vec<mysql_async::Row> =
            self.conn.exec(sql, params).await.map_err(|e| fault(&e))?;
        let read = |row: mysql_async::Row| row.unwrap().into_iter().map(of_mysql).collect();
        Ok(rows.into_iter().map(read).collect())
    }

    async fn begin(&mut self) -> Result<(), Fault> {
        match self.purpose {
            Purpose::Write => self.simple("START TRANSACTION").await,
            Purpose::Read | Purpose::Listen => self.simple("START TRANSACTION READ ONLY").await,
        }
    }

    async fn commit(&mut self) -> Result<(), Fault> {
        self.simple("COMMIT").await
    }

    async fn rollback(&mut self) -> Result<(), Fault> {
        self.simple("ROLLBACK").await
    }

    async fn prepare(&mut self) -> Result<(), Fault> {
        // Two servers that start at once must not both make the table.
        let lock = [Value::Name(Bytes::from_static(LOCK.as_bytes()))];
        let held = self.query("SELECT GET_LOCK(?, 60)", &lock).await?;
        if held.first().is_none_or(|r| r[0].int() != 1) {
            return Err(Fault::Again("another server is making the tables".into()));
        }
        self.bring_up().await?;
        self.query("SELECT RELEASE_LOCK(?)", &lock).await.map(drop)
    }
}

fn to_mysql(value: &Value) -> mysql_async::Value {
    match value {
        Value::Null => mysql_async::Value::NULL,
        Value::Int(n) => mysql_async::Value::Int(*n),
        Value::Name(b) | Value::Blob(b) => mysql_async::Value::Bytes(b.to_vec()),
    }
}

fn of_mysql(value: mysql_async::Value) -> Value {
    match value {
        mysql_async::Value::Int(n) => Value::Int(n),
        // Ids count changes: they fit.
        mysql_async::Value::UInt(n) => Value::Int(i64::try_from(n).unwrap_or(i64::MAX)),
        mysql_async::Value::Bytes(b) => Value::Blob(b.into()),
        _ => Value::Null,
    }
}

fn fault(e: &mysql_async::Error) -> Fault {
    let server = match e {
        mysql_async::Error::Server(server) => server,
        mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer) => {
            return Fault::Refused(e.to_string());
        }
        // A certificate does not get better by asking again.
        mysql_async::Error::Io(mysql_async::IoError::Tls(_)) => {
            return Fault::Refused(e.to_string());
        }
        _ => return Fault::Lost(e.to_string()),
    };
    let told = format!("{}: {}", server.code, server.message);
    match server.code {
        // A key that is there, a row that changed, a lock not had in time, a deadlock.
        1020 | 1062 | 1205 | 1213 => Fault::Again(told),
        1021 | 1114 => Fault::Full,
        // ENOSPC as the operating system tells it.
        1026 if told.contains("28") => Fault::Full,
        // Too many connections, shutting down, killed, not ready, read only since a failover.
        1040 | 1047 | 1053 | 1077 | 1290 | 1317 | 1836 | 1927 => Fault::Lost(told),
        _ => Fault::Refused(told),
    }
}
