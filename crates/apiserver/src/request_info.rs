//! What a request is about, from its method and URL alone.
//! Upstream: k8s.io/apiserver/pkg/endpoints/request/requestinfo.go; see api-semantics §1.

use http::Method;

use crate::filter::is_path_segment;
use crate::list_options::ListOptions;
use crate::query::Query;

/// Upstream's RequestInfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource: bool,
    pub path: String,
    pub verb: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub name: String,
    pub subresource: String,
    /// What follows the subresource, without a leading slash.
    pub rest: String,
}

/// The URL names no kind: upstream answers 500.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoKind;

/// Tells what a request is about. `path` is percent-decoded.
pub fn parse(method: &Method, path: &str, query: &Query) -> Result<RequestInfo, NoKind> {
    let mut info = RequestInfo {
        path: path.to_string(),
        verb: method.as_str().to_lowercase(),
        ..RequestInfo::default()
    };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let prefix = parts[0];
    if parts.len() < 3 || !["api", "apis"].contains(&prefix) {
        return Ok(info);
    }
    let mut rest = &parts[1..];
    if prefix == "apis" {
        if rest.len() < 3 {
            return Ok(info);
        }
        info.group = rest[0].to_string();
        rest = &rest[1..];
    }
    info.is_resource = true;
    info.version = rest[0].to_string();
    rest = &rest[1..];
    info.verb = match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
    .to_string();
    if ["watch", "proxy"].contains(&rest[0]) {
        info.verb = rest[0].to_string();
        rest = &rest[1..];
        if rest.is_empty() {
            return Err(NoKind);
        }
    }
    if rest[0] == "namespaces" && rest.len() > 1 {
        info.namespace = rest[1].to_string();
        if rest.len() > 2 && !["status", "finalize"].contains(&rest[2]) {
            rest = &rest[2..];
        }
    }
    info.resource = rest[0].to_string();
    info.name = rest.get(1).map(|s| (*s).to_string()).unwrap_or_default();
    if info.verb != "proxy" {
        info.subresource = rest.get(2).map(|s| (*s).to_string()).unwrap_or_default();
    }
    info.rest = rest.get(3..).map(|r| r.join("/")).unwrap_or_default();
    if info.name.is_empty() && info.verb == "get" {
        // Options that cannot be read name nothing.
        let options = ListOptions::decode(query);
        let watch = query.flag("watch");
        info.verb = if watch { "watch" } else { "list" }.into();
        if let Ok(options) = options
            && let Some(name) = options.fields.requires("metadata.name")
            && is_path_segment(name)
        {
            info.name = name.to_string();
        }
    }
    if info.name.is_empty() && info.verb == "delete" {
        info.verb = "deletecollection".into();
    }
    Ok(info)
}

impl RequestInfo {
    /// Whether the request has no deadline.
    pub fn is_long_running(&self) -> bool {
        ["watch", "proxy"].contains(&self.verb.as_str())
            || ["attach", "exec", "proxy", "log", "portforward"]
                .contains(&self.subresource.as_str())
    }

    /// Whether the request only reads.
    pub fn is_read_only(&self) -> bool {
        ["get", "list", "watch"].contains(&self.verb.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(method: &str, url: &str) -> String {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let method: Method = method.parse().expect("a method");
        match parse(&method, path, &Query::parse(query)) {
            Err(NoKind) => "500".into(),
            Ok(i) if !i.is_resource => format!("{} {}", i.verb, i.path),
            Ok(i) => [
                i.verb,
                i.group,
                i.version,
                i.namespace,
                i.resource,
                i.name,
                i.subresource,
                i.rest,
            ]
            .join("|"),
        }
    }

    #[test]
    fn urls_are_read_as_upstream_does() {
        for (method, url, expected) in [
            ("GET", "/healthz", "get /healthz"),
            ("GET", "/api", "get /api"),
            ("GET", "/api/v1", "get /api/v1"),
            ("GET", "/apis/apps/v1", "get /apis/apps/v1"),
            ("GET", "/api/v1/pods", "list||v1||pods|||"),
            ("GET", "/api/v1/pods/", "list||v1||pods|||"),
            ("GET", "/api/v1/pods?watch=true", "watch||v1||pods|||"),
            ("GET", "/api/v1/pods?watch=0", "list||v1||pods|||"),
            ("GET", "/api/v1/namespaces/x", "get||v1|x|namespaces|x||"),
            (
                "PUT",
                "/api/v1/namespaces/x/finalize",
                "update||v1|x|namespaces|x|finalize|",
            ),
            (
                "GET",
                "/api/v1/namespaces/x/pods/p/log",
                "get||v1|x|pods|p|log|",
            ),
            (
                "POST",
                "/api/v1/namespaces/x/pods/p/proxy/a/b",
                "create||v1|x|pods|p|proxy|a/b",
            ),
            (
                "POST",
                "/apis/apps/v1/namespaces/x/deployments",
                "create|apps|v1|x|deployments|||",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/x/deployments/d/scale",
                "patch|apps|v1|x|deployments|d|scale|",
            ),
            (
                "DELETE",
                "/api/v1/namespaces/x/pods",
                "deletecollection||v1|x|pods|||",
            ),
            (
                "GET",
                "/api/v1/watch/namespaces/x/pods",
                "watch||v1|x|pods|||",
            ),
            ("GET", "/api/v1/watch", "500"),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name%3Da",
                "list||v1||pods|a||",
            ),
            (
                "GET",
                "/api/v1/pods?watch&fieldSelector=metadata.name%3Da&limit=x",
                "watch||v1||pods|||",
            ),
        ] {
            assert_eq!(line(method, url), expected, "{method} {url}");
        }
    }
}
