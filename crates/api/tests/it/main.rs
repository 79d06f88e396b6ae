//! The codecs against upstream's own round-trip data, where that lies beside the checkout.
#![allow(clippy::unwrap_used)] // A test may panic, in its helpers too.

mod cbor;

use std::path::{Path, PathBuf};

use api::protobuf;
use serde_json::Value;

/// The folder of golden files: beside the repository, or where all work of this machine shares it.
fn golden() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = here
        .ancestors()
        .map(|a| a.join("shared/data/kubernetes-golden"));
    beside.into_iter().find(|p| p.is_dir())
}

/// All golden objects: name, file and JSON. Where the files are not there, it is said that the test is skipped.
fn goldens() -> Option<impl Iterator<Item = (String, PathBuf, Value)>> {
    let Some(folder) = golden() else {
        eprintln!("SKIPPED: no ../shared/data/kubernetes-golden");
        return None;
    };
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    Some(files.map(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (name, path, json)
    }))
}

/// Nulls, empty lists and empty maps say nothing; upstream's JSON may write them.
fn bare(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(k, v)| (k.clone(), bare(v)));
            Value::Object(kept.filter(|(_, v)| !says_nothing(v)).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(bare).collect()),
        other => other.clone(),
    }
}

fn says_nothing(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Object(m) => m.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => false,
    }
}

#[test]
fn golden_files_pass_both_ways() {
    let Some(all) = goldens() else { return };
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, path, json) in all {
        if name.ends_with("WatchEvent") {
            // Only ever a frame of a stream, without kind and version.
            continue;
        }
        let Ok(pb) = std::fs::read(path.with_extension("pb")) else {
            continue;
        };
        seen += 1;
        match protobuf::decode(&pb) {
            Ok(decoded) if bare(&decoded) == bare(&json) => {}
            Ok(decoded) => wrong.push(format!(
                "{name} decodes otherwise: {}",
                difference(&bare(&json), &bare(&decoded), "")
            )),
            Err(e) => wrong.push(format!("{name} does not decode: {e}")),
        }
        match protobuf::encode(&json) {
            Ok(encoded) => match protobuf::decode(&encoded) {
                Ok(again) if bare(&again) == bare(&json) => {
                    if encoded != pb {
                        wrong.push(format!(
                            "{name} encodes to other bytes ({} for {})",
                            encoded.len(),
                            pb.len()
                        ));
                    }
                }
                other => wrong.push(format!("{name} does not survive: {}", other.is_ok())),
            },
            Err(e) => wrong.push(format!("{name} does not encode: {e}")),
        }
    }
    assert!(seen > 150, "{seen}");
    assert!(
        wrong.is_empty(),
        "{} of {seen}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn difference(a: &Value, b: &Value, path: &str) -> String {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for (k, v) in x {
                match y.get(k) {
                    None => return format!("{path}.{k} is missing"),
                    Some(w) if v != w => return difference(v, w, &format!("{path}.{k}")),
                    _ => {}
                }
            }
            let more = y.keys().find(|k| !x.contains_key(*k));
            format!("{path}.{more:?} is too much")
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (i, (v, w)) in x.iter().zip(y).enumerate() {
                if v != w {
                    return difference(v, w, &format!("{path}[{i}]"));
                }
            }
            String::new()
        }
        _ => format!("{path}: {a} / {b}"),
    }
}

#[test]
fn damaged_bytes_are_errors_and_never_panics() {
    let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}});
    let good = protobuf::encode(&pod).unwrap();
    for i in 0..good.len() {
        // Whether it still decodes does not matter.
        let _ = protobuf::decode(&good[..i]);
        let mut bent = good.clone();
        bent[i] ^= 0x55;
        let _ = protobuf::decode(&bent);
    }
    assert_eq!(protobuf::decode(b"").unwrap_err().0, "empty data");
    assert_eq!(
        protobuf::decode(b"{}").unwrap_err().0,
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    );
}

/// Go has no value for what is not there but zero, and writes it where nothing says to leave it out.
#[test]
fn what_is_always_written_is_there_though_nobody_sent_it() {
    let decoded = protobuf::decode(&protobuf::envelope("v1", "Event", b"")).unwrap();
    assert_eq!(
        decoded,
        serde_json::json!({"apiVersion": "v1", "kind": "Event", "reportingComponent": "", "reportingInstance": ""})
    );
    let again = protobuf::decode(&protobuf::encode(&decoded).unwrap()).unwrap();
    assert_eq!(again["reportingComponent"], decoded["reportingComponent"]);
}

#[test]
fn zero_values_of_pointers_survive() {
    let object = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d"}, "spec": {"replicas": 0, "selector": {}, "strategy": {},
        "template": {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}}}});
    let decoded = protobuf::decode(&protobuf::encode(&object).unwrap()).unwrap();
    assert_eq!(decoded["spec"]["replicas"], 0);
    assert!(decoded["metadata"].get("generateName").is_none());
    assert_eq!(bare(&decoded), bare(&object));
}
