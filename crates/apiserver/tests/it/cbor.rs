//! CBOR as upstream serves it: behind the gate `CBORServingAndStorage`, and not at all without it.

use api::cbor::{Order, decode, decode_first, encode};
use machinery::gates::Gates;
use serde_json::{Value, json};

use crate::env::{Env, Reply};

const CBOR: &str = "application/cbor";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn gated() -> Env {
    let gates = Gates::parse("CBORServingAndStorage=true").unwrap();
    Env::with(|plugins| plugins.gates = gates).await
}

async fn fetch(env: &Env, path: &str, accept: &str) -> Reply {
    env.ask("GET", path, &[("accept", accept)], Vec::new())
        .await
}

async fn send(env: &Env, method: &str, path: &str, content: &str, body: Vec<u8>) -> Reply {
    let headers = [("content-type", content), ("accept", CBOR)];
    env.ask(method, path, &headers, body).await
}

fn value(reply: &Reply) -> Value {
    assert_eq!(reply.headers["content-type"], CBOR, "{reply:?}");
    assert_eq!(reply.body[..3], [0xd9, 0xd9, 0xf7]);
    decode(&reply.body).unwrap()
}

#[tokio::test]
async fn without_the_gate_it_is_neither_spoken_nor_understood() {
    let env = Env::start().await;
    let reply = fetch(&env, MAPS, CBOR).await;
    assert_eq!(reply.code, 406, "{reply:?}");
    let body = encode(&json!({"metadata": {"name": "x"}}), Order::Any);
    for (method, path, content) in [
        ("POST", MAPS.to_string(), CBOR),
        (
            "PATCH",
            format!("{MAPS}/x?fieldManager=m"),
            "application/apply-patch+cbor",
        ),
    ] {
        let reply = env.send(method, &path, content, body.clone()).await;
        assert_eq!(reply.code, 415, "{reply:?}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("cbor"));
    }
}

#[tokio::test]
async fn objects_lists_and_failures_are_answered_in_cbor_and_tables_are_not() {
    let env = gated().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"},
        "data": {"a": "b"}, "binaryData": {"x": "AQID"}});
    let made = send(&env, "POST", MAPS, CBOR, encode(&map, Order::Any)).await;
    assert_eq!(made.code, 201, "{made:?}");
    let made = value(&made);
    assert_eq!(made["binaryData"], map["binaryData"]);
    let one = fetch(&env, &format!("{MAPS}/m"), CBOR).await;
    assert_eq!(value(&one), made);
    // Bytes are bytes, under the tag that asks for base64 of them later.
    assert!(one.body.windows(5).any(|w| w == [0xd6, 0x43, 1, 2, 3]));

    let list = value(&fetch(&env, MAPS, CBOR).await);
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("ConfigMapList"), &json!("v1"))
    );
    let items = list["items"].as_array().unwrap();
    assert!(items.iter().any(|i| i["data"]["a"] == "b"));
    assert!(list["metadata"]["resourceVersion"].is_string());

    let table = "application/cbor;as=Table;v=v1;g=meta.k8s.io";
    assert_eq!(fetch(&env, MAPS, table).await.code, 406);
    let partial = "application/cbor;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let partial = value(&fetch(&env, &format!("{MAPS}/m"), partial).await);
    assert_eq!(partial["kind"], "PartialObjectMetadata");

    let gone = fetch(&env, &format!("{MAPS}/nope"), CBOR).await;
    assert_eq!(
        (gone.code, &value(&gone)["reason"]),
        (404, &json!("NotFound"))
    );
    let refused = fetch(&env, MAPS, "text/html").await;
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(
        text.contains("application/vnd.kubernetes.protobuf, application/cbor"),
        "{text}"
    );
}

#[tokio::test]
async fn bodies_are_applied_and_refused_as_upstream_does() {
    let env = gated().await;
    let apply = "application/apply-patch+cbor";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "b"}});
    let path = format!("{MAPS}/applied?fieldManager=m");
    let made = send(&env, "PATCH", &path, apply, encode(&map, Order::Any)).await;
    assert_eq!(made.code, 201, "{made:?}");
    let managed = &value(&made)["metadata"]["managedFields"][0];
    assert_eq!(
        (&managed["manager"], &managed["operation"]),
        (&json!("m"), &json!("Apply"))
    );

    // {"a": 1, "a": 2}
    let twice = [0xa2, 0x41, 0x61, 0x01, 0x41, 0x61, 0x02].to_vec();
    let reply = send(&env, "PATCH", &path, apply, twice.clone()).await;
    let message =
        "error decoding patch: cbor: found duplicate map key \"a\" at map element index 1";
    assert_eq!(
        (reply.code, &value(&reply)["message"]),
        (400, &json!(message))
    );
    let reply = send(&env, "POST", MAPS, CBOR, twice).await;
    let message = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: cbor: found duplicate map key \"a\" at map element index 1";
    assert_eq!(
        (reply.code, &value(&reply)["message"]),
        (400, &json!(message))
    );
    let reply = send(&env, "POST", MAPS, CBOR, vec![0xa1]).await;
    let message = "the object provided is unrecognized (must be of type ConfigMap): unable to determine group/version/kind: unexpected EOF (a1)";
    assert_eq!(
        (reply.code, &value(&reply)["message"]),
        (400, &json!(message))
    );

    let unknown = json!({"kind": "ConfigMap", "metadata": {"name": "u"}, "zzz": 1});
    let path = format!("{MAPS}?fieldValidation=Strict");
    let reply = send(
        &env,
        "POST",
        &path,
        CBOR,
        encode(&unknown, Order::Deterministic),
    )
    .await;
    let message = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: cbor: found unknown field at map element index 0";
    assert_eq!(
        (reply.code, &value(&reply)["message"]),
        (400, &json!(message))
    );
}

#[tokio::test]
async fn a_watch_is_a_sequence_of_items() {
    let env = gated().await;
    let map = json!({"metadata": {"name": "w"}, "data": {"a": "b"}});
    assert_eq!(env.post(MAPS, &map).await.code, 201);
    let path = format!(
        "{MAPS}?watch=true&timeoutSeconds=1&resourceVersion=0&fieldSelector=metadata.name%3Dw"
    );
    let reply = fetch(&env, &path, CBOR).await;
    assert_eq!(reply.headers["content-type"], "application/cbor-seq");
    let (event, _) = decode_first(&reply.body).unwrap();
    assert_eq!(event["type"], "ADDED");
    assert_eq!(event["object"]["metadata"]["name"], "w");
}
