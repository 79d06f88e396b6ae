//! What policy costs: authorization with a thousand roles, a create through twenty admission policies, a thousand
//! definitions of custom resources.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use auth::rbac::Rbac;
use client::memory::MemoryReads;
use e2e::{Cluster, Cx};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use machinery::request::{Attributes, User};
use serde_json::{Value, json};

use crate::{line, nodes, process, quantile};

const ROLES: usize = 1000;
const DEFINITIONS: usize = 1000;
const POLICIES: usize = 20;
/// Decisions of each kind.
const DECISIONS: usize = 200_000;
/// Creates of one batch, and batches of each kind in turns.
const CREATES: usize = 200;
const TURNS: usize = 5;
const RBAC: &str = "rbac.authorization.k8s.io";
const PRIVATE: &[&str] = &["Anonymous"];
/// How long the server may take to serve everything.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before memory is looked at.
const REST: Duration = Duration::from_secs(10);

/// Prints all figures.
pub async fn run() -> Result<()> {
    println!("\n| what | figure | budget |\n|---|---|---|");
    authorization()?;
    let mut cluster = tokio::task::spawn_blocking(Cluster::start).await??;
    creates(&cluster).await?;
    definitions(&mut cluster).await
}

// === Authorization ===

/// Every role has a namespace and a service account of its own; ten of them share a namespace.
fn reads() -> Result<Arc<MemoryReads>> {
    let all = [
        "roles",
        "clusterroles",
        "rolebindings",
        "clusterrolebindings",
    ];
    let reads = MemoryReads::new(&all.map(|r| (RBAC, r)));
    let put = |resource: &'static str, o: Value| -> Result<()> {
        let cache = reads.memory(RBAC, resource).context("no cache")?;
        cache.apply(o)?;
        Ok(())
    };
    for o in auth::bootstrap::objects() {
        let resource = match o["kind"].as_str() {
            Some("ClusterRole") => "clusterroles",
            Some("ClusterRoleBinding") => "clusterrolebindings",
            Some("Role") => "roles",
            _ => "rolebindings",
        };
        put(resource, o)?;
    }
    for i in 0..ROLES {
        let metadata = json!({"name": format!("r{i}"), "namespace": format!("n{}", i / 10)});
        put(
            "roles",
            json!({"metadata": metadata, "rules": [
            {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "update"]}]}),
        )?;
        put(
            "rolebindings",
            json!({"metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": format!("r{i}")},
            "subjects": [{"kind": "ServiceAccount", "name": format!("s{i}"), "namespace": format!("n{}", i / 10)}]}),
        )?;
    }
    Ok(Arc::new(reads))
}

fn request(user: &User, namespace: &str, verb: &str) -> Attributes {
    Attributes {
        user: user.clone(),
        verb: verb.into(),
        version: "v1".into(),
        resource: "pods".into(),
        namespace: namespace.into(),
        name: "p".into(),
        is_resource: true,
        ..Attributes::default()
    }
}

fn authorization() -> Result<()> {
    let rbac = Rbac::new(reads()?);
    let groups = [
        "system:serviceaccounts",
        "system:serviceaccounts:n55",
        "system:authenticated",
    ];
    let account = User::new("system:serviceaccount:n55:s555", &groups);
    let nobody = User::new("nobody", &["a", "b", "c", "system:authenticated"]);
    let cases = [
        (
            "allowed by one of them",
            request(&account, "n55", "get"),
            true,
        ),
        (
            "refused, none allows it",
            request(&account, "n55", "delete"),
            false,
        ),
        (
            "refused to a user without any",
            request(&nobody, "n55", "get"),
            false,
        ),
    ];
    for (what, attributes, allowed) in cases {
        let decided = matches!(
            rbac.decide(&attributes),
            machinery::request::Decision::Allow(_)
        );
        ensure!(decided == allowed, "{what}: decided {decided}");
        // Processor time: on a busy machine the time that passes says little.
        let this = [std::process::id()];
        let cpu = process::cpu(&this)?;
        for _ in 0..DECISIONS {
            std::hint::black_box(rbac.decide(std::hint::black_box(&attributes)));
        }
        let used = process::cpu(&this)?.saturating_sub(cpu);
        let figure = format!("{:.2} µs", used.as_secs_f64() * 1e6 / DECISIONS as f64);
        line(
            &format!("authorization with {ROLES} roles and bindings, {what}"),
            &figure,
            "2 µs",
        );
    }
    Ok(())
}

// === Creates ===

fn policy(i: usize) -> (Value, Value) {
    let name = format!("bench-{i}");
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name}, "spec": {"failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]},
            "variables": [{"name": "size", "expression": "object.data.size()"}],
            "validations": [
                {"expression": "variables.size < 100", "messageExpression": "'too many: ' + string(variables.size)"},
                {"expression": "object.data.all(k, k.matches('^[a-z0-9]+$'))"},
                {"expression": format!("!has(object.metadata.labels) || !('forbidden-{i}' in object.metadata.labels)")}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    (policy, binding)
}

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

async fn creates(cluster: &Cluster) -> Result<()> {
    let cx = Cx::within(nodes::client(cluster).await?, "default");
    let pids = vec![cluster.pid()];
    let (mut plain, mut judged) = (Vec::new(), Vec::new());
    batch(&cx, &pids, "warm").await?;
    for turn in 0..TURNS {
        plain.push(batch(&cx, &pids, &format!("plain-{turn}")).await?);
        for i in 0..POLICIES {
            let (policy, binding) = policy(i);
            let path = format!("{ADMISSION}/validatingadmissionpolicies");
            cx.ok(Method::POST, &path, &policy).await?;
            let path = format!("{ADMISSION}/validatingadmissionpolicybindings");
            cx.ok(Method::POST, &path, &binding).await?;
        }
        in_force(&cx).await?;
        judged.push(batch(&cx, &pids, &format!("judged-{turn}")).await?);
        for what in ["policies", "policybindings"] {
            cx.delete(&format!("{ADMISSION}/validatingadmission{what}"))
                .await?;
        }
    }
    let (plain, judged) = (quantile(&plain, 0.5), quantile(&judged, 0.5));
    line(
        "create of a ConfigMap, default plugins",
        &format!("{plain:.0} µs CPU"),
        "",
    );
    line(
        &format!("the same through {POLICIES} policies of three rules each"),
        &format!("{judged:.0} µs CPU, {:.2} times", judged / plain),
        "2 times",
    );
    Ok(())
}

/// Waits until the last policy refuses what it must.
async fn in_force(cx: &Cx) -> Result<()> {
    let mut bad = config_map("bad");
    bad["metadata"]["labels"] = json!({format!("forbidden-{}", POLICIES - 1): ""});
    let (every, path) = (Duration::from_millis(20), cx.core("configmaps"));
    let path = format!("{path}?dryRun=All");
    cx.eventually(every, PATIENCE, "policies are in force", || async {
        Ok(cx.ok(Method::POST, &path, &bad).await.is_err())
    })
    .await
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"a": "x".repeat(200), "b": "y".repeat(200), "c": "z"}})
}

/// µs of the server's processor time for one create.
async fn batch(cx: &Cx, pids: &[u32], name: &str) -> Result<f64> {
    let path = cx.core("configmaps");
    let cpu = process::cpu(pids)?;
    stream::iter(0..CREATES)
        .map(|i| {
            let (path, o) = (path.clone(), config_map(&format!("{name}-{i}")));
            async move { cx.ok(Method::POST, &path, &o).await.map(drop) }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    let used = process::cpu(pids)?.saturating_sub(cpu);
    Ok(used.as_secs_f64() * 1e6 / CREATES as f64)
}

// === Definitions ===

fn definition(i: usize) -> Value {
    let text = json!({"type": "string", "maxLength": 100, "description": "A text that says what it is for."});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["name"], "properties": {
            "name": text, "image": text, "replicas": {"type": "integer", "minimum": 0, "default": 1},
            "ports": {"type": "array", "maxItems": 10, "items": {"type": "object", "properties": {"name": text, "port": {"type": "integer"}}}},
            "labels": {"type": "object", "maxProperties": 20, "additionalProperties": text}},
            "x-kubernetes-validations": [{"rule": "!has(self.ports) || self.ports.all(p, p.port > 0)"}]},
        "status": {"type": "object", "properties": {"phase": text, "ready": {"type": "boolean"}}}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("t{i}s.bench{}.example.com", i / 20)},
        "spec": {"group": format!("bench{}.example.com", i / 20), "scope": "Namespaced",
            "names": {"plural": format!("t{i}s"), "kind": format!("T{i}")},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}]}})
}

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn path_of(i: usize) -> String {
    format!(
        "/apis/bench{}.example.com/v1/namespaces/default/t{i}s",
        i / 20
    )
}

async fn definitions(cluster: &mut Cluster) -> Result<()> {
    let before = rested(cluster).await?.0;
    let cx = Cx::within(nodes::client(cluster).await?, "default");
    let begun = Instant::now();
    stream::iter(0..DEFINITIONS)
        .map(|i| {
            let cx = &cx;
            async move { cx.ok(Method::POST, CRDS, &definition(i)).await.map(drop) }
        })
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await?;
    served(&cx, begun).await?;
    let what = format!("{DEFINITIONS} definitions created and served");
    line(
        &what,
        &format!("{:.1} s", begun.elapsed().as_secs_f64()),
        "",
    );
    let text = cx
        .client
        .request_text(Request::get(CRDS).body(Vec::new())?)
        .await?;
    let bytes = text.len() as f64 / f64::from(1 << 20);
    drop(cx);
    let (after, ready) = rested(cluster).await?;
    line(
        &format!("{DEFINITIONS} definitions, served after a restart"),
        &format!("{ready:.0} ms"),
        "1,000 ms",
    );
    line(
        &format!("private memory of {DEFINITIONS} definitions beyond their {bytes:.1} MiB"),
        &format!("{:.1} MiB", after - before - bytes),
        "20 MB",
    );
    let cx = Cx::within(nodes::client(cluster).await?, "default");
    let begun = Instant::now();
    let document = cx
        .client
        .request_text(Request::get("/openapi/v2").body(Vec::new())?)
        .await?;
    ensure!(
        document.contains(&format!("T{}", DEFINITIONS - 1)),
        "not in the document"
    );
    let figure = format!("{:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    line(
        "the whole OpenAPI document of them, asked for first",
        &figure,
        "",
    );
    Ok(())
}

/// Until the first and the last resource answer.
async fn served(cx: &Cx, begun: Instant) -> Result<()> {
    for i in [0, DEFINITIONS / 2, DEFINITIONS - 1] {
        while cx.get(&path_of(i)).await.is_err() {
            ensure!(begun.elapsed() < PATIENCE, "{} is not served", path_of(i));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    Ok(())
}

/// Restarts the node. MiB of its own memory after a while, and ms until what is defined is served.
async fn rested(cluster: &mut Cluster) -> Result<(f64, f64)> {
    cluster.stop()?;
    let begun = Instant::now();
    cluster.launch_again()?;
    let cx = loop {
        if let Ok(client) = nodes::client(cluster).await
            && nodes::readyz(&client).await
        {
            break Cx::within(client, "default");
        }
        ensure!(begun.elapsed() < PATIENCE, "the node does not start");
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let defined = cx.get(&format!("{CRDS}?limit=1")).await?;
    if defined["items"]
        .as_array()
        .is_some_and(|all| !all.is_empty())
    {
        served(&cx, begun).await?;
    }
    let ready = begun.elapsed().as_secs_f64() * 1e3;
    tokio::time::sleep(REST).await;
    Ok((process::memory(cluster.pid(), PRIVATE)?, ready))
}
