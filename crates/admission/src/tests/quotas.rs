use super::*;

fn quota(hard: Value, used: Value, extra: Value) -> Value {
    let mut spec = extra;
    spec["hard"] = hard.clone();
    json!({"metadata": {"name": "q", "namespace": "d"}, "spec": spec, "status": {"hard": hard, "used": used}})
}

fn asking(cpu: &str) -> Value {
    pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
}

async fn verdict(q: Value, w: Write) -> String {
    let world = World::new();
    world.put("", "resourcequotas", q);
    text(&world, "ResourceQuota", w).await
}

/// What an admitted write says without a server to write the quota's status to.
const COUNTED: &str = "not yet ready to handle request";

#[tokio::test]
async fn quota_texts_equal_upstreams() {
    let hard = || json!({"pods": "2", "requests.cpu": "1"});
    let none = || json!({});
    let table = [
        (
            quota(hard(), json!({"pods": "1", "requests.cpu": "500m"}), none()),
            asking("500m"),
            COUNTED,
        ),
        (
            quota(hard(), json!({"pods": "2", "requests.cpu": "600m"}), none()),
            asking("500m"),
            "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=2,requests.cpu=600m, limited: pods=2,requests.cpu=1",
        ),
        (
            quota(hard(), json!({"pods": "0", "requests.cpu": "0"}), none()),
            pod(none()),
            "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c",
        ),
        (
            quota(hard(), json!({"pods": "0"}), none()),
            asking("1m"),
            "pods \"p\" is forbidden: status unknown for quota: q, resources: requests.cpu",
        ),
        (
            quota(
                json!({"pods": "0"}),
                json!({"pods": "0"}),
                json!({"scopes": ["Terminating"]}),
            ),
            pod(none()),
            "ok",
        ),
        (
            quota(json!({"secrets": "0"}), json!({"secrets": "0"}), none()),
            pod(none()),
            "ok",
        ),
        (
            quota(
                json!({"pods": "0"}),
                json!({"pods": "0"}),
                json!({"scopes": ["BestEffort"]}),
            ),
            pod(none()),
            "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0",
        ),
    ];
    for (q, object, expected) in table {
        assert_eq!(verdict(q, Write::create("-/pods", object)).await, expected);
    }
}

#[tokio::test]
async fn other_kinds_count_as_objects() {
    let of = |name: &str, hard: &str| {
        let mut h = json!({});
        h[name] = json!(hard);
        let mut u = json!({});
        u[name] = json!("0");
        quota(h, u, json!({}))
    };
    let named = || json!({"metadata": {"name": "x"}});
    let q = of("count/deployments.apps", "0");
    assert_eq!(
        verdict(q, Write::create("apps/deployments", named())).await,
        "deployments.apps \"x\" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=0, limited: count/deployments.apps=0"
    );
    assert_eq!(
        verdict(
            of("configmaps", "0"),
            Write::create("-/configmaps", named())
        )
        .await,
        "configmaps \"x\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=0, limited: configmaps=0"
    );
    let service = |kind: &str| json!({"metadata": {"name": "x"}, "spec": {"type": kind, "ports": [{"port": 1}, {"port": 2}]}});
    let grow = Write::update("-/services", service("ClusterIP"), service("NodePort"));
    assert_eq!(
        verdict(of("services.nodeports", "1"), grow).await,
        "services \"x\" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"
    );
    let shrink = Write::update("-/services", service("NodePort"), service("ClusterIP"));
    assert_eq!(verdict(of("services.nodeports", "0"), shrink).await, "ok");
}

/// A server that holds one quota and compares versions on a write; the cache never hears of it.
fn server(quota: Value) -> (client::Client, Arc<parking_lot::Mutex<Value>>) {
    use http_body_util::BodyExt as _;
    let stored = Arc::new(parking_lot::Mutex::new(quota));
    let state = stored.clone();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let state = state.clone();
        async move {
            let put = request.method() == http::Method::PUT;
            let bytes = request.into_body().collect().await?.to_bytes();
            let mut stored = state.lock();
            let (code, answer) = if put {
                let mut sent: Value = serde_json::from_slice(&bytes).expect("JSON");
                let version =
                    |o: &Value| o["metadata"]["resourceVersion"].as_str().map(String::from);
                if version(&sent) == version(&stored) {
                    let next: u64 = version(&sent)
                        .expect("a version")
                        .parse::<u64>()
                        .expect("a number")
                        + 1;
                    sent["metadata"]["resourceVersion"] = json!(next.to_string());
                    *stored = sent.clone();
                    (200, sent)
                } else {
                    (
                        409,
                        ApiError::modified("", "resourcequotas", "q").to_status(),
                    )
                }
            } else {
                (200, stored.clone())
            };
            let body = kube::client::Body::from(answer.to_string().into_bytes());
            let response = http::Response::builder().status(code).body(body);
            Ok::<_, kube::Error>(response.expect("a response"))
        }
    });
    let reads = Arc::new(MemoryReads::new(&[]));
    let kube = kube::Client::new(service, "default");
    (client::Client::new(kube, reads, User::default()), stored)
}

#[tokio::test]
async fn concurrent_writes_never_exceed_the_quota() {
    let mut q = quota(json!({"pods": "5"}), json!({"pods": "0"}), json!({}));
    q["metadata"]["uid"] = json!("u");
    q["metadata"]["resourceVersion"] = json!("1");
    let world = World::new();
    world.put("", "resourcequotas", q.clone());
    // Another writer was there first: our first write conflicts.
    let mut newer = q;
    newer["metadata"]["resourceVersion"] = json!("7");
    newer["status"]["used"] = json!({"pods": "1"});
    let (client, stored) = server(newer);
    assert!(world.context.writer.set(client).is_ok());
    let plugin = crate::resource_quota::ResourceQuota::new(world.context.clone());
    let d = Descriptor::new("", "v1", "Pod", "pods", Scope::Namespaced, Plain);
    let user = User::default();
    let attempts = (0..20).map(|_| {
        let a = Attempt {
            namespace: "d",
            object: Some(pod(json!({}))),
            ..Attempt::new(Operation::Create, &d, &user)
        };
        let plugin = &plugin;
        async move { plugin.validate(&a).await }
    });
    let results = futures::future::join_all(attempts).await;
    let refused: Vec<String> = results
        .into_iter()
        .filter_map(|r| r.err())
        .map(|e| e.message)
        .collect();
    assert_eq!(refused.len(), 16);
    let text = "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5";
    assert!(refused.iter().all(|r| r == text), "{refused:?}");
    assert_eq!(stored.lock()["status"]["used"]["pods"], "5");
}
