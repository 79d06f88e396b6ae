//! A list of many pods is sent in pieces: in JSON it takes no more memory than a short one. (In protobuf it does: the whole is
//! made first.) `$K0S_LIST_PODS` makes it long, and tells
//! the figures; alone (`long_list`), as the memory of the process is looked at.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::json;

use crate::env::{Env, sqlite};

/// Pods of about 700 bytes, where not more are asked for.
const PODS: usize = 2_000;
/// What a JSON list that is being sent may add to the process, whatever its length: the objects are the cache's.
const MORE_KIB: u64 = 8 << 10;

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
    for media in ["application/json", "application/vnd.kubernetes.protobuf"] {
        let before = resident();
        let request = Request::get("/api/v1/pods").header("accept", media);
        let request = request.body(kube::client::Body::empty()).unwrap();
        let answer = env.client.kube().send(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], media);
        let mut body = answer.into_body();
        let (mut bytes, mut frames, mut most) = (0, 0, 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.unwrap().into_data().unwrap();
            (bytes, frames) = (bytes + frame.len(), frames + 1);
            if frames % 50 == 1 {
                most = most.max(resident());
            }
        }
        assert!(bytes > pods * 400, "{bytes} bytes");
        let more = most.saturating_sub(before);
        println!(
            "{pods} pods as {media}: {bytes} bytes in {frames} pieces, {more} KiB more than the {before} KiB before"
        );
        if asked.is_some() && media == "application/json" {
            assert!(more < MORE_KIB, "{more} KiB");
        }
    }
}
