//! Jobs: pods that run to completion, each counted exactly once by means of a finalizer.
//! Upstream: pkg/controller/job.

mod backoff;
mod indexes;
mod plan;
mod policy;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::batch::v1::{Job, JobSpec, JobStatus};
use api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use async_trait::async_trait;
use client::api::Patch;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use parking_lot::Mutex;
use reconciler::{Clock, During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake};
use serde_json::json;

use self::plan::{Ending, INDEX, NewPod, Seen, TRACKING};
use crate::common::act::{self, Pods};
use crate::common::claim::Claim;
use crate::common::numbers::count;
use crate::common::object::{self, Object, time};
use crate::common::{pods, selector};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "job-controller",
    account: "job-controller",
    component: "job-controller",
    needs: &[("batch", "jobs"), ("", "pods")],
    build: |setup| Ok(build(setup)),
};

/// The value of `spec.managedBy` that means this controller.
const MANAGER: &str = "kubernetes.io/job-controller";

/// Pod events of one Job are taken together for so long.
const BATCH: Duration = Duration::from_secs(1);

/// Prefix of keys that mean a pod whose Job is gone; no name can contain it.
const ORPHAN: &str = "pod/";

fn build(setup: &Setup) -> Reconciler {
    let this = Jobs {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        records: Mutex::default(),
    };
    let jobs = setup.client.clone();
    Reconciler::new("job-controller", 5, this)
        .backoff(Duration::from_secs(1), Duration::from_secs(60))
        .on(Trigger::map("batch", "jobs", |e| {
            let generation = |j: Option<Arc<Job>>| j.map(|j| (j.generation(), j.deleting()));
            let status_only = e.before.is_some()
                && !e.deleted()
                && generation(e.typed::<Job>()) == generation(e.typed_before::<Job>());
            let after = if status_only { BATCH } else { Duration::ZERO };
            vec![Wake {
                key: Key::of(e.entry),
                after,
            }]
        }))
        .on(Trigger::map("", "pods", move |e| wakes_of_pod(&jobs, e)))
}

fn wakes_of_pod(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    let mut wakes = reconciler::owners(e, "Job");
    for wake in &mut wakes {
        wake.after = BATCH;
    }
    if e.deleted() {
        return wakes;
    }
    let owner = e.entry.controller.as_ref().filter(|c| &*c.kind == "Job");
    let lister = client.lister::<Job>();
    let job = owner.and_then(|c| lister.ok()?.get(&e.entry.namespace, &c.name));
    let lives = job.is_some_and(|j| owner.is_some_and(|c| *c.uid == *j.uid()));
    let tracked = || e.typed::<Pod>().is_some_and(|p| p.has_finalizer(TRACKING));
    if !lives && tracked() {
        let name = format!("{ORPHAN}{}", e.entry.name);
        wakes.push(Key::new(&e.entry.namespace, &name).into());
    }
    wakes
}

struct Jobs {
    client: Client,
    recorder: Recorder,
    clock: Clock,
    records: Mutex<HashMap<Key, backoff::Record>>,
}

#[async_trait]
impl Reconcile for Jobs {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        if let Some(name) = key.name.strip_prefix(ORPHAN) {
            return self.release_orphan(&key.namespace, name).await;
        }
        let found = self.client.lister::<Job>()?.get(&key.namespace, &key.name);
        let Some(job) = found else {
            self.records.lock().remove(key);
            self.release_pods_of(key, None).await?;
            return Ok(Next::Done);
        };
        let Some(spec) = &job.spec else {
            return Ok(Next::Done);
        };
        if spec.managed_by.as_deref().is_some_and(|m| m != MANAGER) {
            return Ok(Next::Done);
        }
        if plan::finished(&job) {
            self.records.lock().remove(key);
            self.release_pods_of(key, Some(job.uid())).await?;
            return Ok(Next::Done);
        }
        let mode = spec.completion_mode.as_deref().unwrap_or("NonIndexed");
        if !matches!(mode, "Indexed" | "NonIndexed") {
            let message = "Skipped Job sync because completion mode is unknown";
            self.tell(&job, EventType::Warning, "UnknownCompletionMode", message);
            return Ok(Next::Done);
        }
        self.sync(key, &job, spec).await
    }
}

/// What a sync has done to a Job's pods.
struct Acted {
    active: i32,
    terminating: i32,
    error: Option<client::Error>,
    again: Option<Duration>,
}

impl Jobs {
    fn tell(&self, job: &Job, kind: EventType, reason: &str, message: &str) {
        self.recorder.event(reference(job), kind, reason, message);
    }

    async fn sync(&self, key: &Key, job: &Job, spec: &JobSpec) -> Result<Next, Error> {
        let pods = self.claim(job, spec).await?;
        let now = self.clock.seconds();
        let mut status = job.status.clone().unwrap_or_default();
        if status.start_time.is_none() && spec.suspend != Some(true) {
            status.start_time = time(now);
        }
        plan::settle(&mut status, &pods);
        let started = Job {
            status: Some(status.clone()),
            ..job.clone()
        };
        let seen = Seen {
            job: &started,
            spec,
            pods: &pods,
            now: self.clock.now(),
        };
        let tally = seen.tally(&status);
        let record = self.record(key, &tally);
        let mut end = seen.ending(&tally);
        let acted = match &end {
            Some(_) => self.stop(job, &tally).await,
            None if seen.suspended() => self.suspend(job, &tally, &mut status).await,
            None if job.deleting() => Acted::idle(&tally),
            None => self.manage(job, spec, &seen, &tally, &record).await,
        };
        if end.is_none() && acted.error.is_none() && !seen.suspended() {
            self.resumed(job, &mut status);
            end = self.completed(job, &seen, &tally, acted.active);
        }
        status.active = Some(acted.active);
        status.terminating = Some(acted.terminating);
        status.ready = Some(tally.ready.min(acted.active));
        if plan::indexed(spec) {
            status.succeeded = Some(tally.succeeded);
            status.completed_indexes = text(&tally.succeeded_indexes);
            if spec.backoff_limit_per_index.is_some() {
                // The empty set is told, too.
                status.failed_indexes = Some(tally.failed_indexes.to_string());
            }
        }
        self.track(job, &seen, &tally, status, end.as_ref()).await?;
        if let Some(source) = acted.error {
            let operation = "manage the job's pods";
            return Err(Error::Api { operation, source });
        }
        let again: Next = acted.again.into();
        Ok(again.min(seen.deadline_left().into()))
    }

    async fn claim(&self, job: &Job, spec: &JobSpec) -> Result<Vec<Arc<Pod>>, Error> {
        let Some(selector) = spec.selector.as_ref().and_then(selector::parse) else {
            return Err(Error::Other("the job's selector is malformed".into()));
        };
        let claim = Claim {
            client: &self.client,
            owner: job,
            selector: &selector,
            finalizer: Some(TRACKING),
        };
        claim.all(|_| true, |_| true).await
    }

    /// The back-off record with what ended since; it is kept from now on.
    fn record(&self, key: &Key, tally: &plan::Tally) -> backoff::Record {
        let mut records = self.records.lock();
        let new = records.get(key).cloned().unwrap_or_default().with(tally);
        records.insert(key.clone(), new.clone());
        new
    }

    /// The Job has ended: no pod may go on.
    async fn stop(&self, job: &Job, tally: &plan::Tally) -> Acted {
        let error = self.delete(job, &tally.active, false).await;
        Acted::without(tally, tally.active.len(), error)
    }

    async fn suspend(&self, job: &Job, tally: &plan::Tally, status: &mut JobStatus) -> Acted {
        let error = self.delete(job, &tally.active, true).await;
        let acted = Acted::without(tally, tally.active.len(), error);
        let now = self.clock.seconds();
        let c = plan::new_condition("Suspended", "True", "JobSuspended", "Job suspended", now);
        if plan::set_condition(status, c) {
            self.tell(job, EventType::Normal, "Suspended", "Job suspended");
        }
        status.start_time = None;
        acted
    }

    fn resumed(&self, job: &Job, status: &mut JobStatus) {
        let now = self.clock.seconds();
        let c = plan::new_condition("Suspended", "False", "JobResumed", "Job resumed", now);
        if plan::set_condition(status, c) {
            status.start_time = time(now);
            self.tell(job, EventType::Normal, "Resumed", "Job resumed");
        }
    }

    async fn manage(
        &self,
        job: &Job,
        spec: &JobSpec,
        seen: &Seen<'_>,
        tally: &plan::Tally,
        record: &backoff::Record,
    ) -> Acted {
        let m = seen.manage(tally, record);
        if !m.delete.is_empty() {
            let error = self.delete(job, &m.delete, true).await;
            return Acted::without(tally, m.delete.len(), error);
        }
        let owner = Pods {
            client: &self.client,
            recorder: &self.recorder,
            owner: reference(job),
        };
        let (made, error) = act::slow_start(m.create.len(), |i| {
            let pod = new_pod(job, spec, &m.create[i]);
            let owner = &owner;
            async move { owner.create(&pod).await }
        })
        .await;
        let mut acted = Acted::idle(tally);
        acted.active += count(made);
        acted.error = error.filter(|e| !client::is_namespace_terminating(e));
        acted.again = m.again;
        acted
    }

    /// Deletes pods; those that must never be counted lose their finalizer first.
    async fn delete(
        &self,
        job: &Job,
        victims: &[Arc<Pod>],
        uncounted: bool,
    ) -> Option<client::Error> {
        let owner = Pods {
            client: &self.client,
            recorder: &self.recorder,
            owner: reference(job),
        };
        let deletions: Vec<_> = victims
            .iter()
            .map(|pod| {
                let owner = &owner;
                async move {
                    if uncounted {
                        self.release(pod).await?;
                    }
                    owner.delete(pod.namespace(), pod.name()).await
                }
            })
            .collect();
        act::all(deletions).await
    }

    fn completed(
        &self,
        job: &Job,
        seen: &Seen<'_>,
        t: &plan::Tally,
        active: i32,
    ) -> Option<Ending> {
        if !seen.complete(t, active) {
            return None;
        }
        if seen.spec.completions.is_some_and(|n| t.succeeded > n) {
            let message = "Too many succeeded pods running after completion count reached";
            self.tell(job, EventType::Warning, "TooManySucceededPods", message);
        }
        Some(Ending {
            good: true,
            reason: "CompletionsReached".into(),
            message: "Reached expected number of succeeded pods".into(),
        })
    }

    /// Writes what was counted, lets the counted pods go, and writes the sums.
    async fn track(
        &self,
        job: &Job,
        seen: &Seen<'_>,
        tally: &plan::Tally,
        mut status: JobStatus,
        end: Option<&Ending>,
    ) -> Result<(), Error> {
        let now = self.clock.seconds();
        let released = plan::record(seen, tally, &mut status, end);
        if let Some(end) = end {
            plan::interim(&mut status, end, now);
        }
        let mut current = job.clone();
        self.write(&mut current, &status).await?;
        let releases: Vec<_> = released.iter().map(|p| self.release(p)).collect();
        if let Some(error) = act::all(releases).await {
            return Err(error).during("remove a pod's finalizer");
        }
        let left: Vec<Arc<Pod>> = seen
            .pods
            .iter()
            .filter(|p| !released.iter().any(|r| r.uid() == p.uid()))
            .cloned()
            .collect();
        plan::settle(&mut status, &left);
        let over = end.filter(|e| plan::terminal(&mut status, e, now));
        self.write(&mut current, &status).await?;
        match over {
            Some(e) if e.good => self.tell(job, EventType::Normal, "Completed", "Job completed"),
            Some(e) => self.tell(job, EventType::Warning, &e.reason, &e.message),
            None => {}
        }
        Ok(())
    }

    async fn write(&self, current: &mut Job, status: &JobStatus) -> Result<(), Error> {
        let same = current
            .status
            .as_ref()
            .is_some_and(|s| plan::same_status(s, status));
        if same {
            return Ok(());
        }
        current.status = Some(status.clone());
        *current = act::update_status(&self.client, current)
            .await
            .during("update the status")?;
        Ok(())
    }

    /// Takes the tracking finalizer off a pod.
    async fn release(&self, pod: &Pod) -> Result<(), client::Error> {
        if !pod.has_finalizer(TRACKING) {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [TRACKING]}});
        let api = self.client.namespaced::<Pod>(pod.namespace());
        let params = act::patch_params();
        match api
            .patch(pod.name(), &params, &Patch::Strategic(&patch))
            .await
        {
            Ok(patched) => {
                act::seen::<Pod>(&self.client, &patched.metadata).await;
                Ok(())
            }
            Err(e) if client::is_not_found(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn release_orphan(&self, namespace: &str, name: &str) -> Result<Next, Error> {
        if let Some(pod) = self.client.lister::<Pod>()?.get(namespace, name) {
            let owner = pod.controller().filter(|o| o.kind == "Job");
            let jobs = self.client.lister::<Job>()?;
            let job = owner.and_then(|o| jobs.get(namespace, &o.name));
            let lives = job.is_some_and(|j| pod.controlled_by(j.uid()) && !plan::finished(&j));
            if !lives {
                self.release(&pod)
                    .await
                    .during("remove a pod's finalizer")?;
            }
        }
        Ok(Next::Done)
    }

    /// Lets go of the pods of a Job that is gone (of any UID) or finished.
    async fn release_pods_of(&self, key: &Key, uid: Option<&str>) -> Result<(), Error> {
        let pods = self.client.lister::<Pod>()?;
        let theirs = pods.select(Some(&key.namespace), |e| {
            let owner = e.controller.as_ref().filter(|c| &*c.kind == "Job");
            owner.is_some_and(|c| *c.name == *key.name && uid.is_none_or(|u| *c.uid == *u))
        });
        for pod in theirs {
            self.release(&pod)
                .await
                .during("remove a pod's finalizer")?;
        }
        Ok(())
    }
}

impl Acted {
    fn idle(tally: &plan::Tally) -> Self {
        Self {
            active: count(tally.active.len()),
            terminating: tally.terminating,
            error: None,
            again: None,
        }
    }

    /// So many active pods are being deleted now.
    fn without(tally: &plan::Tally, deleted: usize, error: Option<client::Error>) -> Self {
        let mut acted = Self::idle(tally);
        if error.is_none() {
            acted.active -= count(deleted);
            acted.terminating += count(deleted);
        }
        acted.error = error;
        acted
    }
}

fn text(set: &indexes::Indexes) -> Option<String> {
    Some(set.to_string()).filter(|t| !t.is_empty())
}

/// A pod of a Job.
fn new_pod(job: &Job, spec: &JobSpec, new: &NewPod) -> Pod {
    let mut pod = pods::from_template(&spec.template, job.namespace(), object::controller_ref(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    finalizers.push(TRACKING.into());
    let Some(index) = new.index else {
        return pod;
    };
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if spec.backoff_limit_per_index.is_some() {
        annotations.insert(plan::FAILURES.into(), new.failures.to_string());
        if new.ignored > 0 {
            annotations.insert(plan::IGNORED.into(), new.ignored.to_string());
        }
    }
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(INDEX.into(), index.to_string());
    let tail = format!("-{index}-");
    let room = 58usize.saturating_sub(tail.len());
    let base: String = job.name().chars().take(room).collect();
    pod.metadata.generate_name = Some(format!("{base}{tail}"));
    if let Some(spec) = &mut pod.spec {
        let tail = format!("-{index}");
        let room = api::names::DNS1123_LABEL_MAX.saturating_sub(tail.len());
        let base: String = job.name().chars().take(room).collect();
        spec.hostname = Some(format!("{base}{tail}"));
        let init = spec.init_containers.iter_mut().flatten();
        for container in init.chain(&mut spec.containers) {
            add_index_variable(container);
        }
    }
    pod
}

fn add_index_variable(container: &mut Container) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    let env = container.env.get_or_insert_default();
    if env.iter().any(|e| e.name == NAME) {
        return;
    }
    env.push(EnvVar {
        name: NAME.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    });
}
