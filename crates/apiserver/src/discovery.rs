//! Discovery: which groups, versions and resources there are, in the old form and aggregated.
//! Upstream: endpoints/discovery; api-semantics §13.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use machinery::{Descriptor, SubresourceKind, Verb};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::aggregate::priorities::{self, Priority};
use crate::negotiate;
use crate::query::Query;
use crate::response::{self, Answer};
use crate::server::{Incoming, Inner};

/// Kinds whose objects are stored as another version than the one served: group, plural, stored as.
const STORED_AS: &[(&str, &str, &str)] = &[
    (
        "autoscaling",
        "horizontalpodautoscalers",
        "autoscaling/v2/HorizontalPodAutoscaler",
    ),
    ("events.k8s.io", "events", "/v1/Event"),
    (
        crate::crd::GROUP,
        crate::crd::RESOURCE,
        "apiextensions.k8s.io/v1beta1/CustomResourceDefinition",
    ),
    (
        "certificates.k8s.io",
        "clustertrustbundles",
        "certificates.k8s.io/v1beta1/ClusterTrustBundle",
    ),
    (
        "certificates.k8s.io",
        "podcertificaterequests",
        "certificates.k8s.io/v1beta1/PodCertificateRequest",
    ),
    (
        "resource.k8s.io",
        "devicetaintrules",
        "resource.k8s.io/v1beta2/DeviceTaintRule",
    ),
    (
        "storagemigration.k8s.io",
        "storageversionmigrations",
        "storagemigration.k8s.io/v1beta1/StorageVersionMigration",
    ),
];
/// A group's highest priority, and its versions with theirs.
type Ranked = (i64, Vec<(i64, String)>);
/// The verbs of custom resources as upstream lists them.
const CUSTOM_VERBS: &[&str] = &[
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

/// Groups in order of discovery, each with its versions, preferred first; those of aggregated servers too.
pub fn groups(server: &Inner) -> Vec<(String, Vec<String>)> {
    let mut ranks: BTreeMap<(String, String), Priority> = BTreeMap::new();
    for s in server.registry.all() {
        let (group, version) = (&*s.descriptor.group, &*s.descriptor.version);
        ranks
            .entry((group.to_string(), version.to_string()))
            .or_insert_with(|| priorities::local(group, version));
    }
    for r in server.aggregator.all() {
        let own = (r.group_priority, r.version_priority);
        ranks.insert((r.group.clone(), r.version.clone()), own);
    }
    let mut all: BTreeMap<String, Ranked> = BTreeMap::new();
    for ((group, version), (of_group, of_version)) in ranks {
        let (highest, versions) = all.entry(group).or_default();
        *highest = of_group.max(*highest);
        versions.push((of_version, version));
    }
    let mut all: Vec<(String, Ranked)> = all.into_iter().collect();
    // Stable: groups of one priority stay in order of their names.
    all.sort_by_key(|(_, (highest, _))| std::cmp::Reverse(*highest));
    let named = |(group, (_, mut versions)): (String, Ranked)| {
        versions.sort_by(|(p, v), (q, w)| (q, priority(w), v).cmp(&(p, priority(v), w)));
        (group, versions.into_iter().map(|(_, v)| v).collect())
    };
    all.into_iter().map(named).collect()
}

/// Kube-aware version order: v2 over v1 over v1beta2 over v1beta1 over v1alpha1 over anything else.
pub fn priority(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    let digits = |t: &str| t.chars().take_while(char::is_ascii_digit).count();
    let n = digits(rest);
    let (Ok(major), tail) = (rest[..n].parse::<u32>(), &rest[n..]) else {
        return (0, 0, 0);
    };
    let minor = |t: &str| t.parse::<u32>().ok();
    match tail {
        "" => (3, major, 0),
        t if t.starts_with("beta") => minor(&t[4..]).map_or((0, 0, 0), |m| (2, major, m)),
        t if t.starts_with("alpha") => minor(&t[5..]).map_or((0, 0, 0), |m| (1, major, m)),
        _ => (0, 0, 0),
    }
}

/// `/api`.
pub fn api(server: &Inner, i: &Incoming) -> Answer {
    if is_aggregated(i) {
        return aggregate(server, i, true);
    }
    let versions = json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses(i)});
    document(server, i, &versions)
}

/// A document in the format that the client asks for.
fn document(server: &Inner, i: &Incoming, document: &Value) -> Answer {
    let query = Query::parse(&i.raw_query);
    let cbor = server.serves_cbor();
    match negotiate::response(&i.headers, &query, negotiate::document(cbor)) {
        Ok(format) => response::value(200, document, &format),
        Err(e) => response::error(&e, &negotiate::error(&i.headers, &query, cbor)),
    }
}

/// Where clients reach the server: as this one did.
fn addresses(i: &Incoming) -> Value {
    let host = i.headers.get(http::header::HOST);
    let host = host.and_then(|h| h.to_str().ok()).unwrap_or("");
    json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": host}])
}

/// `/apis`.
pub fn apis(server: &Inner, i: &Incoming) -> Answer {
    if is_aggregated(i) {
        return aggregate(server, i, false);
    }
    let list: Vec<Value> = groups(server)
        .iter()
        .filter(|(g, _)| !g.is_empty())
        .map(|(g, v)| group_value(g, v, false))
        .collect();
    document(
        server,
        i,
        &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}),
    )
}

/// `/apis/<group>`.
pub fn group(server: &Inner, i: &Incoming, name: &str) -> Answer {
    match groups(server)
        .iter()
        .find(|(g, _)| g == name && !g.is_empty())
    {
        Some((g, v)) => document(server, i, &group_value(g, v, true)),
        None => response::text(404, "404 page not found"),
    }
}

fn group_value(name: &str, versions: &[String], alone: bool) -> Value {
    let one = |v: &String| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    let all: Vec<Value> = versions.iter().map(one).collect();
    let mut out = json!({"name": name, "preferredVersion": all.first(), "versions": all});
    if alone {
        out["kind"] = json!("APIGroup");
        out["apiVersion"] = json!("v1");
    }
    out
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub fn resources(server: &Inner, i: &Incoming, group: &str, version: &str) -> Answer {
    let mut list = Vec::new();
    for s in server.registry.all() {
        if s.descriptor.group == group && s.descriptor.version == version {
            list.push(resource_value(&s.descriptor));
            list.extend(
                s.descriptor
                    .subresources
                    .iter()
                    .map(|sub| subresource_value(&s.descriptor, sub)),
            );
        }
    }
    if list.is_empty() {
        let query = Query::parse(&i.raw_query);
        return not_found(server, (&i.headers, &query), group);
    }
    list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let gv = if group.is_empty() {
        version.to_string()
    } else {
        format!("{group}/{version}")
    };
    let mut out = json!({"kind": "APIResourceList", "groupVersion": gv, "resources": list});
    if !group.is_empty() {
        out["apiVersion"] = json!("v1");
    }
    document(server, i, &out)
}

/// Whether kinds of a group, in a version where one is named, are built in: only those have a web service.
pub fn is_built_in(server: &Inner, group: &str, version: Option<&str>) -> bool {
    let fits = |s: &Arc<crate::registry::Served>| {
        let d = &s.descriptor;
        d.group == group && version.is_none_or(|v| d.version == v) && !d.strategy.is_custom()
    };
    server.registry.all().iter().any(fits)
}

/// What is not served: upstream's web service of the group says so, or the plain mux where there is none.
pub fn not_found(
    server: &Inner,
    (headers, query): (&http::HeaderMap, &Query),
    group: &str,
) -> Answer {
    if is_built_in(server, group, None) {
        let format = negotiate::error(headers, query, server.serves_cbor());
        return response::error(&machinery::ApiError::path_not_found(), &format);
    }
    response::text(404, "404 page not found")
}

fn verb_names(d: &Descriptor) -> Vec<&'static str> {
    let name = |v: &Verb| match v {
        Verb::Create => "create",
        Verb::Delete => "delete",
        Verb::DeleteCollection => "deletecollection",
        Verb::Get => "get",
        Verb::List => "list",
        Verb::Patch => "patch",
        Verb::Update => "update",
        Verb::Watch => "watch",
    };
    let mut names: Vec<&str> = d.verbs.iter().map(name).collect();
    names.sort_unstable();
    if d.strategy.is_custom() {
        // Of custom resources upstream lists them in this order.
        names.sort_by_key(|n| CUSTOM_VERBS.iter().position(|v| v == n));
    }
    names
}

fn resource_value(d: &Descriptor) -> Value {
    let mut out = json!({
        "name": d.resource, "singularName": d.singular, "namespaced": d.namespaced(),
        "kind": d.kind, "verbs": verb_names(d),
    });
    if !d.short_names.is_empty() {
        out["shortNames"] = json!(d.short_names);
    }
    if !d.categories.is_empty() {
        out["categories"] = json!(d.categories);
    }
    if d.stored {
        let other = STORED_AS
            .iter()
            .find(|(g, r, _)| d.group == *g && d.resource == *r);
        let stored = match other {
            Some((_, _, stored)) => stored.to_string(),
            None => {
                let version = d.strategy.stored_version().unwrap_or(&d.version);
                format!("{}/{version}/{}", d.group, d.kind)
            }
        };
        let hash = Sha256::digest(stored.as_bytes());
        use base64::Engine;
        out["storageVersionHash"] = json!(base64::prelude::BASE64_STANDARD.encode(&hash[..8]));
    }
    out
}

/// Kind, group, version and verbs of a subresource.
fn subresource_facts(
    d: &Descriptor,
    kind: &SubresourceKind,
) -> (String, String, String, Vec<&'static str>) {
    let own = |verbs: Vec<&'static str>| {
        (
            d.kind.to_string(),
            d.group.to_string(),
            d.version.to_string(),
            verbs,
        )
    };
    match kind {
        SubresourceKind::Status | SubresourceKind::Object => own(vec!["get", "patch", "update"]),
        SubresourceKind::ObjectUpdate => own(vec!["update"]),
        SubresourceKind::Scale { .. } => (
            "Scale".into(),
            "autoscaling".into(),
            "v1".into(),
            vec!["get", "patch", "update"],
        ),
        SubresourceKind::Connect {
            verbs,
            kind,
            group,
            version,
        } => (
            kind.to_string(),
            group.to_string(),
            version.to_string(),
            verbs.to_vec(),
        ),
    }
}

fn subresource_value(d: &Descriptor, sub: &machinery::Subresource) -> Value {
    let (kind, group, version, verbs) = subresource_facts(d, &sub.kind);
    let mut out = json!({
        "name": format!("{}/{}", d.resource, sub.name), "singularName": "",
        "namespaced": d.namespaced(), "kind": kind, "verbs": verbs,
    });
    if (group.as_str(), version.as_str()) != (&*d.group, &*d.version) {
        out["group"] = json!(group);
        out["version"] = json!(version);
    }
    out
}

/// Whether the client prefers aggregated discovery over the old form. (`v2beta1` is no more.)
fn is_aggregated(i: &Incoming) -> bool {
    let accept = i.headers.get(ACCEPT).and_then(|v| v.to_str().ok());
    for clause in accept.unwrap_or("").split(',') {
        let words: Vec<&str> = clause.split(';').map(str::trim).collect();
        let has = |w: &str| words.contains(&w);
        let transformed = words.iter().any(|w| w.starts_with("as="));
        match words[0] {
            "application/json" | "*/*" | "application/*" if !transformed => return false,
            "application/json"
                if has("as=APIGroupDiscoveryList")
                    && has("g=apidiscovery.k8s.io")
                    && has("v=v2") =>
            {
                return true;
            }
            _ => {}
        }
    }
    false
}

/// The aggregated documents, `/api`'s and `/apis`'s, made once a change.
#[derive(Default)]
pub struct Memory([Mutex<Option<Arc<Merged>>>; 2]);

struct Merged {
    /// What of: changes of what is served here, and by other servers.
    generations: (u64, u64),
    json: bytes::Bytes,
    tag: String,
}

impl Memory {
    fn merged(&self, server: &Inner, core: bool) -> Arc<Merged> {
        let generations = (server.registry.generation(), server.aggregator.generation());
        let mut known = self.0[usize::from(core)].lock();
        if let Some(made) = known.as_ref().filter(|m| m.generations == generations) {
            return made.clone();
        }
        let mut json = merged(server, core).to_string().into_bytes();
        let tag = format!("\"{}\"", crate::openapi::hash(&json));
        json.push(b'\n');
        let made = Arc::new(Merged {
            generations,
            json: json.into(),
            tag,
        });
        *known = Some(made.clone());
        made
    }
}

fn merged(server: &Inner, core: bool) -> Value {
    let mut items = Vec::new();
    for (group, versions) in groups(server).iter().filter(|(g, _)| g.is_empty() == core) {
        let versions: Vec<Value> = versions.iter().map(|v| told(server, group, v)).collect();
        let meta = if group.is_empty() {
            json!({})
        } else {
            json!({"name": group})
        };
        items.push(json!({"metadata": meta, "versions": versions}));
    }
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": items})
}

/// What an aggregated document tells of one version.
fn told(server: &Inner, group: &str, version: &str) -> Value {
    let Some(remote) = server.aggregator.find(group, version) else {
        let resources = discovered(server, group, version);
        return json!({"version": version, "resources": resources, "freshness": "Current"});
    };
    let state = remote.documents.state();
    let freshness = if state.fresh { "Current" } else { "Stale" };
    let mut out = json!({"version": version, "freshness": freshness});
    if !state.resources.is_empty() {
        out["resources"] = json!(*state.resources);
    }
    out
}

fn aggregate(server: &Inner, i: &Incoming, core: bool) -> Answer {
    let made = server.discovery.merged(server, core);
    let known = i.headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let mut answer = match known == Some(made.tag.as_str()) {
        true => response::bytes(304, "application/json", bytes::Bytes::new()),
        false => response::bytes(200, "application/json", made.json.clone()),
    };
    let headers = answer.headers_mut();
    let content = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    if let Ok(v) = HeaderValue::from_str(&made.tag) {
        headers.insert(ETAG, v);
    }
    answer
}

fn discovered(server: &Inner, group: &str, version: &str) -> Vec<Value> {
    let mut out = Vec::new();
    for s in server.registry.all() {
        let d = &s.descriptor;
        if d.group != group || d.version != version {
            continue;
        }
        let kind = |k: &str, g: &str, v: &str| json!({"group": g, "version": v, "kind": k});
        let mut one = json!({
            "resource": d.resource, "responseKind": kind(&d.kind, group, version),
            "scope": if d.namespaced() { "Namespaced" } else { "Cluster" },
            "singularResource": d.singular, "verbs": verb_names(d),
        });
        if !d.short_names.is_empty() {
            one["shortNames"] = json!(d.short_names);
        }
        if !d.categories.is_empty() {
            one["categories"] = json!(d.categories);
        }
        let mut subs: Vec<Value> = d
            .subresources
            .iter()
            .map(|sub| {
                let (k, g, v, verbs) = subresource_facts(d, &sub.kind);
                json!({"subresource": sub.name, "responseKind": kind(&k, &g, &v), "verbs": verbs})
            })
            .collect();
        subs.sort_by(|a, b| a["subresource"].as_str().cmp(&b["subresource"].as_str()));
        if !subs.is_empty() {
            one["subresources"] = json!(subs);
        }
        out.push(one);
    }
    out.sort_by(|a, b| a["resource"].as_str().cmp(&b["resource"].as_str()));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::priority;

    #[test]
    fn documents_have_a_protobuf_form() {
        let version = json!({"groupVersion": "g/v1", "version": "v1"});
        let group = json!({"name": "g", "versions": [version], "preferredVersion": version});
        let mut alone = group.clone();
        alone["kind"] = json!("APIGroup");
        alone["apiVersion"] = json!("v1");
        let resource = json!({"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod",
            "verbs": ["get", "list"], "shortNames": ["po"], "categories": ["all"], "storageVersionHash": "x="});
        let scale = json!({"name": "pods/scale", "singularName": "", "namespaced": true, "kind": "Scale",
            "group": "autoscaling", "version": "v1", "verbs": ["get"]});
        for document in [
            alone,
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}),
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "g/v1", "resources": [resource, scale]}),
        ] {
            let data = api::protobuf::encode(&document).expect("a form");
            let read = api::protobuf::decode(&data).expect("the same");
            assert_eq!(read, document);
        }
        for core in [
            json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource]}),
            json!({"kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "a"}]}),
        ] {
            assert!(api::protobuf::encode(&core).is_ok(), "{core}");
        }
    }

    #[test]
    fn versions_are_ordered_as_upstream_orders_them() {
        let mut all = [
            "v1alpha1", "foo1", "v2", "v1beta2", "v10", "v1", "v1beta1", "v2alpha1",
        ];
        all.sort_by_key(|v| std::cmp::Reverse(priority(v)));
        assert_eq!(
            all,
            [
                "v10", "v2", "v1", "v1beta2", "v1beta1", "v2alpha1", "v1alpha1", "foo1"
            ]
        );
    }
}
