//! Reconcilers over caches in memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use client::memory::MemoryReads;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;

struct Probe {
    seen: mpsc::UnboundedSender<String>,
    panics: AtomicUsize,
    errors: AtomicUsize,
}

#[async_trait]
impl Reconcile for Probe {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.seen.send(key.to_string()).unwrap();
        let left = |n: &AtomicUsize| {
            n.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
        };
        assert!(!left(&self.panics), "asked to panic");
        if left(&self.errors) {
            return Err(Error::Other("asked to fail".into()));
        }
        Ok(Next::Done)
    }
}

struct Rig {
    reads: Arc<MemoryReads>,
    env: Env,
    leader: watch::Sender<bool>,
    end: watch::Sender<bool>,
    seen: mpsc::UnboundedReceiver<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn start(panics: usize, errors: usize, leads: bool) -> Self {
        let reads = Arc::new(MemoryReads::new(&[("", "pods"), ("apps", "replicasets")]));
        let (leader, leads) = watch::channel(leads);
        let (end, shutdown) = watch::channel(false);
        let (tell, seen) = mpsc::unbounded_channel();
        let env = Env {
            reads: reads.clone(),
            leader: leads,
            shutdown,
            board: Board::default(),
        };
        let probe = Probe {
            seen: tell,
            panics: AtomicUsize::new(panics),
            errors: AtomicUsize::new(errors),
        };
        let reconciler = Reconciler::new("probe", 2, probe)
            .on(Trigger::own("apps", "replicasets"))
            .on(Trigger::owned("", "pods", "ReplicaSet"));
        let task = tokio::spawn(reconciler.run(env.clone()));
        Self {
            reads,
            env,
            leader,
            end,
            seen,
            task,
        }
    }

    fn pod(&self, owner: &str) {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "u", "controller": true});
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "ownerReferences": [owner]}});
        self.reads.memory("", "pods").unwrap().apply(pod).unwrap();
    }

    async fn next(&mut self) -> String {
        let next = tokio::time::timeout(Duration::from_secs(10), self.seen.recv());
        next.await.expect("a run in time").unwrap()
    }
}

#[tokio::test]
async fn owners_of_changed_objects_run_the_old_and_the_new() {
    let mut rig = Rig::start(0, 0, true);
    rig.pod("a");
    assert_eq!(rig.next().await, "d/a");
    rig.pod("b");
    let mut both = [rig.next().await, rig.next().await];
    both.sort();
    assert_eq!(both, ["d/a", "d/b"]);
    rig.end.send_replace(true);
    rig.task.await.unwrap();
}

#[tokio::test]
async fn panics_and_errors_are_retried_and_counted() {
    let mut rig = Rig::start(1, 1, true);
    let set = json!({"metadata": {"name": "x", "namespace": "d"}});
    rig.reads
        .memory("apps", "replicasets")
        .unwrap()
        .apply(set)
        .unwrap();
    for _ in 0..3 {
        assert_eq!(rig.next().await, "d/x");
    }
    let numbers = &rig.env.board.numbers()[0];
    assert_eq!((numbers.panics, numbers.failures), (1, 1));
}

#[tokio::test]
async fn nothing_runs_before_this_process_leads() {
    let mut rig = Rig::start(0, 0, false);
    rig.pod("a");
    tokio::task::yield_now().await;
    assert!(rig.seen.try_recv().is_err());
    rig.leader.send_replace(true);
    assert_eq!(rig.next().await, "d/a");
}
