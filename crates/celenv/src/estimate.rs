//! What an expression may cost at most, told from its text and from what is known about the sizes of its variables.
//! Upstream: cel-go checker/cost.go with k8s.io/apiserver/pkg/cel/library/cost.go and ext/lists.go, ext/sets.go.

use std::collections::HashMap;

use crate::cost;
use crate::types::Type;

mod call;
mod sketch;

pub(crate) use sketch::Sketch;
use sketch::{Names, Shape};

/// From the least to the most: of a size or of a cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

/// What is known about the sizes of variables and their parts.
pub trait Sizes {
    /// The size of what lies at a path: a variable, then fields, `@items`, `@keys`, `@values` and `@indices`.
    fn size(&self, path: &[String]) -> Option<Range>;
}

/// Nothing is known: strings, lists and maps of variables have no bounds.
pub struct Unknown;

impl Sizes for Unknown {
    fn size(&self, _: &[String]) -> Option<Range> {
        None
    }
}

// === Range ===

impl Range {
    pub(crate) const UNKNOWN: Self = Self {
        min: 0,
        max: u64::MAX,
    };

    pub(crate) fn fixed(n: u64) -> Self {
        Self { min: n, max: n }
    }

    pub(crate) fn plus(self, o: Self) -> Self {
        Self {
            min: self.min.saturating_add(o.min),
            max: self.max.saturating_add(o.max),
        }
    }

    pub(crate) fn times(self, o: Self) -> Self {
        Self {
            min: self.min.saturating_mul(o.min),
            max: self.max.saturating_mul(o.max),
        }
    }

    /// Rounded up.
    pub(crate) fn factor(self, f: f64) -> Self {
        let one = |n: u64| (n as f64 * f).ceil() as u64;
        Self {
            min: one(self.min),
            max: one(self.max),
        }
    }

    pub(crate) fn union(self, o: Self) -> Self {
        Self {
            min: self.min.min(o.min),
            max: self.max.max(o.max),
        }
    }
}

// === The estimate ===

/// What an expression costs.
pub(crate) fn cost(s: &Sketch, sizes: &dyn Sizes) -> Range {
    let mut e = Estimator {
        sizes,
        known: HashMap::new(),
        scopes: HashMap::new(),
    };
    e.cost(s)
}

/// The sizes of a container's keys and values.
#[derive(Clone, Copy)]
struct Entries {
    is_list: bool,
    key: Range,
    value: Range,
}

/// What was found out about a part.
#[derive(Clone, Default)]
struct Known {
    path: Vec<String>,
    size: Option<Range>,
    entries: Option<Entries>,
}

struct Estimator<'a> {
    sizes: &'a dyn Sizes,
    /// By the part's address.
    known: HashMap<usize, Known>,
    /// Variables of macros, innermost last.
    scopes: HashMap<String, Vec<Known>>,
}

fn at(s: &Sketch) -> usize {
    std::ptr::from_ref(s).addr()
}

fn joined(path: &[String], more: &str) -> Vec<String> {
    let mut out = path.to_vec();
    out.push(more.to_string());
    out
}

impl Estimator<'_> {
    fn cost(&mut self, s: &Sketch) -> Range {
        match &s.shape {
            Shape::Literal { .. } | Shape::Wrong => Range::default(),
            Shape::Ident(name) => {
                let path = match self.local(name) {
                    Some(v) => v.path.clone(),
                    None => vec![name.clone()],
                };
                self.of(s).path = path;
                Range::fixed(cost::SELECT_AND_IDENT)
            }
            Shape::Select { field, test } => self.select(s, field, *test),
            Shape::Call {
                function,
                overloads,
                member,
            } => self.call(s, function, overloads, *member),
            Shape::List => self.list(s),
            Shape::Map => self.map(s),
            Shape::Struct => self.all(&s.below).plus(Range::fixed(cost::STRUCT_CREATE)),
            Shape::Fold(names) => self.fold(s, names),
        }
    }

    fn all(&mut self, parts: &[Sketch]) -> Range {
        parts
            .iter()
            .fold(Range::default(), |sum, p| sum.plus(self.cost(p)))
    }

    fn of(&mut self, s: &Sketch) -> &mut Known {
        self.known.entry(at(s)).or_default()
    }

    fn local(&self, name: &str) -> Option<&Known> {
        self.scopes.get(name)?.last()
    }

    fn path(&self, s: &Sketch) -> Vec<String> {
        if let Shape::Ident(name) = &s.shape
            && let Some(v) = self.local(name)
        {
            return v.path.clone();
        }
        self.known
            .get(&at(s))
            .map_or_else(Vec::new, |k| k.path.clone())
    }

    fn entries(&self, s: &Sketch) -> Option<Entries> {
        if let Some(e) = self.known.get(&at(s)).and_then(|k| k.entries) {
            return Some(e);
        }
        match &s.shape {
            Shape::Ident(name) => self.local(name)?.entries,
            _ => None,
        }
    }

    /// The size of a part, if anything is known about it.
    fn size(&mut self, s: &Sketch) -> Option<Range> {
        if let Some(size) = self.known.get(&at(s)).and_then(|k| k.size) {
            return Some(size);
        }
        match &s.shape {
            Shape::Literal { size, .. } => return Some(Range::fixed(*size)),
            Shape::List => return Some(Range::fixed(s.below.len() as u64)),
            Shape::Map => return Some(Range::fixed(s.below.len() as u64 / 2)),
            _ => {}
        }
        let path = self.path(s);
        if !path.is_empty()
            && let Some(size) = self.sizes.size(&path)
        {
            self.of(s).size = Some(size);
            return Some(size);
        }
        if is_scalar(&s.t) {
            return Some(Range::fixed(1));
        }
        match &s.shape {
            Shape::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, s: &Sketch) -> Range {
        self.size(s).unwrap_or(Range::UNKNOWN)
    }

    fn select(&mut self, s: &Sketch, field: &str, test: bool) -> Range {
        let Some(operand) = s.below.first() else {
            return Range::default();
        };
        let sum = self.cost(operand);
        if test {
            return sum;
        }
        let path = joined(&self.path(operand), field);
        self.of(s).path = path;
        match operand.t {
            Type::Map(..) | Type::Object(_) | Type::Param(_) | Type::Var(_) => {
                sum.plus(Range::fixed(cost::SELECT_AND_IDENT))
            }
            _ => sum,
        }
    }

    /// The sizes of elements together; nothing where there are none.
    fn span<'s>(&mut self, parts: impl Iterator<Item = &'s Sketch>) -> Range {
        let sizes: Vec<Range> = parts.map(|p| self.size_or_unknown(p)).collect();
        sizes.into_iter().reduce(Range::union).unwrap_or_default()
    }

    fn list(&mut self, s: &Sketch) -> Range {
        let sum = self.all(&s.below);
        let value = self.span(s.below.iter());
        self.of(s).entries = Some(Entries {
            is_list: true,
            key: Range::fixed(1),
            value,
        });
        sum.plus(Range::fixed(cost::LIST_CREATE))
    }

    fn map(&mut self, s: &Sketch) -> Range {
        let sum = self.all(&s.below);
        let key = self.span(s.below.iter().step_by(2));
        let value = self.span(s.below.iter().skip(1).step_by(2));
        self.of(s).entries = Some(Entries {
            is_list: false,
            key,
            value,
        });
        sum.plus(Range::fixed(cost::MAP_CREATE))
    }

    fn scoped(&mut self, name: &str, v: Known) {
        self.scopes.entry(name.to_string()).or_default().push(v);
    }

    fn unscoped(&mut self, name: &str) {
        if let Some(stack) = self.scopes.get_mut(name) {
            stack.pop();
        }
    }

    fn fold(&mut self, s: &Sketch, names: &Names) -> Range {
        let [range, init, condition, step, result] = s.below.as_slice() else {
            return Range::default();
        };
        let mut sum = self.cost(range).plus(self.cost(init));
        let accumulator = Known {
            path: self.path(init),
            size: self.size(init),
            entries: self.entries(init),
        };
        self.scoped(&names.accumulator, accumulator);
        let bind = matches!(range.shape, Shape::List)
            && range.below.is_empty()
            && matches!(condition.shape, Shape::Literal { .. })
            && names.accumulator != "@result";
        if bind {
            sum = sum.plus(self.cost(result));
            self.unscoped(&names.accumulator);
            self.copy_sizes(s, result);
            return sum;
        }
        self.push_variables(names, range);
        let turn = self.cost(condition).plus(self.cost(step));
        self.unscoped(&names.first);
        if let Some(second) = &names.second {
            self.unscoped(second);
        }
        sum = sum.plus(self.cost(result));
        self.unscoped(&names.accumulator);
        let turns = self.size_or_unknown(range);
        match init.shape {
            Shape::Literal { .. } => self.of(s).size = self.size(init),
            Shape::List | Shape::Map => {
                self.of(s).size = Some(turns);
                if let Some(entries) = self.entries(step) {
                    self.of(s).entries = Some(entries);
                }
            }
            _ => {}
        }
        sum.plus(turns.times(turn))
    }

    fn push_variables(&mut self, names: &Names, range: &Sketch) {
        let path = self.path(range);
        let entries = self.entries(range);
        let is_list = match entries {
            Some(e) => e.is_list,
            None => matches!(range.t, Type::List(_)),
        };
        let of = |place: &str, size: Option<Range>| Known {
            path: joined(&path, place),
            size,
            entries: None,
        };
        let key = entries.map(|e| e.key);
        let value = entries.map(|e| e.value);
        let Some(second) = &names.second else {
            let first = match is_list {
                true => of("@items", value),
                false => of("@keys", key),
            };
            return self.scoped(&names.first, first);
        };
        let (keys, values) = match is_list {
            true => ("@indices", "@items"),
            false => ("@keys", "@values"),
        };
        self.scoped(&names.first, of(keys, key));
        self.scoped(second, of(values, value));
    }

    fn copy_sizes(&mut self, to: &Sketch, from: &Sketch) {
        if let Some(size) = self.size(from) {
            self.of(to).size = Some(size);
        }
        if let Some(entries) = self.entries(from) {
            self.of(to).entries = Some(entries);
        }
    }
}

fn is_scalar(t: &Type) -> bool {
    match t {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => {
            true
        }
        Type::Optional(t) => is_scalar(t),
        _ => false,
    }
}
