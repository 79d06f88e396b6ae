//! Jobs and cron jobs.

use serde_json::Value;

use super::lines::{Lines, number, selector, time};
use super::{Describer, Seen, containers};
use crate::object;

pub const JOB: Describer = Describer::of("batch", "Job", job);
pub const CRON_JOB: Describer = Describer::of("batch", "CronJob", cron_job);

/// Longer lists of indexes are cut at the next comma. Upstream: capIndexesListOrNone.
const INDEXES_BYTES: usize = 50;

fn job(seen: &Seen<'_>, w: &mut Lines) {
    let (spec, status) = (&seen.object["spec"], &seen.object["status"]);
    seen.head(w);
    w.put(0, format!("Selector:\t{}", selector(&spec["selector"])));
    seen.marks(w);
    seen.owner(w);
    w.some(0, "Parallelism", &spec["parallelism"]);
    w.put(0, format!("Completions:\t{}", set(&spec["completions"])));
    w.some(0, "Completion Mode", &spec["completionMode"]);
    w.some(0, "Suspend", &spec["suspend"]);
    w.some(0, "Backoff Limit", &spec["backoffLimit"]);
    w.some(
        0,
        "TTL Seconds After Finished",
        &spec["ttlSecondsAfterFinished"],
    );
    let (start, end) = (&status["startTime"], &status["completionTime"]);
    for (title, at) in [("Start Time", start), ("Completed At", end)] {
        if at.is_string() {
            w.put(0, format!("{title}:\t{}", time(at)));
        }
    }
    if let Some(seconds) = between(start, end) {
        let text = machinery::strategy::human_duration(seconds);
        w.put(0, format!("Duration:\t{text}"));
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        w.put(0, format!("Active Deadline Seconds:\t{seconds}s"));
    }
    let ready = match status["ready"].as_i64() {
        Some(ready) => format!(" ({ready} Ready)"),
        None => String::new(),
    };
    let (active, succeeded) = (number(&status["active"]), number(&status["succeeded"]));
    w.put(
        0,
        format!(
            "Pods Statuses:\t{active} Active{ready} / {succeeded} Succeeded / {} Failed",
            number(&status["failed"])
        ),
    );
    if spec["completionMode"] == "Indexed" {
        let indexes = capped(object::text(status, "/completedIndexes"));
        w.put(0, format!("Completed Indexes:\t{indexes}"));
    }
    containers::template(&spec["template"], w);
}

fn between(start: &Value, end: &Value) -> Option<i64> {
    let parse = |v: &Value| v.as_str()?.parse::<jiff::Timestamp>().ok();
    Some(parse(end)?.as_second() - parse(start)?.as_second())
}

fn capped(indexes: &str) -> String {
    if indexes.is_empty() {
        return "<none>".into();
    }
    match indexes.get(INDEXES_BYTES..).and_then(|rest| rest.find(',')) {
        Some(at) => format!("{}...", &indexes[..=INDEXES_BYTES + at]),
        None => indexes.to_string(),
    }
}

/// A value, or `<unset>`.
fn set(value: &Value) -> String {
    match value {
        Value::Null => "<unset>".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        other => object::plain(other),
    }
}

fn cron_job(seen: &Seen<'_>, w: &mut Lines) {
    let (spec, status) = (&seen.object["spec"], &seen.object["status"]);
    let seconds = |v: &Value| {
        v.as_i64()
            .map_or_else(|| "<unset>".into(), |s| format!("{s}s"))
    };
    seen.head(w);
    seen.marks(w);
    w.put(0, format!("Schedule:\t{}", object::text(spec, "/schedule")));
    w.put(
        0,
        format!(
            "Concurrency Policy:\t{}",
            object::text(spec, "/concurrencyPolicy")
        ),
    );
    for (title, field) in [
        ("Suspend", "suspend"),
        ("Time Zone", "timeZone"),
        ("Successful Job History Limit", "successfulJobsHistoryLimit"),
        ("Failed Job History Limit", "failedJobsHistoryLimit"),
    ] {
        w.put(0, format!("{title}:\t{}", set(&spec[field])));
    }
    let deadline = seconds(&spec["startingDeadlineSeconds"]);
    w.put(0, format!("Starting Deadline Seconds:\t{deadline}"));
    let job = &spec["jobTemplate"]["spec"];
    let of = match &job["selector"] {
        Value::Null => "<unset>".into(),
        labels => selector(labels),
    };
    w.put(0, format!("Selector:\t{of}"));
    w.put(0, format!("Parallelism:\t{}", set(&job["parallelism"])));
    w.put(0, format!("Completions:\t{}", set(&job["completions"])));
    if !job["activeDeadlineSeconds"].is_null() {
        let deadline = seconds(&job["activeDeadlineSeconds"]);
        w.put(0, format!("Active Deadline Seconds:\t{deadline}"));
    }
    containers::template(&job["template"], w);
    let last = &status["lastScheduleTime"];
    let last = if last.is_null() {
        "<unset>".into()
    } else {
        time(last)
    };
    w.put(0, format!("Last Schedule Time:\t{last}"));
    let active = object::items(status, "/active").iter();
    let active: Vec<&str> = active.map(|j| object::text(j, "/name")).collect();
    let active = super::lines::or_none(active.join(", "));
    w.put(0, format!("Active Jobs:\t{active}"));
}
