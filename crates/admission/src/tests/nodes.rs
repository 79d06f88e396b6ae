use super::*;

fn by_node(w: Write) -> Write {
    Write {
        user: User::new("system:node:n", &["system:nodes"]),
        ..w
    }
}

fn node(labels: Value) -> Value {
    json!({"metadata": {"name": "n", "uid": "nu", "labels": labels}, "spec": {}})
}

#[tokio::test]
async fn new_nodes_are_not_ready() {
    let world = World::new();
    let made = run(&world, "", Write::create("-/nodes", node(json!({}))))
        .await
        .expect("admitted");
    assert_eq!(
        made.object["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
}

#[tokio::test]
async fn nodes_change_only_themselves() {
    let world = World::new();
    let mut other = node(json!({}));
    other["metadata"]["name"] = json!("m");
    let mut tainted = node(json!({}));
    tainted["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
    let named = |w: Write| Write { name: "n", ..w };
    let table = [
        (
            Write::create(
                "-/nodes",
                node(json!({"kubernetes.io/hostname": "n", "x": "y", "node.kubernetes.io/z": "1"})),
            ),
            "ok",
        ),
        (
            Write::create("-/nodes", other),
            "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\"",
        ),
        (
            Write::create(
                "-/nodes",
                node(json!({"node-restriction.kubernetes.io/a": "1", "b.k8s.io/c": "2"})),
            ),
            "nodes \"n\" is forbidden: node \"n\" is not allowed to set the following labels: b.k8s.io/c, node-restriction.kubernetes.io/a",
        ),
        (
            named(Write::update("-/nodes", node(json!({})), tainted)),
            "nodes \"n\" is forbidden: node \"n\" is not allowed to modify taints",
        ),
        (
            named(Write::update(
                "-/nodes",
                node(json!({"kubernetes.io/role": "a"})),
                node(json!({})),
            )),
            "nodes \"n\" is forbidden: is not allowed to modify labels: kubernetes.io/role",
        ),
        (
            Write {
                namespace: "kube-node-lease",
                ..Write::create(
                    "coordination.k8s.io/leases",
                    json!({"metadata": {"name": "m"}}),
                )
            },
            "leases.coordination.k8s.io \"m\" is forbidden: can only access node lease with the same name as the requesting node",
        ),
    ];
    for (write, expected) in table {
        assert_eq!(
            text(&world, "NodeRestriction", by_node(write)).await,
            expected
        );
    }
}

#[tokio::test]
async fn nodes_create_mirror_pods_only() {
    let world = World::new();
    world.put("", "nodes", node(json!({})));
    let mirror = |change: fn(&mut Value)| {
        let mut p = pod(json!({"nodeName": "n"}));
        p["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        p["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "nu", "controller": true}]);
        change(&mut p);
        p
    };
    type Change = fn(&mut Value);
    let table: &[(Change, &str)] = &[
        (|_| {}, "ok"),
        (
            |p| p["metadata"]["annotations"] = json!({}),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods",
        ),
        (
            |p| p["spec"]["nodeName"] = json!("m"),
            "node \"n\" can only create pods with spec.nodeName set to itself",
        ),
        (
            |p| p["metadata"]["ownerReferences"] = json!([]),
            "node \"n\" can only create pods with an owner reference set to itself",
        ),
        (
            |p| p["metadata"]["ownerReferences"][0]["controller"] = json!(false),
            "node \"n\" can only create pods with a controller owner reference set to itself",
        ),
        (
            |p| p["metadata"]["ownerReferences"][0]["uid"] = json!("z"),
            "node n UID mismatch: expected z got nu",
        ),
        (
            |p| p["spec"]["volumes"] = json!([{"name": "v", "configMap": {}}]),
            "node \"n\" can not create pods that reference configmaps (via configmap volumes)",
        ),
    ];
    for (change, expected) in table {
        let found = text(
            &world,
            "NodeRestriction",
            by_node(Write::create("-/pods", mirror(*change))),
        )
        .await;
        let found = found.trim_start_matches("pods \"p\" is forbidden: ");
        assert_eq!(found, *expected);
    }
}

#[tokio::test]
async fn node_tokens_are_bound_to_its_pods() {
    let world = World::new();
    for (name, on) in [("mine", "n"), ("other", "m")] {
        world.put("", "pods", json!({"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": {"nodeName": on,
            "volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault", "path": "t"}}, {"serviceAccountToken": {"path": "u"}}]}}]}}));
    }
    let request = |pod: &str, uid: &str, audience: &str| {
        let audiences = if audience.is_empty() {
            json!([])
        } else {
            json!([audience])
        };
        json!({"spec": {"audiences": audiences, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}}})
    };
    let head = "serviceaccounts \"sa\" is forbidden: ";
    let table = [
        (request("mine", "mine", ""), "ok".to_string()),
        (request("mine", "mine", "vault"), "ok".to_string()),
        (
            request("mine", "mine", "x"),
            format!(
                "{head}audience \"x\" not found in pod spec volume, system:node:n is not authorized to request tokens for this audience"
            ),
        ),
        (
            request("mine", "z", ""),
            format!(
                "{head}the UID in the bound object reference (z) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ),
        (
            request("other", "other", ""),
            format!("{head}node requested token bound to a pod scheduled on a different node"),
        ),
        (
            request("gone", "u", ""),
            "pods \"gone\" not found".to_string(),
        ),
        (
            json!({"spec": {}}),
            format!("{head}node requested token not bound to a pod"),
        ),
    ];
    for (body, expected) in table {
        let w = Write {
            name: "sa",
            ..Write::create("-/serviceaccounts/token", body)
        };
        assert_eq!(text(&world, "NodeRestriction", by_node(w)).await, expected);
    }
}

#[tokio::test]
async fn nodes_ask_certificates_for_their_own_pods() {
    let world = World::new();
    world.put("", "nodes", node(json!({})));
    world.put(
        "",
        "serviceaccounts",
        json!({"metadata": {"name": "a", "namespace": "d", "uid": "su"}}),
    );
    let mut running = pod(json!({"nodeName": "n", "serviceAccountName": "a"}));
    running["metadata"]["uid"] = json!("pu");
    world.put("", "pods", running);
    let request = |field: &str, value: &str| {
        let mut spec = json!({"nodeName": "n", "nodeUID": "nu", "podName": "p", "podUID": "pu",
            "serviceAccountName": "a", "serviceAccountUID": "su"});
        spec[field] = json!(value);
        let object = json!({"metadata": {"generateName": "req-"}, "spec": spec});
        Write::create("certificates.k8s.io/podcertificaterequests", object)
    };
    let table = [
        ("podUID", "pu", "ok"),
        (
            "nodeName",
            "m",
            "PodCertificateRequest.Spec.NodeName=\"m\", which is not the requesting node \"n\"",
        ),
        (
            "podUID",
            "old",
            "PodCertificateRequest for pod \"d/p\" contains pod UID (\"old\") which differs from running pod \"pu\"",
        ),
        (
            "serviceAccountName",
            "b",
            "PodCertificateRequest for pod \"d/p\" contains serviceAccountName (\"b\") that differs from running pod (\"a\")",
        ),
        (
            "serviceAccountUID",
            "x",
            "PodCertificateRequest for pod \"d/p\" names service account UID \"x\", which differs from the running service account (\"su\")",
        ),
        (
            "podName",
            "q",
            "while retrieving pod \"d/q\" named in the PodCertificateRequest: pods \"q\" not found",
        ),
    ];
    for (field, value, expected) in table {
        let write = by_node(request(field, value));
        let said = text(&world, "NodeRestriction", write).await;
        assert!(said.ends_with(expected), "{said}");
    }
}
