//! What a Job needs, decided without side effects. Upstream: pkg/controller/job/job_controller.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use api::core::v1::Pod;
use jiff::Timestamp;

use super::backoff;
use super::indexes::Indexes;
use super::policy::{self, Action};
use crate::common::numbers::count;
use crate::common::object::{Object, time};
use crate::common::pods;
use crate::limits;

/// Finalizer of pods that are not counted yet.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Label and annotation of indexed pods.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Failures of an index before this pod.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Those of them that a policy ignored.
pub const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Everything a decision is made from.
pub struct Seen<'a> {
    pub job: &'a Job,
    pub spec: &'a JobSpec,
    pub pods: &'a [Arc<Pod>],
    pub now: Timestamp,
}

/// How a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub good: bool,
    pub reason: String,
    pub message: String,
}

/// Pods and indexes, counted.
#[derive(Debug, Default)]
pub struct Tally {
    pub active: Vec<Arc<Pod>>,
    pub terminating: i32,
    pub ready: i32,
    /// Pods that ended and are in no record yet.
    pub new_succeeded: Vec<Arc<Pod>>,
    pub new_failed: Vec<Arc<Pod>>,
    pub succeeded: i32,
    pub failed: i32,
    pub succeeded_indexes: Indexes,
    pub failed_indexes: Indexes,
    /// Failed pods that wait for their replacement, by index.
    pub delayed: BTreeMap<i32, Arc<Pod>>,
}

/// One pod to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPod {
    pub index: Option<i32>,
    /// Failures of its index before it, and how many of them were ignored.
    pub failures: i32,
    pub ignored: i32,
}

/// What to do about the number of pods.
#[derive(Debug, Default)]
pub struct Management {
    pub create: Vec<NewPod>,
    pub delete: Vec<Arc<Pod>>,
    pub again: Option<Duration>,
}

/// Whether pods have indexes.
pub fn indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Whether a pod is replaced only when it has failed, not when its deletion begins.
pub fn only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// Whether a Job has ended.
pub fn finished(job: &Job) -> bool {
    condition(job, "Complete").is_some() || condition(job, "Failed").is_some()
}

/// A condition that is true.
pub fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let mut all = job
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    all.find(|c| c.type_ == kind && c.status == "True")
}

/// The completion index of a pod.
pub fn index_of(pod: &Pod) -> Option<i32> {
    pod.annotations().get(INDEX)?.parse().ok()
}

fn number(pod: &Pod, key: &str) -> i32 {
    pod.annotation(key).parse().unwrap_or(0)
}

/// Whether a pod counts as failed.
pub fn pod_failed(spec: &JobSpec, pod: &Pod) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => !only_failed(spec) && pod.deleting(),
    }
}

// === Tally ===

impl Seen<'_> {
    /// Whether a pod has an index of the Job, where it needs one.
    fn counts(&self, pod: &Pod) -> bool {
        let most = self.spec.completions.unwrap_or(0);
        !indexed(self.spec) || index_of(pod).is_some_and(|i| i >= 0 && i < most)
    }

    /// Counts the pods. `status` is the status with what is no longer uncounted moved to the counters.
    pub fn tally(&self, status: &JobStatus) -> Tally {
        let completions = self.spec.completions.unwrap_or(0);
        let parse = |t: &Option<String>| Indexes::parse(t.as_deref().unwrap_or(""), completions);
        let mut t = Tally {
            succeeded_indexes: parse(&status.completed_indexes),
            failed_indexes: parse(&status.failed_indexes),
            ..Tally::default()
        };
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let known_good = uncounted.succeeded.unwrap_or_default();
        let known_bad = uncounted.failed.unwrap_or_default();
        for pod in self.pods {
            if pods::active(pod) {
                t.ready += i32::from(pods::ready(pod));
                t.active.push(pod.clone());
            } else if pods::terminating(pod) {
                t.terminating += 1;
            }
            let tracked = pod.has_finalizer(TRACKING) && self.counts(pod);
            let known = |list: &[String]| list.iter().any(|u| u == pod.uid());
            if !tracked || known(&known_good) || known(&known_bad) {
                continue;
            }
            if pods::phase(pod) == "Succeeded" {
                t.new_succeeded.push(pod.clone());
            } else if pod_failed(self.spec, pod) {
                t.new_failed.push(pod.clone());
            }
        }
        let counted = |p: &&Arc<Pod>| policy::judge(self.spec, p) != Action::Ignore;
        let bad = count(t.new_failed.iter().filter(counted).count() + known_bad.len());
        t.failed = status.failed.unwrap_or(0) + bad;
        if indexed(self.spec) {
            let new = t.new_succeeded.iter().filter_map(|p| index_of(p));
            t.succeeded_indexes.0.extend(new);
            t.succeeded = t.succeeded_indexes.len();
            self.tally_indexes(&mut t);
        } else {
            let good = count(t.new_succeeded.len() + known_good.len());
            t.succeeded = status.succeeded.unwrap_or(0) + good;
        }
        t
    }

    /// Which indexes failed for good, and which failed pods wait for a replacement.
    fn tally_indexes(&self, t: &mut Tally) {
        let Some(limit) = self.spec.backoff_limit_per_index else {
            return;
        };
        let failed =
            |p: &&Arc<Pod>| p.has_finalizer(TRACKING) && self.counts(p) && pod_failed(self.spec, p);
        for pod in self.pods.iter().filter(failed) {
            let Some(index) = index_of(pod) else { continue };
            if t.succeeded_indexes.has(index) {
                continue;
            }
            let action = policy::judge(self.spec, pod);
            let over = action != Action::Ignore && number(pod, FAILURES) >= limit;
            if over || action == Action::FailIndex {
                t.failed_indexes.0.insert(index);
                continue;
            }
            let tries = |p: &Pod| number(p, FAILURES) + number(p, IGNORED);
            let newest = t.delayed.get(&index).is_none_or(|k| tries(k) < tries(pod));
            if newest {
                t.delayed.insert(index, pod.clone());
            }
        }
        // A pod that runs for the index has taken over already.
        let running: BTreeSet<i32> = t.active.iter().filter_map(|p| index_of(p)).collect();
        let (failed, done) = (t.failed_indexes.clone(), t.succeeded_indexes.clone());
        t.delayed
            .retain(|i, _| !running.contains(i) && !failed.has(*i) && !done.has(*i));
    }

    /// Whether and how the Job ends now.
    pub fn ending(&self, t: &Tally) -> Option<Ending> {
        let bad = |reason: &str, message: String| {
            Some(Ending {
                good: false,
                reason: reason.into(),
                message,
            })
        };
        let told = |c: &JobCondition, good| Ending {
            good,
            reason: c.reason.clone().unwrap_or_default(),
            message: c.message.clone().unwrap_or_default(),
        };
        if let Some(c) = condition(self.job, "SuccessCriteriaMet") {
            return Some(told(c, true));
        }
        if let Some(c) = condition(self.job, "FailureTarget") {
            return Some(told(c, false));
        }
        let failed = self.pods.iter().filter(|p| pod_failed(self.spec, p));
        for pod in failed {
            if let Action::FailJob(message) = policy::judge(self.spec, pod) {
                return bad("PodFailurePolicy", message);
            }
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if t.failed > limit || self.restarted_too_often(limit) {
            let message = "Job has reached the specified backoff limit".into();
            return bad("BackoffLimitExceeded", message);
        }
        if self.deadline_left().is_some_and(|left| left.is_zero()) {
            let message = "Job was active longer than specified deadline".into();
            return bad("DeadlineExceeded", message);
        }
        if !indexed(self.spec) {
            return None;
        }
        let failed = t.failed_indexes.len();
        if self
            .spec
            .max_failed_indexes
            .is_some_and(|most| failed > most)
        {
            let message = "Job has exceeded the specified maximal number of failed indexes".into();
            return bad("MaxFailedIndexesExceeded", message);
        }
        let completions = self.spec.completions.unwrap_or(0);
        if failed > 0 && failed + t.succeeded >= completions {
            return bad("FailedIndexes", "Job has failed indexes".into());
        }
        policy::success(self.spec, &t.succeeded_indexes).map(|message| Ending {
            good: true,
            reason: "SuccessPolicy".into(),
            message,
        })
    }

    fn restarted_too_often(&self, limit: i32) -> bool {
        let template = self.spec.template.spec.as_ref();
        if template.and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let alive = |p: &&Arc<Pod>| matches!(pods::phase(p), "Running" | "Pending");
        let restarts: i32 = self
            .pods
            .iter()
            .filter(alive)
            .flat_map(|p| &p.status)
            .flat_map(|s| {
                let init = s.init_container_statuses.iter().flatten();
                init.chain(s.container_statuses.iter().flatten())
            })
            .map(|c| c.restart_count)
            .sum();
        if limit == 0 {
            restarts > 0
        } else {
            restarts >= limit
        }
    }

    /// Whether the Job is suspended.
    pub fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// How long until the deadline; `None` where there is none.
    pub fn deadline_left(&self) -> Option<Duration> {
        let seconds = self.spec.active_deadline_seconds?;
        let start = self.job.status.as_ref()?.start_time.as_ref()?.0;
        if self.suspended() {
            return None;
        }
        let end = start.as_nanosecond() + i128::from(seconds) * 1_000_000_000;
        let left = u64::try_from(end - self.now.as_nanosecond()).unwrap_or(0);
        Some(Duration::from_nanos(left))
    }

    /// Whether all that was asked for is done.
    pub fn complete(&self, t: &Tally, active: i32) -> bool {
        let enough = match self.spec.completions {
            Some(n) => t.succeeded >= n,
            None => t.succeeded > 0,
        };
        enough && active == 0
    }

    /// Which pods to make or remove while the Job goes on.
    pub fn manage(&self, t: &Tally, record: &backoff::Record) -> Management {
        let mut m = Management::default();
        let active = count(t.active.len());
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let wanted = match self.spec.completions {
            None if t.succeeded > 0 => active,
            None => parallelism,
            Some(n) => (n - t.succeeded).clamp(0, parallelism),
        };
        let surplus = usize::try_from(active - wanted).unwrap_or(0);
        m.delete = self.removable(t, surplus);
        m.delete.truncate(limits::BURST_REPLICAS);
        if !m.delete.is_empty() {
            return m;
        }
        let waiting = if only_failed(self.spec) {
            t.terminating
        } else {
            0
        };
        let missing = usize::try_from(wanted - active - waiting).unwrap_or(0);
        let missing = missing.min(limits::BURST_REPLICAS);
        if missing == 0 {
            return m;
        }
        if !indexed(self.spec) {
            m.again = record.left(self.now);
            if m.again.is_none() {
                let pod = NewPod {
                    index: None,
                    failures: 0,
                    ignored: 0,
                };
                m.create = vec![pod; missing];
            }
            return m;
        }
        if self.spec.backoff_limit_per_index.is_none() {
            m.again = record.left(self.now);
            if m.again.is_some() {
                return m;
            }
        }
        self.pending_indexes(t, missing, &mut m);
        m
    }

    /// Active pods to remove: those of no use first, then in the order of deletion.
    fn removable(&self, t: &Tally, surplus: usize) -> Vec<Arc<Pod>> {
        let mut ranked = t.active.clone();
        ranked.sort_by(|a, b| pods::plain_deletion_order(a, b, self.now));
        let mut useless = Vec::new();
        if indexed(self.spec) {
            let mut kept = BTreeSet::new();
            // From the end: the pods that would be deleted last stay.
            ranked = ranked
                .into_iter()
                .rev()
                .filter(|p| {
                    let fits = self.counts(p) && index_of(p).is_some_and(|i| kept.insert(i));
                    if !fits {
                        useless.push(p.clone());
                    }
                    fits
                })
                .collect();
            ranked.reverse();
        }
        let more = surplus.saturating_sub(useless.len());
        useless.extend(ranked.into_iter().take(more));
        useless
    }

    /// The lowest indexes that need a pod.
    fn pending_indexes(&self, t: &Tally, missing: usize, m: &mut Management) {
        let completions = self.spec.completions.unwrap_or(0);
        let busy = |p: &&Arc<Pod>| {
            let ended = pods::terminal(p) || pod_failed(self.spec, p);
            pods::active(p) || (only_failed(self.spec) && !ended)
        };
        let taken: BTreeSet<i32> = self
            .pods
            .iter()
            .filter(busy)
            .filter_map(|p| index_of(p))
            .collect();
        let free = (0..completions).filter(|i| {
            !taken.contains(i) && !t.succeeded_indexes.has(*i) && !t.failed_indexes.has(*i)
        });
        for index in free {
            if m.create.len() == missing {
                break;
            }
            let (mut failures, mut ignored) = (0, 0);
            if let Some(before) = t.delayed.get(&index) {
                (failures, ignored) = (number(before, FAILURES), number(before, IGNORED));
                if policy::judge(self.spec, before) == Action::Ignore {
                    ignored += 1;
                } else {
                    failures += 1;
                }
                let tries = u32::try_from(failures + ignored).unwrap_or(0);
                let left = backoff::left(tries, backoff::finish_time(before), self.now);
                if let Some(left) = left {
                    m.again = Some(m.again.map_or(left, |a| a.min(left)));
                    continue;
                }
            }
            m.create.push(NewPod {
                index: Some(index),
                failures,
                ignored,
            });
        }
    }
}

// === Status ===

/// Moves records of pods that no longer carry the finalizer to the counters; tells whether any moved.
pub fn settle(status: &mut JobStatus, pods: &[Arc<Pod>]) -> bool {
    let tracked = |uid: &String| {
        pods.iter()
            .any(|p| p.uid() == uid && p.has_finalizer(TRACKING))
    };
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    let mut moved = false;
    let mut settle = |list: &mut Option<Vec<String>>, counter: &mut Option<i32>| {
        let all = list.take().unwrap_or_default();
        let before = all.len();
        let left: Vec<String> = all.into_iter().filter(|u| tracked(u)).collect();
        let gone = before - left.len();
        moved |= gone > 0;
        if gone > 0 {
            *counter = Some(counter.unwrap_or(0) + count(gone));
        }
        *list = (!left.is_empty()).then_some(left);
    };
    settle(&mut uncounted.succeeded, &mut status.succeeded);
    settle(&mut uncounted.failed, &mut status.failed);
    moved
}

/// Notes newly ended pods; gives the pods whose finalizer may go once the status is written.
pub fn record(
    seen: &Seen<'_>,
    t: &Tally,
    status: &mut JobStatus,
    end: Option<&Ending>,
) -> Vec<Arc<Pod>> {
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    let mut released = Vec::new();
    let mut noted = uncounted.succeeded.as_ref().map_or(0, Vec::len)
        + uncounted.failed.as_ref().map_or(0, Vec::len);
    let held: BTreeSet<&str> = match end {
        None => t.delayed.values().map(|p| p.uid()).collect(),
        Some(_) => BTreeSet::new(),
    };
    let failing = end.is_some_and(|e| !e.good);
    for pod in seen.pods.iter().filter(|p| p.has_finalizer(TRACKING)) {
        if noted >= limits::BURST_REPLICAS {
            break;
        }
        let good = pods::phase(pod) == "Succeeded";
        let bad = pod_failed(seen.spec, pod);
        let over = seen.job.deleting() || end.is_some() || good || bad;
        if !over || held.contains(pod.uid()) {
            continue;
        }
        released.push(pod.clone());
        let known = |list: &Option<Vec<String>>| list.iter().flatten().any(|u| u == pod.uid());
        if known(&uncounted.succeeded) || known(&uncounted.failed) || !seen.counts(pod) {
            continue;
        }
        if good && indexed(seen.spec) {
            // The index is the record.
        } else if good {
            uncounted
                .succeeded
                .get_or_insert_default()
                .push(pod.uid().into());
            noted += 1;
        } else if (bad || failing) && policy::judge(seen.spec, pod) != Action::Ignore {
            uncounted
                .failed
                .get_or_insert_default()
                .push(pod.uid().into());
            noted += 1;
        }
    }
    released
}

/// Whether any ended pod is still to be counted.
pub fn has_uncounted(status: &JobStatus) -> bool {
    let some = |l: &Option<Vec<String>>| l.as_ref().is_some_and(|l| !l.is_empty());
    let u = status.uncounted_terminated_pods.as_ref();
    u.is_some_and(|u| some(&u.succeeded) || some(&u.failed))
}

/// Whether two statuses say the same: a missing number is a zero, a missing record an empty one.
pub fn same_status(a: &JobStatus, b: &JobStatus) -> bool {
    let plain = |s: &JobStatus| {
        let mut s = s.clone();
        for n in [
            &mut s.active,
            &mut s.failed,
            &mut s.succeeded,
            &mut s.ready,
            &mut s.terminating,
        ] {
            *n = n.filter(|n| *n != 0);
        }
        if !has_uncounted(&s) {
            s.uncounted_terminated_pods = None;
        }
        s.conditions = s.conditions.filter(|c| !c.is_empty());
        s
    };
    plain(a) == plain(b)
}

/// A condition of now.
pub fn new_condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> JobCondition {
    JobCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: time(now),
        last_transition_time: time(now),
    }
}

/// Sets a condition; tells whether it changed. A false one is only set over a true one.
pub fn set_condition(status: &mut JobStatus, new: JobCondition) -> bool {
    let all = status.conditions.get_or_insert_default();
    match all.iter_mut().find(|c| c.type_ == new.type_) {
        Some(c) if c.status == new.status && c.reason == new.reason && c.message == new.message => {
            false
        }
        Some(c) => {
            *c = new;
            true
        }
        None if new.status == "False" => false,
        None => {
            all.push(new);
            true
        }
    }
}

/// The interim condition of an ending.
pub fn interim(status: &mut JobStatus, end: &Ending, now: Timestamp) {
    let kind = if end.good {
        "SuccessCriteriaMet"
    } else {
        "FailureTarget"
    };
    let known = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == kind && c.status == "True");
    if !known {
        let c = new_condition(kind, "True", &end.reason, &end.message, now);
        status.conditions.get_or_insert_default().push(c);
    }
}

/// The terminal condition of an ending, if nothing is left to be counted or to end; tells whether it is set.
pub fn terminal(status: &mut JobStatus, end: &Ending, now: Timestamp) -> bool {
    let busy = status.terminating.unwrap_or(0) > 0 || status.active.unwrap_or(0) > 0;
    if has_uncounted(status) || busy {
        return false;
    }
    let kind = if end.good { "Complete" } else { "Failed" };
    let c = new_condition(kind, "True", &end.reason, &end.message, now);
    status.conditions.get_or_insert_default().push(c);
    if end.good {
        status.completion_time = time(now);
    }
    true
}

#[cfg(test)]
mod tests;
