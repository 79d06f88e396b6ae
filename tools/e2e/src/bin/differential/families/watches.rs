//! Watches with every option: over what is there, over what was, and while things change.

use serde_json::{Value, json};

use crate::families::lists::{self, PARTIAL, TABLE};
use crate::families::things as path_of;
use crate::step::{Ask, Dice, LAST, Sequence, Step, Till};

/// Longer than any watch is read.
const LONG: &str = "timeoutSeconds=600";

/// Objects, watches of them, and watches that see changes.
pub fn sequence(seed: u64) -> Sequence {
    let namespace = format!("watches-{seed}");
    let base = path_of(&namespace);
    let mut d = Dice::new(seed + 4_000);
    let mut steps = lists::objects(&mut d, &base);
    for n in 0..3 {
        let ask = watch(&mut d, &base);
        let till = till(&ask, &base, n);
        steps.push(Step::Watch(ask, till));
    }
    let mut ask = watch(&mut d, &base);
    // How many of the changes come within a second nobody knows.
    ask.path = ask.path.replace("timeoutSeconds=1", LONG);
    let till = till(&ask, &base, 3);
    steps.push(Step::Begin(ask));
    for _ in 0..4 {
        steps.push(change(&mut d, &base).into());
    }
    steps.push(Step::End(till));
    Sequence {
        name: String::new(),
        namespace,
        steps,
    }
}

/// The labels of an object that a selector selects.
const SELECTED: &[(&str, &str)] = &[
    ("even%3Dtrue", "true"),
    ("even%21%3Dtrue", "odd"),
    ("even%20in%20(true,odd)", "true"),
    ("even%20notin%20(true)", "odd"),
    ("even", "true"),
    ("even%3D%3Dtrue,%21missing", "true"),
    ("seq%3E1", "7"),
];

/// What ends a watch: a change that it sees, where there is one.
pub fn till(ask: &Ask, base: &str, n: u64) -> Till {
    let (path, query) = ask.path.split_once('?').unwrap_or((&ask.path, ""));
    let option = |name: &str| {
        let mut pairs = query.split('&').filter_map(|p| p.split_once('='));
        pairs.find(|(k, _)| *k == name).map(|(_, v)| v)
    };
    if option("timeoutSeconds").is_some() && !query.contains(LONG) {
        return Till::Closed;
    }
    let future = option("resourceVersion") == Some("999999999999");
    let fields = option("fieldSelector").unwrap_or("");
    let of_path = path.strip_prefix(&base.replace("/v1/", "/v1/watch/"));
    let of_path = of_path.and_then(|rest| rest.strip_prefix('/'));
    let of_fields = fields.strip_prefix("metadata.name%3D");
    let name = of_path.or(of_fields).unwrap_or("last");
    let selector = option("labelSelector").unwrap_or("");
    let never = future
        || fields.contains(',')
        || fields.starts_with("metadata.namespace")
        || name.contains('%')
        || (selector.starts_with("%21") && name != "last");
    if never {
        return Till::Quiet;
    }
    let label = SELECTED.iter().find(|(s, _)| *s == selector);
    let mut labels = json!({});
    if let Some((_, value)) = label {
        let key = if selector.starts_with("seq") {
            "seq"
        } else {
            "even"
        };
        labels[key] = json!(value);
    }
    let body = json!({"apiVersion": "peer.example.com/v1", "kind": "Thing", "metadata": {
        "name": name, "labels": labels, "annotations": {LAST: n.to_string()}}});
    let path = format!("{base}/{name}?fieldManager=last&force=true");
    Till::Seen(Ask::new("PATCH", path).json("application/apply-patch+yaml", &body))
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
