use super::*;

/// What gnostic-models 0.7.0 makes of the document beside it.
const EXPECTED: &str = include_str!("document.hex");

#[test]
fn a_document_is_the_bytes_that_gnostic_makes() {
    let document: Value = serde_json::from_str(include_str!("document.json")).unwrap();
    let hex: String = encode(&document)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(hex, EXPECTED.replace('\n', ""));
}

#[test]
fn what_is_no_document_is_no_trouble() {
    for text in [
        "null",
        "[]",
        r#"{"paths": 1, "components": [1], "info": {"title": {}}}"#,
    ] {
        let document: Value = serde_json::from_str(text).unwrap();
        encode(&document);
    }
}
