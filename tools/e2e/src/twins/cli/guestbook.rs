//! Twin of the Guestbook application.

use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::images::AGNHOST_IMAGE;
use crate::rest::Cx;
use crate::waits;

pub const TWINS: &[Twin] = &[twin!(
    "[sig-cli] Kubectl client Guestbook application should create and stop a working application [Conformance]",
    "kubectl",
    guestbook
)];

fn service(name: &str, labels: &Value, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels},
        "spec": {"ports": [{"port": port}], "selector": labels}})
}

fn deployment(
    (name, container): (&str, &str),
    replicas: u32,
    labels: &Value,
    port: u16,
    args: &[&str],
) -> Value {
    let args = [&["guestbook"], args].concat();
    let container = json!({"name": container, "image": AGNHOST_IMAGE,
        "args": args,
        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}},
        "ports": [{"containerPort": port}]});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}})
}

/// The application's objects, in the order they are made.
fn manifests() -> Vec<Value> {
    let backend = |role: &str| json!({"app": "agnhost", "role": role, "tier": "backend"});
    let (primary, replica) = (backend("primary"), backend("replica"));
    let front = json!({"app": "guestbook", "tier": "frontend"});
    let of_primary = ["--http-port", "6379"];
    let of_replica = ["--replicaof", "agnhost-primary", "--http-port", "6379"];
    let mut primary_service = service("agnhost-primary", &primary, 6379);
    primary_service["spec"]["ports"][0]["targetPort"] = 6379.into();
    vec![
        service("agnhost-replica", &replica, 6379),
        primary_service,
        service("frontend", &front, 80),
        deployment(
            ("frontend", "guestbook-frontend"),
            3,
            &front,
            80,
            &["--backend-port", "6379"],
        ),
        deployment(
            ("agnhost-primary", "primary"),
            1,
            &primary,
            6379,
            &of_primary,
        ),
        deployment(
            ("agnhost-replica", "replica"),
            2,
            &replica,
            6379,
            &of_replica,
        ),
    ]
}

/// Asks the front end through the API server until it gives this answer.
async fn answers(cx: &Cx, query: &str, wanted: &str, within: Duration) -> Result<()> {
    let path = format!("{}?{query}", cx.core("services/frontend/proxy/guestbook"));
    let what = format!("{wanted} from {query}");
    cx.eventually(Duration::from_secs(5), within, &what, || async {
        let answer = cx.raw(Method::GET, &path, &[], "").await?;
        Ok(answer.code == 200 && answer.text == wanted)
    })
    .await
}

async fn guestbook(cx: Cx) -> Result<()> {
    let minutes = |n: u64| Duration::from_secs(n * 60);
    for manifest in manifests() {
        cx.k(&["create", "-f", "-"], &manifest.to_string()).await?;
    }
    cx.eventually(
        Duration::from_secs(1),
        minutes(10),
        "running pods of the front end",
        || async {
            let pods = waits::pods(&cx, "app=guestbook,tier=frontend").await?;
            Ok(!pods.is_empty() && pods.iter().all(|p| p["status"]["phase"] == "Running"))
        },
    )
    .await?;
    let read = "cmd=get&key=messages&value=";
    answers(&cx, read, r#"{"data":""}"#, minutes(10)).await?;
    let write = "cmd=set&key=messages&value=TestEntry";
    answers(&cx, write, r#"{"message":"Updated"}"#, minutes(3)).await?;
    answers(&cx, read, r#"{"data":"TestEntry"}"#, minutes(3)).await?;
    for manifest in manifests() {
        let delete = ["delete", "--grace-period=0", "--force", "-f", "-"];
        cx.k(&delete, &manifest.to_string()).await?;
    }
    Ok(())
}
