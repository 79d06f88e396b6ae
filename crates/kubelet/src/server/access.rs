//! Who asks and whether they may. Upstream: pkg/kubelet/server/auth.go.

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use machinery::request::{Attributes, Credentials, Decision, User};

use super::Guard;
use super::body::{self, Body};

/// Lets a request in, or answers it.
pub async fn check<B>(
    guard: &Guard,
    node: &str,
    certificates: &[Vec<u8>],
    request: &Request<B>,
) -> Result<(), Response<Body>> {
    let path = request.uri().path();
    let user = authenticate(guard, certificates, request.headers(), path).await;
    let user = user.ok_or_else(|| body::text(StatusCode::UNAUTHORIZED, "Unauthorized"))?;
    let verb = verb(request.method());
    let subresources = subresources(path);
    for sub in &subresources {
        let attributes = Attributes {
            user: user.clone(),
            verb: verb.into(),
            version: "v1".into(),
            resource: "nodes".into(),
            subresource: (*sub).into(),
            name: node.into(),
            path: path.into(),
            is_resource: true,
            ..Attributes::default()
        };
        if allowed(guard, &attributes).await {
            return Ok(());
        }
    }
    let text = format!(
        "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
        user.name,
        subresources.join(" ")
    );
    Err(body::text(StatusCode::FORBIDDEN, text))
}

async fn authenticate(
    guard: &Guard,
    certificates: &[Vec<u8>],
    headers: &HeaderMap,
    path: &str,
) -> Option<User> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let credentials = Credentials {
        certificates,
        proxy_certificates: &[],
        bearer,
        audiences: &[],
        headers,
        path,
    };
    for a in &guard.authenticators {
        match a.authenticate(&credentials).await {
            Ok(Some(found)) => {
                let mut user = found.user;
                let all = "system:authenticated";
                if user.name != "system:anonymous" && !user.in_group(all) {
                    user.groups.push(all.into());
                }
                return Some(user);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(authenticator = a.name(), %error, "not authenticated"),
        }
    }
    None
}

async fn allowed(guard: &Guard, attributes: &Attributes) -> bool {
    for a in &guard.authorizers {
        match a.authorize(attributes).await {
            Decision::Allow(_) => return true,
            Decision::Deny(_) | Decision::Failed { denied: true, .. } => return false,
            Decision::NoOpinion(_) | Decision::Failed { .. } => {}
        }
    }
    false
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// Subresources of `nodes`, any of which opens a path.
fn subresources(path: &str) -> Vec<&'static str> {
    let under = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}/"));
    if under("/stats") {
        vec!["stats"]
    } else if under("/metrics") {
        vec!["metrics"]
    } else if under("/logs") {
        vec!["log"]
    } else if under("/checkpoint") {
        vec!["checkpoint"]
    } else if path == "/pods" || under("/runningpods") {
        vec!["pods", "proxy"]
    } else if under("/healthz") {
        vec!["healthz", "proxy"]
    } else if path == "/configz" {
        vec!["configz", "proxy"]
    } else {
        vec!["proxy"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_map_to_subresources() {
        for (path, want) in [
            ("/stats/summary", &["stats"][..]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/pods", &["pods", "proxy"]),
            ("/exec/a/b/c", &["proxy"]),
            ("/logs/", &["log"]),
            ("/logsx", &["proxy"]),
        ] {
            assert_eq!(subresources(path), want, "{path}");
        }
        assert_eq!(verb(&Method::POST), "create");
    }
}
