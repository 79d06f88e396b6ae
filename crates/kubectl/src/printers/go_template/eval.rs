//! Runs a template.

use serde_json::Value;

use super::functions::{self, truth};
use super::{Branch, Node, Operand, Pipeline, Template};

/// Deepest nesting of templates within templates.
const DEPTH: usize = 100;
/// Most bytes that a template may write.
const OUTPUT: usize = 64 << 20;

struct Run<'a> {
    template: &'a Template,
    out: String,
    variables: Vec<(String, Value)>,
    depth: usize,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// Gives what the template writes about a value.
pub fn run(template: &Template, value: &Value) -> Result<String, String> {
    let mut run = Run {
        template,
        out: String::new(),
        variables: Vec::new(),
        depth: 0,
    };
    let value = floats(value);
    run.variables.push(("$".into(), value.clone()));
    run.nodes(&template.body, &value)?;
    Ok(run.out)
}

/// The same with all numbers as Go's JSON package gives them.
fn floats(value: &Value) -> Value {
    match value {
        Value::Number(n) => n.as_f64().map_or(Value::Null, Value::from),
        Value::Array(list) => list.iter().map(floats).collect(),
        Value::Object(map) => {
            let all = map.iter().map(|(k, v)| (k.clone(), floats(v)));
            Value::Object(all.collect())
        }
        other => other.clone(),
    }
}

impl Run<'_> {
    fn write(&mut self, text: &str) -> Result<(), String> {
        if self.out.len() + text.len() > OUTPUT {
            return Err("the template writes too much".into());
        }
        self.out.push_str(text);
        Ok(())
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.write(text)?;
                    Flow::On
                }
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        let text = match value {
                            Value::Null => "<no value>".to_string(),
                            value => functions::text(&value),
                        };
                        self.write(&text)?;
                    }
                    Flow::On
                }
                Node::If(branch) => self.branch(branch, dot, false)?,
                Node::With(branch) => self.branch(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Template(name, argument) => {
                    self.named(name, argument.as_ref(), dot)?;
                    Flow::On
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn branch(&mut self, branch: &Branch, dot: &Value, moves: bool) -> Result<Flow, String> {
        let scope = self.variables.len();
        let value = self.pipeline(&branch.on, dot)?;
        let flow = match truth(&value) {
            true if moves => self.nodes(&branch.then, &value),
            true => self.nodes(&branch.then, dot),
            false => self.nodes(&branch.otherwise, dot),
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<Flow, String> {
        let scope = self.variables.len();
        let names = branch.on.variables.clone();
        let bare = Pipeline {
            variables: Vec::new(),
            ..branch.on.clone()
        };
        let value = self.pipeline(&bare, dot)?;
        let all: Vec<(Value, Value)> = match value {
            Value::Null => Vec::new(),
            Value::Array(list) => {
                let numbered = list.into_iter().enumerate();
                numbered.map(|(i, v)| (Value::from(i), v)).collect()
            }
            Value::Object(map) => {
                let mut all: Vec<(String, Value)> = map.into_iter().collect();
                all.sort_by(|(a, _), (b, _)| a.cmp(b));
                all.into_iter().map(|(k, v)| (Value::from(k), v)).collect()
            }
            Value::Number(n) => {
                let n = n.as_f64().unwrap_or_default().clamp(0.0, 1e6);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Clamped above.
                let n = n as u32;
                (0..n).map(|i| (Value::from(i), Value::from(i))).collect()
            }
            other => {
                let shown = functions::text(&other);
                return Err(format!("range can't iterate over {shown}"));
            }
        };
        if all.is_empty() {
            return self.nodes(&branch.otherwise, dot);
        }
        for (key, value) in all {
            match (names.as_slice(), branch.on.assigns) {
                ([], _) => {}
                ([one], false) => self.variables.push((one.clone(), value.clone())),
                ([k, v, ..], false) => {
                    self.variables.push((k.clone(), key));
                    self.variables.push((v.clone(), value.clone()));
                }
                ([one], true) => self.assign(one, value.clone()),
                ([k, v, ..], true) => {
                    self.assign(k, key);
                    self.assign(v, value.clone());
                }
            }
            let flow = self.nodes(&branch.then, &value)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn named(
        &mut self,
        name: &str,
        argument: Option<&Pipeline>,
        dot: &Value,
    ) -> Result<(), String> {
        let value = match argument {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => Value::Null,
        };
        let template = self.template;
        let body = template.named.get(name);
        let body = body.ok_or_else(|| format!("template {name:?} not defined"))?;
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("exceeded maximum template depth".into());
        }
        let outer = std::mem::replace(&mut self.variables, vec![("$".into(), value.clone())]);
        self.nodes(body, &value)?;
        self.variables = outer;
        self.depth -= 1;
        Ok(())
    }

    fn assign(&mut self, name: &str, value: Value) {
        if let Some(known) = self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            known.1 = value;
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut last: Option<Value> = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        let value = last.unwrap_or(Value::Null);
        for name in &pipeline.variables {
            match pipeline.assigns {
                true => self.assign(name, value.clone()),
                false => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        operands: &[Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        let Some(Operand::Function(name)) = operands.first() else {
            if let [one] = operands {
                if last.is_some() {
                    return Err("can't give argument to non-function".into());
                }
                return self.operand(one, dot);
            }
            return Err("can't give argument to non-function".into());
        };
        // `and` and `or` look no further than they must.
        let mut given = Vec::new();
        for operand in &operands[1..] {
            let value = self.operand(operand, dot)?;
            let decided = match name.as_str() {
                "and" => !truth(&value),
                "or" => truth(&value),
                _ => false,
            };
            given.push(value);
            if decided {
                return functions::call(name, &given);
            }
        }
        given.extend(last);
        functions::call(name, &given).map_err(|why| format!("error calling {name}: {why}"))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Err("nil is not a command".into()),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Field(path) => fields(dot, path),
            Operand::Variable(name, path) => {
                let known = self.variables.iter().rev().find(|(n, _)| n == name);
                let value = known.map(|(_, v)| v);
                let value = value.ok_or_else(|| format!("undefined variable: {name}"))?;
                fields(value, path)
            }
            Operand::Group(pipeline, path) => {
                let scope = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                self.variables.truncate(scope);
                fields(&value, path)
            }
            Operand::Function(name) => functions::call(name, &[]),
        }
    }
}

fn fields(value: &Value, path: &[String]) -> Result<Value, String> {
    let mut at = value.clone();
    for (i, name) in path.iter().enumerate() {
        at = match at {
            Value::Object(mut map) => map.remove(name).unwrap_or(Value::Null),
            // A key that is missing is no value; only what would be below it is an error.
            Value::Null if i == 0 => Value::Null,
            Value::Null => {
                return Err(format!("nil pointer evaluating interface {{}}.{name}"));
            }
            _ => {
                return Err(format!(
                    "can't evaluate field {name} in type interface {{}}"
                ));
            }
        };
    }
    Ok(at)
}
