//! Types of expressions: how they are written, and which may stand for which. Upstream: cel-go
//! checker/types.go and common/types.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A type as the checker sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Dyn,
    /// The type of what already failed; goes with everything.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    Object(Arc<ObjectType>),
    /// A type of a library, by its full name.
    Opaque(&'static str),
    /// A type parameter of a declaration.
    Param(char),
    /// A parameter of one call, found by the checker.
    Var(u32),
}

/// An object with declared fields.
pub struct ObjectType {
    pub name: String,
    pub fields: BTreeMap<String, Type>,
}

impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for ObjectType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

// === Type ===

impl Type {
    /// `list(element)`.
    pub fn list(element: Type) -> Self {
        Self::List(Arc::new(element))
    }

    /// `map(key, value)`.
    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    /// `optional_type(value)`.
    pub fn optional(value: Type) -> Self {
        Self::Optional(Arc::new(value))
    }

    /// An object type.
    pub fn object(name: &str, fields: Vec<(&str, Type)>) -> Self {
        let fields = fields.into_iter().map(|(n, t)| (n.to_string(), t));
        Self::Object(Arc::new(ObjectType {
            name: name.to_string(),
            fields: fields.collect(),
        }))
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// The type as the checker's messages write it.
    pub(crate) fn in_message(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Timestamp => "timestamp".into(),
            Self::Duration => "duration".into(),
            Self::List(t) => format!("list({})", t.in_message()),
            Self::Map(k, v) => format!("map({}, {})", k.in_message(), v.in_message()),
            Self::Optional(t) => format!("optional_type({})", t.in_message()),
            Self::Type(t) => format!("type({})", t.in_message()),
            t => t.to_string(),
        }
    }

    fn takes_null(&self) -> bool {
        matches!(
            self,
            Self::Null | Self::Object(_) | Self::Timestamp | Self::Duration | Self::Opaque(_)
        )
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Error => f.write_str("!error!"),
            Self::Null => f.write_str("null_type"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("google.protobuf.Timestamp"),
            Self::Duration => f.write_str("google.protobuf.Duration"),
            Self::List(t) => write!(f, "list({t})"),
            Self::Map(k, v) => write!(f, "map({k}, {v})"),
            Self::Optional(t) => write!(f, "optional_type({t})"),
            Self::Type(t) => write!(f, "type({t})"),
            Self::Object(o) => f.write_str(&o.name),
            Self::Opaque(name) => f.write_str(name),
            Self::Param(c) => write!(f, "{c}"),
            Self::Var(n) => write!(f, "_var{n}"),
        }
    }
}

/// What type parameters stand for so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings {
    bound: Vec<Option<Type>>,
}

impl Bindings {
    pub fn fresh(&mut self) -> Type {
        self.bound.push(None);
        Type::Var(u32::try_from(self.bound.len() - 1).unwrap_or(u32::MAX))
    }

    /// The type with everything known put in. Unknown parameters become `dyn` if `close`.
    pub fn resolve(&self, t: &Type, close: bool) -> Type {
        let inner = |t: &Arc<Type>| Arc::new(self.resolve(t, close));
        match t {
            Type::Var(n) => match self.bound.get(*n as usize).and_then(Option::as_ref) {
                Some(t) => self.resolve(t, close),
                None if close => Type::Dyn,
                None => t.clone(),
            },
            Type::List(t) => Type::List(inner(t)),
            Type::Map(k, v) => Type::Map(inner(k), inner(v)),
            Type::Optional(t) => Type::Optional(inner(t)),
            Type::Type(t) => Type::Type(inner(t)),
            _ => t.clone(),
        }
    }

    /// Whether a value of type `actual` may stand where `wanted` is, learning about parameters on the way.
    pub fn assignable(&mut self, wanted: &Type, actual: &Type) -> bool {
        let (wanted, actual) = (self.shallow(wanted), self.shallow(actual));
        match (&wanted, &actual) {
            (a, b) if a == b => true,
            (Type::Var(n), other) | (other, Type::Var(n)) => {
                if self.occurs(*n, other) {
                    return false;
                }
                self.bound[*n as usize] = Some(other.clone());
                true
            }
            (a, b) if a.is_dyn() || b.is_dyn() => true,
            (a, Type::Null) => a.takes_null(),
            (Type::Null, b) => b.takes_null(),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => {
                let (a, b) = (a.clone(), b.clone());
                self.assignable(&a, &b)
            }
            (Type::Map(k, v), Type::Map(l, w)) => {
                let (k, v, l, w) = (k.clone(), v.clone(), l.clone(), w.clone());
                self.assignable(&k, &l) && self.assignable(&v, &w)
            }
            _ => false,
        }
    }

    /// The wider of two types for the elements of an aggregate.
    pub fn join(&mut self, before: &Type, next: &Type) -> Option<Type> {
        let before_binding = self.clone();
        if self.assignable(before, next) {
            let before = self.shallow(before);
            return Some(if next.is_dyn() { Type::Dyn } else { before });
        }
        *self = before_binding;
        None
    }

    fn shallow(&self, t: &Type) -> Type {
        let mut t = t.clone();
        while let Type::Var(n) = t {
            match self.bound.get(n as usize).and_then(Option::as_ref) {
                Some(known) => t = known.clone(),
                None => break,
            }
        }
        t
    }

    fn occurs(&self, n: u32, t: &Type) -> bool {
        match self.shallow(t) {
            Type::Var(m) => m == n,
            Type::List(t) | Type::Optional(t) | Type::Type(t) => self.occurs(n, &t),
            Type::Map(k, v) => self.occurs(n, &k) || self.occurs(n, &v),
            _ => false,
        }
    }
}

/// Reads a type of a function's declaration, such as `map<A,list<string>>`.
pub(crate) fn parse(text: &str) -> Type {
    let text = text.trim();
    if let Some((head, rest)) = text.split_once('<') {
        let inner = rest.strip_suffix('>').unwrap_or(rest);
        return match head {
            "list" => Type::list(parse(inner)),
            "optional" => Type::optional(parse(inner)),
            "type" => Type::Type(Arc::new(parse(inner))),
            _ => {
                let (k, v) = inner.split_once(',').unwrap_or((inner, "dyn"));
                Type::map(parse(k), parse(v))
            }
        };
    }
    match text {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "null" => Type::Null,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "A" => Type::Param('A'),
        "B" => Type::Param('B'),
        _ => OPAQUE
            .iter()
            .find(|(short, _)| *short == text)
            .map_or(Type::Dyn, |(_, full)| Type::Opaque(full)),
    }
}

/// Types of the Kubernetes libraries: the name in our tables, the name in expressions.
pub(crate) const OPAQUE: &[(&str, &str)] = &[
    ("Quantity", "kubernetes.Quantity"),
    ("Url", "kubernetes.URL"),
    ("Ip", "net.IP"),
    ("Cidr", "net.CIDR"),
    ("Semver", "kubernetes.Semver"),
    ("Format", "kubernetes.NamedFormat"),
    ("Authorizer", "kubernetes.authorization.Authorizer"),
    ("PathCheck", "kubernetes.authorization.PathCheck"),
    ("GroupCheck", "kubernetes.authorization.GroupCheck"),
    ("ResourceCheck", "kubernetes.authorization.ResourceCheck"),
    ("AuthzDecision", "kubernetes.authorization.Decision"),
];
