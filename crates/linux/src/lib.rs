//! linux

pub mod netlink;
pub mod nftables;
