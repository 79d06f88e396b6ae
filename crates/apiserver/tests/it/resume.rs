//! Watches that begin before what a server remembers: after a restart, and after more changes than its cache
//! keeps. On both kinds of store, each change comes once; 410 only where it is compacted.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use store::Store;
use store::etcd::{Etcd, EtcdConfig};

use crate::env::{Env, sqlite};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A real etcd, killed when dropped.
struct Server {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn etcd() -> Option<Server> {
    let home = std::env::var("HOME").unwrap_or_default();
    let folders = [format!("{home}/.cache/upstream/bin"), "/usr/bin".into()];
    let all = folders.into_iter().map(|f| PathBuf::from(f).join("etcd"));
    let Some(program) = all.into_iter().find(|p| p.is_file()) else {
        eprintln!("SKIPPED: no etcd program");
        return None;
    };
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [client, peer] = held
        .each_ref()
        .map(|l| format!("http://{}", l.local_addr().unwrap()));
    drop(held);
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(program)
        .arg(format!("--data-dir={}", dir.path().display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .args(["--log-level=error", "--unsafe-no-fsync"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Some(Server {
        child,
        url: client,
        _dir: dir,
    })
}

async fn connect(server: &Server) -> Store {
    let config = EtcdConfig {
        endpoints: vec![server.url.clone()],
        prefix: "/other/prefix".into(),
        ..EtcdConfig::default()
    };
    Store::new(Etcd::connect(config).await.unwrap())
}

fn map(name: &str, count: usize) -> Value {
    json!({"metadata": {"name": name, "labels": {"parity": if count.is_multiple_of(2) { "even" } else { "odd" }}},
        "data": {"count": count.to_string()}})
}

fn version(object: &Value) -> u64 {
    let text = object.pointer("/metadata/resourceVersion").unwrap();
    text.as_str().unwrap().parse().unwrap()
}

/// Type, name, count and revision of a watch's frames.
fn told(frames: &[Value]) -> Vec<(String, String, String, u64)> {
    let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().to_string();
    let one = |f: &Value| {
        let o = &f["object"];
        (
            text(f.get("type")),
            text(o.pointer("/metadata/name")),
            text(o.pointer("/data/count")),
            version(o),
        )
    };
    frames.iter().map(one).collect()
}

/// Creates, changes and deletes; gives what a watch has to tell, and the revision it begins after.
async fn history(env: &Env) -> (u64, Vec<(String, String, String, u64)>) {
    let begin = version(&env.post(MAPS, &map("first", 0)).await.json());
    let mut expected = Vec::new();
    for n in 1..=20 {
        let name = format!("m{}", n % 3);
        let path = format!("{MAPS}/{name}");
        let known = env.get(&path).await.code == 200;
        let (kind, made) = if n % 7 == 0 && known {
            let was = env.get(&path).await.json();
            assert_eq!(env.delete(&path).await.code, 200);
            let list = env.get(MAPS).await.json();
            let count = was["data"]["count"].as_str().unwrap().to_string();
            expected.push(("DELETED".to_string(), name, count, version(&list)));
            continue;
        } else if known {
            ("MODIFIED", env.put(&path, &map(&name, n)).await.json())
        } else {
            ("ADDED", env.post(MAPS, &map(&name, n)).await.json())
        };
        expected.push((kind.into(), name, n.to_string(), version(&made)));
        // Another resource's changes are none of this watch's business.
        let path = "/api/v1/namespaces/default/secrets";
        let other = env
            .post(path, &json!({"metadata": {"generateName": "s"}}))
            .await;
        assert_eq!(other.code, 201);
    }
    (begin, expected)
}

async fn each_change_comes_once(store: Store) {
    let before = Env::over(store.clone()).await;
    let (begin, mut expected) = history(&before).await;
    drop(before);
    let env = Env::over(store.clone()).await;
    // Changes go on while the watch comes out of the past.
    let live = async {
        let mut made = Vec::new();
        for n in 100..130 {
            let object = env.post(MAPS, &map(&format!("l{n}"), n)).await.json();
            made.push((
                "ADDED".to_string(),
                format!("l{n}"),
                n.to_string(),
                version(&object),
            ));
        }
        made
    };
    let path = format!("{MAPS}?watch=1&resourceVersion={begin}");
    let count = expected.len() + 30;
    let (frames, made) = tokio::join!(env.watch(&path, |f| f.len() == count), live);
    expected.extend(made);
    assert_eq!(told(&frames), expected);
    // From each revision on, the rest comes.
    for at in [0, 5, expected.len() - 1] {
        let path = format!("{MAPS}?watch=1&resourceVersion={}", expected[at].3);
        let rest = &expected[at + 1..];
        let frames = env.watch(&path, |f| f.len() == rest.len()).await;
        assert_eq!(told(&frames), rest);
    }
    selectors_see_what_enters_and_leaves(&env, begin).await;
    let gone = expected[12].3;
    store.compact(gone).await.unwrap();
    let path = format!("{MAPS}?watch=1&resourceVersion={begin}");
    let frames = env.watch(&path, |f| f.len() == 1).await;
    assert_eq!(frames[0]["type"], "ERROR");
    assert_eq!(frames[0]["object"]["code"], 410);
    assert_eq!(frames[0]["object"]["reason"], "Expired");
    assert_eq!(
        frames[0]["object"]["message"],
        format!("too old resource version: {begin} ({gone})")
    );
    let path = format!("{MAPS}?watch=1&resourceVersion={gone}");
    let rest = &expected[13..];
    let frames = env.watch(&path, |f| f.len() == rest.len()).await;
    assert_eq!(told(&frames), rest);
}

/// The label changes with every count.
async fn selectors_see_what_enters_and_leaves(env: &Env, begin: u64) {
    let path = format!("{MAPS}?watch=1&resourceVersion={begin}&labelSelector=parity%3Deven");
    let frames = env.watch(&path, |f| f.len() == 3).await;
    let kinds: Vec<_> = told(&frames).into_iter().map(|(k, n, ..)| (k, n)).collect();
    let expected = [("ADDED", "m2"), ("ADDED", "m1"), ("DELETED", "m2")];
    assert_eq!(kinds, expected.map(|(k, n)| (k.to_string(), n.to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_over_a_restart_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    each_change_comes_once(sqlite(dir.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_over_a_restart_on_etcd() {
    let Some(server) = etcd() else { return };
    each_change_comes_once(connect(&server).await).await;
}

/// More changes than the cache remembers.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_before_what_the_cache_remembers() {
    let env = Env::start().await;
    let begin = version(&env.post(MAPS, &map("first", 0)).await.json());
    let names: Vec<String> = (1..=1_100).map(|n| format!("many-{n}")).collect();
    let objects: Vec<Value> = names.iter().map(|name| map(name, 1)).collect();
    let made = futures::future::join_all(objects.iter().map(|o| env.post(MAPS, o))).await;
    let mut expected: Vec<u64> = made.iter().map(|m| version(&m.json())).collect();
    expected.sort_unstable();
    let watched = format!("{MAPS}?watch=1&resourceVersion={begin}");
    let frames = env.watch(&watched, |f| f.len() == expected.len()).await;
    let seen: Vec<u64> = told(&frames).into_iter().map(|(.., at)| at).collect();
    assert_eq!(seen, expected);
}

/// Others may write to the same etcd: what is newest is asked for, not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_consistent_where_others_write_to_the_same_etcd() {
    let Some(server) = etcd() else { return };
    let store = connect(&server).await;
    let env = Env::over(store).await;
    let mut begin = 0;
    for n in 0..3 {
        let config = EtcdConfig {
            endpoints: vec![server.url.clone()],
            prefix: "/somebody/else".into(),
            ..EtcdConfig::default()
        };
        let other = Store::new(Etcd::connect(config).await.unwrap());
        let key = format!("/registry/configmaps/default/{n}");
        let revision = other.create(key.into(), "x".into(), 0).await.unwrap();
        let list = env.get(MAPS).await;
        assert_eq!(list.code, 200, "{list:?}");
        assert!(version(&list.json()) >= revision);
        assert!(revision > begin);
        begin = revision;
    }
}
