//! OpenAPI documents: per group version (v3), and which there are. They say which kinds and
//! operations exist and which query parameters they take; clients validate on the server.
//! Upstream: kube-openapi handler3; api-semantics §14.

use std::collections::BTreeMap;

use http::header::{ETAG, HeaderValue};
use machinery::{Descriptor, Verb};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::registry::Served;
use crate::response::{self, Answer};
use crate::server::{Incoming, Inner};

/// `/openapi/v3` and `/openapi/v3/<path>`.
pub fn v3(server: &Inner, path: &str, _i: &Incoming) -> Answer {
    let all = server.registry.all();
    let mut by_path: BTreeMap<String, Vec<&Served>> = BTreeMap::new();
    for s in &all {
        by_path.entry(path_of(&s.descriptor)).or_default().push(s);
    }
    if path.is_empty() {
        let paths: Map<String, Value> = by_path
            .iter()
            .map(|(p, served)| {
                let hash = hash(&document(served));
                (
                    p.clone(),
                    json!({"serverRelativeURL": format!("/openapi/v3/{p}?hash={hash}")}),
                )
            })
            .collect();
        return response::json(200, &json!({"paths": paths}));
    }
    match by_path.get(path) {
        Some(served) => {
            let document = document(served);
            let tag = format!("\"{}\"", hash(&document));
            let mut answer = response::json(200, &document);
            if let Ok(v) = HeaderValue::from_str(&tag) {
                answer.headers_mut().insert(ETAG, v);
            }
            answer
        }
        None => response::text(404, "404 page not found"),
    }
}

/// `/openapi/v2`.
pub fn v2(_server: &Inner, _i: &Incoming) -> Answer {
    response::text(404, "404 page not found")
}

fn path_of(d: &Descriptor) -> String {
    if d.group.is_empty() {
        format!("api/{}", d.version)
    } else {
        format!("apis/{}/{}", d.group, d.version)
    }
}

fn hash(document: &Value) -> String {
    let digest = Sha256::digest(document.to_string().as_bytes());
    digest.iter().map(|b| format!("{b:02X}")).collect()
}

fn document(served: &[&Served]) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for s in served {
        let d = &s.descriptor;
        let base = format!("/{}", path_of(d));
        let collection = if d.namespaced() {
            format!("{base}/namespaces/{{namespace}}/{}", d.resource)
        } else {
            format!("{base}/{}", d.resource)
        };
        paths.insert(format!("{collection}/{{name}}"), operations(d, ITEM));
        paths.insert(collection, operations(d, COLLECTION));
        let custom = d.strategy.openapi();
        schemas.insert(definition(d), custom.unwrap_or_else(|| schema(d)));
    }
    json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths, "components": {"schemas": schemas},
    })
}

const ITEM: &[(Verb, &str)] = &[
    (Verb::Get, "get"),
    (Verb::Update, "put"),
    (Verb::Patch, "patch"),
    (Verb::Delete, "delete"),
];
const COLLECTION: &[(Verb, &str)] = &[
    (Verb::List, "get"),
    (Verb::Create, "post"),
    (Verb::DeleteCollection, "delete"),
];

/// The name of a kind's definition: `io.k8s.api.apps.v1.Deployment`.
fn definition(d: &Descriptor) -> String {
    if d.strategy.openapi().is_some() {
        // A custom resource: the group backwards, as upstream names them.
        let mut words: Vec<&str> = d.group.split('.').collect();
        words.reverse();
        return format!("{}.{}.{}", words.join("."), d.version, d.kind);
    }
    let group = match &*d.group {
        "" => "core",
        g => g.split('.').next().unwrap_or(g),
    };
    format!("io.k8s.api.{group}.{}.{}", d.version, d.kind)
}

fn kind_of(d: &Descriptor) -> Value {
    json!({"group": d.group, "version": d.version, "kind": d.kind})
}

fn schema(d: &Descriptor) -> Value {
    json!({
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"type": "object"},
        },
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-group-version-kind": [kind_of(d)],
    })
}

fn operations(d: &Descriptor, which: &[(Verb, &str)]) -> Value {
    let mut out = Map::new();
    for (verb, method) in which.iter().filter(|(v, _)| d.verbs.contains(v)) {
        let writes = matches!(verb, Verb::Create | Verb::Update | Verb::Patch);
        let names: &[&str] = if writes {
            &["dryRun", "fieldManager", "fieldValidation", "pretty"]
        } else {
            &["pretty"]
        };
        let parameters: Vec<Value> = names
            .iter()
            .map(|n| json!({"name": n, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect();
        let action = match verb {
            Verb::Create => "post",
            Verb::Update => "put",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::List => "list",
            _ => "get",
        };
        let reference = json!({"$ref": format!("#/components/schemas/{}", definition(d))});
        out.insert(
            (*method).to_string(),
            json!({
                "operationId": format!("{action}{}{}", d.version, d.kind),
                "parameters": parameters,
                "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": kind_of(d),
            }),
        );
    }
    Value::Object(out)
}
