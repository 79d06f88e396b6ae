//! The Service proxy: watches Services, EndpointSlices and the own Node, and keeps one nftables table
//! per family in step. Upstream: kube-proxy in nftables mode.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, Service};
use api::discovery::v1::EndpointSlice;
use client::{Client, Lister, Subscription};
use linux::netlink::{Socket, Subsystem};
use linux::nftables::Batch;
use tokio::sync::watch;
use tokio::time::Instant;

mod conntrack;
mod endpoint;
mod model;
pub mod plan;
mod service;
mod sysctl;
#[cfg(test)]
mod tests;

use crate::cidr::Cidr;
use crate::error::Error;
use crate::rules::Ip;
use endpoint::Place;
use plan::{Plan, Surroundings};

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Least time between two syncs; changes in between are programmed together.
const SYNC_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// How often the kernel is asked whether the tables are still there: other programs may flush them.
const VERIFY_EVERY: Duration = Duration::from_secs(300);
/// Time after which a failed sync is tried again, upstream's syncPeriod.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// The first retries come sooner.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// What the proxy must know.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// The pod ranges of the whole cluster (kube-proxy's clusterCIDR).
    pub cluster_cidrs: Vec<Cidr>,
    /// The ranges that cluster IPs come from.
    pub service_cidrs: Vec<Cidr>,
    /// Cluster IPs that the node itself answers on (see `ensure_local_address`), such as the DNS
    /// address: the proxy leaves them alone.
    pub node_local_ips: Vec<IpAddr>,
    pub masquerade_all: bool,
    /// Program IPv6 too.
    pub ipv6: bool,
}

/// What was programmed last; `None` before the first time and after a failure.
#[derive(Default)]
struct Programmed {
    v4: Option<Plan>,
    v6: Option<Plan>,
}

/// Runs until `shutdown` becomes true. The rules stay in force afterwards, so that a restart does
/// not interrupt traffic.
pub async fn run(
    client: Client,
    config: Config,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let services: Lister<Service> = client.lister()?;
    let slices: Lister<EndpointSlice> = client.lister()?;
    let nodes: Lister<Node> = client.lister()?;
    let mut programmed = Programmed::default();
    let mut subscriptions = [services.subscribe(), slices.subscribe(), nodes.subscribe()];
    let mut retry = RETRY_FIRST;
    let mut verify = false;
    sysctl::set_conntrack();
    loop {
        let place = place(&config, &nodes);
        let started = Instant::now();
        let job = Job {
            config: config.clone(),
            place: place.clone(),
            services: services.list(None),
            slices: slices.list(None),
            verify,
        };
        let (back, done) = tokio::task::spawn_blocking(move || {
            let done = sync(&job, &mut programmed);
            (programmed, done)
        })
        .await
        .map_err(|e| Error::Worker(e.to_string()))?;
        programmed = back;
        let mut wait = VERIFY_EVERY;
        match done {
            Ok(()) => {
                retry = RETRY_FIRST;
                tracing::debug!(elapsed = ?started.elapsed(), "service rules synced");
            }
            Err(error) => {
                tracing::error!(%error, "service rules not synced");
                // The next one makes the tables anew.
                programmed = Programmed::default();
                wait = retry;
                retry = (retry * 2).min(RETRY_AFTER);
            }
        }
        let ours = |nodes: &Lister<Node>| self::place(&config, nodes) != place;
        tokio::select! {
            _ = shutdown.wait_for(|s| *s) => return Ok(()),
            () = changed(&mut subscriptions, || ours(&nodes)) => verify = false,
            () = tokio::time::sleep(wait) => verify = true,
        }
        tokio::select! {
            _ = shutdown.wait_for(|s| *s) => return Ok(()),
            () = tokio::time::sleep_until(started + SYNC_INTERVAL_MIN) => {}
        }
        let [of_services, of_slices, of_nodes] = &mut subscriptions;
        renew(of_services, || services.subscribe());
        renew(of_slices, || slices.subscribe());
        renew(of_nodes, || nodes.subscribe());
    }
}

/// Removes the proxy's tables.
pub async fn clean_up() -> Result<(), Error> {
    let done = tokio::task::spawn_blocking(|| {
        for ip in Ip::ALL {
            let mut batch = Batch::new(plan::table(ip));
            batch.destroy_table();
            batch.commit()?;
        }
        Ok(())
    });
    done.await.map_err(|e| Error::Worker(e.to_string()))?
}

struct Job {
    config: Config,
    place: Place,
    services: Vec<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
    /// Ask the kernel what is there instead of relying on memory.
    verify: bool,
}

/// Waits for a change that matters: any Service or slice, or the own node's place.
async fn changed(subscriptions: &mut [Subscription; 3], place_changed: impl Fn() -> bool) {
    let [services, slices, nodes] = subscriptions;
    loop {
        tokio::select! {
            _ = services.changes.recv() => return,
            _ = slices.changes.recv() => return,
            // `None`: the subscription ended and must be renewed.
            node = nodes.changes.recv() => if node.is_none() || place_changed() { return },
        }
    }
}

/// Takes what is queued (the caches already show it); subscribes anew where the subscription ended.
fn renew(subscription: &mut Subscription, subscribe: impl Fn() -> Subscription) {
    loop {
        match subscription.changes.try_recv() {
            Ok(_) => {}
            Err(tokio::sync::mpsc::error::TryRecvError::Empty) => return,
            Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => {
                *subscription = subscribe();
                return;
            }
        }
    }
}

fn place(config: &Config, nodes: &Lister<Node>) -> Place {
    let node = nodes.get("", &config.node_name);
    let labels = node.as_ref().and_then(|n| n.metadata.labels.as_ref());
    let zone = labels.and_then(|l| l.get(ZONE_LABEL)).cloned();
    Place {
        node: config.node_name.clone(),
        zone: zone.unwrap_or_default(),
    }
}

/// Plans and programs all families. Blocking.
fn sync(job: &Job, programmed: &mut Programmed) -> Result<(), Error> {
    let config = &job.config;
    let addresses = Socket::open(Subsystem::Route)?.addresses()?;
    let around = Surroundings {
        place: job.place.clone(),
        pod_cidrs: config.cluster_cidrs.clone(),
        service_cidrs: config.service_cidrs.clone(),
        node_local_ips: config
            .node_local_ips
            .iter()
            .copied()
            .collect::<BTreeSet<_>>(),
        node_ips: addresses
            .into_iter()
            .map(|a| a.ip)
            .filter(|ip| !ip.is_loopback())
            .collect(),
        masquerade_all: config.masquerade_all,
    };
    sync_family(Ip::V4, job, &around, &mut programmed.v4)?;
    if config.ipv6 {
        sync_family(Ip::V6, job, &around, &mut programmed.v6)?;
    }
    Ok(())
}

fn sync_family(
    ip: Ip,
    job: &Job,
    around: &Surroundings,
    programmed: &mut Option<Plan>,
) -> Result<(), Error> {
    let plan = plan::plan(ip, &job.services, &job.slices, around);
    if let Some(before) = programmed.as_ref()
        && job.verify
        && !is_present(ip, before)?
    {
        tracing::warn!("service rules were removed by another program and are made anew");
        *programmed = None;
    }
    let batch = match programmed.as_ref() {
        Some(before) => plan.model.plan_update(&before.model, plan::table(ip)),
        None => plan.model.plan_replace(plan::table(ip)),
    };
    let udp_changed = programmed.as_ref().is_none_or(|p| p.udp != plan.udp);
    // Until it is known to be in force, nothing is.
    *programmed = None;
    batch.commit()?;
    if udp_changed && !(plan.udp.by_address.is_empty() && plan.udp.by_node_port.is_empty()) {
        let count = conntrack::forget_stale(ip, &plan.udp)?;
        if count > 0 {
            tracing::info!(count, "stale UDP flows forgotten");
        }
    }
    *programmed = Some(plan);
    Ok(())
}

/// Whether the kernel has all chains of a plan.
fn is_present(ip: Ip, plan: &Plan) -> Result<bool, Error> {
    let mut socket = Socket::open(Subsystem::Netfilter)?;
    let chains = linux::nftables::chains(&mut socket, &plan::table(ip))?;
    let names: BTreeSet<_> = chains.iter().map(|c| c.name.as_str()).collect();
    Ok(plan.model.chains.keys().all(|c| names.contains(c.as_str())))
}
