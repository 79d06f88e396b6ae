//! Templates over values. Missing fields are nothing; a bad index is an error.

use serde_json::Value;

use super::{Node, Operand, Step};
use crate::limits;
use crate::object;
use crate::printers::json_line;

type Found<T> = Result<T, String>;

/// A template on its way over an object.
pub struct Search<'a> {
    root: &'a Value,
    /// Values that it may look at yet.
    visits: usize,
    /// Bytes that it may write in all.
    text: usize,
}

impl<'a> Search<'a> {
    pub fn new(root: &'a Value, text: usize) -> Self {
        Self {
            root,
            visits: limits::JSON_PATH_VISITS,
            text,
        }
    }

    /// Writes a template's text.
    pub fn render(&mut self, nodes: &[Node], at: &'a Value, out: &mut String) -> Found<()> {
        for node in nodes {
            match node {
                Node::Text(t) => out.push_str(t),
                Node::Path(steps) => {
                    for (i, value) in self.find(steps, at)?.into_iter().enumerate() {
                        if i > 0 {
                            out.push(' ');
                        }
                        out.push_str(&shown(value));
                        self.fits(out)?;
                    }
                }
                Node::Range(steps, body) => {
                    for value in self.find(steps, at)? {
                        self.render(body, value, out)?;
                    }
                }
            }
            self.fits(out)?;
        }
        Ok(())
    }

    fn fits(&self, out: &str) -> Found<()> {
        match out.len() > self.text {
            true => Err(format!("more than {} bytes are written", self.text)),
            false => Ok(()),
        }
    }

    /// The values a path finds.
    pub fn find(&mut self, steps: &[Step], at: &'a Value) -> Found<Vec<&'a Value>> {
        let mut now = vec![at];
        for step in steps {
            if *step == Step::Root {
                now = vec![self.root];
                continue;
            }
            let mut next = Vec::new();
            for value in now {
                self.visit(&next)?;
                self.advance(step, value, &mut next)?;
            }
            self.visit(&next)?;
            now = next;
        }
        Ok(now)
    }

    /// Counts a value that is looked at, before it adds to what a step has found.
    fn visit(&mut self, found: &[&Value]) -> Found<()> {
        let most = limits::JSON_PATH_VALUES;
        if found.len() > most {
            return Err(format!("more than {most} values are found"));
        }
        let visits = self.visits.checked_sub(1);
        self.visits = visits.ok_or_else(|| {
            format!(
                "more than {} values are looked at",
                limits::JSON_PATH_VISITS
            )
        })?;
        Ok(())
    }

    fn advance(&mut self, step: &Step, value: &'a Value, out: &mut Vec<&'a Value>) -> Found<()> {
        match step {
            Step::Root => out.push(self.root),
            Step::Field(name) => out.extend(value.get(name.as_str()).filter(|v| !v.is_null())),
            Step::Wildcard => match value {
                Value::Array(l) => out.extend(l),
                Value::Object(m) => out.extend(m.values()),
                _ => {}
            },
            Step::Recursive => self.descend(value, out)?,
            Step::Index(i) => out.extend(indexed(value, *i)?),
            Step::Slice(from, to, by) => out.extend(slice(value, *from, *to, *by)?),
            Step::Union(all) => {
                for steps in all {
                    out.extend(self.find(steps, value)?);
                    self.visit(out)?;
                }
            }
            Step::Filter(left, op, right) => {
                for item in value.as_array().into_iter().flatten() {
                    self.visit(out)?;
                    if self.holds(left, op, right.as_ref(), item)? {
                        out.push(item);
                    }
                }
            }
        }
        Ok(())
    }

    fn descend(&mut self, value: &'a Value, out: &mut Vec<&'a Value>) -> Found<()> {
        self.visit(out)?;
        out.push(value);
        match value {
            Value::Array(l) => l.iter().try_for_each(|v| self.descend(v, out)),
            Value::Object(m) => m.values().try_for_each(|v| self.descend(v, out)),
            _ => Ok(()),
        }
    }

    fn holds(
        &mut self,
        left: &Operand,
        op: &str,
        right: Option<&Operand>,
        item: &'a Value,
    ) -> Found<bool> {
        let mut side = |o: &Operand| -> Found<Option<Value>> {
            Ok(match o {
                Operand::Literal(v) => Some(v.clone()),
                Operand::Path(steps) => self.find(steps, item)?.first().map(|v| (*v).clone()),
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
}

/// The value at an index of a list, from the end where it is negative.
fn indexed(value: &Value, i: i64) -> Found<Option<&Value>> {
    let Some(list) = value.as_array() else {
        return Ok(None);
    };
    let length = list.len();
    let place = if i < 0 {
        (length as i64).saturating_add(i)
    } else {
        i
    };
    let found = usize::try_from(place).ok().and_then(|p| list.get(p));
    let none = || format!("array index out of bounds: index {place}, length {length}");
    found.ok_or_else(none).map(Some)
}

/// The values of a part of a list.
fn slice(
    value: &Value,
    from: Option<i64>,
    to: Option<i64>,
    by: i64,
) -> Found<impl Iterator<Item = &Value>> {
    let list = value.as_array().map_or(&[][..], Vec::as_slice);
    let length = list.len() as i64;
    let place =
        |i: i64| (if i < 0 { length.saturating_add(i) } else { i }).clamp(0, length) as usize;
    let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(length)));
    let by = usize::try_from(by)
        .ok()
        .filter(|b| *b > 0)
        .ok_or("step must be > 0")?;
    Ok(list.get(from..to).unwrap_or_default().iter().step_by(by))
}

fn shown(v: &Value) -> String {
    match v {
        Value::Array(_) | Value::Object(_) => json_line(v),
        other => object::plain(other),
    }
}
