//! The resources of an aggregated server, for the merged discovery document: taken from its own aggregated one, or
//! from the old form where it has none. Only what discovery knows is taken over, whatever else the server says.
//! Upstream: kube-aggregator handler_discovery.go.

use std::sync::Arc;

use client::Reads;
use machinery::object::{list_at, str_at};
use machinery::request::User;
use serde_json::{Map, Value, json};

use super::documents::State;
use super::fetch::{Asked, Fetched, fetch};
use super::remote::Remote;
use crate::limits;

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// Who asks: allowed everything, so that the answer does not depend on the server's rules.
pub fn user() -> User {
    User::new("system:kube-aggregator", &["system:masters"])
}

/// Gets the resources anew. Tells whether discovery says something else now; the error is for logs, and leaves the
/// resources as they were, marked as stale.
pub async fn refresh(remote: &Remote, reads: &dyn Reads) -> (bool, Result<(), String>) {
    let _alone = remote.documents.busy.lock().await;
    let before = remote.documents.state();
    let (after, done) = match resources(remote, reads, &before).await {
        Ok(Some((resources, etag))) => {
            let resources = Arc::new(resources);
            let state = State {
                resources,
                etag,
                fresh: true,
                ..(*before).clone()
            };
            (state, Ok(()))
        }
        Ok(None) => {
            let state = State {
                fresh: true,
                ..(*before).clone()
            };
            (state, Ok(()))
        }
        Err(e) => {
            let state = State {
                fresh: false,
                ..(*before).clone()
            };
            (state, Err(e))
        }
    };
    let changed = after.fresh != before.fresh || after.resources != before.resources;
    remote.documents.set(after);
    (changed, done)
}

type Got = Option<(Vec<Value>, String)>;

/// The resources and the document's tag; `None` where they are as they were.
async fn resources(remote: &Remote, reads: &dyn Reads, before: &State) -> Result<Got, String> {
    let asked = Asked {
        user: user(),
        path: "/apis",
        accept: ACCEPT,
        etag: &before.etag,
        within: limits::AGGREGATED_DISCOVERY,
        bytes_max: limits::DISCOVERY_BYTES,
    };
    let answer = fetch(remote, reads, &asked).await?;
    match answer.code {
        304 if !before.etag.is_empty() => return Ok(None),
        503 => return Err("/apis: answered with 503".into()),
        200 if is_aggregated(&answer) => {
            let document = parsed(&answer)?;
            let found = of_version(&document, &remote.group, &remote.version);
            return Ok(Some((found, answer.etag)));
        }
        _ => {}
    }
    let path = remote.path();
    let asked = Asked {
        path: &path,
        accept: "application/json",
        etag: "",
        ..asked
    };
    let answer = fetch(remote, reads, &asked).await?;
    if answer.code != 200 {
        return Err(format!("{path}: answered with {}", answer.code));
    }
    let found = of_list(&parsed(&answer)?, &remote.group, &remote.version);
    Ok(Some((found, String::new())))
}

fn is_aggregated(answer: &Fetched) -> bool {
    let words: Vec<&str> = answer.content.split(';').map(str::trim).collect();
    words.contains(&"g=apidiscovery.k8s.io") && words.contains(&"as=APIGroupDiscoveryList")
}

fn parsed(answer: &Fetched) -> Result<Value, String> {
    serde_json::from_slice(&answer.body).map_err(|e| format!("discovery does not parse: {e}"))
}

/// The resources of one group version of an aggregated document.
fn of_version(document: &Value, group: &str, version: &str) -> Vec<Value> {
    let groups = list_at(document, "items").iter();
    groups
        .filter(|g| str_at(g, "metadata.name") == group)
        .flat_map(|g| list_at(g, "versions"))
        .filter(|v| str_at(v, "version") == version)
        .flat_map(|v| list_at(v, "resources"))
        .filter(|r| !str_at(r, "resource").is_empty())
        .take(limits::DISCOVERY_RESOURCES)
        .map(resource)
        .collect()
}

fn resource(r: &Value) -> Value {
    let scope = match str_at(r, "scope") {
        "Namespaced" => "Namespaced",
        _ => "Cluster",
    };
    let mut out = json!({
        "resource": str_at(r, "resource"), "responseKind": kind(&r["responseKind"]), "scope": scope,
        "singularResource": str_at(r, "singularResource"), "verbs": texts(r, "verbs"),
    });
    for name in ["shortNames", "categories"] {
        let all = texts(r, name);
        if !all.is_empty() {
            out[name] = json!(all);
        }
    }
    let subresources: Vec<Value> = list_at(r, "subresources")
        .iter()
        .take(limits::DISCOVERY_RESOURCES)
        .map(|s| {
            json!({"subresource": str_at(s, "subresource"),
                "responseKind": kind(&s["responseKind"]), "verbs": texts(s, "verbs")})
        })
        .collect();
    if !subresources.is_empty() {
        out["subresources"] = json!(subresources);
    }
    out
}

/// Never null: some clients would not bear it.
fn kind(k: &Value) -> Value {
    json!({"group": str_at(k, "group"), "version": str_at(k, "version"), "kind": str_at(k, "kind")})
}

fn texts<'a>(value: &'a Value, name: &str) -> Vec<&'a str> {
    let all = list_at(value, name).iter().filter_map(Value::as_str);
    all.take(limits::DISCOVERY_RESOURCES).collect()
}

/// The resources of an APIResourceList, each with its subresources.
fn of_list(list: &Value, group: &str, version: &str) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for r in list_at(list, "resources")
        .iter()
        .take(limits::DISCOVERY_RESOURCES)
    {
        let (name, sub) = match str_at(r, "name").split_once('/') {
            Some((name, sub)) => (name, Some(sub)),
            None => (str_at(r, "name"), None),
        };
        if name.is_empty() {
            continue;
        }
        let or = |own: &str, default: &str| match str_at(r, own) {
            "" => default.to_string(),
            said => said.to_string(),
        };
        let kind = json!({"group": or("group", group), "version": or("version", version),
            "kind": str_at(r, "kind")});
        let scope = match r["namespaced"].as_bool() {
            Some(true) => "Namespaced",
            _ => "Cluster",
        };
        let at = out.iter().position(|o| o["resource"] == name);
        let at = at.unwrap_or_else(|| {
            // A parent that exists for its subresources alone has no verbs.
            out.push(json!({"resource": name, "responseKind": {}, "scope": scope,
                "singularResource": "", "verbs": []}));
            out.len() - 1
        });
        let Some(entry) = out[at].as_object_mut() else {
            continue;
        };
        match sub {
            Some(sub) => add_subresource(entry, sub, kind, texts(r, "verbs")),
            None => {
                entry.insert("responseKind".into(), kind);
                entry.insert("scope".into(), json!(scope));
                entry.insert("singularResource".into(), json!(str_at(r, "singularName")));
                entry.insert("verbs".into(), json!(texts(r, "verbs")));
                for name in ["shortNames", "categories"] {
                    let all = texts(r, name);
                    if !all.is_empty() {
                        entry.insert(name.into(), json!(all));
                    }
                }
            }
        }
    }
    out
}

fn add_subresource(entry: &mut Map<String, Value>, sub: &str, kind: Value, verbs: Vec<&str>) {
    let all = entry.entry("subresources").or_insert_with(|| json!([]));
    if let Some(all) = all.as_array_mut() {
        all.push(json!({"subresource": sub, "responseKind": kind, "verbs": verbs}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_discovery_tell_the_same() {
        let aggregated = json!({"items": [{"metadata": {"name": "other"}}, {"metadata": {"name": "g.io"},
            "versions": [{"version": "v0"}, {"version": "v1", "resources": [
                {"resource": "things", "responseKind": {"group": "g.io", "version": "v1", "kind": "Thing"},
                 "scope": "Namespaced", "singularResource": "thing", "verbs": ["get", "list"],
                 "shortNames": ["t"], "junk": {"a": 1}, "subresources": [{"subresource": "status",
                    "responseKind": {"group": "g.io", "version": "v1", "kind": "Thing"}, "verbs": ["get"]}]}]}]}]});
        let list = json!({"resources": [
            {"name": "things/status", "kind": "Thing", "namespaced": true, "verbs": ["get"]},
            {"name": "things", "singularName": "thing", "kind": "Thing", "namespaced": true,
             "verbs": ["get", "list"], "shortNames": ["t"]}]});
        let found = of_version(&aggregated, "g.io", "v1");
        assert_eq!(found, of_list(&list, "g.io", "v1"));
        assert_eq!(found[0]["junk"], Value::Null);
        assert_eq!(found[0]["subresources"][0]["subresource"], "status");
    }

    #[test]
    fn nonsense_is_no_discovery() {
        for nonsense in [
            json!(null),
            json!([1]),
            json!({"items": "x"}),
            json!({"resources": [{"name": 5}]}),
        ] {
            assert!(of_version(&nonsense, "g", "v1").is_empty());
            assert!(of_list(&nonsense, "g", "v1").is_empty());
        }
    }
}
