use super::*;
use serde_json::json;

#[test]
fn strings_are_quoted_where_they_would_be_read_as_something_else() {
    for (text, expected) in [
        ("plain", "plain"),
        ("", "\"\""),
        ("yes", "\"yes\""),
        ("123", "\"123\""),
        ("1e3", "\"1e3\""),
        ("0x1F", "\"0x1F\""),
        ("1.2.3", "1.2.3"),
        ("10.0.0.1/24", "10.0.0.1/24"),
        ("100m", "100m"),
        ("12:30", "\"12:30\""),
        ("2026-11-25T20:55:15Z", "\"2026-11-25T20:55:15Z\""),
        ("a: b", "'a: b'"),
        ("a:b", "a:b"),
        ("*", "'*'"),
        ("it's #1", "'it''s #1'"),
        ("it's", "it's"),
        (" x", "' x'"),
        ("-", "'-'"),
        ("--x", "--x"),
        ("a\tb", "\"a\\tb\""),
        ("{}", "'{}'"),
        ("one\ntwo\n", "|\n  one\n  two"),
        ("one\n\ntwo", "|-\n  one\n\n  two"),
    ] {
        assert_eq!(
            to_string(&json!({"k": text})),
            format!("k: {expected}\n"),
            "{text:?}"
        );
    }
}

#[test]
fn structures_are_laid_out_as_upstream_does() {
    let v = json!({"b": [{"x": 1, "a": [1, 2]}, [3], []], "a": {"k": {}}, "c": null});
    assert_eq!(
        to_string(&v),
        "a:\n  k: {}\nb:\n- a:\n  - 1\n  - 2\n  x: 1\n- - 3\n- []\nc: null\n"
    );
}

#[test]
fn long_lines_are_folded() {
    let words = ["word"; 20].join(" ");
    let text = to_string(&json!({"message": words}));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].len() > 80 && lines[1].starts_with("  word"));
}

#[test]
fn keys_are_in_natural_order() {
    let v = json!({"a10": 1, "a9": 1, "f:x": 1, ".": 1, "B": 1, "a": 1, "a-b": 1, "a09": 1, "k:{\"p\":1}": 1});
    let text = to_string(&v);
    let keys: Vec<&str> = text
        .lines()
        .map(|l| l.rsplit_once(':').unwrap_or_default().0)
        .collect();
    assert_eq!(
        keys,
        [
            ".",
            "B",
            "a",
            "a-b",
            "a9",
            "a09",
            "a10",
            "f:x",
            "k:{\"p\":1}"
        ]
    );
}

#[test]
fn long_keys_stand_alone() {
    let key = "k".repeat(129);
    let v = json!({key.clone(): "v", "l\nm": {"a": 1, "b": 2}, "x": {key.clone(): [1, 2]}});
    let expected =
        format!("? {key}\n: v\n? |-\n  l\n  m\n: a: 1\n  b: 2\nx:\n  ? {key}\n  : - 1\n    - 2\n");
    assert_eq!(to_string(&v), expected);
}

#[test]
fn numbers_are_written_as_go_does() {
    let v = json!([1, -5, 18446744073709551615u64, 1.5, 1e6, 1e21]);
    assert_eq!(
        to_string(&v),
        "- 1\n- -5\n- 18446744073709551615\n- 1.5\n- 1e+06\n- 1e+21\n"
    );
}
