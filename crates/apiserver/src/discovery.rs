//! Discovery: which groups, versions and resources there are, in the old form and aggregated.
//! Upstream: endpoints/discovery; api-semantics §13.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use machinery::{Descriptor, SubresourceKind, Verb};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::response::{self, Answer};
use crate::server::{Incoming, Inner};

/// Upstream's priorities of groups; custom ones come with 1000, in order of their names.
const PRIORITIES: &[(&str, u32)] = &[
    ("", 18_000),
    ("apiregistration.k8s.io", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("admissionregistration.k8s.io", 16_700),
    ("apiextensions.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("resource.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("internal.apiserver.k8s.io", 16_000),
    ("storagemigration.k8s.io", 15_800),
];
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
];
/// Of a group that a CRD defines.
const CUSTOM_PRIORITY: u32 = 1_000;

fn group_priority(group: &str) -> u32 {
    let known = PRIORITIES.iter().find(|(g, _)| *g == group);
    known.map_or(CUSTOM_PRIORITY, |(_, p)| *p)
}

/// Groups in order of discovery, each with its versions, preferred first.
pub fn groups(server: &Inner) -> Vec<(String, Vec<String>)> {
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    for s in server.registry.all() {
        let (group, version) = (
            s.descriptor.group.to_string(),
            s.descriptor.version.to_string(),
        );
        match out.iter_mut().find(|(g, _)| *g == group) {
            Some((_, versions)) if versions.contains(&version) => {}
            Some((_, versions)) => versions.push(version),
            None => out.push((group, vec![version])),
        }
    }
    for (_, versions) in &mut out {
        versions.sort_by_key(|v| std::cmp::Reverse(priority(v)));
    }
    out.sort_by(|(a, _), (b, _)| (group_priority(b), a).cmp(&(group_priority(a), b)));
    out
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
    response::json(
        200,
        &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses(i)}),
    )
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
    response::json(
        200,
        &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}),
    )
}

/// `/apis/<group>`.
pub fn group(server: &Inner, name: &str) -> Answer {
    match groups(server)
        .iter()
        .find(|(g, _)| g == name && !g.is_empty())
    {
        Some((g, v)) => response::json(200, &group_value(g, v, true)),
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
pub fn resources(server: &Inner, group: &str, version: &str) -> Answer {
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
        return not_found(server, group);
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
    response::json(200, &out)
}

/// What is not served: upstream's web service of the group says so, or the plain mux where there is none.
pub fn not_found(server: &Inner, group: &str) -> Answer {
    if groups(server).iter().any(|(known, _)| known == group) {
        return response::error(&machinery::ApiError::path_not_found(), &response::PLAIN);
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
            None => format!("{}/{}/{}", d.group, d.version, d.kind),
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

fn aggregate(server: &Inner, i: &Incoming, core: bool) -> Answer {
    let mut items = Vec::new();
    for (group, versions) in groups(server).iter().filter(|(g, _)| g.is_empty() == core) {
        let versions: Vec<Value> = versions
            .iter()
            .map(|v| json!({"version": v, "resources": discovered(server, group, v), "freshness": "Current"}))
            .collect();
        let meta = if group.is_empty() {
            json!({})
        } else {
            json!({"name": group})
        };
        items.push(json!({"metadata": meta, "versions": versions}));
    }
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": items});
    let mut answer = response::json(200, &list);
    let digest = Sha512::digest(list.to_string().as_bytes());
    let hex: String = digest.iter().map(|b| format!("{b:02X}")).collect();
    let tag = format!("\"{hex}\"");
    if i.headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok()) == Some(tag.as_str()) {
        answer = response::bytes(304, "application/json", bytes::Bytes::new());
    }
    let headers = answer.headers_mut();
    let content = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    if let Ok(v) = HeaderValue::from_str(&tag) {
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
    use super::priority;

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
