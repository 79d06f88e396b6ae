//! Twins of namespace.go beside those that only write namespaces.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::images::PAUSE_IMAGE;
use crate::rest::{Cx, random};
use crate::waits::{self, LONG};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] Namespaces should ensure that all pods are removed when a namespace is deleted [Conformance] [Serial]",
        "namespaces",
        pods_removed
    ),
    twin!(
        "[sig-api-machinery] Namespaces should ensure that all services are removed when a namespace is deleted [Conformance] [Serial]",
        "namespaces",
        services_removed
    ),
    twin!(
        "[sig-api-machinery] Namespaces should apply a finalizer to a Namespace [Conformance] [Serial]",
        "namespaces",
        finalizer
    ),
    twin!(
        "[sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first [Conformance]",
        "namespacedeletion",
        ordered
    ),
];

fn own(cx: &Cx) -> String {
    format!("/api/v1/namespaces/{}", cx.namespace)
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test-pod"},
        "spec": {"containers": [{"name": "nginx", "image": PAUSE_IMAGE}]}})
}

/// Deletes the namespace and waits until it is gone.
async fn deleted(cx: &Cx, within: Duration) -> Result<()> {
    cx.delete(&own(cx)).await?;
    cx.gone(&own(cx), within).await
}

async fn pods_removed(cx: Cx) -> Result<()> {
    let inner = cx.another("nsdeletetest", json!({})).await?;
    let made = inner.ok(Method::POST, &inner.core("pods"), &pod()).await?;
    waits::running(&inner, "test-pod").await?;
    let grace = made["spec"]["terminationGracePeriodSeconds"]
        .as_u64()
        .context("a grace period")?;
    deleted(&inner, Duration::from_secs(60 + grace)).await?;
    let again = cx.another("nsdeletetest", json!({})).await?;
    ensure!(
        !again.exists(&again.core("pods/test-pod")).await?,
        "the pod is there"
    );
    Ok(())
}

async fn services_removed(cx: Cx) -> Result<()> {
    let inner = cx.another("nsdeletetest", json!({})).await?;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "test-service"},
        "spec": {"selector": {"foo": "bar", "baz": "blah"}, "ports": [{"port": 80, "targetPort": 80}]}});
    inner
        .ok(Method::POST, &inner.core("services"), &service)
        .await?;
    deleted(&inner, Duration::from_secs(60)).await?;
    let again = cx.another("nsdeletetest", json!({})).await?;
    let path = again.core("services/test-service");
    ensure!(!again.exists(&path).await?, "the service is there");
    Ok(())
}

async fn finalizer(cx: Cx) -> Result<()> {
    const FAKE: &str = "e2e.example.com/fakeFinalizer";
    let inner = cx
        .another(&format!("e2e-ns-{}", random(5)), json!({}))
        .await?;
    let finalizers = |o: &Value| {
        let all = o["spec"]["finalizers"].as_array();
        all.cloned().unwrap_or_default()
    };
    let write = async |change: fn(&mut Vec<Value>)| {
        for _ in 0..5 {
            let mut object = inner.get(&own(&inner)).await?;
            if let Some(all) = object["spec"]["finalizers"].as_array_mut() {
                change(all);
            }
            let path = format!("{}/finalize", own(&inner));
            let answer = inner.send(Method::PUT, &path, "application/json", Some(&object));
            match answer.await? {
                Err(f) if f.code == 409 => {}
                Ok(found) => return Ok(found),
                Err(f) => anyhow::bail!("PUT {path}: {f:?}"),
            }
        }
        anyhow::bail!("five conflicts")
    };
    let found = write(|all| all.push(json!(FAKE))).await?;
    ensure!(finalizers(&found).contains(&json!(FAKE)), "{found}");
    let found = write(|all| all.retain(|f| f != FAKE)).await?;
    ensure!(!finalizers(&found).contains(&json!(FAKE)), "{found}");
    ensure!(finalizers(&found).contains(&json!("kubernetes")), "{found}");
    Ok(())
}

async fn ordered(cx: Cx) -> Result<()> {
    const EVERY: Duration = Duration::from_secs(2);
    let inner = cx.another("nsdeletetest", json!({})).await?;
    let mut object = pod();
    object["metadata"]["finalizers"] = json!(["e2e.example.com/finalizer"]);
    inner.ok(Method::POST, &inner.core("pods"), &object).await?;
    waits::running(&inner, "test-pod").await?;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-configmap"},
        "data": {"key": "value"}});
    inner
        .ok(Method::POST, &inner.core("configmaps"), &map)
        .await?;

    inner.delete(&own(&inner)).await?;
    cx.eventually(EVERY, LONG, "the namespace says what is left", || async {
        let found = inner.get(&own(&inner)).await?;
        Ok(found["status"]["phase"] == "Terminating"
            && waits::condition(&found, "NamespaceDeletionContentFailure").is_some())
    })
    .await?;
    let (map, pod) = (
        inner.core("configmaps/test-configmap"),
        inner.core("pods/test-pod"),
    );
    cx.eventually(EVERY, LONG, "the pod is being deleted", || async {
        inner
            .get(&map)
            .await
            .context("the ConfigMap went before the pod")?;
        let found = inner.get(&pod).await?;
        Ok(!found["metadata"]["deletionTimestamp"].is_null())
    })
    .await?;
    inner
        .update(&pod, |o| o["metadata"]["finalizers"] = json!([]))
        .await?;
    inner.gone(&pod, waits::POD_DELETE).await?;
    inner.gone(&own(&inner), LONG).await
}
