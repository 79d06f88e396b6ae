//! Job. Upstream: pkg/registry/batch/job, pkg/apis/batch.

use api::names;
use api::selector::LabelSelector;
use jiff::Timestamp;
use machinery::object::{at, bool_at, i64_at, list_at, map_at, map_mut, set, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::{GROUP, job_spec, job_status};
use crate::apps::workload;
use crate::cells;
use crate::core::template;
use crate::fields;

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
const OLD_UID_LABEL: &str = "controller-uid";
const OLD_NAME_LABEL: &str = "job-name";

struct Job;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(GROUP, "v1", "Job", "jobs", Scope::Namespaced, Job)
        .category(&["all"])
        .status()
}

impl Strategy for Job {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        if at(obj, "spec.parallelism").is_none() {
            set_default(obj, "spec.completions", json!(1));
            set(obj, "spec.parallelism", json!(1));
        }
        let backoff = match at(obj, "spec.backoffLimitPerIndex") {
            Some(_) => i32::MAX,
            None => 6,
        };
        set_default(obj, "spec.backoffLimit", json!(backoff));
        label_like_template(obj);
        set_default(obj, "spec.completionMode", json!("NonIndexed"));
        set_default(obj, "spec.suspend", json!(false));
        let replacement = match at(obj, "spec.podFailurePolicy") {
            Some(_) => "Failed",
            None => "TerminatingOrFailed",
        };
        set_default(obj, "spec.podReplacementPolicy", json!(replacement));
        set_default(obj, "spec.manualSelector", json!(false));
        if let Some(spec) = obj.get_mut("spec") {
            nested_defaults(spec);
        }
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        if bool_at(obj, "spec.manualSelector") != Some(true) {
            generate_selector(obj);
        }
        // Readers see the default that follows from the labels just made.
        label_like_template(obj);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        job_rules(obj, true, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let labels = map_at(before, "spec.template.metadata.labels");
        let has = |key: &str| labels.is_some_and(|l| l.contains_key(key));
        job_rules(obj, has(NAME_LABEL) && has(UID_LABEL), causes);
        let empty = Value::Null;
        let (spec, old) = (
            obj.get("spec").unwrap_or(&empty),
            before.get("spec").unwrap_or(&empty),
        );
        causes.at("spec", |c| {
            spec_rules(spec, c);
            completions(spec, old, c);
            fields::immutable(spec, old, "selector", c);
            template_update(spec, before, c);
            for field in [
                "completionMode",
                "podFailurePolicy",
                "backoffLimitPerIndex",
                "managedBy",
                "successPolicy",
            ] {
                fields::immutable(spec, old, field, c);
            }
        });
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        job_status::validate(obj, before, causes);
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        let mut out = workload::name_warning(obj, before);
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        if before.is_none_or(|b| b.get("spec") != Some(spec)) {
            out.extend(job_spec::warnings("spec", spec));
            out.extend(template::warnings(obj, None, "spec.template"));
        }
        out
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn delete_warnings(&self) -> Vec<String> {
        vec!["child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning".into()]
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["status.successful"]
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        let succeeded = workload::count(obj, "status.succeeded");
        vec![("status.successful", succeeded.to_string())]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Status"),
            Column::new("Completions"),
            Column::new("Duration"),
            Column::new("Age"),
            Column::new("Containers").wide(),
            Column::new("Images").wide(),
            Column::new("Selector").wide(),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let [containers, images] = template::cells(at(obj, "spec.template.spec"));
        vec![
            cells::name(obj),
            json!(status_cell(obj)),
            json!(completions_cell(obj)),
            json!(duration_cell(obj, now)),
            cells::age(obj, now),
            containers,
            images,
            cells::selector(at(obj, "spec.selector")),
        ]
    }
}

/// Defaults inside a job's spec, which the templates of CronJobs get too.
pub fn nested_defaults(spec: &mut Value) {
    if let Some(Value::Array(rules)) = machinery::object::at_mut(spec, "podFailurePolicy.rules") {
        for rule in rules {
            if let Some(Value::Array(patterns)) = rule.get_mut("onPodConditions") {
                for pattern in patterns.iter_mut().filter(|p| p.is_object()) {
                    if str_at(pattern, "status").is_empty() {
                        set(pattern, "status", json!("True"));
                    }
                }
            }
        }
    }
    template::set_defaults(spec, "template");
}

fn label_like_template(obj: &mut Value) {
    let own = map_at(obj, "metadata.labels").is_some_and(|l| !l.is_empty());
    let labels = at(obj, "spec.template.metadata.labels").filter(|_| !own);
    if let Some(labels) = labels.cloned() {
        set(obj, "metadata.labels", labels);
    }
}

/// Labels the template and selects by the job's uid.
fn generate_selector(obj: &mut Value) {
    let (name, uid) = (
        json!(machinery::object::name(obj)),
        json!(machinery::object::uid(obj)),
    );
    let labels = map_mut(obj, "spec.template.metadata.labels");
    for (key, value) in [
        (OLD_NAME_LABEL, &name),
        (NAME_LABEL, &name),
        (OLD_UID_LABEL, &uid),
        (UID_LABEL, &uid),
    ] {
        labels.entry(key).or_insert_with(|| value.clone());
    }
    map_mut(obj, "spec.selector.matchLabels")
        .entry(UID_LABEL)
        .or_insert(uid);
}

fn job_rules(obj: &Value, prefixed: bool, causes: &mut Causes) {
    generated(obj, prefixed, causes);
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    causes.at("spec", |c| spec_rules(spec, c));
    let completions = i64_at(spec, "completions").unwrap_or(0);
    if job_spec::is_indexed(spec) && completions > 0 {
        let name = machinery::object::name(obj);
        let last = format!("{name}-{}", completions - 1);
        if !names::dns1123_label(&last).is_empty() {
            causes.at("metadata.name", |c| {
                c.invalid(
                    &json!(name),
                    format!("will not able to create pod with invalid DNS label: {last}"),
                );
            });
        }
    }
}

/// Checks what the server generates: labels of the template, and the selector.
fn generated(obj: &Value, prefixed: bool, c: &mut Causes) {
    let Some(selector) = at(obj, "spec.selector") else {
        return;
    };
    if bool_at(obj, "spec.manualSelector") == Some(true) {
        return;
    }
    let (name, uid) = (machinery::object::name(obj), machinery::object::uid(obj));
    if uid.is_empty() {
        c.at("metadata.uid", |c| c.required(""));
    }
    let mut expected = vec![(OLD_UID_LABEL, uid), (OLD_NAME_LABEL, name)];
    if prefixed {
        expected.extend([(UID_LABEL, uid), (NAME_LABEL, name)]);
    }
    let labels = map_at(obj, "spec.template.metadata.labels");
    for (key, value) in &expected {
        c.at("spec.template.metadata.labels", |c| {
            match labels.and_then(|l| l.get(*key)).and_then(Value::as_str) {
                None => c.key(key, |c| c.required(format!("must be '{value}'"))),
                Some(v) if v != *value => c.key(key, |c| {
                    c.invalid(&json!(labels), format!("must be '{value}'"));
                }),
                Some(_) => {}
            }
        });
    }
    let label = |key: &str| expected.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
    if LabelSelector::from_object(selector).is_some_and(|s| !s.matches(label)) {
        c.at("spec.selector", |c| {
            c.invalid(selector, "`selector` not auto-generated");
        });
    }
}

fn spec_rules(spec: &Value, c: &mut Causes) {
    job_spec::validate(spec, c);
    if at(spec, "selector").is_none() {
        c.at("selector", |c| c.required(""));
    } else {
        fields::label_selector(spec, "selector", c);
    }
    workload::matches_template(spec, c);
}

fn completions(spec: &Value, old: &Value, c: &mut Causes) {
    if !job_spec::is_indexed(spec) {
        return fields::immutable(spec, old, "completions", c);
    }
    let (new, was) = (at(spec, "completions"), at(old, "completions"));
    if let Some(n) = new.filter(|n| Some(*n) != was)
        && new != at(spec, "parallelism")
    {
        c.at("completions", |c| {
            c.invalid(n, "can only be modified in tandem with spec.parallelism");
        });
    }
}

/// The template stays, but for what says where pods run and what they may use while the job is
/// suspended and nothing of it runs.
fn template_update(spec: &Value, before: &Value, c: &mut Causes) {
    let empty = Value::Null;
    let template = spec.get("template").unwrap_or(&empty);
    let mut old = at(before, "spec.template").cloned().unwrap_or_default();
    let suspended = bool_at(before, "spec.suspend") == Some(true);
    let idle = i64_at(before, "status.active").unwrap_or(0) == 0
        && (at(before, "status.startTime").is_none() || has_condition(before, "Suspended"));
    if !(suspended && idle) {
        if *template != old {
            c.at("template", |c| c.invalid(template, fields::IMMUTABLE));
        }
        return;
    }
    allow(&mut old, template);
    if template.get("spec") != old.get("spec") {
        let shown = template.get("spec").unwrap_or(&empty);
        c.at("template.spec", |c| c.invalid(shown, fields::IMMUTABLE));
    }
}

/// Takes over into `old` what may change.
fn allow(old: &mut Value, new: &Value) {
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        copy(old, new, &format!("spec.{field}"));
    }
    copy(old, new, "spec.affinity.nodeAffinity");
    let none = at(new, "spec.affinity").is_none();
    let bare = map_at(old, "spec.affinity").is_some_and(serde_json::Map::is_empty);
    if bare && none {
        machinery::object::remove(old, "spec.affinity");
    }
    for list in ["containers", "initContainers"] {
        let path = format!("spec.{list}");
        let new = list_at(new, &path).to_vec();
        let Some(Value::Array(old)) = machinery::object::at_mut(old, &path) else {
            continue;
        };
        if old.len() != new.len() {
            continue;
        }
        for (old, new) in old.iter_mut().zip(&new) {
            if str_at(old, "name") == str_at(new, "name") {
                copy(old, new, "resources");
            }
        }
    }
}

fn copy(old: &mut Value, new: &Value, path: &str) {
    match at(new, path) {
        Some(v) => set(old, path, v.clone()),
        None => {
            machinery::object::remove(old, path);
        }
    }
}

fn has_condition(obj: &Value, kind: &str) -> bool {
    let first = list_at(obj, "status.conditions")
        .iter()
        .find(|c| str_at(c, "type") == kind);
    first.is_some_and(|c| str_at(c, "status") == "True")
}

fn status_cell(obj: &Value) -> &'static str {
    if has_condition(obj, "Complete") {
        "Complete"
    } else if has_condition(obj, "Failed") {
        "Failed"
    } else if machinery::object::is_deleting(obj) {
        "Terminating"
    } else if has_condition(obj, "Suspended") {
        "Suspended"
    } else if has_condition(obj, "FailureTarget") {
        "FailureTarget"
    } else if has_condition(obj, "SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions_cell(obj: &Value) -> String {
    let succeeded = workload::count(obj, "status.succeeded");
    match (
        i64_at(obj, "spec.completions"),
        workload::count(obj, "spec.parallelism"),
    ) {
        (Some(all), _) => format!("{succeeded}/{all}"),
        (None, n) if n > 1 => format!("{succeeded}/1 of {n}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration_cell(obj: &Value, now: Timestamp) -> String {
    let time = |path| str_at(obj, path).parse::<Timestamp>().ok();
    let Some(start) = time("status.startTime") else {
        return String::new();
    };
    let end = time("status.completionTime").unwrap_or(now);
    machinery::strategy::human_duration(end.as_second() - start.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        let user = machinery::request::User::default();
        let cx = WriteContext {
            now: Timestamp::UNIX_EPOCH,
            user: &user,
            namespace: "n",
            subresource: "",
        };
        let mut obj = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
        Job.set_defaults(&mut obj);
        Job.prepare_create(&mut obj, &cx);
        obj
    }

    #[test]
    fn selector_and_labels_come_from_uid_and_name() {
        let obj = good();
        assert_eq!(
            obj["spec"]["selector"],
            json!({"matchLabels": {UID_LABEL: "u"}})
        );
        let labels =
            json!({UID_LABEL: "u", OLD_UID_LABEL: "u", NAME_LABEL: "j", OLD_NAME_LABEL: "j"});
        assert_eq!(obj["spec"]["template"]["metadata"]["labels"], labels);
        assert_eq!(obj["metadata"]["labels"], labels);
        assert_eq!(
            (&obj["spec"]["completions"], &obj["spec"]["backoffLimit"]),
            (&json!(1), &json!(6))
        );
        assert_eq!(texts(|c| Job.validate(&obj, c)), [""; 0]);
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        for (path, value, expected) in [
            (
                "spec.completionMode",
                json!("x"),
                "spec.completionMode: Unsupported value: \"x\": supported values: \"NonIndexed\", \"Indexed\"",
            ),
            (
                "spec.maxFailedIndexes",
                json!(1),
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            ),
            (
                "spec.managedBy",
                json!("x"),
                "spec.managedBy: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (
                "spec.podFailurePolicy",
                json!({"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [2, 0, 2]}}]}),
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
            ),
            (
                "spec.podFailurePolicy",
                json!({"rules": [{}]}),
                "spec.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
            ),
            (
                "spec.podFailurePolicy",
                json!({"rules": [{}]}),
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ),
            (
                "spec.successPolicy",
                json!({"rules": []}),
                "spec.successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode",
            ),
            (
                "spec.selector.matchLabels.x",
                json!("y"),
                "spec.selector: Invalid value: {\"matchLabels\":{\"batch.kubernetes.io/controller-uid\":\"u\",\"x\":\"y\"}}: `selector` not auto-generated",
            ),
        ] {
            let mut obj = good();
            set(&mut obj, path, value);
            let found = texts(|c| Job.validate(&obj, c));
            assert!(found.iter().any(|t| t == expected), "{path}: {found:#?}");
        }
    }

    #[test]
    fn suspended_jobs_may_change_where_and_with_what_they_run() {
        let mut before = good();
        let mut obj = good();
        set(
            &mut obj,
            "spec.template.spec.nodeSelector",
            json!({"a": "b"}),
        );
        let refused = texts(|c| Job.validate_update(&obj, &before, c));
        assert!(refused[0].starts_with("spec.template: Invalid value: "));
        assert!(refused[0].ends_with(": field is immutable"));
        set(&mut before, "spec.suspend", json!(true));
        assert_eq!(texts(|c| Job.validate_update(&obj, &before, c)), [""; 0]);
        set(&mut obj, "spec.template.spec.hostNetwork", json!(true));
        let refused = texts(|c| Job.validate_update(&obj, &before, c));
        assert!(refused[0].starts_with("spec.template.spec: Invalid value: "));
        let mut obj = good();
        set(&mut obj, "spec.completions", json!(3));
        assert_eq!(
            texts(|c| Job.validate_update(&obj, &good(), c)),
            ["spec.completions: Invalid value: 3: field is immutable"]
        );
    }

    #[test]
    fn statuses_hold_together() {
        let with = |status: Value| {
            let mut obj = good();
            set(&mut obj, "status", status);
            obj
        };
        let done = |kinds: &[&str]| -> Value {
            json!(
                kinds
                    .iter()
                    .map(|k| json!({"type": k, "status": "True"}))
                    .collect::<Vec<_>>()
            )
        };
        let found = texts(|c| {
            Job.validate_status_update(
                &with(json!({"active": 1, "conditions": done(&["Complete"])})),
                &with(json!({"active": 1})),
                c,
            );
        });
        for text in [
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
            "status.startTime: Required value: startTime is required for finished job",
        ] {
            assert!(found.iter().any(|f| f == text), "{text}: {found:#?}");
        }
        assert_eq!(
            texts(|c| Job.validate_status_update(
                &with(json!({"failed": 1})),
                &with(json!({"failed": 2, "conditions": done(&["Failed", "FailureTarget"])})),
                c
            )),
            [
                "status.conditions: Invalid value: cannot disable the terminal Failed=True condition",
                "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
                "status.failed: Invalid value: 1: cannot decrease the failed counter",
            ]
        );
    }
}
