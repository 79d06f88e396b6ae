//! CronJobs: Jobs at the times of a schedule. Upstream: pkg/controller/cronjob.

mod plan;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use api::batch::v1::{CronJob, CronJobStatus, Job};
use api::core::v1::ObjectReference;
use api::meta::ObjectMeta;
use async_trait::async_trait;
use client::api::DeleteParams;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use self::schedule::Schedule;
use crate::common::act;
use crate::common::object::{self, Object, time};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "cronjob-controller",
    account: "cronjob-controller",
    component: "cronjob-controller",
    needs: &[("batch", "cronjobs"), ("batch", "jobs")],
    build: |setup| Ok(build(setup)),
};

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// A little later than the exact time, so that it is due then.
const SLACK: Duration = Duration::from_millis(100);

fn build(setup: &Setup) -> Reconciler {
    let this = CronJobs {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
    };
    Reconciler::new("cronjob-controller", 5, this)
        .on(Trigger::own("batch", "cronjobs"))
        .on(Trigger::owned("batch", "jobs", "CronJob"))
}

struct CronJobs {
    client: Client,
    recorder: Recorder,
    clock: Clock,
}

#[async_trait]
impl Reconcile for CronJobs {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let found = self
            .client
            .lister::<CronJob>()?
            .get(&key.namespace, &key.name);
        let Some(cron) = found else {
            return Ok(Next::Done);
        };
        let lister = self.client.lister::<Job>()?;
        let jobs: Vec<Arc<Job>> = lister.select(Some(&key.namespace), |e| {
            let owner = e.controller.as_ref();
            owner.is_some_and(|c| &*c.kind == "CronJob" && *c.name == *key.name)
        });
        let before = cron.status.clone().unwrap_or_default();
        let mut status = before.clone();
        self.clean_history(&cron, &jobs, &mut status).await?;
        let next = self.sync(&cron, &jobs, &mut status).await;
        if status != before {
            let new = CronJob {
                status: Some(status),
                ..(*cron).clone()
            };
            act::update_status(&self.client, &new)
                .await
                .during("update the status")?;
        }
        next
    }
}

impl CronJobs {
    fn tell(&self, cron: &CronJob, kind: EventType, reason: &str, message: &str) {
        self.recorder.event(reference(cron), kind, reason, message);
    }

    async fn clean_history(
        &self,
        cron: &CronJob,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> Result<(), Error> {
        let all: Vec<&Job> = jobs.iter().map(|j| &**j).collect();
        let good = cron.spec.successful_jobs_history_limit;
        let bad = cron.spec.failed_jobs_history_limit;
        let mut surplus = plan::surplus(&all, "Complete", good);
        surplus.extend(plan::surplus(&all, "Failed", bad));
        for job in surplus {
            self.delete(cron, job, status).await?;
        }
        Ok(())
    }

    async fn delete(
        &self,
        cron: &CronJob,
        job: &Job,
        status: &mut CronJobStatus,
    ) -> Result<(), Error> {
        let params = DeleteParams::background();
        match act::delete::<Job>(&self.client, job.namespace(), job.name(), &params).await {
            Ok(()) => {
                let message = format!("Deleted job {}", job.name());
                self.tell(cron, EventType::Normal, "SuccessfulDelete", &message);
                forget(status, job.uid());
                Ok(())
            }
            Err(e) => {
                let message = format!("Deleted job: {}", client::message(&e));
                self.tell(cron, EventType::Warning, "FailedDelete", &message);
                Err(e).during("delete a job")
            }
        }
    }

    /// Brings the list of active Jobs in line with the Jobs that are there.
    async fn follow(
        &self,
        cron: &CronJob,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> Result<(), Error> {
        for job in jobs {
            let known = is_active(status, job.uid());
            match plan::ended(job) {
                None if !known && !job.deleting() => {
                    // Our own status may be on its way: ask before warning.
                    let api = self.client.namespaced::<CronJob>(cron.namespace());
                    let live = api.get_opt(cron.name()).await.during("get the cron job")?;
                    let live = live.and_then(|c| c.status).unwrap_or_default();
                    if !is_active(&live, job.uid()) {
                        let name = job.name();
                        let message = format!(
                            "Saw a job that the controller did not create or forgot: {name}"
                        );
                        self.tell(cron, EventType::Warning, "UnexpectedJob", &message);
                    }
                }
                Some(how) if known => {
                    forget(status, job.uid());
                    let name = job.name();
                    let message = format!("Saw completed job: {name}, condition: {how}");
                    self.tell(cron, EventType::Normal, "SawCompletedJob", &message);
                }
                _ => {}
            }
            let done = job.status.as_ref().and_then(|s| s.completion_time.clone());
            if plan::ended(job) == Some("Complete") && done > status.last_successful_time {
                status.last_successful_time = done;
            }
        }
        for entry in status.active.clone().unwrap_or_default() {
            let uid = entry.uid.as_deref().unwrap_or("");
            if jobs.iter().any(|j| j.uid() == uid) {
                continue;
            }
            let name = entry.name.clone().unwrap_or_default();
            let api = self.client.namespaced::<Job>(cron.namespace());
            let live = api.get_opt(&name).await.during("get an active job")?;
            if live.is_none_or(|j| j.uid() != uid) {
                let message = format!("Active job went missing: {name}");
                self.tell(cron, EventType::Normal, "MissingJob", &message);
                forget(status, uid);
            }
        }
        Ok(())
    }

    /// The schedule, or why there is none.
    fn schedule(&self, cron: &CronJob) -> Option<Schedule> {
        let text = &cron.spec.schedule;
        let zone = match cron.spec.time_zone.as_deref() {
            None | Some("") => TimeZone::system(),
            Some(name) => match TimeZone::get(name) {
                Ok(zone) => zone,
                Err(e) => {
                    let message = format!("invalid timeZone: {name:?}: {e}");
                    self.tell(cron, EventType::Warning, "UnknownTimeZone", &message);
                    return None;
                }
            },
        };
        if text.contains("TZ") {
            let message = format!(
                "CRON_TZ or TZ used in schedule {text:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            );
            self.tell(cron, EventType::Warning, "UnsupportedSchedule", &message);
        }
        match Schedule::parse(text, zone) {
            Ok(schedule) => Some(schedule),
            Err(why) => {
                let message = format!("unparseable schedule: {text:?} : {why}");
                self.tell(cron, EventType::Warning, "UnparseableSchedule", &message);
                None
            }
        }
    }

    async fn sync(
        &self,
        cron: &CronJob,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> Result<Next, Error> {
        self.follow(cron, jobs, status).await?;
        if cron.deleting() || cron.spec.suspend == Some(true) {
            return Ok(Next::Done);
        }
        let Some(schedule) = self.schedule(cron) else {
            return Ok(Next::Done);
        };
        let now = self.clock.now();
        let current = CronJob {
            status: Some(status.clone()),
            ..cron.clone()
        };
        let due = match plan::due(&current, &schedule, now) {
            Ok(due) => due,
            Err(why) => {
                let text = &cron.spec.schedule;
                let message = format!("invalid schedule: {text} : {why}");
                self.tell(cron, EventType::Warning, "InvalidSchedule", &message);
                return Ok(Next::Done);
            }
        };
        let next = next_run(&schedule, now);
        let Some(due) = due else {
            return Ok(next);
        };
        if due.many {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.tell(cron, EventType::Warning, "TooManyMissedTimes", message);
        }
        self.start(cron, jobs, status, due.at).await?;
        Ok(next)
    }

    /// Starts the run of a time, if the policies let it.
    async fn start(
        &self,
        cron: &CronJob,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
        at: Timestamp,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let deadline = cron.spec.starting_deadline_seconds;
        if deadline.is_some_and(|d| at.as_second() + d < now.as_second()) {
            let text = at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
            let message = format!("Missed scheduled time to start a job: {text}");
            self.tell(cron, EventType::Warning, "MissSchedule", &message);
            return Ok(());
        }
        let name = format!("{}-{}", cron.name(), at.as_second() / 60);
        let mut active = status.active.iter().flatten();
        let running = active.any(|r| r.name.as_deref() == Some(&name));
        let last = status.last_schedule_time.as_ref().map(|t| t.0);
        if running || last == Some(at) {
            return Ok(());
        }
        let busy = status.active.as_ref().is_some_and(|a| !a.is_empty());
        match cron.spec.concurrency_policy.as_deref() {
            Some("Forbid") if busy => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.tell(cron, EventType::Normal, "JobAlreadyActive", message);
                return Ok(());
            }
            Some("Replace") if busy => {
                for entry in status.active.clone().unwrap_or_default() {
                    let uid = entry.uid.unwrap_or_default();
                    if let Some(job) = jobs.iter().find(|j| j.uid() == uid) {
                        self.delete(cron, job, status).await?;
                    }
                }
            }
            _ => {}
        }
        let job = match act::create(&self.client, &new_job(cron, name, at)).await {
            Ok(job) => {
                let message = format!("Created job {}", job.name());
                self.tell(cron, EventType::Normal, "SuccessfulCreate", &message);
                job
            }
            Err(e) if client::is_namespace_terminating(&e) => return Ok(()),
            Err(e) if client::is_already_exists(&e) => {
                // Made by an earlier run whose status was lost.
                let name = format!("{}-{}", cron.name(), at.as_second() / 60);
                let api = self.client.namespaced::<Job>(cron.namespace());
                let there = api.get(&name).await.during("get a job")?;
                if !there.controlled_by(cron.uid()) || plan::ended(&there).is_some() {
                    return Ok(());
                }
                there
            }
            Err(e) => {
                let message = format!("Error creating job: {}", client::message(&e));
                self.tell(cron, EventType::Warning, "FailedCreate", &message);
                return Err(e).during("create a job");
            }
        };
        let reference = ObjectReference {
            field_path: None,
            ..reference(&job)
        };
        status.active.get_or_insert_default().push(reference);
        status.last_schedule_time = time(at);
        Ok(())
    }
}

fn is_active(status: &CronJobStatus, uid: &str) -> bool {
    let mut all = status.active.iter().flatten();
    all.any(|r| r.uid.as_deref() == Some(uid))
}

fn forget(status: &mut CronJobStatus, uid: &str) {
    if let Some(active) = &mut status.active {
        active.retain(|r| r.uid.as_deref() != Some(uid));
        if active.is_empty() {
            status.active = None;
        }
    }
}

fn next_run(schedule: &Schedule, now: Timestamp) -> Next {
    let left = schedule.next(now).and_then(|t| {
        let left = t.as_nanosecond() - now.as_nanosecond();
        u64::try_from(left).ok().map(Duration::from_nanos)
    });
    left.map(|l| l + SLACK).into()
}

fn new_job(cron: &CronJob, name: String, at: Timestamp) -> Job {
    let template = &cron.spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let zone = match cron.spec.time_zone.as_deref() {
        None | Some("") => TimeZone::UTC,
        Some(name) => TimeZone::get(name).unwrap_or(TimeZone::UTC),
    };
    let at = at.to_zoned(zone);
    let stamp = if at.offset().is_zero() {
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    };
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.into(), stamp);
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![object::controller_ref(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
