//! Objects at rest: sealed in the store, plain above it, and what is said of those nobody can open.

use apiserver::encryption::{Encryption, EncryptionConfig, FileReload};
use bytes::Bytes;
use serde_json::json;

use crate::env::{Env, sqlite};

fn config(provider: &str) -> EncryptionConfig {
    EncryptionConfig::parse(&format!(
        "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets, '*.apps', crontabs.stable.example.com]\n  providers:\n  - {provider}\n  - identity: {{}}\n"
    ))
    .unwrap()
}

#[tokio::test]
async fn sealed_objects_are_served_as_if_they_were_plain() {
    let dir = tempfile::tempdir().unwrap();
    let raw = sqlite(dir.path());
    let kinds = resources::all(&resources::Options::default());
    let key = "{keys: [{name: k1, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}";
    let encryption = Encryption::new(&config(&format!("aesgcm: {key}")), &kinds).unwrap();
    let env = Env::over(encryption.over(raw.clone())).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let made = env
        .post(
            secrets,
            &json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}}),
        )
        .await;
    assert_eq!(made.code, 201, "{made:?}");
    env.post(
        "/api/v1/namespaces/default/configmaps",
        &json!({"metadata": {"name": "c"}}),
    )
    .await;
    let changed = env
        .patch(
            &format!("{secrets}/s"),
            "merge",
            &json!({"data": {"c": "ZA=="}}),
        )
        .await;
    assert_eq!(changed.json()["data"], json!({"a": "Yg==", "c": "ZA=="}));
    let got = env.get(&format!("{secrets}/s")).await.json();
    assert_eq!(got["data"], json!({"a": "Yg==", "c": "ZA=="}));
    let past = env
        .get(&format!(
            "{secrets}?resourceVersion={}&resourceVersionMatch=Exact",
            made.json()["metadata"]["resourceVersion"].as_str().unwrap()
        ))
        .await;
    assert_eq!(
        past.json()["items"][0]["data"],
        json!({"a": "Yg=="}),
        "{past:?}"
    );
    let stored = raw
        .get("/registry/secrets/default/s")
        .await
        .unwrap()
        .unwrap();
    assert!(stored.value.starts_with(b"k8s:enc:aesgcm:v1:k1:"));
    let plain = raw
        .get("/registry/configmaps/default/c")
        .await
        .unwrap()
        .unwrap();
    assert!(plain.value.starts_with(b"{"));

    // One that is damaged is not hidden.
    let mut damaged = stored.value.to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let key = Bytes::from_static(b"/registry/secrets/default/bad");
    raw.create(key.clone(), damaged.into(), 0).await.unwrap();
    let why = "Internal error occurred: [cipher: message authentication failed, identity transformer tried to read encrypted data]";
    let reply = env.get(&format!("{secrets}/bad")).await;
    assert_eq!(
        (reply.code, reply.json()["message"].as_str()),
        (500, Some(why))
    );
    let reply = env.get(secrets).await;
    assert_eq!(reply.code, 500, "{reply:?}");
    let why = "Internal error occurred: unable to transform key \"/registry/secrets/default/bad\": [cipher: message authentication failed, identity transformer tried to read encrypted data]";
    assert_eq!(reply.json()["message"], why);
    assert_eq!(env.get(&format!("{secrets}/s")).await.code, 200);
    assert_eq!(
        env.get("/api/v1/namespaces/kube-system/secrets").await.code,
        200
    );
    let gone = raw.get(key.clone()).await.unwrap().unwrap();
    raw.delete(key, gone.mod_revision).await.unwrap();
    assert_eq!(env.get(secrets).await.code, 200);
    assert_eq!(env.get(&format!("{secrets}/bad")).await.code, 404);
}

/// The file's rules are taken over while the server runs; what is wrong with it changes nothing.
#[tokio::test]
async fn the_configuration_follows_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let raw = sqlite(dir.path());
    let kinds = resources::all(&resources::Options::default());
    let path = dir.path().join("encryption.yaml");
    let text = |resources: &str, keys: &str| {
        format!(
            "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [{resources}]\n  providers:\n  - aescbc: {{keys: [{keys}]}}\n  - identity: {{}}\n"
        )
    };
    let (old, new) = (
        "{name: old, secret: AAECAwQFBgcICQoLDA0ODw==}",
        "{name: new, secret: EBESExQVFhcYGRobHB0eHw==}",
    );
    let first = text("secrets", old);
    std::fs::write(&path, &first).unwrap();
    let config = EncryptionConfig::parse(&first).unwrap();
    let encryption = Encryption::new(&config, &kinds).unwrap();
    let given = encryption.clone();
    let env = Env::over_with(encryption.over(raw.clone()), |p| p.encryption = Some(given)).await;
    assert_eq!(env.get("/healthz/kms-providers").await.code, 404);
    let (_end, shutdown) = tokio::sync::watch::channel(false);
    let file = FileReload::new(path.clone(), &config).every(std::time::Duration::from_millis(20));
    tokio::spawn(encryption.clone().follow(file, shutdown));
    let maps = "/api/v1/namespaces/default/configmaps";
    let named = |name: &str| json!({"metadata": {"name": name}, "data": {"a": "b"}});
    assert_eq!(env.post(maps, &named("plain")).await.code, 201);
    let reloads = |status: &'static str| {
        move |r: &crate::env::Reply| {
            let text = String::from_utf8_lossy(&r.body).into_owned();
            let name = "apiserver_encryption_config_controller_automatic_reloads_total{";
            let status = format!("status=\"{status}\"");
            text.lines()
                .any(|l| l.starts_with(name) && l.contains(&status))
        }
    };
    std::fs::write(&path, "kind: Nonsense\n").unwrap();
    env.until("/metrics", reloads("failure")).await;
    assert_eq!(env.get("/healthz/kms-providers").await.code, 200);
    std::fs::write(&path, text("'*.*'", &format!("{new}, {old}"))).unwrap();
    env.until("/metrics", reloads("success")).await;
    assert_eq!(env.post(maps, &named("sealed")).await.code, 201);
    assert_eq!(env.get(&format!("{maps}/plain")).await.code, 200);
    let stored = |name: &str| {
        let key = format!("/registry/configmaps/default/{name}");
        let raw = raw.clone();
        async move { raw.get(key).await.unwrap().unwrap().value }
    };
    assert!(stored("plain").await.starts_with(b"{"));
    assert!(
        stored("sealed")
            .await
            .starts_with(b"k8s:enc:aescbc:v1:new:")
    );
    let metrics = env.get("/metrics").await;
    let metrics = String::from_utf8(metrics.body).unwrap();
    for line in [
        "apiserver_encryption_config_controller_last_config_info{apiserver_id_hash=\"\",hash=\"sha256:",
        "apiserver_storage_transformation_operations_total{resource=\"configmaps\",status=\"OK\",transformation_type=\"to_storage\",transformer_prefix=\"k8s:enc:aescbc:v1:\"}",
    ] {
        assert!(metrics.contains(line), "{line} not in {metrics}");
    }
}

#[test]
fn wildcards_stand_for_what_upstream_lets_them_stand_for() {
    let text = |entries: &[&str]| {
        let one =
            |names: &&str| format!("- resources: [{names}]\n  providers:\n  - identity: {{}}\n");
        let all: String = entries.iter().map(one).collect();
        format!(
            "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n{all}"
        )
    };
    for good in [
        &["secrets", "'*.'", "'*.apps'", "'*.*'"][..],
        &["secrets", "secrets"],
        &["deployments.apps", "'*.apps'"],
    ] {
        assert!(EncryptionConfig::parse(&text(good)).is_ok(), "{good:?}");
    }
    for (bad, why) in [
        (
            &["'*.'", "secrets"][..],
            "resource \"secrets\" is masked by earlier rule \"*.\"",
        ),
        (
            &["'*.apps'", "deployments.apps"],
            "resource \"deployments.apps\" is masked by earlier rule \"*.apps\"",
        ),
        (
            &["'*.apps'", "'*.apps'"],
            "resource \"*.apps\" is masked by earlier rule \"*.apps\"",
        ),
        (
            &["'*.*'", "pods"],
            "resource \"pods\" is masked by earlier rule \"*.*\"",
        ),
    ] {
        let error = EncryptionConfig::parse(&text(bad)).unwrap_err();
        assert_eq!(error, why);
    }
}

#[tokio::test]
async fn old_keys_are_read_until_everything_is_sealed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let raw = sqlite(dir.path());
    let kinds = resources::all(&resources::Options::default());
    let (old, new) = (
        "{name: old, secret: AAECAwQFBgcICQoLDA0ODw==}",
        "{name: new, secret: EBESExQVFhcYGRobHB0eHw==}",
    );
    let encryption =
        Encryption::new(&config(&format!("aescbc: {{keys: [{old}]}}")), &kinds).unwrap();
    let env = Env::over(encryption.over(raw.clone())).await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    assert_eq!(env.post(deployments, &deployment).await.code, 201);
    let stored = || async {
        let kv = raw
            .get("/registry/deployments/default/d")
            .await
            .unwrap()
            .unwrap();
        String::from_utf8_lossy(&kv.value[..21]).into_owned()
    };
    assert_eq!(stored().await, "k8s:enc:aescbc:v1:old");
    let both = format!("aescbc: {{keys: [{new}, {old}]}}");
    encryption.replace(&config(&both)).await.unwrap();
    assert_eq!(env.get(&format!("{deployments}/d")).await.code, 200);
    assert_eq!(encryption.reseal(&raw).await.unwrap(), 1);
    assert_eq!(stored().await, "k8s:enc:aescbc:v1:new");
    let only = format!("aescbc: {{keys: [{new}]}}");
    encryption.replace(&config(&only)).await.unwrap();
    env.patch(
        &format!("{deployments}/d"),
        "merge",
        &json!({"spec": {"replicas": 3}}),
    )
    .await;
    assert_eq!(
        env.get(&format!("{deployments}/d")).await.json()["spec"]["replicas"],
        3
    );
}
