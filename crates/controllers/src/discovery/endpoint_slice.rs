//! EndpointSlices of services with a selector. Upstream: pkg/controller/endpointslice,
//! staging/src/k8s.io/endpointslice. Topology-mode Auto (hints in proportion to the zones' CPU) is not
//! done; `spec.trafficDistribution` is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, Pod, Service};
use api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use async_trait::async_trait;
use client::api::DeleteParams;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler, Trigger, Wake};

use super::slices::{self, Changes, Group, HEADLESS, MANAGED_BY, SERVICE_NAME, Template};
use crate::common::object::{self, Object};
use crate::common::service::{self, TriggerTimes};
use crate::common::{act, pods};
use crate::{Controller, Setup, limits};

pub static CONTROLLER: Controller = Controller {
    name: "endpointslice-controller",
    account: "endpointslice-controller",
    component: "endpoint-slice-controller",
    needs: &[
        ("", "services"),
        ("", "pods"),
        ("", "nodes"),
        ("discovery.k8s.io", "endpointslices"),
    ],
    build: |setup| Ok(build(setup)),
};

const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";

fn build(setup: &Setup) -> Reconciler {
    let this = Slices {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        times: TriggerTimes::default(),
    };
    let pods = setup.client.clone();
    Reconciler::new("endpointslice-controller", 5, this)
        .backoff(Duration::from_secs(1), Duration::from_secs(1000))
        .retries(15)
        .on(Trigger::own("", "services"))
        .on(Trigger::map("", "pods", move |e| service::of_pod(&pods, e)))
        .on(Trigger::map("discovery.k8s.io", "endpointslices", |e| {
            let label = |k: &str| e.entry.labels.get(k).map(|v| &**v);
            match label(SERVICE_NAME) {
                // What others did to our slices is put right, our own writes are looked at once more.
                Some(name) if label(MANAGED_BY) == Some(MANAGER) && e.before.is_some() => {
                    vec![Wake {
                        key: Key::new(&e.entry.namespace, name),
                        after: Duration::from_secs(1),
                    }]
                }
                _ => Vec::new(),
            }
        }))
}

struct Slices {
    client: Client,
    recorder: Recorder,
    times: TriggerTimes,
}

#[async_trait]
impl Reconcile for Slices {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let found = self
            .client
            .lister::<Service>()?
            .get(&key.namespace, &key.name);
        let Some(service) = found else {
            // The garbage collector takes the slices.
            self.times.forget(key);
            return Ok(Next::Done);
        };
        if service::selects(&service).is_none() {
            return Ok(Next::Done);
        }
        let pods = service::selected(&self.client, &service)?;
        let nodes = self.client.lister::<Node>()?;
        let mut existing: Vec<EndpointSlice> = self.own_slices(&service)?;
        let mut missing = Vec::new();
        let trigger_time = self.times.next(key, &service, &pods);
        let families = families(&service);
        for family in &families {
            let node = |name: &str| nodes.get("", name);
            let groups = groups(&service, &pods, family, &node, &mut missing);
            let mine =
                |s: &EndpointSlice| s.address_type == *family && s.controlled_by(service.uid());
            let (ours, rest) = existing.into_iter().partition(mine);
            existing = rest;
            let ours: Vec<EndpointSlice> = ours;
            let template = template(&service, family, trigger_time.clone());
            let changes = slices::changes(&ours, &groups, &template);
            self.apply(&service, changes).await?;
        }
        // Slices of other families and of an earlier service of that name.
        let leftovers = Changes {
            delete: existing,
            ..Changes::default()
        };
        self.apply(&service, leftovers).await?;
        match missing.pop() {
            Some(error) => Err(Error::Other(error)),
            None => Ok(Next::Done),
        }
    }
}

impl Slices {
    fn own_slices(&self, service: &Service) -> Result<Vec<EndpointSlice>, Error> {
        let lister = self.client.lister::<EndpointSlice>()?;
        let all = lister.select(Some(service.namespace()), |e| {
            let label = |k: &str| e.labels.get(k).map(|v| &**v);
            label(SERVICE_NAME) == Some(service.name()) && label(MANAGED_BY) == Some(MANAGER)
        });
        let live = all.iter().filter(|s| !s.deleting());
        Ok(live.map(|s| (**s).clone()).collect())
    }

    async fn apply(&self, service: &Service, changes: Changes) -> Result<(), Error> {
        let done = apply(&self.client, changes, service.deleting()).await;
        if let Err(error) = &done
            && !error.is_conflict()
        {
            let message = format!(
                "Error updating Endpoint Slices for Service {}/{}: {error}",
                service.namespace(),
                service.name()
            );
            let reason = "FailedToUpdateEndpointSlices";
            self.recorder
                .event(reference(service), EventType::Warning, reason, &message);
        }
        done
    }
}

/// Carries out changes of slices; an owner being deleted gets no new ones.
pub async fn apply(client: &Client, changes: Changes, owner_deleting: bool) -> Result<(), Error> {
    let creates = changes.create.into_iter().filter(|_| !owner_deleting);
    for slice in creates {
        match act::create(client, &slice).await {
            Err(e) if client::is_namespace_terminating(&e) => return Ok(()),
            done => done.during("create an endpoint slice")?,
        };
    }
    for slice in changes.update {
        let done = act::update(client, &slice).await;
        done.during("update an endpoint slice")?;
    }
    for slice in changes.delete {
        let params = DeleteParams::default();
        act::delete::<EndpointSlice>(client, slice.namespace(), slice.name(), &params)
            .await
            .during("delete an endpoint slice")?;
    }
    Ok(())
}

/// The address types of a service's slices.
fn families(service: &Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    let told = spec.and_then(|s| s.ip_families.clone()).unwrap_or_default();
    if !told.is_empty() {
        return told;
    }
    let ip = spec.and_then(|s| s.cluster_ip.as_deref()).unwrap_or("");
    let both = ["IPv4", "IPv6"];
    let of_ip: Vec<&str> = both
        .into_iter()
        .filter(|f| service::is_family(ip, f))
        .collect();
    let chosen = if of_ip.is_empty() {
        both.to_vec()
    } else {
        of_ip
    };
    chosen.into_iter().map(String::from).collect()
}

fn template(service: &Service, family: &str, trigger_time: Option<String>) -> Template {
    let mut labels: BTreeMap<String, String> = service.labels().clone();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.into(), service.name().into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service::headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    Template {
        namespace: service.namespace().into(),
        prefix: service.name().into(),
        address_type: family.into(),
        labels,
        annotations: BTreeMap::new(),
        trigger_time,
        owner: object::controller_ref(service),
        max: limits::ENDPOINTS_PER_SLICE,
        placeholder: true,
    }
}

/// A service's endpoints of one family, grouped by what its ports are in each pod. Pods on nodes that
/// are not known are left out and told in `missing`.
fn groups(
    service: &Service,
    pods: &[Arc<Pod>],
    family: &str,
    node: &dyn Fn(&str) -> Option<Arc<Node>>,
    missing: &mut Vec<String>,
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let publish = publishes_not_ready(service);
    for pod in pods.iter().filter(|p| service::shown(p, true)) {
        let mut addresses = service::pod_ips(pod);
        addresses.retain(|ip| service::is_family(ip, family));
        if addresses.is_empty() {
            continue;
        }
        let at = node(pods::node(pod));
        if at.is_none() && !publish {
            missing.push(format!(
                "skipping Pod {} for Service {}/{}: Node {} Not Found",
                pod.name(),
                service.namespace(),
                service.name(),
                pods::node(pod)
            ));
            continue;
        }
        let ports = ports(service, pod);
        let endpoint = endpoint(service, pod, at.as_deref(), addresses);
        match groups.iter_mut().find(|g| g.ports == ports) {
            Some(group) => group.endpoints.push(endpoint),
            None => groups.push(Group {
                ports,
                endpoints: vec![endpoint],
            }),
        }
    }
    groups
}

fn publishes_not_ready(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|s| s.publish_not_ready_addresses == Some(true))
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let all = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    let resolved = all.filter_map(|p| {
        Some(EndpointPort {
            name: Some(p.name.clone().unwrap_or_default()),
            port: Some(service::target_port(p, pod)?),
            protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: p.app_protocol.clone(),
        })
    });
    resolved.collect()
}

fn endpoint(service: &Service, pod: &Pod, node: Option<&Node>, addresses: Vec<String>) -> Endpoint {
    let serving = pods::ready(pod);
    let terminating = pod.deleting();
    let ready = publishes_not_ready(service) || (serving && !terminating);
    let zone = node.and_then(|n| n.labels().get(ZONE).cloned());
    let node_name = Some(pods::node(pod).to_string()).filter(|n| !n.is_empty());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        deprecated_topology: None,
        hints: hints(service, ready, zone.as_deref(), node_name.as_deref()),
        hostname: service::hostname(pod, service),
        node_name,
        target_ref: Some(service::pod_reference(pod)),
        zone,
    }
}

/// Which zones and nodes should use an endpoint, by the service's traffic distribution.
fn hints(
    service: &Service,
    ready: bool,
    zone: Option<&str>,
    node: Option<&str>,
) -> Option<EndpointHints> {
    let wanted = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let close = matches!(wanted, "PreferClose" | "PreferSameZone" | "PreferSameNode");
    let zone = zone.filter(|_| ready && close)?;
    let for_nodes = node.filter(|_| wanted == "PreferSameNode").map(|n| {
        let name = n.to_string();
        vec![ForNode { name }]
    });
    Some(EndpointHints {
        for_zones: Some(vec![ForZone { name: zone.into() }]),
        for_nodes,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: &Value) -> Service {
        let mut v = json!({"metadata": {"name": "s", "namespace": "d"}, "spec": {
            "selector": {"a": "b"}, "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"],
            "ports": [{"name": "web", "port": 80, "targetPort": "http"}]}});
        json_patch::merge(&mut v["spec"], spec);
        serde_json::from_value(v).unwrap()
    }

    fn pod(name: &str, port: i32, more: &Value) -> Arc<Pod> {
        let mut v = json!({"metadata": {"name": name, "namespace": "d"},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "conditions": [{"type": "Ready", "status": "True"}]}});
        json_patch::merge(&mut v, more);
        Arc::new(serde_json::from_value(v).unwrap())
    }

    fn run(s: &Service, pods: &[Arc<Pod>], family: &str) -> (Vec<Group>, Vec<String>) {
        let node = |name: &str| {
            let v = json!({"metadata": {"name": name, "labels": {ZONE: "z"}}});
            (name == "n").then(|| Arc::new(serde_json::from_value::<Node>(v).unwrap()))
        };
        let mut missing = Vec::new();
        let groups = groups(s, pods, family, &node, &mut missing);
        (groups, missing)
    }

    #[test]
    fn pods_are_grouped_by_the_numbers_of_their_ports() {
        let pods = [
            pod("a", 80, &json!({})),
            pod("b", 8080, &json!({})),
            pod("c", 80, &json!({})),
        ];
        let (groups, _) = run(&service(&json!({})), &pods, "IPv4");
        let shape: Vec<_> = groups
            .iter()
            .map(|g| (g.ports[0].port, g.endpoints.len()))
            .collect();
        assert_eq!(shape, [(Some(80), 2), (Some(8080), 1)]);
        let e = &groups[0].endpoints[0];
        assert_eq!(
            (e.addresses.as_slice(), e.zone.as_deref()),
            (&["10.0.0.1".to_string()][..], Some("z"))
        );
        let (groups, _) = run(&service(&json!({})), &pods, "IPv6");
        assert_eq!(groups[0].endpoints[0].addresses, ["fd00::1"]);
    }

    #[test]
    fn conditions_tell_ready_serving_and_terminating() {
        let unready = json!({"status": {"conditions": []}});
        let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let table = [
            (json!({}), false, Some((true, true, false))),
            (unready.clone(), false, Some((false, false, false))),
            (unready, true, Some((true, false, false))),
            (leaving, false, Some((false, true, true))),
            (json!({"status": {"phase": "Failed"}}), false, None),
            (json!({"status": {"podIPs": null}}), false, None),
        ];
        for (more, publish, wanted) in table {
            let s = service(&json!({"publishNotReadyAddresses": publish}));
            let (groups, _) = run(&s, &[pod("a", 80, &more)], "IPv4");
            let got = groups.first().map(|g| {
                let c = g.endpoints[0].conditions.clone().unwrap();
                (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
            });
            assert_eq!(got, wanted, "{more}");
        }
    }

    #[test]
    fn a_pod_on_an_unknown_node_is_left_out_and_told() {
        let lost = pod("a", 80, &json!({"spec": {"nodeName": "gone"}}));
        let (groups, missing) = run(&service(&json!({})), &[lost], "IPv4");
        assert!(groups.is_empty());
        assert_eq!(
            missing,
            ["skipping Pod a for Service d/s: Node gone Not Found"]
        );
    }

    #[test]
    fn traffic_distribution_hints_at_the_own_zone() {
        let s = service(&json!({"trafficDistribution": "PreferSameNode"}));
        let (groups, _) = run(&s, &[pod("a", 80, &json!({}))], "IPv4");
        let h = groups[0].endpoints[0].hints.clone().unwrap();
        assert_eq!(h.for_zones.unwrap()[0].name, "z");
        assert_eq!(h.for_nodes.unwrap()[0].name, "n");
    }
}
