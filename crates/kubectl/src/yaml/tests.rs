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
    assert_eq!(parse_all(&text).unwrap(), [json!({"message": words})]);
}

#[test]
fn documents_are_read_and_booleans_are_those_of_yaml_1_1() {
    let all = parse_all("---\na: yes\n---\n# nothing\n---\nb: \"yes\"\n").unwrap();
    assert_eq!(all, [json!({"a": true}), json!({"b": "yes"})]);
    assert_eq!(parse_all("{\"a\": 1}\n{\"b\": 2}").unwrap().len(), 2);
}
