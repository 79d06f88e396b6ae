//! Kinds of [sig-network] that need only the API.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::pods;
use crate::rest::{Cx, Watch, version};

fn items(list: &Value) -> usize {
    list["items"].as_array().map_or(0, Vec::len)
}

/// The group, its version `v1` and a resource in it are discovered.
async fn discovered(cx: &Cx, group: &str, resource: &str) -> Result<()> {
    let has = |g: &Value| {
        let mut versions = g["versions"].as_array().into_iter().flatten();
        versions.any(|v| v["version"] == "v1")
    };
    let groups = cx.get("/apis").await?;
    let mut groups = groups["groups"].as_array().into_iter().flatten();
    ensure!(
        groups.any(|g| g["name"] == group && has(g)),
        "/apis has no {group}/v1"
    );
    ensure!(
        has(&cx.get(&format!("/apis/{group}")).await?),
        "/apis/{group} has no v1"
    );
    let resources = cx.get(&format!("/apis/{group}/v1")).await?;
    let mut resources = resources["resources"].as_array().into_iter().flatten();
    ensure!(
        resources.any(|r| r["name"] == resource),
        "{group}/v1 has no {resource}"
    );
    Ok(())
}

/// Nothing but changes comes, until that of the annotation.
async fn only_modified(watch: &mut Watch, kind: &str) -> Result<()> {
    loop {
        let (event, object) = watch.next(Duration::from_secs(30)).await?;
        ensure!(
            event == "MODIFIED" && object["kind"] == kind,
            "{event} {object}"
        );
        if object["metadata"]["annotations"]["patched"] == "true" {
            return Ok(());
        }
    }
}

/// A merge patch of one annotation, then an update with another.
async fn annotated(cx: &Cx, path: &str) -> Result<()> {
    let before = version(&cx.get(path).await?)?;
    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = cx.patch(path, "merge", &patch).await?;
    ensure!(
        patched["metadata"]["annotations"]["patched"] == "true",
        "{patched}"
    );
    ensure!(version(&patched)? > before, "{patched}");
    let updated = cx
        .update(path, |o| {
            o["metadata"]["annotations"]["updated"] = json!("true")
        })
        .await?;
    ensure!(
        updated["metadata"]["annotations"]["updated"] == "true",
        "{updated}"
    );
    Ok(())
}

/// Creates three objects; list, watch, patch and update the third. Its path, and the list's.
async fn three(
    cx: &Cx,
    group: &str,
    resource: &str,
    objects: &[Value; 3],
) -> Result<(String, String)> {
    discovered(cx, group, resource).await?;
    let all = format!("/apis/{group}/v1/namespaces/{}/{resource}", cx.namespace);
    let everywhere = format!("/apis/{group}/v1/{resource}");
    let mut last = Value::Null;
    for object in objects {
        last = cx.ok(Method::POST, &all, object).await?;
    }
    let path = format!("{all}/{}", pods::name(&last));
    let found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["uid"] == last["metadata"]["uid"],
        "{found}"
    );
    version(&found)?;
    let selector = format!("labelSelector=special-label%3D{}", cx.namespace);
    let here = cx.get(&format!("{all}?{selector}")).await?;
    ensure!(items(&here) == 3, "{here}");
    let there = cx.get(&format!("{everywhere}?{selector}")).await?;
    ensure!(items(&there) == 3, "{there}");
    let from = |list: &Value| {
        format!(
            "{selector}&resourceVersion={}",
            list["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default()
        )
    };
    let mut watches = [
        cx.watch(&all, &from(&here)).await?,
        cx.watch(&everywhere, &from(&there)).await?,
    ];
    annotated(cx, &path).await?;
    for watch in &mut watches {
        only_modified(watch, objects[0]["kind"].as_str().unwrap_or_default()).await?;
    }
    Ok((path, format!("{all}?{selector}")))
}

/// The object goes, then the rest of its collection.
async fn gone(cx: &Cx, path: &str, selected: &str, left: usize) -> Result<()> {
    cx.delete(path).await?;
    let found = cx.send(Method::GET, path, "application/json", None).await?;
    ensure!(found.as_ref().is_err_and(|f| f.code == 404), "{found:?}");
    ensure!(items(&cx.get(selected).await?) == left, "not {left} left");
    cx.delete(selected).await?;
    ensure!(items(&cx.get(selected).await?) == 0, "some are left");
    Ok(())
}

pub async fn endpoint_slices(cx: Cx) -> Result<()> {
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"generateName": "e2e-example-ing", "labels": {"special-label": cx.namespace}},
        "addressType": "IPv4", "ports": [],
        "endpoints": [{"addresses": ["1.2.3.4", "5.6.7.8"]}, {"addresses": ["2.2.3.4", "6.6.7.8"]}]});
    let all = [slice.clone(), slice.clone(), slice];
    let (path, selected) = three(&cx, "discovery.k8s.io", "endpointslices", &all).await?;
    let done = gone(&cx, &path, &selected, 2).await;
    ensure!(done.is_ok(), "{done:?}");
    Ok(())
}

pub async fn ingresses(cx: Cx) -> Result<()> {
    let backend = |name: &str| json!({"service": {"name": name, "port": {"number": 8080}}});
    let ingress = |host: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"generateName": "e2e-example-ing", "labels": {"special-label": cx.namespace}},
            "spec": {"defaultBackend": backend("default-backend"), "rules": [{"host": host, "http": {"paths": [
                {"path": "/", "pathType": "ImplementationSpecific", "backend": backend("test-backend")}]}}]}})
    };
    let all = ["host1.bar.com", "host2.bar.com", "host3.bar.com"].map(ingress);
    let (path, selected) = three(&cx, "networking.k8s.io", "ingresses", &all).await?;
    let status = format!("{path}/status");
    let balancer = |ip: &str| json!({"ingress": [{"ip": ip}]});
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"loadBalancer": balancer("169.1.1.1")}});
    let patched = cx.patch(&status, "merge", &patch).await?;
    ensure!(
        patched["status"]["loadBalancer"] == balancer("169.1.1.1"),
        "{patched}"
    );
    ensure!(
        patched["metadata"]["annotations"]["patchedstatus"] == "true",
        "{patched}"
    );
    let updated = cx
        .update(&status, |i| {
            i["status"]["loadBalancer"] = balancer("169.1.1.2")
        })
        .await?;
    ensure!(
        updated["status"]["loadBalancer"] == balancer("169.1.1.2"),
        "{updated}"
    );
    let found = cx.get(&status).await?;
    ensure!(
        found["metadata"]["uid"] == patched["metadata"]["uid"],
        "{found}"
    );
    gone(&cx, &path, &selected, 2).await
}

pub async fn ingress_classes(cx: Cx) -> Result<()> {
    discovered(&cx, "networking.k8s.io", "ingressclasses").await?;
    let all = "/apis/networking.k8s.io/v1/ingressclasses";
    let own = format!("labelSelector=ingressclass%3D{}", cx.namespace);
    let mut first = Value::Null;
    for i in (1..=3).rev() {
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": format!("ingressclass{i}"), "labels": {"ingressclass": cx.namespace, "special-label": "generic"}},
            "spec": {"controller": "example.com/controller"}});
        first = cx.ok(Method::POST, all, &object).await?;
    }
    let path = format!("{all}/ingressclass1");
    let found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["uid"] == first["metadata"]["uid"],
        "{found}"
    );
    let list = cx
        .get(&format!("{all}?labelSelector=special-label%3Dgeneric"))
        .await?;
    ensure!(items(&list) == 3, "{list}");
    let from = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let mut watch = cx
        .watch(all, &format!("{own}&resourceVersion={from}"))
        .await?;
    annotated(&cx, &path).await?;
    only_modified(&mut watch, "IngressClass").await?;
    gone(&cx, &path, &format!("{all}?{own}"), 2).await
}

pub async fn service_cidrs(cx: Cx) -> Result<()> {
    let all = "/apis/networking.k8s.io/v1/servicecidrs";
    let found = cx.get(&format!("{all}/kubernetes")).await?;
    let status = cx.get(&format!("{all}/kubernetes/status")).await?;
    ensure!(
        status["apiVersion"] == "networking.k8s.io/v1" && status["kind"] == "ServiceCIDR",
        "{status}"
    );
    ensure!(
        status["metadata"]["uid"] == found["metadata"]["uid"],
        "{status}"
    );
    ensure!(items(&cx.get(all).await?) >= 1, "no ServiceCIDR");
    cx.watch(all, "").await?;
    Ok(())
}

pub async fn ip_addresses(cx: Cx) -> Result<()> {
    let all = "/apis/networking.k8s.io/v1/ipaddresses";
    let parent =
        json!({"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"});
    for (name, label) in [
        ("255.255.255.255", "broadcast"),
        ("fe80::42:1dff:fe84:f9e2", "link-local"),
    ] {
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {"name": name, "labels": {"type": label}}, "spec": {"parentRef": parent}});
        let made = cx.ok(Method::POST, all, &object).await?;
        ensure!(version(&made)? > 0, "{made}");
    }
    let path = format!("{all}/255.255.255.255");
    annotated(&cx, &path).await?;
    cx.get(&path).await?;
    let broadcast = "labelSelector=type%3Dbroadcast";
    ensure!(
        items(&cx.get(&format!("{all}?{broadcast}")).await?) == 1,
        "not one broadcast address"
    );
    cx.watch(all, broadcast).await?;
    cx.delete(&path).await?;
    let local = format!("{all}?labelSelector=type%3Dlink-local");
    cx.delete(&local).await?;
    ensure!(items(&cx.get(&local).await?) == 0, "an address is left");
    Ok(())
}
