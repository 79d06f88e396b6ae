//! LimitRanger: defaults for requests and limits, and bounds on them.
//! Upstream: plugin/pkg/admission/limitranger.

use api::quantity::Quantity;
use async_trait::async_trait;
use machinery::ApiError;
use machinery::object::{is_deleting, list_at, map_mut, set, str_at};
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::{Value, json};

use crate::Context;
use crate::pod_requests::{Amounts, amount, list, of_container, of_pod};

pub struct LimitRanger(pub Context);

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

impl LimitRanger {
    fn ranges(&self, namespace: &str) -> Vec<Value> {
        self.0.list("", "limitranges", Some(namespace))
    }
}

fn concerns(a: &Attempt<'_>) -> bool {
    let d = a.descriptor;
    if !d.group.is_empty() || a.before.is_some_and(is_deleting) {
        return false;
    }
    match (&*d.resource, a.subresource, a.operation) {
        ("pods", "", Operation::Create) | ("pods", "resize", Operation::Update) => true,
        ("persistentvolumeclaims", "", op) => op != Operation::Delete,
        _ => false,
    }
}

#[async_trait]
impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> Steps {
        Steps::Both
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        if !concerns(a) || a.descriptor.resource != "pods" {
            return Ok(());
        }
        let ranges = self.ranges(a.namespace);
        let Some(pod) = &mut a.object else {
            return Ok(());
        };
        for range in &ranges {
            set_defaults(range, pod);
        }
        Ok(())
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let Some(object) = a.object.as_ref().filter(|_| concerns(a)) else {
            return Ok(());
        };
        for range in self.ranges(a.namespace) {
            let mut errors = Vec::new();
            for item in list_at(&range, "spec.limits") {
                check_item(item, a, object, &mut errors);
            }
            let mut distinct: Vec<String> = Vec::new();
            for e in errors {
                if !distinct.contains(&e) {
                    distinct.push(e);
                }
            }
            match distinct.as_slice() {
                [] => {}
                [one] => return Err(a.forbidden(one)),
                many => return Err(a.forbidden(&format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

/// Applies the container defaults of one LimitRange and notes what was set.
fn set_defaults(range: &Value, pod: &mut Value) {
    let (mut request_texts, mut limit_texts) = (json!({}), json!({}));
    for item in list_at(range, "spec.limits") {
        if str_at(item, "type") != "Container" {
            continue;
        }
        for (field, texts) in [
            ("defaultRequest", &mut request_texts),
            ("default", &mut limit_texts),
        ] {
            for (k, v) in item
                .get(field)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                if amount(v).is_some() {
                    texts[k] = v.clone();
                }
            }
        }
    }
    let mut notes = Vec::new();
    for (path, label) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        let Some(containers) = pod["spec"].get_mut(path).and_then(Value::as_array_mut) else {
            continue;
        };
        for c in containers {
            let name = str_at(c, "name").to_string();
            for (which, word, texts) in [
                ("requests", "request", &request_texts),
                ("limits", "limit", &limit_texts),
            ] {
                let added = fill(c, which, texts);
                if !added.is_empty() {
                    notes.push(format!("{} {word} for {label} {name}", added.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        map_mut(pod, "metadata.annotations").insert(ANNOTATION.into(), json!(text));
    }
}

/// Fills resources that a container does not set; gives their names.
fn fill(container: &mut Value, which: &str, texts: &Value) -> Vec<String> {
    let have = of_container(container, which);
    let mut added = Vec::new();
    let mut all = container["resources"][which]
        .as_object()
        .cloned()
        .unwrap_or_default();
    for (k, v) in texts.as_object().into_iter().flatten() {
        if !have.contains_key(k) {
            all.insert(k.clone(), v.clone());
            added.push(k.clone());
        }
    }
    if !added.is_empty() {
        set(container, &format!("resources.{which}"), all.into());
        added.sort();
    }
    added
}

fn check_item(item: &Value, a: &Attempt<'_>, object: &Value, errors: &mut Vec<String>) {
    let kind = str_at(item, "type");
    let pods = a.descriptor.resource == "pods";
    match kind {
        "Container" if pods => {
            for path in ["spec.containers", "spec.initContainers"] {
                for c in list_at(object, path) {
                    let (r, l) = (of_container(c, "requests"), of_container(c, "limits"));
                    check_amounts(item, kind, &r, &l, errors);
                }
            }
        }
        "Pod" if pods => {
            let (r, l) = (of_pod(object, "requests"), of_pod(object, "limits"));
            check_amounts(item, kind, &r, &l, errors);
        }
        "PersistentVolumeClaim" if !pods => {
            let requests = list(Some(&object["spec"]["resources"]["requests"]));
            for (res, min) in list(item.get("min")) {
                check_min(&res, kind, &min, requests.get(&res), None, errors);
            }
            for (res, max) in list(item.get("max")) {
                let head = format!("maximum {res} usage per {kind} is {max}");
                match requests.get(&res) {
                    None => errors.push(format!("{head}.  No request is specified")),
                    Some(r) if *r > max => errors.push(format!("{head}, but request is {r}")),
                    Some(_) => {}
                }
            }
        }
        _ => {}
    }
}

fn check_amounts(item: &Value, kind: &str, r: &Amounts, l: &Amounts, errors: &mut Vec<String>) {
    for (res, min) in list(item.get("min")) {
        check_min(&res, kind, &min, r.get(&res), l.get(&res), errors);
    }
    for (res, max) in list(item.get("max")) {
        let head = format!("maximum {res} usage per {kind} is {max}");
        match (l.get(&res), r.get(&res)) {
            (None, _) => errors.push(format!("{head}.  No limit is specified")),
            (Some(l), _) if *l > max => errors.push(format!("{head}, but limit is {l}")),
            (Some(_), Some(r)) if *r > max => errors.push(format!("{head}, but request is {r}")),
            _ => {}
        }
    }
    for (res, ratio) in list(item.get("maxLimitRequestRatio")) {
        check_ratio(&res, kind, &ratio, r.get(&res), l.get(&res), errors);
    }
}

fn check_min(
    res: &str,
    kind: &str,
    min: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
    errors: &mut Vec<String>,
) {
    let head = format!("minimum {res} usage per {kind} is {min}");
    match (request, limit) {
        (None, _) => errors.push(format!("{head}.  No request is specified")),
        (Some(r), _) if r < min => errors.push(format!("{head}, but request is {r}")),
        (Some(_), Some(l)) if l < min => errors.push(format!("{head}, but limit is {l}")),
        _ => {}
    }
}

fn check_ratio(
    res: &str,
    kind: &str,
    ratio: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
    errors: &mut Vec<String>,
) {
    let head = format!("{res} max limit to request ratio per {kind} is {ratio}");
    let Some(r) = request.filter(|r| !r.is_zero()) else {
        errors.push(format!(
            "{head}, but no request is specified or request is 0"
        ));
        return;
    };
    let Some(l) = limit.filter(|l| !l.is_zero()) else {
        errors.push(format!("{head}, but no limit is specified or limit is 0"));
        return;
    };
    let found = l.as_f64() / r.as_f64();
    if found > ratio.as_f64() {
        errors.push(format!("{head}, but provided ratio is {found:.6}"));
    }
}
