//! Pod templates, as workloads hold them: defaults, validation, cells.

use machinery::Causes;
use machinery::object::{at, at_mut, list_at, map_at, str_at};
use serde_json::{Value, json};

use super::{pod_checks, pod_spec, pod_warnings};

/// Defaults of the template at a path.
pub fn set_defaults(obj: &mut Value, path: &str) {
    if let Some(template) = at_mut(obj, path) {
        super::pod::prepare::drop_old_annotations(template);
    }
    if let Some(spec) = at_mut(obj, &format!("{path}.spec")) {
        pod_spec::set_defaults(spec);
    }
}

/// Checks a template at the current path; `policies` are the restart policies the workload takes.
pub fn validate(template: &Value, policies: &[&str], c: &mut Causes) {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    // Upstream: these paths have no metadata in them.
    c.at("labels", |c| {
        machinery::meta::labels(map_at(template, "metadata.labels"), c)
    });
    c.at("annotations", |c| {
        let map = map_at(template, "metadata.annotations");
        machinery::meta::annotations(map, c);
        pod_checks::annotations::all(map, spec, None, c);
    });
    c.at("spec", |c| {
        pod_checks::validate(spec, pod_checks::Cx::default(), c);
        let policy = str_at(template, "spec.restartPolicy");
        if !policies.is_empty() && !policies.contains(&policy) {
            c.at("restartPolicy", |c| {
                c.not_supported(&json!(policy), policies)
            });
        }
    });
    pod_checks::annotations::match_fields(template, c);
    if !list_at(spec, "ephemeralContainers").is_empty() {
        c.at("spec", |c| {
            c.at("ephemeralContainers", |c| {
                c.forbidden("ephemeral containers not allowed in pod template");
            });
        });
    }
}

/// Warnings about the template at a path: on creates, and on updates that count a generation.
pub fn warnings(obj: &Value, before: Option<&Value>, path: &str) -> Vec<String> {
    let generation = |o| at(o, "metadata.generation").cloned();
    if before.is_some_and(|b| generation(b) == generation(obj)) {
        return Vec::new();
    }
    let template = at(obj, path);
    template.map_or_else(Vec::new, |t| pod_warnings::of_template(t, path))
}

/// Checks that a selector is there, parses, and selects the template's labels.
pub fn validate_selector(obj: &Value, c: &mut Causes) {
    let Some(selector) = at(obj, "spec.selector") else {
        c.at("selector", |c| c.required(""));
        return;
    };
    let parsed = api::selector::LabelSelector::from_object(selector);
    let empty = parsed
        .as_ref()
        .is_some_and(api::selector::LabelSelector::is_empty);
    if empty {
        c.at("selector", |c| {
            c.invalid(selector, "empty selector is invalid for deployment");
        });
        return;
    }
    let Some(parsed) = parsed else {
        c.at("selector", |c| {
            c.invalid(selector, "invalid label selector")
        });
        return;
    };
    let labels = map_at(obj, "spec.template.metadata.labels");
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    if !parsed.matches(label) {
        let shown = labels.map_or(json!({}), |l| Value::Object(l.clone()));
        c.at("template", |c| {
            c.at("metadata", |c| {
                c.at("labels", |c| {
                    c.invalid(&shown, "`selector` does not match template `labels`");
                });
            });
        });
    }
}

/// The Containers and Images cells.
pub fn cells(spec: Option<&Value>) -> [Value; 2] {
    let all = spec.map(|s| list_at(s, "containers")).unwrap_or(&[]);
    let join = |field: &str| {
        let texts: Vec<&str> = all.iter().map(|c| str_at(c, field)).collect();
        json!(texts.join(","))
    };
    [join("name"), join("image")]
}
