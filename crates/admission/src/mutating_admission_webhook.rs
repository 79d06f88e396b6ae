//! MutatingAdmissionWebhook: webhooks one after the other, each seeing what those before it made of the object; once
//! more for those that want to see what came after them.
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/webhook/mutating.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::causes::go_quote;
use machinery::patch;
use machinery::request::{Admission, Attempt, Operation, Steps};
use serde_json::{Value, json};

use crate::Context;
use crate::hooks::{self, Configuration, Failure, Hook, Invocation, Said, View};

const NAME: &str = "MutatingAdmissionWebhook";
const MUTATION: &str = "mutation.webhook.admission.k8s.io";
const PATCH: &str = "patch.webhook.admission.k8s.io";

pub struct MutatingAdmissionWebhook(pub Context);

/// What the first round leaves to the second.
#[derive(Default)]
struct Rounds {
    /// The object as the last call of this plugin left it.
    output: Option<Value>,
    /// Called, willing to be called again, and nothing has changed since.
    called: HashSet<String>,
    /// To be called again.
    again: HashSet<String>,
}

impl Rounds {
    fn require(&mut self) {
        self.again.extend(self.called.drain());
    }
}

impl MutatingAdmissionWebhook {
    async fn round(
        &self,
        a: &mut Attempt<'_>,
        view: &mut View,
        all: &[Arc<Configuration>],
    ) -> Result<(), ApiError> {
        let round = u8::from(a.reinvocation.again);
        let every = all.iter().flat_map(|c| &c.hooks).enumerate();
        for (nth, hook) in every {
            let Some(i) = hooks::invocation(&self.0, a, view, hook).await? else {
                continue;
            };
            let rounds = a.reinvocation.state::<Rounds>(NAME);
            // Nobody is called for the first time in the second round.
            if round == 1 && !rounds.again.contains(&hook.uid) {
                continue;
            }
            view.show(a, &i).await?;
            let place = format!("round_{round}_index_{nth}");
            let answer = self.one(a, view, hook, &i, &place).await;
            if let Ok(true) = answer {
                a.reinvocation.state::<Rounds>(NAME).require();
                a.reinvocation.wanted = true;
            }
            if hook.if_needed {
                let rounds = a.reinvocation.state::<Rounds>(NAME);
                rounds.called.insert(hook.uid.clone());
            }
            match answer {
                Ok(_) => {}
                Err(Failure::Calling(why)) if hook.ignores_failure => {
                    let annotation = format!("failed-open.{MUTATION}/{place}");
                    hooks::failed_open(a, hook, &why, annotation, true);
                    let now = std::time::Instant::now();
                    if a.deadline.is_some_and(|d| d <= now) {
                        let text = "Timeout: request did not complete within requested timeout";
                        return Err(ApiError::timeout(text, 0));
                    }
                }
                Err(Failure::Calling(why)) => return Err(hooks::internal(hook, &why)),
                Err(Failure::Denied(e) | Failure::Other(e)) => return Err(e),
            }
        }
        Ok(())
    }

    /// Calls a webhook and applies its patch; tells whether that changed the object.
    async fn one(
        &self,
        a: &mut Attempt<'_>,
        view: &mut View,
        hook: &Hook,
        i: &Invocation,
        place: &str,
    ) -> Result<bool, Failure> {
        let answer = match hooks::call(&self.0, a, view, hook, i, true).await {
            Ok(said) => patched(a, view, hook, i, &said, place),
            Err(e) => Err(e),
        };
        let changed = matches!(answer, Ok(Some((_, true))));
        let note =
            json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
        a.audit_annotations
            .insert(format!("{MUTATION}/{place}"), note.to_string());
        if let Some((object, _)) = answer? {
            view.replace(a, object);
        }
        Ok(changed)
    }
}

/// The object with an answer's patch, and whether it is another one; nothing where there is no patch.
fn patched(
    a: &Attempt<'_>,
    view: &View,
    hook: &Hook,
    i: &Invocation,
    said: &Said,
    place: &str,
) -> Result<Option<(Value, bool)>, Failure> {
    if said.patch.is_empty() {
        return Ok(None);
    }
    let ops = patch::operations(&said.patch).map_err(|e| {
        Failure::Calling(format!(
            "received undecodable patch in webhook response: {e}"
        ))
    })?;
    if ops.is_empty() {
        return Ok(None);
    }
    let Some(object) = view.object(a) else {
        return Err(Failure::Other(ApiError::internal(format!(
            "admission webhook {} attempted to modify the object, which is not supported for this operation",
            go_quote(&hook.name)
        ))));
    };
    if said.patch_type != "JSONPatch" {
        let kind = go_quote(&said.patch_type);
        return Err(Failure::Calling(format!("unsupported patch type {kind}")));
    }
    let other = |e: String| Failure::Other(ApiError::internal(e));
    let new = patch::apply_operations(object, &ops).map_err(other)?;
    let new = view.settled(a, &i.kind, new).map_err(Failure::Other)?;
    let note = json!({"configuration": hook.configuration, "webhook": hook.name,
        "patch": ops, "patchType": "JSONPatch"});
    a.audit_annotations
        .insert(format!("{PATCH}/{place}"), note.to_string());
    let changed = new != *object;
    Ok(Some((new, changed)))
}

#[async_trait]
impl Admission for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    fn steps(&self) -> Steps {
        Steps::Mutate
    }

    async fn mutate(&self, a: &mut Attempt<'_>) -> Result<(), ApiError> {
        let all = hooks::configurations(&self.0, "mutatingwebhookconfigurations");
        if all.is_empty() || hooks::is_exempt(a) {
            return Ok(());
        }
        if a.reinvocation.again {
            let object = a.object.clone();
            let rounds = a.reinvocation.state::<Rounds>(NAME);
            if rounds.output != object {
                // Other plugins have changed it since.
                rounds.require();
            }
        }
        let mut view = View::default();
        self.round(a, &mut view, &all).await?;
        view.restore(a).await?;
        let output = a.object.clone();
        a.reinvocation.state::<Rounds>(NAME).output = output;
        Ok(())
    }
}
