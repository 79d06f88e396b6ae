//! YAML as upstream reads it: go-yaml's YAML 1.1, with its own ideas of what is a document, turned into JSON. The library's
//! words reach clients, so that what is refused is refused in them. Upstream: go.yaml.in/yaml/v2 and sigs.k8s.io/yaml.

mod json;
mod parser;
mod reader;
mod resolve;
mod scalars;
mod scanner;
mod tree;

use serde_json::Value;

use crate::limits;

/// Why a text is no YAML, as go-yaml says it.
#[derive(Debug, PartialEq, Eq)]
struct Fault(String);

/// YAML to a value: its first document. The last of repeated keys counts, and every repetition is told.
pub fn yaml(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    match json::alike(bytes) {
        Some(value) => Ok((value, Vec::new())),
        None => slow(bytes),
    }
}

fn slow(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    let said = |f: Fault| format!("yaml: {}", f.0);
    let Some((nodes, root)) = parser::document(bytes).map_err(said)? else {
        return Ok((Value::Null, Vec::new()));
    };
    let mut decoder = tree::Decoder::new(&nodes, aliased_max(bytes));
    let tree = decoder.value(root).map_err(said)?;
    let findings = decoder.findings;
    let odd = tree.odd();
    // Keys are looked at before numbers.
    let value = tree.json()?;
    match odd {
        None => Ok((value, findings)),
        Some(n) if n.is_nan() => Err("json: unsupported value: NaN".into()),
        Some(n) => {
            let sign = if n > 0.0 { '+' } else { '-' };
            Err(format!("json: unsupported value: {sign}Inf"))
        }
    }
}

/// How much aliases may bring again. To upstream's parser, a document that is mostly aliases is an attack; this is at
/// most what a text of this length can hold by itself, so often.
fn aliased_max(text: &[u8]) -> usize {
    // No part of a document is shorter than a character and what separates it from the next.
    (text.len() / 2 * limits::YAML_ALIASED_TIMES)
        .clamp(limits::YAML_ALIASED_MIN, limits::YAML_ALIASED_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        yaml(text.as_bytes()).map(|(value, _)| value)
    }

    #[test]
    fn documents_that_are_mostly_aliases_are_refused() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x]\n");
        for n in 1..6 {
            let below = format!("*a{},", n - 1).repeat(8);
            text += &format!("a{n}: &a{n} [{below}]\n");
        }
        let refused = read(&text).expect_err("nine thousand from eighty");
        assert_eq!(refused, "yaml: document contains excessive aliasing");
        let few = format!("a: &a {{b: 1}}\nc: [{}]", "*a,".repeat(100));
        let value = read(&few).map(|value| value["c"].as_array().map(Vec::len));
        assert_eq!(value, Ok(Some(100)));
        let deep = read(&"[".repeat(100_000)).expect_err("too deep");
        assert_eq!(deep, "yaml: exceeded max depth of 128");
    }

    #[test]
    fn documents_are_read_as_go_yaml_reads_them() {
        for (text, expected) in [
            ("", json!(null)),
            ("# nothing\n", json!(null)),
            ("{a: b} rest", json!({"a": "b"})),
            ("a: 1\n---\nb: 2\n", json!({"a": 1})),
            ("a: 1\n...\n]", json!({"a": 1})),
            ("%YAML 1.1\n---\na: 1\n", json!({"a": 1})),
            ("%TAG !e! tag:yaml.org,2002:\n--- !e!int \"5\"\n", json!(5)),
            ("n: 5\n\"n\": 6", json!({"false": 5, "n": 6})),
            (
                "{y: 1, on: 2, 3: 4, 1.5: 5, 1e10: 6, .inf: 7}",
                json!({"true": 2, "3": 4, "1.5": 5, "1e+10": 6, ".inf": 7}),
            ),
            (
                "[12e03, 1.5, yes, ~, 010, 0o10, 0x1F, -0b11, 1_000, 1:30, 1e30, 18446744073709551615]",
                json!([
                    12000,
                    1.5,
                    true,
                    null,
                    8,
                    8,
                    31,
                    -3,
                    1000,
                    "1:30",
                    1e30,
                    18_446_744_073_709_551_615u64
                ]),
            ),
            (
                "[!!str 5, !!float 5, !!int \"5\", !!binary aGVsbG8=, !foo 5, !!null ~, 2001-01-01]",
                json!(["5", 5, 5, "hello", "5", null, "2001-01-01"]),
            ),
            (
                "a: &a {b: 1, c: 2}\nd:\n  <<: [*a, {b: 3}]\n  c: 4\n",
                json!({"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 4}}),
            ),
            (
                "- |2-\n   a\n\n  b\n- >+\n  c\n  d\n\n- 'e\n\n  f ''g'\n- \"h\\\n  i \\x41\\u00e9\"\n- j\n k\n",
                json!([" a\n\nb", "c d\n\n", "e\nf 'g", "hi Aé", "j k"]),
            ),
            (
                "a:\n- b\n- - c\n? d\n: [e: f, {g, h: }]\n",
                json!({"a": ["b", ["c"]], "d": [{"e": "f"}, {"g": null, "h": null}]}),
            ),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_refused_is_refused_in_go_yamls_words() {
        for (text, expected) in [
            ("a: [1\n", "yaml: line 1: did not find expected ',' or ']'"),
            ("a: {b\n", "yaml: line 1: did not find expected ',' or '}'"),
            (
                "a:\n\tb: 1\n",
                "yaml: line 2: found character that cannot start any token",
            ),
            (
                "a: b: c",
                "yaml: mapping values are not allowed in this context",
            ),
            (
                "a\nb: c",
                "yaml: line 2: mapping values are not allowed in this context",
            ),
            (
                "a: - b",
                "yaml: block sequence entries are not allowed in this context",
            ),
            ("a: b\nc\n", "yaml: line 3: could not find expected ':'"),
            (
                "- a\nb: c\n",
                "yaml: line 1: did not find expected '-' indicator",
            ),
            (
                "a:\n  b: c\n : d\n",
                "yaml: line 2: did not find expected key",
            ),
            ("...\n", "yaml: did not find expected node content"),
            ("a: 'b\n", "yaml: line 2: found unexpected end of stream"),
            ("a: \"\\q\"", "yaml: found unknown escape character"),
            (
                "a: \"\\xg\"",
                "yaml: did not find expected hexdecimal number",
            ),
            (
                "a: |x\n",
                "yaml: did not find expected comment or line break",
            ),
            (
                "a: &\n",
                "yaml: did not find expected alphabetic or numeric character",
            ),
            ("a: *b\n", "yaml: unknown anchor 'b' referenced"),
            ("a: &a [*a]\n", "yaml: anchor 'a' value contains itself"),
            ("a: !e!x y\n", "yaml: found undefined tag handle"),
            ("a: !!int x\n", "yaml: cannot decode !!str `x` as a !!int"),
            (
                "a: !!binary x\n",
                "yaml: !!binary value contains invalid base64 data",
            ),
            (
                "<<: 5",
                "yaml: map merge requires map or sequence of maps as the value",
            ),
            ("%YAML 2.0\n---\n", "yaml: found incompatible YAML document"),
            ("\u{1}", "yaml: control characters are not allowed"),
            (
                "{? [a] : b}",
                "yaml: invalid map key: []interface {}{\"a\"}",
            ),
            (
                "a: {~: n}",
                "unsupported map key of type: %!s(<nil>), key: <nil>, value: false",
            ),
            ("a: .inf", "json: unsupported value: +Inf"),
        ] {
            assert_eq!(read(text), Err(expected.into()), "{text}");
        }
        let utf8 = yaml(b"a: \xff").expect_err("no text");
        assert_eq!(utf8, "yaml: invalid leading UTF-8 octet");
    }

    #[test]
    fn every_repeated_key_is_told() {
        let (value, found) = yaml(b"a: 1\nb: {c: 1, c: 2}\na: 3\n").expect("a document");
        assert_eq!(value, json!({"a": 3, "b": {"c": 2}}));
        assert_eq!(
            found,
            [
                "line 2: key \"c\" already set in map",
                "line 3: key \"a\" already set in map"
            ]
        );
    }
}
