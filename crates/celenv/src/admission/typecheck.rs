//! Types of what a policy looks at, for checks of its expressions that only warn.
//! Upstream: plugin/policy/validating/typechecking.go, cel/openapi and cel/common/schemas.go.

use api::schema::{self as built_in, Message};
use serde_json::Value as Json;

use super::{AUTHORIZERS, Compiler, Options, PARAMS};
use crate::schema::{can_escape, escape};
use crate::types::Type;

impl Compiler {
    /// An environment in which objects have a type, and parameters if there are any; `None` is a type nobody knows.
    pub fn typed(object: Option<Type>, params: Option<Option<Type>>) -> Self {
        let mut out = Self::new(Options {
            params: params.is_some(),
            authorizer: true,
            patch_types: false,
        });
        let object = object.unwrap_or(Type::Dyn);
        out.environment.variables[0].1 = object.clone();
        out.environment.variables[1].1 = object;
        out.environment.variables[PARAMS].1 = params.flatten().unwrap_or(Type::Dyn);
        // Only the authorizer itself is declared there.
        out.environment.variables[AUTHORIZERS.end - 1].0.clear();
        out
    }

    /// What is wrong with an expression; nothing if it compiles.
    pub fn issues(&self, source: &str) -> Option<String> {
        let why = self.compile(source, &[]).program.err()?;
        why.strip_prefix("compilation failed: ").map(String::from)
    }
}

/// The type of a built-in kind.
pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<Type> {
    let message = built_in::of_kind(group, version, kind)?;
    Some(of_message(message, kind, &mut vec![message.name], true))
}

/// An object. One within itself has no fields any more.
fn of_message(m: &Message, name: &str, around: &mut Vec<&'static str>, root: bool) -> Type {
    let mut fields = Vec::new();
    if root {
        fields.extend(["apiVersion", "kind"].map(|f| (f.to_string(), Type::String)));
    }
    gather(m, name, around, &mut fields);
    let fields = fields.iter().map(|(n, t)| (n.as_str(), t.clone()));
    Type::object(name, fields.collect())
}

fn gather(m: &Message, name: &str, around: &mut Vec<&'static str>, out: &mut Vec<(String, Type)>) {
    for f in &m.fields {
        if let Some(inner) = f.schema.message().filter(|_| f.inline) {
            gather(inner, name, around, out);
            continue;
        }
        let escaped = escape(f.name);
        if let Some(t) = of_built_in(&f.schema, &format!("{name}.{escaped}"), around) {
            out.push((escaped, t));
        }
    }
}

fn of_built_in(s: &built_in::Schema, name: &str, around: &mut Vec<&'static str>) -> Option<Type> {
    use built_in::Type as Of;
    Some(match &s.kind {
        Of::String | Of::Duration => Type::String,
        Of::Bool => Type::Bool,
        Of::Int32 | Of::Int64 => Type::Int,
        Of::Double => Type::Double,
        Of::Bytes => Type::Bytes,
        Of::IntOrString => Type::Dyn,
        Of::Time | Of::MicroTime => Type::Timestamp,
        Of::Raw | Of::FieldsV1 => Type::object(name, Vec::new()),
        // Their schemas name no type, and so expressions cannot see them.
        Of::Quantity
        | Of::Json
        | Of::Any
        | Of::SchemaOrArray
        | Of::SchemaOrBool
        | Of::SchemaOrStrings => return None,
        Of::List(items) => Type::list(of_built_in(items, &format!("{name}.@idx"), around)?),
        Of::Map(values) => {
            let values = of_built_in(values, &format!("{name}.@elem"), around)?;
            Type::map(Type::String, values)
        }
        Of::Message(_) => {
            let m = s.message()?;
            if around.contains(&m.name) {
                return Some(Type::object(name, Vec::new()));
            }
            around.push(m.name);
            let t = of_message(m, name, around, false);
            around.pop();
            t
        }
    })
}

/// The type of a custom resource's schema, with what every resource has.
pub fn of_openapi(schema: &Json, kind: &str) -> Option<Type> {
    let t = of_node(schema, kind)?;
    let Type::Object(o) = &t else {
        return Some(t);
    };
    let mut fields = o.fields.clone();
    for f in ["apiVersion", "kind"] {
        fields.insert(f.to_string(), Type::String);
    }
    let name = format!("{kind}.metadata");
    let metadata = built_in::message("k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    if let Some(m) = metadata {
        let t = of_message(m, &name, &mut vec![m.name], false);
        fields.insert("metadata".to_string(), t);
    }
    let fields = fields.iter().map(|(n, t)| (n.as_str(), t.clone()));
    Some(Type::object(kind, fields.collect()))
}

fn of_node(s: &Json, name: &str) -> Option<Type> {
    let is = |key: &str| s.get(key) == Some(&Json::Bool(true));
    let text = |key: &str| s.get(key).and_then(Json::as_str).unwrap_or_default();
    if is("x-kubernetes-int-or-string") || text("format") == "int-or-string" {
        return Some(Type::Dyn);
    }
    Some(match (text("type"), text("format")) {
        ("boolean", _) => Type::Bool,
        ("integer", _) => Type::Int,
        ("number", _) => Type::Double,
        ("string", "byte") => Type::Bytes,
        ("string", "duration") => Type::Duration,
        ("string", "date" | "date-time") => Type::Timestamp,
        ("string", _) => Type::String,
        ("array", _) => Type::list(of_node(s.get("items")?, &format!("{name}.@idx"))?),
        ("object", _) => match s.get("additionalProperties").filter(|a| a.is_object()) {
            Some(values) => Type::map(Type::String, of_node(values, &format!("{name}.@elem"))?),
            None => {
                let all = s.get("properties").and_then(Json::as_object);
                let fields = all.into_iter().flatten().filter_map(|(n, s)| {
                    let escaped = escape(n);
                    let t = of_node(s, &format!("{name}.{escaped}"))?;
                    can_escape(n).then_some((escaped, t))
                });
                let fields: Vec<(String, Type)> = fields.collect();
                let fields = fields.iter().map(|(n, t)| (n.as_str(), t.clone()));
                Type::object(name, fields.collect())
            }
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_are_checked_against_types() {
        let deployment = of_kind("apps", "v1", "Deployment");
        assert!(deployment.is_some());
        let mut typed = Compiler::typed(deployment, None);
        assert_eq!(typed.issues("object.spec.replicas > 1"), None);
        assert_eq!(
            typed.issues("object.spec.nope > 1").as_deref(),
            Some(
                "ERROR: <input>:1:12: undefined field 'nope'\n | object.spec.nope > 1\n | ...........^"
            )
        );
        assert_eq!(
            typed.issues("object.spec.replicas > '1'").as_deref(),
            Some(
                "ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n | object.spec.replicas > '1'\n | .....................^"
            )
        );
        let fits = "object.spec.template.spec.containers.all(c, !has(c.image) || c.image != '') && object.metadata.creationTimestamp != oldObject.metadata.creationTimestamp";
        assert_eq!(typed.issues(fits), None);
        typed.add_variable("n", "object.spec.replicas");
        assert!(typed.issues("variables.n == 'a'").is_some());
        let own = of_openapi(
            &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
                "a-b": {"type": "string"}, "n": {"x-kubernetes-int-or-string": true}}}}}),
            "Own",
        );
        let typed = Compiler::typed(own, Some(None));
        assert_eq!(
            typed.issues("object.spec.a__dash__b == object.metadata.name && object.spec.n == 1 && params.any == 1"),
            None
        );
        assert!(typed.issues("object.status.x").is_some());
    }
}
