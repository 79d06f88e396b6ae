//! Which run of a CronJob is due. Upstream: pkg/controller/cronjob/utils.go.

use api::batch::v1::{CronJob, Job};
use jiff::Timestamp;

use super::schedule::Schedule;
use crate::common::object::Object;

/// Missed runs beyond which a CronJob warns.
const MANY: i64 = 100;

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    pub at: Timestamp,
    /// Whether so many runs were missed that something must be wrong.
    pub many: bool,
}

/// The most recent time that is due, if any.
pub fn due(cron: &CronJob, schedule: &Schedule, now: Timestamp) -> Result<Option<Due>, String> {
    let last = cron
        .status
        .as_ref()
        .and_then(|s| s.last_schedule_time.as_ref());
    let mut earliest = last.map_or_else(|| cron.created(), |t| t.0);
    if let Some(deadline) = cron.spec.starting_deadline_seconds {
        let floor = Timestamp::from_second(now.as_second().saturating_sub(deadline));
        earliest = earliest.max(floor.unwrap_or(earliest));
    }
    let Some(first) = schedule.next(earliest).filter(|t| *t <= now) else {
        return Ok(None);
    };
    let Some(second) = schedule.next(first).filter(|t| *t <= now) else {
        return Ok(Some(Due {
            at: first,
            many: false,
        }));
    };
    let step = second.as_second() - first.as_second();
    if step < 1 {
        return Err("time difference between two schedules is less than 1 second".into());
    }
    let count = (now.as_second() - first.as_second()) / step + 1;
    let jump = first.as_second() + (count - 2).max(0) * step;
    let mut at = first;
    let mut t = Timestamp::from_second(jump - 1)
        .ok()
        .and_then(|t| schedule.next(t));
    while let Some(next) = t.filter(|t| *t <= now) {
        at = next;
        t = schedule.next(next);
    }
    Ok(Some(Due {
        at,
        many: count > MANY,
    }))
}

/// Whether and how a Job ended.
pub fn ended(job: &Job) -> Option<&str> {
    let mut all = job
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let end = all.find(|c| c.status == "True" && (c.type_ == "Complete" || c.type_ == "Failed"));
    end.map(|c| c.type_.as_str())
}

/// Finished Jobs beyond the limit of their kind, the oldest.
pub fn surplus<'a>(jobs: &[&'a Job], kind: &str, limit: Option<i32>) -> Vec<&'a Job> {
    let Some(limit) = limit else {
        return Vec::new();
    };
    let mut all: Vec<&Job> = jobs
        .iter()
        .filter(|j| ended(j) == Some(kind))
        .copied()
        .collect();
    let drop = all
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or(0));
    let started = |j: &Job| {
        let start = j.status.as_ref().and_then(|s| s.start_time.as_ref());
        start.map_or(Timestamp::MAX, |t| t.0)
    };
    all.sort_by(|a, b| (started(a), a.name()).cmp(&(started(b), b.name())));
    all.truncate(drop);
    all
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    use super::*;

    fn cron(more: &Value) -> CronJob {
        let mut v = json!({"metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"schedule": "*/5 * * * *", "jobTemplate": {}}});
        json_patch::merge(&mut v, more);
        serde_json::from_value(v).unwrap()
    }

    fn at(cron: &CronJob, now: &str) -> Option<(String, bool)> {
        let s = Schedule::parse(&cron.spec.schedule, TimeZone::UTC).unwrap();
        let due = due(cron, &s, now.parse().unwrap()).unwrap();
        due.map(|d| (d.at.to_string(), d.many))
    }

    #[test]
    fn the_latest_missed_time_is_due() {
        let some = |t: &str, many| Some((t.to_string(), many));
        let c = cron(&json!({}));
        assert_eq!(at(&c, "2026-01-01T00:04:59Z"), None);
        assert_eq!(
            at(&c, "2026-01-01T00:05:00Z"),
            some("2026-01-01T00:05:00Z", false)
        );
        assert_eq!(
            at(&c, "2026-01-01T00:16:00Z"),
            some("2026-01-01T00:15:00Z", false)
        );
        assert_eq!(
            at(&c, "2026-01-02T00:00:01Z"),
            some("2026-01-02T00:00:00Z", true)
        );
        let done = cron(&json!({"status": {"lastScheduleTime": "2026-01-01T00:15:00Z"}}));
        assert_eq!(at(&done, "2026-01-01T00:16:00Z"), None);
        let short = cron(&json!({"spec": {"startingDeadlineSeconds": 30}}));
        assert_eq!(at(&short, "2026-01-01T00:16:00Z"), None);
    }

    #[test]
    fn history_keeps_the_youngest() {
        let job = |name: &str, start: &str| -> Job {
            serde_json::from_value(
                json!({"metadata": {"name": name}, "status": {"startTime": start,
                "conditions": [{"type": "Complete", "status": "True"}]}}),
            )
            .unwrap()
        };
        let (a, b) = (
            job("a", "2026-01-01T00:00:00Z"),
            job("b", "2026-01-01T01:00:00Z"),
        );
        let names = |l| -> Vec<String> {
            surplus(&[&b, &a], "Complete", l)
                .iter()
                .map(|j| j.name().to_string())
                .collect()
        };
        assert_eq!(names(Some(1)), ["a"]);
        assert_eq!(names(Some(0)), ["a", "b"]);
        assert!(names(None).is_empty());
        assert!(surplus(&[&a], "Failed", Some(0)).is_empty());
    }
}
