//! `/scale`: an autoscaling/v1 Scale mapped onto the resource's own fields. api-semantics §9.8.

use api::schema;
use api::selector::LabelSelector;
use bytes::Bytes;
use client::Cache;
use machinery::apply::Request;
use machinery::causes::go_json;
use machinery::object::{at, i64_at, set, str_at};
use machinery::{ApiError, Causes, Column, SubresourceKind, conform};
use serde_json::{Value, json};

use crate::call::Call;
use crate::decode;
use crate::negotiate;
use crate::negotiate::Transform;
use crate::response::{self, Answer};
use crate::transform::{self, IncludeObject};
use crate::verbs;

/// The paths of one scale subresource.
struct Paths<'a> {
    spec: &'a str,
    status: &'a str,
    selector: &'a str,
}

/// GET, PUT and PATCH of a Scale.
pub async fn scale(call: &Call, body: &Bytes, kind: &SubresourceKind) -> Result<Answer, ApiError> {
    let paths = paths(kind).ok_or_else(ApiError::path_not_found)?;
    let value = match call.info.verb.as_str() {
        "get" => {
            let cache = call.cache()?;
            call.server
                .wait_fresh(cache, call.query.get("resourceVersion"))
                .await?;
            let namespace = call.info.namespace_of(call.descriptor());
            let entry = cache.get(&namespace, &call.info.name);
            let entry = entry.ok_or_else(|| call.not_found(&call.info.name))?;
            let object = call.view(&entry).await?;
            if call.is_custom() && at(&object, paths.spec).is_none() {
                return Err(ApiError::internal(format!(
                    "the spec replicas field \".{}\" does not exist",
                    paths.spec
                )));
            }
            of(&object, &paths)
        }
        _ => change(call, body, &paths).await?,
    };
    let shown = shaped(call, value)?;
    Ok(response::value(200, &shown, &call.format))
}

/// A Scale in the transform asked for.
fn shaped(call: &Call, scale: Value) -> Result<Value, ApiError> {
    match &call.format.transform {
        Transform::None => Ok(scale),
        Transform::Table(v) => {
            let include = IncludeObject::parse(call.query.get("includeObject"))?;
            let custom = call.is_custom();
            let number = |name: &str| Column {
                kind: "integer".into(),
                ..Column::new(name)
            };
            let mut age = Column::new("Age");
            if custom {
                age.kind = "date".into();
            }
            let name = if custom {
                Column::name()
            } else {
                Column::new("Name")
            };
            let columns = transform::shown([name, number("Desired"), number("Available"), age]);
            let cells = json!([
                machinery::object::name(&scale),
                i64_at(&scale, "spec.replicas").unwrap_or(0),
                i64_at(&scale, "status.replicas").unwrap_or(0),
                machinery::strategy::age(&scale, call.now)
            ]);
            let row = transform::with_object(json!({"cells": cells}), &scale, v, include);
            let meta = json!({"resourceVersion": str_at(&scale, "metadata.resourceVersion")});
            Ok(transform::table(columns, vec![row], v, meta))
        }
        Transform::PartialMetadata(v) => Ok(transform::partial(&scale, v)),
        Transform::PartialMetadataList(_) => {
            // Upstream's inner type, which custom resources do not have.
            let of = if call.is_custom() {
                "v1"
            } else {
                "autoscaling"
            };
            let why = format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list (*{of}.Scale)"
            );
            Err(ApiError::new(406, "NotAcceptable", why))
        }
    }
}

/// What admission plugins see of a write through `/scale`: the Scale of the object.
pub fn shown(kind: &SubresourceKind, obj: &Value) -> Option<Value> {
    paths(kind).map(|p| of(obj, &p))
}

/// The object with what admission plugins made of its Scale.
pub fn with_shown(
    call: &Call,
    kind: &SubresourceKind,
    obj: &Value,
    scale: &Value,
) -> Result<Value, ApiError> {
    match paths(kind) {
        Some(p) => apply(call, obj, scale, &p),
        None => Ok(obj.clone()),
    }
}

fn paths(kind: &SubresourceKind) -> Option<Paths<'_>> {
    match kind {
        SubresourceKind::Scale {
            spec,
            status,
            selector,
        } => Some(Paths {
            spec,
            status,
            selector,
        }),
        _ => None,
    }
}

/// The Scale of an object.
fn of(obj: &Value, p: &Paths<'_>) -> Value {
    let mut meta = json!({});
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(v) = at(obj, &format!("metadata.{field}")) {
            meta[field] = v.clone();
        }
    }
    let mut out = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": {},
        "status": {"replicas": i64_at(obj, p.status).unwrap_or(0)},
    });
    if let Some(n) = i64_at(obj, p.spec).filter(|n| *n != 0) {
        out["spec"]["replicas"] = json!(n);
    }
    match at(obj, p.selector) {
        Some(Value::String(s)) if !s.is_empty() => out["status"]["selector"] = json!(s),
        Some(object @ Value::Object(map)) => {
            let text = match map.contains_key("matchLabels") || map.contains_key("matchExpressions")
            {
                true => LabelSelector::from_object(object).map(|s| s.to_string()),
                // The plain map of a ReplicationController.
                false => LabelSelector::from_object(&json!({"matchLabels": object}))
                    .map(|s| s.to_string()),
            };
            out["status"]["selector"] = json!(text.unwrap_or_default());
        }
        _ => {}
    }
    out
}

/// What a Scale asks for whose object says nothing of replicas.
const UNSET: i64 = i32::MIN as i64;

/// How a new Scale comes from the old one.
enum Change {
    Sent(Value),
    Applied { config: Value, force: bool },
    Patched { kind: String, patch: Bytes },
}

impl Change {
    fn of(call: &Call, body: &Bytes) -> Result<Self, ApiError> {
        if call.info.verb == "update" {
            let media = negotiate::request(&call.headers, true, call.server.serves_cbor())?;
            let mut sent = decode::object(body, media, "Scale")?;
            decode::check_kind(&mut sent, "autoscaling/v1", "Scale")?;
            conformed(call, &mut sent).map_err(|e| {
                let text = "Scale in version \"v1\" cannot be handled as a Scale";
                ApiError::bad_request(format!("{text}: {e}"))
            })?;
            verbs::check_names(call, &sent)?;
            return Ok(Self::Sent(sent));
        }
        if call.applies() {
            let (config, _) = decode::yaml(body).map_err(|why| verbs::unread(body, &why))?;
            let force = call.query.flag("force");
            return Ok(Self::Applied { config, force });
        }
        Ok(Self::Patched {
            kind: call.content_type().to_string(),
            patch: body.clone(),
        })
    }

    /// The new Scale, with who owns what of it.
    fn carry_out(&self, call: &Call, old: &Value, r: &Request<'_>) -> Result<Value, ApiError> {
        let mut new = match self {
            Self::Applied { config, force } => {
                return machinery::apply::apply(Some(old), config, *force, r).map(|a| a.object);
            }
            Self::Sent(sent) => sent.clone(),
            Self::Patched { kind, patch } => {
                let patched = match kind.as_str() {
                    "application/json-patch+json" => machinery::patch::json_patch(old, patch)?,
                    // A Scale has no lists: strategic and plain merge are the same.
                    "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                        machinery::patch::merge_patch(old, patch)?
                    }
                    other => verbs::patched(call, other, patch, old)?,
                };
                read(call, patched)?
            }
        };
        machinery::apply::track(Some(old), &mut new, r);
        Ok(new)
    }
}

async fn change(call: &Call, body: &Bytes, p: &Paths<'_>) -> Result<Value, ApiError> {
    let dry_run = call.write_options()?;
    let change = Change::of(call, body)?;
    let mut make = |before: &Value| {
        let mut old = of(before, p);
        if at(before, p.spec).is_none() && call.is_custom() {
            set(&mut old, "spec.replicas", json!(UNSET));
        }
        let (scale, owners) =
            verbs::managed::scale(call, before, old, |old, r| change.carry_out(call, old, r))?;
        let mut obj = apply(call, before, &scale, p)?;
        verbs::managed::put(&mut obj, &owners);
        if let Change::Sent(sent) = &change
            && !str_at(sent, "metadata.uid").is_empty()
        {
            set(&mut obj, "metadata.uid", sent["metadata"]["uid"].clone());
        }
        Ok(obj)
    };
    let obj = verbs::replace(call, "scale", dry_run, &mut make).await?;
    Ok(of(&obj, p))
}

/// Makes a Scale conform to its kind. Fields that it does not have are told as the request wants it.
fn conformed(call: &Call, scale: &mut Value) -> Result<(), String> {
    let Some(schema) = schema::lookup("autoscaling", "v1", "Scale") else {
        return Ok(());
    };
    decode::told(call, conform::conform(schema, scale)?)
}

/// A patched Scale; upstream's 422 without kind or name where it does not decode.
fn read(call: &Call, mut scale: Value) -> Result<Value, ApiError> {
    let text = go_json(&scale);
    conformed(call, &mut scale).map_err(|e| {
        let mut causes = Causes::new();
        causes.at("patch", |c| c.invalid(&json!(text), e));
        ApiError::invalid("", "", "", causes.as_slice())
    })?;
    Ok(scale)
}

/// The object with a Scale's replicas and resourceVersion.
fn apply(call: &Call, before: &Value, scale: &Value, p: &Paths<'_>) -> Result<Value, ApiError> {
    let replicas = i64_at(scale, "spec.replicas").unwrap_or(0);
    if replicas == UNSET && call.is_custom() {
        return Err(ApiError::bad_request(format!(
            "the spec replicas field \".{}\" cannot be empty",
            p.spec
        )));
    }
    // What custom resources may hold there they check themselves.
    if replicas < 0 && !call.is_custom() {
        let mut causes = Causes::new();
        causes.at("spec", |c| {
            c.at("replicas", |c| {
                c.invalid(&json!(replicas), "must be greater than or equal to 0");
            });
        });
        let name = &call.info.name;
        return Err(ApiError::invalid(
            "autoscaling",
            "Scale",
            name,
            causes.as_slice(),
        ));
    }
    let mut obj = before.clone();
    set(&mut obj, p.spec, json!(replicas));
    let version = str_at(scale, "metadata.resourceVersion");
    if !version.is_empty() {
        set(&mut obj, "metadata.resourceVersion", json!(version));
    }
    Ok(obj)
}
