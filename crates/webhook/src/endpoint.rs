//! Which endpoint of a Service a call goes to. Upstream: util/proxy ResolveEndpoint (the pods themselves, as with
//! `--enable-aggregator-routing`: no service proxy is needed where the API server runs), ResolveCluster for names.

use client::Reads;
use machinery::GroupResource;
use machinery::object::{at, i64_at, list_at, str_at};
use rand::Rng;
use serde_json::Value;

/// The label that ties a slice to its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A host, which may be a name, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// A ready endpoint of a Service's port, chosen at random. The error is upstream's text.
pub fn resolve(
    reads: &dyn Reads,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Endpoint, String> {
    let missing = || format!("service \"{name}\" not found");
    let services = reads.cache(&GroupResource::new("", "services"));
    let entry = services.and_then(|c| c.get(namespace, name));
    let service = entry.ok_or_else(missing)?.value();
    let service = service.map_err(|e| format!("service \"{name}\" does not parse: {e}"))?;
    match str_at(&service, "spec.type") {
        "" | "ClusterIP" | "LoadBalancer" | "NodePort" => {}
        "ExternalName" => {
            let host = str_at(&service, "spec.externalName").to_string();
            return Ok(Endpoint { host, port });
        }
        other => return Err(format!("unsupported service type \"{other}\"")),
    }
    let port_name = port_name(&service, name, port)?;
    let nothing = || format!("no endpoints available for service \"{name}\"");
    let slices = reads.cache(&GroupResource::new("discovery.k8s.io", "endpointslices"));
    let slices = slices.ok_or_else(nothing)?.list(Some(namespace));
    let belongs = |e: &&std::sync::Arc<client::Entry>| {
        e.labels.get(SERVICE_NAME).is_some_and(|s| &**s == name)
    };
    let slices: Vec<Value> = slices
        .iter()
        .filter(belongs)
        .filter_map(|e| e.value().ok())
        .collect();
    // The primary family first; the other only where that has none.
    let family = list_at(&service, "spec.ipFamilies").first();
    let family = family.and_then(Value::as_str).unwrap_or("");
    let (first, rest): (Vec<&Value>, Vec<&Value>) = slices
        .iter()
        .partition(|s| family.is_empty() || str_at(s, "addressType") == family);
    for group in [first, rest] {
        let mut ready: Vec<Endpoint> = group
            .iter()
            .flat_map(|s| endpoints(s, &port_name))
            .collect();
        if !ready.is_empty() {
            return Ok(ready.swap_remove(rand::rng().random_range(0..ready.len())));
        }
    }
    Err(nothing())
}

fn port_name(service: &Value, name: &str, port: u16) -> Result<String, String> {
    let mut ports = list_at(service, "spec.ports").iter();
    let found = ports.find(|p| i64_at(p, "port") == Some(i64::from(port)));
    found
        .map(|p| str_at(p, "name").to_string())
        .ok_or_else(|| format!("no service port {port} found for service \"{name}\""))
}

/// The first address of every ready endpoint of a slice, at a named port.
fn endpoints(slice: &Value, port_name: &str) -> Vec<Endpoint> {
    let mut ports = list_at(slice, "ports").iter();
    let port = ports
        .find(|p| str_at(p, "name") == port_name)
        .and_then(|p| i64_at(p, "port"))
        .and_then(|p| u16::try_from(p).ok());
    let Some(port) = port else {
        return Vec::new();
    };
    let ready = |e: &&Value| at(e, "conditions.ready") != Some(&Value::Bool(false));
    let address = |e: &Value| {
        list_at(e, "addresses")
            .first()?
            .as_str()
            .map(str::to_string)
    };
    list_at(slice, "endpoints")
        .iter()
        .filter(ready)
        .filter_map(address)
        .map(|host| Endpoint { host, port })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::memory::MemoryReads;
    use serde_json::json;

    #[test]
    fn a_services_ready_endpoints_are_found_or_upstreams_reason() {
        let reads = MemoryReads::new(&[("", "services"), ("discovery.k8s.io", "endpointslices")]);
        let put = |group, resource, object| {
            let cache = reads.memory(group, resource).expect("a cache");
            cache.apply(object).expect("an object");
        };
        let find = |name: &str, port| resolve(&reads, "n", name, port);
        assert_eq!(find("s", 443), Err("service \"s\" not found".into()));
        put(
            "",
            "services",
            json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {
                "type": "ClusterIP", "ipFamilies": ["IPv4"], "ports": [{"name": "a", "port": 443}]}}),
        );
        assert_eq!(
            find("s", 80),
            Err("no service port 80 found for service \"s\"".into())
        );
        let nothing = Err("no endpoints available for service \"s\"".into());
        assert_eq!(find("s", 443), nothing);
        let slice = |name: &str, family: &str, address: &str, ready: bool| {
            json!({"metadata": {"name": name, "namespace": "n", "labels": {SERVICE_NAME: "s"}},
                "addressType": family, "ports": [{"name": "a", "port": 8443}],
                "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}]})
        };
        let group = "discovery.k8s.io";
        put(
            group,
            "endpointslices",
            slice("x", "IPv4", "10.0.0.1", false),
        );
        assert_eq!(find("s", 443), nothing);
        put(group, "endpointslices", slice("y", "IPv6", "fd00::1", true));
        let at = |host: &str| {
            Ok(Endpoint {
                host: host.into(),
                port: 8443,
            })
        };
        assert_eq!(find("s", 443), at("fd00::1"));
        put(
            group,
            "endpointslices",
            slice("x", "IPv4", "10.0.0.1", true),
        );
        assert_eq!(find("s", 443), at("10.0.0.1"));
    }
}
