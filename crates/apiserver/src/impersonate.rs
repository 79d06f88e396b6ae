//! Acting as somebody else by `Impersonate-*` headers. Upstream: filters/impersonation; api-semantics §15.3.

use http::HeaderMap;
use machinery::ApiError;
use machinery::request::{Attributes, User};

use crate::filters;
use crate::server::Inner;

/// The user a request acts as; every part of the identity must be allowed.
pub async fn impersonated(
    server: &Inner,
    headers: &HeaderMap,
    user: User,
) -> Result<User, ApiError> {
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.map(str::to_string).collect()
    };
    let name = all("impersonate-user")
        .into_iter()
        .next()
        .unwrap_or_default();
    let groups = all("impersonate-group");
    let uid = all("impersonate-uid")
        .into_iter()
        .next()
        .unwrap_or_default();
    let mut wanted = User {
        name: name.clone(),
        uid,
        groups,
        ..User::default()
    };
    for key in headers.keys() {
        if let Some(extra) = key.as_str().strip_prefix("impersonate-extra-") {
            let extra_name = crate::query::decode(extra, false);
            wanted.extra.insert(extra_name, all(key.as_str()));
        }
    }
    let any = !wanted.groups.is_empty() || !wanted.uid.is_empty() || !wanted.extra.is_empty();
    if name.is_empty() {
        return if any {
            Err(ApiError::internal(format!(
                "requested {:?} without impersonating a user",
                wanted.groups
            )))
        } else {
            Ok(user)
        };
    }
    for a in questions(&user, &wanted) {
        filters::authorize(server, &a).await?;
    }
    finish(&mut wanted);
    Ok(wanted)
}

/// One authorization question per part of the identity.
fn questions(user: &User, wanted: &User) -> Vec<Attributes> {
    let ask = |group: &str, resource: &str, sub: &str, namespace: &str, name: &str| Attributes {
        user: user.clone(),
        verb: "impersonate".into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: sub.into(),
        namespace: namespace.into(),
        name: name.into(),
        is_resource: true,
        ..Attributes::default()
    };
    let account = wanted
        .name
        .strip_prefix("system:serviceaccount:")
        .and_then(|r| r.split_once(':'));
    let mut out = vec![match account {
        Some((namespace, name)) => ask("", "serviceaccounts", "", namespace, name),
        None => ask("", "users", "", "", &wanted.name),
    }];
    out.extend(wanted.groups.iter().map(|g| ask("", "groups", "", "", g)));
    for (key, values) in &wanted.extra {
        for v in values {
            out.push(ask("authentication.k8s.io", "userextras", key, "", v));
        }
    }
    if !wanted.uid.is_empty() {
        out.push(ask("authentication.k8s.io", "uids", "", "", &wanted.uid));
    }
    out
}

/// The groups that every user, or every service account, is in.
fn finish(wanted: &mut User) {
    if wanted.groups.is_empty()
        && let Some(rest) = wanted.name.strip_prefix("system:serviceaccount:")
    {
        let namespace = rest.split(':').next().unwrap_or("");
        wanted.groups.push("system:serviceaccounts".into());
        wanted
            .groups
            .push(format!("system:serviceaccounts:{namespace}"));
    }
    let everyone = if wanted.name == "system:anonymous" {
        "system:unauthenticated"
    } else {
        "system:authenticated"
    };
    if !wanted.in_group("system:authenticated") && !wanted.in_group("system:unauthenticated") {
        wanted.groups.push(everyone.into());
    }
}
