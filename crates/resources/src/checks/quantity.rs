//! Names and amounts of resources. Upstream: ValidateResourceName, ValidateResourceQuantityValue;
//! validation-pod §8.7, validation-core §6.

use api::names;
use api::quantity::Quantity;
use machinery::Causes;
use serde_json::{Value, json};

use super::NON_NEGATIVE;
use crate::core::amounts;

const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "requests.storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Standard resources that are counted in whole numbers.
const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Whether a name is `hugepages-…`.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether a name without a domain is known.
pub fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// Whether a quota may name it.
pub fn is_standard_for_quota(name: &str) -> bool {
    name != "storage" && is_standard(name)
}

/// Whether a container may ask for it.
pub fn is_standard_for_containers(name: &str) -> bool {
    ["cpu", "memory", "ephemeral-storage"].contains(&name) || is_huge_page(name)
}

/// Whether it is a resource of Kubernetes itself.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether it is an extended resource such as `example.com/gpu`.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether nodes can promise more of it than they have.
pub fn is_overcommitable(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// The rule of every resource name, at the current path; `true` if nothing was found.
pub fn resource_name(name: &str, c: &mut Causes) -> bool {
    let problems = names::qualified_name(name);
    if !problems.is_empty() {
        super::all(name, problems, c);
        return false;
    }
    if !name.contains('/') && !is_standard(name) {
        c.invalid(
            &json!(name),
            "must be a standard resource type or fully qualified",
        );
        return false;
    }
    true
}

/// The rule of names in containers, at the current path.
pub fn container_resource_name(name: &str, c: &mut Causes) {
    resource_name(name, c);
    if !name.contains('/') {
        if !is_standard_for_containers(name) {
            c.invalid(&json!(name), "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        c.invalid(
            &json!(name),
            "doesn't follow extended resource name standard",
        );
    }
}

/// The amount at the current path, not negative and whole where it is counted; says what is wrong.
pub fn amount(name: &str, value: &Value, c: &mut Causes) -> Option<Quantity> {
    let q = read(value, c)?;
    if q.sign() < 0 {
        c.invalid(&json!(q.to_string()), NON_NEGATIVE);
    }
    let counted = COUNTED.contains(&name) || is_extended(name);
    if counted && Quantity::new(q.value(), q.format) != q {
        c.invalid(&json!(q.to_string()), "must be an integer");
    }
    Some(q)
}

/// Parses a quantity at the current path; says what is wrong with it.
pub fn read(value: &Value, c: &mut Causes) -> Option<Quantity> {
    let read = amounts::read(value);
    if read.is_none() {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_string);
        let why = Quantity::parse(&text).err().map(|e| e.to_string());
        c.invalid(&json!(text), why.unwrap_or_default());
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_amounts() {
        for (name, found) in [
            ("cpu", 0),
            ("foo", 2),
            ("pods", 1),
            ("example.com/gpu", 0),
            ("requests.example.com/gpu", 1),
            ("hugepages-2Mi", 0),
        ] {
            let mut c = Causes::new();
            container_resource_name(name, &mut c);
            assert_eq!(c.as_slice().len(), found, "{name}: {:?}", c.as_slice());
        }
        let mut c = Causes::new();
        amount("example.com/gpu", &json!("500m"), &mut c);
        amount("cpu", &json!("-1"), &mut c);
        let texts: Vec<String> = c.as_slice().iter().map(|c| c.detail_text()).collect();
        assert_eq!(
            texts,
            [
                "Invalid value: \"500m\": must be an integer",
                "Invalid value: \"-1\": must be greater than or equal to 0"
            ]
        );
    }
}
