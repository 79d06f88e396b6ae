//! Data sources as kine spells them: `postgres://user:password@host:port/database?sslmode=…` (pgx's URL) and
//! `mysql://user:password@tcp(host:port)/database?tls=…` (the DSN of Go's MySQL driver). Upstream: kine
//! pkg/drivers/{pgsql,mysql}.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;
use crate::limits;

/// The database where a data source names none.
const DATABASE: &str = "kubernetes";

/// Which program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MySql,
}

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// How much of TLS is asked for; libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    /// Encrypted where the server can, by whatever certificate.
    Prefer,
    /// Encrypted, by whatever certificate.
    Require,
    /// The certificate must be signed by a known authority.
    VerifyCa,
    /// And be that of the host.
    VerifyFull,
}

/// TLS of the connections, with files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub mode: TlsMode,
    /// Authorities; without, those of the web.
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// What a data source says.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    pub kind: Kind,
    /// Tried in order.
    pub places: Vec<Place>,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    pub tls: Tls,
    pub connect_timeout: Duration,
    /// Settings of the session.
    pub settings: Vec<(String, String)>,
}

impl std::fmt::Debug for Source {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}/{}", self.kind, self.places, self.database)
    }
}

/// Reads a data source.
pub fn parse(text: &str) -> Result<Source, Error> {
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| bad("expected <scheme>://<address>"))?;
    let source = match scheme {
        "postgres" | "postgresql" => postgres(rest)?,
        "mysql" => mysql(rest)?,
        other => return Err(bad(&format!("unknown driver {other}"))),
    };
    if source.tls.cert.is_some() != source.tls.key.is_some() {
        return Err(bad("a client certificate and its key are given together"));
    }
    if source.places.is_empty() || source.places.len() > limits::SQL_PLACES {
        return Err(bad("no host or too many"));
    }
    Ok(source)
}

/// What never comes from the text itself: a password may be in it.
fn bad(why: &str) -> Error {
    Error::Backend {
        operation: "read the data source",
        message: why.into(),
    }
}

fn empty(kind: Kind) -> Source {
    Source {
        kind,
        places: Vec::new(),
        user: String::new(),
        password: None,
        database: String::new(),
        tls: Tls {
            mode: TlsMode::Disable,
            ca: None,
            cert: None,
            key: None,
        },
        connect_timeout: limits::SQL_CONNECT,
        settings: Vec::new(),
    }
}

// === PostgreSQL ===

fn postgres(rest: &str) -> Result<Source, Error> {
    let rest = if rest.is_empty() {
        "postgres:postgres@localhost/"
    } else {
        rest
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut source = empty(Kind::Postgres);
    source.tls.mode = TlsMode::Prefer;
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (login, None),
    };
    source.user = decoded(user)?;
    source.password = password;
    // kine folds the name, as an unquoted one is folded in SQL.
    source.database = decoded(path)?.to_lowercase();
    let mut hosts: Vec<(String, Option<u16>)> = hosts
        .split(',')
        .filter(|h| !h.is_empty())
        .map(|h| {
            let (host, port) = host_port(h)?;
            Ok((decoded(host)?, port))
        })
        .collect::<Result<_, Error>>()?;
    let mut port = 5432;
    let mut root_is_given = false;
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        match name.as_str() {
            "host" => hosts = value.split(',').map(|h| (h.to_string(), None)).collect(),
            "port" => port = number(&value)?,
            "user" => source.user = value,
            "password" => source.password = Some(value),
            "dbname" | "database" => source.database = value,
            "sslmode" => source.tls.mode = ssl_mode(&value)?,
            "sslrootcert" => {
                root_is_given = true;
                // libpq's word for the authorities of the web.
                source.tls.ca = (value != "system").then(|| value.into());
            }
            "sslcert" => source.tls.cert = Some(value.into()),
            "sslkey" => source.tls.key = Some(value.into()),
            "connect_timeout" => source.connect_timeout = Duration::from_secs(number(&value)?),
            _ => source.settings.push((name, value)),
        }
    }
    // As in libpq, a root certificate is there to be used.
    if root_is_given && source.tls.mode == TlsMode::Require {
        source.tls.mode = TlsMode::VerifyCa;
    }
    if source.user.is_empty() {
        source.user = "postgres".into();
    }
    if source.database.is_empty() {
        source.database = DATABASE.into();
    }
    if hosts.is_empty() {
        hosts.push(("localhost".into(), None));
    }
    for (host, own) in hosts {
        let port = own.unwrap_or(port);
        source.places.push(if host.starts_with('/') {
            Place::Unix(PathBuf::from(host).join(format!(".s.PGSQL.{port}")))
        } else {
            Place::Tcp(host, port)
        });
    }
    Ok(source)
}

fn ssl_mode(word: &str) -> Result<TlsMode, Error> {
    Ok(match word {
        "disable" => TlsMode::Disable,
        // Which of the two is tried first makes no difference to what is accepted.
        "allow" | "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        other => return Err(bad(&format!("unknown sslmode {other:?}"))),
    })
}

// === MySQL ===

fn mysql(rest: &str) -> Result<Source, Error> {
    let rest = if rest.is_empty() {
        "root@unix(/var/run/mysqld/mysqld.sock)/"
    } else {
        rest
    };
    // The last slash ends the address: passwords and socket paths have slashes of their own.
    let (head, query) = match rest.rfind('?') {
        Some(at) if rest[at..].find('/').is_none() => (&rest[..at], &rest[at + 1..]),
        _ => (rest, ""),
    };
    let (address, database) = head
        .rsplit_once('/')
        .ok_or_else(|| bad("missing the slash separating the database name"))?;
    let (login, net) = address.rsplit_once('@').unwrap_or(("", address));
    let mut source = empty(Kind::MySql);
    // Nothing of it is percent-encoded but the database.
    match login.split_once(':') {
        Some((user, password)) => {
            source.user = user.into();
            source.password = Some(password.into());
        }
        None => source.user = login.into(),
    }
    source.database = match decoded(database)? {
        none if none.is_empty() => DATABASE.into(),
        name => name,
    };
    let (net, place) = match net.split_once('(') {
        Some((net, place)) => {
            let place = place.strip_suffix(')');
            (
                net,
                place.ok_or_else(|| bad("network address not terminated"))?,
            )
        }
        None => (net, ""),
    };
    source.places.push(match net {
        "" | "tcp" | "tcp4" | "tcp6" => {
            let place = if place.is_empty() { "127.0.0.1" } else { place };
            let (host, port) = host_port(place)?;
            Place::Tcp(host.into(), port.unwrap_or(3306))
        }
        "unix" if place.is_empty() => Place::Unix("/tmp/mysql.sock".into()),
        "unix" => Place::Unix(place.into()),
        other => return Err(bad(&format!("default addr for network '{other}' unknown"))),
    });
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        mysql_option(&mut source, name, decoded(value)?)?;
    }
    Ok(source)
}

fn mysql_option(source: &mut Source, name: &str, value: String) -> Result<(), Error> {
    match name {
        "tls" => {
            source.tls.mode = match value.to_lowercase().as_str() {
                "true" | "1" => TlsMode::VerifyFull,
                "false" | "0" | "" => TlsMode::Disable,
                "skip-verify" => TlsMode::Require,
                "preferred" => TlsMode::Prefer,
                other => {
                    return Err(bad(&format!(
                        "invalid value / unknown config name: {other}"
                    )));
                }
            }
        }
        "timeout" => {
            let timeout = value
                .strip_suffix("ms")
                .map(|n| n.parse().map(Duration::from_millis))
                .or_else(|| {
                    value
                        .strip_suffix('s')
                        .map(|n| n.parse().map(Duration::from_secs))
                });
            match timeout {
                Some(Ok(timeout)) => source.connect_timeout = timeout,
                _ => {
                    return Err(bad(
                        "timeout: expected seconds (5s) or milliseconds (500ms)",
                    ));
                }
            }
        }
        // How Go's driver shows values to its program; there is nothing to show here.
        "allowAllFiles"
        | "allowCleartextPasswords"
        | "allowFallbackToPlaintext"
        | "allowNativePasswords"
        | "allowOldPasswords"
        | "charset"
        | "checkConnLiveness"
        | "clientFoundRows"
        | "collation"
        | "columnsWithAlias"
        | "connectionAttributes"
        | "interpolateParams"
        | "loc"
        | "maxAllowedPacket"
        | "multiStatements"
        | "parseTime"
        | "readTimeout"
        | "rejectReadOnly"
        | "serverPubKey"
        | "timeTruncate"
        | "writeTimeout" => {}
        _ => {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if !name.chars().all(plain) {
                return Err(bad("the name of a system variable has odd characters"));
            }
            source.settings.push((name.into(), value));
        }
    }
    Ok(())
}

// === Both ===

/// A host, and its port if there is one; brackets around IPv6 are taken away.
fn host_port(text: &str) -> Result<(&str, Option<u16>), Error> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| bad("missing ']' in address"))?;
        return Ok((host, rest.strip_prefix(':').map(number).transpose()?));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => Ok((host, Some(number(port)?))),
        None => Ok((text, None)),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| bad(&format!("{text:?} is not a number that fits")))
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, Error> {
    let why = || {
        bad(
            "failed to parse datastore DSN URL; ensure that parameters containing special characters use percent-encoding",
        )
    };
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return Err(why()),
        }
    }
    String::from_utf8(out).map_err(|_| why())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp(host.into(), port)
    }

    #[test]
    fn postgres_urls() {
        let s = parse("postgres://k0s:p%40ss:%2F@db.example:6432/Cluster?sslmode=verify-full&sslrootcert=/ca.crt&sslcert=/c&sslkey=/k&search_path=a")
            .expect("parsed");
        assert_eq!(
            (s.user.as_str(), s.password.as_deref()),
            ("k0s", Some("p@ss:/"))
        );
        assert_eq!(
            (&s.places[..], s.database.as_str()),
            (&[tcp("db.example", 6432)][..], "cluster")
        );
        assert_eq!(
            (s.tls.mode, s.tls.ca),
            (TlsMode::VerifyFull, Some("/ca.crt".into()))
        );
        assert_eq!(s.settings, [("search_path".to_string(), "a".to_string())]);
        let s = parse("postgresql://u@/x?host=/run/pg&port=7").expect("parsed");
        assert_eq!(s.places, [Place::Unix("/run/pg/.s.PGSQL.7".into())]);
        assert_eq!((s.tls.mode, s.password), (TlsMode::Prefer, None));
        let s = parse("postgres://a,b:1,[::1]:2").expect("parsed");
        assert_eq!(s.places, [tcp("a", 5432), tcp("b", 1), tcp("::1", 2)]);
        assert_eq!(
            (s.user.as_str(), s.database.as_str()),
            ("postgres", "kubernetes")
        );
        let s = parse("postgres://").expect("parsed");
        assert_eq!(
            (&s.places[..], s.password.as_deref()),
            (&[tcp("localhost", 5432)][..], Some("postgres"))
        );
        let s = parse("postgres://h/?sslmode=require&sslrootcert=/ca").expect("parsed");
        assert_eq!(s.tls.mode, TlsMode::VerifyCa);
    }

    #[test]
    fn mysql_dsns() {
        let s =
            parse("mysql://k0s:p@ss/w:rd@tcp(10.0.0.1:3307)/kine?tls=true&parseTime=true&max_x=3")
                .expect("parsed");
        assert_eq!(
            (s.user.as_str(), s.password.as_deref()),
            ("k0s", Some("p@ss/w:rd"))
        );
        assert_eq!(
            (&s.places[..], s.database.as_str()),
            (&[tcp("10.0.0.1", 3307)][..], "kine")
        );
        assert_eq!(s.tls.mode, TlsMode::VerifyFull);
        assert_eq!(s.settings, [("max_x".to_string(), "3".to_string())]);
        let s = parse("mysql://root@unix(/run/m.sock)/").expect("parsed");
        assert_eq!(s.places, [Place::Unix("/run/m.sock".into())]);
        assert_eq!(
            (s.database.as_str(), s.tls.mode),
            ("kubernetes", TlsMode::Disable)
        );
        let s = parse("mysql://").expect("parsed");
        assert_eq!(
            s.places,
            [Place::Unix("/var/run/mysqld/mysqld.sock".into())]
        );
        let s = parse("mysql://u@tcp([::1])/x").expect("parsed");
        assert_eq!(s.places, [tcp("::1", 3306)]);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for (text, why) in [
            ("postgres", "<scheme>"),
            ("mongo://x", "unknown driver mongo"),
            ("postgres://u:secret@h/?sslmode=maybe", "sslmode"),
            ("postgres://u:secret%zz@h/", "percent-encoding"),
            ("postgres://u:secret@h:port/", "not a number"),
            ("postgres://u:secret@h/?sslcert=/c", "together"),
            ("mysql://u:secret@tcp(h", "slash"),
            ("mysql://u:secret@tcp(h/db", "not terminated"),
            ("mysql://u:secret@pipe(h)/db", "unknown"),
            ("mysql://u:secret@tcp(h)/db?tls=mine", "mine"),
        ] {
            let told = parse(text).expect_err(text).to_string();
            assert!(
                told.contains(why) && !told.contains("secret"),
                "{text}: {told}"
            );
        }
        let shown = format!("{:?}", parse("postgres://u:secret@h/d").expect("parsed"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
