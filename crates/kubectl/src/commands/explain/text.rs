//! The text of a schema.

use serde_json::Value;

use super::wrap::{indent, wrap};
use crate::discovery::Resource;
use crate::error::{Error, Result};
use crate::object;

const WIDTH: usize = 76;
/// Values of an enum that a list of fields shows.
const ENUM_SHOWN: usize = 4;

/// The whole answer for a type and a path of fields.
pub fn render(
    document: &Value,
    resource: &Resource,
    path: &[String],
    recursive: bool,
) -> Result<String> {
    let mut out = String::new();
    if !resource.group.is_empty() {
        out.push_str(&format!("GROUP:      {}\n", resource.group));
    }
    out.push_str(&format!(
        "KIND:       {}\nVERSION:    {}\n\n",
        resource.kind, resource.version
    ));
    let schemas = document.pointer("/components/schemas");
    let is_it = |schema: &&Value| {
        object::items(schema, "/x-kubernetes-group-version-kind")
            .iter()
            .any(|gvk| {
                object::text(gvk, "/group") == resource.group
                    && gvk["version"] == resource.version.as_str()
                    && gvk["kind"] == resource.kind.as_str()
            })
    };
    let found = schemas.and_then(Value::as_object).and_then(|all| {
        let mut all = all.values();
        all.find(is_it)
    });
    let schema = found.ok_or_else(|| {
        Error::text(format!(
            "GVK map[group:{} kind:{} version:{}] not found in OpenAPI schema",
            resource.group, resource.kind, resource.version
        ))
    })?;
    let page = Page {
        document,
        recursive,
    };
    if !page.output(schema, path, &mut Vec::new(), &mut out) {
        print!("{out}");
        let last = path.last().map_or("", String::as_str);
        return Err(Error::text(format!("field \"{last}\" does not exist")));
    }
    out.push('\n');
    Ok(out)
}

struct Page<'a> {
    document: &'a Value,
    recursive: bool,
}

/// What a map's or a list's members are.
fn members(schema: &Value) -> Option<&Value> {
    let map = &schema["additionalProperties"];
    match &schema["items"] {
        Value::Null => map.is_object().then_some(map),
        items => Some(items),
    }
}

impl<'a> Page<'a> {
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let reference = object::text(schema, "/$ref");
        let target = reference.strip_prefix('#').filter(|p| !p.is_empty());
        target
            .and_then(|p| self.document.pointer(p))
            .unwrap_or(schema)
    }

    /// Follows the path and writes what is at its end; whether there is such a field.
    fn output(
        &self,
        schema: &'a Value,
        path: &[String],
        history: &mut Vec<&'a str>,
        out: &mut String,
    ) -> bool {
        let reference = object::text(schema, "/$ref");
        let resolved = self.resolve(schema);
        let Some((field, rest)) = path.split_first() else {
            self.describe(resolved, out);
            return true;
        };
        if !reference.is_empty() && history.contains(&reference) {
            return false;
        }
        history.push(reference);
        if let Some(sub) = resolved["properties"].get(field.as_str()) {
            if rest.is_empty() {
                out.push_str(&format!("FIELD: {field} <{}>\n", self.type_of(sub)));
                out.push_str(&enum_long(sub));
                out.push_str("\n\n");
            }
            return self.output(sub, rest, &mut Vec::new(), out);
        }
        if let Some(inner) = members(resolved) {
            return self.output(inner, path, history, out);
        }
        let all = object::items(resolved, "/allOf");
        all.iter().any(|s| self.output(s, path, history, out))
    }

    fn describe(&self, schema: &'a Value, out: &mut String) {
        let mut text = String::new();
        self.description(schema, &mut text);
        let text = if text.is_empty() {
            "<empty>".into()
        } else {
            text
        };
        out.push_str("DESCRIPTION:\n");
        out.push_str(&indent(&wrap(&text, WIDTH), 4));
        out.push('\n');
        let mut fields = String::new();
        self.fields(schema, 1, &[], &mut fields);
        if !fields.is_empty() {
            out.push_str("FIELDS:\n");
            out.push_str(&fields);
        }
    }

    /// A schema's own description and those of what it is made of.
    fn description(&self, schema: &'a Value, out: &mut String) {
        let resolved = self.resolve(schema);
        let own = object::text(resolved, "/description");
        if !own.is_empty() {
            out.push_str(own);
            out.push('\n');
        }
        for part in object::items(resolved, "/allOf") {
            self.description(part, out);
        }
        for field in ["items", "additionalProperties"] {
            if resolved[field].is_object() {
                self.description(&resolved[field], out);
            }
        }
    }

    fn fields(&self, schema: &'a Value, level: usize, history: &[&'a str], out: &mut String) {
        let reference = object::text(schema, "/$ref");
        if !reference.is_empty() && history.contains(&reference) {
            return;
        }
        let history = [history, &[reference]].concat();
        let resolved = self.resolve(schema);
        let mut all: Vec<(&String, &Value)> = resolved["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .collect();
        all.sort_by_key(|(name, _)| *name);
        for (name, field) in all {
            let required = object::items(resolved, "/required")
                .iter()
                .any(|r| r == name);
            self.field(name, field, required, level, out);
            if self.recursive {
                self.fields(field, level + 1, &history, out);
            }
        }
        for part in object::items(resolved, "/allOf") {
            self.fields(part, level, &history, out);
        }
        for field in ["items", "additionalProperties"] {
            if resolved[field].is_object() {
                self.fields(&resolved[field], level, &history, out);
            }
        }
    }

    fn field(&self, name: &str, field: &'a Value, required: bool, level: usize, out: &mut String) {
        let by = level * 2;
        let mark = if required { " -required-" } else { "" };
        out.push_str(&format!(
            "{}\t<{}>{mark}",
            indent(name, by),
            self.type_of(field)
        ));
        out.push_str(&enum_short(field, by));
        out.push('\n');
        if self.recursive {
            return;
        }
        let text = match object::text(field, "/description") {
            "" => "<no description>",
            text => text,
        };
        out.push_str(&indent(&wrap(text, WIDTH + 2 - by), by + 2));
        out.push_str("\n\n");
    }

    /// `[]Container`, `map[string]string`, `integer`.
    fn type_of(&self, schema: &'a Value) -> String {
        if schema["items"].is_object() {
            return format!("[]{}", self.type_of(&schema["items"]));
        }
        if schema["additionalProperties"].is_object() {
            return format!(
                "map[string]{}",
                self.type_of(&schema["additionalProperties"])
            );
        }
        let all = object::items(schema, "/allOf");
        if let ([one], true) = (all, schema["properties"].is_null()) {
            return self.type_of(one);
        }
        let reference = object::text(schema, "/$ref");
        let own = |s: &Value| match object::text(s, "/type") {
            "" | "object" => "Object".to_string(),
            other => other.to_string(),
        };
        if reference.is_empty() {
            return own(schema);
        }
        let target = self.resolve(schema);
        match object::text(target, "/type") {
            "" | "object" => reference
                .rsplit(['/', '.'])
                .next()
                .unwrap_or("Object")
                .into(),
            other => other.into(),
        }
    }
}

fn enum_values(schema: &Value) -> Vec<String> {
    let text = |v: &Value| match v {
        Value::String(s) if s.is_empty() => "\"\"".to_string(),
        other => object::plain(other),
    };
    object::items(schema, "/enum").iter().map(text).collect()
}

fn enum_short(schema: &Value, by: usize) -> String {
    let values = enum_values(schema);
    if values.is_empty() {
        return String::new();
    }
    let more = if values.len() > ENUM_SHOWN {
        ", ...."
    } else {
        ""
    };
    let shown: Vec<String> = values.into_iter().take(ENUM_SHOWN).collect();
    format!("\n{}enum: {}{more}", " ".repeat(by), shown.join(", "))
}

fn enum_long(schema: &Value) -> String {
    let values = enum_values(schema);
    if values.is_empty() {
        return String::new();
    }
    let lines: String = values.iter().map(|v| format!("\n    {v}")).collect();
    format!("ENUM:{lines}")
}
