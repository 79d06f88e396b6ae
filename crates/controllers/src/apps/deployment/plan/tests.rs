//! Sizes in rolling updates and in scaling. Cases follow the reference's worked examples.

use serde_json::{Value, json};

use super::*;

fn deployment(replicas: i32, surge: &Value, unavailable: &Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "d", "namespace": "n"},
        "spec": {"replicas": replicas, "selector": {}, "template": {}, "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}},
    }))
    .unwrap()
}

fn set(name: &str, size: i32, available: i32, max: Option<i32>) -> ReplicaSet {
    let second = name.bytes().last().unwrap_or(b'0') - b'0';
    let mut v = json!({
        "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")},
        "spec": {"replicas": size, "selector": {}},
        "status": {"replicas": size, "availableReplicas": available},
    });
    if let Some(max) = max {
        v["metadata"]["annotations"] = json!({MAX: max.to_string()});
    }
    serde_json::from_value(v).unwrap()
}

#[test]
fn a_quarter_rolls_ten_pods_as_upstream_does() {
    let d = deployment(10, &json!("25%"), &json!("25%"));
    assert_eq!((max_surge(&d), max_unavailable(&d)), (3, 2));
    let (new, old) = (set("n9", 0, 0, None), [set("o1", 10, 10, None)]);
    assert_eq!(next_new(&d, &new, &old), 3);
    let new = set("n9", 3, 0, None);
    assert_eq!(next_old(&d, &new, &old), [Resize { set: 0, to: 8 }]);
    let old = [set("o1", 8, 8, None)];
    assert_eq!(next_new(&d, &new, &old), 5);
    let new = set("n9", 5, 0, None);
    assert!(next_old(&d, &new, &old).is_empty());
    let new = set("n9", 5, 1, None);
    assert_eq!(next_old(&d, &new, &old), [Resize { set: 0, to: 7 }]);
}

#[test]
fn unhealthy_old_pods_go_before_healthy_ones() {
    let d = deployment(10, &json!(0), &json!(2));
    let new = set("n9", 0, 0, None);
    let old = [set("o1", 5, 5, None), set("o2", 5, 3, None)];
    assert_eq!(next_old(&d, &new, &old), [Resize { set: 1, to: 3 }]);
    let table: &[(i32, i32, i32, i32, i32)] = &[
        // old size, old available, new size, new available, next old size
        (10, 10, 0, 0, 8),
        (10, 8, 0, 0, 8),
        (8, 8, 2, 0, 8),
        (8, 8, 2, 2, 6),
        (2, 2, 8, 8, 0),
    ];
    for (size, up, new_size, new_up, wanted) in table {
        let new = set("n9", *new_size, *new_up, None);
        let old = [set("o1", *size, *up, None)];
        let to = next_old(&d, &new, &old).last().map_or(*size, |r| r.to);
        assert_eq!(to, *wanted, "{size} {up} {new_size} {new_up}");
    }
}

#[test]
fn neither_surge_nor_unavailability_still_moves_on() {
    let d = deployment(3, &json!(0), &json!("1%"));
    assert_eq!((max_surge(&d), max_unavailable(&d)), (0, 1));
}

#[test]
fn more_replicas_are_shared_in_proportion() {
    let d = deployment(15, &json!(3), &json!(2));
    let all = [set("o1", 8, 8, Some(13)), set("n9", 5, 0, Some(13))];
    let wanted = vec![Resize { set: 0, to: 11 }, Resize { set: 1, to: 7 }];
    assert_eq!(scaling(&d, &all, true), Scaling::Proportional(wanted));
}

#[test]
fn fewer_replicas_are_taken_in_proportion() {
    let d = deployment(5, &json!(2), &json!(1));
    let all = [set("o1", 6, 6, Some(12)), set("n9", 6, 0, Some(12))];
    let wanted = vec![Resize { set: 0, to: 3 }, Resize { set: 1, to: 4 }];
    let Scaling::Proportional(steps) = scaling(&d, &all, true) else {
        panic!("not proportional")
    };
    assert_eq!(steps.iter().map(|s| s.to).sum::<i32>(), 7);
    assert_eq!(steps, wanted);
}

#[test]
fn a_single_active_set_takes_the_whole_scale() {
    let d = deployment(4, &json!(1), &json!(0));
    let all = [set("o1", 0, 0, None), set("n9", 2, 2, None)];
    assert_eq!(
        scaling(&d, &all, true),
        Scaling::One(Resize { set: 1, to: 4 })
    );
    let idle = [set("o1", 0, 0, None), set("o2", 0, 0, None)];
    assert_eq!(
        scaling(&d, &idle, false),
        Scaling::One(Resize { set: 1, to: 4 })
    );
}

#[test]
fn history_drops_the_lowest_revisions_without_pods() {
    let mut d = deployment(1, &json!(1), &json!(0));
    d.spec.revision_history_limit = Some(1);
    let with = |name: &str, size: i32, revision: i32| {
        let mut s = set(name, size, size, None);
        let a = s.metadata.annotations.get_or_insert_default();
        a.insert(annotations::REVISION.into(), revision.to_string());
        s
    };
    let old = [with("o1", 0, 3), with("o2", 1, 1), with("o3", 0, 2)];
    assert_eq!(
        surplus(&d, &old),
        [2],
        "the one with a pod stays, though its turn"
    );
}
