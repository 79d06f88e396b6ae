//! Templates over values. Missing fields are nothing; a bad index is an error.

use serde_json::Value;

use super::{Node, Operand, Step};
use crate::limits;
use crate::object;
use crate::printers::json_line;

type Found<T> = Result<T, String>;

/// Writes a template's text.
pub fn render(nodes: &[Node], root: &Value, at: &Value, out: &mut String) -> Found<()> {
    for node in nodes {
        match node {
            Node::Text(t) => out.push_str(t),
            Node::Path(steps) => {
                let texts: Vec<String> = find(steps, root, at)?.into_iter().map(shown).collect();
                out.push_str(&texts.join(" "));
            }
            Node::Range(steps, body) => {
                for value in find(steps, root, at)? {
                    render(body, root, value, out)?;
                }
            }
        }
    }
    Ok(())
}

fn shown(v: &Value) -> String {
    match v {
        Value::Array(_) | Value::Object(_) => json_line(v),
        other => object::plain(other),
    }
}

/// The values a path finds.
pub fn find<'a>(steps: &[Step], root: &'a Value, at: &'a Value) -> Found<Vec<&'a Value>> {
    let mut now = vec![at];
    for step in steps {
        if *step == Step::Root {
            now = vec![root];
            continue;
        }
        let mut next = Vec::new();
        for value in now {
            advance(step, root, value, &mut next)?;
        }
        if next.len() > limits::JSON_PATH_VALUES {
            return Err(format!(
                "more than {} values are found",
                limits::JSON_PATH_VALUES
            ));
        }
        now = next;
    }
    Ok(now)
}

fn advance<'a>(
    step: &Step,
    root: &'a Value,
    value: &'a Value,
    out: &mut Vec<&'a Value>,
) -> Found<()> {
    match step {
        Step::Root => out.push(root),
        Step::Field(name) => out.extend(value.get(name.as_str()).filter(|v| !v.is_null())),
        Step::Wildcard => match value {
            Value::Array(l) => out.extend(l),
            Value::Object(m) => out.extend(m.values()),
            _ => {}
        },
        Step::Recursive => descend(value, out),
        Step::Index(i) => {
            let Some(list) = value.as_array() else {
                return Ok(());
            };
            let length = list.len();
            let place = if *i < 0 { length as i64 + i } else { *i };
            let found = usize::try_from(place).ok().and_then(|p| list.get(p));
            out.push(found.ok_or_else(|| {
                format!("array index out of bounds: index {place}, length {length}")
            })?);
        }
        Step::Slice(from, to, by) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let length = list.len() as i64;
            let place = |i: i64| (if i < 0 { length + i } else { i }).clamp(0, length) as usize;
            let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(length)));
            let by = usize::try_from(*by)
                .ok()
                .filter(|b| *b > 0)
                .ok_or("step must be > 0")?;
            out.extend(list.get(from..to).unwrap_or_default().iter().step_by(by));
        }
        Step::Union(all) => {
            for steps in all {
                out.extend(find(steps, root, value)?);
            }
        }
        Step::Filter(left, op, right) => {
            for item in value.as_array().into_iter().flatten() {
                if holds(left, op, right.as_ref(), root, item)? {
                    out.push(item);
                }
            }
        }
    }
    Ok(())
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    out.push(value);
    match value {
        Value::Array(l) => l.iter().for_each(|v| descend(v, out)),
        Value::Object(m) => m.values().for_each(|v| descend(v, out)),
        _ => {}
    }
}

fn holds(
    left: &Operand,
    op: &str,
    right: Option<&Operand>,
    root: &Value,
    item: &Value,
) -> Found<bool> {
    let side = |o: &Operand| -> Found<Option<Value>> {
        Ok(match o {
            Operand::Literal(v) => Some(v.clone()),
            Operand::Path(steps) => find(steps, root, item)?.first().map(|v| (*v).clone()),
        })
    };
    let Some(a) = side(left)? else {
        return Ok(false);
    };
    let Some(right) = right else {
        return Ok(true);
    };
    let Some(b) = side(right)? else {
        return Ok(false);
    };
    let order = match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.partial_cmp(&b),
        _ => Some(object::plain(&a).cmp(&object::plain(&b))),
    };
    Ok(order.is_some_and(|o| match op {
        "==" => o.is_eq(),
        "!=" => o.is_ne(),
        "<" => o.is_lt(),
        "<=" => o.is_le(),
        ">" => o.is_gt(),
        _ => o.is_ge(),
    }))
}
