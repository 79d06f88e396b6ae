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
/// Longest pattern of a named format.
const FORMAT_PATTERN: u64 = 128;

fn part(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn traversal(size: u64) -> u64 {
    part(size, STRING_TRAVERSAL)
}

fn pattern(text: u64, pattern: u64) -> u64 {
    traversal(text + 1) * part(pattern, PATTERN_LENGTH)
}

/// The cost of a call with these arguments and this result.
pub(crate) fn of_call(function: &str, args: &[Value], result: Option<&Value>) -> u64 {
    let size = |n: usize| args.get(n).map_or(0, Value::cost_size);
    let foreign = |n: usize| matches!(args.get(n), Some(Value::Foreign(_)));
    match function {
        "check" => CHECK,
        "fieldSelector" | "labelSelector" => {
            let requirements = part(size(1), 0.5);
            LIST_CREATE + traversal(size(1)) + requirements * (LIST_CREATE + STRUCT_CREATE)
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            match args.first() {
                Some(Value::List(_)) => size(0),
                _ => traversal(size(0)),
            }
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
        | "isSemver"
        | "strings.quote" => traversal(size(0)),
        "ip.isCanonical" | "replace" | "split" => part(size(0), 2.0 * STRING_TRAVERSAL),
        "join" => part(result.map_or(1, Value::cost_size), 2.0 * STRING_TRAVERSAL),
        "find" | "findAll" | "matches" => pattern(size(0), size(1)),
        "containsIP" => {
            let text = if !foreign(1) { traversal(size(1)) } else { 0 };
            traversal(2 * size(0)) + text
        }
        "containsCIDR" => {
            let text = if !foreign(1) { traversal(size(1)) } else { 0 };
            traversal(2 * size(0)) + traversal(size(0)) + 1 + text
        }
        "validate" => pattern(size(1), FORMAT_PATTERN),
        "startsWith" | "endsWith" => traversal(size(1)),
        "format" | "bytes" => traversal(size(0)),
        "string" if matches!(args.first(), Some(Value::Bytes(_))) => traversal(size(0)),
        "contains" => traversal(size(0)) * traversal(size(1)),
        "sets.contains" | "sets.intersects" => size(0) * size(1),
        "sets.equivalent" => 2 * size(0) * size(1),
        "lists.range"
        | "flatten"
        | "distinct"
        | "sort"
        | "@sortByAssociatedKeys"
        | "reverse"
        | "slice" => size(0).max(result.map_or(1, Value::cost_size)),
        operators::IN if matches!(args.get(1), Some(Value::List(_))) => size(1),
        operators::EQUALS if foreign(0) => 1,
        operators::EQUALS | operators::NOT_EQUALS => traversal(size(0).min(size(1))),
        operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS
            if matches!(args.first(), Some(Value::String(_) | Value::Bytes(_))) =>
        {
            traversal(size(0).min(size(1)))
        }
        operators::ADD if matches!(args.first(), Some(Value::String(_) | Value::Bytes(_))) => {
            traversal(size(0) + size(1))
        }
        _ => 1,
    }
}
