//! Flags that say who is let in and who decides. Upstream: pkg/kubeapiserver/options/{authentication,authorization}.go.
//! What would turn either off is refused.

use std::path::PathBuf;
use std::time::Duration;

use auth::config::authentication::{
    ClaimMappings, ClaimValidationRule, Issuer, JwtAuthenticator, PrefixedClaimOrExpression,
};
use auth::config::authorization::{ConnectionInfo, WebhookConfiguration};
use auth::config::{AuthenticationConfiguration, AuthorizationConfiguration, file};

use super::ApiArgs;

/// Who is let in besides the cluster's own users.
pub struct Authentication {
    pub config: AuthenticationConfiguration,
    /// Where it is from, and its text.
    pub file: Option<(PathBuf, String)>,
    /// Signature algorithms of tokens.
    pub algorithms: Vec<String>,
    /// `--anonymous-auth=false`: nobody without credentials, not even for health.
    pub nobody_anonymous: bool,
    pub webhook: Option<TokenReview>,
}

/// `--authentication-token-webhook-*`.
pub struct TokenReview {
    pub kubeconfig: PathBuf,
    pub version: String,
    pub ttl: Duration,
}

/// Who decides.
pub struct Authorization {
    pub config: AuthorizationConfiguration,
    pub file: Option<(PathBuf, String)>,
}

const OIDC: &str = "oidc-";
const TOKEN_TTL: &str = "authentication-token-webhook-cache-ttl";
const ALLOWED_TTL: &str = "authorization-webhook-cache-authorized-ttl";
const REFUSED_TTL: &str = "authorization-webhook-cache-unauthorized-ttl";
const AUTHENTICATION_WEBHOOK: &str = "authentication-token-webhook-config-file";
const AUTHORIZATION_WEBHOOK: &str = "authorization-webhook-config-file";
/// As kubeadm and k0s have it; upstream's own default is AlwaysAllow.
const MODES: &str = "Node,RBAC";
const SECOND: i64 = 1_000_000_000;

impl ApiArgs<'_> {
    fn nanoseconds(&self, name: &str, default: i64) -> Result<i64, String> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => api::duration::nanoseconds(text),
        }
    }

    fn list(&self, name: &str, default: &str) -> Vec<String> {
        let text = self.get(name).unwrap_or(default);
        text.split(',').map(|t| t.trim().to_string()).collect()
    }

    /// What is wrong with these flags, by flag. Files are read later.
    pub(super) fn access_problems(&self, out: &mut Vec<(String, String)>) {
        let mut add = |flag: &str, why: String| out.push((flag.to_string(), why));
        for flag in [TOKEN_TTL, ALLOWED_TTL, REFUSED_TTL] {
            match self.nanoseconds(flag, 0) {
                Err(why) => add(flag, why),
                Ok(n) if n < 0 => add(flag, "must not be negative".into()),
                Ok(_) => {}
            }
        }
        match self.get("anonymous-auth") {
            None | Some("false") => {}
            Some(_) => add(
                "anonymous-auth",
                "only false is supported; name the paths that need no identity in the AuthenticationConfiguration's anonymous.conditions".into(),
            ),
        }
        let oidc = self.0.keys().any(|k| k.starts_with(OIDC));
        let both = [self.get("oidc-issuer-url"), self.get("oidc-client-id")];
        if oidc && self.get("authentication-config").is_some() {
            add(
                "authentication-config",
                "authentication-config file and oidc-* flags are mutually exclusive".into(),
            );
        } else if oidc && both.contains(&None) {
            add(
                "oidc-issuer-url",
                "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set".into(),
            );
        }
        for alg in self.list("oidc-signing-algs", "RS256") {
            if !pki::jwk::ALGORITHMS.contains(&alg.as_str()) {
                add(
                    "oidc-signing-algs",
                    format!("oidc: unsupported signing alg: {alg:?}"),
                );
            }
        }
        if let Err(why) = self.required_claims() {
            add("oidc-required-claim", why);
        }
        let version = self.get("authentication-token-webhook-version");
        if version.is_some_and(|v| !["v1", "v1beta1"].contains(&v)) {
            add(
                "authentication-token-webhook-version",
                "supported versions are \"v1\", \"v1beta1\"".into(),
            );
        }
        self.mode_problems(&mut add);
    }

    fn mode_problems(&self, add: &mut dyn FnMut(&str, String)) {
        let legacy = ["authorization-mode", "authorization-webhook-version"];
        let legacy = legacy
            .iter()
            .chain(&[AUTHORIZATION_WEBHOOK, ALLOWED_TTL, REFUSED_TTL]);
        let legacy = legacy.into_iter().any(|f| self.get(f).is_some());
        if self.get("authorization-config").is_some() {
            if legacy {
                add(
                    "authorization-config",
                    "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined".into(),
                );
            }
            return;
        }
        let modes = self.list("authorization-mode", MODES);
        let mut add = |why: String| add("authorization-mode", why);
        for mode in &modes {
            match mode.as_str() {
                "Node" | "RBAC" => {}
                "Webhook" if self.get(AUTHORIZATION_WEBHOOK).is_some() => {}
                "Webhook" => {
                    add("authorization-mode Webhook's authorization config file not passed".into())
                }
                "AlwaysAllow" => {
                    add("AlwaysAllow is not allowed: nothing turns authorization off".into())
                }
                "AlwaysDeny" | "ABAC" => {
                    add(format!("{mode} is not supported; use RBAC or Webhook"))
                }
                other => add(format!("authorization-mode {other:?} is not a valid mode")),
            }
        }
        for (i, mode) in modes.iter().enumerate() {
            if modes[..i].contains(mode) {
                add(format!(
                    "authorization-mode {modes:?} has mode specified more than once"
                ));
            }
        }
        // Kubelets and the cluster's own parts live by these two.
        for needed in ["Node", "RBAC"] {
            if !modes.iter().any(|m| m == needed) {
                add(format!("{needed} must be one of the modes"));
            }
        }
        let webhook = modes.iter().any(|m| m == "Webhook");
        if self.get(AUTHORIZATION_WEBHOOK).is_some() && !webhook {
            add("cannot specify --authorization-webhook-config-file without mode Webhook".into());
        }
    }

    fn required_claims(&self) -> Result<Vec<ClaimValidationRule>, String> {
        let text = self.get("oidc-required-claim").unwrap_or_default();
        let pairs = text.split(',').filter(|p| !p.is_empty());
        pairs
            .map(|pair| {
                let (claim, value) = pair
                    .split_once('=')
                    .ok_or_else(|| format!("malformed pair, expect string=string: {pair:?}"))?;
                Ok(ClaimValidationRule {
                    claim: claim.trim().to_string(),
                    required_value: value.trim().to_string(),
                    ..ClaimValidationRule::default()
                })
            })
            .collect()
    }

    /// The issuer that `--oidc-*` name.
    fn oidc(&self) -> Result<Option<JwtAuthenticator>, String> {
        let text = |name: &str| self.get(name).unwrap_or_default().to_string();
        let (url, client) = (text("oidc-issuer-url"), text("oidc-client-id"));
        if url.is_empty() || client.is_empty() {
            return Ok(None);
        }
        let claim = self.get("oidc-username-claim").unwrap_or("sub");
        let prefix = match (self.get("oidc-username-prefix"), claim) {
            (Some("-"), _) | (None, "email") => String::new(),
            (None, _) => format!("{url}#"),
            (Some(prefix), _) => prefix.to_string(),
        };
        let mapped = |claim: &str, prefix: String| PrefixedClaimOrExpression {
            claim: claim.to_string(),
            prefix: Some(prefix),
            expression: String::new(),
        };
        let groups = self.get("oidc-groups-claim");
        let groups = groups.map(|c| mapped(c, text("oidc-groups-prefix")));
        let ca = self.get("oidc-ca-file").map(|f| file::read(f.as_ref()));
        Ok(Some(JwtAuthenticator {
            issuer: Issuer {
                url,
                audiences: vec![client],
                certificate_authority: ca.transpose()?.unwrap_or_default(),
                ..Issuer::default()
            },
            claim_validation_rules: self.required_claims()?,
            claim_mappings: ClaimMappings {
                username: mapped(claim, prefix),
                groups: groups.unwrap_or_default(),
                ..ClaimMappings::default()
            },
            user_validation_rules: Vec::new(),
        }))
    }

    /// Who is let in besides the cluster's own users.
    pub fn authentication(&self) -> Result<Authentication, String> {
        let file = self.get("authentication-config").map(PathBuf::from);
        let (config, file, algorithms) = match file {
            None => {
                let config = AuthenticationConfiguration {
                    jwt: self.oidc()?.into_iter().collect(),
                    anonymous: None,
                };
                (config, None, self.list("oidc-signing-algs", "RS256"))
            }
            Some(path) => {
                let read = file::read(&path).and_then(|text| {
                    AuthenticationConfiguration::parse(&text).map(|config| (config, text))
                });
                let (config, text) = read.map_err(|e| {
                    let path = path.display();
                    format!("failed to load authentication configuration from file \"{path}\": {e}")
                })?;
                let all = pki::jwk::ALGORITHMS.map(str::to_string).to_vec();
                (config, Some((path, text)), all)
            }
        };
        if config.anonymous.is_some() && self.get("anonymous-auth").is_some() {
            return Err("anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file".into());
        }
        let webhook = match self.get(AUTHENTICATION_WEBHOOK) {
            None => None,
            Some(path) => Some(TokenReview {
                kubeconfig: path.into(),
                version: self
                    .get("authentication-token-webhook-version")
                    .unwrap_or("v1beta1")
                    .to_string(),
                ttl: time(self.nanoseconds(TOKEN_TTL, 120 * SECOND)?),
            }),
        };
        Ok(Authentication {
            config,
            file,
            algorithms,
            nobody_anonymous: self.get("anonymous-auth").is_some(),
            webhook,
        })
    }

    /// Who decides.
    pub fn authorization(&self) -> Result<Authorization, String> {
        if let Some(path) = self.get("authorization-config").map(PathBuf::from) {
            let text = file::read(&path)?;
            let config = AuthorizationConfiguration::parse(&text)
                .map_err(|e| format!("failed to load AuthorizationConfiguration from file: {e}"))?;
            for needed in ["Node", "RBAC"] {
                if !config.authorizers.iter().any(|a| a.kind == needed) {
                    let path = path.display();
                    return Err(format!("{path}: authorizers: {needed} must be one of them"));
                }
            }
            let file = Some((path, text));
            return Ok(Authorization { config, file });
        }
        let (allowed, refused) = (
            self.nanoseconds(ALLOWED_TTL, 300 * SECOND)?,
            self.nanoseconds(REFUSED_TTL, 30 * SECOND)?,
        );
        let version = self.get("authorization-webhook-version");
        let webhook = self
            .get(AUTHORIZATION_WEBHOOK)
            .map(|file| WebhookConfiguration {
                // A time of 0 means that nothing is remembered, and is no time that validation takes.
                authorized_ttl: allowed.max(1),
                cache_authorized_requests: Some(allowed != 0),
                unauthorized_ttl: refused.max(1),
                cache_unauthorized_requests: Some(refused != 0),
                timeout: 30 * SECOND,
                subject_access_review_version: version.unwrap_or("v1beta1").to_string(),
                failure_policy: "NoOpinion".into(),
                connection_info: ConnectionInfo {
                    kind: "KubeConfigFile".into(),
                    kube_config_file: Some(file.to_string()),
                },
                ..WebhookConfiguration::default()
            });
        let modes = self.list("authorization-mode", MODES);
        let modes: Vec<&str> = modes.iter().map(String::as_str).collect();
        Ok(Authorization {
            config: AuthorizationConfiguration::of_modes(&modes, webhook.as_ref()),
            file: None,
        })
    }
}

fn time(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests;
