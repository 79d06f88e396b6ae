use super::*;

#[tokio::test]
async fn pod_gets_account_token_tolerations_and_priority() {
    let world = World::new();
    world.put("", "serviceaccounts", json!({"metadata": {"name": "default", "namespace": "d"}, "imagePullSecrets": [{"name": "pull"}]}));
    let made = run(&world, "", Write::create("-/pods", pod(json!({}))))
        .await
        .expect("admitted");
    let spec = &made.object["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().expect("a name");
    assert!(
        name.starts_with("kube-api-access-") && name.len() == 21,
        "{name}"
    );
    assert_eq!(
        volume["projected"],
        json!({"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]})
    );
    assert_eq!(
        spec["containers"][0]["volumeMounts"],
        json!([{"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}])
    );
    let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    assert_eq!(
        spec["tolerations"],
        json!([
            toleration("node.kubernetes.io/not-ready"),
            toleration("node.kubernetes.io/unreachable")
        ])
    );
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
}

#[tokio::test]
async fn account_is_looked_up_and_automount_obeyed() {
    let world = World::new();
    let other = pod(json!({"serviceAccountName": "none"}));
    assert_eq!(
        text(&world, "ServiceAccount", Write::create("-/pods", other)).await,
        "pods \"p\" is forbidden: error looking up service account d/none: serviceaccount \"none\" not found"
    );
    let off = pod(json!({"automountServiceAccountToken": false}));
    let made = run(&world, "ServiceAccount", Write::create("-/pods", off))
        .await
        .expect("admitted");
    assert!(made.object["spec"].get("volumes").is_none());
    world.put("", "serviceaccounts", json!({"metadata": {"name": "off", "namespace": "d"}, "automountServiceAccountToken": false}));
    let off = pod(json!({"serviceAccountName": "off"}));
    let made = run(&world, "ServiceAccount", Write::create("-/pods", off))
        .await
        .expect("admitted");
    assert!(made.object["spec"].get("volumes").is_none());
}

#[tokio::test]
async fn mirror_pods_refer_to_nothing() {
    let world = World::new();
    let mirror = |spec: Value| {
        let mut p = pod(spec);
        p["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        p
    };
    for (spec, expected) in [
        (json!({}), "ok"),
        (
            json!({"serviceAccountName": "a"}),
            "pods \"p\" is forbidden: a mirror pod may not reference service accounts",
        ),
        (
            json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}),
            "pods \"p\" is forbidden: a mirror pod may not reference secrets",
        ),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
            "pods \"p\" is forbidden: a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ] {
        assert_eq!(
            text(
                &world,
                "ServiceAccount",
                Write::create("-/pods", mirror(spec))
            )
            .await,
            expected
        );
    }
}

#[tokio::test]
async fn priority_is_that_of_the_class() {
    let world = World::new();
    let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": "Never"});
    world.put(
        "scheduling.k8s.io",
        "priorityclasses",
        class("high", 1000, false),
    );
    let high = pod(json!({"priorityClassName": "high"}));
    let made = run(&world, "Priority", Write::create("-/pods", high))
        .await
        .expect("admitted");
    assert_eq!(made.object["spec"]["priority"], 1000);
    assert_eq!(made.object["spec"]["preemptionPolicy"], "Never");
    for (spec, expected) in [
        (
            json!({"priorityClassName": "x"}),
            "pods \"p\" is forbidden: no PriorityClass with name x was found",
        ),
        (
            json!({"priorityClassName": "high", "priority": 5}),
            "pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name",
        ),
        (
            json!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"}),
            "pods \"p\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name",
        ),
        (json!({"priorityClassName": "system-node-critical"}), "ok"),
    ] {
        assert_eq!(
            text(&world, "Priority", Write::create("-/pods", pod(spec))).await,
            expected
        );
    }
    world.put(
        "scheduling.k8s.io",
        "priorityclasses",
        class("mid", 10, true),
    );
    let made = run(&world, "Priority", Write::create("-/pods", pod(json!({}))))
        .await
        .expect("admitted");
    assert_eq!(made.object["spec"]["priorityClassName"], "mid");
    let second = Write::create("scheduling.k8s.io/priorityclasses", class("z", 1, true));
    assert_eq!(
        text(&world, "Priority", second).await,
        "priorityclasses.scheduling.k8s.io \"z\" is forbidden: PriorityClass mid is already marked as default. Only one default can exist"
    );
}

#[tokio::test]
async fn limit_ranges_default_and_bound() {
    let world = World::new();
    world.put("", "limitranges", json!({"metadata": {"name": "l", "namespace": "d"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"},
         "max": {"cpu": "2"}, "min": {"cpu": "50m"}, "maxLimitRequestRatio": {"cpu": "5"}}]}}));
    let made = run(
        &world,
        "LimitRanger",
        Write::create("-/pods", pod(json!({}))),
    )
    .await
    .expect("admitted");
    assert_eq!(
        made.object["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "1Gi"}})
    );
    assert_eq!(
        made.object["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu, memory limit for container c"
    );
    let with = |requests: &str, limits: &str| {
        pod(
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": requests}, "limits": {"cpu": limits}}}]}),
        )
    };
    for (object, expected) in [
        (with("1", "2"), "ok"),
        (
            with("1", "3"),
            "pods \"p\" is forbidden: maximum cpu usage per Container is 2, but limit is 3",
        ),
        (
            with("10m", "40m"),
            "pods \"p\" is forbidden: minimum cpu usage per Container is 50m, but request is 10m",
        ),
        (
            with("100m", "2"),
            "pods \"p\" is forbidden: cpu max limit to request ratio per Container is 5, but provided ratio is 20.000000",
        ),
    ] {
        assert_eq!(
            text(&world, "LimitRanger", Write::create("-/pods", object)).await,
            expected
        );
    }
}

#[tokio::test]
async fn runtime_class_sets_overhead_and_placement() {
    let world = World::new();
    world.put("node.k8s.io", "runtimeclasses", json!({"metadata": {"name": "r"}, "handler": "h",
        "overhead": {"podFixed": {"cpu": "10m"}}, "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k"}]}}));
    let made = run(
        &world,
        "RuntimeClass",
        Write::create("-/pods", pod(json!({"runtimeClassName": "r"}))),
    )
    .await
    .expect("admitted");
    assert_eq!(made.object["spec"]["overhead"], json!({"cpu": "10m"}));
    assert_eq!(made.object["spec"]["nodeSelector"], json!({"a": "b"}));
    assert_eq!(made.object["spec"]["tolerations"], json!([{"key": "k"}]));
    for (spec, expected) in [
        (
            json!({"runtimeClassName": "x"}),
            "pods \"p\" is forbidden: pod rejected: RuntimeClass \"x\" not found",
        ),
        (
            json!({"runtimeClassName": "r", "overhead": {"cpu": "0.01"}}),
            "ok",
        ),
        (
            json!({"runtimeClassName": "r", "overhead": {"cpu": "1"}}),
            "pods \"p\" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            "pods \"p\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"runtimeClassName": "r", "nodeSelector": {"a": "c"}}),
            "pods \"p\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = c",
        ),
    ] {
        assert_eq!(
            text(&world, "RuntimeClass", Write::create("-/pods", pod(spec))).await,
            expected
        );
    }
}

#[tokio::test]
async fn claims_get_class_and_finalizer() {
    let world = World::new();
    for (name, created) in [
        ("old", "2020-01-01T00:00:00Z"),
        ("new", "2024-01-01T00:00:00Z"),
    ] {
        world.put(
            "storage.k8s.io",
            "storageclasses",
            json!({"metadata": {"name": name, "creationTimestamp": created,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}),
        );
    }
    let claim = json!({"metadata": {"name": "c"}, "spec": {}});
    let made = run(&world, "", Write::create("-/persistentvolumeclaims", claim))
        .await
        .expect("admitted");
    assert_eq!(made.object["spec"]["storageClassName"], "new");
    assert_eq!(
        made.object["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    let sized = |size: &str, phase: &str| json!({"metadata": {"name": "x"}, "spec": {"storageClassName": "new", "resources": {"requests": {"storage": size}}}, "status": {"phase": phase}});
    let grow = |phase| {
        Write::update(
            "-/persistentvolumeclaims",
            sized("1Gi", phase),
            sized("2Gi", phase),
        )
    };
    assert_eq!(
        text(&world, "PersistentVolumeClaimResize", grow("Pending")).await,
        "persistentvolumeclaims \"x\" is forbidden: Only bound persistent volume claims can be expanded"
    );
    assert_eq!(
        text(&world, "PersistentVolumeClaimResize", grow("Bound")).await,
        "persistentvolumeclaims \"x\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    );
}

#[tokio::test]
async fn resize_must_fit_the_node_and_its_kubelet() {
    let world = World::new();
    world.put("", "nodes", json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1", "memory": "1Gi"}}}));
    let sized = |generation: i64, cpu: &str, whole: Option<&str>| {
        let mut p = pod(
            json!({"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}),
        );
        p["metadata"]["generation"] = json!(generation);
        if let Some(cpu) = whole {
            p["spec"]["resources"] = json!({"requests": {"cpu": cpu}});
        }
        p
    };
    let resize = |after: Value| Write::update("-/pods/resize", sized(1, "500m", None), after);
    assert_eq!(
        text(&world, "PodResizeValidator", resize(sized(2, "1", None))).await,
        "ok"
    );
    assert_eq!(
        text(&world, "PodResizeValidator", resize(sized(1, "3", None))).await,
        "ok"
    );
    assert_eq!(
        text(
            &world,
            "PodResizeValidator",
            resize(sized(2, "1500m", None))
        )
        .await,
        "pods \"x\" is forbidden: node didn't have enough allocatable resources: cpu, requested: 1500, allocatable: 1000"
    );
    assert_eq!(
        text(
            &world,
            "NodeDeclaredFeatureValidator",
            resize(sized(2, "500m", Some("600m")))
        )
        .await,
        "pods \"x\" is forbidden: pod update requires features InPlacePodLevelResourcesVerticalScaling which are not available on node \"n\""
    );
}

#[tokio::test]
async fn topology_labels_come_from_the_node() {
    let world = World::new();
    world.put("", "nodes", json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z", "other": "o"}}}));
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let made = run(
        &world,
        "PodTopologyLabels",
        Write::create("-/pods/binding", binding),
    )
    .await
    .expect("admitted");
    assert_eq!(
        made.object["metadata"]["labels"],
        json!({"topology.kubernetes.io/zone": "z"})
    );
}

#[tokio::test]
async fn certificates_need_leave_of_the_signer() {
    let world = World::new();
    let object = json!({"metadata": {"name": "x"}, "spec": {"signerName": "a.b/c"}});
    let mut signed = object.clone();
    signed["status"] = json!({"certificate": "x"});
    let csr = "certificates.k8s.io/certificatesigningrequests";
    let approve = Write::update(
        "certificates.k8s.io/certificatesigningrequests/approval",
        object.clone(),
        object.clone(),
    );
    assert_eq!(
        text(&world, "CertificateApproval", approve).await,
        "certificatesigningrequests.certificates.k8s.io \"x\" is forbidden: user not permitted to approve requests with signerName \"a.b/c\""
    );
    let sign = Write::update(
        "certificates.k8s.io/certificatesigningrequests/status",
        object.clone(),
        signed,
    );
    assert_eq!(
        text(&world, "CertificateSigning", sign).await,
        "certificatesigningrequests.certificates.k8s.io \"x\" is forbidden: user not permitted to sign requests with signerName \"a.b/c\""
    );
    let client = json!({"metadata": {"name": "x"}, "spec": {"signerName": "kubernetes.io/kube-apiserver-client", "request": "bm8="}});
    let found = text(
        &world,
        "CertificateSubjectRestriction",
        Write::create(csr, client),
    )
    .await;
    assert!(found.contains("failed to parse CSR: "), "{found}");
}
