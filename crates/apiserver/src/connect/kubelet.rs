//! Connectors that lead to kubelets and, through the cluster network, to pods.
//! Upstream: pkg/kubelet/client, pkg/registry/core/{pod,node,service}.

use std::collections::HashMap;
use std::sync::Arc;

use client::Reads;
use machinery::ApiError;
use machinery::object::{i64_at, list_at, str_at};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::proxy::{Backend, Secure};
use super::{Connector, exec, log, node_proxy, pod, pod_proxy, port_forward, service_proxy, tls};
use crate::server::Target;
use crate::transport::TlsError;

/// Port of a kubelet that does not say its own.
const DEFAULT_PORT: i64 = 10_250;
/// Kinds of node addresses that are tried, best first. Host names are not resolved here.
const ADDRESSES: &[&str] = &["InternalIP", "ExternalIP"];

type Make = fn(KubeletClient) -> Arc<dyn Connector>;

/// Group, resource, subresource, and what serves it.
const CONNECTORS: &[(&str, &str, &str, Make)] = &[
    ("", "pods", "log", log::new),
    ("", "pods", "exec", exec::exec),
    ("", "pods", "attach", exec::attach),
    ("", "pods", "portforward", port_forward::new),
    ("", "pods", "proxy", pod_proxy::new),
    ("", "nodes", "proxy", node_proxy::new),
    ("", "services", "proxy", service_proxy::new),
];

/// How this server reaches kubelets and pods. Cheap to clone.
#[derive(Clone)]
pub struct KubeletClient {
    pub(super) reads: Arc<dyn Reads>,
    verified: Arc<ClientConfig>,
    unverified: Arc<ClientConfig>,
    pub(super) pods: Arc<ClientConfig>,
}

/// All connectors, for `Plugins::connectors`.
pub fn all(client: KubeletClient) -> HashMap<Target, Arc<dyn Connector>> {
    let one = |(group, resource, sub, make): &(&str, &str, &str, Make)| {
        let target = (
            (*group).to_string(),
            (*resource).to_string(),
            (*sub).to_string(),
        );
        (target, make(client.clone()))
    };
    CONNECTORS.iter().map(one).collect()
}

// === KubeletClient ===

impl KubeletClient {
    /// `chain` and `key` are the identity shown to kubelets (`apiserver-kubelet-client`), `cas`
    /// vouch for kubelets, whose certificates must hold the node's name.
    pub fn new(
        reads: Arc<dyn Reads>,
        cas: Vec<CertificateDer<'static>>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            reads,
            unverified: tls::unverified(Some((chain.clone(), key.clone_key())))?,
            verified: tls::verified(cas, chain, key)?,
            pods: tls::unverified(None)?,
        })
    }

    /// The kubelet of a node.
    pub(super) fn kubelet(&self, node: &str, verify: bool) -> Result<Backend, ApiError> {
        let object = pod::find(&*self.reads, "nodes", "", node)?;
        let host = address(&object)?;
        let port = kubelet_port(&object);
        let config = if verify {
            &self.verified
        } else {
            &self.unverified
        };
        let secure = Secure {
            config: config.clone(),
            name: node.to_string(),
        };
        Ok(Backend {
            host,
            port,
            secure: Some(secure),
        })
    }
}

/// The port a node's kubelet listens on.
pub(super) fn kubelet_port(node: &Value) -> u16 {
    let path = "status.daemonEndpoints.kubeletEndpoint.Port";
    let port = i64_at(node, path).filter(|p| *p > 0);
    u16::try_from(port.unwrap_or(DEFAULT_PORT)).unwrap_or(DEFAULT_PORT as u16)
}

/// The address a node is reached at.
pub(super) fn address(node: &Value) -> Result<String, ApiError> {
    let known = list_at(node, "status.addresses");
    let of = |kind: &&str| {
        let mut found = known.iter().filter(|a| str_at(a, "type") == *kind);
        found.find_map(|a| Some(str_at(a, "address")).filter(|a| !a.is_empty()))
    };
    ADDRESSES
        .iter()
        .find_map(of)
        .map(str::to_string)
        .ok_or_else(|| {
            let list: Vec<String> = known
                .iter()
                .map(|a| format!("{{{} {}}}", str_at(a, "type"), str_at(a, "address")))
                .collect();
            ApiError::new(
                500,
                "",
                format!(
                    "no preferred addresses found; known addresses: [{}]",
                    list.join(" ")
                ),
            )
        })
}
