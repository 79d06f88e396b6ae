//! GET and LIST of ComponentStatus: the health of the parts and of the store at this moment.
//! Upstream: pkg/registry/core/componentstatus. The parts run in this process and are asked directly.

use std::sync::Arc;

use client::Entry;
use machinery::ApiError;
use serde_json::{Value, json};

use crate::call::Call;
use crate::filter::Filter;
use crate::response::Answer;

/// The store's name among the components.
const STORE: &str = "etcd-0";

/// Answers with one component.
pub async fn get(call: &Call) -> Result<Answer, ApiError> {
    let name = call.info.name.as_str();
    let missing = || ApiError::not_found("", "componentstatus", name);
    let value = status(call, name).await.ok_or_else(missing)?;
    super::get::object(call, 200, value)
}

/// Answers with the components that match; nothing but their names is there to be matched.
pub async fn list(call: &Call) -> Result<Answer, ApiError> {
    let filter = Filter::of(call)?;
    let plugins = call.server.plugins.get();
    let parts = plugins.map_or(&[][..], |p| &p.components);
    let names = parts.iter().map(|c| c.name).chain([STORE]);
    let mut entries = Vec::new();
    for name in names {
        let Some(value) = status(call, name).await else {
            continue;
        };
        let bytes = serde_json::to_vec(&value).map_err(ApiError::internal)?;
        let entry = Entry::new(bytes.into(), 0, Vec::new()).map_err(ApiError::internal)?;
        if filter.matches(&entry) {
            entries.push(Arc::new(entry));
        }
    }
    super::list::computed(call, entries).await
}

/// The ComponentStatus of a name, if there is one.
async fn status(call: &Call, name: &str) -> Option<Value> {
    let health = if name == STORE {
        let asked = call.server.store.revision().await;
        asked.map(drop).map_err(|e| e.to_string())
    } else {
        let plugins = call.server.plugins.get()?;
        let part = plugins.components.iter().find(|c| c.name == name)?;
        (part.check)()
    };
    let condition = match health {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(why) => json!({"type": "Healthy", "status": "False", "message": why}),
    };
    Some(json!({"kind": "ComponentStatus", "apiVersion": "v1",
        "metadata": {"name": name}, "conditions": [condition]}))
}
