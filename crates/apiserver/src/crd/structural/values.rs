//! Values against schemas, in the words of upstream's OpenAPI validator.
//! Upstream: k8s.io/kube-openapi/pkg/validation/{validate,errors},
//! apiextensions-apiserver/pkg/apiserver/validation/{validation,ratcheting}.go.

use machinery::Causes;
use machinery::causes::{Cause, CauseKind, go_float, go_quote, go_text, is_float};
use serde_json::{Map, Value, json};

use super::correlate::Old;
use super::{JsonType, Structural, format};

/// What was found, and how much of a schema a value matched.
#[derive(Debug, Default)]
pub struct Outcome {
    findings: Vec<Finding>,
    matched: usize,
}

#[derive(Clone, Debug)]
struct Finding {
    kind: CauseKind,
    /// Path of the value; empty for the root's.
    name: String,
    value: Option<String>,
    detail: String,
    /// Upstream's text of the error: the same is not told twice.
    text: String,
}

/// Where a value is, and what it was.
struct At<'a> {
    path: &'a str,
    old: Old<'a>,
}

// === Outcome ===

impl Outcome {
    /// Checks a value; what is as it was may go on being wrong.
    pub fn of(s: &Structural, v: &Value, old: Old<'_>) -> Self {
        ratcheted(s, v, &At { path: "", old })
    }

    /// Adds what was found under the current path.
    pub fn report(self, c: &mut Causes) {
        for f in self.findings {
            let name = f.name.trim_start_matches('.');
            let field = match (c.path(), name) {
                ("", "") => "<nil>".to_string(),
                ("", name) => name.to_string(),
                (path, "") => path.to_string(),
                (path, name) => format!("{path}.{name}"),
            };
            c.add(Cause {
                kind: f.kind,
                field,
                value: f.value,
                detail: f.detail,
            });
        }
    }

    fn is_valid(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, finding: Finding) {
        if !self.findings.iter().any(|f| f.text == finding.text) {
            self.findings.push(finding);
        }
    }

    fn merge(&mut self, other: Self) {
        self.matched += other.matched;
        other.findings.into_iter().for_each(|f| self.add(f));
    }

    fn push(
        &mut self,
        kind: CauseKind,
        path: &str,
        value: Option<String>,
        detail: String,
        text: &str,
    ) {
        self.add(Finding {
            kind,
            name: path.into(),
            value,
            detail,
            text: format!("{path} in body {text}"),
        });
    }

    /// An error whose text names the value.
    fn body(&mut self, path: &str, value: &Value, why: &str) {
        let detail = format!("{path} in body {why}");
        self.push(CauseKind::Invalid, path, Some(go_text(value)), detail, why);
    }

    /// A value of another type.
    fn wrong_type(&mut self, path: &str, wanted: &str, found: &str) {
        let why = format!("must be of type {wanted}: {}", go_quote(found));
        let detail = format!("{path} in body {why}");
        self.push(
            CauseKind::TypeInvalid,
            path,
            Some(go_quote(found)),
            detail,
            &why,
        );
    }

    /// An error that upstream tells of the whole.
    fn whole(&mut self, text: String) {
        self.add(Finding {
            kind: CauseKind::Invalid,
            name: String::new(),
            value: Some("\"\"".into()),
            detail: text.clone(),
            text,
        });
    }
}

// === Walk ===

fn ratcheted(s: &Structural, v: &Value, at: &At<'_>) -> Outcome {
    let out = check(s, v, at);
    if !out.is_valid() && at.old.is_known() && at.old.equals(v) {
        return Outcome {
            matched: out.matched,
            ..Outcome::default()
        };
    }
    out
}

fn check(s: &Structural, v: &Value, at: &At<'_>) -> Outcome {
    let mut out = Outcome::default();
    if v.is_null() {
        null(s, at.path, &mut out);
        enumeration(s, v, at.path, &mut out);
        return out;
    }
    let mut run = |applies: bool, f: &dyn Fn(&mut Outcome)| {
        if applies {
            let mut one = Outcome::default();
            f(&mut one);
            out.merge(one);
            out.matched += 1;
        }
    };
    let typed = s.kind.is_some() || s.int_or_string || !s.bounds.format.is_empty();
    run(typed, &|o| kind(s, v, at.path, o));
    run(true, &|o| logic(s, v, at, o));
    if let Value::String(text) = v {
        run(true, &|o| string(s, text, at.path, o));
        run(
            !s.bounds.format.is_empty() && format::is_known(&s.bounds.format),
            &|o| {
                let name = &s.bounds.format;
                if !format::fits(name, text) {
                    o.wrong_type(at.path, name, text);
                }
            },
        );
    }
    run(v.is_number(), &|o| number(s, v, at.path, o));
    if let Value::Array(list) = v {
        run(true, &|o| items(s, list, at, o));
    }
    run(true, &|o| enumeration(s, v, at.path, o));
    if let Value::Object(map) = v {
        run(true, &|o| object(s, map, at, o));
    }
    out.matched += 1;
    out
}

fn type_names(s: &Structural) -> String {
    match s.int_or_string {
        true => "integer,string".into(),
        false => s.type_name().into(),
    }
}

fn null(s: &Structural, path: &str, out: &mut Outcome) {
    let wanted = type_names(s);
    if wanted.is_empty() || s.nullable {
        out.matched += 1;
    } else {
        out.wrong_type(path, &wanted, "null");
    }
}

fn kind(s: &Structural, v: &Value, path: &str, out: &mut Outcome) {
    use JsonType::{Integer, Number, String};
    let wants = |k: JsonType| match s.int_or_string {
        true => k == Integer || k == String,
        false => s.kind == Some(k),
    };
    let (found, found_format) = match v {
        Value::Bool(_) => (JsonType::Boolean, ""),
        Value::Number(n) if is_float(n) => (Number, "float64"),
        Value::Number(_) => (Integer, "int64"),
        Value::Array(_) => (JsonType::Array, ""),
        Value::Object(_) => (JsonType::Object, ""),
        _ => (String, ""),
    };
    let whole_float = found == Number && wants(Integer) && v.as_f64().is_some_and(is_json_integer);
    let fits = wants(found) || whole_float || (found == Integer && wants(Number));
    let format = s.bounds.format.as_str();
    let texts = v.is_string() || v.is_array();
    if !format.is_empty() && !texts && !fits && format != found_format {
        return out.wrong_type(path, format, found_format);
    }
    let by_format = !format.is_empty() && texts && !wants(Number) && !wants(Integer);
    if fits || by_format {
        out.matched += 1;
    } else {
        out.wrong_type(path, &type_names(s), found.name());
    }
}

/// Whether Go's swag takes a float for an integer.
fn is_json_integer(n: f64) -> bool {
    const MAX: f64 = 9_007_199_254_740_991.0;
    n.abs() <= MAX
        && (n.fract() == 0.0 || (n - n.trunc()).abs() / (n.abs() + n.trunc().abs()) < 1e-9)
}

fn string(s: &Structural, text: &str, path: &str, out: &mut Outcome) {
    let b = &s.bounds;
    let length = text.chars().count();
    if let Some(max) = b.max_length.filter(|max| length > *max) {
        let text = format!("should be at most {max} chars long");
        return out.push(CauseKind::TooLong, path, None, too_long(max), &text);
    }
    if let Some(min) = b.min_length.filter(|min| length < *min) {
        return out.body(
            path,
            &json!(text),
            &format!("should be at least {min} chars long"),
        );
    }
    let Some(p) = &b.pattern else { return };
    match &p.compiled {
        Ok(r) if r.is_match(text) => {}
        Ok(_) => out.body(path, &json!(text), &format!("should match '{}'", p.text)),
        Err(e) => {
            let why = format!("should match '{}, but pattern is invalid: {e}'", p.text);
            out.body(path, &json!(text), &why);
        }
    }
}

fn too_long(max: usize) -> String {
    let unit = if max == 1 { "byte" } else { "bytes" };
    format!("may not be more than {max} {unit}")
}

fn too_many(out: &mut Outcome, path: &str, actual: usize, max: usize, what: &str) {
    let unit = if max == 1 { "item" } else { "items" };
    let detail = format!("must have at most {max} {unit}");
    let text = format!("should have at most {max} {what}");
    out.push(
        CauseKind::TooMany,
        path,
        Some(actual.to_string()),
        detail,
        &text,
    );
}

/// Whether a number can be had in a type and format; a text that says why not.
fn in_range(n: &Value, s: &Structural, what: &str, path: &str) -> Result<(), String> {
    let (name, format) = match s.kind {
        Some(k @ (JsonType::Integer | JsonType::Number)) if !s.int_or_string => {
            (k.name(), s.bounds.format.as_str())
        }
        _ => return Ok(()),
    };
    let whole = match n.as_i64() {
        Some(n) => Some(n),
        #[allow(clippy::cast_possible_truncation)] // It is below 2^63.
        None => n
            .as_f64()
            .filter(|f| f.fract() == 0.0 && f.abs() < 9.2e18)
            .map(|f| f as i64),
    };
    let fits = match (name, format) {
        ("integer", "int32") => whole.is_some_and(|n| i32::try_from(n).is_ok()),
        ("integer", _) => whole.is_some(),
        (_, "float") => n.as_f64().is_some_and(|f| f.abs() <= f64::from(f32::MAX)),
        _ => true,
    };
    match (fits, format) {
        (true, _) => Ok(()),
        (false, "") => Err(format!(
            "{what} value must be of type {name} (default format) in {path}"
        )),
        (false, _) => Err(format!(
            "{what} value must be of type {name} with format {format} in {path}"
        )),
    }
}

fn number(s: &Structural, v: &Value, path: &str, out: &mut Outcome) {
    let b = &s.bounds;
    out.matched += 1;
    if let Err(text) = in_range(v, s, "Checked", path) {
        out.whole(text);
    }
    let n = v.as_f64().unwrap_or(0.0);
    // A bound is compared and shown in the type of the value, where it can be had in it.
    let mut bound = |limit: Option<f64>, what: &str, judge: &dyn Fn(Bound) -> Option<String>| {
        let Some(limit) = limit else { return };
        let ranged = in_range(&json!(limit), s, what, path);
        let as_int = ranged.is_ok() && v.is_i64();
        if let Err(text) = ranged {
            out.whole(text);
        }
        let bound = Bound { limit, as_int };
        if let Some(why) = judge(bound) {
            match why.strip_prefix("factor") {
                Some(_) => {
                    let shown = Some(bound.shown());
                    out.push(CauseKind::Invalid, path, shown, why.clone(), &why);
                }
                None => out.body(path, v, &why),
            }
        }
    };
    bound(b.multiple_of, "MultipleOf", &|f| f.multiple(v, n, path));
    let exclusive = b.exclusive_maximum;
    bound(b.maximum, "Maximum boundary", &|m| {
        let over = n > m.value() || (exclusive && n == m.value());
        let than = if exclusive {
            "less than"
        } else {
            "less than or equal to"
        };
        over.then(|| format!("should be {than} {}", m.shown()))
    });
    let exclusive = b.exclusive_minimum;
    bound(b.minimum, "Minimum boundary", &|m| {
        let under = n < m.value() || (exclusive && n == m.value());
        let than = if exclusive {
            "greater than"
        } else {
            "greater than or equal to"
        };
        under.then(|| format!("should be {than} {}", m.shown()))
    });
}

#[derive(Clone, Copy)]
struct Bound {
    limit: f64,
    as_int: bool,
}

impl Bound {
    fn value(self) -> f64 {
        if self.as_int {
            self.limit.trunc()
        } else {
            self.limit
        }
    }

    fn shown(self) -> String {
        match self.as_int {
            true => format!("{:.0}", self.limit.trunc()),
            false => go_float(self.limit),
        }
    }

    fn multiple(self, v: &Value, n: f64, path: &str) -> Option<String> {
        let factor = self.value();
        if factor <= 0.0 {
            return Some(format!(
                "factor MultipleOf declared for {path} must be positive: {}",
                self.shown()
            ));
        }
        let fits = match v.as_i64().filter(|_| self.as_int) {
            #[allow(clippy::cast_possible_truncation)] // In range.
            Some(n) => n % (factor as i64) == 0,
            None if factor < 1.0 => is_json_integer(1.0 / factor * n),
            None => is_json_integer(n / factor),
        };
        (!fits).then(|| format!("should be a multiple of {}", self.shown()))
    }
}

fn enumeration(s: &Structural, v: &Value, path: &str, out: &mut Outcome) {
    let Some(allowed) = &s.bounds.one_of_values else {
        return;
    };
    let same = |a: &Value| match (v, a) {
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64(), y.as_f64());
            // Go converts to the type of what is allowed.
            x == y || (a.is_i64() && x.map(f64::trunc) == y)
        }
        (Value::Number(n), Value::String(text)) => {
            let c = n
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .and_then(char::from_u32);
            c.is_some_and(|c| text.chars().eq([c]))
        }
        _ => v == a && !v.is_null(),
    };
    if allowed.iter().any(same) {
        return;
    }
    let shown = |a: &Value| {
        go_quote(
            &a.as_str()
                .map_or_else(|| machinery::causes::go_json(a), str::to_string),
        )
    };
    let all: Vec<String> = allowed.iter().map(shown).collect();
    let detail = format!("supported values: {}", all.join(", "));
    let text = format!("should be one of {}", all.join(" "));
    out.push(
        CauseKind::NotSupported,
        path,
        Some(go_text(v)),
        detail,
        &text,
    );
}

fn items(s: &Structural, list: &[Value], at: &At<'_>, out: &mut Outcome) {
    if let Some(below) = s.items.as_deref() {
        for (i, item) in list.iter().enumerate() {
            let path = format!("{}[{i}]", at.path);
            let old = at.old.index(item);
            out.merge(ratcheted(below, item, &At { path: &path, old }));
        }
    }
    let size = list.len();
    if let Some(min) = s.bounds.min_items.filter(|min| size < *min) {
        out.body(
            at.path,
            &json!(size),
            &format!("should have at least {min} items"),
        );
    }
    if let Some(max) = s.bounds.max_items.filter(|max| size > *max) {
        too_many(out, at.path, list.len(), max, "items");
    }
    out.matched += 1;
}

fn object(s: &Structural, map: &Map<String, Value>, at: &At<'_>, out: &mut Outcome) {
    let size = map.len();
    if let Some(min) = s.bounds.min_properties.filter(|min| size < *min) {
        out.body(
            at.path,
            &json!(size),
            &format!("should have at least {min} properties"),
        );
    }
    if let Some(max) = s.bounds.max_properties.filter(|max| size > *max) {
        too_many(out, at.path, map.len(), max, "properties");
    }
    let mut below = |name: &str, path: String, schema: &Structural, v: &Value| {
        // Versions and kinds are converted: what they were does not show.
        let hidden = at.path.is_empty() && ["apiVersion", "kind"].contains(&name);
        let old = if hidden {
            Old::default()
        } else {
            at.old.key(name)
        };
        out.merge(ratcheted(schema, v, &At { path: &path, old }));
    };
    let unknown = map.iter().filter(|(k, _)| !s.properties.contains_key(*k));
    for (key, v) in unknown {
        if let Some(schema) = &s.additional {
            below(key, format!("{}.{key}", at.path), schema, v);
        }
    }
    for (name, schema) in &s.properties {
        if let Some(v) = map.get(name) {
            let path = match at.path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            below(name, path, schema, v);
        }
    }
    if s.additional_any == Some(false) {
        for key in map.keys().filter(|k| !s.properties.contains_key(*k)) {
            let detail = format!("{}.{key} in body is a forbidden property", at.path);
            out.push(
                CauseKind::Invalid,
                at.path,
                Some(go_quote(key)),
                detail,
                &format!(".{key} is forbidden"),
            );
        }
    }
    for name in s.required.iter().filter(|n| !map.contains_key(*n)) {
        let path = format!("{}.{name}", at.path);
        out.push(
            CauseKind::Required,
            &path,
            None,
            String::new(),
            "is required",
        );
    }
}

/// The best of several that do not fit: the one that matches most.
fn better(best: Option<Outcome>, other: Outcome) -> Option<Outcome> {
    match best {
        Some(b) if b.matched >= other.matched => Some(b),
        _ => Some(other),
    }
}

fn logic(s: &Structural, v: &Value, at: &At<'_>, out: &mut Outcome) {
    let name = go_quote(at.path);
    if !s.any_of.is_empty() {
        any_of(s, v, at, &name, out);
    }
    if !s.one_of.is_empty() {
        one_of(s, v, at, &name, out);
    }
    if !s.all_of.is_empty() {
        let mut valid = 0;
        for one in &s.all_of {
            let tried = check(one, v, at);
            valid += usize::from(tried.is_valid());
            out.merge(tried);
        }
        if valid < s.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            out.whole(format!(
                "{name} must validate all the schemas (allOf){none}"
            ));
        }
    }
    if let Some(not) = &s.not
        && check(not, v, at).is_valid()
    {
        out.whole(format!("{name} must not validate the schema (not)"));
    }
    out.matched += 1;
}

fn any_of(s: &Structural, v: &Value, at: &At<'_>, name: &str, out: &mut Outcome) {
    let mut best = None;
    for one in &s.any_of {
        let tried = check(one, v, at);
        if tried.is_valid() {
            return out.merge(tried);
        }
        best = better(best, tried);
    }
    out.whole(format!("{name} must validate at least one schema (anyOf)"));
    best.into_iter().for_each(|b| out.merge(b));
}

fn one_of(s: &Structural, v: &Value, at: &At<'_>, name: &str, out: &mut Outcome) {
    let (mut best, mut first, mut valid) = (None, None, 0);
    for one in &s.one_of {
        let tried = check(one, v, at);
        if tried.is_valid() {
            valid += 1;
            best = None;
            first = first.or(Some(tried));
        } else if valid == 0 {
            best = better(best, tried);
        }
    }
    if valid == 1 {
        return first.into_iter().for_each(|f| out.merge(f));
    }
    let found = match valid {
        0 => "Found none valid".to_string(),
        n => format!("Found {n} valid alternatives"),
    };
    out.whole(format!(
        "{name} must validate one and only one schema (oneOf). {found}"
    ));
    best.into_iter().for_each(|b| out.merge(b));
}
