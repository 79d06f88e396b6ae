//! Twins of [sig-apps].

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::operations::contains;
use crate::rest::{Cx, Watch};
use crate::waits::{self, name, number};

pub mod controller_revision;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod job;
pub mod replica_set;
pub mod replication_controller;
pub mod stateful_set;

/// Scales a workload of one replica through its scale subresource: a PUT without a version to 2, a patch to 4.
async fn scale_subresource(cx: &Cx, path: &str) -> Result<()> {
    let scale = format!("{path}/scale");
    let mut found = cx.get(&scale).await?;
    ensure!(
        found["kind"] == "Scale"
            && number(&found["spec"]["replicas"]) == 1
            && number(&found["status"]["replicas"]) == 1,
        "{found}"
    );
    found["metadata"]["resourceVersion"] = json!("");
    found["spec"]["replicas"] = json!(2);
    let answer = cx.ok(Method::PUT, &scale, &found).await?;
    ensure!(answer["spec"]["replicas"] == 2, "{answer}");
    let replicas = cx.get(path).await?["spec"]["replicas"].clone();
    ensure!(replicas == 2, "{replicas} replicas");
    let patch = json!({"metadata": {"creationTimestamp": null}, "spec": {"replicas": 4},
        "status": {"replicas": 0}});
    cx.patch(&scale, "strategic-merge", &patch).await?;
    let replicas = cx.get(path).await?["spec"]["replicas"].clone();
    ensure!(replicas == 4, "{replicas} replicas");
    Ok(())
}

/// Waits until a watch shows a condition on the object of a name.
async fn shows(watch: &mut Watch, object: &str, wanted: &Value, within: Duration) -> Result<()> {
    let has = |_: &str, o: &Value| {
        let all = o["status"]["conditions"].as_array();
        name(o) == object && all.is_some_and(|all| all.iter().any(|c| contains(c, wanted)))
    };
    watch.until(within, &wanted.to_string(), has).await?;
    Ok(())
}

/// Reads, updates and patches the status of a workload; a watch since before it was made must show each.
/// `patch` is what the merge patch says beside its condition.
async fn status_endpoints(
    cx: &Cx,
    (kind, plural): (&str, &str),
    object: &str,
    (selector, since): (String, u64),
    within: Duration,
    mut patch: Value,
) -> Result<()> {
    let all = cx.group("apps/v1", plural);
    let status = format!("{all}/{object}/status");
    let found = cx.get(&status).await?;
    ensure!(found["kind"] == kind && name(&found) == object, "{found}");
    let wanted = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E",
        "message": "Set from e2e test"});
    let updated = cx
        .update(&status, |o| {
            let conditions = &mut o["status"]["conditions"];
            match conditions.as_array_mut() {
                Some(all) => all.push(wanted.clone()),
                None => *conditions = json!([wanted]),
            }
        })
        .await?;
    ensure!(waits::is_true(&updated, "StatusUpdate"), "{updated}");
    let query = format!("{selector}&resourceVersion={since}");
    let mut watch = cx.watch(&all, &query).await?;
    shows(&mut watch, object, &wanted, within).await?;
    let wanted = json!({"type": "StatusPatched", "status": "True"});
    patch["status"]["conditions"] = json!([wanted]);
    let patched = cx.patch(&status, "merge", &patch).await?;
    ensure!(patched["spec"] == updated["spec"], "{patched}");
    shows(&mut watch, object, &wanted, within).await
}

/// Writes a pod whatever happens to it in between.
async fn relabel(cx: &Cx, pod: &str, labels: Value) -> Result<()> {
    let path = cx.core(&format!("pods/{pod}"));
    cx.update(&path, |o| o["metadata"]["labels"] = labels.clone())
        .await?;
    Ok(())
}

/// Waits until a pod is controlled by an owner (a pod that is gone is fine too).
async fn adopted(cx: &Cx, pod: &str, owner: &Value) -> Result<()> {
    let path = cx.core(&format!("pods/{pod}"));
    let within = Duration::from_secs(60);
    cx.eventually(waits_every(), within, "the pod is adopted", || async {
        let Some(found) = cx.find(&path).await? else {
            return Ok(true);
        };
        Ok(waits::controller(&found).is_some_and(|c| c["uid"] == owner["metadata"]["uid"]))
    })
    .await
}

/// Waits until a pod is no longer controlled by an owner.
async fn released(cx: &Cx, pod: &str, owner: &Value) -> Result<()> {
    let path = cx.core(&format!("pods/{pod}"));
    let within = Duration::from_secs(60);
    cx.eventually(waits_every(), within, "the pod is released", || async {
        let found = cx.get(&path).await?;
        Ok(waits::controller(&found).is_none_or(|c| c["uid"] != owner["metadata"]["uid"]))
    })
    .await
}

fn waits_every() -> Duration {
    Duration::from_millis(200)
}

/// Each pod must answer with its own name through the API server's proxy.
async fn respond(cx: &Cx, selector: &str, pods: &[Value]) -> Result<()> {
    for pod in pods {
        let path = cx.core(&format!("pods/{}/proxy", name(pod)));
        let within = Duration::from_secs(120);
        cx.eventually(waits_every(), within, &format!("GET {path}"), || async {
            let now = waits::pods(cx, selector).await?;
            let there = |p: &Value| p["metadata"]["uid"] == pod["metadata"]["uid"];
            ensure!(now.iter().any(there), "{} is another pod", name(pod));
            let answer = cx.raw_get(&path).await?;
            Ok(answer.code == 200 && answer.text == name(pod))
        })
        .await?;
    }
    Ok(())
}
