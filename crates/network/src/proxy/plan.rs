//! Services and endpoints → the table of a family. Pure. The layout and names follow upstream's
//! nftables proxier (pkg/proxy/nftables), whose behaviour this keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use linux::nftables::{
    AnonymousSet, ChainType, Data, DataType, Element, Expr, Hook, Key, MetaKey, Rule, Set, SetKind,
    Table, Verdict, register,
};

use super::endpoint::{self, Chosen, Endpoint, Place};
use super::model::Model;
use super::service::{self, ServicePort, TrafficPolicy};
use crate::cidr::{Cidr, octets};
use crate::limits;
use crate::rules::{
    Ip, all, and, base, destination_local, destination_port, differs, equals, goto, in_ranges,
    jump, masquerade, member, protocol, source_local, state_new, verdict_map,
};

/// Name of the tables.
pub const TABLE: &str = "kube-proxy";
/// Upstream's default masquerade bit, 14.
const MASQUERADE_MARK: u32 = 0x4000;

const SERVICE_IPS: &str = "service-ips";
const NODEPORTS: &str = "service-nodeports";
const NO_ENDPOINT_IPS: &str = "no-endpoint-services";
const NO_ENDPOINT_NODEPORTS: &str = "no-endpoint-nodeports";
const FIREWALL_IPS: &str = "firewall-ips";
const CLUSTER_IPS: &str = "cluster-ips";
const HAIRPIN: &str = "hairpin-connections";

/// What the proxy needs to know of cluster and node besides Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    pub place: Place,
    /// Addresses of pods: traffic from elsewhere to a cluster IP is masqueraded.
    pub pod_cidrs: Vec<Cidr>,
    /// Addresses of Services: those not in use are dropped.
    pub service_cidrs: Vec<Cidr>,
    /// Cluster IPs that the node itself answers on.
    pub node_local_ips: BTreeSet<IpAddr>,
    /// The node's own addresses, for loadBalancerSourceRanges that include the node.
    pub node_ips: Vec<IpAddr>,
    /// Masquerade all traffic to cluster IPs.
    pub masquerade_all: bool,
}

/// Endpoints of UDP ports by where clients send to, for conntrack cleanup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpTargets {
    pub by_address: BTreeMap<(IpAddr, u16), BTreeSet<(IpAddr, u16)>>,
    pub by_node_port: BTreeMap<u16, BTreeSet<(IpAddr, u16)>>,
}

/// The plan of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub model: Model,
    pub udp: UdpTargets,
}

/// One Service port with its endpoints and the names of its chains.
struct Entry<'a> {
    port: &'a ServicePort,
    chosen: Chosen,
    cluster_chain: String,
    local_chain: String,
    external_chain: String,
}

struct Planner<'a> {
    ip: Ip,
    around: &'a Surroundings,
    pod_cidrs: Vec<Cidr>,
    plan: Plan,
}

/// The table's address.
pub(crate) fn table(ip: Ip) -> Table {
    Table::new(ip.family(), TABLE)
}

/// Plans a family's table.
pub(crate) fn plan(
    ip: Ip,
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    around: &Surroundings,
) -> Plan {
    let mine = |cidrs: &[Cidr]| -> Vec<Cidr> {
        let of = cidrs.iter().filter(|c| c.is_ipv6() == ip.is_v6());
        of.copied().collect()
    };
    let mut planner = Planner {
        ip,
        around,
        pod_cidrs: mine(&around.pod_cidrs),
        plan: Plan::default(),
    };
    planner.frame(&mine(&around.service_cidrs));
    let endpoints = endpoint::collect(slices, ip, &around.place);
    let skip = &around.node_local_ips;
    for service in services {
        for port in service::ports_of(service, ip, skip) {
            let of_port = endpoints.get(&port.key).map_or(&[][..], Vec::as_slice);
            let chosen = endpoint::choose(&port, of_port, &around.place);
            let name = |prefix| chain_name(prefix, &port.key.path(), "");
            let entry = Entry {
                cluster_chain: name("service-"),
                local_chain: name("local-"),
                external_chain: name("external-"),
                chosen,
                port: &port,
            };
            planner.entry(&entry);
        }
    }
    planner.plan
}

// === Planner: what does not depend on Services ===

impl Planner<'_> {
    fn frame(&mut self, service_cidrs: &[Cidr]) {
        self.sets();
        let m = &mut self.plan.model;
        let (filter, nat) = (ChainType::Filter, ChainType::Nat);
        for (name, hook, priority) in [
            ("filter-prerouting-pre-dnat", Hook::Prerouting, -110),
            ("filter-output-pre-dnat", Hook::Output, -110),
        ] {
            m.chain(name, Some(base(filter, hook, priority)));
            m.rule(
                name,
                Rule::new(all([state_new(), vec![jump("firewall-check")]])),
            );
        }
        for (name, hook, jumps) in [
            (
                "filter-input",
                Hook::Input,
                &["nodeport-endpoints-check", "service-endpoints-check"],
            ),
            (
                "filter-forward",
                Hook::Forward,
                &["service-endpoints-check", "cluster-ips-check"],
            ),
            (
                "filter-output",
                Hook::Output,
                &["service-endpoints-check", "cluster-ips-check"],
            ),
        ] {
            m.chain(name, Some(base(filter, hook, 0)));
            for to in jumps {
                m.rule(name, Rule::new(all([state_new(), vec![jump(to)]])));
            }
        }
        for (name, hook, priority, to) in [
            ("nat-prerouting", Hook::Prerouting, -100, "services"),
            ("nat-output", Hook::Output, -100, "services"),
            ("nat-postrouting", Hook::Postrouting, 100, "masquerading"),
        ] {
            m.chain(name, Some(base(nat, hook, priority)));
            m.rule(name, Rule::new(vec![jump(to)]));
        }
        m.rule(
            "mark-for-masquerade",
            Rule::new(vec![
                mark(0),
                Expr::Bitwise {
                    source: register::data(0),
                    target: register::data(0),
                    mask: (!MASQUERADE_MARK).to_ne_bytes().to_vec(),
                    xor: MASQUERADE_MARK.to_ne_bytes().to_vec(),
                },
                set_mark(),
            ]),
        );
        m.rule("reject-chain", Rule::new(vec![self.ip.reject()]));
        self.checks(service_cidrs);
        self.dispatch();
        self.masquerading();
    }

    fn sets(&mut self) {
        let address = self.ip.data_type();
        let target = || vec![address, DataType::InetProto, DataType::InetService];
        let node_port = || vec![DataType::InetProto, DataType::InetService];
        let m = &mut self.plan.model;
        for name in [SERVICE_IPS, NO_ENDPOINT_IPS, FIREWALL_IPS] {
            m.set(Set::new(name, target(), SetKind::VerdictMap));
        }
        for name in [NODEPORTS, NO_ENDPOINT_NODEPORTS] {
            m.set(Set::new(name, node_port(), SetKind::VerdictMap));
        }
        m.set(Set::new(CLUSTER_IPS, vec![address], SetKind::Set));
        let pair = vec![address, address, DataType::InetProto, DataType::InetService];
        m.set(Set::new(HAIRPIN, pair, SetKind::Set));
    }

    fn checks(&mut self, service_cidrs: &[Cidr]) {
        let by_target = self.by_target();
        let ip = self.ip;
        let m = &mut self.plan.model;
        let mut look_up = |chain: &str, map: &str| {
            m.rule(
                chain,
                Rule::new(all([by_target.clone(), vec![verdict_map(map)]])),
            );
        };
        look_up("firewall-check", FIREWALL_IPS);
        look_up("service-endpoints-check", NO_ENDPOINT_IPS);
        m.rule(
            "nodeport-endpoints-check",
            Rule::new(all([
                destination_local(),
                vec![
                    protocol(0),
                    destination_port(1),
                    verdict_map(NO_ENDPOINT_NODEPORTS),
                ],
            ])),
        );
        // Cluster IPs that the node itself answers on are no stray packets.
        let own = all([destination_local(), vec![Expr::Verdict(Verdict::Return)]]);
        m.rule("cluster-ips-check", Rule::new(own));
        let known = vec![ip.destination(0), member(CLUSTER_IPS), ip.reject()];
        m.rule(
            "cluster-ips-check",
            Rule::new(known).comment("Reject traffic to invalid ports of ClusterIPs"),
        );
        if !service_cidrs.is_empty() {
            let stray = vec![
                ip.destination(0),
                in_ranges(ip, service_cidrs, false),
                Expr::Verdict(Verdict::Drop),
            ];
            m.rule(
                "cluster-ips-check",
                Rule::new(stray).comment("Drop traffic to unallocated ClusterIPs"),
            );
        }
    }

    fn dispatch(&mut self) {
        let by_target = self.by_target();
        let ip = self.ip;
        let to_cluster_ip = vec![ip.destination(0), member(CLUSTER_IPS)];
        let from = match (self.around.masquerade_all, self.pod_cidrs.is_empty()) {
            (true, _) => Some(Vec::new()),
            (false, true) => None,
            (false, false) => Some(vec![ip.source(0), in_ranges(ip, &self.pod_cidrs, true)]),
        };
        let m = &mut self.plan.model;
        if let Some(from) = from {
            let masked = vec![jump("mark-for-masquerade")];
            m.rule("services", Rule::new(all([to_cluster_ip, from, masked])));
        }
        m.rule(
            "services",
            Rule::new(all([by_target, vec![verdict_map(SERVICE_IPS)]])),
        );
        let mut node_port = destination_local();
        if ip == Ip::V4 {
            let loopback: Vec<_> = Cidr::new([127, 0, 0, 0].into(), 8).into_iter().collect();
            node_port.extend([ip.destination(0), in_ranges(ip, &loopback, true)]);
        }
        node_port.extend([protocol(0), destination_port(1), verdict_map(NODEPORTS)]);
        m.rule("services", Rule::new(node_port));
    }

    fn masquerading(&mut self) {
        let ip = self.ip;
        let m = &mut self.plan.model;
        m.rule(
            "masquerading",
            Rule::new(vec![
                mark(0),
                and(MASQUERADE_MARK),
                differs(0, vec![0; 4]),
                mark(0),
                Expr::Bitwise {
                    source: register::data(0),
                    target: register::data(0),
                    mask: u32::MAX.to_ne_bytes().to_vec(),
                    xor: MASQUERADE_MARK.to_ne_bytes().to_vec(),
                },
                set_mark(),
                masquerade(),
            ]),
        );
        let n = ip.words();
        let hairpin = vec![
            ip.source(0),
            ip.destination(n),
            protocol(2 * n),
            destination_port(2 * n + 1),
            member(HAIRPIN),
            masquerade(),
        ];
        m.rule(
            "masquerading",
            Rule::new(hairpin).comment("masquerade hairpin traffic"),
        );
    }

    /// Loads `ip daddr . meta l4proto . th dport`.
    fn by_target(&self) -> Vec<Expr> {
        let n = self.ip.words();
        vec![self.ip.destination(0), protocol(n), destination_port(n + 1)]
    }
}

fn mark(n: u32) -> Expr {
    Expr::Meta {
        key: MetaKey::Mark,
        register: register::data(n),
    }
}

fn set_mark() -> Expr {
    Expr::MetaSet {
        key: MetaKey::Mark,
        register: register::data(0),
    }
}

// === Planner: one Service port ===

impl Planner<'_> {
    fn entry(&mut self, e: &Entry<'_>) {
        self.plan
            .model
            .element(CLUSTER_IPS, Key::of(&[&octets(e.port.cluster_ip)]), None);
        if !e.chosen.cluster.is_empty() {
            self.endpoints_chain(&e.cluster_chain, e, &e.chosen.cluster);
        }
        if !e.chosen.local.is_empty() {
            self.endpoints_chain(&e.local_chain, e, &e.chosen.local);
        }
        let hairpins = e.chosen.cluster.iter().chain(&e.chosen.local);
        for local in hairpins.filter(|p| p.local) {
            let ip = octets(local.ip);
            let key = Key::of(&[&ip, &ip, &[e.port.key.protocol], &local.port.to_be_bytes()]);
            self.plan.model.element(HAIRPIN, key, None);
        }
        self.cluster_ip(e);
        if e.port.is_external() {
            self.external(e);
        }
        if !e.port.source_ranges.is_empty() && !e.port.load_balancer_ips.is_empty() {
            self.firewall(e);
        }
        if e.port.key.protocol == 17 {
            self.udp_targets(e);
        }
    }

    fn cluster_ip(&mut self, e: &Entry<'_>) {
        let key = target_key(e.port.cluster_ip, e);
        let (chain, usable) = match e.port.internal {
            TrafficPolicy::Local => (&e.local_chain, !e.chosen.local.is_empty()),
            TrafficPolicy::Cluster => (&e.cluster_chain, !e.chosen.cluster.is_empty()),
        };
        let m = &mut self.plan.model;
        if usable {
            m.element(SERVICE_IPS, key, Some(goto_data(chain)));
        } else {
            m.element(NO_ENDPOINT_IPS, key, Some(unusable(e)));
        }
    }

    fn external(&mut self, e: &Entry<'_>) {
        let vips = e.port.external_ips.iter().chain(&e.port.load_balancer_ips);
        let targets: Vec<_> = vips.map(|ip| target_key(*ip, e)).collect();
        let port = e.port.node_port.to_be_bytes();
        let node_port = (e.port.node_port != 0).then(|| Key::of(&[&[e.port.key.protocol], &port]));
        let usable = match e.port.external {
            TrafficPolicy::Local => !e.chosen.local.is_empty(),
            TrafficPolicy::Cluster => !e.chosen.cluster.is_empty(),
        };
        if e.chosen.any {
            self.external_chain(e);
        }
        let m = &mut self.plan.model;
        let chain = e.chosen.any.then(|| goto_data(&e.external_chain));
        for (keys, map, without) in [
            (targets, SERVICE_IPS, NO_ENDPOINT_IPS),
            (
                node_port.into_iter().collect(),
                NODEPORTS,
                NO_ENDPOINT_NODEPORTS,
            ),
        ] {
            for key in keys {
                if let Some(chain) = &chain {
                    m.element(map, key.clone(), Some(chain.clone()));
                }
                // With policy Local and endpoints elsewhere only: what the chain does not translate
                // arrives here untranslated.
                if !usable {
                    m.element(without, key, Some(unusable(e)));
                }
            }
        }
    }

    fn external_chain(&mut self, e: &Entry<'_>) {
        let ip = self.ip;
        let chain = e.external_chain.clone();
        let marked = || vec![jump("mark-for-masquerade")];
        let pods = self.pod_cidrs.clone();
        let has_cluster = !e.chosen.cluster.is_empty();
        let m = &mut self.plan.model;
        m.chain(&chain, None);
        if e.port.external == TrafficPolicy::Cluster {
            m.rule(&chain, Rule::new(marked()));
            if has_cluster {
                m.rule(&chain, Rule::new(vec![goto(&e.cluster_chain)]));
            }
            return;
        }
        if has_cluster {
            let to_cluster = || vec![goto(&e.cluster_chain)];
            if !pods.is_empty() {
                let from_pod = vec![ip.source(0), in_ranges(ip, &pods, false)];
                m.rule(
                    &chain,
                    Rule::new(all([from_pod, to_cluster()])).comment("short-circuit pod traffic"),
                );
            }
            m.rule(
                &chain,
                Rule::new(all([source_local(), marked()])).comment("masquerade local traffic"),
            );
            m.rule(
                &chain,
                Rule::new(all([source_local(), to_cluster()]))
                    .comment("short-circuit local traffic"),
            );
        }
        if !e.chosen.local.is_empty() {
            m.rule(&chain, Rule::new(vec![goto(&e.local_chain)]));
        }
    }

    fn firewall(&mut self, e: &Entry<'_>) {
        let ip = self.ip;
        let chain = chain_name("firewall-", &e.port.key.path(), "");
        let mut allowed = e.port.source_ranges.clone();
        let holds_node = |c: &Cidr| self.around.node_ips.iter().any(|n| c.contains(*n));
        if allowed.iter().any(holds_node) {
            let bits = if ip.is_v6() { 128 } else { 32 };
            let vips = e.port.load_balancer_ips.iter();
            allowed.extend(vips.filter_map(|v| Cidr::new(*v, bits)));
        }
        let m = &mut self.plan.model;
        let refused = vec![
            ip.source(0),
            in_ranges(ip, &allowed, true),
            Expr::Verdict(Verdict::Drop),
        ];
        m.rule(&chain, Rule::new(refused));
        for vip in &e.port.load_balancer_ips {
            m.element(FIREWALL_IPS, target_key(*vip, e), Some(goto_data(&chain)));
        }
    }

    fn endpoints_chain(&mut self, chain: &str, e: &Entry<'_>, endpoints: &[Endpoint]) {
        match e.port.affinity_seconds {
            None => self.spread(chain, e, endpoints),
            Some(seconds) => self.spread_with_affinity(chain, e, endpoints, seconds),
        }
    }

    /// One rule sends each connection to a random endpoint.
    fn spread(&mut self, chain: &str, e: &Entry<'_>, endpoints: &[Endpoint]) {
        let ip = self.ip;
        let target = |p: &Endpoint| Data::Value(Key::of(&[&octets(p.ip), &p.port.to_be_bytes()]).0);
        let kind = SetKind::Map(vec![ip.data_type(), DataType::InetService]);
        let map = random(
            endpoints.iter().map(target).collect(),
            kind,
            register::data(0),
        );
        let rule = all([of_protocol(e), map, vec![ip.dnat(0)]]);
        self.plan.model.rule(chain, Rule::new(rule));
    }

    /// A chain and a set of clients for each endpoint.
    fn spread_with_affinity(
        &mut self,
        chain: &str,
        e: &Entry<'_>,
        endpoints: &[Endpoint],
        seconds: u32,
    ) {
        let ip = self.ip;
        let names: Vec<_> = endpoints
            .iter()
            .map(|p| {
                let path = e.port.key.path();
                let detail = format!("{}/{}", p.ip, p.port);
                let own = chain_name("endpoint-", &path, &detail);
                // A set cannot change its timeout: another timeout is another set.
                let set = chain_name("affinity-", &path, &format!("{detail}/{seconds}"));
                (own, set)
            })
            .collect();
        let m = &mut self.plan.model;
        for (own, set) in &names {
            m.rule(chain, Rule::new(vec![ip.source(0), member(set), goto(own)]));
        }
        let targets = names.iter().map(|(own, _)| goto_data(own)).collect();
        let map = random(targets, SetKind::VerdictMap, register::VERDICT);
        m.rule(chain, Rule::new(map));
        for ((own, set), endpoint) in names.iter().zip(endpoints) {
            if m.chains.contains_key(own) {
                continue;
            }
            m.set(Set {
                dynamic: true,
                timeout_ms: Some(u64::from(seconds) * 1000),
                ..Set::new(set.clone(), vec![ip.data_type()], SetKind::Set)
            });
            let remember = Expr::Update {
                set: set.clone(),
                register: register::data(0),
                timeout_ms: None,
            };
            m.rule(own, Rule::new(vec![ip.source(0), remember]));
            let to = Key::of(&[&octets(endpoint.ip)]).0;
            let load = |n: u32, value: Vec<u8>| Expr::Immediate {
                register: register::data(n),
                value,
            };
            let translate = vec![
                load(0, to),
                load(ip.words(), endpoint.port.to_be_bytes().to_vec()),
                ip.dnat(0),
            ];
            m.rule(own, Rule::new(all([of_protocol(e), translate])));
        }
    }

    fn udp_targets(&mut self, e: &Entry<'_>) {
        let used = e.chosen.cluster.iter().chain(&e.chosen.local);
        let endpoints: BTreeSet<_> = used.map(|p| (p.ip, p.port)).collect();
        // Without any endpoint flows are left alone: they would only be made anew.
        if endpoints.is_empty() {
            return;
        }
        let vips = e.port.external_ips.iter().chain(&e.port.load_balancer_ips);
        for ip in vips.chain([&e.port.cluster_ip]) {
            let at = (*ip, e.port.port);
            self.plan.udp.by_address.insert(at, endpoints.clone());
        }
        if e.port.node_port != 0 {
            self.plan
                .udp
                .by_node_port
                .insert(e.port.node_port, endpoints);
        }
    }
}

/// `meta l4proto <the port's>`.
fn of_protocol(e: &Entry<'_>) -> Vec<Expr> {
    vec![protocol(0), equals(0, vec![e.port.key.protocol])]
}

/// `numgen random mod N` looked up in a map of N values.
fn random(values: Vec<Data>, kind: SetKind, target: u32) -> Vec<Expr> {
    let modulus = values.len() as u32;
    let elements = values.into_iter().zip(0u32..);
    let elements = elements.map(|(data, n)| Element::pair(Key(n.to_ne_bytes().to_vec()), data));
    let set = AnonymousSet {
        key: vec![DataType::Integer32],
        kind,
        interval: false,
        elements: elements.collect(),
    };
    vec![
        Expr::Numgen {
            modulus,
            random: true,
            register: register::data(0),
        },
        Expr::LookupAnonymous {
            set: Box::new(set),
            register: register::data(0),
            target: Some(target),
            invert: false,
        },
    ]
}

fn target_key(ip: IpAddr, e: &Entry<'_>) -> Key {
    Key::of(&[
        &octets(ip),
        &[e.port.key.protocol],
        &e.port.port.to_be_bytes(),
    ])
}

fn goto_data(chain: &str) -> Data {
    Data::Verdict(Verdict::Goto(chain.into()))
}

/// What happens to packets for which this node has no endpoint.
fn unusable(e: &Entry<'_>) -> Data {
    if e.chosen.any {
        return Data::Verdict(Verdict::Drop);
    }
    goto_data("reject-chain")
}

/// `<prefix><hash>-<path>[__<detail>]`, cut to what the kernel takes.
fn chain_name(prefix: &str, path: &str, detail: &str) -> String {
    let hash = [path, "\0", detail]
        .concat()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut name = format!("{prefix}{:010X}-{path}", hash >> 24);
    if !detail.is_empty() {
        name.push_str("__");
        name.push_str(detail);
    }
    if name.len() > limits::CHAIN_NAME_BYTES_MAX {
        // Names of Services and ports are ASCII, so any cut is between characters.
        name.truncate(limits::CHAIN_NAME_BYTES_MAX - 3);
        name.push_str("...");
    }
    name
}
