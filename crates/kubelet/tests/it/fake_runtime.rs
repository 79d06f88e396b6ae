//! A runtime whose containers do what their command says: `run`, `exit N`, and files they can see.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use cri::*;
use parking_lot::Mutex;
use tokio::sync::broadcast;

/// State shared with tests.
pub struct FakeRuntime {
    pub state: Mutex<State>,
    events: broadcast::Sender<ContainerEvent>,
}

#[derive(Default)]
pub struct State {
    pub sandboxes: Vec<PodSandboxStatus>,
    pub configs: Vec<PodSandboxConfig>,
    pub containers: Vec<ContainerStatus>,
    pub container_configs: HashMap<String, ContainerConfig>,
    /// Exit codes of exec'd commands by their first word.
    pub exec: HashMap<String, i32>,
    /// `stop a-0 2` and the like, in order.
    pub log: Vec<String>,
    next: u32,
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap()
}

impl FakeRuntime {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            events: broadcast::channel(256).0,
        })
    }

    fn event(&self, kind: ContainerEventKind, c: &ContainerStatus) {
        // Nobody may listen.
        let _ = self.events.send(ContainerEvent {
            kind,
            pod_uid: c.labels["io.kubernetes.pod.uid"].clone(),
            sandbox_id: c.sandbox_id.clone(),
            container_id: c.id.clone(),
        });
    }

    /// Ends the running container of a name.
    pub fn exit(&self, name: &str, code: i32) {
        let ended = {
            let mut state = self.state.lock();
            let running = |c: &&mut ContainerStatus| {
                c.metadata.name == name && c.state == ContainerState::Running
            };
            let c = state.containers.iter_mut().find(running).unwrap();
            c.state = ContainerState::Exited;
            c.exit_code = code;
            c.finished_at = now();
            c.clone()
        };
        self.event(ContainerEventKind::Stopped, &ended);
    }

    pub fn running(&self) -> Vec<String> {
        let state = self.state.lock();
        let running = state
            .containers
            .iter()
            .filter(|c| c.state == ContainerState::Running);
        running.map(|c| c.metadata.name.clone()).collect()
    }

    pub fn config(&self, name: &str) -> ContainerConfig {
        let state = self.state.lock();
        let c = state
            .containers
            .iter()
            .rfind(|c| c.metadata.name == name)
            .unwrap();
        state.container_configs[&c.id].clone()
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn status(&self) -> Result<RuntimeStatus, Error> {
        Ok(RuntimeStatus {
            name: "fake".into(),
            version: "1".into(),
            runtime_ready: true,
            network_not_ready: None,
        })
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String, Error> {
        let mut state = self.state.lock();
        state.next += 1;
        let id = format!("s{}", state.next);
        let ip = format!("127.0.0.{}", state.next + 1);
        state.sandboxes.push(PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: PodSandboxState::Ready,
            created_at: now(),
            ips: vec![ip],
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            namespaces: config.namespaces,
            keeper_pid: 0,
            netns_path: String::new(),
        });
        state.configs.push(config);
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        for s in state.sandboxes.iter_mut().filter(|s| s.id == id) {
            s.state = PodSandboxState::NotReady;
        }
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        self.state.lock().sandboxes.retain(|s| s.id != id);
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus, Error> {
        let state = self.state.lock();
        let found = state.sandboxes.iter().find(|s| s.id == id).cloned();
        found.ok_or_else(|| Error::not_found(id))
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>, Error> {
        Ok(self.state.lock().sandboxes.clone())
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<String, Error> {
        let mut state = self.state.lock();
        state.next += 1;
        let id = format!(
            "{}-{}-{}",
            config.metadata.name, config.metadata.attempt, state.next
        );
        let logs = state.configs.iter().find(|c| {
            let own = state.sandboxes.iter().find(|s| s.id == sandbox);
            own.is_some_and(|s| s.metadata == c.metadata)
        });
        let log_path = format!("{}/{}", logs.unwrap().log_directory, config.log_path);
        state.containers.push(ContainerStatus {
            id: id.clone(),
            sandbox_id: sandbox.into(),
            metadata: config.metadata.clone(),
            state: ContainerState::Created,
            created_at: now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            image: config.user_image.clone(),
            image_ref: "sha256:1".into(),
            reason: String::new(),
            message: String::new(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path,
            pid: 0,
            resources: config.resources.clone(),
            user: None,
            tty: false,
            stdin: false,
        });
        state.container_configs.insert(id.clone(), config);
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        let (c, command) = {
            let mut state = self.state.lock();
            let command = state.container_configs[id].command.clone();
            let c = state.containers.iter_mut().find(|c| c.id == id).unwrap();
            c.state = ContainerState::Running;
            c.started_at = now();
            (c.clone(), command)
        };
        std::fs::write(
            &c.log_path,
            format!(
                "2026-01-01T00:00:00.000000001Z stdout F hello from {}\n",
                c.metadata.name
            ),
        )
        .unwrap();
        self.event(ContainerEventKind::Started, &c);
        if command.first().map(String::as_str) == Some("exit") {
            self.exit(&c.metadata.name, command[1].parse().unwrap());
        }
        Ok(())
    }

    async fn stop_container(&self, id: &str, timeout: i64) -> Result<(), Error> {
        let running = {
            let mut state = self.state.lock();
            state
                .log
                .push(format!("stop {} {timeout}", id.split('-').next().unwrap()));
            let c = state.containers.iter().find(|c| c.id == id).cloned();
            c.filter(|c| c.state == ContainerState::Running)
        };
        if let Some(c) = running {
            self.exit(&c.metadata.name, 143);
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.state.lock().containers.retain(|c| c.id != id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error> {
        let state = self.state.lock();
        let found = state.containers.iter().find(|c| c.id == id).cloned();
        found.ok_or_else(|| Error::not_found(id))
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>, Error> {
        Ok(self.state.lock().containers.clone())
    }

    async fn update_container_resources(
        &self,
        id: &str,
        resources: LinuxContainerResources,
    ) -> Result<(), Error> {
        let mut state = self.state.lock();
        let c = state.containers.iter_mut().find(|c| c.id == id);
        c.ok_or_else(|| Error::not_found(id))?.resources = resources;
        Ok(())
    }

    async fn reopen_container_log(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn exec_sync(
        &self,
        _: &str,
        command: Vec<String>,
        _: i64,
    ) -> Result<ExecSyncResponse, Error> {
        let mut state = self.state.lock();
        state.log.push(format!("exec {}", command.join(" ")));
        Ok(ExecSyncResponse {
            exit_code: state.exec.get(&command[0]).copied().unwrap_or(0),
            ..ExecSyncResponse::default()
        })
    }

    async fn exec(&self, _: ExecRequest) -> Result<ExecSession, Error> {
        Err(Error::new(ErrorKind::Unimplemented, "no exec here"))
    }

    async fn attach(&self, _: AttachRequest) -> Result<ExecSession, Error> {
        Err(Error::new(ErrorKind::Unimplemented, "no attach here"))
    }

    async fn port_forward(&self, _: &str, _: u16) -> Result<DuplexStream, Error> {
        Err(Error::new(ErrorKind::Unimplemented, "no port-forward here"))
    }

    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>, Error> {
        let state = self.state.lock();
        let running = state
            .containers
            .iter()
            .filter(|c| c.state == ContainerState::Running);
        Ok(running
            .map(|c| ContainerStats {
                container_id: c.id.clone(),
                sandbox_id: c.sandbox_id.clone(),
                name: c.metadata.name.clone(),
                timestamp: now(),
                cpu_usage_nanoseconds: 5_000_000_000,
                memory_working_set_bytes: 1 << 20,
                memory_usage_bytes: 2 << 20,
                memory_rss_bytes: 1 << 19,
                writable_layer_bytes: 4096,
                writable_layer_inodes: 1,
                processes: 1,
            })
            .collect())
    }

    fn events(&self) -> broadcast::Receiver<ContainerEvent> {
        self.events.subscribe()
    }
}

/// Images: every name is present or can be pulled, but for those with `missing` in them.
#[derive(Default)]
pub struct FakeImages {
    pub pulled: Mutex<Vec<String>>,
}

#[async_trait]
impl Images for FakeImages {
    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        Ok(Vec::new())
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error> {
        let known = self.pulled.lock().iter().any(|p| p == image);
        Ok(known.then(|| Image {
            id: image.into(),
            size_bytes: 7,
            ..Image::default()
        }))
    }

    async fn pull_image(
        &self,
        image: &str,
        _: Option<AuthConfig>,
        _: ProgressSink,
    ) -> Result<String, Error> {
        if image.contains("missing") {
            return Err(Error::not_found(format!("{image}: not found")));
        }
        self.pulled.lock().push(image.into());
        Ok(image.into())
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        self.pulled.lock().retain(|p| p != image);
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<FilesystemUsage, Error> {
        Ok(FilesystemUsage::default())
    }
}
