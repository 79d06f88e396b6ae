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

fn texts(check: impl Fn(&mut Causes)) -> Vec<String> {
    let mut c = Causes::new();
    check(&mut c);
    c.as_slice().iter().map(|c| c.text()).collect()
}

#[test]
fn updates_change_little() {
    let before = pod(json!({"nodeName": "n", "tolerations": [{"key": "a", "operator": "Exists"}]}));
    let change = |f: &dyn Fn(&mut Value)| {
        let mut p = before.clone();
        f(&mut p);
        texts(|c| Pod.validate_update(&p, &before, c))
    };
    for fine in [
        &(|p: &mut Value| p["spec"]["containers"][0]["image"] = json!("j")) as &dyn Fn(&mut Value),
        &|p| p["spec"]["activeDeadlineSeconds"] = json!(5),
        &|p| {
            p["spec"]["tolerations"] =
                json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}])
        },
        &|p| p["metadata"]["labels"] = json!({"a": "b"}),
    ] {
        assert_eq!(change(fine), Vec::<String>::new());
    }
    let moved = change(&|p| p["spec"]["nodeName"] = json!("m"));
    assert!(moved[0].starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"), "{moved:?}");
    assert!(moved[0].contains("+ \"nodeName\": \"m\""), "{moved:?}");
    assert_eq!(
        change(&|p| p["spec"]["containers"] = json!([])),
        [
            "spec.containers: Required value",
            "spec.containers: Forbidden: pod updates may not add or remove containers"
        ]
    );
    assert_eq!(
        change(&|p| p["spec"]["tolerations"] = json!([])),
        [
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
        ]
    );
    assert_eq!(
        change(&|p| p["spec"]["schedulingGates"] = json!([{"name": "x"}])),
        [
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x'"
        ]
    );
}

#[test]
fn gated_pods_may_become_choosier() {
    let before = pod(json!({"schedulingGates": [{"name": "a"}], "nodeSelector": {"x": "y"}}));
    let mut p = before.clone();
    p["spec"]["nodeSelector"] = json!({"x": "y", "z": "1"});
    p["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}});
    assert_eq!(
        texts(|c| Pod.validate_update(&p, &before, c)),
        Vec::<String>::new()
    );
    p["spec"]["nodeSelector"] = json!({"z": "1"});
    assert_eq!(
        texts(|c| Pod.validate_update(&p, &before, c)),
        [
            "spec.nodeSelector: Invalid value: {\"z\":\"1\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        ]
    );
}

#[test]
fn new_pods_have_no_ephemeral_containers_and_no_node_behind_gates() {
    let p = pod(
        json!({"ephemeralContainers": [{"name": "e", "image": "i"}], "schedulingGates": [{"name": "a"}], "nodeName": "n"}),
    );
    assert_eq!(
        texts(|c| Pod.validate(&p, c)),
        [
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"
        ]
    );
}

#[test]
fn ephemeral_containers_are_only_added() {
    let before = pod(json!({"ephemeralContainers": [{"name": "e", "image": "i"}]}));
    let judge = |list: Value| {
        let mut p = before.clone();
        p["spec"]["ephemeralContainers"] = list;
        Pod.set_defaults(&mut p);
        texts(|c| Pod.validate_subresource("ephemeralcontainers", &p, &before, c))
    };
    assert_eq!(
        judge(json!([{"name": "f", "image": "i"}, {"name": "e", "image": "i"}])),
        Vec::<String>::new()
    );
    assert_eq!(
        judge(json!([])),
        [
            "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n"
        ]
    );
}

#[test]
fn resizes_keep_the_class_and_touch_cpu_and_memory_only() {
    let resources =
        |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": "4", "memory": "1Gi"}});
    let mut before =
        pod(json!({"containers": [{"name": "c", "image": "i", "resources": resources("1")}]}));
    before["status"] = json!({"phase": "Running", "qosClass": "Burstable"});
    let judge = |r: Value| {
        let mut p = before.clone();
        p["spec"]["containers"][0]["resources"] = r;
        texts(|c| Pod.validate_subresource("resize", &p, &before, c))
    };
    let mut more = resources("2");
    more["requests"]["memory"] = json!("1Gi");
    assert_eq!(judge(more.clone()), Vec::<String>::new());
    more["requests"]["cpu"] = json!("4");
    assert_eq!(
        judge(more),
        [
            "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"
        ]
    );
    assert_eq!(
        judge(json!({"limits": {"memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}})),
        ["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"]
    );
}

#[test]
fn ended_containers_stay_ended() {
    let ended = json!([{"name": "c", "state": {"terminated": {"exitCode": 0}}}]);
    let mut before = pod(json!({"restartPolicy": "OnFailure"}));
    before["status"] = json!({"containerStatuses": ended});
    let mut p = before.clone();
    p["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
    let found = texts(|c| Pod.validate_status_update(&p, &before, c));
    assert_eq!(
        found,
        [
            "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
        ]
    );
    before["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = json!(1);
    assert_eq!(
        texts(|c| Pod.validate_status_update(&p, &before, c)),
        Vec::<String>::new()
    );
}
