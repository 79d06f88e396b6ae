//! Twins of [sig-node].

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};

use super::Twin;
use crate::rest::{Cx, version};

pub const TWINS: &[Twin] = &[
    Twin {
        name: "[sig-node] ConfigMap should fail to create ConfigMap with empty key [Conformance]",
        base: "configmap",
        run: |cx| Box::pin(config_map_empty_key(cx)),
    },
    Twin {
        name: "[sig-node] ConfigMap should update ConfigMap successfully [Conformance] [NodeConformance]",
        base: "configmap",
        run: |cx| Box::pin(config_map_update(cx)),
    },
    Twin {
        name: "[sig-node] ConfigMap should run through a ConfigMap lifecycle [Conformance]",
        base: "configmap",
        run: |cx| Box::pin(config_map_lifecycle(cx)),
    },
    Twin {
        name: "[sig-node] Secrets should fail to create secret due to empty secret key [Conformance]",
        base: "secrets",
        run: |cx| Box::pin(secret_empty_key(cx)),
    },
    Twin {
        name: "[sig-node] Secrets should patch a secret [Conformance]",
        base: "secrets",
        run: |cx| Box::pin(secret_patch(cx)),
    },
];

fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Whether a list of all namespaces has an object of this test.
fn item<'a>(list: &'a Value, cx: &Cx, name: &str) -> Option<&'a Value> {
    list["items"].as_array()?.iter().find(|i| {
        i["metadata"]["name"] == name && i["metadata"]["namespace"] == json!(cx.namespace)
    })
}

async fn config_map_empty_key(cx: Cx) -> Result<()> {
    let maps = cx.core("configmaps");
    // The first name is upstream's; its upper-case letter alone is refused, so a valid one follows.
    for name in [
        format!("configmap-test-emptyKey-{}", uuid()),
        format!("configmap-test-empty-key-{}", uuid()),
    ] {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"": "value-1"}});
        let refused = cx.refused(Method::POST, &maps, &object).await?;
        ensure!(refused.code == 422, "{refused:?}");
    }
    Ok(())
}

async fn config_map_update(cx: Cx) -> Result<()> {
    let name = format!("configmap-test-{}", uuid());
    let maps = cx.core("configmaps");
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"}});
    cx.ok(Method::POST, &maps, &object).await?;
    object["data"] = json!({"data": "value"});
    let path = format!("{maps}/{name}");
    cx.ok(Method::PUT, &path, &object).await?;
    let found = cx.get(&path).await?;
    ensure!(found["data"] == json!({"data": "value"}), "{found}");
    Ok(())
}

async fn config_map_lifecycle(cx: Cx) -> Result<()> {
    let name = format!("test-configmap{}", uuid());
    let maps = cx.core("configmaps");
    let path = format!("{maps}/{name}");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"test-configmap-static": "true"}},
        "data": {"valueName": "value"}});
    cx.ok(Method::POST, &maps, &object).await?;
    let found = cx.get(&path).await?;
    ensure!(found["data"]["valueName"] == "value", "{found}");
    ensure!(
        found["metadata"]["labels"]["test-configmap-static"] == "true",
        "{found}"
    );
    let patch = json!({"metadata": {"creationTimestamp": null, "labels": {"test-configmap": "patched"}},
        "data": {"valueName": "value1"}});
    cx.patch(&path, "strategic-merge", &patch).await?;
    let all = cx
        .get("/api/v1/configmaps?labelSelector=test-configmap%3Dpatched")
        .await?;
    let here = item(&all, &cx, &name).context("the patched one is not listed")?;
    ensure!(
        here["metadata"]["labels"]["test-configmap-static"] == "true",
        "{here}"
    );
    ensure!(
        here["metadata"]["labels"]["test-configmap"] == "patched",
        "{here}"
    );
    ensure!(here["data"]["valueName"] == "value1", "{here}");
    let selected = format!("{maps}?labelSelector=test-configmap-static%3Dtrue");
    cx.delete(&selected).await?;
    let left = cx.get(&selected).await?;
    ensure!(
        left["items"].as_array().is_some_and(Vec::is_empty),
        "{left}"
    );
    Ok(())
}

async fn secret_empty_key(cx: Cx) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": format!("secret-emptykey-test-{}", uuid())},
        "data": {"": BASE64.encode("value-1\n")}});
    let refused = cx
        .refused(Method::POST, &cx.core("secrets"), &object)
        .await?;
    ensure!(refused.code == 422, "{refused:?}");
    Ok(())
}

async fn secret_patch(cx: Cx) -> Result<()> {
    let name = format!("test-secret-{}", uuid());
    let secrets = cx.core("secrets");
    let path = format!("{secrets}/{name}");
    let object = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": name, "labels": {"testsecret-constant": "true"}},
        "data": {"key": BASE64.encode("value")}});
    let made = cx.ok(Method::POST, &secrets, &object).await?;
    let first = version(&made)?;
    let everywhere = "/api/v1/secrets?labelSelector=testsecret-constant%3Dtrue";
    ensure!(
        item(&cx.get(everywhere).await?, &cx, &name).is_some(),
        "the secret is not listed"
    );
    let twice = BASE64.encode(BASE64.encode("value1"));
    let patch = json!({"metadata": {"labels": {"testsecret": "true"}}, "data": {"key": twice}});
    cx.patch(&path, "strategic-merge", &patch).await?;
    let found = cx.get(&path).await?;
    ensure!(
        version(&found)? > first,
        "the version did not grow: {found}"
    );
    let bytes = BASE64.decode(found["data"]["key"].as_str().unwrap_or(""))?;
    ensure!(BASE64.decode(bytes)? == b"value1", "{found}");
    cx.delete(&format!("{secrets}?labelSelector=testsecret%3Dtrue"))
        .await?;
    ensure!(
        item(&cx.get(everywhere).await?, &cx, &name).is_none(),
        "the secret is still there"
    );
    Ok(())
}
