//! linux

pub mod host;
pub mod inotify;
pub mod netlink;
pub mod nftables;
pub mod process;
pub mod ready;
pub mod volume;
