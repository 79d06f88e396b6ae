//! Private database servers from Debian's packages, run by an unprivileged user.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use store::Store;
use store::kine::{Kine, KineConfig};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Postgres,
    MariaDb,
}

pub const KINDS: [Kind; 2] = [Kind::Postgres, Kind::MariaDb];

/// A running server; killed when dropped.
pub struct Server {
    pub kind: Kind,
    child: Child,
    dir: tempfile::TempDir,
    pub port: u16,
    extra: Vec<String>,
    databases: AtomicU32,
}

/// The user `nobody`: neither server runs as root.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Gives a file to the user the server runs as.
pub fn give(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
}

/// A program of a server, if it is installed.
fn program(kind: Kind, name: &str) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = match kind {
        Kind::Postgres => std::fs::read_dir("/usr/lib/postgresql")
            .map(|all| all.flatten().map(|e| e.path().join("bin")).collect())
            .unwrap_or_default(),
        Kind::MariaDb => ["/usr/sbin", "/usr/bin"].map(PathBuf::from).into(),
    };
    folders
        .into_iter()
        .map(|f| f.join(name))
        .find(|p| p.is_file())
}

impl Server {
    /// Starts a server on a free loopback port; nothing where it is not installed.
    pub fn start(kind: Kind) -> Option<Self> {
        Self::start_with(kind, |_| Vec::new())
    }

    /// The same with further arguments, which may name files in the folder.
    pub fn start_with(kind: Kind, extra: impl Fn(&Path) -> Vec<String>) -> Option<Self> {
        let maker = match kind {
            Kind::Postgres => program(kind, "initdb"),
            Kind::MariaDb => program(kind, "mariadb-install-db"),
        };
        let Some(maker) = maker else {
            eprintln!("SKIPPED: no {kind:?} server");
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory");
        give(dir.path());
        let data = dir.path().join("data").display().to_string();
        let mut make = command(&maker);
        match kind {
            Kind::Postgres => make
                .args(["-D", &data, "-U", "postgres", "--auth=trust", "-E", "UTF8"])
                .args(["--locale=C", "--no-sync"]),
            Kind::MariaDb => make
                .args(["--no-defaults", "--auth-root-authentication-method=normal"])
                .args(["--skip-test-db", "--innodb-flush-method=nosync"])
                .arg(format!("--datadir={data}")),
        };
        let made = make.output().expect("make the data");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = held.local_addr().expect("address").port();
        drop(held);
        let extra = extra(dir.path());
        let mut server = Self {
            kind,
            child: spawn(kind, dir.path(), port, &extra),
            dir,
            port,
            extra,
            databases: AtomicU32::new(0),
        };
        server.wait();
        Some(server)
    }

    /// Waits until it takes connections.
    fn wait(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "{}", self.log());
            assert!(
                self.child.try_wait().expect("wait").is_none(),
                "{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    pub fn start_again(&mut self) {
        self.child = spawn(self.kind, self.dir.path(), self.port, &self.extra);
        self.wait();
    }

    /// A data source of a database that nobody has used.
    pub fn fresh(&self) -> String {
        let n = self.databases.fetch_add(1, Ordering::Relaxed);
        self.source(&format!("d{n}"))
    }

    pub fn source(&self, database: &str) -> String {
        let port = self.port;
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/{database}"),
            Kind::MariaDb => format!("mysql://root@tcp(127.0.0.1:{port})/{database}"),
        }
    }

    /// Runs statements as any other program would, in the database of a data source.
    pub async fn sql(&self, source: &str, statements: &[&str]) {
        let (_, database) = source.rsplit_once('/').expect("a database");
        match self.kind {
            Kind::Postgres => {
                let at = format!(
                    "host=127.0.0.1 port={} user=postgres dbname={database}",
                    self.port
                );
                let made = tokio_postgres::connect(&at, tokio_postgres::NoTls).await;
                let (client, connection) = made.expect("connect");
                let task = tokio::spawn(connection);
                for sql in statements {
                    client.batch_execute(sql).await.expect(sql);
                }
                drop(client);
                task.await.expect("join").expect("closed");
            }
            Kind::MariaDb => {
                use mysql_async::prelude::Queryable;
                let url = format!(
                    "mysql://root@127.0.0.1:{}/{database}?prefer_socket=false",
                    self.port
                );
                let mut conn = mysql_async::Conn::from_url(&url).await.expect("connect");
                for sql in statements {
                    conn.query_drop(*sql).await.expect(sql);
                }
                conn.disconnect().await.expect("closed");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(kind: Kind, dir: &Path, port: u16, extra: &[String]) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"));
    let log = log.expect("a log");
    let data = dir.join("data").display().to_string();
    let folder = dir.display().to_string();
    let mut server = match kind {
        Kind::Postgres => {
            let mut s = command(&program(kind, "postgres").expect("installed"));
            s.args(["-D", &data, "-k", &folder, "-p", &port.to_string()])
                .args([
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    "fsync=off",
                    "-c",
                    "shared_buffers=32MB",
                ])
                // A default that would lose what was acknowledged, which the store must not go by.
                .args(["-c", "synchronous_commit=off", "-c", "max_connections=200"]);
            s
        }
        Kind::MariaDb => {
            let mut s = command(&program(kind, "mariadbd").expect("installed"));
            s.args([
                "--no-defaults",
                "--bind-address=127.0.0.1",
                "--innodb-flush-method=nosync",
            ])
            .args(["--innodb-buffer-pool-size=32M", "--max-connections=500"])
            .arg(format!("--datadir={data}"))
            .arg(format!("--port={port}"))
            .arg(format!("--socket={folder}/s"))
            .arg(format!("--pid-file={folder}/pid"));
            s
        }
    };
    server.args(extra);
    server.stdout(log.try_clone().expect("a log")).stderr(log);
    server.spawn().expect("start the server")
}

/// Opens a data source.
pub async fn open(source: &str) -> Store {
    let config = KineConfig {
        data_source: source.into(),
        ..KineConfig::default()
    };
    Store::new(Kine::open(config).await.expect("open"))
}
