//! Output formats: JSON, YAML, names, JSONPath, Go templates, custom columns, tables.

pub mod custom_columns;
pub mod go_template;
pub mod jsonpath;
pub mod sort;
pub mod table;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::object;
use crate::yaml;

/// A format that prints whole objects.
#[derive(Debug)]
pub enum Printer {
    Json,
    Yaml,
    Name,
    JsonPath(jsonpath::Template),
    /// The values a path finds, as a JSON list.
    JsonPathValues(jsonpath::Template),
    Columns(custom_columns::Columns),
    GoTemplate(Box<go_template::Template>),
}

// === Printer ===

impl Printer {
    /// The printer `-o` names.
    pub fn parse(format: &str, template: Option<&str>) -> Result<Self> {
        let (name, argument) = match format.split_once('=') {
            Some((name, argument)) => (name, Some(argument.to_string())),
            None => (format, template.map(ToString::to_string)),
        };
        let file = |path: Option<String>| {
            let path = path.ok_or_else(|| missing(name))?;
            std::fs::read_to_string(&path)
                .map_err(|e| Error::text(format!("error reading template {path}, {e}")))
        };
        match name {
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            "jsonpath" => jsonpath::Template::parse(&argument.ok_or_else(|| missing(name))?)
                .map(Self::JsonPath),
            "jsonpath-as-json" => {
                jsonpath::Template::parse(&argument.ok_or_else(|| missing(name))?)
                    .map(Self::JsonPathValues)
            }
            "jsonpath-file" => jsonpath::Template::parse(&file(argument)?).map(Self::JsonPath),
            "custom-columns" => {
                let spec = argument.filter(|s| !s.is_empty()).ok_or_else(|| {
                    Error::text("custom-columns format specified but no custom columns given")
                })?;
                custom_columns::Columns::parse(&spec).map(Self::Columns)
            }
            "custom-columns-file" => {
                custom_columns::Columns::parse_file(&file(argument)?).map(Self::Columns)
            }
            "template" | "go-template" if argument.is_none() => Err(Error::text(
                "template format specified but no template given",
            )),
            "go-template" | "template" => {
                let text = argument.unwrap_or_default();
                go_template::Template::parse(&text).map(|t| Self::GoTemplate(Box::new(t)))
            }
            "go-template-file" | "templatefile" => {
                let text = file(argument)?;
                go_template::Template::parse(&text).map(|t| Self::GoTemplate(Box::new(t)))
            }
            "kyaml" => Err(Error::text(format!(
                "output format \"{name}\" is not there yet in this version"
            ))),
            _ => Err(Error::text(format!(
                "unable to match a printer suitable for the output format \"{name}\", allowed formats are: custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,wide,yaml"
            ))),
        }
    }

    /// The text of an object.
    pub fn object(&self, value: &Value, managed_fields: bool) -> Result<String> {
        let mut value = value.clone();
        if !managed_fields {
            strip(&mut value);
        }
        Ok(match self {
            Self::Json => json(&value),
            Self::Yaml => yaml::to_string(&value),
            Self::Name => names(&value),
            Self::JsonPath(t) => t.render(&value)?,
            Self::JsonPathValues(t) => {
                let found = t.values(&value)?.into_iter().cloned().collect();
                json(&Value::Array(found))
            }
            Self::Columns(c) => c.render(&value, false)?,
            Self::GoTemplate(t) => t.render(&value)?,
        })
    }
}

fn missing(name: &str) -> Error {
    Error::text(format!(
        "template format specified but no template given for {name}"
    ))
}

fn strip(value: &mut Value) {
    if let Some(Value::Object(meta)) = value.get_mut("metadata") {
        meta.remove("managedFields");
    }
    if let Some(Value::Array(items)) = value.get_mut("items") {
        items.iter_mut().for_each(strip);
    }
}

fn names(value: &Value) -> String {
    if let Some(Value::Array(items)) = value.get("items") {
        return items.iter().map(names).collect();
    }
    let api_version = object::text(value, "/apiVersion");
    let kind = object::text(value, "/kind").to_lowercase();
    match api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}\n", object::name(value)),
        None => format!("{kind}/{}\n", object::name(value)),
    }
}

/// JSON with four spaces and what HTML minds escaped, as Go writes it.
pub fn json(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    if serde::Serialize::serialize(&sorted(value), &mut serializer).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&out);
    format!("{}\n", html(&text))
}

/// JSON on one line.
pub fn json_line(value: &Value) -> String {
    html(&sorted(value).to_string())
}

fn html(text: &str) -> String {
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// The same value with its keys in order, whatever map the build uses.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(m) => {
            let mut all: Vec<(&String, &Value)> = m.iter().collect();
            all.sort_by_key(|(k, _)| *k);
            Value::Object(
                all.into_iter()
                    .map(|(k, v)| (k.clone(), sorted(v)))
                    .collect(),
            )
        }
        Value::Array(l) => Value::Array(l.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_printed_without_managed_fields() {
        let pod = json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "x", "managedFields": [{}]}, "a": "<b>"});
        let print = |f: &str| {
            Printer::parse(f, None)
                .unwrap()
                .object(&pod, false)
                .unwrap()
        };
        assert_eq!(
            print("json"),
            "{\n    \"a\": \"\\u003cb\\u003e\",\n    \"apiVersion\": \"v1\",\n    \"kind\": \"Pod\",\n    \"metadata\": {\n        \"name\": \"x\"\n    }\n}\n"
        );
        assert_eq!(print("name"), "pod/x\n");
        assert_eq!(print("jsonpath={.metadata.name}"), "x");
        assert_eq!(
            print("yaml"),
            "a: <b>\napiVersion: v1\nkind: Pod\nmetadata:\n  name: x\n"
        );
        assert!(Printer::parse("foo", None).is_err());
    }
}
