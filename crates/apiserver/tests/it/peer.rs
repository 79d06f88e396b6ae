//! The same writes on this server and on upstream's generic server, answer by answer. Runs where
//! `../shared/upstream/build` was run; elsewhere it says SKIPPED.

use std::path::PathBuf;
use std::process::Stdio;

use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::env::Env;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "/apis/peer.example.com/v1/namespaces/default/things";

/// Upstream's server, stopped when dropped.
struct Peer {
    process: tokio::process::Child,
    client: kube::Client,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(pid) = self.process.id() {
            // It stops its own children on TERM; killed outright it could not.
            let kill = std::process::Command::new("kill")
                .arg(pid.to_string())
                .status();
            assert!(kill.is_ok());
        }
    }
}

async fn peer() -> Option<Peer> {
    let home = std::env::var("HOME").unwrap_or_default();
    let bin = PathBuf::from(home).join(".cache/upstream/bin");
    let script = bin.join("run-reference");
    if !script.exists() || !bin.join("refapi").exists() {
        eprintln!("SKIPPED: upstream's server is not built (../shared/upstream/build)");
        return None;
    }
    let mut process = tokio::process::Command::new(script)
        .env("BIN", &bin)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let reading = async {
        while let Ok(Some(line)) = lines.next_line().await {
            let path = line.split_whitespace().find(|w| w.contains("kubeconfig"));
            if let Some(path) = path.filter(|p| std::path::Path::new(p).exists()) {
                return path.to_string();
            }
        }
        String::new()
    };
    let path = tokio::time::timeout(std::time::Duration::from_secs(60), reading).await;
    let path = path.expect("the reference starts in time");
    assert!(!path.is_empty(), "the reference printed no kubeconfig");
    let file = kube::config::Kubeconfig::read_from(&path).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options)
        .await
        .unwrap();
    let client = kube::Client::try_from(config).unwrap();
    Some(Peer { process, client })
}

async fn ask(
    client: &kube::Client,
    method: &str,
    path: &str,
    content: &str,
    body: &Value,
) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .header("user-agent", "tester/1")
        .body(kube::client::Body::from(body.to_string().into_bytes()))
        .unwrap();
    let answer = client.send(request).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect_bytes().await.unwrap();
    (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn crd() -> Value {
    let string = json!({"type": "string"});
    let item = json!({"type": "object", "required": ["k"], "properties": {
        "k": string, "p": {"type": "string", "default": "TCP"}, "v": string, "n": {"type": "integer"}}});
    let spec = json!({"type": "object", "properties": {
        "a": string, "n": {"type": "integer"}, "d": {"type": "string", "default": "dd"},
        "nullable": {"type": "string", "nullable": true},
        "set": {"type": "array", "items": string, "x-kubernetes-list-type": "set"},
        "atomic": {"type": "array", "items": string},
        "map": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "p"]},
        "labels": {"type": "object", "additionalProperties": string},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"x": string, "y": string}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "ios": {"x-kubernetes-int-or-string": true}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.peer.example.com"},
        "spec": {"group": "peer.example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec,
                    "status": {"type": "object", "properties": {"s": string, "conditions": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                        "items": {"type": "object", "required": ["type"], "properties": {"type": string, "status": string}}}}}}}}}]}})
}

/// What differs between two runs goes: uid, versions, times, and orders that Go leaves to chance.
fn normal(mut v: Value) -> Value {
    let causes = v.pointer_mut("/details/causes");
    if let Some(causes) = causes.and_then(Value::as_array_mut) {
        causes.sort_by_key(Value::to_string);
    }
    if let Some(meta) = v.get_mut("metadata").and_then(Value::as_object_mut) {
        for name in ["uid", "resourceVersion", "creationTimestamp"] {
            meta.remove(name);
        }
        for e in meta
            .get_mut("managedFields")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if e.get("time").is_some() {
                e["time"] = json!("T");
            }
        }
        // Entries are in the order of their times, which are not the same here and there.
        if let Some(list) = meta.get_mut("managedFields").and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
    }
    v
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn spec(&mut self) -> Value {
        let mut spec = json!({});
        if self.roll(2) == 0 {
            spec["a"] = json!(self.roll(3).to_string());
        }
        if self.roll(3) == 0 {
            spec["n"] = json!(self.roll(3));
        }
        if self.roll(4) == 0 {
            spec["ios"] = if self.roll(2) == 0 {
                json!(1)
            } else {
                json!("1")
            };
        }
        if self.roll(5) == 0 {
            spec["nullable"] = Value::Null;
        }
        for name in ["set", "atomic"] {
            if self.roll(2) == 0 {
                let all: Vec<String> = (0..4)
                    .filter(|_| self.roll(2) == 0)
                    .map(|i| i.to_string())
                    .collect();
                spec[name] = json!(all);
            }
        }
        if self.roll(2) == 0 {
            let mut items = Vec::new();
            for k in 0..3 {
                if self.roll(2) == 0 {
                    let mut item = json!({"k": k.to_string(), "v": self.roll(2).to_string()});
                    if self.roll(3) == 0 {
                        item["p"] = json!("UDP");
                    }
                    items.push(item);
                }
            }
            if self.roll(2) == 0 {
                items.reverse();
            }
            spec["map"] = json!(items);
        }
        for name in ["labels", "whole", "free"] {
            if self.roll(3) == 0 {
                spec[name] = json!({"x": self.roll(2).to_string()});
                if self.roll(2) == 0 {
                    spec[name]["y"] = json!("y");
                }
            }
        }
        spec
    }

    fn object(&mut self, name: &str) -> Value {
        let mut out = json!({"apiVersion": "peer.example.com/v1", "kind": "Thing", "metadata": {"name": name}});
        if self.roll(8) != 0 {
            out["spec"] = self.spec();
        }
        if self.roll(4) == 0 {
            out["metadata"]["labels"] = json!({format!("l{}", self.roll(2)): "v"});
        }
        if self.roll(6) == 0 {
            out["status"] = json!({"s": "x", "conditions": [{"type": "Ready", "status": "True"}]});
        }
        out
    }
}

/// One write: method, path, content type, body; `PUT` bodies get the stored resourceVersion.
fn step(d: &mut Dice, name: &str) -> (&'static str, String, &'static str, Value) {
    let manager = ["one", "two", "three", "kubectl"][d.roll(4) as usize];
    let sub = if d.roll(5) == 0 { "/status" } else { "" };
    let force = if d.roll(3) == 0 { "&force=true" } else { "" };
    let object = d.object(name);
    match d.roll(6) {
        0 => (
            "PUT",
            format!("{THINGS}/{name}{sub}?fieldManager={manager}"),
            "application/json",
            object,
        ),
        1 => (
            "PATCH",
            format!("{THINGS}/{name}{sub}?fieldManager={manager}"),
            "application/merge-patch+json",
            json!({"spec": object.get("spec").cloned().unwrap_or(json!({})), "status": {"s": "m"}}),
        ),
        _ => (
            "PATCH",
            format!("{THINGS}/{name}{sub}?fieldManager={manager}{force}"),
            "application/apply-patch+yaml",
            object,
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_answered_as_upstream_answers_them() {
    let Some(peer) = peer().await else { return };
    let env = Env::start().await;
    let ours = env.client.kube().clone();
    for client in [&ours, &peer.client] {
        let (code, made) = ask(client, "POST", CRDS, "application/json", &crd()).await;
        assert_eq!(code, 201, "{made}");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let (code, _) = ask(client, "GET", THINGS, "application/json", &Value::Null).await;
            if code == 200 {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    let seeds = std::env::var("PEER_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok());
    let mut wrong = Vec::new();
    for seed in 0..seeds.unwrap_or(40) {
        let mut dice = Dice(seed);
        let name = format!("t{seed}");
        let path = format!("{THINGS}/{name}");
        let mut log = Vec::new();
        for _ in 0..8 {
            let (method, path_, content, body) = step(&mut dice, &name);
            let mut answers = Vec::new();
            for client in [&ours, &peer.client] {
                let mut body = body.clone();
                if method == "PUT" {
                    let (_, stored) = ask(client, "GET", &path, "", &Value::Null).await;
                    body["metadata"]["resourceVersion"] =
                        stored["metadata"]["resourceVersion"].clone();
                }
                let (code, answer) = ask(client, method, &path_, content, &body).await;
                answers.push((code, normal(answer)));
            }
            log.push(format!("{method} {path_}\n    {body}"));
            // What structured-merge-diff 6.4.2 leaves empty becomes null and is refused; here it
            // stays empty, as in versions before.
            let emptied = answers[1].1["message"].as_str();
            if emptied.is_some_and(|m| m.contains("Invalid value: \"null\"")) {
                break;
            }
            if answers[0] != answers[1] {
                wrong.push(format!(
                    "seed {seed}:\n  {}\n  ours {} {}\n  peer {} {}",
                    log.join("\n  "),
                    answers[0].0,
                    answers[0].1,
                    answers[1].0,
                    answers[1].1
                ));
                break;
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(6)].join("\n\n")
    );
}
