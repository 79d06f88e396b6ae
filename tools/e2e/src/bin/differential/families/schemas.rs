//! Generated structural schemas and objects against them: defaults, pruning, verdicts of values, formats, lists and
//! rules, ratcheting, status and scale.

pub mod generate;
mod rules;

use serde_json::{Value, json};

use crate::step::{Ask, Dice, Sequence, Step};

use generate::{good, schema, value};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Objects of one schema, all of them created and some changed.
const OBJECTS: u64 = 8;
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

fn group(seed: u64) -> String {
    format!("s{seed}.schemas.example.com")
}

/// A definition whose version's schema has a `probe` that tells which one is served.
fn definition(seed: u64, properties: &Value, probe: &str, rules: &[Value]) -> Value {
    let mut root = json!({"type": "object", "properties": {
        "probe": {"type": "string", "enum": ["any", probe]},
        "spec": {"type": "object", "properties": properties},
        "status": {"type": "object", "properties": {
            "replicas": {"type": "integer", "format": "int32"},
            "selector": {"type": "string"},
            "phase": {"type": "string", "enum": ["A", "B"], "maxLength": 5},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}});
    root["properties"]["spec"]["properties"]["replicas"] = json!({"type": "integer"});
    if !rules.is_empty() {
        root["properties"]["spec"]["x-kubernetes-validations"] = json!(rules);
    }
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things.{}", group(seed))},
        "spec": {"group": group(seed), "scope": "Cluster", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "schema": {"openAPIV3Schema": root}}]}})
}

fn object(seed: u64, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{}/v1", group(seed)), "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

/// A definition, objects right and wrong, changes of them, then another definition and what it makes of them.
pub fn sequence(seed: u64) -> Sequence {
    let mut d = Dice::new(seed + 9_000);
    let mut properties = json!({});
    let count = 2 + d.roll(3);
    for i in 0..count {
        properties[format!("p{i}")] = schema(&mut d, 0);
    }
    // What the tables of rules are about is in every schema.
    let chosen = rules::chosen(&mut d, &mut properties);
    let base = format!("/apis/{}/v1/things", group(seed));
    let mut steps: Vec<Step> = vec![
        Step::Gate(
            Ask::new("POST", CRDS).json(JSON, &definition(seed, &properties, "first", &chosen)),
        ),
        Step::probe(&base, object(seed, "probe", &json!({})), "first"),
    ];
    let document = format!("/openapi/v3/apis/{}/v1", group(seed));
    steps.push(Step::published(&document));
    steps.push(Ask::new("GET", document).into());
    if seed % 8 == 3 {
        // The document is large, and made anew after each definition.
        steps.extend(Step::published_v2(&group(seed)));
    }
    let whole = good(&mut d, &properties);
    steps.push(
        Ask::new("POST", &base)
            .json(JSON, &object(seed, "whole", &whole))
            .into(),
    );
    for i in 0..OBJECTS {
        let wrong = 4 + d.roll(12);
        let spec = value(&mut d, &properties, wrong);
        let query = d.pick(&["", "?fieldValidation=Strict", "?fieldValidation=Ignore"]);
        let body = object(seed, &format!("o{i}"), &spec);
        steps.push(
            Ask::new("POST", format!("{base}{query}"))
                .json(JSON, &body)
                .into(),
        );
    }
    for _ in 0..5 {
        steps.push(change(&mut d, seed, &base, &properties));
    }
    subresources(&mut d, &base, &mut steps);
    // Stricter or just other: what is stored may break it, and may go on doing so.
    let mut second = properties.clone();
    for (name, s) in second.as_object_mut().into_iter().flatten() {
        if name.starts_with('p') && d.once_in(2) {
            generate::tighten(s);
        }
    }
    let mut crd = definition(seed, &second, "second", &chosen);
    crd["metadata"]["resourceVersion"] = json!(format!("«rv:things.{}»", group(seed)));
    let name = format!("{CRDS}/things.{}", group(seed));
    steps.push(Step::established(&name));
    steps.push(Step::Gate(Ask::new("PUT", &name).json(JSON, &crd)));
    steps.push(Step::probe(
        &base,
        object(seed, "probe", &json!({})),
        "second",
    ));
    steps.push(Ask::new("GET", format!("{base}/whole")).into());
    for _ in 0..5 {
        steps.push(change(&mut d, seed, &base, &second));
    }
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    steps.push(
        Ask::new("PATCH", format!("{base}/whole"))
            .json(MERGE, &label)
            .into(),
    );
    steps.push(Ask::new("GET", &base).into());
    // Each definition that stays costs the later ones time.
    steps.push(Step::Quiet(Ask::new("DELETE", name)));
    Sequence {
        name: String::new(),
        namespace: String::new(),
        steps,
    }
}

fn change(d: &mut Dice, seed: u64, base: &str, properties: &Value) -> Step {
    let path = format!("{base}/whole");
    let wrong = 5 + d.roll(12);
    match d.roll(3) {
        0 => {
            let spec = value(d, properties, wrong);
            let mut body = object(seed, "whole", &spec);
            body["metadata"]["resourceVersion"] = json!("«rv:whole»");
            Ask::new("PUT", path).json(JSON, &body).into()
        }
        1 => {
            let names: Vec<&String> = properties
                .as_object()
                .into_iter()
                .flatten()
                .map(|(k, _)| k)
                .collect();
            let i = usize::try_from(d.roll(names.len() as u64)).unwrap_or(0);
            let one = value(
                d,
                &json!({names[i].as_str(): properties[names[i].as_str()]}),
                wrong,
            );
            Ask::new("PATCH", path)
                .json(MERGE, &json!({"spec": one}))
                .into()
        }
        _ => {
            let spec = value(d, properties, wrong);
            let body = object(seed, "whole", &spec);
            let path = format!("{path}?fieldManager=m&force=true");
            Ask::new("PATCH", path)
                .json("application/apply-patch+yaml", &body)
                .into()
        }
    }
}

fn subresources(d: &mut Dice, base: &str, steps: &mut Vec<Step>) {
    const STATUSES: &[&str] = &[
        "{\"replicas\":3,\"selector\":\"a=b\"}",
        "{\"replicas\":-1}",
        "{\"replicas\":\"x\"}",
        "{\"phase\":\"C\"}",
        "{\"phase\":\"TOOLONG\"}",
        "{\"phase\":\"A\",\"unknown\":1}",
        "{\"selector\":5}",
        "{\"free\":{\"a\":[1]}}",
        "5",
        "null",
    ];
    const SPECS: &[&str] = &["1", "-1", "\"x\"", "2147483648", "null"];
    for _ in 0..3 {
        let body = format!("{{\"status\":{}}}", d.pick(STATUSES));
        steps.push(
            Ask::new("PATCH", format!("{base}/whole/status"))
                .text(MERGE, &body)
                .into(),
        );
    }
    let body = format!("{{\"spec\":{{\"replicas\":{}}}}}", d.pick(SPECS));
    steps.push(
        Ask::new("PATCH", format!("{base}/whole/scale"))
            .text(MERGE, &body)
            .into(),
    );
    steps.push(Ask::new("GET", format!("{base}/whole/scale")).into());
}
