//! From a token's claims to a user. Upstream: oidc.go, `AuthenticateToken` and what it calls; texts are upstream's.

use celenv::Value;
use machinery::request::User;
use serde_json::{Map, Value as Json};

use super::expressions::{Expression, claims_value, user_value};
use crate::config::authentication::{JwtAuthenticator, Mapper};
use crate::x509::CREDENTIAL_ID;

/// A token's claims.
pub type Claims = Map<String, Json>;

/// The user whom an issuer's claims tell.
pub fn user(jwt: &JwtAuthenticator, mapper: &Mapper, claims: &Claims) -> Result<User, String> {
    let value = claims_value(claims);
    let user = User {
        name: username(jwt, mapper, claims, &value)?,
        groups: groups(jwt, mapper, claims, &value)?,
        uid: uid(jwt, mapper, claims, &value)?,
        extra: extra(mapper, claims, &value)?,
    };
    required(jwt, claims)?;
    check(&mapper.claim_rules, &value)
        .map_err(|e| format!("oidc: error evaluating claim validation expression: {e}"))?;
    if !mapper.user_rules.is_empty() {
        check(&mapper.user_rules, &user_value(&user))
            .map_err(|e| format!("oidc: error evaluating user info validation rule: {e}"))?;
    }
    Ok(user)
}

/// A claim that must be a string.
fn text(claims: &Claims, name: &str) -> Result<String, String> {
    match claims.get(name) {
        None => Err("claim not present".into()),
        Some(Json::String(s)) => Ok(s.clone()),
        Some(Json::Null) => Ok(String::new()),
        Some(other) => Err(wrong_type(other, "string")),
    }
}

fn wrong_type(got: &Json, wanted: &str) -> String {
    let kind = match got {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    format!("json: cannot unmarshal {kind} into Go value of type {wanted}")
}

fn username(
    jwt: &JwtAuthenticator,
    mapper: &Mapper,
    claims: &Claims,
    value: &Value,
) -> Result<String, String> {
    let mapping = &jwt.claim_mappings.username;
    if let Some(expression) = &mapper.username {
        let failed = |e: String| format!("oidc: error evaluating username claim expression: {e}");
        let found = expression.evaluate(value).map_err(failed)?;
        let name = found
            .as_str()
            .ok_or_else(|| failed("username claim expression must return a string".into()))?;
        if name.is_empty() {
            return Err("oidc: empty username via CEL expression is not allowed".into());
        }
        return Ok(name.to_string());
    }
    let claim = &mapping.claim;
    let name =
        text(claims, claim).map_err(|e| format!("oidc: parse username claims \"{claim}\": {e}"))?;
    // An address that is not known to be its user's names nobody.
    if claim == "email"
        && let Some(verified) = claims.get("email_verified")
    {
        match verified {
            Json::Bool(true) => {}
            Json::Bool(false) | Json::Null => return Err("oidc: email not verified".into()),
            other => {
                let why = wrong_type(other, "bool");
                return Err(format!("oidc: parse 'email_verified' claim: {why}"));
            }
        }
    }
    let prefix = mapping.prefix.as_deref().unwrap_or_default();
    Ok(format!("{prefix}{name}"))
}

fn groups(
    jwt: &JwtAuthenticator,
    mapper: &Mapper,
    claims: &Claims,
    value: &Value,
) -> Result<Vec<String>, String> {
    let mapping = &jwt.claim_mappings.groups;
    let claim = mapping.claim.as_str();
    if let Some(found) = claims.get(claim).filter(|_| !claim.is_empty()) {
        let prefix = mapping.prefix.as_deref().unwrap_or_default();
        let all =
            one_or_many(found).map_err(|e| format!("oidc: parse groups claim \"{claim}\": {e}"))?;
        return Ok(all.iter().map(|g| format!("{prefix}{g}")).collect());
    }
    let Some(expression) = &mapper.groups else {
        return Ok(Vec::new());
    };
    let found = expression.evaluate(value).and_then(|v| strings(&v));
    found.map_err(|e| format!("oidc: error evaluating group claim expression: {e}"))
}

/// A string, or a list of them.
pub fn one_or_many(value: &Json) -> Result<Vec<String>, String> {
    let text = |v: &Json| match v {
        Json::String(s) => Some(s.clone()),
        Json::Null => Some(String::new()),
        _ => None,
    };
    if let Json::Null = value {
        return Ok(Vec::new());
    }
    if let Json::Array(items) = value
        && let Some(all) = items.iter().map(text).collect()
    {
        return Ok(all);
    }
    text(value)
        .map(|one| vec![one])
        .ok_or_else(|| wrong_type(value, "string"))
}

fn uid(
    jwt: &JwtAuthenticator,
    mapper: &Mapper,
    claims: &Claims,
    value: &Value,
) -> Result<String, String> {
    let claim = &jwt.claim_mappings.uid.claim;
    if !claim.is_empty() {
        let found = text(claims, claim);
        return found.map_err(|e| format!("oidc: parse uid claim \"{claim}\": {e}"));
    }
    let Some(expression) = &mapper.uid else {
        return Ok(String::new());
    };
    let failed = |e: String| format!("oidc: error evaluating uid claim expression: {e}");
    let found = expression.evaluate(value).map_err(failed)?;
    let uid = found.as_str().map(str::to_string);
    uid.ok_or_else(|| failed("uid claim expression must return a string".into()))
}

fn extra(
    mapper: &Mapper,
    claims: &Claims,
    value: &Value,
) -> Result<std::collections::BTreeMap<String, Vec<String>>, String> {
    let mut out = std::collections::BTreeMap::new();
    if let Some(Json::String(id)) = claims.get("jti")
        && !id.is_empty()
    {
        out.insert(CREDENTIAL_ID.to_string(), vec![format!("JTI={id}")]);
    }
    for (key, expression) in &mapper.extra {
        let found = expression.evaluate(value)?;
        let found = strings(&found).map_err(|e| {
            let source = expression.source();
            format!("oidc: error evaluating extra claim expression: {source}: {e}")
        })?;
        if !found.is_empty() {
            out.insert(key.clone(), found);
        }
    }
    Ok(out)
}

/// A string or a list of them; what is empty is not there.
fn strings(value: &Value) -> Result<Vec<String>, String> {
    let wrong = || "expression must return a string or a list of strings".to_string();
    let all: Vec<&str> = match value {
        Value::Null => Vec::new(),
        Value::String(s) => vec![s],
        Value::List(list) => {
            let texts: Option<_> = list.items.iter().map(Value::as_str).collect();
            texts.ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    let there = all.into_iter().filter(|s| !s.is_empty());
    Ok(there.map(str::to_string).collect())
}

fn required(jwt: &JwtAuthenticator, claims: &Claims) -> Result<(), String> {
    let rules = &jwt.claim_validation_rules;
    for rule in rules.iter().filter(|r| !r.claim.is_empty()) {
        let (claim, wanted) = (&rule.claim, &rule.required_value);
        if !claims.contains_key(claim) {
            return Err(format!(
                "oidc: required claim {claim} not present in ID token"
            ));
        }
        let got = text(claims, claim).map_err(|e| format!("oidc: parse claim {claim}: {e}"))?;
        if got != *wanted {
            return Err(format!(
                "oidc: required claim {claim} value does not match. Got = {got}, want = {wanted}"
            ));
        }
    }
    Ok(())
}

/// Whether all rules hold. Upstream evaluates all before it looks at the first.
fn check(rules: &[(Expression, String)], about: &Value) -> Result<(), String> {
    let mut results = Vec::with_capacity(rules.len());
    for (expression, message) in rules {
        results.push((expression.evaluate(about)?, expression, message));
    }
    for (value, expression, message) in results {
        match value {
            Value::Bool(true) => {}
            Value::Bool(false) => {
                let source = expression.source();
                return Err(format!(
                    "validation expression '{source}' failed: {message}"
                ));
            }
            _ => return Err("validation expression must return a boolean".into()),
        }
    }
    Ok(())
}
