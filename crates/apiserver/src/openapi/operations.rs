//! Paths of the resources and what can be done there.

use machinery::{Descriptor, SubresourceKind, Verb};
use serde_json::{Map, Value, json};

use super::definitions::{Definitions, Dialect, kind_name};

/// One operation of a path: HTTP method, upstream's action, whether it writes.
type Op = (&'static str, &'static str, bool);

const GET: Op = ("get", "get", false);
const PUT: Op = ("put", "put", true);
const PATCH: Op = ("patch", "patch", true);
const DELETE: Op = ("delete", "delete", false);
const LIST: Op = ("get", "list", false);
const POST: Op = ("post", "post", true);
const DELETE_ALL: Op = ("delete", "deletecollection", false);
const CONNECT_GET: Op = ("get", "connect", false);
const CONNECT_POST: Op = ("post", "connect", false);

/// `api/v1` or `apis/apps/v1`.
pub fn group_path(d: &Descriptor) -> String {
    if d.group.is_empty() {
        format!("api/{}", d.version)
    } else {
        format!("apis/{}/{}", d.group, d.version)
    }
}

/// Adds the paths of a resource.
pub fn add(d: &Descriptor, dialect: Dialect, defs: &Definitions, out: &mut Map<String, Value>) {
    let base = format!("/{}", group_path(d));
    let has = |v: Verb| d.verbs.contains(&v);
    let pick = |all: &[(Verb, Op)]| -> Vec<Op> {
        let served = all.iter().filter(|(v, _)| has(*v));
        served.map(|(_, op)| *op).collect()
    };
    let collection = if d.namespaced() {
        if has(Verb::List) {
            let all = format!("{base}/{}", d.resource);
            out.insert(all, item(d, dialect, defs, &[LIST], &d.kind));
        }
        format!("{base}/namespaces/{{namespace}}/{}", d.resource)
    } else {
        format!("{base}/{}", d.resource)
    };
    let ops = pick(&[
        (Verb::List, LIST),
        (Verb::Create, POST),
        (Verb::DeleteCollection, DELETE_ALL),
    ]);
    out.insert(collection.clone(), item(d, dialect, defs, &ops, &d.kind));
    let one = format!("{collection}/{{name}}");
    let ops = pick(&[
        (Verb::Get, GET),
        (Verb::Update, PUT),
        (Verb::Patch, PATCH),
        (Verb::Delete, DELETE),
    ]);
    if !ops.is_empty() {
        out.insert(one.clone(), item(d, dialect, defs, &ops, &d.kind));
    }
    for sub in &d.subresources {
        let ops: Vec<Op> = match &sub.kind {
            SubresourceKind::Connect { verbs, .. } => verbs
                .iter()
                .filter_map(|v| match *v {
                    "create" => Some(CONNECT_POST),
                    "get" => Some(CONNECT_GET),
                    _ => None,
                })
                .collect(),
            SubresourceKind::ObjectUpdate => vec![PUT],
            _ => vec![GET, PUT, PATCH],
        };
        let kind = match &sub.kind {
            SubresourceKind::Scale { .. } => "Scale",
            SubresourceKind::Connect { kind, .. } => kind,
            _ => &d.kind,
        };
        let path = format!("{one}/{}", sub.name);
        out.insert(path, item(d, dialect, defs, &ops, kind));
    }
}

fn parameter(dialect: Dialect, name: &str, place: &str) -> Value {
    let mut out = json!({"name": name, "in": place});
    let (kind, required) = match (name, place) {
        (_, "path") => ("string", true),
        ("limit" | "timeoutSeconds", _) => ("integer", false),
        ("watch" | "force" | "allowWatchBookmarks" | "sendInitialEvents", _) => ("boolean", false),
        _ => ("string", false),
    };
    let mut schema = json!({"type": kind, "uniqueItems": true});
    if required {
        out["required"] = json!(true);
    }
    match dialect {
        Dialect::V3 => out["schema"] = schema,
        Dialect::V2 => {
            if let (Some(out), Some(schema)) = (out.as_object_mut(), schema.as_object_mut()) {
                out.append(schema);
            }
        }
    }
    out
}

const LIST_OPTIONS: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];

fn query(op: Op) -> Vec<&'static str> {
    match op {
        (_, "patch", _) => vec!["dryRun", "fieldManager", "fieldValidation", "force"],
        (_, _, true) => vec!["dryRun", "fieldManager", "fieldValidation"],
        (_, "delete", _) => vec!["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        (_, "list", _) => LIST_OPTIONS.to_vec(),
        (_, "deletecollection", _) => LIST_OPTIONS.to_vec(),
        _ => Vec::new(),
    }
}

fn item(d: &Descriptor, dialect: Dialect, defs: &Definitions, ops: &[Op], kind: &str) -> Value {
    let mut out = Map::new();
    for op in ops {
        let (method, action, writes) = *op;
        let own = kind_name(
            d,
            if action == "list" {
                &d.list_kind
            } else {
                &d.kind
            },
        );
        let reference = defs.reference(&own);
        let mut parameters: Vec<Value> = query(*op)
            .into_iter()
            .map(|n| parameter(dialect, n, "query"))
            .collect();
        let (group, version) = if kind == "Scale" {
            ("autoscaling", "v1")
        } else {
            (&*d.group, &*d.version)
        };
        let scope = if d.namespaced() { "Namespaced" } else { "" };
        let mut operation = json!({
            "operationId": format!("{action}{}{scope}{kind}{}", d.version, d.resource),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        match dialect {
            Dialect::V3 => {
                let content = json!({"application/json": {"schema": reference}});
                if writes {
                    operation["requestBody"] = json!({"content": content, "required": true});
                }
                operation["responses"] = json!({"200": {"description": "OK", "content": content}});
            }
            Dialect::V2 => {
                if writes {
                    parameters.push(
                        json!({"name": "body", "in": "body", "required": true, "schema": reference}),
                    );
                }
                operation["consumes"] = json!(["*/*"]);
                operation["produces"] = json!(["application/json"]);
                operation["schemes"] = json!(["https"]);
                operation["responses"] = json!({"200": {"description": "OK", "schema": reference}});
            }
        }
        operation["parameters"] = json!(parameters);
        out.insert(method.to_string(), operation);
    }
    Value::Object(out)
}
