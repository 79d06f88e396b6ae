//! ServiceCIDRs are ready while they live, and go only when no cluster IP needs them.
//! Upstream: pkg/controller/servicecidrs.

use std::net::IpAddr;
use std::time::Duration;

use api::networking::v1::{IPAddress, ServiceCIDR};
use async_trait::async_trait;
use client::api::{Patch, PatchParams};
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger};
use serde_json::json;

use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "service-cidr-controller",
    account: "service-cidrs-controller",
    component: "service-cidr-controller",
    needs: &[
        ("networking.k8s.io", "servicecidrs"),
        ("networking.k8s.io", "ipaddresses"),
    ],
    build: |setup| Ok(build(setup)),
};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// So long allocators may still believe in a network that goes.
const GRACE: i64 = 10;
const RETRIES: u32 = 15;

fn build(setup: &Setup) -> Reconciler {
    let this = ServiceCidrs {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
    };
    let all = |client: &Client| {
        let lister = client.lister::<ServiceCIDR>();
        let list = lister.map(|l| l.list(None)).unwrap_or_default();
        list.iter().map(|c| Key::new("", c.name()).into()).collect()
    };
    let (first, second) = (setup.client.clone(), setup.client.clone());
    Reconciler::new("service-cidr-controller", 5, this)
        .retries(RETRIES)
        .on(Trigger::map(
            "networking.k8s.io",
            "servicecidrs",
            move |e| {
                // A network that comes or goes may free others.
                if e.before.is_none() || e.deleted() {
                    let mut keys: Vec<reconciler::Wake> = all(&first);
                    keys.push(Key::of(e.entry).into());
                    keys
                } else {
                    vec![Key::of(e.entry).into()]
                }
            },
        ))
        .on(Trigger::map("networking.k8s.io", "ipaddresses", move |e| {
            if e.deleted() {
                all(&second)
            } else {
                Vec::new()
            }
        }))
}

struct ServiceCidrs {
    client: Client,
    recorder: Recorder,
    clock: Clock,
}

/// An address range.
#[derive(Clone, Copy)]
struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        Some(Self {
            address: address.parse().ok()?,
            length: length.parse().ok()?,
        })
    }

    fn holds(&self, other: IpAddr) -> bool {
        let bits = |a: IpAddr| match a {
            IpAddr::V4(a) => (u128::from(a.to_bits()) << 96, 4),
            IpAddr::V6(a) => (a.to_bits(), 6),
        };
        let ((own, family), (other, its)) = (bits(self.address), bits(other));
        let shift = 128 - u32::from(self.length);
        family == its && (shift >= 128 || own >> shift == other >> shift)
    }

    fn contains(&self, other: &Self) -> bool {
        self.length <= other.length && self.holds(other.address)
    }
}

fn networks(cidr: &ServiceCIDR) -> Vec<Network> {
    let texts = cidr.spec.iter().flat_map(|s| s.cidrs.iter().flatten());
    texts.filter_map(|t| Network::parse(t)).collect()
}

/// Whether no address is left without a network once this one is gone.
fn may_go<'a>(
    cidr: &ServiceCIDR,
    others: &[&ServiceCIDR],
    mut addresses: impl Iterator<Item = &'a str>,
) -> bool {
    let own = networks(cidr);
    let rest: Vec<Network> = others.iter().flat_map(|c| networks(c)).collect();
    if own.iter().all(|n| rest.iter().any(|r| r.contains(n))) {
        return true;
    }
    !addresses.any(|a| {
        let Ok(address) = a.parse::<IpAddr>() else {
            return false;
        };
        own.iter().any(|n| n.holds(address)) && !rest.iter().any(|n| n.holds(address))
    })
}

#[async_trait]
impl Reconcile for ServiceCidrs {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let all = self.client.lister::<ServiceCIDR>()?.list(None);
        let Some(cidr) = all.iter().find(|c| c.name() == &*key.name) else {
            return Ok(Next::Done);
        };
        let Some(deleted) = cidr.metadata.deletion_timestamp.as_ref() else {
            if !cidr.has_finalizer(FINALIZER) {
                let patch = json!({"metadata": {"finalizers": [FINALIZER]}});
                self.patch(cidr, &patch, "protect the network").await?;
            }
            let done = self.condition(cidr, "True", "", "Kubernetes Service CIDR is ready");
            if let Err(e) = done.await {
                let text = "The ServiceCIDR Status can not be set to Ready=True";
                let about = reference(&**cidr);
                self.recorder.event(
                    about,
                    EventType::Warning,
                    "KubernetesServiceCIDRError",
                    text,
                );
                return Err(e);
            }
            return Ok(Next::Done);
        };
        let others: Vec<&ServiceCIDR> = all
            .iter()
            .map(AsRef::as_ref)
            .filter(|c| c.name() != cidr.name())
            .collect();
        let addresses = self.client.lister::<IPAddress>()?.list(None);
        let managed = addresses
            .iter()
            .filter(|a| a.labels().get(MANAGED_BY).map(String::as_str) == Some(ALLOCATOR));
        if !may_go(cidr, &others, managed.map(|a| a.name())) {
            let text = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            self.condition(cidr, "False", "Terminating", text).await?;
            return Ok(Next::Done);
        }
        let left = deleted.0.as_second() + GRACE - self.clock.now().as_second();
        if let Some(left) = u64::try_from(left).ok().filter(|l| *l > 0) {
            return Ok(Next::After(Duration::from_secs(left)));
        }
        if cidr.has_finalizer(FINALIZER) {
            let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
            self.patch(cidr, &patch, "let the network go").await?;
        }
        Ok(Next::Done)
    }
}

impl ServiceCidrs {
    async fn patch(
        &self,
        cidr: &ServiceCIDR,
        patch: &serde_json::Value,
        what: &'static str,
    ) -> Result<(), Error> {
        let api = self.client.all::<ServiceCIDR>();
        let params = crate::common::act::patch_params();
        match api
            .patch(cidr.name(), &params, &Patch::Strategic(patch))
            .await
        {
            Err(e) if client::is_not_found(&e) => Ok(()),
            done => done.during(what).map(|_| ()),
        }
    }

    async fn condition(
        &self,
        cidr: &ServiceCIDR,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), Error> {
        let mut all = cidr
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten());
        let same = all.any(|c| {
            c.type_ == "Ready" && c.status == status && c.reason == reason && c.message == message
        });
        if same {
            return Ok(());
        }
        let patch = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": cidr.name()},
            "status": {"conditions": [{"type": "Ready", "status": status, "reason": reason,
                "message": message, "lastTransitionTime": self.clock.seconds()}]}});
        let params = PatchParams {
            field_manager: Some("service-cidr-controller".into()),
            force: true,
            ..PatchParams::default()
        };
        let api = self.client.all::<ServiceCIDR>();
        match api
            .patch_status(cidr.name(), &params, &Patch::Apply(&patch))
            .await
        {
            Err(e) if client::is_not_found(&e) => Ok(()),
            done => done.during("write the network's condition").map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cidr(name: &str, network: &str) -> ServiceCIDR {
        let v = json!({"metadata": {"name": name}, "spec": {"cidrs": [network]}});
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn a_network_stays_while_addresses_need_it() {
        let own = cidr("own", "10.1.0.0/24");
        let (big, other) = (cidr("big", "10.0.0.0/8"), cidr("other", "fd00::/64"));
        let go =
            |others: &[&ServiceCIDR], used: &[&str]| may_go(&own, others, used.iter().copied());
        assert!(go(&[], &[]));
        assert!(!go(&[&other], &["10.1.0.7"]));
        assert!(go(&[&other], &["10.2.0.7", "fd00::1"]));
        assert!(go(&[&big], &["10.1.0.7"]));
    }
}
