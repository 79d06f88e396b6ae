//! What `kubectl explain` says of the fields that all objects share. The beginnings are upstream's
//! (clients look for them), the rest are this project's words.

use serde_json::{Value, json};

/// Of `apiVersion`, `kind` and `metadata` of any kind.
pub fn type_meta(name: &str) -> &'static str {
    match name {
        "apiVersion" => "APIVersion defines the version of the schema that this object follows.",
        "kind" => "Kind is the type of this object, in the singular and in CamelCase.",
        "metadata" => "Standard object's metadata.",
        _ => "",
    }
}

/// Of the fields of ObjectMeta.
const OBJECT_META: &[(&str, &str)] = &[
    (
        "annotations",
        "Annotations is a map of free texts that tools keep with the object. They cannot be selected by.",
    ),
    (
        "creationTimestamp",
        "CreationTimestamp is a timestamp of the moment at which the server made this object. Read-only.",
    ),
    (
        "deletionGracePeriodSeconds",
        "Seconds that a graceful deletion is given. Set together with deletionTimestamp. Read-only.",
    ),
    (
        "deletionTimestamp",
        "DeletionTimestamp is the time at which the object is or was to be gone. Set by the server when a deletion is asked for. Read-only.",
    ),
    (
        "finalizers",
        "Names of what must be done before the object can go. The last one to be removed ends a deleted object.",
    ),
    (
        "generateName",
        "GenerateName is the beginning of a name; the server appends random letters where name is empty.",
    ),
    (
        "generation",
        "A number that grows with every change of the wanted state. Read-only.",
    ),
    (
        "labels",
        "Labels is a map of short texts by which objects are grouped and selected.",
    ),
    (
        "managedFields",
        "ManagedFields records which client owns which field. Kept by the server for server-side apply.",
    ),
    (
        "name",
        "Name tells the object from all others of its kind in its namespace. Cannot be changed.",
    ),
    (
        "namespace",
        "Namespace is the space in which the name is unique. Cannot be changed.",
    ),
    (
        "ownerReferences",
        "Objects that this one belongs to. When all of them are gone it is collected.",
    ),
    (
        "resourceVersion",
        "An opaque text that changes with every write; for optimistic locking and for watches. Read-only.",
    ),
    ("selfLink", "No longer filled in."),
    (
        "uid",
        "UID tells the object from all that ever were. Set by the server. Read-only.",
    ),
];

/// Adds the descriptions to ObjectMeta's definition.
pub fn object_meta(definition: &mut Value) {
    for (name, text) in OBJECT_META {
        if let Some(field) = definition
            .pointer_mut(&format!("/properties/{name}"))
            .and_then(Value::as_object_mut)
        {
            field.insert("description".into(), json!(text));
        }
    }
    definition["description"] =
        json!("ObjectMeta is metadata that all persisted objects have: names, times, owners.");
}
