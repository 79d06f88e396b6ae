//! The pod behind a connect request: which container is meant, on which node it runs.
//! Upstream: pkg/registry/core/pod/strategy.go.

use client::{Cache, Entry, Reads};
use machinery::object::{list_at, str_at};
use machinery::{ApiError, GroupResource};
use serde_json::Value;

/// An object of the core group, or its 404.
pub fn find(
    reads: &dyn Reads,
    resource: &'static str,
    namespace: &str,
    name: &str,
) -> Result<Value, ApiError> {
    let missing = || ApiError::not_found("", resource, name);
    let cache = reads
        .cache(&GroupResource::new("", resource))
        .ok_or_else(missing)?;
    let entry = cache.get(namespace, name).ok_or_else(missing)?;
    entry.value().map_err(ApiError::internal)
}

/// Entries of a resource in a namespace; none where it is not served.
pub fn list(
    reads: &dyn Reads,
    group: &'static str,
    resource: &'static str,
    namespace: &str,
) -> Vec<std::sync::Arc<Entry>> {
    reads
        .cache(&GroupResource::new(group, resource))
        .map(|c| Cache::list(&*c, Some(namespace)))
        .unwrap_or_default()
}

fn names(pod: &Value, field: &str) -> Vec<String> {
    let list = list_at(pod, &format!("spec.{field}")).iter();
    list.map(|c| str_at(c, "name").to_string()).collect()
}

/// The container that is meant: the one asked for, or the only one.
pub fn container(pod: &Value, asked: &str) -> Result<String, ApiError> {
    let pod_name = str_at(pod, "metadata.name");
    let regular = names(pod, "containers");
    if !asked.is_empty() {
        let all = [
            names(pod, "initContainers"),
            names(pod, "ephemeralContainers"),
        ]
        .concat();
        if regular.iter().chain(&all).any(|c| c == asked) {
            return Ok(asked.to_string());
        }
        return Err(ApiError::bad_request(format!(
            "container {asked} is not valid for pod {pod_name}"
        )));
    }
    match regular.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {pod_name}"
        ))),
        many => {
            let mut text = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                many.join(" ")
            );
            let init = names(pod, "initContainers");
            if !init.is_empty() {
                text.push_str(&format!(
                    " or one of the init containers: [{}]",
                    init.join(" ")
                ));
            }
            Err(ApiError::bad_request(text))
        }
    }
}

/// The node a pod runs on; 400 where it has none.
pub fn node(pod: &Value) -> Result<&str, ApiError> {
    match str_at(pod, "spec.nodeName") {
        "" => Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            str_at(pod, "metadata.name")
        ))),
        name => Ok(name),
    }
}

/// Splits `[scheme:]name[:port]`; `None` where it is none of these forms.
pub fn split_id(id: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    (!name.is_empty() && ["", "http", "https"].contains(&scheme)).then_some((scheme, name, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_are_chosen_as_upstream_does() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(container(&pod, "i").unwrap(), "i");
        assert_eq!(
            container(&pod, "").unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(
            container(&pod, "x").unwrap_err().message,
            "container x is not valid for pod p"
        );
        assert_eq!(
            node(&pod).unwrap_err().message,
            "pod p does not have a host assigned"
        );
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(container(&one, "").unwrap(), "a");
    }

    #[test]
    fn ids_split_into_scheme_name_and_port() {
        assert_eq!(split_id("a"), Some(("", "a", "")));
        assert_eq!(split_id("a:80"), Some(("", "a", "80")));
        assert_eq!(split_id("https:a:"), Some(("https", "a", "")));
        assert_eq!(split_id("ftp:a:1"), None);
        assert_eq!(split_id("a:b:c:d"), None);
        assert_eq!(split_id(":80"), None);
    }
}
