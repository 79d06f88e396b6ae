//! AuthenticationConfiguration: JWT issuers and anonymous users. Upstream: pkg/apis/apiserver/{v1,v1beta1,v1alpha1}.

mod validate;

use serde::Deserialize;

use super::strict::Shape::{self, Bool, List, Object, Text};

pub use validate::{Mapper, validate};

/// The file's text, read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AuthenticationConfiguration {
    #[serde(deserialize_with = "nullable")]
    pub jwt: Vec<JwtAuthenticator>,
    pub anonymous: Option<AnonymousAuthConfig>,
}

/// Who needs no credentials.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AnonymousAuthConfig {
    #[serde(deserialize_with = "nullable")]
    pub enabled: bool,
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<AnonymousAuthCondition>,
}

/// Where they need none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AnonymousAuthCondition {
    #[serde(deserialize_with = "nullable")]
    pub path: String,
}

/// One issuer and what its tokens mean.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JwtAuthenticator {
    #[serde(deserialize_with = "nullable")]
    pub issuer: Issuer,
    #[serde(deserialize_with = "nullable")]
    pub claim_validation_rules: Vec<ClaimValidationRule>,
    #[serde(deserialize_with = "nullable")]
    pub claim_mappings: ClaimMappings,
    #[serde(deserialize_with = "nullable")]
    pub user_validation_rules: Vec<UserValidationRule>,
}

/// Where an issuer is and whom its tokens are for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Issuer {
    #[serde(deserialize_with = "nullable")]
    pub url: String,
    #[serde(rename = "discoveryURL", deserialize_with = "nullable")]
    pub discovery_url: String,
    #[serde(deserialize_with = "nullable")]
    pub certificate_authority: String,
    #[serde(deserialize_with = "nullable")]
    pub audiences: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub audience_match_policy: String,
    #[serde(deserialize_with = "nullable")]
    pub egress_selector_type: String,
}

/// What a token's claims must be.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimValidationRule {
    #[serde(deserialize_with = "nullable")]
    pub claim: String,
    #[serde(deserialize_with = "nullable")]
    pub required_value: String,
    #[serde(deserialize_with = "nullable")]
    pub expression: String,
    #[serde(deserialize_with = "nullable")]
    pub message: String,
}

/// What of the user which claim tells.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimMappings {
    #[serde(deserialize_with = "nullable")]
    pub username: PrefixedClaimOrExpression,
    #[serde(deserialize_with = "nullable")]
    pub groups: PrefixedClaimOrExpression,
    #[serde(deserialize_with = "nullable")]
    pub uid: ClaimOrExpression,
    #[serde(deserialize_with = "nullable")]
    pub extra: Vec<ExtraMapping>,
}

/// A claim with what stands before its value, or an expression.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PrefixedClaimOrExpression {
    #[serde(deserialize_with = "nullable")]
    pub claim: String,
    pub prefix: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub expression: String,
}

/// A claim or an expression.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClaimOrExpression {
    #[serde(deserialize_with = "nullable")]
    pub claim: String,
    #[serde(deserialize_with = "nullable")]
    pub expression: String,
}

/// A key of `extra` and the expression of its values.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtraMapping {
    #[serde(deserialize_with = "nullable")]
    pub key: String,
    #[serde(deserialize_with = "nullable")]
    pub value_expression: String,
}

/// What the user must be.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct UserValidationRule {
    #[serde(deserialize_with = "nullable")]
    pub expression: String,
    #[serde(deserialize_with = "nullable")]
    pub message: String,
}

/// A null is what is not there.
pub(super) fn nullable<'de, T, D>(d: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

const PREFIXED: Shape = Object(
    "PrefixedClaimOrExpression",
    &[("claim", Text), ("prefix", Text), ("expression", Text)],
);
const ISSUER: Shape = Object(
    "Issuer",
    &[
        ("url", Text),
        ("discoveryURL", Text),
        ("certificateAuthority", Text),
        ("audiences", List(&Text)),
        ("audienceMatchPolicy", Text),
        ("egressSelectorType", Text),
    ],
);
const CLAIM_RULE: Shape = Object(
    "ClaimValidationRule",
    &[
        ("claim", Text),
        ("requiredValue", Text),
        ("expression", Text),
        ("message", Text),
    ],
);
const EXTRA: Shape = Object("ExtraMapping", &[("key", Text), ("valueExpression", Text)]);
const MAPPINGS: Shape = Object(
    "ClaimMappings",
    &[
        ("username", PREFIXED),
        ("groups", PREFIXED),
        (
            "uid",
            Object(
                "ClaimOrExpression",
                &[("claim", Text), ("expression", Text)],
            ),
        ),
        ("extra", List(&EXTRA)),
    ],
);
const USER_RULE: Shape = Object(
    "UserValidationRule",
    &[("expression", Text), ("message", Text)],
);
const JWT: Shape = Object(
    "JWTAuthenticator",
    &[
        ("issuer", ISSUER),
        ("claimValidationRules", List(&CLAIM_RULE)),
        ("claimMappings", MAPPINGS),
        ("userValidationRules", List(&USER_RULE)),
    ],
);
const CONDITION: Shape = Object("AnonymousAuthCondition", &[("path", Text)]);
const ANONYMOUS: Shape = Object(
    "AnonymousAuthConfig",
    &[("enabled", Bool), ("conditions", List(&CONDITION))],
);
const CONFIGURATION: Shape = Object(
    "AuthenticationConfiguration",
    &[("jwt", List(&JWT)), ("anonymous", ANONYMOUS)],
);

// === AuthenticationConfiguration ===

impl AuthenticationConfiguration {
    /// Reads a file's text. What it says is not validated.
    pub fn parse(text: &str) -> Result<Self, String> {
        super::decode(text, "AuthenticationConfiguration", &CONFIGURATION)
    }
}
