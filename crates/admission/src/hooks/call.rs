//! One call of a webhook: what is sent, how long it may take, what its answer or failure means.

use std::time::{Duration, Instant};

use bytes::Bytes;
use machinery::ApiError;
use machinery::causes::go_quote;
use machinery::request::Attempt;

use super::configuration::Hook;
use super::matching::Invocation;
use super::review::{self, Answer, Unread};
use super::view::View;
use crate::{Context, limits, metrics};

/// Why a write does not go on.
#[derive(Debug)]
pub enum Failure {
    /// The webhook was not reached, or answered nonsense: failurePolicy decides. Upstream: ErrCallingWebhook.
    Calling(String),
    /// The webhook said no.
    Denied(ApiError),
    /// Whatever the policy: the client or this server is at fault.
    Other(ApiError),
}

/// What an allowing webhook said beside its yes.
#[derive(Debug)]
pub struct Said {
    /// A JSON patch; empty where there is none.
    pub patch: Vec<u8>,
    pub patch_type: String,
}

/// Upstream's text for a failed call.
pub fn failed(hook: &Hook, why: &str) -> String {
    format!("failed calling webhook {}: {why}", go_quote(&hook.name))
}

/// What a failed call means under failurePolicy Fail.
pub fn internal(hook: &Hook, why: &str) -> ApiError {
    tracing::warn!(
        webhook = hook.name,
        configuration = hook.configuration,
        why,
        "failed calling webhook, failing closed"
    );
    ApiError::internal(failed(hook, why))
}

/// Notes that a failed call was ignored.
pub fn failed_open(a: &Attempt<'_>, hook: &Hook, why: &str, annotation: String, mutating: bool) {
    metrics::failed_open(&hook.name, mutating);
    tracing::warn!(
        webhook = hook.name,
        configuration = hook.configuration,
        why,
        "failed calling webhook, failing open"
    );
    a.audit_annotations.insert(annotation, &hook.name);
}

/// Calls a webhook about what `view` shows. Warnings and annotations of its answer are noted, whatever it says.
pub async fn call(
    context: &Context,
    a: &Attempt<'_>,
    view: &View,
    hook: &Hook,
    i: &Invocation,
    mutating: bool,
) -> Result<Said, Failure> {
    let begun = Instant::now();
    let said = send(context, a, view, hook, i, mutating).await;
    let (ignores, took) = (hook.ignores_failure, begun.elapsed());
    metrics::webhook(a, &hook.name, ignores, mutating, said.as_ref().err(), took);
    said
}

async fn send(
    context: &Context,
    a: &Attempt<'_>,
    view: &View,
    hook: &Hook,
    i: &Invocation,
    mutating: bool,
) -> Result<Said, Failure> {
    check_dry_run(a, hook)?;
    let creating =
        |why: String| Failure::Calling(format!("could not create admission objects: {why}"));
    let version = review::version(&hook.review_versions).map_err(creating)?;
    let uid = uuid::Uuid::new_v4().to_string();
    let body = review::encoded(a, view, i, version, &uid).map_err(|e| creating(e.to_string()))?;
    if let Err(why) = context.webhooks.check(&hook.client) {
        return Err(Failure::Calling(format!(
            "could not get REST client: {why}"
        )));
    }
    let answer = context
        .webhooks
        .post(
            &hook.client,
            Bytes::from(body),
            timeout(a, hook),
            limits::REVIEW_BYTES,
        )
        .await
        .map_err(|e| Failure::Calling(format!("failed to call webhook: {e}")))?;
    let answer = review::answer(&answer, version, &uid, mutating).map_err(|e| match e {
        Unread::Undecodable(why) => Failure::Calling(format!("failed to call webhook: {why}")),
        Unread::Invalid(why) => {
            Failure::Calling(format!("received invalid webhook response: {why}"))
        }
    })?;
    note(a, hook, &answer);
    if !answer.allowed {
        let e = review::denial(&hook.name, answer.status.as_ref());
        tracing::debug!(webhook = hook.name, error = %e, "rejected by webhook");
        return Err(Failure::Denied(e));
    }
    Ok(Said {
        patch: answer.patch,
        patch_type: answer.patch_type,
    })
}

fn check_dry_run(a: &Attempt<'_>, hook: &Hook) -> Result<(), Failure> {
    match hook.dry_run_safe {
        _ if !a.dry_run => Ok(()),
        Some(true) => Ok(()),
        Some(false) => Err(Failure::Other(ApiError::bad_request(format!(
            "admission webhook {} does not support dry run",
            go_quote(&hook.name)
        )))),
        None => Err(Failure::Calling("Webhook SideEffects is nil".into())),
    }
}

/// The webhook's own time, or what is left of the request's.
fn timeout(a: &Attempt<'_>, hook: &Hook) -> Duration {
    let left = a
        .deadline
        .map(|d| d.saturating_duration_since(Instant::now()));
    left.map_or(hook.timeout, |left| left.min(hook.timeout))
}

fn note(a: &Attempt<'_>, hook: &Hook, answer: &Answer) {
    for (key, value) in &answer.audit_annotations {
        a.audit_annotations
            .insert(format!("{}/{key}", hook.name), value);
    }
    for text in &answer.warnings {
        a.warnings.push(text.clone());
    }
}
