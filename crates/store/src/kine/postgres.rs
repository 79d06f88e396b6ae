//! PostgreSQL: kine's table as its pgsql driver lays it out. Upstream: kine pkg/drivers/pgsql.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, NoTls, TlsConnect};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{AsyncMessage, Client, Connection, Statement};

use super::dsn::{Place, Source, TlsMode};
use super::net;
use super::session::{Dialect, Fault, Purpose, Session, Value};
use crate::error::Error;
use crate::limits;

/// Called when another process has committed.
pub type Poke = Arc<dyn Fn() + Send + Sync>;

pub const DIALECT: Dialect = Dialect {
    now: "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint",
    size: "SELECT pg_total_relation_size('kine')",
    // kine takes ids from the sequence, which must not fall behind ours.
    wrote: Some(
        "SELECT setval(pg_get_serial_sequence('kine', 'id'), CAST(? AS bigint)),
                pg_notify('k0s_kine', CAST(CAST(? AS bigint) AS text))",
    ),
    // A row of an index takes a third of a page.
    name_bytes: 2_600,
    encode,
    decode,
};

/// kine's own statements, so that either finds the other's table as it wants it.
const TABLE: &[&str] = &[
    r#"CREATE TABLE IF NOT EXISTS kine (id BIGSERIAL PRIMARY KEY, name text COLLATE "C", created INTEGER,
       deleted INTEGER, create_revision BIGINT, prev_revision BIGINT, lease INTEGER, value bytea,
       old_value bytea)"#,
    "CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name)",
    "CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name, id)",
    "CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON kine (id, deleted)",
    "CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON kine (prev_revision)",
    "CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision)",
    "CREATE INDEX IF NOT EXISTS kine_list_query_index ON kine (name, id DESC, deleted)",
    "CREATE TABLE IF NOT EXISTS k0s_number (name VARCHAR(64) PRIMARY KEY, value BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS k0s_lease (id BIGINT PRIMARY KEY, ttl_ms BIGINT NOT NULL,
       ends_ms BIGINT NOT NULL)",
    "INSERT INTO k0s_number VALUES ('lock', 0), ('cleaned', 0) ON CONFLICT DO NOTHING",
    "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value)
       SELECT 'compact_rev_key', 1, 0, 0, 0, 0, '', NULL
       WHERE NOT EXISTS (SELECT 1 FROM kine WHERE name = 'compact_rev_key')",
];

/// A table of an older kine sorts names as the host's language does, unless it was told otherwise.
const COLLATE: &str = r#"ALTER TABLE kine ALTER COLUMN name SET DATA TYPE TEXT COLLATE "C"
       USING name::TEXT COLLATE "C""#;

/// Columns that kine does not know and leaves NULL.
const COLUMNS: &[(&str, &str)] = &[
    ("k0s_version", "BIGINT"),
    ("k0s_position", "INTEGER"),
    ("k0s_lease", "BIGINT"),
];

/// Makes connections to PostgreSQL.
#[derive(Clone)]
pub struct Connector {
    source: Source,
    tls: Option<Arc<ClientConfig>>,
    word: i64,
    poke: Poke,
}

/// A connection.
struct Postgres {
    client: Client,
    purpose: Purpose,
    prepared: HashMap<String, Statement>,
}

// === Connector ===

impl Connector {
    pub fn new(source: Source, word: i64, poke: Poke) -> Result<Self, Error> {
        let tls = net::tls(&source.tls)?;
        Ok(Self {
            source,
            tls,
            word,
            poke,
        })
    }

    pub async fn connect(&self, purpose: Purpose) -> Result<Box<dyn Session>, Fault> {
        let client = self.client(&self.source.database).await?;
        let session = Postgres {
            client,
            purpose,
            prepared: HashMap::new(),
        };
        // Acknowledged is durable, whatever the server's default is; stricter ones are left alone.
        let mut setup = "SELECT set_config('synchronous_commit', 'on', false)
             WHERE current_setting('synchronous_commit') = 'off'"
            .to_string();
        if purpose == Purpose::Listen {
            setup.push_str("; LISTEN k0s_kine");
        }
        session.simple(&setup).await?;
        Ok(Box::new(session))
    }

    /// Makes the database where there is none.
    pub async fn create(&self) -> Result<(), Fault> {
        let name = &self.source.database;
        match self.client(name).await {
            Ok(_) => return Ok(()),
            Err(Fault::Refused(why)) if why.contains("does not exist") => {}
            Err(fault) => return Err(fault),
        }
        let client = self.client("postgres").await?;
        let sql = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
        match client.batch_execute(&sql).await {
            // Another server of the cluster was first.
            Err(e) if e.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(()),
            Err(e) if e.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(()),
            done => done.map_err(|e| fault(&e)),
        }
    }

    /// Connects to the first place that answers.
    async fn client(&self, database: &str) -> Result<Client, Fault> {
        let mut last = Fault::Lost("no address".into());
        for place in &self.source.places {
            let opened =
                tokio::time::timeout(self.source.connect_timeout, self.open(place, database));
            match opened.await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(fault)) => last = fault,
                Err(_) => last = Fault::Lost(format!("{place:?}: no answer in time")),
            }
        }
        Err(last)
    }

    async fn open(&self, place: &Place, database: &str) -> Result<Client, Fault> {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.source.user)
            .dbname(database)
            .application_name("k0s");
        if let Some(password) = &self.source.password {
            config.password(password);
        }
        config.options(options(&self.source.settings));
        match place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(|e| lost(path.display(), &e))?;
                config.ssl_mode(SslMode::Disable);
                let done = config.connect_raw(stream, NoTls).await;
                let (client, connection) = done.map_err(|e| fault(&e))?;
                self.drive(connection);
                Ok(client)
            }
            Place::Tcp(host, port) => {
                let stream = tcp(host, *port).await?;
                let Some(tls) = &self.tls else {
                    config.ssl_mode(SslMode::Disable);
                    let done = config.connect_raw(stream, NoTls).await;
                    let (client, connection) = done.map_err(|e| fault(&e))?;
                    self.drive(connection);
                    return Ok(client);
                };
                config.ssl_mode(match self.source.tls.mode {
                    TlsMode::Prefer => SslMode::Prefer,
                    _ => SslMode::Require,
                });
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|e| Fault::Refused(format!("{host}: {e}")))?;
                let connect = Rustls(tls.clone(), name);
                let done = config.connect_raw(stream, connect).await;
                let (client, connection) = done.map_err(|e| fault(&e))?;
                self.drive(connection);
                Ok(client)
            }
        }
    }

    /// Moves the connection's bytes until its client is dropped.
    fn drive<S, T>(&self, mut connection: Connection<S, T>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (own, poke) = (self.word.to_string(), self.poke.clone());
        tokio::spawn(async move {
            loop {
                let next = std::future::poll_fn(|cx| connection.poll_message(cx)).await;
                match next {
                    Some(Ok(AsyncMessage::Notification(n))) if n.payload() != own => poke(),
                    Some(Ok(_)) => {}
                    // Every call in flight is told of it.
                    Some(Err(_)) | None => return,
                }
            }
        });
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, Fault> {
    let mut last = Fault::Lost(format!("{host}: no address"));
    for ip in net::addresses(host).await.map_err(Fault::Lost)? {
        match TcpStream::connect((ip, port)).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(|e| lost(host, &e))?;
                return Ok(stream);
            }
            Err(e) => last = lost(format!("{host}:{port}"), &e),
        }
    }
    Err(last)
}

fn lost(what: impl std::fmt::Display, e: &std::io::Error) -> Fault {
    Fault::Lost(format!("{what}: {e}"))
}

/// Settings as the start of a session takes them.
fn options(settings: &[(String, String)]) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace(' ', "\\ ");
    let all = settings.iter();
    all.map(|(k, v)| format!("-c {}={}", quoted(k), quoted(v)))
        .collect::<Vec<_>>()
        .join(" ")
}

// === Postgres ===

impl Postgres {
    async fn simple(&self, sql: &str) -> Result<(), Fault> {
        self.client.batch_execute(sql).await.map_err(|e| fault(&e))
    }

    async fn statement(&mut self, sql: &str) -> Result<Statement, Fault> {
        if let Some(known) = self.prepared.get(sql) {
            return Ok(known.clone());
        }
        let made = self
            .client
            .prepare(&numbered(sql))
            .await
            .map_err(|e| fault(&e))?;
        if self.prepared.len() >= limits::SQL_STATEMENTS {
            self.prepared.clear();
        }
        self.prepared.insert(sql.into(), made.clone());
        Ok(made)
    }

    /// Renames what kine stored under names beyond ASCII, which `encode` spells otherwise.
    async fn rename(&mut self) -> Result<(), Fault> {
        let found = "SELECT id, name FROM kine WHERE name ~ '[^\\u0001-\\u007F]'";
        for row in self.query(found, &[]).await? {
            let Some(name) = row[1].bytes() else { continue };
            let values = [Value::Name(encode(&name)), row[0].clone()];
            self.query("UPDATE kine SET name = ? WHERE id = ?", &values)
                .await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Session for Postgres {
    async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>, Fault> {
        let statement = self.statement(sql).await?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
        let rows = self
            .client
            .query(&statement, &values)
            .await
            .map_err(|e| fault(&e))?;
        let read = |row: &tokio_postgres::Row| {
            let columns = 0..row.len();
            columns
                .map(|i| row.try_get::<_, Value>(i).map_err(|e| fault(&e)))
                .collect()
        };
        rows.iter().map(read).collect()
    }

    async fn begin(&mut self) -> Result<(), Fault> {
        self.simple(match self.purpose {
            Purpose::Write => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Purpose::Read | Purpose::Listen => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        })
        .await
    }

    async fn commit(&mut self) -> Result<(), Fault> {
        self.simple("COMMIT").await
    }

    async fn rollback(&mut self) -> Result<(), Fault> {
        self.simple("ROLLBACK").await
    }

    async fn prepare(&mut self) -> Result<(), Fault> {
        // Two servers that start at once must not both make the table; the number is nobody else's.
        self.simple("SELECT pg_advisory_lock(7242398651)").await?;
        for sql in TABLE {
            self.simple(sql).await?;
        }
        let column = "SELECT column_name::text FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = 'kine'";
        let known: Vec<_> = self.query(column, &[]).await?;
        let known: Vec<_> = known.iter().filter_map(|r| r[0].bytes()).collect();
        for (name, kind) in COLUMNS {
            if !known.iter().any(|k| &k[..] == name.as_bytes()) {
                self.simple(&format!("ALTER TABLE kine ADD COLUMN {name} {kind}"))
                    .await?;
            }
        }
        let sorted =
            "SELECT 1 FROM information_schema.columns WHERE table_schema = current_schema()
             AND table_name = 'kine' AND column_name = 'name' AND collation_name = 'C'";
        if self.query(sorted, &[]).await?.is_empty() {
            self.simple(COLLATE).await?;
        }
        self.simple(
            "CREATE INDEX IF NOT EXISTS k0s_lease_index ON kine (k0s_lease) WHERE k0s_lease IS NOT NULL",
        )
        .await?;
        self.rename().await?;
        self.simple("SELECT pg_advisory_unlock(7242398651)").await
    }
}

/// Parameters as PostgreSQL numbers them. No statement here has a `?` elsewhere.
fn numbered(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + 16);
    for (n, part) in sql.split('?').enumerate() {
        if n > 0 {
            out.push_str(&format!("${n}"));
        }
        out.push_str(part);
    }
    out
}

fn fault(e: &tokio_postgres::Error) -> Fault {
    let Some(db) = e.as_db_error() else {
        let told = match std::error::Error::source(e) {
            Some(cause) => format!("{e}: {cause}"),
            None => e.to_string(),
        };
        // A certificate does not get better by asking again.
        return if untrusted(e) {
            Fault::Refused(told)
        } else {
            Fault::Lost(told)
        };
    };
    let told = format!("{}: {}", db.code().code(), db.message());
    match db.code() {
        &SqlState::T_R_SERIALIZATION_FAILURE
        | &SqlState::T_R_DEADLOCK_DETECTED
        | &SqlState::UNIQUE_VIOLATION
        | &SqlState::LOCK_NOT_AVAILABLE => Fault::Again(told),
        &SqlState::DISK_FULL => Fault::Full,
        // Shutting down, starting up, too many connections, or a standby since a failover.
        code if ["57P", "08", "53300", "25006"]
            .iter()
            .any(|c| code.code().starts_with(c)) =>
        {
            Fault::Lost(told)
        }
        _ => Fault::Refused(told),
    }
}

/// Whether TLS refused the other side.
fn untrusted(e: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(e);
    while let Some(e) = cause {
        let inner = e
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        if e.is::<rustls::Error>() || inner.is_some_and(|e| e.is::<rustls::Error>()) {
            return true;
        }
        cause = e.source();
    }
    false
}

// === Names ===

/// PostgreSQL's text has no byte 0 and only whole characters of UTF-8, so the ends of ASCII introduce
/// what it lacks: order is kept, and names in ASCII are their keys.
fn encode(key: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(key.len());
    for b in key {
        match b {
            0 | 1 => out.extend([1, b + 1]),
            2..0x7f => out.push(*b),
            _ => {
                out.push(0x7f);
                out.extend(format!("{b:02x}").bytes());
            }
        }
    }
    out.into()
}

fn decode(name: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((b, more)) = rest.split_first() {
        rest = more;
        let hex = || {
            std::str::from_utf8(more.get(..2)?)
                .ok()
                .and_then(|h| u8::from_str_radix(h, 16).ok())
        };
        match (b, more.first(), hex()) {
            (1, Some(n @ (1 | 2)), _) => {
                out.push(n - 1);
                rest = &more[1..];
            }
            (0x7f, _, Some(byte)) => {
                out.push(byte);
                rest = &more[2..];
            }
            _ => out.push(*b),
        }
    }
    out.into()
}

// === Values ===

type Trouble = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Trouble> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(n) if *ty == Type::INT4 => i32::try_from(*n)?.to_sql(ty, out),
            Self::Int(n) => n.to_sql(ty, out),
            Self::Name(b) | Self::Blob(b) => (&b[..]).to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        [
            Type::INT4,
            Type::INT8,
            Type::TEXT,
            Type::VARCHAR,
            Type::BYTEA,
        ]
        .contains(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Trouble> {
        Ok(match *ty {
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::BYTEA => Self::Blob(Bytes::copy_from_slice(raw)),
            Type::VOID => Self::Null,
            _ => Self::Name(Bytes::copy_from_slice(raw)),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Trouble> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

// === TLS ===

/// Makes TLS over a stream.
struct Rustls(Arc<ClientConfig>, ServerName<'static>);

/// A stream within TLS.
struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S> TlsConnect<S> for Rustls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<Encrypted<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        let connector = tokio_rustls::TlsConnector::from(self.0);
        Box::pin(async move { connector.connect(self.1, stream).await.map(Encrypted) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_their_keys() {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let interesting = [
            0u8, 1, 2, b' ', b'/', b'0', b'a', 0x7e, 0x7f, 0x80, 0xc3, 0xff,
        ];
        for a in interesting {
            keys.push(vec![a]);
            for b in interesting {
                keys.push(vec![a, b]);
                keys.extend(interesting.map(|c| vec![a, b, c]));
            }
        }
        keys.sort();
        let names: Vec<Bytes> = keys.iter().map(|k| encode(k)).collect();
        assert!(names.windows(2).all(|w| w[0] < w[1]));
        for (key, name) in keys.iter().zip(&names) {
            assert_eq!(&decode(name)[..], &key[..]);
            assert!(std::str::from_utf8(name).is_ok_and(|n| !n.contains('\0')));
        }
        assert_eq!(
            &encode(b"/registry/pods/default/a")[..],
            b"/registry/pods/default/a"
        );
    }

    #[test]
    fn parameters_are_numbered() {
        assert_eq!(numbered("a = ? AND b = ?"), "a = $1 AND b = $2");
    }
}
