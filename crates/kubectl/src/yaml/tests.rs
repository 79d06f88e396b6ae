use super::*;
use serde_json::json;

#[test]
fn documents_are_read_and_booleans_are_those_of_yaml_1_1() {
    let all = parse_all("---\na: yes\n---\n# nothing\n---\nb: \"yes\"\n").unwrap();
    assert_eq!(all, [json!({"a": true}), json!({"b": "yes"})]);
    assert_eq!(parse_all("{\"a\": 1}\n{\"b\": 2}").unwrap().len(), 2);
}
