//! The "API operations" of the conformance suite, for every kind that only needs the API: discovery,
//! generateName, lists and watches by label, the four patches, status, deletecollection.

use serde_json::{Value, json};

use crate::env::{Env, Reply};

/// One kind under test.
struct Kind {
    /// `<group>/<version>` and plural.
    at: (&'static str, &'static str),
    kind: &'static str,
    namespaced: bool,
    /// All but metadata, apiVersion and kind.
    object: Value,
    /// A merge patch that changes more than metadata; null where nothing else may change.
    change: Value,
    /// A merge patch of `/status`, where there is one.
    status: Value,
    /// Whether `/status` lets annotations through.
    status_notes: bool,
    /// Whether the server itself soon writes conditions: what is made settles first.
    settles: bool,
}

fn kind(
    at: (&'static str, &'static str),
    kind: &'static str,
    namespaced: bool,
    object: Value,
) -> Kind {
    Kind {
        at,
        kind,
        namespaced,
        object,
        change: Value::Null,
        status: Value::Null,
        status_notes: true,
        settles: false,
    }
}

impl Kind {
    fn settles(self) -> Self {
        Self {
            settles: true,
            ..self
        }
    }

    fn change(self, change: Value) -> Self {
        Self { change, ..self }
    }

    fn status(self, status: Value) -> Self {
        Self { status, ..self }
    }

    fn strict_status(self, status: Value) -> Self {
        Self {
            status,
            status_notes: false,
            ..self
        }
    }

    fn path(&self) -> String {
        let (gv, plural) = self.at;
        if self.namespaced {
            format!("/apis/{gv}/namespaces/default/{plural}")
        } else {
            format!("/apis/{gv}/{plural}")
        }
    }

    fn object(&self) -> Value {
        let mut o = self.object.clone();
        o["apiVersion"] = json!(self.at.0);
        o["kind"] = json!(self.kind);
        o["metadata"] = json!({"generateName": "e2e-", "labels": {"special-label": "x"}});
        o
    }
}

fn pod() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]}})
}

fn running() -> Value {
    let mut pod = pod();
    pod["spec"]["restartPolicy"] = json!("Always");
    pod
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "False", "reason": "e2e", "message": "Set from an e2e test", "lastTransitionTime": "2024-01-01T00:00:00Z"})
}

fn conditions() -> Value {
    json!({"status": {"conditions": [condition("PatchStatusFailed")]}})
}

fn workloads() -> Vec<Kind> {
    let selector = json!({"matchLabels": {"a": "b"}});
    let scaled = || json!({"spec": {"replicas": 2}});
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    vec![
        kind(
            ("apps/v1", "deployments"),
            "Deployment",
            true,
            json!({"spec": {"selector": selector, "template": running()}}),
        )
        .change(scaled())
        .status(json!({"status": {"replicas": 1}})),
        kind(
            ("apps/v1", "replicasets"),
            "ReplicaSet",
            true,
            json!({"spec": {"selector": selector, "template": running()}}),
        )
        .change(scaled())
        .status(json!({"status": {"replicas": 1}})),
        kind(
            ("apps/v1", "statefulsets"),
            "StatefulSet",
            true,
            json!({"spec": {"selector": selector, "serviceName": "s", "template": running()}}),
        )
        .change(scaled())
        .status(json!({"status": {"replicas": 1}})),
        kind(
            ("apps/v1", "daemonsets"),
            "DaemonSet",
            true,
            json!({"spec": {"selector": selector, "template": running()}}),
        )
        .change(json!({"spec": {"minReadySeconds": 1}}))
        .status(json!({"status": {"numberReady": 1}})),
        kind(
            ("batch/v1", "jobs"),
            "Job",
            true,
            json!({"spec": {"suspend": true, "template": pod()}}),
        )
        .change(json!({"spec": {"parallelism": 2}}))
        .status(json!({"status": {"startTime": "2024-01-01T00:00:00Z"}})),
        kind(
            ("batch/v1", "cronjobs"),
            "CronJob",
            true,
            json!({"spec": {"schedule": "* */1 * * ?", "jobTemplate": {"spec": {"template": pod()}}}}),
        )
        .change(json!({"spec": {"suspend": true}}))
        .status(json!({"status": {"lastScheduleTime": "2024-01-01T00:00:00Z"}})),
        kind(
            ("policy/v1", "poddisruptionbudgets"),
            "PodDisruptionBudget",
            true,
            json!({"spec": {"minAvailable": "1%", "selector": selector}}),
        )
        .change(json!({"spec": {"minAvailable": "2%"}}))
        .status(json!({"status": {"disruptionsAllowed": 1}})),
        kind(
            ("autoscaling/v2", "horizontalpodautoscalers"),
            "HorizontalPodAutoscaler",
            true,
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": target}}),
        )
        .change(json!({"spec": {"maxReplicas": 4}}))
        .status(json!({"status": {"desiredReplicas": 1}})),
        kind(
            ("autoscaling/v1", "horizontalpodautoscalers"),
            "HorizontalPodAutoscaler",
            true,
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": target}}),
        )
        .change(json!({"spec": {"targetCPUUtilizationPercentage": 50}}))
        .status(json!({"status": {"desiredReplicas": 1}})),
    ]
}

fn network() -> Vec<Kind> {
    let backend = |name: &str| json!({"service": {"name": name, "port": {"number": 8080}}});
    let path = json!({"path": "/", "pathType": "ImplementationSpecific", "backend": backend("test-backend")});
    vec![
        kind(
            ("networking.k8s.io/v1", "ingresses"),
            "Ingress",
            true,
            json!({"spec": {"defaultBackend": backend("default-backend"), "rules": [{"host": "host1.bar.com", "http": {"paths": [path]}}]}}),
        )
        .status(json!({"status": {"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}}})),
        kind(
            ("networking.k8s.io/v1", "ingressclasses"),
            "IngressClass",
            false,
            json!({"spec": {"controller": "example.com/controller"}}),
        ),
        kind(
            ("networking.k8s.io/v1", "networkpolicies"),
            "NetworkPolicy",
            true,
            json!({"spec": {"podSelector": {}}}),
        )
        .change(json!({"spec": {"policyTypes": ["Egress"]}})),
        kind(
            ("networking.k8s.io/v1", "servicecidrs"),
            "ServiceCIDR",
            false,
            json!({"spec": {"cidrs": ["10.0.0.0/24"]}}),
        )
        .strict_status(conditions()),
        kind(
            ("discovery.k8s.io/v1", "endpointslices"),
            "EndpointSlice",
            true,
            json!({"addressType": "IPv4", "endpoints": []}),
        ),
    ]
}

fn cluster() -> Vec<Kind> {
    let subject = json!({"kind": "User", "user": {"name": "nobody"}});
    let all = json!({"verbs": ["*"], "nonResourceURLs": ["*"]});
    // As the server writes it, which leaves the status alone then; nobody makes the suggested levels here.
    let dangling = json!({"type": "Dangling", "status": "True", "reason": "NotFound",
        "message": "This FlowSchema references the PriorityLevelConfiguration object named \"global-default\" but there is no such object"});
    vec![
        kind(
            ("node.k8s.io/v1", "runtimeclasses"),
            "RuntimeClass",
            false,
            json!({"handler": "h"}),
        ),
        kind(
            ("scheduling.k8s.io/v1", "priorityclasses"),
            "PriorityClass",
            false,
            json!({"value": 1}),
        )
        .change(json!({"description": "d"})),
        kind(
            ("flowcontrol.apiserver.k8s.io/v1", "flowschemas"),
            "FlowSchema",
            false,
            json!({"spec": {"matchingPrecedence": 10000, "priorityLevelConfiguration": {"name": "global-default"},
                "distinguisherMethod": {"type": "ByUser"}, "rules": [{"subjects": [subject], "nonResourceRules": [all]}]}}),
        )
        .change(json!({"spec": {"matchingPrecedence": 9999}}))
        .strict_status(json!({"status": {"conditions": [condition("PatchStatusFailed"), dangling]}}))
        .settles(),
        kind(
            (
                "flowcontrol.apiserver.k8s.io/v1",
                "prioritylevelconfigurations",
            ),
            "PriorityLevelConfiguration",
            false,
            json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}}),
        )
        .change(json!({"spec": {"limited": {"nominalConcurrencyShares": 4}}}))
        .strict_status(conditions()),
        kind(
            ("storage.k8s.io/v1", "storageclasses"),
            "StorageClass",
            false,
            json!({"provisioner": "a.b/c"}),
        )
        .change(json!({"allowVolumeExpansion": true})),
        kind(
            ("storage.k8s.io/v1", "volumeattributesclasses"),
            "VolumeAttributesClass",
            false,
            json!({"driverName": "a.b", "parameters": {"a": "b"}}),
        ),
        kind(
            ("storage.k8s.io/v1", "csinodes"),
            "CSINode",
            false,
            json!({"spec": {"drivers": []}}),
        ),
        kind(
            ("storage.k8s.io/v1", "csidrivers"),
            "CSIDriver",
            false,
            json!({"spec": {}}),
        )
        .change(json!({"spec": {"requiresRepublish": true}})),
        kind(
            ("storage.k8s.io/v1", "csistoragecapacities"),
            "CSIStorageCapacity",
            true,
            json!({"storageClassName": "e2e.example.com"}),
        )
        .change(json!({"capacity": "1Gi"})),
        kind(
            ("storage.k8s.io/v1", "volumeattachments"),
            "VolumeAttachment",
            false,
            json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
        )
        .strict_status(json!({"status": {"attached": true}})),
        kind(
            (
                "storagemigration.k8s.io/v1",
                "storageversionmigrations",
            ),
            "StorageVersionMigration",
            false,
            json!({"spec": {"resource": {"group": "", "resource": "foo"}}}),
        )
        .strict_status(conditions()),
    ]
}

fn admission() -> Vec<Kind> {
    let rule = json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]});
    let constraints = json!({"resourceRules": [rule]});
    let group = "admissionregistration.k8s.io/v1";
    let hook = json!({"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "n", "name": "s"}}, "rules": [rule]});
    let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 100}}"}});
    vec![
        kind(
            (group, "mutatingadmissionpolicies"),
            "MutatingAdmissionPolicy",
            false,
            json!({"spec": {"reinvocationPolicy": "Never", "mutations": [mutation], "matchConstraints": constraints}}),
        )
        .change(json!({"spec": {"reinvocationPolicy": "IfNeeded"}})),
        kind(
            (group, "mutatingadmissionpolicybindings"),
            "MutatingAdmissionPolicyBinding",
            false,
            json!({"spec": {"policyName": "replicalimit-policy.example.com"}}),
        )
        .change(json!({"spec": {"policyName": "new-policy.example.com"}})),
        kind(
            (group, "validatingadmissionpolicies"),
            "ValidatingAdmissionPolicy",
            false,
            json!({"spec": {"validations": [{"expression": "object.spec.replicas <= 100"}], "matchConstraints": constraints}}),
        )
        .change(json!({"spec": {"failurePolicy": "Ignore"}}))
        .strict_status(conditions()),
        kind(
            (group, "validatingadmissionpolicybindings"),
            "ValidatingAdmissionPolicyBinding",
            false,
            json!({"spec": {"policyName": "replicalimit-policy.example.com", "validationActions": ["Deny"]}}),
        )
        .change(json!({"spec": {"validationActions": ["Warn"]}})),
        kind(
            (group, "validatingwebhookconfigurations"),
            "ValidatingWebhookConfiguration",
            false,
            json!({"webhooks": [hook]}),
        ),
        kind(
            (group, "mutatingwebhookconfigurations"),
            "MutatingWebhookConfiguration",
            false,
            json!({"webhooks": [hook]}),
        ),
    ]
}

fn devices() -> Vec<Kind> {
    let group = "resource.k8s.io/v1";
    let requests =
        json!({"requests": [{"name": "req-0", "exactly": {"deviceClassName": "dra.example.com"}}]});
    vec![
        kind(
            (group, "deviceclasses"),
            "DeviceClass",
            false,
            json!({"spec": {"selectors": [{"cel": {"expression": "false"}}]}}),
        )
        .change(json!({"spec": {"selectors": [{"cel": {"expression": "1 == 0"}}]}})),
        kind(
            (group, "devicetaintrules"),
            "DeviceTaintRule",
            false,
            json!({"spec": {"taint": {"key": "testing", "effect": "None"}}}),
        )
        .change(json!({"spec": {"taint": {"effect": "NoExecute"}}}))
        .strict_status(conditions()),
        kind(
            (group, "resourceclaims"),
            "ResourceClaim",
            true,
            json!({"spec": {"devices": requests}}),
        )
        .strict_status(json!({"status": {"allocation": {"devices": {}}}})),
        kind(
            (group, "resourceclaimtemplates"),
            "ResourceClaimTemplate",
            true,
            json!({"spec": {"spec": {"devices": requests}}}),
        ),
        kind(
            (group, "resourceslices"),
            "ResourceSlice",
            false,
            json!({"spec": {"driver": "dra.example.com", "pool": {"name": "cluster", "generation": 1, "resourceSliceCount": 1}, "nodeName": "no-such-node"}}),
        )
        .change(json!({"spec": {"devices": [{"name": "device-0"}]}})),
    ]
}

fn is(reply: &Reply, code: u16, what: &str) -> Value {
    assert_eq!(
        reply.code,
        code,
        "{what}: {}",
        String::from_utf8_lossy(&reply.body)
    );
    reply.json()
}

fn version(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.and_then(|t| t.parse().ok()).expect("a version")
}

/// Whether an answer holds what a merge patch asked for.
fn holds(object: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(map) => map.iter().all(|(k, v)| holds(&object[k], v)),
        // Beside what a controller wrote.
        Value::Array(all) => (object.as_array())
            .is_some_and(|has| all.iter().all(|v| has.iter().any(|o| holds(o, v)))),
        other => object == other,
    }
}

async fn exercise(env: &Env, k: &Kind) {
    let (gv, plural) = k.at;
    let what = format!("{gv} {plural}");
    let found = is(&env.get(&format!("/apis/{gv}")).await, 200, &what);
    let names: Vec<&str> = found["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&plural), "{what}: {names:?}");
    let collection = k.path();
    let selected = format!("{collection}?labelSelector=special-label%3Dx");
    let mut made = Value::Null;
    for _ in 0..3 {
        let strict = format!("{collection}?fieldValidation=Strict");
        made = is(&env.post(&strict, &k.object()).await, 201, &what);
    }
    let one = format!(
        "{collection}/{}",
        made["metadata"]["name"].as_str().unwrap()
    );
    if k.settles {
        let written = |o: &Value| o["status"]["conditions"].is_array();
        let all = |r: &Reply| r.json()["items"].as_array().unwrap().iter().all(written);
        env.until(&selected, all).await;
        made = is(&env.get(&one).await, 200, &what);
    }
    let got = is(&env.get(&one).await, 200, &what);
    assert_eq!(got, made, "{what}: what was answered is what is stored");
    let list = is(&env.get(&selected).await, 200, &what);
    assert_eq!(list["items"].as_array().unwrap().len(), 3, "{what}");
    patches(env, k, &one, &what).await;
    let seen = env
        .watch(
            &format!("{selected}&watch=1&resourceVersion={}", version(&list)),
            |e| {
                !e.is_empty()
                    && e[e.len() - 1]["object"]["metadata"]["annotations"]["patched"] == "true"
            },
        )
        .await;
    assert!(seen.iter().all(|e| e["type"] == "MODIFIED"), "{what}");
    assert!(seen.iter().all(|e| e["object"]["kind"] == k.kind), "{what}");
    if !k.status.is_null() {
        status(env, k, &one, &what).await;
    }
    let gone = is(&env.delete(&one).await, 200, &what);
    if gone["kind"] == "Status" {
        assert_eq!(gone["status"], "Success", "{what}");
    }
    removed(env, &one, &selected, &what).await;
}

/// The four patches and a PUT; each must change something.
async fn patches(env: &Env, k: &Kind, one: &str, what: &str) {
    let before = is(&env.get(one).await, 200, what);
    let mut patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    if let Some(map) = k.change.as_object() {
        for (key, value) in map {
            patch[key] = value.clone();
        }
    }
    let merged = is(&env.patch(one, "merge", &patch).await, 200, what);
    assert!(holds(&merged, &patch), "{what}: {merged}");
    assert!(version(&merged) > version(&before), "{what}");
    let updated = |o: &mut Value| o["metadata"]["annotations"]["updated"] = json!("true");
    let put = updated_as(env, k, (one, &merged), updated, what).await;
    assert_eq!(put["metadata"]["annotations"]["updated"], "true", "{what}");
    let note = |v: &str| json!({"metadata": {"annotations": {"how": v}}});
    let strategic = env.patch(one, "strategic-merge", &note("strategic")).await;
    is(&strategic, 200, what);
    let operation = json!([{"op": "add", "path": "/metadata/annotations/how", "value": "json"}]);
    is(&env.patch(one, "json", &operation).await, 200, what);
    let mut applied = note("apply");
    applied["apiVersion"] = json!(k.at.0);
    applied["kind"] = json!(k.kind);
    applied["metadata"]["name"] = before["metadata"]["name"].clone();
    let path = format!("{one}?fieldManager=test-apply&force=true&fieldValidation=Strict");
    let applied = is(&env.patch(&path, "apply", &applied).await, 200, what);
    assert_eq!(applied["metadata"]["annotations"]["how"], "apply", "{what}");
}

/// What a PUT of a changed object answers. Where a controller writes conditions, one that comes between is a conflict, and
/// the update is done anew on what is stored, as clients do.
async fn updated_as(
    env: &Env,
    k: &Kind,
    (path, object): (&str, &Value),
    change: impl Fn(&mut Value),
    what: &str,
) -> Value {
    let mut object = object.clone();
    for _ in 0..5 {
        change(&mut object);
        let reply = env.put(path, &object).await;
        if reply.code != 409 || !k.settles {
            return is(&reply, 200, what);
        }
        object = is(&env.get(path).await, 200, what);
    }
    panic!("{what}: a conflict each time");
}

async fn status(env: &Env, k: &Kind, one: &str, what: &str) {
    let path = format!("{one}/status");
    let shown = is(&env.get(&path).await, 200, what);
    assert_eq!(
        (&shown["kind"], &shown["apiVersion"]),
        (&json!(k.kind), &json!(k.at.0))
    );
    assert!(shown["status"].is_object(), "{what}: {shown}");
    let mut patch = k.status.clone();
    patch["metadata"] = json!({"annotations": {"patchedstatus": "true"}});
    let changed = is(&env.patch(&path, "merge", &patch).await, 200, what);
    assert!(holds(&changed, &k.status), "{what}: {changed}");
    let noted = changed["metadata"]["annotations"]["patchedstatus"] == "true";
    assert_eq!(noted, k.status_notes, "{what}");
    assert_eq!(changed["spec"], shown["spec"], "{what}");
    let again = |o: &mut Value| o["status"] = changed["status"].clone();
    let put = updated_as(env, k, (&path, &changed), again, what).await;
    assert!(holds(&put, &k.status), "{what}");
    // The main resource leaves the status alone.
    let none = |o: &mut Value| o["status"] = json!({});
    let main = updated_as(env, k, (one, &put), none, what).await;
    assert!(holds(&main, &k.status), "{what}: {main}");
}

/// The deleted object is gone, or held by a finalizer; then the others go by their label.
async fn removed(env: &Env, one: &str, selected: &str, what: &str) {
    let held = |o: &Value| {
        o["metadata"]["deletionTimestamp"].is_string()
            && o["metadata"]["finalizers"]
                .as_array()
                .is_some_and(|f| !f.is_empty())
    };
    let reply = env.get(one).await;
    assert!(
        reply.code == 404 || held(&reply.json()),
        "{what}: {reply:?}"
    );
    let reply = env.delete(selected).await;
    is(&reply, 200, what);
    let left = is(&env.get(selected).await, 200, what);
    let left = left["items"].as_array().unwrap();
    assert!(left.iter().all(held), "{what}: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_takes_the_whole_set_of_operations() {
    let env = Env::start().await;
    for all in [workloads(), network(), cluster(), admission(), devices()] {
        for k in &all {
            exercise(&env, k).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_names_and_the_same_name_is_taken_once() {
    let env = Env::start().await;
    let path = "/apis/networking.k8s.io/v1/ipaddresses";
    let address = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"parentRef":
            {"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"}}})
    };
    for name in ["255.255.255.255", "fe80::42:1dff:fe84:f9e2"] {
        assert_eq!(env.post(path, &address(name)).await.code, 201, "{name}");
        let again = env.post(path, &address(name)).await;
        assert_eq!(
            (again.code, again.json()["reason"].clone()),
            (409, json!("AlreadyExists"))
        );
        let note = json!({"metadata": {"annotations": {"patched": "true"}}});
        let one = format!("{path}/{name}");
        assert_eq!(env.patch(&one, "merge", &note).await.code, 200, "{name}");
        assert_eq!(env.delete(&one).await.code, 200, "{name}");
    }
    let bad = env.post(path, &address("010.0.0.1")).await;
    assert_eq!(bad.code, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_is_one_object_in_both_versions() {
    let env = Env::start().await;
    let path =
        |v: &str| format!("/apis/autoscaling/{v}/namespaces/default/horizontalpodautoscalers");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let v1 = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50}});
    is(&env.post(&path("v1"), &v1).await, 201, "v1");
    let one = |v: &str| format!("{}/h", path(v));
    let v2 = is(&env.get(&one("v2")).await, 200, "v2");
    assert_eq!(v2["apiVersion"], "autoscaling/v2");
    assert_eq!(
        v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        50
    );
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    let patch = json!({"spec": {"metrics": [memory]}});
    is(&env.patch(&one("v2"), "merge", &patch).await, 200, "v2");
    let v1 = is(&env.get(&one("v1")).await, 200, "v1");
    assert_eq!(v1["apiVersion"], "autoscaling/v1");
    assert!(v1["spec"].get("targetCPUUtilizationPercentage").is_none());
    assert!(
        v1["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"]
            .as_str()
            .is_some_and(|t| t.contains("memory"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_one_object_in_both_groups() {
    let env = Env::start().await;
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({"metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "test-controller",
        "reportingInstance": "test-node", "action": "Do", "reason": "Test", "type": "Normal", "note": "a note",
        "regarding": {"namespace": "default", "kind": "Pod", "name": "p"}});
    is(&env.post(path, &event).await, 201, "new");
    let old = is(
        &env.get("/api/v1/namespaces/default/events/e").await,
        200,
        "old",
    );
    assert_eq!(
        (&old["apiVersion"], &old["message"]),
        (&json!("v1"), &json!("a note"))
    );
    for (selector, count) in [
        ("reportingController%3Dtest-controller", 1),
        ("regarding.name%3Dp", 1),
        ("regarding.name%3Dq", 0),
    ] {
        let list = is(
            &env.get(&format!("{path}?fieldSelector={selector}")).await,
            200,
            selector,
        );
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{selector}");
    }
    let series =
        json!({"series": {"count": 100, "lastObservedTime": "2026-01-01T00:00:05.000000Z"}});
    let new = is(
        &env.patch(&format!("{path}/e"), "strategic-merge", &series)
            .await,
        200,
        "patch",
    );
    assert_eq!(new["series"]["count"], 100);
    let bad = env.post(path, &json!({"metadata": {"name": "f"}})).await;
    assert_eq!(bad.code, 422, "{bad:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_certificates_are_approved_and_signed_by_their_own_ways() {
    let env = Env::start().await;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["e2e.example.com".into()]).unwrap();
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let encode = |text: &str| {
        use base64::Engine;
        base64::prelude::BASE64_STANDARD.encode(text)
    };
    let csr = json!({"metadata": {"name": "c"}, "spec": {"request": encode(&request), "signerName": "example.com/e2e",
        "expirationSeconds": 3600, "usages": ["digital signature", "key encipherment", "server auth"]}});
    let made = is(&env.post(path, &csr).await, 201, "create");
    assert_eq!(made["spec"]["username"], "test");
    let list = format!("{path}?fieldSelector=spec.signerName%3Dexample.com%2Fe2e");
    let found = is(&env.get(&list).await, 200, "list");
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let one = format!("{path}/c");
    let patch = json!({"metadata": {"annotations": {"patchedapproval": "true"}},
        "status": {"conditions": [{"type": "ApprovalPatch", "status": "True", "reason": "e2e"}]}});
    let approval = format!("{one}/approval");
    let mut shown = is(
        &env.patch(&approval, "merge", &patch).await,
        200,
        "approval",
    );
    assert_eq!(shown["metadata"]["annotations"]["patchedapproval"], "true");
    let all = shown["status"]["conditions"].as_array_mut().unwrap();
    assert_eq!(all.len(), 1);
    all.push(json!({"type": "Approved", "status": "True", "reason": "E2E", "message": "ok"}));
    let shown = is(&env.put(&approval, &shown).await, 200, "approve");
    assert_eq!(shown["status"]["conditions"][1]["type"], "Approved");
    let certificate = params.self_signed(&key).unwrap().pem();
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"certificate": encode(&certificate)}});
    let status = format!("{one}/status");
    let mut shown = is(&env.patch(&status, "merge", &patch).await, 200, "status");
    assert_eq!(shown["status"]["certificate"], encode(&certificate));
    assert_eq!(shown["metadata"]["annotations"]["patchedstatus"], "true");
    let all = shown["status"]["conditions"].as_array_mut().unwrap();
    all.push(json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "set"}));
    let shown = is(&env.put(&status, &shown).await, 200, "status");
    assert_eq!(shown["status"]["conditions"].as_array().unwrap().len(), 3);
    // Nothing of this goes through the main resource.
    let mut main = shown.clone();
    main["status"] = json!({});
    main["spec"]["signerName"] = json!("example.com/other");
    let kept = is(&env.put(&one, &main).await, 200, "main");
    assert_eq!(
        (&kept["spec"], &kept["status"]),
        (&shown["spec"], &shown["status"])
    );
    let bundle = json!({"metadata": {"name": "b"}, "spec": {"trustBundle": env.pki.ca.pem()}});
    let path = "/apis/certificates.k8s.io/v1/clustertrustbundles";
    is(&env.post(path, &bundle).await, 201, "bundle");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_keep_their_pods_unless_asked_otherwise() {
    let env = Env::start().await;
    let path = "/apis/batch/v1/namespaces/default/jobs";
    let job = |name: &str| json!({"metadata": {"name": name}, "spec": {"template": pod()}});
    is(&env.post(path, &job("a")).await, 201, "create");
    let reply = env.delete(&format!("{path}/a")).await;
    let marked = is(&reply, 200, "delete");
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
    let warning = reply.headers.get("warning").unwrap().to_str().unwrap();
    assert!(
        warning.contains("child pods are preserved by default when jobs are deleted"),
        "{warning}"
    );
    is(&env.post(path, &job("b")).await, 201, "create");
    let reply = env
        .delete(&format!("{path}/b?propagationPolicy=Background"))
        .await;
    is(&reply, 200, "delete");
    assert!(reply.headers.get("warning").is_none());
    assert_eq!(env.get(&format!("{path}/b")).await.code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_scale() {
    let env = Env::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": running()}});
    is(&env.post(path, &deployment).await, 201, "create");
    let scale = format!("{path}/d/scale");
    let patch = json!({"spec": {"replicas": 4}});
    let shown = is(&env.patch(&scale, "merge", &patch).await, 200, "scale");
    assert_eq!(
        (&shown["kind"], &shown["spec"]["replicas"]),
        (&json!("Scale"), &json!(4))
    );
    assert_eq!(shown["status"]["selector"], "a=b");
    let now = is(&env.get(&format!("{path}/d")).await, 200, "get");
    assert_eq!(
        (&now["spec"]["replicas"], &now["metadata"]["generation"]),
        (&json!(4), &json!(2))
    );
}
