//! Go's text/template over JSON, as far as kubectl's `-o go-template` goes: all actions, pipelines, variables,
//! nested templates, the built-in functions, and kubectl's `exists` and `base64decode`.
//! Upstream: cli-runtime/pkg/printers/template.go, text/template.

mod eval;
mod functions;
mod lex;
mod parse;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    body: Vec<Node>,
    /// Those that it defines.
    named: BTreeMap<String, Vec<Node>>,
}

/// A piece of a template.
#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Print(Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template(String, Option<Pipeline>),
    Break,
    Continue,
}

/// What an `if`, `with` or `range` does.
#[derive(Clone, Debug)]
struct Branch {
    on: Pipeline,
    then: Vec<Node>,
    otherwise: Vec<Node>,
}

/// Commands, each given the last one's value; maybe the values of variables.
#[derive(Clone, Debug, Default)]
struct Pipeline {
    variables: Vec<String>,
    /// `=` in place of `:=`.
    assigns: bool,
    commands: Vec<Vec<Operand>>,
}

/// A word of a command.
#[derive(Clone, Debug)]
enum Operand {
    Dot,
    Nil,
    Literal(Value),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`
    Variable(String, Vec<String>),
    /// `(pipeline).a.b`
    Group(Box<Pipeline>, Vec<String>),
    Function(String),
}

impl Template {
    /// Parses a template; errors are Go's, under the name that kubectl gives it.
    pub fn parse(text: &str) -> Result<Self> {
        let failed = |why: String| {
            Error::text(format!(
                "error parsing template {text}, template: output:{why}"
            ))
        };
        parse::template(text).map_err(failed)
    }

    /// Runs it over an object.
    pub fn render(&self, value: &Value) -> Result<String> {
        eval::run(self, value).map_err(|why| {
            Error::text(format!("error executing template: template: output: {why}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(text: &str) -> std::result::Result<String, String> {
        let value = json!({"kind": "List", "n": 3, "big": 1_500_000.0, "half": 0.5, "yes": true, "none": null,
            "items": [{"name": "a", "ports": [80, 443]}, {"name": "b"}],
            "labels": {"x": "1", "a-b": "2"}, "secret": "aGVsbG8="});
        let template = Template::parse(text).map_err(|e| e.to_string())?;
        template.render(&value).map_err(|e| e.to_string())
    }

    #[test]
    fn templates_print_what_go_prints() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{{.kind}}-{{ .n }}", "List-3"),
            (
                "{{.big}} {{.half}} {{.yes}} {{.none}} {{.nope}}",
                "1.5e+06 0.5 true <no value> <no value>",
            ),
            ("{{range .items}}{{.name}} {{end}}", "a b "),
            (
                "{{range $i, $e := .items}}{{$i}}={{$e.name}};{{end}}",
                "0=a;1=b;",
            ),
            (
                "{{range $k, $v := .labels}}{{$k}}:{{$v}},{{end}}",
                "a-b:2,x:1,",
            ),
            ("{{range .nothing}}x{{else}}empty{{end}}", "empty"),
            ("{{with .labels}}{{.x}}{{$.kind}}{{end}}", "1List"),
            ("{{if and .yes (eq .kind \"List\")}}y{{else}}n{{end}}", "y"),
            ("{{if .none}}a{{else if gt .n 2.0}}b{{else}}c{{end}}", "b"),
            (
                "{{index .labels \"a-b\"}} {{index .items 1 \"name\"}}",
                "2 b",
            ),
            (
                "{{len .items}} {{.kind | printf \"%s-%v-%q\" .kind .n}}",
                "2 List-3-\"List\"",
            ),
            (
                "{{.labels}} {{(index .items 0).ports}}",
                "map[a-b:2 x:1] [80 443]",
            ),
            ("a {{- \" b \" -}} c", "a b c"),
            ("a{{/* note */ -}}\n b", "ab"),
            (
                "{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .kind}}",
                "<List>",
            ),
            ("{{block \"b\" .n}}[{{.}}]{{end}}", "[3]"),
            (
                "{{$x := 1}}{{range .items}}{{$x = .name}}{{end}}{{$x}}",
                "b",
            ),
            (
                "{{range .items}}{{if eq .name \"b\"}}{{break}}{{end}}{{.name}}{{end}}",
                "a",
            ),
            (
                "{{.secret | base64decode}} {{exists . \"items\"}} {{exists . \"x\" \"y\"}}",
                "hello true false",
            ),
            (
                "{{html \"<a>\"}} {{print 1 2 \"x\" 3}} {{println \"z\"}}",
                "&lt;a&gt; 1 2x3 z\n",
            ),
            (
                "{{slice .kind 1 3}} {{not .none}} {{or .none \"z\"}} {{`raw`}} {{'a'}}",
                "is true z raw 97",
            ),
        ] {
            assert_eq!(run(text), Ok(expected.to_string()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, why) in [
            ("{{.a", "unclosed action"),
            ("{{if .a}}", "unexpected EOF"),
            ("{{nope .a}}", "function \"nope\" not defined"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{template \"t\"}}", "template \"t\" not defined"),
            ("{{.kind.x}}", "can't evaluate field x in type interface {}"),
            ("{{index .items 9}}", "index out of range: 9"),
            ("{{range .kind}}{{end}}", "range can't iterate over List"),
            ("{{$x}}", "undefined variable \"$x\""),
        ] {
            let told = run(text).expect_err(text);
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
