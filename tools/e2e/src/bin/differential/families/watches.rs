//! Watches with every option: over what is there, over what was, and while things change.

use serde_json::{Value, json};

use crate::families::lists::{self, PARTIAL, TABLE};
use crate::families::things as path_of;
use crate::step::{Ask, Dice, Sequence, Step};

/// Objects, watches of them, and watches that see changes.
pub fn sequence(seed: u64) -> Sequence {
    let namespace = format!("watches-{seed}");
    let base = path_of(&namespace);
    let mut d = Dice::new(seed + 4_000);
    let mut steps = lists::objects(&mut d, &base);
    for _ in 0..3 {
        steps.push(Step::Watch(watch(&mut d, &base)));
    }
    steps.push(Step::Begin(watch(&mut d, &base)));
    for _ in 0..4 {
        steps.push(change(&mut d, &base).into());
    }
    steps.push(Step::End);
    Sequence {
        name: String::new(),
        namespace,
        steps,
    }
}

fn watch(d: &mut Dice, base: &str) -> Ask {
    let mut query = vec!["watch=true".to_string()];
    if !d.once_in(3) {
        query.push(format!("resourceVersion={}", lists::version(d)));
    }
    if d.once_in(3) {
        query.push("allowWatchBookmarks=true".into());
    }
    if d.once_in(3) {
        query.push(
            d.pick(&[
                "sendInitialEvents=true",
                "sendInitialEvents=true",
                "sendInitialEvents=false",
            ])
            .into(),
        );
        if !d.once_in(5) {
            query.push("resourceVersionMatch=NotOlderThan".into());
        }
    } else if d.once_in(12) {
        let matching = d.pick(&["Exact", "NotOlderThan", "Odd"]);
        query.push(format!("resourceVersionMatch={matching}"));
    }
    if d.once_in(4) {
        query.push(lists::selector(d).into());
    }
    if d.once_in(8) {
        query.push(
            d.pick(&[
                "timeoutSeconds=1",
                "limit=1",
                "continue=x",
                "timeoutSeconds=x",
                "includeObject=Object",
            ])
            .into(),
        );
    }
    let path = match d.roll(8) {
        0 => {
            let name = d.pick(&["o0", "missing"]);
            query.retain(|q| !q.starts_with("watch=") && !q.starts_with("fieldSelector"));
            format!("{}/{name}", base.replace("/v1/", "/v1/watch/"))
        }
        1 => {
            query.retain(|q| !q.starts_with("watch="));
            base.replace("/v1/", "/v1/watch/")
        }
        _ => base.to_string(),
    };
    let ask = Ask::new("GET", format!("{path}?{}", query.join("&")));
    if !d.once_in(4) {
        return ask;
    }
    let accept = d.pick(&[
        TABLE,
        PARTIAL,
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "application/json;stream=watch",
        "application/yaml",
        "application/json;as=Table;v=v1;g=meta.k8s.io;stream=watch",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    ]);
    ask.with("accept", accept)
}

fn change(d: &mut Dice, base: &str) -> Ask {
    let name = d.pick(&["o0", "o1", "o2", "new"]);
    let path = format!("{base}/{name}");
    match d.roll(5) {
        0 => Ask::new("DELETE", path),
        1 => {
            let patch: Value = json!({"metadata": {"labels": {"even": d.pick(&["true", "odd"])}}});
            Ask::new("PATCH", path).json("application/merge-patch+json", &patch)
        }
        2 => {
            let patch = json!({"spec": {"n": d.roll(50)}});
            Ask::new("PATCH", path).json("application/merge-patch+json", &patch)
        }
        _ => {
            let body = json!({"apiVersion": "peer.example.com/v1", "kind": "Thing",
                "metadata": {"name": name, "labels": {"even": "true"}}, "spec": {"a": d.roll(3).to_string()}});
            let path = format!("{path}?fieldManager=m&force=true");
            Ask::new("PATCH", path).json("application/apply-patch+yaml", &body)
        }
    }
}
