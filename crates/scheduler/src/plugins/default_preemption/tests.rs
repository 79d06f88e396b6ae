use serde_json::{Value, json};

use super::*;
use crate::cycle::{self, Failure, Search};
use crate::diagnosis::Diagnosis;
use crate::framework::Cycle;
use crate::nominator::Nominator;
use crate::testing;

fn node(name: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}})
}

/// A pod on a node: name, priority, CPUs, started at this second.
fn on(node: &str, name: &str, priority: i32, cpu: &str, start: i64) -> Value {
    let mut pod = preemptor(name, priority, cpu);
    pod["spec"]["nodeName"] = json!(node);
    pod["metadata"]["labels"] = json!({"app": name});
    let start = Timestamp::from_second(1_000_000 + start).unwrap();
    pod["status"] = json!({"startTime": start.to_string()});
    pod
}

fn preemptor(name: &str, priority: i32, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"priority": priority,
        "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

/// The node and the victims, or why there are none.
fn preempt(
    nodes: &[Value],
    pods: &[Value],
    pod: Value,
    budgets: &[Value],
) -> Result<(String, Vec<String>), String> {
    let budgets: Vec<_> = budgets
        .iter()
        .map(|b| ("policy", "poddisruptionbudgets", b.clone()))
        .collect();
    let world = testing::world(&budgets);
    let snapshot = testing::snapshot(nodes, pods);
    let pod = testing::pod(pod);
    let cycle = Cycle {
        pod: &pod,
        snapshot: &snapshot,
        world: &world,
    };
    let nominator = Nominator::default();
    let search = Search {
        start: 0,
        percentage: 0,
    };
    let prepared = cycle::prepare(&cycle).unwrap_or_else(|f| panic!("{f:?}"));
    let diagnosis = match cycle::find(&cycle, &prepared, &nominator, search) {
        Err(Failure::Unschedulable(d)) => d,
        _ => Box::new(Diagnosis::new(nodes.len())),
    };
    let attempt = Attempt {
        cycle,
        filters: Some(&prepared.filters),
        diagnosis: &diagnosis,
        nominator: &nominator,
    };
    match DefaultPreemption.post_filter(&attempt) {
        PostFilter::Nominated(p) => {
            let victims = p.victims.iter().map(|v| v.key.name.to_string());
            Ok((p.node.to_string(), victims.collect()))
        }
        PostFilter::Rejected { reason, .. } => Err(reason),
        PostFilter::Skip => Err("skipped".into()),
    }
}

#[track_caller]
fn victims(got: Result<(String, Vec<String>), String>, node: &str, expected: &[&str]) {
    let (at, names) = got.unwrap();
    assert_eq!(
        (at.as_str(), names),
        (node, expected.iter().map(|n| n.to_string()).collect())
    );
}

fn budget(app: &str, allowed: i32) -> Value {
    json!({"metadata": {"name": app, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}}, "status": {"disruptionsAllowed": allowed}})
}

#[tokio::test]
async fn only_as_many_go_as_needed_and_the_important_stay() {
    let there = [
        on("n1", "low", 1, "1", 0),
        on("n1", "mid", 2, "1", 0),
        on("n1", "high", 3, "2", 0),
    ];
    let got = preempt(&[node("n1")], &there, preemptor("p", 10, "2"), &[]);
    // Re-added from the most important on: `high` stays, the two others go.
    victims(got, "n1", &["mid", "low"]);
    let got = preempt(&[node("n1")], &there, preemptor("p", 10, "1"), &[]);
    victims(got, "n1", &["low"]);
}

#[tokio::test]
async fn the_node_with_the_least_harm_is_chosen() {
    let nodes = [node("n1"), node("n2")];
    let wants = || preemptor("p", 10, "4");
    let table: [(&[Value], &str, &[&str]); 5] = [
        // Lowest highest priority.
        (
            &[on("n1", "a", 5, "4", 0), on("n2", "b", 3, "4", 0)],
            "n2",
            &["b"],
        ),
        // Lowest sum: one of priority 3 rather than 3 and 1.
        (
            &[
                on("n1", "a", 3, "2", 0),
                on("n1", "b", 1, "2", 0),
                on("n2", "c", 3, "4", 0),
            ],
            "n2",
            &["c"],
        ),
        // Latest start of the most important.
        (
            &[on("n1", "a", 3, "4", 5), on("n2", "b", 3, "4", 9)],
            "n2",
            &["b"],
        ),
        // No pod less important on the other node.
        (
            &[on("n1", "a", 10, "4", 0), on("n2", "b", 9, "4", 0)],
            "n2",
            &["b"],
        ),
        // Victims are told most important first, then oldest.
        (
            &[
                on("n1", "a", 10, "4", 0),
                on("n2", "b", 2, "1", 9),
                on("n2", "c", 2, "1", 1),
                on("n2", "d", 7, "2", 9),
            ],
            "n2",
            &["d", "c", "b"],
        ),
    ];
    for (pods, node, expected) in table {
        victims(preempt(&nodes, pods, wants(), &[]), node, expected);
    }
}

#[tokio::test]
async fn disruption_budgets_are_kept_where_possible() {
    let there = [on("n1", "a", 1, "4", 0), on("n2", "b", 5, "4", 0)];
    let nodes = [node("n1"), node("n2")];
    let wants = || preemptor("p", 10, "4");
    victims(
        preempt(&nodes, &there, wants(), &[budget("a", 0)]),
        "n2",
        &["b"],
    );
    victims(
        preempt(&nodes, &there, wants(), &[budget("a", 1)]),
        "n1",
        &["a"],
    );
    // Where all break a budget, it is broken.
    let both = [budget("a", 0), budget("b", 0)];
    victims(preempt(&nodes, &there, wants(), &both), "n1", &["a"]);
    // On one node: the pod without a budget goes first.
    let there = [on("n1", "a", 1, "2", 0), on("n1", "b", 5, "2", 0)];
    let got = preempt(
        &nodes[..1],
        &there,
        preemptor("p", 10, "2"),
        &[budget("a", 0)],
    );
    victims(got, "n1", &["b"]);
}

#[tokio::test]
async fn without_help_the_reason_says_so() {
    let there = [on("n1", "a", 50, "4", 0)];
    let got = preempt(&[node("n1")], &there, preemptor("p", 10, "2"), &[]);
    assert_eq!(
        got.unwrap_err(),
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    let got = preempt(&[node("n1")], &there, preemptor("p", 10, "9"), &[]);
    assert_eq!(
        got.unwrap_err(),
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    let mut never = preemptor("p", 100, "2");
    never["spec"]["preemptionPolicy"] = json!("Never");
    let got = preempt(&[node("n1")], &there, never, &[]);
    assert_eq!(
        got.unwrap_err(),
        "preemption: not eligible due to preemptionPolicy=Never."
    );
    let mut leaving = on("n1", "a", 1, "4", 0);
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    leaving["status"]["conditions"] =
        json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
    let mut waits = preemptor("p", 10, "4");
    waits["status"] = json!({"nominatedNodeName": "n1"});
    let got = preempt(&[node("n1")], &[leaving], waits, &[]);
    assert_eq!(
        got.unwrap_err(),
        "preemption: not eligible due to a terminating pod on the nominated node."
    );
}

#[test]
fn a_pod_whose_victims_are_going_is_held() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let world = testing::world(&[]);
    let pod = testing::pod(preemptor("p", 1, "1"));
    assert!(DefaultPreemption.pre_enqueue(&world, &pod).is_ok());
    world.preempting.lock().insert("p".into());
    assert_eq!(
        DefaultPreemption
            .pre_enqueue(&world, &pod)
            .unwrap_err()
            .message(),
        "waiting for the preemption for this pod to be finished"
    );
}
