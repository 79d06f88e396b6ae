//! Create-only subresources whose body changes the object that the call names: `pods/binding`.
//! Upstream: BindingREST; the body's uid and resourceVersion are preconditions.

use client::Cache;
use machinery::ApiError;
use machinery::object::str_at;
use machinery::request::Operation;
use serde_json::{Value, json};
use store::WriteError;

use super::write::{self, Target};
use crate::call::Call;
use crate::limits;
use crate::registry::storage_key;
use crate::response::Answer;

/// Admits the body and carries it out; answers with a Status.
pub async fn act(call: &Call, sub: &str, body: Value, dry_run: bool) -> Result<Answer, ApiError> {
    let target = Target {
        operation: Operation::Create,
        subresource: sub,
        namespace: &call.info.namespace,
        name: &call.info.name,
        dry_run,
        options: call.options("CreateOptions"),
    };
    let body = write::mutate(call, &target, Some(body), None).await?;
    let body = write::validate(call, &target, body, None).await?;
    change(call, sub, &body.unwrap_or_default(), dry_run).await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(crate::response::value(201, &status, &call.format))
}

async fn change(call: &Call, sub: &str, body: &Value, dry_run: bool) -> Result<(), ApiError> {
    let cache = call.cache()?.clone();
    let d = call.descriptor();
    let (namespace, name) = (call.info.namespace_of(d), &call.info.name);
    for _ in 0..limits::CONFLICT_TRIES {
        let entry = cache
            .get(&namespace, name)
            .ok_or_else(|| call.not_found(name))?;
        let mut obj = call.view(&entry).await?;
        preconditions(call, body, &obj)?;
        let cx = write::context(call, &namespace, sub);
        d.strategy.act(sub, &mut obj, body, &cx)?;
        if dry_run {
            return Ok(());
        }
        let key = storage_key(d, &namespace, name);
        let data = write::encode(call, &mut obj).await?;
        match call
            .server
            .store
            .update(key.into(), data, entry.revision, 0)
            .await
        {
            Ok(revision) => return write::visible(call, &mut obj, revision).await,
            Err(WriteError::Conflict(None)) => return Err(call.not_found(name)),
            Err(WriteError::Conflict(Some(_))) => {
                let newest = call.server.store.revision().await;
                cache.wait_for(newest.map_err(write::store_error)?).await;
            }
            Err(WriteError::Store(e)) => return Err(write::store_error(e)),
        }
    }
    Err(ApiError::modified(&d.group, &d.resource, name))
}

fn preconditions(call: &Call, body: &Value, stored: &Value) -> Result<(), ApiError> {
    let d = call.descriptor();
    for (what, path) in [
        ("UID", "metadata.uid"),
        ("ResourceVersion", "metadata.resourceVersion"),
    ] {
        let (asked, is) = (str_at(body, path), str_at(stored, path));
        if !asked.is_empty() && asked != is {
            let why = format!(
                "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {is}"
            );
            let name = &call.info.name;
            return Err(ApiError::conflict(&d.group, &d.resource, name, &why));
        }
    }
    Ok(())
}
