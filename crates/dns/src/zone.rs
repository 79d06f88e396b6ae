//! Names of the cluster → records, straight from the shared caches. Kubernetes DNS-Based Service
//! Discovery 1.1.0, with CoreDNS's answers where the specification is silent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use api::core::v1::{Namespace, Service};
use api::discovery::v1::{Endpoint, EndpointSlice};
use client::Lister;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::index::{Index, Owner, cluster_ips};
use crate::limits;

const SPECIFICATION: &str = "1.1.0";
const VERSION_TTL: u32 = 28_800;

/// What a name of the cluster is.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub answers: Vec<Record>,
    pub additionals: Vec<Record>,
    /// Neither the name nor anything below it exists.
    pub absent: bool,
    /// The name is an alias of this name outside of what `answers` says.
    pub alias: Option<Name>,
}

/// The zones of the cluster.
pub(crate) struct Zone {
    pub services: Lister<Service>,
    pub slices: Lister<EndpointSlice>,
    pub namespaces: Lister<Namespace>,
    pub index: Arc<Index>,
    /// Labels of the cluster domain, lower case.
    pub domain: Vec<String>,
    pub ttl: u32,
    pub serial: u32,
    /// Addresses of this server, the zone's name server.
    pub own: Vec<IpAddr>,
}

/// An endpoint that answers, with its name under its Service.
struct Host {
    label: String,
    ips: Vec<IpAddr>,
    /// Name, protocol (`tcp`) and number of its ports.
    ports: Vec<(String, String, u16)>,
}

/// A look-up in progress.
struct Ask<'a> {
    name: &'a Name,
    kind: RecordType,
}

// === Found ===

impl Found {
    fn absent() -> Self {
        Self {
            absent: true,
            ..Self::default()
        }
    }

    fn of(answers: Vec<Record>) -> Self {
        Self {
            answers,
            ..Self::default()
        }
    }
}

// === Zone ===

impl Zone {
    /// The labels of a name below the cluster domain, lower case, first one first; `None` where the
    /// name is not in it.
    pub(crate) fn relative(&self, name: &Name) -> Option<Vec<String>> {
        let mut labels: Vec<String> = name
            .iter()
            .map(|l| String::from_utf8_lossy(l).to_ascii_lowercase())
            .collect();
        let above = labels.len().checked_sub(self.domain.len())?;
        if labels[above..] != self.domain[..] {
            return None;
        }
        labels.truncate(above);
        Some(labels)
    }

    /// Answers a name of the cluster domain.
    pub(crate) fn look_up(&self, name: &Name, kind: RecordType, labels: &[String]) -> Found {
        let ask = Ask { name, kind };
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match labels.as_slice() {
            [] => self.apex(&ask),
            ["dns-version"] => match kind {
                RecordType::TXT | RecordType::ANY => {
                    let text = RData::TXT(TXT::new(vec![SPECIFICATION.into()]));
                    Found::of(vec![Record::from_rdata(name.clone(), VERSION_TTL, text)])
                }
                _ => Found::default(),
            },
            ["ns", "dns"] => Found::of(self.addresses(&ask, &self.own)),
            ["dns"] | ["svc"] | ["pod"] => Found::default(),
            [namespace, "svc" | "pod"] => self.namespace(namespace),
            [address, namespace, "pod"] => self.pod(&ask, address, namespace),
            [service, namespace, "svc"] => self.service(&ask, namespace, service),
            [host, service, namespace, "svc"] => self.host(&ask, namespace, service, host),
            [port, protocol, service, namespace, "svc"] => {
                self.port(&ask, namespace, service, port, protocol)
            }
            _ => Found::absent(),
        }
    }

    /// Answers a PTR query; `None` where no Service or endpoint of the cluster has the address.
    pub(crate) fn reverse(&self, name: &Name, ip: IpAddr) -> Option<Vec<Record>> {
        let mut names = Vec::new();
        for owner in self.index.owners(ip) {
            match owner {
                Owner::Service((namespace, service)) => {
                    // A cluster IP is one Service's alone.
                    let target = self.name(&[&service, &namespace, "svc"])?;
                    return Some(vec![self.record(name, RData::PTR(PTR(target)))]);
                }
                Owner::Slice((namespace, slice)) => {
                    names.extend(self.endpoint_names(&namespace, &slice, ip));
                }
            }
        }
        names.sort();
        names.dedup();
        let records: Vec<_> = names
            .into_iter()
            .map(|target| self.record(name, RData::PTR(PTR(target))))
            .collect();
        (!records.is_empty()).then_some(records)
    }

    /// The zone's SOA, which goes with every negative answer.
    pub(crate) fn soa(&self) -> Option<Record> {
        let zone = self.name(&[])?;
        let (server, mail) = (self.name(&["ns", "dns"])?, self.name(&["hostmaster"])?);
        let soa = SOA::new(server, mail, self.serial, 7200, 1800, 86_400, self.ttl);
        Some(Record::from_rdata(zone, self.ttl.min(300), RData::SOA(soa)))
    }

    fn apex(&self, ask: &Ask<'_>) -> Found {
        let server = self.name(&["ns", "dns"]);
        match (ask.kind, server) {
            (RecordType::SOA, _) => Found::of(self.soa().into_iter().collect()),
            (RecordType::NS, Some(server)) => Found {
                answers: vec![self.record(ask.name, RData::NS(NS(server.clone())))],
                additionals: self.glue(&server, &self.own),
                ..Found::default()
            },
            _ => Found::default(),
        }
    }

    fn namespace(&self, namespace: &str) -> Found {
        if self.namespaces.cache().get("", namespace).is_some() {
            return Found::default();
        }
        Found::absent()
    }

    /// `1-2-3-4.<namespace>.pod`, CoreDNS's mode `insecure`.
    fn pod(&self, ask: &Ask<'_>, address: &str, namespace: &str) -> Found {
        let v4 = address
            .replace('-', ".")
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4);
        let v6 = || {
            address
                .replace('-', ":")
                .parse::<Ipv6Addr>()
                .map(IpAddr::V6)
        };
        let ip = v4.or_else(|_| v6());
        match (ip, self.namespaces.cache().get("", namespace)) {
            (Ok(ip), Some(_)) => Found::of(self.addresses(ask, &[ip])),
            _ => Found::absent(),
        }
    }

    fn service(&self, ask: &Ask<'_>, namespace: &str, name: &str) -> Found {
        let Some(service) = self.services.get(namespace, name) else {
            return Found::absent();
        };
        if let Some(target) = external_name(&service) {
            return self.alias(ask, &target);
        }
        let ips = cluster_ips(&service);
        if !ips.is_empty() {
            if ask.kind != RecordType::SRV {
                return Found::of(self.addresses(ask, &ips));
            }
            let ports = ports(&service);
            return self.service_records(ask, namespace, name, &ips, ports);
        }
        let hosts = self.hosts(namespace, name);
        if hosts.is_empty() {
            return Found::absent();
        }
        if ask.kind == RecordType::SRV {
            return self.host_records(ask, namespace, name, &hosts, |_, _| true);
        }
        let ips: Vec<_> = hosts.iter().flat_map(|h| h.ips.iter().copied()).collect();
        Found::of(self.addresses(ask, &ips))
    }

    fn host(&self, ask: &Ask<'_>, namespace: &str, service: &str, host: &str) -> Found {
        if self
            .services
            .get(namespace, service)
            .is_none_or(|s| external_name(&s).is_some())
        {
            return Found::absent();
        }
        let mut hosts = self.hosts(namespace, service);
        hosts.retain(|h| h.label == host);
        if hosts.is_empty() {
            return Found::absent();
        }
        if ask.kind == RecordType::SRV {
            return self.host_records(ask, namespace, service, &hosts, |_, _| true);
        }
        let ips: Vec<_> = hosts.iter().flat_map(|h| h.ips.iter().copied()).collect();
        Found::of(self.addresses(ask, &ips))
    }

    fn port(
        &self,
        ask: &Ask<'_>,
        namespace: &str,
        service: &str,
        port: &str,
        protocol: &str,
    ) -> Found {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_'))
        else {
            return Found::absent();
        };
        let Some(object) = self.services.get(namespace, service) else {
            return Found::absent();
        };
        if external_name(&object).is_some() {
            return Found::absent();
        }
        let wanted = |name: &str, proto: &str| name == port && proto == protocol;
        let ips = cluster_ips(&object);
        if ips.is_empty() {
            let mut hosts = self.hosts(namespace, service);
            hosts.retain(|h| h.ports.iter().any(|(n, p, _)| wanted(n, p)));
            if hosts.is_empty() {
                return Found::absent();
            }
            if ask.kind == RecordType::SRV {
                return self.host_records(ask, namespace, service, &hosts, wanted);
            }
            let ips: Vec<_> = hosts.iter().flat_map(|h| h.ips.iter().copied()).collect();
            return Found::of(self.addresses(ask, &ips));
        }
        let mut ports = ports(&object);
        ports.retain(|(n, p, _)| wanted(n, p));
        if ports.is_empty() {
            return Found::absent();
        }
        if ask.kind == RecordType::SRV {
            return self.service_records(ask, namespace, service, &ips, ports);
        }
        Found::of(self.addresses(ask, &ips))
    }

    fn alias(&self, ask: &Ask<'_>, target: &str) -> Found {
        // An address is no name that an alias could have.
        if target.parse::<IpAddr>().is_ok() {
            return Found::default();
        }
        let Some(target) = parse_name(target) else {
            return Found::default();
        };
        let answers = vec![self.record(ask.name, RData::CNAME(CNAME(target.clone())))];
        match ask.kind {
            RecordType::CNAME => Found::of(answers),
            RecordType::A | RecordType::AAAA => Found {
                answers,
                alias: Some(target),
                ..Found::default()
            },
            _ => Found::default(),
        }
    }

    /// SRV records of a Service with a cluster IP.
    fn service_records(
        &self,
        ask: &Ask<'_>,
        namespace: &str,
        service: &str,
        ips: &[IpAddr],
        ports: Vec<(String, String, u16)>,
    ) -> Found {
        let Some(target) = self.name(&[service, namespace, "svc"]) else {
            return Found::default();
        };
        let weight = weight(ports.len());
        let answers = ports.iter().map(|(_, _, port)| {
            let srv = SRV::new(0, weight, *port, target.clone());
            self.record(ask.name, RData::SRV(srv))
        });
        Found {
            answers: answers.collect(),
            additionals: self.glue(&target, ips),
            ..Found::default()
        }
    }

    /// SRV records of endpoints, for the ports (name, protocol) that are wanted.
    fn host_records(
        &self,
        ask: &Ask<'_>,
        namespace: &str,
        service: &str,
        hosts: &[Host],
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Found {
        let weight = weight(hosts.len());
        let mut found = Found::default();
        for host in hosts.iter().take(limits::ANSWERS_MAX) {
            let Some(target) = self.name(&[&host.label, service, namespace, "svc"]) else {
                continue;
            };
            let ports = host.ports.iter().filter(|(n, p, _)| wanted(n, p));
            for (_, _, port) in ports {
                let srv = SRV::new(0, weight, *port, target.clone());
                found.answers.push(self.record(ask.name, RData::SRV(srv)));
            }
            found.additionals.extend(self.glue(&target, &host.ips));
        }
        found
    }

    /// The ready endpoints of a Service.
    fn hosts(&self, namespace: &str, service: &str) -> Vec<Host> {
        let mut hosts: Vec<Host> = Vec::new();
        for name in self.index.slices(namespace, service) {
            let Some(slice) = self.slices.get(namespace, &name) else {
                continue;
            };
            let ports: Vec<_> = slice
                .ports
                .iter()
                .flatten()
                .filter_map(|p| {
                    let number = u16::try_from(p.port?).ok()?;
                    let protocol = p.protocol.as_deref().unwrap_or("TCP");
                    let name = p.name.clone().unwrap_or_default();
                    Some((name, protocol.to_ascii_lowercase(), number))
                })
                .collect();
            for endpoint in slice.endpoints.iter().flatten().filter(|e| is_ready(e)) {
                let ips: Vec<IpAddr> = addresses_of(endpoint);
                let Some(first) = ips.first() else { continue };
                let label = host_label(endpoint, *first);
                // The same endpoint may be in two slices while they are rearranged.
                if hosts
                    .iter()
                    .any(|h| h.ips == ips && h.label == label && h.ports == ports)
                {
                    continue;
                }
                hosts.push(Host {
                    label,
                    ips,
                    ports: ports.clone(),
                });
            }
        }
        hosts
    }

    /// Names of the ready endpoints of a slice that have an address.
    fn endpoint_names(&self, namespace: &str, slice: &str, ip: IpAddr) -> Vec<Name> {
        let Some(slice) = self.slices.get(namespace, slice) else {
            return Vec::new();
        };
        let labels = slice.metadata.labels.as_ref();
        let Some(service) = labels.and_then(|l| l.get("kubernetes.io/service-name")) else {
            return Vec::new();
        };
        let endpoints = slice.endpoints.iter().flatten().filter(|e| is_ready(e));
        let having = endpoints.filter(|e| addresses_of(e).contains(&ip));
        having
            .filter_map(|e| self.name(&[&host_label(e, ip), service, namespace, "svc"]))
            .collect()
    }

    /// A and AAAA records of the kind asked for.
    fn addresses(&self, ask: &Ask<'_>, ips: &[IpAddr]) -> Vec<Record> {
        let wanted = |ip: &&IpAddr| match ask.kind {
            RecordType::A => ip.is_ipv4(),
            RecordType::AAAA => ip.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        };
        let mut seen = std::collections::BTreeSet::new();
        let chosen = ips.iter().filter(wanted).filter(|ip| seen.insert(**ip));
        chosen
            .take(limits::ANSWERS_MAX)
            .map(|ip| self.record(ask.name, address(*ip)))
            .collect()
    }

    fn glue(&self, name: &Name, ips: &[IpAddr]) -> Vec<Record> {
        ips.iter()
            .map(|ip| self.record(name, address(*ip)))
            .collect()
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }

    /// A name below the cluster domain; `None` where labels are too long.
    fn name(&self, labels: &[&str]) -> Option<Name> {
        let domain = self.domain.iter().map(String::as_str);
        let all = labels.iter().copied().chain(domain);
        let mut name = Name::from_labels(all.map(str::as_bytes)).ok()?;
        name.set_fqdn(true);
        Some(name)
    }
}

/// The address that a reverse name stands for; `None` for other names and for whole networks.
pub(crate) fn reverse_address(name: &Name) -> Option<IpAddr> {
    let labels: Vec<String> = name
        .iter()
        .map(|l| String::from_utf8_lossy(l).to_ascii_lowercase())
        .collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [octets @ .., "in-addr", "arpa"] if octets.len() == 4 => {
            let mut bytes = [0u8; 4];
            for (byte, text) in bytes.iter_mut().zip(octets.iter().rev()) {
                *byte = text.parse().ok()?;
            }
            Some(IpAddr::from(bytes))
        }
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let mut value = 0u128;
            for nibble in nibbles.iter().rev() {
                if nibble.len() != 1 {
                    return None;
                }
                value = (value << 4) | u128::from_str_radix(nibble, 16).ok()?;
            }
            Some(IpAddr::from(Ipv6Addr::from(value)))
        }
        _ => None,
    }
}

fn parse_name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// CoreDNS: all records of an answer share 100.
fn weight(records: usize) -> u16 {
    u16::try_from(100 / records.max(1)).unwrap_or(1).max(1)
}

fn external_name(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    (spec.type_.as_deref() == Some("ExternalName")).then(|| spec.external_name.clone())?
}

/// Name, protocol (`tcp`) and number of a Service's ports.
fn ports(service: &Service) -> Vec<(String, String, u16)> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let number = u16::try_from(p.port).ok()?;
            let protocol = p.protocol.as_deref().unwrap_or("TCP");
            let name = p.name.clone().unwrap_or_default();
            Some((name, protocol.to_ascii_lowercase(), number))
        })
        .collect()
}

fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|c| c.ready).unwrap_or(true)
}

fn addresses_of(endpoint: &Endpoint) -> Vec<IpAddr> {
    let texts = endpoint.addresses.iter();
    texts.filter_map(|a| a.parse().ok()).collect()
}

/// The endpoint's hostname, or its address with dashes.
fn host_label(endpoint: &Endpoint, ip: IpAddr) -> String {
    if let Some(name) = endpoint.hostname.as_ref().filter(|h| !h.is_empty()) {
        return name.to_ascii_lowercase();
    }
    match ip {
        IpAddr::V4(ip) => ip.to_string().replace('.', "-"),
        IpAddr::V6(ip) => {
            let dashed = ip.to_string().replace(':', "-");
            // A label must not end with a dash.
            if dashed.ends_with('-') {
                dashed + "0"
            } else {
                dashed
            }
        }
    }
}
