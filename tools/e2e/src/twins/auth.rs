//! Twins of [sig-auth].

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::json;

use super::Twin;
use crate::rest::{Cx, version};

pub mod accounts;
pub mod certificates;
pub mod pod_certificates;
pub mod trust_bundles;

pub const TWINS: &[Twin] = &[
    Twin {
        name: "[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount [Conformance]",
        base: "svcaccounts",
        run: |cx| Box::pin(lifecycle(cx)),
    },
    Twin {
        name: "[sig-auth] ServiceAccounts should update a ServiceAccount [Conformance]",
        base: "svcaccounts",
        run: |cx| Box::pin(update(cx)),
    },
];

async fn lifecycle(cx: Cx) -> Result<()> {
    let accounts = cx.core("serviceaccounts");
    let name = "testserviceaccount";
    let object = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "labels": {"test-serviceaccount-static": "true"}}});
    let made = cx.ok(Method::POST, &accounts, &object).await?;
    version(&made)?;
    let path = format!("{accounts}/{name}");
    let found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["uid"] == made["metadata"]["uid"],
        "{found}"
    );
    let query = "labelSelector=test-serviceaccount-static%3Dtrue&timeoutSeconds=180";
    let mut watch = cx.watch(&accounts, query).await?;
    watch.expect("ADDED", None).await?;
    let patch =
        json!({"metadata": {"creationTimestamp": null}, "automountServiceAccountToken": false});
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(
        version(&patched)? > version(&made)?,
        "the version did not grow: {patched}"
    );
    watch.expect("MODIFIED", None).await?;
    let all = cx
        .get("/api/v1/serviceaccounts?labelSelector=test-serviceaccount-static%3Dtrue")
        .await?;
    let here = all["items"].as_array().into_iter().flatten().any(|i| {
        i["metadata"]["name"] == name
            && i["metadata"]["namespace"] == json!(cx.namespace)
            && i["automountServiceAccountToken"] == false
    });
    ensure!(here, "{all}");
    cx.delete(&accounts).await?;
    let (kind, _) = watch.next(Duration::from_secs(180)).await?;
    ensure!(kind == "DELETED", "got {kind}");
    Ok(())
}

async fn update(cx: Cx) -> Result<()> {
    let suffix: String = uuid::Uuid::new_v4()
        .simple()
        .to_string()
        .chars()
        .take(5)
        .collect();
    let name = format!("e2e-sa-{suffix}");
    let accounts = cx.core("serviceaccounts");
    let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name},
        "automountServiceAccountToken": false});
    let made = cx.ok(Method::POST, &accounts, &object).await?;
    ensure!(made["automountServiceAccountToken"] == false, "{made}");
    let path = format!("{accounts}/{name}");
    let updated = cx
        .update(&path, |o| o["automountServiceAccountToken"] = json!(true))
        .await?;
    ensure!(updated["automountServiceAccountToken"] == true, "{updated}");
    Ok(())
}
