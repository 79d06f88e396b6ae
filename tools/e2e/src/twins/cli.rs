//! Twins of [sig-cli], with a real kubectl.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use super::Twin;
use crate::images::{AGNHOST_IMAGE, BUSYBOX_IMAGE, PAUSE_IMAGE};
use crate::rest::{Cx, POD_START, labelled};
use crate::waits::{self, name, number};

pub mod describe;
pub mod guestbook;
pub mod proxy;
pub mod update_demo;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions [Conformance]",
        "kubectl",
        api_versions
    ),
    twin!(
        "[sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info [Conformance]",
        "kubectl",
        cluster_info
    ),
    twin!(
        "[sig-cli] Kubectl client Kubectl version should check is all data is printed [Conformance]",
        "kubectl",
        version
    ),
    twin!(
        "[sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments [Conformance]",
        "kubectl",
        diff
    ),
    twin!(
        "[sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods [Conformance]",
        "kubectl",
        dry_run
    ),
    twin!(
        "[sig-cli] Kubectl client Kubectl expose should create services for rc [Conformance]",
        "kubectl",
        expose
    ),
    twin!(
        "[sig-cli] Kubectl client Kubectl label should update the label on a resource [Conformance]",
        "kubectl",
        label
    ),
    twin!(
        "[sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc [Conformance]",
        "kubectl",
        patch
    ),
    twin!(
        "[sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never [Conformance]",
        "kubectl",
        run_pod
    ),
    twin!(
        "[sig-cli] Kubectl client Kubectl replace should update a single-container pod's image [Conformance]",
        "kubectl",
        replace
    ),
    twin!(
        "[sig-cli] Kubectl logs logs should be able to retrieve and filter logs [Conformance]",
        "kubectl-logs",
        logs
    ),
];

const HTTPD: &str = "registry.k8s.io/e2e-test-images/httpd:2.4.38-4";
const POD: &str = "e2e-test-httpd-pod";

async fn api_versions(cx: Cx) -> Result<()> {
    let out = cx.k(&["api-versions"], "").await?;
    ensure!(out.lines().any(|l| l == "v1"), "{out}");
    Ok(())
}

async fn cluster_info(cx: Cx) -> Result<()> {
    let out = cx.k(&["cluster-info"], "").await?;
    for part in ["Kubernetes control plane", "is running at"] {
        ensure!(out.contains(part), "{out}");
    }
    Ok(())
}

async fn version(cx: Cx) -> Result<()> {
    let out = cx.k(&["version"], "").await?;
    for side in ["Client", "Server"] {
        let wanted = format!(r"{side} Version: v\d\.\d+\.[\d\w\-\.\+]+");
        ensure!(regex::Regex::new(&wanted)?.is_match(&out), "{out}");
    }
    Ok(())
}

async fn diff(cx: Cx) -> Result<()> {
    let labels = json!({"app": "httpd"});
    let object = |image: &str| {
        let container = json!({"name": "httpd", "image": image, "ports": [{"containerPort": 80}]});
        crate::fixtures::workload("Deployment", "httpd-deployment", 1, &labels, container)
            .to_string()
    };
    cx.k(&["create", "-f", "-"], &object(HTTPD)).await?;
    let out = cx
        .kubectl(&["diff", "-f", "-"], &object(BUSYBOX_IMAGE))
        .await?;
    ensure!(out.ok || out.code == Some(1), "{out:?}");
    for image in [HTTPD, BUSYBOX_IMAGE] {
        ensure!(out.stdout.contains(image), "{out:?}");
    }
    cx.k(&["delete", "-f", "-"], &object(HTTPD)).await?;
    Ok(())
}

/// The image of a pod of one container.
async fn has_image(cx: &Cx, image: &str) -> Result<Value> {
    let pod = cx.get(&cx.core(&format!("pods/{POD}"))).await?;
    let containers = pod["spec"]["containers"].as_array();
    ensure!(
        containers.is_some_and(|all| all.len() == 1 && all[0]["image"] == image),
        "{pod}"
    );
    Ok(pod)
}

async fn run(cx: &Cx, more: &[&str]) -> Result<()> {
    let image = format!("--image={HTTPD}");
    let mut args = vec!["run", POD, "--pod-running-timeout=2m0s", &image];
    args.extend(more);
    cx.k(&args, "").await?;
    Ok(())
}

async fn dry_run(cx: Cx) -> Result<()> {
    run(&cx, &["--labels=run=e2e-test-httpd-pod"]).await?;
    let patch = json!({"spec": {"containers": [{"name": POD, "image": BUSYBOX_IMAGE}]}});
    let patch = patch.to_string();
    cx.k(&["patch", "pod", POD, "-p", &patch, "--dry-run=server"], "")
        .await?;
    let pod = has_image(&cx, HTTPD).await?;
    ensure!(name(&pod) == POD, "{pod}");
    cx.k(&["delete", "pods", POD], "").await?;
    Ok(())
}

async fn run_pod(cx: Cx) -> Result<()> {
    run(&cx, &["--restart=Never"]).await?;
    let pod = has_image(&cx, HTTPD).await?;
    ensure!(pod["spec"]["restartPolicy"] == "Never", "{pod}");
    cx.k(&["delete", "pods", POD], "").await?;
    Ok(())
}

async fn replace(cx: Cx) -> Result<()> {
    run(&cx, &["--labels=run=e2e-test-httpd-pod"]).await?;
    waits::running(&cx, POD).await?;
    let text = cx.k(&["get", "pod", POD, "-o", "json"], "").await?;
    ensure!(text.contains(POD), "{text}");
    let changed = text.replacen(HTTPD, BUSYBOX_IMAGE, 1);
    cx.k(&["replace", "-f", "-"], &changed).await?;
    has_image(&cx, BUSYBOX_IMAGE).await?;
    cx.k(&["delete", "pods", POD], "").await?;
    Ok(())
}

/// The ReplicationController of several tests.
fn agnhost_controller() -> String {
    let labels = json!({"app": "agnhost", "role": "primary"});
    json!({"apiVersion": "v1", "kind": "ReplicationController",
        "metadata": {"name": "agnhost-primary", "labels": labels},
        "spec": {"replicas": 1, "selector": labels, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "agnhost-primary", "image": AGNHOST_IMAGE,
                "ports": [{"name": "agnhost-server", "containerPort": 6379}]}]}}}})
    .to_string()
}

/// Creates the controller and waits for its pod; the pods that run.
async fn primary(cx: &Cx) -> Result<Vec<Value>> {
    cx.k(&["create", "-f", "-"], &agnhost_controller()).await?;
    primary_pods(cx).await
}

/// Waits until a pod of the controller runs; all that do.
async fn primary_pods(cx: &Cx) -> Result<Vec<Value>> {
    let running = async || {
        let mut all = waits::pods(cx, "app=agnhost").await?;
        all.retain(|p| p["status"]["phase"] == "Running");
        anyhow::Ok(all)
    };
    let every = Duration::from_secs(1);
    cx.eventually(every, POD_START, "a pod of agnhost-primary", || async {
        Ok(!running().await?.is_empty())
    })
    .await?;
    running().await
}

async fn patch(cx: Cx) -> Result<()> {
    for pod in primary(&cx).await? {
        let patch = r#"{"metadata":{"annotations":{"x":"y"}}}"#;
        cx.k(&["patch", "pod", name(&pod), "-p", patch], "").await?;
    }
    let pods = primary_pods(&cx).await?;
    ensure!(!pods.is_empty(), "no pods");
    for pod in pods {
        ensure!(pod["metadata"]["annotations"]["x"] == "y", "{pod}");
    }
    Ok(())
}

async fn label(cx: Cx) -> Result<()> {
    let container =
        json!({"name": "pause", "image": PAUSE_IMAGE, "ports": [{"containerPort": 80}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "pause", "labels": {"name": "pause"}}, "spec": {"containers": [container]}});
    cx.k(&["create", "-f", "-"], &pod.to_string()).await?;
    waits::ready(&cx, "pause").await?;
    let value = "testing-label-value";
    let get = ["get", "pod", "pause", "-L", "testing-label"];
    cx.k(
        &["label", "pods", "pause", &format!("testing-label={value}")],
        "",
    )
    .await?;
    let out = cx.k(&get, "").await?;
    ensure!(out.contains(value), "{out}");
    cx.k(&["label", "pods", "pause", "testing-label-"], "")
        .await?;
    let out = cx.k(&get, "").await?;
    ensure!(!out.contains(value), "{out}");
    cleanup(&cx, &pod.to_string(), "name=pause").await
}

/// Deletes a manifest by force; nothing that the selector finds may be left.
async fn cleanup(cx: &Cx, manifest: &str, selector: &str) -> Result<()> {
    let delete = ["delete", "--grace-period=0", "--force", "-f", "-"];
    cx.k(&delete, manifest).await?;
    let what = format!("nothing left of {selector}");
    let within = Duration::from_secs(60);
    cx.eventually(Duration::from_millis(500), within, &what, || async {
        let args = ["get", "rc,svc", "-l", selector, "--no-headers"];
        let listed = cx.k(&args, "").await?;
        let template = "{{ range .items }}{{ if not .metadata.deletionTimestamp }}\
            {{ .metadata.name }}{{ \"\\n\" }}{{ end }}{{ end }}";
        let args = [
            "get",
            "pods",
            "-l",
            selector,
            "-o",
            "go-template",
            "--template",
            template,
        ];
        let pods = cx.k(&args, "").await?;
        Ok(listed.is_empty() && pods.trim().is_empty())
    })
    .await
}

async fn expose(cx: Cx) -> Result<()> {
    for pod in primary(&cx).await? {
        waits::log(&cx, name(&pod), "agnhost-primary").await?;
    }
    let steps = [
        (["expose", "rc", "agnhost-primary"], "rm2", 1234),
        (["expose", "service", "rm2"], "rm3", 2345),
    ];
    for (what, service, port) in steps {
        let (to, port_flag) = (format!("--name={service}"), format!("--port={port}"));
        let mut args = what.to_vec();
        args.extend([to.as_str(), port_flag.as_str(), "--target-port=6379"]);
        cx.k(&args, "").await?;
        exposed(&cx, service, port).await?;
    }
    Ok(())
}

/// The service must have one endpoint, the pod's port 6379, and the port that was asked for.
async fn exposed(cx: &Cx, service: &str, port: i64) -> Result<()> {
    let within = Duration::from_secs(180);
    let every = Duration::from_secs(2);
    let path = cx.core(&format!("services/{service}"));
    cx.eventually(every, within, service, || cx.exists(&path))
        .await?;
    let selector = labelled(&format!("kubernetes.io/service-name={service}"));
    let slices = cx.group("discovery.k8s.io/v1", &format!("endpointslices?{selector}"));
    cx.eventually(
        every,
        within,
        &format!("endpoints of {service}"),
        || async {
            let mut uids = Vec::new();
            for slice in cx.items(&slices).await? {
                for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                    let first = number(&slice["ports"][0]["port"]);
                    ensure!(first == 6379, "{slice}");
                    uids.push(endpoint["targetRef"]["uid"].clone());
                }
            }
            uids.dedup();
            match uids.len() {
                0 => Ok(false),
                1 => Ok(uids[0].is_string()),
                more => bail!("{more} endpoints of {service}"),
            }
        },
    )
    .await?;
    let found = cx.get(&path).await?;
    let ports = found["spec"]["ports"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    ensure!(
        ports.len() == 1 && number(&ports[0]["port"]) == port && ports[0]["targetPort"] == 6379,
        "{found}"
    );
    Ok(())
}

async fn logs(cx: Cx) -> Result<()> {
    let pod = "logs-generator";
    let image = format!("--image={AGNHOST_IMAGE}");
    let run = [
        "run",
        pod,
        &image,
        "--restart=Never",
        "--pod-running-timeout=2m0s",
        "--",
        "logs-generator",
        "--log-lines-total",
        "100",
        "--run-duration",
        "20s",
    ];
    cx.k(&run, "").await?;
    let path = cx.core(&format!("pods/{pod}"));
    let up = |p: &Value| {
        let ready = p["status"]["phase"] == "Running" && waits::is_true(p, "Ready");
        ready || p["status"]["phase"] == "Succeeded"
    };
    waits::object(&cx, &path, POD_START, "up", up).await?;
    let logs = async |more: &[&str]| {
        let mut args = vec!["logs", pod, pod];
        args.extend(more);
        cx.k(&args, "").await
    };
    let every = Duration::from_secs(1);
    cx.eventually(every, POD_START, "the log", || async {
        Ok(logs(&[]).await?.contains("/api/v1/namespaces/kube-system"))
    })
    .await?;
    let last = logs(&["--tail=1"]).await?;
    ensure!(
        !last.is_empty() && last.trim_end().lines().count() == 1,
        "{last:?}"
    );
    let byte = logs(&["--limit-bytes=1"]).await?;
    ensure!(byte.len() == 1, "{byte:?}");
    let stamped = logs(&["--tail=1", "--timestamps"]).await?;
    ensure!(stamped.trim_end().lines().count() == 1, "{stamped:?}");
    let mut words = stamped.split_whitespace();
    let time = words.next().unwrap_or_default();
    ensure!(words.next().is_some(), "{stamped:?}");
    let parsed = time.parse::<k8s_openapi::jiff::Timestamp>();
    ensure!(parsed.is_ok(), "{time} is no time");
    // Upstream lets the log grow older than what is asked for.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let recent = logs(&["--since=1s"]).await?;
    let all = logs(&["--since=24h"]).await?;
    let count = |text: &str| text.split('\n').count();
    ensure!(
        count(&recent) < count(&all),
        "{} and {}",
        count(&recent),
        count(&all)
    );
    cx.ok(Method::DELETE, &path, &crate::fixtures::grace(0))
        .await?;
    Ok(())
}
