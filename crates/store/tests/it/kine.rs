//! The suite on real PostgreSQL and MariaDB servers (SKIPPED where they are not installed), and what they add:
//! tables that kine laid out, several writers, servers that go away and come back, TLS.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use store::kine::{Kine, KineConfig};
use store::{Error, Event, Range, Store, WatchBatch, WatchStream, WriteError};

use super::databases::{KINDS, Kind, Server, give, open};
use super::etcd::certificates;

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn next(watch: &mut WatchStream) -> WatchBatch {
    let batch = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
    batch.expect("in time").expect("more").expect("batch")
}

async fn conformance(kind: Kind) {
    let Some(server) = Server::start(kind) else {
        return;
    };
    store::conformance::run(|| {
        let server = &server;
        async move { open(&server.fresh()).await }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_on_postgres() {
    conformance(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_on_mariadb() {
    conformance(Kind::MariaDb).await;
}

/// kine's tables, from its source.
fn kines_table(kind: Kind) -> Vec<&'static str> {
    match kind {
        // Without the collation that newer ones give.
        Kind::Postgres => vec![
            "CREATE TABLE kine (id BIGSERIAL PRIMARY KEY, name VARCHAR(630), created INTEGER, deleted INTEGER,
             create_revision BIGINT, prev_revision BIGINT, lease INTEGER, value bytea, old_value bytea)",
            "CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision)",
        ],
        Kind::MariaDb => vec![
            "CREATE TABLE kine (id BIGINT UNSIGNED AUTO_INCREMENT, name VARCHAR(630) CHARACTER SET ascii,
             created INTEGER, deleted INTEGER, create_revision BIGINT UNSIGNED, prev_revision BIGINT UNSIGNED,
             lease INTEGER, value MEDIUMBLOB, old_value MEDIUMBLOB, PRIMARY KEY (id))",
            "CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision)",
        ],
    }
}

/// What kine says to append a change.
fn append(
    name: &str,
    created: i32,
    deleted: i32,
    create: u64,
    previous: u64,
    lease: u64,
) -> String {
    format!(
        "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value)
         SELECT '{name}', {created}, {deleted}, {create}, {previous}, {lease}, 'of {name}',
         (SELECT value FROM kine WHERE id = {previous}) AS old_value"
    )
}

async fn used_in_place(kind: Kind) {
    let Some(server) = Server::start(kind) else {
        return;
    };
    let source = server.fresh();
    // Makes the database.
    drop(open(&source).await);
    let appended = [
        append("compact_rev_key", 1, 0, 0, 0, 0),
        append("/registry/health", 1, 0, 0, 0, 0),
        append("/registry/a", 1, 0, 0, 0, 0),
        append("/registry/a", 0, 0, 3, 3, 0),
        append("/registry/B", 1, 0, 0, 0, 0),
        append("/registry/B", 0, 1, 0, 5, 0),
        append("/registry/mortal", 1, 0, 0, 0, 2),
    ];
    let mut sql = vec![
        "DROP TABLE kine",
        "DROP TABLE k0s_number",
        "DROP TABLE k0s_lease",
    ];
    sql.extend(kines_table(kind));
    sql.extend(appended.iter().map(String::as_str));
    server.sql(&source, &sql).await;

    let s = open(&source).await;
    assert_eq!(s.revision().await.expect("revision"), 7);
    let a = s.get("/registry/a").await.expect("get").expect("there");
    assert_eq!(
        (a.create_revision, a.mod_revision, &a.value[..]),
        (3, 4, &b"of /registry/a"[..])
    );
    assert!(s.get("/registry/B").await.expect("get").is_none());
    let then = Range {
        revision: 5,
        ..Range::prefix("")
    };
    let keys: Vec<Bytes> = s
        .range(then)
        .await
        .expect("range")
        .kvs
        .into_iter()
        .map(|kv| kv.key)
        .collect();
    assert_eq!(keys, ["/registry/B", "/registry/a", "/registry/health"]);

    let mut watch = s
        .watch(Range::prefix("/registry/"), 4)
        .await
        .expect("watch");
    for revision in [4, 5, 6, 7] {
        assert_eq!(next(&mut watch).await.revision, revision);
    }
    // Keys that differ in nothing but their case.
    let lower = s.create(b("/registry/b"), b("x"), 0).await.expect("create");
    let upper = s.create(b("/registry/B"), b("x"), 0).await.expect("create");
    let again = s
        .update(b("/registry/a"), b("ours"), 4, 0)
        .await
        .expect("update");
    for revision in [lower, upper, again] {
        assert_eq!(next(&mut watch).await.revision, revision);
    }
    // What kine goes on with is seen, and its time to live ends keys.
    server
        .sql(&source, &[&append("/registry/a", 0, 0, 3, again, 0)])
        .await;
    let mut seen = BTreeMap::new();
    while seen.len() < 2 {
        let batch = next(&mut watch).await;
        seen.insert(batch.events[0].key().clone(), batch);
    }
    assert!(matches!(
        &seen[&b("/registry/mortal")].events[..],
        [Event::Delete { .. }]
    ));
    assert!(matches!(&seen[&b("/registry/a")].events[..],
        [Event::Put { kv, before: Some(before) }] if kv.create_revision == 3 && before.value == b("ours")));

    // A writer of kine's that gives up leaves a gap, which is filled.
    let last = s.revision().await.expect("revision");
    let leap = append("/registry/leap", 1, 0, 0, 0, 0).replace("kine (name", "kine (id, name");
    let leap = leap.replacen("SELECT", &format!("SELECT {},", last + 3), 1);
    server.sql(&source, &[&leap]).await;
    assert_eq!(next(&mut watch).await.revision, last + 3);
    assert_eq!(
        s.create(b("/registry/c"), b("x"), 0).await.expect("create"),
        last + 4
    );
    s.verify().await.expect("verify");
    // Its own history goes as ours does.
    s.compact(last + 4).await.expect("compact");
    let left = s.range(Range::prefix("/registry/")).await.expect("range");
    assert_eq!(left.count, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_kine_is_used_in_place_on_postgres() {
    used_in_place(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_kine_is_used_in_place_on_mariadb() {
    used_in_place(Kind::MariaDb).await;
}

/// Counts up until it is told to stop or has done its share; gives each acknowledged revision's value.
async fn count_up(s: Store, key: Bytes, until: usize) -> BTreeMap<u64, Bytes> {
    let mut acknowledged = BTreeMap::new();
    let mut n = 0;
    let mut known = 0;
    while acknowledged.len() < until {
        let value = b(&n.to_string());
        let done = match known {
            0 => s.create(key.clone(), value.clone(), 0).await,
            at => s.update(key.clone(), value.clone(), at, 0).await,
        };
        match done {
            Ok(at) => {
                acknowledged.insert(at, value);
                known = at;
                n += 1;
            }
            Err(WriteError::Conflict(now)) => known = now.map_or(0, |kv| kv.mod_revision),
            Err(WriteError::Store(Error::Uncertain { .. } | Error::Backend { .. })) => {
                if let Ok(now) = s.get(key.clone()).await {
                    known = now.map_or(0, |kv| kv.mod_revision);
                }
            }
            Err(e) => panic!("{e}"),
        }
    }
    acknowledged
}

/// Checks that a watch gives every acknowledged change once, in order.
async fn all_are_told(mut watch: WatchStream, acknowledged: BTreeMap<u64, Bytes>) {
    let mut missing = acknowledged;
    let mut last = 0;
    while !missing.is_empty() {
        let batch = next(&mut watch).await;
        assert!(batch.revision > last, "{} after {last}", batch.revision);
        last = batch.revision;
        for event in batch.events {
            let Event::Put { kv, .. } = event else {
                continue;
            };
            if let Some(value) = missing.remove(&kv.mod_revision) {
                assert_eq!(kv.value, value);
            }
        }
        if let Some((first, _)) = missing.first_key_value() {
            assert!(
                *first > last || last == 0,
                "{first} was left out, {last} was told"
            );
        }
    }
}

async fn outlives(kind: Kind) {
    let Some(mut server) = Server::start(kind) else {
        return;
    };
    let source = server.fresh();
    let s = open(&source).await;
    let watch = s.watch(Range::prefix("k"), 0).await.expect("watch");
    let writers: Vec<_> = (0..4)
        .map(|w| tokio::spawn(count_up(s.clone(), b(&format!("k{w}")), 120)))
        .collect();
    let cut = match kind {
        Kind::Postgres => {
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'k0s' AND pid <> pg_backend_pid()"
        }
        Kind::MariaDb => "CREATE PROCEDURE cut() BEGIN DECLARE n INT; DECLARE done INT DEFAULT 0;
             DECLARE c CURSOR FOR SELECT id FROM information_schema.processlist
             WHERE id <> CONNECTION_ID() AND user = 'root';
             DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1; DECLARE CONTINUE HANDLER FOR 1094 SET n = 0;
             OPEN c; l: LOOP FETCH c INTO n; IF done THEN LEAVE l; END IF; KILL n; END LOOP; END",
    };
    let mut probe = s.watch(Range::one("k0"), 0).await.expect("watch");
    for round in 0..3 {
        // Some writes are in flight in each round.
        for _ in 0..10 {
            next(&mut probe).await;
        }
        if round == 1 {
            server.kill();
            server.start_again();
        } else {
            let sql = match (kind, round) {
                (Kind::MariaDb, 0) => vec![cut, "CALL cut()"],
                (Kind::MariaDb, _) => vec!["CALL cut()"],
                _ => vec![cut],
            };
            server.sql(&source, &sql).await;
        }
    }
    drop(probe);
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("writer"));
    }
    assert_eq!(acknowledged.len(), 480);
    all_are_told(watch, acknowledged.clone()).await;
    // And as the table itself has it.
    let again = open(&source).await;
    let past = again.watch(Range::prefix("k"), 2).await.expect("watch");
    all_are_told(past, acknowledged).await;
    again.verify().await.expect("verify");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_with_postgres() {
    outlives(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_with_mariadb() {
    outlives(Kind::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_share_a_database() {
    for kind in KINDS {
        let Some(server) = Server::start(kind) else {
            continue;
        };
        let source = server.fresh();
        // All make the database and its tables at once.
        let opened = (0..3).map(|_| open(&source));
        let stores = futures::future::join_all(opened).await;
        let watches: Vec<_> = {
            let all = stores.iter().map(|s| s.watch(Range::prefix("k"), 0));
            futures::future::join_all(all)
                .await
                .into_iter()
                .map(|w| w.expect("watch"))
                .collect()
        };
        // Each counts on a key of its own, and all on one.
        let mut counting = Vec::new();
        for (n, s) in stores.iter().enumerate() {
            counting.push(tokio::spawn(count_up(s.clone(), b(&format!("k{n}")), 40)));
            counting.push(tokio::spawn(count_up(s.clone(), b("k"), 20)));
        }
        let mut acknowledged = BTreeMap::new();
        for task in counting {
            acknowledged.extend(task.await.expect("count"));
        }
        assert_eq!(acknowledged.len(), 180, "a revision is nobody else's");
        for watch in watches {
            all_are_told(watch, acknowledged.clone()).await;
        }
        // A lease outlives the server that granted it, and ends for all.
        let id = stores[0]
            .lease_grant(0, Duration::from_secs(2))
            .await
            .expect("grant");
        let at = stores[1]
            .create(b("k/leased"), b("x"), id)
            .await
            .expect("create");
        let mut stores = stores;
        drop(stores.remove(0));
        let mut watch = stores[1]
            .watch(Range::one("k/leased"), at + 1)
            .await
            .expect("watch");
        assert!(matches!(
            &next(&mut watch).await.events[..],
            [Event::Delete { .. }]
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_as_the_data_source_says() {
    let mut pem = None;
    let ssl = |dir: &std::path::Path| {
        for name in ["server.crt", "server.key", "ca.crt"] {
            give(&dir.join(name));
        }
        let file = |name: &str| dir.join(name).display().to_string();
        [
            ("ssl_cert_file", "server.crt"),
            ("ssl_key_file", "server.key"),
            ("ssl_ca_file", "ca.crt"),
        ]
        .into_iter()
        .flat_map(|(k, v)| ["-c".to_string(), format!("{k}={}", file(v))])
        .chain(["-c".to_string(), "ssl=on".to_string()])
        .collect()
    };
    let folder = tempfile::tempdir().expect("a directory");
    let certs = std::cell::RefCell::new(&mut pem);
    let server = Server::start_with(Kind::Postgres, |dir| {
        **certs.borrow_mut() = Some(certificates(dir));
        let key = dir.join("server.key");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(key, private).expect("chmod");
        ssl(dir)
    });
    let (Some(server), Some(pem)) = (server, pem) else {
        return;
    };
    let ours = folder.path().join("ca.crt");
    std::fs::write(&ours, &pem.ca).expect("write");
    let others = folder.path().join("other");
    std::fs::create_dir(&others).expect("a folder");
    certificates(&others);
    let source = |options: String| format!("{}?{options}", server.source("tls"));
    let try_it = async |source: String, ca: Option<&std::path::Path>| {
        let config = KineConfig {
            data_source: source,
            ca_file: ca.map(Into::into),
            ..KineConfig::default()
        };
        Kine::open(config).await.map(drop)
    };
    let named = |ca: &std::path::Path, mode: &str| {
        source(format!("sslmode={mode}&sslrootcert={}", ca.display()))
    };
    try_it(source("sslmode=require".into()), None)
        .await
        .expect("any certificate");
    try_it(source("sslmode=disable".into()), None)
        .await
        .expect("none");
    try_it(named(&ours, "verify-full"), None)
        .await
        .expect("ours");
    try_it(named(&ours, "verify-ca"), None).await.expect("ours");
    try_it(server.source("tls"), Some(&ours))
        .await
        .expect("kine's flag");
    let wrong = others.join("ca.crt");
    let refused = try_it(named(&wrong, "verify-ca"), None).await;
    assert!(matches!(refused, Err(Error::Backend { .. })), "{refused:?}");
    let refused = try_it(server.source("tls"), Some(&wrong)).await;
    assert!(matches!(refused, Err(Error::Backend { .. })), "{refused:?}");
}
