//! Pods of two nodes, each node a network namespace.

use std::os::fd::AsFd;

use cri::PodNetwork;
use linux::netlink::namespace;
use network::BridgeNetwork;
use network::bridge::Config;
use network::nodes::{Seen, sync};

use crate::world::*;

fn node(name: &str, address: &str, cidr: &str) -> Seen {
    Seen {
        name: name.into(),
        addresses: vec![ip(address)],
        pod_cidrs: vec![cidr.parse().unwrap()],
    }
}

/// Runs on the second node (the world's outside host) what needs a runtime there.
fn on_second<T: Send>(w: &World, f: impl AsyncFnOnce() -> T + Send) -> T {
    namespace::run_in(w.outside.as_fd(), || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Ok(runtime.unwrap().block_on(f()))
    })
    .unwrap()
}

#[test]
fn pods_of_two_nodes_reach_each_other() {
    world(async |w| {
        let far_state = tempfile::tempdir().unwrap();
        let far = BridgeNetwork::new(Config {
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            ..config(&far_state)
        });
        let near_pod = w.pod("near", vec![]).await;
        let mut far_request = near_pod.request.clone();
        let far_netns = namespace::create().unwrap();
        far_request.sandbox_id = "far".into();
        far_request.netns_path = format!("/proc/self/fd/{}", fd(&far_netns));
        let result = on_second(w, async || far.add(&far_request).await.unwrap());
        let nodes = [
            node("n1", NODE_IP, "10.244.0.0/24"),
            node("n2", OUTSIDE_IP, "10.244.1.0/24"),
        ];
        for _ in 0..2 {
            sync(&nodes, "n1", false).unwrap();
        }
        on_second(w, async || sync(&nodes, "n2", false).unwrap());
        serve_tcp(&far_netns, "far", 80);
        let to = std::net::SocketAddr::new(result.ips[0], 80);
        // The address is kept: no masquerading between pods.
        assert_eq!(
            dial(&near_pod.netns, to).unwrap(),
            format!("far {}", near_pod.ip)
        );
        assert_eq!(dial(&w.node, to).unwrap(), format!("far {NODE_IP}"));

        // A node that goes takes its route along.
        sync(&nodes[..1], "n1", false).unwrap();
        let mut socket = linux::netlink::Socket::open(linux::netlink::Subsystem::Route).unwrap();
        let routes = socket.routes().unwrap();
        assert!(
            !routes.iter().any(|r| r.destination == ip("10.244.1.0")),
            "{routes:?}"
        );
    });
}

#[test]
fn nodes_of_other_networks_are_reached_through_the_overlay() {
    world(async |w| {
        let far_state = tempfile::tempdir().unwrap();
        let far = BridgeNetwork::new(Config {
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            ..config(&far_state)
        });
        let near_pod = w.pod("near", vec![]).await;
        let far_netns = namespace::create().unwrap();
        let mut request = near_pod.request.clone();
        request.sandbox_id = "far".into();
        request.netns_path = format!("/proc/self/fd/{}", fd(&far_netns));
        // Addresses outside of any network that the nodes share.
        network::ensure_local_address(ip("172.20.0.1")).unwrap();
        let result = on_second(w, async || {
            network::ensure_local_address(ip("172.20.0.2")).unwrap();
            far.add(&request).await.unwrap()
        });
        let via = |to: &str, gateway: &str| {
            let route = linux::netlink::route::Route::via(ip(to), 32, ip(gateway), 0);
            let mut socket =
                linux::netlink::Socket::open(linux::netlink::Subsystem::Route).unwrap();
            socket.add_route(&route).unwrap();
        };
        via("172.20.0.2", OUTSIDE_IP);
        on_second(w, async || via("172.20.0.1", NODE_IP));
        let nodes = [
            node("n1", "172.20.0.1", "10.244.0.0/24"),
            node("n2", "172.20.0.2", "10.244.1.0/24"),
        ];
        for _ in 0..2 {
            sync(&nodes, "n1", true).unwrap();
        }
        on_second(w, async || sync(&nodes, "n2", true).unwrap());
        serve_tcp(&far_netns, "far", 80);
        let to = std::net::SocketAddr::new(result.ips[0], 80);
        assert_eq!(
            dial(&near_pod.netns, to).unwrap(),
            format!("far {}", near_pod.ip)
        );
        assert!(dial(&w.node, to).unwrap().starts_with("far "));
    });
}

fn fd(netns: &std::os::fd::OwnedFd) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(netns)
}

#[tokio::test]
async fn own_pod_range_comes_from_the_node_object() {
    use client::memory::MemoryReads;
    let reads = std::sync::Arc::new(MemoryReads::new(&[("", "nodes")]));
    let client = crate::world::client(reads.clone());
    let state = tempfile::tempdir().unwrap();
    let network = BridgeNetwork::new(Config {
        pod_cidrs: Vec::new(),
        ..config(&state)
    });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let config = network::nodes::Config {
        node_name: "n1".into(),
        overlay: false,
    };
    let running = tokio::spawn(network::nodes::run(
        client,
        config,
        network.clone(),
        stopped,
    ));
    let node = serde_json::json!({"kind":"Node","metadata":{"name":"n1"},
        "spec":{"podCIDR":"10.244.7.0/24","podCIDRs":["10.244.7.0/24","fd00:7::/64"]}});
    reads.memory("", "nodes").unwrap().apply(node).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while network.pod_cidrs().len() != 2 {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    running.await.unwrap().unwrap();
}
