//! A whole node whose objects are in a real etcd: TLS both ways, a prefix of its own, and an etcd that goes
//! away for a moment.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::Outcome;
use super::outside::Outside;
use crate::cluster::run as program;

const PREFIX: &str = "/tenants/e2e";

pub fn run() -> Result<Outcome> {
    let Some(binary) = find("etcd") else {
        return Ok(Outcome::Skipped("no etcd program".into()));
    };
    let mut etcd = Server::start(&binary)?;
    let storage = etcd.storage();
    super::outside::run(&storage, &mut etcd)
}

impl Outside for Server {
    /// And there is no key outside the prefix; not asked where no etcdctl is there.
    fn holds_the_counter(&self) -> Result<()> {
        let Some(ctl) = find("etcdctl") else {
            return Ok(());
        };
        let files = ["ca.crt", "client.crt", "client.key"].map(|f| self.file(f));
        let keys = program(
            Command::new(ctl)
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &self.urls[0], "--cacert", &files[0]])
                .args(["--cert", &files[1], "--key", &files[2]])
                .args(["get", "", "--prefix", "--keys-only"]),
        )?;
        let wanted = format!("{PREFIX}/pods/default/counter");
        ensure!(keys.lines().any(|k| k == wanted), "no {wanted} in {keys}");
        let foreign = keys
            .lines()
            .find(|k| !k.is_empty() && !k.starts_with(PREFIX));
        ensure!(foreign.is_none(), "{foreign:?} is outside the prefix");
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.program, self.dir.path(), &self.urls)?;
        Ok(())
    }
}

/// An etcd of one member that asks for client certificates.
struct Server {
    program: PathBuf,
    child: Child,
    dir: tempfile::TempDir,
    urls: [String; 2],
}

impl Server {
    fn start(program: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        certificates(dir.path())?;
        let held = [
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ];
        let urls = [
            format!("https://{}", held[0].local_addr()?),
            format!("http://{}", held[1].local_addr()?),
        ];
        drop(held);
        let child = spawn(program, dir.path(), &urls)?;
        Ok(Self {
            program: program.into(),
            child,
            dir,
            urls,
        })
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// What `spec.storage` says.
    fn storage(&self) -> String {
        json!({"type": "etcd", "etcd": {"externalCluster": {
            "endpoints": [self.urls[0]], "etcdPrefix": PREFIX, "caFile": self.file("ca.crt"),
            "clientCertFile": self.file("client.crt"), "clientKeyFile": self.file("client.key")}}})
        .to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An etcd that is gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, dir: &Path, urls: &[String; 2]) -> Result<Child> {
    let file = |name: &str| dir.join(name).display().to_string();
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    Command::new(program)
        .arg(format!("--data-dir={}", file("data")))
        .arg(format!("--listen-client-urls={}", urls[0]))
        .arg(format!("--advertise-client-urls={}", urls[0]))
        .arg(format!("--listen-peer-urls={}", urls[1]))
        .arg(format!("--cert-file={}", file("server.crt")))
        .arg(format!("--key-file={}", file("server.key")))
        .arg(format!("--trusted-ca-file={}", file("ca.crt")))
        .arg("--client-cert-auth")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("starting etcd")
}

/// An authority, and what it signs for the server and for its client.
fn certificates(dir: &Path) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.crt"), ca.self_signed(&ca_key)?.pem())?;
    let issuer = Issuer::new(ca, ca_key);
    // The gateway of Debian's etcd asks its own server under the server's certificate.
    let both = [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    for (name, usages) in [("server", &both[..]), ("client", &both[1..])] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()])?;
        params.extended_key_usages = usages.to_vec();
        std::fs::write(
            dir.join(format!("{name}.crt")),
            params.signed_by(&key, &issuer)?.pem(),
        )?;
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

/// A program of etcd's: upstream's build, else the host's.
pub fn find(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|h| Path::new(&h).join(".cache/upstream/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = home.into_iter().chain(std::env::split_paths(&path));
    folders.map(|d| d.join(name)).find(|p| p.is_file())
}
