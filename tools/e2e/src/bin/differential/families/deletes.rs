//! Deletes with every option, of one object and of many.

use serde_json::{Value, json};

use crate::families::lists;
use crate::families::things as path_of;
use crate::step::{Ask, Dice, Sequence, Step};

/// Objects with and without finalizers, then deletes and looks at what is left.
pub fn sequence(seed: u64) -> Sequence {
    let namespace = format!("deletes-{seed}");
    let base = path_of(&namespace);
    let mut d = Dice::new(seed + 5_000);
    let mut steps: Vec<Step> = Vec::new();
    for i in 0..5 {
        let mut body = json!({"apiVersion": "peer.example.com/v1", "kind": "Thing",
            "metadata": {"name": format!("o{i}"), "labels": {"even": (i % 2 == 0).to_string()}}});
        if d.once_in(2) {
            let all = ["example.com/a", "example.com/b"];
            let held: Vec<&str> = all.into_iter().filter(|_| d.once_in(2)).collect();
            body["metadata"]["finalizers"] = json!(held);
        }
        steps.push(
            Ask::new("POST", &base)
                .json("application/json", &body)
                .into(),
        );
    }
    for _ in 0..7 {
        steps.push(step(&mut d, &base).into());
    }
    steps.push(Ask::new("GET", &base).into());
    Sequence {
        name: String::new(),
        namespace,
        steps,
    }
}

fn step(d: &mut Dice, base: &str) -> Ask {
    let name = d.pick(&["o0", "o1", "o2", "o3", "missing"]);
    let path = format!("{base}/{name}");
    match d.roll(8) {
        0 => {
            let held = d.pick(&["[]", "[\"example.com/b\"]", "null", "[\"bad\"]"]);
            let held: Value = serde_json::from_str(held).unwrap_or_default();
            let patch = json!({"metadata": {"finalizers": held}});
            Ask::new("PATCH", path).json("application/merge-patch+json", &patch)
        }
        1 => {
            let query = if d.once_in(2) { lists::selector(d) } else { "" };
            let ask = Ask::new("DELETE", format!("{base}?{query}&{}", query_of(d)));
            body(d, ask)
        }
        2 => {
            let patch = json!({"spec": {"a": "x"}, "metadata": {"labels": {"x": "y"}}});
            Ask::new("PATCH", path).json("application/merge-patch+json", &patch)
        }
        _ => {
            let ask = Ask::new("DELETE", format!("{path}?{}", query_of(d)));
            let ask = body(d, ask);
            if d.once_in(10) {
                return ask.with(
                    "accept",
                    d.pick(&[lists::TABLE, lists::PARTIAL, "application/yaml"]),
                );
            }
            ask
        }
    }
}

fn query_of(d: &mut Dice) -> &'static str {
    d.pick(&[
        "",
        "",
        "",
        "dryRun=All",
        "propagationPolicy=Foreground&dryRun=All",
        "propagationPolicy=Background",
        "propagationPolicy=Orphan&dryRun=All",
        "propagationPolicy=Odd",
        "gracePeriodSeconds=0",
        "gracePeriodSeconds=5",
        "gracePeriodSeconds=-1",
        "gracePeriodSeconds=x",
        "orphanDependents=true&dryRun=All",
        "orphanDependents=false&propagationPolicy=Foreground",
        "dryRun=Odd",
        "fieldManager=x",
        "ignoreStoreReadErrorWithClusterBreakingPotential=true",
    ])
}

fn body(d: &mut Dice, ask: Ask) -> Ask {
    if !d.once_in(2) {
        return ask;
    }
    let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    match d.roll(14) {
        // Only the real server has a garbage collector, which would act on these.
        0 | 1 => {
            body["propagationPolicy"] = json!(d.pick(&["Foreground", "Orphan"]));
            body["dryRun"] = json!(["All"]);
        }
        2 => body["propagationPolicy"] = json!("Background"),
        3 => body["propagationPolicy"] = json!("Odd"),
        4 => body["preconditions"] = json!({"uid": "«uid:o0»"}),
        5 => body["preconditions"] = json!({"resourceVersion": "«rv:o1»"}),
        6 => body["preconditions"] = json!({"resourceVersion": "«first:o2»", "uid": "«uid:o2»"}),
        7 => body["dryRun"] = json!(["All"]),
        8 => body["gracePeriodSeconds"] = json!(3),
        9 => body["orphanDependents"] = json!(false),
        10 => body["unknown"] = json!(1),
        11 => {
            body["apiVersion"] = json!("meta.k8s.io/v1");
            body["propagationPolicy"] = json!("Background");
        }
        12 => body = json!({"kind": "Thing", "apiVersion": "peer.example.com/v1"}),
        _ => body = json!({"gracePeriodSeconds": "x"}),
    }
    let content = d.pick(&[
        "application/json",
        "application/json",
        "application/json",
        "application/yaml",
        "text/plain",
    ]);
    ask.json(content, &body)
}
