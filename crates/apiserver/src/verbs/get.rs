//! GET of one object.

use client::Cache;
use machinery::ApiError;

use crate::call::Call;
use crate::negotiate::Transform;
use crate::response::{self, Answer};
use crate::transform::{self, IncludeObject};

/// Answers with one object: its shared bytes where no transform is asked for.
pub async fn get(call: &Call) -> Result<Answer, ApiError> {
    let cache = call.cache()?;
    call.server
        .wait_fresh(cache, call.query.get("resourceVersion"))
        .await?;
    let entry = cache
        .get(&call.info.namespace_of(call.descriptor()), &call.info.name)
        .ok_or_else(|| call.not_found(&call.info.name))?;
    if call.sends_stored_bytes() {
        return Ok(response::stored(200, entry.bytes.clone()));
    }
    let value = call.view(&entry).await?;
    object(call, 200, value)
}

/// Answers with an object that was just written: the bytes that readers get, where those are what
/// the client is sent and nobody was faster.
pub async fn written(call: &Call, code: u16, value: serde_json::Value) -> Result<Answer, ApiError> {
    let converts = call.descriptor().strategy.converter().is_some();
    if (call.sends_stored_bytes() || converts)
        && !call.dry_run()
        && let Ok(version) =
            machinery::object::str_at(&value, "metadata.resourceVersion").parse::<u64>()
    {
        let name = machinery::object::name(&value);
        let namespace = call.info.namespace_of(call.descriptor());
        let entry = call.cache()?.get(&namespace, name);
        match entry.filter(|e| e.revision == version) {
            // What a webhook made of it on the way to the store counts.
            Some(entry) if converts => {
                let value = call.view(&entry).await?;
                return object(call, code, value);
            }
            Some(entry) => {
                return Ok(response::stored(code, entry.bytes.clone()));
            }
            None => {}
        }
    }
    object(call, code, value)
}

/// Answers with an object in the format and transform asked for.
pub fn object(call: &Call, code: u16, value: serde_json::Value) -> Result<Answer, ApiError> {
    let d = call.descriptor();
    let shown = match &call.format.transform {
        Transform::None => value,
        Transform::Table(v) => {
            let include = IncludeObject::parse(call.query.get("includeObject"))?;
            let meta = serde_json::json!({
                "resourceVersion": machinery::object::str_at(&value, "metadata.resourceVersion")});
            let row = transform::row(d, &value, v, include, call.now);
            transform::table(transform::columns(d), vec![row], v, meta)
        }
        Transform::PartialMetadata(v) => transform::partial(&value, v),
        Transform::PartialMetadataList(_) if call.is_custom() => {
            // Upstream takes what is unstructured for a list until it looks for the items.
            return Err(ApiError::new(500, "", "content is not a list"));
        }
        Transform::PartialMetadataList(_) => {
            let text = format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list (*{})",
                super::list::go_type(call, &d.kind, "Unstructured")
            );
            return Err(ApiError::new(406, "NotAcceptable", text));
        }
    };
    Ok(response::value(code, &shown, &call.format))
}
