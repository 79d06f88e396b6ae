//! The servers elsewhere and the files that name them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use prost::Message;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::certs;
use crate::outsiders::{Answers, Outsiders};

/// Everything that a node's flags name.
pub struct Setting {
    pub outsiders: Outsiders,
    pub signer: Arc<Signer>,
    dir: PathBuf,
    issuer: String,
    authority: String,
}

/// Signs tokens with ES256.
pub struct Signer {
    pub kid: String,
    key: EcdsaKeyPair,
}

const WRITTEN: &[&str] = &["authorize", "audit", "tokens"];
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

// === Signer ===

impl Signer {
    /// With a new key.
    pub fn new(kid: &str) -> Result<Self> {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random);
        let made = made.map_err(|_| anyhow!("no key was made"))?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random);
        Ok(Self {
            kid: kid.into(),
            key: key.map_err(|e| anyhow!("the key: {e}"))?,
        })
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> Result<String> {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.kid});
        let part = |v: &Value| BASE64.encode(v.to_string());
        let text = format!("{}.{}", part(&header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes());
        let signature = signature.map_err(|_| anyhow!("a token is not signed"))?;
        Ok(format!("{text}.{}", BASE64.encode(signature)))
    }

    fn jwks(&self) -> Value {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": BASE64.encode(x), "y": BASE64.encode(y)}]})
    }
}

// === Setting ===

impl Setting {
    /// Starts the servers and writes the files into a folder.
    pub async fn new(dir: &Path) -> Result<Self> {
        let mut outsiders = Outsiders::default();
        let signer = Arc::new(Signer::new("key-1")?);
        let own = signer.clone();
        // The issuer's name has the port, which the server learns when it begins.
        let issuer = Arc::new(std::sync::OnceLock::<String>::new());
        let named = issuer.clone();
        let answers: Answers = Arc::new(move |path, body| {
            let issuer = named.get().map(String::as_str).unwrap_or_default();
            said(&own, issuer, path, body).to_string().into_bytes()
        });
        let (port, authority) = outsiders.https(answers).await?;
        let url = format!("https://127.0.0.1:{port}");
        let issuer = issuer.get_or_init(|| format!("{url}/issuer")).clone();
        outsiders.grpc_at(&dir.join("kms.sock"), Arc::new(kms))?;
        let otlp = outsiders.grpc(Arc::new(|_, _| Vec::new())).await?;
        let setting = Self {
            outsiders,
            signer,
            dir: dir.into(),
            issuer,
            authority,
        };
        setting.write(&url, otlp)?;
        Ok(setting)
    }

    fn write(&self, url: &str, otlp: u16) -> Result<()> {
        let authority = self.dir.join("ca.pem");
        std::fs::write(&authority, &self.authority)?;
        for name in WRITTEN {
            let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "it",
                "clusters": [{"name": "it", "cluster": {"server": format!("{url}/{name}"), "certificate-authority": authority}}],
                "users": [{"name": "us", "user": {"token": "ours"}}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "us"}}]});
            std::fs::write(self.dir.join(name), config.to_string())?;
        }
        let socket = format!("unix://{}", self.dir.join("kms.sock").display());
        let encryption = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": [
                {"kms": {"apiVersion": "v2", "name": "guard", "endpoint": socket}}, {"identity": {}}]}]});
        std::fs::write(self.dir.join("encryption"), encryption.to_string())?;
        let tracing = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "TracingConfiguration",
            "endpoint": format!("127.0.0.1:{otlp}"), "samplingRatePerMillion": 1_000_000});
        std::fs::write(self.dir.join("tracing"), tracing.to_string())?;
        self.write_authentication("oidc:")?;
        self.write_authorization("request.user.startsWith('oidc:')")
    }

    /// The file of issuers.
    pub fn authentication(&self) -> PathBuf {
        self.dir.join("authentication")
    }

    /// Names of the issuer's users begin with `prefix`.
    pub fn write_authentication(&self, prefix: &str) -> Result<()> {
        let config = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": [{"issuer": {"url": self.issuer, "audiences": ["cluster"], "certificateAuthority": self.authority},
                "claimValidationRules": [{"expression": "claims.tenant != 'banned'", "message": "no such tenant"}],
                "claimMappings": {"username": {"expression": format!("'{prefix}' + claims.sub")},
                    "groups": {"expression": "claims.teams"},
                    "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}]},
                "userValidationRules": [{"expression": "!user.username.endsWith(':root')", "message": "a reserved name"}]}]});
        Ok(std::fs::write(self.authentication(), config.to_string())?)
    }

    /// The webhook is asked about resources, where `condition` holds.
    pub fn write_authorization(&self, condition: &str) -> Result<()> {
        let webhook = json!({"timeout": "1s", "subjectAccessReviewVersion": "v1",
            "matchConditionSubjectAccessReviewVersion": "v1", "failurePolicy": "NoOpinion",
            "authorizedTTL": "1s", "unauthorizedTTL": "1s",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": self.dir.join("authorize")},
            "matchConditions": [{"expression": "has(request.resourceAttributes)"}, {"expression": condition}]});
        let config = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": [{"type": "Webhook", "name": "elsewhere", "webhook": webhook},
                {"type": "Node", "name": "node"}, {"type": "RBAC", "name": "rbac"}]});
        Ok(std::fs::write(
            self.dir.join("authorization"),
            config.to_string(),
        )?)
    }

    /// Flags of the API server.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        vec![
            ("authentication-config", file("authentication")),
            ("authentication-token-webhook-config-file", file("tokens")),
            ("authentication-token-webhook-version", "v1".into()),
            ("authorization-config", file("authorization")),
            ("encryption-provider-config", file("encryption")),
            ("audit-webhook-config-file", file("audit")),
            ("audit-webhook-batch-max-wait", "100ms".into()),
            ("tracing-config-file", file("tracing")),
        ]
    }

    /// The same issuer and webhooks by flags of their own.
    pub fn old_flags(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        vec![
            ("authentication-token-webhook-cache-ttl", "1s".into()),
            ("authentication-token-webhook-config-file", file("tokens")),
            ("authorization-mode", "Node,RBAC,Webhook".into()),
            ("authorization-webhook-cache-authorized-ttl", "1s".into()),
            ("authorization-webhook-cache-unauthorized-ttl", "0s".into()),
            ("authorization-webhook-config-file", file("authorize")),
            ("event-ttl", "1s".into()),
            ("oidc-ca-file", file("ca.pem")),
            ("oidc-client-id", "cluster".into()),
            ("oidc-groups-claim", "teams".into()),
            ("oidc-groups-prefix", "team:".into()),
            ("oidc-issuer-url", self.issuer.clone()),
            ("oidc-required-claim", "tenant=acme".into()),
            ("oidc-signing-algs", "ES256".into()),
            ("oidc-username-claim", "sub".into()),
            ("oidc-username-prefix", "flag:".into()),
        ]
    }

    /// What a token of Jane's says, with changes.
    pub fn claims(&self, more: Value) -> Value {
        let now = certs::now().unwrap_or_default();
        let mut claims = json!({"iss": self.issuer, "aud": "cluster", "sub": "jane", "teams": ["dev"],
            "tenant": "acme", "iat": now, "exp": now + 3600});
        for (key, value) in more.as_object().into_iter().flatten() {
            claims[key] = value.clone();
        }
        claims
    }

    /// A token that Jane got from the issuer.
    pub fn jane(&self) -> Result<String> {
        self.signer.token(&self.claims(json!({})))
    }

    /// What was asked at a path.
    pub fn reviews(&self, path: &str) -> Vec<Value> {
        let heard = self.outsiders.heard(path);
        let parsed = heard.iter().map(|body| serde_json::from_slice(body));
        parsed.filter_map(Result::ok).collect()
    }

    /// Audit events that came.
    pub fn events(&self) -> Vec<Value> {
        let lists = self.reviews("/audit").into_iter();
        lists
            .flat_map(|mut list| match list["items"].take() {
                Value::Array(items) => items,
                _ => Vec::new(),
            })
            .collect()
    }

    /// Whether spans came that hold a text.
    pub fn traced(&self, part: &str) -> bool {
        let heard = self.outsiders.heard(EXPORT);
        let has = |body: &bytes::Bytes| body.windows(part.len()).any(|w| w == part.as_bytes());
        heard.iter().any(has)
    }
}

/// What the HTTPS server says.
fn said(signer: &Signer, issuer: &str, path: &str, body: &[u8]) -> Value {
    let mut review: Value = serde_json::from_slice(body).unwrap_or_default();
    let status = match path {
        "/issuer/.well-known/openid-configuration" => {
            return json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
        }
        "/issuer/keys" => return signer.jwks(),
        "/tokens" if review["spec"]["token"] == "opaque-bob" => {
            json!({"authenticated": true, "user": {"username": "webhook:bob", "uid": "42", "groups": ["ops"]}})
        }
        "/tokens" => json!({"authenticated": false}),
        "/authorize" => match review["spec"]["resourceAttributes"]["resource"].as_str() {
            Some("configmaps") => json!({"allowed": true, "reason": "elsewhere agrees"}),
            Some("secrets") => {
                json!({"allowed": false, "denied": true, "reason": "elsewhere says no"})
            }
            _ => json!({"allowed": false, "reason": "nothing to say"}),
        },
        _ => return json!({}),
    };
    review["status"] = status;
    review
}

/// Requests and answers of a KMS plug-in: the numbers of their fields do not collide in what is used here.
#[derive(Clone, PartialEq, Message)]
struct Sealed {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

/// A plug-in whose cipher is to turn bytes around.
fn kms(path: &str, body: &[u8]) -> Vec<u8> {
    let key_id = "key-1".to_string();
    let mut sealed = Sealed::decode(body).unwrap_or_default();
    sealed.bytes.reverse();
    match path.rsplit('/').next() {
        Some("Status") => {
            let (version, healthz) = ("v2".into(), "ok".into());
            let status = Status {
                version,
                healthz,
                key_id,
            };
            status.encode_to_vec()
        }
        Some("Encrypt") => Sealed { key_id, ..sealed }.encode_to_vec(),
        // Decrypt: its second field is the uid.
        _ => Sealed {
            key_id: String::new(),
            ..sealed
        }
        .encode_to_vec(),
    }
}
