//! The container runtime: pod sandboxes and containers for the kubelet, straight over the kernel. It does
//! what containerd, its shim and runc do, with a keeper process per pod and a re-executed init stage per
//! container or command; names, defaults and messages are those of containerd's CRI plugin.

pub mod bundles;
pub mod ctr;
pub mod images;
pub mod stages;

mod adopt;
mod client;
mod clock;
mod container;
mod disk;
mod exec;
mod init;
mod keeper;
mod limits;
mod plan;
mod protocol;
mod sandbox;
mod seccomp;
mod service;
mod spec;
mod stats;
mod streams;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cri::{ContainerEvent, ContainerEventKind, Error, PodNetwork};
use linux::cgroup::Cgroups;
use parking_lot::Mutex;
use tokio::sync::broadcast;

pub use stages::stage;

use container::Container;
use disk::Disk;
use sandbox::Sandbox;

/// What a runtime works with.
pub struct RuntimeOptions {
    /// State that survives restarts, and containers' writable layers.
    pub root: PathBuf,
    /// Sockets and mounts.
    pub run: PathBuf,
    /// Root of all groups: absolute counts from the tops of the hierarchies, relative from the calling
    /// process's own groups.
    pub cgroup_root: PathBuf,
    pub images: oci::ImageStore,
    pub network: Arc<dyn PodNetwork>,
    /// The program with the stages (see [`stage`]): this one, as `/proc/self/exe`.
    pub exe: PathBuf,
    /// The product's version, with or without a `v` before it; `nodeInfo.containerRuntimeVersion` shows it.
    pub version: String,
}

/// The runtime of one node. Calls start tasks that outlive them; dropping it leaves pods as they are.
pub struct Runtime {
    core: Arc<Core>,
}

/// What calls and tasks share.
struct Core {
    disk: Disk,
    exe: PathBuf,
    cgroups: Cgroups,
    images: oci::ImageStore,
    network: Arc<dyn PodNetwork>,
    sandboxes: Mutex<BTreeMap<String, Arc<Sandbox>>>,
    containers: Mutex<BTreeMap<String, Arc<Container>>>,
    events: broadcast::Sender<ContainerEvent>,
    /// Whether it was said that the kernel refuses OOM scores.
    warned: AtomicBool,
    usage: stats::DiskUsage,
    version: String,
}

// === Runtime ===

impl Runtime {
    /// Opens the runtime: takes over what lives, cleans up what does not. To be called within a tokio
    /// runtime; blocks for as long as the look around takes.
    pub fn open(options: RuntimeOptions) -> Result<Arc<Self>, Error> {
        let cgroups = Cgroups::open(&options.cgroup_root)
            .map_err(|e| Error::internal(format!("open control groups: {e}")))?;
        let core = Arc::new(Core {
            disk: Disk::open(options.root, options.run)?,
            exe: options.exe,
            cgroups,
            images: options.images,
            network: options.network,
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            events: broadcast::channel(limits::EVENTS_MAX).0,
            warned: AtomicBool::new(false),
            usage: stats::DiskUsage::default(),
            version: options.version.trim_start_matches('v').into(),
        });
        adopt::adopt(&core)?;
        Ok(Arc::new(Self { core }))
    }
}

// === Core ===

impl Core {
    fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Error> {
        let found = self.sandboxes.lock().get(id).cloned();
        found.ok_or_else(|| {
            Error::not_found(format!(
                "an error occurred when try to find sandbox {id:?}: not found"
            ))
        })
    }

    fn container(&self, id: &str) -> Result<Arc<Container>, Error> {
        let found = self.containers.lock().get(id).cloned();
        found.ok_or_else(|| {
            Error::not_found(format!(
                "an error occurred when try to find container {id:?}: not found"
            ))
        })
    }

    /// All containers of a sandbox.
    fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        let all = self.containers.lock();
        let of = all.values().filter(|c| c.record.sandbox == sandbox);
        of.cloned().collect()
    }

    fn announce(&self, kind: ContainerEventKind, sandbox: &str, container: &str) {
        let of = self.sandboxes.lock().get(sandbox).cloned();
        let pod_uid = of.map(|s| s.record.lock().config.metadata.uid.clone());
        // Nobody has to listen.
        let _unheard = self.events.send(ContainerEvent {
            kind,
            pod_uid: pod_uid.unwrap_or_default(),
            sandbox_id: sandbox.to_owned(),
            container_id: container.to_owned(),
        });
    }

    /// Says once what the kernel refuses and everything works without.
    fn warn_once(&self, warning: &str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                warning,
                "containers run with fewer guarantees on this machine"
            );
        }
    }

    /// Runs what touches disk or groups off the runtime's threads.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let runtime = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&runtime)).await;
        done.map_err(|e| Error::internal(format!("worker ended: {e}")))?
    }
}

/// 64 hexadecimal digits.
fn new_id() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
