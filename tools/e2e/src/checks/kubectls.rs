//! Real kubectls against a whole node: each reads and writes with all its commands. The oldest and the newest
//! that are installed, or all of them with `K0S_KUBECTLS=all`, as `cargo xtask clients` sets it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Outcome;
use crate::binary;
use crate::cluster::Cluster;
use crate::program;

const IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-2";

/// A Deployment, its Service and its ConfigMap.
const APP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {app: app}}
spec:
  replicas: 1
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: "IMAGE", command: [sh, -c, "echo hello; sleep 3600"]}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {key: value}
"#;

/// What is typed, word by word, and what must be in what is printed. `{f}` is the file of `APP`, `{d}` its
/// directory, `{n}` the namespace, `{p}` the pod, `{i}` the image.
const STEPS: &[(&str, &str)] = &[
    ("version", "Server Version"),
    ("cluster-info", "is running at"),
    ("api-versions", "apps/v1"),
    ("api-resources --namespaced=true", "deployments"),
    ("explain deployment.spec.strategy", "DESCRIPTION"),
    ("explain pod --recursive", "containers"),
    ("create namespace {n}", "created"),
    ("apply -f {f} --dry-run=server", "created (server dry run)"),
    ("apply -f {f}", "deployment.apps/app created"),
    (
        "rollout status deployment/app --timeout=90s",
        "successfully rolled out",
    ),
    ("get all", "deployment.apps/app"),
    ("get pods -o wide --show-labels", "Running"),
    (
        "get pods -l app=app --sort-by=.metadata.name -o name",
        "pod/app-",
    ),
    (
        "get pods --field-selector=status.phase=Running -o yaml",
        "kind: List",
    ),
    ("get deployment app -o jsonpath={.spec.replicas}", "1"),
    (
        "get deploy -o go-template={{range.items}}{{.metadata.name}}{{end}}",
        "app",
    ),
    (
        "get cm -o custom-columns=NAME:.metadata.name,KEY:.data.key",
        "value",
    ),
    (
        "get nodes,namespaces --chunk-size=2",
        "namespace/kube-system",
    ),
    ("get --raw /readyz", "ok"),
    ("describe deployment app", "StrategyType:"),
    ("describe pod {p}", "Started"),
    ("describe service app", "Endpoints:"),
    ("describe node", "Allocatable:"),
    ("logs deployment/app", "hello"),
    ("logs {p} --tail=1 --timestamps", "hello"),
    ("exec {p} -- echo inside", "inside"),
    ("cp {f} {n}/{p}:/tmp/copied", ""),
    ("exec deployment/app -- cat /tmp/copied", "kind: Service"),
    ("debug {p} --image={i} --container=look -- true", ""),
    ("get events", "Scheduled"),
    ("label deployment app tier=web", "labeled"),
    ("annotate deployment app note=here", "annotate"),
    (
        "patch deployment app -p {\"metadata\":{\"labels\":{\"a\":\"b\"}}}",
        "patched",
    ),
    (
        "patch deployment app --type=merge -p {\"metadata\":{\"labels\":{\"a\":null}}}",
        "patched",
    ),
    (
        "patch cm app --type=json -p [{\"op\":\"replace\",\"path\":\"/data/key\",\"value\":\"v\"}]",
        "patched",
    ),
    ("scale deployment app --replicas=2", "scaled"),
    (
        "wait --for=jsonpath={.status.readyReplicas}=2 deployment/app --timeout=60s",
        "condition met",
    ),
    (
        "autoscale deployment app --min=1 --max=2 --cpu-percent=80",
        "autoscaled",
    ),
    ("get hpa", "Deployment/app"),
    ("delete hpa app", "deleted"),
    ("set env deployment/app A=b", "env updated"),
    (
        "set resources deployment/app --requests=cpu=1m",
        "resource requirements updated",
    ),
    (
        "set image deployment/app c={i}@sha256:0000000000000000000000000000000000000000000000000000000000000000 --dry-run=server",
        "image updated",
    ),
    ("rollout pause deployment/app", "paused"),
    ("rollout resume deployment/app", "resumed"),
    ("rollout restart deployment/app", "restarted"),
    ("rollout history deployment/app", "REVISION"),
    ("rollout undo deployment/app", "rolled back"),
    (
        "rollout status deployment/app --timeout=90s",
        "successfully rolled out",
    ),
    ("expose deployment app --name=two --port=81", "exposed"),
    (
        "get endpointslices -l kubernetes.io/service-name=two",
        "two-",
    ),
    ("create configmap made --from-literal=a=b", "created"),
    ("create secret generic made --from-literal=a=b", "created"),
    ("create serviceaccount made", "created"),
    ("create token made", "."),
    ("create role made --verb=get --resource=pods", "created"),
    (
        "create rolebinding made --role=made --serviceaccount={n}:made",
        "created",
    ),
    (
        "auth can-i get pods --as=system:serviceaccount:{n}:made",
        "yes",
    ),
    ("auth can-i --list", "selfsubjectaccessreviews"),
    ("auth reconcile -f {d}/role.yaml", "reconciled"),
    ("create quota made --hard=pods=50", "created"),
    (
        "create poddisruptionbudget made --selector=app=none --min-available=1",
        "created",
    ),
    ("create ingress made --rule=x/*=app:80", "created"),
    (
        "create cronjob made --image={i} --schedule=@yearly -- true",
        "created",
    ),
    ("create job made --from=cronjob/made", "created"),
    (
        "wait --for=condition=complete job/made --timeout=60s",
        "condition met",
    ),
    (
        "create deployment dry --image={i} --dry-run=client -o yaml",
        "kind: Deployment",
    ),
    (
        "run once --image={i} --restart=Never -- echo done",
        "created",
    ),
    (
        "wait --for=jsonpath={.status.phase}=Succeeded pod/once --timeout=60s",
        "condition met",
    ),
    ("logs once", "done"),
    (
        "apply --server-side --force-conflicts -f {f}",
        "serverside-applied",
    ),
    ("apply view-last-applied cm app", "key: value"),
    ("apply edit-last-applied cm app", ""),
    ("edit cm app", "Edit cancelled"),
    ("diff -f {d}/cm.yaml", ""),
    ("replace -f {d}/cm.yaml", "replaced"),
    (
        "taint nodes --all {n}=x:PreferNoSchedule --dry-run=server",
        "tainted",
    ),
    (
        "cordon --dry-run=server --selector=kubernetes.io/os=linux",
        "cordoned (server dry run)",
    ),
    (
        "drain --dry-run=server --force --ignore-daemonsets --delete-emptydir-data --selector=kubernetes.io/os=linux",
        "(server dry run)",
    ),
    ("delete service two --wait", "deleted"),
    ("delete -f {f} --cascade=foreground", "deleted"),
    ("delete pods,jobs --all --grace-period=0 --force", "deleted"),
    ("delete namespace {n} --timeout=90s", "deleted"),
];

/// Other files of `{d}`.
const FILES: [(&str, &str); 2] = [
    (
        "role.yaml",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: made, namespace: NAMESPACE}\n\
         rules: [{apiGroups: [\"\"], resources: [pods], verbs: [get, list]}]\n",
    ),
    (
        "cm.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: {key: value}\n",
    ),
];

pub fn run() -> Result<Outcome> {
    let mut all = binary::kubectls();
    if std::env::var("K0S_KUBECTLS").as_deref() != Ok("all") && all.len() > 2 {
        all.drain(1..all.len() - 1);
    }
    if all.is_empty() {
        return Ok(Outcome::Skipped("no kubectl is installed".into()));
    }
    let wanted = |name: &str| matches!(name, "busybox.tar" | "pause.tar");
    let mut cluster = Cluster::launch(wanted)?;
    cluster.wait_ready()?;
    let cluster = &cluster;
    // Two at a time, each in a namespace of its own.
    for pair in all.chunks(2) {
        std::thread::scope(|scope| {
            let running: Vec<_> = pair
                .iter()
                .map(|kubectl| scope.spawn(move || Session::new(cluster, kubectl)?.run()))
                .collect();
            running.into_iter().try_for_each(|r| {
                r.join()
                    .map_err(|_| anyhow::anyhow!("a kubectl's thread broke down"))?
            })
        })?;
    }
    eprintln!("{} kubectls, {} commands each", all.len(), STEPS.len());
    Ok(Outcome::Passed)
}

/// One kubectl at work.
struct Session<'a> {
    cluster: &'a Cluster,
    kubectl: &'a Path,
    namespace: String,
    dir: PathBuf,
}

impl<'a> Session<'a> {
    fn new(cluster: &'a Cluster, kubectl: &'a Path) -> Result<Self> {
        let name = kubectl.file_name().context("its name")?.to_string_lossy();
        let namespace = name.replace('.', "-");
        let dir = cluster.data_dir().join(&namespace);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("app.yaml"), APP.replace("IMAGE", IMAGE))?;
        for (file, text) in FILES {
            std::fs::write(dir.join(file), text.replace("NAMESPACE", &namespace))?;
        }
        Ok(Self {
            cluster,
            kubectl,
            namespace,
            dir,
        })
    }

    fn run(&self) -> Result<()> {
        let mut pod = String::new();
        for (typed, says) in STEPS {
            if pod.is_empty() && typed.contains("{p}") {
                let first = "get pods -l app=app -o jsonpath={.items[0].metadata.name}";
                pod = self.step(first, "app-", "")?;
            }
            self.step(typed, says, &pod)?;
        }
        Ok(())
    }

    /// Runs a command, which must succeed and say something; its standard output.
    fn step(&self, typed: &str, says: &str, pod: &str) -> Result<String> {
        let dir = self.dir.display().to_string();
        let fill = |word: &str| {
            word.replace("{f}", &format!("{dir}/app.yaml"))
                .replace("{d}", &dir)
                .replace("{n}", &self.namespace)
                .replace("{p}", pod)
                .replace("{i}", IMAGE)
        };
        let mut command = Command::new(self.kubectl);
        command
            .args(["--namespace", &self.namespace])
            .args(typed.split(' ').map(fill))
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("KUBE_EDITOR", "true")
            .env("HOME", &self.dir);
        let out = program::output(command, "")?;
        let what = format!("{} {typed}", self.kubectl.display());
        ensure!(out.ok, "{what}: {}{}", out.stdout, out.stderr);
        let said = out.stdout.contains(says) || out.stderr.contains(says);
        ensure!(said, "{what} lacks {says:?}: {}{}", out.stdout, out.stderr);
        Ok(out.stdout)
    }
}
