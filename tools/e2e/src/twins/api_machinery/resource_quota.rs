//! Twins of resource_quota.go.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::fixtures::{grace, propagation};
use crate::images::{NGINX_IMAGE, PAUSE_IMAGE};
use crate::operations::contains;
use crate::rest::{Cx, labelled, random, version};
use crate::waits::{LONG, name};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated. [Conformance]",
        "resourcequota",
        status_is_calculated
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service. [Conformance]",
        "resourcequota",
        service
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret. [Conformance]",
        "resourcequota",
        secret
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod. [Conformance]",
        "resourcequota",
        pod
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap. [Conformance]",
        "resourcequota",
        config_map
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller. [Conformance]",
        "resourcequota",
        replication_controller
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set. [Conformance]",
        "resourcequota",
        replica_set
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes. [Conformance]",
        "resourcequota",
        terminating
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope. [Conformance]",
        "resourcequota",
        best_effort
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota. [Conformance]",
        "resourcequota",
        update_and_delete
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota [Conformance]",
        "resourcequota",
        lifecycle
    ),
    twin!(
        "[sig-api-machinery] ResourceQuota should apply changes to a resourcequota status [Conformance]",
        "resourcequota",
        status_changes
    ),
];

const SECOND: Duration = Duration::from_secs(1);

fn quota(name: &str, hard: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}})
}

/// The quota of the "life of" tests.
fn test_quota() -> Value {
    quota(
        "test-quota",
        json!({"pods": "5", "services": "10", "services.nodeports": "1", "services.loadbalancers": "1",
            "replicationcontrollers": "10", "resourcequotas": "1", "cpu": "1", "memory": "500Mi",
            "configmaps": "10", "secrets": "10", "persistentvolumeclaims": "10",
            "requests.storage": "10Gi", "ephemeral-storage": "50Gi",
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "10",
            "gold.storageclass.storage.k8s.io/requests.storage": "10Gi",
            "count/replicasets.apps": "5", "requests.example.com/dongle": "3"}),
    )
}

/// How many there are, once the number has been the same often enough.
async fn settled(cx: &Cx, path: &str, times: u32, within: Duration) -> Result<usize> {
    let end = tokio::time::Instant::now() + within;
    let (mut last, mut same) = (usize::MAX, 0);
    while tokio::time::Instant::now() < end && same < times {
        let now = cx.items(path).await?.len();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        tokio::time::sleep(SECOND).await;
    }
    Ok(last)
}

/// Does the quota's status have these amounts in use?
async fn uses(cx: &Cx, quota: &str, wanted: &Value) -> Result<bool> {
    let found = cx.get(&cx.core(&format!("resourcequotas/{quota}"))).await?;
    Ok(contains(&found["status"]["used"], wanted))
}

/// Waits until the quota's status has these amounts in use.
async fn becomes(cx: &Cx, quota: &str, wanted: Value) -> Result<()> {
    let what = format!("{quota} uses {wanted}");
    let every = Duration::from_millis(200);
    cx.eventually(every, LONG, &what, || uses(cx, quota, &wanted))
        .await
}

/// The amounts must be in use for 10 s.
async fn stays(cx: &Cx, quota: &str, wanted: Value) -> Result<()> {
    for _ in 0..5 {
        ensure!(
            uses(cx, quota, &wanted).await?,
            "{quota} does not use {wanted}"
        );
        tokio::time::sleep(2 * SECOND).await;
    }
    Ok(())
}

/// Creates the quota, which counts itself.
async fn begin(cx: &Cx, object: &Value) -> Result<()> {
    let path = cx.core("resourcequotas");
    let before = settled(cx, &path, 5, Duration::from_secs(30)).await?;
    cx.ok(Method::POST, &path, object).await?;
    let own = (before + 1).to_string();
    becomes(cx, "test-quota", json!({"resourcequotas": own})).await
}

async fn status_is_calculated(cx: Cx) -> Result<()> {
    begin(&cx, &test_quota()).await?;
    let own = json!({"resourcequotas": "1"});
    ensure!(
        uses(&cx, "test-quota", &own).await?,
        "the quota does not count itself"
    );
    Ok(())
}

async fn service(cx: Cx) -> Result<()> {
    begin(&cx, &test_quota()).await?;
    let services = cx.core("services");
    let object = |name: &str, kind: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": kind, "ports": [{"port": 80, "targetPort": 80}]}})
    };
    for (name, kind) in [
        ("test-service", "ClusterIP"),
        ("test-service-np", "NodePort"),
    ] {
        cx.ok(Method::POST, &services, &object(name, kind)).await?;
    }
    let mut balanced = object("test-service-lb", "LoadBalancer");
    balanced["spec"]["allocateLoadBalancerNodePorts"] = json!(true);
    cx.refused(Method::POST, &services, &balanced).await?;
    becomes(
        &cx,
        "test-quota",
        json!({"services": "2", "services.nodeports": "1"}),
    )
    .await?;
    for name in ["test-service", "test-service-np"] {
        cx.delete(&format!("{services}/{name}")).await?;
    }
    becomes(
        &cx,
        "test-quota",
        json!({"services": "0", "services.nodeports": "0"}),
    )
    .await
}

/// The life of an object of a core kind of which there may be some already.
async fn core_life(cx: &Cx, plural: &str, object: Value, times: u32, within: u64) -> Result<()> {
    let path = cx.core(plural);
    let n = settled(cx, &path, times, Duration::from_secs(within)).await?;
    let mut quota = test_quota();
    quota["spec"]["hard"][plural] = json!((n + 1).to_string());
    begin(cx, &quota).await?;
    let used = |n: usize| json!({plural: n.to_string()});
    becomes(cx, "test-quota", used(n)).await?;
    let made = cx.ok(Method::POST, &path, &object).await?;
    becomes(cx, "test-quota", used(n + 1)).await?;
    cx.delete(&format!("{path}/{}", name(&made))).await?;
    becomes(cx, "test-quota", used(n)).await?;
    ensure!(
        !cx.exists(&format!("{path}/{}", name(&made))).await?,
        "it is gone"
    );
    Ok(())
}

async fn secret(cx: Cx) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "test-secret"},
        "stringData": {"data-1": "value-1\n", "data-2": "value-2\n", "data-3": "value-3\n"}});
    core_life(&cx, "secrets", object, 5, 30).await
}

async fn config_map(cx: Cx) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-configmap"},
        "data": {"a": "b"}});
    core_life(&cx, "configmaps", object, 16, 60).await
}

/// A pod that is never scheduled.
fn quota_pod(name: &str, requests: Value, limits: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeSelector": {"x-test.k8s.io/unsatisfiable": "not-schedulable"},
            "containers": [{"name": "pause", "image": PAUSE_IMAGE,
                "resources": {"requests": requests, "limits": limits}}]}})
}

async fn pod(cx: Cx) -> Result<()> {
    begin(&cx, &test_quota()).await?;
    let pods = cx.core("pods");
    let dongle = "example.com/dongle";
    let two = json!({dongle: "2"});
    let requests =
        json!({"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", dongle: "2"});
    let object = quota_pod("test-pod", requests, two.clone());
    let mut made = cx.ok(Method::POST, &pods, &object).await?;
    let used = json!({"pods": "1", "cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi",
        "requests.example.com/dongle": "2"});
    becomes(&cx, "test-quota", used.clone()).await?;
    let big = quota_pod(
        "fail-pod",
        json!({"cpu": "600m", "memory": "100Mi"}),
        json!({}),
    );
    cx.refused(Method::POST, &pods, &big).await?;
    let requests =
        json!({"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "30Gi", dongle: "2"});
    let extended = quota_pod("fail-pod-for-extended-resource", requests, two);
    cx.refused(Method::POST, &pods, &extended).await?;
    let path = format!("{pods}/test-pod");
    made["spec"]["containers"][0]["resources"]["requests"] =
        json!({"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "10Gi"});
    cx.refused(Method::PUT, &path, &made).await?;
    becomes(&cx, "test-quota", used).await?;
    cx.ok(Method::DELETE, &path, &grace(0)).await?;
    let none = json!({"pods": "0", "cpu": "0", "memory": "0", "ephemeral-storage": "0",
        "requests.example.com/dongle": "0"});
    becomes(&cx, "test-quota", none).await
}

async fn replication_controller(cx: Cx) -> Result<()> {
    begin(&cx, &test_quota()).await?;
    let used = |n: &str| json!({"replicationcontrollers": n});
    becomes(&cx, "test-quota", used("0")).await?;
    let container = json!({"name": "test-rc", "image": NGINX_IMAGE});
    let object = crate::fixtures::replication_controller(
        "test-rc",
        0,
        json!({"name": "test-rc"}),
        container,
    );
    let path = cx.core("replicationcontrollers");
    cx.ok(Method::POST, &path, &object).await?;
    becomes(&cx, "test-quota", used("1")).await?;
    let path = format!("{path}/test-rc");
    cx.ok(Method::DELETE, &path, &propagation("Background"))
        .await?;
    becomes(&cx, "test-quota", used("0")).await
}

async fn replica_set(cx: Cx) -> Result<()> {
    begin(&cx, &test_quota()).await?;
    let used = |n: &str| json!({"count/replicasets.apps": n});
    becomes(&cx, "test-quota", used("0")).await?;
    let labels = json!({"name": "test-rs"});
    let object = crate::fixtures::replica_set("test-rs", 0, labels, "test-rs", NGINX_IMAGE);
    let path = cx.group("apps/v1", "replicasets");
    cx.ok(Method::POST, &path, &object).await?;
    becomes(&cx, "test-quota", used("1")).await?;
    cx.delete(&format!("{path}/test-rs")).await?;
    becomes(&cx, "test-quota", used("0")).await
}

async fn scoped(cx: &Cx, name: &str, scope: &str, hard: &Value) -> Result<()> {
    let mut object = quota(name, hard.clone());
    object["spec"]["scopes"] = json!([scope]);
    cx.ok(Method::POST, &cx.core("resourcequotas"), &object)
        .await?;
    becomes(cx, name, json!({"pods": "0"})).await
}

fn sized_pod(name: &str) -> Value {
    let requests = json!({"cpu": "500m", "memory": "200Mi"});
    quota_pod(name, requests, json!({"cpu": "1", "memory": "400Mi"}))
}

async fn delete_now(cx: &Cx, pod: &str) -> Result<()> {
    let path = cx.core(&format!("pods/{pod}"));
    cx.ok(Method::DELETE, &path, &grace(0)).await?;
    Ok(())
}

async fn terminating(cx: Cx) -> Result<()> {
    let hard = json!({"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi",
        "limits.cpu": "2", "limits.memory": "1Gi"});
    scoped(&cx, "quota-terminating", "Terminating", &hard).await?;
    scoped(&cx, "quota-not-terminating", "NotTerminating", &hard).await?;
    let full = json!({"pods": "1", "requests.cpu": "500m", "requests.memory": "200Mi",
        "limits.cpu": "1", "limits.memory": "400Mi"});
    let none = json!({"pods": "0", "requests.cpu": "0", "requests.memory": "0",
        "limits.cpu": "0", "limits.memory": "0"});
    let pods = cx.core("pods");
    cx.ok(Method::POST, &pods, &sized_pod("test-pod")).await?;
    becomes(&cx, "quota-not-terminating", full.clone()).await?;
    stays(&cx, "quota-terminating", none.clone()).await?;
    delete_now(&cx, "test-pod").await?;
    becomes(&cx, "quota-not-terminating", none.clone()).await?;
    let mut object = sized_pod("terminating-pod");
    object["spec"]["activeDeadlineSeconds"] = json!(3600);
    cx.ok(Method::POST, &pods, &object).await?;
    becomes(&cx, "quota-terminating", full).await?;
    stays(&cx, "quota-not-terminating", none.clone()).await?;
    delete_now(&cx, "terminating-pod").await?;
    becomes(&cx, "quota-terminating", none).await
}

async fn best_effort(cx: Cx) -> Result<()> {
    let hard = json!({"pods": "5"});
    scoped(&cx, "quota-besteffort", "BestEffort", &hard).await?;
    scoped(&cx, "quota-not-besteffort", "NotBestEffort", &hard).await?;
    let used = |n: &str| json!({"pods": n});
    let pods = cx.core("pods");
    let plain = quota_pod("pfpod", json!({}), json!({}));
    cx.ok(Method::POST, &pods, &plain).await?;
    becomes(&cx, "quota-besteffort", used("1")).await?;
    stays(&cx, "quota-not-besteffort", used("0")).await?;
    delete_now(&cx, "pfpod").await?;
    becomes(&cx, "quota-besteffort", used("0")).await?;
    cx.ok(Method::POST, &pods, &sized_pod("burstable-pod"))
        .await?;
    becomes(&cx, "quota-not-besteffort", used("1")).await?;
    stays(&cx, "quota-besteffort", used("0")).await?;
    delete_now(&cx, "burstable-pod").await?;
    becomes(&cx, "quota-not-besteffort", used("0")).await
}

fn has(object: &Value, part: &str, cpu: &str, memory: &str) -> bool {
    let hard = &object[part]["hard"];
    hard["cpu"] == cpu && hard["memory"] == memory
}

async fn update_and_delete(cx: Cx) -> Result<()> {
    let all = cx.core("resourcequotas");
    let path = format!("{all}/test-quota");
    let object = quota("test-quota", json!({"cpu": "1", "memory": "500Mi"}));
    let made = cx.ok(Method::POST, &all, &object).await?;
    ensure!(has(&made, "spec", "1", "500Mi"), "{made}");
    let found = cx.get(&path).await?;
    ensure!(has(&found, "spec", "1", "500Mi"), "{found}");
    let object = quota("test-quota", json!({"cpu": "2", "memory": "1Gi"}));
    let updated = cx.ok(Method::PUT, &path, &object).await?;
    ensure!(has(&updated, "spec", "2", "1Gi"), "{updated}");
    let found = cx.get(&path).await?;
    ensure!(has(&found, "spec", "2", "1Gi"), "{found}");
    cx.delete(&path).await?;
    let gone = cx.refused(Method::GET, &path, &Value::Null).await?;
    ensure!(gone.code == 404 && gone.reason == "NotFound", "{gone:?}");
    Ok(())
}

async fn lifecycle(cx: Cx) -> Result<()> {
    let all = cx.core("resourcequotas");
    let quota_name = format!("e2e-quota-{}", random(5));
    let path = format!("{all}/{quota_name}");
    let mut object = quota(&quota_name, json!({"cpu": "1", "memory": "500Mi"}));
    object["metadata"]["labels"] = json!({"e2e-rq-label": quota_name});
    cx.ok(Method::POST, &all, &object).await?;
    let found = cx.get(&path).await?;
    ensure!(
        has(&found, "spec", "1", "500Mi") && version(&found)? > 0,
        "{found}"
    );
    let selector = labelled(&format!("e2e-rq-label={quota_name}"));
    let listed = cx
        .items(&format!("/api/v1/resourcequotas?{selector}"))
        .await?;
    ensure!(listed.len() == 1, "{listed:?}");
    let patch = json!({"metadata": {"labels": {quota_name.clone(): "patched"}},
        "spec": {"hard": {"memory": "750Mi"}}});
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(contains(&patched, &patch), "{patched}");
    ensure!(version(&patched)? > version(&listed[0])?, "{patched}");
    cx.delete(&format!("{all}?{selector}")).await?;
    cx.gone(&path, LONG).await?;
    ensure!(!cx.exists(&path).await?, "{path} is still there");
    Ok(())
}

async fn status_changes(cx: Cx) -> Result<()> {
    const WATCH: Duration = Duration::from_secs(120);
    let all = cx.core("resourcequotas");
    let quota_name = format!("e2e-rq-status-{}", random(5));
    let (path, status) = (
        format!("{all}/{quota_name}"),
        format!("{all}/{quota_name}/status"),
    );
    let selector = labelled(&format!("e2e-rq-label={quota_name}"));
    let everywhere = format!("/api/v1/resourcequotas?{selector}");
    let mut object = quota(&quota_name, json!({"cpu": "500m", "memory": "500Mi"}));
    object["metadata"]["labels"] = json!({"e2e-rq-label": quota_name});
    let since = async || version(&cx.get(&everywhere).await?);
    let first = since().await?;
    cx.ok(Method::POST, &all, &object).await?;
    let found = cx.get(&path).await?;
    ensure!(has(&found, "spec", "500m", "500Mi"), "{found}");
    let watch = async |since: u64| {
        let query = format!("{selector}&resourceVersion={since}");
        cx.watch(&all, &query).await
    };
    cx.update(&status, |o| {
        o["status"] = json!({"hard": o["spec"]["hard"]});
    })
    .await?;
    let same = |o: &Value| {
        name(o) == quota_name
            && ["cpu", "memory"]
                .iter()
                .all(|r| o["status"]["hard"][r] == o["spec"]["hard"][r])
    };
    let fits = |_: &str, o: &Value| same(o);
    watch(first)
        .await?
        .until(WATCH, "status is spec", fits)
        .await?;

    let second = since().await?;
    let hard = json!({"hard": {"cpu": "1", "memory": "1Gi"}});
    cx.patch(&path, "strategic-merge", &json!({"spec": hard}))
        .await?;
    cx.patch(&status, "strategic-merge", &json!({"status": hard}))
        .await?;
    let fits = |_: &str, o: &Value| same(o) && has(o, "spec", "1", "1Gi");
    watch(second).await?.until(WATCH, "1 and 1Gi", fits).await?;
    let found = cx.get(&status).await?;
    ensure!(has(&found, "status", "1", "1Gi"), "{found}");

    let third = since().await?;
    let hard = json!({"status": {"hard": {"cpu": "2", "memory": "2Gi"}}});
    let patched = cx.patch(&status, "strategic-merge", &hard).await?;
    ensure!(has(&patched, "status", "2", "2Gi"), "{patched}");
    let fits = |_: &str, o: &Value| name(o) == quota_name && has(o, "status", "2", "2Gi");
    watch(third).await?.until(WATCH, "2 and 2Gi", fits).await?;
    cx.eventually(
        5 * SECOND,
        72 * 5 * SECOND,
        "status is spec again",
        || async {
            let found = cx.get(&path).await?;
            Ok(has(&found, "spec", "1", "1Gi") && has(&found, "status", "1", "1Gi"))
        },
    )
    .await
    .context("the resync")
}
