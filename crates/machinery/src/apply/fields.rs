//! Sets of field paths, and their `FieldsV1` form. Upstream: structured-merge-diff/fieldpath.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::causes::go_text;

/// One step of a path. Keys and values are kept as canonical JSON, which makes them comparable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// A field of a struct or a key of a map.
    Field(String),
    /// An item of a list with keys: a JSON object of them.
    Key(String),
    /// An item of a set: its JSON.
    Value(String),
    /// An item of a list by its place.
    Index(i64),
}

/// A set of paths as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    members: BTreeSet<Element>,
    /// Never holds an empty set.
    children: BTreeMap<Element, FieldSet>,
}

// === Element ===

impl Element {
    /// A list item's keys.
    pub fn key(keys: &Map<String, Value>) -> Self {
        Self::Key(Value::Object(keys.clone()).to_string())
    }

    /// Of an item that no path leads to: upstream's is empty, and holds what is around the item.
    pub fn nameless() -> Self {
        Self::Key(String::new())
    }

    fn parse(text: &str) -> Result<Option<Self>, String> {
        let Some((kind, rest)) = text.split_once(':') else {
            return Err(format!("missing colon: {text}"));
        };
        Ok(Some(match kind {
            "f" => Self::Field(rest.to_string()),
            "k" => {
                let keys: Map<String, Value> =
                    serde_json::from_str(rest).map_err(|e| e.to_string())?;
                Self::key(&keys)
            }
            "v" => {
                let value: Value = serde_json::from_str(rest).map_err(|e| e.to_string())?;
                Self::Value(value.to_string())
            }
            "i" => Self::Index(rest.parse().map_err(|_| format!("not an index: {rest}"))?),
            // Unknown kinds are ignored, for the sake of newer writers.
            _ => return Ok(None),
        }))
    }

    fn encoded(&self) -> String {
        let (kind, text) = match self {
            Self::Field(name) => ("f:", name),
            Self::Key(keys) => ("k:", keys),
            Self::Value(value) => ("v:", value),
            Self::Index(i) => return format!("i:{i}"),
        };
        [kind, text].concat()
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => {
                let value: Value = serde_json::from_str(value).unwrap_or_default();
                write!(f, "[={}]", shown(&value))
            }
            Self::Index(i) => write!(f, "[{i}]"),
            Self::Key(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let one = |(k, v): (&String, &Value)| format!("{k}={}", shown(v));
                let all: Vec<String> = keys.iter().map(one).collect();
                write!(f, "[{}]", all.join(","))
            }
        }
    }
}

/// A value as paths show it. Upstream: structured-merge-diff/value.ToString.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let all: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", all.join(","))
        }
        Value::Object(map) => {
            let all = map.iter().map(|(k, v)| format!("{k}={}", shown(v)));
            all.collect()
        }
        scalar => go_text(scalar),
    }
}

// === FieldSet ===

impl FieldSet {
    /// The set of one path.
    pub fn of(path: &[Element]) -> Self {
        let mut out = Self::default();
        out.insert(path);
        out
    }

    /// A set of dotted paths of plain fields.
    pub fn dotted(paths: &[&str]) -> Self {
        let mut out = Self::default();
        for path in paths {
            let elements: Vec<Element> = path
                .split('.')
                .map(|p| Element::Field(p.to_string()))
                .collect();
            out.insert(&elements);
        }
        out
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Adds a path; the root is no path.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((last, before)) = path.split_last() else {
            return;
        };
        let mut set = self;
        for e in before {
            set = set.children.entry(e.clone()).or_default();
        }
        set.members.insert(last.clone());
    }

    /// Adds what is below an element at the root, and the element itself where it is a `member`.
    pub(super) fn put(&mut self, e: &Element, member: bool, below: FieldSet) {
        if member {
            self.members.insert(e.clone());
        }
        if !below.is_empty() {
            match self.children.get_mut(e) {
                Some(there) => there.add(below),
                None => {
                    self.children.insert(e.clone(), below);
                }
            }
        }
    }

    /// Whether a path is in the set.
    pub fn has(&self, path: &[Element]) -> bool {
        let Some((last, before)) = path.split_last() else {
            return false;
        };
        let mut set = self;
        for e in before {
            match set.children.get(e) {
                Some(below) => set = below,
                None => return false,
            }
        }
        set.members.contains(last)
    }

    /// Whether an element at the root is a member.
    pub fn has_member(&self, e: &Element) -> bool {
        self.members.contains(e)
    }

    /// What is below an element at the root.
    pub fn below(&self, e: &Element) -> Option<&FieldSet> {
        self.children.get(e)
    }

    /// The elements at the root that have something below.
    pub fn children(&self) -> impl Iterator<Item = (&Element, &FieldSet)> {
        self.children.iter()
    }

    /// Every element at the root, with what is below it.
    pub fn elements(&self) -> impl Iterator<Item = (&Element, Option<&FieldSet>)> {
        let children = self.children.iter().map(|(e, below)| (e, Some(below)));
        let leaves = self.members.iter();
        let leaves = leaves.filter(|e| !self.children.contains_key(*e));
        children.chain(leaves.map(|e| (e, None)))
    }

    /// Adds all of another set.
    pub fn add(&mut self, other: FieldSet) {
        match self.members.is_empty() {
            true => self.members = other.members,
            false => self.members.extend(other.members),
        }
        if self.children.is_empty() {
            self.children = other.children;
            return;
        }
        for (e, below) in other.children {
            self.children.entry(e).or_default().add(below);
        }
    }

    /// What is in either.
    pub fn union(mut self, other: FieldSet) -> FieldSet {
        self.add(other);
        self
    }

    /// What is here and not in another.
    pub fn minus(mut self, other: &FieldSet) -> FieldSet {
        self.subtract(other);
        self
    }

    /// Takes away what is in another.
    pub fn subtract(&mut self, other: &FieldSet) {
        if !other.members.is_empty() {
            self.members.retain(|e| !other.members.contains(e));
        }
        if other.children.is_empty() {
            return;
        }
        self.children.retain(|e, below| {
            if let Some(o) = other.children.get(e) {
                below.subtract(o);
            }
            !below.is_empty()
        });
    }

    /// What is here and neither in another nor below a member of it.
    pub fn without_below(mut self, other: &FieldSet) -> FieldSet {
        self.subtract_below(other);
        self
    }

    fn subtract_below(&mut self, other: &FieldSet) {
        if other.is_empty() {
            return;
        }
        self.members.retain(|e| !other.members.contains(e));
        self.children.retain(|e, below| {
            if other.members.contains(e) {
                return false;
            }
            if let Some(o) = other.children.get(e) {
                below.subtract_below(o);
            }
            !below.is_empty()
        });
    }

    /// What is in both.
    pub fn both(&self, other: &FieldSet) -> FieldSet {
        let members = self.members.intersection(&other.members).cloned().collect();
        self.rebuilt(members, |e, below| match other.children.get(e) {
            Some(o) => below.both(o),
            None => FieldSet::default(),
        })
    }

    /// The same set with `more` members at the root and each child replaced.
    pub(super) fn mapped(
        &self,
        more: impl Iterator<Item = Element>,
        child: impl Fn(&Element, &FieldSet) -> FieldSet,
    ) -> FieldSet {
        let members = self.members.iter().cloned().chain(more).collect();
        self.rebuilt(members, child)
    }

    fn rebuilt(
        &self,
        members: BTreeSet<Element>,
        child: impl Fn(&Element, &FieldSet) -> FieldSet,
    ) -> FieldSet {
        let children = self
            .children
            .iter()
            .map(|(e, below)| (e.clone(), child(e, below)))
            .filter(|(_, below)| !below.is_empty());
        FieldSet {
            members,
            children: children.collect(),
        }
    }

    /// Every path, in order.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
        for e in &self.members {
            let mut path = prefix.clone();
            path.push(e.clone());
            out.push(path);
        }
        for (e, below) in &self.children {
            prefix.push(e.clone());
            below.collect(prefix, out);
            prefix.pop();
        }
    }

    /// From its `FieldsV1` form.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let mut out = Self::default();
        out.read(value, 0)?;
        Ok(out)
    }

    fn read(&mut self, value: &Value, depth: usize) -> Result<bool, String> {
        if depth > crate::limits::FIELDS_DEPTH {
            return Err("nested too deeply".into());
        }
        let Some(map) = value.as_object() else {
            return Err("expected an object".into());
        };
        let mut itself = map.is_empty();
        for (text, below) in map {
            if text == "." {
                itself = true;
                continue;
            }
            let Some(e) = Element::parse(text)? else {
                continue;
            };
            let mut set = FieldSet::default();
            let member = set.read(below, depth + 1)?;
            if set.is_empty() {
                if member {
                    self.members.insert(e);
                }
                continue;
            }
            if member {
                self.members.insert(e.clone());
            }
            self.children.insert(e, set);
        }
        Ok(itself)
    }

    /// Its `FieldsV1` form.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        for e in &self.members {
            if !self.children.contains_key(e) {
                map.insert(e.encoded(), Value::Object(Map::new()));
            }
        }
        for (e, below) in &self.children {
            let mut value = below.to_value();
            if self.members.contains(e)
                && let Some(m) = value.as_object_mut()
            {
                m.insert(".".into(), Value::Object(Map::new()));
            }
            map.insert(e.encoded(), value);
        }
        Value::Object(map)
    }
}

/// A path as messages show it: `.spec.containers[name="c"].image`.
pub fn path_text(path: &[Element]) -> String {
    path.iter().map(Element::to_string).collect()
}
