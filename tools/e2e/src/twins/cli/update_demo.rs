//! Twins of the Update Demo.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use super::cleanup;
use crate::images::NAUTILUS_IMAGE;
use crate::rest::{Cx, POD_START};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-cli] Kubectl client Update Demo should create and stop a replication controller [Conformance]",
        "kubectl",
        create_and_stop
    ),
    twin!(
        "[sig-cli] Kubectl client Update Demo should scale a replication controller [Conformance]",
        "kubectl",
        scale
    ),
];

const SELECTOR: &str = "name=update-demo";

fn manifest() -> String {
    let labels = json!({"name": "update-demo", "version": "nautilus"});
    json!({"apiVersion": "v1", "kind": "ReplicationController",
        "metadata": {"name": "update-demo-nautilus"},
        "spec": {"replicas": 2, "selector": labels, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "update-demo", "image": NAUTILUS_IMAGE,
                "ports": [{"containerPort": 80}]}]}}}})
    .to_string()
}

/// Is there exactly this many pods, all running, of the image and serving its picture?
async fn is(cx: &Cx, n: usize) -> Result<bool> {
    let names = "--template={{range.items}}{{.metadata.name}} {{end}}";
    let out = cx
        .k(
            &["get", "pods", "-o", "template", names, "-l", SELECTOR],
            "",
        )
        .await?;
    let pods: Vec<&str> = out.split_whitespace().collect();
    if pods.len() != n {
        return Ok(false);
    }
    let running = "--template={{if (exists . \"status\" \"containerStatuses\")}}\
        {{range .status.containerStatuses}}{{if (and (eq .name \"update-demo\") \
        (exists . \"state\" \"running\"))}}true{{end}}{{end}}{{end}}";
    let image = "--template={{if (exists . \"spec\" \"containers\")}}{{range .spec.containers}}\
        {{if eq .name \"update-demo\"}}{{.image}}{{end}}{{end}}{{end}}";
    for pod in pods {
        let get = ["get", "pods", pod, "-o", "template"];
        let out = cx.k(&[&get[..], &[running]].concat(), "").await?;
        if out != "true" {
            return Ok(false);
        }
        let out = cx.k(&[&get[..], &[image]].concat(), "").await?;
        if out != NAUTILUS_IMAGE {
            return Ok(false);
        }
        let path = cx.core(&format!("pods/{pod}/proxy/data.json"));
        let answer = cx.raw(Method::GET, &path, &[], "").await?;
        let data: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        let picture = data["image"].as_str().unwrap_or_default();
        if answer.code != 200 || !picture.contains("nautilus.jpg") {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn check(cx: &Cx, n: usize) -> Result<()> {
    let what = format!("{n} pods of the demo");
    cx.eventually(Duration::from_secs(2), POD_START, &what, || is(cx, n))
        .await?;
    ensure!(n > 0, "a demo has pods");
    Ok(())
}

async fn create_and_stop(cx: Cx) -> Result<()> {
    cx.k(&["create", "-f", "-"], &manifest()).await?;
    check(&cx, 2).await?;
    cleanup(&cx, &manifest(), SELECTOR).await
}

async fn scale(cx: Cx) -> Result<()> {
    cx.k(&["create", "-f", "-"], &manifest()).await?;
    check(&cx, 2).await?;
    for n in [1, 2] {
        let replicas = format!("--replicas={n}");
        let args = [
            "scale",
            "rc",
            "update-demo-nautilus",
            &replicas,
            "--timeout=5m",
        ];
        cx.k(&args, "").await?;
        check(&cx, n).await?;
    }
    cleanup(&cx, &manifest(), SELECTOR).await
}
