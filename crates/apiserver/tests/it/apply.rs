//! Server-side apply, field validation and protobuf through the whole server.

use serde_json::{Value, json};

use crate::env::{Env, Reply};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn apply(env: &Env, path: &str, query: &str, object: &Value) -> Reply {
    env.patch(&format!("{path}?{query}"), "apply", object).await
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

fn managers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["managedFields"].as_array();
    let one = |e: &Value| {
        format!(
            "{} {} {}",
            e["manager"].as_str().unwrap(),
            e["operation"].as_str().unwrap(),
            e["fieldsV1"]
        )
    };
    list.into_iter().flatten().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_creates_shares_conflicts_and_removes() {
    let env = Env::start().await;
    let path = format!("{MAPS}/m");
    let reply = apply(&env, &path, "", &map(json!({"a": "1"}))).await;
    assert_eq!(reply.code, 422, "{reply:?}");
    assert_eq!(
        reply.json()["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let reply = apply(
        &env,
        &path,
        "fieldManager=one",
        &map(json!({"a": "1", "b": "2"})),
    )
    .await;
    assert_eq!(reply.code, 201, "{reply:?}");
    assert_eq!(
        managers(&reply.json()),
        ["one Apply {\"f:data\":{\"f:a\":{},\"f:b\":{}}}"]
    );
    let version = reply.json()["metadata"]["resourceVersion"].clone();
    // The same again writes nothing.
    let reply = apply(
        &env,
        &path,
        "fieldManager=one",
        &map(json!({"a": "1", "b": "2"})),
    )
    .await;
    assert_eq!(
        (reply.code, &reply.json()["metadata"]["resourceVersion"]),
        (200, &version)
    );
    let reply = apply(&env, &path, "fieldManager=two", &map(json!({"a": "9"}))).await;
    assert_eq!(reply.code, 409);
    let status = reply.json();
    assert_eq!(
        status["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .data.a"
    );
    assert_eq!(
        status["details"],
        json!({"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.a"}]})
    );
    let reply = apply(
        &env,
        &path,
        "fieldManager=two&force=true",
        &map(json!({"a": "9"})),
    )
    .await;
    assert_eq!(reply.json()["data"], json!({"a": "9", "b": "2"}));
    let reply = apply(&env, &path, "fieldManager=one", &map(json!({}))).await;
    assert_eq!(reply.json()["data"], json!({"a": "9"}), "{reply:?}");
    // A dry run shows and does not write.
    let reply = apply(
        &env,
        &path,
        "fieldManager=three&dryRun=All",
        &map(json!({"c": "3"})),
    )
    .await;
    assert_eq!(reply.json()["data"], json!({"a": "9", "c": "3"}));
    assert_eq!(env.get(&path).await.json()["data"], json!({"a": "9"}));
    let bad = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "managedFields": []}});
    let reply = apply(&env, &path, "fieldManager=one", &bad).await;
    assert_eq!(
        reply.json()["message"],
        "metadata.managedFields must be nil"
    );
    let reply = apply(&env, &path, "fieldManager=one", &map(json!({"a": 1}))).await;
    assert_eq!(
        reply.json()["message"],
        "failed to create typed patch object (/m; /v1, Kind=ConfigMap): .data.a: expected string, got &value.valueUnstructured{Value:1}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_is_tracked() {
    let env = Env::start().await;
    let reply = env
        .post(
            &format!("{MAPS}?fieldManager=maker"),
            &map(json!({"a": "1"})),
        )
        .await;
    assert_eq!(
        managers(&reply.json()),
        ["maker Update {\"f:data\":{\".\":{},\"f:a\":{}}}"]
    );
    let path = format!("{MAPS}/m?fieldManager=changer");
    let reply = env
        .patch(&path, "merge", &json!({"data": {"a": "2"}}))
        .await;
    assert_eq!(
        managers(&reply.json()),
        [
            "changer Update {\"f:data\":{\"f:a\":{}}}",
            "maker Update {\"f:data\":{}}"
        ]
    );
    // An empty list clears the record, and nothing is tracked any more.
    let reply = env
        .patch(&path, "merge", &json!({"metadata": {"managedFields": []}}))
        .await;
    assert_eq!(managers(&reply.json()).len(), 0, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_repeated_fields_are_told_as_asked() {
    let env = Env::start().await;
    let text = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"s","unknownMeta":"foo"},"data":{"a":"1"},"data":{"a":"2"},"nope":1}"#;
    let env = &env;
    let post = |query: &str| {
        let path = format!("{MAPS}?{query}");
        async move {
            env.send("POST", &path, "application/json", text.to_vec())
                .await
        }
    };
    let reply = post("fieldValidation=Strict").await;
    assert_eq!(reply.code, 400);
    assert_eq!(
        reply.json()["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"metadata.unknownMeta\", duplicate field \"data\", unknown field \"nope\""
    );
    let reply = post("dryRun=All").await;
    assert_eq!(reply.code, 201);
    let warnings: Vec<_> = reply.headers.get_all("warning").iter().collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(
        warnings[0],
        "299 - \"unknown field \\\"metadata.unknownMeta\\\"\""
    );
    let reply = post("fieldValidation=Ignore").await;
    assert!(reply.headers.get("warning").is_none());
    assert_eq!(reply.json()["data"], json!({"a": "2"}));
    assert!(reply.json().get("nope").is_none());
    let yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\ndata:\n  a: x\n  a: z\n";
    let reply = env
        .send(
            "POST",
            &format!("{MAPS}?fieldValidation=Strict"),
            "application/yaml",
            yaml.to_vec(),
        )
        .await;
    assert_eq!(
        reply.json()["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:\n  line 6: key \"a\" already set in map"
    );
    let wrong = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"t"},"data":{"a":1}}"#;
    let reply = env
        .send("POST", MAPS, "application/json", wrong.to_vec())
        .await;
    assert_eq!(
        reply.json()["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    );
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_goes_in_and_out() {
    let env = Env::start().await;
    let body = api::protobuf::encode(&map(json!({"a": "1"}))).unwrap();
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let reply = env.ask("POST", MAPS, &headers, body).await;
    assert_eq!(
        (reply.code, &reply.headers["content-type"]),
        (201, &PROTOBUF.parse().unwrap())
    );
    let made = api::protobuf::decode(&reply.body).unwrap();
    assert_eq!(made["data"], json!({"a": "1"}));
    let reply = env.ask("GET", MAPS, &headers[1..], Vec::new()).await;
    let list = api::protobuf::decode(&reply.body).unwrap();
    assert_eq!(
        (&list["kind"], &list["items"][0]["metadata"]["name"]),
        (&json!("ConfigMapList"), &json!("m"))
    );
    let reply = env
        .ask("GET", &format!("{MAPS}/none"), &headers[1..], Vec::new())
        .await;
    let status = api::protobuf::decode(&reply.body).unwrap();
    assert_eq!((reply.code, &status["reason"]), (404, &json!("NotFound")));
    let reply = env
        .ask(
            "GET",
            &format!("{MAPS}?watch=true&timeoutSeconds=1"),
            &headers[1..],
            Vec::new(),
        )
        .await;
    assert_eq!(
        reply.headers["content-type"],
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let length = u32::from_be_bytes(reply.body[..4].try_into().unwrap()) as usize;
    let text = String::from_utf8_lossy(&reply.body[4..4 + length]).into_owned();
    assert!(text.contains("ADDED") && text.contains("k8s\0"), "{text:?}");
    // Bytes that are none.
    let reply = env
        .ask("POST", MAPS, &headers[..1], b"k8s\0\xff\xff".to_vec())
        .await;
    assert_eq!(reply.code, 400, "{reply:?}");
    let table = [(
        "accept",
        "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
    )];
    let reply = env.ask("GET", MAPS, &table, Vec::new()).await;
    assert_eq!(reply.json()["kind"], "Table");
}
