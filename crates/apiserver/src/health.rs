//! `/healthz`, `/livez`, `/readyz` and the checks below them.
//! Upstream: apiserver/pkg/server/healthz/healthz.go; api-semantics §18.

use crate::query::Query;
use crate::response::{self, Answer};
use crate::server::Inner;

/// What is asked of a server that runs, by upstream's names and in its order.
const ALIVE: &[&str] = &["ping", "log", "etcd"];
/// What is asked of a server before it is given requests.
const READY: &[&str] = &[
    "ping",
    "log",
    "etcd",
    "etcd-readiness",
    "informer-sync",
    "shutdown",
];

/// Answers `/livez` (`kind`) or `/livez/etcd` (`only`).
pub async fn serve(server: &Inner, kind: &str, only: &[&str], query: &Query) -> Answer {
    let checks = if kind == "readyz" { READY } else { ALIVE };
    match only {
        [] => all(server, kind, checks, query).await,
        [one] if checks.contains(one) => match check(server, one).await {
            Ok(()) => response::bytes(200, "text/plain; charset=utf-8", "ok"),
            Err(why) => response::text(500, &format!("internal server error: {why}")),
        },
        _ => response::text(404, "404 page not found"),
    }
}

async fn all(server: &Inner, kind: &str, checks: &[&str], query: &Query) -> Answer {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut text = String::new();
    let mut failed = Vec::new();
    for name in checks {
        let line = if excluded.contains(name) {
            format!("[+]{name} excluded: ok\n")
        } else {
            match check(server, name).await {
                Ok(()) => format!("[+]{name} ok\n"),
                Err(why) => {
                    failed.push(format!("{name}: {why}"));
                    format!("[-]{name} failed: reason withheld\n")
                }
            }
        };
        text.push_str(&line);
    }
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|e| !checks.contains(e))
        .map(|e| format!("{e:?}"))
        .collect();
    if !unknown.is_empty() {
        text.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(", ")
        ));
    }
    if !failed.is_empty() {
        tracing::info!(kind, failed = failed.join("; "), "health check failed");
        return response::text(500, &format!("{text}{kind} check failed"));
    }
    let said = match query.get("verbose") {
        Some(_) => format!("{text}{kind} check passed\n"),
        None => "ok".into(),
    };
    let mut answer = response::bytes(200, "text/plain; charset=utf-8", said);
    answer.headers_mut().insert(
        "x-content-type-options",
        http::HeaderValue::from_static("nosniff"),
    );
    answer
}

/// Why a check fails.
async fn check(server: &Inner, name: &str) -> Result<(), String> {
    match name {
        "etcd" | "etcd-readiness" => {
            let asked = server.store.revision().await;
            asked.map(drop).map_err(|e| e.to_string())
        }
        "informer-sync" => {
            let all = server.registry.all();
            let mut caches = all.iter().filter_map(|s| s.cache.as_ref());
            match caches.find(|c| client::Cache::revision(&***c) == 0) {
                None => Ok(()),
                Some(cache) => Err(format!("{} is not synced", cache.prefix)),
            }
        }
        "shutdown" if *server.shutdown.borrow() => Err("process is shutting down".into()),
        _ => Ok(()),
    }
}
