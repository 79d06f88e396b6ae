//! What calls cost when they run. Upstream: cel-go interpreter/runtimecost.go and
//! k8s.io/apiserver/pkg/cel/library/cost.go; the factors are those of cel-go common/cost.go.

use cel::common::ast::operators;

use crate::value::Value;

pub(crate) const SELECT_AND_IDENT: u64 = 1;
pub(crate) const LIST_CREATE: u64 = 10;
pub(crate) const MAP_CREATE: u64 = 30;
pub(crate) const STRUCT_CREATE: u64 = 40;
/// Of one check of an authorizer: an expression can pay for two.
const CHECK: u64 = 350_000;
const STRING_TRAVERSAL: f64 = 0.1;
const PATTERN_LENGTH: f64 = 0.25;

fn part(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn traversal(size: u64) -> u64 {
    part(size, STRING_TRAVERSAL)
}

fn pattern(text: u64, pattern: u64) -> u64 {
    traversal(text + 1) * part(pattern, PATTERN_LENGTH)
}

/// What one walk through a value costs. Upstream: `traversalCost`.
fn walk(v: &Value) -> u64 {
    let text = |bytes: usize| (bytes as f64 * STRING_TRAVERSAL) as u64;
    match v {
        Value::String(s) => text(s.len()),
        Value::Bytes(b) => text(b.len()),
        Value::List(l) => l.items.iter().map(walk).sum(),
        Value::Map(m) => m.entries().map(|(k, v)| walk(&k) + walk(v)).sum(),
        _ => 1,
    }
}

/// The cost of a call with these arguments and this result. `one`: whether a single overload was chosen when the
/// expression was checked; the cost of operators and of the standard library's functions goes by it.
pub(crate) fn of_call(function: &str, one: bool, args: &[Value], result: Option<&Value>) -> u64 {
    of_library(function, args, result).unwrap_or_else(|| match function {
        operators::EQUALS | operators::NOT_EQUALS => of_standard(function, args, result),
        _ if one => of_standard(function, args, result),
        _ => 1,
    })
}

fn size(args: &[Value], n: usize) -> u64 {
    args.get(n).map_or(1, Value::cost_size)
}

/// Upstream's `library.CostEstimator`: by the function's name alone.
fn of_library(function: &str, args: &[Value], result: Option<&Value>) -> Option<u64> {
    let size = |n| size(args, n);
    let foreign = |n: usize| matches!(args.get(n), Some(Value::Foreign(_)));
    // Text is parsed first.
    let address = |bytes: u64| match args.get(1) {
        Some(Value::String(_)) => traversal(2 * bytes) + traversal(size(1)),
        _ => traversal(2 * bytes),
    };
    Some(match function {
        "check" => CHECK,
        "fieldSelector" | "labelSelector" => {
            let requirements = part(size(1), 0.5);
            LIST_CREATE + traversal(size(1)) + requirements * (LIST_CREATE + STRUCT_CREATE)
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            args.first().map_or(0, walk)
        }
        "ip" if foreign(0) => 1,
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "ip"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => traversal(size(0)),
        "ip.isCanonical" | "replace" | "split" => part(size(0), 2.0 * STRING_TRAVERSAL),
        "join" => part(result.map_or(1, Value::cost_size), 2.0 * STRING_TRAVERSAL),
        "find" | "findAll" => pattern(size(0), size(1)),
        "containsIP" => address(size(0)),
        "containsCIDR" => address(size(0)) + traversal(size(0)) + 1,
        "validate" => match args.first() {
            Some(Value::Foreign(f)) => pattern(size(1), f.pattern_size()?),
            _ => return None,
        },
        operators::EQUALS if foreign(0) => 1,
        _ => return None,
    })
}

fn new_list(work: u64) -> u64 {
    work.saturating_add(1 + LIST_CREATE)
}

/// Every element with every other.
fn self_compare(list: Option<&Value>) -> u64 {
    let Some(Value::List(l)) = list else {
        return new_list(0);
    };
    let factor = match l.items.first() {
        Some(Value::String(_) | Value::Bytes(_)) => 2.0 + STRING_TRAVERSAL,
        _ => 2.0,
    };
    let n = l.items.len() as u64;
    new_list((n.saturating_mul(n) as f64 * factor) as u64)
}

/// cel-go's own costs.
fn of_standard(function: &str, args: &[Value], result: Option<&Value>) -> u64 {
    let size = |n| size(args, n);
    let texts = matches!(args.first(), Some(Value::String(_) | Value::Bytes(_)));
    match function {
        "startsWith" | "endsWith" => traversal(size(1)),
        "format" | "strings.quote" => traversal(size(0)),
        "bytes" if matches!(args.first(), Some(Value::String(_))) => traversal(size(0)),
        "string" if matches!(args.first(), Some(Value::Bytes(_))) => traversal(size(0)),
        "matches" => pattern(size(0), size(1)),
        "contains" => traversal(size(0)) * traversal(size(1)),
        "sets.contains" | "sets.intersects" => 1 + size(0) * size(1),
        "sets.equivalent" => 1 + 2 * size(0) * size(1),
        "lists.range" | "reverse" | "slice" => new_list(result.map_or(1, Value::cost_size)),
        "flatten" => match args.get(1) {
            Some(Value::Int(depth)) => {
                new_list(size(0).saturating_mul(u64::try_from(*depth).unwrap_or(1)))
            }
            _ => new_list(size(0)),
        },
        "distinct" | "sort" => self_compare(args.first()),
        "@sortByAssociatedKeys" => self_compare(args.get(1)),
        operators::IN if matches!(args.get(1), Some(Value::List(_))) => size(1),
        operators::EQUALS | operators::NOT_EQUALS => traversal(size(0).min(size(1))),
        operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS
            if texts =>
        {
            traversal(size(0).min(size(1)))
        }
        operators::ADD if texts => traversal(size(0) + size(1)),
        _ => 1,
    }
}
