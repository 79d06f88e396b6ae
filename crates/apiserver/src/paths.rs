//! Paths that are not resources: health, version, discovery, OpenAPI, metrics, documents.

use std::sync::Arc;

use client::Cache;
use serde_json::json;

use crate::query::Query;
use crate::response::{self, Answer};
use crate::server::{Incoming, Inner};

/// Checks behind `/healthz`, `/livez` and `/readyz`, by upstream's names.
const CHECKS: &[&str] = &["ping", "log", "etcd", "informer-sync"];

/// Answers a non-resource request.
pub async fn serve(server: &Arc<Inner>, i: &Incoming, query: &Query) -> Answer {
    let path = i.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz", check @ ..] => {
            health(server, parts[0], check, query).await
        }
        ["version"] => pretty(&version(server)),
        ["metrics"] => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            response::bytes(200, kind, server.metrics.text(&stored(server)))
        }
        ["api"] => crate::discovery::api(server, i),
        ["apis"] => crate::discovery::apis(server, i),
        ["api", version] => crate::discovery::resources(server, "", version),
        ["apis", group] => crate::discovery::group(server, group),
        ["apis", group, version] => crate::discovery::resources(server, group, version),
        ["openapi", "v3", rest @ ..] => crate::openapi::v3(server, &rest.join("/"), i, query).await,
        ["openapi", "v2"] => crate::openapi::v2(server, i).await,
        [""] | [] | ["index.html"] => root(server),
        _ => match server.plugins.get().and_then(|p| p.documents.get(path)) {
            Some(document) => response::json(200, document),
            None => response::text(404, "404 page not found"),
        },
    }
}

fn root(server: &Inner) -> Answer {
    let mut paths = vec![
        "/api".to_string(),
        "/api/v1".into(),
        "/apis".into(),
        "/apis/".into(),
    ];
    for (group, versions) in crate::discovery::groups(server) {
        if !group.is_empty() {
            paths.push(format!("/apis/{group}"));
            paths.extend(versions.iter().map(|v| format!("/apis/{group}/{v}")));
        }
    }
    let rest = [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ];
    paths.extend(rest.map(str::to_string));
    paths.sort_unstable();
    pretty(&json!({"paths": paths}))
}

/// Indented JSON, as upstream writes these few documents for everybody.
fn pretty(object: &serde_json::Value) -> Answer {
    let data = serde_json::to_vec_pretty(object).unwrap_or_default();
    response::bytes(200, "application/json", data)
}

/// How many objects of each resource there are.
fn stored(server: &Inner) -> Vec<(String, usize)> {
    let reads: &dyn client::Reads = &server.registry;
    let one = |d: Arc<machinery::Descriptor>| {
        let resource = d.group_resource();
        let count = reads.cache(&resource).map_or(0, |c| c.list(None).len());
        (resource.to_string(), count)
    };
    let mut all: Vec<(String, usize)> = reads.resources().into_iter().map(one).collect();
    all.sort();
    all
}

fn version(server: &Inner) -> serde_json::Value {
    let id = &server.identity;
    json!({
        "major": "1", "minor": "37", "gitVersion": id.git_version, "gitCommit": id.git_commit,
        "gitTreeState": "clean", "buildDate": id.build_date, "goVersion": "",
        "compiler": "rustc", "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
        "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
    })
}

async fn health(server: &Inner, kind: &str, only: &[&str], query: &Query) -> Answer {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    let shutting_down = *server.shutdown.borrow();
    let mut checks: Vec<&str> = CHECKS.to_vec();
    if kind == "readyz" {
        checks.push("shutdown");
    }
    if let [one] = only {
        if !checks.contains(one) {
            return response::text(404, "404 page not found");
        }
        checks = vec![*one];
    }
    for check in &checks {
        if excluded.contains(check) {
            lines.push(format!("[+]{check} excluded: ok"));
            continue;
        }
        let fine = match *check {
            "etcd" => server.store.revision().await.is_ok(),
            "informer-sync" => server
                .registry
                .all()
                .iter()
                .filter_map(|s| s.cache.as_ref())
                .all(|c| c.revision() > 0),
            "shutdown" => !shutting_down,
            _ => true,
        };
        if fine {
            lines.push(format!("[+]{check} ok"));
        } else {
            lines.push(format!("[-]{check} failed: reason withheld"));
            failed.push(*check);
        }
    }
    if !failed.is_empty() {
        return response::text(500, &format!("{}\n{kind} check failed", lines.join("\n")));
    }
    if query.get("verbose").is_some() && only.is_empty() {
        return response::text(200, &format!("{}\n{kind} check passed", lines.join("\n")));
    }
    response::bytes(200, "text/plain; charset=utf-8", "ok")
}
