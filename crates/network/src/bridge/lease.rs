//! Which sandbox has which addresses and host ports: one small file each, so that it survives restarts.
//! Upstream: CNI's host-local IPAM, which allocates round-robin in the same way.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cri::{PodNetworkRequest, PodNetworkResult};
use serde::{Deserialize, Serialize};

use crate::cidr::Cidr;
use crate::error::Error;
use crate::limits;

/// One attached (or half attached) sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub request: PodNetworkRequest,
    pub result: PodNetworkResult,
}

/// All leases of the node.
#[derive(Debug)]
pub struct Leases {
    directory: PathBuf,
    by_sandbox: BTreeMap<String, Lease>,
    used: HashSet<IpAddr>,
    /// The last address given out of each range.
    last: BTreeMap<Cidr, u32>,
}

// === Leases ===

impl Leases {
    /// Reads the leases of a directory, which is made if missing. Files that do not parse (a write cut
    /// off by a power failure: the sandbox is gone too) are removed.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let fail = |source| Error::Read {
            path: directory.into(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(fail)?;
        let mut leases = Self {
            directory: directory.into(),
            by_sandbox: BTreeMap::new(),
            used: HashSet::new(),
            last: BTreeMap::new(),
        };
        for entry in std::fs::read_dir(directory).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            match read(&path)? {
                Some(lease) => leases.remember(lease),
                None => {
                    tracing::warn!(path = %path.display(), "unreadable lease removed");
                    remove(&path)?;
                }
            }
        }
        Ok(leases)
    }

    /// The lease of a sandbox.
    pub fn get(&self, sandbox_id: &str) -> Option<&Lease> {
        self.by_sandbox.get(sandbox_id)
    }

    /// All leases, by sandbox id.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Lease)> {
        self.by_sandbox.iter()
    }

    /// A free address: the next after the one given last, so that addresses are reused late.
    pub fn allocate(&mut self, cidr: Cidr) -> Result<IpAddr, Error> {
        // Neither the network's address, nor the gateway, nor (IPv4) the broadcast address.
        let top = if cidr.is_ipv6() {
            cidr.span()
        } else {
            cidr.span().saturating_sub(1)
        };
        let (low, count) = (2, top.saturating_sub(1));
        let start = self
            .last
            .get(&cidr)
            .map_or(0, |l| l.saturating_sub(low).wrapping_add(1));
        for step in 0..count.min(limits::ALLOCATION_STEPS_MAX) {
            let index = low + (start % count + step) % count;
            let Some(ip) = cidr.nth(index) else { continue };
            if self.used.insert(ip) {
                self.last.insert(cidr, index);
                return Ok(ip);
            }
        }
        Err(Error::AddressesExhausted(cidr))
    }

    /// Gives back addresses that were allocated but never saved.
    pub fn release(&mut self, ips: &[IpAddr]) {
        for ip in ips {
            self.used.remove(ip);
        }
    }

    /// Remembers a lease, also on disk.
    pub fn save(&mut self, lease: Lease) -> Result<(), Error> {
        let path = self.path(&lease.request.sandbox_id)?;
        let bytes = serde_json::to_vec(&lease)?;
        let new = path.with_extension("new");
        let fail = |source| Error::Write {
            path: path.clone(),
            source,
        };
        std::fs::write(&new, bytes).map_err(fail)?;
        std::fs::rename(&new, &path).map_err(fail)?;
        self.remember(lease);
        Ok(())
    }

    /// Forgets a sandbox and frees its addresses.
    pub fn forget(&mut self, sandbox_id: &str) -> Result<(), Error> {
        remove(&self.path(sandbox_id)?)?;
        if let Some(lease) = self.by_sandbox.remove(sandbox_id) {
            self.release(&lease.result.ips);
        }
        Ok(())
    }

    fn remember(&mut self, lease: Lease) {
        self.used.extend(lease.result.ips.iter().copied());
        let id = lease.request.sandbox_id.clone();
        self.by_sandbox.insert(id, lease);
    }

    fn path(&self, sandbox_id: &str) -> Result<PathBuf, Error> {
        check_id(sandbox_id)?;
        Ok(self.directory.join(format!("{sandbox_id}.json")))
    }
}

/// Whether a sandbox id may become a file name.
pub fn check_id(id: &str) -> Result<(), Error> {
    let good = !id.is_empty()
        && id.len() <= limits::SANDBOX_ID_BYTES_MAX
        && !id.starts_with('.')
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    good.then_some(())
        .ok_or_else(|| Error::InvalidSandboxId(id.into()))
}

fn read(path: &Path) -> Result<Option<Lease>, Error> {
    let fail = |source| Error::Read {
        path: path.into(),
        source,
    };
    let length = std::fs::metadata(path).map_err(fail)?.len();
    if length > limits::LEASE_BYTES_MAX || path.extension().is_none_or(|e| e != "json") {
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(fail)?;
    Ok(serde_json::from_slice(&bytes).ok())
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::Write {
            path: path.into(),
            source: e,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: &str, ip: IpAddr) -> Lease {
        Lease {
            request: PodNetworkRequest {
                sandbox_id: id.into(),
                netns_path: String::new(),
                namespace: "default".into(),
                name: id.into(),
                uid: String::new(),
                port_mappings: Vec::new(),
                ingress_bandwidth: None,
                egress_bandwidth: None,
            },
            result: PodNetworkResult {
                ips: vec![ip],
                ..PodNetworkResult::default()
            },
        }
    }

    #[test]
    fn addresses_go_round_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let cidr: Cidr = "10.0.0.0/29".parse().unwrap();
        let mut leases = Leases::load(dir.path()).unwrap();
        let first = leases.allocate(cidr).unwrap();
        assert_eq!(first.to_string(), "10.0.0.2");
        leases.save(lease("a", first)).unwrap();
        let second = leases.allocate(cidr).unwrap();
        leases.release(&[second]);
        // Freed at once, but reused only after the others.
        assert_eq!(leases.allocate(cidr).unwrap().to_string(), "10.0.0.4");

        std::fs::write(dir.path().join("torn.json"), b"{").unwrap();
        let mut again = Leases::load(dir.path()).unwrap();
        assert!(!dir.path().join("torn.json").exists());
        let rest: Vec<_> = std::iter::from_fn(|| again.allocate(cidr).ok()).collect();
        let rest: Vec<_> = rest.iter().map(ToString::to_string).collect();
        assert_eq!(rest, ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert!(matches!(
            again.allocate(cidr),
            Err(Error::AddressesExhausted(_))
        ));
        again.forget("a").unwrap();
        assert_eq!(again.allocate(cidr).unwrap(), first);
        again.forget("never-there").unwrap();
        assert!(again.forget("../x").is_err());
    }
}
