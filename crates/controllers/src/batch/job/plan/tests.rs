//! Counting, ending and managing, in tables.

use serde_json::{Value, json};

use super::*;

fn job(spec: &Value, status: &Value) -> Job {
    let mut v = json!({"metadata": {"name": "j", "namespace": "d", "uid": "j"},
        "spec": {"template": {}, "parallelism": 2, "completions": 4, "backoffLimit": 1}, "status": {}});
    json_patch::merge(&mut v["spec"], spec);
    json_patch::merge(&mut v["status"], status);
    serde_json::from_value(v).unwrap()
}

fn pod(name: &str, phase: &str, index: Option<i32>, more: &Value) -> Arc<Pod> {
    let mut v = json!({"metadata": {"name": name, "uid": name, "namespace": "d", "finalizers": [TRACKING]},
        "status": {"phase": phase}});
    if let Some(i) = index {
        v["metadata"]["annotations"] = json!({INDEX: i.to_string()});
    }
    json_patch::merge(&mut v, more);
    Arc::new(serde_json::from_value(v).unwrap())
}

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn with<T>(job: &Job, pods: &[Arc<Pod>], f: impl FnOnce(&Seen<'_>, Tally) -> T) -> T {
    let seen = Seen {
        job,
        spec: job.spec.as_ref().unwrap(),
        pods,
        now: now(),
    };
    let tally = seen.tally(job.status.as_ref().unwrap());
    f(&seen, tally)
}

fn reason(job: &Job, pods: &[Arc<Pod>]) -> Option<String> {
    with(job, pods, |s, t| s.ending(&t).map(|e| e.reason))
}

#[test]
fn pods_are_counted_once_whatever_their_state_of_record() {
    let j = job(
        &json!({}),
        &json!({"succeeded": 1, "failed": 1, "uncountedTerminatedPods": {"succeeded": ["s1"]}}),
    );
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let free = json!({"metadata": {"finalizers": null}});
    let pods = [
        pod("a", "Running", None, &json!({})),
        pod("s1", "Succeeded", None, &json!({})),
        pod("s2", "Succeeded", None, &json!({})),
        pod("s0", "Succeeded", None, &free),
        pod("f1", "Failed", None, &json!({})),
        pod("d", "Running", None, &deleted),
    ];
    with(&j, &pods, |_, t| {
        assert_eq!((t.active.len(), t.terminating), (1, 1));
        assert_eq!((t.succeeded, t.failed), (3, 3));
    });
    let j = job(&json!({"podReplacementPolicy": "Failed"}), &json!({}));
    with(&j, &pods, |_, t| {
        assert_eq!(t.failed, 1, "a pod being deleted has not failed yet")
    });
}

#[test]
fn a_job_ends_for_the_first_reason_that_holds() {
    let failed = |n: usize| -> Vec<Arc<Pod>> {
        (0..n)
            .map(|i| pod(&format!("f{i}"), "Failed", None, &json!({})))
            .collect()
    };
    let plain = job(&json!({}), &json!({}));
    assert_eq!(reason(&plain, &failed(1)), None);
    assert_eq!(
        reason(&plain, &failed(2)).as_deref(),
        Some("BackoffLimitExceeded")
    );
    let late = job(
        &json!({"activeDeadlineSeconds": 60}),
        &json!({"startTime": "2026-01-01T00:00:00Z"}),
    );
    assert_eq!(reason(&late, &[]).as_deref(), Some("DeadlineExceeded"));
    let paused = job(
        &json!({"activeDeadlineSeconds": 60, "suspend": true}),
        &json!({"startTime": "2026-01-01T00:00:00Z"}),
    );
    assert_eq!(reason(&paused, &[]), None);
    let restarting = job(
        &json!({"template": {"spec": {"restartPolicy": "OnFailure", "containers": []}}}),
        &json!({}),
    );
    let restarted = pod(
        "r",
        "Running",
        None,
        &json!({"status": {"containerStatuses": [
        {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 1}]}}),
    );
    assert_eq!(
        reason(&restarting, &[restarted]).as_deref(),
        Some("BackoffLimitExceeded")
    );
    let told = job(
        &json!({}),
        &json!({"conditions": [{"type": "FailureTarget", "status": "True", "reason": "X"}]}),
    );
    assert_eq!(reason(&told, &[]).as_deref(), Some("X"));
}

#[test]
fn indexes_fail_by_their_own_limit() {
    let j = job(
        &json!({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1, "backoffLimit": 100}),
        &json!({}),
    );
    let again = |n: &str| json!({"metadata": {"annotations": {FAILURES: n}}});
    let pods = [
        pod("a", "Failed", Some(0), &again("0")),
        pod("b", "Failed", Some(1), &again("1")),
    ];
    with(&j, &pods, |s, t| {
        assert_eq!(t.failed_indexes.to_string(), "1");
        assert_eq!(t.delayed.keys().copied().collect::<Vec<_>>(), [0]);
        assert_eq!(s.ending(&t), None);
        let m = s.manage(&t, &backoff::Record::default());
        assert_eq!(
            m.create,
            [NewPod {
                index: Some(0),
                failures: 1,
                ignored: 0
            }]
        );
        let mut status = JobStatus::default();
        let released = record(s, &t, &mut status, None);
        assert_eq!(
            released.len(),
            1,
            "the one to be replaced keeps its finalizer"
        );
    });
    let done = [pods[1].clone(), pod("c", "Succeeded", Some(0), &json!({}))];
    assert_eq!(reason(&j, &done).as_deref(), Some("FailedIndexes"));
}

#[test]
fn pods_are_made_for_what_is_missing() {
    let plain = |spec: Value, pods: &[Arc<Pod>]| {
        let j = job(&spec, &json!({}));
        with(&j, pods, |s, t| {
            let m = s.manage(&t, &backoff::Record::default());
            (m.create.len(), m.delete.len())
        })
    };
    let run = |n: &str| pod(n, "Running", None, &json!({}));
    let done = |n: &str| pod(n, "Succeeded", None, &json!({}));
    assert_eq!(plain(json!({}), &[]), (2, 0));
    assert_eq!(
        plain(json!({}), &[run("a"), done("b"), done("c"), done("d")]),
        (0, 0)
    );
    assert_eq!(
        plain(json!({"parallelism": 1}), &[run("a"), run("b")]),
        (0, 1)
    );
    assert_eq!(
        plain(json!({"completions": null}), &[run("a"), done("b")]),
        (0, 0)
    );
    assert_eq!(plain(json!({"completions": null}), &[run("a")]), (1, 0));
    let indexed = json!({"completionMode": "Indexed"});
    let at = |n: &str, i| pod(n, "Running", Some(i), &json!({}));
    assert_eq!(
        plain(indexed.clone(), &[at("a", 0), at("b", 0)]),
        (0, 1),
        "one index twice"
    );
    let j = job(&indexed, &json!({"completedIndexes": "0"}));
    with(&j, &[at("a", 2)], |s, t| {
        let m = s.manage(&t, &backoff::Record::default());
        assert_eq!(m.create[0].index, Some(1));
    });
}

#[test]
fn the_terminal_condition_waits_for_every_pod() {
    let end = Ending {
        good: true,
        reason: "CompletionsReached".into(),
        message: "m".into(),
    };
    let mut status = JobStatus {
        terminating: Some(1),
        ..JobStatus::default()
    };
    interim(&mut status, &end, now());
    interim(&mut status, &end, now());
    assert_eq!(status.conditions.as_ref().unwrap().len(), 1);
    assert!(!terminal(&mut status, &end, now()));
    status.terminating = Some(0);
    assert!(terminal(&mut status, &end, now()));
    assert!(status.completion_time.is_some());
}
