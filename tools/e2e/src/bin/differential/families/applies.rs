//! Server-side apply: what several managers own, lose, share and give up, in status and in other versions too, and
//! how one comes to it from client-side apply.

use serde_json::{Value, json};

use crate::families::{FREES, TURNS, things, writes};
use crate::step::{Ask, Dice, Sequence, Step};

const STEPS: usize = 12;
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// More than upstream keeps apart.
const UPDATERS: u64 = 13;

/// Applies by several managers, between other writes.
pub fn sequence(seed: u64) -> Sequence {
    let namespace = format!("applies-{seed}");
    let mut d = Dice::new(seed + 9_000);
    let mut steps: Vec<Step> = Vec::new();
    match d.roll(4) {
        0 => turns(&mut d, &namespace, &mut steps),
        1 => frees(&mut d, seed, &mut steps),
        _ => {
            let path = format!("{}/a", things(&namespace));
            while steps.len() < STEPS {
                thing(&mut d, &path, &mut steps);
            }
            steps.push(Ask::new("GET", path).into());
        }
    }
    Sequence {
        name: String::new(),
        namespace,
        steps,
    }
}

fn manager(d: &mut Dice) -> &'static str {
    d.pick(&["one", "two", "kubectl"])
}

fn force(d: &mut Dice) -> &'static str {
    d.pick(&["", "", "&force=true"])
}

fn config(d: &mut Dice) -> Value {
    let mut out =
        json!({"apiVersion": "peer.example.com/v1", "kind": "Thing", "metadata": {"name": "a"}});
    if !d.once_in(6) {
        out["spec"] = writes::spec(d);
    }
    if d.once_in(3) {
        out["metadata"]["labels"] = json!({format!("l{}", d.roll(2)): d.roll(2).to_string()});
    }
    if d.once_in(8) {
        out["metadata"]["finalizers"] = json!([format!("example.com/{}", d.roll(2))]);
    }
    if d.once_in(6) {
        out["metadata"]["ownerReferences"] = json!([{"apiVersion": "nobody.example.com/v1",
            "kind": "Nobody", "name": "o", "uid": format!("u{}", d.roll(2))}]);
    }
    out
}

/// Configurations that are refused, or nearly.
fn odd(d: &mut Dice) -> Value {
    let mut out = config(d);
    let (path, value) = d.pick(&[
        ("apiVersion", "\"peer.example.com/v2\""),
        ("kind", "\"Other\""),
        ("metadata", "{\"name\":\"a\",\"managedFields\":[]}"),
        ("metadata", "{\"name\":\"b\"}"),
        ("metadata", "{\"name\":\"a\",\"labels\":{\"x\":1}}"),
        ("metadata", "{\"name\":\"a\",\"unknown\":1}"),
        (
            "metadata",
            "{\"name\":\"a\",\"uid\":\"«uid:a»\",\"resourceVersion\":\"«first:a»\"}",
        ),
        ("spec", "{\"set\":[\"0\",\"0\"]}"),
        ("spec", "{\"set\":[{\"x\":1}]}"),
        ("spec", "{\"set\":[null]}"),
        ("spec", "{\"map\":[{\"k\":\"0\"},{\"k\":\"0\"}]}"),
        ("spec", "{\"map\":[{\"v\":\"0\"}]}"),
        ("spec", "{\"map\":[{\"k\":\"0\",\"p\":null}]}"),
        ("spec", "{\"map\":[\"x\"]}"),
        ("spec", "{\"map\":{}}"),
        ("spec", "{\"labels\":[]}"),
        ("spec", "{\"a\":{}}"),
        ("spec", "{\"n\":\"1\"}"),
        ("spec", "{\"b\":1}"),
        ("spec", "{\"ios\":{}}"),
        ("spec", "{\"whole\":\"x\"}"),
        ("spec", "{\"unknown\":1}"),
        ("spec", "[]"),
        ("spec", "null"),
        ("status", "{\"conditions\":[{\"status\":\"True\"}]}"),
        ("status", "null"),
    ]);
    out[path] = serde_json::from_str(value).unwrap_or_default();
    out
}

fn thing(d: &mut Dice, path: &str, steps: &mut Vec<Step>) {
    let who = manager(d);
    let ask = match d.roll(12) {
        0 => {
            let status = json!({"s": d.roll(2).to_string(), "replicas": d.roll(3),
                "conditions": [{"type": d.pick(&["A", "B"]), "status": d.pick(&["True", "False"])}]});
            let mut body = config(d);
            body["status"] = status;
            let force = force(d);
            Ask::new("PATCH", format!("{path}/status?fieldManager={who}{force}")).json(APPLY, &body)
        }
        1 => {
            let spec = json!({"spec": writes::spec(d)});
            Ask::new("PATCH", format!("{path}?fieldManager={who}")).json(MERGE, &spec)
        }
        2 => Ask::new("PATCH", format!("{path}?fieldManager={who}")).json(MERGE, &owners(d)),
        3 => return migrate(d, path, steps),
        4 if d.once_in(3) => {
            for i in 0..UPDATERS {
                // By name as by age, whichever second they fall into.
                let patch = json!({"spec": {"free": {format!("u{i}"): i}}});
                let path = format!("{path}?fieldManager=u{i:02}");
                steps.push(Ask::new("PATCH", path).json(MERGE, &patch).into());
            }
            return;
        }
        5 => {
            let body = odd(d);
            Ask::new("PATCH", format!("{path}?fieldManager={who}")).json(APPLY, &body)
        }
        6 if d.once_in(3) => Ask::new("PATCH", path).json(APPLY, &config(d)),
        7 if d.once_in(3) => Ask::new("DELETE", path),
        _ => {
            let (force, dry) = (force(d), d.pick(&["", "", "", "&dryRun=All"]));
            let body = config(d);
            Ask::new("PATCH", format!("{path}?fieldManager={who}{force}{dry}")).json(APPLY, &body)
        }
    };
    steps.push(ask.into());
}

/// managedFields as clients may set them: reset, kept, given, broken.
fn owners(d: &mut Dice) -> Value {
    let entry = json!({"manager": "given", "operation": "Apply", "apiVersion": "peer.example.com/v1",
        "time": "2020-01-02T03:04:05Z", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:a": {}, "f:set": {"v:\"0\"": {}}}}});
    let with = |field: &str, value: Value| {
        let mut entry = entry.clone();
        entry[field] = value;
        json!([entry])
    };
    let list = match d.roll(8) {
        0 => json!([]),
        1 => json!([{}]),
        2 => Value::Null,
        3 => with("apiVersion", json!("peer.example.com/v0")),
        4 => with("fieldsV1", json!({"f:spec": {"f:none": {}, "x": {}}})),
        5 => with("operation", json!("Odd")),
        6 => with("fieldsType", json!("FieldsV2")),
        _ => json!([entry]),
    };
    json!({"metadata": {"managedFields": list}})
}

/// Client-side apply, then server-side.
fn migrate(d: &mut Dice, path: &str, steps: &mut Vec<Step>) {
    let mut last = config(d);
    if let Some(meta) = last["metadata"].as_object_mut() {
        meta.remove("ownerReferences");
        meta.remove("finalizers");
    }
    let text = if d.once_in(6) {
        "no json".to_string()
    } else {
        last.to_string()
    };
    let mut patch = last.clone();
    patch["metadata"]["annotations"] = json!({LAST_APPLIED: text});
    let client = d.pick(&["kubectl-client-side-apply", "kubectl", "one"]);
    let by_client = format!("{path}?fieldManager={client}");
    steps.push(Ask::new("PATCH", by_client).json(MERGE, &patch).into());
    let next = if d.once_in(2) { last } else { config(d) };
    let who = d.pick(&["kubectl", "kubectl", "one"]);
    let by_server = format!("{path}?fieldManager={who}");
    steps.push(Ask::new("PATCH", by_server).json(APPLY, &next).into());
}

/// Applies in two versions of one kind.
fn turns(d: &mut Dice, namespace: &str, steps: &mut Vec<Step>) {
    for _ in 0..STEPS {
        let version = d.pick(&["v1", "v1beta1"]);
        let path = format!("{TURNS}/{version}/namespaces/{namespace}/turns/t");
        let mut spec = json!({});
        for field in ["low", "high"] {
            if d.once_in(2) {
                spec[field] = json!(d.roll(2) + 1);
            }
        }
        if d.once_in(2) {
            let tags: Vec<&str> = ["x", "y", "z"]
                .into_iter()
                .filter(|_| d.once_in(2))
                .collect();
            spec["tags"] = json!(tags);
        }
        let (who, force) = (manager(d), force(d));
        let body = json!({"apiVersion": format!("turns.example.com/{version}"), "kind": "Turn",
            "metadata": {"name": "t"}, "spec": spec});
        let ask = match d.roll(4) {
            0 => Ask::new("PATCH", format!("{path}?fieldManager={who}"))
                .json(MERGE, &json!({"spec": spec})),
            _ => Ask::new("PATCH", format!("{path}?fieldManager={who}{force}")).json(APPLY, &body),
        };
        steps.push(ask.into());
    }
}

/// Applies of what no schema describes.
fn frees(d: &mut Dice, seed: u64, steps: &mut Vec<Step>) {
    let path = format!("{FREES}/applied{seed}");
    for _ in 0..STEPS {
        let mut body = json!({"apiVersion": "peer.example.com/v1", "kind": "Free",
            "metadata": {"name": format!("applied{seed}")}});
        for field in ["x", "y"] {
            if d.once_in(2) {
                body[field] = writes::anything(d, 3);
            }
        }
        let (who, force) = (manager(d), force(d));
        let ask = match d.roll(4) {
            0 => {
                let patch = json!({"x": writes::anything(d, 2)});
                Ask::new("PATCH", format!("{path}?fieldManager={who}")).json(MERGE, &patch)
            }
            _ => Ask::new("PATCH", format!("{path}?fieldManager={who}{force}")).json(APPLY, &body),
        };
        steps.push(ask.into());
    }
}
