//! Twins of custom_resource_definition.go and crd_watch.go.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::crds;
use crate::operations::discovered;
use crate::rest::{Cx, FOREVER, Watch, labelled, random};
use crate::waits::name;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects [Conformance]",
        "crd-watch",
        watches
    ),
    twin!(
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works [Conformance]",
        "custom-resource-definition",
        create_and_delete
    ),
    twin!(
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works [Conformance]",
        "custom-resource-definition",
        listing
    ),
    twin!(
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works [Conformance]",
        "custom-resource-definition",
        status
    ),
    twin!(
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works [Conformance]",
        "custom-resource-definition",
        defaulting
    ),
    twin!(
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents [Conformance]",
        "custom-resource-definition",
        in_discovery
    ),
];

/// The definition with the unusual names.
fn noxu() -> Value {
    let names = json!({"plural": "noxus", "singular": "nonenglishnoxu", "kind": "WishIHadChosenNoxu",
        "shortNames": ["foo", "bar", "abc", "def"], "listKind": "NoxuItemList", "categories": ["all"]});
    let versions = vec![crds::version("v1beta1", true, crds::anything())];
    crds::definition("mygroup.example.com", names, "Cluster", versions)
}

fn noxu_object(name: &str) -> Value {
    json!({"apiVersion": "mygroup.example.com/v1beta1", "kind": "WishIHadChosenNoxu",
        "metadata": {"namespace": "", "name": name}, "content": {"key": "value"},
        "num": {"num1": i64::MAX, "num2": 1_000_000}})
}

async fn watches(cx: Cx) -> Result<()> {
    let crd = crds::create_primed(&cx, &noxu()).await?;
    let all = crds::objects(&crd, "v1beta1", None);
    let watch = async |name: &str| {
        let query = format!("fieldSelector=metadata.name%3D{name}&timeoutSeconds=600");
        cx.watch(&all, &query).await
    };
    let (mut first, mut second) = (watch("name1").await?, watch("name2").await?);
    for (name, one) in [("name1", true), ("name2", false)] {
        let made = cx.ok(Method::POST, &all, &noxu_object(name)).await?;
        ensure!(
            made["metadata"]["uid"].is_string()
                && made["apiVersion"] == "mygroup.example.com/v1beta1"
                && made["kind"] == "WishIHadChosenNoxu",
            "{made}"
        );
        seen(&mut first, &mut second, one, "ADDED", Some(&made)).await?;
    }
    let patch = json!([{"op": "add", "path": "/dummy", "value": "test"}]);
    for (name, one) in [("name1", true), ("name2", false)] {
        let patched = cx.patch(&format!("{all}/{name}"), "json", &patch).await?;
        seen(&mut first, &mut second, one, "MODIFIED", Some(&patched)).await?;
    }
    for (name, one) in [("name1", true), ("name2", false)] {
        cx.delete(&format!("{all}/{name}")).await?;
        seen(&mut first, &mut second, one, "DELETED", None).await?;
    }
    crds::delete(&cx, &crd).await
}

/// One of the watches must see an event, the other none.
async fn seen(
    first: &mut Watch,
    second: &mut Watch,
    one: bool,
    kind: &str,
    object: Option<&Value>,
) -> Result<()> {
    let (sees, does_not) = if one {
        (first, second)
    } else {
        (second, first)
    };
    sees.expect(kind, object).await?;
    does_not.expect_none().await
}

async fn create_and_delete(cx: Cx) -> Result<()> {
    let crd = crds::create(&cx, &crds::random_definition("Cluster")).await?;
    crds::delete(&cx, &crd).await?;
    let path = format!("{}/{}", crds::ALL, name(&crd));
    cx.gone(&path, FOREVER).await
}

async fn listing(cx: Cx) -> Result<()> {
    let uuid = uuid::Uuid::new_v4().to_string();
    let mut made = Vec::new();
    for _ in 0..10 {
        let mut crd = crds::random_definition("Cluster");
        crd["metadata"]["labels"] = json!({"e2e-list-test-uuid": uuid});
        made.push(crds::create(&cx, &crd).await?);
    }
    let other = crds::create(&cx, &crds::random_definition("Cluster")).await?;
    let selected = format!(
        "{}?{}",
        crds::ALL,
        labelled(&format!("e2e-list-test-uuid={uuid}"))
    );
    let found = cx.items(&selected).await?;
    ensure!(found.len() == 10, "{} are listed", found.len());
    for crd in &found {
        let same = made.iter().find(|m| name(m) == name(crd));
        ensure!(
            same.is_some_and(|m| m["spec"] == crd["spec"]),
            "{} is not as it was made",
            name(crd)
        );
    }
    cx.delete(&selected).await?;
    for crd in &made {
        crds::discovered(&cx, crd, false).await?;
    }
    let path = format!("{}/{}", crds::ALL, name(&other));
    ensure!(cx.exists(&path).await?, "{path} is gone");
    crds::delete(&cx, &other).await
}

async fn status(cx: Cx) -> Result<()> {
    let crd = crds::create(&cx, &crds::random_definition("Cluster")).await?;
    let path = format!("{}/{}/status", crds::ALL, name(&crd));
    let found = cx.get(&path).await?;
    ensure!(found["spec"] == crd["spec"], "{found}");
    let has = |o: &Value, message: &str| {
        let all = o["status"]["conditions"].as_array();
        // A typed client reads what is absent as empty.
        let empty = |v: &Value| v.as_str().unwrap_or_default().is_empty();
        let is = |c: &Value| {
            c["message"] == message && ["type", "status", "reason"].iter().all(|f| empty(&c[f]))
        };
        all.is_some_and(|all| all.iter().any(is))
    };
    // The typed client sends type and status even where they are empty.
    let condition = |message: &str| json!({"type": "", "status": "", "lastTransitionTime": null, "message": message});
    let updated = cx
        .update(&path, |o| {
            if let Some(all) = o["status"]["conditions"].as_array_mut() {
                all.push(condition("updated"));
            }
        })
        .await?;
    ensure!(has(&updated, "updated"), "{updated}");
    let patch =
        json!([{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}]);
    let patched = cx.patch(&path, "json", &patch).await?;
    ensure!(has(&patched, "patched"), "{patched}");
    crds::delete(&cx, &crd).await
}

async fn defaulting(cx: Cx) -> Result<()> {
    const EVERY: Duration = Duration::from_millis(100);
    let mut crd = crds::random_definition("Cluster");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"] =
        json!({"a": {"type": "string"}, "b": {"type": "string"}});
    let crd = crds::create(&cx, &crd).await?;
    let path = format!("{}/{}", crds::ALL, name(&crd));
    let all = crds::objects(&crd, "v1beta1", None);
    let object = |name: &str| {
        json!({"apiVersion": "mygroup.example.com/v1beta1", "kind": crd["spec"]["names"]["kind"],
            "metadata": {"name": name}})
    };
    let first = format!("cr-1{}", random(5));
    cx.ok(Method::POST, &all, &object(&first)).await?;
    let default =
        |field: &str| format!("/spec/versions/0/schema/openAPIV3Schema/properties/{field}/default");
    let patch = json!([{"op": "add", "path": default("a"), "value": "A"}]);
    cx.patch(&path, "json", &patch).await?;
    let there = async |name: &str, field: &str| {
        let path = format!("{all}/{name}");
        cx.eventually(EVERY, FOREVER, field, || async {
            Ok(!cx.get(&path).await?[field].is_null())
        })
        .await?;
        cx.get(&path).await
    };
    let found = there(&first, "a").await?;
    ensure!(found["a"] == "A", "{found}");
    let second = format!("cr-2{}", random(5));
    let made = cx.ok(Method::POST, &all, &object(&second)).await?;
    ensure!(made["a"] == "A", "{made}");
    let patch = json!([{"op": "remove", "path": default("a")},
        {"op": "add", "path": default("b"), "value": "B"}]);
    cx.patch(&path, "json", &patch).await?;
    let found = there(&second, "b").await?;
    ensure!(found["b"] == "B" && found["a"] == "A", "{found}");
    crds::delete(&cx, &crd).await
}

async fn in_discovery(cx: Cx) -> Result<()> {
    let group = "apiextensions.k8s.io";
    discovered(&cx, &format!("{group}/v1"), &["customresourcedefinitions"]).await?;
    let one = cx.get(&format!("/apis/{group}")).await?;
    ensure!(one["kind"] == "APIGroup" && one["name"] == group, "{one}");
    Ok(())
}
