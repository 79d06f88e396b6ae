//! Pod sandboxes: a keeper with namespaces, a network, a control group, and the files all containers share.

mod end;
mod make;
mod plan;

use std::fs;
use std::io::Seek;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;

use cri::{Error, PodNetworkRequest, PodSandboxState, PodSandboxStatus};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::disk::{Phase, SandboxRecord};

/// One sandbox.
pub struct Sandbox {
    pub id: String,
    pub record: Mutex<SandboxRecord>,
    /// One change at a time.
    pub operation: tokio::sync::Mutex<()>,
    /// Whether its keeper lives.
    pub alive: watch::Sender<bool>,
    /// Its keeper, where this daemon started it and nobody waits for it yet.
    child: Mutex<Option<Child>>,
}

// === Sandbox ===

impl Sandbox {
    pub fn new(record: SandboxRecord) -> Arc<Self> {
        Arc::new(Self {
            id: record.id.clone(),
            record: Mutex::new(record),
            operation: tokio::sync::Mutex::default(),
            alive: watch::Sender::new(false),
            child: Mutex::default(),
        })
    }

    /// Group of its keeper.
    pub fn cgroup(&self) -> String {
        format!("{}/{}", self.record.lock().config.cgroup_parent, self.id)
    }

    pub fn status(&self) -> PodSandboxStatus {
        let record = self.record.lock();
        let ready = record.phase == Phase::Ready && *self.alive.borrow();
        let ips = record.network.iter().flat_map(|n| &n.ips);
        PodSandboxStatus {
            id: self.id.clone(),
            metadata: record.config.metadata.clone(),
            state: match ready {
                true => PodSandboxState::Ready,
                false => PodSandboxState::NotReady,
            },
            created_at: record.created_at,
            ips: ips.map(ToString::to_string).collect(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            namespaces: record.config.namespaces,
            keeper_pid: if *self.alive.borrow() {
                record.keeper_pid
            } else {
                0
            },
            netns_path: match (&record.netns, record.phase) {
                (Some(path), Phase::Ready) => path.display().to_string(),
                _ => String::new(),
            },
        }
    }

    fn network_request(&self) -> Option<PodNetworkRequest> {
        let record = self.record.lock();
        let netns = record.netns.as_ref()?;
        let (config, meta) = (&record.config, &record.config.metadata);
        let bandwidth = |name: &str| {
            let text = config
                .annotations
                .get(&format!("kubernetes.io/{name}-bandwidth"));
            text.and_then(|t| plan::parse_bandwidth(t))
        };
        Some(PodNetworkRequest {
            sandbox_id: self.id.clone(),
            netns_path: netns.display().to_string(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            port_mappings: config.port_mappings.clone(),
            ingress_bandwidth: bandwidth("ingress"),
            egress_bandwidth: bandwidth("egress"),
        })
    }
}

/// A file in memory that holds a record, to be read from its start.
pub(crate) fn memory_file<T: serde::Serialize>(name: &str, record: &T) -> Result<OwnedFd, Error> {
    let fail = |e: std::io::Error| Error::internal(format!("write plan: {e}"));
    let fd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| fail(e.into()))?;
    let mut file = fs::File::from(fd);
    serde_json::to_writer(&mut file, record).map_err(|e| fail(e.into()))?;
    file.rewind().map_err(fail)?;
    Ok(file.into())
}
