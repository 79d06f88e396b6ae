use super::*;
use machinery::request::User;
use serde_json::json;

fn cx(user: &User) -> WriteContext<'_> {
    WriteContext {
        now: "2026-01-02T03:04:05Z".parse().expect("a time"),
        user,
        namespace: "d",
        subresource: "",
    }
}

fn pod(mut spec: Value) -> Value {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c", "image": "i"}]);
    }
    let mut pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": spec});
    Pod.set_defaults(&mut pod);
    pod
}

#[test]
fn a_new_pod_is_pending_and_has_a_class() {
    let user = User::default();
    for (resources, class) in [
        (json!({}), "BestEffort"),
        (json!({"requests": {"cpu": "1"}}), "Burstable"),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
            "Guaranteed",
        ),
        (json!({"limits": {"cpu": "1"}}), "Burstable"),
    ] {
        let mut p =
            pod(json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}));
        p["status"] = json!({"phase": "Running"});
        Pod.prepare_create(&mut p, &cx(&user));
        assert_eq!(p["status"], json!({"phase": "Pending", "qosClass": class}));
    }
}

#[test]
fn gated_pods_say_so() {
    let user = User::default();
    let mut p = pod(json!({"schedulingGates": [{"name": "a"}]}));
    Pod.prepare_create(&mut p, &cx(&user));
    assert_eq!(p["status"]["conditions"][0]["reason"], "SchedulingGated");
    assert_eq!(Pod.row(&p, Timestamp::UNIX_EPOCH)[2], "SchedulingGated");
}

#[test]
fn a_pod_is_bound_once() {
    let user = User::default();
    let mut p = pod(json!({}));
    let binding =
        json!({"metadata": {"name": "p", "annotations": {"a": "b"}}, "target": {"name": "n"}});
    Pod.act("binding", &mut p, &binding, &cx(&user))
        .expect("bound");
    assert_eq!(p["spec"]["nodeName"], "n");
    assert_eq!(p["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(p["status"]["conditions"][0]["status"], "True");
    let again = Pod
        .act("binding", &mut p, &binding, &cx(&user))
        .expect_err("bound already");
    assert_eq!(
        again.message,
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
    );
    let nowhere = Pod
        .act("binding", &mut pod(json!({})), &json!({}), &cx(&user))
        .expect_err("no target");
    assert_eq!(
        (nowhere.code, nowhere.message.as_str()),
        (500, "target.name: Required value")
    );
}

#[test]
fn deletion_waits_only_for_running_pods() {
    for (spec, phase, asked, expected) in [
        (json!({}), "Pending", Some(9), 0),
        (json!({"nodeName": "n"}), "Running", None, 30),
        (json!({"nodeName": "n"}), "Running", Some(-1), 1),
        (json!({"nodeName": "n"}), "Running", Some(0), 0),
        (json!({"nodeName": "n"}), "Failed", Some(9), 0),
        (
            json!({"nodeName": "n", "terminationGracePeriodSeconds": 7}),
            "Running",
            None,
            7,
        ),
    ] {
        let mut p = pod(spec);
        p["status"] = json!({"phase": phase});
        assert_eq!(Pod.grace_seconds(&p, asked), Some(expected), "{p}");
    }
}

#[test]
fn the_status_column_reads_as_upstreams() {
    let running = json!({"name": "c", "ready": true, "state": {"running": {}}});
    for (status, ready, text) in [
        (json!({"phase": "Pending"}), "0/1", "Pending"),
        (
            json!({"phase": "Running", "containerStatuses": [running]}),
            "1/1",
            "Running",
        ),
        (
            json!({"phase": "Running", "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            "0/1",
            "CrashLoopBackOff",
        ),
        (
            json!({"phase": "Succeeded", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
            "0/1",
            "Completed",
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 3}}}]}),
            "0/1",
            "ExitCode:3",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            "0/1",
            "Init:0/1",
        ),
    ] {
        let mut p = pod(json!({"initContainers": [{"name": "i", "image": "i"}]}));
        p["status"] = status;
        let row = Pod.row(&p, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (&row[1], &row[2]),
            (&json!(ready), &json!(text)),
            "{}",
            p["status"]
        );
    }
}

#[test]
fn a_status_write_keeps_spec_owners_and_class() {
    let before = json!({"metadata": {"name": "p", "ownerReferences": [{"uid": "1"}]}, "spec": {"a": 1},
        "status": {"qosClass": "Burstable", "phase": "Pending", "observedGeneration": 2}});
    let mut p =
        json!({"metadata": {"name": "p"}, "spec": {"a": 2}, "status": {"phase": "Running"}});
    prepare::status(&mut p, &before);
    assert_eq!(p["spec"], json!({"a": 1}));
    assert_eq!(p["metadata"]["ownerReferences"][0]["uid"], "1");
    assert_eq!(
        p["status"],
        json!({"phase": "Running", "qosClass": "Burstable", "observedGeneration": 2})
    );
}

#[test]
fn a_resize_changes_resources_only() {
    let before = pod(
        json!({"containers": [{"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "1"}}}]}),
    );
    let mut p = before.clone();
    p["spec"]["containers"][0]["image"] = json!("j:1");
    p["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("2");
    prepare::resize(&mut p, &before);
    assert_eq!(p["spec"]["containers"][0]["image"], "i:1");
    assert_eq!(
        p["spec"]["containers"][0]["resources"]["requests"]["cpu"],
        "2"
    );
}
