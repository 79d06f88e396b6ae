//! One pod: the cycle, what follows from it, and how a binding ends.

use std::sync::Arc;

use serde_json::json;

use super::{Binding, Message, PluginRules, Scheduler, bind, tell};
use crate::act::{self, StatusPatch};
use crate::cycle::{self, Failure, Filters, Search};
use crate::diagnosis::Diagnosis;
use crate::event::{self, ClusterEvent};
use crate::framework::{Attempt, Cycle, PluginSet, PostFilter, Preemption, Rejection};
use crate::plugins::PLUGINS;
use crate::pod::{Condition, Pod};
use crate::queue::QueuedPod;

/// What a cycle decided.
enum Outcome {
    Place(Arc<str>),
    Fail(Report),
}

/// A failed attempt, ready to be told.
struct Report {
    message: String,
    /// Unschedulable, or SchedulerError.
    reason: &'static str,
    rejectors: PluginSet,
    pending: PluginSet,
    nomination: Nomination,
}

/// What becomes of the pod's nomination.
enum Nomination {
    Keep,
    Clear,
    Set(Preemption),
}

impl Report {
    fn error(message: String, nomination: Nomination) -> Self {
        Self {
            message,
            reason: "SchedulerError",
            rejectors: PluginSet::default(),
            pending: PluginSet::default(),
            nomination,
        }
    }
}

impl Scheduler {
    /// Tries one pod.
    pub(super) fn schedule(&mut self, queued: QueuedPod) {
        let pod = queued.pod.clone();
        if pod.deleting {
            let note = format!("skip schedule deleting pod: {}", pod.key);
            self.events.failed(&pod, &note);
            return;
        }
        if self.cache.get(&pod.key).is_some() {
            return;
        }
        match self.decide(&pod) {
            Outcome::Place(node) => self.place(queued, &node),
            Outcome::Fail(report) => self.fail(queued, report),
        }
    }

    fn decide(&mut self, pod: &Pod) -> Outcome {
        self.cache.snapshot.settle();
        let cycle = Cycle {
            pod,
            snapshot: &self.cache.snapshot,
            world: &self.world,
        };
        if cycle.snapshot.is_empty() {
            // Upstream: such pods are tried again and again; here they wait for a node, and for nothing else.
            let mut nothing = Diagnosis::new(0);
            PLUGINS
                .iter()
                .position(|l| l.plugin.name() == "NodeName")
                .into_iter()
                .for_each(|p| nothing.pending.insert(p));
            return self.unschedulable(&cycle, None, &nothing);
        }
        let search = Search {
            start: self.next_start,
            percentage: self.config.percentage_of_nodes_to_score,
        };
        let prepared = match cycle::prepare(&cycle) {
            Ok(prepared) => prepared,
            Err(Failure::Unschedulable(d)) => return self.unschedulable(&cycle, None, &d),
            Err(Failure::Error(e)) => return failed(e),
        };
        let found = match cycle::find(&cycle, &prepared, &self.nominator, search) {
            Ok(found) => found,
            Err(Failure::Unschedulable(d)) => {
                return self.unschedulable(&cycle, Some(&prepared.filters), &d);
            }
            Err(Failure::Error(e)) => return failed(e),
        };
        let next_start = (self.next_start + found.processed) % cycle.snapshot.len();
        let chosen = match cycle::choose(&cycle, &found.feasible) {
            Ok(node) => node,
            Err(Failure::Error(e)) => return failed(e),
            Err(Failure::Unschedulable(d)) => return self.unschedulable(&cycle, None, &d),
        };
        for (index, listed) in PLUGINS.iter().enumerate() {
            let kept = listed
                .plugin
                .reserve(&cycle, chosen)
                .and_then(|()| listed.plugin.permit(&cycle, chosen));
            if let Err(r) = kept {
                self.unreserve(pod);
                return refused(index, &r);
            }
        }
        let name = chosen.node.name.clone();
        self.next_start = next_start;
        Outcome::Place(name)
    }

    fn unreserve(&self, pod: &Pod) {
        for listed in PLUGINS.iter().rev() {
            listed.plugin.unreserve(&self.world, pod);
        }
    }

    /// The pod fits nowhere: can something be done about it?
    fn unschedulable(
        &self,
        cycle: &Cycle<'_>,
        filters: Option<&Filters<'_>>,
        diagnosis: &Diagnosis,
    ) -> Outcome {
        let attempt = Attempt {
            cycle: *cycle,
            filters,
            diagnosis,
            nominator: &self.nominator,
        };
        let mut reasons = Vec::new();
        let mut nomination = Nomination::Keep;
        for listed in PLUGINS.iter().filter(|_| diagnosis.nodes > 0) {
            match listed.plugin.post_filter(&attempt) {
                PostFilter::Skip => {}
                PostFilter::Rejected {
                    reason,
                    clear_nomination,
                } => {
                    reasons.push(reason);
                    if clear_nomination {
                        nomination = Nomination::Clear;
                    }
                }
                PostFilter::Nominated(preemption) => {
                    reasons.clear();
                    nomination = Nomination::Set(preemption);
                    break;
                }
            }
        }
        Outcome::Fail(Report {
            message: diagnosis.message(&reasons.join(", ")),
            reason: "Unschedulable",
            rejectors: diagnosis.plugins,
            pending: diagnosis.pending,
            nomination,
        })
    }

    /// The pod has a node: counts it there and binds it in the background.
    fn place(&mut self, queued: QueuedPod, node: &Arc<str>) {
        let pod = Arc::new(queued.pod.on(node));
        self.nominator.remove(&pod.key);
        self.cache.assume(pod.clone());
        let mut work = Vec::new();
        for listed in PLUGINS {
            if let Some(task) = listed.plugin.pre_bind(&self.world, &pod) {
                work.push((listed.plugin.name(), task));
            }
        }
        if !work.is_empty() && *queued.pod.nominated_node != **node {
            // The work may take long: the expected node is told first.
            self.statuses.patch(
                &pod.key,
                StatusPatch {
                    uid: pod.uid.clone(),
                    condition: None,
                    nominated_node: Some(node.to_string()),
                },
            );
        }
        let slow = !work.is_empty();
        let key = pod.key.clone();
        let (world, events) = (self.world.clone(), self.events.clone());
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let bound = bind(world, pod.clone(), work).await;
            if bound.is_ok() {
                events.scheduled(&pod, &pod.node_name);
            }
            tell(messages, Message::Bound(pod, bound)).await;
        });
        let node = node.clone();
        self.quick += usize::from(!slow);
        let binding = Binding { queued, node, slow };
        if let Some(old) = self.binding.insert(key, binding) {
            // The same name, deleted and made anew while its binding was on its way.
            self.quick -= usize::from(!old.slow);
        }
    }

    /// A binding ended.
    pub(super) fn bound(&mut self, pod: &Pod, result: Result<(), String>) {
        let key = &pod.key;
        let known = self.binding.get(key);
        if known.is_none_or(|b| b.queued.pod.uid != pod.uid) {
            return;
        }
        let Some(Binding { queued, node, slow }) = self.binding.remove(key) else {
            return;
        };
        self.quick -= usize::from(!slow);
        let Err(why) = result else {
            tracing::debug!(pod = %key, %node, attempts = queued.attempts, "pod bound");
            self.world.assumed_volumes.lock().settle(&queued.pod.uid);
            return;
        };
        self.unreserve(&queued.pod);
        if let Some(pod) = self.cache.forget(key) {
            let deleted = ClusterEvent::assigned(event::DELETE, Some(&pod), None);
            let now = self.now();
            self.queue
                .on_event(now, &deleted, &PluginRules::new(&self.world));
        }
        self.fail(queued, Report::error(why, Nomination::Clear));
    }

    /// The attempt failed: tells it, and lets the pod wait.
    fn fail(&mut self, mut queued: QueuedPod, report: Report) {
        let key = queued.pod.key.clone();
        let Some(pod) = self.current(&queued.pod) else {
            // Bound, deleted or recreated meanwhile.
            return;
        };
        queued.pod = pod.clone();
        tracing::debug!(pod = %key, message = report.message, "pod not scheduled");
        self.events.failed(&pod, &report.message);
        let before = self.nominator.node_of(&key).map(String::from);
        let before = before.unwrap_or_else(|| pod.nominated_node.to_string());
        let nominated = match &report.nomination {
            Nomination::Keep => before,
            Nomination::Clear => String::new(),
            Nomination::Set(p) => p.node.to_string(),
        };
        let condition = condition(&pod, report.reason, &report.message);
        let changed = *pod.nominated_node != *nominated;
        if condition.is_some() || changed {
            self.statuses.patch(
                &key,
                StatusPatch {
                    uid: pod.uid.clone(),
                    condition,
                    nominated_node: changed.then(|| nominated.clone()),
                },
            );
        }
        self.nominator.set(&pod, &nominated);
        if let Nomination::Set(preemption) = report.nomination {
            self.preempt(&pod, preemption);
        }
        let now = self.now();
        self.queue
            .put_back(now, queued, report.rejectors, report.pending);
    }

    /// The pod as the API has it now, if it still waits.
    fn current(&self, pod: &Arc<Pod>) -> Option<Arc<Pod>> {
        if self.cache.get(&pod.key).is_some() {
            return None;
        }
        let gr = machinery::GroupResource::new("", "pods");
        let Ok(cache) = self.world.client.cache(&gr) else {
            return Some(pod.clone());
        };
        let entry = cache.get(&pod.key.namespace, &pod.key.name)?;
        if *entry.uid != *pod.uid {
            return None;
        }
        let pod = Pod::parse(&entry).ok()?;
        pod.node_name.is_empty().then(|| Arc::new(pod))
    }

    /// Starts the removal of victims.
    fn preempt(&mut self, pod: &Arc<Pod>, preemption: Preemption) {
        let Preemption { node, victims } = preemption;
        tracing::info!(pod = %pod.key, %node, victims = victims.len(), "preempting");
        let lower: Vec<Arc<Pod>> = self
            .nominator
            .on(&node)
            .iter()
            .filter(|p| p.priority < pod.priority)
            .cloned()
            .collect();
        for other in lower {
            self.nominator.remove(&other.key);
            self.statuses.patch(
                &other.key,
                StatusPatch {
                    uid: other.uid.clone(),
                    condition: None,
                    nominated_node: Some(String::new()),
                },
            );
        }
        if victims.iter().all(|v| v.deleting) {
            return;
        }
        self.world.preempting.lock().insert(pod.uid.clone());
        let task = act::preempt(
            self.world.clone(),
            self.events.clone(),
            pod.clone(),
            victims,
            node,
        );
        let (messages, key) = (self.messages.clone(), pod.key.clone());
        tokio::spawn(async move {
            if !task.await {
                tell(messages, Message::PreemptionFailed(key)).await;
            }
        });
    }
}

fn failed(error: String) -> Outcome {
    Outcome::Fail(Report::error(error, Nomination::Clear))
}

/// Reserve or Permit said no: one node was in question.
fn refused(plugin: usize, r: &Rejection) -> Outcome {
    let mut rejectors = PluginSet::default();
    rejectors.insert(plugin);
    Outcome::Fail(Report {
        message: format!("0/1 nodes are available: 1 {}.", r.message()),
        reason: "Unschedulable",
        rejectors,
        pending: PluginSet::default(),
        nomination: Nomination::Clear,
    })
}

/// The PodScheduled condition to write, if it is not there already.
fn condition(pod: &Pod, reason: &str, message: &str) -> Option<serde_json::Value> {
    let known = pod.scheduled.clone().unwrap_or_default();
    let wanted = Condition {
        status: "False".into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: pod.generation,
        last_transition: known.last_transition.clone(),
    };
    if known == wanted {
        return None;
    }
    let since = known
        .last_transition
        .filter(|_| known.status == wanted.status)
        .unwrap_or_else(act::now);
    Some(json!({
        "type": "PodScheduled",
        "status": wanted.status,
        "reason": wanted.reason,
        "message": wanted.message,
        "observedGeneration": wanted.observed_generation,
        "lastTransitionTime": since,
    }))
}
