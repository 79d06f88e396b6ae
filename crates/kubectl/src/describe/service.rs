//! Services and endpoint slices.

use serde_json::Value;

use super::lines::{Lines, labels_or_none, or_none};
use super::{Describer, Seen};
use crate::builder::Info;
use crate::object;
use crate::rest::Call;

pub const SERVICE: Describer = Describer::of("", "Service", service).with(slices);
pub const ENDPOINT_SLICE: Describer =
    Describer::of("discovery.k8s.io", "EndpointSlice", endpoint_slice);

/// More endpoints than these are counted only.
const ENDPOINTS_SHOWN: usize = 3;

fn slices(info: &Info) -> Vec<(&'static str, Call)> {
    let ns = info.namespace.as_deref().unwrap_or_default();
    let labels = format!("kubernetes.io/service-name={}", info.name);
    let call = Call::get(format!(
        "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices"
    ));
    vec![("slices", call.query("labelSelector", labels))]
}

fn joined(o: &Value, pointer: &str) -> String {
    let all: Vec<String> = object::items(o, pointer)
        .iter()
        .map(object::plain)
        .collect();
    all.join(",")
}

fn service(seen: &Seen<'_>, w: &mut Lines) {
    let spec = &seen.object["spec"];
    seen.head(w);
    seen.marks(w);
    w.put(
        0,
        format!("Selector:\t{}", labels_or_none(&spec["selector"])),
    );
    w.put(0, format!("Type:\t{}", object::text(spec, "/type")));
    w.some(0, "IP Family Policy", &spec["ipFamilyPolicy"]);
    w.put(
        0,
        format!("IP Families:\t{}", or_none(joined(spec, "/ipFamilies"))),
    );
    w.put(0, format!("IP:\t{}", object::text(spec, "/clusterIP")));
    w.put(0, format!("IPs:\t{}", or_none(joined(spec, "/clusterIPs"))));
    w.some(0, "External IPs", &joined(spec, "/externalIPs").into());
    w.some(0, "Desired LoadBalancer IP", &spec["loadBalancerIP"]);
    w.some(0, "External Name", &spec["externalName"]);
    let ingress: Vec<String> = object::items(seen.object, "/status/loadBalancer/ingress")
        .iter()
        .map(ingress)
        .collect();
    w.some(0, "LoadBalancer Ingress", &ingress.join(", ").into());
    for port in object::items(spec, "/ports") {
        ports(port, seen.items("slices"), w);
    }
    w.put(
        0,
        format!(
            "Session Affinity:\t{}",
            object::text(spec, "/sessionAffinity")
        ),
    );
    w.some(0, "External Traffic Policy", &spec["externalTrafficPolicy"]);
    w.some(0, "Internal Traffic Policy", &spec["internalTrafficPolicy"]);
    w.some(0, "HealthCheck NodePort", &spec["healthCheckNodePort"]);
    let ranges = joined(spec, "/loadBalancerSourceRanges");
    w.some(0, "LoadBalancer Source Ranges", &ranges.into());
    w.some(0, "Traffic Distribution", &spec["trafficDistribution"]);
}

fn ingress(i: &Value) -> String {
    let mode = match object::text(i, "/ipMode") {
        "" => String::new(),
        mode => format!(" ({mode})"),
    };
    match object::text(i, "/ip") {
        "" => object::text(i, "/hostname").to_string(),
        ip => format!("{ip}{mode}"),
    }
}

fn ports(port: &Value, slices: &[Value], w: &mut Lines) {
    let protocol = object::text(port, "/protocol");
    let name = object::text(port, "/name");
    let shown = if name.is_empty() { "<unset>" } else { name };
    let number = object::plain(&port["port"]);
    w.put(0, format!("Port:\t{shown}\t{number}/{protocol}"));
    let target = object::plain(&port["targetPort"]);
    w.put(0, format!("TargetPort:\t{target}/{protocol}"));
    w.some(0, "AppProtocol", &port["appProtocol"]);
    if port["nodePort"].as_i64().is_some_and(|n| n != 0) {
        let node = object::plain(&port["nodePort"]);
        w.put(0, format!("NodePort:\t{shown}\t{node}/{protocol}"));
    }
    w.put(0, format!("Endpoints:\t{}", endpoints(slices, name)));
}

/// The ready endpoints of a port. Upstream: formatEndpointSlices.
fn endpoints(slices: &[Value], name: &str) -> String {
    if slices.is_empty() {
        return "<none>".into();
    }
    let mut all: Vec<String> = Vec::new();
    for slice in slices {
        let ready = object::items(slice, "/endpoints")
            .iter()
            .filter(|e| e["conditions"]["ready"] != false)
            .map(|e| object::plain(&e["addresses"][0]));
        let ports = object::items(slice, "/ports");
        if ports.is_empty() {
            all.extend(ready);
            continue;
        }
        for port in ports.iter().filter(|p| object::text(p, "/name") == name) {
            let number = object::plain(&port["port"]);
            all.extend(ready.clone().map(|address| match address.contains(':') {
                true => format!("[{address}]:{number}"),
                false => format!("{address}:{number}"),
            }));
        }
    }
    let more = all.len().saturating_sub(ENDPOINTS_SHOWN);
    all.truncate(ENDPOINTS_SHOWN);
    match more {
        0 => all.join(","),
        more => format!("{} + {more} more...", all.join(",")),
    }
}

fn endpoint_slice(seen: &Seen<'_>, w: &mut Lines) {
    let o = seen.object;
    seen.head(w);
    seen.marks(w);
    w.put(
        0,
        format!("AddressType:\t{}", object::text(o, "/addressType")),
    );
    let ports = object::items(o, "/ports");
    if ports.is_empty() {
        w.put(0, "Ports: <unset>");
    } else {
        w.put(0, "Ports:");
        w.table(1, &["Name", "Port", "Protocol"]);
        for p in ports {
            let name = match object::text(p, "/name") {
                "" => "<unset>",
                name => name,
            };
            let port = match &p["port"] {
                Value::Null => "<unset>".into(),
                port => object::plain(port),
            };
            w.put(
                1,
                format!("{name}\t{port}\t{}", object::text(p, "/protocol")),
            );
        }
    }
    let endpoints = object::items(o, "/endpoints");
    if endpoints.is_empty() {
        return w.put(0, "Endpoints: <none>");
    }
    w.put(0, "Endpoints:");
    for e in endpoints {
        endpoint(e, w);
    }
}

fn endpoint(e: &Value, w: &mut Lines) {
    let addresses: Vec<String> = object::items(e, "/addresses")
        .iter()
        .map(object::plain)
        .collect();
    w.put(
        1,
        format!("- Addresses:\t{}", or_none(addresses.join(", "))),
    );
    w.put(2, "Conditions:");
    let ready = match &e["conditions"]["ready"] {
        Value::Null => "<unset>".into(),
        ready => object::plain(ready),
    };
    w.put(3, format!("Ready:\t{ready}"));
    let or_unset = |text: &str| {
        if text.is_empty() {
            "<unset>".to_string()
        } else {
            text.into()
        }
    };
    w.put(
        2,
        format!("Hostname:\t{}", or_unset(object::text(e, "/hostname"))),
    );
    if e["targetRef"].is_object() {
        let (kind, name) = (
            object::text(e, "/targetRef/kind"),
            object::text(e, "/targetRef/name"),
        );
        w.put(2, format!("TargetRef:\t{kind}/{name}"));
    }
    w.put(
        2,
        format!("NodeName:\t{}", or_unset(object::text(e, "/nodeName"))),
    );
    w.put(2, format!("Zone:\t{}", or_unset(object::text(e, "/zone"))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_are_the_ready_ones_and_only_a_few() {
        let endpoint =
            |ip: &str, ready: bool| json!({"addresses": [ip], "conditions": {"ready": ready}});
        let slice = json!({"ports": [{"name": "", "port": 80}], "endpoints": [
            endpoint("10.0.0.1", true), endpoint("10.0.0.2", false), endpoint("10.0.0.3", true),
            endpoint("10.0.0.4", true), endpoint("10.0.0.5", true)]});
        let all = [slice];
        assert_eq!(
            endpoints(&all, ""),
            "10.0.0.1:80,10.0.0.3:80,10.0.0.4:80 + 1 more..."
        );
        assert_eq!(endpoints(&all, "other"), "");
        assert_eq!(endpoints(&[], ""), "<none>");
    }
}
