//! CronJob. Upstream: pkg/registry/batch/cronjob, pkg/apis/batch.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, at_mut, bool_at, list_at, set, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::{GROUP, job, job_spec, schedule};
use crate::apps::workload;
use crate::cells;
use crate::core::template;
use crate::fields;

/// Longest name: its jobs have eleven characters more.
const NAME_MAX: usize = 52;

struct CronJob;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "CronJob",
        "cronjobs",
        Scope::Namespaced,
        CronJob,
    )
    .short(&["cj"])
    .category(&["all"])
    .status()
}

impl Strategy for CronJob {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        if str_at(obj, "spec.concurrencyPolicy").is_empty() {
            set(obj, "spec.concurrencyPolicy", json!("Allow"));
        }
        set_default(obj, "spec.suspend", json!(false));
        set_default(obj, "spec.successfulJobsHistoryLimit", json!(3));
        set_default(obj, "spec.failedJobsHistoryLimit", json!(1));
        if let Some(spec) = at_mut(obj, "spec.jobTemplate.spec") {
            job::nested_defaults(spec);
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        spec_rules(obj, None, causes);
        let name = machinery::object::name(obj);
        if name.len() > NAME_MAX {
            causes.at("metadata.name", |c| {
                c.invalid(&json!(name), "must be no more than 52 characters");
            });
        }
        schedule_required(obj, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        spec_rules(obj, Some(before), causes);
        schedule_required(obj, causes);
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        let mut out = workload::name_warning(obj, before);
        if before.is_none_or(|b| b.get("spec") != obj.get("spec")) {
            let spec = at(obj, "spec.jobTemplate.spec").unwrap_or(&Value::Null);
            out.extend(job_spec::warnings("spec.jobTemplate.spec", spec));
            let path = "spec.jobTemplate.spec.template";
            out.extend(template::warnings(obj, None, path));
        }
        if before.is_some() && str_at(obj, "spec.schedule").contains("TZ") {
            out.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".into());
        }
        out
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Schedule"),
            Column::new("Timezone"),
            Column {
                kind: "boolean".into(),
                ..Column::new("Suspend")
            },
            Column::integer("Active"),
            Column::new("Last Schedule"),
            Column::new("Age"),
            Column::new("Containers").wide(),
            Column::new("Images").wide(),
            Column::new("Selector").wide(),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let job = "spec.jobTemplate.spec";
        let [containers, images] = template::cells(at(obj, &format!("{job}.template.spec")));
        let suspend = match bool_at(obj, "spec.suspend") {
            None => "<unset>",
            Some(true) => "True",
            Some(false) => "False",
        };
        let last = str_at(obj, "status.lastScheduleTime");
        let last = last.parse::<Timestamp>().map_or_else(
            |_| "<none>".into(),
            |t| machinery::strategy::human_duration(now.as_second() - t.as_second()),
        );
        vec![
            cells::name(obj),
            json!(str_at(obj, "spec.schedule")),
            at(obj, "spec.timeZone").cloned().unwrap_or(json!("<none>")),
            json!(suspend),
            json!(list_at(obj, "status.active").len()),
            json!(last),
            cells::age(obj, now),
            containers,
            images,
            cells::selector(at(obj, &format!("{job}.selector"))),
        ]
    }
}

fn schedule_required(obj: &Value, c: &mut Causes) {
    fields::required(obj, "spec.schedule", c);
}

fn spec_rules(obj: &Value, before: Option<&Value>, causes: &mut Causes) {
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    let old = before.and_then(|b| b.get("spec"));
    causes.at("spec", |c| {
        schedule_rules(spec, old, c);
        fields::non_negative(spec, &["startingDeadlineSeconds"], c);
        let zone = at(spec, "timeZone");
        if before.is_none() || old.and_then(|o| at(o, "timeZone")) != zone {
            for problem in zone
                .and_then(Value::as_str)
                .map(schedule::zone_problems)
                .unwrap_or_default()
            {
                c.at("timeZone", |c| {
                    c.invalid(zone.unwrap_or(&Value::Null), problem);
                });
            }
        }
        let policies = ["Allow", "Forbid", "Replace"];
        fields::required_enum(spec, "concurrencyPolicy", &policies, c);
        let job = at(spec, "jobTemplate.spec").unwrap_or(&Value::Null);
        c.at("jobTemplate.spec", |c| {
            job_spec::validate(job, c);
            if let Some(selector) = at(job, "selector") {
                c.at("selector", |c| {
                    c.invalid(selector, "`selector` will be auto-generated");
                });
            }
            if bool_at(job, "manualSelector") == Some(true) {
                c.at("manualSelector", |c| {
                    fields::unsupported(c, &json!(true), &["nil", "false"]);
                });
            }
        });
        let limits = ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
        fields::non_negative(spec, &limits, c);
    });
}

fn schedule_rules(spec: &Value, old: Option<&Value>, c: &mut Causes) {
    let text = str_at(spec, "schedule");
    if text.is_empty() {
        return;
    }
    let had_zone = old.is_some_and(|o| str_at(o, "schedule").contains("TZ"));
    c.at("schedule", |c| {
        if let Err(e) = schedule::check(text) {
            c.invalid(&json!(text), e);
        }
        match (text.contains("TZ"), had_zone) {
            (true, false) => c.invalid(
                &json!(text),
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
            (true, true) if at(spec, "timeZone").is_some() => c.invalid(
                &json!(text),
                "cannot use both timeZone field and TZ or CRON_TZ in schedule",
            ),
            _ => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        let mut obj = json!({"metadata": {"name": "c"}, "spec": {"schedule": "*/1 * * * ?",
            "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "OnFailure",
                "containers": [{"name": "c", "image": "i"}]}}}}}});
        CronJob.set_defaults(&mut obj);
        obj
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        assert_eq!(texts(|c| CronJob.validate(&good(), c)), [""; 0]);
        for (path, value, expected) in [
            ("spec.schedule", json!(""), "spec.schedule: Required value"),
            (
                "spec.schedule",
                json!("x"),
                "spec.schedule: Invalid value: \"x\": expected exactly 5 fields, found 1: [x]",
            ),
            (
                "spec.schedule",
                json!("TZ=UTC 0 * * * *"),
                "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
            (
                "spec.timeZone",
                json!("Local"),
                "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ),
            (
                "spec.concurrencyPolicy",
                json!("x"),
                "spec.concurrencyPolicy: Unsupported value: \"x\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ),
            (
                "spec.jobTemplate.spec.selector",
                json!({}),
                "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
            ),
            (
                "spec.jobTemplate.spec.template.spec.restartPolicy",
                json!("Always"),
                "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ),
            (
                "metadata.name",
                json!("a".repeat(53)),
                &format!(
                    "metadata.name: Invalid value: \"{}\": must be no more than 52 characters",
                    "a".repeat(53)
                ),
            ),
        ] {
            let mut obj = good();
            set(&mut obj, path, value);
            assert_eq!(texts(|c| CronJob.validate(&obj, c)), [expected], "{path}");
        }
    }
}
