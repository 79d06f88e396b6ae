//! The OpenAPI documents in protobuf, and how clients ask for them.

use crate::env::Env;

const JSON: &str = "application/json";
const V3: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

#[tokio::test]
async fn documents_come_in_protobuf_to_who_asks() {
    let env = Env::start().await;
    let v3 = "/openapi/v3/api/v1";
    let table = [
        (v3, "", JSON),
        (v3, "*/*", JSON),
        (v3, V3, V3),
        (
            v3,
            "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
            V3,
        ),
        (v3, &format!("application/json;q=0.5, {V3}"), V3),
        (v3, &format!("text/html, {V3};q=0.1"), V3),
        (v3, V2, "406"),
        ("/openapi/v2", "application/*", JSON),
        (
            "/openapi/v2",
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
            V2,
        ),
        ("/openapi/v2", V3, "406"),
    ];
    for (path, accept, expected) in table {
        let reply = env
            .ask("GET", path, &[("accept", accept)], Vec::new())
            .await;
        let kind = reply
            .headers
            .get("content-type")
            .map(|v| v.to_str().unwrap());
        match kind {
            None => assert_eq!((reply.code, expected), (406, "406"), "{path} {accept}"),
            Some(kind) => assert_eq!((reply.code, kind), (200, expected), "{path} {accept}"),
        }
        if expected == V3 {
            assert_eq!(&reply.body[..7], b"\n\x053.0.0", "{accept}");
        }
    }
}

#[tokio::test]
async fn both_forms_of_a_document_have_one_tag() {
    let env = Env::start().await;
    let path = "/openapi/v3/apis/apps/v1";
    let json = env.get(path).await;
    let tag = json.headers["etag"].to_str().unwrap();
    let headers = [("accept", V3)];
    let protobuf = env.ask("GET", path, &headers, Vec::new()).await;
    assert_eq!(protobuf.headers["etag"], tag);
    assert!(protobuf.body.len() < json.body.len());
    let headers = [("accept", V3), ("if-none-match", tag)];
    let same = env.ask("GET", path, &headers, Vec::new()).await;
    assert_eq!(same.code, 304);
    assert!(!same.headers.contains_key("content-type"));
}
