//! Upstream's sample API server behind ours, with an etcd of its own: Flunders and Fischers are discovered, explained,
//! created, watched, applied and deleted as if they were ours. `cargo xtask clients` builds it from its Go module.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};

use super::{Outcome, clients, create, etcd, get, kubectl, until};
use crate::certs;
use crate::cluster::Cluster;

/// The node's address in the tests' own network, as `isolate.rs` gives it. Endpoints may not be on the loopback.
const ADDRESS: &str = "192.168.77.2";
const FLUNDER: &str = r#"{"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder",
 "metadata": {"name": "one", "labels": {"sample": "yes"}}, "spec": {"reference": "two", "referenceType": "Flunder"}}"#;
const FISCHER: &str = r#"{"apiVersion": "wardle.example.com/v1alpha1", "kind": "Fischer",
 "metadata": {"name": "ban"}, "disallowedFlunders": ["banned"]}"#;

pub fn run() -> Result<Outcome> {
    let program = clients::built().join("sample-apiserver");
    let (Some(etcd), true) = (etcd::find("etcd"), program.exists()) else {
        let why = "no etcd program, or no sample-apiserver: run `cargo xtask clients` first";
        return Ok(Outcome::Skipped(why.into()));
    };
    let cluster = Cluster::start()?;
    let dir = tempfile::tempdir()?;
    let url = format!("http://127.0.0.1:{}", port()?);
    let _etcd = Program::start(&etcd, dir.path(), "etcd", &storage(dir.path(), &url)?)?;
    let port = port()?;
    let identity = certs::server("api.wardle.svc")?;
    let file = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(file("tls.crt"), &identity.certificate)?;
    std::fs::write(file("tls.key"), &identity.key)?;
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let flags = [
        ("secure-port", port.to_string()),
        ("etcd-servers", url),
        ("kubeconfig", kubeconfig.clone()),
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig),
        ("tls-cert-file", file("tls.crt")),
        ("tls-private-key-file", file("tls.key")),
    ];
    let flags: Vec<String> = flags.iter().map(|(k, v)| format!("--{k}={v}")).collect();
    let server = Program::start(&program, dir.path(), "sample-apiserver", &flags)?;
    let used = register(&cluster, port, &identity.authority)
        .and_then(|()| discovered(&cluster))
        .and_then(|()| written(&cluster, dir.path()))
        .and_then(|()| admitted(&cluster))
        .and_then(|()| deleted(&cluster));
    used.with_context(|| format!("its log ends with {}", server.log()))?;
    drop(server);
    gone(&cluster)?;
    Ok(Outcome::Passed)
}

fn port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Flags of an etcd of one member.
fn storage(dir: &Path, url: &str) -> Result<Vec<String>> {
    let peer = format!("http://127.0.0.1:{}", port()?);
    let flags = [
        ("data-dir", dir.join("etcd").display().to_string()),
        ("listen-client-urls", url.to_string()),
        ("advertise-client-urls", url.to_string()),
        ("listen-peer-urls", peer.clone()),
        ("initial-advertise-peer-urls", peer.clone()),
        ("initial-cluster", format!("default={peer}")),
    ];
    Ok(flags.iter().map(|(k, v)| format!("--{k}={v}")).collect())
}

/// A program that ends with this.
struct Program {
    child: Child,
    log: std::path::PathBuf,
}

impl Program {
    fn start(program: &Path, dir: &Path, name: &str, flags: &[String]) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let child = Command::new(program)
            .args(flags)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, log })
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that is gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn register(cluster: &Cluster, port: u16, authority: &str) -> Result<()> {
    kubectl(cluster, &["create", "namespace", "wardle"])?;
    let meta = json!({"name": "api", "namespace": "wardle"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": meta,
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": port}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "api", "namespace": "wardle", "labels": {"kubernetes.io/service-name": "api"}},
        "endpoints": [{"addresses": [ADDRESS]}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
    create(cluster, &service.to_string())?;
    create(cluster, &slice.to_string())?;
    for version in ["v1alpha1", "v1beta1"] {
        let name = format!("{version}.wardle.example.com");
        let api = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
            "spec": {"group": "wardle.example.com", "version": version, "groupPriorityMinimum": 1000,
                "versionPriority": 15, "service": {"name": "api", "namespace": "wardle"},
                "caBundle": BASE64.encode(authority)}});
        create(cluster, &api.to_string())?;
    }
    until("both versions are available", || {
        let versions = ["v1alpha1", "v1beta1"];
        let all = versions.iter().map(|v| {
            let api = get(cluster, "apiservice", &format!("{v}.wardle.example.com"))?;
            let condition = &api["status"]["conditions"][0];
            ensure!(condition["status"] == "True", "{condition}");
            Ok(())
        });
        all.collect::<Result<()>>().map(Some)
    })
}

/// Its kinds are in all the documents that are merged.
fn discovered(cluster: &Cluster) -> Result<()> {
    let kinds = [
        "api-resources",
        "--api-group",
        "wardle.example.com",
        "--no-headers",
    ];
    // kubectl's own memory of what there is may be older.
    until("its kinds are discovered", || {
        let told = kubectl(cluster, &kinds)?;
        Ok((told.contains("flunders") && told.contains("fischers")).then_some(()))
    })?;
    let versions = kubectl(cluster, &["api-versions"])?;
    for version in ["wardle.example.com/v1alpha1", "wardle.example.com/v1beta1"] {
        ensure!(versions.lines().any(|l| l == version), "{versions}");
    }
    let groups: Value = serde_json::from_str(&kubectl(cluster, &["get", "--raw", "/apis"])?)?;
    let mut groups = groups["groups"].as_array().into_iter().flatten();
    ensure!(
        groups.any(|g| g["name"] == "wardle.example.com"),
        "not in /apis"
    );
    until("its documents are merged", || {
        let v2 = kubectl(cluster, &["get", "--raw", "/openapi/v2"])?;
        let v3 = kubectl(cluster, &["get", "--raw", "/openapi/v3"])?;
        let there = v2
            .contains("/apis/wardle.example.com/v1alpha1/namespaces/{namespace}/flunders")
            && v3.contains("apis/wardle.example.com/v1beta1");
        Ok(there.then_some(()))
    })?;
    let told = kubectl(cluster, &["explain", "flunders.spec"])?;
    ensure!(
        told.contains("referenceType") && told.contains("KIND:       Flunder"),
        "{told}"
    );
    Ok(())
}

/// Creates, lists, watches, changes and applies.
fn written(cluster: &Cluster, dir: &Path) -> Result<()> {
    let watched = dir.join("watched");
    let seen = || std::fs::read_to_string(&watched).unwrap_or_default();
    create(cluster, FLUNDER)?;
    let mut watch = Command::new(crate::binary::kubectl().context("a kubectl")?)
        .args(["get", "flunders", "--watch", "--output", "name"])
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdin(Stdio::null())
        .stdout(File::create(&watched)?)
        .spawn()?;
    let done = (|| {
        until("the first is seen", || {
            Ok(seen().contains("/one\n").then_some(()))
        })?;
        create(cluster, &FLUNDER.replace("\"one\"", "\"two\""))?;
        until("the second is seen", || {
            Ok(seen().contains("/two\n").then_some(()))
        })
    })();
    watch.kill()?;
    watch.wait()?;
    done?;
    let list = kubectl(
        cluster,
        &[
            "get",
            "flunders",
            "--selector",
            "sample=yes",
            "--output",
            "name",
        ],
    )?;
    ensure!(list.lines().count() == 2, "{list}");
    let table = kubectl(cluster, &["get", "flunders"])?;
    ensure!(
        table.starts_with("NAME") && table.contains("AGE") || table.contains("CREATED"),
        "{table}"
    );
    // The other version is the same object.
    let beta = get(cluster, "flunders.v1beta1.wardle.example.com", "one")?;
    ensure!(beta["apiVersion"] == "wardle.example.com/v1beta1", "{beta}");
    kubectl(cluster, &["label", "flunder", "one", "more=yes"])?;
    let file = dir.join("flunder.json");
    std::fs::write(&file, FLUNDER.replace("\"two\"", "\"three\""))?;
    let file = file.display().to_string();
    kubectl(
        cluster,
        &["apply", "--server-side", "--force-conflicts", "-f", &file],
    )?;
    let one = get(cluster, "flunder", "one")?;
    ensure!(one["spec"]["flunderReference"] == "three", "{one}");
    ensure!(one["metadata"]["labels"]["more"] == "yes", "{one}");
    Ok(())
}

/// Its own admission plug-in, and what it asks our server: whether users may.
fn admitted(cluster: &Cluster) -> Result<()> {
    create(cluster, FISCHER)?;
    let banned = FLUNDER.replace("\"one\"", "\"banned\"");
    until("a banned name is refused", || {
        match create(cluster, &banned) {
            Ok(()) => {
                kubectl(cluster, &["delete", "flunder", "banned"])?;
                Ok(None)
            }
            Err(why) => Ok(format!("{why:#}")
                .contains("this name may not be used")
                .then_some(())),
        }
    })?;
    let nobody = [
        "get",
        "flunders",
        "--as",
        "jane",
        "--as-group",
        "system:authenticated",
    ];
    let refused = kubectl(cluster, &nobody);
    let why = refused.err().map(|e| format!("{e:#}")).unwrap_or_default();
    let wanted =
        "flunders.wardle.example.com is forbidden: User \"jane\" cannot list resource \"flunders\"";
    ensure!(why.contains(wanted), "{why}");
    kubectl(
        cluster,
        &[
            "create",
            "clusterrole",
            "fish",
            "--verb",
            "list",
            "--resource",
            "flunders.wardle.example.com",
        ],
    )?;
    kubectl(
        cluster,
        &[
            "create",
            "clusterrolebinding",
            "fish",
            "--clusterrole",
            "fish",
            "--user",
            "jane",
        ],
    )?;
    until("jane may", || kubectl(cluster, &nobody).map(Some)).map(drop)
}

/// With their namespace too.
fn deleted(cluster: &Cluster) -> Result<()> {
    kubectl(cluster, &["create", "namespace", "pond"])?;
    let pond = FLUNDER.replace(
        "\"name\": \"one\"",
        "\"name\": \"one\", \"namespace\": \"pond\"",
    );
    create(cluster, &pond)?;
    kubectl(cluster, &["delete", "flunders", "--all"])?;
    kubectl(
        cluster,
        &["delete", "namespace", "pond", "--timeout", "60s"],
    )?;
    let left = kubectl(
        cluster,
        &["get", "flunders", "--all-namespaces", "--output", "name"],
    )?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

/// Once it is gone its kinds answer 503, and the rest is as before.
fn gone(cluster: &Cluster) -> Result<()> {
    until("the group is unavailable", || {
        let refused = kubectl(
            cluster,
            &["get", "--raw", "/apis/wardle.example.com/v1alpha1/flunders"],
        );
        let why = refused.err().map(|e| format!("{e:#}")).unwrap_or_default();
        Ok(why.contains("(ServiceUnavailable)").then_some(()))
    })?;
    kubectl(cluster, &["get", "configmaps", "--all-namespaces"]).map(drop)
}
