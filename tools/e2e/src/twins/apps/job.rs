//! Twins of job.go.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::fixtures::propagation;
use crate::images::{BUSYBOX_IMAGE, PAUSE_IMAGE};
use crate::operations::merge;
use crate::rest::{Cx, POLL, labelled, random, version};
use crate::waits::{self, POD_DELETE, is_true, name, number};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-apps] Job should allow to use the pod failure policy on exit code to fail the job early [Conformance]",
        "job",
        fails_early
    ),
    twin!(
        "[sig-apps] Job should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition [Conformance]",
        "job",
        ignores_disruption
    ),
    twin!(
        "[sig-apps] Job should create pods for an Indexed job with completion indexes and specified hostname [Conformance]",
        "job",
        indexed
    ),
    twin!(
        "[sig-apps] Job with successPolicy should succeeded when all indexes succeeded [Conformance]",
        "job",
        policy_all
    ),
    twin!(
        "[sig-apps] Job with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending [Conformance]",
        "job",
        policy_indexes
    ),
    twin!(
        "[sig-apps] Job with successPolicy succeededCount rule should succeeded even when some indexes remain pending [Conformance]",
        "job",
        policy_count
    ),
    twin!(
        "[sig-apps] Job should execute all indexes despite some failing when using backoffLimitPerIndex [Conformance]",
        "job",
        limit_per_index
    ),
    twin!(
        "[sig-apps] Job should terminate job execution when the number of failed indexes exceeds maxFailedIndexes [Conformance]",
        "job",
        max_failed_indexes
    ),
    twin!(
        "[sig-apps] Job should mark indexes as failed when the FailIndex action is matched in podFailurePolicy [Conformance]",
        "job",
        fail_index
    ),
    twin!(
        "[sig-apps] Job should run a job to completion when tasks sometimes fail and are locally restarted [Conformance]",
        "job",
        local_restarts
    ),
    twin!(
        "[sig-apps] Job should delete a job [Conformance]",
        "job",
        deletes
    ),
    twin!(
        "[sig-apps] Job should adopt matching orphans and release non-matching pods [Conformance]",
        "job",
        adopts_and_releases
    ),
    twin!(
        "[sig-apps] Job should apply changes to a job status [Conformance]",
        "job",
        status
    ),
    twin!(
        "[sig-apps] Job should manage the lifecycle of a job [Conformance]",
        "job",
        lifecycle
    ),
];

/// How long a job may take for anything.
const JOB: Duration = Duration::from_secs(15 * 60);
const REACHED: &str = "CompletionsReached";
const POLICY: &str = "SuccessPolicy";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

const FAIL_ODD: &str =
    "if [ $(expr ${JOB_COMPLETION_INDEX} % 2) -ne 0 ]; then exit 1; else exit 0; fi";
const FAIL_ONCE: &str = "if [[ -r /data/foo ]]; then exit 0; else touch /data/foo; exit 1; fi";
const STAY_ONCE: &str = "if [[ -r /data/foo-$JOB_COMPLETION_INDEX ]]; then exit 0; \
    else touch /data/foo-$JOB_COMPLETION_INDEX; sleep 1000000; fi";

/// A container that runs a line of shell.
fn shell(line: &str) -> Value {
    json!({"image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", line]})
}

/// A container that runs until it is told to end.
fn stays() -> Value {
    json!({"image": PAUSE_IMAGE})
}

/// A job of 4 completions, 2 at a time.
fn job(name: &str, container: Value) -> Value {
    let mut c = json!({"name": "c", "volumeMounts": [{"mountPath": "/data", "name": "data"}],
        "securityContext": {}});
    merge(&mut c, &container);
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {
        "parallelism": 2, "completions": 4, "backoffLimit": 6, "manualSelector": false,
        "template": {"metadata": {"labels": {"job": name}}, "spec": {
            "restartPolicy": "Never",
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [c]}}}})
}

/// An indexed job with further settings; null leaves one to the server.
fn indexed_job(name: &str, container: Value, spec: Value) -> Value {
    let mut job = job(name, container);
    job["spec"]["completionMode"] = json!("Indexed");
    merge(&mut job["spec"], &spec);
    job
}

/// Binds a job to one node and gives it a directory of that node, which outlives its pods.
async fn on_node(cx: &Cx, job: &mut Value) -> Result<()> {
    let node = waits::ready_node(cx).await?;
    let spec = &mut job["spec"]["template"]["spec"];
    spec["nodeSelector"] = json!({"kubernetes.io/hostname": name(&node)});
    let dir = format!("/tmp/job-e2e/{}", random(10));
    spec["volumes"] =
        json!([{"name": "data", "hostPath": {"path": dir, "type": "DirectoryOrCreate"}}]);
    spec["containers"][0]["securityContext"]["privileged"] = json!(true);
    Ok(())
}

fn path(cx: &Cx, name: &str) -> String {
    cx.group("batch/v1", &format!("jobs/{name}"))
}

async fn create(cx: &Cx, object: &Value) -> Result<Value> {
    cx.ok(Method::POST, &cx.group("batch/v1", "jobs"), object)
        .await
}

/// Waits until a job is as wanted; one that has the condition `never` fails at once.
async fn until(
    cx: &Cx,
    job: &str,
    never: &str,
    what: &str,
    fits: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let end = tokio::time::Instant::now() + JOB;
    loop {
        let found = cx.get(&path(cx, job)).await?;
        if is_true(&found, never) {
            bail!("{job} is {never}: {}", found["status"]);
        }
        if fits(&found) {
            return Ok(found);
        }
        ensure!(
            tokio::time::Instant::now() < end,
            "{job}: not in {JOB:?}: {what}; status {}",
            found["status"]
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for a true condition, with a reason.
async fn condition(cx: &Cx, job: &str, kind: &str, reason: &str) -> Result<Value> {
    let has = |o: &Value| {
        is_true(o, kind) && waits::condition(o, kind).is_some_and(|c| c["reason"] == reason)
    };
    let what = format!("{kind} because of {reason}");
    waits::object(cx, &path(cx, job), JOB, &what, has).await
}

/// Waits until so many pods have succeeded, and the job is complete for a reason.
async fn complete(cx: &Cx, job: &str, reason: &str, completions: i64) -> Result<Value> {
    let what = format!("{completions} succeeded");
    let done = |o: &Value| number(&o["status"]["succeeded"]) == completions;
    until(cx, job, "Failed", &what, done).await?;
    condition(cx, job, "Complete", reason).await
}

async fn failed(cx: &Cx, job: &str) -> Result<Value> {
    until(cx, job, "Complete", "Failed", |o| is_true(o, "Failed")).await
}

async fn pods(cx: &Cx, job: &str) -> Result<Vec<Value>> {
    waits::pods(cx, &format!("job={job}")).await
}

fn runs(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
}

/// Waits until exactly so many pods of a job run.
async fn pods_running(cx: &Cx, job: &str, n: usize) -> Result<()> {
    let what = format!("{n} pods of {job} run");
    cx.eventually(POLL, JOB, &what, || async {
        Ok(pods(cx, job).await?.iter().filter(|p| runs(p)).count() == n)
    })
    .await
}

/// A job that is over has no pods left, and says so with numbers.
fn no_pods_left(job: &Value) -> Result<()> {
    let status = &job["status"];
    ensure!(
        number(&status["active"]) == 0 && status["ready"] == 0 && status["terminating"] == 0,
        "{status}"
    );
    Ok(())
}

/// The indexes and counts of a job that is over.
fn ended(job: &Value, failed: (&str, i64), succeeded: (&str, i64)) -> Result<()> {
    let status = &job["status"];
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    ensure!(
        text("failedIndexes") == failed.0
            && number(&status["failed"]) == failed.1
            && text("completedIndexes") == succeeded.0
            && number(&status["succeeded"]) == succeeded.1,
        "{status}"
    );
    Ok(())
}

async fn fails_early(cx: Cx) -> Result<()> {
    let n = "pod-failure-failjob";
    let mut object = job(n, shell(FAIL_ONCE));
    on_node(&cx, &mut object).await?;
    object["spec"]["podFailurePolicy"] = json!({"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]});
    create(&cx, &object).await?;
    let job = failed(&cx, n).await?;
    ensure!(is_true(&job, "Failed"), "{job}");
    Ok(())
}

async fn ignores_disruption(cx: Cx) -> Result<()> {
    let n = "evicted-pod-ignore-on-disruption-condition";
    let mut container = shell(STAY_ONCE);
    let look = ["/bin/sh", "-c", "cat /data/foo-$JOB_COMPLETION_INDEX"];
    container["readinessProbe"] = json!({"periodSeconds": 1, "exec": {"command": look}});
    let rules = json!([{"action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]);
    let spec = json!({"parallelism": 3, "completions": 3, "backoffLimit": 2,
        "podFailurePolicy": {"rules": rules}});
    let mut object = indexed_job(n, container, spec);
    object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(1);
    on_node(&cx, &mut object).await?;
    create(&cx, &object).await?;
    let ready = |o: &Value| o["status"]["ready"] == 3;
    waits::object(&cx, &path(&cx, n), JOB, "3 ready", ready).await?;
    let mut all = pods(&cx, n).await?;
    all.retain(runs);
    ensure!(all.len() == 3, "{} pods run", all.len());
    let evicted = all.iter().map(async |pod| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name(pod), "namespace": cx.namespace}});
        let pod = cx.core(&format!("pods/{}", name(pod)));
        cx.ok(Method::POST, &format!("{pod}/eviction"), &eviction)
            .await?;
        cx.gone(&pod, POD_DELETE).await
    });
    futures::future::try_join_all(evicted).await?;
    let job = complete(&cx, n, REACHED, 3).await?;
    ensure!(number(&job["status"]["succeeded"]) == 3, "{job}");
    Ok(())
}

async fn indexed(cx: Cx) -> Result<()> {
    let n = "indexed-job";
    create(&cx, &indexed_job(n, shell("exit 0"), json!({}))).await?;
    complete(&cx, n, REACHED, 4).await?;
    let mut indexes = BTreeSet::new();
    for pod in pods(&cx, n).await? {
        let index = pod["metadata"]["annotations"][INDEX].as_str();
        let (true, Some(index)) = (pod["status"]["phase"] == "Succeeded", index) else {
            continue;
        };
        ensure!(pod["spec"]["hostname"] == format!("{n}-{index}"), "{pod}");
        indexes.insert(index.to_string());
    }
    let wanted = ["0", "1", "2", "3"].map(String::from);
    ensure!(indexes == BTreeSet::from(wanted), "{indexes:?}");
    Ok(())
}

async fn policy_all(cx: Cx) -> Result<()> {
    let n = "with-success-policy-all-index-succeeded";
    // Without a command the shell finds no input and ends.
    let container = json!({"image": BUSYBOX_IMAGE});
    let spec = json!({"completions": 2, "successPolicy": {"rules": [{"succeededCount": 2}]}});
    create(&cx, &indexed_job(n, container, spec)).await?;
    condition(&cx, n, "SuccessCriteriaMet", POLICY).await?;
    let job = complete(&cx, n, POLICY, 2).await?;
    no_pods_left(&job)?;
    ensure!(number(&job["status"]["failed"]) == 0, "{job}");
    Ok(())
}

/// A job whose success policy is met by index 0 alone.
async fn policy_met(cx: &Cx, n: &str, backoff_limit: i64, rule: Value) -> Result<()> {
    let spec = json!({"completions": 5, "backoffLimit": backoff_limit,
        "successPolicy": {"rules": [rule]}});
    create(cx, &indexed_job(n, shell(FAIL_ODD), spec)).await?;
    condition(cx, n, "SuccessCriteriaMet", POLICY).await?;
    let job = complete(cx, n, POLICY, 1).await?;
    ensure!(job["status"]["completedIndexes"] == "0", "{job}");
    no_pods_left(&job)
}

async fn policy_indexes(cx: Cx) -> Result<()> {
    let n = "with-success-policy-succeeded-indexed";
    policy_met(&cx, n, 6, json!({"succeededIndexes": "0"})).await
}

async fn policy_count(cx: Cx) -> Result<()> {
    let n = "with-success-policy-succeeded-count";
    policy_met(&cx, n, i64::from(i32::MAX), json!({"succeededCount": 1})).await
}

async fn limit_per_index(cx: Cx) -> Result<()> {
    let n = "with-backoff-limit-per-index";
    let spec = json!({"backoffLimit": null, "backoffLimitPerIndex": 1});
    create(&cx, &indexed_job(n, shell(FAIL_ODD), spec)).await?;
    let job = failed(&cx, n).await?;
    ended(&job, ("1,3", 4), ("0,2", 2)).context("expecting 1,3 to fail")
}

async fn max_failed_indexes(cx: Cx) -> Result<()> {
    let n = "with-max-failed-indexes";
    let spec = json!({"parallelism": 1, "backoffLimit": null, "backoffLimitPerIndex": 0,
        "maxFailedIndexes": 0});
    create(&cx, &indexed_job(n, shell("exit 1"), spec)).await?;
    let job = failed(&cx, n).await?;
    ended(&job, ("0", 1), ("", 0)).context("expecting only 0 to run")
}

async fn fail_index(cx: Cx) -> Result<()> {
    let n = "matching-fail-index-action";
    let rules = json!([{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}}]);
    let spec = json!({"completions": 2, "backoffLimit": null, "backoffLimitPerIndex": 1,
        "podFailurePolicy": {"rules": rules}});
    create(&cx, &indexed_job(n, shell(FAIL_ODD), spec)).await?;
    let job = failed(&cx, n).await?;
    ended(&job, ("1", 1), ("0", 1)).context("expecting 1 to fail once")
}

async fn local_restarts(cx: Cx) -> Result<()> {
    let n = "fail-once-local";
    let mut object = job(n, shell(FAIL_ONCE));
    object["spec"]["template"]["spec"]["restartPolicy"] = json!("OnFailure");
    create(&cx, &object).await?;
    let job = complete(&cx, n, REACHED, 4).await?;
    ensure!(number(&job["status"]["succeeded"]) == 4, "{job}");
    Ok(())
}

async fn deletes(cx: Cx) -> Result<()> {
    create(&cx, &job("foo", stays())).await?;
    pods_running(&cx, "foo", 2).await?;
    waits::deleted_with_pods(&cx, &path(&cx, "foo"), "job=foo").await
}

async fn adopts_and_releases(cx: Cx) -> Result<()> {
    let n = "adopt-release";
    let made = create(&cx, &job(n, stays())).await?;
    pods_running(&cx, n, 2).await?;
    let all = pods(&cx, n).await?;
    ensure!(all.len() == 2, "{} pods", all.len());
    let pod = cx.core(&format!("pods/{}", name(&all[0])));
    let orphan = |o: &mut Value| {
        if let Some(meta) = o["metadata"].as_object_mut() {
            meta.remove("ownerReferences");
        }
    };
    cx.update(&pod, orphan).await?;
    let is_adopted = |o: &Value| waits::controller(o).is_some();
    let found = waits::object(&cx, &pod, JOB, "adopted", is_adopted).await?;
    let owner = waits::controller(&found).context("an owner")?;
    ensure!(
        owner["kind"] == "Job" && owner["name"] == n && owner["uid"] == made["metadata"]["uid"],
        "{owner}"
    );
    let unlabelled = |o: &mut Value| {
        if let Some(meta) = o["metadata"].as_object_mut() {
            meta.remove("labels");
        }
    };
    cx.update(&pod, unlabelled).await?;
    let is_released = |o: &Value| waits::controller(o).is_none();
    waits::object(&cx, &pod, JOB, "released", is_released).await?;
    Ok(())
}

const CUSTOM: &str = "CustomConditionType";

async fn status(cx: Cx) -> Result<()> {
    let n = "suspend-false-to-true";
    let made = create(&cx, &job(n, stays())).await?;
    pods_running(&cx, n, 2).await?;
    let status = format!("{}/status", path(&cx, n));
    let since = |o: &Value| waits::condition(o, CUSTOM).map(|c| c["lastTransitionTime"].clone());
    let now = json!(crate::certs::rfc3339(crate::certs::now()?)?);
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"conditions": [{"type": CUSTOM, "status": "True", "lastProbeTime": null,
            "lastTransitionTime": now}]}});
    let patched = cx.patch(&status, "merge", &patch).await?;
    ensure!(since(&patched) == Some(now), "{patched}");
    ensure!(
        patched["metadata"]["annotations"]["patchedstatus"] == "true",
        "{patched}"
    );
    let now = json!(crate::certs::rfc3339(crate::certs::now()?)?);
    let updated = cx
        .update(&status, |o| {
            let all = o["status"]["conditions"].as_array_mut();
            for c in all.into_iter().flatten().filter(|c| c["type"] == CUSTOM) {
                c["lastTransitionTime"] = now.clone();
            }
        })
        .await?;
    ensure!(since(&updated).as_ref() == Some(&now), "{updated}");
    let found = cx.get(&status).await?;
    ensure!(
        found["metadata"]["uid"] == made["metadata"]["uid"],
        "{found}"
    );
    Ok(())
}

async fn lifecycle(cx: Cx) -> Result<()> {
    let n = format!("e2e-{}", random(5));
    let selector = labelled(&format!("e2e-job-label={n}"));
    let all = cx.group("batch/v1", "jobs");
    let since = version(&cx.get(&format!("{all}?{selector}")).await?)?;
    let mut object = job(&n, shell("exit 0"));
    object["metadata"]["labels"] = json!({"e2e-job-label": n});
    object["spec"]["suspend"] = json!(true);
    let made = create(&cx, &object).await?;
    let path = path(&cx, &n);
    let patch = json!({"metadata": {"labels": {&n: "patched"}}});
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(version(&patched)? > version(&made)?, "{patched}");
    ensure!(patched["metadata"]["labels"][&n] == "patched", "{patched}");
    let within = Duration::from_secs(120);
    let query = format!("{selector}&resourceVersion={since}");
    let mut watch = cx.watch(&all, &query).await?;
    let seen =
        |kind: &str, o: &Value| kind == "MODIFIED" && o["metadata"]["labels"][&n] == "patched";
    watch.until(within, "the patched label", seen).await?;

    let updated = cx
        .update(&path, |o| {
            o["spec"]["suspend"] = json!(false);
            o["metadata"]["annotations"]["updated"] = json!("true");
        })
        .await?;
    let annotation = |o: &Value| o["metadata"]["annotations"]["updated"] == "true";
    ensure!(annotation(&updated), "{updated}");
    let seen = |kind: &str, o: &Value| kind == "MODIFIED" && annotation(o);
    watch.until(within, "the annotation", seen).await?;
    let everywhere = format!("/apis/batch/v1/jobs?{selector}");
    let found = cx.items(&everywhere).await?;
    ensure!(found.len() == 1, "{found:?}");
    complete(&cx, &n, REACHED, 4).await?;

    let collection = format!("{all}?{selector}");
    cx.ok(Method::DELETE, &collection, &propagation("Background"))
        .await?;
    let deleted = |kind: &str, o: &Value| kind == "DELETED" && name(o) == n;
    watch.until(within, "DELETED", deleted).await?;
    let found = cx.items(&everywhere).await?;
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}
