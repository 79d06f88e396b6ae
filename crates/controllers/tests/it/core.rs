//! Garbage collection, namespaces, and what every namespace has.

use serde_json::{Value, json};

use crate::world::{ROOT_CA, World, names};

fn config_map(name: &str, owners: &[(&Value, bool)]) -> Value {
    let owners: Vec<Value> = owners
        .iter()
        .map(|(o, block)| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"],
                "uid": o["metadata"]["uid"], "blockOwnerDeletion": block})
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "d", "ownerReferences": owners}})
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/d/configmaps/{name}")
}

fn maps(w: &World) -> Vec<String> {
    let mut all = names(&w.list("", "configmaps"));
    all.retain(|n| n != "kube-root-ca.crt");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_go_with_their_last_owner() {
    let world = World::start().await;
    let a = world.create(&config_map("a", &[])).await;
    let b = world.create(&config_map("b", &[])).await;
    world
        .create(&config_map("both", &[(&a, false), (&b, false)]))
        .await;
    let only = world.create(&config_map("only", &[(&a, false)])).await;
    world.create(&config_map("below", &[(&only, false)])).await;
    world.delete(&path("a"), "Background").await;
    world
        .until("the dependents of a to go", |w| {
            (maps(w) == ["b", "both"]).then_some(())
        })
        .await;
    world
        .until("the reference to a to go", |w| {
            let both = w
                .list("", "configmaps")
                .into_iter()
                .find(|m| m["metadata"]["name"] == "both")?;
            (both["metadata"]["ownerReferences"].as_array()?.len() == 1).then_some(())
        })
        .await;
    world.delete(&path("b"), "Background").await;
    world
        .until("everything to go", |w| maps(w).is_empty().then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_owners_and_owners_of_other_namespaces_do_not_count() {
    let world = World::start().await;
    let ghost =
        json!({"metadata": {"name": "ghost", "uid": "00000000-0000-0000-0000-000000000001"}});
    world
        .create(&config_map("haunted", &[(&ghost, false)]))
        .await;
    let mut far = config_map("far", &[]);
    far["metadata"]["namespace"] = json!("kube-system");
    let far = world.create(&far).await;
    world.create(&config_map("abroad", &[(&far, false)])).await;
    world
        .until("both to go", |w| maps(w).is_empty().then_some(()))
        .await;
    world
        .until("the event", |w| {
            w.list("", "events")
                .into_iter()
                .find(|e| e["reason"] == "OwnerRefInvalidNamespace")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground_owners_outlive_what_blocks_them() {
    let world = World::start().await;
    let owner = world.create(&config_map("owner", &[])).await;
    let stays = world.create(&config_map("stays", &[])).await;
    let mut held = config_map("held", &[(&owner, true)]);
    held["metadata"]["finalizers"] = json!(["test/hold"]);
    world.create(&held).await;
    world
        .create(&config_map("shared", &[(&owner, true), (&stays, true)]))
        .await;
    world.delete(&path("owner"), "Foreground").await;
    world
        .until("the shared one to be released", |w| {
            let all = w.list("", "configmaps");
            let shared = all.iter().find(|m| m["metadata"]["name"] == "shared")?;
            let held = all.iter().find(|m| m["metadata"]["name"] == "held")?;
            let one = shared["metadata"]["ownerReferences"].as_array()?.len() == 1;
            (one && !held["metadata"]["deletionTimestamp"].is_null()).then_some(())
        })
        .await;
    assert_eq!(maps(&world), ["held", "owner", "shared", "stays"]);
    world
        .merge(&path("held"), &json!({"metadata": {"finalizers": null}}))
        .await;
    world
        .until("the owner to go", |w| {
            (maps(w) == ["shared", "stays"]).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_owners_is_broken() {
    let world = World::start().await;
    for name in ["c1", "c2", "c3"] {
        world.create(&config_map(name, &[])).await;
    }
    for (name, owner) in [("c1", "c3"), ("c2", "c1"), ("c3", "c2")] {
        let owner = world.get(&path(owner)).await.unwrap();
        let owned = config_map(name, &[(&owner, true)]);
        let patch = json!({"metadata": {"ownerReferences": owned["metadata"]["ownerReferences"]}});
        world.merge(&path(name), &patch).await;
    }
    world.delete(&path("c1"), "Foreground").await;
    world
        .until("the circle to go", |w| maps(w).is_empty().then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_loses_its_content_and_goes() {
    let world = World::start().await;
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d"},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}})
    };
    world.create(&pod("p")).await;
    let mut held = config_map("held", &[]);
    held["metadata"]["finalizers"] = json!(["test/hold"]);
    world.create(&held).await;
    world.create(&config_map("plain", &[])).await;
    world.delete("/api/v1/namespaces/d", "Background").await;
    world
        .until("the pod to be deleted first", |w| {
            let pod = w.list("", "pods").pop()?;
            (!pod["metadata"]["deletionTimestamp"].is_null()).then_some(())
        })
        .await;
    assert_eq!(
        maps(&world),
        ["held", "plain"],
        "nothing else goes while pods are there"
    );
    world.play_kubelet();
    let condition = |w: &World, kind: &str| {
        let all = w.list("", "namespaces");
        let ns = all.iter().find(|n| n["metadata"]["name"] == "d")?;
        let c = ns["status"]["conditions"]
            .as_array()?
            .iter()
            .find(|c| c["type"] == kind)?
            .clone();
        Some(c)
    };
    let told = world
        .until("the finalizer to be told", |w| {
            condition(w, "NamespaceFinalizersRemaining").filter(|c| c["status"] == "True")
        })
        .await;
    assert_eq!(
        told["message"],
        "Some content in the namespace has finalizers remaining: test/hold in 1 resource instances"
    );
    let told = condition(&world, "NamespaceContentRemaining").unwrap();
    assert_eq!(
        told["message"],
        "Some resources are remaining: configmaps. has 1 resource instances"
    );
    world
        .merge(&path("held"), &json!({"metadata": {"finalizers": null}}))
        .await;
    world
        .until("the namespace to go", |w| {
            (!names(&w.list("", "namespaces")).contains(&"d".into())).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_has_its_service_account_and_the_root_ca() {
    let world = World::start().await;
    let ca = |w: &World| {
        let all = w.list("", "configmaps");
        all.into_iter().find(|m| {
            m["metadata"]["name"] == "kube-root-ca.crt" && m["data"] == json!({"ca.crt": ROOT_CA})
        })
    };
    let account = |w: &World| {
        w.list("", "serviceaccounts")
            .into_iter()
            .find(|a| a["metadata"]["name"] == "default")
    };
    world.until("the account", account).await;
    let before = world.until("the CA", ca).await;
    world
        .merge(
            &path("kube-root-ca.crt"),
            &json!({"data": {"ca.crt": "x", "y": "z"}}),
        )
        .await;
    world.until("the CA to be put right", ca).await;
    world.delete(&path("kube-root-ca.crt"), "Background").await;
    world
        .until("the CA to come back", |w| {
            ca(w).filter(|m| m["metadata"]["uid"] != before["metadata"]["uid"])
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_recounted_when_objects_go() {
    let world = World::start().await;
    world
        .create(
            &json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "d"},
            "spec": {"hard": {"configmaps": "5", "count/secrets": "5", "pods": "3", "requests.cpu": "1"}}}),
        )
        .await;
    let used = |w: &World| -> Option<Value> {
        let q = w.list("", "resourcequotas").pop()?;
        Some(q["status"]["used"].clone())
    };
    let wait = |maps: &'static str, pods: &'static str, cpu: &'static str| {
        move |w: &World| {
            let u = used(w)?;
            (u["configmaps"] == maps && u["pods"] == pods && u["requests.cpu"] == cpu).then_some(())
        }
    };
    world.until("the first count", wait("1", "0", "0")).await;
    world.create(&config_map("a", &[])).await;
    world
        .create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d"},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "250m"}}}]}}))
        .await;
    // No admission runs here: only a recount finds them.
    world.delete(&path("a"), "Background").await;
    world.until("a recount", wait("1", "1", "250m")).await;
    world.play_kubelet();
    world
        .delete("/api/v1/namespaces/d/pods/p", "Background")
        .await;
    world.until("another", wait("1", "0", "0")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_bound_to_the_volume_that_suits() {
    let world = World::start().await;
    let volume = |name: &str, size: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/tmp/x"}}})
    };
    world.create(&volume("big", "10Gi")).await;
    world.create(&volume("right", "2Gi")).await;
    world
        .until("both volumes to be available", |w| {
            let all = w.list("", "persistentvolumes");
            let free = all.iter().filter(|v| v["status"]["phase"] == "Available");
            (free.count() == 2).then_some(())
        })
        .await;
    world
        .create(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "d"},
            "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
        .await;
    let claim = |w: &World| w.list("", "persistentvolumeclaims").pop();
    let bound = world
        .until("the claim to be bound", |w| {
            claim(w).filter(|c| c["status"]["phase"] == "Bound")
        })
        .await;
    assert_eq!(bound["spec"]["volumeName"], "right");
    assert_eq!(bound["status"]["capacity"]["storage"], "2Gi");
    world
        .delete(
            "/api/v1/namespaces/d/persistentvolumeclaims/c",
            "Background",
        )
        .await;
    world
        .until("the volume to be released", |w| {
            let all = w.list("", "persistentvolumes");
            let v = all.iter().find(|v| v["metadata"]["name"] == "right")?;
            (v["status"]["phase"] == "Released").then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_get_networks_and_taints_as_they_are() {
    let world = World::start().await;
    for name in ["a", "b"] {
        world
            .create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))
            .await;
    }
    let nodes = |w: &World| w.list("", "nodes");
    let cidrs = world
        .until("networks", |w| {
            let all: Vec<String> = nodes(w)
                .iter()
                .filter_map(|n| n["spec"]["podCIDR"].as_str().map(String::from))
                .collect();
            (all.len() == 2).then_some(all)
        })
        .await;
    assert_ne!(cidrs[0], cidrs[1]);
    assert!(
        cidrs
            .iter()
            .all(|c| c.starts_with("10.244.") && c.ends_with("/24"))
    );
    let ready = |state: &str| json!({"status": {"conditions": [{"type": "Ready", "status": state, "lastHeartbeatTime": jiff::Timestamp::now().to_string()}]}});
    world.merge("/api/v1/nodes/a/status", &ready("True")).await;
    world.merge("/api/v1/nodes/b/status", &ready("False")).await;
    world
        .until("taints", |w| {
            let of = |name: &str| -> Vec<String> {
                let all = nodes(w);
                let n = all.iter().find(|n| n["metadata"]["name"] == name);
                let taints = n.and_then(|n| n["spec"]["taints"].as_array().cloned());
                let text = |t: &Value| {
                    format!(
                        "{}:{}",
                        t["key"].as_str().unwrap_or(""),
                        t["effect"].as_str().unwrap_or("")
                    )
                };
                taints.unwrap_or_default().iter().map(text).collect()
            };
            let wanted = [
                "node.kubernetes.io/not-ready:NoSchedule",
                "node.kubernetes.io/not-ready:NoExecute",
            ];
            (of("a").is_empty() && of("b") == wanted).then_some(())
        })
        .await;
    assert!(
        nodes(&world)
            .iter()
            .all(|n| n["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"] == "0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_get_the_token_of_their_account_and_go_with_it() {
    let world = World::start().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "d"}});
    let account = world.create(&account).await;
    let secret = |name: &str, account: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": name, "namespace": "d",
                "annotations": {"kubernetes.io/service-account.name": account}}})
    };
    world.create(&secret("own", "a")).await;
    world.create(&secret("lost", "nobody")).await;
    let found = world
        .until("the token", |w| {
            let all = w.list("", "secrets");
            let own = all.iter().find(|s| s["metadata"]["name"] == "own")?;
            let filled = own["data"]["token"].is_string() && all.len() == 1;
            filled.then(|| own.clone())
        })
        .await;
    assert_eq!(found["data"]["namespace"], "ZA==");
    assert_eq!(
        found["metadata"]["annotations"]["kubernetes.io/service-account.uid"],
        account["metadata"]["uid"]
    );
    world
        .delete("/api/v1/namespaces/d/serviceaccounts/a", "Background")
        .await;
    world
        .until("the token to go", |w| {
            w.list("", "secrets").is_empty().then_some(())
        })
        .await;
}
