use super::*;

fn labelled(level: &str) -> World {
    let world = World::new();
    world.put(
        "",
        "namespaces",
        json!({"metadata": {"name": "d", "labels": {"pod-security.kubernetes.io/enforce": level}}}),
    );
    world
}

#[tokio::test]
async fn restricted_lists_everything_in_order() {
    let world = labelled("restricted");
    assert_eq!(
        text(
            &world,
            "PodSecurity",
            Write::create("-/pods", pod(json!({})))
        )
        .await,
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let good = pod(json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }));
    assert_eq!(
        text(&world, "PodSecurity", Write::create("-/pods", good)).await,
        "ok"
    );
}

#[tokio::test]
async fn baseline_checks_have_upstreams_texts() {
    let world = labelled("baseline");
    let one = |context: Value| json!({"containers": [{"name": "a", "securityContext": context}]});
    let table = [
        (json!({}), "ok"),
        (
            json!({"hostNetwork": true, "hostPID": true}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            one(json!({"privileged": true})),
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        ),
        (
            one(json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "NET_ADMIN"]}})),
            "non-default capabilities (container \"a\" must not include \"NET_ADMIN\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            "hostPath volumes (volume \"v\")",
        ),
        (
            json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}]}, {"name": "b", "ports": [{"hostPort": 443}]}]}),
            "hostPort (containers \"a\", \"b\" use hostPorts 443, 80)",
        ),
        (
            one(json!({"procMount": "Unmasked"})),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            one(json!({"seLinuxOptions": {"type": "x", "user": "u"}})),
            "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set)",
        ),
    ];
    for (spec, expected) in table {
        let found = text(&world, "PodSecurity", Write::create("-/pods", pod(spec))).await;
        let found = found.trim_start_matches(
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": ",
        );
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn controllers_only_warn() {
    let world = labelled("baseline");
    let deployment =
        json!({"metadata": {"name": "w"}, "spec": {"template": pod(json!({"hostIPC": true}))}});
    let made = run(
        &world,
        "PodSecurity",
        Write::create("apps/deployments", deployment),
    )
    .await
    .expect("admitted");
    assert_eq!(
        made.warnings,
        ["would violate PodSecurity \"baseline:latest\": host namespaces (hostIPC=true)"]
    );
}

#[tokio::test]
async fn stricter_namespace_warns_of_its_pods() {
    let world = World::new();
    for name in ["a", "b"] {
        let mut p = pod(json!({"hostPID": true}));
        p["metadata"]["name"] = json!(name);
        world.put("", "pods", p);
    }
    let namespace = |labels: Value| json!({"metadata": {"name": "d", "labels": labels}});
    let w = Write::update(
        "-/namespaces",
        namespace(json!({})),
        namespace(json!({"pod-security.kubernetes.io/enforce": "baseline"})),
    );
    let made = run(&world, "PodSecurity", w).await.expect("admitted");
    assert_eq!(
        made.warnings,
        [
            "existing pods in namespace \"d\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 1 other pod): host namespaces",
        ]
    );
}
