//! Services through the real kernel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::memory::MemoryReads;
use linux::netlink::{Socket, Subsystem};
use linux::nftables::{Family, Table, element_keys, rules};
use network::proxy;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::world::*;

struct Cluster {
    reads: Arc<MemoryReads>,
    stop: watch::Sender<bool>,
    proxy: tokio::task::JoinHandle<Result<(), network::Error>>,
}

impl Cluster {
    fn start() -> Self {
        let reads = Arc::new(MemoryReads::new(&[
            ("", "services"),
            ("", "nodes"),
            ("discovery.k8s.io", "endpointslices"),
        ]));
        let client = client(reads.clone());
        let config = proxy::Config {
            node_name: "n1".into(),
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            node_local_ips: vec![ip("10.96.0.10")],
            masquerade_all: false,
            ipv6: true,
        };
        let (stop, stopped) = watch::channel(false);
        let proxy = tokio::spawn(proxy::run(client, config, stopped));
        Self { reads, stop, proxy }
    }

    fn service(&self, name: &str, ip: &str, spec: Value) {
        let mut s = json!({"apiVersion":"v1","kind":"Service",
            "metadata":{"name":name,"namespace":"d"},
            "spec":{"clusterIP":ip,"clusterIPs":[ip],"ports":[{"name":"p","port":80}]}});
        for (key, value) in spec.as_object().unwrap() {
            s["spec"][key] = value.clone();
        }
        self.reads.memory("", "services").unwrap().apply(s).unwrap();
    }

    fn endpoints(&self, name: &str, ips: &[String], port: u16, protocol: &str) {
        let list: Vec<_> = ips
            .iter()
            .map(|i| json!({"addresses":[i],"nodeName":"n1"}))
            .collect();
        let s = json!({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",
            "metadata":{"name":name,"namespace":"d","labels":{"kubernetes.io/service-name":name}},
            "addressType":"IPv4","endpoints":list,
            "ports":[{"name":"p","port":port,"protocol":protocol}]});
        self.reads
            .memory("discovery.k8s.io", "endpointslices")
            .unwrap()
            .apply(s)
            .unwrap();
    }

    fn delete(&self, name: &str) {
        self.reads.memory("", "services").unwrap().delete("d", name);
        self.reads
            .memory("discovery.k8s.io", "endpointslices")
            .unwrap()
            .delete("d", name);
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "{what} not seen in\n{}",
            ruleset()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn shown(part: &str) {
    until(part, || ruleset().contains(part)).await;
}

/// With and without br_netfilter, which is on by default where the kernel has it.
fn bridge_netfilter(on: bool) {
    let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if std::fs::write(path, if on { "1" } else { "0" }).is_err() {
        eprintln!("SKIPPED: br_netfilter is not there");
    }
}

#[test]
fn cluster_ip_node_port_and_hairpin_work() {
    for netfilter in [true, false] {
        world(async |w| {
            bridge_netfilter(netfilter);
            let c = Cluster::start();
            let (a, b) = (w.pod("a", vec![]).await, w.pod("b", vec![]).await);
            let client = w.pod("client", vec![]).await;
            serve_tcp(&a.netns, "a", 8080);
            serve_tcp(&b.netns, "b", 8080);
            let spec = json!({"type":"NodePort","ports":[{"name":"p","port":80,"nodePort":30080}]});
            c.service("web", "10.96.0.20", spec);
            c.endpoints("web", &[a.ip.to_string(), b.ip.to_string()], 8080, "TCP");
            shown("10.96.0.20 . tcp . 80 : goto service-").await;

            let vip = at("10.96.0.20", 80);
            let seen = spread(&client.netns, vip, 40);
            assert!(seen["a"] > 5 && seen["b"] > 5, "{seen:?}");
            // The client's address is kept.
            let answer = dial(&client.netns, vip).unwrap();
            assert!(answer.ends_with(&client.ip.to_string()), "{answer}");
            // A pod that is sent to itself sees the node.
            let own: Vec<_> = (0..20).map(|_| dial(&a.netns, vip).unwrap()).collect();
            assert!(own.iter().any(|o| o == "a 10.244.0.1"), "{own:?}");
            assert!(own.iter().any(|o| *o == format!("b {}", a.ip)), "{own:?}");
            assert_eq!(spread(&w.node, vip, 20).len(), 2);
            let node_port = at(NODE_IP, 30080);
            assert_eq!(spread(&w.outside, node_port, 20).len(), 2);
            assert!(
                dial(&w.outside, node_port)
                    .unwrap()
                    .ends_with(" 10.244.0.1")
            );
            assert_eq!(spread(&client.netns, node_port, 20).len(), 2);

            // Undefined port: refused. Unused cluster IP: dropped.
            let refused = Err(std::io::ErrorKind::ConnectionRefused);
            assert_eq!(dial(&client.netns, at("10.96.0.20", 81)), refused);
            assert!(is_dropped(&client.netns, at("10.96.0.77", 80)));
            // No endpoints: refused, from everywhere.
            c.endpoints("web", &[], 8080, "TCP");
            shown("10.96.0.20 . tcp . 80 : goto reject-chain").await;
            for from in [&client.netns, &w.node] {
                assert_eq!(dial(from, vip), refused);
            }
            assert_eq!(dial(&w.outside, node_port), refused);

            c.delete("web");
            until("removal", || !ruleset().contains("10.96.0.20")).await;
            assert!(!ruleset().contains("d/web"), "{}", ruleset());
            c.stop.send(true).unwrap();
            c.proxy.await.unwrap().unwrap();
            proxy::clean_up().await.unwrap();
            assert!(!ruleset().contains("kube-proxy"));
        });
    }
}

#[test]
fn local_policy_keeps_source_and_affinity_keeps_endpoint() {
    world(async |w| {
        let c = Cluster::start();
        let (a, b) = (w.pod("a", vec![]).await, w.pod("b", vec![]).await);
        serve_tcp(&a.netns, "a", 8080);
        serve_tcp(&b.netns, "b", 8080);
        let both = [a.ip.to_string(), b.ip.to_string()];
        c.service(
            "local",
            "10.96.0.21",
            json!({"type":"NodePort","externalTrafficPolicy":"Local",
            "ports":[{"name":"p","port":80,"nodePort":30081}]}),
        );
        c.endpoints("local", &both, 8080, "TCP");
        c.service(
            "sticky",
            "10.96.0.22",
            json!({"sessionAffinity":"ClientIP"}),
        );
        c.endpoints("sticky", &both, 8080, "TCP");
        shown("10.96.0.22 . tcp . 80 : goto service-").await;
        shown("tcp . 30081 : goto external-").await;
        let answer = dial(&w.outside, at(NODE_IP, 30081)).unwrap();
        assert!(answer.ends_with(OUTSIDE_IP), "{answer}");
        let seen = spread(&a.netns, at("10.96.0.22", 80), 20);
        assert_eq!(seen.len(), 1, "{seen:?}");
        // Other Services change: who was where is not forgotten.
        c.delete("local");
        until("removal", || !ruleset().contains("10.96.0.21")).await;
        assert_eq!(
            spread(&a.netns, at("10.96.0.22", 80), 20).keys().next(),
            seen.keys().next()
        );
    });
}

#[test]
fn udp_clients_follow_the_endpoints() {
    world(async |w| {
        let c = Cluster::start();
        let (a, b) = (w.pod("a", vec![]).await, w.pod("b", vec![]).await);
        let client = w.pod("client", vec![]).await;
        serve_udp(&a.netns, "a", 5353);
        serve_udp(&b.netns, "b", 5353);
        let spec = json!({"ports":[{"name":"p","port":53,"protocol":"UDP"}]});
        c.service("names", "10.96.0.23", spec);
        c.endpoints("names", &[a.ip.to_string()], 5353, "UDP");
        shown("10.96.0.23 . udp . 53 : goto service-").await;
        let socket = udp_client(&client.netns);
        let vip = at("10.96.0.23", 53);
        assert_eq!(ask_udp(&socket, vip).as_deref(), Some("a"));
        c.endpoints("names", &[b.ip.to_string()], 5353, "UDP");
        until("the new endpoint's answer", || {
            ask_udp(&socket, vip).as_deref() == Some("b")
        })
        .await;
    });
}

#[test]
fn addresses_the_node_answers_itself_are_reached() {
    world(async |w| {
        let c = Cluster::start();
        let client = w.pod("client", vec![]).await;
        c.service("kube-dns", "10.96.0.10", json!({}));
        c.service("other", "10.96.0.30", json!({}));
        shown("10.96.0.30 . tcp . 80 : goto reject-chain").await;
        network::ensure_local_address(ip("10.96.0.10")).unwrap();
        network::ensure_local_address(ip("10.96.0.10")).unwrap();
        serve_tcp(&w.node, "node", 80);
        let dns = at("10.96.0.10", 80);
        assert_eq!(
            dial(&client.netns, dns).unwrap(),
            format!("node {}", client.ip)
        );
        assert_eq!(dial(&w.node, dns).unwrap(), "node 10.96.0.10");
        network::remove_local_address(ip("10.96.0.10")).unwrap();
        network::remove_local_address(ip("10.96.0.10")).unwrap();
    });
}

#[test]
fn rules_removed_by_other_programs_come_back() {
    world(async |w| {
        let c = Cluster::start();
        let a = w.pod("a", vec![]).await;
        c.service("web", "10.96.0.20", json!({}));
        c.endpoints("web", &[a.ip.to_string()], 8080, "TCP");
        shown("10.96.0.20 . tcp . 80 : goto service-").await;
        let flush = std::process::Command::new("nft")
            .args(["flush", "ruleset"])
            .status();
        assert!(flush.unwrap().success());
        c.service("new", "10.96.0.40", json!({}));
        shown("10.96.0.40 . tcp . 80 : goto reject-chain").await;
        shown("10.96.0.20 . tcp . 80 : goto service-").await;
    });
}

#[test]
fn services_of_both_families_are_programmed() {
    world(async |_| {
        let c = Cluster::start();
        let spec = json!({"clusterIPs":["10.96.0.50","fd00:96::50"],"type":"LoadBalancer",
            "externalTrafficPolicy":"Local","sessionAffinity":"ClientIP",
            "loadBalancerSourceRanges":["fd00:1::/64","fd00:1::/96","10.9.0.0/16"],
            "ports":[{"name":"p","port":80,"nodePort":30080},
                {"name":"s","port":7,"protocol":"SCTP","nodePort":30007}]});
        let mut object = json!({"kind":"Service","metadata":{"name":"dual","namespace":"d"},
            "spec":spec,"status":{"loadBalancer":{"ingress":[{"ip":"fd00:5::1"},{"ip":"5.6.7.8"}]}}});
        object["spec"]["clusterIP"] = json!("10.96.0.50");
        let services = c.reads.memory("", "services").unwrap();
        services.apply(object).unwrap();
        let slice = json!({"kind":"EndpointSlice","metadata":{"name":"dual-6","namespace":"d",
                "labels":{"kubernetes.io/service-name":"dual"}},
            "addressType":"IPv6",
            "endpoints":[{"addresses":["fd00:244::5"],"nodeName":"n1"},
                {"addresses":["fd00:244::6"],"nodeName":"n2"}],
            "ports":[{"name":"p","port":8080,"protocol":"TCP"},
                {"name":"s","port":7,"protocol":"SCTP"}]});
        let slices = c
            .reads
            .memory("discovery.k8s.io", "endpointslices")
            .unwrap();
        slices.apply(slice).unwrap();
        shown("fd00:96::50 . tcp . 80 : goto service-").await;
        for part in [
            "table ip6 kube-proxy",
            "fd00:96::50 . sctp . 7 : goto service-",
            "fd00:5::1 . tcp . 80 : goto external-",
            "fd00:5::1 . tcp . 80 : goto firewall-",
            "tcp . 30080 : goto external-",
            "ip6 saddr != { fd00:1::/64",
            "dnat to [fd00:244::6]:8080",
            "ip6 daddr . meta l4proto . th dport vmap @service-ips",
            "fd00:244::5 . fd00:244::5 . tcp . 8080",
            "10.96.0.50 . tcp . 80 : goto reject-chain",
        ] {
            shown(part).await;
        }
    });
}

#[test]
fn a_thousand_services_go_in_one_transaction() {
    world(async |_| {
        let c = Cluster::start();
        let ips: Vec<_> = (1..=10).map(|n| format!("10.244.1.{n}")).collect();
        for n in 0..1_000 {
            let ip = format!("10.96.{}.{}", 1 + n / 250, 1 + n % 250);
            c.service(&format!("s{n}"), &ip, json!({}));
            c.endpoints(&format!("s{n}"), &ips, 8080, "TCP");
        }
        let started = Instant::now();
        until("the last service", || {
            let mut socket = Socket::open(Subsystem::Netfilter).unwrap();
            let table = Table::new(Family::Ipv4, proxy::plan::TABLE);
            let keys = element_keys(&mut socket, &table, "service-ips");
            keys.is_ok_and(|k| k.len() == 1_000)
        })
        .await;
        eprintln!("1000 services programmed after {:?}", started.elapsed());
        let table = || Table::new(Family::Ipv4, proxy::plan::TABLE);
        let mut socket = Socket::open(Subsystem::Netfilter).unwrap();
        let before = rules(&mut socket, &table()).unwrap();
        c.delete("s999");
        until("removal", || {
            let mut socket = Socket::open(Subsystem::Netfilter).unwrap();
            element_keys(&mut socket, &table(), "service-ips")
                .unwrap()
                .len()
                == 999
        })
        .await;
        // Rules that did not change keep their handles: they were not made anew.
        let after = rules(&mut socket, &table()).unwrap();
        assert_eq!(after.len(), before.len() - 1);
        assert!(after.iter().all(|r| before.contains(r)));
    });
}
