//! A walk over discovery, old form and aggregated, against the table of what v1.37 serves by default.

use std::collections::BTreeMap;

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::env::Env;

const TABLE: &str = include_str!("../../../resources/data/discovery.tsv");
/// What `--runtime-config=api/all=true` adds.
const OFF: &str = include_str!("../../../resources/data/discovery-off.tsv");
const FULL: &str = "create,delete,deletecollection,get,list,patch,update,watch";
const GPU: &str = "get,patch,update";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Upstream's order of groups.
const GROUPS: &[&str] = &[
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "storagemigration.k8s.io",
];

/// A row of the table: its group version and what discovery must say.
struct Row {
    group: &'static str,
    version: &'static str,
    old: Vec<Value>,
    new: Value,
}

fn verbs(text: &str) -> Value {
    let list = match text {
        "full" => FULL,
        "gpu" => GPU,
        other => other,
    };
    list.split(',').collect()
}

fn words(text: &str) -> Vec<&str> {
    text.split(',').filter(|w| !w.is_empty()).collect()
}

fn row(line: &'static str) -> Row {
    let c: Vec<&str> = line.split('\t').collect();
    let [group, version, resource, kind] = [c[0], c[1], c[2], c[3]];
    let namespaced = c[7] == "y";
    let mut main = json!({"name": resource, "singularName": c[4], "namespaced": namespaced,
        "kind": kind, "verbs": verbs(c[8])});
    let mut new = json!({"resource": resource, "singularResource": c[4], "verbs": verbs(c[8]),
        "responseKind": {"group": group, "version": version, "kind": kind},
        "scope": if namespaced { "Namespaced" } else { "Cluster" }});
    for (field, text) in [("shortNames", c[5]), ("categories", c[6])] {
        if !text.is_empty() {
            main[field] = json!(words(text));
            new[field] = json!(words(text));
        }
    }
    if c[10] != "-" {
        let own = format!("{group}/{version}/{kind}");
        let stored = if c[10].is_empty() { &own } else { c[10] };
        let hash = &Sha256::digest(stored.as_bytes())[..8];
        main["storageVersionHash"] = json!(base64::prelude::BASE64_STANDARD.encode(hash));
    }
    let mut old = vec![main];
    let mut below = Vec::new();
    for sub in c[9].split(' ').filter(|s| !s.is_empty()) {
        let (name, can) = sub.split_once(':').unwrap();
        let (name, full) = name.split_once('=').unwrap_or((name, kind));
        let (gv, sub_kind) = full.rsplit_once('.').unwrap_or(("", full));
        let mut one = json!({"name": format!("{resource}/{name}"), "singularName": "",
            "namespaced": namespaced, "kind": sub_kind, "verbs": verbs(can)});
        let (g, v) = gv.split_once('/').unwrap_or((group, version));
        if !gv.is_empty() {
            one["group"] = json!(g);
            one["version"] = json!(v);
        }
        old.push(one);
        below.push(json!({"subresource": name, "verbs": verbs(can),
            "responseKind": {"group": g, "version": v, "kind": sub_kind}}));
    }
    if !below.is_empty() {
        new["subresources"] = json!(below);
    }
    Row {
        group,
        version,
        old,
        new,
    }
}

fn rows(table: &'static str) -> Vec<Row> {
    let lines = table.lines().filter(|l| !l.starts_with('#'));
    lines.map(row).collect()
}

/// Lines of what is missing, too much or otherwise.
fn differences(at: &str, key: &str, expected: &[Value], seen: &Value) -> Vec<String> {
    let index = |list: &[Value]| -> BTreeMap<String, Value> {
        let named = list.iter().map(|v| (v[key].to_string(), v.clone()));
        named.collect()
    };
    let seen = seen.as_array().cloned().unwrap_or_default();
    let (expected, seen) = (index(expected), index(&seen));
    let mut out = Vec::new();
    for (name, value) in &expected {
        match seen.get(name) {
            None => out.push(format!("{at}: {name} is missing")),
            Some(is) if is != value => out.push(format!("{at}: {name} is {is}, not {value}")),
            Some(_) => {}
        }
    }
    let more = seen.keys().filter(|n| !expected.contains_key(*n));
    out.extend(more.map(|n| format!("{at}: {n} is too much")));
    out
}

#[tokio::test]
async fn discovery_has_all_that_upstream_serves() {
    let env = Env::start().await;
    walk(&env, rows(TABLE), GROUPS).await;
}

#[tokio::test]
async fn what_is_off_by_default_can_be_turned_on() {
    let env = Env::serving("api/all=true").await;
    let mut groups = GROUPS.to_vec();
    let last = groups.len() - 1;
    groups.insert(last, "internal.apiserver.k8s.io");
    let all = rows(TABLE).into_iter().chain(rows(OFF)).collect();
    walk(&env, all, &groups).await;

    // An object is the same under all its versions, and a deprecated one says so.
    let claims = |version: &str| {
        format!("/apis/resource.k8s.io/{version}/namespaces/default/resourceclaims")
    };
    let claim = json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [
        {"name": "r", "deviceClassName": "gpu"}]}}});
    let made = env.post(&claims("v1beta1"), &claim).await;
    assert_eq!(made.code, 201, "{made:?}");
    let warning = made.headers["warning"].to_str().unwrap();
    assert!(warning.contains("resource.k8s.io/v1beta1 ResourceClaim is deprecated in v1.35+"));
    let made = made.json();
    assert_eq!(made["apiVersion"], "resource.k8s.io/v1beta1");
    let seen = env.get(&format!("{}/c", claims("v1"))).await.json();
    let request = &seen["spec"]["devices"]["requests"][0];
    assert_eq!(request["exactly"]["allocationMode"], "ExactCount");
    assert_eq!(seen["metadata"]["uid"], made["metadata"]["uid"]);
}

#[tokio::test]
async fn versions_and_resources_can_be_turned_off() {
    let env = Env::serving("batch/v1/cronjobs=false,autoscaling/v1=false").await;
    for path in [
        "/apis/batch/v1/cronjobs",
        "/apis/autoscaling/v1/horizontalpodautoscalers",
    ] {
        assert_eq!(env.get(path).await.code, 404, "{path}");
    }
    assert_eq!(env.get("/apis/batch/v1/jobs").await.code, 200);
}

async fn walk(env: &Env, rows: Vec<Row>, expected: &[&str]) {
    let mut wrong = Vec::new();
    let groups = env.get("/apis").await.json();
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|g| g["name"].as_str())
        .collect();
    assert_eq!(names, expected);
    type Lists = (Vec<Value>, Vec<Value>);
    let mut versions: BTreeMap<(&str, &str), Lists> = BTreeMap::new();
    for r in rows {
        let all = versions.entry((r.group, r.version)).or_default();
        all.0.extend(r.old);
        all.1.push(r.new);
    }
    let mut aggregated = BTreeMap::new();
    for path in ["/api", "/apis"] {
        let accept = [("accept", AGGREGATED)];
        let document = env.ask("GET", path, &accept, Vec::new()).await.json();
        for group in document["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or("").to_string();
            for v in group["versions"].as_array().unwrap() {
                let version = v["version"].as_str().unwrap().to_string();
                aggregated.insert((name.clone(), version), v["resources"].clone());
            }
        }
    }
    for ((group, version), (old, new)) in &versions {
        let (path, gv) = match *group {
            "" => ("/api/v1".to_string(), "v1".to_string()),
            g => (format!("/apis/{g}/{version}"), format!("{g}/{version}")),
        };
        let list = env.get(&path).await.json();
        assert_eq!(list["groupVersion"], gv);
        wrong.extend(differences(&path, "name", old, &list["resources"]));
        let key = (group.to_string(), version.to_string());
        let found = aggregated.remove(&key).unwrap_or_default();
        wrong.extend(differences(&gv, "resource", new, &found));
    }
    wrong.extend(aggregated.keys().map(|k| format!("{k:?} is too much")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn component_statuses_tell_of_the_store() {
    let env = Env::start().await;
    let list = env.get("/api/v1/componentstatuses").await;
    let warning = list.headers["warning"].to_str().unwrap();
    assert_eq!(
        warning,
        "299 - \"v1 ComponentStatus is deprecated in v1.19+\""
    );
    let store = json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": "etcd-0"},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]});
    let mut item = store.clone();
    item.as_object_mut()
        .unwrap()
        .retain(|field, _| !["kind", "apiVersion"].contains(&field.as_str()));
    assert_eq!(
        list.json(),
        json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": [item]})
    );
    let one = env.get("/api/v1/componentstatuses/etcd-0").await;
    assert_eq!(one.json(), store);
    let none = env.get("/api/v1/componentstatuses/x").await.json();
    assert_eq!(none["message"], "componentstatus \"x\" not found");
    let labelled = env
        .get("/api/v1/componentstatuses?labelSelector=a%3Db")
        .await;
    assert_eq!(labelled.json()["items"], json!([]));
    let made = env.post("/api/v1/componentstatuses", &store).await;
    assert_eq!(made.code, 405);
}
