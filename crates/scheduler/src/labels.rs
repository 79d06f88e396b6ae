//! Labels and what is matched against them, compiled once per object.

use std::fmt;

use api::core::v1 as core;
use api::meta;
use api::selector::{LabelSelector, Operator, Requirement};
use serde::{Deserialize, Deserializer, de};

/// Labels in order of their keys: small, and quick to search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(Box<str>, Box<str>)>);

/// Terms of which one must match a node. Upstream: component-helpers nodeaffinity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSelector {
    pub terms: Vec<NodeTerm>,
}

/// One term: everything in it must match. A term without requirements matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTerm {
    labels: LabelSelector,
    /// Node names that `matchFields` asks for (`true`: In) or refuses.
    fields: Vec<(bool, Box<str>)>,
    /// A requirement that cannot be read: the term never matches.
    broken: bool,
}

// === Labels ===

impl Labels {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether a selector matches these labels.
    pub fn satisfy(&self, selector: &LabelSelector) -> bool {
        selector.matches(|k| self.get(k))
    }

    /// All pairs, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }
}

impl<A: Into<Box<str>>, B: Into<Box<str>>> FromIterator<(A, B)> for Labels {
    fn from_iter<I: IntoIterator<Item = (A, B)>>(pairs: I) -> Self {
        let mut all: Vec<_> = pairs
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        all.sort_unstable();
        Self(all)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<M: de::MapAccess<'de>>(self, mut map: M) -> Result<Labels, M::Error> {
                let mut all = Vec::new();
                while let Some(pair) = map.next_entry::<Box<str>, Box<str>>()? {
                    all.push(pair);
                }
                all.sort_unstable();
                Ok(Labels(all))
            }
        }
        d.deserialize_map(Visitor)
    }
}

/// A compiled `metav1.LabelSelector`; `None` where a requirement cannot be read.
pub fn selector(s: &meta::LabelSelector) -> Option<LabelSelector> {
    let mut requirements = Vec::new();
    for (key, value) in s.match_labels.iter().flatten() {
        requirements.push(Requirement {
            key: key.clone(),
            operator: Operator::In(vec![value.clone()]),
        });
    }
    for e in s.match_expressions.iter().flatten() {
        let values = e.values.clone().unwrap_or_default();
        let operator = match e.operator.as_str() {
            "In" => Operator::In(values),
            "NotIn" => Operator::NotIn(values),
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        requirements.push(Requirement {
            key: e.key.clone(),
            operator,
        });
    }
    Some(LabelSelector { requirements })
}

// === NodeSelector ===

impl NodeSelector {
    /// Compiles terms as the API has them.
    pub fn new(terms: &[core::NodeSelectorTerm]) -> Self {
        Self {
            terms: terms.iter().map(NodeTerm::new).collect(),
        }
    }

    /// Whether some term matches a node.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.terms.iter().any(|t| t.matches(name, labels))
    }
}

impl NodeTerm {
    /// Compiles one term.
    pub fn new(term: &core::NodeSelectorTerm) -> Self {
        let mut out = Self::default();
        for e in term.match_expressions.iter().flatten() {
            match node_requirement(e) {
                Some(r) => out.labels.requirements.push(r),
                None => out.broken = true,
            }
        }
        for f in term.match_fields.iter().flatten() {
            let values = f.values.as_deref().unwrap_or_default();
            match (f.key.as_str(), f.operator.as_str(), values) {
                ("metadata.name", "In", [one]) => out.fields.push((true, one.as_str().into())),
                ("metadata.name", "NotIn", [one]) => out.fields.push((false, one.as_str().into())),
                _ => out.broken = true,
            }
        }
        out
    }

    /// Whether the term matches a node.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        !self.broken
            && !self.is_empty()
            && self
                .fields
                .iter()
                .all(|(is, wanted)| (&**wanted == name) == *is)
            && labels.satisfy(&self.labels)
    }

    /// Whether the term has no requirement at all.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && !self.broken
    }

    /// The node names the term allows, where `matchFields` says so. An empty list means a contradiction.
    pub fn node_names(&self) -> Option<Vec<&str>> {
        let mut wanted = self.fields.iter().filter(|(is, _)| *is).map(|(_, n)| &**n);
        let first = wanted.next()?;
        Some(if wanted.all(|n| n == first) {
            vec![first]
        } else {
            Vec::new()
        })
    }
}

fn node_requirement(e: &core::NodeSelectorRequirement) -> Option<Requirement> {
    let values = e.values.clone().unwrap_or_default();
    let number = || values.first().and_then(|v| v.parse::<i64>().ok());
    let operator = match e.operator.as_str() {
        "Gt" => Operator::GreaterThan(number()?),
        "Lt" => Operator::LessThan(number()?),
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return None,
    };
    Some(Requirement {
        key: e.key.clone(),
        operator,
    })
}
