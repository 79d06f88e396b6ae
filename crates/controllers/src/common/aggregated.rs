//! What other API servers serve behind ours: their kinds, read from discovery, since no cache here has them.
//! Upstream: client-go's discovery, `ServerPreferredResources`.

use client::Client;
use machinery::GroupResource;
use machinery::object::{list_at, str_at};
use serde_json::Value;

/// Discovery that tells of all groups in one document, those of unavailable servers as stale.
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A resource of another server, in the version that its group prefers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    pub group: String,
    pub version: String,
    pub resource: String,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

/// What was found, and the group versions whose servers did not answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub resources: Vec<Foreign>,
    pub stale: Vec<String>,
}

impl Foreign {
    /// Whether it can be asked for something.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// For the client that knows no types.
    pub fn api_resource(&self) -> kube::api::ApiResource {
        kube::api::ApiResource {
            group: self.group.clone(),
            version: self.version.clone(),
            api_version: format!("{}/{}", self.group, self.version),
            kind: self.kind.clone(),
            plural: self.resource.clone(),
        }
    }
}

impl Found {
    /// Upstream's `ErrGroupDiscoveryFailed`, if some servers did not answer.
    pub fn failure(&self) -> Option<String> {
        let one = |gv: &String| format!("{gv}: stale GroupVersion discovery: {gv}");
        let all: Vec<String> = self.stale.iter().map(one).collect();
        let all = all.join(", ");
        (!self.stale.is_empty())
            .then(|| format!("unable to retrieve the complete list of server APIs: {all}"))
    }
}

/// Whether any APIService names another server.
pub fn any(client: &Client) -> bool {
    let services = GroupResource::new("apiregistration.k8s.io", "apiservices");
    let Ok(cache) = client.cache(&services) else {
        return false;
    };
    let all = cache.list(None);
    let mut remote = all.iter().filter_map(|e| e.value().ok());
    remote.any(|s| s.pointer("/spec/service").is_some_and(Value::is_object))
}

/// Asks for what other servers serve.
pub async fn discover(client: &Client) -> Result<Found, client::Error> {
    if !any(client) {
        return Ok(Found::default());
    }
    let request = http::Request::get("/apis")
        .header("accept", DISCOVERY)
        .body(Vec::new())
        .map_err(kube::error::Error::HttpError)?;
    let document: Value = client.kube().request(request).await?;
    let local = client.reads().resources();
    let is_local = |group: &str, version: &str| {
        local
            .iter()
            .any(|d| d.group == group && d.version == version)
    };
    Ok(found(&document, is_local))
}

fn found(document: &Value, is_local: impl Fn(&str, &str) -> bool) -> Found {
    let mut out = Found::default();
    for group in list_at(document, "items") {
        let name = str_at(group, "metadata.name");
        for version in list_at(group, "versions") {
            let of = str_at(version, "version");
            if is_local(name, of) {
                continue;
            }
            if str_at(version, "freshness") == "Stale" {
                out.stale.push(format!("{name}/{of}"));
            }
            for resource in list_at(version, "resources") {
                let plural = str_at(resource, "resource");
                let known = |f: &Foreign| f.group == name && f.resource == plural;
                // Versions come preferred first.
                if !out.resources.iter().any(known) {
                    out.resources.push(foreign(name, of, resource));
                }
            }
        }
    }
    out
}

fn foreign(group: &str, version: &str, resource: &Value) -> Foreign {
    let verbs = list_at(resource, "verbs").iter();
    Foreign {
        group: group.into(),
        version: version.into(),
        resource: str_at(resource, "resource").into(),
        kind: str_at(resource, "responseKind.kind").into(),
        namespaced: str_at(resource, "scope") == "Namespaced",
        verbs: verbs
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn preferred_versions_of_other_servers_are_found() {
        let flunders = json!({"resource": "flunders", "scope": "Namespaced", "verbs": ["delete", "list"],
            "responseKind": {"kind": "Flunder"}});
        let document = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [{"resource": "x"}]}]},
            {"metadata": {"name": "wardle.example.com"}, "versions": [
                {"version": "v1beta1", "freshness": "Current", "resources": [flunders]},
                {"version": "v1alpha1", "freshness": "Stale", "resources": [flunders]}]}]});
        let found = found(&document, |group, _| group == "apps");
        let versions: Vec<&str> = found.resources.iter().map(|f| &*f.version).collect();
        assert_eq!(versions, ["v1beta1"]);
        assert!(found.resources[0].namespaced && found.resources[0].can("delete"));
        assert_eq!(
            found.failure().as_deref(),
            Some(
                "unable to retrieve the complete list of server APIs: wardle.example.com/v1alpha1: stale GroupVersion discovery: wardle.example.com/v1alpha1"
            )
        );
    }
}
