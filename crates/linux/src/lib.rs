//! linux

pub mod boot;
pub mod capability;
pub mod cgroup;
pub mod host;
pub mod inotify;
pub mod module;
pub mod mount;
pub mod netlink;
pub mod nftables;
pub mod packet;
pub mod process;
pub mod ready;
pub mod seccomp;
pub mod volume;
