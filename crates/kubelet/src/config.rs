//! What a kubelet must know. Upstream: KubeletConfiguration and flags.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use api::core::v1::Taint;

use crate::limits;
use crate::static_pods::StaticPods;

/// Hard eviction thresholds: how much must stay free.
#[derive(Clone, Debug)]
pub struct Eviction {
    /// Bytes.
    pub memory_available: u64,
    pub nodefs_percent: u64,
    pub inodes_percent: u64,
    pub imagefs_percent: u64,
}

impl Default for Eviction {
    fn default() -> Self {
        Self {
            memory_available: limits::EVICTION_MEMORY,
            nodefs_percent: limits::EVICTION_NODEFS_PERCENT,
            inodes_percent: limits::EVICTION_INODES_PERCENT,
            imagefs_percent: limits::EVICTION_IMAGEFS_PERCENT,
        }
    }
}

/// Settings of one node.
#[derive(Clone)]
pub struct Config {
    pub node_name: String,
    /// The node's addresses, primary first; one per family.
    pub node_ips: Vec<IpAddr>,
    /// `<data-dir>/kubelet`.
    pub root_dir: PathBuf,
    /// `/var/log/pods` unless told otherwise.
    pub pod_log_dir: PathBuf,
    /// `/var/log/containers` unless told otherwise: links to the log files.
    pub container_log_dir: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// 110 is upstream's default.
    pub max_pods: u32,
    /// Where the HTTPS server listens; 0 takes any free port, `None` serves nothing.
    pub port: Option<u16>,
    /// Certificate of the HTTPS server, with the client CA.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Labels of the node beyond the kubelet's own.
    pub labels: BTreeMap<String, String>,
    /// Taints a new node is registered with.
    pub taints: Vec<Taint>,
    /// Most processes of one pod; 0 is no limit.
    pub pod_pids_limit: i64,
    /// `/etc/resolv.conf` unless told otherwise.
    pub resolv_conf: PathBuf,
    /// Amounts kept from pods (systemReserved + kubeReserved) by resource name.
    pub reserved: BTreeMap<String, String>,
    /// `None` never evicts and reports no pressure.
    pub eviction: Option<Eviction>,
    /// Fill of the image filesystem in percent from which unused images are removed; 100 is never.
    pub image_gc_high: u8,
    /// Fill down to which they are removed.
    pub image_gc_low: u8,
    /// Pods that files describe; `None`: there are none.
    pub static_pods: Option<StaticPods>,
    /// `v1.37.0`: what the node says it runs.
    pub version: String,
}

// === Config ===

impl Config {
    /// Upstream's defaults around a name, an address and a folder.
    pub fn new(node_name: &str, node_ip: IpAddr, root_dir: impl Into<PathBuf>) -> Self {
        Self {
            node_name: node_name.into(),
            node_ips: vec![node_ip],
            root_dir: root_dir.into(),
            pod_log_dir: "/var/log/pods".into(),
            container_log_dir: "/var/log/containers".into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            max_pods: 110,
            port: Some(10_250),
            tls: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            pod_pids_limit: 0,
            resolv_conf: "/etc/resolv.conf".into(),
            reserved: BTreeMap::new(),
            eviction: Some(Eviction::default()),
            image_gc_high: 85,
            image_gc_low: 80,
            static_pods: None,
            version: "v1.37.0".into(),
        }
    }
}
