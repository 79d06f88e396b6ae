//! A server that shuts down: not ready first, what was begun is answered, watches end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::env::{Env, kubectls};
use crate::fakes::Slow;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_is_answered_and_watches_end() {
    let Some(kubectl) = kubectls().into_iter().next() else {
        return;
    };
    let (slow, gate, mut has_begun) = Slow::new();
    let env = Env::with(|p| p.admission = vec![slow]).await;
    let env = Arc::new(env);
    let watching = {
        let env = env.clone();
        tokio::spawn(async move { env.watch("/api/v1/pods?watch=true", |_| false).await })
    };
    let creating = {
        let env = env.clone();
        let run = async move { env.kubectl(&kubectl, "create configmap slow", "").await };
        tokio::spawn(run)
    };
    has_begun.wait_for(|b| *b).await.unwrap();
    env.leave();
    let reply = env.get("/readyz").await;
    assert_eq!(reply.code, 500, "{reply:?}");
    let made = env
        .post("/api/v1/namespaces", &json!({"metadata": {"name": "late"}}))
        .await;
    assert_eq!(
        made.code, 201,
        "what comes before the end is answered: {made:?}"
    );
    let draining = {
        let env = env.clone();
        tokio::spawn(async move { env.drain().await })
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), watching).await;
    assert!(ended.expect("the watch ends").unwrap().is_empty());
    assert!(!draining.is_finished(), "a request is on its way");
    gate.send_replace(true);
    let (ok, said) = creating.await.unwrap();
    assert!(ok, "{said}");
    tokio::time::timeout(Duration::from_secs(5), draining)
        .await
        .expect("nothing is left")
        .unwrap();
    let stored = env.get("/api/v1/namespaces/default/configmaps/slow").await;
    assert_eq!(stored.code, 200, "{stored:?}");
}
