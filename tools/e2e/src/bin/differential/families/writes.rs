//! Creates, updates and patches of every kind, by several managers, with and without force.

use serde_json::{Value, json};

use crate::families::{FREES, TURNS, things as path_of};
use crate::step::{Ask, Dice, Sequence, Step};

const STEPS: usize = 9;
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const JSON: &str = "application/json";

/// Writes of things.
pub fn things(seed: u64) -> Sequence {
    let namespace = format!("writes-{seed}");
    let base = path_of(&namespace);
    let mut d = Dice::new(seed);
    let steps = (0..STEPS).map(|_| thing(&mut d, &base)).collect();
    Sequence {
        name: String::new(),
        namespace,
        steps,
    }
}

/// A spec of a thing, valid nearly always.
pub fn spec(d: &mut Dice) -> Value {
    let mut spec = json!({});
    if d.once_in(2) {
        spec["a"] = json!(d.roll(3).to_string());
    }
    if d.once_in(3) {
        spec["n"] = json!(d.roll(3));
    }
    if d.once_in(8) {
        spec["replicas"] = json!(d.roll(3));
    }
    if d.once_in(4) {
        spec["ios"] = if d.once_in(2) { json!(1) } else { json!("1") };
    }
    if d.once_in(5) {
        spec["nullable"] = Value::Null;
    }
    if d.once_in(12) {
        let (field, value) = d.pick(&[
            ("n", "101"),
            ("n", "\"x\""),
            ("n", "1.5"),
            ("n", "1.0"),
            ("n", "1e2"),
            ("e", "\"z\""),
            ("p", "\"UPPER9\""),
            ("t", "\"yesterday\""),
            ("f", "1e3"),
            ("b", "\"true\""),
            ("a", "null"),
            ("d", "null"),
            ("replicas", "-1"),
            ("unknown", "{\"x\":1}"),
        ]);
        spec[field] = serde_json::from_str(value).unwrap_or_default();
    }
    for name in ["set", "atomic"] {
        if d.once_in(2) {
            let all: Vec<String> = (0..4)
                .filter(|_| d.once_in(2))
                .map(|i| i.to_string())
                .collect();
            spec[name] = json!(all);
        }
    }
    if d.once_in(2) {
        spec["map"] = items(d);
    }
    for name in ["labels", "whole", "free"] {
        if d.once_in(3) {
            spec[name] = json!({"x": d.roll(2).to_string()});
            if d.once_in(2) {
                spec[name]["y"] = json!("y");
            }
        }
    }
    spec
}

fn items(d: &mut Dice) -> Value {
    let mut items = Vec::new();
    for k in 0..3 {
        if d.once_in(2) {
            let mut item = json!({"k": k.to_string(), "v": d.roll(2).to_string()});
            if d.once_in(3) {
                item["p"] = json!("UDP");
            }
            items.push(item);
        }
    }
    if d.once_in(2) {
        items.reverse();
    }
    if d.once_in(12)
        && let Some(first) = items.first().cloned()
    {
        items.push(first);
    }
    json!(items)
}

fn object(d: &mut Dice, name: &str) -> Value {
    let mut out =
        json!({"apiVersion": "peer.example.com/v1", "kind": "Thing", "metadata": {"name": name}});
    if !d.once_in(8) {
        out["spec"] = spec(d);
    }
    if d.once_in(4) {
        out["metadata"]["labels"] = json!({format!("l{}", d.roll(2)): "v"});
    }
    if d.once_in(6) {
        out["metadata"]["annotations"] = json!({format!("a{}", d.roll(2)): "v"});
    }
    if d.once_in(10) {
        out["metadata"]["finalizers"] = json!([format!("example.com/{}", d.roll(2))]);
    }
    if d.once_in(12) {
        // Of a kind that nobody serves: only the real server has a garbage collector, which would act on others.
        out["metadata"]["ownerReferences"] = json!([{"apiVersion": "nobody.example.com/v1", "kind": "Nobody",
            "name": "o", "uid": format!("u{}", d.roll(2)), "controller": d.once_in(2)}]);
    }
    if d.once_in(6) {
        out["status"] = json!({"s": "x", "conditions": [{"type": "Ready", "status": "True"}]});
    }
    out
}

/// Query options of a write.
fn options(d: &mut Dice) -> String {
    let mut out = format!(
        "fieldManager={}",
        d.pick(&["one", "two", "three", "kubectl"])
    );
    if d.once_in(8) {
        out.push_str("&dryRun=All");
    }
    if d.once_in(6) {
        out.push_str(d.pick(&[
            "&fieldValidation=Strict",
            "&fieldValidation=Ignore",
            "&fieldValidation=Warn",
        ]));
    }
    out
}

fn thing(d: &mut Dice, base: &str) -> Step {
    let name = d.pick(&["a", "a", "b"]);
    let sub = if d.once_in(5) { "/status" } else { "" };
    let options = options(d);
    let path = format!("{base}/{name}{sub}?{options}");
    let mut body = object(d, name);
    let ask = match d.roll(12) {
        0 => Ask::new("POST", format!("{base}?{options}")).json(JSON, &body),
        1 | 2 => {
            match d.roll(4) {
                0 => {}
                1 => body["metadata"]["resourceVersion"] = json!(format!("«first:{name}»")),
                _ => body["metadata"]["resourceVersion"] = json!(format!("«rv:{name}»")),
            }
            if d.once_in(10) {
                body["metadata"]["uid"] = json!(format!("«uid:{name}»"));
            }
            Ask::new("PUT", path).json(JSON, &body)
        }
        3 => {
            let spec = body.get("spec").cloned().unwrap_or(json!({}));
            let mut patch = json!({"spec": spec, "status": {"s": "m"}});
            if d.once_in(3) {
                let field = d.pick(&["a", "map", "set", "labels", "whole", "d"]);
                patch["spec"][field] = Value::Null;
            }
            if d.once_in(6) {
                patch["metadata"] = json!({"resourceVersion": format!("«first:{name}»")});
            }
            Ask::new("PATCH", path).json(MERGE, &patch)
        }
        4 => Ask::new("PATCH", path).json(JSON_PATCH, &json_patch(d)),
        5 => scale(d, base, name, &options),
        6 if d.once_in(2) => Ask::new("DELETE", format!("{base}/{name}")),
        7 if d.once_in(4) => {
            Ask::new("PATCH", path).json("application/strategic-merge-patch+json", &body)
        }
        _ => {
            let force = d.pick(&["", "", "&force=true", "&force=false"]);
            if d.once_in(12) {
                body["metadata"]["resourceVersion"] = json!(format!("«rv:{name}»"));
            }
            Ask::new("PATCH", format!("{path}{force}")).json(APPLY, &body)
        }
    };
    ask.into()
}

fn json_patch(d: &mut Dice) -> Value {
    let mut out = Vec::new();
    for _ in 0..=d.roll(3) {
        let path = d.pick(&[
            "/spec/a",
            "/spec/set/0",
            "/spec/set/-",
            "/spec/map/0/v",
            "/spec/labels",
            "/metadata/labels",
            "/spec/missing/x",
            "/status/s",
            "/spec/free/x",
        ]);
        let op = d.pick(&[
            "add", "add", "replace", "remove", "test", "copy", "move", "odd",
        ]);
        let mut one = json!({"op": op, "path": path});
        match op {
            "add" | "replace" | "test" if path.ends_with("labels") => {
                one["value"] = json!({"q": "r"})
            }
            "add" | "replace" | "test" => one["value"] = json!(d.roll(3).to_string()),
            "copy" | "move" => one["from"] = json!("/spec/a"),
            _ => {}
        }
        out.push(one);
    }
    json!(out)
}

fn scale(d: &mut Dice, base: &str, name: &str, options: &str) -> Ask {
    let path = format!("{base}/{name}/scale?{options}");
    let replicas = d.roll(4);
    match d.roll(4) {
        0 => Ask::new("GET", format!("{base}/{name}/scale")),
        1 => {
            let mut body = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
                "metadata": {"name": name, "namespace": base.split('/').nth(5).unwrap_or_default()},
                "spec": {"replicas": replicas}});
            if d.once_in(2) {
                body["metadata"]["resourceVersion"] = json!(format!("«rv:{name}»"));
            }
            Ask::new("PUT", path).json(JSON, &body)
        }
        2 => Ask::new("PATCH", path).json(MERGE, &json!({"spec": {"replicas": replicas}})),
        _ => Ask::new("PATCH", path).json(
            APPLY,
            &json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": replicas}}),
        ),
    }
}

/// Writes of turns in two versions.
pub fn versions(seed: u64) -> Sequence {
    let namespace = format!("versions-{seed}");
    let mut d = Dice::new(seed + 1_000);
    let mut steps = Vec::new();
    for _ in 0..STEPS {
        let version = d.pick(&["v1", "v1", "v1beta1"]);
        let base = format!("{TURNS}/{version}/namespaces/{namespace}/turns");
        let name = d.pick(&["a", "b"]);
        let mut spec = json!({});
        for (field, n) in [("low", 3), ("high", 3)] {
            if d.once_in(2) {
                spec[field] = json!(d.roll(n));
            }
        }
        if d.once_in(2) {
            spec["color"] = json!(d.pick(&["red", "blue"]));
        }
        if d.once_in(4) {
            spec["fixed"] = json!(d.pick(&["x", "y"]));
        }
        if d.once_in(5) {
            spec["short"] = json!(d.pick(&["abc", "abcd"]));
        }
        if d.once_in(2) {
            let tags = ["t0", "t1", "t2"];
            let tags: Vec<&str> = tags.into_iter().filter(|_| d.once_in(2)).collect();
            spec["tags"] = json!(tags);
        }
        let given = if d.once_in(10) { "v1" } else { version };
        let mut body = json!({"apiVersion": format!("turns.example.com/{given}"), "kind": "Turn",
            "metadata": {"name": name}, "spec": spec});
        let options = options(&mut d);
        let ask = match d.roll(8) {
            0 => Ask::new("POST", format!("{base}?{options}")).json(JSON, &body),
            1 | 2 => {
                body["metadata"]["resourceVersion"] = json!(format!("«rv:{name}»"));
                Ask::new("PUT", format!("{base}/{name}?{options}")).json(JSON, &body)
            }
            3 => Ask::new("PATCH", format!("{base}/{name}?{options}"))
                .json(MERGE, &json!({"spec": spec})),
            4 => {
                let field = d.pick(&[
                    "spec.color=red",
                    "spec.low=1",
                    "spec.color!=red,spec.low!=0",
                    "spec.high=1",
                    "spec.color=",
                ]);
                Ask::new(
                    "GET",
                    format!("{base}?fieldSelector={}", field.replace('=', "%3D")),
                )
            }
            _ => {
                let force = d.pick(&["", "&force=true"]);
                Ask::new("PATCH", format!("{base}/{name}?{options}{force}")).json(APPLY, &body)
            }
        };
        steps.push(ask.into());
    }
    Sequence {
        name: String::new(),
        namespace,
        steps,
    }
}

/// Writes of cluster-scoped objects without a schema.
pub fn frees(seed: u64) -> Sequence {
    let mut d = Dice::new(seed + 2_000);
    let name = format!("f{seed}");
    let steps = (0..STEPS).map(|_| free(&mut d, &name)).collect();
    Sequence {
        name: String::new(),
        namespace: String::new(),
        steps,
    }
}

fn free(d: &mut Dice, name: &str) -> Step {
    let mut body =
        json!({"apiVersion": "peer.example.com/v1", "kind": "Free", "metadata": {"name": name}});
    for field in ["spec", "data", "status"] {
        if d.once_in(2) {
            body[field] = anything(d, 3);
        }
    }
    let options = options(d);
    let path = format!("{FREES}/{name}?{options}");
    let ask = match d.roll(7) {
        0 => Ask::new("POST", format!("{FREES}?{options}")).json(JSON, &body),
        1 => {
            body["metadata"]["resourceVersion"] = json!(format!("«rv:{name}»"));
            Ask::new("PUT", path).json(JSON, &body)
        }
        2 => Ask::new("PATCH", path).json(MERGE, &json!({"spec": anything(d, 3)})),
        3 => Ask::new("GET", format!("{FREES}/{name}")),
        _ => {
            let force = d.pick(&["", "&force=true"]);
            Ask::new("PATCH", format!("{path}{force}")).json(APPLY, &body)
        }
    };
    ask.into()
}

/// Any JSON.
pub fn anything(d: &mut Dice, depth: u64) -> Value {
    match d.roll(if depth == 0 { 6 } else { 9 }) {
        0 => json!(d.roll(3)),
        1 => json!(d.roll(3).to_string()),
        2 => json!(d.once_in(2)),
        3 => Value::Null,
        4 => json!(-1.5),
        5 => json!("a b: c"),
        6 => (0..d.roll(3)).map(|_| anything(d, depth - 1)).collect(),
        _ => {
            let n = d.roll(4);
            let fields = (0..n).map(|i| (format!("k{i}"), anything(d, depth - 1)));
            Value::Object(fields.collect())
        }
    }
}
