//! Values of a YAML document, and the JSON that they become. Upstream: decode.go, and sigs.k8s.io/yaml.

use std::collections::{BTreeMap, HashSet};

use machinery::causes::{go_float, go_quote};
use serde_json::{Map, Value};

use super::Fault;
use super::parser::{Id, Node, What};
use super::resolve;
use crate::limits;

/// A value as Go's decoder has it.
#[derive(Clone, Debug)]
pub enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    String(String),
    List(Vec<Tree>),
    Map(Fields),
}

type Fields = BTreeMap<Key, Tree>;

/// A key of a map, in the order in which Go prints them: that of its types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Null,
    String(String),
    Int(i64),
    Uint(u64),
    /// Its bits.
    Float(u64),
    Bool(bool),
}

/// Decodes nodes.
pub struct Decoder<'a> {
    nodes: &'a [Node],
    /// Aliases that are being looked into.
    open: HashSet<Id>,
    decoded: usize,
    aliased: usize,
    /// The most that aliases may bring again.
    aliased_max: usize,
    depth: usize,
    /// What strict decoding finds: keys that are set already.
    pub findings: Vec<String>,
}

impl<'a> Decoder<'a> {
    pub fn new(nodes: &'a [Node], aliased_max: usize) -> Self {
        Self {
            nodes,
            open: HashSet::new(),
            // The document is one.
            decoded: 1,
            aliased: 0,
            aliased_max,
            depth: 0,
            findings: Vec::new(),
        }
    }

    /// Counts a node; a document that is mostly aliases is an attack.
    fn count(&mut self) -> Result<(), Fault> {
        self.decoded += 1;
        if !self.open.is_empty() {
            self.aliased += 1;
        }
        #[allow(clippy::cast_precision_loss)] // A ratio.
        let ratio = self.aliased as f64 / self.decoded as f64;
        let much = self.aliased > 100 && self.decoded > 1_000 && ratio > allowed(self.decoded);
        if much || self.aliased > self.aliased_max {
            return Err(Fault("document contains excessive aliasing".into()));
        }
        Ok(())
    }

    pub fn value(&mut self, id: Id) -> Result<Tree, Fault> {
        self.count()?;
        self.depth += 1;
        if self.depth > limits::YAML_DEPTH {
            let max = limits::YAML_DEPTH;
            return Err(Fault(format!("exceeded max depth of {max}")));
        }
        let nodes = self.nodes;
        let value = match &nodes[id].what {
            What::Alias { name, of } => {
                self.enter(id, name)?;
                let value = self.value(*of)?;
                self.open.remove(&id);
                value
            }
            What::Scalar {
                text,
                tag,
                implicit,
            } => match tag.is_empty() && !implicit {
                true => Tree::String(text.clone()),
                false => resolve::scalar(tag, text)?,
            },
            What::Sequence(items) => {
                let items = items.iter().map(|i| self.value(*i));
                Tree::List(items.collect::<Result<_, _>>()?)
            }
            What::Mapping(_) => {
                let mut out = Fields::new();
                self.fields(id, &mut out)?;
                Tree::Map(out)
            }
        };
        self.depth -= 1;
        Ok(value)
    }

    fn enter(&mut self, id: Id, name: &str) -> Result<(), Fault> {
        match self.open.insert(id) {
            true => Ok(()),
            false => Err(Fault(format!("anchor '{name}' value contains itself"))),
        }
    }

    fn fields(&mut self, id: Id, out: &mut Fields) -> Result<(), Fault> {
        let nodes = self.nodes;
        let What::Mapping(pairs) = &nodes[id].what else {
            return Ok(());
        };
        for (key, value) in pairs {
            if is_merge(&nodes[*key]) {
                self.merge(*value, out)?;
                continue;
            }
            let key = key_of(self.value(*key)?)?;
            let line = nodes[*value].line + 1;
            let value = self.value(*value)?;
            if out.contains_key(&key) {
                let shown = key.shown();
                let found = format!("line {line}: key {shown} already set in map");
                self.findings.push(found);
            }
            out.insert(key, value);
        }
        Ok(())
    }

    /// Puts the fields of another map, or of others, into one.
    fn merge(&mut self, id: Id, out: &mut Fields) -> Result<(), Fault> {
        let nodes = self.nodes;
        match &nodes[id].what {
            What::Sequence(items) => items.iter().rev().try_for_each(|i| self.merged(*i, out)),
            _ => self.merged(id, out),
        }
    }

    fn merged(&mut self, id: Id, out: &mut Fields) -> Result<(), Fault> {
        let nodes = self.nodes;
        match &nodes[id].what {
            What::Mapping(_) => {
                self.count()?;
                self.fields(id, out)
            }
            What::Alias { name, of } if matches!(nodes[*of].what, What::Mapping(_)) => {
                self.count()?;
                self.enter(id, name)?;
                self.count()?;
                self.fields(*of, out)?;
                self.open.remove(&id);
                Ok(())
            }
            _ => Err(Fault(
                "map merge requires map or sequence of maps as the value".into(),
            )),
        }
    }
}

/// The share of aliases that a document of so many nodes may have.
fn allowed(decoded: usize) -> f64 {
    const LOW: f64 = 400_000.0;
    const HIGH: f64 = 4_000_000.0;
    #[allow(clippy::cast_precision_loss)] // A ratio.
    let beyond = (decoded as f64 - LOW) / (HIGH - LOW);
    0.99 - 0.89 * beyond.clamp(0.0, 1.0)
}

fn is_merge(node: &Node) -> bool {
    let What::Scalar {
        text,
        tag,
        implicit,
    } = &node.what
    else {
        return false;
    };
    let tagged = tag.strip_prefix(resolve::PREFIX) == Some("merge");
    text == "<<" && (*implicit || tagged)
}

fn key_of(value: Tree) -> Result<Key, Fault> {
    Ok(match value {
        Tree::Null => Key::Null,
        Tree::Bool(b) => Key::Bool(b),
        Tree::Int(n) => Key::Int(n),
        Tree::Uint(n) => Key::Uint(n),
        Tree::Float(n) => Key::Float(n.to_bits()),
        Tree::String(text) => Key::String(text),
        other => return Err(Fault(format!("invalid map key: {}", other.shown()))),
    })
}

impl Key {
    /// Go's `%#v`.
    fn shown(&self) -> String {
        match self {
            Self::Null => "<nil>".into(),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Uint(n) => format!("{n:#x}"),
            Self::Float(bits) => float_shown(f64::from_bits(*bits)),
            Self::String(text) => go_quote(text),
        }
    }

    /// The name of the field that it becomes.
    fn name(&self) -> Result<String, &'static str> {
        Ok(match self {
            Self::Null => return Err("%!s(<nil>)"),
            Self::Uint(_) => return Err("uint64"),
            Self::Float(bits) => match f64::from_bits(*bits) {
                n if n.is_nan() => ".nan".into(),
                n if n.is_infinite() => if n > 0.0 { ".inf" } else { "-.inf" }.into(),
                n => short_float(n),
            },
            Self::String(text) => text.clone(),
            other => other.shown(),
        })
    }
}

/// A number with as many digits as 32 bits have.
#[allow(clippy::cast_possible_truncation)] // As upstream does it.
fn short_float(n: f64) -> String {
    let short = n as f32;
    if short.is_infinite() {
        return if n > 0.0 { ".inf" } else { "-.inf" }.into();
    }
    let digits: f64 = short.to_string().parse().unwrap_or(n);
    match digits {
        // The shortest digits of 32 bits, in the layout of 64.
        0.0 if n.is_sign_negative() => "-0".into(),
        digits => go_float(digits),
    }
}

fn float_shown(n: f64) -> String {
    match n {
        n if n.is_nan() => "NaN".into(),
        n if n.is_infinite() => if n > 0.0 { "+Inf" } else { "-Inf" }.into(),
        n => go_float(n),
    }
}

impl Tree {
    /// Go's `%#v`.
    fn shown(&self) -> String {
        match self {
            Self::Null => "interface {}(nil)".into(),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Uint(n) => format!("{n:#x}"),
            Self::Float(n) => float_shown(*n),
            Self::String(text) => go_quote(text),
            Self::List(items) => {
                let all: Vec<String> = items.iter().map(Self::shown).collect();
                format!("[]interface {{}}{{{}}}", all.join(", "))
            }
            Self::Map(fields) => {
                let one = |(k, v): (&Key, &Self)| match k {
                    Key::Null => format!("interface {{}}(nil):{}", v.shown()),
                    k => format!("{}:{}", k.shown(), v.shown()),
                };
                let all: Vec<String> = fields.iter().map(one).collect();
                format!("map[interface {{}}]interface {{}}{{{}}}", all.join(", "))
            }
        }
    }

    /// As JSON, or why there is none of it. Numbers that JSON does not have are left out.
    pub fn json(self) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(b) => Value::Bool(b),
            Self::Int(n) => n.into(),
            Self::Uint(n) => n.into(),
            Self::Float(n) => super::super::number(n).map_or(Value::Null, Value::Number),
            Self::String(text) => Value::String(text),
            Self::List(items) => {
                let items = items.into_iter().map(Self::json);
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Self::Map(fields) => {
                let mut out = Map::new();
                for (key, value) in fields {
                    let name = key.name().map_err(|kind| {
                        let value = match &value {
                            Self::Null => "<nil>".into(),
                            value => value.shown(),
                        };
                        let key = key.shown();
                        format!("unsupported map key of type: {kind}, key: {key}, value: {value}")
                    })?;
                    out.insert(name, value.json()?);
                }
                Value::Object(out)
            }
        })
    }

    /// The first number that JSON does not have, in the order of its text.
    pub fn odd(&self) -> Option<f64> {
        match self {
            Self::Float(n) => (!n.is_finite()).then_some(*n),
            Self::List(items) => items.iter().find_map(Self::odd),
            Self::Map(fields) => {
                let mut all: Vec<(String, &Self)> = fields
                    .iter()
                    .map(|(k, v)| (k.name().unwrap_or_default(), v))
                    .collect();
                all.sort_by(|a, b| a.0.cmp(&b.0));
                all.iter().find_map(|(_, v)| v.odd())
            }
            _ => None,
        }
    }
}
