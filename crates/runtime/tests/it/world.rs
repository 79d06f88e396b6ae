//! A node for one test: folders, an image store with one image, a pod network that only takes notes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cri::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, PodNetwork,
    PodNetworkRequest, PodNetworkResult, PodSandboxConfig, PodSandboxMetadata, Runtime as _,
};
use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;
use sha2::{Digest, Sha256};

pub const IMAGE: &str = "docker.io/library/test:1";
pub const PATIENCE: Duration = Duration::from_secs(20);
const BUSYBOX: &[&str] = &["/bin/busybox", "/usr/bin/busybox"];

/// Leaves for a mount namespace of this process's own; why not, where that does not work here.
pub fn isolate() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root".into());
    }
    busybox().ok_or("needs a static busybox")?;
    linux::process::unshare(UnshareFlags::NEWNS).map_err(|e| e.to_string())?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|e| e.to_string())
}

fn busybox() -> Option<PathBuf> {
    let found = BUSYBOX.iter().find(|p| {
        let elf = std::fs::read(p).unwrap_or_default();
        elf.len() > 64 && !has_interpreter(&elf)
    });
    found.map(PathBuf::from)
}

/// Whether a 64-bit program names a loader (a PT_INTERP header).
fn has_interpreter(elf: &[u8]) -> bool {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let first = usize::try_from(u64::from_le_bytes(elf[32..40].try_into().unwrap())).unwrap();
    let (size, count) = (u16_at(54), u16_at(56));
    (0..count).any(|n| elf[first + n * size] == 3)
}

/// The pod network of tests.
#[derive(Default)]
pub struct Network {
    pub attached: Mutex<BTreeMap<String, PodNetworkRequest>>,
    pub refuses: Mutex<Option<String>>,
}

#[async_trait]
impl PodNetwork for Network {
    async fn status(&self) -> Result<(), cri::Error> {
        Ok(())
    }

    async fn add(&self, pod: &PodNetworkRequest) -> Result<PodNetworkResult, cri::Error> {
        if let Some(why) = self.refuses.lock().unwrap().clone() {
            return Err(cri::Error::internal(why));
        }
        let mut attached = self.attached.lock().unwrap();
        attached.insert(pod.sandbox_id.clone(), pod.clone());
        Ok(PodNetworkResult {
            ips: vec!["10.9.8.7".parse().unwrap()],
            ..PodNetworkResult::default()
        })
    }

    async fn del(&self, pod: &PodNetworkRequest) -> Result<(), cri::Error> {
        self.attached.lock().unwrap().remove(&pod.sandbox_id);
        Ok(())
    }

    async fn gc(&self, _keep: &[String]) -> Result<(), cri::Error> {
        Ok(())
    }
}

/// A node.
pub struct World {
    pub dir: PathBuf,
    pub cgroup_root: String,
    pub network: Arc<Network>,
    pub runtime: Arc<runtime::Runtime>,
    temporary: Option<tempfile::TempDir>,
}

/// Ends what a failed test leaves running.
struct Cleanup(String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let Ok(cgroups) = linux::cgroup::Cgroups::open(Path::new(&self.0)) else {
            return;
        };
        let ended = cgroups.kill_and_wait("", PATIENCE);
        if let Err(error) = ended.and_then(|()| cgroups.remove("")) {
            eprintln!("clean up {}: {error}", self.0);
        }
    }
}

/// Runs a test on a new node and takes the node down.
pub fn world(test: impl AsyncFnOnce(&World)) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().to_owned();
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(async {
        let world = World::open(&dir, Some(temporary)).await;
        let _cleanup = Cleanup(world.cgroup_root.clone());
        let done = tokio::time::timeout(PATIENCE * 6, test(&world)).await;
        world.take_down().await;
        done.expect("test ends in time");
    });
}

impl World {
    pub async fn open(dir: &Path, temporary: Option<tempfile::TempDir>) -> Self {
        let images = oci::ImageStore::open(&dir.join("images"), Default::default()).unwrap();
        if images.get(IMAGE).is_none() {
            let archive = dir.join("image.tar");
            write_image(&archive);
            images.import(&archive).await.unwrap();
        }
        let network = Arc::new(Network::default());
        let name = dir.file_name().unwrap().to_str().unwrap();
        let cgroup_root = format!("k0s-test-{}", name.trim_start_matches('.'));
        let runtime = runtime::Runtime::open(runtime::RuntimeOptions {
            root: dir.join("root"),
            run: dir.join("run"),
            cgroup_root: PathBuf::from(&cgroup_root),
            images,
            network: network.clone(),
            exe: "/proc/self/exe".into(),
            version: "v1.2.3".into(),
        });
        Self {
            dir: dir.to_owned(),
            cgroup_root,
            network,
            runtime: runtime.unwrap(),
            temporary,
        }
    }

    /// Removes all pods and sees that nothing is left.
    pub async fn take_down(self) {
        for sandbox in self.runtime.list_pod_sandboxes().await.unwrap() {
            self.runtime.remove_pod_sandbox(&sandbox.id).await.unwrap();
        }
        let Some(_temporary) = &self.temporary else {
            return;
        };
        let cgroups = linux::cgroup::Cgroups::open(Path::new(&self.cgroup_root)).unwrap();
        cgroups.kill_and_wait("", PATIENCE).unwrap();
        cgroups.remove("").unwrap();
        assert!(!cgroups.exists(""), "control groups are left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let left: Vec<_> = mounts
            .lines()
            .filter(|l| l.contains(self.dir.to_str().unwrap()))
            .collect();
        assert!(left.is_empty(), "mounts are left: {left:#?}");
        for of in [
            "root/containers",
            "root/sandboxes",
            "run/sandboxes",
            "run/netns",
        ] {
            let left = std::fs::read_dir(self.dir.join(of)).unwrap().count();
            assert_eq!(left, 0, "{of} is not empty");
        }
        assert!(self.network.attached.lock().unwrap().is_empty());
    }

    pub fn sandbox_config(&self, name: &str) -> PodSandboxConfig {
        let logs = self.dir.join("logs").join(name);
        std::fs::create_dir_all(&logs).unwrap();
        PodSandboxConfig {
            metadata: PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "default".into(),
                attempt: 0,
            },
            hostname: format!("host-{name}"),
            log_directory: logs.display().to_string(),
            dns: Some(cri::DnsConfig {
                servers: vec!["10.96.0.10".into()],
                searches: vec!["cluster.local".into()],
                options: vec!["ndots:5".into()],
            }),
            port_mappings: Vec::new(),
            labels: BTreeMap::from([("app".into(), name.into())]),
            annotations: BTreeMap::new(),
            cgroup_parent: format!("kubepods/pod{name}"),
            pod_resources: None,
            namespaces: cri::NamespaceOption::default(),
            sysctls: BTreeMap::new(),
        }
    }

    pub async fn sandbox(&self, name: &str) -> String {
        let config = self.sandbox_config(name);
        self.runtime.run_pod_sandbox(config).await.unwrap()
    }

    /// Creates and starts.
    pub async fn start(&self, sandbox: &str, config: ContainerConfig) -> String {
        let created = self.runtime.create_container(sandbox, config).await;
        let id = created.unwrap();
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    /// Runs to its end.
    pub async fn run(&self, sandbox: &str, config: ContainerConfig) -> ContainerStatus {
        let id = self.start(sandbox, config).await;
        self.ended(&id).await
    }

    /// Runs a script and gives its log's lines without times.
    pub async fn script(&self, sandbox: &str, text: &str) -> String {
        self.output(sandbox, script(text)).await
    }

    pub async fn output(&self, sandbox: &str, config: ContainerConfig) -> String {
        let status = self.run(sandbox, config).await;
        log(&status)
    }

    pub async fn ended(&self, id: &str) -> ContainerStatus {
        self.until(id, |s| s.state == ContainerState::Exited).await
    }

    pub async fn until(
        &self,
        id: &str,
        holds: impl Fn(&ContainerStatus) -> bool,
    ) -> ContainerStatus {
        let mut events = self.runtime.events();
        let wait = async {
            loop {
                let status = self.runtime.container_status(id).await.unwrap();
                if holds(&status) {
                    return status;
                }
                let _any = events.recv().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap()
    }
}

/// A container that runs a shell script; each has a name of its own.
pub fn script(text: &str) -> ContainerConfig {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    ContainerConfig {
        metadata: ContainerMetadata {
            name: format!("c{n}"),
            attempt: 0,
        },
        image: IMAGE.into(),
        command: vec!["/bin/sh".into(), "-c".into(), text.into()],
        log_path: format!("c{n}.log"),
        ..ContainerConfig::default()
    }
}

/// The text of a log, without times; streams and tags only where they are not `stdout F`.
pub fn log(status: &ContainerStatus) -> String {
    let text = std::fs::read_to_string(&status.log_path).unwrap();
    let line = |l: &str| {
        let rest = l.split_once(' ').unwrap().1;
        rest.strip_prefix("stdout F ").unwrap_or(rest).to_owned()
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A docker archive with one layer.
fn write_image(path: &Path) {
    let mut layer = tar::Builder::new(Vec::new());
    for dir in ["bin/", "etc/", "tmp/", "dev/", "proc/", "sys/", "data/"] {
        entry(&mut layer, dir, b"", 0o755);
    }
    let program = std::fs::read(busybox().unwrap()).unwrap();
    entry(&mut layer, "bin/busybox", &program, 0o755);
    for link in [
        "sh", "cat", "echo", "sleep", "id", "env", "ls", "mount", "touch", "head", "tr", "grep",
        "stty", "nc", "hostname", "pwd", "mkdir", "wc", "dd", "ps", "kill", "mknod", "unshare",
        "tail", "true", "chmod", "sort", "seq",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer
            .append_link(&mut header, format!("bin/{link}"), "busybox")
            .unwrap();
    }
    entry(
        &mut layer,
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/data:/bin/sh\n",
        0o644,
    );
    entry(
        &mut layer,
        "etc/group",
        b"root:x:0:\nweb:x:1001:\nmore:x:2000:web\n",
        0o644,
    );
    entry(&mut layer, "bin/not-a-program", b"nonsense", 0o755);
    entry(&mut layer, "bin/not-executable", b"nonsense", 0o644);
    let layer = layer.into_inner().unwrap();
    let digest = format!("sha256:{}", hex(&Sha256::digest(&layer)));
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Env":["PATH=/bin","FROM=image"],"Cmd":["/bin/sh"]}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[]}}"#,
        if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        }
    );
    let manifest =
        format!(r#"[{{"Config":"config.json","RepoTags":["{IMAGE}"],"Layers":["layer.tar"]}}]"#);
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    entry(&mut archive, "config.json", config.as_bytes(), 0o644);
    entry(&mut archive, "layer.tar", &layer, 0o644);
    entry(&mut archive, "manifest.json", manifest.as_bytes(), 0o644);
    archive.finish().unwrap();
}

fn entry<W: std::io::Write>(tar: &mut tar::Builder<W>, name: &str, data: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    if name.ends_with('/') {
        header.set_entry_type(tar::EntryType::Directory);
    }
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, name, data).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
