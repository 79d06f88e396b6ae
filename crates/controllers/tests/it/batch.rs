//! Jobs from first pod to last condition.

use serde_json::{Value, json};

use crate::world::World;

fn job(spec: &Value) -> Value {
    let mut v = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "d"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    json_patch::merge(&mut v["spec"], spec);
    v
}

fn condition(w: &World, kind: &str) -> Option<Value> {
    let job = w.list("batch", "jobs").pop()?;
    let all = job["status"]["conditions"].as_array()?.clone();
    all.into_iter()
        .find(|c| c["type"] == kind && c["status"] == "True")
}

/// Pods run and end at once, as their image says.
fn ends(pod: &Value, phase: &str) -> Option<Value> {
    let now = pod["status"]["phase"].as_str().unwrap_or("");
    (now != phase).then(|| json!({"status": {"phase": phase}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_counts_its_pods_once_and_completes() {
    let world = World::start().await;
    world.play(|p| ends(p, "Succeeded"));
    world
        .create(&job(&json!({"completions": 3, "parallelism": 2})))
        .await;
    world
        .until("completion", |w| condition(w, "Complete"))
        .await;
    let job = world.list("batch", "jobs").pop().unwrap();
    assert_eq!(job["status"]["succeeded"], 3);
    assert!(!job["status"]["completionTime"].is_null());
    let interim = condition(&world, "SuccessCriteriaMet").unwrap();
    assert_eq!(interim["reason"], "CompletionsReached");
    world
        .until("the finalizers to go", |w| {
            let pods = w.list("", "pods");
            let free = pods.iter().all(|p| {
                let left = p["metadata"]["finalizers"].as_array();
                left.is_none_or(Vec::is_empty)
            });
            (free && pods.len() == 3).then_some(())
        })
        .await;
    world
        .delete("/apis/batch/v1/namespaces/d/jobs/j", "Background")
        .await;
    world
        .until("the pods to go", |w| {
            w.list("", "pods").is_empty().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_indexed_job_runs_every_index() {
    let world = World::start().await;
    world.play(|p| ends(p, "Succeeded"));
    world
        .create(&job(
            &json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed"}),
        ))
        .await;
    world
        .until("completion", |w| condition(w, "Complete"))
        .await;
    let job = world.list("batch", "jobs").pop().unwrap();
    assert_eq!(job["status"]["completedIndexes"], "0-3");
    let mut hosts: Vec<String> = world
        .list("", "pods")
        .iter()
        .map(|p| p["spec"]["hostname"].as_str().unwrap().into())
        .collect();
    hosts.sort();
    assert_eq!(hosts, ["j-0", "j-1", "j-2", "j-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_fails_at_its_backoff_limit() {
    let world = World::start().await;
    world.play(|p| ends(p, "Failed"));
    world.create(&job(&json!({"backoffLimit": 0}))).await;
    let failed = world.until("failure", |w| condition(w, "Failed")).await;
    assert_eq!(failed["reason"], "BackoffLimitExceeded");
    assert_eq!(
        failed["message"],
        "Job has reached the specified backoff limit"
    );
    let job = world.list("batch", "jobs").pop().unwrap();
    assert_eq!(job["status"]["failed"], 1);
    assert!(condition(&world, "FailureTarget").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_and_resuming_a_job() {
    let world = World::start().await;
    world.play(|p| ends(p, "Running"));
    world.create(&job(&json!({"suspend": true}))).await;
    world
        .until("the condition", |w| condition(w, "Suspended"))
        .await;
    assert!(world.list("", "pods").is_empty());
    world
        .merge(
            "/apis/batch/v1/namespaces/d/jobs/j",
            &json!({"spec": {"suspend": false}}),
        )
        .await;
    world
        .until("a pod", |w| (w.list("", "pods").len() == 1).then_some(()))
        .await;
    world
        .merge(
            "/apis/batch/v1/namespaces/d/jobs/j",
            &json!({"spec": {"suspend": true}}),
        )
        .await;
    world
        .until("no pod", |w| w.list("", "pods").is_empty().then_some(()))
        .await;
}
