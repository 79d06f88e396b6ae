//! Patches of every type, on an object. Inputs are the patch and the object, a pod where there is none.

use std::sync::LazyLock;

use api::schema;
use machinery::apply::{FieldSet, Request, TypeRef, Version, apply, track};
use machinery::{conform, patch};
use serde_json::{Value, json};

use super::{BODY, POD, joined, parts, value};
use crate::{Memory, Target};

/// The object, the patch and what comes of both are there at a time, each step's result beside the one before.
const PATCHED: Memory = Memory {
    base: 32 << 20,
    per_byte: 512,
};

pub const JSON_PATCH: Target = Target {
    name: "json_patch",
    run: |data| {
        let [patch, object] = parts(data);
        let _ = patch::json_patch(&value(object, POD), patch);
    },
    seeds: || {
        vec![
            br#"[{"op":"test","path":"/kind","value":"Pod"},{"op":"add","path":"/spec/containers/-","value":{"name":"x"}},{"op":"replace","path":"/spec/x","value":[1]},{"op":"move","from":"/spec/containers/0","path":"/spec/y"},{"op":"copy","from":"/metadata","path":"/a~1b~0"},{"op":"remove","path":"/status"}]"#.to_vec(),
            br#"[{"op":"add","path":"","value":{"a":[0,1]}},{"op":"copy","from":"","path":"/b"},{"op":"copy","from":"","path":"/c"},{"op":"copy","from":"","path":"/d"},{"op":"remove","path":"/a/-1"}]"#.to_vec(),
            joined(&[r#"[{"op":"move","from":"/a","path":"/a/b"},{"op":"copy","from":"/a","path":"/a/b"}]"#, r#"{"a":{}}"#]),
        ]
    },
    input_max: BODY,
    memory: PATCHED,
};

pub const MERGE_PATCH: Target = Target {
    name: "merge_patch",
    run: |data| {
        let [patch, object] = parts(data);
        let _ = patch::merge_patch(&value(object, POD), patch);
    },
    seeds: || {
        vec![
            br#"{"metadata":{"labels":{"app":null,"b":"c"}},"spec":{"containers":[],"x":{"y":{"z":null}}},"status":5}"#.to_vec(),
            joined(&[r#"{"a":{"b":{"c":{"d":null}}}}"#, r#"{"a":[1]}"#]),
        ]
    },
    input_max: BODY,
    memory: PATCHED,
};

pub const STRATEGIC_MERGE: Target = Target {
    name: "strategic_merge",
    run: |data| {
        let [patch, object] = parts(data);
        let _ = patch::strategic("", "v1", "Pod", &value(object, POD), patch);
    },
    seeds: || {
        vec![
            br#"{"metadata":{"finalizers":["b"],"$deleteFromPrimitiveList/finalizers":["x.io/y"],"labels":{"$retainKeys":["app"],"x":"y"}},"spec":{"$setElementOrder/containers":[{"name":"d"},{"name":"c"}],"containers":[{"name":"d","image":"i"},{"name":"c","ports":[{"containerPort":80,"$patch":"delete"}],"env":[{"$patch":"replace"},{"name":"Z","value":"1"}]}],"volumes":[{"$patch":"delete","name":"v"}],"nodeSelector":{"$patch":"replace","q":"r"}}}"#.to_vec(),
            joined(&[r#"{"spec":{"tolerations":[1],"$setElementOrder/tolerations":5,"containers":{"$patch":"merge"}},"$patch":"what"}"#, POD]),
            br#"{"spec":{"volumes":[{"name":"w","$retainKeys":["name","hostPath"],"hostPath":{"path":"/"}}]}}"#.to_vec(),
        ]
    },
    input_max: BODY,
    memory: PATCHED,
};

pub const APPLY: Target = Target {
    name: "apply",
    run: |data| {
        let [config, live] = parts(data);
        let (Ok(config), live) = (serde_json::from_slice::<Value>(config), value(live, POD)) else {
            return;
        };
        for built_in in [true, false] {
            let (mut config, mut live) = (config.clone(), live.clone());
            if built_in && !(conforms(&mut config) && conforms(&mut live)) {
                continue;
            }
            applied(built_in, &config, &live);
        }
    },
    seeds: || {
        let config = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"default","labels":{"app":"x","b":"c"},"finalizers":["b"]},"spec":{"containers":[{"name":"c","image":"j","ports":[{"containerPort":80,"protocol":"TCP","name":"h"}]},{"name":"d"}],"tolerations":[{"key":"k"}]}}"#;
        let numbers =
            r#"{"apiVersion":"v1","kind":"Pod","spec":{"a":[1,{"b":[null]},"c"],"d":{"e":{}}}}"#;
        vec![
            joined(&[config]),
            joined(&[config, config]),
            joined(&[numbers, POD]),
            joined(&[POD, numbers]),
        ]
    },
    input_max: BODY,
    memory: PATCHED,
};

fn conforms(object: &mut Value) -> bool {
    let pod = schema::lookup("", "v1", "Pod");
    pod.is_some_and(|pod| object.is_object() && conform::conform(pod, object).is_ok())
}

fn applied(built_in: bool, config: &Value, live: &Value) {
    static NONE: LazyLock<FieldSet> = LazyLock::new(FieldSet::default);
    let request = Request {
        t: match built_in {
            true => machinery::apply::types::built_in("", "v1", "Pod"),
            false => TypeRef::Deduced,
        },
        api_version: "v1",
        kind: "Pod",
        manager: "fuzz",
        subresource: "",
        now: "2026-01-01T00:00:00Z",
        reset: &NONE,
        // `v2` is known too, and is as this one.
        version: &|version| match version {
            "v2" => Version::Known(TypeRef::Deduced, FieldSet::default()),
            "v3" => Version::Invalid("no v3".into()),
            _ => Version::Gone,
        },
    };
    let _ = apply(Some(live), config, false, &request);
    let Ok(once) = apply(Some(live), config, true, &request) else {
        return;
    };
    let _ = apply(Some(&once.object), config, true, &request);
    let mut updated = config.clone();
    updated["metadata"]["managedFields"] = json!(null);
    track(Some(&once.object), &mut updated, &request);
}
