//! `/healthz`, `/livez`, `/readyz` and the checks below them, those of what is done after the start among them.
//! Upstream: apiserver/pkg/server/{healthz,hooks}; api-semantics §17.1.

use std::sync::atomic::Ordering;

use parking_lot::RwLock;

use crate::query::Query;
use crate::response::{self, Answer};
use crate::server::Inner;

/// The check of KMS plug-ins, where there are some or may be.
const KMS: &str = "kms-providers";

/// What is asked of a server that runs, by upstream's names and in its order.
const ALIVE: &[&str] = &["ping", "log", "etcd"];
/// What else is asked of one before it is given requests.
const READY: [&str; 2] = ["etcd-readiness", "informer-sync"];
const HOOK: &str = "poststarthook/";
const KINDS: [&str; 3] = ["healthz", "livez", "readyz"];

/// The server's own hooks, and whether they are done by the time anything is answered.
const OWN: [(&str, bool); 7] = [
    ("start-apiserver-admission-initializer", true),
    ("generic-apiserver-start-informers", true),
    ("priority-and-fairness-config-consumer", false),
    ("priority-and-fairness-filter", true),
    ("start-apiextensions-informers", true),
    ("start-apiextensions-controllers", false),
    ("crd-informer-synced", true),
];

/// What is done after the start, and whether it is finished.
pub struct Hooks(RwLock<Vec<(&'static str, bool)>>);

impl Default for Hooks {
    fn default() -> Self {
        Self(RwLock::new(OWN.to_vec()))
    }
}

impl Hooks {
    /// Adds hooks that are not finished.
    pub fn add(&self, names: &[&'static str]) {
        self.0.write().extend(names.iter().map(|n| (*n, false)));
    }

    /// A hook is done.
    pub fn finish(&self, name: &str) {
        for (hook, done) in &mut *self.0.write() {
            *done |= *hook == name;
        }
    }

    fn is_finished(&self, name: &str) -> bool {
        self.0.read().iter().any(|(n, done)| *n == name && *done)
    }
}

/// The names of a kind's checks, in order.
fn names(server: &Inner, kind: &str) -> Vec<String> {
    let mut all: Vec<String> = ALIVE.iter().map(|n| (*n).to_string()).collect();
    let encryption = server.encryption().filter(|e| e.has_check());
    let kms = encryption.map(|_| KMS.to_string());
    if kind == "readyz" {
        all.push(READY[0].into());
        all.extend(kms);
        all.push(READY[1].into());
    } else {
        all.extend(kms);
    }
    let hooks = server.hooks.0.read();
    all.extend(hooks.iter().map(|(n, _)| format!("{HOOK}{n}")));
    if kind == "readyz" {
        all.push("shutdown".into());
    }
    all
}

/// Every path that is served here.
pub fn paths(server: &Inner) -> Vec<String> {
    let mut out = Vec::new();
    for kind in KINDS {
        out.push(format!("/{kind}"));
        let below = names(server, kind).into_iter();
        out.extend(below.map(|n| format!("/{kind}/{n}")));
    }
    out
}

/// Answers `/livez` (`kind`) or `/livez/etcd` (`only`).
pub async fn serve(server: &Inner, kind: &str, only: &[&str], query: &Query) -> Answer {
    let checks = names(server, kind);
    if only.is_empty() {
        return all(server, kind, &checks, query).await;
    }
    let one = only.join("/");
    if !checks.contains(&one) {
        return response::text(404, "404 page not found");
    }
    match noted(server, kind, &one).await {
        Ok(()) => response::bytes(200, "text/plain; charset=utf-8", "ok"),
        Err(why) => response::text(500, &format!("internal server error: {why}")),
    }
}

async fn all(server: &Inner, kind: &str, checks: &[String], query: &Query) -> Answer {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut text = String::new();
    let mut failed = Vec::new();
    for name in checks {
        let line = if excluded.contains(&name.as_str()) {
            format!("[+]{name} excluded: ok\n")
        } else {
            match noted(server, kind, name).await {
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
        .filter(|e| !checks.iter().any(|c| c == *e))
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

/// Makes a check and notes how it went.
async fn noted(server: &Inner, kind: &str, name: &str) -> Result<(), String> {
    let done = check(server, name).await;
    server.counts.checked(name, kind, done.is_ok());
    done
}

/// Why a check fails.
async fn check(server: &Inner, name: &str) -> Result<(), String> {
    if let Some(hook) = name.strip_prefix(HOOK) {
        return match server.hooks.is_finished(hook) {
            true => Ok(()),
            false => Err("not finished".into()),
        };
    }
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
        KMS => match server.encryption() {
            Some(encryption) => encryption.check().await,
            None => Ok(()),
        },
        "shutdown" if server.leaving.load(Ordering::Relaxed) => {
            Err("process is shutting down".into())
        }
        _ => Ok(()),
    }
}
