//! OpenAPI of aggregated servers: got in the background, bounded; v3 kept as it comes, v2 merged into ours.
//! Upstream: kube-aggregator controllers/openapi, openapiv3; kube-openapi aggregator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use client::Reads;
use machinery::request::User;
use serde_json::{Map, Value, json};

use super::documents::Schema;
use super::fetch::{Asked, fetch};
use super::remote::Remote;
use crate::limits;

const DEFINITIONS: &str = "#/definitions/";
const GVK: &str = "x-kubernetes-group-version-kind";
const V3: &str = "/openapi/v3/";

/// Gets both documents anew. Tells whether one of them is another now; the error is for logs, and leaves them.
pub async fn refresh(remote: &Remote, reads: &dyn Reads) -> (bool, Result<(), String>) {
    let _alone = remote.documents.busy.lock().await;
    let before = remote.documents.state();
    let v3 = third(remote, reads, before.v3.as_ref()).await;
    let v2 = second(remote, reads, before.v2.as_ref()).await;
    let mut state = (*before).clone();
    let mut done = Ok(());
    for (got, kept) in [(v3, &mut state.v3), (v2, &mut state.v2)] {
        match got {
            Ok(got) => *kept = got,
            Err(e) => done = Err(e),
        }
    }
    let hash = |s: &Option<Arc<Schema>>| s.as_ref().map(|s| s.hash.clone());
    let changed = hash(&state.v3) != hash(&before.v3) || hash(&state.v2) != hash(&before.v2);
    remote.documents.set(state);
    (changed, done)
}

type Got = Result<Option<Arc<Schema>>, String>;

fn asked<'a>(path: &'a str, etag: &'a str) -> Asked<'a> {
    Asked {
        user: User::new("system:aggregator", &[]),
        path,
        accept: "application/json",
        etag,
        within: limits::OPENAPI_TIME,
        bytes_max: limits::OPENAPI_BYTES,
    }
}

fn schema(bytes: Bytes, mark: String) -> Got {
    let parsed: serde_json::Result<Map<String, Value>> = serde_json::from_slice(&bytes);
    parsed.map_err(|e| format!("OpenAPI does not parse: {e}"))?;
    Ok(Some(Arc::new(Schema {
        hash: crate::openapi::hash(&bytes),
        bytes,
        mark,
    })))
}

/// The v3 document of the group version; nothing where the server has none.
async fn third(remote: &Remote, reads: &dyn Reads, before: Option<&Arc<Schema>>) -> Got {
    let root = fetch(remote, reads, &asked("/openapi/v3", "")).await?;
    match root.code {
        200 => {}
        404 => return Ok(None),
        code => return Err(format!("/openapi/v3: answered with {code}")),
    }
    let root: Value = serde_json::from_slice(&root.body)
        .map_err(|e| format!("/openapi/v3: does not parse: {e}"))?;
    let path = remote.path();
    let Some(url) = root["paths"][path.trim_start_matches('/')]["serverRelativeURL"].as_str()
    else {
        return Ok(None);
    };
    if !url.starts_with(V3) {
        return Err(format!("/openapi/v3: leads to {url}"));
    }
    if let Some(before) = before.filter(|b| b.mark == url && url.contains("hash=")) {
        return Ok(Some(before.clone()));
    }
    let answer = fetch(remote, reads, &asked(url, "")).await?;
    match answer.code {
        200 => schema(answer.body, url.into()),
        code => Err(format!("{url}: answered with {code}")),
    }
}

/// The v2 document; nothing where the server has none.
async fn second(remote: &Remote, reads: &dyn Reads, before: Option<&Arc<Schema>>) -> Got {
    let mark = before.map_or("", |b| b.mark.as_str());
    let answer = fetch(remote, reads, &asked("/openapi/v2", mark)).await?;
    match answer.code {
        200 => schema(answer.body, answer.etag),
        304 if !mark.is_empty() => Ok(before.cloned()),
        404 => Ok(None),
        code => Err(format!("/openapi/v2: answered with {code}")),
    }
}

/// The v2 documents of all servers, merged into ours in their order.
pub fn merge_all(ours: &mut Value, remotes: &[Arc<Remote>]) {
    for r in remotes {
        let Some(theirs) = r.documents.state().v2.clone() else {
            continue;
        };
        match serde_json::from_slice(&theirs.bytes) {
            Ok(theirs) => merge(ours, theirs, &format!("{}/", r.path())),
            Err(error) => tracing::warn!(api_service = r.name, %error, "OpenAPI does not parse"),
        }
    }
}

/// Adds what another document says of the paths under a prefix, with the definitions they need. A path that is
/// there already stays; a definition that differs from ours gets a name of its own.
fn merge(ours: &mut Value, mut theirs: Value, prefix: &str) {
    let mut paths = match theirs["paths"].take() {
        Value::Object(paths) => paths,
        _ => return,
    };
    paths.retain(|p, _| p.starts_with(prefix));
    let mut theirs = match theirs["definitions"].take() {
        Value::Object(all) => all,
        _ => Map::new(),
    };
    let needed = needed(&paths, &theirs);
    let Some(ours) = ours.as_object_mut() else {
        return;
    };
    let definitions = ours.entry("definitions").or_insert_with(|| json!({}));
    let Some(definitions) = definitions.as_object_mut() else {
        return;
    };
    let renamed = renamed(&needed, &theirs, definitions);
    for name in &needed {
        let Some(mut definition) = theirs.remove(name) else {
            continue;
        };
        rename(&mut definition, &renamed);
        match renamed.get(name) {
            Some(new) => {
                definitions.insert(new.clone(), definition);
            }
            None => match definitions.get_mut(name) {
                Some(there) => add_kinds(there, &definition),
                None => {
                    definitions.insert(name.clone(), definition);
                }
            },
        }
    }
    let all = ours.entry("paths").or_insert_with(|| json!({}));
    for (path, mut item) in paths {
        rename(&mut item, &renamed);
        if let Some(all) = all.as_object_mut() {
            all.entry(path).or_insert(item);
        }
    }
}

/// The definitions that paths refer to, and those that these refer to.
fn needed(paths: &Map<String, Value>, all: &Map<String, Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Value> = paths.values().collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                let to = map.get("$ref").and_then(Value::as_str);
                let name = to.and_then(|t| t.strip_prefix(DEFINITIONS));
                if let Some((name, definition)) = name.and_then(|n| all.get_key_value(n))
                    && found.insert(name.clone())
                {
                    open.push(definition);
                }
                open.extend(map.values());
            }
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
    found
}

/// New names of those definitions that differ from ours of the same name.
fn renamed(
    needed: &BTreeSet<String>,
    theirs: &Map<String, Value>,
    ours: &Map<String, Value>,
) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for name in needed {
        let (Some(there), Some(new)) = (ours.get(name), theirs.get(name)) else {
            continue;
        };
        if alike(there, new) {
            continue;
        }
        // An earlier server's of the same content has its name for both.
        let mut n = 2;
        loop {
            let other = format!("{name}_v{n}");
            let free = match ours.get(&other) {
                None => !theirs.contains_key(&other),
                Some(there) => alike(there, new),
            };
            if free {
                out.insert(name.clone(), other);
                break;
            }
            n += 1;
        }
    }
    out
}

/// Whether two definitions say the same of a type, whatever kinds they serve.
fn alike(a: &Value, b: &Value) -> bool {
    let bare = |v: &Value| {
        let mut v = v.clone();
        if let Some(map) = v.as_object_mut() {
            map.remove(GVK);
        }
        v
    };
    bare(a) == bare(b)
}

fn add_kinds(there: &mut Value, new: &Value) {
    let Some(more) = new[GVK].as_array() else {
        return;
    };
    let Some(map) = there.as_object_mut() else {
        return;
    };
    if let Some(all) = map.entry(GVK).or_insert_with(|| json!([])).as_array_mut() {
        for kind in more {
            if !all.contains(kind) {
                all.push(kind.clone());
            }
        }
    }
}

fn rename(value: &mut Value, renamed: &BTreeMap<String, String>) {
    if renamed.is_empty() {
        return;
    }
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get_mut("$ref") {
                let new = to.strip_prefix(DEFINITIONS).and_then(|n| renamed.get(n));
                if let Some(new) = new {
                    *to = format!("{DEFINITIONS}{new}");
                }
            }
            map.values_mut().for_each(|v| rename(v, renamed));
        }
        Value::Array(list) => list.iter_mut().for_each(|v| rename(v, renamed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_merged_and_what_differs_is_renamed() {
        let to = |n: &str| json!({"schema": {"$ref": format!("{DEFINITIONS}{n}")}});
        let mut ours = json!({"paths": {"/apis/a/v1/x": 1, "/apis/g/v1/own": "ours"},
            "definitions": {"Meta": {"type": "object"}, "Options": {"type": "object", GVK: [1]}, "Same": {}}});
        let theirs = json!({"paths": {"/apis/g/v1/things": to("Thing"), "/apis/g/v1/own": "theirs",
                "/apis/a/v1/stolen": to("Unused")},
            "definitions": {"Thing": {"properties": {"m": to("Meta"), "o": to("Options")}},
                "Meta": {"type": "string"}, "Options": {"type": "object", GVK: [1, 2]}, "Unused": {}, "Same": {"a": 1}}});
        merge(&mut ours, theirs, "/apis/g/v1/");
        let paths: Vec<&String> = ours["paths"].as_object().unwrap().keys().collect();
        assert_eq!(
            paths,
            ["/apis/a/v1/x", "/apis/g/v1/own", "/apis/g/v1/things"]
        );
        assert_eq!(ours["paths"]["/apis/g/v1/own"], "ours");
        let definitions = &ours["definitions"];
        assert_eq!(definitions["Meta"], json!({"type": "object"}));
        assert_eq!(definitions["Meta_v2"], json!({"type": "string"}));
        assert_eq!(definitions["Thing"]["properties"]["m"], to("Meta_v2"));
        assert_eq!(definitions["Thing"]["properties"]["o"], to("Options"));
        assert_eq!(definitions["Options"][GVK], json!([1, 2]));
        assert_eq!(definitions["Same"], json!({}));
        assert_eq!(definitions["Unused"], Value::Null);
    }
}
