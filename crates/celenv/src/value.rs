//! Values of expressions: cheap to clone, shared between evaluations. Upstream: cel-go common/types.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::library::Foreign;

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<List>),
    Map(Arc<Map>),
    Timestamp(jiff::Timestamp),
    /// Nanoseconds.
    Duration(i64),
    /// A type, by its name.
    Type(Arc<str>),
    Optional(Option<Arc<Value>>),
    /// Of a Kubernetes library.
    Foreign(Arc<Foreign>),
}

/// How the elements of a list are told apart: `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    /// By the values of these fields.
    Map(Arc<[String]>),
}

/// Elements in order.
#[derive(Clone, Debug, Default)]
pub struct List {
    pub items: Vec<Value>,
    pub kind: ListKind,
}

/// Entries by key; an object with fields, if it has a type's name.
#[derive(Clone, Debug, Default)]
pub struct Map {
    pub fields: BTreeMap<Arc<str>, Value>,
    pub others: BTreeMap<Key, Value>,
    pub type_name: Option<Arc<str>>,
    /// Keys are found under their escaped names: `a__dot__b` is `a.b`. Upstream: unescapeMapper of the JWT authenticator.
    pub unescapes: bool,
}

/// A key of a map that is no string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Null,
    Bool(bool),
    /// Whole numbers of any type are one key.
    Number(i128),
    /// The bits of a double that is no whole number.
    Double(u64),
}

// === Value ===

impl Value {
    /// A string.
    pub fn text(s: &str) -> Self {
        Self::String(Arc::from(s))
    }

    /// A list that is compared in order.
    pub fn list(items: Vec<Value>) -> Self {
        Self::List(Arc::new(List {
            items,
            kind: ListKind::Atomic,
        }))
    }

    /// A map or object.
    pub fn map(map: Map) -> Self {
        Self::Map(Arc::new(map))
    }

    /// An object of named fields.
    pub fn object(type_name: &str, fields: Vec<(&str, Value)>) -> Self {
        let fields = fields.into_iter().map(|(n, v)| (Arc::from(n), v));
        Self::map(Map {
            fields: fields.collect(),
            type_name: Some(Arc::from(type_name)),
            ..Map::default()
        })
    }

    /// The name of the value's type, as `type()` and messages show it.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(m) => m.type_name.as_deref().unwrap_or("map"),
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Foreign(f) => f.type_name(),
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// Elements of strings, bytes, lists and maps; 1 for all else. Upstream: `actualSize`.
    pub(crate) fn cost_size(&self) -> u64 {
        let size = match self {
            Self::String(s) => s.chars().count(),
            Self::Bytes(b) => b.len(),
            Self::List(l) => l.items.len(),
            Self::Map(m) if m.type_name.is_none() => m.len(),
            Self::Optional(Some(v)) => return v.cost_size(),
            Self::Foreign(f) => return f.cost_size(),
            _ => 1,
        };
        size as u64
    }

    /// Whether the value is its type's empty one, as `optional.ofNonZeroValue` asks.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(b) => !b,
            Self::Int(i) => *i == 0,
            Self::Uint(i) => *i == 0,
            Self::Double(d) => *d == 0.0,
            Self::String(s) => s.is_empty(),
            Self::Bytes(b) => b.is_empty(),
            Self::List(l) => l.items.is_empty(),
            Self::Map(m) => m.is_empty(),
            Self::Duration(d) => *d == 0,
            Self::Optional(v) => v.is_none(),
            Self::Timestamp(_) | Self::Type(_) | Self::Foreign(_) => false,
        }
    }

    /// `==` of expressions: numbers by amount, other types only with their own.
    pub fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.equals(b),
                _ => false,
            },
            (Self::List(a), Self::List(b)) => a.equals(b),
            (Self::Map(a), Self::Map(b)) => a.equals(b),
            (Self::Foreign(a), Self::Foreign(b)) => a.equals(b),
            (a, b) => matches!(numbers(a, b), Some(Ordering::Equal)),
        }
    }

    /// The order of two values, if their types have one.
    pub fn order(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (a, b) => numbers(a, b),
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::text(s)
    }
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Self::String(Arc::from(s))
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<i64> for Value {
    fn from(i: i64) -> Self {
        Self::Int(i)
    }
}

/// The order of two numbers by amount. Not a number has none.
fn numbers(a: &Value, b: &Value) -> Option<Ordering> {
    let whole = |v: &Value| match v {
        Value::Int(i) => Some(i128::from(*i)),
        Value::Uint(u) => Some(i128::from(*u)),
        _ => None,
    };
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => whole(b).and_then(|b| double_whole(*a, b)),
        (a, Value::Double(b)) => whole(a).and_then(|a| double_whole(*b, a).map(Ordering::reverse)),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn double_whole(a: f64, b: i128) -> Option<Ordering> {
    if a.is_nan() {
        return None;
    }
    // Doubles beyond 128 bits saturate, which orders them rightly.
    let truncated = a.trunc();
    let order = (truncated as i128).cmp(&b);
    Some(order.then_with(|| a.partial_cmp(&truncated).unwrap_or(Ordering::Equal)))
}

// === List ===

impl List {
    /// Upstream compares sets without order, and maps by their keys.
    fn equals(&self, other: &List) -> bool {
        if self.items.len() != other.items.len() {
            return false;
        }
        match (&self.kind, &other.kind) {
            (ListKind::Set, _) | (_, ListKind::Set) => {
                let has = |l: &List, v: &Value| l.items.iter().any(|x| x.equals(v));
                self.items.iter().all(|v| has(other, v)) && other.items.iter().all(|v| has(self, v))
            }
            (ListKind::Map(keys), _) | (_, ListKind::Map(keys)) => self.items.iter().all(|v| {
                let same = |x: &&Value| same_keys(x, v, keys);
                other.items.iter().find(same).is_some_and(|x| x.equals(v))
            }),
            _ => self
                .items
                .iter()
                .zip(&other.items)
                .all(|(a, b)| a.equals(b)),
        }
    }

    /// `+` of lists: atomic ones are put together, sets united, maps overlaid by key.
    pub(crate) fn plus(&self, other: &List) -> List {
        let mut items = self.items.clone();
        match &self.kind {
            ListKind::Atomic => items.extend(other.items.iter().cloned()),
            ListKind::Set => {
                for v in &other.items {
                    if !items.iter().any(|x| x.equals(v)) {
                        items.push(v.clone());
                    }
                }
            }
            ListKind::Map(keys) => {
                for v in &other.items {
                    match items.iter_mut().find(|x| same_keys(x, v, keys)) {
                        Some(x) => *x = v.clone(),
                        None => items.push(v.clone()),
                    }
                }
            }
        }
        List {
            items,
            kind: self.kind.clone(),
        }
    }
}

fn same_keys(a: &Value, b: &Value, keys: &[String]) -> bool {
    let (Value::Map(a), Value::Map(b)) = (a, b) else {
        return false;
    };
    keys.iter().all(|k| {
        let k = crate::schema::escape(k);
        match (a.field(&k), b.field(&k)) {
            (None, None) => true,
            (Some(a), Some(b)) => a.equals(b),
            _ => false,
        }
    })
}

// === Map ===

impl Map {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.fields.len() + self.others.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of a string key.
    pub fn field(&self, name: &str) -> Option<&Value> {
        if self.unescapes
            && let Some(plain) = crate::schema::unescape(name)
        {
            return self.fields.get(plain.as_str());
        }
        self.fields.get(name)
    }

    /// The entry of a key.
    pub fn get(&self, key: &Value) -> Option<&Value> {
        match key {
            Value::String(s) => self.field(s),
            other => self.others.get(&Key::of(other)?),
        }
    }

    /// Sets an entry. Says no if the value cannot be a key.
    pub fn insert(&mut self, key: &Value, value: Value) -> bool {
        match key {
            Value::String(s) => {
                self.fields.insert(s.clone(), value);
            }
            other => {
                let Some(key) = Key::of(other) else {
                    return false;
                };
                self.others.insert(key, value);
            }
        }
        true
    }

    /// Takes an entry away.
    pub(crate) fn remove(&mut self, key: &Value) {
        match key {
            Value::String(s) => {
                self.fields.remove(s);
            }
            other => {
                Key::of(other).map(|k| self.others.remove(&k));
            }
        }
    }

    /// The entries in the order of their keys.
    pub fn entries(&self) -> impl Iterator<Item = (Value, &Value)> {
        let fields = self.fields.iter();
        let fields = fields.map(|(k, v)| (Value::String(k.clone()), v));
        fields.chain(self.others.iter().map(|(k, v)| (k.value(), v)))
    }

    fn equals(&self, other: &Map) -> bool {
        self.len() == other.len()
            && self
                .fields
                .iter()
                .all(|(k, v)| other.field(k).is_some_and(|w| v.equals(w)))
            && self
                .others
                .iter()
                .all(|(k, v)| other.others.get(k).is_some_and(|w| v.equals(w)))
    }
}

// === Key ===

impl Key {
    fn of(v: &Value) -> Option<Self> {
        match v {
            Value::Null => Some(Self::Null),
            Value::Bool(b) => Some(Self::Bool(*b)),
            Value::Int(i) => Some(Self::Number(i128::from(*i))),
            Value::Uint(u) => Some(Self::Number(i128::from(*u))),
            Value::Double(d) if d.trunc() == *d && d.abs() < 9e18 => Some(Self::Number(*d as i128)),
            Value::Double(d) => Some(Self::Double(d.to_bits())),
            _ => None,
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Double(bits) => Value::Double(f64::from_bits(*bits)),
            Self::Bool(b) => Value::Bool(*b),
            Self::Number(n) => match i64::try_from(*n) {
                Ok(i) => Value::Int(i),
                Err(_) => Value::Uint(u64::try_from(*n).unwrap_or(u64::MAX)),
            },
        }
    }
}
