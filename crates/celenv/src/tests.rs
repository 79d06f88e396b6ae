//! Tables of expressions: `tests/*.txt` hold an expression and what comes out, one pair a paragraph.
//! Results were looked up in upstream's documentation and in cel-go's behaviour.

use std::sync::Arc;

use machinery::request::{Attributes, User};
use serde_json::{Value as Json, json};

use crate::admission::{Activation, Compiler, Conditions, Inputs, Matched, Options, Run};
use crate::library::{Checks, Subject, Verdict};
use crate::program::{Environment, EvalError};
use crate::types::Type;
use crate::value::Value;
use crate::{library, limits, schema};

mod reference;

fn environment() -> (Environment, Vec<Value>) {
    let object = json!({"metadata": {"name": "a", "labels": {"x": "1"}},
        "spec": {"replicas": 5, "ratio": 0.5, "list": [1, 2, 3], "names": ["b", "a"], "none": null}});
    let env = Environment::new()
        .variable("object", Type::Dyn)
        .variable("s", Type::String)
        .variable("i", Type::Int)
        .variable("l", Type::list(Type::Int))
        .variable("m", Type::map(Type::String, Type::String));
    let values = vec![
        schema::untyped(&object),
        Value::text("hello"),
        Value::Int(5),
        schema::untyped(&json!([1, 2, 3])),
        schema::untyped(&json!({"a": "b"})),
    ];
    (env, values)
}

/// A value as the tables write it.
fn shown(v: &Value) -> String {
    match v {
        Value::String(s) => format!("{s:?}"),
        Value::Optional(None) => "none".to_string(),
        Value::Optional(Some(v)) => format!("some {}", shown(v)),
        Value::Double(d) if d.trunc() == *d && d.abs() < 1e15 => format!("{d:.1}"),
        Value::Uint(u) => format!("{u}u"),
        Value::Type(t) => format!("type {t}"),
        Value::List(l) => {
            let items: Vec<String> = l.items.iter().map(shown).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(m) => {
            let entries: Vec<String> = m
                .entries()
                .map(|(k, v)| format!("{}: {}", shown(&k), shown(v)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        v => library::shown(v),
    }
}

fn outcome(source: &str) -> String {
    let (env, values) = environment();
    match env.compile(source) {
        Err(e) => format!(
            "compile: {}",
            e.issues
                .iter()
                .map(|i| format!("{}: {}", i.column + 1, i.message))
                .collect::<Vec<_>>()
                .join("; ")
        ),
        Ok(p) => match p.evaluate(&values).result {
            Ok(v) => shown(&v),
            Err(e) => format!("error: {e}"),
        },
    }
}

fn table(text: &str) {
    let mut wrong = Vec::new();
    let mut lines = text
        .lines()
        .filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    while let (Some(source), Some(wanted)) = (lines.next(), lines.next()) {
        let got = outcome(source);
        if got != wanted.trim() {
            wrong.push(format!(
                "{source}\n  wanted {}\n  got    {got}",
                wanted.trim()
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn language_is_as_the_table_says() {
    table(include_str!("../tests/language.txt"));
}

#[test]
fn libraries_are_as_the_table_says() {
    table(include_str!("../tests/libraries.txt"));
}

#[test]
fn compile_errors_show_the_place() {
    let (env, _) = environment();
    let error = env
        .compile("object.a ==\n nothing")
        .map(|_| ())
        .expect_err("must fail");
    assert_eq!(
        error.to_string(),
        "ERROR: <input>:2:2: undeclared reference to 'nothing' (in container '')\n |  nothing\n | .^"
    );
}

#[test]
fn costs_are_limited() {
    let (env, values) = environment();
    let nested = "lists.range(1000).all(a, lists.range(1000).all(b, a + b >= 0))";
    let outcome = env.compile(nested).expect("compiles").evaluate(&values);
    assert_eq!(outcome.result.map(|_| ()), Err(EvalError::TooCostly));
    assert!(outcome.cost > limits::PER_CALL_COST);
    let cost = |s: &str| env.compile(s).expect("compiles").evaluate(&values).cost;
    assert_eq!(cost("object.spec.replicas > 1"), 4);
    assert_eq!(cost("[1, 2, 3]"), 0);
    assert_eq!(cost("[1, 2, i]"), 11);
    assert_eq!(cost("s.startsWith('he')"), 2);
}

struct Rules;

impl Checks for Rules {
    fn check(&self, a: &Attributes) -> Verdict {
        Verdict {
            allowed: a.verb == "get" && a.resource == "pods" && a.user.name == "u",
            ..Verdict::default()
        }
    }
}

fn activation(object: &Json) -> Activation {
    let request = json!({"operation": "CREATE", "name": "n", "namespace": "d",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "kind": {"group": "", "version": "v1", "kind": "Pod"}, "userInfo": {"username": "u", "groups": ["g"]}});
    Activation::new(&Inputs {
        object: Some(object),
        old_object: None,
        namespace: Some(
            &json!({"metadata": {"name": "d", "creationTimestamp": "2024-01-01T00:00:00Z"}}),
        ),
        request: &request,
        subject: Some(Subject {
            user: User::new("u", &[]),
            checks: Arc::new(Rules),
        }),
    })
}

#[test]
fn conditions_decide_as_upstreams() {
    let on = activation(&json!({"metadata": {"name": "n"}}));
    let matched =
        |all: &[(&str, &str)]| Conditions::compile(all.iter().copied(), false).matched(&on);
    assert_eq!(
        matched(&[
            ("a", "request.userInfo.username == 'u'"),
            ("b", "oldObject == null")
        ]),
        Matched::Yes
    );
    assert_eq!(
        matched(&[("a", "object.nope == 1"), ("b", "request.name == 'other'")]),
        Matched::No("b".into())
    );
    assert_eq!(
        matched(&[("a", "object.nope == 1")]),
        Matched::Failed(
            "expression 'object.nope == 1' resulted in error: no such key: nope".into()
        )
    );
    assert_eq!(
        matched(&[("a", "authorizer.requestResource.check('get').allowed()")]),
        Matched::Yes
    );
    assert_eq!(
        matched(&[(
            "a",
            "authorizer.group('').resource('pods').check('list').allowed()"
        )]),
        Matched::No("a".into())
    );
    let text = match matched(&[("a", "params.x == 1")]) {
        Matched::Failed(text) => text,
        other => panic!("{other:?}"),
    };
    assert!(text.starts_with("compilation error: compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'"), "{text}");
}

#[test]
fn variables_are_lazy_and_build_on_each_other() {
    let mut scope = Compiler::new(Options {
        params: false,
        authorizer: true,
        patch_types: false,
    });
    scope.add_variable("replicas", "object.spec.replicas");
    scope.add_variable("odd", "variables.replicas % 2 == 1");
    scope.add_variable("bad", "object.nope");
    let on = activation(&json!({"spec": {"replicas": 3}}));
    let mut run = Run::new(&on, &scope.variables, limits::RUNTIME_COST_BUDGET);
    let value =
        run.evaluate(&scope.compile("variables.odd && variables.replicas > 1", &[Type::Bool]));
    assert!(matches!(value, Ok(Value::Bool(true))), "{value:?}");
    let value = run.evaluate(&scope.compile("variables.bad", &[]));
    let text = "expression 'variables.bad' resulted in error: composited variable \"bad\" fails to evaluate: no such key: nope";
    assert_eq!(
        value.map(|_| ()),
        Err(crate::admission::Failure::Expression(text.into()))
    );
    let unknown = scope
        .compile("variables.other", &[])
        .program
        .expect_err("no field");
    assert!(unknown.contains("undefined field 'other'"), "{unknown}");
    let number = scope
        .compile("1", &[Type::Bool])
        .program
        .expect_err("no bool");
    assert_eq!(number, "must evaluate to bool but got int");
}

#[test]
fn patches_are_values() {
    let scope = Compiler::new(Options {
        params: false,
        authorizer: false,
        patch_types: true,
    });
    let on = activation(&json!({"spec": {"replicas": 3}}));
    let mut run = Run::new(&on, &[], limits::RUNTIME_COST_BUDGET);
    let c = scope.compile(
        "Object{spec: Object.spec{replicas: object.spec.replicas + 1}}",
        &[],
    );
    let v = run.evaluate(&c).expect("a value");
    assert_eq!(schema::to_json(&v), Ok(json!({"spec": {"replicas": 4}})));
    let c = scope.compile(
        "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: {'x': [1]}}]",
        &[],
    );
    let v = run.evaluate(&c).expect("a value");
    assert_eq!(
        schema::to_json(&v),
        Ok(json!([{"op": "add", "path": "/a/b~1c", "value": {"x": [1]}}]))
    );
    let c = scope
        .compile("JSONPatch{op: 1}", &[])
        .program
        .expect_err("wrong type");
    assert!(
        c.contains("expected type of field 'op' is 'string' but provided type is 'int'"),
        "{c}"
    );
}

/// What a schema does not say is an error to who reads it, and nobody else.
#[test]
fn parts_of_another_type_are_there_and_cannot_be_read() {
    let field = |name: &str, s: schema::Schema| (name.to_string(), name.to_string(), s);
    let schema = schema::Schema::Object(Arc::new(schema::ObjectSchema {
        name: "object".into(),
        fields: vec![
            field("span", schema::Schema::Duration),
            field("n", schema::Schema::Int),
            field("map", schema::Schema::Map(Arc::new(schema::Schema::Int))),
        ],
    }));
    let env = Environment::new().variable("self", schema.type_of());
    let object = json!({"span": [], "n": "x", "map": 5});
    let values = vec![schema.value(&object)];
    for (rule, expected) in [
        ("has(self.span)", "true"),
        (
            "self.span < duration('1h')",
            "error: invalid data, expected string, got []interface {}",
        ),
        ("self.n == 1 || has(self.n)", "true"),
        (
            "self.n == 1",
            "error: invalid data, expected int, got string",
        ),
        (
            "self.map.size() == 0",
            "error: invalid data, expected a map for the provided schema with type=object",
        ),
        (
            "self.map.all(k, k == 'a')",
            "error: invalid data, expected a map for the provided schema with type=object",
        ),
    ] {
        let program = env.compile(rule).expect(rule);
        let found = match program.evaluate(&values).result {
            Ok(v) => shown(&v),
            Err(e) => format!("error: {e}"),
        };
        assert_eq!(found, expected, "{rule}");
    }
}
