//! CustomResourceDefinitions as upstream's fixtures make them.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::rest::{Cx, FOREVER, random};
use crate::waits::name;

/// Where definitions are.
pub const ALL: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const EVERY: Duration = Duration::from_millis(500);
/// How long the first event of a fresh resource may take.
const FIRST_EVENT: Duration = Duration::from_secs(5);

/// A schema that lets everything pass.
pub fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A version of a definition.
pub fn version(name: &str, storage: bool, schema: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
}

/// A definition.
pub fn definition(group: &str, names: Value, scope: &str, versions: Vec<Value>) -> Value {
    let plural = names["plural"].as_str().unwrap_or_default();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "names": names, "scope": scope, "versions": versions,
            "conversion": {"strategy": "None"}}})
}

/// Names derived from one word.
pub fn names(word: &str) -> Value {
    json!({"singular": word, "kind": word, "plural": format!("{word}s"), "listKind": format!("{word}List")})
}

/// The fixture "random": one version `v1beta1` in `mygroup.example.com`.
pub fn random_definition(scope: &str) -> Value {
    let word = format!("foo{}a", random(5));
    let versions = vec![version("v1beta1", true, anything())];
    definition("mygroup.example.com", names(&word), scope, versions)
}

/// The fixture "random multi-version": `v1beta1` and the stored `v1`, both with a status.
pub fn random_versions(schema: &Value) -> Value {
    let word = format!("foo{}a", random(5));
    let status = |mut v: Value| {
        v["subresources"] = json!({"status": {}});
        v
    };
    let versions = vec![
        status(version("v1beta1", false, schema.clone())),
        status(version("v1", true, schema.clone())),
    ];
    definition("mygroup.example.com", names(&word), "Cluster", versions)
}

/// The name of a definition's resource.
pub fn plural(crd: &Value) -> &str {
    crd["spec"]["names"]["plural"].as_str().unwrap_or_default()
}

fn group(crd: &Value) -> &str {
    crd["spec"]["group"].as_str().unwrap_or_default()
}

/// The names of the versions that are served.
pub fn served(crd: &Value) -> Vec<String> {
    let all = crd["spec"]["versions"].as_array().into_iter().flatten();
    let on = all.filter(|v| v["served"] == true);
    on.filter_map(|v| v["name"].as_str().map(String::from))
        .collect()
}

/// Where a definition's objects are in a version; in a namespace if it has one.
pub fn objects(crd: &Value, version: &str, namespace: Option<&str>) -> String {
    let (group, plural) = (group(crd), plural(crd));
    match namespace.filter(|_| crd["spec"]["scope"] == "Namespaced") {
        Some(ns) => format!("/apis/{group}/{version}/namespaces/{ns}/{plural}"),
        None => format!("/apis/{group}/{version}/{plural}"),
    }
}

/// Waits until discovery lists a definition's resource in all served versions, or in none.
pub async fn discovered(cx: &Cx, crd: &Value, wanted: bool) -> Result<()> {
    for version in served(crd) {
        let path = format!("/apis/{}/{version}", group(crd));
        let what = format!("{path} lists {}: {wanted}", plural(crd));
        cx.eventually(EVERY, FOREVER, &what, || async {
            let answer = cx
                .send(Method::GET, &path, "application/json", None)
                .await?;
            let listed = match answer {
                Ok(list) => {
                    let all = list["resources"].as_array();
                    all.is_some_and(|all| all.iter().any(|r| r["name"] == plural(crd)))
                }
                Err(f) if f.code == 404 => false,
                Err(f) => bail!("GET {path}: {f:?}"),
            };
            Ok(listed == wanted)
        })
        .await?;
    }
    Ok(())
}

/// Creates a definition and waits for discovery; the reply.
pub async fn create(cx: &Cx, crd: &Value) -> Result<Value> {
    let made = cx.ok(Method::POST, ALL, crd).await?;
    cx.clean(format!("{ALL}/{}", name(&made)));
    discovered(cx, &made, true).await?;
    Ok(made)
}

/// Creates a definition and proves that its objects can be written and watched; the reply.
pub async fn create_primed(cx: &Cx, crd: &Value) -> Result<Value> {
    let made = create(cx, crd).await?;
    let versions = served(&made);
    let what = format!("{} can be watched", name(crd));
    cx.eventually(EVERY, FOREVER, &what, || async {
        prime(cx, &made, &versions).await
    })
    .await?;
    Ok(made)
}

async fn prime(cx: &Cx, crd: &Value, versions: &[String]) -> Result<bool> {
    let first = crd["spec"]["versions"][0]["name"].as_str().unwrap_or("v1");
    let all = objects(crd, first, Some("default"));
    let mut object = json!({"apiVersion": format!("{}/{first}", group(crd)),
        "kind": crd["spec"]["names"]["kind"], "metadata": {"name": "setup-instance"},
        "alpha": "foo_123", "beta": 10, "gamma": "bar", "delta": "hello", "epsilon": "foobar", "spec": {}});
    if crd["spec"]["scope"] == "Namespaced" {
        object["metadata"]["namespace"] = json!("default");
    }
    let made = cx.ok(Method::POST, &all, &object).await?;
    cx.delete(&format!("{all}/setup-instance")).await?;
    for version in versions {
        let since = crate::rest::version(&made)?;
        let path = objects(crd, version, Some("default"));
        let mut watch = cx.watch(&path, &format!("resourceVersion={since}")).await?;
        let (kind, seen) = watch.next(FIRST_EVENT).await?;
        if kind == "ERROR" {
            return Ok(false);
        }
        ensure!(kind == "DELETED", "{kind} {seen}");
    }
    Ok(true)
}

/// Deletes a definition and waits until it has left discovery.
pub async fn delete(cx: &Cx, crd: &Value) -> Result<()> {
    cx.delete(&format!("{ALL}/{}", name(crd))).await?;
    discovered(cx, crd, false).await
}
