//! Expressions about claims and users. Upstream: k8s.io/apiserver/pkg/authentication/cel.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use celenv::schema::{ObjectSchema, Schema};
use celenv::value::{ListKind, Map, Value};
use celenv::{Environment, EvalError, Lookup, Program, Type};
use machinery::request::User;
use serde_json::Value as Json;

/// What an expression is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Variable `claims`.
    Claims,
    /// Variable `user`.
    User,
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Expression(Arc<Program>);

static CLAIMS: LazyLock<Environment> = LazyLock::new(|| {
    let claims = Type::map(Type::String, Type::Dyn);
    Environment::new().variable("claims", claims)
});

static USER: LazyLock<Schema> = LazyLock::new(|| {
    let texts = || Schema::List(Arc::new(Schema::String), ListKind::Atomic);
    let field = |name: &str, of| (name.to_string(), name.to_string(), of);
    Schema::Object(Arc::new(ObjectSchema {
        name: "kubernetes.UserInfo".into(),
        fields: vec![
            field("username", Schema::String),
            field("uid", Schema::String),
            field("groups", texts()),
            field("extra", Schema::Map(Arc::new(texts()))),
        ],
    }))
});

static USERS: LazyLock<Environment> =
    LazyLock::new(|| Environment::new().variable("user", USER.type_of()));

/// The only variable.
struct One(Value);

impl Lookup for One {
    fn variable(&self, _index: usize) -> Result<Value, EvalError> {
        Ok(self.0.clone())
    }
}

// === Expression ===

impl Expression {
    /// Compiles an expression, which may have to be a bool. The error is upstream's.
    pub fn compile(scope: Scope, source: &str, boolean: bool) -> Result<Self, String> {
        let environment = match scope {
            Scope::Claims => &CLAIMS,
            Scope::User => &USERS,
        };
        let program = environment.compile(source);
        let program = program.map_err(|e| format!("compilation failed: {e}"))?;
        if boolean && *program.output() != Type::Bool {
            return Err("must evaluate to bool".into());
        }
        Ok(Self(Arc::new(program)))
    }

    /// The expression's text.
    pub fn source(&self) -> &str {
        self.0.source()
    }

    /// Whether it looks at a claim by its name.
    pub fn selects(&self, claim: &str) -> bool {
        self.0.selects(0, claim)
    }

    /// The value for these claims, or this user. The error is upstream's.
    pub fn evaluate(&self, about: &Value) -> Result<Value, String> {
        let outcome = self.0.evaluate(&One(about.clone()));
        outcome
            .result
            .map_err(|e| format!("expression '{}' resulted in error: {e}", self.source()))
    }
}

/// Claims as expressions see them: every number is a double, as Go's decoder has it, and `a__dot__b` finds `a.b`.
pub fn claims_value(claims: &serde_json::Map<String, Json>) -> Value {
    Value::map(Map {
        fields: claims
            .iter()
            .map(|(k, v)| (Arc::from(k.as_str()), value(v)))
            .collect(),
        unescapes: true,
        ..Map::default()
    })
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => Value::Double(n.as_f64().unwrap_or_default()),
        Json::String(s) => Value::text(s),
        Json::Array(items) => Value::list(items.iter().map(value).collect()),
        Json::Object(map) => claims_value(map),
    }
}

/// A user as expressions see him.
pub fn user_value(user: &User) -> Value {
    let texts = |all: &[String]| Value::list(all.iter().map(|t| Value::text(t)).collect());
    let extra: BTreeMap<Arc<str>, Value> = user
        .extra
        .iter()
        .map(|(k, v)| (Arc::from(k.as_str()), texts(v)))
        .collect();
    let extra = Map {
        fields: extra,
        unescapes: true,
        ..Map::default()
    };
    Value::object(
        "kubernetes.UserInfo",
        vec![
            ("username", Value::text(&user.name)),
            ("uid", Value::text(&user.uid)),
            ("groups", texts(&user.groups)),
            ("extra", Value::map(extra)),
        ],
    )
}
