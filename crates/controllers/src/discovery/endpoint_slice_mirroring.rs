//! EndpointSlices of hand-written Endpoints, for services without a selector.
//! Upstream: pkg/controller/endpointslicemirroring.

use std::collections::BTreeMap;
use std::time::Duration;

use api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use async_trait::async_trait;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use reconciler::{Error, Key, Next, Reconcile, Reconciler, Trigger};

use super::endpoint_slice::apply;
use super::slices::{self, Changes, Group, MANAGED_BY, SERVICE_NAME, TRIGGER_TIME, Template};
use crate::common::object::{self, Object};
use crate::common::service::is_family;
use crate::{Controller, Setup, limits};

pub static CONTROLLER: Controller = Controller {
    name: "endpointslice-mirroring-controller",
    account: "endpointslicemirroring-controller",
    component: "endpoint-slice-mirroring-controller",
    needs: &[
        ("", "services"),
        ("", "endpoints"),
        ("discovery.k8s.io", "endpointslices"),
    ],
    build: |setup| Ok(build(setup)),
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn build(setup: &Setup) -> Reconciler {
    let this = Mirror {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
    };
    Reconciler::new("endpointslice-mirroring-controller", 5, this)
        .backoff(Duration::from_secs(1), Duration::from_secs(100))
        .retries(15)
        .on(Trigger::own("", "services"))
        .on(Trigger::own("", "endpoints"))
        .on(Trigger::map("discovery.k8s.io", "endpointslices", |e| {
            let label = |k: &str| e.entry.labels.get(k).map(|v| &**v);
            match label(SERVICE_NAME) {
                Some(name) if label(MANAGED_BY) == Some(MANAGER) => {
                    vec![Key::new(&e.entry.namespace, name).into()]
                }
                _ => Vec::new(),
            }
        }))
}

struct Mirror {
    client: Client,
    recorder: Recorder,
}

#[async_trait]
impl Reconcile for Mirror {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let endpoints = self
            .client
            .lister::<Endpoints>()?
            .get(&key.namespace, &key.name);
        let service = self
            .client
            .lister::<Service>()?
            .get(&key.namespace, &key.name);
        let by_hand = service.is_some_and(|s| {
            let selector = s.spec.as_ref().and_then(|s| s.selector.as_ref());
            selector.is_none_or(BTreeMap::is_empty)
        });
        let mut existing = self.slices(key)?;
        if let Some(endpoints) = endpoints.filter(|e| by_hand && mirrored(e)) {
            for family in ["IPv4", "IPv6"] {
                let template = template(&endpoints, family);
                let mine = |s: &EndpointSlice| {
                    s.address_type == family && s.controlled_by(endpoints.uid())
                };
                let (ours, rest): (Vec<_>, Vec<_>) = existing.into_iter().partition(mine);
                existing = rest;
                let groups = self.groups(&endpoints, family);
                let changes = slices::changes(&ours, &groups, &template);
                apply(&self.client, changes, endpoints.deleting()).await?;
            }
        }
        let leftovers = Changes {
            delete: existing,
            ..Changes::default()
        };
        apply(&self.client, leftovers, false).await?;
        Ok(Next::Done)
    }
}

impl Mirror {
    fn slices(&self, key: &Key) -> Result<Vec<EndpointSlice>, Error> {
        let lister = self.client.lister::<EndpointSlice>()?;
        let all = lister.select(Some(&key.namespace), |e| {
            let label = |k: &str| e.labels.get(k).map(|v| &**v);
            label(SERVICE_NAME) == Some(&*key.name) && label(MANAGED_BY) == Some(MANAGER)
        });
        let live = all.iter().filter(|s| !s.deleting());
        Ok(live.map(|s| (**s).clone()).collect())
    }

    fn groups(&self, endpoints: &Endpoints, family: &str) -> Vec<Group> {
        let mut out: Vec<Group> = Vec::new();
        let (mut invalid, mut skipped) = (0, 0);
        for subset in endpoints.subsets.iter().flatten() {
            let mirrored = mirror(subset, family);
            invalid += mirrored.invalid;
            skipped += mirrored.skipped;
            if mirrored.group.endpoints.is_empty() {
                continue;
            }
            match out.iter_mut().find(|g| g.ports == mirrored.group.ports) {
                Some(group) => group.endpoints.extend(mirrored.group.endpoints),
                None => out.push(mirrored.group),
            }
        }
        let tell = |reason: &str, message: String| {
            self.recorder
                .event(reference(endpoints), EventType::Warning, reason, &message);
        };
        // Both are told once, not once a family.
        if invalid > 0 && family == "IPv4" {
            let message =
                format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
            tell("InvalidIPAddress", message);
        }
        if skipped > 0 && family == "IPv4" {
            let message = format!(
                "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped",
                limits::ENDPOINTS_ADDRESSES
            );
            tell("TooManyAddressesToMirror", message);
        }
        out
    }
}

fn mirrored(endpoints: &Endpoints) -> bool {
    let skip = endpoints.labels().get(SKIP).is_some_and(|v| v == "true");
    !skip && !endpoints.annotations().contains_key(LEADER)
}

fn template(endpoints: &Endpoints, family: &str) -> Template {
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_NAME.into(), endpoints.name().into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|k, _| k != TRIGGER_TIME && k != LAST_APPLIED);
    Template {
        namespace: endpoints.namespace().into(),
        prefix: endpoints.name().into(),
        address_type: family.into(),
        labels,
        annotations,
        trigger_time: endpoints.annotations().get(TRIGGER_TIME).cloned(),
        owner: object::controller_ref(endpoints),
        max: limits::ENDPOINTS_PER_SLICE,
        placeholder: false,
    }
}

struct Mirrored {
    group: Group,
    invalid: usize,
    skipped: usize,
}

/// The endpoints of one family of a subset, ready ones first.
fn mirror(subset: &EndpointSubset, family: &str) -> Mirrored {
    let ports = subset.ports.iter().flatten().map(|p| EndpointPort {
        name: Some(p.name.clone().unwrap_or_default()),
        port: Some(p.port),
        protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: p.app_protocol.clone(),
    });
    let mut out = Mirrored {
        group: Group {
            ports: ports.collect(),
            endpoints: Vec::new(),
        },
        invalid: 0,
        skipped: 0,
    };
    let ready = subset.addresses.iter().flatten().map(|a| (a, true));
    let not_ready = subset
        .not_ready_addresses
        .iter()
        .flatten()
        .map(|a| (a, false));
    for (taken, (address, ready)) in ready.chain(not_ready).enumerate() {
        if taken >= limits::ENDPOINTS_ADDRESSES {
            out.skipped += 1;
        } else if is_family(&address.ip, family) {
            out.group.endpoints.push(endpoint(address, ready));
        } else if address.ip.parse::<std::net::IpAddr>().is_err() {
            out.invalid += 1;
        }
    }
    out
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
