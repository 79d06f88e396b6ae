//! AuthorizationConfiguration: who decides, in which order. Upstream: pkg/apis/apiserver/{v1,v1beta1,v1alpha1},
//! pkg/kubeapiserver/authorizer. Types that turn authorization off are refused, which upstream does not.

mod validate;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::authentication::nullable;
use super::strict::Shape::{self, Bool, List, Object, Text};

pub use validate::validate;

/// The file's text, read and defaulted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AuthorizationConfiguration {
    #[serde(deserialize_with = "nullable")]
    pub authorizers: Vec<AuthorizerConfiguration>,
}

/// One that decides.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AuthorizerConfiguration {
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    pub webhook: Option<WebhookConfiguration>,
}

/// How a webhook is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebhookConfiguration {
    /// Nanoseconds, as all times here; -1 and the like are for validation to refuse.
    #[serde(rename = "authorizedTTL", deserialize_with = "duration")]
    pub authorized_ttl: i64,
    pub cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL", deserialize_with = "duration")]
    pub unauthorized_ttl: i64,
    pub cache_unauthorized_requests: Option<bool>,
    #[serde(deserialize_with = "duration")]
    pub timeout: i64,
    #[serde(deserialize_with = "nullable")]
    pub subject_access_review_version: String,
    #[serde(deserialize_with = "nullable")]
    pub match_condition_subject_access_review_version: String,
    #[serde(deserialize_with = "nullable")]
    pub failure_policy: String,
    #[serde(deserialize_with = "nullable")]
    pub connection_info: ConnectionInfo,
    #[serde(deserialize_with = "nullable")]
    pub match_conditions: Vec<MatchCondition>,
}

/// Where it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionInfo {
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    pub kube_config_file: Option<String>,
}

/// Which requests it is asked about.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct MatchCondition {
    #[serde(deserialize_with = "nullable")]
    pub expression: String,
}

/// Upstream's types of authorizers.
pub const TYPES: &[&str] = &[
    "ABAC",
    "AlwaysAllow",
    "AlwaysDeny",
    "Node",
    "RBAC",
    "Webhook",
];

const CONDITION: Shape = Object("WebhookMatchCondition", &[("expression", Text)]);
const WEBHOOK: Shape = Object(
    "WebhookConfiguration",
    &[
        ("authorizedTTL", Text),
        ("cacheAuthorizedRequests", Bool),
        ("unauthorizedTTL", Text),
        ("cacheUnauthorizedRequests", Bool),
        ("timeout", Text),
        ("subjectAccessReviewVersion", Text),
        ("matchConditionSubjectAccessReviewVersion", Text),
        ("failurePolicy", Text),
        (
            "connectionInfo",
            Object(
                "WebhookConnectionInfo",
                &[("type", Text), ("kubeConfigFile", Text)],
            ),
        ),
        ("matchConditions", List(&CONDITION)),
    ],
);
const AUTHORIZER: Shape = Object(
    "AuthorizerConfiguration",
    &[("type", Text), ("name", Text), ("webhook", WEBHOOK)],
);
const CONFIGURATION: Shape = Object(
    "AuthorizationConfiguration",
    &[("authorizers", List(&AUTHORIZER))],
);

fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
    let text = Option::<String>::deserialize(d)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(0);
    }
    api::duration::nanoseconds(&text).map_err(serde::de::Error::custom)
}

/// A time that validation found to be positive.
pub(crate) fn positive(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

// === AuthorizationConfiguration ===

impl AuthorizationConfiguration {
    /// Reads a file's text and sets defaults. What it says is not validated.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut config: Self = super::decode(text, "AuthorizationConfiguration", &CONFIGURATION)?;
        let webhooks = config.authorizers.iter_mut();
        for webhook in webhooks.filter_map(|a| a.webhook.as_mut()) {
            webhook.set_defaults();
        }
        Ok(config)
    }

    /// The configuration of `--authorization-mode`: these types under their own names, a webhook like this one.
    pub fn of_modes(modes: &[&str], webhook: Option<&WebhookConfiguration>) -> Self {
        let one = |mode: &&str| AuthorizerConfiguration {
            kind: (*mode).to_string(),
            name: match *mode {
                "Webhook" => "default".into(),
                other => other.to_lowercase(),
            },
            webhook: webhook.filter(|_| *mode == "Webhook").cloned(),
        };
        Self {
            authorizers: modes.iter().map(one).collect(),
        }
    }
}

// === WebhookConfiguration ===

impl WebhookConfiguration {
    fn set_defaults(&mut self) {
        const SECOND: i64 = 1_000_000_000;
        if self.authorized_ttl == 0 {
            self.authorized_ttl = 300 * SECOND;
        }
        if self.unauthorized_ttl == 0 {
            self.unauthorized_ttl = 30 * SECOND;
        }
    }

    /// For how long an answer that allows, or one that does not, is remembered.
    pub(crate) fn ttl(&self, allowed: bool) -> Duration {
        let (caches, ttl) = match allowed {
            true => (self.cache_authorized_requests, self.authorized_ttl),
            false => (self.cache_unauthorized_requests, self.unauthorized_ttl),
        };
        positive(if caches.unwrap_or(true) { ttl } else { 0 })
    }

    /// The file that says where it is.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let file = self.connection_info.kube_config_file.clone();
        file.unwrap_or_default().into()
    }
}
