//! Pods on the bridge.

use cri::{PodNetwork, PortMapping, Protocol};
use linux::netlink::{Socket, Subsystem};
use network::BridgeNetwork;

use crate::world::*;

fn host_port(protocol: Protocol, host: u16, container: u16) -> PortMapping {
    PortMapping {
        protocol,
        container_port: container,
        host_port: host,
        host_ip: String::new(),
    }
}

fn link_names() -> Vec<String> {
    let mut socket = Socket::open(Subsystem::Route).unwrap();
    let links = socket.links().unwrap().into_iter();
    links.map(|l| l.name).collect()
}

#[test]
fn pods_reach_each_other_the_node_and_the_outside() {
    world(async |w| {
        w.network.status().await.unwrap();
        let (a, b) = (w.pod("a", vec![]).await, w.pod("b", vec![]).await);
        assert_eq!((a.ip, b.ip), (ip("10.244.0.2"), ip("10.244.0.3")));
        serve_tcp(&a.netns, "a", 80);
        serve_tcp(&w.node, "node", 8080);
        serve_tcp(&w.outside, "outside", 80);
        assert_eq!(
            dial(&b.netns, at("10.244.0.2", 80)).unwrap(),
            "a 10.244.0.3"
        );
        assert_eq!(dial(&w.node, at("10.244.0.2", 80)).unwrap(), "a 10.244.0.1");
        assert_eq!(dial(&a.netns, at("127.0.0.1", 80)).unwrap(), "a 127.0.0.1");
        assert_eq!(
            dial(&a.netns, at(NODE_IP, 8080)).unwrap(),
            "node 10.244.0.2"
        );
        // The outside knows no pods: it sees the node.
        let seen = dial(&a.netns, at(OUTSIDE_IP, 80)).unwrap();
        assert_eq!(seen, format!("outside {NODE_IP}"));
    });
}

#[test]
fn host_ports_lead_to_the_pod_from_everywhere() {
    world(async |w| {
        let ports = vec![
            host_port(Protocol::Tcp, 8000, 80),
            host_port(Protocol::Udp, 8000, 53),
            PortMapping {
                host_ip: "127.0.0.1".into(),
                ..host_port(Protocol::Tcp, 8001, 80)
            },
        ];
        let (a, b) = (w.pod("a", ports.clone()).await, w.pod("b", vec![]).await);
        serve_tcp(&a.netns, "a", 80);
        serve_udp(&a.netns, "a", 53);
        let node = at(NODE_IP, 8000);
        assert_eq!(dial(&w.outside, node).unwrap(), format!("a {OUTSIDE_IP}"));
        assert_eq!(dial(&b.netns, node).unwrap(), "a 10.244.0.3");
        assert_eq!(dial(&w.node, node).unwrap(), format!("a {NODE_IP}"));
        assert_eq!(
            dial(&w.node, at("127.0.0.1", 8000)).unwrap(),
            "a 10.244.0.1"
        );
        assert_eq!(
            dial(&w.node, at("127.0.0.1", 8001)).unwrap(),
            "a 10.244.0.1"
        );
        assert!(dial(&w.outside, at(NODE_IP, 8001)).is_err());
        // A pod reaches itself through its host port.
        assert_eq!(dial(&a.netns, node).unwrap(), "a 10.244.0.1");
        assert_eq!(ask_udp(&udp_client(&w.outside), node).unwrap(), "a");

        let mut other = a.request.clone();
        other.sandbox_id = "other".into();
        let refused = w.network.add(&other).await.unwrap_err();
        assert!(
            refused
                .message
                .contains("host port 8000/TCP is in use by pod default/a")
        );
        w.network.del(&a.request).await.unwrap();
        assert!(dial(&w.outside, node).is_err());
        assert!(!ruleset().contains("10.244.0.2"), "{}", ruleset());
    });
}

#[test]
fn leases_survive_a_restart_and_leaks_are_collected() {
    world(async |w| {
        let a = w.pod("a", vec![host_port(Protocol::Tcp, 8000, 80)]).await;
        let b = w.pod("b", vec![]).await;
        serve_tcp(&a.netns, "a", 80);
        let again = BridgeNetwork::new(config(&w.state));
        again.status().await.unwrap();
        assert_eq!(
            dial(&w.outside, at(NODE_IP, 8000)).unwrap(),
            format!("a {OUTSIDE_IP}")
        );
        // Attaching anew over an old attachment takes its place.
        let result = again.add(&a.request).await.unwrap();
        assert_ne!(result.ips[0], b.ip);
        again.gc(&["a".to_owned()]).await.unwrap();
        let veths = link_names().into_iter().filter(|n| n.starts_with("veth"));
        assert_eq!(veths.count(), 1);
        again.del(&b.request).await.unwrap();
        again.tear_down().await.unwrap();
        assert_eq!(link_names(), ["lo", "uplink"]);
        assert_eq!(ruleset(), "");
        assert_eq!(std::fs::read_dir(w.state.path()).unwrap().count(), 0);
    });
}

#[test]
fn failed_attachment_leaves_nothing() {
    world(async |w| {
        let a = w.pod("a", vec![]).await;
        let mut bad = a.request.clone();
        bad.sandbox_id = "bad".into();
        bad.netns_path = "/proc/self/fd/999".into();
        let error = w.network.add(&bad).await.unwrap_err();
        assert!(error.message.contains("open network namespace"), "{error}");
        // eth0 exists already in a's namespace: the pair cannot be made.
        bad.netns_path = a.request.netns_path.clone();
        let error = w.network.add(&bad).await.unwrap_err();
        assert!(error.message.contains("create veth"), "{error}");
        assert_eq!(link_names().len(), 4);
        assert!(!w.state.path().join("bad.json").exists());
        bad.sandbox_id = "../x".into();
        assert!(w.network.add(&bad).await.is_err());
    });
}

#[test]
fn network_without_a_range_says_so() {
    world(async |w| {
        w.network.set_pod_cidrs(Vec::new());
        let error = w.network.status().await.unwrap_err();
        assert_eq!(error.message, "pod network: the node has no pod CIDR yet");
        w.network
            .set_pod_cidrs(vec!["10.244.5.0/24".parse().unwrap()]);
        w.network.status().await.unwrap();
    });
}

#[test]
fn bandwidth_is_limited_in_both_directions() {
    world(async |w| {
        let free = w.pod("free", vec![]).await;
        let mut request = free.request.clone();
        let netns = linux::netlink::namespace::create().unwrap();
        request.sandbox_id = "slow".into();
        request.netns_path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&netns));
        request.ingress_bandwidth = Some(10_000_000);
        request.egress_bandwidth = Some(20_000_000);
        w.network.add(&request).await.unwrap();
        let shown = || {
            let done = std::process::Command::new("tc")
                .args(["qdisc", "show"])
                .output()
                .unwrap();
            String::from_utf8(done.stdout).unwrap()
        };
        assert!(shown().contains("rate 10Mbit"), "{}", shown());
        assert!(inside(&netns, shown).contains("rate 20Mbit"));
    });
}

#[test]
fn dual_stack_pods_reach_each_other_in_both_families() {
    world(async |w| {
        let cidrs = ["10.244.0.0/24", "fd00:244::/64"].map(|c| c.parse().unwrap());
        w.network.set_pod_cidrs(cidrs.to_vec());
        let (a, b) = (w.pod("a", vec![]).await, w.pod("b", vec![]).await);
        let listener = inside(&a.netns, || std::net::TcpListener::bind("[::]:80").unwrap());
        let to = listener.local_addr().unwrap().port();
        assert_eq!(a.ip, ip("10.244.0.2"));
        for address in ["fd00:244::2", "10.244.0.2"] {
            let peer = at(address, to);
            let stream = inside(&b.netns, || {
                std::net::TcpStream::connect_timeout(&peer, PATIENCE)
            });
            stream.unwrap();
            let (_, from) = listener.accept().unwrap();
            let wanted = if address.contains(':') {
                "fd00:244::3"
            } else {
                "10.244.0.3"
            };
            assert_eq!(from.ip().to_canonical(), ip(wanted));
        }
        w.network.tear_down().await.unwrap();
        assert_eq!(ruleset(), "");
    });
}
