//! Writes the status of one pod: the newest one, only what differs. Upstream: pkg/kubelet/status.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Pod, PodStatus};
use client::api::{Patch, PatchParams};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::kubelet::Kubelet;
use crate::pod;
use crate::static_pods;
use crate::status::status_patch;

/// First and longest wait after a failed write.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

type Versioned = (u64, Arc<PodStatus>);

/// Hands statuses to a task of its own.
pub(super) struct StatusWriter {
    wanted: watch::Sender<Versioned>,
    written: watch::Receiver<u64>,
    task: Mutex<Option<AbortHandle>>,
}

// === StatusWriter ===

impl StatusWriter {
    pub fn start(kubelet: Arc<Kubelet>, p: &Pod) -> Self {
        let (wanted, asked) = watch::channel((0, Arc::default()));
        let (tell, written) = watch::channel(0);
        let (ns, name, uid) = (pod::namespace(p), pod::name(p), pod::uid(p));
        let writer = Writer {
            kubelet,
            namespace: ns.into(),
            name: name.into(),
            uid: uid.into(),
            last: None,
        };
        let task = tokio::spawn(writer.run(asked, tell));
        Self {
            wanted,
            written,
            task: Mutex::new(Some(task.abort_handle())),
        }
    }

    /// This is the status now.
    pub fn write(&self, status: PodStatus) {
        self.wanted.send_modify(|(version, current)| {
            *version += 1;
            *current = Arc::new(status);
        });
    }

    /// Waits until the newest status is written or need not be.
    pub async fn flush(&self) {
        let version = self.wanted.borrow().0;
        let mut written = self.written.clone();
        // The task ends only with the writer itself.
        let _ = written.wait_for(|w| *w >= version).await;
    }

    /// No more writes.
    pub fn end(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

impl Drop for StatusWriter {
    fn drop(&mut self) {
        self.end();
    }
}

struct Writer {
    kubelet: Arc<Kubelet>,
    namespace: String,
    name: String,
    uid: String,
    /// What the last write gave back: newer than the cache for a moment.
    last: Option<Pod>,
}

impl Writer {
    async fn run(mut self, mut asked: watch::Receiver<Versioned>, tell: watch::Sender<u64>) {
        while asked.changed().await.is_ok() {
            let mut wait = RETRY.0;
            loop {
                let (version, status) = asked.borrow_and_update().clone();
                match self.write(&status).await {
                    Ok(()) => {
                        tell.send_replace(version);
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(pod = self.name, %error, "status not written");
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(RETRY.1);
                    }
                }
            }
        }
    }

    async fn write(&mut self, status: &PodStatus) -> Result<(), client::Error> {
        let cached = self.kubelet.pods.get(&self.namespace, &self.name);
        // The status of a static pod is its mirror's.
        let own = |p: &Pod| static_pods::mirrored(p).unwrap_or_else(|| pod::uid(p)) == self.uid;
        let cached = cached.filter(|p| own(p));
        let newer = |last: &Pod, cached: &Pod| {
            pod::uid(last) == pod::uid(cached) && revision(last) > revision(cached)
        };
        let base = match (&self.last, &cached) {
            (Some(last), Some(cached)) if newer(last, cached) => last,
            (_, Some(cached)) => cached.as_ref(),
            // The object is gone (or not seen yet, and then its arrival writes again).
            (_, None) => return Ok(()),
        };
        let current = base.status.clone().unwrap_or_default();
        let Some(patch) = status_patch(pod::uid(base), &current, status) else {
            return Ok(());
        };
        let api = self.kubelet.client.namespaced::<Pod>(&self.namespace);
        let params = PatchParams::default();
        match api
            .patch_status(&self.name, &params, &Patch::Strategic(&patch))
            .await
        {
            Ok(p) => {
                self.last = Some(p);
                Ok(())
            }
            Err(e) if client::is_not_found(&e) || client::is_conflict(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

fn revision(p: &Pod) -> u64 {
    let text = p.metadata.resource_version.as_deref();
    text.and_then(|r| r.parse().ok()).unwrap_or(0)
}
