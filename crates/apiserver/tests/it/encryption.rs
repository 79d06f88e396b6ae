//! Objects at rest: sealed in the store, plain above it, and what is said of those nobody can open.

use apiserver::encryption::{Encryption, EncryptionConfig};
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
