//! The functions of expressions: one table a file, read into one registry at first use. Upstream: cel-go
//! common/stdlib and ext, k8s.io/apiserver/pkg/cel/library, in the versions that Kubernetes 1.37 has on.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::program::EvalError;
use crate::schema;
use crate::types::{self, Type};
use crate::value::Value;

mod address;
pub mod authorizer;
mod collections;
mod convert;
mod format;
mod lists;
mod network;
mod operators;
mod optional;
pub(crate) mod printf;
mod quantity;
pub(crate) mod regex;
mod semver;
mod strings;
pub(crate) mod time;
mod url;

pub use authorizer::{Checks, Immediate, ResourceCheck, Subject, Verdict};

pub(crate) type Answer = Result<Value, EvalError>;
/// Name, `receiver.(arguments) result`, what it does.
pub(crate) type Row = (&'static str, &'static str, fn(&[Value]) -> Answer);

/// One way to call a function.
pub(crate) struct Overload {
    /// Whether the first parameter is a receiver.
    pub member: bool,
    pub params: Vec<Type>,
    pub result: Type,
    pub call: fn(&[Value]) -> Answer,
    /// The minor version of Kubernetes that new expressions may use it from.
    pub since: u32,
}

impl std::fmt::Debug for Overload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} -> {}", self.params, self.result)
    }
}

pub(crate) struct Function {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
}

const TABLES: &[&[Row]] = &[
    operators::TABLE,
    convert::TABLE,
    strings::TABLE,
    printf::TABLE,
    collections::TABLE,
    lists::TABLE,
    optional::TABLE,
    regex::TABLE,
    time::TABLE,
    quantity::TABLE,
    network::TABLE,
    url::TABLE,
    semver::TABLE,
    format::TABLE,
    authorizer::TABLE,
];

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let mut out: HashMap<&'static str, Function> = HashMap::new();
    for (name, signature, call) in TABLES.iter().flat_map(|t| t.iter()) {
        let function = out.entry(name).or_insert_with(|| Function {
            name,
            overloads: Vec::new(),
        });
        let mut overload = overload(signature, *call);
        overload.since = since(name, &overload);
        function.overloads.push(overload);
    }
    out
});

/// Upstream: the versions of k8s.io/apiserver/pkg/cel/environment.
fn since(name: &str, o: &Overload) -> u32 {
    let about = |short: &str| {
        o.params
            .iter()
            .chain([&o.result])
            .any(|t| *t == types::parse(short))
    };
    let numbers = |t: &Type| matches!(t, Type::Int | Type::Uint | Type::Double);
    let lists = [
        "slice",
        "flatten",
        "sort",
        "@sortByAssociatedKeys",
        "lists.range",
        "reverse",
        "distinct",
    ];
    match (name, o.params.as_slice()) {
        ("includes", _) => 37,
        ("fieldSelector" | "labelSelector", _) => 31,
        ("cel.@mapInsert", _) => 32,
        ("format" | "strings.quote", _) => 29,
        (name, _) if name.starts_with("sets.") => 29,
        (name, _) if lists.contains(&name) => 34,
        (name, _) if name.starts_with("optional.") => 28,
        ("first" | "last" | "unwrapOpt", _) | (_, [Type::Optional(_), ..]) => 28,
        ("_[?_]", _) => 28,
        (_, [a, b]) if name.starts_with("_") && numbers(a) && numbers(b) && a != b => 28,
        _ if name == "isSemver" || about("Semver") => 33,
        _ if name.starts_with("format.") || about("Format") => 31,
        _ if ["isIP", "isCIDR", "ip.isCanonical"].contains(&name)
            || about("Ip")
            || about("Cidr") =>
        {
            30
        }
        _ if name == "isQuantity" || about("Quantity") => 28,
        _ if [
            "Authorizer",
            "PathCheck",
            "GroupCheck",
            "ResourceCheck",
            "AuthzDecision",
        ]
        .iter()
        .any(|s| about(s)) =>
        {
            27
        }
        _ => 0,
    }
}

/// The function of a name.
pub(crate) fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.get(name)
}

fn overload(signature: &str, call: fn(&[Value]) -> Answer) -> Overload {
    let (head, result) = signature.split_once(')').unwrap_or((signature, "dyn"));
    let (target, args) = head.split_once('(').unwrap_or(("", head));
    let target = target.strip_suffix('.');
    let mut params: Vec<Type> = target.map(types::parse).into_iter().collect();
    params.extend(split(args).into_iter().map(types::parse));
    Overload {
        member: target.is_some(),
        params,
        result: types::parse(result),
        call,
        since: 0,
    }
}

/// Splits at commas that are not within brackets.
fn split(args: &str) -> Vec<&str> {
    let (mut out, mut depth, mut from) = (Vec::new(), 0, 0);
    for (i, c) in args.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                out.push(&args[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    if !args[from..].trim().is_empty() {
        out.push(&args[from..]);
    }
    out
}

/// The type that a name stands for in an expression.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "type" => Type::Type(Arc::new(Type::Dyn)),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        _ => {
            let (_, full) = types::OPAQUE.iter().find(|(_, full)| *full == name)?;
            Type::Opaque(full)
        }
    })
}

/// Operators answer wrong types without their own name.
pub(crate) fn is_operator(function: &str) -> bool {
    function.starts_with('_') || matches!(function, "!_" | "-_" | "@in")
}

/// Whether a value may be given for a parameter.
pub(crate) fn takes(t: &Type, v: &Value) -> bool {
    match (t, v) {
        (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::Uint(_))
        | (Type::Double, Value::Double(_))
        | (Type::String, Value::String(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Null, Value::Null)
        | (Type::Timestamp, Value::Timestamp(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Map(..), Value::Map(_))
        | (Type::Optional(_), Value::Optional(_))
        | (Type::Type(_), Value::Type(_)) => true,
        // The first element tells overloads of lists apart.
        (Type::List(e), Value::List(l)) => l.items.first().is_none_or(|v| takes(e, v)),
        (Type::Opaque(name), Value::Foreign(f)) => f.type_name() == *name,
        (Type::Dyn | Type::Param(_), _) => true,
        _ => false,
    }
}

pub(crate) fn fail<T>(text: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::of(text))
}

pub(crate) fn none<T>() -> Result<T, EvalError> {
    fail("no such overload")
}

/// A value as Go prints it in messages.
pub(crate) fn shown(v: &Value) -> String {
    match v {
        Value::String(s) => s.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => convert::double_text(*d),
        Value::Bool(b) => b.to_string(),
        Value::Null => "null".to_string(),
        other => {
            schema::to_json(other).map_or_else(|_| other.type_name().to_string(), |j| j.to_string())
        }
    }
}

// Arguments of the types that the tables promise.

pub(crate) fn text(args: &[Value], n: usize) -> Result<&str, EvalError> {
    args.get(n).and_then(Value::as_str).map_or_else(none, Ok)
}

pub(crate) fn int(args: &[Value], n: usize) -> Result<i64, EvalError> {
    match args.get(n) {
        Some(Value::Int(i)) => Ok(*i),
        _ => none(),
    }
}

pub(crate) fn list(args: &[Value], n: usize) -> Result<&Arc<crate::value::List>, EvalError> {
    match args.get(n) {
        Some(Value::List(l)) => Ok(l),
        _ => none(),
    }
}

pub(crate) fn foreign(args: &[Value], n: usize) -> Result<&Foreign, EvalError> {
    match args.get(n) {
        Some(Value::Foreign(f)) => Ok(f),
        _ => none(),
    }
}

/// A value of a Kubernetes library.
#[derive(Debug)]
pub enum Foreign {
    Quantity(api::quantity::Quantity),
    Url(url::Url),
    Ip(std::net::IpAddr),
    Cidr(network::Cidr),
    Semver(semver::Semver),
    Format(&'static format::Format),
    Authorizer(authorizer::Subject),
    PathCheck(authorizer::Subject, String),
    GroupCheck(authorizer::Subject, String),
    ResourceCheck(Box<authorizer::ResourceCheck>),
    Decision(authorizer::Verdict),
    /// A part of an object that is not what its schema says: an error to who reads it, but it is there.
    Invalid(String),
}

impl Foreign {
    /// The type's name.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::PathCheck(..) => "kubernetes.authorization.PathCheck",
            Self::GroupCheck(..) => "kubernetes.authorization.GroupCheck",
            Self::ResourceCheck(_) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
            Self::Invalid(_) => "error",
        }
    }

    /// Whether the value is only there for calls on it.
    pub(crate) fn is_receiver(&self) -> bool {
        matches!(
            self,
            Self::Authorizer(_)
                | Self::PathCheck(..)
                | Self::GroupCheck(..)
                | Self::ResourceCheck(_)
                | Self::Decision(_)
        )
    }

    pub(crate) fn equals(&self, other: &Foreign) -> bool {
        match (self, other) {
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a.order(b) == std::cmp::Ordering::Equal,
            (Self::Format(a), Self::Format(b)) => std::ptr::eq(*a, *b),
            (Self::Decision(a), Self::Decision(b)) => a == b,
            _ => false,
        }
    }

    /// The length of a format's pattern.
    pub(crate) fn pattern_size(&self) -> Option<u64> {
        match self {
            Self::Format(f) => Some(f.pattern_size()),
            _ => None,
        }
    }

    /// Bytes of addresses; 1 for all else.
    pub(crate) fn cost_size(&self) -> u64 {
        match self {
            Self::Ip(ip) => network::size(ip),
            Self::Cidr(c) => u64::from(c.bits).div_ceil(8),
            _ => 1,
        }
    }

    /// The value's own text, if it has one.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Quantity(q) => Some(q.to_string()),
            Self::Url(u) => Some(u.whole.clone()),
            Self::Ip(ip) => Some(ip.to_string()),
            Self::Cidr(c) => Some(c.to_string()),
            Self::Semver(v) => Some(v.to_string()),
            _ => None,
        }
    }
}
