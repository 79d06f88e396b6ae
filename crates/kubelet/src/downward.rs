//! Fields and resources of a pod as texts. Upstream: pkg/fieldpath, pkg/api/v1/resource.

use std::collections::BTreeMap;

use api::core::v1::{Container, Pod, ResourceFieldSelector};
use api::quantity::Quantity;

use crate::pod;
use crate::resources::{self, Amounts, Side};

/// What the pod object does not know yet.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
    /// The node's allocatable amounts: what unset limits mean.
    pub allocatable: Amounts,
}

/// The text of a field; errors as upstream's.
pub fn field(p: &Pod, path: &str, facts: &Facts) -> Result<String, String> {
    let m = &p.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &m.labels,
            "metadata.annotations" => &m.annotations,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map
            .as_ref()
            .and_then(|m| m.get(key))
            .cloned()
            .unwrap_or_default());
    }
    let spec = pod::spec(p);
    let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => pod::name(p).into(),
        "metadata.namespace" => pod::namespace(p).into(),
        "metadata.uid" => pod::uid(p).into(),
        "metadata.labels" => format_map(m.labels.as_ref()),
        "metadata.annotations" => format_map(m.annotations.as_ref()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="escaped value"` lines, sorted.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", go_quote(v)))
        .collect();
    lines.join("\n")
}

/// Go's `%q`.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The text of a container's request or limit in units of the divisor, rounded up.
pub fn resource(
    p: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|n| !n.is_empty());
    let found;
    let c = match (named, own) {
        (Some(name), _) => {
            found = pod::find_container(p, name)
                .ok_or_else(|| format!("container {name} not found"))?;
            &*found.container
        }
        (None, Some(own)) => own,
        (None, None) => return Err("container name is required".into()),
    };
    let (side, name) = match selector.resource.split_once('.') {
        Some(("requests", name)) => (Side::Requests, name),
        Some(("limits", name)) => (Side::Limits, name),
        _ => {
            return Err(format!(
                "unsupported container resource : {}",
                selector.resource
            ));
        }
    };
    let known =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !known {
        return Err(format!(
            "unsupported container resource : {}",
            selector.resource
        ));
    }
    let mut value = resources::amount(c.resources.as_ref(), side, name);
    if value.is_none() && side == Side::Limits {
        let level = resources::amount(pod::spec(p).resources.as_ref(), side, name);
        value = level.or_else(|| facts.allocatable.get(name).copied());
    }
    let value = value.unwrap_or(Quantity::ZERO);
    let divisor = selector.divisor.as_ref();
    let divisor = divisor.and_then(|d| Quantity::parse(&d.0).ok());
    let divisor = divisor.filter(|d| d.sign() > 0);
    Ok(divided(name, value, divisor).to_string())
}

fn divided(name: &str, value: Quantity, divisor: Option<Quantity>) -> i64 {
    let divisor = divisor.unwrap_or(Quantity::from_milli(1000));
    let (n, d) = if name == "cpu" {
        (value.milli_value(), divisor.milli_value())
    } else {
        (value.value(), divisor.value())
    };
    let d = d.max(1);
    n / d + i64::from(n % d > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_maps() {
        let p: Pod = serde_json::from_value(json!({"metadata":{"name":"p","namespace":"n",
            "labels":{"b":"2","a":"x\"y\n"}},"spec":{"nodeName":"node","containers":[]}}))
        .unwrap();
        let facts = Facts {
            host_ips: vec!["1.1.1.1".into(), "fd::1".into()],
            pod_ips: vec!["10.0.0.2".into()],
            ..Facts::default()
        };
        let get = |path: &str| field(&p, path, &facts);
        assert_eq!(get("metadata.labels").unwrap(), "a=\"x\\\"y\\n\"\nb=\"2\"");
        assert_eq!(get("metadata.labels['b']").unwrap(), "2");
        assert_eq!(get("metadata.annotations['none']").unwrap(), "");
        assert_eq!(get("status.hostIPs").unwrap(), "1.1.1.1,fd::1");
        assert_eq!(get("status.podIP").unwrap(), "10.0.0.2");
        assert_eq!(get("spec.x").unwrap_err(), "unsupported fieldPath: spec.x");
    }

    #[test]
    fn resources_round_up_and_fall_back_to_the_node() {
        let p: Pod = serde_json::from_value(json!({"spec":{"containers":[{"name":"a","resources":
            {"requests":{"cpu":"250m","memory":"32Mi"},"limits":{"cpu":"1250m"}}}]}}))
        .unwrap();
        let facts = Facts {
            allocatable: Amounts::from([("memory".into(), Quantity::parse("1Gi").unwrap())]),
            ..Facts::default()
        };
        let c = &pod::containers(&p)[0];
        let get = |resource: &str, divisor: &str| {
            let s: ResourceFieldSelector =
                serde_json::from_value(json!({"resource":resource,"divisor":divisor})).unwrap();
            super::resource(&p, Some(c), &s, &facts).unwrap()
        };
        assert_eq!(get("limits.cpu", "0"), "2");
        assert_eq!(get("requests.cpu", "0"), "1");
        assert_eq!(get("requests.cpu", "1m"), "250");
        assert_eq!(get("requests.memory", "1Mi"), "32");
        assert_eq!(get("limits.memory", "1Mi"), "1024");
        assert_eq!(get("requests.ephemeral-storage", "0"), "0");
    }
}
