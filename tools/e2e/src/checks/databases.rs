//! A whole node whose objects are in kine's table of a real PostgreSQL or MariaDB, which goes away for a moment. Both are
//! Debian's packages, run in a folder of their own by an unprivileged user.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::outside::Outside;
use super::{Outcome, until};
use crate::cluster::run as program;

/// Neither server runs as root: the user `nobody`.
const NOBODY: u32 = 65_534;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Postgres,
    MariaDb,
}

pub fn postgres() -> Result<Outcome> {
    run(Kind::Postgres)
}

pub fn mariadb() -> Result<Outcome> {
    run(Kind::MariaDb)
}

fn run(kind: Kind) -> Result<Outcome> {
    let Some(mut server) = Server::start(kind)? else {
        return Ok(Outcome::Skipped("the database is not installed".into()));
    };
    let storage = server.storage();
    super::outside::run(&storage, &mut server)
}

impl Outside for Server {
    fn holds_the_counter(&self) -> Result<()> {
        let names = self.ask("SELECT name FROM kine WHERE deleted = 0")?;
        for wanted in ["compact_rev_key", "/registry/pods/default/counter"] {
            ensure!(names.lines().any(|n| n == wanted), "no {wanted} in {names}");
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.spawn_again()?;
        self.wait()
    }
}

/// A database server.
struct Server {
    kind: Kind,
    programs: PathBuf,
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Server {
    fn start(kind: Kind) -> Result<Option<Self>> {
        let Some(programs) = programs(kind) else {
            return Ok(None);
        };
        let dir = tempfile::tempdir()?;
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
        let data = dir.path().join("data").display().to_string();
        let mut make = match kind {
            Kind::Postgres => unprivileged(&programs.join("initdb")),
            Kind::MariaDb => unprivileged(Path::new("/usr/bin/mariadb-install-db")),
        };
        match kind {
            Kind::Postgres => make
                .args(["-D", &data, "-U", "postgres", "--auth=trust"])
                .args(["-E", "UTF8", "--locale=C"]),
            Kind::MariaDb => make
                .args([
                    "--no-defaults",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                ])
                .arg(format!("--datadir={data}")),
        };
        program(&mut make)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = spawn(kind, &programs, dir.path(), port)?;
        let mut server = Self {
            kind,
            programs,
            child,
            dir,
            port,
        };
        server.wait()?;
        Ok(Some(server))
    }

    fn spawn_again(&mut self) -> Result<()> {
        self.child = spawn(self.kind, &self.programs, self.dir.path(), self.port)?;
        Ok(())
    }

    /// A server ends at once where a killed one's processes still hold its shared memory: it is started until it stays.
    fn wait(&mut self) -> Result<()> {
        until("the database answers", || {
            if let Some(status) = self.child.try_wait()? {
                self.spawn_again()?;
                bail!("it ended with {status}");
            }
            Ok(TcpStream::connect(("127.0.0.1", self.port)).ok())
        })
        .map(drop)
    }

    /// What `spec.storage` says. The database is not there yet.
    fn storage(&self) -> String {
        let port = self.port;
        let source = match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/k0s?sslmode=disable"),
            Kind::MariaDb => format!("mysql://root@tcp(127.0.0.1:{port})/k0s"),
        };
        json!({"type": "kine", "kine": {"dataSource": source}}).to_string()
    }

    /// Asks with the server's own client.
    fn ask(&self, sql: &str) -> Result<String> {
        let port = self.port.to_string();
        match self.kind {
            Kind::Postgres => program(Command::new(self.programs.join("psql")).args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "postgres",
                "-d",
                "k0s",
                "-Atc",
                sql,
            ])),
            Kind::MariaDb => program(Command::new("/usr/bin/mariadb").args([
                "--no-defaults",
                "-h",
                "127.0.0.1",
                "-P",
                &port,
                "-u",
                "root",
                "-NBe",
                sql,
                "k0s",
            ])),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that is gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a server's programs are, if it is installed.
fn programs(kind: Kind) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = match kind {
        Kind::Postgres => {
            let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
            versions.flatten().map(|v| v.path().join("bin")).collect()
        }
        Kind::MariaDb => vec!["/usr/sbin".into()],
    };
    let name = match kind {
        Kind::Postgres => "initdb",
        Kind::MariaDb => "mariadbd",
    };
    folders.into_iter().find(|f| f.join(name).is_file())
}

fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

fn spawn(kind: Kind, programs: &Path, dir: &Path, port: u16) -> Result<Child> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    let (data, folder) = (
        dir.join("data").display().to_string(),
        dir.display().to_string(),
    );
    let mut server = match kind {
        Kind::Postgres => {
            let mut server = unprivileged(&programs.join("postgres"));
            server
                .args(["-D", &data, "-k", &folder, "-p", &port.to_string()])
                .args([
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    "shared_buffers=32MB",
                ]);
            server
        }
        Kind::MariaDb => {
            let mut server = unprivileged(&programs.join("mariadbd"));
            server
                .args([
                    "--no-defaults",
                    "--bind-address=127.0.0.1",
                    "--innodb-buffer-pool-size=32M",
                ])
                .arg(format!("--datadir={data}"))
                .arg(format!("--port={port}"))
                .arg(format!("--socket={folder}/s"))
                .arg(format!("--pid-file={folder}/pid"));
            server
        }
    };
    server.stdout(log.try_clone()?).stderr(log);
    server.spawn().context("starting the database")
}
