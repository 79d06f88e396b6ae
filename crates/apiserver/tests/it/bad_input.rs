//! What clients may send that is wrong: bodies, patches, URLs, queries, selectors, connections. Each gets an
//! answer that says so, nothing of it is stored, and the server goes on.

use std::sync::Arc;

use http::Request;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::env::{Env, Reply};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What was not answered as it should.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    /// The answer is a Status of this code, or plain text where upstream's is; and never a panic's.
    fn refused(&mut self, reply: &Reply, code: u16, what: &str) {
        let text = String::from_utf8_lossy(&reply.body);
        let mut fine = reply.code == code && !text.contains("panic");
        if reply.headers["content-type"] == JSON {
            let status = reply.json();
            fine &= status["kind"] == "Status" && status["code"] == code;
        }
        self.unless(fine, what, || {
            format!("{} and not {code}: {text}", reply.code)
        });
    }

    fn unless(&mut self, fine: bool, what: &str, why: impl FnOnce() -> String) {
        if !fine {
            let what: String = what.chars().take(100).collect();
            let why: String = why().chars().take(300).collect();
            self.0.push(format!("{what}: {why}"));
        }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:#?}", self.0);
        } else {
            assert!(self.0.is_empty(), "{:#?}", self.0);
        }
    }
}

/// What is stored, to see that nothing changed.
async fn everything(env: &Env) -> Value {
    let mut list = env.get(MAPS).await.json();
    list["metadata"] = Value::Null;
    list
}

fn nested(open: &str, close: &str, times: usize) -> String {
    format!("{}{}", open.repeat(times), close.repeat(times))
}

/// A billion laughs: each line is ten of the one before.
fn laughs() -> String {
    let mut text = String::from("a0: &a0 ha\n");
    for n in 1..12 {
        let before = format!("*a{}, ", n - 1).repeat(10);
        text.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    text
}

fn bodies() -> Vec<(&'static str, &'static str, Vec<u8>, u16)> {
    let huge = json!({"metadata": {"name": "huge"}, "data": {"a": "x".repeat(3 << 20)}});
    let magic = b"k8s\0".to_vec();
    let with = |rest: &[u8]| [&magic[..], rest].concat();
    let mut all = vec![
        ("nothing", JSON, Vec::new(), 400),
        (
            "not UTF-8",
            JSON,
            b"{\"metadata\":{\"name\":\"\xff\"}}".to_vec(),
            422,
        ),
        ("too large", JSON, huge.to_string().into_bytes(), 413),
        ("no YAML", YAML, b"a: [1".to_vec(), 400),
        ("YAML that is not UTF-8", YAML, b"a: \xff\xfe".to_vec(), 400),
        ("laughs", YAML, laughs().into_bytes(), 400),
        ("an alias of itself", YAML, b"a: &a [*a]".to_vec(), 400),
        ("an unknown alias", YAML, b"a: *b".to_vec(), 400),
        (
            "deep YAML",
            YAML,
            nested("[", "]", 50_000).into_bytes(),
            400,
        ),
        (
            "deep flow YAML",
            YAML,
            nested("{a: ", "}", 50_000).into_bytes(),
            400,
        ),
        ("a YAML list", YAML, b"- a\n- b\n".to_vec(), 400),
        ("JSON as protobuf", PROTOBUF, b"{}".to_vec(), 400),
        ("empty protobuf", PROTOBUF, Vec::new(), 400),
        ("only magic", PROTOBUF, magic.clone(), 400),
        ("endless varint", PROTOBUF, with(&[0xff; 40]), 400),
        (
            "length of 2^63",
            PROTOBUF,
            with(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
            400,
        ),
        ("length past the end", PROTOBUF, with(b"\x0a\x7f"), 400),
        ("groups", PROTOBUF, with(&[0x0b; 10_000]), 400),
        ("unknown media type", "text/html", b"<html>".to_vec(), 415),
        ("no media type's shape", "json;;;=", b"{}".to_vec(), 415),
    ];
    for (what, text, code) in [
        ("cut", "{", 400),
        ("a list", "[]", 400),
        ("a number", "5", 400),
        ("null", "null", 422),
        ("more behind", "{\"metadata\":{\"name\":\"a\"}} {}", 400),
        (
            "no number",
            "{\"metadata\":{\"name\":\"a\",\"generation\":1e999}}",
            400,
        ),
        (
            "not a number",
            "{\"metadata\":{\"name\":\"a\",\"generation\":NaN}}",
            400,
        ),
        ("a comma too much", "{\"metadata\":{\"name\":\"a\",}}", 400),
        (
            "half a surrogate",
            "{\"metadata\":{\"name\":\"\\ud800\"}}",
            422,
        ),
        ("metadata is a list", "{\"metadata\":[]}", 400),
        ("metadata is a text", "{\"metadata\":\"a\"}", 400),
        ("name is a number", "{\"metadata\":{\"name\":5}}", 400),
        (
            "labels are a list",
            "{\"metadata\":{\"name\":\"a\",\"labels\":[]}}",
            400,
        ),
        (
            "data is a number",
            "{\"metadata\":{\"name\":\"a\"},\"data\":5}",
            400,
        ),
        (
            "base64",
            "{\"metadata\":{\"name\":\"a\"},\"binaryData\":{\"a\":\"%%\"}}",
            400,
        ),
        (
            "a time",
            "{\"metadata\":{\"name\":\"a\",\"creationTimestamp\":\"yesterday\"}}",
            400,
        ),
        (
            "kind is a number",
            "{\"kind\":5,\"metadata\":{\"name\":\"a\"}}",
            400,
        ),
        (
            "another namespace",
            "{\"metadata\":{\"name\":\"a\",\"namespace\":\"b\"}}",
            400,
        ),
        (
            "NUL in a name",
            "{\"metadata\":{\"name\":\"a\\u0000b\"}}",
            422,
        ),
        (
            "a path as name",
            "{\"metadata\":{\"name\":\"../../secrets/a\"}}",
            422,
        ),
        ("no name", "{\"metadata\":{}}", 422),
        (
            "NUL in a key",
            "{\"metadata\":{\"name\":\"a\"},\"data\":{\"a\\u0000\":\"b\"}}",
            422,
        ),
    ] {
        all.push((what, JSON, text.as_bytes().to_vec(), code));
    }
    let deep = format!(
        "{{\"metadata\":{{\"name\":\"a\"}},\"x\":{}}}",
        nested("[", "]", 100_000)
    );
    all.push(("deep JSON", JSON, deep.into_bytes(), 400));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_wrong_are_refused_whole() {
    let env = Env::start().await;
    let before = everything(&env).await;
    let mut wrong = Wrong::default();
    for (what, content, body, code) in bodies() {
        let reply = env.send("POST", MAPS, content, body).await;
        wrong.refused(&reply, code, what);
        let now = everything(&env).await;
        wrong.unless(now == before, what, || now.to_string());
    }
    // Upstream reads the first document of a YAML body and no further.
    let two = b"metadata: {name: a}\n---\nmetadata: {name: b}\n".to_vec();
    let reply = env
        .send("POST", &format!("{MAPS}?dryRun=All"), YAML, two)
        .await;
    assert_eq!(
        (reply.code, &reply.json()["metadata"]["name"]),
        (201, &json!("a"))
    );
    // Whatever bit of a protobuf body is wrong: an answer.
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"b": "c"}}, "data": {"d": "e"}});
    let good = api::protobuf::encode(&object).unwrap();
    for at in 0..good.len() {
        let mut bent = good.clone();
        bent[at] ^= 0x81;
        for body in [bent, good[..at].to_vec()] {
            let reply = env
                .send("POST", &format!("{MAPS}?dryRun=All"), PROTOBUF, body)
                .await;
            let fine = [201, 400, 422].contains(&reply.code);
            wrong.unless(fine, &format!("bit {at}"), || format!("{reply:?}"));
        }
    }
    assert_eq!(everything(&env).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_that_are_wrong_change_nothing() {
    let env = Env::start().await;
    let object = json!({"metadata": {"name": "a"}, "data": {"b": "c"}});
    assert_eq!(env.post(MAPS, &object).await.code, 201);
    let before = everything(&env).await;
    let mut wrong = Wrong::default();
    let path = format!("{MAPS}/a");
    let many: Vec<Value> = (0..10_001)
        .map(|_| json!({"op": "test", "path": "/data/b", "value": "c"}))
        .collect();
    let many = Value::from(many).to_string();
    let copies: Vec<Value> = (0..40)
        .map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/x{n}")}))
        .collect();
    let copies = Value::from(copies).to_string();
    let apply = "application/apply-patch+yaml";
    let laughs = laughs();
    let deep = nested("{\"a\":", "}", 100_000);
    for (what, content, text, code) in [
        ("no list", "json", "{}", 400),
        ("no JSON", "json", "[{", 400),
        (
            "unknown op",
            "json",
            r#"[{"op":"burn","path":"/data"}]"#,
            422,
        ),
        ("no path", "json", r#"[{"op":"remove"}]"#, 422),
        (
            "missing path",
            "json",
            r#"[{"op":"remove","path":"/data/x"}]"#,
            422,
        ),
        (
            "failed test",
            "json",
            r#"[{"op":"test","path":"/data/b","value":"x"}]"#,
            422,
        ),
        (
            "half applied",
            "json",
            r#"[{"op":"add","path":"/data/x","value":"y"},{"op":"remove","path":"/nono"}]"#,
            422,
        ),
        (
            "wrong type",
            "json",
            r#"[{"op":"replace","path":"/data","value":5}]"#,
            422,
        ),
        (
            "index past the end",
            "json",
            r#"[{"op":"add","path":"/metadata/finalizers/7","value":"y"}]"#,
            422,
        ),
        (
            "the whole away",
            "json",
            r#"[{"op":"remove","path":""}]"#,
            422,
        ),
        ("too many", "json", &many, 413),
        ("copies of copies", "json", &copies, 422),
        ("no object", "merge", "[]", 400),
        ("a text", "merge", "\"x\"", 400),
        ("no JSON", "merge", "{", 400),
        ("wrong type", "merge", r#"{"data":5}"#, 422),
        ("deep", "merge", &deep, 400),
        ("another name", "merge", r#"{"metadata":{"name":"b"}}"#, 400),
        ("no JSON", "strategic-merge", "{", 400),
        (
            "unknown directive",
            "strategic-merge",
            r#"{"data":{"$patch":"burn"}}"#,
            400,
        ),
        ("wrong type", "strategic-merge", r#"{"data":[1]}"#, 422),
        ("no YAML", apply, "a: [", 400),
        ("laughs", apply, &laughs, 400),
        ("no kind", apply, "metadata: {name: a}", 400),
        ("a list", apply, "- a", 400),
    ] {
        let full = if content == apply {
            apply.to_string()
        } else {
            format!("application/{content}-patch+json")
        };
        let manager = format!("{path}?fieldManager=m");
        let reply = env
            .send("PATCH", &manager, &full, text.as_bytes().to_vec())
            .await;
        wrong.refused(&reply, code, &format!("{content}: {what}"));
        let now = everything(&env).await;
        wrong.unless(now == before, what, || now.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_that_are_wrong_are_refused() {
    let env = Env::start().await;
    let object = json!({"metadata": {"name": "a"}, "data": {"b": "c"}});
    assert_eq!(env.post(MAPS, &object).await.code, 201);
    let before = everything(&env).await;
    let mut wrong = Wrong::default();
    let long = "a".repeat(60_000);
    let names = [
        ("..%2f..%2fsecrets%2fa", 404),
        ("%00", 404),
        ("%ff%fe", 404),
        ("a%20b", 404),
        ("%", 404),
        ("%zz", 404),
        (long.as_str(), 404),
        ("a/nono", 404),
        ("a/status", 404),
    ];
    for (name, code) in names {
        let path = format!("{MAPS}/{name}");
        for method in ["GET", "DELETE"] {
            let reply = env.ask(method, &path, &[], Vec::new()).await;
            wrong.refused(
                &reply,
                code,
                &format!("{method} {}", &path[..path.len().min(80)]),
            );
        }
    }
    // A NUL ends a selector, as in upstream's lexer.
    let ended = env.get(&format!("{MAPS}?labelSelector=a%3D%00")).await;
    assert_eq!(ended.code, 200);
    for (query, code) in [
        ("labelSelector=((", 400),
        ("labelSelector=a%20in%20b", 400),
        ("labelSelector=-%3D1", 400),
        ("labelSelector=a%3E1.5", 400),
        ("fieldSelector=a", 400),
        ("fieldSelector=a%3Db", 400),
        ("fieldSelector=metadata.name%3Da%5Cb", 400),
        ("limit=abc", 400),
        ("limit=99999999999999999999", 400),
        ("continue=nonsense", 400),
        (
            "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLi9zZWNyZXRzLyJ9",
            400,
        ),
        ("watch=1&timeoutSeconds=abc", 400),
        ("timeout=abc", 400),
        ("timeout=1", 400),
        ("resourceVersion=5&resourceVersionMatch=Sometimes", 422),
        ("resourceVersionMatch=Exact", 422),
        ("watch=1&sendInitialEvents=true", 422),
        ("watch=1&resourceVersion=abc", 500),
        ("resourceVersion=-1", 400),
        ("resourceVersion=abc", 400),
    ] {
        let reply = env.get(&format!("{MAPS}?{query}")).await;
        wrong.refused(&reply, code, query);
    }
    for (method, query, code) in [
        ("DELETE", "propagationPolicy=Sideways", 422),
        ("DELETE", "gracePeriodSeconds=abc", 400),
        ("DELETE", "dryRun=Some", 422),
        ("PUT", "fieldValidation=Perhaps", 422),
        ("PUT", "dryRun=Some", 422),
        ("PUT", "fieldManager=%00", 422),
    ] {
        let path = format!("{MAPS}/a?{query}");
        let body = object.to_string().into_bytes();
        let body = if method == "PUT" { body } else { Vec::new() };
        let reply = env.send(method, &path, JSON, body).await;
        wrong.refused(&reply, code, &format!("{method} {query}"));
    }
    for body in [
        json!({"gracePeriodSeconds": "abc"}),
        json!({"preconditions": {"uid": 5}}),
        json!({"preconditions": "none"}),
        json!({"dryRun": "All"}),
        json!({"propagationPolicy": ["Orphan"]}),
        json!({"kind": 5}),
    ] {
        let text = body.to_string();
        let reply = env
            .send(
                "DELETE",
                &format!("{MAPS}/a"),
                JSON,
                text.clone().into_bytes(),
            )
            .await;
        wrong.refused(&reply, 400, &text);
    }
    let long = format!("{MAPS}/a?fieldManager={}", "m".repeat(129));
    let body = object.to_string().into_bytes();
    wrong.refused(
        &env.send("PUT", &long, JSON, body).await,
        422,
        "long manager",
    );
    for path in [
        "/api/v1/watch",
        "/api/v1/proxy",
        "//api/v1/configmaps",
        "/api/v1/namespaces/default/../../secrets",
        "/api//v1",
        "/apis/%2f/v1",
    ] {
        let reply = env.get(path).await;
        wrong.unless([404, 500].contains(&reply.code), path, || {
            format!("{reply:?}")
        });
        assert!(
            !String::from_utf8_lossy(&reply.body).contains("panic"),
            "{path}"
        );
    }
    assert_eq!(everything(&env).await, before);
}

/// Sends bytes over TLS, or without; gives what comes back until the server ends the connection.
async fn raw(env: &Env, tls: bool, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(env.address).await.unwrap();
    let mut answer = Vec::new();
    let wait = std::time::Duration::from_secs(5);
    // The server may end the connection before all is sent or read.
    if !tls {
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = tokio::time::timeout(wait, stream.read_to_end(&mut answer)).await;
        return answer;
    }
    let mut stream = encrypted(env, stream).await;
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let _ = tokio::time::timeout(wait, stream.read_to_end(&mut answer)).await;
    answer
}

async fn encrypted(env: &Env, stream: TcpStream) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from(env.pki.ca.der().to_vec()))
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    connector.connect(name, stream).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_make_no_sense_end_and_others_go_on() {
    let env = Env::start().await;
    let zeros = vec![0u8; 100_000];
    let hello = [b"\x16\x03\x01\xff\xff\x01".to_vec(), zeros.clone()].concat();
    for bytes in [
        &zeros[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &hello,
        b"\x16\x03\x01",
    ] {
        raw(&env, false, bytes).await;
    }
    let header = |n: usize| {
        format!(
            "GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
            "y".repeat(n)
        )
    };
    let many: String = (0..5_000).map(|n| format!("x{n}: y\r\n")).collect();
    for (text, codes) in [
        ("nonsense\r\n\r\n".to_string(), &["400"][..]),
        ("GET /livez HTTP/9.9\r\n\r\n".into(), &["400", "505"]),
        ("GET /livez HTTP/1.1\r\nhost\r\n\r\n".into(), &["400"]),
        (header(2 << 20), &["431", "400"]),
        (format!("GET /livez HTTP/1.1\r\n{many}\r\n"), &["431", "400"]),
        ("POST /api/v1/pods HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n".into(), &["400"]),
        // Nobody, before the body is looked at.
        ("POST /api/v1/pods HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".into(), &["401"]),
        ("GET /livez HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \u{1}\r\nconnection: close\r\n\r\n".into(), &["400", "401"]),
        ("GET /api HTTP/1.1\r\nhost: a\r\nauthorization: Bearer a.b.c\r\nconnection: close\r\n\r\n".into(), &["401"]),
        ("GET /api HTTP/1.1\r\nhost: a\r\nauthorization: Basic !!!\r\nconnection: close\r\n\r\n".into(), &["401"]),
    ] {
        let answer = raw(&env, true, text.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let code = answer.split(' ').nth(1).unwrap_or_default();
        // Where the request was not even read, the connection just ends.
        let short: String = text.chars().take(60).collect();
        assert!(answer.is_empty() || codes.contains(&code), "{short}: {answer}");
    }
    raw(&env, true, &[0xff; 1_000]).await;
    raw(
        &env,
        true,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff",
    )
    .await;
    let request = Request::get(MAPS)
        .body(kube::client::Body::empty())
        .unwrap();
    let answer = env.client.kube().send(request).await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// Who writes a whole body before it reads hears why nobody wants it.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_nobody_reads_are_answered_in_words() {
    let env = Env::start().await;
    let text = format!(
        r#"{{"metadata":{{"name":"a"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(2 << 20)
    );
    for body in [text.clone(), text.repeat(2)] {
        let length = body.len();
        let head = format!(
            "POST {MAPS} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer a.b.c\r\ncontent-type: {JSON}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let stream = TcpStream::connect(env.address).await.unwrap();
        let mut stream = encrypted(&env, stream).await;
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(answer.split(' ').nth(1), Some("401"), "{length}: {answer}");
    }
}
