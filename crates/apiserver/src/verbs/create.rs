//! CREATE. Upstream: apiserver handlers/create.go, registry/rest/create.go; api-semantics §5.3.

use bytes::Bytes;
use machinery::object::{remove, set, str_at};
use machinery::request::Operation;
use machinery::{ApiError, Causes};
use serde_json::{Value, json};
use store::WriteError;

use super::managed;
use super::write::{self, Reservations, Target};
use crate::call::Call;
use crate::decode;
use crate::negotiate;
use crate::registry::storage_key;
use crate::response::Answer;

/// How many generated names are tried.
const NAME_TRIES: usize = 8;

/// Creates the body's object.
pub async fn create(call: &Call, body: &Bytes) -> Result<Answer, ApiError> {
    let d = call.descriptor().clone();
    let dry_run = call.write_options()?;
    let mut obj = decode::own(call, body)?;
    write::unique_owners(call, &mut obj, false);
    if !d.stored {
        return answer_only(call, "", obj, dry_run).await;
    }
    let (value, code) = new_object(call, obj, dry_run).await?;
    super::get::written(call, code, value).await
}

/// A create of a kind that is answered and never stored, or of a create-only subresource.
async fn answer_only(
    call: &Call,
    sub: &str,
    mut obj: Value,
    dry_run: bool,
) -> Result<Answer, ApiError> {
    let d = call.descriptor();
    let creator = call
        .server
        .creator(d, sub)
        .ok_or_else(|| call.not_allowed("create"))?;
    if sub.is_empty() {
        d.strategy.set_defaults(&mut obj);
        let mut causes = Causes::new();
        d.strategy.validate(&obj, &mut causes);
        write::judge(call, &obj, &causes)?;
    }
    let target = Target {
        operation: Operation::Create,
        subresource: sub,
        namespace: &call.info.namespace,
        name: &call.info.name,
        dry_run,
        options: call.options("CreateOptions"),
    };
    let obj = write::mutate(call, &target, Some(obj), None)
        .await?
        .unwrap_or_default();
    let obj = write::validate(call, &target, Some(obj), None)
        .await?
        .unwrap_or_default();
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let made = creator
        .create(&call.user, namespace, name, obj, dry_run)
        .await?;
    Ok(crate::response::value(201, &made, &call.format))
}

/// A POST to a create-only subresource such as `pods/binding`.
pub async fn connect(call: &Call, body: &Bytes) -> Result<Answer, ApiError> {
    let media = negotiate::request(&call.headers, true, call.server.serves_cbor())?;
    let dry_run = call.write_options()?;
    let obj = if body.is_empty() {
        json!({})
    } else {
        decode::object(body, media, "Object")?
    };
    let sub = call.info.subresource.as_str();
    if call.descriptor().strategy.actions().contains(&sub) {
        return super::action::act(call, sub, obj, dry_run).await;
    }
    answer_only(call, sub, obj, dry_run).await
}

/// Stores a new object; gives it with 201.
pub async fn new_object(
    call: &Call,
    mut obj: Value,
    dry_run: bool,
) -> Result<(Value, u16), ApiError> {
    let d = call.descriptor().clone();
    if let Some(why) = d.strategy.create_refused() {
        let name = str_at(&obj, "metadata.name");
        return Err(ApiError::forbidden(&d.group, &d.resource, name, &why));
    }
    let namespace = namespace(call, &obj)?;
    let version = str_at(&obj, "metadata.resourceVersion").parse::<u64>();
    if d.namespaced() {
        set(&mut obj, "metadata.namespace", json!(namespace));
    }
    write::defaults(call, &mut obj);
    let generated = str_at(&obj, "metadata.name").is_empty();
    let name = str_at(&obj, "metadata.name").to_string();
    let target = Target {
        operation: Operation::Create,
        subresource: "",
        namespace: &namespace,
        name: &name,
        dry_run,
        options: call.options("CreateOptions"),
    };
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        remove(&mut obj, &format!("metadata.{field}"));
    }
    if !call.applies() {
        managed::track(call, None, &mut obj, "");
    }
    let mut obj = write::mutate(call, &target, Some(obj), None)
        .await?
        .unwrap_or_default();
    write::unique_owners(call, &mut obj, true);
    write::defaults(call, &mut obj);
    write::system_fields(call, &mut obj, &namespace);
    if d.strategy.has_status() {
        remove(&mut obj, "status");
        if d.strategy.shows_empty_status() {
            set(&mut obj, "status", json!({}));
        }
    }
    d.strategy
        .prepare_create(&mut obj, &write::context(call, &namespace, ""));
    let reserved = Reservations::begin(call, &mut obj, None, dry_run).await?;
    let mut causes = Causes::new();
    let problems = |name: &str, prefix: bool| d.strategy.name_problems(name, prefix);
    let validate = match call.is_generic() {
        true => machinery::meta::validate_generic,
        false => machinery::meta::validate,
    };
    // Of another kind it is refused for that, and its metadata is not looked at.
    if d.strategy.is_of_kind(&obj) {
        validate(&obj, d.namespaced(), &problems, &mut causes);
    }
    d.strategy.validate(&obj, &mut causes);
    write::judge(call, &obj, &causes)?;
    if call.is_custom() {
        decode::whole_numbers(&mut obj);
    }
    d.strategy
        .warnings(&obj, None)
        .into_iter()
        .for_each(|w| call.warn(w));
    let obj = write::validate(call, &target, Some(obj), None)
        .await?
        .unwrap_or_default();
    if !dry_run && version.as_ref().is_ok_and(|v| *v > 0) {
        // Upstream's store finds it, and what it finds is no Status.
        let why = "resourceVersion should not be set on objects to be created";
        return Err(ApiError::new(500, "", why));
    }
    let mut stored = store_new(call, obj, &namespace, generated, dry_run).await?;
    match version {
        // Only storing an object gives it a version of its own.
        Ok(version) if dry_run => {
            set(
                &mut stored,
                "metadata.resourceVersion",
                json!(version.to_string()),
            );
        }
        _ if !dry_run => reserved.commit(),
        _ => {}
    }
    Ok((stored, 201))
}

async fn store_new(
    call: &Call,
    mut obj: Value,
    namespace: &str,
    generated: bool,
    dry_run: bool,
) -> Result<Value, ApiError> {
    let d = call.descriptor();
    for tried in 1.. {
        let name = str_at(&obj, "metadata.name").to_string();
        let exists = |other: Option<&Value>| {
            let mut e = ApiError::already_exists(&d.group, &d.resource, &name);
            if other.is_some_and(machinery::object::is_deleting) {
                e.message.insert_str(0, "object is being deleted: ");
            }
            e
        };
        let read = |kv: Option<store::KeyValue>| -> Option<Value> {
            serde_json::from_slice(&kv?.value).ok()
        };
        if dry_run {
            let taken = client::Cache::get(&**call.cache()?, namespace, &name);
            return match taken {
                Some(other) => Err(exists(other.value().ok().as_ref())),
                None => {
                    if call.is_custom() {
                        crate::conversion::reread(d, &mut obj);
                    }
                    Ok(obj)
                }
            };
        }
        let key = storage_key(d, namespace, &name);
        let lease = write::lease(call).await?;
        match call
            .server
            .store
            .create(key.into(), write::encode(call, &mut obj).await?, lease)
            .await
        {
            Ok(revision) => {
                write::visible(call, &mut obj, revision).await?;
                crate::conversion::reread(d, &mut obj);
                return Ok(obj);
            }
            Err(WriteError::Conflict(_)) if generated && tried < NAME_TRIES => {
                let base = str_at(&obj, "metadata.generateName").to_string();
                set(
                    &mut obj,
                    "metadata.name",
                    json!(write::generate_name(&base)),
                );
            }
            Err(WriteError::Conflict(other)) if generated => {
                let mut e = exists(read(other).as_ref());
                e.message
                    .push_str(", the server was not able to generate a unique name for the object");
                if let Some(details) = e.details.as_mut() {
                    details.retry_after_seconds = 1;
                }
                return Err(e);
            }
            Err(WriteError::Conflict(other)) => return Err(exists(read(other).as_ref())),
            Err(WriteError::Store(e)) => return Err(write::store_error(e)),
        }
    }
    Err(ApiError::internal("no name was tried"))
}

/// The namespace of the request; the object must name none or the same.
fn namespace(call: &Call, obj: &Value) -> Result<String, ApiError> {
    let d = call.descriptor();
    let given = str_at(obj, "metadata.namespace");
    if !d.namespaced() {
        return Ok(String::new());
    }
    let asked = call.info.namespace.as_str();
    if asked.is_empty() {
        return Err(ApiError::bad_request(
            "an empty namespace may not be set during creation",
        ));
    }
    if !given.is_empty() && given != asked {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(asked.to_string())
}
