//! An authorizer elsewhere, asked with SubjectAccessReviews. Upstream: plugin/pkg/authorizer/webhook.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::selector::{FieldSelector, LabelSelector, Operator};
use async_trait::async_trait;
use machinery::request::{Attributes, Authorizer, Decision, User};
use machinery::series::{DEFAULT, Family, Kind, Registry};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use webhook::{Failure, Remote};

use crate::backoff::retried;
use crate::config::authorization::{WebhookConfiguration, positive};
use crate::limits;
use crate::match_conditions::MatchConditions;
use crate::token_webhook::expect;

static EVALUATIONS: Family = Family {
    name: "apiserver_authorization_webhook_evaluations_total",
    kind: Kind::Counter,
    help: "[ALPHA] Calls of authorization webhooks, by the result.",
    labels: &["name", "result"],
};
static SECONDS: Family = Family {
    name: "apiserver_authorization_webhook_duration_seconds",
    kind: Kind::Histogram(DEFAULT),
    help: "[ALPHA] Seconds that calls of authorization webhooks took.",
    labels: &["name", "result"],
};
static FAIL_OPEN: Family = Family {
    name: "apiserver_authorization_webhook_evaluations_fail_open_total",
    kind: Kind::Counter,
    help: "[ALPHA] Requests left to the other authorizers because a webhook failed.",
    labels: &["name", "result"],
};

/// Asks a server that a kubeconfig file names.
pub struct Webhook {
    name: String,
    config: WebhookConfiguration,
    remote: Remote,
    conditions: MatchConditions,
    /// By the spec that was asked about.
    known: Mutex<HashMap<String, (Status, Instant)>>,
    metrics: Arc<Registry>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    allowed: bool,
    denied: bool,
    reason: Option<String>,
}

/// The spec of an access review, every text in it, as match conditions see it.
fn spec(a: &Attributes) -> Value {
    let User {
        name,
        uid,
        groups,
        extra,
    } = &a.user;
    let mut out = json!({"user": name, "uid": uid, "groups": groups, "extra": extra});
    if !a.is_resource {
        out["nonResourceAttributes"] = json!({"path": a.path, "verb": a.verb});
        return out;
    }
    let mut resource = json!({
        "namespace": a.namespace, "verb": a.verb, "group": a.group, "version": a.version,
        "resource": a.resource, "subresource": a.subresource, "name": a.name,
    });
    let fields = fields(a);
    if !fields.is_empty() {
        resource["fieldSelector"] = json!({"requirements": fields});
    }
    let labels = labels(a);
    if !labels.is_empty() {
        resource["labelSelector"] = json!({"requirements": labels});
    }
    out["resourceAttributes"] = resource;
    out
}

/// The requirements of a field selector; none of one that cannot be read, which asks for more, never for less.
fn fields(a: &Attributes) -> Vec<Value> {
    let selector = FieldSelector::parse(a.field_selector.as_deref().unwrap_or_default());
    let all = selector.unwrap_or_default().requirements;
    let one = |r: &api::selector::FieldRequirement| {
        let operator = if r.equal { "In" } else { "NotIn" };
        json!({"key": r.field, "operator": operator, "values": [r.value]})
    };
    all.iter().map(one).collect()
}

fn labels(a: &Attributes) -> Vec<Value> {
    let selector = LabelSelector::parse(a.label_selector.as_deref().unwrap_or_default());
    let all = selector.unwrap_or_default().requirements;
    let one = |r: &api::selector::Requirement| {
        let key = &r.key;
        Some(match &r.operator {
            Operator::In(values) => json!({"key": key, "operator": "In", "values": values}),
            Operator::NotIn(values) => json!({"key": key, "operator": "NotIn", "values": values}),
            Operator::Exists => json!({"key": key, "operator": "Exists"}),
            Operator::DoesNotExist => json!({"key": key, "operator": "DoesNotExist"}),
            // Requirements only narrow, so one that has no name there may be left out.
            Operator::GreaterThan(_) | Operator::LessThan(_) => return None,
        })
    };
    all.iter().filter_map(one).collect()
}

/// The same as it is sent: without what is empty; the old version calls groups `group`.
fn wire(spec: &Value, version: &str) -> Value {
    let filled = |v: &Value| match v {
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
        other => !other.is_null(),
    };
    let mut out = Map::new();
    for (key, value) in spec.as_object().into_iter().flatten() {
        let value = match value {
            Value::Object(inner) if key.ends_with("Attributes") => {
                let inner = inner.iter().filter(|(_, v)| filled(v));
                Value::Object(inner.map(|(k, v)| (k.clone(), v.clone())).collect())
            }
            other if !filled(other) => continue,
            other => other.clone(),
        };
        let key = match (key.as_str(), version) {
            ("groups", "v1beta1") => "group".to_string(),
            (key, _) => key.to_string(),
        };
        out.insert(key, value);
    }
    Value::Object(out)
}

/// Whether what the client chose is short enough to be remembered.
fn short(a: &Attributes) -> bool {
    let parts = [
        &a.namespace,
        &a.verb,
        &a.group,
        &a.version,
        &a.resource,
        &a.subresource,
        &a.name,
        &a.path,
    ];
    let bytes: usize = parts.iter().map(|p| p.len()).sum();
    let selectors = [&a.field_selector, &a.label_selector];
    let selectors: usize = selectors
        .iter()
        .map(|s| s.as_ref().map_or(0, String::len))
        .sum();
    bytes + selectors < limits::WEBHOOK_CACHED_ATTRIBUTES_BYTES
}

// === Webhook ===

impl Webhook {
    /// The webhook of a configuration that is valid.
    pub fn open(
        name: &str,
        config: &WebhookConfiguration,
        metrics: Arc<Registry>,
    ) -> Result<Self, String> {
        let sources = config.match_conditions.iter().map(|c| &c.expression);
        Ok(Self {
            name: name.to_string(),
            remote: Remote::open(&config.kubeconfig())?,
            conditions: MatchConditions::compile(sources, name, metrics.clone())?,
            config: config.clone(),
            known: Mutex::default(),
            metrics,
        })
    }

    fn failed(&self, error: String) -> Decision {
        Decision::Failed {
            denied: self.config.failure_policy == "Deny",
            reason: String::new(),
            error,
        }
    }

    fn remembered(&self, key: &str) -> Option<Status> {
        let known = self.known.lock();
        let (status, end) = known.get(key)?;
        (*end > Instant::now()).then(|| status.clone())
    }

    fn remember(&self, key: String, status: &Status) {
        let ttl = self.config.ttl(status.allowed);
        if ttl.is_zero() {
            return;
        }
        let (now, mut known) = (Instant::now(), self.known.lock());
        if known.len() >= limits::WEBHOOK_DECISIONS_MAX {
            known.retain(|_, (_, end)| *end > now);
        }
        if known.len() >= limits::WEBHOOK_DECISIONS_MAX {
            known.clear();
        }
        known.insert(key, (status.clone(), now + ttl));
    }

    async fn ask(&self, key: &str) -> Result<Status, String> {
        let version = &self.config.subject_access_review_version;
        let api = format!("authorization.k8s.io/{version}");
        // The key is the spec's own text: no need to write it once more.
        let body = format!(
            "{{\"kind\":\"SubjectAccessReview\",\"apiVersion\":\"{api}\",\"metadata\":{{}},\"spec\":{key},\"status\":{{\"allowed\":false}}}}"
        );
        let body = bytes::Bytes::from(body);
        let last = Mutex::new("error");
        let done = retried(|| async {
            let begun = Instant::now();
            let done = self.call(body.clone(), &api).await;
            let result = match &done {
                Ok(_) => "success",
                Err(failure) if failure.timed_out => "timeout",
                Err(_) => "error",
            };
            *last.lock() = result;
            let labels = [self.name.as_str(), result];
            self.metrics.inc(&EVALUATIONS, &labels);
            self.metrics.observe(&SECONDS, &labels, begun.elapsed());
            done
        })
        .await;
        done.map_err(|failure| {
            let (name, error) = (&self.name, &failure.error.text);
            tracing::error!(
                webhook = name,
                error,
                "the authorization webhook does not answer"
            );
            if self.config.failure_policy == "NoOpinion" {
                self.metrics.inc(&FAIL_OPEN, &[name, *last.lock()]);
            }
            failure.error.text
        })
    }

    async fn call(&self, body: bytes::Bytes, api: &str) -> Result<Status, Failure> {
        let time = match positive(self.config.timeout) {
            Duration::ZERO => limits::WEBHOOK_TIME,
            time => time,
        };
        let max = limits::WEBHOOK_ANSWER_BYTES_MAX;
        let (code, answer) = self.remote.post(body, time, max).await?;
        read(&answer, api).map_err(|text| Failure {
            error: webhook::CallError { text, code },
            timed_out: false,
            retry: false,
        })
    }

    fn decision(status: Status) -> Decision {
        let reason = status.reason.unwrap_or_default();
        match (status.denied, status.allowed) {
            (true, true) => Decision::Failed {
                denied: true,
                reason,
                error: "webhook subject access review returned both allow and deny response".into(),
            },
            (true, false) => Decision::Deny(reason),
            (false, true) => Decision::Allow(reason),
            (false, false) => Decision::NoOpinion(reason),
        }
    }
}

fn read(answer: &[u8], api: &str) -> Result<Status, String> {
    let review: Value = serde_json::from_slice(answer).map_err(|e| e.to_string())?;
    expect(&review, "SubjectAccessReview", api)?;
    let status = review.get("status").cloned().unwrap_or(Value::Null);
    let status: Option<Status> = serde_json::from_value(status).map_err(|e| e.to_string())?;
    Ok(status.unwrap_or_default())
}

#[async_trait]
impl Authorizer for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    async fn authorize(&self, a: &Attributes) -> Decision {
        let spec = spec(a);
        match self.conditions.matches(&spec) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(String::new()),
            Err(error) => return self.failed(error),
        }
        let key = wire(&spec, &self.config.subject_access_review_version).to_string();
        if let Some(status) = self.remembered(&key) {
            return Self::decision(status);
        }
        match self.ask(&key).await {
            Ok(status) => {
                if short(a) {
                    self.remember(key, &status);
                }
                Self::decision(status)
            }
            Err(error) => self.failed(error),
        }
    }

    fn rules_problem(&self, _user: &User) -> Option<String> {
        Some("webhook authorizer does not support user rule resolution".into())
    }

    async fn rules(&self, _user: &User, _namespace: &str) -> (Vec<Value>, Vec<Value>, bool) {
        (Vec::new(), Vec::new(), true)
    }
}

#[cfg(test)]
mod tests;
