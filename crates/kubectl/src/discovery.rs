//! What the server serves, and which resource a word means. Upstream: client-go/restmapper.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::rest::{Call, Rest};

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A resource as it is served in one version of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub namespaced: bool,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub verbs: Vec<String>,
    pub subresources: Vec<String>,
    /// Whether this is the version its group prefers for it.
    pub preferred: bool,
}

/// Every resource of the server, in its order.
#[derive(Debug)]
pub struct Discovery {
    pub resources: Vec<Resource>,
    /// Group versions, in the server's order.
    pub versions: Vec<String>,
}

// === Resource ===

impl Resource {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            return self.version.clone();
        }
        format!("{}/{}", self.group, self.version)
    }

    /// `pods`, `deployments.apps`.
    pub fn group_resource(&self) -> String {
        dotted(&self.plural, &self.group)
    }

    /// `pod`, `deployment.apps`: how objects of it are called in messages.
    pub fn singular_name(&self) -> String {
        dotted(&self.kind.to_lowercase(), &self.group)
    }

    /// The path of the collection.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace {
            Some(ns) if self.namespaced && !ns.is_empty() => {
                format!("{root}/namespaces/{ns}/{}", self.plural)
            }
            _ => format!("{root}/{}", self.plural),
        }
    }

    /// The path of an object.
    pub fn object_path(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}/{name}", self.path(namespace))
    }

    /// Whether a verb is served.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// Whether a word in small letters names it.
    pub fn is_called(&self, word: &str) -> bool {
        self.plural == word
            || self.singular == word
            || self.kind.to_lowercase() == word
            || self.short_names.iter().any(|s| s == word)
    }
}

fn dotted(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_string()
    } else {
        format!("{name}.{group}")
    }
}

// === Discovery ===

impl Discovery {
    /// Asks the server.
    pub async fn load(rest: &Rest) -> Result<Self> {
        let mut call = Call::get("/api");
        call.accept = ACCEPT;
        let core = rest.json(&call).await?;
        call.path = "/apis".into();
        let named = rest.json(&call).await?;
        Ok(Self::parse(&[core, named]))
    }

    fn parse(lists: &[Value]) -> Self {
        let mut all = Self {
            resources: Vec::new(),
            versions: Vec::new(),
        };
        for group in lists.iter().flat_map(|l| items(&l["items"])) {
            let name = text(&group["metadata"]["name"]);
            for version in items(&group["versions"]) {
                all.add(&name, version);
            }
        }
        all
    }

    fn add(&mut self, group: &str, version: &Value) {
        let name = text(&version["version"]);
        self.versions.push(if group.is_empty() {
            name.clone()
        } else {
            format!("{group}/{name}")
        });
        for r in items(&version["resources"]) {
            let plural = text(&r["resource"]);
            let preferred = !self
                .resources
                .iter()
                .any(|o| o.group == group && o.plural == plural);
            self.resources.push(Resource {
                group: group.to_string(),
                version: name.clone(),
                plural,
                singular: text(&r["singularResource"]),
                kind: text(&r["responseKind"]["kind"]),
                namespaced: r["scope"] == "Namespaced",
                short_names: texts(&r["shortNames"]),
                categories: texts(&r["categories"]),
                verbs: texts(&r["verbs"]),
                subresources: items(&r["subresources"])
                    .map(|s| text(&s["subresource"]))
                    .collect(),
                preferred,
            });
        }
    }

    /// The resource a word means: `pods`, `po`, `deployments.apps`, `deployments.v1.apps`.
    pub fn find(&self, word: &str) -> Option<&Resource> {
        let word = word.to_lowercase();
        let found = |name: &str, ok: &dyn Fn(&Resource) -> bool| {
            let exact = self.resources.iter().find(|r| r.plural == name && ok(r));
            exact
                .or_else(|| self.resources.iter().find(|r| r.singular == name && ok(r)))
                .or_else(|| self.resources.iter().find(|r| r.is_called(name) && ok(r)))
        };
        let Some((name, rest)) = word.split_once('.') else {
            return found(&word, &|r| r.preferred);
        };
        if let Some((version, group)) = rest.split_once('.')
            && let Some(r) = found(name, &|r| r.version == version && r.group == group)
        {
            return Some(r);
        }
        found(name, &|r| r.preferred && r.group == rest)
            .or_else(|| found(name, &|r| r.preferred && r.group.starts_with(rest)))
    }

    /// The resource a word means, or kubectl's error.
    pub fn resolve(&self, word: &str) -> Result<&Resource> {
        self.find(word).ok_or_else(|| {
            let (name, group) = match word.split_once('.') {
                Some((name, group)) => (name, format!(" in group \"{group}\"")),
                None => (word, String::new()),
            };
            Error::text(format!(
                "the server doesn't have a resource type \"{name}\"{group}"
            ))
        })
    }

    /// The resources of a category, as `all`.
    pub fn category(&self, word: &str) -> Vec<&Resource> {
        self.resources
            .iter()
            .filter(|r| r.preferred && r.categories.iter().any(|c| c == word))
            .collect()
    }

    /// The resource of a manifest's kind.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.resources
            .iter()
            .find(|r| r.kind == kind && r.api_version() == api_version)
    }
}

fn items(v: &Value) -> impl Iterator<Item = &Value> {
    v.as_array().into_iter().flatten()
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

fn texts(v: &Value) -> Vec<String> {
    items(v).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn discovery() -> Discovery {
        let resource = |plural: &str, singular: &str, kind: &str, short: &str| {
            json!({"resource": plural, "singularResource": singular, "scope": "Namespaced",
                "responseKind": {"kind": kind}, "shortNames": [short], "categories": ["all"]})
        };
        Discovery::parse(&[
            json!({"items": [{"metadata": {}, "versions": [{"version": "v1", "resources": [
                resource("pods", "pod", "Pod", "po"), resource("events", "event", "Event", "ev")]}]}]}),
            json!({"items": [
                {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                    resource("deployments", "deployment", "Deployment", "deploy")]}]},
                {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [
                    resource("events", "event", "Event", "ev")]}]}]}),
        ])
    }

    #[test]
    fn words_mean_resources() {
        let d = discovery();
        for (word, expected) in [
            ("pods", "pods"),
            ("Pod", "pods"),
            ("po", "pods"),
            ("deploy", "deployments.apps"),
            ("deployments.apps", "deployments.apps"),
            ("deployment.v1.apps", "deployments.apps"),
            ("ev", "events"),
            ("events.events.k8s.io", "events.events.k8s.io"),
        ] {
            assert_eq!(
                d.resolve(word).unwrap().group_resource(),
                expected,
                "{word}"
            );
        }
        assert_eq!(
            d.resolve("foo").unwrap_err().to_string(),
            "error: the server doesn't have a resource type \"foo\""
        );
        assert_eq!(d.category("all").len(), 4);
    }
}
