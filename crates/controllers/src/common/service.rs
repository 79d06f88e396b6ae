//! What services select, and at which ports. Upstream: pkg/controller/util/endpoint, pkg/api/v1/pod.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort};
use api::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use client::Client;
use jiff::Timestamp;
use parking_lot::Mutex;
use reconciler::{Event, Key, Wake};

use crate::common::object::Object;
use crate::common::{pods, selector};

/// The selector of a service; `None` where its endpoints are not made by controllers.
pub fn selects(service: &Service) -> Option<&std::collections::BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref()
}

/// Whether a service has no address of its own.
pub fn headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_none_or(|s| matches!(s.cluster_ip.as_deref(), None | Some("" | "None")))
}

/// The pods that a service selects.
pub fn selected(client: &Client, service: &Service) -> Result<Vec<Arc<Pod>>, client::NotServed> {
    let Some(labels) = selects(service) else {
        return Ok(Vec::new());
    };
    let wanted = selector::of_map(labels);
    let lister = client.lister::<Pod>()?;
    Ok(lister.select(Some(service.namespace()), |e| {
        selector::matches_entry(&wanted, e)
    }))
}

/// Whether an address is of a family (`IPv4`, `IPv6`).
pub fn is_family(ip: &str, family: &str) -> bool {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    }
}

/// A pod's addresses.
pub fn pod_ips(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all: Vec<String> = status
        .pod_ips
        .iter()
        .flatten()
        .map(|p| p.ip.clone())
        .collect();
    if all.is_empty() {
        let one = status.pod_ip.clone().filter(|ip| !ip.is_empty());
        return one.into_iter().collect();
    }
    all
}

/// Whether a pod is shown at all; those being deleted only where asked for.
pub fn shown(pod: &Pod, deleting_too: bool) -> bool {
    !pods::terminal(pod) && !pod_ips(pod).is_empty() && (deleting_too || !pod.deleting())
}

/// The number of a service's port in a pod; `None` where a named port is not there.
pub fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(n)) => Some(*n),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
            let init = spec.init_containers.iter().flatten().filter(sidecar);
            let ports = spec
                .containers
                .iter()
                .chain(init)
                .flat_map(|c| c.ports.iter().flatten());
            let protocol = |p: &Option<String>| p.clone().unwrap_or_else(|| "TCP".into());
            let mut found = ports.filter(|p| {
                p.name.as_deref() == Some(name) && protocol(&p.protocol) == protocol(&port.protocol)
            });
            found.next().map(|p| p.container_port)
        }
    }
}

/// The name by which DNS finds a pod of a service, if it has one.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let ours = spec.subdomain.as_deref() == Some(service.name());
    spec.hostname.clone().filter(|h| ours && !h.is_empty())
}

/// What endpoints refer to.
pub fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// What of a pod its endpoints show.
fn shape(
    pod: &Pod,
) -> (
    bool,
    bool,
    bool,
    Vec<String>,
    &str,
    Option<&str>,
    Option<&str>,
) {
    let spec = pod.spec.as_ref();
    (
        pods::ready(pod),
        pods::terminal(pod),
        pod.deleting(),
        pod_ips(pod),
        pods::node(pod),
        spec.and_then(|s| s.hostname.as_deref()),
        spec.and_then(|s| s.subdomain.as_deref()),
    )
}

/// The services whose endpoints a pod's change concerns.
pub fn of_pod(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    let (Ok(services), Some(pod)) = (client.lister::<Service>(), e.typed::<Pod>()) else {
        return Vec::new();
    };
    if let Some(before) = e.typed_before::<Pod>().filter(|_| !e.deleted())
        && before.labels() == pod.labels()
        && shape(&before) == shape(&pod)
    {
        return Vec::new();
    }
    let entries = [Some(e.entry), e.before];
    let concerned = |s: &Arc<Service>| {
        selects(s).filter(|l| !l.is_empty()).is_some_and(|labels| {
            let wanted = selector::of_map(labels);
            let mut states = entries.iter().flatten();
            states.any(|e| selector::matches_entry(&wanted, e))
        })
    };
    let all = services.list(Some(&e.entry.namespace));
    all.iter()
        .filter(|s| concerned(s))
        .map(|s| Key::new(s.namespace(), s.name()).into())
        .collect()
}

/// When the changes that endpoints show happened. Upstream: TriggerTimeTracker.
#[derive(Default)]
pub struct TriggerTimes(Mutex<HashMap<Key, Known>>);

#[derive(Clone)]
struct Known {
    created: Timestamp,
    pods: HashMap<String, Timestamp>,
}

// === TriggerTimes ===

impl TriggerTimes {
    /// The earliest change since the last call.
    pub fn next(&self, key: &Key, service: &Service, all: &[Arc<Pod>]) -> Option<String> {
        let times: HashMap<String, Timestamp> = all
            .iter()
            .filter_map(|p| {
                let at = pods::condition(p, "Ready")?
                    .last_transition_time
                    .as_ref()?
                    .0;
                Some((p.name().to_string(), at))
            })
            .collect();
        let new = Known {
            created: service.created(),
            pods: times,
        };
        let mut all = self.0.lock();
        let before = all.insert(key.clone(), new.clone());
        let Some(before) = before else {
            return Some(new.created.to_string());
        };
        let changed = new
            .pods
            .iter()
            .filter(|(name, at)| before.pods.get(*name).is_none_or(|known| known < *at));
        let service = Some(new.created).filter(|c| *c > before.created);
        let times = changed.map(|(_, at)| *at).chain(service);
        times.min().map(|t| t.to_string())
    }

    /// Forgets a service.
    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}
