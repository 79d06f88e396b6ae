//! What the workloads share: selector, template, name warnings. Upstream: pkg/apis/apps/validation.

use api::names;
use api::selector::LabelSelector;
use machinery::object::{at, map_at, str_at};
use machinery::{Causes, SubresourceKind};
use serde_json::{Value, json};

use crate::core::template;
use crate::fields;

/// The API group.
pub const GROUP: &str = "apps";

/// `/scale` over `spec.replicas`, `status.replicas` and `spec.selector`.
pub fn scale() -> SubresourceKind {
    SubresourceKind::Scale {
        spec: "spec.replicas".into(),
        status: "status.replicas".into(),
        selector: "spec.selector".into(),
    }
}

/// Checks `selector` and `template` of a spec whose selector must be there and not be empty; `empty`
/// and `kind` name the workload in the texts. The path is that of the spec.
pub fn selector_and_template(spec: &Value, empty: &str, kind: &str, c: &mut Causes) {
    match at(spec, "selector") {
        None => c.at("selector", |c| c.required("")),
        Some(_) => selector(spec, empty, c),
    }
    template_rules(spec, kind, c);
}

/// Checks a selector that is there.
pub fn selector(spec: &Value, empty: &str, c: &mut Causes) {
    fields::label_selector(spec, "selector", c);
    let selector = at(spec, "selector").unwrap_or(&Value::Null);
    if LabelSelector::from_object(selector).is_some_and(|s| s.is_empty()) {
        let text = format!("empty selector is invalid for {empty}");
        c.at("selector", |c| c.invalid(selector, text));
    }
}

/// Checks that the selector parses and selects the template, and the template of pods that run on.
fn template_rules(spec: &Value, kind: &str, c: &mut Causes) {
    if let Some(selector) = at(spec, "selector")
        && LabelSelector::from_object(selector).is_none()
    {
        c.at("selector", |c| {
            c.invalid(selector, "invalid label selector");
        });
        return;
    }
    matches_template(spec, c);
    let template = spec.get("template").unwrap_or(&Value::Null);
    c.at("template", |c| template::validate(template, &[], c));
    runs_on(spec, kind, c);
}

/// Refuses a selector that does not select the template's labels; no selector selects nothing.
pub fn matches_template(spec: &Value, c: &mut Causes) {
    let labels = map_at(spec, "template.metadata.labels");
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let parsed = at(spec, "selector").map(LabelSelector::from_object);
    let fits = match parsed {
        Some(Some(s)) => s.is_empty() || s.matches(label),
        Some(None) => true,
        None => false,
    };
    if !fits {
        let shown = labels.map_or(Value::Null, |l| Value::Object(l.clone()));
        c.at("template.metadata.labels", |c| {
            c.invalid(&shown, "`selector` does not match template `labels`");
        });
    }
}

/// The rules of templates whose pods never end by themselves.
pub fn runs_on(spec: &Value, kind: &str, c: &mut Causes) {
    let policy = str_at(spec, "template.spec.restartPolicy");
    if policy != "Always" {
        c.at("template.spec.restartPolicy", |c| {
            fields::unsupported(c, &json!(policy), &["Always"]);
        });
    }
    if at(spec, "template.spec.activeDeadlineSeconds").is_some() {
        c.at("template.spec.activeDeadlineSeconds", |c| {
            c.forbidden(format!("activeDeadlineSeconds in {kind} is not Supported"));
        });
    }
}

/// The warning for names that make poor hostnames; only on create.
pub fn name_warning(obj: &Value, before: Option<&Value>) -> Vec<String> {
    let problems = names::dns1123_label(machinery::object::name(obj));
    if before.is_some() || problems.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
        problems.join(" ")
    )]
}

/// Warnings of a workload whose pods come from `spec.template`.
pub fn warnings(obj: &Value, before: Option<&Value>) -> Vec<String> {
    let mut out = name_warning(obj, before);
    out.extend(template::warnings(obj, before, "spec.template"));
    out
}

/// Refuses counters of a status over `replicas`.
pub fn counts_within_replicas(status: &Value, fields: &[&str], c: &mut Causes) {
    for field in fields {
        let text = "cannot be greater than status.replicas";
        fields::not_over(status, field, "replicas", text, c);
    }
}

/// The number of a path as text, 0 where there is none.
pub fn count(obj: &Value, path: &str) -> i64 {
    machinery::object::i64_at(obj, path).unwrap_or(0)
}

/// The Ready cell: ready of wanted.
pub fn ready_cell(obj: &Value) -> Value {
    let (ready, wanted) = (
        count(obj, "status.readyReplicas"),
        count(obj, "spec.replicas"),
    );
    json!(format!("{ready}/{wanted}"))
}
