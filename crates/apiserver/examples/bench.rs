//! What a request costs: CPU of the whole process (server and client) and of the server's threads,
//! over TLS at concurrency 16. `cargo run --release -p apiserver --example bench`. Prints, never asserts.
//! With a file's name it writes a kubeconfig there and serves, for requests by hand and `differential --kubeconfig`.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A tool for developers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{Identity, Lanes, Plugins, Server, Tls};
use http::Request;
use pki::{Pki, PkiOptions};
use serde_json::json;
use store::Store;
use store::sqlite::Sqlite;
use tokio::net::TcpListener;

const CONCURRENCY: usize = 16;
const OBJECTS: usize = 4_000;
const LIST: usize = 10_000;

/// CPU time of threads whose names begin with a text.
fn cpu(prefix: &str) -> Duration {
    let ticks = 100.0;
    let mut total = 0.0;
    for entry in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let (head, rest) = stat.rsplit_once(')').unwrap();
        let name = head.split_once('(').unwrap().1;
        if !name.starts_with(prefix) {
            continue;
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        total += (words[11].parse::<f64>().unwrap() + words[12].parse::<f64>().unwrap()) / ticks;
    }
    Duration::from_secs_f64(total)
}

/// Everything but the client's threads.
fn server_cpu() -> Duration {
    cpu("") - cpu("client")
}

async fn send(client: &kube::Client, method: &str, path: &str, body: Vec<u8>) -> usize {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(kube::client::Body::from(body))
        .unwrap();
    let answer = client.send(request).await.unwrap();
    let code = answer.status();
    let body = answer.into_body().collect_bytes().await.unwrap();
    assert!(
        code.is_success(),
        "{method} {path}: {}",
        String::from_utf8_lossy(&body)
    );
    body.len()
}

/// Runs `n` requests at the concurrency; prints what one cost the server.
async fn measure(
    what: &str,
    clients: &[kube::Client],
    n: usize,
    make: impl Fn(usize) -> (&'static str, String, Vec<u8>) + Send + Sync + 'static,
) {
    let make = Arc::new(make);
    let (cpu, begun) = (server_cpu(), Instant::now());
    let mut tasks = Vec::new();
    for (t, client) in clients.iter().enumerate() {
        let (client, make) = (client.clone(), make.clone());
        tasks.push(tokio::spawn(async move {
            for i in (t..n).step_by(CONCURRENCY) {
                let (method, path, body) = make(i);
                send(&client, method, &path, body).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let used = server_cpu() - cpu;
    println!(
        "{what:<10} {:>8.1} µs CPU of the server each, {:>8.0}/s",
        used.as_secs_f64() * 1e6 / n as f64,
        n as f64 / begun.elapsed().as_secs_f64()
    );
}

fn object(i: usize) -> Vec<u8> {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{i}"),
        "labels": {"app": "bench"}}, "data": {"text": "x".repeat(800)}})
    .to_string()
    .into_bytes()
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn main() {
    let server = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("server")
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = server.block_on(serve(dir.path()));
    if let Some(file) = std::env::args().nth(1).filter(|a| !a.starts_with("--")) {
        std::fs::write(file, kubeconfig).unwrap();
        return server.block_on(std::future::pending());
    }
    let client = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("client")
        .enable_all()
        .build()
        .unwrap();
    client.block_on(run(&kubeconfig));
}

async fn serve(dir: &std::path::Path) -> String {
    let (tell, _fatal) = tokio::sync::oneshot::channel();
    let store = Store::new(Sqlite::open(&dir.join("state.db"), tell).unwrap());
    let identity = Identity {
        git_version: "v1.37.0+k0s".into(),
        git_commit: "bench".into(),
        build_date: "1970-01-01T00:00:00Z".into(),
    };
    let options = resources::Options::default();
    let server = Server::new(store, resources::all(&options), identity)
        .await
        .unwrap();
    server.install(Plugins {
        authenticators: vec![Arc::new(auth::x509::X509::default())],
        authorizers: vec![Arc::new(auth::masters::Masters)],
        ..Plugins::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://127.0.0.1:{}",
        listener.local_addr().unwrap().port()
    );
    let pki = Pki::ensure(&PkiOptions {
        dir: dir.join("pki"),
        sans: vec!["127.0.0.1".into()],
        cluster_domain: "cluster.local".into(),
        service_ips: vec![IpAddr::from([10, 96, 0, 1])],
        server_url: url.clone(),
        issuer: "https://kubernetes.default.svc".into(),
        audiences: Vec::new(),
        etcd_peer: None,
    })
    .unwrap();
    let tls = Tls {
        chain: pki.server().chain().unwrap(),
        key: pki.server().key().unwrap(),
        client_cas: vec![pki.ca.der().clone()],
        proxy_cas: Vec::new(),
    };
    let acceptor = tls.acceptor().unwrap();
    let lanes = Lanes::start().unwrap();
    tokio::spawn(async move { server.serve(listener, acceptor, lanes).await });
    pki.kubeconfig(&url, pki.admin())
}

async fn connect(kubeconfig: &str) -> kube::Client {
    let file = kube::config::Kubeconfig::from_yaml(kubeconfig).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options)
        .await
        .unwrap();
    kube::Client::try_from(config).unwrap()
}

async fn run(kubeconfig: &str) {
    let mut clients = Vec::new();
    for _ in 0..CONCURRENCY {
        clients.push(connect(kubeconfig).await);
    }
    let ns = json!({"metadata": {"name": "default"}})
        .to_string()
        .into_bytes();
    send(&clients[0], "POST", "/api/v1/namespaces", ns).await;
    measure("create", &clients, OBJECTS, |i| {
        ("POST", MAPS.into(), object(i))
    })
    .await;
    measure("get", &clients, 4 * OBJECTS, |i| {
        ("GET", format!("{MAPS}/m{}", i % OBJECTS), Vec::new())
    })
    .await;
    measure("update", &clients, OBJECTS, |i| {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{i}")},
            "data": {"text": "y".repeat(800)}});
        ("PUT", format!("{MAPS}/m{i}"), body.to_string().into_bytes())
    })
    .await;
    measure("delete", &clients, OBJECTS, |i| {
        ("DELETE", format!("{MAPS}/m{i}"), Vec::new())
    })
    .await;
    measure("fill", &clients, LIST, |i| ("POST", MAPS.into(), object(i))).await;
    measure("list 10k", &clients, 2 * CONCURRENCY, |_| {
        ("GET", MAPS.into(), Vec::new())
    })
    .await;
    watch(&clients).await;
}

/// Sixteen watchers see a thousand changes.
async fn watch(clients: &[kube::Client]) {
    const EVENTS: usize = 1_000;
    use futures::TryStreamExt;
    let mut tasks = Vec::new();
    for client in clients {
        let path = format!(
            "{MAPS}?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&labelSelector=app=watched"
        );
        let request = Request::get(path)
            .body(kube::client::Body::empty())
            .unwrap();
        let answer = client.send(request).await.unwrap();
        tasks.push(tokio::spawn(async move {
            let mut body = http_body_util::BodyStream::new(answer.into_body());
            let mut seen = 0;
            while seen < EVENTS {
                let Ok(Some(frame)) = body.try_next().await else {
                    return;
                };
                let data = frame.into_data().unwrap_or_default();
                seen += data.iter().filter(|b| **b == b'\n').count();
            }
        }));
    }
    let cpu = server_cpu();
    for i in 0..EVENTS {
        let body = json!({"metadata": {"name": format!("w{i}"), "labels": {"app": "watched"}}, "data": {"text": "x".repeat(800)}});
        send(
            &clients[i % CONCURRENCY],
            "POST",
            MAPS,
            body.to_string().into_bytes(),
        )
        .await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let used = (server_cpu() - cpu).as_secs_f64() * 1e6;
    println!(
        "watch      {:>8.1} µs CPU for a create and its {CONCURRENCY} events",
        used / EVENTS as f64
    );
}
