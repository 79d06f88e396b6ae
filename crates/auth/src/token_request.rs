//! `serviceaccounts/token`: makes tokens bound to an account and to a pod, secret or node.
//! Upstream: pkg/registry/core/serviceaccount/storage/token.go.

use std::sync::Arc;

use async_trait::async_trait;
use client::{Entry, Reads};
use machinery::descriptor::Creator;
use machinery::object::{at, i64_at, list_at, set, str_at};
use machinery::request::User;
use machinery::{ApiError, Causes, GroupResource};
use pki::token::Kubernetes;
use pki::{Claims, ObjectRef, TokenSigner};
use serde_json::{Value, json};

use crate::limits;
use crate::service_account::USER_PREFIX;

/// Answers TokenRequests.
pub struct TokenRequests {
    reads: Arc<dyn Reads>,
    signer: Arc<TokenSigner>,
    audiences: Vec<String>,
    /// `--service-account-max-token-expiration`, in seconds.
    seconds_max: Option<i64>,
}

const KIND: &str = "TokenRequest";
const GROUP: &str = "authentication.k8s.io";

// === TokenRequests ===

impl TokenRequests {
    /// `audiences` are the server's own: those of tokens that ask for none.
    pub fn new(
        reads: Arc<dyn Reads>,
        signer: Arc<TokenSigner>,
        audiences: Vec<String>,
        seconds_max: Option<i64>,
    ) -> Self {
        Self {
            reads,
            signer,
            audiences,
            seconds_max,
        }
    }

    fn get(
        &self,
        resource: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Entry>, ApiError> {
        self.reads
            .cache(&GroupResource::new("", resource))
            .and_then(|c| c.get(namespace, name))
            .ok_or_else(|| ApiError::not_found("", resource, name))
    }

    /// Fills the claims with what the token is bound to.
    fn bind(
        &self,
        reference: &Value,
        namespace: &str,
        account: &str,
        k: &mut Kubernetes,
    ) -> Result<(), ApiError> {
        let (version, kind) = (str_at(reference, "apiVersion"), str_at(reference, "kind"));
        let (name, uid) = (str_at(reference, "name"), str_at(reference, "uid"));
        let found = match (version, kind) {
            ("v1", "Pod") => {
                let pod = self.get("pods", namespace, name)?;
                self.bind_pod(&pod, account, k)?;
                pod
            }
            ("v1", "Node") => {
                let node = self.get("nodes", "", name)?;
                k.node = Some(reference_to(&node));
                node
            }
            ("v1", "Secret") => {
                let secret = self.get("secrets", namespace, name)?;
                k.secret = Some(reference_to(&secret));
                secret
            }
            _ => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                return Err(ApiError::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        if !uid.is_empty() && uid != &*found.uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(ApiError::conflict("", kind, name, &why));
        }
        Ok(())
    }

    fn bind_pod(&self, pod: &Entry, account: &str, k: &mut Kubernetes) -> Result<(), ApiError> {
        let value = pod.value().map_err(ApiError::internal)?;
        if str_at(&value, "spec.serviceAccountName") != account {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
            )));
        }
        k.pod = Some(reference_to(pod));
        let node = str_at(&value, "spec.nodeName");
        if !node.is_empty() {
            // A node that is not registered yet is named without a UID.
            let uid = self.get("nodes", "", node).map(|n| n.uid.to_string());
            k.node = Some(ObjectRef {
                name: node.into(),
                uid: uid.unwrap_or_default(),
            });
        }
        Ok(())
    }

    /// Lifetime and, for tokens that live longer than asked, when to warn.
    fn lifetime(&self, asked: i64, audiences: &[String], pod_bound: bool) -> (i64, Option<i64>) {
        let own = audiences.iter().all(|a| self.audiences.contains(a));
        if pod_bound && own && asked == limits::TOKEN_SECONDS_WARN_ONLY {
            (limits::TOKEN_SECONDS_EXTENDED, Some(asked))
        } else {
            (asked, None)
        }
    }
}

#[async_trait]
impl Creator for TokenRequests {
    async fn create(
        &self,
        _user: &User,
        namespace: &str,
        name: &str,
        mut body: Value,
        _dry_run: bool,
    ) -> Result<Value, ApiError> {
        check_names(&body, namespace, name)?;
        let account = self.get("serviceaccounts", namespace, name)?;
        let uid = str_at(&body, "metadata.uid");
        if !uid.is_empty() && uid != &*account.uid {
            let why = format!(
                "the UID in the token request ({uid}) does not match the UID of the service account ({})",
                account.uid
            );
            return Err(ApiError::conflict(GROUP, KIND, name, &why));
        }
        let audiences = audiences_of(&body, &self.audiences)?;
        let mut seconds =
            i64_at(&body, "spec.expirationSeconds").unwrap_or(limits::TOKEN_SECONDS_DEFAULT);
        check_seconds(seconds)?;
        let mut k = Kubernetes {
            namespace: namespace.into(),
            serviceaccount: reference_to(&account),
            ..Kubernetes::default()
        };
        if let Some(reference) = at(&body, "spec.boundObjectRef") {
            self.bind(reference, namespace, name, &mut k)?;
        }
        seconds = seconds.min(self.seconds_max.unwrap_or(i64::MAX));
        let now = pki::now();
        let (lifetime, warn) = self.lifetime(seconds, &audiences, k.pod.is_some());
        k.warnafter = warn.map(|w| now + w);
        let claims = Claims {
            sub: format!("{USER_PREFIX}{namespace}:{name}"),
            aud: audiences.clone(),
            exp: Some(now + lifetime),
            iat: Some(now),
            nbf: Some(now),
            jti: new_id()?,
            kubernetes: k,
            ..Claims::default()
        };
        let token = self
            .signer
            .sign(&claims)
            .map_err(|e| ApiError::internal(format!("failed to generate token: {e}")))?;
        body["apiVersion"] = json!("authentication.k8s.io/v1");
        body["kind"] = json!(KIND);
        set(&mut body, "metadata.name", json!(name));
        set(&mut body, "metadata.namespace", json!(namespace));
        set(&mut body, "metadata.uid", json!(*account.uid));
        set(&mut body, "metadata.creationTimestamp", json!(time(now)?));
        set(&mut body, "spec.audiences", json!(audiences));
        set(&mut body, "spec.expirationSeconds", json!(seconds));
        body["status"] = json!({"token": token, "expirationTimestamp": time(now + seconds)?});
        Ok(body)
    }
}

fn reference_to(entry: &Entry) -> ObjectRef {
    ObjectRef {
        name: entry.name.to_string(),
        uid: entry.uid.to_string(),
    }
}

/// Name and namespace of the body must be those of the path, where given.
fn check_names(body: &Value, namespace: &str, name: &str) -> Result<(), ApiError> {
    for (field, given, expected) in [
        ("name", str_at(body, "metadata.name"), name),
        ("namespace", str_at(body, "metadata.namespace"), namespace),
    ] {
        if given.is_empty() || given == expected {
            continue;
        }
        let mut causes = Causes::new();
        causes.at("metadata", |c| {
            c.at(field, |c| {
                let text = format!("must match the service account {field} if specified");
                c.invalid(&json!(given), text);
            });
        });
        return Err(ApiError::invalid(GROUP, KIND, name, causes.as_slice()));
    }
    Ok(())
}

fn audiences_of(body: &Value, default: &[String]) -> Result<Vec<String>, ApiError> {
    let asked = list_at(body, "spec.audiences");
    if asked.len() > limits::AUDIENCES_MAX {
        let mut causes = Causes::new();
        causes.at("spec", |c| {
            c.at("audiences", |c| {
                c.too_many(asked.len(), limits::AUDIENCES_MAX)
            });
        });
        return Err(ApiError::invalid(GROUP, KIND, "", causes.as_slice()));
    }
    if asked.is_empty() {
        return Ok(default.to_vec());
    }
    let texts = asked.iter().filter_map(Value::as_str).map(String::from);
    Ok(texts.collect())
}

fn check_seconds(seconds: i64) -> Result<(), ApiError> {
    let text = if seconds < limits::TOKEN_SECONDS_MIN {
        "may not specify a duration less than 10 minutes"
    } else if seconds > limits::TOKEN_SECONDS_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let mut causes = Causes::new();
    causes.at("spec", |c| {
        c.at("expirationSeconds", |c| c.invalid(&json!(seconds), text));
    });
    Err(ApiError::invalid(GROUP, KIND, "", causes.as_slice()))
}

/// Whole seconds as Kubernetes writes times.
pub(crate) fn time(seconds: i64) -> Result<String, ApiError> {
    jiff::Timestamp::from_second(seconds)
        .map(|t| t.to_string())
        .map_err(ApiError::internal)
}

/// A random UUID (version 4).
fn new_id() -> Result<String, ApiError> {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut b = [0_u8; 16];
    SystemRandom::new()
        .fill(&mut b)
        .map_err(|_| ApiError::internal("no random numbers"))?;
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|x| format!("{x:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    Ok(parts.join("-"))
}
