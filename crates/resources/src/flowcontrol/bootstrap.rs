//! The flow schemas and priority levels every cluster has. Upstream: apis/flowcontrol/bootstrap.

use serde_json::{Value, json};

use super::GROUP;

/// Tells the server to keep an object as it is here.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Name, shares, lendable percent, and queues, hand size and queue length where requests wait.
type Level = (&'static str, i64, i64, Option<(i64, i64, i64)>);

const LEVELS: &[Level] = &[
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
    ("global-default", 20, 50, Some((128, 6, 50))),
];

/// All objects, levels first.
pub fn objects() -> Vec<Value> {
    let exempt =
        json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let mut out = vec![object("PriorityLevelConfiguration", "exempt", exempt)];
    for level in LEVELS {
        out.push(object(
            "PriorityLevelConfiguration",
            level.0,
            level_spec(level),
        ));
    }
    for (name, spec) in schemas() {
        out.push(object("FlowSchema", name, spec));
    }
    out
}

/// The spec an object must have for ever, where it is one of those.
pub fn fixed(kind: &str, name: &str) -> Option<Value> {
    if !["exempt", "catch-all"].contains(&name) {
        return None;
    }
    let all = objects();
    let found = all
        .iter()
        .find(|o| o["kind"] == kind && machinery::object::name(o) == name);
    found.map(|o| o["spec"].clone())
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}}, "spec": spec})
}

fn level_spec((_, shares, lendable, queuing): &Level) -> Value {
    let response = match queuing {
        None => json!({"type": "Reject"}),
        Some((queues, hand, length)) => json!({"type": "Queue",
            "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}}),
    };
    json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares,
        "lendablePercent": lendable, "limitResponse": response}})
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn system_accounts() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}})
}

fn everyone() -> Value {
    json!([
        group("system:unauthenticated"),
        group("system:authenticated")
    ])
}

/// A rule about all requests of some subjects.
fn all_of(subjects: Value) -> Value {
    json!([{"subjects": subjects,
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}])
}

fn schema(precedence: i64, level: &str, distinguisher: &str, rules: Value) -> Value {
    let mut spec = json!({"matchingPrecedence": precedence,
        "priorityLevelConfiguration": {"name": level}, "rules": rules});
    if !distinguisher.is_empty() {
        spec["distinguisherMethod"] = json!({"type": distinguisher});
    }
    spec
}

fn schemas() -> Vec<(&'static str, Value)> {
    let (manager, scheduler) = ("system:kube-controller-manager", "system:kube-scheduler");
    let probes = json!([{"subjects": everyone(),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}]);
    let leases = |verbs: Value| json!({"verbs": verbs, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["*"]});
    let election = json!([{"subjects": [user(manager), user(scheduler), system_accounts()],
        "resourceRules": [leases(json!(["get", "create", "update"]))]}]);
    let node_status = json!({"verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"],
        "clusterScope": true, "namespaces": ["*"]});
    let nodes = json!([{"subjects": [group("system:nodes")], "resourceRules": [node_status, leases(json!(["*"]))]}]);
    let all = |subject: Value| all_of(json!([subject]));
    vec![
        (
            "exempt",
            schema(1, "exempt", "", all(group("system:masters"))),
        ),
        ("probes", schema(2, "exempt", "", probes)),
        (
            "system-leader-election",
            schema(100, "leader-election", "ByUser", election),
        ),
        (
            "system-node-high",
            schema(400, "node-high", "ByUser", nodes),
        ),
        (
            "system-nodes",
            schema(500, "system", "ByUser", all(group("system:nodes"))),
        ),
        (
            "kube-controller-manager",
            schema(800, "workload-high", "ByNamespace", all(user(manager))),
        ),
        (
            "kube-scheduler",
            schema(800, "workload-high", "ByNamespace", all(user(scheduler))),
        ),
        (
            "kube-system-service-accounts",
            schema(900, "workload-high", "ByNamespace", all(system_accounts())),
        ),
        (
            "service-accounts",
            schema(
                9000,
                "workload-low",
                "ByUser",
                all(group("system:serviceaccounts")),
            ),
        ),
        (
            "global-default",
            schema(9900, "global-default", "ByUser", all_of(everyone())),
        ),
        (
            "catch-all",
            schema(10_000, "catch-all", "ByUser", all_of(everyone())),
        ),
    ]
}
