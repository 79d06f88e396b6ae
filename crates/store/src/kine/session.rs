//! One connection to a database, whichever program answers, and what its SQL differs in.

use async_trait::async_trait;
use bytes::Bytes;

use super::dsn::{Kind, Source};
use super::{mysql, postgres};
use crate::error::Error;

/// A value of a column or of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Int(i64),
    /// Text in PostgreSQL.
    Name(Bytes),
    Blob(Bytes),
}

/// What went wrong with a statement.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is gone, or the server is about to go.
    Lost(String),
    /// Somebody else was in the way: the same again may work.
    Again(String),
    /// No room on its disk.
    Full,
    /// It never will.
    Refused(String),
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Transactions see one moment and write nothing.
    Read,
    /// Each statement sees what is committed when it begins.
    Write,
    /// As `Read`; it also hears of commits of other processes, where the program tells.
    Listen,
}

/// A connection.
#[async_trait]
pub trait Session: Send {
    /// Runs one statement with `?` for parameters; gives its rows.
    async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>, Fault>;

    /// Runs one statement without answer.
    async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<(), Fault> {
        self.query(sql, values).await.map(drop)
    }

    /// Begins a transaction of its purpose.
    async fn begin(&mut self) -> Result<(), Fault>;

    /// Ends it; durable on return.
    async fn commit(&mut self) -> Result<(), Fault>;

    /// Undoes it.
    async fn rollback(&mut self) -> Result<(), Fault>;

    /// Makes the table and what this store adds to it, or brings them to this layout.
    async fn prepare(&mut self) -> Result<(), Fault>;
}

/// The SQL that differs.
pub struct Dialect {
    /// The database's clock in milliseconds since 1970.
    pub now: &'static str,
    /// Bytes of the table.
    pub size: &'static str,
    /// Run after rows were written under ids of our choice, with the last of them and a word that tells
    /// this process from others.
    pub wrote: Option<&'static str>,
    /// Longest name.
    pub name_bytes: usize,
    /// A key as a name that sorts as the key does, and back.
    pub encode: fn(&[u8]) -> Bytes,
    pub decode: fn(&[u8]) -> Bytes,
}

/// Makes connections.
#[derive(Clone)]
pub struct Connector {
    pub source: Source,
    pub dialect: &'static Dialect,
    postgres: Option<postgres::Connector>,
    mysql: Option<mysql::Connector>,
}

// === Connector ===

impl Connector {
    /// Reads the certificates. `poke` is called when another process tells of a commit, `word` is what this
    /// process tells its own by.
    pub fn new(source: Source, word: i64, poke: postgres::Poke) -> Result<Self, Error> {
        let mut made = Self {
            source: source.clone(),
            dialect: match source.kind {
                Kind::Postgres => &postgres::DIALECT,
                Kind::MySql => &mysql::DIALECT,
            },
            postgres: None,
            mysql: None,
        };
        match source.kind {
            Kind::Postgres => {
                made.postgres = Some(postgres::Connector::new(source, word, poke)?);
            }
            Kind::MySql => made.mysql = Some(mysql::Connector::new(source)?),
        }
        Ok(made)
    }

    /// Connects.
    pub async fn connect(&self, purpose: Purpose) -> Result<Box<dyn Session>, Fault> {
        match (&self.postgres, &self.mysql) {
            (Some(c), _) => c.connect(purpose).await,
            (_, Some(c)) => c.connect(purpose).await,
            (None, None) => Err(Fault::Refused("no database program".into())),
        }
    }

    /// Makes the database where it is absent.
    pub async fn create(&self) -> Result<(), Fault> {
        match (&self.postgres, &self.mysql) {
            (Some(c), _) => c.create().await,
            (_, Some(c)) => c.create().await,
            (None, None) => Err(Fault::Refused("no database program".into())),
        }
    }
}

// === Fault ===

impl Fault {
    /// The store's error where nothing took effect.
    pub fn error(self, operation: &'static str) -> Error {
        match self {
            Self::Full => Error::NoSpace,
            Self::Lost(message) | Self::Again(message) | Self::Refused(message) => {
                Error::Backend { operation, message }
            }
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("no room on the database's disk"),
            Self::Lost(m) | Self::Again(m) | Self::Refused(m) => f.write_str(m),
        }
    }
}

// === Value ===

impl Value {
    /// A number; 0 for NULL, as kine reads it.
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            _ => 0,
        }
    }

    /// A number, if there is one.
    pub fn some(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// Bytes; none for NULL.
    pub fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Name(b) | Self::Blob(b) => Some(b.clone()),
            _ => None,
        }
    }
}
