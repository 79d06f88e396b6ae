//! What the node is called and where it is reached.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// The host's name; empty where it has none.
pub fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_string()
}

/// The node's name: the host name in lower case.
pub fn node_name() -> String {
    let name = name().to_lowercase();
    if name.is_empty() {
        "localhost".into()
    } else {
        name
    }
}

/// The address other machines reach this one at: the source address of the default route, without
/// sending anything; loopback where there is no route.
pub fn address() -> IpAddr {
    let probe = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // A documentation address: connecting a UDP socket only looks up the route.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    probe().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}
