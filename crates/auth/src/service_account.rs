//! Users by service account token: signature, issuer, audience and times (crate `pki`), and that the
//! account and what the token is bound to still exist. Upstream: pkg/serviceaccount/jwt.go, claims.go.

mod legacy;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use client::{Client, Entry, Reads};
use machinery::request::{Authenticated, Authenticator, Credentials, User};
use machinery::{ApiError, GroupResource};
use parking_lot::Mutex;
use pki::token::LEEWAY_SECONDS;
use pki::{Claims, ObjectRef, TokenError, TokenVerifier};
use ring::digest;
use serde::Deserialize;

use crate::limits;
use crate::x509::CREDENTIAL_ID;

/// Prefix of the user name of a service account.
pub const USER_PREFIX: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// Knows users by service account token.
pub struct ServiceAccounts {
    verifier: Arc<TokenVerifier>,
    reads: Arc<dyn Reads>,
    /// Claims of tokens whose signature was good, by SHA-256 of the token: checking one costs 100 µs.
    verified: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
    /// Who notes that tokens of Secrets are used.
    writer: OnceLock<Client>,
}

/// What is read of a bound object.
#[derive(Deserialize)]
struct Document {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    deletion_timestamp: Option<jiff::Timestamp>,
}

// === ServiceAccounts ===

impl ServiceAccounts {
    /// An authenticator that checks with `verifier` and looks objects up in `reads`.
    pub fn new(verifier: Arc<TokenVerifier>, reads: Arc<dyn Reads>) -> Self {
        Self {
            verifier,
            reads,
            verified: Mutex::default(),
            writer: OnceLock::new(),
        }
    }

    /// From now on the use of Secrets' tokens is noted in them.
    pub fn note_uses(&self, writer: Client) {
        // A second call changes nothing.
        let _ = self.writer.set(writer);
    }

    /// What checks the tokens.
    pub fn verifier(&self) -> &TokenVerifier {
        &self.verifier
    }

    /// The server's own audiences.
    pub fn audiences(&self) -> &[String] {
        self.verifier.audiences()
    }

    /// The user of a token for `audiences` (empty: the server's own) at `now`, in seconds since 1970.
    /// `Ok(None)`: not a token of ours.
    pub fn check(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
    ) -> Result<Option<Authenticated>, ApiError> {
        let refused = |e: TokenError| ApiError::new(401, "Unauthorized", e.to_string());
        let claims = match self.claims(token) {
            Ok(c) => c,
            Err(TokenError::NotMine) => return self.legacy(token, audiences),
            Err(e) => return Err(refused(e)),
        };
        let audiences = self
            .verifier
            .accept(&claims, audiences, now)
            .map_err(refused)?;
        self.check_objects(&claims, now)
            .map_err(|why| ApiError::new(401, "Unauthorized", why))?;
        Ok(Some(Authenticated {
            user: user_of(&claims),
            audiences,
        }))
    }

    /// The user of a token that a Secret holds; it is good for the server's own audiences.
    fn legacy(&self, token: &str, audiences: &[String]) -> Result<Option<Authenticated>, ApiError> {
        let refused = |why: String| ApiError::new(401, "Unauthorized", why);
        let claims = match self.verifier.legacy(token) {
            Ok(c) => c,
            Err(TokenError::NotMine) => return Ok(None),
            Err(e) => return Err(refused(e.to_string())),
        };
        let own = self.audiences();
        let common: Vec<String> = own
            .iter()
            .filter(|a| audiences.is_empty() || audiences.contains(a))
            .cloned()
            .collect();
        if common.is_empty() {
            let wrong = TokenError::Audience {
                token: own.to_vec(),
                target: audiences.to_vec(),
            };
            return Err(refused(wrong.to_string()));
        }
        self.check_secret(token, &claims).map_err(refused)?;
        let bound = Claims {
            kubernetes: pki::token::Kubernetes {
                namespace: claims.namespace,
                serviceaccount: ObjectRef {
                    name: claims.account,
                    uid: claims.uid,
                },
                ..pki::token::Kubernetes::default()
            },
            ..Claims::default()
        };
        Ok(Some(Authenticated {
            user: user_of(&bound),
            audiences: common,
        }))
    }

    fn claims(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        if let Some(known) = self.verified.lock().get(&key) {
            return Ok(known.clone());
        }
        let claims = Arc::new(self.verifier.authentic(token)?);
        let mut verified = self.verified.lock();
        if verified.len() >= limits::VERIFIED_TOKENS_MAX {
            verified.clear();
        }
        verified.insert(key, claims.clone());
        Ok(claims)
    }

    fn get(&self, resource: &'static str, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.reads
            .cache(&GroupResource::new("", resource))?
            .get(namespace, name)
    }

    fn check_objects(&self, claims: &Claims, now: i64) -> Result<(), String> {
        let k = &claims.kubernetes;
        let (namespace, account) = (k.namespace.as_str(), &k.serviceaccount);
        let found = self
            .get("serviceaccounts", namespace, &account.name)
            .ok_or_else(|| format!("serviceaccounts \"{}\" not found", account.name))?;
        if *found.uid != *account.uid {
            let (is, claim) = (&found.uid, &account.uid);
            return Err(format!(
                "service account UID ({is}) does not match claim ({claim})"
            ));
        }
        if deleted_before(&found, now - LEEWAY_SECONDS) {
            return Err(format!(
                "service account {}/{} has been deleted",
                namespace, account.name
            ));
        }
        if let Some(secret) = &k.secret {
            let found = self.get("secrets", namespace, &secret.name);
            check_bound(found, secret, now, "secret")?;
        }
        match (&k.pod, &k.node) {
            (Some(pod), _) => {
                let found = self.get("pods", namespace, &pod.name);
                check_bound(found, pod, now, "pod")
            }
            (None, Some(node)) => check_bound(self.get("nodes", "", &node.name), node, now, "node"),
            (None, None) => Ok(()),
        }
    }
}

#[async_trait]
impl Authenticator for ServiceAccounts {
    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        match c.bearer {
            Some(token) => self.check(token, &[], pki::now()),
            None => Ok(None),
        }
    }
}

fn check_bound(
    found: Option<Arc<Entry>>,
    claim: &ObjectRef,
    now: i64,
    kind: &str,
) -> Result<(), String> {
    let gone = || "service account token has been invalidated".to_string();
    let found = found.ok_or_else(gone)?;
    if *found.uid != *claim.uid {
        let (is, uid) = (&found.uid, &claim.uid);
        return Err(format!(
            "{kind} UID ({is}) does not match service account {kind} ref claim ({uid})"
        ));
    }
    if deleted_before(&found, now - LEEWAY_SECONDS) {
        return Err(gone());
    }
    Ok(())
}

fn deleted_before(entry: &Entry, when: i64) -> bool {
    // Most objects are not being deleted; finding that out must not cost a parse at each request.
    if std::str::from_utf8(&entry.bytes).is_ok_and(|t| !t.contains("\"deletionTimestamp\"")) {
        return false;
    }
    match serde_json::from_slice::<Document>(&entry.bytes) {
        Ok(d) => d
            .metadata
            .deletion_timestamp
            .is_some_and(|t| t.as_second() < when),
        Err(error) => {
            tracing::error!(object = %entry.key(), %error, "stored object does not parse");
            true
        }
    }
}

/// The user that claims describe.
fn user_of(claims: &Claims) -> User {
    let k = &claims.kubernetes;
    let mut user = User {
        name: format!("{USER_PREFIX}{}:{}", k.namespace, k.serviceaccount.name),
        uid: k.serviceaccount.uid.clone(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{}", k.namespace),
        ],
        ..User::default()
    };
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(key.into(), vec![value.into()]);
        }
    };
    if !claims.jti.is_empty() {
        put(CREDENTIAL_ID, &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &k.pod {
        put(POD_NAME, &pod.name);
        put(POD_UID, &pod.uid);
    }
    if let Some(node) = &k.node {
        put(NODE_NAME, &node.name);
        put(NODE_UID, &node.uid);
    }
    user
}
