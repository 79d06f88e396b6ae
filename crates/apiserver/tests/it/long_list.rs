//! A list of many pods is sent in pieces, whatever its form: it takes no more memory than a short one. `$K0S_LIST_PODS` makes
//! it long, and has the figures judged; alone (`long_list`), as the memory of the process is looked at.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::json;

use crate::env::{Env, sqlite};

/// Pods of about 700 bytes, where not more are asked for.
const PODS: usize = 2_000;
/// What a list that is being sent may add to the process, whatever its length: the objects are the cache's.
const MORE_KIB: u64 = 8 << 10;

/// What is asked for, and how it is packed.
const FORMS: [(&str, &str); 5] = [
    ("application/json", "identity"),
    ("application/vnd.kubernetes.protobuf", "identity"),
    ("application/json", "gzip"),
    ("application/vnd.kubernetes.protobuf", "gzip"),
    ("application/json;as=Table;v=v1;g=meta.k8s.io", "identity"),
];
/// No piece is larger: most are of 64 KiB, the first of a protobuf list holds what was kept from counting it.
const LARGEST: usize = 384 << 10;

async fn filled(pods: usize) -> (Env, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path());
    for from in (0..pods).step_by(500) {
        let all = (from..pods.min(from + 500)).map(|i| {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{i:06}"),
                "namespace": "default", "uid": format!("uid-{i}"), "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"text": "x".repeat(400)}},
                "spec": {"containers": [{"name": "c", "image": "registry.example/none:1"}]}, "status": {"phase": "Pending"}});
            let key = format!("/registry/pods/default/pod-{i:06}");
            store.create(Bytes::from(key), Bytes::from(pod.to_string()), 0)
        });
        for done in futures::future::join_all(all).await {
            done.unwrap();
        }
    }
    (Env::over(store).await, dir)
}

/// The process's memory in KiB.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_takes_the_same_memory_however_long() {
    let asked = std::env::var("K0S_LIST_PODS").ok();
    let pods = asked.as_ref().map_or(PODS, |n| n.parse().unwrap());
    let (env, _dir) = filled(pods).await;
    env.until("/api/v1/pods?limit=1", |r| r.code == 200).await;
    for (accept, encoding) in FORMS {
        let before = resident();
        let request = Request::get("/api/v1/pods").header("accept", accept);
        let request = request.header("accept-encoding", encoding);
        let request = request.body(kube::client::Body::empty()).unwrap();
        let answer = env.client.kube().send(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let media = accept.split(';').next().unwrap();
        assert_eq!(answer.headers()["content-type"], media);
        let packed = answer.headers().get("content-encoding");
        let packed = packed.is_some_and(|e| e == "gzip");
        assert_eq!(packed, encoding == "gzip");
        let mut body = answer.into_body();
        let (mut bytes, mut frames, mut most, mut largest) = (0, 0, 0, 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.unwrap().into_data().unwrap();
            (bytes, frames) = (bytes + frame.len(), frames + 1);
            largest = largest.max(frame.len());
            if frames % 50 == 1 {
                most = most.max(resident());
            }
        }
        assert!(packed || bytes > pods * 200, "{bytes} bytes");
        assert!(largest < LARGEST, "a piece of {largest} bytes");
        let more = most.saturating_sub(before);
        println!(
            "{pods} pods as {accept} {encoding}: {bytes} bytes in {frames} pieces, {more} KiB more than the {before} KiB before"
        );
        if asked.is_some() {
            assert!(more < MORE_KIB, "{more} KiB");
        }
    }
}
