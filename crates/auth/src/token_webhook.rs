//! Users by a webhook that reviews tokens: `--authentication-token-webhook-config-file`.
//! Upstream: plugin/pkg/authenticator/token/webhook.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use machinery::request::{Authenticated, User};
use serde::Deserialize;
use serde_json::{Value, json};
use webhook::Remote;

use crate::backoff::retried;
use crate::limits;
use crate::token_cache::{Answer, TokenAuthenticator};

/// Asks a server that a kubeconfig file names.
pub struct TokenWebhook {
    remote: Remote,
    /// Of authentication.k8s.io.
    version: String,
    /// The server's own audiences.
    audiences: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: Option<UserInfo>,
    audiences: Option<Vec<String>>,
    error: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserInfo {
    username: Option<String>,
    uid: Option<String>,
    groups: Option<Vec<String>>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

// === TokenWebhook ===

impl TokenWebhook {
    /// A webhook that is asked with TokenReviews of this version.
    pub fn open(kubeconfig: &Path, version: &str, audiences: Vec<String>) -> Result<Self, String> {
        if !["v1", "v1beta1"].contains(&version) {
            return Err(format!(
                "unsupported authentication webhook version \"{version}\", supported versions are \"v1\", \"v1beta1\""
            ));
        }
        Ok(Self {
            remote: Remote::open(kubeconfig)?,
            version: version.to_string(),
            audiences,
        })
    }

    fn review(&self, token: &str, audiences: &[String]) -> Value {
        json!({
            "kind": "TokenReview",
            "apiVersion": format!("authentication.k8s.io/{}", self.version),
            "metadata": {},
            "spec": {"token": token, "audiences": audiences},
            "status": {"user": {}},
        })
    }

    /// What an answer says of a token for `wanted` audiences.
    fn read(&self, body: &[u8], wanted: &[String]) -> Answer {
        let review: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let expected = format!("authentication.k8s.io/{}", self.version);
        expect(&review, "TokenReview", &expected)?;
        let status = review.get("status").cloned().unwrap_or(Value::Null);
        let status: Option<Status> = serde_json::from_value(status).map_err(|e| e.to_string())?;
        let status = status.unwrap_or_default();
        let got = status.audiences.filter(|a| !a.is_empty());
        let got = got.as_ref().unwrap_or(&self.audiences);
        let common: Vec<String> = wanted.iter().filter(|a| got.contains(a)).cloned().collect();
        if common.is_empty() && !wanted.is_empty() {
            return Ok(None);
        }
        if !status.authenticated {
            return match status.error.filter(|e| !e.is_empty()) {
                Some(error) => Err(error),
                None => Ok(None),
            };
        }
        let user = status.user.unwrap_or_default();
        Ok(Some(Authenticated {
            user: User {
                name: user.username.unwrap_or_default(),
                uid: user.uid.unwrap_or_default(),
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            },
            audiences: common,
        }))
    }
}

/// Whether an answer is of the kind that was asked for.
pub(crate) fn expect(object: &Value, kind: &str, version: &str) -> Result<(), String> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    if (text("kind"), text("apiVersion")) == (kind, version) {
        return Ok(());
    }
    Err(format!(
        "expected {version}, Kind={kind}, got {}, Kind={}",
        text("apiVersion"),
        text("kind")
    ))
}

#[async_trait]
impl TokenAuthenticator for TokenWebhook {
    fn name(&self) -> &'static str {
        "token-webhook"
    }

    async fn check(&self, token: &str, audiences: &[String]) -> Answer {
        let wanted = match audiences {
            [] => &self.audiences[..],
            asked => asked,
        };
        let body = bytes::Bytes::from(self.review(token, wanted).to_string());
        let max = limits::WEBHOOK_ANSWER_BYTES_MAX;
        let answer = retried(|| self.remote.post(body.clone(), limits::WEBHOOK_TIME, max)).await;
        match answer {
            Ok((_, body)) => self.read(&body, wanted),
            Err(failure) => {
                let error = failure.error.text;
                tracing::error!(error, "the authentication webhook does not answer");
                Err(error)
            }
        }
    }
}
