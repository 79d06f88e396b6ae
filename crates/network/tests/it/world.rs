//! A node, an outside host and pods, each a network namespace of this machine.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use cri::{PodNetwork, PodNetworkRequest, PortMapping};
use linux::netlink::address::PrefixRoute;
use linux::netlink::link::Peer;
use linux::netlink::route::Route;
use linux::netlink::{Socket, Subsystem, namespace};
use network::BridgeNetwork;
use network::bridge::Config;

pub const PATIENCE: Duration = Duration::from_secs(5);
pub const NODE_IP: &str = "192.168.77.1";
pub const OUTSIDE_IP: &str = "192.168.77.2";

pub struct World {
    pub node: OwnedFd,
    pub outside: OwnedFd,
    pub network: BridgeNetwork,
    pub state: tempfile::TempDir,
}

pub struct Pod {
    pub netns: OwnedFd,
    pub ip: IpAddr,
    pub request: PodNetworkRequest,
}

/// Runs a test on a thread in a new node namespace, with a runtime whose threads are there too.
pub fn world(test: impl AsyncFnOnce(&World) + Send) {
    let Ok(node) = namespace::create() else {
        eprintln!("SKIPPED: cannot create a network namespace");
        return;
    };
    let fd = node.try_clone().unwrap();
    namespace::run_in(fd.as_fd(), || {
        let outside = namespace::create().unwrap();
        let mut here = Socket::open(Subsystem::Route).unwrap();
        let lo = here_index(&mut here, "lo");
        here.set_up(lo, true).unwrap();
        let peer = Peer {
            name: "eth0",
            netns: outside.as_fd(),
            mac: None,
        };
        here.create_veth("uplink", 1500, peer).unwrap();
        let uplink = here_index(&mut here, "uplink");
        here.add_address(uplink, ip(NODE_IP), 24, PrefixRoute::Add)
            .unwrap();
        here.set_up(uplink, true).unwrap();
        let mut there = namespace::socket_in(outside.as_fd(), Subsystem::Route).unwrap();
        let eth0 = here_index(&mut there, "eth0");
        there
            .add_address(eth0, ip(OUTSIDE_IP), 24, PrefixRoute::Add)
            .unwrap();
        there.set_up(eth0, true).unwrap();
        here.add_route(&Route::via(ip("0.0.0.0"), 0, ip(OUTSIDE_IP), uplink))
            .unwrap();
        let state = tempfile::tempdir().unwrap();
        let network = BridgeNetwork::new(config(&state));
        let world = World {
            node,
            outside,
            network,
            state,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(&world));
        Ok(())
    })
    .unwrap();
}

fn here_index(socket: &mut Socket, name: &str) -> u32 {
    socket.link_index(name).unwrap().unwrap()
}

pub fn config(state: &tempfile::TempDir) -> Config {
    Config {
        bridge: "kube-bridge".into(),
        pod_cidrs: vec!["10.244.0.0/24".parse().unwrap()],
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        mtu: None,
        state_dir: state.path().into(),
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(text), port)
}

impl World {
    pub async fn pod(&self, name: &str, port_mappings: Vec<PortMapping>) -> Pod {
        let netns = namespace::create().unwrap();
        let request = PodNetworkRequest {
            sandbox_id: name.into(),
            netns_path: format!("/proc/self/fd/{}", netns.as_raw_fd()),
            namespace: "default".into(),
            name: name.into(),
            uid: String::new(),
            port_mappings,
            ingress_bandwidth: None,
            egress_bandwidth: None,
        };
        let result = self.network.add(&request).await.unwrap();
        Pod {
            netns,
            ip: result.ips[0],
            request,
        }
    }
}

/// Answers each TCP connection with `<name> <peer's address>`, until the process ends.
pub fn serve_tcp(netns: &OwnedFd, name: &str, port: u16) {
    let listener = listen(netns, port);
    let name = name.to_owned();
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            // The client may be gone already; the next one matters.
            let _ = write!(stream, "{name} {}", peer.ip());
        }
    });
}

fn listen(netns: &OwnedFd, port: u16) -> TcpListener {
    inside(netns, || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
    })
}

/// Answers each datagram with its name.
pub fn serve_udp(netns: &OwnedFd, name: &str, port: u16) {
    let socket = inside(netns, || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
    });
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(name.as_bytes(), peer);
        }
    });
}

/// A client socket that keeps its port, so that all its datagrams are one flow.
pub fn udp_client(netns: &OwnedFd) -> UdpSocket {
    let socket = inside(netns, || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()
    });
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    socket
}

pub fn ask_udp(socket: &UdpSocket, to: SocketAddr) -> Option<String> {
    socket.send_to(b"?", to).ok()?;
    let mut buffer = [0; 64];
    let (n, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

/// What the server says, or the kind of failure.
pub fn dial(from: &OwnedFd, to: SocketAddr) -> Result<String, std::io::ErrorKind> {
    inside(from, || {
        let stream = TcpStream::connect_timeout(&to, PATIENCE);
        let mut stream = stream.map_err(|e| e.kind())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|e| e.kind())?;
        Ok(text)
    })
}

/// Whether a connection attempt is neither answered nor refused.
pub fn is_dropped(from: &OwnedFd, to: SocketAddr) -> bool {
    inside(from, || {
        let stream = TcpStream::connect_timeout(&to, Duration::from_millis(400));
        stream.is_err_and(|e| e.kind() == std::io::ErrorKind::TimedOut)
    })
}

/// How often each server answered.
pub fn spread(from: &OwnedFd, to: SocketAddr, times: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..times {
        let answer = dial(from, to).unwrap();
        let name = answer.split(' ').next().unwrap().to_owned();
        *seen.entry(name).or_insert(0) += 1;
    }
    seen
}

pub fn inside<T: Send>(netns: &OwnedFd, f: impl FnOnce() -> T + Send) -> T {
    namespace::run_in(netns.as_fd(), || Ok(f())).unwrap()
}

/// `nft list ruleset` of this thread's namespace.
pub fn ruleset() -> String {
    let done = Command::new("nft")
        .args(["list", "ruleset"])
        .output()
        .unwrap();
    String::from_utf8(done.stdout).unwrap()
}

/// A client that only reads.
pub fn client(reads: std::sync::Arc<client::memory::MemoryReads>) -> client::Client {
    let refuse = tower::service_fn(async |_: http::Request<kube::client::Body>| {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no server"))
    });
    let kube = kube::Client::new(refuse, "default");
    client::Client::new(kube, reads, Default::default())
}
