//! Changing limits of running containers. Upstream: kuberuntime doPodResizeAction.

use api::core::v1::Pod;
use client::EventType;

use crate::observed::Observed;
use crate::resize;
use crate::resources;
use crate::worker::PodWorker;

impl PodWorker {
    /// Changes limits of running containers, the pod's own first where they grow.
    pub(super) async fn resize(&self, p: &Pod, seen: &Observed, sandbox: &str) {
        let changes = resize::changes(p, seen, self.kubelet.facts.memory());
        if changes.is_empty() {
            self.state.lock().resize_error = None;
            return;
        }
        let done = self.change_limits(p, &changes, sandbox).await;
        let error = done.err();
        let known = std::mem::replace(&mut self.state.lock().resize_error, error.clone());
        match error {
            None => {
                let text = format!("Pod resize completed: {}", resize::summary(p, ""));
                self.kubelet
                    .event(p, EventType::Normal, "ResizeCompleted", &text);
            }
            Some(error) if known.as_ref() != Some(&error) => {
                let text = format!("Pod resize error: {}", resize::summary(p, &error));
                self.kubelet
                    .event(p, EventType::Warning, "ResizeError", &text);
            }
            Some(_) => {}
        }
    }

    async fn change_limits(
        &self,
        p: &Pod,
        changes: &[resize::Change],
        sandbox: &str,
    ) -> Result<(), String> {
        let runtime = &self.kubelet.runtime;
        let stats = runtime
            .list_container_stats()
            .await
            .map_err(|e| e.to_string())?;
        for c in changes
            .iter()
            .filter(|c| c.memory && c.resources.memory_limit_bytes > 0)
        {
            let used = stats.iter().find(|s| s.container_id == c.id);
            let used = used.map_or(0, |s| s.memory_usage_bytes);
            let limit = u64::try_from(c.resources.memory_limit_bytes).unwrap_or(0);
            if limit < used {
                return Err(format!(
                    "cannot decrease memory limits: attempting to set container {:?} memory limit ({limit}) below current usage ({used})",
                    c.name
                ));
            }
        }
        let shrinks = changes.iter().any(|c| c.shrinks);
        if !shrinks {
            self.change_pod_limits(p, sandbox).await?;
        }
        for c in changes {
            let changed = runtime
                .update_container_resources(&c.id, c.resources.clone())
                .await;
            changed.map_err(|e| e.to_string())?;
        }
        if shrinks {
            self.change_pod_limits(p, sandbox).await?;
        }
        Ok(())
    }

    async fn change_pod_limits(&self, p: &Pod, sandbox: &str) -> Result<(), String> {
        let limits = resources::pod_resources(p, self.kubelet.config.pod_pids_limit);
        let runtime = &self.kubelet.runtime;
        match runtime.update_pod_sandbox_resources(sandbox, limits).await {
            // As upstream, a runtime without this call is no failure.
            Err(e) if e.kind != cri::ErrorKind::Unimplemented => Err(e.to_string()),
            _ => Ok(()),
        }
    }
}
