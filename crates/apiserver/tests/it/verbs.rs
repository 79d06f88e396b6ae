//! Verbs over raw requests.

use serde_json::{Value, json};

use crate::env::Env;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"n": name}}, "data": {"k": "v"}})
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_consistent_and_watches_go_on_from_a_list() {
    let env = Env::start().await;
    for name in ["a", "b", "c"] {
        assert_eq!(env.post(MAPS, &map(name)).await.code, 201);
    }
    let first = env.get(&format!("{MAPS}?limit=2")).await.json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    assert_eq!(env.post(MAPS, &map("d")).await.code, 201);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = env
        .get(&format!("{MAPS}?limit=2&continue={token}"))
        .await
        .json();
    let names: Vec<&str> = second["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c"], "the page shows the revision of the first one");
    assert_eq!(version(&first), version(&second));
    let from = version(&first);
    let seen = env
        .watch(&format!("{MAPS}?watch=1&resourceVersion={from}"), |e| {
            !e.is_empty()
        })
        .await;
    assert_eq!(seen[0]["type"], "ADDED");
    assert_eq!(seen[0]["object"]["metadata"]["name"], "d");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selective_watch_sees_objects_come_and_go() {
    let env = Env::start().await;
    let path = format!("{MAPS}?watch=1&labelSelector=in%3Dyes&timeoutSeconds=2");
    let watch = env.watch(&path, |e| e.len() == 2);
    let change = async {
        let mut m = map("a");
        assert_eq!(env.post(MAPS, &m).await.code, 201);
        for label in ["yes", "no"] {
            m["metadata"]["labels"]["in"] = json!(label);
            assert_eq!(env.put(&format!("{MAPS}/a"), &m).await.code, 200);
        }
    };
    let (seen, ()) = tokio::join!(watch, change);
    let kinds: Vec<&str> = seen.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ADDED", "DELETED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_list_ends_its_snapshot_with_a_bookmark() {
    let env = Env::start().await;
    assert_eq!(env.post(MAPS, &map("a")).await.code, 201);
    let path = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let seen = env.watch(&path, |e| e.len() == 2).await;
    assert_eq!(seen[0]["object"]["metadata"]["name"], "a");
    assert_eq!(seen[1]["type"], "BOOKMARK");
    assert_eq!(
        seen[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_updates_conflict_and_no_op_updates_do_not_write() {
    let env = Env::start().await;
    let made = env.post(MAPS, &map("a")).await.json();
    let path = format!("{MAPS}/a");
    let same = env.put(&path, &made).await.json();
    assert_eq!(version(&made), version(&same));
    let mut new = made.clone();
    new["data"]["k"] = json!("w");
    assert_eq!(env.put(&path, &new).await.code, 200);
    let late = env.put(&path, &new).await;
    assert_eq!(late.code, 409);
    assert_eq!(
        late.json()["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_hold_a_deleted_object() {
    let env = Env::start().await;
    let mut m = map("a");
    m["metadata"]["finalizers"] = json!(["example.com/hold"]);
    assert_eq!(env.post(MAPS, &m).await.code, 201);
    let path = format!("{MAPS}/a");
    let marked = env.delete(&path).await.json();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let freed = env
        .patch(&path, "merge", &json!({"metadata": {"finalizers": null}}))
        .await;
    assert_eq!(freed.code, 200);
    let gone = env.get(&path).await;
    assert_eq!(gone.code, 404);
    assert_eq!(gone.json()["message"], "configmaps \"a\" not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing() {
    let env = Env::start().await;
    assert_eq!(
        env.post(&format!("{MAPS}?dryRun=All"), &map("a"))
            .await
            .code,
        201
    );
    assert_eq!(env.get(&format!("{MAPS}/a")).await.code, 404);
    assert_eq!(
        env.post(&format!("{MAPS}?dryRun=Some"), &map("a"))
            .await
            .code,
        422
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_partial_metadata_are_made_on_request() {
    let env = Env::start().await;
    assert_eq!(env.post(MAPS, &map("a")).await.code, 201);
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = env.ask("GET", MAPS, &accept, Vec::new()).await.json();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    )];
    let list = env.ask("GET", MAPS, &accept, Vec::new()).await.json();
    assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
    assert!(list["items"][0].get("data").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_answered_with_upstreams_status() {
    let env = Env::start().await;
    for (method, path, body, code, text) in [
        ("POST", MAPS, "{", 400, ""),
        (
            "POST",
            MAPS,
            r#"{"kind":"Pod","apiVersion":"v1"}"#,
            400,
            "Pod in version \"v1\" cannot be handled as a ConfigMap",
        ),
        (
            "POST",
            MAPS,
            r#"{"metadata":{"name":"A"}}"#,
            422,
            "ConfigMap \"A\" is invalid: metadata.name: Invalid value: \"A\"",
        ),
        (
            "GET",
            "/api/v1/nonsense",
            "",
            404,
            "the server could not find the requested resource",
        ),
        ("GET", "/apis/none/v1/x", "", 404, ""),
        (
            "PUT",
            "/api/v1/namespaces/default/configmaps/x",
            r#"{"metadata":{"name":"y"}}"#,
            400,
            "the name of the object (y) does not match the name on the URL (x)",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps?fieldSelector=a%3Db",
            "",
            400,
            "field label not supported: a",
        ),
    ] {
        let reply = env
            .send(method, path, "application/json", body.as_bytes().to_vec())
            .await;
        assert_eq!(reply.code, code, "{method} {path} {body}: {reply:?}");
        if !text.is_empty() {
            let message = reply.json()["message"].as_str().unwrap().to_string();
            assert!(
                message.starts_with(text),
                "{method} {path} {body}: {message}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_patches_all_succeed_and_only_a_named_version_conflicts() {
    let env = Env::start().await;
    let made = env.post(MAPS, &map("busy")).await.json();
    let path = format!("{MAPS}/busy");
    let kinds = ["merge", "strategic-merge", "apply"];
    let patches = (0..24).map(|i| {
        let key = format!("k{i}");
        let kind = kinds[i % kinds.len()];
        let patch = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "busy"}, "data": {key: "v"}});
        let path = match kind {
            "apply" => format!("{path}?fieldManager=m{i}"),
            _ => path.clone(),
        };
        let env = &env;
        async move { env.patch(&path, kind, &patch).await }
    });
    for reply in futures::future::join_all(patches).await {
        assert_eq!(reply.code, 200, "{reply:?}");
    }
    let now = env.get(&path).await.json();
    assert_eq!(now["data"].as_object().unwrap().len(), 25, "{now}");
    let old = json!({"metadata": {"resourceVersion": version(&made)}, "data": {"x": "y"}});
    assert_eq!(env.patch(&path, "merge", &old).await.code, 409);
    let mut body = now.clone();
    body["metadata"]["resourceVersion"] = json!(version(&made));
    assert_eq!(env.put(&path, &body).await.code, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_patch_empties_is_gone() {
    let env = Env::start().await;
    let owner = json!({"apiVersion": "v1", "kind": "Secret", "name": "o", "uid": "u"});
    let mut object = map("m");
    object["metadata"]["finalizers"] = json!(["a.b/c"]);
    object["metadata"]["ownerReferences"] = json!([owner]);
    object["metadata"]["annotations"] = json!({"a": "b"});
    let remove = json!([
        {"op": "remove", "path": "/metadata/finalizers/0"},
        {"op": "remove", "path": "/metadata/ownerReferences/0"},
        {"op": "remove", "path": "/metadata/annotations/a"},
        {"op": "remove", "path": "/metadata/labels/n"},
        {"op": "remove", "path": "/data/k"},
    ]);
    let merge = json!({"metadata": {"finalizers": [], "ownerReferences": [],
        "annotations": {"a": null}, "labels": {"n": null}}, "data": {"k": null}});
    let strategic = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a.b/c"],
        "ownerReferences": [{"$patch": "delete", "uid": "u"}],
        "annotations": {"a": null}, "labels": {"n": null}}, "data": {"k": null}});
    for (kind, patch) in [
        ("json", remove),
        ("merge", merge),
        ("strategic-merge", strategic),
    ] {
        object["metadata"]["name"] = json!(kind);
        assert_eq!(env.post(MAPS, &object).await.code, 201);
        let path = format!("{MAPS}/{kind}");
        let reply = env.patch(&path, kind, &patch).await;
        assert_eq!(reply.code, 200, "{reply:?}");
        let stored = env.get(&path).await.json();
        for field in ["finalizers", "ownerReferences", "annotations", "labels"] {
            assert_eq!(stored["metadata"].get(field), None, "{kind}: {stored}");
        }
        assert_eq!(stored.get("data"), None, "{kind}: {stored}");
    }
}
