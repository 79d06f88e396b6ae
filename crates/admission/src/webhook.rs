//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: the webhooks that configurations name are asked
//! about writes. Upstream: apiserver/pkg/admission/plugin/webhook/{mutating,validating}.
//!
//! `hooks` tells which webhooks a write is for, `review` what they are told and what they say.
//! Left out: `matchPolicy: Equivalent` between versions of built-in kinds. `matchConditions` count as failed
//! calls: the expressions are not evaluated yet.

mod hooks;
mod review;

use std::sync::Arc;

use api::schema;
use async_trait::async_trait;
use client::webhook::Caller;
use futures::future::join_all;
use machinery::object::str_at;
use machinery::request::{Admission, Attempt, Operation};
use machinery::{ApiError, conform};
use parking_lot::Mutex;
use rand::Rng;

use crate::Context;
use hooks::Hook;
use review::Verdict;

/// The webhooks of a kind of configuration, as they were at some versions of these.
#[derive(Default)]
struct Known {
    versions: Vec<u64>,
    hooks: Arc<Vec<Hook>>,
}

/// What both plugins are made of.
struct Hooks {
    context: Context,
    caller: Caller,
    resource: &'static str,
    known: Mutex<Known>,
}

/// Why a call came to nothing.
enum Failed {
    /// The write is refused.
    Refused(ApiError),
    /// The webhook was not reached or did not answer properly.
    Call(String),
}

// === Hooks ===

impl Hooks {
    fn new(context: Context, resource: &'static str) -> Self {
        let caller = Caller::new(context.reads.clone());
        Self {
            context,
            caller,
            resource,
            known: Mutex::default(),
        }
    }

    /// All webhooks there are now. Nothing is parsed while no configuration changes.
    fn all(&self) -> Arc<Vec<Hook>> {
        let Some(cache) = self.context.cache(hooks::GROUP, self.resource) else {
            return Arc::default();
        };
        let entries = cache.list(None);
        let versions: Vec<u64> = entries.iter().map(|e| e.revision).collect();
        let mut known = self.known.lock();
        if known.versions != versions {
            let objects: Vec<_> = entries.iter().filter_map(|e| crate::parsed(e)).collect();
            *known = Known {
                versions,
                hooks: Arc::new(hooks::of(&objects)),
            };
        }
        known.hooks.clone()
    }

    /// The webhooks to ask, each with the version it wants to see. Configurations themselves are exempt.
    fn chosen<'h>(
        &self,
        all: &'h [Hook],
        a: &Attempt<'_>,
    ) -> Result<Vec<(&'h Hook, String)>, ApiError> {
        if a.descriptor.group == hooks::GROUP {
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        for hook in all {
            if let Some(version) = hook.wants(a, &self.context)? {
                out.push((hook, version));
            }
        }
        Ok(out)
    }

    /// Asks one webhook.
    async fn ask(&self, hook: &Hook, version: &str, a: &Attempt<'_>) -> Result<Verdict, Failed> {
        if a.dry_run && !hook.dry_runs {
            let text = format!("admission webhook {:?} does not support dry run", hook.name);
            return Err(Failed::Refused(ApiError::bad_request(text)));
        }
        if hook.conditional {
            let text = "matchConditions are not supported by this server yet";
            return Err(Failed::Call(text.into()));
        }
        let uid = random_id();
        let body = review::request(hook, a, version, &uid).to_string();
        let answer = self
            .caller
            .post(&hook.client, hook.timeout, body.into_bytes())
            .await
            .map_err(|e| Failed::Call(format!("failed to call webhook: {e}")))?;
        let verdict = review::verdict(hook, &uid, &answer)
            .map_err(|e| Failed::Call(format!("received invalid webhook response: {e}")))?;
        match &verdict.refusal {
            Some(status) => Err(Failed::Refused(review::refused(&hook.name, status))),
            None => Ok(verdict),
        }
    }

    /// What a failed call means for the write.
    fn judge(&self, hook: &Hook, failed: Failed) -> Result<(), ApiError> {
        let why = match failed {
            Failed::Refused(error) => return Err(error),
            Failed::Call(why) => format!("failed calling webhook {:?}: {why}", hook.name),
        };
        if hook.fails {
            return Err(ApiError::internal(why));
        }
        tracing::warn!(webhook = %hook.name, %why, "failing open");
        Ok(())
    }
}

fn random_id() -> String {
    let n: u128 = rand::rng().random();
    let hex = format!("{n:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

// === MutatingAdmissionWebhook ===

/// Lets webhooks change objects, one after the other.
pub struct MutatingAdmissionWebhook(Hooks);

impl MutatingAdmissionWebhook {
    /// The plugin.
    pub fn new(context: Context) -> Self {
        Self(Hooks::new(context, "mutatingwebhookconfigurations"))
    }

    /// Asks one webhook and applies what it changes; whether it changed something.
    async fn apply(
        &self,
        hook: &Hook,
        version: &str,
        a: &mut Attempt<'_>,
    ) -> Result<bool, ApiError> {
        let verdict = match self.0.ask(hook, version, a).await {
            Ok(verdict) => verdict,
            Err(failed) => return self.0.judge(hook, failed).map(|()| false),
        };
        verdict
            .warnings
            .into_iter()
            .for_each(|w| a.warnings.push(w));
        let Some(patch) = verdict.patch else {
            return Ok(false);
        };
        let Some(before) = a.object.clone() else {
            return Err(ApiError::internal(format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            )));
        };
        let after = machinery::patch::json_patch(&review::patched(a, version), &patch)
            .map_err(|e| ApiError::internal(e.message))?;
        let mut after = review::take_back(a, &before, after);
        settle(a, &mut after)?;
        let changed = after != before;
        a.object = Some(after);
        Ok(changed)
    }
}

/// Makes a changed object conform to its kind again: unknown fields go, defaults come.
fn settle(a: &Attempt<'_>, object: &mut serde_json::Value) -> Result<(), ApiError> {
    let api_version = str_at(object, "apiVersion").to_string();
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    if let Some(schema) = schema::lookup(group, version, str_at(object, "kind")) {
        conform::conform(schema, object).map_err(ApiError::internal)?;
    }
    if str_at(object, "kind") == a.descriptor.kind {
        a.descriptor.strategy.set_defaults(object);
    }
    Ok(())
}

#[async_trait]
impl Admission for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn handles(&self, _: Operation) -> bool {
        true
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        let all = self.0.all();
        if all.is_empty() || a.descriptor.group == hooks::GROUP {
            return Ok(());
        }
        // Each is chosen by what those before it have made of the object.
        let (mut asked, mut last_change) = (Vec::new(), None);
        for (i, hook) in all.iter().enumerate() {
            let Some(version) = hook.wants(a, &self.0.context)? else {
                continue;
            };
            if self.apply(hook, &version, a).await? {
                last_change = Some(i);
            }
            asked.push((i, hook));
        }
        for (i, hook) in asked {
            if hook.again
                && last_change.is_some_and(|last| last > i)
                && let Some(version) = hook.wants(a, &self.0.context)?
            {
                self.apply(hook, &version, a).await?;
            }
        }
        Ok(())
    }
}

// === ValidatingAdmissionWebhook ===

/// Asks webhooks whether a write is fine, all at once.
pub struct ValidatingAdmissionWebhook(Hooks);

impl ValidatingAdmissionWebhook {
    /// The plugin.
    pub fn new(context: Context) -> Self {
        Self(Hooks::new(context, "validatingwebhookconfigurations"))
    }
}

#[async_trait]
impl Admission for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, _: Operation) -> bool {
        true
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        let all = self.0.all();
        if all.is_empty() {
            return Ok(());
        }
        let chosen = self.0.chosen(&all, a)?;
        let asked =
            chosen.iter().map(
                async |(hook, version)| match self.0.ask(hook, version, a).await {
                    Ok(verdict) => {
                        verdict
                            .warnings
                            .into_iter()
                            .for_each(|w| a.warnings.push(w));
                        Ok(())
                    }
                    Err(failed) => self.0.judge(hook, failed),
                },
            );
        join_all(asked).await.into_iter().collect()
    }
}
