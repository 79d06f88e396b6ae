//! Kinds of [sig-storage] that need only the API and its controllers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::pods::{self, BUSYBOX, uuid};
use crate::rest::{Cx, POLL, version};

const GONE: Duration = Duration::from_secs(30);
const GROUP: &str = "/apis/storage.k8s.io/v1";

fn items(list: &Value) -> usize {
    list["items"].as_array().map_or(0, Vec::len)
}

fn five() -> String {
    uuid().chars().take(5).collect()
}

/// Waits until a list is empty.
async fn empty(cx: &Cx, list: &str) -> Result<()> {
    cx.eventually(POLL, GONE, &format!("{list} is empty"), || async {
        Ok(items(&cx.get(list).await?) == 0)
    })
    .await
}

/// An object that is deleted is gone, or on its way.
async fn going(cx: &Cx, path: &str) -> Result<()> {
    match cx.send(Method::GET, path, "application/json", None).await? {
        Ok(object) => ensure!(
            object["metadata"]["deletionTimestamp"].is_string(),
            "{object}"
        ),
        Err(f) => ensure!(f.code == 404, "{f:?}"),
    }
    Ok(())
}

/// Sets the label of an object's own name by a patch; the version grows.
async fn labelled(cx: &Cx, path: &str, kind: &str) -> Result<Value> {
    let before = cx.get(path).await?;
    let name = pods::name(&before).to_string();
    let patch = json!({"metadata": {"labels": {&name: "patched"}}});
    let patched = cx.patch(path, kind, &patch).await?;
    ensure!(
        patched["metadata"]["labels"][&name] == "patched",
        "{patched}"
    );
    ensure!(version(&patched)? > version(&before)?, "{patched}");
    Ok(patched)
}

/// Upstream's life of a cluster-wide object: patched and deleted, then another updated and deleted with its collection.
async fn life(cx: &Cx, resource: &str, objects: [Value; 2], patch: &str) -> Result<()> {
    let all = format!("{GROUP}/{resource}");
    let [first, second] = objects;
    let made = cx.ok(Method::POST, &all, &first).await?;
    version(&made)?;
    let name = pods::name(&made);
    let path = format!("{all}/{name}");
    labelled(cx, &path, patch).await?;
    let selected = format!("{all}?labelSelector={name}%3Dpatched");
    let list = cx.get(&selected).await?;
    ensure!(items(&list) == 1, "{list}");
    cx.delete(&path).await?;
    empty(cx, &selected).await?;
    let made = cx.ok(Method::POST, &all, &second).await?;
    let name = pods::name(&made);
    let path = format!("{all}/{name}");
    ensure!(
        pods::name(&cx.get(&path).await?) == name,
        "{path} is another"
    );
    let updated = cx
        .update(&path, |o| {
            o["metadata"]["labels"] = json!({name: "updated"})
        })
        .await?;
    ensure!(
        updated["metadata"]["labels"][name] == "updated",
        "{updated}"
    );
    let selected = format!("{all}?labelSelector={name}%3Dupdated");
    let list = cx.get(&selected).await?;
    ensure!(items(&list) == 1, "{list}");
    cx.delete(&selected).await?;
    empty(cx, &selected).await
}

pub async fn csi_node(cx: Cx) -> Result<()> {
    let node = || {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
            "metadata": {"name": format!("e2e-csinode-{}", five())}, "spec": {"drivers": null}})
    };
    let done = life(&cx, "csinodes", [node(), node()], "strategic-merge").await;
    ensure!(done.is_ok(), "{done:?}");
    Ok(())
}

pub async fn storage_class(cx: Cx) -> Result<()> {
    let class = |begin: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"generateName": begin}, "provisioner": "e2e-fake-provisioner"})
    };
    let done = life(
        &cx,
        "storageclasses",
        [class("e2e-"), class("e2e-v2-")],
        "strategic-merge",
    )
    .await;
    ensure!(done.is_ok(), "{done:?}");
    Ok(())
}

pub async fn attributes_class(cx: Cx) -> Result<()> {
    let class = |begin: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"generateName": begin},
            "driverName": "e2e-fake-csi-driver", "parameters": {"foo": "bar"}})
    };
    let classes = [class("e2e-"), class("e2e-v2-")];
    let done = life(&cx, "volumeattributesclasses", classes, "strategic-merge").await;
    ensure!(done.is_ok(), "{done:?}");
    Ok(())
}

// === VolumeAttachment ===

/// A new attachment to a node of the cluster; its path.
async fn attachment(cx: &Cx) -> Result<String> {
    let nodes = cx.get("/api/v1/nodes").await?;
    let node = pods::name(nodes["items"].get(0).context("a node")?);
    let id = five();
    let name = format!("va-e2e-{id}");
    let object = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
        "metadata": {"name": name, "uid": name},
        "spec": {"attacher": "e2e-test.storage.k8s.io", "nodeName": node,
            "source": {"persistentVolumeName": format!("pv-e2e-{id}")}},
        "status": {"attached": false}});
    let made = cx
        .ok(Method::POST, &format!("{GROUP}/volumeattachments"), &object)
        .await?;
    ensure!(
        pods::name(&made) == name && made["metadata"]["uid"] != json!(name),
        "{made}"
    );
    Ok(format!("{GROUP}/volumeattachments/{name}"))
}

fn patched_list(path: &str) -> String {
    let (all, name) = path.rsplit_once('/').unwrap_or_default();
    format!("{all}?labelSelector={name}%3Dpatched")
}

pub async fn attachment_lifecycle(cx: Cx) -> Result<()> {
    let path = attachment(&cx).await?;
    labelled(&cx, &path, "merge").await?;
    let list = cx.get(&patched_list(&path)).await?;
    ensure!(items(&list) == 1, "{list}");
    cx.delete(&path).await?;
    empty(&cx, &patched_list(&path)).await?;
    for _ in 0..2 {
        let path = attachment(&cx).await?;
        let updated = cx
            .update(&path, |a| {
                a["metadata"]["labels"] = json!({"va-e2e": "updated"})
            })
            .await?;
        ensure!(
            updated["metadata"]["labels"]["va-e2e"] == "updated",
            "{updated}"
        );
    }
    let selected = format!("{GROUP}/volumeattachments?labelSelector=va-e2e%3Dupdated");
    cx.delete(&selected).await?;
    empty(&cx, &selected).await
}

pub async fn attachment_status(cx: Cx) -> Result<()> {
    let path = attachment(&cx).await?;
    labelled(&cx, &path, "merge").await?;
    let status = format!("{path}/status");
    let found = cx.get(&status).await?;
    ensure!(found["status"]["attached"] != true, "{found}");
    let patched = cx
        .patch(&status, "merge", &json!({"status": {"attached": true}}))
        .await?;
    ensure!(patched["status"]["attached"] == true, "{patched}");
    let updated = cx
        .update(&status, |a| a["status"]["attached"] = json!(false))
        .await?;
    ensure!(updated["status"]["attached"] == false, "{updated}");
    cx.delete(&path).await?;
    empty(&cx, &patched_list(&path)).await
}

// === CSI ===

pub async fn csi_pod(cx: Cx) -> Result<()> {
    let name = "pod-csi-inline-volumes";
    let pod = pods::pod(
        name,
        json!({"volumes": [{"name": "csi-inline-vol1", "csi": {"driver": "e2e.example.com"}},
                {"name": "csi-inline-vol2", "csi": {"driver": "e2e.example.com", "fsType": "ext4", "readOnly": true}}],
            "containers": [{"name": name, "image": BUSYBOX, "command": ["sh", "-c", "ls /mnt/*"],
                "volumeMounts": [{"name": "csi-inline-vol1", "mountPath": "/mnt/vol1"},
                    {"name": "csi-inline-vol2", "mountPath": "/mnt/vol2"}]}]}),
    );
    let made = pods::create(&cx, &pod).await?;
    let twice = cx.refused(Method::POST, &cx.core("pods"), &pod).await?;
    ensure!(
        twice.code == 409 && twice.reason == "AlreadyExists",
        "{twice:?}"
    );
    let found = pods::get(&cx, name).await?;
    ensure!(
        found["metadata"]["uid"] == made["metadata"]["uid"],
        "{found}"
    );
    ensure!(items(&cx.get(&cx.core("pods")).await?) == 1, "not one pod");
    let path = pods::path(&cx, name);
    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = cx.patch(&path, "merge", &patch).await?;
    ensure!(
        patched["metadata"]["annotations"]["patched"] == "true",
        "{patched}"
    );
    ensure!(version(&patched)? > version(&made)?, "{patched}");
    cx.delete(&path).await?;
    going(&cx, &path).await
}

pub async fn csi_driver(cx: Cx) -> Result<()> {
    let all = format!("{GROUP}/csidrivers");
    let driver = |modes: Value| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver",
            "metadata": {"name": format!("inline-driver-{}", uuid()), "labels": {"e2e-test": cx.namespace}},
            "spec": {"volumeLifecycleModes": modes, "fsGroupPolicy": "ReadWriteOnceWithFSType"}})
    };
    let both = [
        driver(json!(["Ephemeral"])),
        driver(json!(["Persistent", "Ephemeral"])),
    ];
    let mut paths = Vec::new();
    for object in &both {
        let made = cx.ok(Method::POST, &all, object).await?;
        let path = format!("{all}/{}", pods::name(&made));
        let found = cx.get(&path).await?;
        ensure!(
            found["metadata"]["uid"] == made["metadata"]["uid"],
            "{found}"
        );
        paths.push(path);
    }
    let twice = cx.refused(Method::POST, &all, &both[0]).await?;
    ensure!(
        twice.code == 409 && twice.reason == "AlreadyExists",
        "{twice:?}"
    );
    labelled(&cx, &paths[1], "strategic-merge").await?;
    let second = pods::name(&both[1]);
    let updated = cx
        .update(&paths[1], |d| {
            d["metadata"]["labels"][second] = json!("updated")
        })
        .await?;
    ensure!(
        updated["metadata"]["labels"][second] == "updated",
        "{updated}"
    );
    let list = cx
        .get(&format!("{all}?labelSelector=e2e-test%3D{}", cx.namespace))
        .await?;
    ensure!(items(&list) == 2, "{list}");
    cx.delete(&paths[0]).await?;
    going(&cx, &paths[0]).await?;
    cx.delete(&format!("{all}?labelSelector={second}%3Dupdated"))
        .await?;
    going(&cx, &paths[1]).await
}

async fn capacity_discovered(cx: &Cx) -> Result<()> {
    let has = |g: &Value| {
        let mut versions = g["versions"].as_array().into_iter().flatten();
        versions.any(|v| v["version"] == "v1")
    };
    let groups = cx.get("/apis").await?;
    let mut groups = groups["groups"].as_array().into_iter().flatten();
    ensure!(
        groups.any(|g| g["name"] == "storage.k8s.io" && has(g)),
        "/apis has no storage.k8s.io/v1"
    );
    ensure!(
        has(&cx.get("/apis/storage.k8s.io").await?),
        "/apis/storage.k8s.io has no v1"
    );
    let resources = cx.get(GROUP).await?;
    let mut resources = resources["resources"].as_array().into_iter().flatten();
    ensure!(
        resources.any(|r| r["name"] == "csistoragecapacities"),
        "csistoragecapacities are not discovered"
    );
    Ok(())
}

pub async fn capacity(cx: Cx) -> Result<()> {
    capacity_discovered(&cx).await?;
    let all = format!("{GROUP}/namespaces/{}/csistoragecapacities", cx.namespace);
    let everywhere = format!("{GROUP}/csistoragecapacities");
    let object = |i: u32| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity",
            "metadata": {"name": format!("{}-csc{i}", cx.namespace), "labels": {"test": cx.namespace}},
            "storageClassName": "e2e.example.com"})
    };
    let first = cx.ok(Method::POST, &all, &object(1)).await?;
    let twice = cx.refused(Method::POST, &all, &object(1)).await?;
    ensure!(
        twice.code == 409 && twice.reason == "AlreadyExists",
        "{twice:?}"
    );
    cx.ok(Method::POST, &all, &object(2)).await?;
    let selector = format!("labelSelector=test%3D{}", cx.namespace);
    let mut watches = [
        cx.watch(&all, &selector).await?,
        cx.watch(&everywhere, &selector).await?,
    ];
    let third = cx.ok(Method::POST, &all, &object(3)).await?;
    let path = format!("{all}/{}", pods::name(&first));
    let found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["uid"] == first["metadata"]["uid"],
        "{found}"
    );
    for list in [&all, &everywhere] {
        let found = cx.get(&format!("{list}?{selector}")).await?;
        ensure!(items(&found) == 3, "{found}");
    }
    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = cx.patch(&path, "merge", &patch).await?;
    ensure!(
        patched["metadata"]["annotations"]["patched"] == "true",
        "{patched}"
    );
    ensure!(version(&patched)? > version(&first)?, "{patched}");
    let updated = cx
        .update(&path, |c| {
            c["metadata"]["annotations"]["updated"] = json!("true")
        })
        .await?;
    ensure!(
        updated["metadata"]["annotations"]["updated"] == "true",
        "{updated}"
    );
    for watch in &mut watches {
        let (mut added, mut changed) = (false, 0);
        while !added || changed < 2 {
            let (kind, object) = watch.next(GONE).await?;
            ensure!(object["kind"] == "CSIStorageCapacity", "{kind} {object}");
            added |= kind == "ADDED" && pods::name(&object) == pods::name(&third);
            changed += usize::from(
                kind == "MODIFIED" && object["metadata"]["annotations"]["patched"] == "true",
            );
        }
    }
    cx.delete(&path).await?;
    going(&cx, &path).await?;
    let selected = format!("{all}?{selector}");
    ensure!(items(&cx.get(&selected).await?) == 2, "not two left");
    cx.delete(&selected).await?;
    ensure!(items(&cx.get(&selected).await?) == 0, "some are left");
    Ok(())
}

// === PersistentVolumes ===

const VOLUMES: &str = "/api/v1/persistentvolumes";

/// A volume and a claim that fit; their paths.
async fn pair(cx: &Cx, driver: &str, handle: &str) -> Result<[String; 2]> {
    let ns = &cx.namespace;
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"generateName": format!("{ns}-"), "labels": {"e2e-pv-pool": ns},
            "annotations": {"pv.beta.kubernetes.io/gid": "777"}},
        "spec": {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": ns,
            "csi": {"driver": driver, "volumeHandle": handle}}});
    let volume = cx.ok(Method::POST, VOLUMES, &volume).await?;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"generateName": "pvc-"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}, "storageClassName": ns}});
    let all = cx.core("persistentvolumeclaims");
    let claim = cx.ok(Method::POST, &all, &claim).await?;
    Ok([
        format!("{VOLUMES}/{}", pods::name(&volume)),
        format!("{all}/{}", pods::name(&claim)),
    ])
}

async fn one_each(cx: &Cx) -> Result<()> {
    let pool = format!("{VOLUMES}?labelSelector=e2e-pv-pool%3D{}", cx.namespace);
    for list in [pool, cx.core("persistentvolumeclaims")] {
        let found = cx.get(&list).await?;
        ensure!(
            items(&found) == 1 && version(&found["items"][0])? > 0,
            "{found}"
        );
    }
    Ok(())
}

pub async fn volume_lifecycle(cx: Cx) -> Result<()> {
    let driver = format!("inline-driver-{}", uuid());
    let [volume, claim] = pair(&cx, &driver, "e2e-conformance").await?;
    one_each(&cx).await?;
    for path in [&volume, &claim] {
        let patched = labelled(&cx, path, "strategic-merge").await?;
        let found = cx.get(path).await?;
        ensure!(
            found["metadata"]["uid"] == patched["metadata"]["uid"],
            "{found}"
        );
    }
    cx.delete(&claim).await?;
    empty(&cx, &cx.core("persistentvolumeclaims")).await?;
    cx.delete(&volume).await?;
    empty(
        &cx,
        &format!("{VOLUMES}?labelSelector=e2e-pv-pool%3D{}", cx.namespace),
    )
    .await?;
    let [volume, claim] = pair(&cx, &driver, "e2e-conformance").await?;
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_string();
    let (volume_name, claim_name) = (last(&volume), last(&claim));
    let updated = cx
        .update(&volume, |v| {
            v["metadata"]["labels"][&volume_name] = json!("updated")
        })
        .await?;
    ensure!(
        updated["metadata"]["labels"][&volume_name] == "updated",
        "{updated}"
    );
    let labels = json!({claim_name.as_str(): "updated"});
    let updated = cx
        .update(&claim, |c| c["metadata"]["labels"] = labels.clone())
        .await?;
    ensure!(updated["metadata"]["labels"] == labels, "{updated}");
    let selector = format!("labelSelector={claim_name}%3Dupdated");
    let list = cx
        .get(&format!("/api/v1/persistentvolumeclaims?{selector}"))
        .await?;
    ensure!(items(&list) == 1, "{list}");
    for selected in [
        cx.core(&format!("persistentvolumeclaims?{selector}")),
        format!("{VOLUMES}?labelSelector={volume_name}%3Dupdated"),
    ] {
        cx.delete(&selected).await?;
        empty(&cx, &selected).await?;
    }
    Ok(())
}

/// A claim has a condition that the test set.
fn has_condition(claim: &Value, kind: &str, reason: &str) -> bool {
    let mut all = claim["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    all.any(|c| c["type"] == kind && c["reason"] == reason && c["message"] == "Set from e2e test")
}

pub async fn volume_status(cx: Cx) -> Result<()> {
    let driver = format!("e2e-driver-{}", uuid());
    let [volume, claim] = pair(&cx, &driver, "e2e-status-conformance").await?;
    one_each(&cx).await?;
    let phase = async |path: &str| -> Result<String> {
        let found = cx.get(&format!("{path}/status")).await?;
        Ok(found["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_string())
    };
    let found = phase(&claim).await?;
    ensure!(["Pending", "Bound"].contains(&found.as_str()), "{found:?}");
    let found = phase(&volume).await?;
    ensure!(
        ["Available", "Bound", "Pending"].contains(&found.as_str()),
        "{found:?}"
    );
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "Set from e2e test"});
    let patch =
        json!({"status": {"conditions": [condition("StatusPatched", "E2E patchedStatus")]}});
    let patched = cx
        .patch(&format!("{claim}/status"), "merge", &patch)
        .await?;
    ensure!(
        has_condition(&patched, "StatusPatched", "E2E patchedStatus"),
        "{patched}"
    );
    let patch = json!({"status": {"message": "StatusPatched", "reason": "E2E patchStatus"}});
    let patched = cx
        .patch(&format!("{volume}/status"), "merge", &patch)
        .await?;
    let says = |v: &Value, message: &str, reason: &str| {
        v["status"]["message"] == message && v["status"]["reason"] == reason
    };
    ensure!(
        says(&patched, "StatusPatched", "E2E patchStatus"),
        "{patched}"
    );
    let updated = cx
        .update(&format!("{claim}/status"), |c| {
            let new = condition("StatusUpdated", "E2E updateStatus");
            match c["status"]["conditions"].as_array_mut() {
                Some(all) => all.push(new),
                None => c["status"]["conditions"] = json!([new]),
            }
        })
        .await?;
    ensure!(
        has_condition(&updated, "StatusUpdated", "E2E updateStatus"),
        "{updated}"
    );
    let updated = cx
        .update(&format!("{volume}/status"), |v| {
            v["status"]["reason"] = json!("E2E updateStatus");
            v["status"]["message"] = json!("StatusUpdated");
        })
        .await?;
    ensure!(
        says(&updated, "StatusUpdated", "E2E updateStatus"),
        "{updated}"
    );
    cx.delete(&claim).await?;
    cx.delete(&volume).await?;
    Ok(())
}
