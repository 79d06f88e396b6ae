//! Twins of aggregated_discovery.go, discovery.go and table_conversion.go.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::crds;
use crate::rest::{Cx, FOREVER, random};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers [Conformance]",
        "aggregateddiscovery",
        raw
    ),
    twin!(
        "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs [Conformance]",
        "aggregateddiscovery",
        raw_custom
    ),
    twin!(
        "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface [Conformance]",
        "aggregateddiscovery",
        interface
    ),
    twin!(
        "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs [Conformance]",
        "aggregateddiscovery",
        interface_custom
    ),
    twin!(
        "[sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup [Conformance]",
        "discovery",
        group_versions
    ),
    twin!(
        "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not implement metadata [Conformance]",
        "tables",
        no_table
    ),
];

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// What a discovery client prefers, in its order.
const CLIENT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

const BUILT_IN: &[(&str, &str, &str)] = &[
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
    ),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("apps", "v1", "deployments"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
    ("autoscaling", "v1", "horizontalpodautoscalers"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("batch", "v1", "jobs"),
    ("certificates.k8s.io", "v1", "certificatesigningrequests"),
    ("coordination.k8s.io", "v1", "leases"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("events.k8s.io", "v1", "events"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("node.k8s.io", "v1", "runtimeclasses"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("scheduling.k8s.io", "v1", "priorityclasses"),
    ("storage.k8s.io", "v1", "csinodes"),
];

/// GET with an Accept header; the media type and the document.
async fn document(cx: &Cx, path: &str, accept: &str) -> Result<(String, Value)> {
    let answer = cx.raw(Method::GET, path, &[("accept", accept)], "").await?;
    ensure!(answer.code == 200, "GET {path}: {answer:?}");
    let parsed: Value = serde_json::from_str(&answer.text).with_context(|| path.to_string())?;
    ensure!(
        parsed["kind"] == "APIGroupDiscoveryList",
        "{path} is a {}",
        parsed["kind"]
    );
    Ok((answer.content, parsed))
}

fn has(list: &Value, group: &str, version: &str, resource: &str) -> bool {
    let all = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let groups = all(&list["items"]);
    let group = groups.iter().filter(|g| {
        let name = g["metadata"]["name"].as_str();
        name.unwrap_or_default() == group
    });
    let versions: Vec<Value> = group.flat_map(|g| all(&g["versions"])).collect();
    let found = versions.iter().filter(|v| v["version"] == version);
    found
        .flat_map(|v| all(&v["resources"]))
        .any(|r| r["resource"] == resource)
}

fn has_all(apis: &Value, core: &Value) -> Result<()> {
    for (group, version, resource) in BUILT_IN {
        ensure!(
            has(apis, group, version, resource),
            "no {resource} of {group}/{version}"
        );
    }
    ensure!(has(core, "", "v1", "namespaces"), "no namespaces in {core}");
    Ok(())
}

async fn raw(cx: Cx) -> Result<()> {
    let (_, apis) = document(&cx, "/apis", AGGREGATED).await?;
    let (_, core) = document(&cx, "/api", AGGREGATED).await?;
    ensure!(apis["items"].is_array(), "{apis}");
    has_all(&apis, &core)
}

/// What a client's combined call finds: both documents, which must be said to be aggregated.
async fn combined(cx: &Cx) -> Result<(Value, Value)> {
    let mut found = Vec::new();
    for path in ["/apis", "/api"] {
        let (content, document) = document(cx, path, CLIENT).await?;
        let plain: String = content.chars().filter(|c| !c.is_whitespace()).collect();
        ensure!(plain == AGGREGATED, "{path} is {content}");
        found.push(document);
    }
    let core = found.pop().context("core")?;
    Ok((found.pop().context("apis")?, core))
}

async fn interface(cx: Cx) -> Result<()> {
    let (apis, core) = combined(&cx).await?;
    ensure!(core["items"].is_array(), "{core}");
    has_all(&apis, &core)
}

/// Creates the definition of these tests; its group.
async fn test_crd(cx: &Cx) -> Result<String> {
    let group = format!("group{}.example.com", random(5));
    let names = json!({"kind": "testcrd", "singular": "testcrd", "plural": "testcrds", "listKind": "testcrdList"});
    let versions = vec![crds::version("v1", true, crds::anything())];
    let crd = crds::definition(&group, names, "Namespaced", versions);
    crds::create_primed(cx, &crd).await?;
    Ok(group)
}

async fn raw_custom(cx: Cx) -> Result<()> {
    let group = test_crd(&cx).await?;
    let every = Duration::from_secs(1);
    cx.eventually(every, FOREVER, &format!("{group} in /apis"), || async {
        let (_, apis) = document(&cx, "/apis", AGGREGATED).await?;
        ensure!(apis["items"].is_array(), "{apis}");
        Ok(has(&apis, &group, "v1", "testcrds"))
    })
    .await
}

async fn interface_custom(cx: Cx) -> Result<()> {
    let group = test_crd(&cx).await?;
    let every = Duration::from_secs(1);
    cx.eventually(every, FOREVER, &format!("{group} in /apis"), || async {
        let (apis, core) = combined(&cx).await?;
        ensure!(core["items"].is_array(), "{core}");
        Ok(has(&apis, &group, "v1", "testcrds"))
    })
    .await
}

async fn group_versions(cx: Cx) -> Result<()> {
    let core = ("", "v1", "namespaces");
    for (group, version, resource) in BUILT_IN.iter().chain([&core]) {
        let (path, wanted) = match group.is_empty() {
            true => ("/api/v1".to_string(), "v1".to_string()),
            false => (
                format!("/apis/{group}/{version}"),
                format!("{group}/{version}"),
            ),
        };
        let list = cx.get(&path).await?;
        ensure!(
            list["kind"] == "APIResourceList" && list["groupVersion"] == wanted,
            "{path}: {list}"
        );
        let all = list["resources"].as_array();
        ensure!(
            all.is_some_and(|all| all.iter().any(|r| r["name"] == *resource)),
            "{path} lacks {resource}"
        );
    }
    Ok(())
}

async fn no_table(cx: Cx) -> Result<()> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "metadata": {}, "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let headers = [
        ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"),
        ("content-type", "application/json"),
    ];
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = cx
        .raw(Method::POST, path, &headers, review.to_string())
        .await?;
    ensure!(answer.code == 406, "{answer:?}");
    let status: Value = serde_json::from_str(&answer.text)?;
    ensure!(
        status["kind"] == "Status" && status["code"] == 406 && status["status"] == "Failure",
        "{status}"
    );
    Ok(())
}
