//! What the pod network is asked for and gives. CNI 1.1.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::sandbox::PortMapping;

/// One pod to attach or detach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetworkRequest {
    pub sandbox_id: String,
    /// Path of the bind-mounted network namespace.
    pub netns_path: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub port_mappings: Vec<PortMapping>,
    /// Bits per second from `kubernetes.io/ingress-bandwidth` and `egress-bandwidth`.
    pub ingress_bandwidth: Option<u64>,
    pub egress_bandwidth: Option<u64>,
}

/// What the pod got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetworkResult {
    /// Name of the pod's interface.
    pub interface: String,
    pub mac: String,
    /// Primary first.
    pub ips: Vec<IpAddr>,
    pub gateway: Option<IpAddr>,
}
