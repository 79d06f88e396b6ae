//! The text of a refusal. Upstream: k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go.

use machinery::ApiError;
use machinery::causes::go_quote;
use machinery::request::Attributes;

/// `User "x" cannot list resource "pods" in API group "" in the namespace "y"`, with `: <reason>` where
/// there is one. `&`, `<` and `>` of what the user sent are escaped as upstream does.
pub fn forbidden_message(a: &Attributes, reason: &str) -> String {
    let user = go_quote(&a.user.name);
    let mut text = if a.is_resource {
        let mut resource = a.resource.clone();
        if !a.subresource.is_empty() {
            resource.push('/');
            resource.push_str(&a.subresource);
        }
        let scope = if a.namespace.is_empty() {
            "at the cluster scope".to_string()
        } else {
            format!("in the namespace {}", go_quote(&a.namespace))
        };
        format!(
            "User {user} cannot {} resource {} in API group {} {scope}",
            a.verb,
            go_quote(&resource),
            go_quote(&a.group)
        )
    } else {
        format!("User {user} cannot {} path {}", a.verb, go_quote(&a.path))
    };
    text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    if !reason.is_empty() {
        text.push_str(": ");
        text.push_str(reason);
    }
    text
}

/// The whole 403 of a refused request.
pub fn forbidden(a: &Attributes, reason: &str) -> ApiError {
    let why = forbidden_message(a, reason);
    if a.is_resource {
        ApiError::forbidden(&a.group, &a.resource, &a.name, &why)
    } else {
        ApiError::forbidden("", "", "", &why)
    }
}

#[cfg(test)]
mod tests {
    use machinery::request::User;

    use super::*;

    #[test]
    fn texts_equal_upstreams() {
        let a = Attributes {
            user: User::new("x", &[]),
            verb: "list".into(),
            resource: "pods".into(),
            namespace: "y".into(),
            is_resource: true,
            ..Attributes::default()
        };
        assert_eq!(
            forbidden(&a, "").message,
            "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"y\""
        );
        let b = Attributes {
            group: "apps".into(),
            resource: "deployments".into(),
            subresource: "scale".into(),
            name: "web".into(),
            namespace: String::new(),
            verb: "get".into(),
            ..a.clone()
        };
        assert_eq!(
            forbidden(&b, "rbac: none").message,
            "deployments.apps \"web\" is forbidden: User \"x\" cannot get resource \"deployments/scale\" in API group \"apps\" at the cluster scope: rbac: none"
        );
        let c = Attributes {
            is_resource: false,
            path: "/a<b".into(),
            verb: "get".into(),
            ..a
        };
        assert_eq!(
            forbidden(&c, "").message,
            "forbidden: User \"x\" cannot get path \"/a&lt;b\""
        );
    }
}
