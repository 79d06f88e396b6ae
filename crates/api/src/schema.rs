//! The schema table of all built-in types: names, numbers, types and list semantics of every field.
//! One type serves pruning, strict decoding, strategic merge, server-side apply, protobuf, OpenAPI.
//! The facts are in `data/schema.tsv`, made by tools/schemagen from upstream's published protos.

use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("../data/schema.tsv");

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// base64 in JSON.
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    Duration,
    /// An object of any kind, encoded as raw bytes in protobuf.
    Raw,
    FieldsV1,
    /// Any JSON value, as its text on the wire.
    Json,
    /// A JSON schema, a list of them, a bool or a list of strings: the unions of JSONSchemaProps.
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
    /// Any JSON value that has no form on the wire.
    Any,
    /// An object of a message of this table.
    Message(MessageRef),
    List(Box<Schema>),
    Map(Box<Schema>),
}

/// An index into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRef(usize);

/// How server-side apply treats a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// The type of one value, with what merges need to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    pub kind: Type,
    pub list_type: ListType,
    /// Keys of a list of type map.
    pub keys: Vec<&'static str>,
    /// The whole map or struct is owned as one.
    pub atomic: bool,
    patch_merge: bool,
    patch_key: Option<&'static str>,
    pub retain_keys: bool,
    /// Default of a list key, as written in the marker.
    pub default: Option<&'static str>,
    /// On the wire this list is a message of its own.
    pub wrapped: bool,
}

/// One field of a message.
#[derive(Debug)]
pub struct Field {
    pub number: u32,
    pub name: &'static str,
    pub schema: Schema,
    pub optional: bool,
    /// A scalar that can be absent: its zero is a value.
    pub pointer: bool,
    /// Written even when it is zero.
    pub always: bool,
    /// Its own fields stand beside those of the holder in JSON.
    pub inline: bool,
}

/// One message.
#[derive(Debug)]
pub struct Message {
    /// `k8s.io.api.core.v1.Pod`.
    pub name: &'static str,
    pub fields: Vec<Field>,
    pub atomic: bool,
    /// Indexes of `fields` in the order of their numbers.
    order: Vec<usize>,
}

struct Table {
    messages: Vec<Message>,
    by_name: HashMap<&'static str, usize>,
    /// The packages, versions included, that have a message of a name.
    by_kind: HashMap<&'static str, Vec<(&'static str, usize)>>,
}

const fn plain(kind: Type) -> Schema {
    Schema {
        kind,
        list_type: ListType::Atomic,
        keys: Vec::new(),
        atomic: false,
        patch_merge: false,
        patch_key: None,
        retain_keys: false,
        default: None,
        wrapped: false,
    }
}

static ANY: Schema = plain(Type::Any);

static STRING: Schema = plain(Type::String);

/// Messages that have `metadata` and are nevertheless part of other objects only.
const EMBEDDED: &[&str] = &[
    "JobTemplateSpec",
    "PersistentVolumeClaimTemplate",
    "PodTemplateSpec",
    "ResourceClaimTemplateSpec",
];

fn table() -> &'static Table {
    static PARSED: OnceLock<Table> = OnceLock::new();
    PARSED.get_or_init(|| parse(TABLE))
}

/// The schema of a built-in kind.
pub fn lookup(group: &str, version: &str, kind: &str) -> Option<&'static Schema> {
    static SCHEMAS: OnceLock<Vec<Schema>> = OnceLock::new();
    let all = SCHEMAS.get_or_init(|| {
        (0..table().messages.len())
            .map(|i| Schema {
                kind: Type::Message(MessageRef(i)),
                ..ANY.clone()
            })
            .collect()
    });
    let same = |package: &str| {
        let above = package
            .strip_suffix(version)
            .and_then(|p| p.strip_suffix('.'));
        let (prefix, rest) = package_of(group);
        above.and_then(|p| p.strip_prefix(prefix)) == Some(rest)
    };
    // Each request asks for several: no name is put together for that.
    let mut found = table().by_kind.get(kind)?.iter();
    found.find(|(p, _)| same(p)).map(|(_, i)| &all[*i])
}

/// A message by its full name.
pub fn message(name: &str) -> Option<&'static Message> {
    table().by_name.get(name).map(|i| &table().messages[*i])
}

/// The message of a kind, lists and option kinds included; those of every group version
/// (DeleteOptions, Status ...) are found in any.
pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<&'static Message> {
    let own = message(&format!("{}.{version}.{kind}", package(group)));
    let common = || {
        COMMON
            .contains(&kind)
            .then(|| message(&format!("{}.v1.{kind}", package("meta.k8s.io"))))
            .flatten()
    };
    own.or_else(common)
}

/// Kinds of `meta.k8s.io/v1` that exist in every group version.
const COMMON: &[&str] = &[
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "Status",
    "UpdateOptions",
    "WatchEvent",
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
];

/// The message that CRDs hold their schemas in.
pub fn json_schema_props() -> &'static Message {
    message("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .expect("the table holds apiextensions")
}

/// The proto package of a group, without the version.
pub fn package(group: &str) -> String {
    let (prefix, rest) = package_of(group);
    [prefix, rest].concat()
}

/// The same in two parts.
fn package_of(group: &str) -> (&'static str, &str) {
    match group {
        "" => ("k8s.io.api.core", ""),
        "meta.k8s.io" => ("k8s.io.apimachinery.pkg.apis.meta", ""),
        "apiextensions.k8s.io" => ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions", ""),
        "apiregistration.k8s.io" => ("k8s.io.kube_aggregator.pkg.apis.apiregistration", ""),
        "internal.apiserver.k8s.io" => ("k8s.io.api.apiserverinternal", ""),
        other => ("k8s.io.api.", other.split('.').next().unwrap_or(other)),
    }
}

// === Schema ===

impl Schema {
    /// Anything at all.
    pub fn any() -> &'static Schema {
        &ANY
    }

    /// The message this is an object of.
    pub fn message(&self) -> Option<&'static Message> {
        match self.kind {
            Type::Message(MessageRef(i)) => Some(&table().messages[i]),
            _ => None,
        }
    }

    /// The schema of a field (of an object, inline ones included) or of a map's values.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        match &self.kind {
            Type::Map(values) => Some(values),
            Type::Message(_) => {
                let message = self.message()?;
                let field = message.field(name).map(|f| &f.schema);
                let of_kind = ["apiVersion", "kind"].contains(&name) && message.is_kind();
                field.or(of_kind.then_some(&STRING))
            }
            _ => None,
        }
    }

    /// The schema of a list's items.
    pub fn items(&self) -> Option<&Schema> {
        match &self.kind {
            Type::List(items) => Some(items),
            _ => None,
        }
    }

    /// Whether strategic merge merges this list instead of replacing it.
    pub fn patch_merges(&self) -> bool {
        self.patch_merge
    }

    /// The key by which strategic merge tells the list's items apart.
    pub fn patch_merge_key(&self) -> Option<&'static str> {
        self.patch_key
    }
}

impl Message {
    /// Whether its objects stand alone, with `apiVersion` and `kind`.
    pub fn is_kind(&self) -> bool {
        let short = self.name.rsplit('.').next().unwrap_or("");
        self.fields.iter().any(|f| f.name == "metadata") && !EMBEDDED.contains(&short)
    }

    /// The fields in the order of their numbers.
    pub fn by_number(&self) -> impl Iterator<Item = &Field> {
        self.order.iter().map(|i| &self.fields[*i])
    }

    /// A field by its number.
    pub fn field_by_number(&self, number: u32) -> Option<&Field> {
        let at = self
            .order
            .binary_search_by_key(&number, |i| self.fields[*i].number);
        at.ok().map(|i| &self.fields[self.order[i]])
    }

    /// A field by its JSON name, looked for in inline fields too.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        let here = table()
            .by_name
            .get(self.name)
            .map(|i| &table().messages[*i])?;
        here.fields.iter().find_map(|f| {
            if f.inline {
                f.schema.message().and_then(|m| m.field(name))
            } else {
                (f.name == name).then_some(f)
            }
        })
    }
}

fn parse(text: &'static str) -> Table {
    let mut by_name = HashMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("M\t") {
            let name = rest.split('\t').next().unwrap_or("");
            by_name.insert(name, by_name.len());
        }
    }
    let mut messages: Vec<Message> = Vec::with_capacity(by_name.len());
    for line in text.lines() {
        let words: Vec<&'static str> = line.split('\t').collect();
        match words.as_slice() {
            ["M", name, flags] => {
                let atomic = flags.split(',').any(|f| f == "atomic");
                messages.push(Message {
                    name,
                    fields: Vec::new(),
                    atomic,
                    order: Vec::new(),
                });
            }
            ["F", number, name, kind, flags] => {
                if let (Some(last), Ok(number)) = (messages.last_mut(), number.parse()) {
                    last.fields.push(field(number, name, kind, flags, &by_name));
                }
            }
            _ => {}
        }
    }
    for m in &mut messages {
        m.order = (0..m.fields.len()).collect();
        m.order.sort_by_key(|i| m.fields[*i].number);
    }
    let mut by_kind: HashMap<&str, Vec<_>> = HashMap::new();
    for (name, i) in &by_name {
        if let Some((package, kind)) = name.rsplit_once('.') {
            by_kind.entry(kind).or_default().push((package, *i));
        }
    }
    Table {
        messages,
        by_name,
        by_kind,
    }
}

fn field(
    number: u32,
    name: &'static str,
    kind: &'static str,
    flags: &'static str,
    by_name: &HashMap<&'static str, usize>,
) -> Field {
    let mut schema = Schema {
        kind: type_of(kind, by_name),
        ..ANY.clone()
    };
    schema.wrapped = WRAPPERS.contains(&kind);
    let (mut optional, mut inline, mut pointer, mut always) = (false, false, false, false);
    for flag in flags.split(',') {
        match flag.split_once('=').unwrap_or((flag, "")) {
            ("optional", _) => optional = true,
            ("inline", _) => inline = true,
            ("pointer", _) => pointer = true,
            ("always", _) => always = true,
            ("atomic", _) => schema.atomic = true,
            ("merge", _) => schema.patch_merge = true,
            ("retain", _) => schema.retain_keys = true,
            ("mergekey", key) => schema.patch_key = Some(key),
            ("key", key) => schema.keys.push(key),
            ("default", value) => schema.default = Some(value),
            ("list", "set") => schema.list_type = ListType::Set,
            ("list", "map") => schema.list_type = ListType::Map,
            _ => {}
        }
    }
    Field {
        number,
        name,
        schema,
        optional,
        pointer,
        always,
        inline,
    }
}

fn type_of(kind: &'static str, by_name: &HashMap<&'static str, usize>) -> Type {
    if let Some(item) = kind.strip_prefix('*') {
        return Type::List(Box::new(Schema {
            kind: type_of(item, by_name),
            ..ANY.clone()
        }));
    }
    if let Some(value) = kind.strip_prefix("{}") {
        return Type::Map(Box::new(Schema {
            kind: type_of(value, by_name),
            ..ANY.clone()
        }));
    }
    match kind {
        "string" => Type::String,
        "bool" => Type::Bool,
        "int32" | "uint32" => Type::Int32,
        "int64" | "uint64" => Type::Int64,
        "double" | "float" => Type::Double,
        "bytes" => Type::Bytes,
        "k8s.io.apimachinery.pkg.api.resource.Quantity" => Type::Quantity,
        "k8s.io.apimachinery.pkg.util.intstr.IntOrString" => Type::IntOrString,
        "k8s.io.apimachinery.pkg.apis.meta.v1.Time" => Type::Time,
        "k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime" => Type::MicroTime,
        "k8s.io.apimachinery.pkg.apis.meta.v1.Duration" => Type::Duration,
        "k8s.io.apimachinery.pkg.runtime.RawExtension" => Type::Raw,
        "k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1" => Type::FieldsV1,
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON" => Type::Json,
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray" => {
            Type::SchemaOrArray
        }
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool" => {
            Type::SchemaOrBool
        }
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray" => {
            Type::SchemaOrStrings
        }
        other => match by_name.get(other) {
            // A message that only wraps a list is that list in JSON.
            Some(_) if WRAPPERS.contains(&other) => Type::List(Box::new(Schema {
                kind: Type::String,
                ..ANY.clone()
            })),
            Some(i) => Type::Message(MessageRef(*i)),
            None => Type::Any,
        },
    }
}

/// Messages with a single `items` field that are plain lists of strings in JSON.
const WRAPPERS: &[&str] = &[
    "k8s.io.api.core.v1.ExtraValue",
    "k8s.io.api.authentication.v1.AttestationValue",
    "k8s.io.api.authentication.v1.ExtraValue",
    "k8s.io.api.authentication.v1alpha1.ExtraValue",
    "k8s.io.api.authentication.v1beta1.ExtraValue",
    "k8s.io.api.authorization.v1.ExtraValue",
    "k8s.io.api.authorization.v1beta1.ExtraValue",
    "k8s.io.api.certificates.v1.ExtraValue",
    "k8s.io.api.certificates.v1beta1.ExtraValue",
    "k8s.io.apimachinery.pkg.apis.meta.v1.Verbs",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_pods() {
        let pod = lookup("", "v1", "Pod").expect("Pod");
        let containers = pod
            .field("spec")
            .and_then(|s| s.field("containers"))
            .expect("containers");
        assert_eq!(containers.patch_merge_key(), Some("name"));
        assert_eq!(containers.list_type, ListType::Map);
        let ports = containers
            .items()
            .and_then(|c| c.field("ports"))
            .expect("ports");
        assert_eq!(ports.keys, ["containerPort", "protocol"]);
        assert_eq!(ports.patch_merge_key(), Some("containerPort"));
        let volumes = pod
            .field("spec")
            .and_then(|s| s.field("volumes"))
            .expect("volumes");
        // An inline source: its fields stand beside the name.
        assert!(volumes.items().and_then(|v| v.field("emptyDir")).is_some());
        assert!(
            volumes
                .items()
                .and_then(|v| v.field("volumeSource"))
                .is_none()
        );
        assert!(volumes.retain_keys);
    }

    #[test]
    fn every_message_type_resolves() {
        for m in &table().messages {
            for f in &m.fields {
                let known = f.schema.kind != Type::Any || m.name.contains("apiextensions");
                assert!(known, "{} {}", m.name, f.name);
            }
        }
        assert!(lookup("apps", "v1", "Deployment").is_some());
        assert!(lookup("rbac.authorization.k8s.io", "v1", "ClusterRole").is_some());
        assert!(lookup("apiextensions.k8s.io", "v1", "CustomResourceDefinition").is_some());
        assert!(lookup("example.com", "v1", "Nope").is_none());
    }
}
