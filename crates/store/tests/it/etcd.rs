//! The suite on a real etcd (`$UPSTREAM_BIN/etcd` or `~/.cache/upstream/bin/etcd`, else SKIPPED), and
//! what a network adds: TLS, prefixes that share one etcd, members that go away and come back.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use store::etcd::{Etcd, EtcdConfig};
use store::{Error, Range, Store, WriteError};

/// The etcd program, if there is one.
pub fn program() -> Option<PathBuf> {
    let folders = [
        std::env::var_os("UPSTREAM_BIN").map(PathBuf::from),
        std::env::var_os("HOME").map(|h| Path::new(&h).join(".cache/upstream/bin")),
        Some(PathBuf::from("/usr/bin")),
    ];
    let found = folders
        .into_iter()
        .flatten()
        .map(|f| f.join("etcd"))
        .find(|p| p.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no etcd program");
    }
    found
}

/// A running etcd of one member; killed when dropped.
pub struct Server {
    program: PathBuf,
    child: Child,
    _dir: tempfile::TempDir,
    arguments: Vec<String>,
    url: String,
}

impl Server {
    /// Starts etcd on free loopback ports; `tls` names a folder with its certificates.
    pub fn start(program: &Path, tls: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // Both ports are held at once, so that they differ.
        let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [client, peer] = held
            .each_ref()
            .map(|l| l.local_addr().expect("address").port());
        drop(held);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{client}");
        let data = dir.path().join("data").display().to_string();
        let mut arguments: Vec<String> = [
            format!("--data-dir={data}"),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            "--log-level=error".into(),
            // The suite is about semantics; durability is etcd's own business.
            "--unsafe-no-fsync".into(),
        ]
        .into();
        if let Some(folder) = tls {
            let file = |name: &str| folder.join(name).display().to_string();
            arguments.extend([
                format!("--cert-file={}", file("server.crt")),
                format!("--key-file={}", file("server.key")),
                format!("--trusted-ca-file={}", file("ca.crt")),
                "--client-cert-auth".into(),
            ]);
        }
        let child = spawn(program, &arguments);
        Self {
            program: program.into(),
            child,
            _dir: dir,
            arguments,
            url,
        }
    }

    /// Starts three members that know each other.
    fn cluster(program: &Path) -> Vec<Self> {
        let held = [(); 6].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = held
            .each_ref()
            .map(|l| l.local_addr().expect("address").port());
        drop(held);
        let [clients, peers] = [&ports[..3], &ports[3..]];
        let all: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(n, port)| format!("m{n}=http://127.0.0.1:{port}"))
            .collect();
        let member = |n: usize| {
            let dir = tempfile::tempdir().expect("a directory");
            let url = format!("http://127.0.0.1:{}", clients[n]);
            let peer = format!("http://127.0.0.1:{}", peers[n]);
            let arguments = vec![
                format!("--name=m{n}"),
                format!("--data-dir={}", dir.path().join("data").display()),
                format!("--listen-client-urls={url}"),
                format!("--advertise-client-urls={url}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", all.join(",")),
                "--log-level=error".into(),
                "--unsafe-no-fsync".into(),
            ];
            Self {
                program: program.into(),
                child: spawn(program, &arguments),
                _dir: dir,
                arguments,
                url,
            }
        };
        (0..3).map(member).collect()
    }

    fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    fn start_again(&mut self) {
        self.child = spawn(&self.program, &self.arguments);
    }

    fn config(&self, prefix: &str) -> EtcdConfig {
        EtcdConfig {
            endpoints: vec![self.url.clone()],
            prefix: prefix.into(),
            ..EtcdConfig::default()
        }
    }

    pub async fn store(&self, prefix: &str) -> Store {
        Store::new(Etcd::connect(self.config(prefix)).await.expect("connect"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, arguments: &[String]) -> Child {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start etcd")
}

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance() {
    let Some(program) = program() else { return };
    let server = Server::start(&program, None);
    let n = AtomicU32::new(0);
    // A prefix for each case: they are as separate as clusters that share one etcd.
    store::conformance::run(|| {
        let prefix = format!("/case-{}", n.fetch_add(1, Ordering::Relaxed));
        let server = &server;
        async move { server.store(&prefix).await }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_prefix_all_keys_are_seen() {
    let Some(program) = program() else { return };
    let server = Server::start(&program, None);
    let (all, one) = (server.store("").await, server.store("/one/").await);
    all.create(b("a"), b("1"), 0).await.expect("create");
    one.create(b("a"), b("2"), 0).await.expect("create");
    let seen = all.range(Range::prefix("")).await.expect("range");
    let keys: Vec<_> = seen.kvs.iter().map(|kv| &kv.key[..]).collect();
    assert_eq!(keys, [&b"/one/a"[..], b"a"]);
    let seen = one.range(Range::prefix("")).await.expect("range");
    assert_eq!((seen.count, &seen.kvs[0].key[..]), (1, &b"a"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_may_stand_for_what_keys_begin_with() {
    let Some(program) = program() else { return };
    let server = Server::start(&program, None);
    let config = EtcdConfig {
        replaces: "/registry/".into(),
        ..server.config("/tenant/")
    };
    let s = Store::new(Etcd::connect(config).await.expect("connect"));
    let all = server.store("").await;
    let mut watch = s
        .watch(Range::prefix("/registry/"), 0)
        .await
        .expect("watch");
    let at = s
        .create(b("/registry/pods/a"), b("1"), 0)
        .await
        .expect("create");
    all.create(b("/tenant2/x"), b("1"), 0)
        .await
        .expect("create");
    let there = all
        .get("/tenant/pods/a")
        .await
        .expect("get")
        .expect("there");
    assert_eq!(there.mod_revision, at);
    let batch = watch.next().await.expect("more").expect("batch");
    assert_eq!(batch.events[0].key(), "/registry/pods/a");
    for range in [
        Range::prefix("/registry/"),
        Range::prefix("/registry/pods/"),
        Range::prefix("/"),
    ] {
        let found = s.range(range).await.expect("range");
        let keys: Vec<_> = found.kvs.into_iter().map(|kv| kv.key).collect();
        assert_eq!(keys, ["/registry/pods/a"]);
    }
    let outside = s.create(b("/elsewhere"), b("1"), 0).await;
    assert!(matches!(
        outside,
        Err(WriteError::Store(Error::Backend { .. }))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_many_pages_is_one_range() {
    let Some(program) = program() else { return };
    let server = Server::start(&program, None);
    let s = server.store("/many/").await;
    let writes = (0..2_500).map(|i| {
        let s = s.clone();
        async move {
            s.create(b(&format!("k{i:05}")), b("v"), 0)
                .await
                .expect("create")
        }
    });
    let done: Vec<u64> = futures::stream::iter(writes)
        .buffer_unordered(64)
        .collect()
        .await;
    let all = s.range(Range::prefix("k")).await.expect("range");
    assert_eq!((all.kvs.len(), all.count, all.more), (2_500, 2_500, false));
    assert!(all.kvs.windows(2).all(|w| w[0].key < w[1].key));
    assert_eq!(all.revision, done.into_iter().max().expect("some"));
    let range = Range {
        limit: 2_100,
        ..Range::prefix("k")
    };
    let some = s.range(range).await.expect("range");
    assert_eq!(
        (some.kvs.len(), some.count, some.more),
        (2_100, 2_500, true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_a_restart_of_etcd() {
    let Some(program) = program() else { return };
    let mut server = Server::start(&program, None);
    let s = server.store("/w/").await;
    let mut watch = s.watch(Range::prefix("k"), 0).await.expect("watch");
    let first = s.create(b("k1"), b("1"), 0).await.expect("create");
    assert_eq!(
        watch.next().await.expect("more").expect("batch").revision,
        first
    );
    server.kill();
    let refused = s.create(b("k2"), b("1"), 0).await;
    assert!(refused.is_err(), "{refused:?}");
    server.start_again();
    let second = s.create(b("k3"), b("1"), 0).await.expect("create");
    let third = s.create(b("k4"), b("1"), 0).await.expect("create");
    for at in [second, third] {
        let batch = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        assert_eq!(
            batch
                .expect("in time")
                .expect("more")
                .expect("batch")
                .revision,
            at
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_on_without_any_one_of_its_members() {
    let Some(program) = program() else { return };
    let mut members = Server::cluster(&program);
    let config = EtcdConfig {
        endpoints: members.iter().map(|m| m.url.clone()).collect(),
        ..EtcdConfig::default()
    };
    let s = Store::new(Etcd::connect(config).await.expect("connect"));
    let mut watch = s.watch(Range::prefix("k"), 0).await.expect("watch");
    let mut expected = Vec::new();
    for (n, member) in members.iter_mut().enumerate() {
        member.kill();
        for i in 0..10 {
            let key = b(&format!("k{n}-{i}"));
            // The fate of a write in flight to the killed member is not known: then it is looked up.
            let at = loop {
                match s.create(key.clone(), b("1"), 0).await {
                    Ok(at) => break at,
                    Err(WriteError::Conflict(Some(kv))) => break kv.mod_revision,
                    Err(WriteError::Store(Error::Uncertain { .. } | Error::Backend { .. })) => {}
                    Err(e) => panic!("{e}"),
                }
            };
            expected.push(at);
        }
        member.start_again();
    }
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let batch = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
        let batch = batch.expect("in time").expect("more").expect("batch");
        seen.extend(batch.events.iter().map(|_| batch.revision));
    }
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_etcds_own() {
    let Some(program) = program() else { return };
    let server = Server::start(&program, None);
    let s = server.store("/s/").await;
    s.create(b("a"), b("find me in the file"), 0)
        .await
        .expect("create");
    let dir = tempfile::tempdir().expect("a directory");
    let to = dir.path().join("etcd.db");
    let size = s.snapshot(&to).await.expect("snapshot");
    let bytes = std::fs::read(&to).expect("read");
    assert_eq!(bytes.len() as u64, size);
    let wanted = b"find me in the file";
    assert!(bytes.windows(wanted.len()).any(|w| w == wanted));
    assert!(s.snapshot(&to).await.is_err(), "nothing is overwritten");
    let nowhere = dir.path().join("none/etcd.db");
    assert!(s.snapshot(&nowhere).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_needs_the_right_certificates() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let pem = certificates(dir.path());
    let server = Server::start(&program, Some(dir.path()));
    let with = |ca: &str, identity: Option<(&str, &str)>| EtcdConfig {
        ca: Some(ca.as_bytes().to_vec()),
        identity: identity.map(|(c, k)| (c.as_bytes().to_vec(), k.as_bytes().to_vec())),
        ..server.config("/tls/")
    };
    let right = with(&pem.ca, Some((&pem.client, &pem.client_key)));
    let s = Store::new(Etcd::connect(right).await.expect("connect"));
    s.create(b("a"), b("1"), 0).await.expect("create");
    assert_eq!(s.get("a").await.expect("get").expect("there").value, b("1"));

    let other = certificates(tempfile::tempdir().expect("a directory").path());
    for (what, wrong) in [
        (
            "another authority",
            with(&other.ca, Some((&pem.client, &pem.client_key))),
        ),
        (
            "a stranger",
            with(&pem.ca, Some((&other.client, &other.client_key))),
        ),
        ("nobody", with(&pem.ca, None)),
        ("no authority", server.config("/tls/")),
    ] {
        let refused = Etcd::connect(wrong).await.err();
        assert!(matches!(refused, Some(Error::Backend { .. })), "{what}");
    }
}

pub struct Pem {
    pub ca: String,
    client: String,
    client_key: String,
}

/// An authority, a server certificate for 127.0.0.1 and a client certificate, as files and as text.
pub fn certificates(folder: &Path) -> Pem {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("sign").pem();
    let issuer = Issuer::new(ca, ca_key);
    let leaf = || {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("parameters");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let pem = params.signed_by(&key, &issuer).expect("sign").pem();
        (pem, key.serialize_pem())
    };
    let (server, server_key) = leaf();
    let (client, client_key) = leaf();
    for (name, text) in [
        ("ca.crt", &ca_pem),
        ("server.crt", &server),
        ("server.key", &server_key),
    ] {
        std::fs::write(folder.join(name), text).expect("write");
    }
    Pem {
        ca: ca_pem,
        client,
        client_key,
    }
}
