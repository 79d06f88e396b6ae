//! The estimated cost of calls, and the sizes of what they give back.

use cel::common::ast::operators;

use super::{Estimator, Range, Shape, Sketch, joined};
use crate::cost::{LIST_CREATE, STRUCT_CREATE};
use crate::library::Overload;
use crate::types::Type;

/// Of one walk through a text.
const TRAVERSAL: f64 = 0.1;
const PATTERN: f64 = 0.25;
/// Longest pattern of a named format, and longest name of one.
const FORMAT_PATTERN: f64 = 128.0;
const FORMAT_NAME: u64 = 64;
const CHECK: u64 = 350_000;

/// The cost of a call without its arguments, and the size of its result.
type Estimate = (Range, Option<Range>);

/// A call at hand: the receiver is apart from the arguments.
struct Site<'s> {
    function: &'static str,
    target: Option<&'s Sketch>,
    args: &'s [Sketch],
    costs: Vec<Range>,
}

fn one() -> Estimate {
    (Range::fixed(1), None)
}

fn new_list(factor: f64, size: Range) -> Estimate {
    let cost = size.factor(factor).plus(Range::fixed(1 + LIST_CREATE));
    (cost, Some(size))
}

fn whole(s: &Sketch) -> Option<u64> {
    match s.shape {
        Shape::Literal { whole: Some(i), .. } => Some(u64::try_from(i).unwrap_or(0)),
        _ => None,
    }
}

impl Estimator<'_> {
    pub(super) fn call(
        &mut self,
        s: &Sketch,
        function: &'static str,
        overloads: &[&'static Overload],
        member: bool,
    ) -> Range {
        let (args, target) = match s.below.split_last() {
            Some((target, args)) if member => (args, Some(target)),
            _ => (s.below.as_slice(), None),
        };
        if function == "dyn"
            && let [arg] = args
        {
            let cost = self.cost(arg).plus(Range::fixed(1));
            self.copy_sizes(s, arg);
            return cost;
        }
        let costs = args.iter().map(|a| self.cost(a)).collect();
        let sum = target.map_or(Range::default(), |t| self.cost(t));
        let site = Site {
            function,
            target,
            args,
            costs,
        };
        if overloads.is_empty() {
            // A selection of an optional field.
            let all = site.arguments().plus(Range::fixed(1));
            return sum.plus(all);
        }
        let mut cost: Option<Range> = None;
        let mut size: Option<Range> = None;
        for o in overloads {
            let (this, result) = self.overload(s, &site, o);
            cost = Some(cost.map_or(this, |c| c.union(this)));
            if let Some(result) = result {
                size = Some(size.map_or(result, |s| s.union(result)));
            }
            if let Some(of) = self.element_of(&site, o) {
                size = self.entries(&site.args[0]).map(|e| e.value);
                let path = joined(&self.path(&site.args[0]), of);
                self.of(s).path = path;
            }
            if size.is_none() {
                size = self.size(s);
            }
        }
        if let Some(size) = size {
            self.of(s).size = Some(size);
        }
        sum.plus(cost.unwrap_or_default())
    }

    fn element_of(&self, site: &Site<'_>, o: &Overload) -> Option<&'static str> {
        match (site.function, o.params.first()) {
            (operators::INDEX, Some(Type::List(_))) => Some("@items"),
            (operators::INDEX, Some(Type::Map(..))) => Some("@values"),
            _ => None,
        }
    }

    fn overload(&mut self, s: &Sketch, site: &Site<'_>, o: &Overload) -> Estimate {
        if let Some((cost, size)) = self.of_lists(site, o).or_else(|| self.of_library(site, o)) {
            return (cost.plus(site.arguments()), size);
        }
        self.of_standard(s, site, o)
    }

    /// The size of an argument.
    fn sized(&mut self, s: &Sketch) -> Range {
        self.size_or_unknown(s)
    }

    /// cel-go's libraries of lists and sets.
    fn of_lists(&mut self, site: &Site<'_>, o: &Overload) -> Option<Estimate> {
        Some(match (site.function, site.target, site.args) {
            ("sets.contains" | "sets.intersects" | "sets.equivalent", None, [a, b]) => {
                let factor = if site.function == "sets.equivalent" {
                    2.0
                } else {
                    1.0
                };
                let size = self.sized(a).times(self.sized(b));
                (size.factor(factor).plus(Range::fixed(1)), None)
            }
            ("slice", Some(t), [from, to]) => {
                let end = whole(to).unwrap_or(self.sized(t).max);
                let size = end.wrapping_sub(whole(from).unwrap_or(0));
                new_list(1.0, Range::fixed(size))
            }
            ("lists.range", None, [n]) => new_list(1.0, Range::fixed(whole(n).unwrap_or(u64::MAX))),
            ("reverse", Some(t), []) => new_list(1.0, self.sized(t)),
            ("flatten", Some(t), args) => {
                let depth = args.first().map_or(1, |n| whole(n).unwrap_or(u64::MAX));
                new_list(depth as f64, self.sized(t))
            }
            ("distinct", Some(t), []) => {
                let size = self.sized(t);
                new_list(2.0, size.times(size))
            }
            ("sort", Some(t), []) => self.sort(t, o.params.first()),
            ("@sortByAssociatedKeys", Some(_), [keys]) => self.sort(keys, o.params.get(1)),
            _ => return None,
        })
    }

    fn sort(&mut self, by: &Sketch, t: Option<&Type>) -> Estimate {
        let texts = matches!(t, Some(Type::List(e)) if matches!(**e, Type::String | Type::Bytes));
        let factor = if texts { 2.0 + TRAVERSAL } else { 2.0 };
        let size = self.sized(by);
        new_list(factor, size.times(size))
    }

    /// Kubernetes' libraries.
    fn of_library(&mut self, site: &Site<'_>, o: &Overload) -> Option<Estimate> {
        let walk = |size: Range| size.factor(TRAVERSAL);
        Some(match (site.function, site.target, site.args) {
            ("check", ..) => (Range::fixed(CHECK), None),
            ("fieldSelector" | "labelSelector", _, [text]) => {
                let size = self.sized(text);
                let each = (LIST_CREATE + STRUCT_CREATE) as f64;
                let cost = size.factor(0.5).factor(each).plus(walk(size));
                (cost.plus(Range::fixed(LIST_CREATE)), None)
            }
            (
                "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes",
                Some(t),
                _,
            ) => (self.search(site.function, t), None),
            ("url" | "jsonpatch.escapeKey", _, [text]) => {
                let size = self.sized(text);
                (walk(size), Some(size))
            }
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(t), _) => {
                let size = self.sized(t);
                (walk(size), Some(size))
            }
            ("replace", Some(t), [old, new, ..]) => self.replace(t, old, new),
            ("split", Some(t), args) => {
                let size = self.sized(t);
                let limit = args.get(1).and_then(|n| match n.shape {
                    Shape::Literal { whole, .. } => whole.map(|i| i as u64),
                    _ => None,
                });
                let max = limit.unwrap_or(size.max);
                (size.factor(2.0 * TRAVERSAL), Some(Range { min: 0, max }))
            }
            ("join", Some(t), args) => self.join(t, args.first()),
            ("find" | "findAll", Some(t), [pattern, ..]) => {
                let size = self.sized(t);
                let text = walk(size.plus(Range::fixed(1)));
                let pattern = self.sized(pattern).factor(PATTERN);
                let result = Range {
                    min: 0,
                    max: size.max,
                };
                (text.times(pattern), Some(result))
            }
            ("ip", Some(_), []) => one(),
            (
                "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver"
                | "isSemver",
                None,
                [text, ..],
            ) => (walk(self.sized(text)), None),
            ("ip.isCanonical", _, [text]) => (self.sized(text).factor(2.0 * TRAVERSAL), None),
            ("containsIP" | "containsCIDR", _, [other]) => {
                let size = Range { min: 4, max: 16 };
                let mut cost = walk(size.plus(size));
                if site.function == "containsCIDR" {
                    cost = cost.plus(walk(size)).plus(Range::fixed(1));
                }
                if matches!(o.params.get(1), Some(Type::String)) {
                    cost = cost.plus(walk(self.sized(other)));
                }
                (cost, None)
            }
            ("validate", _, [text]) => {
                let cost = walk(self.sized(text)).factor(FORMAT_PATTERN * PATTERN);
                (cost, None)
            }
            (operators::EQUALS, _, [a, b]) if a.t == b.t => return self.equal(&a.t, b),
            _ => return None,
        })
    }

    /// Types of libraries are compared in their own ways.
    fn equal(&mut self, t: &Type, right: &Sketch) -> Option<Estimate> {
        let Type::Opaque(name) = t else {
            return None;
        };
        Some(match *name {
            "kubernetes.NamedFormat" => {
                let size = Range {
                    min: 1,
                    max: FORMAT_NAME,
                };
                (size.factor(TRAVERSAL), None)
            }
            "kubernetes.URL" => {
                let max = self.size(right).map_or(1, |s| s.max);
                (Range { min: 1, max }.factor(TRAVERSAL), None)
            }
            _ => one(),
        })
    }

    /// Element by element, and the text of each.
    fn search(&mut self, function: &str, t: &Sketch) -> Range {
        let element = match &t.t {
            Type::List(e) | Type::Map(e, _) | Type::Optional(e) => Some(e.as_ref().clone()),
            _ => None,
        };
        let size = self.sized(t);
        let Some(element) = element else {
            return match function {
                "includes" => size,
                _ => size.factor(TRAVERSAL),
            };
        };
        let mut each = Range::fixed(1);
        if matches!(element, Type::String | Type::Bytes) {
            each = each.plus(self.element(t).factor(TRAVERSAL));
        }
        size.times(each)
    }

    /// The size of a list's elements, as far as the schema tells.
    fn element(&mut self, list: &Sketch) -> Range {
        let path = self.path(list);
        if path.is_empty() {
            return Range::UNKNOWN;
        }
        let path = joined(&path, "@items");
        self.sizes.size(&path).unwrap_or(Range::UNKNOWN)
    }

    fn replace(&mut self, t: &Sketch, old: &Sketch, new: &Sketch) -> Estimate {
        let (size, old, new) = (self.sized(t), self.sized(old), self.sized(new));
        let (mut count, mut kept) = (Range::default(), Range::default());
        let rounds = |n: u64, by: u64| (n as f64 / by as f64).ceil() as u64;
        if old.min == 0 {
            count.max = size.max.saturating_add(1);
            kept.max = size.max;
        } else if new.max <= old.min {
            kept.max = size.max;
        } else {
            count.max = rounds(size.max, old.min);
        }
        if old.max == 0 {
            count.min = size.min.saturating_add(1);
            kept.min = size.min;
        } else if old.max <= new.min {
            kept.min = size.min;
        } else {
            count.min = rounds(size.min, old.max);
        }
        let result = count.times(new).plus(kept);
        (size.factor(2.0 * TRAVERSAL), Some(result))
    }

    fn join(&mut self, t: &Sketch, by: Option<&Sketch>) -> Estimate {
        let count = self.sized(t);
        let mut size = match t.t {
            Type::List(_) => count.times(self.element(t)),
            _ => Range::default(),
        };
        if let Some(by) = by {
            let gaps = Range {
                min: count.min.saturating_sub(1),
                max: count.max.saturating_sub(1),
            };
            size = size.plus(self.sized(by).times(gaps));
        }
        (size.factor(TRAVERSAL), Some(size))
    }

    /// cel-go's own functions: costs with those of the arguments.
    fn of_standard(&mut self, s: &Sketch, site: &Site<'_>, o: &Overload) -> Estimate {
        let sum = site.arguments();
        let texts = matches!(o.params.first(), Some(Type::String | Type::Bytes));
        match (site.function, site.target, site.args) {
            ("format", Some(t), _) => (self.size_or_unknown(t).factor(TRAVERSAL).plus(sum), None),
            ("bytes", _, [a]) if matches!(o.params[0], Type::String) => {
                let size = self.size_or_unknown(a);
                let result = Range {
                    min: size.min,
                    max: size.max.wrapping_mul(4),
                };
                (size.factor(TRAVERSAL).plus(sum), Some(result))
            }
            ("string", _, [a]) if matches!(o.params[0], Type::Bytes) => {
                let size = self.size_or_unknown(a);
                let result = Range {
                    min: size.min / 4,
                    max: size.max,
                };
                (size.factor(TRAVERSAL).plus(sum), Some(result))
            }
            ("strings.quote", _, [a]) => {
                let size = self.size_or_unknown(a);
                let result = Range {
                    min: size.min.wrapping_add(2),
                    max: size.max.wrapping_mul(2).wrapping_add(2),
                };
                (size.factor(TRAVERSAL).plus(sum), Some(result))
            }
            ("startsWith" | "endsWith", _, [a]) => {
                (self.size_or_unknown(a).factor(TRAVERSAL).plus(sum), None)
            }
            (operators::IN, _, [_, l]) if matches!(o.params.get(1), Some(Type::List(_))) => {
                (self.size_or_unknown(l).plus(sum), None)
            }
            ("matches", Some(t), [p]) | ("matches", None, [t, p]) => {
                let text = self.size_or_unknown(t).plus(Range::fixed(1));
                let pattern = self.size_or_unknown(p).factor(PATTERN);
                (text.factor(TRAVERSAL).times(pattern).plus(sum), None)
            }
            ("contains", Some(t), [p]) => {
                let text = self.size_or_unknown(t).factor(TRAVERSAL);
                let part = self.size_or_unknown(p).factor(TRAVERSAL);
                (text.times(part).plus(sum), None)
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, ..) => {
                let min = site.costs.first().map_or(0, |c| c.min);
                (Range { min, max: sum.max }, None)
            }
            (operators::CONDITIONAL, _, [_, yes, no]) => self.conditional(s, site, yes, no),
            (operators::ADD, _, [a, b]) if texts || matches!(o.params[0], Type::List(_)) => {
                let size = self.size_or_unknown(a).plus(self.size_or_unknown(b));
                self.unite_entries(s, a, b);
                let cost = if texts {
                    size.factor(TRAVERSAL)
                } else {
                    Range::fixed(1)
                };
                (cost.plus(sum), Some(size))
            }
            (
                operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS,
                _,
                [a, b],
            ) if texts => (self.compare(a, b).plus(sum), None),
            (operators::EQUALS | operators::NOT_EQUALS, _, [a, b]) => {
                (self.compare(a, b).plus(sum), None)
            }
            _ => (Range::fixed(1).plus(sum), None),
        }
    }

    fn compare(&mut self, a: &Sketch, b: &Sketch) -> Range {
        let max = self.size_or_unknown(a).max.min(self.size_or_unknown(b).max);
        let min = u64::from(max > 0);
        Range { min, max }.factor(TRAVERSAL)
    }

    fn conditional(&mut self, s: &Sketch, site: &Site<'_>, yes: &Sketch, no: &Sketch) -> Estimate {
        let size = self.size_or_unknown(yes).union(self.size_or_unknown(no));
        self.unite_entries(s, yes, no);
        let [test, a, b] = site.costs.as_slice() else {
            return one();
        };
        (test.plus(a.union(*b)), Some(size))
    }

    fn unite_entries(&mut self, s: &Sketch, a: &Sketch, b: &Sketch) {
        if let (Some(a), Some(b)) = (self.entries(a), self.entries(b)) {
            self.of(s).entries = Some(super::Entries {
                is_list: a.is_list,
                key: a.key.union(b.key),
                value: a.value.union(b.value),
            });
        }
    }
}

impl Site<'_> {
    /// The cost of all arguments; the receiver's comes beside.
    fn arguments(&self) -> Range {
        self.costs
            .iter()
            .fold(Range::default(), |sum, c| sum.plus(*c))
    }
}
