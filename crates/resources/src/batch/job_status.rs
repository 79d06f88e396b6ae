//! Which changes of a Job's status hold together. Each rule is only asked when a field it is about
//! changed. Upstream: validateJobStatus, ValidateJobStatusUpdate.

use machinery::Causes;
use machinery::object::{at, bool_at, i64_at, list_at, str_at};
use serde_json::{Value, json};

use super::indexes;
use super::job_spec::is_indexed;
use crate::fields;

/// A Job, seen through its conditions.
struct Seen<'a> {
    spec: &'a Value,
    status: &'a Value,
}

impl<'a> Seen<'a> {
    fn new(obj: &'a Value, empty: &'a Value) -> Self {
        Self {
            spec: obj.get("spec").unwrap_or(empty),
            status: obj.get("status").unwrap_or(empty),
        }
    }

    fn is(&self, kind: &str) -> bool {
        self.condition(kind, "True")
    }

    fn condition(&self, kind: &str, status: &str) -> bool {
        list_at(self.status, "conditions")
            .iter()
            .any(|c| str_at(c, "type") == kind && str_at(c, "status") == status)
    }

    fn finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }

    fn number(&self, field: &str) -> i64 {
        i64_at(self.status, field).unwrap_or(0)
    }
}

/// Checks a status update at the root path.
pub fn validate(obj: &Value, before: &Value, causes: &mut Causes) {
    let empty = Value::Null;
    let (new, old) = (Seen::new(obj, &empty), Seen::new(before, &empty));
    causes.at("status", |c| {
        counters(&new, c);
        completion(&new, &old, c);
        conditions(&new, &old, c);
        finished(&new, &old, c);
        index_lists(&new, &old, c);
        transitions(&new, &old, c);
    });
}

fn counters(new: &Seen<'_>, c: &mut Causes) {
    let fields = ["active", "succeeded", "failed", "ready", "terminating"];
    fields::non_negative(new.status, &fields, c);
    let mut seen: Vec<&Value> = Vec::new();
    for list in ["succeeded", "failed"] {
        let path = format!("uncountedTerminatedPods.{list}");
        for (i, uid) in list_at(new.status, &path).iter().enumerate() {
            c.at(&path, |c| {
                c.index(i, |c| {
                    if uid.as_str() == Some("") {
                        c.invalid(uid, "must not be empty");
                    } else if seen.contains(&uid) {
                        c.duplicate(uid);
                    }
                });
            });
            seen.push(uid);
        }
    }
}

fn wrong(c: &mut Causes, text: impl Into<String>) {
    c.at("conditions", |c| fields::invalid_shown(c, None, text));
}

fn changed(new: &Seen<'_>, old: &Seen<'_>, conditions: &[&str], fields: &[&str]) -> bool {
    conditions.iter().any(|k| new.is(k) != old.is(k))
        || fields
            .iter()
            .any(|f| at(new.status, f) != at(old.status, f))
}

fn completion(new: &Seen<'_>, old: &Seen<'_>, c: &mut Causes) {
    if changed(new, old, &["Complete", "Failed"], &[]) && new.is("Complete") && new.is("Failed") {
        wrong(c, "cannot set Complete=True and Failed=true conditions");
    }
    if changed(new, old, &["Complete", "FailureTarget"], &[])
        && new.is("Complete")
        && new.is("FailureTarget")
    {
        wrong(
            c,
            "cannot set Complete=True and FailureTarget=true conditions",
        );
    }
    let done = at(new.status, "completionTime");
    if changed(new, old, &["Complete"], &["completionTime"]) {
        c.at("completionTime", |c| match (done, new.is("Complete")) {
            (Some(t), false) => c.invalid(
                t,
                "cannot set completionTime when there is no Complete=True condition",
            ),
            (None, true) => c.required("completionTime is required for Complete jobs"),
            _ => {}
        });
    }
    let time = |field| str_at(new.status, field).parse::<jiff::Timestamp>().ok();
    if changed(new, old, &[], &["startTime", "completionTime"])
        && let (Some(start), Some(end)) = (time("startTime"), time("completionTime"))
        && end < start
    {
        let shown = done.cloned().unwrap_or_default();
        c.at("completionTime", |c| {
            c.invalid(&shown, "must be equal to or after `startTime`");
        });
    }
}

fn conditions(new: &Seen<'_>, old: &Seen<'_>, c: &mut Causes) {
    let met = new.is("SuccessCriteriaMet");
    if changed(new, old, &["Failed"], &["failedIndexes"])
        && new.is("Failed")
        && !new.is("FailureTarget")
    {
        wrong(
            c,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        );
    }
    if changed(new, old, &["Complete", "SuccessCriteriaMet"], &[]) && new.is("Complete") && !met {
        wrong(
            c,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        );
    }
    if met && new.is("Failed") {
        wrong(
            c,
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        );
    }
    if met && new.is("FailureTarget") {
        wrong(
            c,
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        );
    }
    if at(new.spec, "successPolicy").is_some() && !met && new.is("Complete") {
        wrong(
            c,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        );
    }
}

/// What a finished job may not have any more.
fn finished(new: &Seen<'_>, old: &Seen<'_>, c: &mut Causes) {
    let done = new.finished();
    let ended = done != old.finished();
    let asked = |field: &str| ended || at(new.status, field) != at(old.status, field);
    let active = new.number("active");
    if done && asked("active") && active > 0 {
        c.at("active", |c| {
            c.invalid(&json!(active), "active>0 is invalid for finished job");
        });
    }
    let idle =
        bool_at(new.spec, "suspend") == Some(true) && i64_at(new.spec, "completions") == Some(0);
    if done && asked("startTime") && !idle && at(new.status, "startTime").is_none() {
        c.at("startTime", |c| {
            c.required("startTime is required for finished job");
        });
    }
    let uncounted = at(new.status, "uncountedTerminatedPods")
        .filter(|u| !list_at(u, "failed").is_empty() || !list_at(u, "succeeded").is_empty());
    if let Some(u) = uncounted.filter(|_| done && asked("uncountedTerminatedPods")) {
        c.at("uncountedTerminatedPods", |c| {
            c.invalid(u, "must be empty for finished job");
        });
    }
    let ending = new.number("terminating");
    if done && asked("terminating") && ending > 0 {
        c.at("terminating", |c| {
            c.invalid(&json!(ending), "terminating>0 is invalid for finished job");
        });
    }
    let ready = new.number("ready");
    if changed(new, old, &[], &["ready", "active"]) && ready > active {
        c.at("ready", |c| {
            c.invalid(&json!(ready), "cannot set more ready pods than active");
        });
    }
}

fn index_lists(new: &Seen<'_>, old: &Seen<'_>, c: &mut Causes) {
    let completions = i64_at(new.spec, "completions");
    let (completed, failed) = (
        str_at(new.status, "completedIndexes"),
        at(new.status, "failedIndexes").and_then(Value::as_str),
    );
    let parse = |list: &str| completions.and_then(|n| indexes::count(list, n).err());
    let (completed_changed, failed_changed) = (
        completed != str_at(old.status, "completedIndexes"),
        at(new.status, "failedIndexes") != at(old.status, "failedIndexes"),
    );
    if completed_changed {
        c.at("completedIndexes", |c| {
            if let Some(e) = parse(completed) {
                c.invalid(
                    &json!(completed),
                    format!("error parsing completedIndexes: {e}"),
                );
            }
            if !completed.is_empty() && !is_indexed(new.spec) {
                c.invalid(
                    &json!(completed),
                    "cannot set non-empty completedIndexes when non-indexed completion mode",
                );
            }
        });
    }
    let Some(failed) = failed else { return };
    let per_index = at(new.spec, "backoffLimitPerIndex").is_some();
    c.at("failedIndexes", |c| {
        if failed_changed
            && per_index
            && let Some(e) = parse(failed)
        {
            c.invalid(&json!(failed), format!("error parsing failedIndexes: {e}"));
        }
        if failed_changed && !per_index {
            c.invalid(
                &json!(failed),
                "cannot set non-null failedIndexes when backoffLimitPerIndex is null",
            );
        }
        let both = completions.and_then(|n| indexes::overlap(completed, failed, n));
        if let Some(i) = both.filter(|_| failed_changed || completed_changed) {
            c.invalid(
                &json!(failed),
                format!("failedIndexes and completedIndexes overlap at index: {i}"),
            );
        }
    });
}

fn transitions(new: &Seen<'_>, old: &Seen<'_>, c: &mut Causes) {
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if old.is(kind) && !new.is(kind) {
            wrong(
                c,
                format!("cannot disable the terminal {kind}=True condition"),
            );
        }
    }
    let scales =
        is_indexed(new.spec) && i64_at(new.spec, "completions") == i64_at(new.spec, "parallelism");
    for field in ["failed", "succeeded"] {
        let n = new.number(field);
        if n < old.number(field) && !(field == "succeeded" && scales) {
            c.at(field, |c| {
                c.invalid(&json!(n), format!("cannot decrease the {field} counter"));
            });
        }
    }
    let (done, was) = (
        at(new.status, "completionTime"),
        at(old.status, "completionTime"),
    );
    if let (Some(t), Some(was)) = (done, was)
        && t != was
    {
        c.at("completionTime", |c| c.invalid(t, fields::IMMUTABLE));
    }
    let (start, was) = (at(new.status, "startTime"), at(old.status, "startTime"));
    let resumes = old.is("Suspended") && new.condition("Suspended", "False");
    let suspended = bool_at(new.spec, "suspend") == Some(true);
    if was.is_some() && start != was && !resumes && !suspended {
        let shown = start.cloned().unwrap_or_default();
        c.at("startTime", |c| {
            c.invalid(&shown, "field is immutable for unsuspended job once set");
        });
    }
    let (met, was_met) = (new.is("SuccessCriteriaMet"), old.is("SuccessCriteriaMet"));
    if was_met && !met {
        wrong(c, "cannot disable the SuccessCriteriaMet=True condition");
    }
    if old.is("Complete") && !was_met && met {
        wrong(
            c,
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        );
    }
}
