//! Bodies of requests in every media type.

use api::{protobuf, schema};
use apiserver::negotiate::Media;
use apiserver::{limits, untrusted};
use bytes::Bytes;
use machinery::conform;
use serde_json::{Value, json};

use super::{BODY, POD, TREE, joined, parts, value};
use crate::Target;

pub const PROTOBUF: Target = Target {
    name: "protobuf",
    run: |data| {
        untrusted::body(&Bytes::copy_from_slice(data), Media::Protobuf);
        let Ok(object) = protobuf::decode(data) else {
            return;
        };
        // What was read can be written, and reads the same again.
        if let Ok(written) = protobuf::encode(&object) {
            let again = protobuf::decode(&written);
            assert_eq!(again.as_ref(), Ok(&object), "written and read again");
        }
    },
    seeds: || {
        let objects = [value(b"", POD), crd(), event()];
        let mut all: Vec<Vec<u8>> = objects
            .iter()
            .filter_map(|o| protobuf::encode(o).ok())
            .collect();
        let embedded = json!({"apiVersion": "v1", "kind": "Pod"}).to_string();
        all.push(protobuf::envelope(
            "example.com/v1",
            "Thing",
            embedded.as_bytes(),
        ));
        // Nothing of what is always there.
        all.push(protobuf::envelope("v1", "Event", b""));
        all
    },
    input_max: BODY,
    memory: TREE,
};

pub const JSON: Target = Target {
    name: "json",
    run: |data| {
        untrusted::body(&Bytes::copy_from_slice(data), Media::Json);
        let pod = schema::lookup("", "v1", "Pod");
        let Ok((mut object, _)) = conform::parse(data, pod) else {
            return;
        };
        let Some(pod) = pod else { return };
        if conform::conform(pod, &mut object).is_ok() {
            // Conforming again changes nothing.
            let before = object.clone();
            assert!(conform::conform(pod, &mut object).is_ok(), "conforms again");
            assert_eq!(before, object, "conformed twice");
        }
    },
    seeds: || {
        let duplicates =
            r#"{"a":1,"a":2,"metadata":{"name":"x","name":null},"spec":{"unknown":1e400}}"#;
        vec![POD.into(), duplicates.into(), crd().to_string().into()]
    },
    input_max: BODY,
    memory: TREE,
};

pub const YAML: Target = Target {
    name: "yaml",
    run: |data| {
        untrusted::body(&Bytes::copy_from_slice(data), Media::Yaml);
    },
    seeds: || {
        let yaml11 = "apiVersion: v1\nkind: Pod\nmetadata: {name: &a web, labels: {on: 'y', n: 012, o: 1_000, h: 0xff, f: .5e3}}\nspec:\n  containers:\n  - name: *a\n    args: [\"\\x41\", |\n      text\n      , >-\n      folded\n    ]\n";
        let merged = "a: &a {b: 1}\nc:\n  <<: *a\n  <<: [*a, *a]\n  d: !!str 1\n--- \n...\n";
        let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\n";
        vec![POD.into(), yaml11.into(), merged.into(), laughs.into()]
    },
    input_max: BODY,
    memory: crate::Memory {
        // What aliases may bring, as values and in three texts.
        base: TREE.base + 512 * limits::YAML_ALIASED_MAX,
        ..TREE
    },
};

pub const CUSTOM_OBJECT: Target = Target {
    name: "custom_object",
    run: |data| {
        let [schema, object] = parts(data);
        let Ok(schema) = serde_json::from_slice(schema) else {
            return;
        };
        untrusted::custom_object(&schema, &value(object, OBJECT));
    },
    seeds: || {
        let typed = SCHEMA.replace('\n', "");
        let rule = r#"{"type":"object","x-kubernetes-validations":[{"rule":"self.spec.n < 5 && oldSelf.spec.n == self.spec.n","message":"no"}],"properties":{"spec":{"type":"object","properties":{"n":{"type":"integer"}}}}}"#;
        vec![
            joined(&[&typed, OBJECT]),
            joined(&[rule, r#"{"spec":{"n":3}}"#]),
            joined(&[
                r#"{"type":"object","x-kubernetes-preserve-unknown-fields":true}"#,
                POD,
            ]),
        ]
    },
    input_max: BODY,
    memory: crate::Memory {
        // A pattern may be compiled to `limits::PATTERN_BYTES`.
        base: 16 << 20,
        per_byte: 1024,
    },
};

const OBJECT: &str = r#"{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"x"},"spec":{"n":3,"s":"ab","l":[{"k":"a"},{"k":"b"}],"set":["a"],"ios":"1","d":"2026-01-01T00:00:00Z"}}"#;

const SCHEMA: &str = r#"{"type":"object","required":["spec"],"properties":{"spec":{"type":"object","properties":{
"n":{"type":"integer","format":"int32","minimum":1,"maximum":9,"multipleOf":2,"default":4},"s":{"type":"string","pattern":"^(a|b)*$","maxLength":4,"enum":["a","ab"],"nullable":true},
"l":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"},"v":{"type":"string","default":"d"}}}},
"set":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"},"minItems":1},"ios":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]},
"d":{"type":"string","format":"date-time"},"m":{"type":"object","additionalProperties":{"type":"number"},"maxProperties":2},
"e":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}},
"allOf":[{"not":{"required":["x"]}}],"oneOf":[{"required":["n"]},{"required":["s"]}]}}}"#;

fn crd() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": value(b"", SCHEMA)},
                "additionalPrinterColumns": [{"name": "n", "type": "integer", "jsonPath": ".spec.n"}]}]}})
}

fn event() -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "count": 3,
        "eventTime": "2026-01-01T00:00:00.123456Z", "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": null,
        "involvedObject": {"kind": "Pod", "name": "web"}, "message": "text", "type": "Normal", "series": {"count": 2}})
}
