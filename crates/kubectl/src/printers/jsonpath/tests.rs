use super::*;
use serde_json::json;

#[test]
fn templates_find_what_upstream_finds() {
    let v = json!({"kind": "List", "items": [
        {"metadata": {"name": "a", "labels": {"app.k8s.io/name": "x"}}, "n": 1, "ready": true},
        {"metadata": {"name": "b"}, "n": 2, "list": ["p", "q", "r"]}]});
    for (template, expected) in [
        ("{.kind}", "List"),
        ("text", "text"),
        ("{.items[*].metadata.name}", "a b"),
        (
            "{.items[0].metadata.name}-{.items[-1].metadata.name}",
            "a-b",
        ),
        (
            "{range .items[*]}{.metadata.name}{\"\\t\"}{.n}{\"\\n\"}{end}",
            "a\t1\nb\t2\n",
        ),
        ("{.items[?(@.n>1)].metadata.name}", "b"),
        ("{.items[?(@.metadata.name==\"a\")].n}", "1"),
        ("{.items[?(@.ready==true)].n}", "1"),
        ("{.items[?(@.ready)].n}", "1"),
        ("{.items[0].metadata.labels.app\\.k8s\\.io/name}", "x"),
        ("{.items[0].metadata['name']}", "a"),
        ("{.items[1].list[0:2]}", "p q"),
        ("{.items[1].list[0,2]}", "p r"),
        ("{..name}", "a b"),
        ("{.items[0].metadata.labels}", "{\"app.k8s.io/name\":\"x\"}"),
        ("{.missing}", ""),
        ("{$.kind}", "List"),
    ] {
        let found = Template::parse(template)
            .and_then(|t| t.render(&v))
            .unwrap();
        assert_eq!(found, expected, "{template}");
    }
}

#[test]
fn bad_templates_are_refused() {
    for template in ["{.a", "{range .a[*]}", "{end}", "{.a[x]}", "{foo}"] {
        assert!(Template::parse(template).is_err(), "{template}");
    }
    let e = Template::parse("{.a[3]}")
        .unwrap()
        .render(&json!({"a": [1]}));
    assert_eq!(
        e.unwrap_err().to_string(),
        "error: error executing jsonpath: array index out of bounds: index 3, length 1"
    );
}

/// Values whose number grows with each `..`, texts that nest, and steps that find as much as before again and again.
#[test]
fn what_a_template_finds_and_writes_has_an_end() {
    let nested = (0..200).fold(json!("x"), |v, _| json!([v]));
    let wide = json!({"a": vec![json!({"b": [1, 2, 3]}); 5000]});
    let leaf = json!({"a": vec![1; 20_000]});
    for (template, value, why) in [
        ("{......}", &nested, "more than 1048576 values are found"),
        ("{.......}", &wide, "more than 1048576 values are found"),
        ("{..}", &nested, "more than 9999 bytes are written"),
        (
            &format!("{{.a[*]{}}}", "..".repeat(2000)),
            &leaf,
            "more than 16777216 values are looked at",
        ),
    ] {
        let told = Template::parse(template).and_then(|t| t.render_within(value, 9_999));
        let told = told.unwrap_err().to_string();
        assert!(told.ends_with(why), "{template}: {told}");
    }
}

#[test]
fn paths_may_be_written_short() {
    for path in ["a.b", ".a.b", "{.a.b}", "{a.b}"] {
        assert_eq!(relaxed(path).unwrap(), "{.a.b}");
    }
}
