//! Compact JSON web signatures, ES256 and RS256: keys, signing, checking, the JWKS document.
//! Nothing here knows what the payload means. Upstream: pkg/serviceaccount/jwt.go, openidmetadata.go.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::PublicKeyData;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::error::Error;
use crate::{key, limits};

/// A private key that signs.
pub struct SigningKey {
    kind: Kind,
    public: PublicJwk,
}

enum Kind {
    Es256(Box<EcdsaKeyPair>),
    Rs256(Box<RsaKeyPair>),
}

/// A public key that checks signatures.
#[derive(Clone, Debug)]
pub struct PublicJwk {
    /// Unpadded base64url of the SHA-256 of the DER public key, as upstream.
    pub kid: String,
    alg: Algorithm,
    /// The point (EC) or the PKCS#1 key (RSA).
    raw: Vec<u8>,
    /// The key's own members of its JWK.
    members: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Es256,
    Rs256,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that must be understood; none are.
    #[serde(default)]
    crit: Option<Value>,
}

/// A token taken apart, not yet trusted.
pub struct Parsed<'a> {
    alg: String,
    kid: String,
    signed: &'a str,
    signature: Vec<u8>,
    /// The decoded payload. Nothing in it may be believed before `PublicJwk::verifies`.
    pub payload: Vec<u8>,
}

// === SigningKey ===

impl SigningKey {
    /// A key from PEM; P-256 gives ES256, RSA gives RS256.
    pub fn parse(pem: &str) -> Result<Self, Error> {
        let pair = key::parse(pem)?;
        let public = PublicJwk::from_spki(&pair.subject_public_key_info())?;
        let bad = |e: ring::error::KeyRejected| Error::TokenKey { why: e.to_string() };
        let kind = match public.alg {
            Algorithm::Es256 => Kind::Es256(Box::new(
                EcdsaKeyPair::from_pkcs8(
                    &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                    pair.serialized_der(),
                    &SystemRandom::new(),
                )
                .map_err(bad)?,
            )),
            Algorithm::Rs256 => Kind::Rs256(Box::new(
                RsaKeyPair::from_pkcs8(pair.serialized_der()).map_err(bad)?,
            )),
        };
        Ok(Self { kind, public })
    }

    /// The public half.
    pub fn public(&self) -> &PublicJwk {
        &self.public
    }

    /// A compact token of these claims.
    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let header = json!({"alg": self.public.alg.name(), "kid": self.public.kid});
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let rng = SystemRandom::new();
        let signature = match &self.kind {
            Kind::Es256(k) => k
                .sign(&rng, signed.as_bytes())
                .map_err(|_| Error::SignToken)?
                .as_ref()
                .to_vec(),
            Kind::Rs256(k) => {
                let mut out = vec![0; k.public().modulus_len()];
                k.sign(
                    &signature::RSA_PKCS1_SHA256,
                    &rng,
                    signed.as_bytes(),
                    &mut out,
                )
                .map_err(|_| Error::SignToken)?;
                out
            }
        };
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A detached signature (RFC 7515, appendix F) of a text by a shared secret, HS256: what bootstrap tokens put
/// on the cluster-info ConfigMap.
pub fn detached(content: &str, id: &str, secret: &str) -> String {
    use ring::hmac;
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let payload = URL_SAFE_NO_PAD.encode(content);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

// === PublicJwk ===

impl PublicJwk {
    /// Keys from a PEM text: one or several `PUBLIC KEY` blocks.
    pub fn parse_all(pem: &str) -> Result<Vec<Self>, Error> {
        let mut out = Vec::new();
        for block in SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()) {
            let der = block.map_err(|e| Error::ParsePublicKey { why: e.to_string() })?;
            out.push(Self::from_spki(&der)?);
        }
        if out.is_empty() {
            return Err(Error::ParsePublicKey {
                why: "no PUBLIC KEY block".into(),
            });
        }
        Ok(out)
    }

    /// A key from its DER SubjectPublicKeyInfo.
    pub fn from_spki(der: &[u8]) -> Result<Self, Error> {
        let bad = |why: String| Error::ParsePublicKey { why };
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|e| bad(e.to_string()))?;
        let raw = info.subject_public_key.data.to_vec();
        let kid = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, der));
        let parsed = info.parsed().map_err(|e| bad(e.to_string()))?;
        let (alg, members) = match parsed {
            PublicKey::EC(point) if raw.len() == 65 && point.data()[0] == 4 => (
                Algorithm::Es256,
                vec![
                    ("crv", "P-256".into()),
                    ("kty", "EC".into()),
                    ("x", URL_SAFE_NO_PAD.encode(&raw[1..33])),
                    ("y", URL_SAFE_NO_PAD.encode(&raw[33..65])),
                ],
            ),
            PublicKey::RSA(rsa) => (
                Algorithm::Rs256,
                vec![
                    ("e", URL_SAFE_NO_PAD.encode(trimmed(rsa.exponent))),
                    ("kty", "RSA".into()),
                    ("n", URL_SAFE_NO_PAD.encode(trimmed(rsa.modulus))),
                ],
            ),
            _ => return Err(bad("only P-256 and RSA keys sign tokens".into())),
        };
        Ok(Self {
            kid,
            alg,
            raw,
            members,
        })
    }

    /// Whether this key signed the token.
    pub fn verifies(&self, token: &Parsed<'_>) -> bool {
        if token.alg != self.alg.name() {
            return false;
        }
        let algorithm: &'static dyn signature::VerificationAlgorithm = match self.alg {
            Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.raw)
            .verify(token.signed.as_bytes(), &token.signature)
            .is_ok()
    }

    /// Whether the token names this key, or none.
    pub fn may_have_signed(&self, token: &Parsed<'_>) -> bool {
        token.kid.is_empty() || token.kid == self.kid
    }

    fn jwk(&self) -> Value {
        let mut jwk = json!({"use": "sig", "kid": self.kid, "alg": self.alg.name()});
        for (name, value) in &self.members {
            jwk[*name] = json!(value);
        }
        jwk
    }
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

// === Parsed ===

impl Parsed<'_> {
    /// The algorithm that the header names.
    pub fn alg(&self) -> &str {
        &self.alg
    }

    /// The key that the header names; may be empty.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What is signed.
    pub fn signed(&self) -> &str {
        self.signed
    }

    /// The signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// The document of `/openid/v1/jwks`.
pub fn jwks(keys: &[PublicJwk]) -> Value {
    json!({"keys": keys.iter().map(PublicJwk::jwk).collect::<Vec<_>>()})
}

/// The document of `/.well-known/openid-configuration`.
pub fn discovery(issuer: &str, jwks_uri: &str, keys: &[PublicJwk]) -> Value {
    let mut algs: Vec<&str> = keys.iter().map(|k| k.alg.name()).collect();
    algs.sort_unstable();
    algs.dedup();
    json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algs,
    })
}

/// Takes a compact token apart; `None` for whatever is not one.
pub fn parse(token: &str) -> Option<Parsed<'_>> {
    if token.len() > limits::TOKEN_BYTES_MAX {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    if payload.contains('.') {
        return None;
    }
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.crit.is_some() {
        return None;
    }
    Some(Parsed {
        alg: header.alg,
        kid: header.kid,
        signed,
        signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        payload: URL_SAFE_NO_PAD.decode(payload).ok()?,
    })
}

/// A big-endian integer without leading zeros.
fn trimmed(mut n: &[u8]) -> &[u8] {
    while n.len() > 1 && n[0] == 0 {
        n = &n[1..];
    }
    n
}
