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
        ("{...name}", "a b"),
        ("{.items[1].list..}", "[\"p\",\"q\",\"r\"] p q r"),
        ("{.items[*]['n','metadata']..name}", "a b"),
        ("{.items[*]['n','kind','n']}", "1 2 1 2"),
        ("{.items[*][?(@..name)]}", ""),
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
    let (steps, ranges) = (".a".repeat(200), "{range .a}".repeat(20));
    let (steps, ranges) = (format!("{{{steps}}}"), ranges + &"{end}".repeat(20));
    let filters = "[?(@".repeat(20_000) + &")]".repeat(20_000);
    let filters = format!("{{.a{filters}}}");
    let nested = [&steps, &ranges, &filters].map(String::as_str);
    let plain = [
        "{.a",
        "{range .a[*]}",
        "{end}",
        "{.a[x]}",
        "{foo}",
        "{....}",
        "{..*}",
    ];
    for template in nested.into_iter().chain(plain) {
        let start = &template[..template.len().min(40)];
        assert!(Template::parse(template).is_err(), "{start}");
    }
    let two = Template::parse("{.a[?(@.*==1)]}").unwrap();
    let e = two.render(&json!({"a": [{"x": 1, "y": 1}]})).unwrap_err();
    assert!(
        e.to_string()
            .ends_with("can only compare one element at a time"),
        "{e}"
    );
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
    for (template, value, why) in [
        (
            "{range ..[*]..[*]..[*]..}{end}",
            &nested,
            "more than 16777216 values are looked at",
        ),
        (
            &format!("{{{}}}", "['a','b']".repeat(100)),
            &wide,
            "more than 16777216 values are looked at",
        ),
        ("{..}", &nested, "more than 9999 bytes are written"),
    ] {
        let template = Template::parse(template).unwrap();
        let mut search = Search::new(value, 9_999);
        search.visits = 100_000;
        let told = search.render(&template.0, value, &mut String::new());
        let told = told.unwrap_err();
        assert!(told.ends_with(why), "{template:?}: {told}");
    }
}

#[test]
fn paths_may_be_written_short() {
    for path in ["a.b", ".a.b", "{.a.b}", "{a.b}"] {
        assert_eq!(relaxed(path).unwrap(), "{.a.b}");
    }
}
