//! Deployments from first pod to last.

use serde_json::json;

use crate::world::{World, deployment, names};

const WEB: &str = "/apis/apps/v1/namespaces/d/deployments/web";

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_out_rolls_over_and_scales() {
    let world = World::start().await;
    world.play_kubelet();
    world.create(&deployment("web", 3, "a:1")).await;
    let complete = |w: &World, image: &str| {
        let d = w.list("apps", "deployments").pop()?;
        let s = &d["status"];
        let wanted = &d["spec"]["replicas"];
        let all = [
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
        ];
        let done = all.iter().all(|f| &s[*f] == wanted)
            && s["observedGeneration"] == d["metadata"]["generation"]
            && d["spec"]["template"]["spec"]["containers"][0]["image"] == image;
        done.then_some(d)
    };
    let d = world
        .until("the first rollout", |w| complete(w, "a:1"))
        .await;
    assert_eq!(
        d["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "1"
    );
    let first = world.list("apps", "replicasets").pop().unwrap();
    let hash = first["metadata"]["labels"]["pod-template-hash"].clone();
    assert_eq!(
        first["spec"]["selector"]["matchLabels"]["pod-template-hash"],
        hash
    );

    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "a:2"}]}}}});
    world.merge(WEB, &image).await;
    let d = world
        .until("the second rollout", |w| {
            complete(w, "a:2").filter(|d| {
                d["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
            })
        })
        .await;
    let progressing = d["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "Progressing")
        .cloned();
    world
        .until("progress to be complete", |w| {
            let d = w.list("apps", "deployments").pop()?;
            let all = d["status"]["conditions"].as_array()?.clone();
            all.iter()
                .find(|c| c["reason"] == "NewReplicaSetAvailable")
                .cloned()
        })
        .await;
    assert!(progressing.is_some());
    world
        .until("old pods to go", |w| {
            (w.list("", "pods").len() == 3).then_some(())
        })
        .await;
    let sets = world.list("apps", "replicasets");
    let mut sizes: Vec<i64> = sets
        .iter()
        .map(|s| s["spec"]["replicas"].as_i64().unwrap())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 3]);

    world.merge(WEB, &json!({"spec": {"replicas": 5}})).await;
    world
        .until("five pods", |w| {
            complete(w, "a:2").filter(|d| d["status"]["replicas"] == 5)
        })
        .await;

    world.delete(WEB, "Background").await;
    world
        .until("everything to go", |w| {
            let left = w.list("", "pods").len() + w.list("apps", "replicasets").len();
            (left == 0).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreating_deployment_never_has_pods_of_two_templates() {
    let world = World::start().await;
    world.play_kubelet();
    let mut d = deployment("web", 2, "a:1");
    d["spec"]["strategy"] = json!({"type": "Recreate"});
    world.create(&d).await;
    let running = |w: &World, image: &str| {
        let pods = w.list("", "pods");
        let images: Vec<_> = pods
            .iter()
            .map(|p| p["spec"]["containers"][0]["image"].clone())
            .collect();
        assert!(images.windows(2).all(|w| w[0] == w[1]), "mixed: {images:?}");
        (pods.len() == 2 && images[0] == image).then_some(())
    };
    world.until("two pods", |w| running(w, "a:1")).await;
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "a:2"}]}}}});
    world.merge(WEB, &image).await;
    world.until("two new pods", |w| running(w, "a:2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphaning_keeps_replica_sets_and_pods() {
    let world = World::start().await;
    world.play_kubelet();
    world.create(&deployment("web", 2, "a:1")).await;
    world
        .until("two pods", |w| {
            (w.list("", "pods").len() == 2).then_some(())
        })
        .await;
    world
        .until("a settled set", |w| {
            let s = w.list("apps", "replicasets").pop()?;
            (s["status"]["replicas"] == 2 && s["status"]["readyReplicas"] == 2).then_some(())
        })
        .await;
    world.delete(WEB, "Orphan").await;
    world
        .until("the deployment to go", |w| {
            w.list("apps", "deployments").is_empty().then_some(())
        })
        .await;
    let sets = world.list("apps", "replicasets");
    assert_eq!(sets.len(), 1);
    assert!(
        sets[0]["metadata"]["ownerReferences"].is_null(),
        "{}",
        sets[0]
    );
    assert_eq!(world.list("", "pods").len(), 2);

    // And a new deployment with the same selector takes them over.
    world.create(&deployment("web", 2, "a:1")).await;
    world
        .until("adoption", |w| {
            let s = w.list("apps", "replicasets");
            (s[0]["metadata"]["ownerReferences"][0]["kind"] == "Deployment").then_some(())
        })
        .await;
    assert_eq!(names(&world.list("apps", "replicasets")), names(&sets));
}

fn node(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_makes_renews_and_removes_its_pods_in_order() {
    let world = World::start().await;
    world.play_kubelet();
    world
        .create(&json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "d"},
            "spec": {"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}}}}))
        .await;
    let settled = |w: &World, replicas: i64, image: &str| {
        let s = w.list("apps", "statefulsets").pop()?;
        let pods = w.list("", "pods");
        let images = pods
            .iter()
            .all(|p| p["spec"]["containers"][0]["image"] == image);
        let done = images
            && pods.len() as i64 == replicas
            && s["status"]["readyReplicas"] == replicas
            && s["status"]["updatedReplicas"] == replicas
            && s["status"]["currentRevision"] == s["status"]["updateRevision"];
        done.then_some(names(&pods))
    };
    let pods = world.until("three pods", |w| settled(w, 3, "a:1")).await;
    assert_eq!(pods, ["db-0", "db-1", "db-2"]);
    let path = "/apis/apps/v1/namespaces/d/statefulsets/db";
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "a:2"}]}}}});
    world.merge(path, &image).await;
    world
        .until("three new pods", |w| settled(w, 3, "a:2"))
        .await;
    assert_eq!(world.list("apps", "controllerrevisions").len(), 2);
    world.merge(path, &json!({"spec": {"replicas": 1}})).await;
    let pods = world
        .until("one pod", |w| {
            w.list("", "pods")
                .len()
                .eq(&1)
                .then(|| names(&w.list("", "pods")))
        })
        .await;
    assert_eq!(pods, ["db-0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_follows_its_nodes_and_its_template() {
    let world = World::start().await;
    if world
        .client
        .cache(&machinery::GroupResource::new("", "nodes"))
        .is_err()
    {
        eprintln!("SKIPPED: nodes are not served yet");
        return;
    }
    world.play_kubelet();
    world.create(&node("a")).await;
    world.create(&node("b")).await;
    world
        .create(&json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "ds", "namespace": "d"},
            "spec": {"selector": {"matchLabels": {"app": "ds"}}, "template": {"metadata": {"labels": {"app": "ds"}},
                "spec": {"tolerations": [{"operator": "Exists"}], "containers": [{"name": "c", "image": "a:1"}]}}}}))
        .await;
    let settled = |w: &World, pods: usize, image: &str| {
        let s = w.list("apps", "daemonsets").pop()?;
        let all = w.list("", "pods");
        let images = all
            .iter()
            .all(|p| p["spec"]["containers"][0]["image"] == image);
        let done = images
            && all.len() == pods
            && s["status"]["numberReady"] == pods
            && s["status"]["updatedNumberScheduled"] == pods;
        done.then_some(())
    };
    world
        .until("a pod on each node", |w| settled(w, 2, "a:1"))
        .await;
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "a:2"}]}}}});
    world
        .merge("/apis/apps/v1/namespaces/d/daemonsets/ds", &image)
        .await;
    world.until("new pods", |w| settled(w, 2, "a:2")).await;
    let revisions = world.list("apps", "controllerrevisions");
    let mut numbers: Vec<i64> = revisions
        .iter()
        .map(|r| r["revision"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    world.delete("/api/v1/nodes/b", "Background").await;
    world.until("one pod", |w| settled(w, 1, "a:2")).await;
}
