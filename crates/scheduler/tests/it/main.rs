//! The scheduler against a real API server, under its own identity with RBAC. What the conformance
//! tests of [sig-scheduling] rely on, without kubelets.

#![allow(clippy::unwrap_used)]

mod world;

use serde_json::{Value, json};
use world::{World, condition};

fn pod(name: &str, cpu: &str, priority: i32) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d"},
        "spec": {"priority": priority, "terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "i",
            "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_bound_or_told_why_not() {
    let w = World::start().await;
    w.node("n1", "2").await;
    w.create("pods", pod("fits", "1", 0)).await;
    let bound = w.pod("fits", |p| p["spec"]["nodeName"].is_string()).await;
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(condition(&bound, "PodScheduled")["status"], "True");
    let event = w.event("Scheduled", "fits").await;
    assert_eq!(event["message"], "Successfully assigned d/fits to n1");
    assert_eq!(event["type"], "Normal");

    w.create("pods", pod("additional-pod", "1500m", 0)).await;
    let event = w.event("FailedScheduling", "additional-pod").await;
    assert_eq!(event["type"], "Warning");
    let name = event["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("additional-pod."), "{name}");
    let waits = w
        .pod("additional-pod", |p| {
            condition(p, "PodScheduled")["status"] == "False"
        })
        .await;
    let c = condition(&waits, "PodScheduled");
    assert_eq!(c["reason"], "Unschedulable");
    assert_eq!(
        c["message"],
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    // Labels of nodes reach the scheduler, and so do new nodes.
    let mut selective = pod("selective", "1", 0);
    selective["spec"]["nodeSelector"] = json!({"kubernetes.io/e2e": "42"});
    w.create("pods", selective).await;
    w.event("FailedScheduling", "selective").await;
    w.node("n2", "4").await;
    w.pod("additional-pod", |p| p["spec"]["nodeName"] == "n2")
        .await;
    let label = json!({"metadata": {"labels": {"kubernetes.io/e2e": "42"}}});
    w.patch("/api/v1/nodes/n2", &label).await;
    w.pod("selective", |p| p["spec"]["nodeName"] == "n2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_victim_is_marked_and_deleted_and_the_preemptor_waits_for_its_room() {
    let w = World::start().await;
    w.node("n1", "2").await;
    let mut victim = pod("victim", "2", 1);
    victim["metadata"]["finalizers"] = json!(["example.com/test-finalizer"]);
    w.create("pods", victim).await;
    w.pod("victim", |p| p["spec"]["nodeName"].is_string()).await;
    w.create("pods", pod("preemptor", "2", 1000)).await;
    let victim = w
        .pod("victim", |p| p["metadata"]["deletionTimestamp"].is_string())
        .await;
    let c = condition(&victim, "DisruptionTarget");
    assert_eq!(
        (&c["status"], &c["reason"]),
        (&json!("True"), &json!("PreemptionByScheduler"))
    );
    assert_eq!(
        c["message"],
        "default-scheduler: preempting to accommodate a higher priority pod"
    );
    let waits = w
        .pod("preemptor", |p| p["status"]["nominatedNodeName"] == "n1")
        .await;
    let event = w.event("Preempted", "victim").await;
    let uid = waits["metadata"]["uid"].as_str().unwrap();
    assert_eq!(
        event["message"],
        format!("Preempted by pod {uid} on node n1")
    );
    // A less important pod does not take the room meanwhile.
    w.create("pods", pod("late", "2", 0)).await;
    w.event("FailedScheduling", "late").await;
    w.finish("victim").await;
    let bound = w.pod("preemptor", |p| p["spec"]["nodeName"] == "n1").await;
    assert!(bound["status"].get("nominatedNodeName").is_none());
    let late = w.pod("late", |_| true).await;
    assert!(late["spec"].get("nodeName").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_at_once_all_get_nodes_and_no_node_is_overfull() {
    let w = World::start().await;
    for i in 0..5 {
        w.node(&format!("n{i}"), "10").await;
    }
    let made = (0..50).map(|i| w.create("pods", pod(&format!("p{i}"), "1", 0)));
    futures::future::join_all(made).await;
    let mut by_node = std::collections::BTreeMap::<String, usize>::new();
    for i in 0..50 {
        let bound = w
            .pod(&format!("p{i}"), |p| p["spec"]["nodeName"].is_string())
            .await;
        *by_node
            .entry(bound["spec"]["nodeName"].to_string())
            .or_default() += 1;
    }
    assert_eq!(by_node.values().copied().collect::<Vec<_>>(), [10; 5]);
}
