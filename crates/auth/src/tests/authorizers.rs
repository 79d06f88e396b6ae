use machinery::descriptor::{Descriptor, Scope};
use machinery::request::{Admission, Attempt, Authorizer, Decision, Operation};
use machinery::strategy::Strategy;

use super::*;
use crate::node::Node;
use crate::rbac_escalation::Escalation;
use crate::{Authorizers, Link, Rbac};

struct Plain;
impl Strategy for Plain {
    fn name_problems(&self, _: &str, _: bool) -> Vec<String> {
        Vec::new()
    }
}

fn allowed(d: &Decision) -> bool {
    matches!(d, Decision::Allow(_))
}

#[test]
fn bootstrap_roles_give_what_they_should() {
    let rbac = Rbac::new(with_bootstrap());
    let sa = |n: &str| {
        User::new(
            &format!("system:serviceaccount:kube-system:{n}"),
            &["system:serviceaccounts", "system:authenticated"],
        )
    };
    let table = [
        (
            User::new("a", &["system:masters"]),
            "delete -/nodes -/n",
            true,
        ),
        (
            User::new("a", &["system:authenticated"]),
            "list -/pods d/-",
            false,
        ),
        (
            User::new("a", &["system:authenticated"]),
            "create authorization.k8s.io/selfsubjectaccessreviews -/-",
            true,
        ),
        (
            User::new("system:kube-scheduler", &[]),
            "create -/pods/binding d/p",
            true,
        ),
        (
            User::new("system:kube-scheduler", &[]),
            "update coordination.k8s.io/leases kube-system/kube-scheduler",
            true,
        ),
        (
            User::new("system:kube-scheduler", &[]),
            "update coordination.k8s.io/leases d/x",
            false,
        ),
        (
            sa("generic-garbage-collector"),
            "delete my.group/things d/x",
            true,
        ),
        (
            sa("deployment-controller"),
            "create apps/replicasets d/x",
            true,
        ),
        (sa("deployment-controller"), "delete -/secrets d/x", false),
        (
            sa("horizontal-pod-autoscaler"),
            "update apps/deployments/scale d/x",
            true,
        ),
        (
            sa("horizontal-pod-autoscaler"),
            "update apps/deployments d/x",
            false,
        ),
    ];
    for (user, text, expected) in table {
        let d = rbac.decide(&attributes(&user, text));
        assert_eq!(allowed(&d), expected, "{} {text}: {d:?}", user.name);
    }
}

#[test]
fn urls_match_by_prefix() {
    let rbac = Rbac::new(with_bootstrap());
    let user = User::new("u", &["system:authenticated"]);
    for (path, expected) in [
        ("/apis/apps/v1", true),
        ("/version", true),
        ("/metrics", false),
    ] {
        let a = Attributes {
            user: user.clone(),
            verb: "get".into(),
            path: path.into(),
            ..Attributes::default()
        };
        assert_eq!(allowed(&rbac.decide(&a)), expected, "{path}");
    }
}

#[test]
fn reasons_equal_upstreams() {
    let reads = reads();
    let rbac = Rbac::new(reads.clone());
    let group = crate::RBAC_GROUP;
    let user = User::new("system:serviceaccount:d:s", &[]);
    let a = attributes(&user, "get -/pods d/p");
    assert_eq!(rbac.decide(&a), Decision::NoOpinion(String::new()));
    let sa = json!({"kind": "ServiceAccount", "name": "s", "namespace": ""});
    put(
        &reads,
        group,
        "rolebindings",
        role_binding("RoleBinding", "d", "b", "Role/r", sa),
    );
    assert_eq!(
        rbac.decide(&a),
        Decision::NoOpinion("RBAC: role.rbac.authorization.k8s.io \"r\" not found".into())
    );
    let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["p"]}]);
    put(
        &reads,
        group,
        "roles",
        json!({"metadata": {"name": "r", "namespace": "d"}, "rules": rules}),
    );
    assert_eq!(
        rbac.decide(&a),
        Decision::Allow(
            "RBAC: allowed by RoleBinding \"b/d\" of Role \"r\" to ServiceAccount \"s/d\"".into()
        )
    );
    assert!(!allowed(
        &rbac.decide(&attributes(&user, "get -/pods d/other"))
    ));
    assert!(!allowed(&rbac.decide(&attributes(&user, "get -/pods e/p"))));
    reads
        .memory(group, "rolebindings")
        .unwrap()
        .delete("d", "b");
    assert_eq!(rbac.decide(&a), Decision::NoOpinion(String::new()));
}

#[test]
fn a_changed_binding_forgets_its_old_subjects() {
    let reads = with_bootstrap();
    let rbac = Rbac::new(reads.clone());
    let bind = |user: &str| {
        let subject = json!({"kind": "User", "name": user});
        let b = role_binding(
            "ClusterRoleBinding",
            "",
            "b",
            "ClusterRole/cluster-admin",
            subject,
        );
        put(&reads, crate::RBAC_GROUP, "clusterrolebindings", b);
    };
    let ask =
        |user: &str| allowed(&rbac.decide(&attributes(&User::new(user, &[]), "get -/nodes -/n")));
    bind("a");
    assert!(ask("a") && !ask("b"));
    bind("b");
    assert!(!ask("a") && ask("b"));
}

#[test]
fn a_lagging_index_begins_again() {
    let reads = reads();
    let rbac = Rbac::new(reads.clone());
    let a = attributes(&User::new("u", &[]), "get -/nodes -/n");
    assert!(!allowed(&rbac.decide(&a)));
    let subject = json!({"kind": "User", "name": "u"});
    let role = json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]});
    put(&reads, crate::RBAC_GROUP, "clusterroles", role);
    for i in 0..20_000 {
        let b = role_binding(
            "ClusterRoleBinding",
            "",
            &format!("b{i}"),
            "ClusterRole/r",
            subject.clone(),
        );
        put(&reads, crate::RBAC_GROUP, "clusterrolebindings", b);
    }
    assert!(allowed(&rbac.decide(&a)));
    for i in 0..20_000 {
        reads
            .memory(crate::RBAC_GROUP, "clusterrolebindings")
            .unwrap()
            .delete("", &format!("b{i}"));
    }
    assert!(!allowed(&rbac.decide(&a)));
}

fn node_user(name: &str) -> User {
    User::new(
        &format!("system:node:{name}"),
        &["system:nodes", "system:authenticated"],
    )
}

fn node_world() -> Arc<MemoryReads> {
    let reads = reads();
    put(
        &reads,
        "",
        "pods",
        json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "1"},
            "spec": {
                "nodeName": "n1", "serviceAccountName": "sa",
                "imagePullSecrets": [{"name": "pull"}],
                "containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
                    "envFrom": [{"configMapRef": {"name": "from"}}]}],
                "volumes": [
                    {"name": "a", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                    {"name": "b", "persistentVolumeClaim": {"claimName": "claim"}},
                    {"name": "c", "ephemeral": {}},
                ],
            },
        }),
    );
    put(
        &reads,
        "",
        "persistentvolumes",
        json!({
            "metadata": {"name": "pv"},
            "spec": {"claimRef": {"namespace": "d", "name": "claim"},
                "csi": {"nodeStageSecretRef": {"namespace": "vault", "name": "stage"}}},
        }),
    );
    put(
        &reads,
        "storage.k8s.io",
        "volumeattachments",
        json!({
            "metadata": {"name": "va"}, "spec": {"nodeName": "n1"},
        }),
    );
    reads
}

#[test]
fn nodes_read_what_their_pods_refer_to() {
    let node = Node::new(node_world());
    let unrelated = |n: &str| format!("no relationship found between node '{n}' and this object");
    let table: &[(&str, &str, Result<(), String>)] = &[
        ("n1", "get -/secrets d/pull", Ok(())),
        ("n1", "watch -/secrets d/env", Ok(())),
        ("n1", "get -/secrets vault/stage", Ok(())),
        ("n1", "get -/secrets d/other", Err(unrelated("n1"))),
        ("n2", "get -/secrets d/pull", Err(unrelated("n2"))),
        ("n2", "get -/secrets vault/stage", Err(unrelated("n2"))),
        (
            "n1",
            "update -/secrets d/pull",
            Err("can only read resources of this type".into()),
        ),
        (
            "n1",
            "list -/secrets d/-",
            Err("No Object name found".into()),
        ),
        (
            "n1",
            "list -/secrets -/-",
            Err("can only read namespaced object of this type".into()),
        ),
        ("n1", "get -/configmaps d/from", Ok(())),
        ("n1", "get -/configmaps d/kube-root-ca.crt", Ok(())),
        ("n1", "get -/persistentvolumeclaims d/claim", Ok(())),
        ("n1", "get -/persistentvolumeclaims d/p-c", Ok(())),
        ("n1", "get -/persistentvolumes -/pv", Ok(())),
        ("n2", "get -/persistentvolumes -/pv", Err(unrelated("n2"))),
        ("n1", "get storage.k8s.io/volumeattachments -/va", Ok(())),
        (
            "n2",
            "get storage.k8s.io/volumeattachments -/va",
            Err(unrelated("n2")),
        ),
        ("n1", "create -/serviceaccounts/token d/sa", Ok(())),
        (
            "n1",
            "create -/serviceaccounts/token d/other",
            Err(unrelated("n1")),
        ),
        ("n1", "get -/pods d/p", Ok(())),
        ("n2", "get -/pods d/p", Err(unrelated("n2"))),
        ("n1", "list -/pods -/- spec.nodeName=n1", Ok(())),
        (
            "n1",
            "list -/pods -/- spec.nodeName=n2",
            Err("can only list/watch pods with spec.nodeName field selector".into()),
        ),
        ("n1", "update -/pods/status d/p", Ok(())),
        ("n1", "get -/nodes -/n1", Ok(())),
        (
            "n1",
            "get -/nodes -/n2",
            Err("node 'n1' cannot read 'n2', only its own Node object".into()),
        ),
        (
            "n1",
            "list -/nodes -/-",
            Err("node 'n1' cannot read all nodes, only its own Node object".into()),
        ),
        ("n1", "patch -/nodes/status -/n1", Ok(())),
        ("n1", "delete -/nodes -/n1", Err(String::new())),
        (
            "n1",
            "update coordination.k8s.io/leases kube-node-lease/n1",
            Ok(()),
        ),
        (
            "n1",
            "update coordination.k8s.io/leases kube-node-lease/n2",
            Err("can only access node lease with the same name as the requesting node".into()),
        ),
        (
            "n1",
            "get coordination.k8s.io/leases d/n1",
            Err("can only access leases in the \"kube-node-lease\" system namespace".into()),
        ),
        ("n1", "list -/services -/-", Ok(())),
        ("n1", "create -/events d/-", Ok(())),
        ("n1", "list apps/deployments -/-", Err(String::new())),
    ];
    for (name, text, expected) in table {
        let found = match node.decide(&attributes(&node_user(name), text)) {
            Decision::NoOpinion(why) => Err(why),
            _ => Ok(()),
        };
        assert_eq!(&found, expected, "{name} {text}");
    }
}

#[test]
fn node_loses_access_when_the_pod_goes() {
    let reads = node_world();
    let node = Node::new(reads.clone());
    let a = attributes(&node_user("n1"), "get -/secrets d/pull");
    assert!(allowed(&node.decide(&a)));
    reads.memory("", "pods").unwrap().delete("d", "p");
    assert!(!allowed(&node.decide(&a)));
}

#[tokio::test]
async fn union_joins_reasons_with_names() {
    let reads = node_world();
    let union = Authorizers(vec![
        Link::uncounted(Arc::new(crate::masters::Masters)),
        Link::uncounted(Arc::new(Node::new(reads.clone()))),
        Link::uncounted(Arc::new(Rbac::new(reads))),
    ]);
    let d = union
        .authorize(&attributes(&node_user("n2"), "get -/secrets d/pull"))
        .await;
    assert_eq!(
        d,
        Decision::NoOpinion("node: no relationship found between node 'n2' and this object".into())
    );
    let master = User::new("x", &["system:masters"]);
    assert!(allowed(
        &union
            .authorize(&attributes(&master, "get -/secrets d/pull"))
            .await
    ));
}

async fn escalate(user: &User, resource: &'static str, object: Value) -> Result<(), String> {
    let reads = with_bootstrap();
    let group = crate::RBAC_GROUP;
    let editor = json!({"kind": "User", "name": "editor"});
    put(
        &reads,
        group,
        "clusterroles",
        json!({
            "metadata": {"name": "e"},
            "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}],
        }),
    );
    put(
        &reads,
        group,
        "rolebindings",
        role_binding("RoleBinding", "d", "b", "ClusterRole/e", editor),
    );
    let rbac = Arc::new(Rbac::new(reads));
    let check = Escalation::new(rbac.clone(), rbac);
    let d = Descriptor::new(group, "v1", "K", resource, Scope::Namespaced, Plain);
    let attempt = Attempt {
        namespace: "d",
        object: Some(object),
        ..Attempt::new(Operation::Create, &d, user)
    };
    check.validate(&attempt).await.map_err(|e| e.message)
}

#[tokio::test]
async fn nobody_grants_what_he_lacks() {
    let editor = User::new("editor", &["g", "system:authenticated"]);
    let role = |verbs: Value| {
        json!({"metadata": {"name": "r", "namespace": "d"},
            "rules": [{"verbs": verbs, "apiGroups": [""], "resources": ["pods"]}]})
    };
    assert_eq!(
        escalate(&editor, "roles", role(json!(["get"]))).await,
        Ok(())
    );
    assert_eq!(
        escalate(&editor, "roles", role(json!(["get", "create", "delete"]))).await,
        Err("roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"editor\" (groups=[\"g\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"create\" \"delete\"]}".into())
    );
    let bind = |role: &str| {
        role_binding(
            "RoleBinding",
            "d",
            "x",
            role,
            json!({"kind": "User", "name": "y"}),
        )
    };
    assert_eq!(
        escalate(&editor, "rolebindings", bind("ClusterRole/e")).await,
        Ok(())
    );
    let e = escalate(&editor, "rolebindings", bind("ClusterRole/cluster-admin"))
        .await
        .unwrap_err();
    assert!(
        e.starts_with("rolebindings.rbac.authorization.k8s.io \"x\" is forbidden: user \"editor\""),
        "{e}"
    );
    assert!(
        e.contains("{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"),
        "{e}"
    );
    assert_eq!(
        escalate(&editor, "rolebindings", bind("Role/none")).await,
        Err("roles.rbac.authorization.k8s.io \"none\" not found".into())
    );
    let master = User::new("m", &["system:masters"]);
    assert_eq!(
        escalate(&master, "rolebindings", bind("Role/none")).await,
        Ok(())
    );
}
