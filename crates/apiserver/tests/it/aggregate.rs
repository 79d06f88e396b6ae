//! Aggregated servers: one that works, one that hangs, one that answers nonsense, one that never stops talking.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use pki::LeafRequest;
use rustls::RootCertStore;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::env::{Env, Reply};
use crate::fakes;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Good,
    Hanging,
    Garbage,
    Endless,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn whole(code: u16, kind: &str, text: String) -> Response<Body> {
    Response::builder()
        .status(code)
        .header("content-type", kind)
        .body(Full::new(Bytes::from(text)).boxed_unsync())
        .unwrap()
}

async fn answer(manner: Manner, request: Request<Incoming>) -> Response<Body> {
    match manner {
        Manner::Good => good(request),
        Manner::Hanging => std::future::pending().await,
        Manner::Garbage => whole(200, AGGREGATED, "{\"items\": [[[\u{1}".into()),
        Manner::Endless => {
            let chunk = Bytes::from(vec![b'x'; 64 << 10]);
            let chunks = futures::stream::repeat(chunk).map(|c| Ok(Frame::data(c)));
            Response::new(BodyExt::boxed_unsync(StreamBody::new(chunks)))
        }
    }
}

fn good(mut request: Request<Incoming>) -> Response<Body> {
    let json = "application/json";
    match request.uri().path() {
        "/apis" => {
            let things = json!({"resource": "things", "scope": "Namespaced", "verbs": ["get"],
                "responseKind": {"group": "good.io", "version": "v1", "kind": "Thing"}});
            let list = json!({"items": [{"metadata": {"name": "good.io"},
                "versions": [{"version": "v1", "resources": [things]}]}]});
            whole(200, AGGREGATED, list.to_string())
        }
        "/apis/good.io/v1" => whole(200, json, json!({"kind": "APIResourceList"}).to_string()),
        "/openapi/v3" => {
            let url = "/openapi/v3/apis/good.io/v1?hash=1";
            let list = json!({"paths": {"apis/good.io/v1": {"serverRelativeURL": url}}});
            whole(200, json, list.to_string())
        }
        "/openapi/v3/apis/good.io/v1" => whole(
            200,
            json,
            json!({"openapi": "3.0.0", "mine": true}).to_string(),
        ),
        "/openapi/v2" => {
            let document =
                json!({"paths": {"/apis/good.io/v1/things": {}, "/apis/apps/v1/mine": {}}});
            whole(200, json, document.to_string())
        }
        "/apis/good.io/v1/away" => {
            let mut answer = whole(302, json, String::new());
            let to = "https://example.com/".parse().unwrap();
            answer.headers_mut().insert("location", to);
            answer
        }
        "/apis/good.io/v1/echo" => {
            tokio::spawn(async move {
                let Ok(upgraded) = hyper::upgrade::on(&mut request).await else {
                    return;
                };
                let mut stream = TokioIo::new(upgraded);
                let mut said = [0; 4];
                stream.read_exact(&mut said).await.unwrap();
                stream.write_all(&said).await.unwrap();
            });
            let mut answer = whole(101, json, String::new());
            for (name, value) in [("connection", "Upgrade"), ("upgrade", "echo")] {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            answer
        }
        path => {
            let headers = request.headers().iter();
            let headers: Vec<String> = headers
                .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
                .collect();
            let seen = json!({"method": request.method().as_str(), "path": path,
                "query": request.uri().query(), "headers": headers});
            whole(201, json, seen.to_string())
        }
    }
}

/// A server that lets in the front proxy alone; its port.
async fn server(env: &Env, manner: Manner) -> u16 {
    let request = LeafRequest::server("server", &[], vec!["s.default.svc".into()]);
    let identity = env.pki.ca.issue(&request).unwrap();
    let answer = move |request| async move { Ok(answer(manner, request).await) };
    let address = fakes::serve(&identity, Some(&env.pki.front_proxy_ca), answer).await;
    address.port()
}

/// Registers a group at a port of this host.
async fn register(env: &Env, group: &str, port: u16) {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    let made = env
        .post("/api/v1/namespaces/default/services", &service)
        .await;
    assert!([201, 409].contains(&made.code), "{made:?}");
    let bundle = base64::prelude::BASE64_STANDARD.encode(env.pki.ca.pem());
    let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("v1.{group}")}, "spec": {"group": group, "version": "v1",
            "caBundle": bundle, "groupPriorityMinimum": 50, "versionPriority": 10,
            "service": {"namespace": "default", "name": "s", "port": port}}});
    let made = env.post(SERVICES, &object).await;
    assert_eq!(made.code, 201, "{made:?}");
}

/// Waits for a condition `Available` of this reason; gives its message.
async fn available(env: &Env, group: &str, reason: &str) -> String {
    let path = format!("{SERVICES}/v1.{group}");
    let is = |r: &Reply| r.json()["status"]["conditions"][0]["reason"] == reason;
    let found = env.until(&path, is).await.json();
    let message = found["status"]["conditions"][0]["message"].as_str();
    message.unwrap().to_string()
}

/// What aggregated discovery says of a group's version.
async fn discovered(env: &Env, group: &str) -> Value {
    let reply = env
        .ask("GET", "/apis", &[("accept", AGGREGATED)], Vec::new())
        .await;
    let list = reply.json();
    let mut groups = list["items"].as_array().unwrap().iter();
    let found = groups.find(|g| g["metadata"]["name"] == group);
    found.map(|g| g["versions"][0].clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_this_one_is_served() {
    let env = Env::start().await;
    env.aggregate();
    let port = server(&env, Manner::Good).await;
    register(&env, "good.io", port).await;
    assert_eq!(
        available(&env, "good.io", "Passed").await,
        "all checks passed"
    );
    let version = discovered(&env, "good.io").await;
    assert_eq!(version["freshness"], "Current");
    assert_eq!(version["resources"][0]["resource"], "things");
    let path = "/apis/good.io/v1/namespaces/default/things?b=1&a=%2F";
    env.until("/apis/good.io/v1", |r| r.code == 200).await;
    let headers = [
        ("authorization", "Bearer x"),
        ("x-remote-user", "evil"),
        ("accept", "a/b"),
    ];
    let reply = env.ask("POST", path, &headers, b"{}".to_vec()).await;
    assert_eq!(reply.code, 201, "{reply:?}");
    let seen = reply.json();
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["path"], "/apis/good.io/v1/namespaces/default/things");
    assert_eq!(seen["query"], "b=1&a=%2F");
    let has = |line: &str| seen["headers"].as_array().unwrap().contains(&json!(line));
    for line in [
        "x-remote-user: test",
        "x-remote-group: system:masters",
        "accept: a/b",
    ] {
        assert!(has(line), "{line} not in {seen}");
    }
    assert!(!seen.to_string().contains("evil") && !seen.to_string().contains("Bearer"));
    let reply = env.get("/apis/good.io/v1/away").await;
    assert_eq!(reply.code, 502);
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.contains("the backend attempted to redirect this request"));
    // OpenAPI: its own document, and in the whole only what is its own.
    let has = |r: &Reply| r.json()["paths"]["apis/good.io/v1"].is_object();
    env.until("/openapi/v3", has).await;
    let document = env.get("/openapi/v3/apis/good.io/v1").await.json();
    assert_eq!(document["mine"], true);
    let has = |r: &Reply| r.json()["paths"]["/apis/good.io/v1/things"].is_object();
    let whole = env.until("/openapi/v2", has).await.json();
    assert!(whole["paths"]["/apis/apps/v1/mine"].is_null());
    // The Service goes: nobody is sent there any more.
    let gone = env.delete("/api/v1/namespaces/default/services/s").await;
    assert_eq!(gone.code, 200, "{gone:?}");
    assert_eq!(
        available(&env, "good.io", "ServiceNotFound").await,
        "service/s in \"default\" is not present"
    );
    let reply = env.until("/apis/good.io/v1", |r| r.code == 503).await;
    assert_eq!(reply.body, b"service unavailable\n");
    // As upstream, it counts after it has written the condition.
    for line in [
        "aggregator_unavailable_apiservice{name=\"v1.good.io\"} 1",
        "aggregator_unavailable_apiservice{name=\"v1.apps\"} 0",
        "aggregator_unavailable_apiservice_total{name=\"v1.good.io\",reason=\"ServiceNotFound\"} 1",
    ] {
        let has = |r: &Reply| String::from_utf8_lossy(&r.body).lines().any(|l| l == line);
        env.until("/metrics", has).await;
    }
    env.delete(&format!("{SERVICES}/v1.good.io")).await;
    env.until("/apis/good.io", |r| r.code == 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_joined_with_the_server_behind() {
    let env = Env::start().await;
    env.aggregate();
    let port = server(&env, Manner::Good).await;
    register(&env, "good.io", port).await;
    available(&env, "good.io", "Passed").await;
    env.until("/apis/good.io/v1", |r| r.code == 200).await;
    let admin = env.pki.admin();
    let mut roots = RootCertStore::empty();
    roots.add(env.pki.ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(admin.chain().unwrap(), admin.key().unwrap())
        .unwrap();
    let stream = TcpStream::connect(env.address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let head = "GET /apis/good.io/v1/echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let talk = async {
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"ping").await.unwrap();
        let mut said = [0; 4];
        stream.read_exact(&mut said).await.unwrap();
        said
    };
    let said = tokio::time::timeout(Duration::from_secs(10), talk).await;
    assert_eq!(&said.expect("an echo in time"), b"ping");
    assert!(String::from_utf8_lossy(&seen).starts_with("HTTP/1.1 101 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_servers_hold_nobody_up() {
    let env = Env::start().await;
    env.aggregate();
    for (group, manner) in [
        ("hanging.io", Manner::Hanging),
        ("garbage.io", Manner::Garbage),
        ("endless.io", Manner::Endless),
    ] {
        let port = server(&env, manner).await;
        register(&env, group, port).await;
    }
    let why = available(&env, "hanging.io", "FailedDiscoveryCheck").await;
    assert!(
        why.starts_with("failing or missing response from https://localhost:"),
        "{why}"
    );
    assert!(why.contains("Client.Timeout exceeded"), "{why}");
    let reply = env.get("/apis/hanging.io/v1").await;
    assert_eq!(
        (reply.code, &*reply.body),
        (503, &b"service unavailable\n"[..])
    );
    // They answer a probe, and are there; what they say of themselves is nothing.
    for group in ["garbage.io", "endless.io"] {
        available(&env, group, "Passed").await;
        assert_eq!(
            discovered(&env, group).await,
            json!({"version": "v1", "freshness": "Stale"})
        );
    }
    assert_eq!(discovered(&env, "hanging.io").await["freshness"], "Stale");
    assert!(env.get("/openapi/v2").await.json()["paths"].is_object());
    // An endless answer flows as fast as its reader takes it, and ends with him.
    env.until("/apis/garbage.io/v1", |r| r.code == 200).await;
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    let answer = loop {
        let request = Request::get("/apis/endless.io/v1/things")
            .body(kube::client::Body::empty())
            .unwrap();
        let answer = env.client.kube().send(request).await.unwrap();
        // Its status is told a moment before it is routed to.
        if answer.status() != 503 {
            break answer;
        }
        assert!(tokio::time::Instant::now() < end, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first.first(), Some(&b'x'));
}
