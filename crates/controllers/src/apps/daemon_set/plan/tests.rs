//! Placement and rolling updates, node by node.

use serde_json::{Value, json};

use super::*;

fn set(strategy: &Value) -> DaemonSet {
    serde_json::from_value(json!({"metadata": {"name": "ds", "namespace": "d", "uid": "ds"}, "spec": {
        "selector": {}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": strategy}}}))
    .unwrap()
}

fn node(name: &str, more: &Value) -> Arc<Node> {
    let mut v = json!({"metadata": {"name": name}});
    json_patch::merge(&mut v, more);
    Arc::new(serde_json::from_value(v).unwrap())
}

fn pod(name: &str, node: &str, hash: &str, ready: bool) -> Arc<Pod> {
    let ready = if ready { "True" } else { "False" };
    let v = json!({"metadata": {"name": name, "labels": {HASH: hash}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    Arc::new(serde_json::from_value(v).unwrap())
}

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn names(all: &[Arc<Pod>]) -> Vec<&str> {
    all.iter().map(|p| p.name()).collect()
}

#[test]
fn taints_and_selectors_decide_where_pods_run_and_stay() {
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "k", "effect": effect}]}});
    let table = [
        (json!({}), true, true),
        (taint("NoSchedule"), false, true),
        (taint("NoExecute"), false, false),
        (taint("PreferNoSchedule"), true, true),
        (
            json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}}),
            true,
            true,
        ),
        (
            json!({"spec": {"taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}}),
            true,
            true,
        ),
    ];
    let ds = set(&json!({}));
    let seen = Seen::new(&ds, "h", &[], &[], now());
    for (more, run, stay) in table {
        assert_eq!(seen.fit(&node("n", &more)), Fit { run, stay }, "{more}");
    }
    let mut blue = set(&json!({}));
    let spec = blue.spec.template.spec.as_mut().unwrap();
    spec.node_selector = Some(BTreeMap::from([("color".into(), "blue".into())]));
    let seen = Seen::new(&blue, "h", &[], &[], now());
    assert!(!seen.fit(&node("n", &json!({}))).stay);
    assert!(
        seen.fit(&node(
            "n",
            &json!({"metadata": {"labels": {"color": "blue"}}})
        ))
        .run
    );
}

#[test]
fn each_node_gets_one_pod_and_keeps_the_oldest() {
    let ds = set(&json!({}));
    let nodes = [
        node("a", &json!({})),
        node("b", &json!({})),
        node(
            "c",
            &json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}),
        ),
    ];
    let pods = [
        pod("b1", "b", "h", true),
        pod("b2", "b", "h", true),
        pod("c1", "c", "h", true),
    ];
    let round = Seen::new(&ds, "h", &pods, &nodes, now()).manage();
    assert_eq!(round.create, ["a"]);
    assert_eq!(names(&round.delete), ["b2", "c1"]);
    let waiting = pod_for(&ds, OwnerReference::default(), "h", "a");
    let seen = Seen::new(&ds, "h", &[Arc::new(waiting)], &nodes[..1], now());
    assert!(
        seen.manage().create.is_empty(),
        "a pod that waits for its node counts"
    );
    let status = seen.status();
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.current_number_scheduled
        ),
        (1, 1)
    );
}

#[test]
fn without_surge_old_pods_go_within_the_budget() {
    let ds = set(&json!({"maxUnavailable": 1}));
    let nodes: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|n| node(n, &json!({})))
        .collect();
    let roll = |pods: &[Arc<Pod>]| -> Vec<String> {
        let round = Seen::new(&ds, "new", pods, &nodes, now()).roll();
        names(&round.delete)
            .iter()
            .map(|n| (*n).to_string())
            .collect()
    };
    let old = |n: &str| pod(&format!("old-{n}"), n, "old", true);
    assert_eq!(roll(&[old("a"), old("b"), old("c")]), ["old-a"]);
    assert!(roll(&[pod("new-a", "a", "new", false), old("b"), old("c")]).is_empty());
    assert_eq!(
        roll(&[pod("new-a", "a", "new", true), old("b"), old("c")]),
        ["old-b"]
    );
    let broken = pod("old-a", "a", "old", false);
    assert_eq!(roll(&[broken, old("b"), old("c")]), ["old-a"]);
}

#[test]
fn with_surge_new_pods_come_before_old_ones_go() {
    let ds = set(&json!({"maxSurge": 1, "maxUnavailable": 0}));
    let nodes: Vec<_> = ["a", "b"].iter().map(|n| node(n, &json!({}))).collect();
    let old = |n: &str| pod(&format!("old-{n}"), n, "old", true);
    let start = [old("a"), old("b")];
    assert_eq!(
        Seen::new(&ds, "new", &start, &nodes, now()).roll().create,
        ["a"]
    );
    let unready = [old("a"), pod("new-a", "a", "new", false), old("b")];
    let round = Seen::new(&ds, "new", &unready, &nodes, now()).roll();
    assert!(round.create.is_empty() && round.delete.is_empty());
    let ready = [old("a"), pod("new-a", "a", "new", true), old("b")];
    let seen = Seen::new(&ds, "new", &ready, &nodes, now());
    assert_eq!(names(&seen.manage().delete), ["old-a"]);
}
