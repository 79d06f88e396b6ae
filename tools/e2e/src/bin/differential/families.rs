//! The families of sequences, and the custom resources that they are about.

mod applies;
mod bodies;
mod conversions;
mod definitions;
mod deletes;
mod lists;
mod owners;
mod rules;
mod schemas;
mod watches;
mod wire;
mod writes;

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::step::Sequence;

/// A family: how many seeds it has by default, and the sequence of a seed.
struct Family {
    name: &'static str,
    seeds: u64,
    make: fn(u64) -> Sequence,
}

static FAMILIES: &[Family] = &[
    Family {
        name: "writes",
        seeds: 200,
        make: writes::things,
    },
    Family {
        name: "versions",
        seeds: 60,
        make: writes::versions,
    },
    Family {
        name: "frees",
        seeds: 40,
        make: writes::frees,
    },
    Family {
        name: "applies",
        seeds: 80,
        make: applies::sequence,
    },
    Family {
        name: "owners",
        seeds: 60,
        make: owners::sequence,
    },
    Family {
        name: "bodies",
        seeds: bodies::SEEDS,
        make: bodies::sequence,
    },
    Family {
        name: "lists",
        seeds: 60,
        make: lists::sequence,
    },
    Family {
        name: "watches",
        seeds: 40,
        make: watches::sequence,
    },
    Family {
        name: "deletes",
        seeds: 60,
        make: deletes::sequence,
    },
    Family {
        name: "wire",
        seeds: wire::SEEDS,
        make: wire::sequence,
    },
    Family {
        name: "definitions",
        seeds: definitions::SEEDS,
        make: definitions::sequence,
    },
    Family {
        name: "schemas",
        seeds: 40,
        make: schemas::sequence,
    },
    Family {
        name: "conversions",
        seeds: 40,
        make: conversions::sequence,
    },
    Family {
        name: "rules",
        seeds: 60,
        make: rules::sequence,
    },
];

/// All sequences, `seeds` of each family where that is given, from the seed `base` on.
pub fn all(seeds: Option<u64>, base: u64) -> Vec<Sequence> {
    let of = |f: &Family| {
        let make = f.make;
        let name = f.name;
        (base..base + seeds.unwrap_or(f.seeds)).map(move |seed| Sequence {
            name: format!("{name} {seed}"),
            ..make(seed)
        })
    };
    FAMILIES.iter().flat_map(of).collect()
}

/// The sequences, one of each family in turn.
pub fn in_turn(all: Vec<Sequence>) -> Vec<Sequence> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut turns: Vec<(usize, Sequence)> = Vec::with_capacity(all.len());
    for s in all {
        let family = s.name.split(' ').next().unwrap_or("").to_string();
        let turn = seen.entry(family).or_default();
        turns.push((*turn, s));
        *turn += 1;
    }
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, s)| s).collect()
}

/// Namespaced, structural, with status and scale.
pub const THINGS: &str = "/apis/peer.example.com/v1";
/// Cluster-scoped, without a schema to speak of.
pub const FREES: &str = "/apis/peer.example.com/v1/frees";
/// Two versions, selectable fields, rules.
pub const TURNS: &str = "/apis/turns.example.com";
/// Lists that must answer before anything begins.
pub const PATHS: &[&str] = &[
    "/apis/peer.example.com/v1/things",
    FREES,
    "/apis/turns.example.com/v1/turns",
    "/apis/turns.example.com/v1beta1/turns",
];

/// The path of things in a namespace.
pub fn things(namespace: &str) -> String {
    format!("{THINGS}/namespaces/{namespace}/things")
}

/// The CustomResourceDefinitions.
pub fn definitions() -> Vec<Value> {
    vec![thing(), free(), turn()]
}

fn thing() -> Value {
    let string = json!({"type": "string"});
    let item = json!({"type": "object", "required": ["k"], "properties": {
        "k": string, "p": {"type": "string", "default": "TCP"}, "v": string, "n": {"type": "integer"}}});
    let spec = json!({"type": "object", "properties": {
        "a": string, "n": {"type": "integer", "maximum": 100}, "d": {"type": "string", "default": "dd"},
        "e": {"type": "string", "enum": ["x", "y"]}, "f": {"type": "number"}, "b": {"type": "boolean"},
        "p": {"type": "string", "pattern": "^[a-z]*$", "maxLength": 5},
        "t": {"type": "string", "format": "date-time"},
        "nullable": {"type": "string", "nullable": true},
        "set": {"type": "array", "items": string, "x-kubernetes-list-type": "set"},
        "atomic": {"type": "array", "items": string, "maxItems": 4},
        "map": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "p"]},
        "labels": {"type": "object", "additionalProperties": string},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"x": string, "y": string}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "replicas": {"type": "integer", "minimum": 0},
        "ios": {"x-kubernetes-int-or-string": true}}});
    let status = json!({"type": "object", "properties": {"s": string, "replicas": {"type": "integer"},
        "selector": string, "conditions": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
            "items": {"type": "object", "required": ["type"], "properties": {"type": string, "status": string}}}}});
    let columns = json!([
        {"name": "A", "type": "string", "jsonPath": ".spec.a"},
        {"name": "N", "type": "integer", "jsonPath": ".spec.n", "priority": 1, "description": "a number"},
        {"name": "Map", "type": "string", "jsonPath": ".spec.map[*].k"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]);
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.peer.example.com"},
        "spec": {"group": "peer.example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"], "categories": ["all"]},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "additionalPrinterColumns": columns,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "schema": {"openAPIV3Schema": {"type": "object",
                    "properties": {"spec": spec, "status": status}}}}]}})
}

fn free() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "frees.peer.example.com"},
        "spec": {"group": "peer.example.com", "scope": "Cluster", "names": {"plural": "frees", "kind": "Free"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

fn turn() -> Value {
    let spec = json!({"type": "object",
        "x-kubernetes-validations": [
            {"rule": "!has(self.low) || !has(self.high) || self.low <= self.high", "message": "low above high"}],
        "properties": {"low": {"type": "integer"}, "high": {"type": "integer"},
            "color": {"type": "string"},
            "fixed": {"type": "string", "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "fixed is fixed"}]},
            "short": {"type": "string", "maxLength": 3},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "maxItems": 5,
                "items": {"type": "string", "maxLength": 10}}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    let fields = json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.low"}]);
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema, "selectableFields": fields});
    let mut old = version("v1beta1", false);
    old["deprecated"] = json!(true);
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "turns.turns.example.com"},
        "spec": {"group": "turns.example.com", "scope": "Namespaced", "names": {"plural": "turns", "kind": "Turn"},
            "versions": [version("v1", true), old]}})
}
