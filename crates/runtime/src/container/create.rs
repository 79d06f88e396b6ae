//! Making a container: its folder, its plan, its hold on its images.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cri::{ContainerConfig, ContainerEventKind, Error, ErrorKind};
use oci::ResolvedImage;

use super::{Container, State, lease};
use crate::disk::{self, ContainerRecord, Phase, failed};
use crate::sandbox::Sandbox;
use crate::spec::{self, Facts, SandboxFiles};
use crate::{Core, new_id};

impl Core {
    pub(crate) async fn make_container(
        self: &Arc<Self>,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<String, Error> {
        let sandbox = self.sandbox(sandbox)?;
        if sandbox.record.lock().phase != Phase::Ready {
            let text = format!("sandbox container {:?} is not running", sandbox.id);
            return Err(Error::new(ErrorKind::FailedPrecondition, text));
        }
        let id = new_id();
        let made = self.blocking({
            let (sandbox, id) = (sandbox.clone(), id.clone());
            move |r| r.prepare_container(&sandbox, &id, config)
        });
        let container = match made.await {
            Ok(container) => container,
            Err(error) => {
                self.delete_files(&id).await?;
                return Err(error);
            }
        };
        let sandbox_id = container.record.sandbox.clone();
        self.containers.lock().insert(id.clone(), container);
        self.announce(ContainerEventKind::Created, &sandbox_id, &id);
        Ok(id)
    }

    fn resolve(&self, image: &str) -> Result<ResolvedImage, Error> {
        let found = self.images.resolve(image);
        found.ok_or_else(|| {
            Error::not_found(format!("failed to resolve image {image:?}: not found"))
        })
    }

    fn prepare_container(
        &self,
        sandbox: &Sandbox,
        id: &str,
        config: ContainerConfig,
    ) -> Result<Arc<Container>, Error> {
        let image = self.resolve(&config.image)?;
        let references = config.mounts.iter().filter_map(|m| m.image.as_deref());
        let image_mounts: Vec<_> = references
            .map(|r| self.resolve(r))
            .collect::<Result<_, _>>()?;
        let dir = self.disk.container(id);
        for name in ["upper", "work", "rootfs", "empty"] {
            let dir = dir.join(name);
            fs::create_dir_all(&dir).map_err(|e| failed("create", &dir, e))?;
            // That of `upper` is the mode of the container's root.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&dir, mode).map_err(|e| failed("set mode of", &dir, e))?;
        }
        for (at, image) in std::iter::once(&image).chain(&image_mounts).enumerate() {
            let leased = self.images.lease(&lease(id, at), image);
            leased.map_err(|e| Error::internal(format!("keep image {}: {e}", image.id)))?;
        }
        let of = sandbox.record.lock().clone();
        let cgroup = format!("{}/{id}", of.config.cgroup_parent);
        let run = self.disk.sandbox_run(&sandbox.id);
        let shm = match of.config.namespaces.ipc {
            cri::NamespaceMode::Node => "/dev/shm".into(),
            _ => self.disk.shm(&sandbox.id),
        };
        let facts = Facts {
            dir: &dir,
            config: &config,
            image: &image,
            image_mounts: &image_mounts,
            hostname: &of.hostname,
            sandbox_pid: of.config.namespaces.pid,
            files: SandboxFiles {
                resolv_conf: &run.join("resolv.conf"),
                hostname: &run.join("hostname"),
                shm: &shm,
            },
            cgroups: &self.cgroups,
            cgroup: &cgroup,
        };
        let refuse = |e: String| {
            let text = format!("failed to generate container {id:?} spec: {e}");
            Error::internal(text).because("CreateContainerError")
        };
        let plan = spec::plan(&facts).map_err(refuse)?;
        let of_image = image.config.config().as_ref();
        let of_image = of_image.and_then(|c| c.stop_signal().clone());
        let stop = spec::process::stop_signal(&config.stop_signal, &of_image.unwrap_or_default());
        let log = (!config.log_path.is_empty())
            .then(|| Path::new(&of.config.log_directory).join(&config.log_path));
        let state = State {
            resources: config.resources.clone(),
            ..State::default()
        };
        let record = ContainerRecord {
            id: id.to_owned(),
            sandbox: sandbox.id.clone(),
            created_at: crate::clock::now(),
            image_id: image.id.clone(),
            image_ref: image.digest_reference.clone(),
            log,
            cgroup,
            stop_signal: stop.map_err(refuse)?,
            process: plan.process.clone(),
            config,
        };
        disk::write(&dir.join("plan.json"), &plan)?;
        disk::write(&dir.join("container.json"), &record)?;
        Ok(Container::new(record, state))
    }
}
