//! Managed fields as no server writes them, and the same configuration applied over them twice: what each apply
//! leaves, of whom the time moves, and that what nothing is left of is filled by an empty list the second time.

use serde_json::{Value, json};

use crate::families::things;
use crate::step::{Ask, Dice, Sequence, Step};

const SETS: &[&str] = &[
    r#"{}"#,
    r#"{".":{}}"#,
    r#"{"f:spec":{}}"#,
    r#"{"f:spec":{".":{}}}"#,
    r#"{"f:spec":{".":{},"f:a":{}}}"#,
    r#"{"f:spec":{"f:a":{}}}"#,
    r#"{"f:spec":{"f:a":{"f:b":{}}}}"#,
    r#"{"f:spec":{"f:free":{}}}"#,
    r#"{"f:spec":{"f:free":{"f:x":{}}}}"#,
    r#"{"f:spec":{"f:set":{"v:\"0\"":{}}}}"#,
    r#"{"f:spec":{"f:set":{".":{}}}}"#,
    r#"{"f:spec":{"f:map":{"k:{\"k\":\"0\",\"p\":\"TCP\"}":{}}}}"#,
    r#"{"f:spec":{"f:map":{"k:{\"k\":\"0\",\"p\":\"TCP\"}":{".":{},"f:v":{}}}}}"#,
    r#"{"f:spec":{"f:map":{"i:0":{}}}}"#,
    r#"{"f:spec":{"f:unknown":{}}}"#,
    r#"{"f:spec":{"f:whole":{},"f:atomic":{}}}"#,
    r#"{"f:status":{"f:s":{}}}"#,
    r#"{"f:metadata":{"f:name":{},"f:labels":{".":{},"f:x":{}}}}"#,
    r#"{"f:metadata":{}}"#,
];
const SPECS: &[&str] = &[
    "null",
    "{}",
    r#"{"a":"0"}"#,
    r#"{"nullable":null}"#,
    r#"{"set":[]}"#,
    r#"{"set":["0"]}"#,
    r#"{"map":[]}"#,
    r#"{"map":[{"k":"0"}]}"#,
    r#"{"map":[{"k":"0","v":"0"}]}"#,
    r#"{"free":{}}"#,
    r#"{"free":{"x":{}}}"#,
    r#"{"atomic":[]}"#,
    r#"{"whole":{}}"#,
    r#"{"labels":{}}"#,
    r#"{"a":"1","free":{"x":1},"set":["1"]}"#,
];
const APPLY: &str = "application/apply-patch+yaml";
const ROUNDS: u64 = 3;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn owners(d: &mut Dice) -> Value {
    let mut out = Vec::new();
    for who in ["me", "other", "third"] {
        let operation = d.pick(&["Apply", "Update", ""]);
        if operation.is_empty() {
            continue;
        }
        let mut entry = json!({"manager": who, "operation": operation, "apiVersion": "peer.example.com/v1",
            "fieldsType": "FieldsV1", "fieldsV1": parsed(d.pick(SETS))});
        if d.once_in(2) {
            entry["time"] = json!("2020-01-01T00:00:00Z");
        }
        if d.once_in(6) {
            entry["subresource"] = json!("status");
        }
        out.push(entry);
    }
    json!(out)
}

/// Objects with given owners, applied to twice by one of them, then once by another.
pub fn sequence(seed: u64) -> Sequence {
    let namespace = format!("owners-{seed}");
    let mut d = Dice::new(seed + 51_000);
    let base = things(&namespace);
    let mut steps: Vec<Step> = Vec::new();
    for i in 0..ROUNDS {
        let name = format!("o{i}");
        let path = format!("{base}/{name}");
        let mut thing = json!({"apiVersion": "peer.example.com/v1", "kind": "Thing", "metadata": {"name": name},
            "spec": parsed(d.pick(SPECS))});
        let mut config = thing.clone();
        config["spec"] = parsed(d.pick(SPECS));
        let create = Ask::new("POST", &base).json("application/json", &thing);
        steps.push(create.into());
        thing["metadata"]["resourceVersion"] = json!(format!("«rv:{name}»"));
        thing["metadata"]["managedFields"] = owners(&mut d);
        let update = Ask::new("PUT", format!("{path}?fieldManager=tester"));
        steps.push(update.json("application/json", &thing).into());
        for who in ["me", "me", "other"] {
            let force = if d.once_in(5) { "" } else { "&force=true" };
            let apply = Ask::new("PATCH", format!("{path}?fieldManager={who}{force}"));
            steps.push(apply.json(APPLY, &config).into());
        }
        steps.push(Ask::new("GET", path).into());
    }
    Sequence {
        name: String::new(),
        namespace,
        steps,
    }
}
