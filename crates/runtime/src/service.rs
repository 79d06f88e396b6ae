//! `cri::Runtime`, call by call.

use async_trait::async_trait;
use cri::{
    AttachRequest, ContainerConfig, ContainerEvent, ContainerStats, ContainerStatus, DuplexStream,
    Error, ExecRequest, ExecSession, ExecSyncResponse, LinuxContainerResources, PodSandboxConfig,
    PodSandboxStatus, RuntimeStatus,
};
use tokio::sync::broadcast;

use crate::Runtime;

#[async_trait]
impl cri::Runtime for Runtime {
    async fn status(&self) -> Result<RuntimeStatus, Error> {
        let network = self.core.network.status().await;
        Ok(RuntimeStatus {
            name: "k0s".into(),
            version: self.core.version.clone(),
            runtime_ready: true,
            network_not_ready: network.err().map(|e| e.message),
        })
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String, Error> {
        self.core.run_sandbox(config).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        self.core.stop_sandbox(id).await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        self.core.remove_sandbox(id).await
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus, Error> {
        Ok(self.core.sandbox(id)?.status())
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>, Error> {
        let all: Vec<_> = self.core.sandboxes.lock().values().cloned().collect();
        Ok(all.iter().map(|s| s.status()).collect())
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<String, Error> {
        self.core.make_container(sandbox, config).await
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        self.core.begin_container(id).await
    }

    async fn stop_container(&self, id: &str, timeout_seconds: i64) -> Result<(), Error> {
        self.core.end_container(id, timeout_seconds).await
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.core.delete_container(id).await
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error> {
        Ok(self.core.container(id)?.status())
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>, Error> {
        let all: Vec<_> = self.core.containers.lock().values().cloned().collect();
        Ok(all.iter().map(|c| c.status()).collect())
    }

    async fn update_container_resources(
        &self,
        id: &str,
        resources: LinuxContainerResources,
    ) -> Result<(), Error> {
        self.core.change_resources(id, resources).await
    }

    async fn reopen_container_log(&self, id: &str) -> Result<(), Error> {
        self.core.reopen_log(id).await
    }

    async fn exec_sync(
        &self,
        container: &str,
        command: Vec<String>,
        timeout_seconds: i64,
    ) -> Result<ExecSyncResponse, Error> {
        let run = self.core.run_command(container, command, timeout_seconds);
        run.await
    }

    async fn exec(&self, request: ExecRequest) -> Result<ExecSession, Error> {
        self.core.open_command(request).await
    }

    async fn attach(&self, request: AttachRequest) -> Result<ExecSession, Error> {
        self.core.open_attach(request).await
    }

    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<DuplexStream, Error> {
        self.core.open_port(sandbox, port).await
    }

    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>, Error> {
        self.core.all_stats().await
    }

    fn events(&self) -> broadcast::Receiver<ContainerEvent> {
        self.core.events.subscribe()
    }
}
