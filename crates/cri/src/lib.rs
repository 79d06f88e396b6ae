//! The node's seams: what the kubelet asks of a container runtime, an image store and a pod network.
//! Names and meanings are CRI v1's (kubernetes/cri-api api.proto); in process these traits are called
//! directly, and a gRPC server or client of CRI v1 maps onto them one to one.

#![forbid(unsafe_code)]

pub mod container;
pub mod error;
pub mod image;
pub mod network;
pub mod sandbox;
pub mod stream;

pub use container::*;
pub use error::{Error, ErrorKind};
pub use image::*;
pub use network::*;
pub use sandbox::*;
pub use stream::*;

use async_trait::async_trait;

/// CRI's RuntimeService.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name, version and which conditions hold.
    async fn status(&self) -> Result<RuntimeStatus, Error>;

    /// Makes and starts a pod sandbox (namespaces, cgroup, network); gives its id. Idempotent per
    /// (uid, attempt).
    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String, Error>;
    /// Stops everything in the sandbox and takes its network down. Idempotent.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error>;
    /// Removes a stopped sandbox and its containers with all they hold on disk. Idempotent.
    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error>;
    /// State and addresses.
    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus, Error>;
    /// All sandboxes.
    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>, Error>;

    /// Prepares a container in a sandbox; gives its id.
    async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<String, Error>;
    /// Starts a created container.
    async fn start_container(&self, id: &str) -> Result<(), Error>;
    /// Sends the stop signal, and KILL after `timeout_seconds`. Returns when it has ended. Idempotent.
    async fn stop_container(&self, id: &str, timeout_seconds: i64) -> Result<(), Error>;
    /// Removes a container that is not running (a running one is killed first). Idempotent.
    async fn remove_container(&self, id: &str) -> Result<(), Error>;
    /// State, exit code, times.
    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error>;
    /// All containers.
    async fn list_containers(&self) -> Result<Vec<ContainerStatus>, Error>;
    /// Changes cgroup limits of a running container.
    async fn update_container_resources(
        &self,
        id: &str,
        resources: LinuxContainerResources,
    ) -> Result<(), Error>;
    /// Changes limits of a pod's cgroup.
    async fn update_pod_sandbox_resources(
        &self,
        _sandbox: &str,
        _resources: LinuxPodResources,
    ) -> Result<(), Error> {
        Err(Error::new(
            ErrorKind::Unimplemented,
            "this runtime does not change limits of pods",
        ))
    }
    /// Closes and opens the log file anew, after a rotation renamed it.
    async fn reopen_container_log(&self, id: &str) -> Result<(), Error>;

    /// Runs a command in a container and collects its output (each stream cut at 16 MiB).
    async fn exec_sync(
        &self,
        container: &str,
        command: Vec<String>,
        timeout_seconds: i64,
    ) -> Result<ExecSyncResponse, Error>;
    /// Runs a command with streams.
    async fn exec(&self, request: ExecRequest) -> Result<ExecSession, Error>;
    /// Connects to the streams of a running container.
    async fn attach(&self, request: AttachRequest) -> Result<ExecSession, Error>;
    /// Opens a TCP connection to `127.0.0.1:port` inside the sandbox's network.
    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<DuplexStream, Error>;

    /// CPU and memory now, for all running containers.
    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>, Error>;

    /// Container and sandbox events from now on. A lagging reader loses the oldest and must list.
    fn events(&self) -> tokio::sync::broadcast::Receiver<ContainerEvent>;
}

/// CRI's ImageService.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// All images.
    async fn list_images(&self) -> Result<Vec<Image>, Error>;
    /// One image by reference or id; `None` where it is not present.
    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error>;
    /// Pulls an image; gives its id. `progress` is called now and then.
    async fn pull_image(
        &self,
        image: &str,
        auth: Option<AuthConfig>,
        progress: ProgressSink,
    ) -> Result<String, Error>;
    /// Removes an image with all its references. Idempotent.
    async fn remove_image(&self, image: &str) -> Result<(), Error>;
    /// Bytes and inodes used by the image store.
    async fn image_fs_info(&self) -> Result<FilesystemUsage, Error>;
}

/// What gives a pod's network namespace its interfaces. CNI's ADD, DEL, CHECK and GC.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Whether pods can be attached now; an error says why not (the node's NetworkUnavailable text).
    async fn status(&self) -> Result<(), Error>;
    /// Attaches a pod.
    async fn add(&self, pod: &PodNetworkRequest) -> Result<PodNetworkResult, Error>;
    /// Detaches a pod; succeeds on half-made or absent state.
    async fn del(&self, pod: &PodNetworkRequest) -> Result<(), Error>;
    /// Releases what belongs to none of these sandbox ids.
    async fn gc(&self, keep: &[String]) -> Result<(), Error>;
}
