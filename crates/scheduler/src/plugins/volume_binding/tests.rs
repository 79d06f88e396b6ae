use super::*;
use crate::framework::PreFilter;
use crate::testing::{self, STORAGE};
use serde_json::{Value, json};

fn class(name: &str, mode: &str, provisioner: &str) -> (&'static str, &'static str, Value) {
    let object =
        json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
    (STORAGE, "storageclasses", object)
}

fn claim(name: &str, class: &str) -> (&'static str, &'static str, Value) {
    let object = json!({"metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
    ("", "persistentvolumeclaims", object)
}

fn volume(name: &str, class: &str, size: &str, host: &str) -> (&'static str, &'static str, Value) {
    let object = json!({"metadata": {"name": name}, "status": {"phase": "Available"},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
                [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}}});
    ("", "persistentvolumes", object)
}

fn pod() -> Pod {
    testing::pod(json!({"metadata": {"name": "p"}, "spec": {"volumes":
        [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}))
}

/// What the plugin says for node `n`: the plan, or the reasons.
fn judge(objects: &[(&'static str, &'static str, Value)]) -> Result<Plan, String> {
    let world = testing::world(objects);
    let node = json!({"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "n"}}});
    let snapshot = testing::snapshot(&[node], &[]);
    let pod = pod();
    let cycle = Cycle {
        pod: &pod,
        snapshot: &snapshot,
        world: &world,
    };
    if let PreFilter::Judge(filter) = VolumeBinding.pre_filter(&cycle).map_err(|r| r.message())? {
        filter
            .filter(&snapshot.nodes()[0])
            .map_err(|r| r.message())?;
    }
    VolumeBinding
        .reserve(&cycle, &snapshot.nodes()[0])
        .map_err(|r| r.message())?;
    let plan = world.assumed_volumes.lock().by_pod.get("p").cloned();
    Ok(plan.unwrap_or_default())
}

#[tokio::test]
async fn claims_that_cannot_be_used_are_named() {
    let not_found = judge(&[]);
    assert_eq!(
        not_found.unwrap_err(),
        "persistentvolumeclaim \"c\" not found"
    );
    let immediate = judge(&[claim("c", "fast"), class("fast", "Immediate", "x")]);
    assert_eq!(
        immediate.unwrap_err(),
        "pod has unbound immediate PersistentVolumeClaims"
    );
    let mut lost = claim("c", "");
    lost.2["status"] = json!({"phase": "Lost"});
    lost.2["spec"]["volumeName"] = json!("v");
    assert_eq!(
        judge(&[lost]).unwrap_err(),
        "persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\""
    );
    let mut gone = claim("c", "");
    gone.2["spec"]["volumeName"] = json!("v");
    gone.2["metadata"]["annotations"] = json!({BIND_COMPLETED: "yes"});
    assert_eq!(judge(std::slice::from_ref(&gone)).unwrap_err(), NOT_THERE);
    assert_eq!(
        judge(&[gone, volume("v", "", "1Gi", "other")]).unwrap_err(),
        AFFINITY
    );
}

#[tokio::test]
async fn the_smallest_volume_that_the_node_reaches_is_taken() {
    let waits = class(
        "local",
        "WaitForFirstConsumer",
        "kubernetes.io/no-provisioner",
    );
    let plan = judge(&[
        claim("c", "local"),
        waits.clone(),
        volume("big", "local", "5Gi", "n"),
        volume("fits", "local", "2Gi", "n"),
        volume("small", "local", "500Mi", "n"),
        volume("far", "local", "1Gi", "other"),
    ]);
    assert_eq!(
        plan.unwrap().bindings,
        vec![("c".to_string(), "fits".to_string())]
    );
    let far = judge(&[
        claim("c", "local"),
        waits,
        volume("far", "local", "1Gi", "other"),
    ]);
    assert_eq!(far.unwrap_err(), NO_VOLUME);
}

#[tokio::test]
async fn volumes_are_made_where_the_driver_has_room() {
    let waits = class("csi", "WaitForFirstConsumer", "csi.example.com");
    let plan = judge(&[claim("c", "csi"), waits.clone()]).unwrap();
    assert_eq!(plan.provision, vec!["c"]);
    let driver =
        json!({"metadata": {"name": "csi.example.com"}, "spec": {"storageCapacity": true}});
    let driver = (STORAGE, "csidrivers", driver);
    let full = judge(&[claim("c", "csi"), waits.clone(), driver.clone()]);
    assert_eq!(full.unwrap_err(), NO_SPACE);
    let room = json!({"metadata": {"name": "r", "namespace": "x"}, "storageClassName": "csi",
        "nodeTopology": {}, "capacity": "2Gi"});
    let room = (STORAGE, "csistoragecapacities", room);
    assert!(judge(&[claim("c", "csi"), waits, driver, room]).is_ok());
}
