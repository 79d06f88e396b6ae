//! The types that apply walks along: built-in ones from the schema table, custom ones from a model,
//! and deduced ones where nothing is declared. Upstream: structured-merge-diff/schema.

use std::collections::BTreeMap;

use api::schema::{self, ListType, Schema, Type};
use serde_json::Value;

/// What a scalar may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Numeric,
    String,
    Boolean,
    Untyped,
}

/// The type of one value of a custom resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Model {
    /// A type of the schema table, such as ObjectMeta.
    BuiltIn(&'static Schema),
    Scalar(Scalar),
    Object {
        fields: BTreeMap<String, Model>,
        /// Type of values under keys that are not declared; `None` forbids them.
        element: Option<Box<Model>>,
        atomic: bool,
        /// Defaults of fields, for those that are list keys.
        defaults: BTreeMap<String, Value>,
    },
    List {
        items: Box<Model>,
        list: ModelList,
    },
    /// Any scalar; lists and maps are owned as one.
    Untyped,
    /// Any scalar; lists are owned as one, maps by key.
    Deduced,
}

/// How a list of a custom resource is owned.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelList {
    Atomic,
    Set,
    Map(Vec<String>),
}

/// The type of one value.
#[derive(Clone, Copy, Debug)]
pub enum TypeRef<'a> {
    BuiltIn(&'a Schema),
    Custom(&'a Model),
    Untyped,
    Deduced,
}

/// A list type.
#[derive(Clone, Copy)]
pub struct List<'a> {
    pub item: TypeRef<'a>,
    pub atomic: bool,
    pub keys: Keys<'a>,
}

/// The keys of a list; none for sets.
#[derive(Clone, Copy)]
pub enum Keys<'a> {
    Static(&'a [&'static str]),
    Owned(&'a [String]),
}

/// A map or struct type.
#[derive(Clone, Copy)]
pub struct MapType<'a> {
    fields: Fields<'a>,
    pub element: Option<TypeRef<'a>>,
    pub atomic: bool,
}

#[derive(Clone, Copy)]
enum Fields<'a> {
    None,
    Message(&'a Schema),
    Model(&'a BTreeMap<String, Model>),
}

/// What a value of a type may be: up to one of each.
#[derive(Clone, Copy, Default)]
pub struct Atom<'a> {
    pub scalar: Option<Scalar>,
    pub list: Option<List<'a>>,
    pub map: Option<MapType<'a>>,
}

/// An object of a built-in kind.
pub fn built_in(group: &str, version: &str, kind: &str) -> TypeRef<'static> {
    match schema::lookup(group, version, kind) {
        Some(schema) => TypeRef::BuiltIn(schema),
        None => TypeRef::Deduced,
    }
}

// === Keys ===

impl<'a> Keys<'a> {
    /// The names of the keys.
    pub fn names(self) -> Vec<&'a str> {
        match self {
            Self::Static(names) => names.to_vec(),
            Self::Owned(names) => names.iter().map(String::as_str).collect(),
        }
    }
}

// === MapType ===

impl<'a> MapType<'a> {
    /// The type of a declared field.
    pub fn declared(&self, name: &str) -> Option<TypeRef<'a>> {
        match self.fields {
            Fields::None => None,
            Fields::Message(schema) => schema.field(name).map(TypeRef::BuiltIn),
            Fields::Model(fields) => fields.get(name).map(TypeRef::Custom),
        }
    }

    /// Whether a field is a struct in Go: it is there where its holder is, without anything in it.
    pub fn is_struct(&self, name: &str) -> bool {
        let Fields::Message(schema) = self.fields else {
            return false;
        };
        let field = schema.message().and_then(|m| m.field(name));
        field.is_some_and(|f| !f.pointer && matches!(f.schema.kind, Type::Message(_)))
    }

    /// Whether nothing is declared, and any value may be there.
    pub fn is_deduced(&self) -> bool {
        let any = matches!(
            self.element,
            Some(
                TypeRef::Deduced | TypeRef::Custom(Model::Deduced | Model::Scalar(Scalar::Untyped))
            )
        );
        any && match self.fields {
            Fields::None => true,
            Fields::Message(schema) => schema.message().is_none_or(|m| m.fields.is_empty()),
            Fields::Model(fields) => fields.is_empty(),
        }
    }

    /// The type of any key's value.
    pub fn value(&self, name: &str) -> Option<TypeRef<'a>> {
        self.declared(name).or(self.element)
    }
}

// === Atom ===

impl<'a> Atom<'a> {
    /// What of it a value can be; all of it for nothing and null.
    pub fn deduced(self, value: Option<&Value>) -> Self {
        match value {
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) if self.scalar.is_some() => {
                Self {
                    scalar: self.scalar,
                    ..Self::default()
                }
            }
            Some(Value::Array(_)) if self.list.is_some() => Self {
                list: self.list,
                ..Self::default()
            },
            Some(Value::Object(_)) if self.map.is_some() => Self {
                map: self.map,
                ..Self::default()
            },
            _ => self,
        }
    }

    /// Which of the three is walked: maps before scalars before lists.
    pub fn form(self) -> Form<'a> {
        match (self.map, self.scalar, self.list) {
            (Some(m), _, _) => Form::Map(m),
            (_, Some(s), _) => Form::Scalar(s),
            (_, _, Some(l)) => Form::List(l),
            _ => Form::Scalar(Scalar::Untyped),
        }
    }
}

/// How a value is walked.
#[derive(Clone, Copy)]
pub enum Form<'a> {
    Scalar(Scalar),
    List(List<'a>),
    Map(MapType<'a>),
}

impl Form<'_> {
    /// Whether two forms are of the same sort.
    pub fn same(&self, other: &Form<'_>) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

// === TypeRef ===

impl<'a> TypeRef<'a> {
    /// What a value may be.
    pub fn atom(self) -> Atom<'a> {
        match self {
            Self::BuiltIn(schema) => built_in_atom(schema),
            Self::Custom(model) => model.atom(),
            Self::Untyped => open(TypeRef::Untyped, true),
            Self::Deduced => open(TypeRef::Deduced, false),
        }
    }

    /// How a value is walked.
    pub fn form(self, value: Option<&Value>) -> Form<'a> {
        self.atom().deduced(value).form()
    }

    /// The default of a field of this struct, where one is declared.
    pub fn default_of(self, field: &str) -> Option<Value> {
        match self {
            Self::BuiltIn(schema) => {
                let text = schema.field(field)?.default?;
                Some(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
            }
            Self::Custom(Model::Object { defaults, .. }) => defaults.get(field).cloned(),
            _ => None,
        }
    }
}

/// Anything: maps are owned as one (`atomic`) or by key.
fn open(element: TypeRef<'_>, atomic: bool) -> Atom<'_> {
    Atom {
        scalar: Some(Scalar::Untyped),
        list: Some(List {
            item: TypeRef::Untyped,
            atomic: true,
            keys: Keys::Static(&[]),
        }),
        map: Some(MapType {
            fields: Fields::None,
            element: Some(element),
            atomic,
        }),
    }
}

fn scalar<'a>(s: Scalar) -> Atom<'a> {
    Atom {
        scalar: Some(s),
        ..Atom::default()
    }
}

fn built_in_atom(schema: &Schema) -> Atom<'_> {
    match &schema.kind {
        Type::String | Type::Bytes => scalar(Scalar::String),
        Type::Bool => scalar(Scalar::Boolean),
        Type::Int32 | Type::Int64 | Type::Double => scalar(Scalar::Numeric),
        Type::Quantity | Type::IntOrString | Type::Time | Type::MicroTime | Type::Duration => {
            scalar(Scalar::Untyped)
        }
        Type::Raw => open(TypeRef::Untyped, true),
        Type::FieldsV1
        | Type::Json
        | Type::SchemaOrArray
        | Type::SchemaOrBool
        | Type::SchemaOrStrings
        | Type::Any => open(TypeRef::Deduced, false),
        Type::List(items) => Atom {
            list: Some(List {
                item: TypeRef::BuiltIn(items),
                atomic: schema.list_type == ListType::Atomic,
                keys: Keys::Static(&schema.keys),
            }),
            ..Atom::default()
        },
        Type::Map(values) => Atom {
            map: Some(MapType {
                fields: Fields::None,
                element: Some(TypeRef::BuiltIn(values)),
                atomic: schema.atomic,
            }),
            ..Atom::default()
        },
        Type::Message(_) => {
            let message = schema.message();
            let bare = message.is_none_or(|m| m.fields.is_empty());
            Atom {
                map: Some(MapType {
                    fields: Fields::Message(schema),
                    element: bare.then_some(TypeRef::Deduced),
                    atomic: schema.atomic || message.is_some_and(|m| m.atomic),
                }),
                ..Atom::default()
            }
        }
    }
}

impl Model {
    fn atom(&self) -> Atom<'_> {
        match self {
            Self::BuiltIn(schema) => built_in_atom(schema),
            Self::Scalar(s) => scalar(*s),
            Self::Untyped => open(TypeRef::Untyped, true),
            Self::Deduced => open(TypeRef::Deduced, false),
            Self::List { items, list } => Atom {
                list: Some(List {
                    item: TypeRef::Custom(items),
                    atomic: *list == ModelList::Atomic,
                    keys: match list {
                        ModelList::Map(keys) => Keys::Owned(keys),
                        _ => Keys::Static(&[]),
                    },
                }),
                ..Atom::default()
            },
            Self::Object {
                fields,
                element,
                atomic,
                ..
            } => Atom {
                map: Some(MapType {
                    fields: Fields::Model(fields),
                    element: element.as_deref().map(TypeRef::Custom),
                    atomic: *atomic,
                }),
                ..Atom::default()
            },
        }
    }
}
