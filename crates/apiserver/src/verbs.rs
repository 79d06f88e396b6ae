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

/// Makes sure that somebody serves a request, which upstream's routers do before they negotiate a format.
pub fn routed(call: &Call) -> Result<(), ApiError> {
    let info = &call.info;
    let d = call.descriptor();
    let served = match info.subresource.as_str() {
        "" => verb(call).is_some(),
        name => {
            let sub = d.subresources.iter().find(|s| s.name == name);
            let sub = sub.ok_or_else(|| match call.is_custom() {
                true => ApiError::not_found(&d.group, &d.resource, &info.name),
                false => ApiError::path_not_found(),
            })?;
            serves(&sub.kind, &info.verb)
        }
    };
    if !served {
        return Err(no_verb(call));
    }
    if !call.is_custom() {
        return crate::router::call(call, patch::types(call));
    }
    if info.verb == "patch" {
        patch::check_type(call)?;
    }
    let named = ["get", "update", "patch", "delete"].contains(&info.verb.as_str());
    match named {
        true => check_name(call),
        false => Ok(()),
    }
}

/// The verb of a request for the main resource, where that has it.
fn verb(call: &Call) -> Option<Verb> {
    let verb = match call.info.verb.as_str() {
        "get" => Verb::Get,
        "list" => Verb::List,
        "watch" => Verb::Watch,
        "create" => Verb::Create,
        "update" => Verb::Update,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        "deletecollection" => Verb::DeleteCollection,
        _ => return None,
    };
    let named = verb == Verb::Create && !call.info.name.is_empty();
    let has = call.descriptor().verbs.contains(&verb) && (!named || call.is_custom());
    has.then_some(verb)
}

/// Whether a subresource has a verb.
fn serves(kind: &SubresourceKind, verb: &str) -> bool {
    match kind {
        SubresourceKind::Status | SubresourceKind::Object | SubresourceKind::Scale { .. } => {
            ["get", "update", "patch"].contains(&verb)
        }
        SubresourceKind::ObjectUpdate => verb == "update",
        SubresourceKind::Connect { .. } => verb == "create",
    }
}

/// Carries out a resource request that is `routed`. What is long is boxed: every layer around it would be as large, and
/// is moved.
pub async fn dispatch(call: &Call, body: Bytes) -> Result<Answer, ApiError> {
    if !call.info.subresource.is_empty() {
        return Box::pin(subresource(call, body)).await;
    }
    match verb(call).ok_or_else(|| no_verb(call))? {
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
    let subs = &call.descriptor().subresources;
    let sub = subs.iter().find(|s| s.name == name);
    let sub = sub.ok_or_else(ApiError::path_not_found)?;
    match (&sub.kind, call.info.verb.as_str()) {
        (SubresourceKind::Scale { .. }, _) => crate::scale::scale(call, &body, &sub.kind).await,
        (SubresourceKind::Connect { .. }, _) => create::connect(call, &body).await,
        (_, "get") => get::get(call).await,
        (_, "update") => update::update(call, &body, name).await,
        (_, "patch") => patch::patch(call, &body, name).await,
        _ => Err(no_verb(call)),
    }
}

/// 400 where a custom resource's path names no object: no router stands before those.
fn check_name(call: &Call) -> Result<(), ApiError> {
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

pub use patch::{patched, unread};
pub use update::{check_names, replace};
