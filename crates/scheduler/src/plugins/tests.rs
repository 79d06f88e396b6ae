//! Tables: what plugins say about nodes and pods, with upstream's texts.

use serde_json::{Value, json};

use super::*;
use crate::cycle::{self, Failure, Search};
use crate::event::{self, ClusterEvent, Object, Watched};
use crate::framework::{Cycle, Hint};
use crate::nominator::Nominator;
use crate::testing;

/// Names of the nodes a pod may go to, or the message why there is none.
fn place(nodes: &[Value], pods: &[Value], pod: Value) -> Result<Vec<String>, String> {
    let world = testing::world(&[]);
    let snapshot = testing::snapshot(nodes, pods);
    let pod = testing::pod(pod);
    let cycle = Cycle {
        pod: &pod,
        snapshot: &snapshot,
        world: &world,
    };
    let search = Search {
        start: 0,
        percentage: 0,
    };
    let found = cycle::prepare(&cycle).and_then(|prepared| {
        let found = cycle::find(&cycle, &prepared, &Nominator::default(), search)?;
        let names = found.feasible.iter().map(|n| n.name().to_string());
        Ok(names.collect())
    });
    found.map_err(|f| match f {
        Failure::Unschedulable(d) => {
            let message = d.message("");
            let text = message.split_once("nodes are available: ");
            text.map_or(message.clone(), |(_, t)| t.to_string())
        }
        Failure::Error(e) => e,
    })
}

/// Total scores by node.
fn scores(nodes: &[Value], pods: &[Value], pod: Value) -> Vec<i64> {
    let world = testing::world(&[]);
    let snapshot = testing::snapshot(nodes, pods);
    let pod = testing::pod(pod);
    let cycle = Cycle {
        pod: &pod,
        snapshot: &snapshot,
        world: &world,
    };
    let all: Vec<_> = snapshot.nodes().iter().collect();
    match cycle::totals(&cycle, &all) {
        Ok(totals) => totals,
        Err(f) => panic!("{f:?}"),
    }
}

fn node(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": format!("z{}", &name[1..])}},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "3", "ephemeral-storage": "10Gi", "example.com/foo": "5"}}})
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "labels": {"app": "a"}}, "spec": spec})
}

fn on(name: &str, node: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": spec});
    pod["spec"]["nodeName"] = json!(node);
    pod
}

fn asking(requests: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
}

fn ok(names: &[&str]) -> Result<Vec<String>, String> {
    Ok(names.iter().map(|n| n.to_string()).collect())
}

#[track_caller]
fn refused(got: Result<Vec<String>, String>, text: &str) {
    assert_eq!(got.unwrap_err(), text);
}

#[test]
fn plugin_names_and_weights_are_upstreams() {
    let weighted: Vec<(&str, i64)> = PLUGINS
        .iter()
        .filter(|l| l.weight > 0)
        .map(|l| (l.plugin.name(), l.weight))
        .collect();
    assert_eq!(
        weighted,
        [
            ("TaintToleration", 3),
            ("NodeAffinity", 2),
            ("NodeResourcesFit", 1),
            ("PodTopologySpread", 2),
            ("InterPodAffinity", 2),
            ("NodeResourcesBalancedAllocation", 1),
            ("ImageLocality", 1),
        ]
    );
}

#[test]
fn every_plugin_file_is_listed() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/plugins");
    let files = std::fs::read_dir(dir).unwrap().filter_map(|f| {
        let name = f.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".rs").map(|n| n.replace('_', ""))
    });
    let mut files: Vec<String> = files.filter(|n| n != "tests").collect();
    let mut listed: Vec<String> = PLUGINS
        .iter()
        .map(|l| l.plugin.name().to_lowercase())
        .collect();
    files.sort();
    listed.sort();
    assert_eq!(files, listed);
}

#[tokio::test]
async fn resources_must_fit() {
    let nodes = [node("n1")];
    let table = [
        (json!({"cpu": "5"}), "1 Insufficient cpu."),
        (json!({"cpu": "3500m"}), "1 Insufficient cpu."),
        (json!({"memory": "8Gi"}), "1 Insufficient memory."),
        (
            json!({"ephemeral-storage": "11Gi"}),
            "1 Insufficient ephemeral-storage.",
        ),
        (
            json!({"example.com/foo": "6"}),
            "1 Insufficient example.com/foo.",
        ),
        (
            json!({"example.com/none": "1"}),
            "1 Insufficient example.com/none.",
        ),
        (
            json!({"cpu": "5", "memory": "9Gi"}),
            "1 Insufficient cpu, 1 Insufficient memory.",
        ),
    ];
    let there = [on("x", "n1", asking(json!({"cpu": "1", "memory": "1Gi"})))];
    for (requests, text) in table {
        refused(place(&nodes, &there, pod(asking(requests))), text);
    }
    let fits = json!({"cpu": "3", "memory": "7Gi", "example.com/foo": "5"});
    assert_eq!(place(&nodes, &there, pod(asking(fits))), ok(&["n1"]));
    let full: Vec<Value> = ["x", "y", "z"].map(|n| on(n, "n1", json!({}))).into();
    refused(place(&nodes, &full, pod(json!({}))), "1 Too many pods.");
}

#[tokio::test]
async fn cordons_and_taints_keep_pods_away_unless_tolerated() {
    let mut cordoned = node("n1");
    cordoned["spec"]["unschedulable"] = json!(true);
    refused(
        place(std::slice::from_ref(&cordoned), &[], pod(json!({}))),
        "1 node(s) were unschedulable.",
    );
    let everything = json!({"tolerations": [{"operator": "Exists"}]});
    assert_eq!(
        place(&[cordoned], &[], pod(everything.clone())),
        ok(&["n1"])
    );
    let mut tainted = node("n1");
    tainted["spec"]["taints"] = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]);
    let tainted = [tainted];
    let table = [
        (json!([]), false),
        (
            json!([{"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}]),
            true,
        ),
        (json!([{"key": "k", "value": "v"}]), true),
        (json!([{"key": "k", "value": "w"}]), false),
        (
            json!([{"key": "k", "operator": "Exists", "effect": "NoExecute"}]),
            false,
        ),
        (json!([{"key": "k", "operator": "Exists"}]), true),
        (json!([{"key": "j", "operator": "Exists"}]), false),
    ];
    for (tolerations, fits) in table {
        let got = place(&tainted, &[], pod(json!({"tolerations": tolerations})));
        if fits {
            assert_eq!(got, ok(&["n1"]), "{tolerations}");
        } else {
            refused(got, "1 node(s) had untolerated taint(s).");
        }
    }
}

#[tokio::test]
async fn node_selectors_and_affinity_choose() {
    let nodes = [node("n1"), node("n2")];
    let affinity = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
    let expression = |operator: &str, values: Value| json!([{"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]}]);
    let name = |n: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [n]}]});
    let table = [
        (json!({"nodeSelector": {"zone": "z2"}}), vec!["n2"]),
        (affinity(expression("In", json!(["z1", "z9"]))), vec!["n1"]),
        (affinity(expression("NotIn", json!(["z1"]))), vec!["n2"]),
        (
            affinity(expression("Exists", json!(null))),
            vec!["n1", "n2"],
        ),
        (affinity(json!([name("n2")])), vec!["n2"]),
        (affinity(json!([name("n2"), name("n1")])), vec!["n1", "n2"]),
    ];
    for (spec, expected) in table {
        assert_eq!(
            place(&nodes, &[], pod(spec.clone())),
            ok(&expected),
            "{spec}"
        );
    }
    let text = "2 node(s) didn't match Pod's node affinity/selector.";
    refused(
        place(&nodes, &[], pod(json!({"nodeSelector": {"zone": "z3"}}))),
        text,
    );
    refused(
        place(
            &nodes,
            &[],
            pod(affinity(expression("DoesNotExist", json!(null)))),
        ),
        text,
    );
    refused(place(&nodes, &[], pod(affinity(json!([{}])))), text);
    refused(
        place(&nodes, &[], pod(affinity(json!([name("gone")])))),
        "2 node(s) didn't satisfy plugin(s) [NodeAffinity].",
    );
    let both = json!([{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["n1"]},
        {"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]);
    refused(
        place(&nodes, &[], pod(affinity(both))),
        "pod affinity terms conflict.",
    );
}

#[tokio::test]
async fn host_ports_are_taken_once() {
    let nodes = [node("n1")];
    let port = |ip: &str, port: i32, protocol: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": port, "hostIP": ip, "protocol": protocol}]}]});
    let there = [on("x", "n1", port("", 8080, "TCP"))];
    let text = "1 node(s) didn't have free ports for the requested pod ports.";
    refused(
        place(&nodes, &there, pod(port("127.0.0.1", 8080, "TCP"))),
        text,
    );
    refused(
        place(&nodes, &there, pod(port("0.0.0.0", 8080, "TCP"))),
        text,
    );
    assert!(place(&nodes, &there, pod(port("", 8080, "UDP"))).is_ok());
    assert!(place(&nodes, &there, pod(port("", 8081, "TCP"))).is_ok());
    let there = [on("x", "n1", port("127.0.0.1", 8080, "TCP"))];
    assert!(place(&nodes, &there, pod(port("127.0.0.2", 8080, "TCP"))).is_ok());
}

fn near(kind: &str, key: &str) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": key, "labelSelector": {"matchLabels": {"app": "a"}}}]}}})
}

#[tokio::test]
async fn pods_are_kept_near_and_away() {
    let nodes = [node("n1"), node("n2")];
    let there = [on("x", "n1", json!({}))];
    assert_eq!(
        place(&nodes, &there, pod(near("podAffinity", "zone"))),
        ok(&["n1"])
    );
    assert_eq!(
        place(&nodes, &there, pod(near("podAntiAffinity", "zone"))),
        ok(&["n2"])
    );
    refused(
        place(&nodes, &there, pod(near("podAffinity", "rack"))),
        "2 node(s) didn't match pod affinity rules.",
    );
    // The first of a group that wants to be near itself goes anywhere.
    assert_eq!(
        place(&nodes, &[], pod(near("podAffinity", "zone"))),
        ok(&["n1", "n2"])
    );
    let shy = [
        on("x", "n1", near("podAntiAffinity", "zone")),
        on("y", "n2", json!({})),
    ];
    assert_eq!(place(&nodes, &shy, pod(json!({}))), ok(&["n2"]));
    refused(
        place(&nodes, &shy, pod(near("podAntiAffinity", "zone"))),
        "2 node(s) didn't match pod anti-affinity rules.",
    );
    refused(
        place(&nodes[..1], &shy[..1], pod(json!({}))),
        "1 node(s) didn't satisfy existing pods anti-affinity rules.",
    );
}

#[tokio::test]
async fn pods_are_spread() {
    let nodes = [node("n1"), node("n2"), node("n3")];
    let spread = |key: &str, skew: i64, min_domains: i64| {
        json!({"topologySpreadConstraints": [{"topologyKey": key, "maxSkew": skew, "minDomains": min_domains,
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a"}}}]})
    };
    let there = [
        on("x", "n1", json!({})),
        on("y", "n1", json!({})),
        on("z", "n2", json!({})),
    ];
    assert_eq!(
        place(&nodes, &there, pod(spread("zone", 1, 1))),
        ok(&["n3"])
    );
    assert_eq!(
        place(&nodes, &there, pod(spread("zone", 2, 1))),
        ok(&["n2", "n3"])
    );
    refused(
        place(&nodes[..2], &there, pod(spread("zone", 1, 5))),
        "2 node(s) didn't match pod topology spread constraints.",
    );
    refused(
        place(&nodes, &there, pod(spread("rack", 1, 1))),
        "3 node(s) didn't match pod topology spread constraints (missing required label).",
    );
}

#[tokio::test]
async fn scores_prefer_empty_balanced_wanted_nodes() {
    let busy = [on("x", "n1", asking(json!({"cpu": "2", "memory": "4Gi"})))];
    let nodes = [node("n1"), node("n2")];
    let asked = pod(asking(json!({"cpu": "1", "memory": "2Gi"})));
    // n1: taints 300, least allocated 25, balanced 75; n2: 300, 75, 75.
    assert_eq!(scores(&nodes, &busy, asked.clone()), [400, 450]);
    let mut soft = node("n2");
    soft["spec"]["taints"] = json!([{"key": "k", "effect": "PreferNoSchedule"}]);
    assert_eq!(scores(&[node("n1"), soft], &[], asked.clone()), [450, 150]);
    let mut has_image = node("n2");
    has_image["status"]["images"] =
        json!([{"names": ["i:latest"], "sizeBytes": 2_000_000_000_i64}]);
    let mut image = asked;
    image["spec"]["containers"][0]["image"] = json!("i");
    let got = scores(&[node("n1"), has_image], &[], image);
    assert_eq!(got, [450, 450 + 95]);
    let prefers = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 10, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z1"]}]}}]}}});
    let got = scores(&nodes, &[], pod(prefers));
    assert_eq!(got[0] - got[1], 200);
}

#[tokio::test]
async fn soft_rules_about_other_pods_score() {
    let nodes = [node("n1"), node("n2")];
    let there = [on("x", "n1", json!({}))];
    let prefer = |kind: &str| {
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5,
            "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}}}]}}})
    };
    let difference = |spec: Value| {
        let got = scores(&nodes, &there, pod(spec));
        let plain = scores(&nodes, &there, pod(json!({})));
        (got[0] - plain[0], got[1] - plain[1])
    };
    assert_eq!(difference(prefer("podAffinity")), (200, 0));
    assert_eq!(difference(prefer("podAntiAffinity")), (0, 200));
    let spread = json!({"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "a"}}}]});
    assert_eq!(difference(spread), (0, 200));
}

#[tokio::test]
async fn claims_of_devices_are_refused_with_a_clear_text() {
    let spec = json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "x"}]});
    refused(
        place(&[node("n1")], &[], pod(spec)),
        "spec.resourceClaims: dynamic resource allocation is not supported yet.",
    );
}

/// What a plugin says to a node that was `before` and is `after`.
fn node_hint(plugin: &dyn Plugin, pod: Value, before: Option<Value>, after: Value) -> Hint {
    let world = testing::world(&[]);
    let before = before.map(testing::node);
    let after = testing::node(after);
    let actions = match &before {
        None => event::ADD,
        Some(b) => event::node_actions(b, &after),
    };
    let event = ClusterEvent {
        watched: Watched::Node,
        actions,
        object: Object::Node(before.as_deref(), Some(&after)),
    };
    plugin.hint(&world, &testing::pod(pod), &event)
}

/// What a plugin says to another pod that was `before` and is `after`.
fn pod_hint(plugin: &dyn Plugin, pod: Value, before: Option<Value>, after: Option<Value>) -> Hint {
    let world = testing::world(&[]);
    let (before, after) = (before.map(testing::pod), after.map(testing::pod));
    let actions = match (&before, &after) {
        (Some(b), Some(a)) => event::pod_actions(b, a),
        (None, _) => event::ADD,
        (_, None) => event::DELETE,
    };
    let event = ClusterEvent::assigned(actions, before.as_ref(), after.as_ref());
    plugin.hint(&world, &testing::pod(pod), &event)
}

#[tokio::test]
async fn changes_of_nodes_wake_whom_they_help() {
    let with = |path: &str, value: Value| {
        let mut n = node("n1");
        *n.pointer_mut(path).unwrap() = value;
        n
    };
    let cpu = |cpu: &str| with("/status/allocatable/cpu", json!(cpu));
    let fit = &node_resources_fit::NodeResourcesFit;
    let wants = || pod(asking(json!({"cpu": "6"})));
    assert_eq!(node_hint(fit, wants(), None, cpu("8")), Hint::Queue);
    assert_eq!(node_hint(fit, wants(), None, cpu("4")), Hint::Skip);
    assert_eq!(
        node_hint(fit, wants(), Some(cpu("4")), cpu("8")),
        Hint::Queue
    );
    assert_eq!(
        node_hint(fit, wants(), Some(cpu("4")), cpu("5")),
        Hint::Skip
    );
    assert_eq!(
        node_hint(fit, wants(), Some(cpu("8")), cpu("7")),
        Hint::Skip
    );

    let tainted = with(
        "/spec",
        json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}),
    );
    let taints = &taint_toleration::TaintToleration;
    let plain = || pod(json!({}));
    assert_eq!(
        node_hint(taints, plain(), Some(tainted.clone()), node("n1")),
        Hint::Queue
    );
    assert_eq!(
        node_hint(taints, plain(), Some(node("n1")), tainted.clone()),
        Hint::Skip
    );
    assert_eq!(node_hint(taints, plain(), None, tainted), Hint::Skip);

    let cordoned = with("/spec", json!({"unschedulable": true}));
    let cordon = &node_unschedulable::NodeUnschedulable;
    assert_eq!(
        node_hint(cordon, plain(), Some(cordoned.clone()), node("n1")),
        Hint::Queue
    );
    assert_eq!(node_hint(cordon, plain(), None, cordoned), Hint::Skip);

    let affinity = &node_affinity::NodeAffinity;
    let selective = || pod(json!({"nodeSelector": {"zone": "z9"}}));
    let labelled = with("/metadata/labels/zone", json!("z9"));
    assert_eq!(
        node_hint(affinity, selective(), Some(node("n1")), labelled),
        Hint::Queue
    );
    let other = with("/metadata/labels/zone", json!("z8"));
    assert_eq!(
        node_hint(affinity, selective(), Some(node("n1")), other),
        Hint::Skip
    );
}

#[tokio::test]
async fn changes_of_pods_wake_whom_they_help() {
    let port = |port: i32| json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": port}]}]});
    let ports = &node_ports::NodePorts;
    let gone = |spec: Value| Some(on("x", "n1", spec));
    assert_eq!(
        pod_hint(ports, pod(port(1)), gone(port(1)), None),
        Hint::Queue
    );
    assert_eq!(
        pod_hint(ports, pod(port(1)), gone(port(2)), None),
        Hint::Skip
    );

    let fit = &node_resources_fit::NodeResourcesFit;
    let asks = |cpu: &str| asking(json!({"cpu": cpu}));
    let wants = || pod(asks("1"));
    assert_eq!(pod_hint(fit, wants(), gone(asks("1")), None), Hint::Queue);
    assert_eq!(
        pod_hint(fit, wants(), gone(asks("2")), gone(asks("1"))),
        Hint::Queue
    );
    assert_eq!(
        pod_hint(fit, wants(), gone(asks("1")), gone(asks("2"))),
        Hint::Skip
    );

    let pods = &inter_pod_affinity::InterPodAffinity;
    let plain = || gone(json!({}));
    assert_eq!(
        pod_hint(pods, pod(near("podAffinity", "zone")), None, plain()),
        Hint::Queue
    );
    assert_eq!(
        pod_hint(pods, pod(near("podAntiAffinity", "zone")), None, plain()),
        Hint::Skip
    );
    assert_eq!(
        pod_hint(pods, pod(near("podAntiAffinity", "zone")), plain(), None),
        Hint::Queue
    );
    let shy = gone(near("podAntiAffinity", "zone"));
    assert_eq!(pod_hint(pods, pod(json!({})), shy, None), Hint::Queue);

    let spread = &pod_topology_spread::PodTopologySpread;
    let constrained = json!({"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a"}}}]});
    let mut other = on("x", "n1", json!({}));
    other["metadata"]["labels"] = json!({"app": "b"});
    assert_eq!(
        pod_hint(spread, pod(constrained.clone()), None, plain()),
        Hint::Queue
    );
    assert_eq!(
        pod_hint(spread, pod(constrained), None, Some(other)),
        Hint::Skip
    );
}
