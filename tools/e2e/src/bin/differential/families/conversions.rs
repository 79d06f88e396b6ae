//! Definitions of two versions that agree on little, with the conversion `None`: what each takes, defaults, prunes and
//! shows of what was written in the other, managers that apply in both, another version to store, and one that goes.

use serde_json::{Value, json};

use crate::families::lists;
use crate::families::schemas::generate::{good, schema, tighten, value};
use crate::step::{Ask, Dice, Sequence, Step};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const VERSIONS: &[&str] = &["v1", "v2"];
const NAMES: &[&str] = &["a", "b", "c"];
const STEPS: usize = 10;

/// Columns of every type, over what may be anything.
const COLUMNS: &[(&str, &str, &str)] = &[
    ("string", "", ".spec.p0"),
    ("string", "", ".spec.p1"),
    ("string", "", ".spec"),
    ("string", "password", ".metadata.labels.a"),
    ("integer", "", ".spec.p0"),
    ("integer", "int32", ".spec.replicas"),
    ("integer", "", ".metadata.generation"),
    ("number", "", ".spec.p1"),
    ("number", "double", ".spec.replicas"),
    ("boolean", "", ".spec.p2"),
    ("date", "", ".metadata.creationTimestamp"),
    ("date", "", ".spec.p1"),
    ("string", "", ".spec['p2']"),
    ("string", "", ".spec.p0[*]"),
    ("string", "", ".spec.p1[0]"),
    ("string", "", ".spec.p0.a0"),
    ("string", "", ".spec.p1[?(@.k==\"k0\")].v"),
    ("string", "", ".status.phase"),
    ("string", "name", ".metadata.name"),
];

fn group(seed: u64) -> String {
    format!("c{seed}.conversions.example.com")
}

fn version(d: &mut Dice, name: &str, properties: &Value) -> Value {
    let columns: Vec<Value> = (0..d.roll(5))
        .map(|i| {
            let (kind, format, path) = d.pick(COLUMNS);
            let mut column = json!({"name": format!("C{i}"), "type": kind, "jsonPath": path});
            if !format.is_empty() {
                column["format"] = json!(format);
            }
            if d.once_in(4) {
                column["priority"] = json!(1);
            }
            column
        })
        .collect();
    let mut out = json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema": {
        "type": "object", "properties": {
            "probe": {"type": "string", "enum": ["any", "first"]},
            "spec": {"type": "object", "properties": properties},
            "status": {"type": "object", "properties": {"phase": {"type": "string"}}}}}}});
    if !columns.is_empty() {
        out["additionalPrinterColumns"] = json!(columns);
    }
    if d.once_in(2) {
        out["subresources"] = json!({"status": {}});
    }
    if d.once_in(3) {
        out["subresources"]["scale"] =
            json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    }
    if d.once_in(6) {
        out["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] =
            json!(true);
    }
    if d.once_in(3) {
        out["selectableFields"] = json!([{"jsonPath": ".spec.replicas"}]);
    }
    if d.once_in(5) {
        out["deprecated"] = json!(true);
    }
    out
}

/// What a version has; the second has some of the first's, some of them stricter, and others.
fn properties(d: &mut Dice) -> [Value; 2] {
    let mut first = json!({"replicas": {"type": "integer"}});
    for i in 0..3 {
        first[format!("p{i}")] = schema(d, 0);
    }
    let mut second = first.clone();
    let name = format!("p{}", d.roll(3));
    match d.roll(4) {
        0 => tighten(&mut second[&name]),
        1 => second[&name] = schema(d, 0),
        2 => {
            if let Some(map) = second.as_object_mut() {
                map.remove(&name);
            }
        }
        _ => {}
    }
    second["q"] = schema(d, 0);
    if d.once_in(2) {
        second["late"] = json!({"type": "string", "default": "late"});
    }
    if d.once_in(3) {
        first["early"] = json!({"type": "object", "default": {}, "properties": {"x": {"type": "integer", "default": 1}}});
    }
    [first, second]
}

fn definition(seed: u64, versions: &Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things.{}", group(seed))},
        "spec": {"group": group(seed), "scope": "Cluster", "names": {"plural": "things", "kind": "Thing"},
            "versions": versions}})
}

fn object(seed: u64, version: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{}/{version}", group(seed)), "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

/// Objects in both versions; then the other one is stored, and the first goes.
pub fn sequence(seed: u64) -> Sequence {
    let mut d = Dice::new(seed + 61_000);
    let properties = properties(&mut d);
    let mut versions = json!([
        version(&mut d, "v1", &properties[0]),
        version(&mut d, "v2", &properties[1])
    ]);
    let crd = definition(seed, &versions);
    let definition = format!("{CRDS}/things.{}", group(seed));
    let probe = |version: &str, probe: &str| {
        let base = format!("/apis/{}/{version}/things", group(seed));
        Step::probe(&base, object(seed, version, "probe", &json!({})), probe)
    };
    let mut steps = vec![
        Step::Gate(Ask::new("POST", CRDS).json(JSON, &crd)),
        probe("v2", "first"),
        probe("v1", "first"),
        Step::established(&definition),
    ];
    for version in VERSIONS {
        let document = format!("/openapi/v3/apis/{}/{version}", group(seed));
        steps.push(Step::published(&document));
        steps.push(Ask::new("GET", document).into());
    }
    for name in NAMES {
        let i = d.pick(&[0, 1]);
        let spec = good(&mut d, &properties[i]);
        let base = format!("/apis/{}/{}/things", group(seed), VERSIONS[i]);
        let body = object(seed, VERSIONS[i], name, &spec);
        steps.push(Ask::new("POST", base).json(JSON, &body).into());
    }
    for _ in 0..STEPS {
        steps.push(step(&mut d, seed, &properties).into());
    }
    // What was stored in the first stays so until it is written again.
    for (i, storage) in [(0, false), (1, true)] {
        versions[i]["storage"] = json!(storage);
        versions[i]["schema"]["openAPIV3Schema"]["properties"]["probe"]["enum"] =
            json!(["any", "second"]);
    }
    let turn = json!({"spec": {"versions": versions}});
    steps.push(Step::Gate(
        Ask::new("PATCH", &definition).json(MERGE, &turn),
    ));
    steps.extend([probe("v2", "second"), probe("v1", "second")]);
    for name in NAMES {
        for version in VERSIONS {
            let path = format!("/apis/{}/{version}/things/{name}", group(seed));
            steps.push(Ask::new("GET", path).into());
        }
    }
    for _ in 0..STEPS / 2 {
        steps.push(step(&mut d, seed, &properties).into());
    }
    gone(seed, &versions[1], &properties, &mut steps);
    // Each definition that stays costs the later ones time.
    steps.push(Step::Quiet(Ask::new("DELETE", definition)));
    Sequence {
        name: String::new(),
        namespace: String::new(),
        steps,
    }
}

/// The first version goes: not before what is stored in it is disowned. Objects that are still stored in it could not be
/// read from then on, so there are none; but who wrote in it is still told by some.
fn gone(seed: u64, second: &Value, properties: &[Value; 2], steps: &mut Vec<Step>) {
    let mut d = Dice::new(seed + 67_000);
    let path = format!("{CRDS}/things.{}", group(seed));
    let base = |version: &str| format!("/apis/{}/{version}/things", group(seed));
    let merge = |path: &str, body: &Value| Ask::new("PATCH", path).json(MERGE, body);
    let mut apply = |i: usize, name: &str, manager: &str| {
        let spec = good(&mut d, &properties[i]);
        let path = format!(
            "{}/{name}?fieldManager={manager}&force=true",
            base(VERSIONS[i])
        );
        Ask::new("PATCH", path).json(APPLY, &object(seed, VERSIONS[i], name, &spec))
    };
    let replicas = |name: &str, n: u64| {
        let path = format!("{}/{name}?fieldManager=two", base("v2"));
        merge(&path, &json!({"spec": {"replicas": n}}))
    };
    steps.push(Step::Quiet(Ask::new("DELETE", base("v2"))));
    steps.extend([apply(0, "a", "one"), replicas("a", 7), apply(1, "b", "one")].map(Step::from));

    let mut second = second.clone();
    second["schema"]["openAPIV3Schema"]["properties"]["probe"]["enum"] = json!(["any", "third"]);
    let only = json!({"spec": {"versions": [second]}});
    let disowned = json!({"status": {"storedVersions": ["v2"]}});
    steps.push(merge(&path, &only).into());
    steps.push(merge(&format!("{path}/status"), &disowned).into());
    steps.push(Step::Gate(merge(&path, &only)));
    let probe = object(seed, "v2", "probe", &json!({}));
    steps.push(Step::probe(&base("v2"), probe, "third"));
    // Its cache comes a moment after.
    let list = Ask::new("GET", base("v2"));
    steps.push(Step::Until(list, |answer| answer.code == 200));

    let forgotten = json!({"metadata": {"managedFields": [{}]}});
    let a = format!("{}/a", base("v2"));
    steps.extend(
        [
            Ask::new("GET", base("v2")),
            apply(1, "a", "one"),
            replicas("a", 8),
            apply(1, "a", "two"),
            apply(1, "b", "two"),
            merge(&a, &forgotten),
            apply(1, "a", "one"),
            replicas("a", 9),
            Ask::new("GET", base("v2")),
        ]
        .map(Step::from),
    );
}

fn step(d: &mut Dice, seed: u64, properties: &[Value; 2]) -> Ask {
    let i = d.pick(&[0, 1]);
    let (version, properties) = (VERSIONS[i], &properties[i]);
    let base = format!("/apis/{}/{version}/things", group(seed));
    let name = d.pick(NAMES);
    let path = format!("{base}/{name}");
    let validation = d.pick(&["Warn", "Warn", "Strict", "Ignore"]);
    let options = format!(
        "fieldManager={}&fieldValidation={validation}",
        d.pick(&["one", "two"])
    );
    let spec = value(d, properties, 20);
    let mut body = object(seed, version, name, &spec);
    match d.roll(12) {
        0 => {
            let query = d.pick(&["", "?fieldSelector=spec.replicas%3D1", "?labelSelector=a"]);
            Ask::new("GET", format!("{base}{query}"))
        }
        1 => Ask::new("GET", base).with("accept", lists::TABLE),
        2 => Ask::new("GET", format!("{path}?includeObject=Object")).with("accept", lists::TABLE),
        3 | 4 => Ask::new("GET", path),
        5 | 6 => {
            body["metadata"]["resourceVersion"] = json!(format!("«rv:{name}»"));
            Ask::new("PUT", format!("{path}?{options}")).json(JSON, &body)
        }
        7 => {
            let patch = json!({"spec": {"replicas": d.roll(3)}});
            Ask::new("PATCH", format!("{path}?{options}")).json(MERGE, &patch)
        }
        8 => {
            let patch = json!({"status": {"phase": d.pick(&["x", "y"]), "replicas": 1}});
            let sub = d.pick(&["/status", "/status", "", "/scale"]);
            Ask::new("PATCH", format!("{path}{sub}?{options}")).json(MERGE, &patch)
        }
        _ => {
            let force = d.pick(&["", "&force=true", "&force=true"]);
            let given = if d.once_in(12) { "v9" } else { version };
            body["apiVersion"] = json!(format!("{}/{given}", group(seed)));
            Ask::new("PATCH", format!("{path}?{options}{force}")).json(APPLY, &body)
        }
    }
}
