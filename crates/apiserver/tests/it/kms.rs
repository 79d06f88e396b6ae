//! A server whose Secrets a KMS plug-in guards: without it they cannot be read, with it they can, and the rest of
//! the server never notices.

use std::path::Path;
use std::time::{Duration, Instant};

use apiserver::encryption::{Encryption, EncryptionConfig};
use serde_json::json;
use store::Store;

use crate::env::{Env, Reply, sqlite};
use crate::kms_plugin::{Manner, Plugin};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

async fn guarded(raw: &Store, socket: &Path) -> Env {
    let text = format!(
        "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets]\n  providers:\n  - kms: {{apiVersion: v2, name: guard, endpoint: 'unix://{}', timeout: 300ms}}\n  - identity: {{}}\n",
        socket.display()
    );
    let config = EncryptionConfig::parse(&text).unwrap();
    let kinds = resources::all(&resources::Options::default());
    let encryption = Encryption::new(&config, &kinds).unwrap();
    encryption.start().await;
    let given = encryption.clone();
    Env::over_with(encryption.over(raw.clone()), |p| p.encryption = Some(given)).await
}

fn says(reply: &Reply) -> String {
    reply.json()["message"].as_str().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_come_back_with_the_plugin_that_guards_them() {
    let dir = tempfile::tempdir().unwrap();
    let raw = sqlite(dir.path());
    let socket = dir.path().join("kms.sock");
    let plugin = Plugin::start(&socket, "key-1");
    let env = guarded(&raw, &socket).await;
    let secret = |name: &str| json!({"metadata": {"name": name}, "stringData": {"a": name}});
    for name in ["one", "two"] {
        assert_eq!(env.post(SECRETS, &secret(name)).await.code, 201);
    }
    let health = env.get("/readyz?verbose").await;
    let health = String::from_utf8(health.body).unwrap();
    assert!(
        health.contains("[+]etcd-readiness ok\n[+]kms-providers ok\n[+]informer-sync ok\n"),
        "{health}"
    );
    let stored = raw.get("/registry/secrets/default/one").await.unwrap();
    assert!(stored.unwrap().value.starts_with(b"k8s:enc:kms:v2:guard:"));
    drop(env);

    // The server starts anew, the plug-in does not answer.
    plugin.behave(Manner::Hangs);
    let begun = Instant::now();
    let env = guarded(&raw, &socket).await;
    println!(
        "started beside a plug-in that hangs in {:?}",
        begun.elapsed()
    );
    let refused = env.post(SECRETS, &secret("three")).await;
    assert_eq!(refused.code, 500);
    assert_eq!(
        says(&refused),
        "Internal error occurred: got unexpected nil transformer"
    );
    let reply = env.get(&format!("{SECRETS}/one")).await;
    assert_eq!(reply.code, 500, "{reply:?}");
    assert!(says(&reply).contains("got unexpected nil transformer"));
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(
        env.post(maps, &json!({"metadata": {"name": "c"}}))
            .await
            .code,
        201
    );
    assert_eq!(env.get("/livez/kms-providers").await.code, 500);
    assert_eq!(env.get("/livez?exclude=kms-providers").await.code, 200);

    plugin.behave(Manner::Good);
    env.until("/livez", |r| r.code == 200).await;
    let all = env
        .until(SECRETS, |r| {
            r.code == 200 && r.json()["items"].as_array().is_some_and(|i| i.len() == 2)
        })
        .await;
    assert_eq!(all.json()["items"][0]["data"], json!({"a": "b25l"}));
    assert_eq!(env.post(SECRETS, &secret("three")).await.code, 201);
    assert_eq!(env.get(&format!("{SECRETS}/three")).await.code, 200);

    // It hangs again: what is known goes on, quickly.
    plugin.behave(Manner::Hangs);
    let begun = Instant::now();
    assert_eq!(env.post(SECRETS, &secret("four")).await.code, 201);
    assert_eq!(env.get(&format!("{SECRETS}/one")).await.code, 200);
    println!("a write and a read beside it took {:?}", begun.elapsed());
    tokio::time::timeout(Duration::from_secs(5), env.drain())
        .await
        .expect("it does not hold up the end");
}
