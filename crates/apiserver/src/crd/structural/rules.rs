//! `x-kubernetes-validations`: expressions over the values of a schema's nodes.
//! Upstream: apiextensions-apiserver/pkg/apiserver/schema/cel. Rules within allOf are refused, as upstream does.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use celenv::limits::RUNTIME_COST_BUDGET;
use celenv::schema::{ObjectSchema, can_escape, escape};
use celenv::value::ListKind as CelList;
use celenv::{Environment, EvalError, Lookup, Program, Schema, Type, Value as Cel};
use machinery::Causes;
use machinery::causes::CauseKind;
use machinery::object::{bool_at, str_at};
use serde_json::{Value, json};

use super::correlate::{Both, Old, by_keys};
use super::field_path::field_path;
use super::{JsonType, ListKind, Structural};
use crate::metrics::cel;

mod check;
mod sizes;

pub use check::Before;

const SELF: usize = 0;
const OLD_SELF: usize = 1;
const OUT_OF_BUDGET: &str = celenv::admission::OUT_OF_BUDGET;
const MESSAGE_OUT_OF_BUDGET: &str = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";

/// The rules of one node.
#[derive(Clone, Default)]
pub struct Rules {
    raw: Vec<Value>,
    compiled: OnceLock<Arc<Compiled>>,
}

struct Compiled {
    schema: Schema,
    rules: Vec<Rule>,
}

struct Rule {
    source: String,
    message: String,
    reason: String,
    field_path: String,
    optional_old: bool,
    program: Result<Program, String>,
    message_expression: Option<Result<Program, String>>,
    /// The text of `message_expression`.
    speaker: String,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.raw)
    }
}

// === Rules ===

impl Rules {
    pub fn new(raw: Vec<Value>) -> Self {
        Self {
            raw,
            compiled: OnceLock::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    fn compiled(&self, s: &Structural, root: bool) -> Arc<Compiled> {
        let compile = || {
            let schema = schema_of(s, root).unwrap_or_default();
            let begun = Instant::now();
            let rules = self.raw.iter().map(|r| Rule::new(r, &schema, s)).collect();
            cel::COMPILATION.observe(&[], begun.elapsed());
            Arc::new(Compiled { schema, rules })
        };
        self.compiled.get_or_init(compile).clone()
    }
}

impl Rule {
    fn new(raw: &Value, schema: &Schema, s: &Structural) -> Self {
        let optional_old = bool_at(raw, "optionalOldSelf") == Some(true);
        let environment = environment(schema, optional_old);
        let compile = |text: &str, wanted: &Type| {
            let program = environment.compile(text).map_err(|e| e.detail())?;
            match program.output() == wanted {
                true => Ok(program),
                false => Err(String::new()),
            }
        };
        let program = compile(str_at(raw, "rule"), &Type::Bool).map_err(|e| match e.as_str() {
            "" => "cel expression must evaluate to a bool".to_string(),
            _ => e,
        });
        let message_expression = match str_at(raw, "messageExpression") {
            "" => None,
            text => Some(compile(text, &Type::String).map_err(|e| match e.as_str() {
                "" => "messageExpression must evaluate to a string".to_string(),
                e => format!("messageExpression {e}"),
            })),
        };
        Self {
            source: str_at(raw, "rule").trim().to_string(),
            message: str_at(raw, "message").trim().to_string(),
            reason: str_at(raw, "reason").to_string(),
            field_path: field_path(str_at(raw, "fieldPath"), s, true)
                .map(|(path, _)| path)
                .unwrap_or_default(),
            optional_old,
            program,
            message_expression,
            speaker: str_at(raw, "messageExpression").to_string(),
        }
    }

    /// How messages name the rule.
    fn shown(&self) -> &str {
        if self.message.is_empty() {
            &self.source
        } else {
            &self.message
        }
    }
}

/// What rules of a node are compiled in.
fn environment(schema: &Schema, optional_old: bool) -> Environment {
    let t = schema.type_of();
    let old = match optional_old {
        true => Type::optional(t.clone()),
        false => t.clone(),
    };
    Environment::new()
        .variable("self", t)
        .variable("oldSelf", old)
}

/// What expressions see of a node; nothing where they cannot see it.
fn schema_of(s: &Structural, root: bool) -> Option<Schema> {
    if s.int_or_string {
        return Some(Schema::Unknown);
    }
    Some(match s.kind? {
        JsonType::Boolean => Schema::Bool,
        JsonType::Integer => Schema::Int,
        JsonType::Number => Schema::Double,
        JsonType::String => match s.bounds.format.as_str() {
            "byte" => Schema::Bytes,
            "duration" => Schema::Duration,
            "date" | "date-time" => Schema::Timestamp,
            _ => Schema::String,
        },
        JsonType::Array => {
            let kind = match &s.list {
                ListKind::Atomic => CelList::Atomic,
                ListKind::Set => CelList::Set,
                ListKind::Map(keys) => CelList::Map(Arc::from(keys.as_slice())),
            };
            Schema::List(Arc::new(schema_of(s.items.as_deref()?, false)?), kind)
        }
        JsonType::Object => match s.additional.as_deref() {
            Some(values) => Schema::Map(Arc::new(schema_of(values, values.embedded)?)),
            None => object(s, root || s.embedded),
        },
    })
}

fn object(s: &Structural, resource: bool) -> Schema {
    let mut fields: Vec<(String, String, Schema)> = Vec::new();
    for (name, below) in &s.properties {
        if resource && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            continue;
        }
        if let Some(schema) = schema_of(below, false).filter(|_| can_escape(name)) {
            fields.push((escape(name), name.clone(), schema));
        }
    }
    if resource {
        let text = |name: &str| (name.to_string(), name.to_string(), Schema::String);
        let metadata = Schema::Object(Arc::new(ObjectSchema {
            name: "object".into(),
            fields: vec![text("name"), text("generateName")],
        }));
        fields.extend([text("apiVersion"), text("kind")]);
        fields.push(("metadata".into(), "metadata".into(), metadata));
    }
    Schema::Object(Arc::new(ObjectSchema {
        name: "object".into(),
        fields,
    }))
}

// === Checking objects ===

/// Adds what rules say of an object.
pub fn validate(s: &Structural, object: &Value, before: Option<&Value>, c: &mut Causes) {
    if !s.has_rules {
        return;
    }
    let begun = Instant::now();
    let mut budget = RUNTIME_COST_BUDGET;
    let seen = Seen {
        value: object,
        old: before,
        now: before.map_or_else(Old::default, |b| Old::of(b, s)),
        above: Both::default(),
        root: true,
    };
    walk(s, &seen, &mut budget, c);
    cel::EVALUATION.observe(&[], begun.elapsed());
}

/// Adds what rules say of a default, which stands at a node of a schema and does not change.
pub fn validate_default(
    s: &Structural,
    root: bool,
    value: &Value,
    old: Option<&Value>,
    c: &mut Causes,
) {
    let mut budget = RUNTIME_COST_BUDGET;
    let seen = Seen {
        value,
        old,
        now: Old::default(),
        above: Both::default(),
        root,
    };
    walk(s, &seen, &mut budget, c);
}

/// A value and its old state.
struct Seen<'a> {
    value: &'a Value,
    /// What `oldSelf` is.
    old: Option<&'a Value>,
    /// What says whether the value is as it was; where that cannot be told, the nearest above that it can be.
    now: Old<'a>,
    above: Both<'a>,
    root: bool,
}

impl<'a> Seen<'a> {
    /// Whether nothing has changed, so that rules may go on being broken.
    fn is_unchanged(&self) -> bool {
        match self.now.is_known() {
            true => self.now.equals(self.value),
            false => self.above.is_same(),
        }
    }

    /// A part, whose old state is told by `now`.
    fn part(&self, value: &'a Value, old: Option<&'a Value>, now: Old<'a>, root: bool) -> Self {
        let (now, above) = match self.now.is_known() {
            true => (now, self.now.with_new(self.value)),
            false => (Old::default(), self.above),
        };
        Self {
            value,
            old,
            now,
            above,
            root,
        }
    }

    fn field(&self, name: &str, value: &'a Value, root: bool) -> Self {
        let old = self.old.and_then(|o| o.get(name)).filter(|o| !o.is_null());
        // What version and kind were does not show.
        if self.root && !self.above.is_known() && ["apiVersion", "kind"].contains(&name) {
            let (now, above) = (Old::default(), Both::default());
            return Self {
                value,
                old,
                now,
                above,
                root,
            };
        }
        self.part(value, old, self.now.key(name), root)
    }
}

/// `None` once the budget is used up: nothing more is run.
fn walk(s: &Structural, seen: &Seen<'_>, budget: &mut u64, c: &mut Causes) -> Option<()> {
    if !s.has_rules || seen.value.is_null() {
        return Some(());
    }
    if !s.rules.is_empty() {
        run(s, seen, budget, c)?;
    }
    match seen.value {
        Value::Array(items) => {
            let Some(below) = s.items.as_deref() else {
                return Some(());
            };
            let before = seen.old.and_then(Value::as_array);
            for (i, item) in items.iter().enumerate() {
                let old = before.and_then(|b| by_keys(&s.list, b, item));
                let part = seen.part(item, old, seen.now.index(item), below.embedded);
                c.index(i, |c| walk(below, &part, budget, c))?;
            }
        }
        Value::Object(map) => {
            for (name, v) in map {
                let (below, declared) = match (s.properties.get(name), s.additional.as_deref()) {
                    (Some(below), _) => (below, true),
                    (None, Some(below)) => (below, false),
                    _ => continue,
                };
                let part = seen.field(name, v, below.embedded);
                let mut go = |c: &mut Causes| walk(below, &part, budget, c);
                match declared {
                    true => c.at(name, &mut go)?,
                    false => c.key(name, &mut go)?,
                }
            }
        }
        _ => {}
    }
    Some(())
}

fn run(s: &Structural, seen: &Seen<'_>, budget: &mut u64, c: &mut Causes) -> Option<()> {
    let compiled = s.rules.compiled(s, seen.root);
    let kind = json!(s.type_name());
    let value = compiled.schema.value(seen.value);
    let old = seen
        .old
        .filter(|o| !o.is_null())
        .map(|o| compiled.schema.value(o));
    for rule in &compiled.rules {
        let program = match &rule.program {
            Ok(p) => p,
            Err(e) => {
                c.invalid(&kind, format!("rule compile error: {e}"));
                continue;
            }
        };
        let transition = program.uses(OLD_SELF);
        if transition && old.is_none() && !rule.optional_old {
            continue;
        }
        let plain = old.clone().unwrap_or(Cel::Null);
        let mut values = vec![Cel::Null; OLD_SELF + 1];
        values[SELF] = value.clone();
        values[OLD_SELF] = match rule.optional_old {
            true => Cel::Optional(old.clone().map(Arc::new)),
            false => plain.clone(),
        };
        let outcome = program.evaluate(&values);
        if outcome.cost > *budget {
            c.invalid(&kind, OUT_OF_BUDGET);
            return None;
        }
        *budget -= outcome.cost;
        match outcome.result {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => {
                // Upstream: a message's old value is never optional, whatever the rule's is and its type says.
                values[OLD_SELF] = plain;
                let message = message(rule, &values, budget);
                let add = |c: &mut Causes| match &message {
                    Ok(message) => failed(s, rule, seen.value, message, c),
                    Err(why) => within(rule, c, |c| c.invalid(&kind, why.as_str())),
                };
                // What did not change may go on breaking rules.
                if !transition && seen.is_unchanged() {
                    let mut told = c.aside();
                    add(&mut told);
                    told.as_slice().iter().for_each(|t| c.warn(t.text()));
                } else {
                    add(c);
                }
                message.ok()?;
            }
            Err(e) => {
                c.invalid(&kind, trouble(&e, rule.shown()));
                if e == EvalError::TooCostly {
                    return None;
                }
            }
        }
    }
    Some(())
}

fn trouble(e: &EvalError, rule: &str) -> String {
    let text = e.to_string();
    match e {
        EvalError::TooCostly => format!(
            "'{text}': no further validation rules will be run due to call cost exceeds limit for rule: {rule}"
        ),
        _ if text.starts_with("no such overload") => format!(
            "'{text}': call arguments did not match a supported operator, function or macro signature for rule: {rule}"
        ),
        _ => format!("{text} evaluating rule: {rule}"),
    }
}

/// What a broken rule says; an error where its expression costs more than is left, and nothing more is looked at.
fn message(rule: &Rule, values: &dyn Lookup, budget: &mut u64) -> Result<String, String> {
    if let Some(Ok(program)) = &rule.message_expression {
        let outcome = program.evaluate(values);
        if outcome.cost > *budget {
            return Err(MESSAGE_OUT_OF_BUDGET.into());
        }
        *budget -= outcome.cost;
        if matches!(outcome.result, Err(EvalError::TooCostly)) {
            return Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
                api::go::quote(&rule.speaker)
            ));
        }
        let text = outcome
            .result
            .ok()
            .and_then(|v| celenv::admission::message(&v));
        if let Some(text) = text {
            return Ok(text);
        }
    }
    Ok(match rule.message.as_str() {
        "" => format!("failed rule: {}", rule.source),
        message => message.to_string(),
    })
}

/// Adds the error of a rule that does not hold. Objects and lists are not shown.
fn failed(s: &Structural, rule: &Rule, value: &Value, message: &str, c: &mut Causes) {
    let whole = matches!(s.kind, Some(JsonType::Object | JsonType::Array));
    within(rule, c, |c| match rule.reason.as_str() {
        "FieldValueForbidden" => c.forbidden(message),
        "FieldValueRequired" => c.required(message),
        "FieldValueDuplicate" if whole => c.without_value(CauseKind::Duplicate, ""),
        "FieldValueDuplicate" => c.duplicate(value),
        _ if whole => c.without_value(CauseKind::Invalid, message),
        _ => c.invalid(value, message),
    });
}

/// Adds an error where a rule points to.
fn within(rule: &Rule, c: &mut Causes, add: impl FnOnce(&mut Causes)) {
    match rule.field_path.as_str() {
        "" => add(c),
        path => c.at(path, add),
    }
}
