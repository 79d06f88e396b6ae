//! The built-in pod network: every pod has a veth pair to a bridge on its node, an address of the node's
//! range, and host ports. Does what the CNI chain loopback, bridge, host-local, portmap does.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use cri::{PodNetwork, PodNetworkRequest, PodNetworkResult, Protocol};
use linux::nftables::Batch;
use parking_lot::Mutex;

pub mod act;
pub mod lease;
pub mod plan;
pub mod portmap;

use crate::cidr::Cidr;
use crate::error::Error;
use crate::rules::Ip;
use lease::{Lease, Leases};
use plan::NetOp;

/// What the pod network must know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the bridge, at most 15 bytes.
    pub bridge: String,
    /// The node's pod ranges, primary first; empty until `set_pod_cidrs`.
    pub pod_cidrs: Vec<Cidr>,
    /// The pod ranges of the whole cluster: traffic to them keeps its source address.
    pub cluster_cidrs: Vec<Cidr>,
    /// Largest packet of pods; `None` for that of the node's default route.
    pub mtu: Option<u32>,
    /// Where leases are kept; private to this network.
    pub state_dir: PathBuf,
}

/// The built-in pod network. Cheap to clone.
#[derive(Clone)]
pub struct BridgeNetwork {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    state: Mutex<State>,
}

/// What is known of the node. One attachment at a time holds it only for bookkeeping, never while
/// links are made.
struct State {
    pod_cidrs: Vec<Cidr>,
    leases: Option<Leases>,
    /// Sandboxes being attached right now, which `gc` must leave alone.
    attaching: BTreeSet<String>,
    /// The ranges and packet size for which bridge and tables are set up.
    ready: Option<Ready>,
}

#[derive(Clone, PartialEq, Eq)]
struct Ready {
    pod_cidrs: Vec<Cidr>,
    mtu: u32,
}

// === BridgeNetwork ===

impl BridgeNetwork {
    /// A network that touches nothing until it is used.
    pub fn new(config: Config) -> Self {
        let state = State {
            pod_cidrs: config.pod_cidrs.clone(),
            leases: None,
            attaching: BTreeSet::new(),
            ready: None,
        };
        Self {
            inner: Arc::new(Inner {
                config,
                state: Mutex::new(state),
            }),
        }
    }

    /// Sets the node's pod ranges (`spec.podCIDRs`); in force from the next call on.
    pub fn set_pod_cidrs(&self, cidrs: Vec<Cidr>) {
        self.inner.state.lock().pod_cidrs = cidrs;
    }

    /// The node's pod ranges as known now.
    pub fn pod_cidrs(&self) -> Vec<Cidr> {
        self.inner.state.lock().pod_cidrs.clone()
    }

    /// Takes everything down: pods' links, bridge, tables, leases.
    pub async fn tear_down(&self) -> Result<(), Error> {
        self.blocking(|inner| inner.tear_down()).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || f(&inner)).await;
        done.map_err(|e| Error::Worker(e.to_string()))?
    }
}

#[async_trait]
impl PodNetwork for BridgeNetwork {
    async fn status(&self) -> Result<(), cri::Error> {
        let done = self.blocking(|inner| inner.ensure_ready().map(drop)).await;
        Ok(done?)
    }

    async fn add(&self, pod: &PodNetworkRequest) -> Result<PodNetworkResult, cri::Error> {
        let pod = pod.clone();
        Ok(self.blocking(move |inner| inner.add(pod)).await?)
    }

    async fn del(&self, pod: &PodNetworkRequest) -> Result<(), cri::Error> {
        let id = pod.sandbox_id.clone();
        Ok(self.blocking(move |inner| inner.del(&id)).await?)
    }

    async fn gc(&self, keep: &[String]) -> Result<(), cri::Error> {
        let keep: BTreeSet<_> = keep.iter().cloned().collect();
        Ok(self.blocking(move |inner| inner.gc(&keep)).await?)
    }
}

// === Inner ===

impl Inner {
    /// Brings bridge, switches and tables into force for the ranges known now.
    fn ensure_ready(&self) -> Result<Ready, Error> {
        let mut state = self.state.lock();
        if state.pod_cidrs.is_empty() {
            return Err(Error::NoPodCidr);
        }
        if let Some(ready) = &state.ready
            && ready.pod_cidrs == state.pod_cidrs
        {
            return Ok(ready.clone());
        }
        let mtu = match self.config.mtu {
            Some(mtu) => mtu,
            None => act::default_mtu()?,
        };
        let ready = Ready {
            pod_cidrs: state.pod_cidrs.clone(),
            mtu,
        };
        let bridge = &self.config.bridge;
        act::ensure_bridge(bridge, mtu, &ready.pod_cidrs)?;
        act::set_sysctls(bridge, ready.pod_cidrs.iter().any(|c| c.is_ipv6()))?;
        let leases = loaded(&mut state, &self.config.state_dir)?;
        for ip in self.families(&ready.pod_cidrs) {
            let all = leases.iter().map(|(_, lease)| lease);
            let cluster = &self.config.cluster_cidrs;
            portmap::plan_table(ip, bridge, &ready.pod_cidrs, cluster, all)?.commit()?;
        }
        state.ready = Some(ready.clone());
        tracing::info!(bridge, mtu, ranges = ?ready.pod_cidrs, "pod network ready");
        Ok(ready)
    }

    fn families(&self, cidrs: &[Cidr]) -> Vec<Ip> {
        let has = |ip: &Ip| cidrs.iter().any(|c| c.is_ipv6() == ip.is_v6());
        Ip::ALL.into_iter().filter(has).collect()
    }

    fn add(&self, request: PodNetworkRequest) -> Result<PodNetworkResult, Error> {
        lease::check_id(&request.sandbox_id)?;
        let id = request.sandbox_id.clone();
        self.state.lock().attaching.insert(id.clone());
        let done = self.attach(request);
        self.state.lock().attaching.remove(&id);
        done
    }

    fn attach(&self, request: PodNetworkRequest) -> Result<PodNetworkResult, Error> {
        let ready = self.ensure_ready()?;
        let id = request.sandbox_id.clone();
        // A sandbox that is attached already was half attached before a crash, or by a caller that
        // gave up: start over.
        self.del(&id)?;
        let netns = PathBuf::from(&request.netns_path);
        let lease = self.reserve(request, &ready)?;
        let addresses: Vec<(IpAddr, Cidr)> = lease
            .result
            .ips
            .iter()
            .filter_map(|ip| {
                let cidr = ready.pod_cidrs.iter().find(|c| c.contains(*ip))?;
                Some((*ip, *cidr))
            })
            .collect();
        let host = plan::veth_name(&id);
        let mut ops = plan::plan_attach(&host, &self.config.bridge, ready.mtu, &addresses);
        let limits = &lease.request;
        let (ingress, egress) = (limits.ingress_bandwidth, limits.egress_bandwidth);
        ops.extend(plan::plan_limits(&host, ingress, egress));
        let done = act::perform(&ops, Some(&netns)).and_then(|()| self.publish(&lease));
        if let Err(error) = done {
            if let Err(undo) = self.del(&id) {
                return Err(Error::Several(vec![error, undo]));
            }
            return Err(error);
        }
        Ok(lease.result)
    }

    /// Allocates addresses and writes the lease, before anything is made in the kernel.
    fn reserve(&self, request: PodNetworkRequest, ready: &Ready) -> Result<Lease, Error> {
        let mut state = self.state.lock();
        let leases = loaded(&mut state, &self.config.state_dir)?;
        portmap::check_free(&request, leases.iter().map(|(_, lease)| lease))?;
        let mut ips = Vec::new();
        let mut families = BTreeSet::new();
        for cidr in &ready.pod_cidrs {
            if !families.insert(cidr.is_ipv6()) {
                continue;
            }
            match leases.allocate(*cidr) {
                Ok(ip) => ips.push(ip),
                Err(e) => {
                    leases.release(&ips);
                    return Err(e);
                }
            }
        }
        let mac = ips.first().map(|ip| plan::mac_text(plan::mac(*ip)));
        let lease = Lease {
            request,
            result: PodNetworkResult {
                interface: plan::POD_LINK.into(),
                mac: mac.unwrap_or_default(),
                ips: ips.clone(),
                gateway: ready.pod_cidrs.first().and_then(|c| plan::gateway(*c)),
            },
        };
        // Elements are planned here so that bad host ports are refused before anything is done.
        let planned = Ip::ALL.map(|ip| portmap::plan_elements(ip, &lease).map(drop));
        let saved = planned
            .into_iter()
            .collect::<Result<(), Error>>()
            .and_then(|()| leases.save(lease.clone()));
        if let Err(e) = saved {
            leases.release(&ips);
            return Err(e);
        }
        Ok(lease)
    }

    /// Programs the host ports of a lease.
    fn publish(&self, lease: &Lease) -> Result<(), Error> {
        for ip in self.families_of(lease) {
            let mut batch = Batch::new(portmap::table(ip));
            portmap::add(&mut batch, &portmap::plan_elements(ip, lease)?);
            batch.commit()?;
        }
        let udp: Vec<u16> = lease
            .request
            .port_mappings
            .iter()
            .filter(|m| m.protocol == Protocol::Udp && m.host_port != 0)
            .map(|m| m.host_port)
            .collect();
        if !udp.is_empty() {
            act::forget_udp_flows(&udp)?;
        }
        Ok(())
    }

    fn families_of(&self, lease: &Lease) -> Vec<Ip> {
        let has = |ip: &Ip| lease.result.ips.iter().any(|a| a.is_ipv6() == ip.is_v6());
        Ip::ALL.into_iter().filter(has).collect()
    }

    /// Detaches a sandbox in whatever state it is; every step is tried.
    fn del(&self, id: &str) -> Result<(), Error> {
        lease::check_id(id)?;
        let lease = {
            let mut state = self.state.lock();
            loaded(&mut state, &self.config.state_dir)?.get(id).cloned()
        };
        let mut errors = Vec::new();
        if let Some(lease) = &lease {
            errors.extend(self.unpublish(lease).err());
        }
        let ops = plan::plan_detach(&plan::veth_name(id));
        errors.extend(act::perform(&ops, None).err());
        // The address is free again only once nothing in the kernel has it.
        if errors.is_empty() {
            let mut state = self.state.lock();
            let leases = loaded(&mut state, &self.config.state_dir)?;
            errors.extend(leases.forget(id).err());
        }
        Error::collect(errors)
    }

    fn unpublish(&self, lease: &Lease) -> Result<(), Error> {
        let mut errors = Vec::new();
        for ip in self.families_of(lease) {
            let elements = portmap::plan_elements(ip, lease)?;
            // One by one: elements of a half-made pod may be missing.
            let parts = [
                portmap::Elements {
                    ports: elements.ports,
                    ..Default::default()
                },
                portmap::Elements {
                    address_ports: elements.address_ports,
                    ..Default::default()
                },
                portmap::Elements {
                    hairpin: elements.hairpin,
                    ..Default::default()
                },
            ];
            for part in parts {
                let mut batch = Batch::new(portmap::table(ip));
                portmap::delete(&mut batch, &part);
                match batch.commit() {
                    Err(e) if !e.failures.iter().all(linux::netlink::Error::is_absent) => {
                        errors.push(e.into());
                    }
                    _ => {}
                }
            }
        }
        Error::collect(errors)
    }

    fn gc(&self, keep: &BTreeSet<String>) -> Result<(), Error> {
        // Links first: one made after this look has its lease already when leases are read below.
        let ports = act::ports(&self.config.bridge)?;
        let known: Vec<String> = {
            let mut state = self.state.lock();
            let leases = loaded(&mut state, &self.config.state_dir)?;
            leases.iter().map(|(id, _)| id.clone()).collect()
        };
        let attaching = self.state.lock().attaching.clone();
        let mut errors = Vec::new();
        let leaked = |id: &&String| !keep.contains(*id) && !attaching.contains(*id);
        for id in known.iter().filter(leaked) {
            errors.extend(self.del(id).err());
        }
        let mine = known.iter().chain(&attaching);
        let mine: BTreeSet<_> = mine.map(|id| plan::veth_name(id)).collect();
        for host in ports {
            if host.starts_with(plan::VETH_PREFIX) && !mine.contains(&host) {
                errors.extend(act::perform(&[NetOp::DeleteVeth { host }], None).err());
            }
        }
        Error::collect(errors)
    }

    fn tear_down(&self) -> Result<(), Error> {
        let mut errors = Vec::new();
        errors.extend(self.gc(&BTreeSet::new()).err());
        for ip in Ip::ALL {
            let mut batch = Batch::new(portmap::table(ip));
            batch.destroy_table();
            errors.extend(batch.commit().err().map(Error::from));
        }
        errors.extend(act::remove_bridge(&self.config.bridge).err());
        self.state.lock().ready = None;
        Error::collect(errors)
    }
}

/// The leases, read from disk on first use.
fn loaded<'a>(state: &'a mut State, directory: &Path) -> Result<&'a mut Leases, Error> {
    let leases = match state.leases.take() {
        Some(leases) => leases,
        None => Leases::load(directory)?,
    };
    Ok(state.leases.insert(leases))
}
