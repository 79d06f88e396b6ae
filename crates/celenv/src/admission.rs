//! Expressions about a request: match conditions of webhooks and policies, validations, variables, mutations.
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/cel.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use serde_json::Value as Json;

use crate::eval::Lookup;
use crate::library::{self, Subject};
use crate::limits;
use crate::program::{Environment, EvalError, Program};
use crate::schema::{ObjectSchema, Schema, untyped};
use crate::types::Type;
use crate::value::{ListKind, Value};

mod conditions;
pub mod typecheck;

pub use conditions::{Condition, Conditions, Matched};

/// Which variables there are beside `object`, `oldObject`, `namespaceObject` and `request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub params: bool,
    pub authorizer: bool,
    /// `Object…` and `JSONPatch` values may be made.
    pub patch_types: bool,
}

/// The text of upstream's error when the cost budget is used up.
pub const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// An expression as it was written, compiled or not.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub source: String,
    pub program: Result<Arc<Program>, String>,
}

/// Named expressions that others use as `variables.<name>`.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    pub compiled: Compiled,
}

/// The environment of one policy's expressions. Grows with its variables.
#[derive(Clone, Debug)]
pub struct Compiler {
    environment: Environment,
    fields: Vec<(String, Type)>,
    pub variables: Vec<Variable>,
}

/// The places of variables. Those that options leave out have a name nobody can write.
const NAMES: [&str; 7] = [
    "object",
    "oldObject",
    "namespaceObject",
    "request",
    "params",
    "authorizer",
    "authorizer.requestResource",
];
const PARAMS: usize = 4;
const AUTHORIZERS: std::ops::Range<usize> = 5..7;
const COMPOSED: usize = NAMES.len();

impl Compiler {
    /// An environment without variables of a policy.
    pub fn new(options: Options) -> Self {
        let types = [
            Type::Dyn,
            Type::Dyn,
            NAMESPACE.type_of(),
            REQUEST.type_of(),
            Type::Dyn,
            Type::Opaque("kubernetes.authorization.Authorizer"),
            Type::Opaque("kubernetes.authorization.ResourceCheck"),
        ];
        let mut environment = Environment::new();
        for (i, t) in types.into_iter().enumerate() {
            let there = match i {
                PARAMS => options.params,
                i if AUTHORIZERS.contains(&i) => options.authorizer,
                _ => true,
            };
            environment = environment.variable(if there { NAMES[i] } else { "" }, t);
        }
        if options.patch_types {
            environment = environment.patch_types();
        }
        Self {
            environment,
            fields: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// The same without `authorizer`, for messages and annotations.
    pub fn without_authorizer(&self) -> Self {
        let mut out = self.clone();
        for (name, _) in &mut out.environment.variables[AUTHORIZERS] {
            name.clear();
        }
        out
    }

    /// Compiles an expression whose type is one of `wanted`; any if that is empty. The error is upstream's text.
    pub fn compile(&self, source: &str, wanted: &[Type]) -> Compiled {
        let mut environment = self.environment.clone();
        // The fields are declared under their full names; this is for the names that are no fields.
        let fields = self.fields.iter().map(|(n, t)| (n.as_str(), t.clone()));
        let all = Type::object("kubernetes.variables", fields.collect());
        environment = environment.variable("variables", all);
        let program = match environment.compile(source) {
            Err(e) => Err(e.detail()),
            Ok(p) if !wanted.is_empty() && !wanted.contains(p.output()) => {
                Err(mistyped(&p, wanted))
            }
            Ok(p) => Ok(Arc::new(p)),
        };
        Compiled {
            source: source.to_string(),
            program,
        }
    }

    /// Compiles a variable and lets what comes after use it.
    pub fn add_variable(&mut self, name: &str, source: &str) {
        let compiled = self.compile(source, &[]);
        let t = match &compiled.program {
            Ok(p) => p.output().clone(),
            Err(_) => Type::Dyn,
        };
        let full = format!("variables.{name}");
        self.environment = std::mem::take(&mut self.environment).variable(&full, t.clone());
        self.fields.push((name.to_string(), t));
        self.variables.push(Variable {
            name: name.to_string(),
            compiled,
        });
    }
}

fn mistyped(p: &Program, wanted: &[Type]) -> String {
    let got = p.output();
    match wanted {
        [one] => format!("must evaluate to {one} but got {got}"),
        many => {
            let many: Vec<String> = many.iter().map(Type::to_string).collect();
            format!("must evaluate to one of [{}] but got {got}", many.join(" "))
        }
    }
}

/// What expressions of one request look at, converted once and shared by all of them.
#[derive(Clone, Debug)]
pub struct Activation {
    values: Vec<Value>,
}

/// What an activation is made of.
pub struct Inputs<'a> {
    pub object: Option<&'a Json>,
    pub old_object: Option<&'a Json>,
    pub namespace: Option<&'a Json>,
    /// An AdmissionRequest without objects.
    pub request: &'a Json,
    pub subject: Option<Subject>,
}

impl Activation {
    /// Converts the inputs.
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let or_null = |v: Option<&Json>| v.map_or(Value::Null, untyped);
        let (authorizer, resource) = match &inputs.subject {
            None => (Value::Null, Value::Null),
            Some(s) => (
                library::authorizer::authorizer(s.clone()),
                library::authorizer::request_resource(requested(s, inputs.request)),
            ),
        };
        Self {
            values: vec![
                or_null(inputs.object),
                or_null(inputs.old_object),
                inputs.namespace.map_or(Value::Null, |n| NAMESPACE.value(n)),
                REQUEST.value(inputs.request),
                Value::Null,
                authorizer,
                resource,
            ],
        }
    }

    /// The same with variable `params`.
    pub fn with_params(&self, params: Option<&Json>) -> Self {
        let mut out = self.clone();
        out.values[PARAMS] = params.map_or(Value::Null, untyped);
        out
    }

    /// The same with another `object`, after a mutation.
    pub fn with_object(&self, object: &Json) -> Self {
        let mut out = self.clone();
        out.values[0] = untyped(object);
        out
    }
}

fn requested(subject: &Subject, request: &Json) -> library::ResourceCheck {
    let text = |path: &str| {
        let v = request.pointer(path).and_then(Json::as_str);
        v.unwrap_or_default().to_string()
    };
    library::ResourceCheck {
        subject: subject.clone(),
        group: text("/resource/group"),
        resource: text("/resource/resource"),
        subresource: text("/subResource"),
        namespace: text("/namespace"),
        name: text("/name"),
        fields: None,
        labels: None,
    }
}

/// Evaluates a policy's expressions on one request: variables are evaluated when first asked for, and once.
pub struct Run<'a> {
    activation: &'a Activation,
    variables: &'a [Variable],
    known: RefCell<Vec<Option<Result<Value, EvalError>>>>,
    /// Spent by variables since the last expression.
    spent: RefCell<u64>,
    budget: u64,
}

/// Why an expression gave no value.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The expression's own error, in upstream's words.
    Expression(String),
    /// No more expressions are evaluated.
    OutOfBudget,
}

impl<'a> Run<'a> {
    /// A run with a cost budget for all of its expressions.
    pub fn new(activation: &'a Activation, variables: &'a [Variable], budget: u64) -> Self {
        Self {
            activation,
            variables,
            known: RefCell::new(vec![None; variables.len()]),
            spent: RefCell::new(0),
            budget,
        }
    }

    /// The value of an expression.
    pub fn evaluate(&mut self, c: &Compiled) -> Result<Value, Failure> {
        let program = match &c.program {
            Ok(p) => p,
            Err(e) => return Err(Failure::Expression(format!("compilation error: {e}"))),
        };
        let outcome = program.evaluate(self);
        let spent = outcome.cost.saturating_add(self.spent.replace(0));
        if spent > self.budget {
            self.budget = 0;
            return Err(Failure::OutOfBudget);
        }
        self.budget -= spent;
        outcome.result.map_err(|e| {
            Failure::Expression(format!("expression '{}' resulted in error: {e}", c.source))
        })
    }

    fn composed(&self, i: usize) -> Result<Value, EvalError> {
        if let Some(known) = &self.known.borrow()[i] {
            return known.clone();
        }
        let v = &self.variables[i];
        let result = match &v.compiled.program {
            Err(e) => Err(e.clone()),
            Ok(p) => {
                let outcome = p.evaluate(self);
                let mut spent = self.spent.borrow_mut();
                *spent = spent.saturating_add(outcome.cost);
                outcome.result.map_err(|e| e.to_string())
            }
        };
        let result = result.map_err(|e| {
            EvalError::of(format!(
                "composited variable {:?} fails to evaluate: {e}",
                v.name
            ))
        });
        self.known.borrow_mut()[i] = Some(result.clone());
        result
    }
}

impl Lookup for Run<'_> {
    fn variable(&self, index: usize) -> Result<Value, EvalError> {
        if index < COMPOSED {
            return Ok(self.activation.values[index].clone());
        }
        if index - COMPOSED < self.variables.len() {
            return self.composed(index - COMPOSED);
        }
        // `variables` itself.
        let mut fields = Vec::with_capacity(self.variables.len());
        for (i, v) in self.variables.iter().enumerate() {
            fields.push((v.name.as_str(), self.composed(i)?));
        }
        Ok(Value::object("kubernetes.variables", fields))
    }
}

// === The types of `request` and `namespaceObject` ===

fn object(name: &str, fields: Vec<(&str, Schema)>) -> Schema {
    let one = |(n, s): (&str, Schema)| (n.to_string(), n.to_string(), s);
    Schema::Object(Arc::new(ObjectSchema {
        name: name.to_string(),
        fields: fields.into_iter().map(one).collect(),
    }))
}

fn list(of: Schema) -> Schema {
    Schema::List(Arc::new(of), ListKind::Atomic)
}

/// The type of variable `request`.
pub fn request_type() -> &'static Schema {
    &REQUEST
}

/// The type of variable `namespaceObject`.
pub fn namespace_type() -> &'static Schema {
    &NAMESPACE
}

static REQUEST: LazyLock<Schema> = LazyLock::new(|| {
    let s = || Schema::String;
    let kind = object(
        "kubernetes.GroupVersionKind",
        vec![("group", s()), ("version", s()), ("kind", s())],
    );
    let resource = object(
        "kubernetes.GroupVersionResource",
        vec![("group", s()), ("version", s()), ("resource", s())],
    );
    let user = object(
        "kubernetes.UserInfo",
        vec![
            ("username", s()),
            ("uid", s()),
            ("groups", list(s())),
            ("extra", Schema::Map(Arc::new(list(s())))),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        vec![
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", s()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", s()),
            ("name", s()),
            ("namespace", s()),
            ("operation", s()),
            ("userInfo", user),
            ("dryRun", Schema::Bool),
            ("options", Schema::Unknown),
        ],
    )
});

static NAMESPACE: LazyLock<Schema> = LazyLock::new(|| {
    let s = || Schema::String;
    let texts = || Schema::Map(Arc::new(Schema::String));
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        vec![
            ("name", s()),
            ("generateName", s()),
            ("namespace", s()),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", s()),
            ("creationTimestamp", Schema::Timestamp),
            ("deletionGracePeriodSeconds", Schema::Int),
            ("deletionTimestamp", Schema::Timestamp),
            ("generation", Schema::Int),
            ("resourceVersion", s()),
            ("finalizers", list(s())),
        ],
    );
    let condition = object(
        "kubernetes.NamespaceCondition",
        vec![
            ("status", s()),
            ("type", s()),
            ("lastTransitionTime", Schema::Timestamp),
            ("message", s()),
            ("reason", s()),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", vec![("finalizers", list(s()))]);
    let status = object(
        "kubernetes.NamespaceStatus",
        vec![("conditions", list(condition)), ("phase", s())],
    );
    object(
        "kubernetes.Namespace",
        vec![("metadata", metadata), ("spec", spec), ("status", status)],
    )
});

/// The text of a message expression's value, if it is one that may be shown: trimmed, one line, not too long.
pub fn message(v: &Value) -> Option<String> {
    let text = v.as_str()?.trim();
    let good = !text.is_empty() && text.len() <= limits::MESSAGE_BYTES_MAX && !text.contains('\n');
    good.then(|| text.to_string())
}
