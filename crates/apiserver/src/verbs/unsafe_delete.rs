//! Deletion of what cannot be read (`ignoreStoreReadErrorWithClusterBreakingPotential`): no preconditions, no
//! finalizers, no admission. Upstream: registry/generic/registry/corrupt_obj_deleter.go.

use client::Cache;
use machinery::ApiError;
use serde_json::{Value, json};
use store::WriteError;

use super::write;
use crate::call::Call;
use crate::limits;
use crate::query::Query;
use crate::registry::storage_key;
use crate::request_info::RequestInfo;
use crate::response::{self, Answer};

/// What one must be allowed to do besides deleting.
const VERB: &str = "unsafe-delete-ignore-read-errors";

/// Deletes the object that the call names, if it cannot be read.
pub async fn delete(call: &Call, dry_run: bool) -> Result<Answer, ApiError> {
    let (d, name) = (call.descriptor(), &call.info.name);
    allowed(call).await?;
    let cache = call.cache()?;
    let key = storage_key(d, &call.info.namespace_of(d), name);
    let not_found = || ApiError::not_found(&d.group, &d.resource, name);
    for _ in 0..limits::CONFLICT_TRIES {
        let found = call.server.store.get(key.clone()).await;
        let kv = found.map_err(write::store_error)?.ok_or_else(not_found)?;
        if crate::cache::follow::entry(cache, &kv).is_ok() {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: unsafe deletion is not allowed because the object is decodable from storage"
            );
            return Err(ApiError::conflict(&d.group, &d.resource, name, &why));
        }
        if dry_run {
            return Ok(done(call));
        }
        match call
            .server
            .store
            .delete(key.clone().into(), kv.mod_revision)
            .await
        {
            Ok(revision) => {
                cache.wait_for(revision).await;
                return Ok(done(call));
            }
            Err(WriteError::Conflict(None)) => return Err(not_found()),
            Err(WriteError::Conflict(Some(_))) => {}
            Err(WriteError::Store(e)) => return Err(write::store_error(e)),
        }
    }
    Err(ApiError::modified(&d.group, &d.resource, name))
}

async fn allowed(call: &Call) -> Result<(), ApiError> {
    let info = RequestInfo {
        verb: VERB.into(),
        ..RequestInfo::clone(&call.info)
    };
    let attributes = crate::filters::attributes(&info, &Query::default(), &call.user);
    let done = crate::filters::authorize(&call.server, &attributes).await;
    done.map_err(|_| {
        let d = call.descriptor();
        let why = format!("not permitted to do \"{VERB}\", reason: ");
        ApiError::forbidden(&d.group, &d.resource, &call.info.name, &why)
    })
}

/// Nothing is known of what is gone.
fn done(call: &Call) -> Answer {
    let d = call.descriptor();
    let status: Value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": call.info.name, "kind": d.kind}, "code": 200});
    response::value(200, &status, &call.format)
}
