//! Paths that are not resources: health, version, discovery, OpenAPI, metrics, documents.

use std::sync::Arc;

use http::Method;
use machinery::{ApiError, GroupResource};
use serde_json::json;

use crate::metrics::Facts;
use crate::negotiate;
use crate::query::Query;
use crate::response::{self, Answer};
use crate::router;
use crate::server::{Incoming, Inner};

/// Go's name of the processor.
pub const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// The media type of metrics.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Answers a non-resource request.
pub async fn serve(server: &Arc<Inner>, i: &Incoming, query: &Query) -> Answer {
    let path = i.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    // What upstream's web services serve may end in a slash and is read only; the rest is a plain mux.
    let service = ["version", "api", "apis"].contains(parts.first().unwrap_or(&""));
    if service && ![Method::GET, Method::HEAD].contains(&i.method) {
        return refused(server, (i, query), &crate::verbs::no_method());
    }
    if service && let Err(e) = routed(server, i, &parts) {
        return refused(server, (i, query), &e);
    }
    let exact = path.len() == i.path.len();
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz", check @ ..] if exact => {
            crate::health::serve(server, parts[0], check, query).await
        }
        ["version"] => pretty(&version(server)),
        ["version", ..] => refused(server, (i, query), &ApiError::path_not_found()),
        ["metrics"] if exact => metrics(server).await,
        ["metrics", "slis"] if exact => {
            let started = linux::host::usage().ok().map(|u| u.started);
            response::bytes(200, METRICS, server.counts.slis(started))
        }
        ["statusz"] if exact && server.enables("ComponentStatusz") => {
            crate::zpages::status(server, &i.headers)
        }
        ["flagz"] if exact && server.enables("ComponentFlagz") => {
            crate::zpages::flags(server, &i.headers)
        }
        ["debug", "api_priority_and_fairness", what] if exact => {
            crate::fairness::debug(server, what, query)
        }
        ["api"] => crate::discovery::api(server, i),
        ["apis"] => crate::discovery::apis(server, i),
        ["api", version] => crate::discovery::resources(server, i, "", version),
        ["apis", group] => crate::discovery::group(server, i, group),
        ["apis", group, version] => crate::discovery::resources(server, i, group, version),
        ["openapi", "v3", rest @ ..] => crate::openapi::v3(server, &rest.join("/"), i, query).await,
        ["openapi", "v2"] => crate::openapi::v2(server, i).await,
        [""] | [] | ["index.html"] => root(server),
        _ => match server.plugins.get().and_then(|p| p.documents.get(path)) {
            Some(document) => response::json(200, document),
            None => response::text(404, "404 page not found"),
        },
    }
}

/// What the router in front of these documents makes sure of. Groups that only CRDs define have no router.
fn routed(server: &Inner, i: &Incoming, parts: &[&str]) -> Result<(), ApiError> {
    let forms = negotiate::names(server.serves_cbor());
    match parts {
        ["version"] => router::document(&i.headers, &["application/json"]),
        ["api" | "apis"] => router::document(&i.headers, forms),
        ["api", "v1"] => router::document(&i.headers, forms),
        ["apis", group] if crate::discovery::is_built_in(server, group, None) => {
            router::document(&i.headers, forms)
        }
        ["apis", group, version] if crate::discovery::is_built_in(server, group, Some(version)) => {
            router::document(&i.headers, forms)
        }
        _ => Ok(()),
    }
}

/// A refusal in the format that the client asks for.
fn refused(server: &Inner, (i, query): (&Incoming, &Query), e: &ApiError) -> Answer {
    let format = negotiate::error(&i.headers, query, server.serves_cbor());
    response::error(e, &format)
}

async fn metrics(server: &Inner) -> Answer {
    let facts = Facts {
        objects: stored(server),
        storage_bytes: server.store.size().await.ok(),
        aggregated: server.aggregator.counts(),
        process: linux::host::usage().ok(),
        version: server.identity.git_version.clone(),
        commit: server.identity.git_commit.clone(),
        date: server.identity.build_date.clone(),
        received: received(server),
    };
    let audit = server.plugins.get().and_then(|p| p.audit.as_ref());
    let audit = audit.map(|a| a.text()).unwrap_or_default();
    let sealed = server.encryption().map(|e| e.text()).unwrap_or_default();
    let admission = server.admission_times().map(|t| t.text());
    let plugins = server.admission().iter().map(|p| p.metrics());
    let parts = server.plugins.get().and_then(|p| p.metrics.as_ref());
    let text = [
        server.metrics.text(&facts),
        server.fairness.text(),
        audit,
        sealed,
        admission.unwrap_or_default(),
        plugins.collect(),
        server.streams.text(),
        server.counts.text(),
        server.tracer().map(|t| t.text()).unwrap_or_default(),
        server.access.text(),
        parts.map(|r| r.text()).unwrap_or_default(),
        crate::metrics::cel::text(),
        webhook::certificates::text(),
    ];
    response::bytes(200, METRICS, text.concat())
}

fn root(server: &Inner) -> Answer {
    pretty(&json!({"paths": all(server)}))
}

/// Every path that is served, in order.
pub fn all(server: &Inner) -> Vec<String> {
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
    paths.extend(crate::health::paths(server));
    let rest = [
        "/flagz",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/statusz",
        "/version",
    ];
    paths.extend(rest.map(str::to_string));
    paths.sort_unstable();
    paths
}

/// Indented JSON, as upstream writes these few documents for everybody.
fn pretty(object: &serde_json::Value) -> Answer {
    let data = serde_json::to_vec_pretty(object).unwrap_or_default();
    response::bytes(200, "application/json", data)
}

/// How many changes of each resource were read from the store.
fn received(server: &Inner) -> Vec<(GroupResource, u64)> {
    let all = server.registry.all().into_iter();
    let mut all: Vec<(GroupResource, u64)> = all
        .filter_map(|s| Some((s.descriptor.group_resource(), s.cache.as_ref()?.received())))
        .collect();
    all.sort();
    all.dedup_by(|a, b| a.0 == b.0);
    all
}

/// How many objects of each resource there are.
fn stored(server: &Inner) -> Vec<(GroupResource, usize)> {
    let reads: &dyn client::Reads = &server.registry;
    let one = |d: Arc<machinery::Descriptor>| {
        let resource = d.group_resource();
        let count = reads.cache(&resource).map_or(0, |c| c.list(None).len());
        (resource, count)
    };
    let mut all: Vec<(GroupResource, usize)> = reads.resources().into_iter().map(one).collect();
    all.sort();
    all
}

fn version(server: &Inner) -> serde_json::Value {
    let id = &server.identity;
    json!({
        "major": "1", "minor": "37", "gitVersion": id.git_version, "gitCommit": id.git_commit,
        "gitTreeState": "clean", "buildDate": id.build_date, "goVersion": "",
        "compiler": "rustc", "platform": format!("linux/{ARCHITECTURE}"),
        "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
    })
}
