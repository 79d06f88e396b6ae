//! ValidatingAdmissionWebhook: all webhooks that a write concerns are asked at once; the first to refuse is heard.
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/webhook/validating.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use machinery::ApiError;
use machinery::request::{Admission, Attempt, Operation, Steps};

use crate::Context;
use crate::hooks::{self, Configuration, Failure, Invocation, View};

/// Key of the annotation of a webhook that could not be called and was ignored.
const FAILED_OPEN: &str = "failed-open.validating.webhook.admission.k8s.io";

pub struct ValidatingAdmissionWebhook(pub Context);

/// A webhook to call: configuration, place in it, how, and which view it sees.
type Relevant = (Arc<Configuration>, usize, Invocation, usize);

/// What is shown, once for each version.
type Views = Vec<(Invocation, View)>;

impl ValidatingAdmissionWebhook {
    async fn relevant(&self, a: &Attempt<'_>) -> Result<(Vec<Relevant>, Views), ApiError> {
        let (mut out, mut views) = (Vec::new(), Views::new());
        for c in hooks::configurations(&self.0, "validatingwebhookconfigurations") {
            for (at, hook) in c.hooks.iter().enumerate() {
                let mut view = View::default();
                let Some(i) = hooks::invocation(&self.0, a, &mut view, hook).await? else {
                    continue;
                };
                let known = views.iter().position(|(other, _)| other.shows_as(&i));
                let nth = match known {
                    Some(nth) => nth,
                    None => {
                        view.show(a, &i).await?;
                        views.push((i.clone(), view));
                        views.len() - 1
                    }
                };
                out.push((c.clone(), at, i, nth));
            }
        }
        Ok((out, views))
    }

    async fn one(
        &self,
        a: &Attempt<'_>,
        views: &Views,
        nth: usize,
        relevant: &Relevant,
    ) -> Result<(), ApiError> {
        let (configuration, at, i, view) = relevant;
        let hook = &configuration.hooks[*at];
        let view = &views[*view].1;
        let annotation = || format!("{FAILED_OPEN}/round_0_index_{nth}");
        let call = hooks::call(&self.0, a, view, hook, i, false);
        let Ok(answer) = AssertUnwindSafe(call).catch_unwind().await else {
            if hook.ignores_failure {
                hooks::failed_open(a, hook, "panic", annotation(), false);
                return Ok(());
            }
            return Err(ApiError::internal(format!(
                "ValidatingAdmissionWebhook/{} has panicked",
                hook.name
            )));
        };
        match answer {
            Ok(_) => Ok(()),
            Err(Failure::Calling(why)) if hook.ignores_failure => {
                hooks::failed_open(a, hook, &why, annotation(), false);
                Ok(())
            }
            Err(Failure::Calling(why)) => Err(hooks::internal(hook, &why)),
            Err(Failure::Denied(e) | Failure::Other(e)) => Err(e),
        }
    }
}

#[async_trait]
impl Admission for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        if hooks::is_exempt(a) {
            return Ok(());
        }
        let (relevant, views) = self.relevant(a).await?;
        let mut calls: FuturesUnordered<_> = relevant
            .iter()
            .enumerate()
            .map(|(nth, r)| self.one(a, &views, nth, r))
            .collect();
        let mut first = Ok(());
        while let Some(answer) = calls.next().await {
            match (&first, answer) {
                (Ok(()), answer) => first = answer,
                (Err(_), Err(error)) => tracing::debug!(%error, "another webhook refuses, too"),
                _ => {}
            }
        }
        first
    }
}
