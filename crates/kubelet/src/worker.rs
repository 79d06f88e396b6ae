//! One task per pod: sync, then terminating, then terminated. Upstream: pkg/kubelet/pod_workers.go.

mod allocate;
mod finish;
mod kill;
mod status_writer;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Pod, PodStatus};
use cri::ContainerState;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::kubelet::Kubelet;
use crate::limits;
use crate::observed::Observed;
use crate::pod;
use crate::probes::Results;
use crate::resize::Pending;
use crate::restart::Backoff;
use crate::status::{self, Input, StartErrors, Verdict};
use crate::sync::Synced;
use crate::termination_message;
use crate::volumes;

use status_writer::StatusWriter;

/// One pod of this node.
pub(crate) struct PodWorker {
    pub uid: String,
    pub kubelet: Arc<Kubelet>,
    pub state: Mutex<State>,
    /// What the runtime had when it was last asked.
    pub observed: watch::Sender<Arc<Observed>>,
    pub results: Mutex<Results>,
    /// Probe tasks by container and kind.
    pub probes: Mutex<HashMap<(String, crate::probes::ProbeKind), AbortHandle>>,
    /// The pod must not be synced any more.
    pub stopping: CancellationToken,
    /// The kubelet ends; containers go on.
    abandoned: CancellationToken,
    wake: Notify,
    refresh: Notify,
    /// The grace period may have shrunk.
    regrace: Notify,
    status: StatusWriter,
}

/// What a worker remembers.
pub(crate) struct State {
    pub pod: Arc<Pod>,
    /// The API object is gone.
    pub gone: bool,
    pub verdict: Option<Verdict>,
    /// Grace period of whoever ends the pod from outside.
    pub grace: Option<i64>,
    pub status: PodStatus,
    pub errors: StartErrors,
    /// Termination messages by container id.
    pub messages: HashMap<String, String>,
    pub backoff: Backoff<String>,
    /// Containers whose preStop hook has run.
    pub stopped: HashSet<String>,
    /// All containers are down for good.
    pub finished: bool,
    /// The pod was refused: nothing of it ever ran.
    pub rejected: bool,
    /// The pod had ended before this kubelet saw it: its status is not touched any more.
    pub frozen: bool,
    /// A resize that the node has no room for.
    pub resize: Option<Pending>,
    pub resize_error: Option<String>,
    /// The volumes of the last sync.
    pub volumes: volumes::Volumes,
    /// While a sync replaces containers: what the status shows instead of its half-done work.
    pub held: Option<Arc<Observed>>,
}

// === PodWorker ===

impl PodWorker {
    /// A worker of a pod that this node accepted; `rejected` is the status of one it did not.
    pub fn new(kubelet: Arc<Kubelet>, p: Arc<Pod>, rejected: Option<PodStatus>) -> Arc<Self> {
        let uid = pod::uid(&p).to_string();
        let is_rejected = rejected.is_some();
        let ended = pod::is_terminal(pod::phase(&p));
        let status = rejected.unwrap_or_else(|| p.status.clone().unwrap_or_default());
        let worker = Arc::new(Self {
            status: StatusWriter::start(kubelet.clone(), &p),
            state: Mutex::new(State {
                pod: p,
                gone: false,
                verdict: None,
                grace: None,
                status,
                errors: StartErrors::new(),
                messages: HashMap::new(),
                backoff: Backoff::new(limits::CRASH_BACKOFF_FIRST, limits::CRASH_BACKOFF_MAX),
                stopped: HashSet::new(),
                finished: is_rejected,
                rejected: is_rejected,
                frozen: is_rejected || ended,
                resize: None,
                resize_error: None,
                volumes: volumes::Volumes::new(),
                held: None,
            }),
            observed: watch::channel(Arc::default()).0,
            results: Mutex::default(),
            probes: Mutex::default(),
            stopping: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            wake: Notify::new(),
            refresh: Notify::new(),
            regrace: Notify::new(),
            uid,
            kubelet,
        });
        worker.note_end();
        worker
    }

    /// Starts the task.
    pub fn spawn(self: &Arc<Self>) {
        let running = self.clone();
        tokio::spawn(async move {
            let abandoned = running.abandoned.clone();
            tokio::select! {
                () = abandoned.cancelled() => running.stop_probes(|_| true),
                () = running.run() => {}
            }
        });
    }

    /// The pod as it is now.
    pub fn pod(&self) -> Arc<Pod> {
        self.state.lock().pod.clone()
    }

    /// A newer object of the pod.
    pub fn update(&self, p: Arc<Pod>) {
        let p = self.allocate(p);
        let only_status = {
            let mut state = self.state.lock();
            let old = std::mem::replace(&mut state.pod, p.clone());
            let (o, n) = (&old.metadata, &p.metadata);
            o.generation == n.generation
                && old.spec == p.spec
                && o.labels == n.labels
                && o.annotations == n.annotations
                && o.deletion_timestamp == n.deletion_timestamp
                && o.deletion_grace_period_seconds == n.deletion_grace_period_seconds
        };
        self.note_end();
        if only_status {
            self.refresh.notify_one();
        } else {
            self.regrace.notify_one();
            self.wake.notify_one();
        }
    }

    /// The object is gone.
    pub fn removed(&self) {
        self.state.lock().gone = true;
        self.stopping.cancel();
        self.wake.notify_one();
    }

    /// Ends the pod from outside.
    pub fn evict(&self, verdict: Verdict, grace: i64) {
        {
            let mut state = self.state.lock();
            state.verdict.get_or_insert(verdict);
            state.grace = Some(state.grace.map_or(grace, |g| g.min(grace)));
        }
        self.stopping.cancel();
        self.regrace.notify_one();
    }

    /// Ends the task and leaves containers alone.
    pub fn abandon(&self) {
        self.abandoned.cancel();
    }

    /// Something happened that a sync should see.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Only the status may have changed.
    pub fn refresh(&self) {
        self.refresh.notify_one();
    }

    /// Whether the pod uses the node's resources.
    pub fn is_active(&self) -> bool {
        let state = self.state.lock();
        !state.finished && !state.rejected
    }

    fn note_end(&self) {
        let state = self.state.lock();
        let ends = state.pod.metadata.deletion_timestamp.is_some()
            || pod::is_terminal(pod::phase(&state.pod))
            || state.rejected;
        drop(state);
        if ends {
            self.stopping.cancel();
        }
    }

    async fn run(self: &Arc<Self>) {
        self.adopt().await;
        self.sync_until_stopping().await;
        self.stopping.cancel();
        self.retry("terminate the pod", || self.terminate()).await;
        self.retry("clean up after the pod", || self.tear_down())
            .await;
        self.retry("delete the pod", || self.delete()).await;
        self.status.end();
        crate::pods::forget(&self.kubelet, &self.uid);
    }

    /// After a restart of the kubelet: what was started and ready stays so until a probe says otherwise.
    async fn adopt(&self) {
        let Ok(seen) = self.observe().await else {
            return;
        };
        let state = self.state.lock();
        let lists = [
            &state.status.init_container_statuses,
            &state.status.container_statuses,
        ];
        let mut results = self.results.lock();
        for s in lists.into_iter().flatten().flatten() {
            let id = s
                .container_id
                .as_deref()
                .and_then(|i| i.split("://").nth(1));
            let Some(id) = id.filter(|id| seen.containers.iter().any(|c| c.id == *id)) else {
                continue;
            };
            if s.started == Some(true) {
                results.set(id, crate::probes::ProbeKind::Startup, true);
            }
            if s.ready {
                results.set(id, crate::probes::ProbeKind::Readiness, true);
            }
        }
    }

    async fn sync_until_stopping(self: &Arc<Self>) {
        let mut failures = 0_u32;
        while !self.stopping.is_cancelled() {
            let outcome = self.beside_refresh(self.sync_pod()).await;
            let wait = match outcome {
                Ok(Synced::Done) => return,
                Ok(Synced::Wait(next)) => {
                    failures = 0;
                    let jitter = limits::SYNC_FREQUENCY.mul_f64(1.0 + rand::random::<f64>() / 2.0);
                    next.unwrap_or(jitter).min(jitter)
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(pod = pod::format(&self.pod()), %error, failures, "pod not synced");
                    let doubled =
                        limits::SYNC_RETRY_FIRST * 2_u32.saturating_pow(failures.min(10) - 1);
                    doubled.min(limits::SYNC_RETRY_MAX)
                }
            };
            let pause = async {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.wake.notified() => {}
                    () = self.stopping.cancelled() => {}
                }
            };
            self.beside_refresh(pause).await;
        }
    }

    /// Runs something long and writes status changes meanwhile.
    async fn beside_refresh<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.refresh.notified() => {
                    if let Err(error) = self.observe().await {
                        tracing::debug!(%error, "runtime not asked");
                    }
                    self.publish();
                }
            }
        }
    }

    async fn retry<F, Fut>(&self, what: &'static str, mut step: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<(), String>>,
    {
        loop {
            match self.beside_refresh(step()).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(pod = pod::format(&self.pod()), error, "failed to {what}");
                    tokio::time::sleep(limits::TERMINATE_RETRY).await;
                }
            }
        }
    }

    /// Asks the runtime, and reads what ended containers left to say.
    pub async fn observe(&self) -> Result<Arc<Observed>, cri::Error> {
        let seen = Arc::new(self.kubelet.observe(&self.uid).await?);
        {
            let mut state = self.state.lock();
            for c in seen
                .containers
                .iter()
                .filter(|c| c.state == ContainerState::Exited)
            {
                state
                    .messages
                    .entry(c.id.clone())
                    .or_insert_with(|| termination_message::read(c));
            }
            state
                .messages
                .retain(|id, _| seen.containers.iter().any(|c| c.id == *id));
        }
        self.results
            .lock()
            .retain(|id| seen.containers.iter().any(|c| c.id == id));
        self.observed.send_replace(seen.clone());
        Ok(seen)
    }

    /// Computes the status and hands it to the writer; whether the pod is done.
    pub fn publish(&self) -> bool {
        let seen = self.observed.borrow().clone();
        let results = self.results.lock().clone();
        let host_ips = self.kubelet.host_ips();
        let mut state = self.state.lock();
        if state.frozen {
            self.status.write(state.status.clone());
            return true;
        }
        let seen = state.held.clone().unwrap_or(seen);
        let made = status::generate(&Input {
            pod: &state.pod,
            seen: &seen,
            old: &state.status,
            probes: &results,
            errors: &state.errors,
            messages: &state.messages,
            runtime: &self.kubelet.runtime_name,
            host_ips: &host_ips,
            verdict: state.verdict.as_ref(),
            resize: state.resize.as_ref(),
            resize_error: state.resize_error.as_deref(),
            finished: state.finished,
            now: Timestamp::now(),
        });
        state.status = made.status.clone();
        self.status.write(made.status);
        made.terminal
    }

    /// The status goes on with what is seen now until [`Self::show`], whoever else writes it meanwhile.
    pub fn hold(&self, seen: &Arc<Observed>) {
        self.state.lock().held = Some(seen.clone());
    }

    /// The status shows everything again.
    pub fn show(&self) {
        self.state.lock().held = None;
    }

    /// Ends probe tasks of some kinds.
    pub fn stop_probes(&self, which: impl Fn(crate::probes::ProbeKind) -> bool) {
        self.probes.lock().retain(|(_, kind), task| {
            let stop = which(*kind);
            if stop {
                task.abort();
            }
            !stop
        });
    }

    /// How long until something of this pod is due.
    pub fn next_due(&self, now: Timestamp) -> Option<Duration> {
        let k = &self.kubelet;
        let waits = [
            k.images.next_pull(&self.uid, now),
            k.tokens.next_refresh(&self.uid, now),
            k.certificates.next_due(&self.uid, now),
        ];
        waits.into_iter().flatten().min()
    }
}
