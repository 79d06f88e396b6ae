//! Service ports as the proxy sees them: one per (namespace, Service, port name, protocol) and family.
//! Upstream: pkg/proxy/servicechangetracker.go and serviceport.go.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::core::v1::Service;

use crate::bridge::portmap::protocol_number;
use crate::cidr::Cidr;
use crate::rules::Ip;

/// Services that another proxy serves carry this label.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
const AFFINITY_SECONDS_DEFAULT: i32 = 10_800;

/// What tells one Service port from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    pub namespace: String,
    pub service: String,
    pub port: String,
    /// IP protocol number.
    pub protocol: u8,
}

/// Which endpoints a traffic policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficPolicy {
    Cluster,
    Local,
}

/// One Service port of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub key: PortKey,
    pub cluster_ip: IpAddr,
    pub port: u16,
    /// 0 for none.
    pub node_port: u16,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    /// Empty: no restriction.
    pub source_ranges: Vec<Cidr>,
    /// Seconds for which a client stays with its endpoint; `None` without affinity.
    pub affinity_seconds: Option<u32>,
    pub internal: TrafficPolicy,
    pub external: TrafficPolicy,
}

// === PortKey ===

impl PortKey {
    /// `namespace/service/protocol/port`, as chain names and comments show it.
    pub fn path(&self) -> String {
        let Self {
            namespace,
            service,
            port,
            ..
        } = self;
        format!("{namespace}/{service}/{}/{port}", self.protocol_name())
    }

    fn protocol_name(&self) -> &'static str {
        match self.protocol {
            17 => "udp",
            132 => "sctp",
            _ => "tcp",
        }
    }
}

// === ServicePort ===

impl ServicePort {
    /// Whether it can be reached from outside the cluster.
    pub fn is_external(&self) -> bool {
        self.node_port != 0 || !self.load_balancer_ips.is_empty() || !self.external_ips.is_empty()
    }

    /// Whether any traffic may use endpoints of all nodes.
    pub fn uses_cluster(&self) -> bool {
        self.internal == TrafficPolicy::Cluster || self.is_external()
    }

    /// Whether any traffic is kept on this node.
    pub fn uses_local(&self) -> bool {
        self.internal == TrafficPolicy::Local
            || (self.external == TrafficPolicy::Local && self.is_external())
    }
}

/// The ports of a Service in a family; none where it is not the proxy's.
pub(crate) fn ports_of(service: &Service, ip: Ip, skip: &BTreeSet<IpAddr>) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let labels = service.metadata.labels.as_ref();
    let foreign = labels.is_some_and(|l| l.contains_key(PROXY_NAME_LABEL));
    if foreign || spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let Some(cluster_ip) = cluster_ip(service, ip) else {
        return Vec::new();
    };
    if skip.contains(&cluster_ip) {
        return Vec::new();
    }
    let policy = |text: &Option<String>| match text.as_deref() {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    };
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref();
        let client = config.and_then(|c| c.client_ip.as_ref());
        let seconds = client.and_then(|c| c.timeout_seconds);
        u32::try_from(seconds.unwrap_or(AFFINITY_SECONDS_DEFAULT)).unwrap_or(1)
    });
    let template = ServicePort {
        key: PortKey {
            namespace: service.metadata.namespace.clone().unwrap_or_default(),
            service: service.metadata.name.clone().unwrap_or_default(),
            port: String::new(),
            protocol: 6,
        },
        cluster_ip,
        port: 0,
        node_port: 0,
        external_ips: family_ips(spec.external_ips.iter().flatten(), ip),
        load_balancer_ips: load_balancer_ips(service, ip),
        source_ranges: source_ranges(spec.load_balancer_source_ranges.iter().flatten(), ip),
        affinity_seconds: affinity,
        internal: policy(&spec.internal_traffic_policy),
        external: policy(&spec.external_traffic_policy),
    };
    let ports = spec.ports.iter().flatten().filter_map(|p| {
        let mut port = template.clone();
        port.key.port = p.name.clone().unwrap_or_default();
        port.key.protocol = parse_protocol(p.protocol.as_deref())?;
        port.port = u16::try_from(p.port).ok()?;
        port.node_port = u16::try_from(p.node_port.unwrap_or(0)).ok()?;
        Some(port)
    });
    ports.collect()
}

/// An IP protocol number of upstream's name; `None` for unknown ones.
pub(crate) fn parse_protocol(name: Option<&str>) -> Option<u8> {
    match name {
        None | Some("TCP") => Some(protocol_number(cri::Protocol::Tcp)),
        Some("UDP") => Some(protocol_number(cri::Protocol::Udp)),
        Some("SCTP") => Some(protocol_number(cri::Protocol::Sctp)),
        Some(_) => None,
    }
}

/// The cluster IP of a family; `None` for headless Services and other families.
fn cluster_ip(service: &Service, ip: Ip) -> Option<IpAddr> {
    let spec = service.spec.as_ref()?;
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    family_ips(all, ip).first().copied()
}

fn family_ips<'a>(texts: impl Iterator<Item = &'a String>, ip: Ip) -> Vec<IpAddr> {
    let parsed = texts.filter_map(|t| t.parse::<IpAddr>().ok());
    parsed.filter(|a| a.is_ipv6() == ip.is_v6()).collect()
}

fn load_balancer_ips(service: &Service, ip: Ip) -> Vec<IpAddr> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer.iter().flat_map(|b| b.ingress.iter().flatten());
    let vips = ingress.filter(|i| i.ip_mode.as_deref().is_none_or(|m| m == "VIP"));
    family_ips(vips.filter_map(|i| i.ip.as_ref()), ip)
}

fn source_ranges<'a>(texts: impl Iterator<Item = &'a String>, ip: Ip) -> Vec<Cidr> {
    let parsed = texts.filter_map(|t| t.trim().parse::<Cidr>().ok());
    let mine: Vec<_> = parsed.filter(|c| c.is_ipv6() == ip.is_v6()).collect();
    // A range of everything is no restriction.
    if mine.iter().any(|c| c.prefix() == 0) {
        return Vec::new();
    }
    mine
}
