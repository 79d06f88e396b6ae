//! Cluster IPs and node ports: reserved before a service is written, given back when it is not or when
//! it goes. The pools are in memory, filled from the stored services at the first write after a start.
//! Upstream: pkg/registry/core/service/storage alloc.go; validation-core §14.3, §14.4.
//!
//! Upstream: several API servers agree through IPAddress objects; here one API server owns a store.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use machinery::descriptor::{Allocator, Reservation};
use machinery::object::{i64_at, list_at, set, str_at};
use machinery::{ApiError, Causes, GroupResource};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::pool::{Addresses, PoolError, Ports};
use super::{
    cluster_ips, families, is_external_name, is_headless, kind, needs_health_check_port,
    needs_node_ports, texts,
};
use crate::late::LateReads;

/// The pools of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    reads: LateReads,
    families: Arc<Vec<&'static str>>,
    pools: Arc<Mutex<Pools>>,
}

struct Pools {
    addresses: Vec<Addresses>,
    ports: Ports,
    loaded: bool,
}

/// What one write took, and what it gives back once it is stored.
struct Taken {
    pools: Arc<Mutex<Pools>>,
    dry_run: bool,
    ips: Vec<IpAddr>,
    ports: Vec<i64>,
    old_ips: Vec<IpAddr>,
    old_ports: Vec<i64>,
}

// === Services ===

impl Services {
    /// Pools over the service networks (default family first) and the node ports.
    pub fn new(
        networks: &[(IpAddr, u8)],
        node_ports: &RangeInclusive<u16>,
        reads: LateReads,
    ) -> Self {
        let addresses: Vec<Addresses> = networks
            .iter()
            .map(|(ip, length)| Addresses::new(*ip, *length))
            .collect();
        let families = addresses.iter().map(Addresses::family).collect();
        let pools = Pools {
            addresses,
            ports: Ports::new(node_ports),
            loaded: false,
        };
        Self {
            reads,
            families: Arc::new(families),
            pools: Arc::new(Mutex::new(pools)),
        }
    }

    /// Takes what the stored services hold, once.
    fn load(&self) -> Result<(), ApiError> {
        let mut pools = self.pools.lock();
        if pools.loaded {
            return Ok(());
        }
        let gr = GroupResource::new("", "services");
        let cache = self.reads.get().and_then(|r| r.cache(&gr));
        let cache = cache.ok_or_else(|| ApiError::internal("allocator not ready"))?;
        for entry in cache.list(None) {
            let service = entry.value().map_err(ApiError::internal)?;
            for ip in addresses_of(&service) {
                let taken = pools.addresses.iter_mut().any(|a| a.take(ip).is_ok());
                if !taken {
                    tracing::warn!(service = %entry.key(), %ip, "this cluster IP is out of range or held by another service too");
                }
            }
            for port in ports_of(&service) {
                if let Err(error) = pools.ports.take(port) {
                    tracing::warn!(service = %entry.key(), port, %error, "this node port is not counted");
                }
            }
        }
        pools.loaded = true;
        Ok(())
    }

    fn plan(&self, t: &mut Taken, obj: &mut Value, before: Option<&Value>) -> Result<(), ApiError> {
        let causes = families::init(obj, before, &self.families);
        judge(obj, &causes)?;
        t.addresses(obj, before)?;
        match before {
            None => t.new_ports(obj)?,
            Some(before) => t.changed_ports(obj, before)?,
        }
        t.health_check_port(obj, before)
    }
}

#[async_trait]
impl Allocator for Services {
    async fn begin(
        &self,
        obj: &mut Value,
        before: Option<&Value>,
        dry_run: bool,
    ) -> Result<Box<dyn Reservation>, ApiError> {
        self.load()?;
        let mut taken = Taken {
            pools: self.pools.clone(),
            dry_run,
            ips: Vec::new(),
            ports: Vec::new(),
            old_ips: Vec::new(),
            old_ports: Vec::new(),
        };
        match self.plan(&mut taken, obj, before) {
            Ok(()) => Ok(Box::new(taken)),
            Err(e) => {
                Box::new(taken).finish(false);
                Err(e)
            }
        }
    }

    async fn release(&self, obj: &Value) {
        if self.load().is_err() {
            return;
        }
        let mut pools = self.pools.lock();
        give_back(&mut pools, &addresses_of(obj), &ports_of(obj));
    }
}

fn give_back(pools: &mut Pools, ips: &[IpAddr], ports: &[i64]) {
    for ip in ips {
        pools.addresses.iter_mut().for_each(|a| a.release(*ip));
    }
    for port in ports {
        pools.ports.release(*port);
    }
}

impl Reservation for Taken {
    fn finish(self: Box<Self>, committed: bool) {
        let mut pools = self.pools.lock();
        if committed {
            give_back(&mut pools, &self.old_ips, &self.old_ports);
        } else {
            give_back(&mut pools, &self.ips, &self.ports);
        }
    }
}

// === Taken ===

impl Taken {
    /// A cluster IP for each family that has none.
    fn addresses(&mut self, obj: &mut Value, before: Option<&Value>) -> Result<(), ApiError> {
        let held: Vec<IpAddr> = before.map(addresses_of).unwrap_or_default();
        if is_external_name(obj) {
            self.old_ips = held;
            return Ok(());
        }
        if is_headless(obj) {
            return Ok(());
        }
        // A service that was headless stays without addresses: validation refuses the change.
        if before.is_some_and(|b| is_headless(b) && !is_external_name(b)) {
            return Ok(());
        }
        let mut ips: Vec<String> = cluster_ips(obj).iter().map(|t| (*t).to_string()).collect();
        let count = texts(obj, "spec.ipFamilies").len();
        // Addresses that may not change are not taken: validation refuses the change.
        let fixed = held.len().min(ips.len());
        for i in fixed..count {
            let family = texts(obj, "spec.ipFamilies")[i].to_string();
            let asked = ips.get(i).cloned().unwrap_or_default();
            let ip = self.address(obj, &family, &asked)?;
            if i < ips.len() {
                ips[i] = ip.to_string();
            } else {
                ips.push(ip.to_string());
            }
        }
        self.old_ips = held.into_iter().skip(count).collect();
        if let Some(first) = ips.first() {
            set(obj, "spec.clusterIP", json!(first));
            set(obj, "spec.clusterIPs", json!(ips));
        }
        Ok(())
    }

    fn address(&mut self, obj: &Value, family: &str, asked: &str) -> Result<IpAddr, ApiError> {
        let mut pools = self.pools.lock();
        let mut of_family = pools.addresses.iter_mut().filter(|a| a.family() == family);
        let Some(pool) = of_family.next() else {
            return Err(ApiError::internal(format!(
                "no service network of family {family}"
            )));
        };
        let name = str_at(obj, "metadata.name");
        let ip = match asked {
            "" => pool.next().map_err(|e| match e {
                PoolError::Full => ApiError::internal(format!(
                    "failed to allocate a serviceIP for Service \"{name}\": {e}"
                )),
                e => refused(obj, &format!("failed to allocate IP: {e}")),
            })?,
            text => {
                let wrong = |e: &dyn std::fmt::Display| {
                    refused(obj, &format!("failed to allocate IP {text}: {e}"))
                };
                let ip: IpAddr = text.parse().map_err(|e| wrong(&e))?;
                pool.check(ip).map_err(|e| wrong(&e))?;
                ip
            }
        };
        if !self.dry_run {
            pool.take(ip).map_err(ApiError::internal)?;
            self.ips.push(ip);
        }
        Ok(ip)
    }

    /// Node ports of a new service. Ports of one number share a node port.
    fn new_ports(&mut self, obj: &mut Value) -> Result<(), ApiError> {
        if !["NodePort", "LoadBalancer"].contains(&kind(obj)) {
            return Ok(());
        }
        let wanted = needs_node_ports(obj);
        let all = list_at(obj, "spec.ports").to_vec();
        let mut given: BTreeMap<i64, i64> = BTreeMap::new();
        for (i, p) in all.iter().enumerate() {
            let (number, asked) = (port_of(p, "port"), port_of(p, "nodePort"));
            if asked == 0 && !wanted {
                continue;
            }
            let node_port = match given.get(&number) {
                Some(known) if asked == 0 || asked == *known => *known,
                Some(_) => self.port(obj, i, asked)?,
                None => {
                    let requested = all
                        .iter()
                        .filter(|o| port_of(o, "port") == number)
                        .map(|o| port_of(o, "nodePort"))
                        .find(|n| *n != 0);
                    let n = self.port(obj, i, requested.unwrap_or(0))?;
                    given.insert(number, n);
                    n
                }
            };
            set_port(obj, i, node_port);
        }
        Ok(())
    }

    /// Node ports of a changed service: new ones are taken, those no longer used go back.
    fn changed_ports(&mut self, obj: &mut Value, before: &Value) -> Result<(), ApiError> {
        let old = node_ports(before);
        if !["NodePort", "LoadBalancer"].contains(&kind(obj)) {
            self.old_ports = old;
            return Ok(());
        }
        let wanted = needs_node_ports(obj);
        let mut now: Vec<i64> = Vec::new();
        let mut seen: Vec<(String, i64)> = Vec::new();
        for (i, p) in list_at(obj, "spec.ports").to_vec().iter().enumerate() {
            let asked = port_of(p, "nodePort");
            if asked == 0 && !wanted {
                continue;
            }
            let pair = (str_at(p, "protocol").to_string(), asked);
            if asked != 0 && seen.contains(&pair) {
                let text = format!("duplicate nodePort: {{{} {asked}}}", pair.0);
                return Err(ApiError::new(500, "", text));
            }
            seen.push(pair);
            let node_port = match asked {
                n if n != 0 && (old.contains(&n) || now.contains(&n)) => n,
                n => self.port(obj, i, n)?,
            };
            now.push(node_port);
            set_port(obj, i, node_port);
        }
        self.old_ports = old.into_iter().filter(|n| !now.contains(n)).collect();
        Ok(())
    }

    /// Takes the port asked for, or any where that is 0.
    fn port(&mut self, obj: &Value, i: usize, asked: i64) -> Result<i64, ApiError> {
        let mut pools = self.pools.lock();
        let port = match asked {
            0 => pools.ports.next().map_err(|e| {
                ApiError::new(500, "", format!("failed to allocate a nodePort: {e}"))
            })?,
            n => {
                pools.ports.check(n).map_err(|e| {
                    let mut c = Causes::new();
                    c.at("spec", |c| {
                        c.at("ports", |c| {
                            c.index(i, |c| {
                                c.at("nodePort", |c| c.invalid(&json!(n), e.to_string()));
                            });
                        });
                    });
                    invalid(obj, &c)
                })?;
                n
            }
        };
        if !self.dry_run {
            pools.ports.take(port).map_err(ApiError::internal)?;
            self.ports.push(port);
        }
        Ok(port)
    }

    fn health_check_port(
        &mut self,
        obj: &mut Value,
        before: Option<&Value>,
    ) -> Result<(), ApiError> {
        let held = before
            .filter(|b| needs_health_check_port(b))
            .map_or(0, |b| port_of(b, "spec.healthCheckNodePort"));
        if !needs_health_check_port(obj) {
            self.old_ports.extend((held != 0).then_some(held));
            return Ok(());
        }
        if held != 0 {
            return Ok(());
        }
        let asked = port_of(obj, "spec.healthCheckNodePort");
        let mut pools = self.pools.lock();
        let port = match asked {
            0 => pools.ports.next().map_err(|e| {
                ApiError::internal(format!("failed to allocate a HealthCheck NodePort : {e}"))
            })?,
            n => n,
        };
        let free = if self.dry_run {
            pools.ports.check(port)
        } else {
            pools.ports.take(port)
        };
        free.map_err(|e| {
            ApiError::internal(format!(
                "failed to allocate requested HealthCheck NodePort {port}: {e}"
            ))
        })?;
        if !self.dry_run {
            self.ports.push(port);
        }
        set(obj, "spec.healthCheckNodePort", json!(port));
        Ok(())
    }
}

fn port_of(obj: &Value, path: &str) -> i64 {
    i64_at(obj, path).unwrap_or(0)
}

fn set_port(obj: &mut Value, i: usize, port: i64) {
    if let Some(p) = obj.pointer_mut(&format!("/spec/ports/{i}")) {
        set(p, "nodePort", json!(port));
    }
}

/// The cluster IPs that a service holds.
fn addresses_of(obj: &Value) -> Vec<IpAddr> {
    if is_external_name(obj) {
        return Vec::new();
    }
    cluster_ips(obj)
        .iter()
        .filter_map(|t| t.parse().ok())
        .collect()
}

fn node_ports(obj: &Value) -> Vec<i64> {
    let mut all: Vec<i64> = list_at(obj, "spec.ports")
        .iter()
        .map(|p| port_of(p, "nodePort"))
        .filter(|n| *n != 0)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The node ports that a service holds, its health check's included.
fn ports_of(obj: &Value) -> Vec<i64> {
    let mut all = node_ports(obj);
    let health = port_of(obj, "spec.healthCheckNodePort");
    all.extend((health != 0).then_some(health));
    all
}

fn refused(obj: &Value, why: &str) -> ApiError {
    let mut c = Causes::new();
    let ips = json!(cluster_ips(obj));
    c.at("spec", |c| {
        c.at("clusterIPs", |c| c.invalid(&ips, why));
    });
    invalid(obj, &c)
}

fn invalid(obj: &Value, causes: &Causes) -> ApiError {
    ApiError::invalid(
        "",
        "Service",
        str_at(obj, "metadata.name"),
        causes.as_slice(),
    )
}

fn judge(obj: &Value, causes: &Causes) -> Result<(), ApiError> {
    if causes.is_empty() {
        Ok(())
    } else {
        Err(invalid(obj, causes))
    }
}
