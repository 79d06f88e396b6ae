//! Lists and gets with every option: versions, matching, pages, selectors, transforms.

use serde_json::json;

use crate::families::things as path_of;
use crate::step::{Ask, Dice, Sequence, Step};

const STEPS: usize = 14;
/// Only `continue` of a page that is not the last gives something to go on with.
const CONTINUE: &str = "«continue»";
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
pub const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
pub const PARTIALS: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// Objects, some changes, then reads.
pub fn sequence(seed: u64) -> Sequence {
    let namespace = format!("lists-{seed}");
    let base = path_of(&namespace);
    let mut d = Dice::new(seed + 3_000);
    let mut steps = objects(&mut d, &base);
    for _ in 0..STEPS {
        steps.push(read(&mut d, &base, &namespace).into());
    }
    Sequence {
        name: String::new(),
        namespace,
        steps,
    }
}

/// Creates, then a few changes and deletions.
pub fn objects(d: &mut Dice, base: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let namespace = base.split('/').nth(5).unwrap_or_default();
    let n = d.roll(5) + 2;
    for i in 0..n {
        let body = json!({"apiVersion": "peer.example.com/v1", "kind": "Thing",
            "metadata": {"name": format!("o{i}"), "labels": {"seq": namespace, "even": (i % 2 == 0).to_string()}},
            "spec": {"a": format!("v{i}"), "n": i}});
        steps.push(
            Ask::new("POST", base)
                .json("application/json", &body)
                .into(),
        );
    }
    for _ in 0..d.roll(4) {
        let i = d.roll(n);
        let patch = match d.roll(3) {
            0 => json!({"metadata": {"labels": {"even": "odd"}}}),
            _ => json!({"spec": {"n": d.roll(50)}}),
        };
        let ask = Ask::new("PATCH", format!("{base}/o{i}"));
        steps.push(ask.json("application/merge-patch+json", &patch).into());
    }
    if d.once_in(3) {
        let i = d.roll(n);
        steps.push(Ask::new("DELETE", format!("{base}/o{i}")).into());
    }
    // What reads of an older version show is as new as the cache that answers them; this one waits until it is.
    steps.push(Step::Quiet(Ask::new("GET", base)));
    steps
}

/// A version as a client may give it.
pub fn version(d: &mut Dice) -> &'static str {
    if d.once_in(40) {
        // It is waited for.
        return "999999999999";
    }
    d.pick(&[
        "",
        "",
        "0",
        "0",
        "«list»",
        "«first:o0»",
        "«rv:o0»",
        "«rv:o1»",
        "«first:o1»",
        "abc",
        "-1",
        "1.5",
        "99999999999999999999",
    ])
}

/// A selector as it stands in a query.
pub fn selector(d: &mut Dice) -> &'static str {
    d.pick(&[
        "labelSelector=even%3Dtrue",
        "labelSelector=even%21%3Dtrue",
        "labelSelector=even%20in%20(true,odd)",
        "labelSelector=%21even",
        "labelSelector=even",
        "labelSelector=even%20notin%20(true)",
        "labelSelector=seq%3E1",
        "labelSelector=a%3D%3D%3Db",
        "labelSelector=-bad",
        "labelSelector=even%20in%20true",
        "labelSelector=even%20in%20(true",
        "labelSelector=even%20in%20(,",
        "labelSelector=even%20in%20(z$,b)",
        "labelSelector=even%3D%24x",
        "labelSelector=even%3Ex",
        "labelSelector=even%3C%24",
        "labelSelector=%21even%3Dtrue",
        "labelSelector=even%20true",
        "labelSelector=even,",
        "labelSelector=even%3D%3Dtrue,%21missing",
        "labelSelector=,",
        "fieldSelector=metadata.name%3Do1",
        "fieldSelector=metadata.name%21%3Do1",
        "fieldSelector=metadata.name%3Do1,metadata.namespace%3Dx",
        "fieldSelector=spec.a%3Dv1",
        "fieldSelector=metadata.name",
        "fieldSelector=%3Dx",
        "fieldSelector=%3D",
        "fieldSelector=metadata.name%3Da%3Db",
        "fieldSelector=metadata.name%3D%5Cx",
        "fieldSelector=metadata.name%3D%5C%2C",
        "fieldSelector=spec.b%3D1,spec.a%3D2,x",
        "fieldSelector=metadata.namespace%3Dx",
    ])
}

fn read(d: &mut Dice, base: &str, namespace: &str) -> Ask {
    if d.once_in(6) {
        let name = d.pick(&["o0", "o1", "missing"]);
        let query = match d.roll(3) {
            0 => String::new(),
            _ => format!("?resourceVersion={}", version(d)),
        };
        let ask = Ask::new("GET", format!("{base}/{name}{query}"));
        return accept(d, ask);
    }
    let mut query: Vec<String> = Vec::new();
    if d.once_in(2) {
        let limit = d.pick(&["1", "2", "2", "3", "100", "0", "-1", "x", "1.5"]);
        query.push(format!("limit={limit}"));
    }
    if d.once_in(2) {
        let token = d.pick(&[CONTINUE, CONTINUE, CONTINUE, CONTINUE, "garbage", "e30", ""]);
        query.push(format!("continue={token}"));
    }
    if d.once_in(2) {
        query.push(format!("resourceVersion={}", version(d)));
    }
    if d.once_in(3) {
        let matching = d.pick(&["Exact", "NotOlderThan", "Exact", "NotOlderThan", "Odd", ""]);
        query.push(format!("resourceVersionMatch={matching}"));
    }
    if d.once_in(4) {
        query.push(selector(d).into());
    }
    if d.once_in(14) {
        let odd = d.pick(&[
            "sendInitialEvents=true",
            "timeoutSeconds=5",
            "timeoutSeconds=x",
            "watch=false",
            "allowWatchBookmarks=true",
            "timeout=1s",
            "timeout=x",
            "unknown=1",
            "pretty=true",
            "limit=2&limit=1",
        ]);
        query.push(odd.into());
    }
    let path = if d.once_in(8) {
        // All namespaces, of which only this one has the label.
        query.retain(|q| !q.starts_with("labelSelector"));
        query.push(format!("labelSelector=seq%3D{namespace}"));
        format!("{}/things", crate::families::THINGS)
    } else {
        base.to_string()
    };
    let ask = Ask::new("GET", format!("{path}?{}", query.join("&")));
    accept(d, ask)
}

/// Sometimes asks for something other than JSON.
pub fn accept(d: &mut Dice, ask: Ask) -> Ask {
    let protobuf =
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    if !d.once_in(5) {
        return ask;
    }
    let accept = d.pick(&[
        TABLE,
        TABLE,
        PARTIAL,
        PARTIALS,
        protobuf,
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    ]);
    ask.with("accept", accept)
}
