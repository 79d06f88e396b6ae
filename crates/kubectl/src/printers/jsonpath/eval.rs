//! Templates over values. Missing fields are nothing; a bad index is an error.

use serde_json::Value;

use super::{Node, Operand, Step};
use crate::limits;
use crate::object;
use crate::printers::json_line;

type Found<T> = Result<T, String>;

/// What is done with each value that a path finds.
type Sink<'a, 's> = &'s mut dyn FnMut(&mut Search<'a>, &'a Value) -> Found<()>;

/// A template on its way over an object. A value is followed to the end of its path before the next one is looked at,
/// so that nothing is kept of what the steps between have found.
pub struct Search<'a> {
    root: &'a Value,
    /// Values that it may look at yet.
    pub(super) visits: usize,
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
                    let mut before = "";
                    self.each(steps, at, &mut |search, value| {
                        out.push_str(std::mem::replace(&mut before, " "));
                        out.push_str(&shown(value));
                        search.fits(out)
                    })?;
                }
                Node::Range(steps, body) => {
                    self.each(steps, at, &mut |search, value| {
                        search.render(body, value, out)
                    })?;
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
        let most = limits::JSON_PATH_VALUES;
        let mut all = Vec::new();
        self.each(steps, at, &mut |_, value| {
            all.push(value);
            match all.len() > most {
                true => Err(format!("more than {most} values are found")),
                false => Ok(()),
            }
        })?;
        Ok(all)
    }

    /// Hands over the values a path finds.
    fn each(&mut self, steps: &[Step], at: &'a Value, sink: Sink<'a, '_>) -> Found<()> {
        let path: Vec<&Step> = steps.iter().collect();
        self.unions(&path, at, sink)
    }

    /// What one part of a union finds everywhere stands before what the next part finds: each is a path of its own.
    fn unions(&mut self, path: &[&Step], at: &'a Value, sink: Sink<'a, '_>) -> Found<()> {
        let last = path.iter().enumerate().rev();
        let mut unions = last.filter_map(|(i, step)| match step {
            Step::Union(parts) => Some((i, parts)),
            _ => None,
        });
        let Some((i, parts)) = unions.next() else {
            return self.walk(path, at, sink);
        };
        for part in parts {
            self.visit(path.len())?;
            let mut one = path[..i].to_vec();
            one.extend(part);
            one.extend(&path[i + 1..]);
            self.unions(&one, at, &mut *sink)?;
        }
        Ok(())
    }

    /// Counts values that are looked at.
    fn visit(&mut self, values: usize) -> Found<()> {
        let most = limits::JSON_PATH_VISITS;
        let left = self.visits.checked_sub(values);
        self.visits = left.unwrap_or(0);
        left.map(|_| ())
            .ok_or_else(|| format!("more than {most} values are looked at"))
    }

    fn walk(&mut self, path: &[&Step], value: &'a Value, sink: Sink<'a, '_>) -> Found<()> {
        self.visit(1)?;
        let Some((step, rest)) = path.split_first() else {
            return sink(self, value);
        };
        match step {
            Step::Root => self.walk(rest, self.root, sink),
            Step::Field(name) => {
                let found = value.get(name.as_str()).filter(|v| !v.is_null());
                found.map_or(Ok(()), |v| self.walk(rest, v, sink))
            }
            Step::Wildcard => children(value).try_for_each(|v| self.walk(rest, v, &mut *sink)),
            Step::Recursive => self.descend(rest, value, sink),
            Step::Index(i) => {
                let found = indexed(value, *i)?;
                found.map_or(Ok(()), |v| self.walk(rest, v, sink))
            }
            Step::Slice(from, to, by) => {
                let mut found = slice(value, *from, *to, *by)?;
                found.try_for_each(|v| self.walk(rest, v, &mut *sink))
            }
            // Each of its parts is a path of its own.
            Step::Union(_) => Ok(()),
            Step::Filter(left, op, right) => {
                for item in value.as_array().into_iter().flatten() {
                    if self.holds(left, op, right.as_ref(), item)? {
                        self.walk(rest, item, &mut *sink)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// A value and all below it that have something in them, be it letters.
    fn descend(&mut self, rest: &[&Step], value: &'a Value, sink: Sink<'a, '_>) -> Found<()> {
        let is_empty = match value {
            Value::Array(l) => l.is_empty(),
            Value::Object(m) => m.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => true,
        };
        if is_empty {
            return self.visit(1);
        }
        self.walk(rest, value, &mut *sink)?;
        children(value).try_for_each(|v| self.descend(rest, v, &mut *sink))
    }

    fn holds(
        &mut self,
        left: &Operand,
        op: &str,
        right: Option<&Operand>,
        item: &'a Value,
    ) -> Found<bool> {
        let Some(right) = right else {
            return self.exists(left, item);
        };
        let (Some(a), Some(b)) = (self.side(left, item)?, self.side(right, item)?) else {
            return Ok(false);
        };
        let order = match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => Some(object::plain(a).cmp(&object::plain(b))),
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

    fn exists(&mut self, operand: &Operand, item: &'a Value) -> Found<bool> {
        let Operand::Path(steps) = operand else {
            return Ok(true);
        };
        let mut found = false;
        self.each(steps, item, &mut |_, _| {
            found = true;
            Ok(())
        })?;
        Ok(found)
    }

    /// One side of a comparison: one value at most.
    fn side<'s>(&mut self, operand: &'s Operand, item: &'a Value) -> Found<Option<&'s Value>>
    where
        'a: 's,
    {
        let steps = match operand {
            Operand::Literal(v) => return Ok(Some(v)),
            Operand::Path(steps) => steps,
        };
        let mut one = None;
        self.each(steps, item, &mut |_, value| match one.replace(value) {
            Some(_) => Err("can only compare one element at a time".into()),
            None => Ok(()),
        })?;
        Ok(one)
    }
}

/// What is directly within a value.
fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let list = value.as_array().into_iter().flatten();
    let map = value.as_object().into_iter().flat_map(|m| m.values());
    list.chain(map)
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
