//! Finished Jobs go after their time to live. Upstream: pkg/controller/ttlafterfinished.

use std::time::Duration;

use api::batch::v1::Job;
use async_trait::async_trait;
use client::Client;
use client::api::DeleteParams;
use jiff::Timestamp;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use crate::common::act;
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "ttl-after-finished-controller",
    account: "ttl-after-finished-controller",
    component: "ttl-after-finished-controller",
    needs: &[("batch", "jobs")],
    build: |setup| Ok(build(setup)),
};

fn build(setup: &Setup) -> Reconciler {
    let this = TtlAfterFinished {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
    };
    Reconciler::new("ttl-after-finished-controller", 5, this).on(Trigger::map(
        "batch",
        "jobs",
        |e| {
            let due = e.typed::<Job>().is_some_and(|j| {
                let ttl = j.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
                ttl.is_some() && finished_at(&j).is_some() && !j.deleting()
            });
            if due {
                vec![Key::of(e.entry).into()]
            } else {
                Vec::new()
            }
        },
    ))
}

struct TtlAfterFinished {
    client: Client,
    clock: Clock,
}

/// When a Job ended; the inner `None` where its condition does not say.
fn finished_at(job: &Job) -> Option<Option<Timestamp>> {
    let mut all = job
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let ended =
        all.find(|c| c.status == "True" && (c.type_ == "Complete" || c.type_ == "Failed"))?;
    Some(ended.last_transition_time.as_ref().map(|t| t.0))
}

/// How long the Job may still stay; `None` where it stays for good.
fn left(job: &Job, now: Timestamp) -> Result<Option<Duration>, Error> {
    let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
    let (Some(ttl), Some(at), false) = (ttl, finished_at(job), job.deleting()) else {
        return Ok(None);
    };
    let Some(at) = at else {
        return Err(Error::Other(format!(
            "unable to find the time when the Job {}/{} finished",
            job.namespace(),
            job.name()
        )));
    };
    let end = at.as_nanosecond() + i128::from(ttl) * 1_000_000_000;
    let left = u64::try_from(end - now.as_nanosecond()).unwrap_or(0);
    Ok(Some(Duration::from_nanos(left)))
}

#[async_trait]
impl Reconcile for TtlAfterFinished {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(job) = self.client.lister::<Job>()?.get(&key.namespace, &key.name) else {
            return Ok(Next::Done);
        };
        match left(&job, self.clock.now())? {
            None => return Ok(Next::Done),
            Some(left) if !left.is_zero() => return Ok(Next::After(left)),
            Some(_) => {}
        }
        // Its time to live may just have been raised: ask the server before deleting.
        let api = self.client.namespaced::<Job>(&key.namespace);
        let live = api.get_opt(&key.name).await.during("get the job")?;
        let Some(live) = live.filter(|l| l.uid() == job.uid()) else {
            return Ok(Next::Done);
        };
        if left(&live, self.clock.now())?.is_none_or(|l| !l.is_zero()) {
            return Ok(Next::Done);
        }
        let params = DeleteParams {
            preconditions: client::only_uid(job.uid()),
            ..DeleteParams::foreground()
        };
        act::delete::<Job>(&self.client, &key.namespace, &key.name, &params)
            .await
            .during("delete the job")?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_time_to_live_counts_from_the_end() {
        let job = |status: &str| -> Job {
            serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": {"template": {}, "ttlSecondsAfterFinished": 10},
                "status": {"conditions": [{"type": "Failed", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
            .unwrap()
        };
        let at = |s: &str| -> Timestamp { s.parse().unwrap() };
        let left = |j: &Job, t: &str| super::left(j, at(t)).unwrap();
        assert_eq!(left(&job("False"), "2026-01-01T00:00:03Z"), None);
        assert_eq!(
            left(&job("True"), "2026-01-01T00:00:03Z"),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            left(&job("True"), "2026-01-01T00:01:00Z"),
            Some(Duration::ZERO)
        );
    }
}
