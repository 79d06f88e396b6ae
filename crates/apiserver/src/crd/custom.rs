//! The descriptors of what a CRD defines: one for each served version.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, OnceLock};

use jiff::Timestamp;
use machinery::apply::Model;
use machinery::causes::{Cause, go_float, is_float};
use machinery::object::{bool_at, i64_at, list_at, map_at, set, str_at};
use machinery::strategy::{human_duration, keep};
use machinery::{
    Causes, Column, Converter, Descriptor, Row, Scope, Strategy, Subresource, SubresourceKind,
    WriteContext,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use webhook::Caller;

use super::convert::ConversionWebhook;
use super::jsonpath::JsonPath;
use super::structural::{Check, Structural};
use super::validation::preserves;
use crate::decode::number;
use crate::limits;

/// One version of a custom resource.
pub struct Custom {
    group: String,
    version: String,
    kind: String,
    stored_version: String,
    schema: Arc<Schema>,
    /// Of all versions, those that are not served too: objects may be stored in any.
    schemas: Schemas,
    status: bool,
    scale: Option<SubresourceKind>,
    terminating: bool,
    columns: Vec<PrinterColumn>,
    selectable: Vec<(&'static str, JsonPath)>,
    selectable_keys: Vec<&'static str>,
    deprecation: Option<String>,
    converter: Option<Arc<dyn Converter>>,
    /// Whether objects may be stored as another version, or of another schema.
    was_other: bool,
    /// Whether objects keep what no schema names, as old definitions want it.
    preserves: bool,
}

/// A version's schema: its text, and what is made of that when it is first asked for. Most definitions of a cluster are
/// never used, and what is made takes up many times the text.
struct Schema {
    text: Box<str>,
    /// Whether the version has the subresource `status`.
    status: bool,
    made: OnceLock<Box<Made>>,
}

/// Whose an object says that it is: upstream's decoder goes by that.
enum Said<'a> {
    /// Of another group or kind.
    Other,
    /// A version of this kind.
    Version(&'a Structural),
    /// A version that this kind does not have.
    NoVersion,
}

struct Made {
    structural: Structural,
    model: Model,
}

/// The schemas of a CRD's versions, by version.
type Schemas = Arc<HashMap<String, Arc<Schema>>>;

struct PrinterColumn {
    column: Column,
    path: JsonPath,
}

/// The descriptors of a CRD's served versions, whose conversion webhook is called so. An error names what is wrong
/// with the CRD.
pub fn descriptors(crd: &Value, caller: Option<&Caller>) -> Result<Vec<Descriptor>, String> {
    let converter = caller.and_then(|c| ConversionWebhook::of(crd, c));
    let converter = converter.map(|c| Arc::new(c) as Arc<dyn Converter>);
    let all = list_at(crd, "spec.versions");
    let preserves = preserves(crd);
    let schemas = all.iter().map(|v| {
        let schema = Schema::of(v, preserves);
        (str_at(v, "name").to_string(), Arc::new(schema))
    });
    let schemas: Schemas = Arc::new(schemas.collect());
    all.iter()
        .filter(|v| bool_at(v, "served") == Some(true))
        .map(|v| descriptor(crd, v, &schemas, converter.clone()))
        .collect()
}

/// The version that is stored.
pub fn stored_version(crd: &Value) -> &str {
    let mut all = list_at(crd, "spec.versions").iter();
    all.find(|v| bool_at(v, "storage") == Some(true))
        .map_or("", |v| str_at(v, "name"))
}

fn descriptor(
    crd: &Value,
    version: &Value,
    schemas: &Schemas,
    converter: Option<Arc<dyn Converter>>,
) -> Result<Descriptor, String> {
    let names = |field: &str| str_at(crd, &format!("status.acceptedNames.{field}")).to_string();
    let list = |field: &str| {
        let all = list_at(crd, &format!("status.acceptedNames.{field}")).iter();
        all.filter_map(Value::as_str)
            .map(|s| s.to_string().into())
            .collect()
    };
    let group = str_at(crd, "spec.group").to_string();
    let mut custom = custom(crd, version, schemas)?;
    custom.converter = converter;
    let scope = match str_at(crd, "spec.scope") {
        "Namespaced" => Scope::Namespaced,
        _ => Scope::Cluster,
    };
    let mut subresources = Vec::new();
    if custom.status {
        subresources.push(Subresource {
            name: "status".into(),
            kind: SubresourceKind::Status,
        });
    }
    if let Some(kind) = custom.scale.clone() {
        subresources.push(Subresource {
            name: "scale".into(),
            kind,
        });
    }
    let plural = names("plural");
    Ok(Descriptor {
        version: str_at(version, "name").to_string().into(),
        kind: names("kind").into(),
        list_kind: names("listKind").into(),
        singular: names("singular").into(),
        short_names: list("shortNames"),
        categories: list("categories"),
        scope,
        verbs: machinery::descriptor::ALL_VERBS,
        subresources,
        strategy: Arc::new(custom),
        allocators: Vec::new(),
        storage_prefix: format!("{group}/{plural}").into(),
        stored: true,
        group: group.into(),
        resource: plural.into(),
    })
}

fn scale_of(version: &Value) -> Option<SubresourceKind> {
    map_at(version, "subresources.scale")?;
    let path = |field: &str| {
        let text = str_at(version, &format!("subresources.scale.{field}"));
        text.trim_start_matches('.').to_string().into()
    };
    Some(SubresourceKind::Scale {
        spec: path("specReplicasPath"),
        status: path("statusReplicasPath"),
        selector: path("labelSelectorPath"),
    })
}

fn custom(crd: &Value, version: &Value, schemas: &Schemas) -> Result<Custom, String> {
    let name = str_at(version, "name").to_string();
    let schema = schemas.get(&name).ok_or("a version without a schema")?;
    let columns = list_at(version, "additionalPrinterColumns");
    let columns = columns
        .iter()
        .map(printer_column)
        .collect::<Result<Vec<_>, _>>()?;
    let mut selectable = Vec::new();
    for field in list_at(version, "selectableFields") {
        let path = str_at(field, "jsonPath");
        selectable.push((
            interned(path.trim_start_matches('.'))?,
            JsonPath::parse(path)?,
        ));
    }
    let kind = str_at(crd, "spec.names.kind").to_string();
    let group = str_at(crd, "spec.group").to_string();
    let deprecation = (bool_at(version, "deprecated") == Some(true)).then(|| {
        match str_at(version, "deprecationWarning") {
            "" => match newer(crd, &name) {
                Some(other) => {
                    format!("{group}/{name} {kind} is deprecated; use {group}/{other} {kind}")
                }
                None => format!("{group}/{name} {kind} is deprecated"),
            },
            text => text.to_string(),
        }
    });
    Ok(Custom {
        group,
        version: name,
        kind,
        stored_version: stored_version(crd).to_string(),
        schema: schema.clone(),
        schemas: schemas.clone(),
        status: schema.status,
        scale: scale_of(version),
        terminating: machinery::object::is_deleting(crd),
        columns,
        selectable_keys: selectable.iter().map(|(k, _)| *k).collect(),
        selectable,
        deprecation,
        converter: None,
        was_other: schemas.len() > 1 || i64_at(crd, "metadata.generation").is_some_and(|n| n > 1),
        preserves: preserves(crd),
    })
}

/// The newest served version that is not deprecated, where it is above a version.
fn newer<'a>(crd: &'a Value, than: &str) -> Option<&'a str> {
    let priority = crate::discovery::priority;
    let served = list_at(crd, "spec.versions")
        .iter()
        .filter(|v| bool_at(v, "served") == Some(true) && bool_at(v, "deprecated") != Some(true));
    let names = served.map(|v| str_at(v, "name"));
    let newer = names.filter(|n| priority(n) > priority(than));
    newer.max_by_key(|n| priority(n))
}

fn printer_column(c: &Value) -> Result<PrinterColumn, String> {
    let path = str_at(c, "jsonPath");
    let description = match str_at(c, "description") {
        "" => format!("Custom resource definition column (in JSONPath format): {path}"),
        text => text.to_string(),
    };
    let column = Column {
        name: str_at(c, "name").into(),
        kind: str_at(c, "type").into(),
        format: str_at(c, "format").into(),
        priority: c
            .get("priority")
            .and_then(Value::as_i64)
            .and_then(|p| i32::try_from(p).ok())
            .unwrap_or(0),
        description,
    };
    Ok(PrinterColumn {
        column,
        path: JsonPath::parse(path)?,
    })
}

/// A name that lives as long as the process: selectors name fields by static texts. Each name is
/// kept once, and their number is bounded.
fn interned(name: &str) -> Result<&'static str, String> {
    static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES.lock();
    if let Some(known) = names.get(name) {
        return Ok(known);
    }
    if names.len() >= limits::SELECTABLE_NAMES {
        return Err("too many different selectable fields".into());
    }
    let kept: &'static str = Box::leak(name.to_string().into_boxed_str());
    names.insert(kept);
    Ok(kept)
}

/// What the first thing that a column finds looks like.
fn cell(column: &PrinterColumn, obj: &Value, now: Timestamp) -> Value {
    let found = column.path.find(obj);
    let Some(first) = found.first() else {
        return Value::Null;
    };
    match (column.column.kind.as_str(), first) {
        // A fraction is cut off, as Go does it.
        ("integer", Value::Number(n)) => n
            .as_i64()
            .or_else(|| n.as_f64().map(|f| f.trunc() as i64))
            .map_or(Value::Null, |n| json!(n)),
        ("number", Value::Number(n)) => json!(n.as_f64().and_then(number)),
        ("boolean", Value::Bool(b)) => json!(b),
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(t) => json!(human_duration(now.as_second() - t.as_second())),
            Err(_) if text.is_empty() => json!("<unknown>"),
            Err(_) => json!("<invalid>"),
        },
        ("string", Value::String(text)) => json!(text),
        ("string", Value::Null) => json!("<no value>"),
        ("string", Value::Number(n)) if is_float(n) => json!(n.as_f64().map(go_float)),
        ("string", Value::Number(n)) => json!(n.to_string()),
        ("string", other) => json!(machinery::causes::go_json(other)),
        _ => Value::Null,
    }
}

impl Schema {
    fn of(version: &Value, preserves: bool) -> Self {
        const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
        let given = version.get("schema").and_then(|s| s.get("openAPIV3Schema"));
        let text = match given {
            Some(schema) if preserves => {
                // Upstream: only v2 documents are told so; with it those of v3 and apply know too.
                let mut schema = schema.clone();
                schema[PRESERVES] = json!(true);
                schema.to_string()
            }
            Some(schema) => schema.to_string(),
            None => json!({"type": "object", PRESERVES: true}).to_string(),
        };
        Self {
            text: text.into(),
            status: map_at(version, "subresources.status").is_some(),
            made: OnceLock::new(),
        }
    }

    fn value(&self) -> Value {
        // It was written from a value.
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let structural = Structural::parse(&self.value());
            let model = structural.model();
            Box::new(Made { structural, model })
        })
    }

    fn structural(&self) -> &Structural {
        &self.made().structural
    }

    /// Fields that the endpoint of a subresource does not write.
    fn reset_fields(&self, sub: &str) -> Vec<&'static str> {
        match sub {
            "" if self.status => vec!["status"],
            "status" if self.status => vec!["metadata", "spec"],
            _ => Vec::new(),
        }
    }
}

impl Custom {
    /// What an object says that it is.
    fn said(&self, obj: &Value) -> Said<'_> {
        let (group, version) = split(str_at(obj, "apiVersion"));
        if group != self.group || str_at(obj, "kind") != self.kind {
            return Said::Other;
        }
        match self.schemas.get(version) {
            Some(schema) => Said::Version(schema.structural()),
            None => Said::NoVersion,
        }
    }

    /// Removes what no schema names, and nulls that none allows; gives the paths of the former.
    fn prune(&self, obj: &mut Value) -> Vec<String> {
        match self.said(obj) {
            Said::Other => Vec::new(),
            _ if self.preserves => Vec::new(),
            Said::NoVersion => Structural::prune_all(obj),
            Said::Version(schema) => {
                let gone = schema.prune(obj, true);
                schema.drop_nulls(obj);
                gone
            }
        }
    }

    /// Takes from an object what a schema does not have. What it embeds was looked at when it was written.
    fn coerced(&self, schema: &Schema, obj: &mut Value) {
        let schema = schema.structural();
        if !self.preserves {
            schema.prune(obj, true);
            schema.drop_nulls(obj);
        }
        if let Err(error) = schema.coerce(obj) {
            tracing::debug!(error, "what an object embeds stays as it is stored");
        }
    }

    fn check(&self, object: &Value, before: Option<&Value>, status: bool, causes: &mut Causes) {
        let check = Check {
            object,
            before,
            status,
            scale: self.scale.as_ref(),
        };
        let schema = self.schema.structural();
        let problems = self.type_problems(object);
        if problems.is_empty() {
            return schema.validate(&check, causes);
        }
        problems.into_iter().for_each(|p| causes.add(p));
        schema.validate_rest(&check, causes);
    }

    /// What is wrong with an object's kind and version. With that, its values are not looked at.
    fn type_problems(&self, object: &Value) -> Vec<Cause> {
        let version = format!("{}/{}", self.group, self.version);
        let mut found = Causes::new();
        for (field, wanted) in [("kind", &self.kind), ("apiVersion", &version)] {
            let given = str_at(object, field);
            if given != wanted {
                let why = format!("must be {wanted}");
                found.at(field, |c| c.invalid(&json!(given), why));
            }
        }
        found.as_slice().to_vec()
    }
}

/// The fields that count for an object's generation.
fn content(obj: &Value, has_status: bool) -> impl Iterator<Item = (&String, &Value)> {
    let counts = move |name: &str| name != "metadata" && !(has_status && name == "status");
    let all = obj.as_object().into_iter().flatten();
    all.filter(move |(name, _)| counts(name))
}

/// Group and version of an apiVersion.
fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

impl Strategy for Custom {
    fn set_defaults(&self, obj: &mut Value) {
        self.prune(obj);
        self.fill_defaults(obj);
    }

    fn fill_defaults(&self, obj: &mut Value) {
        if let Said::Version(schema) = self.said(obj) {
            schema.set_defaults(obj);
        }
    }

    fn shows_empty_status(&self) -> bool {
        false
    }

    fn has_status(&self) -> bool {
        self.status
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changes(&self, obj: &Value, before: &Value) -> bool {
        !content(obj, self.status).eq(content(before, self.status))
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        machinery::meta::finalizer_warnings(obj, before)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        self.check(obj, None, false, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.check(obj, Some(before), false, causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.check(obj, Some(before), true, causes);
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        machinery::strategy::freeze_all_but_status(obj, before);
        keep(obj, before, "metadata");
    }

    fn prepare_subresource(&self, _sub: &str, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        if self.status {
            keep(obj, before, "status");
        }
    }

    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        api::names::subdomain_name(name, prefix)
    }

    fn stored_version(&self) -> Option<&str> {
        Some(&self.stored_version)
    }

    fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &self.selectable_keys
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
        let one = |(key, path): &(&'static str, JsonPath)| {
            let found = path.find(obj);
            (*key, found.first().map_or_else(String::new, |v| text(v)))
        };
        self.selectable.iter().map(one).collect()
    }

    fn converts(&self) -> bool {
        self.was_other || self.schema.structural().has_defaults
    }

    fn converter(&self) -> Option<&Arc<dyn Converter>> {
        self.converter.as_ref()
    }

    fn selects_shown(&self) -> bool {
        !self.selectable.is_empty()
    }

    /// Upstream decodes what is stored by the schema of the version it is stored in, which gives it its defaults;
    /// the version that is asked for only takes away.
    fn from_stored(&self, obj: &mut Value) {
        let version = str_at(obj, "apiVersion").rsplit('/').next().unwrap_or("");
        let other = version != self.version;
        let stored = self.schemas.get(version).unwrap_or(&self.schema);
        self.coerced(stored, obj);
        stored.structural().set_defaults(obj);
        set(
            obj,
            "apiVersion",
            json!(format!("{}/{}", self.group, self.version)),
        );
        if other {
            self.coerced(&self.schema, obj);
        }
    }

    fn to_stored(&self, obj: &mut Value) {
        set(
            obj,
            "apiVersion",
            json!(format!("{}/{}", self.group, self.stored_version)),
        );
        let other = self.stored_version != self.version;
        if let Some(stored) = self.schemas.get(&self.stored_version).filter(|_| other) {
            self.coerced(stored, obj);
        }
    }

    fn create_refused(&self) -> Option<String> {
        self.terminating.then(|| {
            "create not allowed while custom resource definition is terminating".to_string()
        })
    }

    fn coerce(&self, obj: &mut Value) -> Result<Vec<String>, String> {
        let mut gone = self.prune(obj);
        if let Said::Version(schema) = self.said(obj) {
            gone.extend(schema.coerce(obj)?);
        }
        Ok(gone)
    }

    fn is_custom(&self) -> bool {
        true
    }

    fn is_of_kind(&self, obj: &Value) -> bool {
        self.type_problems(obj).is_empty()
    }

    fn apply_model(&self) -> Option<&Model> {
        Some(&self.schema.made().model)
    }

    fn reset_fields(&self, sub: &str) -> Vec<&'static str> {
        self.schema.reset_fields(sub)
    }

    fn apply_model_of(&self, version: &str, sub: &str) -> Option<(&Model, Vec<&'static str>)> {
        let schema = self.schemas.get(version)?;
        // Writes of the status know what every version leaves alone; others know it of the version they are made in.
        let reset = match sub {
            "" => Vec::new(),
            _ => schema.reset_fields(sub),
        };
        Some((&schema.made().model, reset))
    }

    fn openapi(&self) -> Option<Value> {
        Some(self.schema.value())
    }

    fn columns(&self) -> Vec<Column> {
        let mut out = vec![Column::name()];
        if self.columns.is_empty() {
            out.push(Column {
                kind: "date".into(),
                ..Column::new("Age")
            });
        }
        out.extend(self.columns.iter().map(|c| c.column.clone()));
        out
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let mut out = vec![json!(machinery::object::name(obj))];
        if self.columns.is_empty() {
            out.push(json!(machinery::strategy::age(obj, now)));
        }
        out.extend(self.columns.iter().map(|c| cell(c, obj, now)));
        out
    }
}
