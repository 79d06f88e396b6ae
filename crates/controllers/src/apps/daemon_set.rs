//! DaemonSets: a pod on each node that fits, replaced node by node when the template changes.
//! Upstream: pkg/controller/daemon.

mod history;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::DaemonSet;
use api::core::v1::{Node, Pod};
use async_trait::async_trait;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use jiff::Timestamp;
use parking_lot::Mutex;
use reconciler::{
    Clock, During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake, owners,
};

use self::plan::{Ended, Round, Seen};
use crate::common::act::{self, Pods};
use crate::common::claim::Claim;
use crate::common::object::{self, Object};
use crate::common::{pods, selector};
use crate::{Controller, Setup, limits};

pub static CONTROLLER: Controller = Controller {
    name: "daemonset-controller",
    account: "daemon-set-controller",
    component: "daemonset-controller",
    needs: &[
        ("apps", "daemonsets"),
        ("apps", "controllerrevisions"),
        ("", "pods"),
        ("", "nodes"),
    ],
    build: |setup| Ok(build(setup)),
};

/// Delays before a failed daemon pod is replaced on the same node.
const FAILED_BASE: Duration = Duration::from_secs(1);
const FAILED_MAX: Duration = Duration::from_secs(900);

fn build(setup: &Setup) -> Reconciler {
    let this = DaemonSets {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        failed: Mutex::default(),
    };
    let (pods, nodes) = (setup.client.clone(), setup.client.clone());
    Reconciler::new("daemonset-controller", 2, this)
        .on(Trigger::own("apps", "daemonsets"))
        .on(Trigger::map(
            "apps",
            "controllerrevisions",
            revision_changed,
        ))
        .on(Trigger::map("", "pods", move |e| {
            let mut wakes = owners(e, "DaemonSet");
            wakes.extend(orphan_matches(&pods, e));
            wakes
        }))
        .on(Trigger::map("", "nodes", move |e| node_changed(&nodes, e)))
}

/// A revision that is there anew and has its controller is no news, as upstream's: one made by hand does not
/// make the controller look for duplicates.
fn revision_changed(e: &Event<'_>) -> Vec<Wake> {
    if e.before.is_none() && !e.deleted() {
        return Vec::new();
    }
    owners(e, "DaemonSet")
}

fn orphan_matches(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    if e.entry.controller.is_some() || e.deleted() {
        return Vec::new();
    }
    let Ok(sets) = client.lister::<DaemonSet>() else {
        return Vec::new();
    };
    let all = sets.list(Some(&e.entry.namespace));
    let matching = all.iter().filter(|s| {
        let parsed = selector::parse(&s.spec.selector);
        parsed.is_some_and(|s| !s.is_empty() && selector::matches_entry(&s, e.entry))
    });
    matching
        .map(|s| Key::new(s.namespace(), s.name()).into())
        .collect()
}

/// What of a node decides about daemon pods changes seldom; then all sets look again.
fn node_changed(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    let shape = |n: &Node| {
        (
            n.labels().clone(),
            n.spec.as_ref().and_then(|s| s.taints.clone()),
        )
    };
    let now = e.typed::<Node>().map(|n| shape(&n));
    let before = e.typed_before::<Node>().map(|n| shape(&n));
    if !e.deleted() && now == before {
        return Vec::new();
    }
    let Ok(sets) = client.lister::<DaemonSet>() else {
        return Vec::new();
    };
    let all = sets.cache().list(None);
    all.iter().map(|s| Key::of(s).into()).collect()
}

struct DaemonSets {
    client: Client,
    recorder: Recorder,
    clock: Clock,
    /// Failures of a set on a node: how many, and when the last was seen.
    failed: Mutex<HashMap<String, (u32, Timestamp)>>,
}

#[async_trait]
impl Reconcile for DaemonSets {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let sets = self.client.lister::<DaemonSet>()?;
        let entry = sets.cache().get(&key.namespace, &key.name);
        let set = entry
            .as_ref()
            .and_then(|e| client::lister::typed::<DaemonSet>(e));
        let (Some(entry), Some(set)) = (entry, set) else {
            return Ok(Next::Done);
        };
        let parsed = selector::parse(&set.spec.selector);
        let Some(selector) = parsed.filter(|s| !s.is_empty()) else {
            let message =
                "This daemon set is selecting all pods. A non-empty selector is required.";
            let about = reference(&*set);
            self.recorder
                .event(about, EventType::Warning, "SelectingAll", message);
            return Ok(Next::Done);
        };
        if set.deleting() {
            return Ok(Next::Done);
        }
        let (current, old) = self.history(&set, &entry, &selector).await?;
        let hash = current
            .labels()
            .get(history::HASH)
            .cloned()
            .unwrap_or_default();
        let claim = Claim {
            client: &self.client,
            owner: &*set,
            selector: &selector,
            finalizer: None,
        };
        let pods: Vec<Arc<Pod>> = claim.all(|_| true, |_| true).await?;
        let nodes = self.client.lister::<Node>()?.list(None);
        let seen = Seen::new(&set, &hash, &pods, &nodes, self.clock.now());
        let mut round = seen.manage();
        let again = self.hold_back(&set, &mut round);
        let busy = !round.create.is_empty() || !round.delete.is_empty();
        if !busy && plan::rolls(&set) {
            round = seen.roll();
        }
        let done = self.act(&set, &hash, round).await;
        let pods = self.owned(&set)?;
        let used = pods.clone();
        let seen = Seen::new(&set, &hash, &pods, &nodes, self.clock.now());
        self.write_status(&set, &seen).await?;
        done?;
        if !busy {
            self.clean_history(&set, old, &used).await?;
        }
        let available = seen.next_available();
        Ok(Next::from(again).min(available.into()))
    }
}

impl DaemonSets {
    fn owned(&self, set: &DaemonSet) -> Result<Vec<Arc<Pod>>, Error> {
        let lister = self.client.lister::<Pod>()?;
        let uid = set.uid();
        Ok(lister.select(Some(set.namespace()), |e| {
            e.controller.as_ref().is_some_and(|c| &*c.uid == uid)
        }))
    }

    /// Tells about ended pods; those that failed too lately on their node stay a little longer.
    fn hold_back(&self, set: &DaemonSet, round: &mut Round) -> Option<Duration> {
        let now = self.clock.now();
        let mut again: Option<Duration> = None;
        let mut failed = self.failed.lock();
        for ended in std::mem::take(&mut round.ended) {
            let Ended {
                pod,
                node,
                failed: bad,
            } = ended;
            let (namespace, name) = (pod.namespace(), pod.name());
            if bad {
                let key = format!("{}/{}/{node}", set.uid(), set.generation());
                let known = failed.get(&key).copied();
                if let Some((n, last)) = known {
                    let delay = FAILED_BASE
                        .saturating_mul(1 << (n - 1).min(16))
                        .min(FAILED_MAX);
                    let passed = now.as_nanosecond() - last.as_nanosecond();
                    let passed = Duration::from_nanos(u64::try_from(passed).unwrap_or(0));
                    if passed < delay {
                        let left = delay - passed;
                        again = Some(again.map_or(left, |a| a.min(left)));
                        continue;
                    }
                }
                // A node without failures for long starts anew.
                failed.retain(|_, (_, t)| now.as_second() - t.as_second() < 2 * 900);
                let n = known.map_or(1, |(n, _)| n + 1);
                failed.insert(key, (n, now));
                let message = format!(
                    "Found failed daemon pod {namespace}/{name} on node {node}, will try to kill it"
                );
                let about = reference(set);
                self.recorder
                    .event(about, EventType::Warning, "FailedDaemonPod", &message);
            } else {
                let message = format!(
                    "Found succeeded daemon pod {namespace}/{name} on node {node}, will try to delete it"
                );
                let about = reference(set);
                self.recorder
                    .event(about, EventType::Normal, "SucceededDaemonPod", &message);
            }
            round.delete.push(pod);
        }
        again
    }

    async fn act(&self, set: &DaemonSet, hash: &str, mut round: Round) -> Result<(), Error> {
        round.create.truncate(limits::DAEMON_BURST);
        round.delete.truncate(limits::DAEMON_BURST);
        let owner = Pods {
            client: &self.client,
            recorder: &self.recorder,
            owner: reference(set),
        };
        let (_, created) = act::slow_start(round.create.len(), |i| {
            let owner_ref = object::controller_ref(set);
            let pod = plan::pod_for(set, owner_ref, hash, &round.create[i]);
            let owner = &owner;
            async move {
                match owner.create(&pod).await {
                    Err(e) if client::is_namespace_terminating(&e) => Ok(()),
                    done => done,
                }
            }
        })
        .await;
        let deletions: Vec<_> = round
            .delete
            .iter()
            .map(|p| owner.delete(p.namespace(), p.name()))
            .collect();
        let deleted = act::all(deletions).await;
        match created.or(deleted) {
            Some(e) => Err(e).during("manage daemon pods"),
            None => Ok(()),
        }
    }

    async fn write_status(&self, set: &DaemonSet, seen: &Seen<'_>) -> Result<(), Error> {
        let status = seen.status();
        if set
            .status
            .as_ref()
            .is_some_and(|s| plan::same_status(s, &status))
        {
            return Ok(());
        }
        let new = DaemonSet {
            status: Some(status),
            ..set.clone()
        };
        act::update_status(&self.client, &new)
            .await
            .during("update the status")?;
        Ok(())
    }

    async fn clean_history(
        &self,
        set: &DaemonSet,
        old: Vec<api::apps::v1::ControllerRevision>,
        pods: &[Arc<Pod>],
    ) -> Result<(), Error> {
        let used = |r: &api::apps::v1::ControllerRevision| {
            let hash = r.labels().get(history::HASH);
            pods.iter()
                .any(|p| pods::active(p) && p.labels().get(history::HASH) == hash)
        };
        let unused = old.into_iter().filter(|r| !used(r)).collect();
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        crate::common::revisions::trim(&self.client, unused, limit).await
    }
}
