//! Twins of cronjob.go.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::fixtures::propagation;
use crate::images::BUSYBOX_IMAGE;
use crate::operations::sees_patched;
use crate::rest::{Cx, labelled, random, version};
use crate::waits::{is_true, name};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-apps] CronJob should schedule multiple jobs concurrently [Conformance]",
        "cronjob",
        concurrent
    ),
    twin!(
        "[sig-apps] CronJob should not schedule jobs when suspended [Conformance] [Slow]",
        "cronjob",
        suspended
    ),
    twin!(
        "[sig-apps] CronJob should not schedule new jobs when ForbidConcurrent [Conformance] [Slow]",
        "cronjob",
        forbid
    ),
    twin!(
        "[sig-apps] CronJob should replace jobs when ReplaceConcurrent [Conformance]",
        "cronjob",
        replace
    ),
    twin!(
        "[sig-apps] CronJob should support CronJob API operations [Conformance]",
        "cronjob",
        operations
    ),
];

const POLL: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(300);
const EVERY_MINUTE: &str = "*/1 * * * ?";

fn cron_job(name: &str, schedule: &str, policy: &str, command: &[&str]) -> Value {
    let container = json!({"name": "c", "image": BUSYBOX_IMAGE, "command": command,
        "volumeMounts": [{"mountPath": "/data", "name": "data"}]});
    let pod = json!({"restartPolicy": "OnFailure", "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}]});
    json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {"schedule": schedule, "concurrencyPolicy": policy, "jobTemplate": {"spec": {
            "parallelism": 1, "completions": 1, "backoffLimit": 1, "template": {"spec": pod}}}}})
}

/// One whose jobs outlive the minute.
fn sleeper(name: &str, policy: &str) -> Value {
    cron_job(name, EVERY_MINUTE, policy, &["sleep", "300"])
}

fn all(cx: &Cx) -> String {
    cx.group("batch/v1", "cronjobs")
}

fn path(cx: &Cx, name: &str) -> String {
    format!("{}/{name}", all(cx))
}

async fn create(cx: &Cx, object: &Value) -> Result<Value> {
    cx.ok(Method::POST, &all(cx), object).await
}

/// How many jobs a CronJob says are active.
async fn active(cx: &Cx, name: &str) -> Result<usize> {
    let found = cx.get(&path(cx, name)).await?;
    Ok(found["status"]["active"].as_array().map_or(0, Vec::len))
}

async fn active_at_least(cx: &Cx, name: &str, n: usize) -> Result<()> {
    let what = format!("{n} active jobs of {name}");
    cx.eventually(POLL, WITHIN, &what, || async {
        Ok(active(cx, name).await? >= n)
    })
    .await
}

async fn jobs(cx: &Cx) -> Result<Vec<Value>> {
    cx.items(&cx.group("batch/v1", "jobs")).await
}

/// The jobs that are not over.
async fn active_jobs(cx: &Cx) -> Result<Vec<Value>> {
    let mut found = jobs(cx).await?;
    found.retain(|j| !is_true(j, "Complete") && !is_true(j, "Failed"));
    Ok(found)
}

async fn remove(cx: &Cx, name: &str) -> Result<()> {
    let options = propagation("Background");
    cx.ok(Method::DELETE, &path(cx, name), &options).await?;
    Ok(())
}

async fn concurrent(cx: Cx) -> Result<()> {
    create(&cx, &sleeper("concurrent", "Allow")).await?;
    active_at_least(&cx, "concurrent", 2).await?;
    let found = active_jobs(&cx).await?;
    ensure!(found.len() >= 2, "{} active jobs", found.len());
    remove(&cx, "concurrent").await
}

async fn suspended(cx: Cx) -> Result<()> {
    let mut object = sleeper("suspended", "Allow");
    object["spec"]["suspend"] = json!(true);
    create(&cx, &object).await?;
    let end = tokio::time::Instant::now() + WITHIN;
    while tokio::time::Instant::now() < end {
        let n = active(&cx, "suspended").await?;
        ensure!(n == 0, "{n} active jobs");
        tokio::time::sleep(POLL).await;
    }
    let found = jobs(&cx).await?;
    ensure!(found.is_empty(), "{found:?}");
    remove(&cx, "suspended").await
}

/// Waits for the first job; only it may be there.
async fn one_active(cx: &Cx, name: &str) -> Result<Value> {
    active_at_least(cx, name, 1).await?;
    let n = active(cx, name).await?;
    ensure!(n == 1, "{n} active jobs in the status");
    let mut found = active_jobs(cx).await?;
    ensure!(found.len() == 1, "{} active jobs", found.len());
    Ok(found.remove(0))
}

async fn forbid(cx: Cx) -> Result<()> {
    create(&cx, &sleeper("forbid", "Forbid")).await?;
    one_active(&cx, "forbid").await?;
    cx.eventually(POLL, WITHIN, "less than 2 active jobs", || async {
        Ok(active(&cx, "forbid").await? < 2)
    })
    .await?;
    remove(&cx, "forbid").await
}

async fn replace(cx: Cx) -> Result<()> {
    create(&cx, &sleeper("replace", "Replace")).await?;
    let first = one_active(&cx, "replace").await?;
    cx.eventually(POLL, WITHIN, "the job is replaced", || async {
        let mut alive = jobs(&cx).await?;
        alive.retain(|j| j["metadata"]["deletionTimestamp"].is_null());
        ensure!(alive.len() <= 1, "more than one job: {alive:?}");
        Ok(alive.first().is_some_and(|j| name(j) != name(&first)))
    })
    .await?;
    remove(&cx, "replace").await
}

/// An object that is being deleted may stay only for its finalizers.
fn finalizes(object: &Value) -> Result<()> {
    let meta = &object["metadata"];
    let finalizers = meta["finalizers"].as_array();
    ensure!(
        meta["deletionTimestamp"].is_string() && finalizers.is_some_and(|all| !all.is_empty()),
        "{object}"
    );
    Ok(())
}

async fn operations(cx: Cx) -> Result<()> {
    let label = random(8);
    let mut object = cron_job("test-api", "* */1 * * ?", "Allow", &["/bin/true"]);
    object["metadata"]["labels"] = json!({"special-label": label});
    object["spec"]["successfulJobsHistoryLimit"] = json!(1);
    object["spec"]["failedJobsHistoryLimit"] = json!(0);
    let made = create(&cx, &object).await?;
    let before = version(&made)?;
    let path = path(&cx, "test-api");
    let found = cx.get(&path).await?;
    let uid = &made["metadata"]["uid"];
    ensure!(&found["metadata"]["uid"] == uid, "{found}");
    let selector = labelled(&format!("special-label={label}"));
    let listed = format!("{}?{selector}", all(&cx));
    let list = cx.get(&listed).await?;
    ensure!(list["items"].as_array().map(Vec::len) == Some(1), "{list}");
    let query = format!("{selector}&resourceVersion={}", version(&list)?);
    let mut watch = cx.watch(&all(&cx), &query).await?;
    let everywhere = "/apis/batch/v1/cronjobs";
    let found = cx.items(&format!("{everywhere}?{selector}")).await?;
    ensure!(found.len() == 1, "{found:?}");
    drop(cx.watch(everywhere, &query).await?);

    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = cx.patch(&path, "merge", &patch).await?;
    let has = |o: &Value, key: &str| o["metadata"]["annotations"][key] == "true";
    ensure!(has(&patched, "patched"), "{patched}");
    ensure!(version(&patched)? > before, "{patched}");
    let updated = cx
        .update(&path, |o| {
            o["metadata"]["annotations"]["updated"] = json!("true");
        })
        .await?;
    ensure!(has(&updated, "updated"), "{updated}");
    let seen = sees_patched(&mut watch).await?;
    ensure!(seen["kind"] == "CronJob", "{seen}");

    status(&cx, &path, uid).await?;

    object["metadata"]["name"] = json!("for-removal");
    create(&cx, &object).await?;
    let second = format!("{}/for-removal", all(&cx));
    cx.delete(&second).await?;
    if let Some(left) = cx.find(&second).await? {
        finalizes(&left)?;
    }
    cx.delete(&listed).await?;
    let left = cx.items(&listed).await?;
    ensure!(left.len() <= 2, "{left:?}");
    left.iter().try_for_each(finalizes)
}

/// Patches, updates and reads the status.
async fn status(cx: &Cx, path: &str, uid: &Value) -> Result<()> {
    let status = format!("{path}/status");
    let now = crate::certs::rfc3339(crate::certs::now()?)?;
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"lastScheduleTime": now}});
    let patched = cx.patch(&status, "merge", &patch).await?;
    ensure!(patched["status"]["lastScheduleTime"] == now, "{patched}");
    ensure!(
        patched["metadata"]["annotations"]["patchedstatus"] == "true",
        "{patched}"
    );
    let now = crate::certs::rfc3339(crate::certs::now()?)?;
    let updated = cx
        .update(&status, |o| o["status"]["lastScheduleTime"] = json!(now))
        .await?;
    ensure!(updated["status"]["lastScheduleTime"] == now, "{updated}");
    let found = cx.get(&status).await?;
    ensure!(&found["metadata"]["uid"] == uid, "{found}");
    Ok(())
}
