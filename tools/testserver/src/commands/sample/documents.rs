//! Discovery and OpenAPI of the sample.

use serde_json::{Map, Value, json};

use super::{GROUP, Kind, VERSIONS, failure};
use crate::http1::{Reply, Request};

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "update",
];

/// Answers what is no resource.
pub fn answer(request: &Request, parts: &[&str]) -> Reply {
    if request.method != "GET" {
        return failure(405, "MethodNotAllowed", "only GET is served here");
    }
    match parts {
        ["apis"] => {
            let accept = request.header("Accept").unwrap_or_default();
            if accept.contains("v=v2;as=APIGroupDiscoveryList") {
                return aggregated();
            }
            let mut group = group();
            for name in ["kind", "apiVersion"] {
                group.remove(name);
            }
            Reply::json(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}))
        }
        ["apis", GROUP] => Reply::json(&Value::Object(group())),
        ["apis", GROUP, version] => match VERSIONS.iter().find(|(v, _)| v == version) {
            Some((version, kinds)) => {
                let all: Vec<Value> = kinds.iter().map(listed).collect();
                Reply::json(&json!({"kind": "APIResourceList", "apiVersion": "v1",
                    "groupVersion": format!("{GROUP}/{version}"), "resources": all}))
            }
            None => not_found(),
        },
        ["version"] => Reply::json(&json!({"major": "1", "minor": "29", "gitVersion": "v1.29.2"})),
        ["openapi", "v2"] => {
            let (mut paths, mut definitions) = (Map::new(), Map::new());
            for (version, kinds) in VERSIONS {
                add(
                    version,
                    kinds,
                    "#/definitions/",
                    &mut paths,
                    &mut definitions,
                );
            }
            Reply::json(&json!({"swagger": "2.0", "info": info(), "paths": paths,
                "definitions": definitions}))
        }
        ["openapi", "v3"] => {
            let all: Map<String, Value> = VERSIONS
                .iter()
                .map(|(version, _)| {
                    let path = format!("apis/{GROUP}/{version}");
                    let url = format!("/openapi/v3/{path}?hash=1");
                    (path, json!({"serverRelativeURL": url}))
                })
                .collect();
            Reply::json(&json!({"paths": all}))
        }
        ["openapi", "v3", "apis", GROUP, version] => {
            let Some((version, kinds)) = VERSIONS.iter().find(|(v, _)| v == version) else {
                return not_found();
            };
            let (mut paths, mut schemas) = (Map::new(), Map::new());
            add(
                version,
                kinds,
                "#/components/schemas/",
                &mut paths,
                &mut schemas,
            );
            Reply::json(&json!({"openapi": "3.0.0", "info": info(), "paths": paths,
                "components": {"schemas": schemas}}))
        }
        _ => not_found(),
    }
}

fn not_found() -> Reply {
    failure(
        404,
        "NotFound",
        "the server could not find the requested resource",
    )
}

fn info() -> Value {
    json!({"title": "Wardle", "version": "0.1"})
}

fn group() -> Map<String, Value> {
    let versions: Vec<Value> = VERSIONS
        .iter()
        .map(|(v, _)| json!({"groupVersion": format!("{GROUP}/{v}"), "version": v}))
        .collect();
    let out = json!({"kind": "APIGroup", "apiVersion": "v1", "name": GROUP,
        "preferredVersion": versions[0], "versions": versions});
    match out {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn listed(kind: &Kind) -> Value {
    json!({"name": kind.plural, "singularName": kind.name.to_lowercase(),
        "namespaced": kind.namespaced, "kind": kind.name, "verbs": VERBS})
}

fn aggregated() -> Reply {
    let versions: Vec<Value> = VERSIONS
        .iter()
        .map(|(version, kinds)| {
            let all: Vec<Value> = kinds
                .iter()
                .map(|k| {
                    json!({"resource": k.plural, "singularResource": k.name.to_lowercase(),
                        "responseKind": {"group": GROUP, "version": version, "kind": k.name},
                        "scope": if k.namespaced { "Namespaced" } else { "Cluster" }, "verbs": VERBS})
                })
                .collect();
            json!({"version": version, "resources": all, "freshness": "Current"})
        })
        .collect();
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": [{"metadata": {"name": GROUP}, "versions": versions}]});
    let mut reply = Reply::json(&list);
    reply.headers.clear();
    reply.with(
        "Content-Type",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    )
}

/// The paths and schemas of a version's kinds.
fn add(
    version: &str,
    kinds: &[Kind],
    prefix: &str,
    paths: &mut Map<String, Value>,
    schemas: &mut Map<String, Value>,
) {
    for kind in kinds {
        let name = format!("com.example.wardle.{version}.{}", kind.name);
        let gvk = json!({"group": GROUP, "version": version, "kind": kind.name});
        let string = |text: &str| json!({"type": "string", "description": text});
        schemas.insert(
            name.clone(),
            json!({"type": "object", "description": format!("{} is a sample.", kind.name),
                "properties": {"apiVersion": string("The version."), "kind": string("The kind."),
                    "metadata": {"type": "object"},
                    "spec": {"type": "object", "properties": {"reference": string("What it refers to.")}}},
                "x-kubernetes-group-version-kind": [gvk]}),
        );
        let scope = if kind.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let to = json!({"$ref": format!("{prefix}{name}")});
        let answer = if prefix.contains("components") {
            json!({"description": "OK", "content": {"application/json": {"schema": to}}})
        } else {
            json!({"description": "OK", "schema": to})
        };
        paths.insert(
            format!("/apis/{GROUP}/{version}{scope}/{}/{{name}}", kind.plural),
            json!({"get": {"operationId": format!("read{version}{}", kind.name),
                "responses": {"200": answer}, "x-kubernetes-action": "get",
                "x-kubernetes-group-version-kind": gvk}}),
        );
    }
}
