//! What celenv makes of a thousand expressions, beside what cel-go with Kubernetes' libraries made of them:
//! `tests/reference/verdicts.jsonl`, written by `tools/e2e/reference/cel`.

use std::sync::Arc;

use machinery::request::{Attributes, User};
use serde_json::{Value as Json, json};

use crate::admission::{namespace_type, request_type};
use crate::estimate::Unknown;
use crate::library::{self, Checks, Foreign, ResourceCheck, Subject, Verdict};
use crate::program::Environment;
use crate::schema;
use crate::types::Type;
use crate::value::Value;

const VERDICTS: &str = include_str!("../../tests/reference/verdicts.jsonl");

/// The first minor version of the tables.
const FIRST: u32 = 23;

/// The authorizer of the tables: it knows one user.
struct Rules;

impl Checks for Rules {
    fn check(&self, a: &Attributes) -> Verdict {
        let allow = |reason: String| Verdict {
            allowed: true,
            reason,
            error: None,
        };
        if a.resource == "broken" {
            return Verdict {
                error: Some("is broken".into()),
                ..Verdict::default()
            };
        }
        if !a.is_resource && a.path == "/healthz" {
            return allow("health".into());
        }
        if a.resource == "secrets" {
            return Verdict {
                reason: "never".into(),
                ..Verdict::default()
            };
        }
        if a.verb == "get" && a.resource == "pods" && a.user.name == "u" {
            return allow(format!("of {}/{}/{}", a.namespace, a.name, a.subresource));
        }
        if a.user.name == "system:serviceaccount:default:robot" {
            return allow(a.user.groups.join(","));
        }
        Verdict::default()
    }
}

fn subject() -> Subject {
    Subject {
        user: User::new("u", &["g"]),
        checks: Arc::new(Rules),
    }
}

/// The variables of the tables.
fn variables() -> Vec<(&'static str, Type, Value)> {
    let pods = json!({"group": "", "version": "v1", "resource": "pods"});
    let pod = json!({"group": "", "version": "v1", "kind": "Pod"});
    let object = json!({"metadata": {"name": "a", "labels": {"x": "1"}},
        "spec": {"replicas": 5, "ratio": 0.5, "list": [1, 2, 3], "names": ["b", "a"], "none": null,
            "text": "hello", "yes": true,
            "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}]}});
    let request = json!({"operation": "CREATE", "name": "n", "namespace": "d", "dryRun": false,
        "resource": pods, "requestResource": pods, "kind": pod, "requestKind": pod,
        "userInfo": {"username": "u", "groups": ["g", "h"]}, "options": {"kind": "CreateOptions"}});
    let requested = ResourceCheck {
        subject: subject(),
        group: String::new(),
        resource: "pods".into(),
        subresource: String::new(),
        namespace: "d".into(),
        name: "n".into(),
        fields: None,
        labels: None,
    };
    let time = "2024-02-29T12:30:45.5Z".parse().expect("a time");
    let namespace = json!({"metadata": {"name": "d"}});
    vec![
        ("object", Type::Dyn, schema::untyped(&object)),
        (
            "request",
            request_type().type_of(),
            request_type().value(&request),
        ),
        (
            "namespaceObject",
            namespace_type().type_of(),
            namespace_type().value(&namespace),
        ),
        (
            "authorizer",
            Type::Opaque("kubernetes.authorization.Authorizer"),
            library::authorizer::authorizer(subject()),
        ),
        (
            "authorizer.requestResource",
            Type::Opaque("kubernetes.authorization.ResourceCheck"),
            library::authorizer::request_resource(requested),
        ),
        ("s", Type::String, Value::text("hello")),
        ("i", Type::Int, Value::Int(5)),
        ("u", Type::Uint, Value::Uint(7)),
        ("d", Type::Double, Value::Double(1.5)),
        ("b", Type::Bytes, Value::Bytes(Arc::from(*b"abc"))),
        (
            "l",
            Type::list(Type::Int),
            schema::untyped(&json!([1, 2, 3])),
        ),
        (
            "names",
            Type::list(Type::String),
            schema::untyped(&json!(["b", "a"])),
        ),
        (
            "m",
            Type::map(Type::String, Type::String),
            schema::untyped(&json!({"a": "b"})),
        ),
        ("t", Type::Timestamp, Value::Timestamp(time)),
    ]
}

fn shown(v: &Value) -> String {
    let text = |s: &str| Json::from(s).to_string();
    match v {
        Value::String(s) => text(s),
        Value::Bytes(b) => {
            let s = text(&String::from_utf8_lossy(b));
            format!("b{}", s.replace('\u{fffd}', "\\ufffd"))
        }
        Value::Uint(u) => format!("{u}u"),
        Value::Double(d) => format!("double {}", shortest(*d)),
        Value::Optional(None) => "none".to_string(),
        Value::Optional(Some(v)) => format!("some {}", shown(v)),
        Value::Type(t) => format!("type {t}"),
        Value::Timestamp(t) => format!("google.protobuf.Timestamp {t}"),
        Value::Duration(d) => format!(
            "google.protobuf.Duration {}",
            library::time::duration_text(*d)
        ),
        Value::List(l) => {
            let items: Vec<String> = l.items.iter().map(shown).collect();
            format!("[{}]", items.join(", "))
        }
        // Upstream has objects of their own for these.
        Value::Map(m) if m.type_name.as_deref().is_some_and(is_patch) => {
            format!("a {}", v.type_name())
        }
        Value::Map(m) => {
            let one = |(k, v): (Value, &Value)| format!("{}: {}", shown(&k), shown(v));
            let mut entries: Vec<String> = m.entries().map(one).collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Foreign(f) => match f.as_ref() {
            Foreign::Quantity(q) => format!("quantity {q}"),
            Foreign::Url(u) => format!("url {}", u.whole),
            Foreign::Ip(ip) => format!("ip {ip}"),
            Foreign::Cidr(c) => format!("cidr {c}"),
            Foreign::Semver(v) => format!("semver {v}"),
            Foreign::Format(f) => format!("format {}", f.name()),
            f => format!("a {}", f.type_name()),
        },
        v => library::shown(v),
    }
}

fn is_patch(name: &str) -> bool {
    name == "JSONPatch" || name == "Object" || name.starts_with("Object.")
}

/// Go's `%g` with as many digits as are needed.
fn shortest(d: f64) -> String {
    let text = format!("{d:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if d.is_finite() => match exponent.parse::<i32>() {
            Ok(e) if !(-4..6).contains(&e) => {
                let sign = if e < 0 { '-' } else { '+' };
                format!("{mantissa}e{sign}{:02}", e.abs())
            }
            _ => format!("{d}"),
        },
        _ => library::shown(&Value::Double(d)),
    }
}

/// What we make of an expression, in the form of the table.
fn verdict(env: &Environment, values: &[Value], expression: &str) -> Json {
    let mut out = json!({"e": expression});
    let (program, estimate) = match env.compile_and_estimate(expression, &Unknown) {
        Err(e) => {
            out["compile"] = json!(e.to_string());
            return out;
        }
        Ok(compiled) => compiled,
    };
    out["estimate"] = json!([estimate.min, estimate.max]);
    out["type"] = json!(program.output().to_string());
    let outcome = program.evaluate(&values.to_vec());
    match &outcome.result {
        Ok(v) => out["value"] = json!(shown(v)),
        Err(e) => out["error"] = json!(e.to_string()),
    }
    out["cost"] = json!(outcome.cost);
    out
}

/// Whether new expressions may be this one from a version on, and not before.
fn is_since(env: &Environment, expression: &str, minor: u32) -> bool {
    let compiles = |minor| env.clone().at_version(minor).compile(expression).is_ok();
    compiles(minor) && (minor == FIRST || !compiles(minor - 1))
}

#[test]
fn verdicts_are_those_of_cel_go() {
    let mut env = Environment::new().patch_types();
    let mut values = Vec::new();
    for (name, t, v) in variables() {
        env = env.variable(name, t);
        values.push(v);
    }
    let mut wrong = Vec::new();
    for line in VERDICTS.lines() {
        let wanted: Json = serde_json::from_str(line).expect("a line of the table");
        let expression = wanted["e"].as_str().expect("an expression");
        let got = verdict(&env, &values, expression);
        if wanted["compile"].is_string() && wanted["type"].is_string() {
            // It checks, but a constant in it is wrong.
            if wanted["compile"] != got["compile"] {
                wrong.push(format!(
                    "{expression}\n  compile wanted {}\n  compile got    {}",
                    wanted["compile"], got["compile"]
                ));
            }
            continue;
        }
        let since = wanted["since"].as_u64().and_then(|s| u32::try_from(s).ok());
        if let Some(minor) = since.filter(|s| !is_since(&env, expression, *s)) {
            wrong.push(format!(
                "{expression}\n  since wanted {minor}\n  since got    another"
            ));
        }
        for key in ["compile", "type", "value", "error", "cost", "estimate"] {
            // Beyond the limit all costs are the same.
            let dear = key == "cost" && wanted["error"].to_string().contains("cost limit");
            if !dear && wanted[key] != got[key] {
                wrong.push(format!(
                    "{expression}\n  {key} wanted {}\n  {key} got    {}",
                    wanted[key], got[key]
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
