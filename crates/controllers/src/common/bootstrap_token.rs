//! Secrets that are bootstrap tokens. Upstream: k8s.io/cluster-bootstrap, pkg/controller/bootstrap/util.go.

use api::core::v1::Secret;
use jiff::Timestamp;

use crate::common::object::Object;

/// Where they are.
pub const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const PREFIX: &str = "bootstrap-token-";

/// Whether a Secret is of that type.
pub fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE)
}

fn data(secret: &Secret, key: &str) -> String {
    let found = secret.data.as_ref().and_then(|d| d.get(key));
    found.map_or_else(String::new, |b| String::from_utf8_lossy(&b.0).into_owned())
}

/// When a token ends: `None` where it does not. One whose end cannot be read has ended.
pub fn ends(secret: &Secret) -> Option<Timestamp> {
    let text = data(secret, "expiration");
    if text.is_empty() {
        return None;
    }
    Some(text.parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Id and secret of a token that signs now.
pub fn signing(secret: &Secret, now: Timestamp) -> Option<(String, String)> {
    let id = secret.name().strip_prefix(PREFIX)?.to_string();
    let token = data(secret, "token-secret");
    let good = !id.is_empty()
        && data(secret, "token-id") == id
        && !token.is_empty()
        && data(secret, "usage-bootstrap-signing") == "true"
        && ends(secret).is_none_or(|end| end > now);
    good.then_some((id, token))
}

#[cfg(test)]
pub mod tests {
    use api::k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    /// A token as `kubeadm token create` makes it.
    pub fn token(id: &str, signs: &str, expiration: &str) -> Secret {
        let mut secret: Secret = serde_json::from_value(
            json!({"metadata": {"name": format!("{PREFIX}{id}")}, "type": TYPE}),
        )
        .unwrap();
        let all = [
            ("token-id", id),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-signing", signs),
            ("expiration", expiration),
        ];
        let all = all.map(|(k, v)| (k.to_string(), ByteString(v.into())));
        secret.data = Some(all.into_iter().collect());
        secret
    }

    #[test]
    fn an_end_that_cannot_be_read_is_over() {
        assert_eq!(ends(&token("abcdef", "true", "")), None);
        assert_eq!(
            ends(&token("abcdef", "true", "soon")),
            Some(Timestamp::UNIX_EPOCH)
        );
    }
}
