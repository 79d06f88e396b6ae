//! Steps in order, in parallel, and in updates.

use serde_json::{Value, json};

use super::*;

fn set(replicas: i32, more: &Value) -> StatefulSet {
    let mut v = json!({"metadata": {"name": "s", "namespace": "d", "uid": "s"},
        "spec": {"replicas": replicas, "selector": {}, "template": {}}});
    json_patch::merge(&mut v["spec"], more);
    serde_json::from_value(v).unwrap()
}

fn pod(ordinal: i32, revision: &str, more: &Value) -> Arc<Pod> {
    let mut v = json!({"metadata": {"name": format!("s-{ordinal}"), "uid": format!("u{ordinal}"), "labels": {REVISION: revision}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    json_patch::merge(&mut v, more);
    let p: Pod = serde_json::from_value(v).unwrap();
    Arc::new(identity::corrected(&p, ordinal).unwrap())
}

fn good(ordinal: i32, revision: &str) -> Arc<Pod> {
    pod(ordinal, revision, &json!({}))
}

fn steps(set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<String> {
    let seen = Seen::new(
        set,
        pods,
        "old",
        "new",
        "2026-01-01T00:00:00Z".parse().unwrap(),
    );
    seen.steps()
        .iter()
        .map(|s| match s {
            Step::Create { ordinal, update } => {
                format!("create {ordinal} {}", if *update { "new" } else { "old" })
            }
            Step::Delete(p) => format!("delete {}", p.name()),
            Step::Update(p) => format!("update {}", p.name()),
        })
        .collect()
}

#[test]
fn pods_come_and_go_one_by_one_in_order() {
    let s = set(3, &json!({}));
    assert_eq!(steps(&s, &[]), ["create 0 new"]);
    let starting = pod(0, "new", &json!({"status": {"conditions": []}}));
    assert!(steps(&s, &[starting]).is_empty());
    assert_eq!(steps(&s, &[good(0, "new")]), ["create 1 new"]);
    let s = set(1, &json!({}));
    let all: Vec<_> = (0..3).map(|i| good(i, "new")).collect();
    assert_eq!(steps(&s, &all), ["delete s-2"]);
    let leaving = pod(
        2,
        "new",
        &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    assert!(steps(&s, &[all[0].clone(), all[1].clone(), leaving]).is_empty());
    let failed = pod(0, "new", &json!({"status": {"phase": "Failed"}}));
    assert_eq!(steps(&s, &[failed]), ["delete s-0"]);
}

#[test]
fn in_parallel_everything_happens_at_once() {
    let s = set(3, &json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(
        steps(&s, &[]),
        ["create 0 new", "create 1 new", "create 2 new"]
    );
    let s = set(0, &json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(
        steps(&s, &[good(0, "new"), good(1, "new")]),
        ["delete s-1", "delete s-0"]
    );
}

#[test]
fn ordinals_start_where_the_set_says() {
    let s = set(2, &json!({"ordinals": {"start": 5}}));
    assert_eq!(steps(&s, &[good(5, "new")]), ["create 6 new"]);
    assert_eq!(
        steps(&s, &[good(4, "new"), good(5, "new"), good(6, "new")]),
        ["delete s-4"]
    );
}

#[test]
fn updates_go_from_the_highest_down_to_the_partition() {
    let rolling = |partition: i32| {
        set(
            3,
            &json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}}),
        )
    };
    let all: Vec<_> = (0..3).map(|i| good(i, "old")).collect();
    assert_eq!(steps(&rolling(0), &all), ["delete s-2"]);
    assert_eq!(steps(&rolling(0), &all[..2]), ["create 2 new"]);
    let half = [good(0, "old"), good(1, "old"), good(2, "new")];
    assert_eq!(steps(&rolling(0), &half), ["delete s-1"]);
    assert!(steps(&rolling(2), &half).is_empty());
    assert_eq!(steps(&rolling(2), &half[1..]), ["create 0 old"]);
    let on_delete = set(3, &json!({"updateStrategy": {"type": "OnDelete"}}));
    assert!(steps(&on_delete, &all).is_empty());
    let more = set(
        3,
        &json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}}),
    );
    assert_eq!(steps(&more, &all), ["delete s-2", "delete s-1"]);
}

#[test]
fn a_finished_update_becomes_the_current_revision() {
    let s = set(2, &json!({}));
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let half = [good(0, "old"), good(1, "new")];
    let status = Seen::new(&s, &half, "old", "new", now).status();
    assert_eq!(
        (status.current_replicas, status.updated_replicas),
        (Some(1), Some(1))
    );
    assert_eq!(status.current_revision.as_deref(), Some("old"));
    let all = [good(0, "new"), good(1, "new")];
    let status = Seen::new(&s, &all, "old", "new", now).status();
    assert_eq!(status.current_revision.as_deref(), Some("new"));
    assert_eq!(status.current_replicas, Some(2));
}
