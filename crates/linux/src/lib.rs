//! linux

pub mod host;
pub mod netlink;
pub mod nftables;
pub mod process;
pub mod volume;
