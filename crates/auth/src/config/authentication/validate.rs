//! Validation, and the compiled expressions that come of it. Upstream: pkg/apis/apiserver/validation/validation.go.

use std::collections::HashSet;

use machinery::Causes;
use serde_json::json;

use super::{
    AuthenticationConfiguration, ClaimMappings, ClaimValidationRule, Issuer, JwtAuthenticator,
    PrefixedClaimOrExpression, UserValidationRule,
};
use crate::config::url;
use crate::jwt::expressions::{Expression, Scope};
use crate::limits;

/// The compiled expressions of one issuer. Upstream: CELMapper.
#[derive(Clone, Debug, Default)]
pub struct Mapper {
    pub username: Option<Expression>,
    pub groups: Option<Expression>,
    pub uid: Option<Expression>,
    /// By key.
    pub extra: Vec<(String, Expression)>,
    /// With their messages.
    pub claim_rules: Vec<(Expression, String)>,
    pub user_rules: Vec<(Expression, String)>,
}

/// What is wrong with a configuration; an issuer may not be one of `disallowed`. Gives the issuers' expressions in order.
pub fn validate(c: &AuthenticationConfiguration, disallowed: &[String]) -> (Vec<Mapper>, Causes) {
    let mut causes = Causes::new();
    let mut mappers = Vec::new();
    if c.jwt.len() > limits::JWT_AUTHENTICATORS_MAX {
        causes.at("jwt", |x| {
            x.too_many(c.jwt.len(), limits::JWT_AUTHENTICATORS_MAX);
        });
        return (mappers, causes);
    }
    let (mut issuers, mut discoveries) = (HashSet::new(), HashSet::new());
    causes.at("jwt", |x| {
        for (i, a) in c.jwt.iter().enumerate() {
            x.index(i, |x| {
                mappers.push(authenticator(a, disallowed, x));
                let (url, discovery) = (&a.issuer.url, &a.issuer.discovery_url);
                if !issuers.insert(url) {
                    x.at("issuer.url", |x| x.duplicate(&json!(url)));
                }
                if !discovery.is_empty() && !discoveries.insert(discovery) {
                    x.at("issuer.discoveryURL", |x| x.duplicate(&json!(discovery)));
                }
            });
        }
    });
    if let Some(a) = &c.anonymous
        && !a.enabled
        && !a.conditions.is_empty()
    {
        let paths: Vec<_> = a
            .conditions
            .iter()
            .map(|c| json!({"Path": c.path}))
            .collect();
        causes.at("anonymous.conditions", |x| {
            x.invalid(
                &json!(paths),
                "enabled should be set to true when conditions are defined",
            );
        });
    }
    (mappers, causes)
}

fn authenticator(a: &JwtAuthenticator, disallowed: &[String], x: &mut Causes) -> Mapper {
    let mut mapper = Mapper::default();
    x.at("issuer", |x| issuer(&a.issuer, disallowed, x));
    let rules = &a.claim_validation_rules;
    x.at("claimValidationRules", |x| {
        claim_rules(rules, &mut mapper, x)
    });
    x.at("claimMappings", |x| {
        mappings(&a.claim_mappings, &mut mapper, x)
    });
    let rules = &a.user_validation_rules;
    x.at("userValidationRules", |x| user_rules(rules, &mut mapper, x));
    mapper
}

fn issuer(i: &Issuer, disallowed: &[String], x: &mut Causes) {
    x.at("url", |x| match i.url.as_str() {
        "" => x.required(""),
        url => checked_url(url, disallowed, x),
    });
    let discovery = &i.discovery_url;
    if !discovery.is_empty() {
        let bare = |s: &str| s.trim_end_matches('/').to_string();
        x.at("discoveryURL", |x| {
            if !i.url.is_empty() && bare(&i.url) == bare(discovery) {
                x.invalid(&json!(discovery), "discoveryURL must be different from URL");
            }
            checked_url(discovery, &[], x);
        });
    }
    audiences(i, x);
    let ca = i.certificate_authority.as_bytes();
    if !ca.is_empty()
        && let Err(why) = crate::jwt::check_authority(ca)
    {
        x.at("certificateAuthority", |x| {
            x.invalid(&json!("<omitted>"), why)
        });
    }
    let egress = &i.egress_selector_type;
    if !egress.is_empty() && !["controlplane", "cluster"].contains(&egress.as_str()) {
        x.at("egressSelectorType", |x| {
            x.invalid(
                &json!(egress),
                "egress selector must be either controlplane or cluster",
            );
        });
    }
}

fn checked_url(text: &str, disallowed: &[String], x: &mut Causes) {
    let value = json!(text);
    if disallowed.iter().any(|d| d == text) {
        let all = disallowed.join(" ");
        let why = format!("URL must not overlap with disallowed issuers: [{all}]");
        x.invalid(&value, why);
    }
    let parts = match url::parse(text) {
        Ok(parts) => parts,
        Err(why) => return x.invalid(&value, why),
    };
    if parts.scheme != "https" {
        x.invalid(&value, "URL scheme must be https");
    }
    if parts.has_user {
        x.invalid(&value, "URL must not contain a username or password");
    }
    if !parts.query.is_empty() {
        x.invalid(&value, "URL must not contain a query");
    }
    if !parts.fragment.is_empty() {
        x.invalid(&value, "URL must not contain a fragment");
    }
}

fn audiences(i: &Issuer, x: &mut Causes) {
    if i.audiences.is_empty() {
        return x.at("audiences", |x| {
            let path = x.path().to_string();
            x.required(format!("at least one {path} is required"));
        });
    }
    let mut seen = HashSet::new();
    x.at("audiences", |x| {
        for (n, audience) in i.audiences.iter().enumerate() {
            x.index(n, |x| {
                if audience.is_empty() {
                    x.required("");
                }
                if !seen.insert(audience) {
                    x.duplicate(&json!(audience));
                }
            });
        }
    });
    let policy = i.audience_match_policy.as_str();
    let why = match (i.audiences.len(), policy) {
        (_, "MatchAny") | (1, "") => return,
        (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    x.at("audienceMatchPolicy", |x| x.invalid(&json!(policy), why));
}

fn compiled(scope: Scope, source: &str, boolean: bool, x: &mut Causes) -> Option<Expression> {
    match Expression::compile(scope, source, boolean) {
        Ok(e) => Some(e),
        Err(why) => {
            x.invalid(&json!(source), why);
            None
        }
    }
}

fn claim_rules(rules: &[ClaimValidationRule], mapper: &mut Mapper, x: &mut Causes) {
    let (mut claims, mut expressions) = (HashSet::new(), HashSet::new());
    for (i, rule) in rules.iter().enumerate() {
        x.index(i, |x| {
            match (rule.claim.as_str(), rule.expression.as_str()) {
                ("", "") => x.required("claim or expression is required"),
                (claim, "") => {
                    if !rule.message.is_empty() {
                        let value = json!(rule.message);
                        x.at("message", |x| {
                            x.invalid(&value, "may not be specified when claim is set");
                        });
                    }
                    if !claims.insert(claim) {
                        x.at("claim", |x| x.duplicate(&json!(claim)));
                    }
                }
                ("", expression) => {
                    if !rule.required_value.is_empty() {
                        let value = json!(rule.required_value);
                        x.at("requiredValue", |x| {
                            x.invalid(&value, "may not be specified when expression is set");
                        });
                    }
                    x.at("expression", |x| {
                        if !expressions.insert(expression) {
                            return x.duplicate(&json!(expression));
                        }
                        let compiled = compiled(Scope::Claims, expression, true, x);
                        let message = rule.message.clone();
                        mapper.claim_rules.extend(compiled.map(|c| (c, message)));
                    });
                }
                (claim, _) => x.invalid(&json!(claim), "claim and expression can't both be set"),
            }
        });
    }
}

fn mappings(m: &ClaimMappings, mapper: &mut Mapper, x: &mut Causes) {
    mapper.username = x.at("username", |x| prefixed(&m.username, true, x));
    mapper.groups = x.at("groups", |x| prefixed(&m.groups, false, x));
    x.at("uid", |x| {
        match (m.uid.claim.as_str(), m.uid.expression.as_str()) {
            (_, "") => {}
            ("", expression) => {
                mapper.uid = x.at("expression", |x| {
                    compiled(Scope::Claims, expression, false, x)
                });
            }
            _ => x.invalid(&json!(""), "claim and expression can't both be set"),
        }
    });
    let mut seen = HashSet::new();
    x.at("extra", |x| {
        for (i, mapping) in m.extra.iter().enumerate() {
            x.index(i, |x| {
                let new = seen.insert(&mapping.key);
                x.at("key", |x| extra_key(&mapping.key, new, x));
                let expression = &mapping.value_expression;
                if !new {
                    return;
                }
                x.at("valueExpression", |x| match expression.as_str() {
                    "" => x.required(""),
                    source => {
                        let compiled = compiled(Scope::Claims, source, false, x);
                        let key = mapping.key.clone();
                        mapper.extra.extend(compiled.map(|c| (key, c)));
                    }
                });
            });
        }
    });
    let username = mapper.username.as_ref();
    let of_email = username.is_some_and(|u| u.selects("email"));
    let verified = username
        .into_iter()
        .chain(mapper.extra.iter().map(|(_, e)| e))
        .chain(mapper.claim_rules.iter().map(|(e, _)| e))
        .any(|e| e.selects("email_verified"));
    if of_email && !verified {
        x.at("username.expression", |x| {
            x.invalid(
                &json!(m.username.expression),
                "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
            );
        });
    }
}

fn prefixed(m: &PrefixedClaimOrExpression, required: bool, x: &mut Causes) -> Option<Expression> {
    match (m.claim.as_str(), m.expression.as_str()) {
        ("", "") => {
            if required {
                x.required("claim or expression is required");
            }
            None
        }
        ("", expression) => {
            if let Some(prefix) = &m.prefix {
                x.at("prefix", |x| {
                    let why = "may not be specified when expression is set";
                    x.invalid(&json!(prefix), why);
                });
            }
            x.at("expression", |x| {
                compiled(Scope::Claims, expression, false, x)
            })
        }
        (_, "") => {
            if m.prefix.is_none() {
                x.at("prefix", |x| {
                    x.required("prefix is required when claim is set. It can be set to an empty string to disable prefixing");
                });
            }
            None
        }
        _ => {
            x.invalid(&json!(""), "claim and expression can't both be set");
            None
        }
    }
}

fn extra_key(key: &str, new: bool, x: &mut Causes) {
    x.domain_prefixed_path(key);
    let value = json!(key);
    if key != key.to_lowercase() {
        x.invalid(&value, "must be lowercase");
    }
    let domain = key.split_once('/').map(|(domain, _)| domain);
    let reserved = |d: &str| {
        let own = |of: &str| d == of || d.ends_with(&format!(".{of}"));
        own("kubernetes.io") || own("k8s.io")
    };
    if domain.is_some_and(reserved) {
        x.invalid(
            &value,
            "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
        );
    }
    if !new {
        x.duplicate(&value);
    }
}

fn user_rules(rules: &[UserValidationRule], mapper: &mut Mapper, x: &mut Causes) {
    let mut seen = HashSet::new();
    for (i, rule) in rules.iter().enumerate() {
        let expression = rule.expression.as_str();
        x.index(i, |x| {
            x.at("expression", |x| {
                if expression.is_empty() {
                    return x.required("");
                }
                if !seen.insert(expression) {
                    return x.duplicate(&json!(expression));
                }
                let compiled = compiled(Scope::User, expression, true, x);
                let message = rule.message.clone();
                mapper.user_rules.extend(compiled.map(|c| (c, message)));
            });
        });
    }
}
