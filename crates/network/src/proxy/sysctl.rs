//! Connection tracking's switches, with kube-proxy's defaults (KubeProxyConfiguration.conntrack).

use std::path::Path;

const MAX_PER_CORE: usize = 32_768;
const MAX_FLOOR: usize = 131_072;
/// Upstream's cap of what it derives from the number of cores.
const MAX_CEILING: usize = 1_048_576;
const ESTABLISHED_SECONDS: u64 = 86_400;
const CLOSE_WAIT_SECONDS: u64 = 3_600;

/// Sets table size and timeouts. What cannot be set (a container without the right, a namespace where
/// the size is not its own) is logged: Services work all the same.
pub(crate) fn set_conntrack() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let max = (MAX_PER_CORE * cores).clamp(MAX_FLOOR, MAX_CEILING) as u64;
    at_least("nf_conntrack_max", max);
    exactly("nf_conntrack_tcp_timeout_established", ESTABLISHED_SECONDS);
    exactly("nf_conntrack_tcp_timeout_close_wait", CLOSE_WAIT_SECONDS);
}

fn at_least(key: &str, value: u64) {
    if current(key).is_none_or(|now| now < value) {
        write(key, value);
    }
}

fn exactly(key: &str, value: u64) {
    if current(key) != Some(value) {
        write(key, value);
    }
}

fn current(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path(key)).ok()?;
    text.trim().parse().ok()
}

fn write(key: &str, value: u64) {
    if let Err(error) = std::fs::write(path(key), value.to_string()) {
        tracing::info!(key, value, %error, "conntrack switch not set");
    }
}

fn path(key: &str) -> std::path::PathBuf {
    Path::new("/proc/sys/net/netfilter").join(key)
}
