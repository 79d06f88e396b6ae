//! Starting and ending one container. Upstream: kuberuntime_container.go.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use api::core::v1::{Container, Pod, VolumeMount};
use client::EventType;
use cri::{ContainerConfig, ContainerMetadata, Image, Mount, MountPropagation};

use tokio_util::sync::CancellationToken;

use crate::actions::container_hash;
use crate::credentials::Keyring;
use crate::env;
use crate::expansion::expand;
use crate::hooks;
use crate::images::{StartError, Wanted};
use crate::kubelet::Kubelet;
use crate::labels;
use crate::network_files;
use crate::observed::Observed;
use crate::pod::{self, PodContainer};
use crate::resources;
use crate::security;
use crate::volumes::{Volumes, sub_path};

/// What containers of one pod are started with.
pub struct Start<'a> {
    pub kubelet: &'a Kubelet,
    pub pod: &'a Pod,
    pub seen: &'a Observed,
    pub sandbox: &'a str,
    pub pod_ips: &'a [String],
    pub volumes: &'a Volumes,
    pub keyring: &'a Keyring,
    /// Pulls and hooks are given up when the pod is ended; calls of the runtime are not.
    pub stopping: &'a CancellationToken,
}

// === Start ===

impl Start<'_> {
    /// Pulls, creates, starts, runs postStart. Events tell each step.
    pub async fn container(&self, place: &PodContainer<'_>) -> Result<(), StartError> {
        let (k, c) = (self.kubelet, &*place.container);
        let warn = |e: StartError| {
            let text = format!("Error: {}", e.message);
            k.container_event(self.pod, place, EventType::Warning, "Failed", &text);
            e
        };
        let image = self.image(place).await?;
        let config = self
            .config(place, &image)
            .map_err(|why| warn(StartError::new("CreateContainerConfigError", why)))?;
        let log = k
            .paths
            .logs(
                pod::namespace(self.pod),
                pod::name(self.pod),
                pod::uid(self.pod),
            )
            .join(&config.log_path);
        let id = k.runtime.create_container(self.sandbox, config).await;
        let id = id.map_err(|e| warn(StartError::new("CreateContainerError", e.to_string())))?;
        k.container_event(
            self.pod,
            place,
            EventType::Normal,
            "Created",
            "Container created",
        );
        let started = k.runtime.start_container(&id).await;
        started.map_err(|e| warn(StartError::new("RunContainerError", e.to_string())))?;
        k.container_event(
            self.pod,
            place,
            EventType::Normal,
            "Started",
            "Container started",
        );
        self.link_log(c, &id, &log);
        self.post_start(place, &id).await
    }

    async fn image(&self, place: &PodContainer<'_>) -> Result<Image, StartError> {
        let (k, c) = (self.kubelet, &*place.container);
        let wanted = Wanted {
            pod: self.pod,
            about: k.about(self.pod, place),
            image: c.image.as_deref().unwrap_or_default(),
            policy: c.image_pull_policy.as_deref().unwrap_or("IfNotPresent"),
            keyring: self.keyring,
        };
        let ensured = tokio::select! {
            done = k.images.ensure(&wanted) => done,
            () = self.stopping.cancelled() => {
                return Err(StartError::new("ErrImagePull", "the pod is being terminated"));
            }
        };
        ensured.inspect_err(|e| {
            let text = match e.reason {
                "InvalidImageName" | "ImageInspectError" => format!("Error: {}", e.message),
                reason => format!("Error: {reason}"),
            };
            k.container_event(self.pod, place, EventType::Warning, "Failed", &text);
        })
    }

    async fn post_start(&self, place: &PodContainer<'_>, id: &str) -> Result<(), StartError> {
        let (k, c) = (self.kubelet, &*place.container);
        let Some(handler) = c.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let ip = self.pod_ips.first().map_or("", String::as_str);
        let why = tokio::select! {
            done = hooks::run(k, self.pod, place, id, ip, handler) => match done {
                Ok(()) => return Ok(()),
                Err(why) => why,
            },
            () = self.stopping.cancelled() => return Ok(()),
        };
        tracing::debug!(container = c.name, why, "postStart hook failed");
        let warning = EventType::Warning;
        k.container_event(
            self.pod,
            place,
            warning,
            "FailedPostStartHook",
            "PostStartHook failed",
        );
        k.container_event(
            self.pod,
            place,
            EventType::Normal,
            "Killing",
            "FailedPostStartHook",
        );
        let grace = pod::grace_period(self.pod).max(crate::limits::MIN_STOP_GRACE);
        if let Err(error) = k.runtime.stop_container(id, grace).await {
            tracing::warn!(%error, id, "container not stopped after its postStart hook failed");
        }
        Err(StartError::new("PostStartHookError", why))
    }

    /// Everything the runtime must know of the container.
    fn config(&self, place: &PodContainer<'_>, image: &Image) -> Result<ContainerConfig, String> {
        let (k, c, p) = (self.kubelet, &*place.container, self.pod);
        security::verify_non_root(p, c, image)?;
        let mut security = security::container(p, c, image, &k.paths.seccomp());
        if let Some(target) = place.target {
            let found = self.seen.latest(target);
            let found = found.ok_or_else(|| format!("unable to find target container {target}"))?;
            security.target_container = Some(found.id.clone());
        }
        let facts = k.downward_facts(p, self.pod_ips);
        let cx = env::Context {
            pod: p,
            facts: &facts,
            objects: k,
            volume_path: &|name| self.volumes.get(name).map(|v| v.path.clone()),
        };
        let envs = env::environment(&cx, c)?;
        let lookup = |name: &str| {
            let found = envs.iter().find(|(n, _)| n == name);
            found.map(|(_, v)| v.as_str())
        };
        let expanded = |list: Option<&Vec<String>>| -> Vec<String> {
            list.into_iter()
                .flatten()
                .map(|a| expand(a, lookup))
                .collect()
        };
        let attempt = self.attempt(c);
        let message_file = self.message_file(c).map_err(|e| e.to_string())?;
        let mut mounts = self.mounts(c, &envs)?;
        self.add_hosts_file(&mut mounts)?;
        if let Some(host) = &message_file {
            mounts.push(plain_mount(termination_path(c), host));
        }
        let log_path = format!("{}/{attempt}.log", c.name);
        self.make_log_dir(&c.name)
            .map_err(|e| format!("make the log directory: {e}"))?;
        let node_memory = k.facts.memory();
        Ok(ContainerConfig {
            metadata: ContainerMetadata {
                name: c.name.clone(),
                attempt,
            },
            image: image.id.clone(),
            user_image: c.image.clone().unwrap_or_default(),
            command: expanded(c.command.as_ref()),
            args: expanded(c.args.as_ref()),
            working_dir: c.working_dir.clone().unwrap_or_default(),
            mounts,
            devices: Vec::new(),
            labels: self.labels(c),
            annotations: self.annotations(c, attempt, message_file.as_deref()),
            log_path,
            stdin: c.stdin == Some(true),
            stdin_once: c.stdin_once == Some(true),
            tty: c.tty == Some(true),
            resources: resources::container_resources(p, c, node_memory),
            security,
            stop_signal: c
                .lifecycle
                .as_ref()
                .and_then(|l| l.stop_signal.clone())
                .unwrap_or_default(),
            envs,
        })
    }

    /// One more than the last one, which the log files remember if the runtime does not.
    fn attempt(&self, c: &Container) -> u32 {
        if let Some(last) = self.seen.latest(&c.name) {
            return last.metadata.attempt + 1;
        }
        let dir = self.log_dir().join(&c.name);
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let numbers = files.filter_map(|f| {
            let name = f.file_name();
            let stem = name.to_str()?.split('.').next()?.to_string();
            stem.parse::<u32>().ok()
        });
        numbers.max().map_or(0, |n| n + 1)
    }

    fn log_dir(&self) -> PathBuf {
        let p = self.pod;
        self.kubelet
            .paths
            .logs(pod::namespace(p), pod::name(p), pod::uid(p))
    }

    fn make_log_dir(&self, container: &str) -> std::io::Result<()> {
        crate::paths::make(&self.log_dir().join(container), 0o755)
    }

    /// The file behind terminationMessagePath, writable by any user.
    fn message_file(&self, c: &Container) -> std::io::Result<Option<PathBuf>> {
        if termination_path(c).is_empty() {
            return Ok(None);
        }
        let dir = self.kubelet.paths.container(pod::uid(self.pod), &c.name);
        std::fs::create_dir_all(&dir)?;
        let file = dir.join(format!("{:08x}", rand::random::<u32>()));
        std::fs::write(&file, "")?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666))?;
        Ok(Some(file))
    }

    fn mounts(&self, c: &Container, envs: &[(String, String)]) -> Result<Vec<Mount>, String> {
        let mut out = Vec::new();
        for (index, m) in c.volume_mounts.iter().flatten().enumerate() {
            out.push(self.mount(c, index, m, envs)?);
        }
        if let Some(d) = c.volume_devices.iter().flatten().next() {
            return Err(format!(
                "cannot find volume {:?} to pass into container {:?}",
                d.name, c.name
            ));
        }
        Ok(out)
    }

    fn mount(
        &self,
        c: &Container,
        index: usize,
        m: &VolumeMount,
        envs: &[(String, String)],
    ) -> Result<Mount, String> {
        let volume = self.volumes.get(&m.name).ok_or_else(|| {
            format!(
                "cannot find volume {:?} to mount into container {:?}",
                m.name, c.name
            )
        })?;
        let sub = match m.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
            Some(text) => expand_sub_path(text, envs)?,
            None => m.sub_path.clone().unwrap_or_default(),
        };
        sub_path::validate(&sub)?;
        let readonly = m.read_only == Some(true) || volume.read_only;
        if m.recursive_read_only.as_deref() == Some("Enabled") && !readonly {
            return Err(format!(
                "volume {:?} requested recursive read-only mode, but it is not read-only",
                m.name
            ));
        }
        let container_path = if m.mount_path.starts_with('/') {
            m.mount_path.clone()
        } else {
            format!("/{}", m.mount_path)
        };
        let mut mount = Mount {
            container_path,
            readonly,
            recursive_read_only: readonly
                && matches!(
                    m.recursive_read_only.as_deref(),
                    Some("Enabled" | "IfPossible")
                ),
            propagation: match m.mount_propagation.as_deref() {
                Some("HostToContainer") => MountPropagation::HostToContainer,
                Some("Bidirectional") => MountPropagation::Bidirectional,
                _ => MountPropagation::Private,
            },
            ..Mount::default()
        };
        if let Some(image) = &volume.image {
            mount.image = Some(image.clone());
            mount.image_sub_path = sub;
            return Ok(mount);
        }
        let host = if sub.is_empty() {
            volume.path.clone()
        } else {
            let uid = pod::uid(self.pod);
            let target = self.kubelet.paths.sub_path(uid, &m.name, &c.name, index);
            sub_path::prepare(&volume.path, &sub, volume.read_only, &target).map_err(|why| {
                tracing::warn!(why, container = c.name, "subPath not prepared");
                format!(
                    "failed to prepare subPath for volumeMount {:?} of container {:?}",
                    m.name, c.name
                )
            })?
        };
        mount.host_path = host.display().to_string();
        Ok(mount)
    }

    fn add_hosts_file(&self, mounts: &mut Vec<Mount>) -> Result<(), String> {
        let own = mounts.iter().any(|m| m.container_path == "/etc/hosts");
        let host_network = pod::is_host_network(self.pod);
        if own || (!host_network && self.pod_ips.is_empty()) {
            return Ok(());
        }
        let k = self.kubelet;
        let names = network_files::names(self.pod, &k.config.cluster_domain);
        let node_hosts = if host_network {
            Some(std::fs::read_to_string("/etc/hosts").unwrap_or_default())
        } else {
            None
        };
        let text = network_files::hosts_file(self.pod, &names, self.pod_ips, node_hosts.as_deref());
        let path = k.paths.hosts(pod::uid(self.pod));
        let write = || {
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
        };
        write().map_err(|e: std::io::Error| format!("write {}: {e}", path.display()))?;
        mounts.push(plain_mount("/etc/hosts", &path));
        Ok(())
    }

    fn labels(&self, c: &Container) -> BTreeMap<String, String> {
        BTreeMap::from([
            (labels::POD_NAME.into(), pod::name(self.pod).into()),
            (
                labels::POD_NAMESPACE.into(),
                pod::namespace(self.pod).into(),
            ),
            (labels::POD_UID.into(), pod::uid(self.pod).into()),
            (labels::CONTAINER_NAME.into(), c.name.clone()),
        ])
    }

    fn annotations(
        &self,
        c: &Container,
        attempt: u32,
        message_file: Option<&Path>,
    ) -> BTreeMap<String, String> {
        let policy = c.termination_message_policy.as_deref().unwrap_or("File");
        let mut all = BTreeMap::from([
            (labels::CONTAINER_HASH.into(), container_hash(c)),
            (labels::RESTART_COUNT.into(), attempt.to_string()),
            (labels::TERMINATION_PATH.into(), termination_path(c).into()),
            (labels::TERMINATION_POLICY.into(), policy.into()),
            (
                labels::GRACE_PERIOD.into(),
                pod::grace_period(self.pod).to_string(),
            ),
        ]);
        if let Some(file) = message_file {
            all.insert(
                labels::TERMINATION_HOST_PATH.into(),
                file.display().to_string(),
            );
        }
        let hook = c.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
        if let Some(text) = hook.and_then(|h| serde_json::to_string(h).ok()) {
            all.insert(labels::PRE_STOP.into(), text);
        }
        all
    }

    /// The link that log collectors follow. Failing is no reason not to run.
    fn link_log(&self, c: &Container, id: &str, log: &Path) {
        let p = self.pod;
        let link = self
            .kubelet
            .paths
            .log_link(pod::namespace(p), pod::name(p), &c.name, id);
        if let Err(error) = symlink(log, &link) {
            tracing::debug!(%error, link = %link.display(), "log not linked");
        }
    }
}

/// terminationMessagePath with upstream's default.
pub fn termination_path(c: &Container) -> &str {
    c.termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log")
}

fn plain_mount(container_path: &str, host: &Path) -> Mount {
    Mount {
        container_path: container_path.into(),
        host_path: host.display().to_string(),
        ..Mount::default()
    }
}

/// Every reference must have a value.
fn expand_sub_path(text: &str, envs: &[(String, String)]) -> Result<String, String> {
    let mut missing = Vec::new();
    let out = expand(text, |name| {
        let found = envs.iter().find(|(n, _)| n == name);
        if found.is_none() {
            missing.push(name.to_string());
        }
        found.map(|(_, v)| v.as_str())
    });
    if missing.is_empty() {
        Ok(out)
    } else {
        Err(format!("missing value for {}", missing.join(", ")))
    }
}
