//! Which resources a pod gets: a resize that does not fit has to wait. Upstream: pkg/kubelet/allocation.

use std::sync::Arc;

use api::core::v1::Pod;
use client::EventType;

use super::PodWorker;
use crate::pod;
use crate::resize::{self, Pending};

impl PodWorker {
    /// The pod with the resources that it gets: a resize that does not fit has to wait.
    pub(super) fn allocate(&self, p: Arc<Pod>) -> Arc<Pod> {
        let has = self.pod();
        if !resize::differs(&has, &p) || self.stopping.is_cancelled() {
            self.state.lock().resize = None;
            return p;
        }
        let Err(r) = crate::pods::fits(&self.kubelet, &p) else {
            self.state.lock().resize = None;
            let text = format!("Pod resize started: {}", resize::summary(&p, ""));
            self.kubelet
                .event(&p, EventType::Normal, "ResizeStarted", &text);
            return p;
        };
        let pending = Pending {
            reason: "Deferred",
            message: r.message.clone(),
        };
        let news = self.state.lock().resize.replace(pending.clone()) != Some(pending);
        if news {
            let summary = resize::summary(&p, &r.message);
            let text = format!("Pod resize {}: {summary}", r.reason);
            self.kubelet
                .event(&p, EventType::Warning, "ResizeDeferred", &text);
        }
        Arc::new(resize::keep_allocated(&has, &p))
    }

    /// Room may have become free for a resize that waits.
    pub fn retry_resize(&self) {
        if self.state.lock().resize.is_none() {
            return;
        }
        let p = self.pod();
        let latest = self.kubelet.pods.get(pod::namespace(&p), pod::name(&p));
        if let Some(latest) = latest.filter(|l| pod::uid(l) == self.uid) {
            self.update(latest);
        }
    }
}
