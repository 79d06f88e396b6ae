//! Twins of garbage_collector.go.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::fixtures::{deployment, pod, replication_controller};
use crate::images::NGINX_IMAGE;
use crate::rest::Cx;
use crate::waits::{self, name, number};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning [Conformance]",
        "gc",
        background
    ),
    twin!(
        "[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so [Conformance] [Serial]",
        "gc",
        orphans
    ),
    twin!(
        "[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning [Conformance]",
        "gc",
        deployment_background
    ),
    twin!(
        "[sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan [Conformance]",
        "gc",
        deployment_orphans
    ),
    twin!(
        "[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so [Conformance] [Serial]",
        "gc",
        foreground
    ),
    twin!(
        "[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted [Conformance] [Serial]",
        "gc",
        two_owners
    ),
    twin!(
        "[sig-api-machinery] Garbage collector should not be blocked by dependency circle [Conformance]",
        "gc",
        circle
    ),
];

const SECOND: Duration = Duration::from_secs(1);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn controller(name: &str, replicas: u32, label: &str) -> Value {
    let container = json!({"name": "nginx", "image": NGINX_IMAGE});
    replication_controller(name, replicas, json!({"gctest": label}), container)
}

async fn create_controller(cx: &Cx, name: &str, replicas: u32, label: &str) -> Result<Value> {
    let path = cx.core("replicationcontrollers");
    cx.ok(Method::POST, &path, &controller(name, replicas, label))
        .await
}

/// Deletes an object that must still be the one that was made.
async fn delete(cx: &Cx, path: &str, made: &Value, policy: &str) -> Result<()> {
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
        "preconditions": {"uid": made["metadata"]["uid"]}});
    cx.ok(Method::DELETE, path, &options).await?;
    Ok(())
}

async fn count(cx: &Cx, path: &str) -> Result<usize> {
    Ok(cx.items(path).await?.len())
}

/// Waits until a controller has made its pods.
async fn made(cx: &Cx, path: &str) -> Result<()> {
    let full = |o: &Value| number(&o["status"]["replicas"]) == number(&o["spec"]["replicas"]);
    waits::object(cx, path, seconds(120), "the pods are made", full).await?;
    Ok(())
}

/// How many pods the larger tests make: half of what the nodes can hold, 10 to 100.
async fn many(cx: &Cx) -> Result<u32> {
    let nodes = cx.items("/api/v1/nodes").await?;
    let ready = nodes.iter().filter(|n| waits::is_true(n, "Ready"));
    let pods = |n: &Value| {
        let text = n["status"]["allocatable"]["pods"].as_str();
        text.and_then(|t| t.parse::<u32>().ok()).unwrap_or_default()
    };
    Ok((ready.map(pods).sum::<u32>() / 2).clamp(10, 100))
}

async fn background(cx: Cx) -> Result<()> {
    let object = create_controller(&cx, "simpletest.rc", 2, "delete_pods").await?;
    let path = cx.core("replicationcontrollers/simpletest.rc");
    let pods = cx.core("pods");
    cx.eventually(SECOND, seconds(30), "a pod", || async {
        Ok(count(&cx, &pods).await? > 0)
    })
    .await?;
    delete(&cx, &path, &object, "Background").await?;
    cx.eventually(SECOND, seconds(120), "all gone", || async {
        let left = count(&cx, &cx.core("replicationcontrollers")).await?;
        Ok(left == 0 && count(&cx, &pods).await? == 0)
    })
    .await?;
    ensure!(count(&cx, &pods).await? == 0, "pods are back");
    Ok(())
}

async fn orphans(cx: Cx) -> Result<()> {
    let n = many(&cx).await?;
    let object = create_controller(&cx, "simpletest.rc", n, "orphan_pods").await?;
    let path = cx.core("replicationcontrollers/simpletest.rc");
    made(&cx, &path).await?;
    delete(&cx, &path, &object, "Orphan").await?;
    cx.eventually(SECOND, seconds(180), "the controller gone", || async {
        Ok(count(&cx, &cx.core("replicationcontrollers")).await? == 0)
    })
    .await?;
    // The collector gets this long to delete the pods by mistake.
    tokio::time::sleep(seconds(30)).await;
    let left = count(&cx, &cx.core("pods")).await?;
    ensure!(left == usize::try_from(n)?, "{left} pods of {n} are left");
    Ok(())
}

/// Creates the Deployment of these tests and waits for its ReplicaSet.
async fn rolled(cx: &Cx, label: &str) -> Result<Value> {
    let labels = json!({"gctest": label});
    let object = deployment("simpletest.deployment", 2, labels, "nginx", NGINX_IMAGE);
    let made = cx
        .ok(Method::POST, &cx.group("apps/v1", "deployments"), &object)
        .await?;
    let sets = cx.group("apps/v1", "replicasets");
    cx.eventually(SECOND / 2, seconds(60), "a ReplicaSet", || async {
        Ok(count(cx, &sets).await? == 1)
    })
    .await?;
    Ok(made)
}

async fn deployment_background(cx: Cx) -> Result<()> {
    let object = rolled(&cx, "delete_rs").await?;
    let path = cx.group("apps/v1", "deployments/simpletest.deployment");
    delete(&cx, &path, &object, "Background").await?;
    let kinds = [
        cx.group("apps/v1", "deployments"),
        cx.group("apps/v1", "replicasets"),
        cx.core("pods"),
    ];
    cx.eventually(SECOND / 2, seconds(120), "all gone", || async {
        let mut left = 0;
        for kind in &kinds {
            left += count(&cx, kind).await?;
        }
        Ok(left == 0)
    })
    .await?;
    ensure!(!cx.exists(&path).await?, "{path} is still there");
    Ok(())
}

async fn deployment_orphans(cx: Cx) -> Result<()> {
    let object = rolled(&cx, "orphan_rs").await?;
    let sets = cx.group("apps/v1", "replicasets");
    cx.eventually(SECOND / 10, seconds(60), "the pods are made", || async {
        let all = cx.items(&sets).await?;
        Ok(all.iter().all(|rs| {
            let status = &rs["status"];
            number(&status["observedGeneration"]) >= number(&rs["metadata"]["generation"])
                && number(&status["replicas"]) == number(&rs["spec"]["replicas"])
        }))
    })
    .await?;
    let path = cx.group("apps/v1", "deployments/simpletest.deployment");
    delete(&cx, &path, &object, "Orphan").await?;
    let deployments = cx.group("apps/v1", "deployments");
    cx.eventually(SECOND / 2, seconds(120), "the Deployment gone", || async {
        Ok(count(&cx, &deployments).await? == 0)
    })
    .await?;
    let left = cx.items(&sets).await?;
    ensure!(left.len() == 1, "{} ReplicaSets are left", left.len());
    let pods = count(&cx, &cx.core("pods")).await?;
    ensure!(pods == 2, "{pods} pods are left");
    for set in &left {
        ensure!(waits::controller(set).is_none(), "{}", set["metadata"]);
    }
    Ok(())
}

async fn foreground(cx: Cx) -> Result<()> {
    let n = many(&cx).await?;
    let object = create_controller(&cx, "simpletest.rc", n, "delete_pods_foreground").await?;
    let path = cx.core("replicationcontrollers/simpletest.rc");
    made(&cx, &path).await?;
    delete(&cx, &path, &object, "Foreground").await?;
    cx.gone(&path, seconds(90)).await?;
    let left = count(&cx, &cx.core("pods")).await?;
    ensure!(left == 0, "{left} pods outlive their controller");
    Ok(())
}

async fn two_owners(cx: Cx) -> Result<()> {
    let n = many(&cx).await?;
    let goes = "simpletest-rc-to-be-deleted";
    let object = create_controller(&cx, goes, n, "valid_and_pending_owners_d").await?;
    let stays = controller("simpletest-rc-to-stay", 0, "valid_and_pending_owners_s");
    let stays = cx
        .ok(Method::POST, &cx.core("replicationcontrollers"), &stays)
        .await?;
    let path = cx.core(&format!("replicationcontrollers/{goes}"));
    made(&cx, &path).await?;
    let pods = cx.core("pods");
    let half = usize::try_from(n)? / 2;
    let second = json!({"apiVersion": "v1", "kind": "ReplicationController",
        "name": name(&stays), "uid": stays["metadata"]["uid"]});
    let patch = json!({"metadata": {"ownerReferences": [second]}});
    for pod in cx.items(&pods).await?.iter().take(half) {
        let path = format!("{pods}/{}", name(pod));
        let patched = cx.patch(&path, "strategic-merge", &patch).await?;
        let owners = patched["metadata"]["ownerReferences"].as_array();
        ensure!(owners.map(Vec::len) == Some(2), "{}", patched["metadata"]);
    }
    delete(&cx, &path, &object, "Foreground").await?;
    cx.gone(&path, seconds(90)).await?;
    let left = cx.items(&pods).await?;
    ensure!(left.len() == half, "{} pods are left of {half}", left.len());
    for pod in &left {
        let owners = pod["metadata"]["ownerReferences"].as_array();
        ensure!(
            pod["metadata"]["deletionTimestamp"].is_null() && owners.map(Vec::len) == Some(1),
            "{}",
            pod["metadata"]
        );
    }
    Ok(())
}

async fn circle(cx: Cx) -> Result<()> {
    let pods = cx.core("pods");
    let mut made = Vec::new();
    for i in 1..=3 {
        let container = json!({"name": "nginx", "image": NGINX_IMAGE});
        let object = pod(&format!("pod{i}"), json!({}), container);
        made.push(cx.ok(Method::POST, &pods, &object).await?);
    }
    for (i, owner) in [(0, 2), (1, 0), (2, 1)] {
        let owner: &Value = &made[owner];
        let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": name(owner),
            "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true});
        let patch = json!({"metadata": {"ownerReferences": [reference]}});
        let path = format!("{pods}/{}", name(&made[i]));
        cx.patch(&path, "strategic-merge", &patch).await?;
    }
    delete(&cx, &format!("{pods}/pod1"), &made[0], "Foreground").await?;
    cx.eventually(SECOND, seconds(150), "the circle gone", || async {
        Ok(count(&cx, &pods).await? == 0)
    })
    .await?;
    ensure!(count(&cx, &pods).await? == 0, "pods are back");
    Ok(())
}
