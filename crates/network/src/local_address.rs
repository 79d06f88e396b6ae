//! Addresses that the node itself answers on, such as the cluster DNS address.

use std::net::IpAddr;

use linux::netlink::address::PrefixRoute;
use linux::netlink::{Socket, Subsystem};

use crate::error::Error;

const LOOPBACK: &str = "lo";

/// Puts an address on `lo` of the calling thread's namespace, so that programs can bind it and pods of
/// this node reach it. Nothing happens where it is there. Blocks for microseconds.
pub fn ensure_local_address(ip: IpAddr) -> Result<(), Error> {
    let mut socket = Socket::open(Subsystem::Route)?;
    let index = loopback(&mut socket)?;
    socket.set_up(index, true)?;
    match socket.add_address(index, ip, host_prefix(ip), PrefixRoute::Add) {
        Err(e) if !e.is_present() => Err(e.into()),
        _ => Ok(()),
    }
}

/// Undoes `ensure_local_address`. Nothing happens where it is absent.
pub fn remove_local_address(ip: IpAddr) -> Result<(), Error> {
    let mut socket = Socket::open(Subsystem::Route)?;
    let index = loopback(&mut socket)?;
    match socket.delete_address(index, ip, host_prefix(ip)) {
        Err(e) if !e.is_absent() => Err(e.into()),
        _ => Ok(()),
    }
}

fn loopback(socket: &mut Socket) -> Result<u32, Error> {
    let index = socket.link_index(LOOPBACK)?;
    index.ok_or_else(|| Error::LinkMissing(LOOPBACK.into()))
}

fn host_prefix(ip: IpAddr) -> u8 {
    if ip.is_ipv6() { 128 } else { 32 }
}
