//! Pods and services through a real server: what needs more than a strategy.

use serde_json::{Value, json};

use crate::env::Env;

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": {
        "containers": [{"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "100m"}}}]}})
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or("")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_bound_changed_and_deleted_with_grace() {
    let env = Env::start().await;
    let made = env.post(PODS, &pod("p")).await;
    assert_eq!(made.code, 201, "{made:?}");
    let made = made.json();
    assert_eq!(text(&made, "/status/phase"), "Pending");
    assert_eq!(text(&made, "/status/qosClass"), "Burstable");
    assert_eq!(made["metadata"]["generation"], 1);

    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let bound = env.post(&format!("{PODS}/p/binding"), &binding).await;
    assert_eq!(bound.code, 201, "{bound:?}");
    assert_eq!(text(&bound.json(), "/status"), "Success");
    let again = env
        .post("/api/v1/namespaces/default/bindings", &binding)
        .await;
    assert_eq!(again.code, 409, "{again:?}");
    assert_eq!(
        text(&again.json(), "/message"),
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
    );
    let now = env.get(&format!("{PODS}/p")).await.json();
    assert_eq!(text(&now, "/spec/nodeName"), "n");
    assert_eq!(now["metadata"]["generation"], 1);
    let listed = env
        .get(&format!("{PODS}?fieldSelector=spec.nodeName%3Dn"))
        .await;
    assert_eq!(listed.json()["items"].as_array().unwrap().len(), 1);

    let image = json!({"spec": {"containers": [{"name": "c", "image": "i:2"}]}});
    let changed = env
        .patch(&format!("{PODS}/p"), "strategic-merge", &image)
        .await;
    assert_eq!(changed.json()["metadata"]["generation"], 2, "{changed:?}");
    let node = json!({"spec": {"nodeName": "m"}});
    let refused = env.patch(&format!("{PODS}/p"), "merge", &node).await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let more = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "200m"}}}]}});
    let resized = env
        .patch(&format!("{PODS}/p/resize"), "strategic-merge", &more)
        .await;
    assert_eq!(resized.code, 200, "{resized:?}");
    assert_eq!(resized.json()["metadata"]["generation"], 3);

    let marked = env.delete(&format!("{PODS}/p")).await.json();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let marked = env.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await;
    assert_eq!(text(&marked.json(), "/kind"), "Pod");
    assert_eq!(env.get(&format!("{PODS}/p")).await.code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_ask_the_budget() {
    let env = Env::start().await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    assert_eq!(env.post(budgets, &budget).await.code, 201);
    assert_eq!(env.post(PODS, &pod("p")).await.code, 201);
    let binding = json!({"target": {"name": "n"}});
    assert_eq!(
        env.post(&format!("{PODS}/p/binding"), &binding).await.code,
        201
    );
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(
        env.patch(&format!("{PODS}/p/status"), "merge", &running)
            .await
            .code,
        200
    );

    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let path = format!("{PODS}/p/eviction");
    let refused = env.post(&path, &eviction).await;
    assert_eq!(refused.code, 429, "{refused:?}");
    let allowed = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2}});
    let counted = env
        .patch(&format!("{budgets}/b/status"), "merge", &allowed)
        .await;
    assert_eq!(counted.code, 200, "{counted:?}");
    let gone = env.post(&path, &eviction).await;
    assert_eq!(gone.code, 201, "{gone:?}");
    let left = env.get(&format!("{PODS}/p")).await.json();
    assert!(
        !text(&left, "/metadata/deletionTimestamp").is_empty(),
        "{left}"
    );
    let why = left["status"]["conditions"].as_array().unwrap();
    assert!(
        why.iter().any(|c| c["type"] == "DisruptionTarget"),
        "{left}"
    );
    let now = env.get(&format!("{budgets}/b")).await.json();
    assert_eq!(now["status"]["disruptionsAllowed"], 0, "{now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_get_addresses_that_nobody_else_has() {
    let env = Env::start().await;
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let ports = json!([{"port": 80}]);
    let all = (0..20).map(|n| {
        let body = service(
            &format!("s{n}"),
            json!({"ports": ports, "type": "NodePort"}),
        );
        let env = &env;
        async move { env.post(SERVICES, &body).await }
    });
    let made = futures::future::join_all(all).await;
    let mut seen = std::collections::BTreeSet::new();
    for m in made {
        assert_eq!(m.code, 201, "{m:?}");
        let s = m.json();
        assert!(seen.insert(text(&s, "/spec/clusterIP").to_string()), "{s}");
        assert!(
            seen.insert(s["spec"]["ports"][0]["nodePort"].to_string()),
            "{s}"
        );
    }
    let first = env.get(&format!("{SERVICES}/s0")).await.json();
    let ip = text(&first, "/spec/clusterIP");
    let same = service("t", json!({"ports": ports, "clusterIP": ip}));
    let taken = env.post(SERVICES, &same).await;
    assert_eq!(taken.code, 422, "{taken:?}");
    assert!(
        text(&taken.json(), "/message").ends_with("provided IP is already allocated"),
        "{taken:?}"
    );
    // A service that is refused for another reason keeps nothing.
    let other = service(
        "t",
        json!({"ports": [{"port": 0}], "clusterIP": "10.96.0.77"}),
    );
    assert_eq!(env.post(SERVICES, &other).await.code, 422);
    let fine = service("t", json!({"ports": ports, "clusterIP": "10.96.0.77"}));
    assert_eq!(env.post(SERVICES, &fine).await.code, 201);
    assert_eq!(env.delete(&format!("{SERVICES}/s0")).await.code, 200);
    let again = service("u", json!({"ports": ports, "clusterIP": ip}));
    assert_eq!(env.post(SERVICES, &again).await.code, 201);
    let name = json!({"spec": {"type": "ExternalName", "externalName": "a.b", "clusterIP": ip}});
    let named = env
        .patch(&format!("{SERVICES}/u"), "merge", &name)
        .await
        .json();
    assert_eq!(text(&named, "/spec/clusterIP"), "", "{named}");
}

/// Health, metrics and what is not served, as upstream's generic server answers them.
#[tokio::test(flavor = "multi_thread")]
async fn paths_that_are_no_resources_answer_as_upstreams() {
    let env = Env::start().await;
    env.until("/readyz", |r| r.code == 200).await;
    let alive = "[+]ping ok\n[+]log ok\n[+]etcd ok\n";
    let hooks = [
        "start-apiserver-admission-initializer",
        "generic-apiserver-start-informers",
        "priority-and-fairness-config-consumer",
        "priority-and-fairness-filter",
        "start-apiextensions-informers",
        "start-apiextensions-controllers",
        "crd-informer-synced",
    ];
    let hooks = hooks.map(|h| format!("[+]poststarthook/{h} ok\n")).concat();
    let warn = "warn: some health checks cannot be excluded: no matches for \"nono\"\n";
    let lost = "404 page not found\n";
    for (path, code, body) in [
        ("/livez", 200, "ok".to_string()),
        (
            "/livez?verbose",
            200,
            format!("{alive}{hooks}livez check passed\n"),
        ),
        (
            "/healthz?verbose=true",
            200,
            format!("{alive}{hooks}healthz check passed\n"),
        ),
        (
            "/readyz?verbose",
            200,
            format!(
                "{alive}[+]etcd-readiness ok\n[+]informer-sync ok\n{hooks}[+]shutdown ok\nreadyz check passed\n"
            ),
        ),
        (
            "/livez?verbose&exclude=etcd&exclude=nono",
            200,
            format!(
                "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n{hooks}{warn}livez check passed\n"
            ),
        ),
        ("/readyz/informer-sync", 200, "ok".into()),
        ("/livez/poststarthook/crd-informer-synced", 200, "ok".into()),
        ("/livez/poststarthook/nono", 404, lost.into()),
        ("/livez/informer-sync", 404, lost.into()),
        ("/livez/nono", 404, lost.into()),
        ("/livez/", 404, lost.into()),
        ("/foo", 404, lost.into()),
        ("/foo/bar?x=y", 404, lost.into()),
        ("/apis/foo.com", 404, lost.into()),
        ("/apis/foo.com/v1", 404, lost.into()),
        ("/apis/foo.com/v1/bars", 404, lost.into()),
    ] {
        let reply = env.get(path).await;
        assert_eq!(reply.code, code, "{path}: {reply:?}");
        assert_eq!(String::from_utf8_lossy(&reply.body), body, "{path}");
        assert_eq!(
            reply.headers["content-type"], "text/plain; charset=utf-8",
            "{path}"
        );
    }
    for (method, path, code, reason) in [
        ("GET", "/api/v2", 404, "NotFound"),
        ("GET", "/api/v2/pods", 404, "NotFound"),
        ("GET", "/api/v1/nono", 404, "NotFound"),
        ("GET", "/apis/apps/v9", 404, "NotFound"),
        ("GET", "/apis/apps/v9/deployments", 404, "NotFound"),
        ("GET", "/version/x", 404, "NotFound"),
        ("DELETE", "/version", 405, "MethodNotAllowed"),
        ("POST", "/apis/apps/v1", 405, "MethodNotAllowed"),
    ] {
        let reply = env.ask(method, path, &[], Vec::new()).await;
        assert_eq!(reply.code, code, "{method} {path}: {reply:?}");
        assert_eq!(text(&reply.json(), "/reason"), reason, "{method} {path}");
    }
    let metrics = env.get("/metrics").await;
    let body = String::from_utf8(metrics.body).unwrap();
    assert!(body.contains("\napiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} "));
    env.shut_down();
    let reply = env.get("/readyz?verbose").await;
    assert_eq!(reply.code, 500, "{reply:?}");
    let body = String::from_utf8(reply.body).unwrap();
    assert!(
        body.ends_with("[-]shutdown failed: reason withheld\nreadyz check failed\n"),
        "{body}"
    );
    assert_eq!(env.get("/livez").await.code, 200);
}
