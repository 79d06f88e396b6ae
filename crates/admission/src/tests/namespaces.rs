use super::*;

#[tokio::test]
async fn nothing_new_where_there_is_no_namespace_or_it_goes() {
    let world = World::new();
    let create = |namespace| Write {
        namespace,
        ..Write::create("-/configmaps", json!({"metadata": {"name": "c"}}))
    };
    let plugin = "NamespaceLifecycle";
    assert_eq!(text(&world, plugin, create("d")).await, "ok");
    assert_eq!(
        text(&world, plugin, create("none")).await,
        "namespaces \"none\" not found"
    );
    world.put(
        "",
        "namespaces",
        json!({"metadata": {"name": "going"}, "status": {"phase": "Terminating"}}),
    );
    let e = run(&world, plugin, create("going"))
        .await
        .err()
        .expect("a refusal");
    assert_eq!(
        e.message,
        "configmaps \"c\" is forbidden: unable to create new content in namespace going because it is being terminated"
    );
    let cause = &e.details.expect("details").causes[0];
    assert_eq!(cause.reason, "NamespaceTerminating");
    assert_eq!(cause.message, "namespace going is being terminated");
    assert_eq!(cause.field, "metadata.namespace");
}

#[tokio::test]
async fn system_namespaces_stay() {
    let world = World::new();
    for (name, expected) in [
        (
            "default",
            "namespaces \"default\" is forbidden: this namespace may not be deleted",
        ),
        (
            "kube-system",
            "namespaces \"kube-system\" is forbidden: this namespace may not be deleted",
        ),
        ("kube-node-lease", "ok"),
    ] {
        let delete = Write {
            operation: Operation::Delete,
            object: None,
            name,
            ..Write::create("-/namespaces", Value::Null)
        };
        assert_eq!(text(&world, "NamespaceLifecycle", delete).await, expected);
    }
}

#[tokio::test]
async fn labels_of_pod_security_are_checked() {
    let world = World::new();
    let namespace = |level: &str| json!({"metadata": {"name": "x", "labels": {"pod-security.kubernetes.io/enforce": level}}});
    assert_eq!(
        text(
            &world,
            "PodSecurity",
            Write::create("-/namespaces", namespace("baseline"))
        )
        .await,
        "ok"
    );
    let bad = "Namespace \"x\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted";
    assert_eq!(
        text(
            &world,
            "PodSecurity",
            Write::create("-/namespaces", namespace("strict"))
        )
        .await,
        bad
    );
    let same = Write::update("-/namespaces", namespace("strict"), namespace("strict"));
    assert_eq!(text(&world, "PodSecurity", same).await, "ok");
}
