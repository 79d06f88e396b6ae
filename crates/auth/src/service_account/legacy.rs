//! Tokens that Secrets of type `kubernetes.io/service-account-token` hold. Upstream: pkg/serviceaccount/legacy.go.
//! The warning about secrets that an account lists, and the metrics, are left out.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use client::Client;
use client::api::{Patch, PatchParams};
use machinery::object::{is_deleting, map_at, str_at, uid};
use pki::LegacyClaims;
use serde_json::{Value, json};

use super::ServiceAccounts;
use crate::bootstrap_token::same;

/// A token with this label is refused.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// The day on which a token was last used.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";

impl ServiceAccounts {
    /// Whether the account and the Secret are there, and the Secret holds the token.
    pub(super) fn check_secret(&self, token: &str, claims: &LegacyClaims) -> Result<(), String> {
        let read = |resource, name: &str| {
            let entry = self.get(resource, &claims.namespace, name)?;
            entry.value().ok()
        };
        let secret = read("secrets", &claims.secret).filter(|s| !is_deleting(s));
        let secret = secret.ok_or("Token has been invalidated")?;
        let held = BASE64_STANDARD.decode(str_at(&secret, "data.token"));
        let held = held.unwrap_or_default();
        if !same(&held, token.as_bytes()) {
            return Err("Token does not match server's copy".into());
        }
        let (namespace, name) = (&claims.namespace, &claims.account);
        let account = read("serviceaccounts", name)
            .ok_or_else(|| format!("serviceaccounts \"{name}\" not found"))?;
        if is_deleting(&account) {
            return Err(format!(
                "ServiceAccount {namespace}/{name} has been deleted"
            ));
        }
        if uid(&account) != claims.uid {
            let (is, claim) = (uid(&account), &claims.uid);
            return Err(format!(
                "ServiceAccount UID ({is}) does not match claim ({claim})"
            ));
        }
        self.note_use(claims, &secret);
        if label(&secret, INVALID_SINCE).is_empty() {
            return Ok(());
        }
        let secret = &claims.secret;
        Err(format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{name} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        ))
    }

    /// Labels the Secret with the day, at most once a day, in the background.
    fn note_use(&self, claims: &LegacyClaims, secret: &Value) {
        let Some(writer) = self.writer.get() else {
            return;
        };
        let day = |seconds: i64| {
            let time = jiff::Timestamp::from_second(pki::now() + seconds);
            time.map(|t| t.strftime("%Y-%m-%d").to_string())
                .unwrap_or_default()
        };
        let (today, used) = (day(0), label(secret, LAST_USED).to_string());
        if used == today || used == day(86_400) {
            return;
        }
        let patch = json!({"metadata": {"uid": uid(secret), "labels": {LAST_USED: today}}});
        tokio::spawn(write(writer.clone(), claims.clone(), patch));
    }
}

async fn write(client: Client, claims: LegacyClaims, patch: Value) {
    let api = client.namespaced::<api::core::v1::Secret>(&claims.namespace);
    let done = api
        .patch(
            &claims.secret,
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await;
    if let Err(error) = done {
        let secret = format!("{}/{}", claims.namespace, claims.secret);
        tracing::warn!(secret, %error, "the day a token was used is not noted");
    }
}

fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    let labels = map_at(object, "metadata.labels");
    labels
        .and_then(|l| l.get(key))
        .and_then(Value::as_str)
        .unwrap_or("")
}
