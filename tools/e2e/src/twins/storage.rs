//! Twins of [sig-storage].

use anyhow::{Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::Method;
use serde_json::{Value, json};

use super::Twin;
use crate::rest::Cx;

pub const TWINS: &[Twin] = &[
    Twin {
        name: "[sig-storage] ConfigMap should be immutable if `immutable` field is set [Conformance]",
        base: "configmap",
        run: |cx| Box::pin(config_map_immutable(cx)),
    },
    Twin {
        name: "[sig-storage] Secrets should be immutable if `immutable` field is set [Conformance]",
        base: "secrets",
        run: |cx| Box::pin(secret_immutable(cx)),
    },
];

async fn config_map_immutable(cx: Cx) -> Result<()> {
    let data = |i: u32| json!(format!("value-{i}"));
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "immutable"},
        "data": {"data-1": data(1), "data-2": data(2), "data-3": data(3)}});
    immutable(&cx, &cx.core("configmaps"), object, &data).await
}

async fn secret_immutable(cx: Cx) -> Result<()> {
    let data = |i: u32| json!(BASE64.encode(format!("value-{i}\n")));
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "immutable"},
        "data": {"data-1": data(1), "data-2": data(2), "data-3": data(3)}});
    immutable(&cx, &cx.core("secrets"), object, &data).await
}

async fn immutable(
    cx: &Cx,
    all: &str,
    object: Value,
    data: &(dyn Fn(u32) -> Value + Sync),
) -> Result<()> {
    cx.ok(Method::POST, all, &object).await?;
    let path = format!("{all}/immutable");
    let mut object = cx.get(&path).await?;
    object["data"]["data-4"] = data(4);
    let mut object = cx.ok(Method::PUT, &path, &object).await?;
    object["immutable"] = json!(true);
    let object = cx.ok(Method::PUT, &path, &object).await?;
    let mut changed = object.clone();
    changed["data"]["data-5"] = data(5);
    let refused = cx.refused(Method::PUT, &path, &changed).await?;
    ensure!(
        refused.code == 422 && refused.reason == "Invalid",
        "{refused:?}"
    );
    let found = cx.get(&path).await?;
    ensure!(found["immutable"] == true, "{found}");
    let mut changed = found.clone();
    changed["immutable"] = json!(false);
    let refused = cx.refused(Method::PUT, &path, &changed).await?;
    ensure!(
        refused.code == 422 && refused.reason == "Invalid",
        "{refused:?}"
    );
    let mut labelled = cx.get(&path).await?;
    labelled["metadata"]["labels"] = json!({"label1": "value1"});
    let labelled = cx.ok(Method::PUT, &path, &labelled).await?;
    ensure!(
        labelled["metadata"]["labels"]["label1"] == "value1",
        "{labelled}"
    );
    cx.delete(&path).await?;
    Ok(())
}
