//! Bodies that are wrong in one way or another, in JSON and YAML, under every fieldValidation; from where every one
//! has been, broken ones.

mod broken;

use crate::families::things as path_of;
use crate::step::{Ask, Dice, Sequence, Step};

/// Bodies of creates; `NAME` is replaced.
const CREATES: &[&str] = &[
    "",
    "{",
    "{}",
    "[]",
    "5",
    "null",
    "\"text\"",
    "true",
    "{\"a\":}",
    "{\"kind\":5}",
    "{\"kind\":\"Thing\"}",
    "{\"apiVersion\":\"peer.example.com/v1\"}",
    "{\"apiVersion\":[],\"kind\":\"Thing\"}",
    "{\"apiVersion\":\"peer.example.com/v2\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\"}}",
    "{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thin\",\"metadata\":{\"name\":\"NAME\"}}",
    "{\"apiVersion\":\"other.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\"}}",
    "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"NAME\"}}",
    "{\"apiVersion\":\"a/b/c\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\"}}",
    "THING{}",
    "THING{\"name\":\"\"}",
    "THING{\"name\":null}",
    "THING{\"name\":5}",
    "THING{\"name\":\"UPPER\"}",
    "THING{\"name\":\"a/b\"}",
    "THING{\"name\":\"..\"}",
    "THING{\"name\":\"NAME\",\"name\":\"NAME\"}",
    "THING{\"name\":\"NAME\",\"namespace\":\"other\"}",
    "THING{\"name\":\"NAME\",\"generateName\":\"g-\"}",
    "THING{\"generateName\":\"UPPER-\"}",
    "THING{\"name\":\"NAME\",\"resourceVersion\":\"5\"}",
    "THING{\"name\":\"NAME\",\"resourceVersion\":5}",
    "THING{\"name\":\"NAME\",\"uid\":\"u\"}",
    "THING{\"name\":\"NAME\",\"labels\":{\"-bad\":\"x\"}}",
    "THING{\"name\":\"NAME\",\"labels\":{\"a\":\"b c\"}}",
    "THING{\"name\":\"NAME\",\"labels\":{\"a\":5}}",
    "THING{\"name\":\"NAME\",\"labels\":[]}",
    "THING{\"name\":\"NAME\",\"labels\":null}",
    "THING{\"name\":\"NAME\",\"annotations\":{\"a b\":\"x\"}}",
    "THING{\"name\":\"NAME\",\"annotations\":{\"a\":true}}",
    "THING{\"name\":\"NAME\",\"finalizers\":[\"bad\"]}",
    "THING{\"name\":\"NAME\",\"finalizers\":[\"a/b/c\"]}",
    "THING{\"name\":\"NAME\",\"finalizers\":\"x\"}",
    "THING{\"name\":\"NAME\",\"ownerReferences\":[{}]}",
    "THING{\"name\":\"NAME\",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"e\",\"uid\":\"u\"}]}",
    "THING{\"name\":\"NAME\",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"A\",\"name\":\"e\",\"uid\":\"u\",\"controller\":true},{\"apiVersion\":\"v1\",\"kind\":\"B\",\"name\":\"e\",\"uid\":\"v\",\"controller\":true}]}",
    "THING{\"name\":\"NAME\",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"A\",\"name\":\"e\",\"uid\":\"u\"},{\"apiVersion\":\"v1\",\"kind\":\"A\",\"name\":\"e\",\"uid\":\"u\"}]}",
    "THING{\"name\":\"NAME\",\"creationTimestamp\":\"2001-01-01T00:00:00Z\"}",
    "THING{\"name\":\"NAME\",\"creationTimestamp\":\"yesterday\"}",
    "THING{\"name\":\"NAME\",\"deletionTimestamp\":\"2001-01-01T00:00:00Z\"}",
    "THING{\"name\":\"NAME\",\"generation\":7}",
    "THING{\"name\":\"NAME\",\"generation\":-7}",
    "THING{\"name\":\"NAME\",\"selfLink\":\"/x\"}",
    "THING{\"name\":\"NAME\",\"managedFields\":[{\"manager\":\"x\"}]}",
    "THING{\"name\":\"NAME\",\"managedFields\":[{\"manager\":\"x\",\"operation\":\"Update\",\"apiVersion\":\"peer.example.com/v1\",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{\"f:spec\":{}}}]}",
    "THING{\"name\":\"NAME\",\"managedFields\":[]}",
    "THING{\"name\":\"NAME\",\"clusterName\":\"x\"}",
    "THING{\"name\":\"NAME\",\"unknown\":\"x\"}",
    "THING5",
    "THING\"x\"",
    "THING[]",
    "SPEC{\"unknown\":1,\"other\":{\"x\":1}}",
    "SPEC{\"a\":5}",
    "SPEC{\"a\":null}",
    "SPEC{\"a\":\"x\",\"a\":\"y\"}",
    "SPEC{\"n\":\"5\"}",
    "SPEC{\"n\":5.5}",
    "SPEC{\"n\":5.0}",
    "SPEC{\"n\":1e1}",
    "SPEC{\"n\":99999999999999999999}",
    "SPEC{\"n\":101}",
    "SPEC{\"f\":5}",
    "SPEC{\"f\":5.0}",
    "SPEC{\"f\":1e30}",
    "SPEC{\"f\":\"x\"}",
    "SPEC{\"b\":\"true\"}",
    "SPEC{\"b\":1}",
    "SPEC{\"e\":\"z\"}",
    "SPEC{\"e\":5}",
    "SPEC{\"p\":\"ABC\"}",
    "SPEC{\"p\":\"abcdefg\"}",
    "SPEC{\"p\":\"ABCDEFGH\",\"n\":1000,\"e\":\"q\"}",
    "SPEC{\"t\":\"2001-01-01T00:00:00Z\"}",
    "SPEC{\"t\":\"2001-01-01\"}",
    "SPEC{\"set\":[\"a\",\"a\"]}",
    "SPEC{\"set\":\"a\"}",
    "SPEC{\"set\":[1]}",
    "SPEC{\"set\":null}",
    "SPEC{\"atomic\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}",
    "SPEC{\"map\":[{\"k\":\"a\"},{\"k\":\"a\"}]}",
    "SPEC{\"map\":[{\"v\":\"a\"}]}",
    "SPEC{\"map\":[{\"k\":\"a\",\"x\":1}]}",
    "SPEC{\"map\":{}}",
    "SPEC{\"map\":[null]}",
    "SPEC{\"map\":[5]}",
    "SPEC{\"labels\":{\"a\":5}}",
    "SPEC{\"labels\":{\"a\":null}}",
    "SPEC{\"whole\":{\"z\":1}}",
    "SPEC{\"free\":{\"a\":{\"b\":[1,\"x\",null]}}}",
    "SPEC{\"free\":{\"a\":[1e18,1e19,9223372036854775807,9223372036854775808,12345678901234567890,18446744073709551615,-9223372036854775809,1e21]}}",
    "SPEC{\"n\":10000000000000000000,\"ios\":9223372036854775808,\"f\":18446744073709549568}",
    "SPEC{\"f\":10000000000000000000}",
    "SPEC{\"free\":5}",
    "SPEC{\"ios\":1.5}",
    "SPEC{\"ios\":true}",
    "SPEC{\"nullable\":null}",
    "SPEC{\"nullable\":5}",
    "SPEC{\"un\\tknown\":1,\"other\\u0085\":1,\"more\":1}",
    "SPEC5",
    "SPECnull",
    "SPEC[]",
    "{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\"},\"top\":1,\"status\":{\"x\":1}}",
    "{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\"},\"spec\":{},\"spec\":{\"a\":\"x\"}}",
    "{\"apiVersion\":\"peer.example.com/v1\",\"Kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\"}}",
    "{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"Name\":\"NAME\"}}",
    "{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\"}} trailing",
    "{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\"}}{}",
    "{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\"},\"spec\":{\"a\":\"\\ud800\"}}",
];

/// Bodies in YAML.
const YAMLS: &[&str] = &[
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  b: yes\n  a: \"yes\"\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  b: on\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  a: yes\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  free:\n    y: 1\n    on: 2\n    no: 3\n    1: 4\n    1.5: x\n    true: z\n    null: n\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  n: 0x10\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  n: 010\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  n: 0o10\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  n: 1_0\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  free:\n    a: 1:30\n    b: 2001-01-01\n    c: ~\n    d: .5\n    e: 1e3\n    f: .inf\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  free:\n    a: 12e03\n    b: +1\n    c: 0b11\n    d: 1.\n    e: -0\n    f: 0.10\n    g: 100000000000000000000\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  free: {a: [1e18, 1e19, 9223372036854775807, 9223372036854775808, 18446744073709551615, -9223372036854775809, 123456789012345678901]}\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  a: 2001-01-01T00:00:00Z\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  a: &x hello\n  d: *x\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  free:\n    base: &b {a: 1}\n    over:\n      <<: *b\n      c: 2\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  a: x\n  a: y\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  unknown: y\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec: {a: |\n  text\n}\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  a: |\n    two\n    lines\n  d: >-\n    folded\n    text\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\n---\nx: y\n",
    "---\napiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\n",
    "# only a comment\n",
    "- a\n- b\n",
    "a: [1\n",
    "a:\n\tb: 1\n",
    "just text\n",
    "",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  free:\n    a: !!binary aGVsbG8=\n    b: !!str 5\n    c: !!int \"5\"\n    d: !!float 5\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  free:\n    a: !foo bar\n",
    "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata:\n  name: NAME\nspec:\n  free: {? [a] : b}\n",
];

/// Patches and their content types.
const PATCHES: &[(&str, &str)] = &[
    ("application/merge-patch+json", ""),
    ("application/merge-patch+json", "{"),
    ("application/merge-patch+json", "[]"),
    ("application/merge-patch+json", "5"),
    ("application/merge-patch+json", "null"),
    ("application/merge-patch+json", "{}"),
    ("application/merge-patch+json", "{\"spec\":5}"),
    ("application/merge-patch+json", "{\"spec\":{\"n\":\"x\"}}"),
    (
        "application/merge-patch+json",
        "{\"metadata\":{\"name\":\"other\"}}",
    ),
    ("application/merge-patch+json", "{\"metadata\":null}"),
    (
        "application/merge-patch+json",
        "{\"metadata\":{\"uid\":\"x\"}}",
    ),
    (
        "application/merge-patch+json",
        "{\"metadata\":{\"resourceVersion\":\"x\"}}",
    ),
    ("application/merge-patch+json", "{\"kind\":\"Other\"}"),
    (
        "application/merge-patch+json",
        "{\"apiVersion\":\"peer.example.com/v9\"}",
    ),
    ("application/merge-patch+json", "{\"spec\":{\"unknown\":1}}"),
    (
        "application/merge-patch+json",
        "{\"spec\":{\"a\":\"x\",\"a\":\"y\"}}",
    ),
    ("application/merge-patch+json", "spec: {a: x}"),
    ("application/json-patch+json", ""),
    ("application/json-patch+json", "null"),
    ("application/json-patch+json", "{}"),
    ("application/json-patch+json", "[]"),
    ("application/json-patch+json", "[{}]"),
    ("application/json-patch+json", "[5]"),
    ("application/json-patch+json", "[{\"op\":\"add\"}]"),
    (
        "application/json-patch+json",
        "[{\"op\":\"add\",\"path\":\"/spec/a\"}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"add\",\"path\":\"spec/a\",\"value\":1}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"add\",\"path\":\"\",\"value\":1}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"remove\",\"path\":\"/spec/none\"}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"replace\",\"path\":\"/spec/none\",\"value\":1}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"test\",\"path\":\"/spec/a\",\"value\":\"other\"}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"add\",\"path\":\"/spec/unknown\",\"value\":1}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"add\",\"path\":\"/spec/set/7\",\"value\":\"x\"}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"add\",\"path\":\"/spec/n\",\"value\":\"x\"}]",
    ),
    (
        "application/json-patch+json",
        "[{\"op\":\"add\",\"path\":\"/metadata/labels/a~1b\",\"value\":\"x\"}]",
    ),
    ("application/apply-patch+yaml", ""),
    ("application/apply-patch+yaml", "{}"),
    ("application/apply-patch+yaml", "[]"),
    ("application/apply-patch+yaml", "5"),
    ("application/apply-patch+yaml", "{"),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: other}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Other\nmetadata: {name: NAME}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v2\nkind: Thing\nmetadata: {name: NAME}\n",
    ),
    (
        "application/apply-patch+yaml",
        "kind: Thing\nmetadata: {name: NAME}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: NAME, managedFields: [{manager: x}]}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: NAME, resourceVersion: \"x\"}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: NAME, uid: x}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: NAME}\nspec: {unknown: 1}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: NAME}\nspec: {n: x}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: NAME}\nspec: {map: [{v: x}]}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: NAME}\nspec: {map: [{k: x}, {k: x}]}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: NAME}\nspec: {set: [x, x]}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: NAME}\nspec: {a: x, a: y}\n",
    ),
    (
        "application/apply-patch+yaml",
        "apiVersion: peer.example.com/v1\nkind: Thing\nmetadata: {name: NAME}\nspec: 5\n",
    ),
    ("application/apply-patch+cbor", "x"),
    ("application/strategic-merge-patch+json", "{}"),
    ("application/json", "{}"),
    ("text/plain", "{}"),
    ("", "{}"),
];

/// Content types of creates.
const CONTENTS: &[&str] = &[
    "application/yaml",
    "application/json; charset=utf-8",
    "application/cbor",
    "application/vnd.kubernetes.protobuf",
    "text/plain",
    "application/x-www-form-urlencoded",
    "a/b;c",
    "/",
    "*/*",
];

const VALIDATIONS: &[&str] = &["", "?fieldValidation=Strict", "?fieldValidation=Ignore"];

fn filled(text: &str, name: &str) -> String {
    let text = text
        .replace("THING", "{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thing\",\"metadata\":")
        .replace("SPEC", "{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"NAME\"},\"spec\":");
    let whole = if text
        .starts_with("{\"apiVersion\":\"peer.example.com/v1\",\"kind\":\"Thing\",\"metadata\":")
        && text.matches('{').count() > text.matches('}').count()
    {
        format!("{text}}}")
    } else {
        text
    };
    whole.replace("NAME", name)
}

/// How many seeds are needed to have every body under every fieldValidation, and all creates as updates too.
pub const SEEDS: u64 = (COUNT as u64).div_ceil(STEPS);
/// Bodies of one seed.
const STEPS: u64 = 12;
const COUNT: usize =
    3 * (YAMLS.len() + CREATES.len() + PATCHES.len()) + CREATES.len() + CONTENTS.len();

/// Each seed takes a part of every table.
pub fn sequence(seed: u64) -> Sequence {
    let namespace = format!("bodies-{seed}");
    let base = path_of(&namespace);
    let mut d = Dice::new(seed + 6_000);
    let mut steps: Vec<Step> = Vec::new();
    let whole = filled("SPEC{\"a\":\"x\",\"set\":[\"s\"]}", "whole");
    steps.push(
        Ask::new("POST", &base)
            .text("application/json", &whole)
            .into(),
    );
    if seed >= SEEDS {
        let broken = (0..STEPS).map(|i| broken(&mut d, &base, &format!("n{i}")));
        steps.extend(broken.map(Step::from));
    }
    for i in 0..STEPS {
        // Every so many, so that a seed has something of every table.
        let n = usize::try_from(i * SEEDS + seed).unwrap_or(0);
        steps.extend(step(&mut d, &base, &format!("n{i}"), n).map(Step::from));
    }
    Sequence {
        name: String::new(),
        namespace,
        steps,
    }
}

/// The request of a number.
fn step(d: &mut Dice, base: &str, name: &str, mut n: usize) -> Option<Ask> {
    let post = |query: &str, content: &str, text: &str| {
        Ask::new("POST", format!("{base}{query}")).text(content, &filled(text, name))
    };
    for query in VALIDATIONS {
        if let Some(text) = YAMLS.get(n) {
            return Some(post(query, "application/yaml", text));
        }
        n -= YAMLS.len();
        if let Some(text) = CREATES.get(n) {
            return Some(post(query, "application/json", text));
        }
        n -= CREATES.len();
        if let Some((content, text)) = PATCHES.get(n) {
            let mut query = query.replace('?', "&");
            if content.contains("apply") || d.once_in(2) {
                query.push_str("&fieldManager=m");
            }
            if content.contains("apply") && d.once_in(6) {
                query.push_str("&force=true");
            }
            let ask = Ask::new("PATCH", format!("{base}/whole?x=1{query}"));
            return Some(ask.text(content, &filled(text, "whole")));
        }
        n -= PATCHES.len();
    }
    if let Some(text) = CREATES.get(n) {
        let query = d.pick(VALIDATIONS);
        let ask = Ask::new("PUT", format!("{base}/whole{query}"));
        return Some(ask.text("application/json", &filled(text, "whole")));
    }
    let content = CONTENTS.get(n - CREATES.len())?;
    Some(post("", content, "SPEC{\"a\":\"x\"}"))
}

/// A body of the tables, broken: a create, an update or a patch.
fn broken(d: &mut Dice, base: &str, name: &str) -> Ask {
    let query = d.pick(VALIDATIONS);
    if d.once_in(3) {
        return broken_yaml(d, (base, query), name);
    }
    let json = "application/json";
    let path = format!("{base}/whole{query}");
    let (method, path, content, name, text) = match d.roll(4) {
        0 => {
            let (content, text) = d.pick(PATCHES);
            let content = if content.contains("apply") {
                "application/merge-patch+json"
            } else {
                content
            };
            ("PATCH", path, content, "whole", text)
        }
        1 => ("PUT", path, json, "whole", d.pick(CREATES)),
        _ => (
            "POST",
            format!("{base}{query}"),
            json,
            name,
            d.pick(CREATES),
        ),
    };
    let mut ask = Ask::new(method, path).with("content-type", content);
    ask.body = broken::broken(d, &filled(text, name), name);
    ask
}

/// A body of YAML, broken: a create, an update or an applied configuration.
fn broken_yaml(d: &mut Dice, (base, query): (&str, &str), name: &str) -> Ask {
    const YAML: &str = "application/yaml";
    let path = format!("{base}/whole{query}");
    let applied = format!(
        "{path}{}fieldManager=m",
        if query.is_empty() { '?' } else { '&' }
    );
    let (method, path, content, name) = match d.roll(4) {
        0 => ("PATCH", applied, "application/apply-patch+yaml", "whole"),
        1 => ("PUT", path, YAML, "whole"),
        _ => ("POST", format!("{base}{query}"), YAML, name),
    };
    let mut ask = Ask::new(method, path).with("content-type", content);
    let text = d.pick(YAMLS);
    ask.body = broken::broken_yaml(d, &filled(text, name), name);
    ask
}
