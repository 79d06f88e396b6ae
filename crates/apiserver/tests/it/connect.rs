//! Connect subresources against a kubelet over TLS.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::env::Env;
use crate::fakes;

async fn made(env: &Env, path: &str, object: Value) {
    let reply = env.post(path, &object).await;
    assert_eq!(reply.code, 201, "{reply:?}");
}

fn pod(name: &str, node: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": node,
        "containers": [{"name": "c", "image": "i"}]}})
}

async fn cluster() -> Env {
    let env = Env::start().await;
    let kubelet = fakes::kubelet(&env.pki, "node-1").await;
    let node = json!({"metadata": {"name": "node-1"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port()}}}});
    made(&env, "/api/v1/nodes", node.clone()).await;
    // Where the resource has a status subresource, create dropped it.
    let status = env.get("/api/v1/nodes/node-1").await.json();
    if status["status"]["addresses"].is_null() {
        let path = "/api/v1/nodes/node-1/status";
        let reply = env
            .patch(path, "merge", &json!({"status": node["status"]}))
            .await;
        assert_eq!(reply.code, 200, "{reply:?}");
    }
    env
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn logs_come_from_the_kubelet() {
    let env = cluster().await;
    made(&env, PODS, pod("p", "node-1")).await;
    made(&env, PODS, pod("waiting", "node-1")).await;
    let reply = env
        .get(&format!("{PODS}/p/log?tailLines=3&timestamps=true"))
        .await;
    assert_eq!(reply.code, 200, "{reply:?}");
    assert_eq!(reply.headers["content-type"], "text/plain");
    assert_eq!(
        String::from_utf8_lossy(&reply.body),
        "GET /containerLogs/default/p/c?tailLines=3&timestamps=true\n"
    );
    let reply = env.get(&format!("{PODS}/waiting/log")).await;
    let status = reply.json();
    assert_eq!(status["reason"], "BadRequest");
    assert_eq!(
        status["message"],
        "container \"c\" in pod \"waiting\" is waiting to start: ContainerCreating"
    );
    for (path, code, message) in [
        ("none/log", 404, "pods \"none\" not found"),
        (
            "p/log?container=x",
            400,
            "container x is not valid for pod p",
        ),
        (
            "p/log?limitBytes=0",
            422,
            "PodLogOptions \"p\" is invalid: limitBytes: Invalid value: 0: must be greater than 0",
        ),
    ] {
        let reply = env.get(&format!("{PODS}/{path}")).await;
        assert_eq!(reply.code, code, "{reply:?}");
        assert_eq!(reply.json()["message"], message);
    }
    let reply = env.get(&format!("{PODS}/p/exec?command=a")).await;
    assert_eq!(reply.json()["message"], "Upgrade request required");
    let reply = env
        .send("POST", &format!("{PODS}/p/log"), "", Vec::new())
        .await;
    assert_eq!(reply.code, 405);
}

#[tokio::test]
async fn proxies_rewrite_what_comes_back() {
    let env = cluster().await;
    let base = "/api/v1/nodes/node-1/proxy";
    let reply = env
        .ask(
            "POST",
            &format!("{base}/a%20b/?x=1"),
            &[("authorization", "Bearer x")],
            b"hi".to_vec(),
        )
        .await;
    assert_eq!(String::from_utf8_lossy(&reply.body), "POST /a%20b/?x=1\nhi");
    let reply = env.get(&format!("{base}/x.html")).await;
    assert_eq!(
        String::from_utf8_lossy(&reply.body),
        format!("<a href=\"{base}/rewriteme\">test</a>")
    );
    let reply = env.get(&format!("{base}/moved")).await;
    assert_eq!(reply.headers["location"], format!("{base}/elsewhere"));
    let reply = env.get(base).await;
    assert_eq!(
        (reply.code, &reply.headers["location"]),
        (301, &format!("{base}/").parse().unwrap())
    );
    for (path, code, message) in [
        (
            "nodes/ftp:a:1/proxy/",
            400,
            "invalid node request \"ftp:a:1\"",
        ),
        (
            "namespaces/default/services/s:81/proxy/",
            503,
            "no service port 81 found for service \"s\"",
        ),
        (
            "namespaces/default/services/s/proxy/",
            503,
            "no endpoints available for service \"s\"",
        ),
        (
            "namespaces/default/pods/p/proxy/",
            400,
            "address not allowed",
        ),
    ] {
        if path.contains("services/s:") {
            let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}});
            made(&env, "/api/v1/namespaces/default/services", service).await;
            made(&env, PODS, pod("p", "node-1")).await;
        }
        let reply = env.get(&format!("/api/v1/{path}")).await;
        assert_eq!(reply.code, code, "{path} {reply:?}");
        assert_eq!(reply.json()["message"], message);
    }
}

/// A TLS connection to the server as its administrator.
async fn connection(env: &Env) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(env.pki.ca.der().clone()).unwrap();
    let admin = env.pki.admin();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(admin.chain().unwrap(), admin.key().unwrap())
        .unwrap();
    let stream = tokio::net::TcpStream::connect(env.address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

async fn read_until(stream: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        let mut byte = [0];
        while !seen.ends_with(end.as_bytes()) && stream.read(&mut byte).await.unwrap_or(0) > 0 {
            seen.push(byte[0]);
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), reading).await;
    assert!(waited.is_ok(), "{}", String::from_utf8_lossy(&seen));
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn upgrades_are_joined_bytewise() {
    let env = cluster().await;
    made(&env, PODS, pod("p", "node-1")).await;
    for (verb, path, expected) in [
        (
            "POST",
            "exec?command=sh&stdin=true&stdout=true&stderr=false",
            "POST /exec/default/p/c?command=sh&input=1&output=1\n",
        ),
        ("POST", "portforward", "POST /portForward/default/p\n"),
        (
            "GET",
            "attach?stdout=1&stderr=1&tty=1",
            "GET /attach/default/p/c?error=1&output=1&tty=1\n",
        ),
    ] {
        let mut stream = connection(&env).await;
        let head = format!(
            "{verb} {PODS}/p/{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        assert!(
            answer.to_lowercase().contains("upgrade: spdy/3.1"),
            "{answer}"
        );
        assert_eq!(read_until(&mut stream, "\n").await, expected);
        stream.write_all(b"ping\n").await.unwrap();
        assert_eq!(read_until(&mut stream, "\n").await, "ping\n");
    }
}

#[tokio::test]
async fn logs_come_as_websocket_messages() {
    let env = cluster().await;
    made(&env, PODS, pod("p", "node-1")).await;
    let mut stream = connection(&env).await;
    let head = format!(
        "GET {PODS}/p/log HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: binary.k8s.io\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    // The example key of RFC 6455.
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    let mut frame = [0; 2];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[0], 0x82);
    let mut text = vec![0; frame[1] as usize];
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&text),
        "GET /containerLogs/default/p/c\n"
    );
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[0], 0x88);
}
