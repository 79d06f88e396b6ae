//! The verbs over any resource. `dispatch` is the only way in; each verb is a file.

mod action;
mod component;
mod create;
mod delete;
mod get;
pub mod list;
pub mod managed;
mod patch;
mod unsafe_delete;
mod update;
mod watch;
mod write;

pub use write::timestamp;

use bytes::Bytes;
use machinery::{ApiError, SubresourceKind, Verb};

use crate::call::Call;
use crate::response::Answer;

/// Carries out a resource request. What is long is boxed: every layer around it would be as large, and is moved.
pub async fn dispatch(call: &Call, body: Bytes) -> Result<Answer, ApiError> {
    let info = &call.info;
    if !info.subresource.is_empty() {
        return Box::pin(subresource(call, body)).await;
    }
    let verb = match info.verb.as_str() {
        "get" => Verb::Get,
        "list" => Verb::List,
        "watch" => Verb::Watch,
        "create" => Verb::Create,
        "update" => Verb::Update,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        "deletecollection" => Verb::DeleteCollection,
        _ => return Err(no_verb(call)),
    };
    let custom = call.is_custom();
    let named = verb == Verb::Create && !info.name.is_empty();
    if !call.descriptor().verbs.contains(&verb) || (named && !custom) {
        return Err(no_verb(call));
    }
    if verb == Verb::Update && custom {
        check_name(call)?;
    }
    match verb {
        Verb::Get if !call.descriptor().stored => Box::pin(component::get(call)).await,
        Verb::List if !call.descriptor().stored => Box::pin(component::list(call)).await,
        Verb::Get => get::get(call).await,
        Verb::List => Box::pin(list::list(call)).await,
        Verb::Watch => Box::pin(watch::watch(call)).await,
        Verb::Create => Box::pin(create::create(call, &body)).await,
        Verb::Update => Box::pin(update::update(call, &body, "")).await,
        Verb::Patch => Box::pin(patch::patch(call, &body, "")).await,
        Verb::Delete => Box::pin(delete::delete(call, &body)).await,
        Verb::DeleteCollection => Box::pin(delete::collection(call, &body)).await,
    }
}

async fn subresource(call: &Call, body: Bytes) -> Result<Answer, ApiError> {
    let name = call.info.subresource.as_str();
    let Some(sub) = call
        .descriptor()
        .subresources
        .iter()
        .find(|s| s.name == name)
    else {
        return Err(match call.is_custom() {
            true => {
                let d = call.descriptor();
                ApiError::not_found(&d.group, &d.resource, &call.info.name)
            }
            false => ApiError::path_not_found(),
        });
    };
    match (&sub.kind, call.info.verb.as_str()) {
        (SubresourceKind::Status | SubresourceKind::Object, "get") => get::get(call).await,
        (
            SubresourceKind::Status | SubresourceKind::Object | SubresourceKind::ObjectUpdate,
            "update",
        ) => update::update(call, &body, name).await,
        (SubresourceKind::Status | SubresourceKind::Object, "patch") => {
            patch::patch(call, &body, name).await
        }
        (SubresourceKind::Scale { .. }, "get" | "update" | "patch") => {
            crate::scale::scale(call, &body, &sub.kind).await
        }
        (SubresourceKind::Connect { .. }, "create") => create::connect(call, &body).await,
        _ => Err(no_verb(call)),
    }
}

/// 400 where a custom resource's path names no object: no router stands before those.
pub fn check_name(call: &Call) -> Result<(), ApiError> {
    match call.info.name.is_empty() {
        true => Err(ApiError::bad_request("name must be provided")),
        false => Ok(()),
    }
}

/// 405 for a verb that the resource has not.
fn no_verb(call: &Call) -> ApiError {
    match call.is_custom() {
        true => call.not_allowed(&call.info.verb),
        false => no_method(),
    }
}

/// 405 as the router in front of the built-in kinds says it.
pub fn no_method() -> ApiError {
    let mut e = ApiError::new(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    );
    e.details = Some(Box::default());
    e
}

pub use patch::patched;
pub use update::{check_names, replace};
