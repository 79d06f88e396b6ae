//! Keys of other issuers as JSON web keys (RFC 7517), and the signatures they check: RSA with PKCS#1 v1.5 and PSS,
//! ECDSA on P-256, P-384 and P-521. Upstream: go-jose, as k8s.io/apiserver's OIDC authenticator uses it.

mod p521;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use serde_json::Value;

use crate::jwt::Parsed;
use crate::limits;

/// The signature algorithms, by their names in a token's header.
pub const ALGORITHMS: [&str; 9] = [
    "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512",
];

/// A public key of another issuer.
#[derive(Clone, Debug)]
pub struct Jwk {
    /// May be empty.
    pub kid: String,
    key: Key,
}

#[derive(Clone, Debug)]
enum Key {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(p521::Point),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    kty: String,
    kid: String,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

/// The keys of a JWKS document. Keys of kinds that sign no tokens are passed over (RFC 7517, 5).
pub fn parse_set(document: &[u8]) -> Result<Vec<Jwk>, String> {
    let document: Document = serde_json::from_slice(document).map_err(|e| e.to_string())?;
    if document.keys.len() > limits::JWKS_KEYS_MAX {
        return Err(format!("more than {} keys", limits::JWKS_KEYS_MAX));
    }
    let mut out = Vec::new();
    for key in document.keys {
        let fields: Fields = serde_json::from_value(key).map_err(|e| e.to_string())?;
        out.extend(parse(fields)?);
    }
    Ok(out)
}

fn parse(f: Fields) -> Result<Option<Jwk>, String> {
    let key = match (f.kty.as_str(), f.crv.as_str()) {
        ("RSA", _) => Key::Rsa {
            n: number("n", &f.n)?,
            e: number("e", &f.e)?,
        },
        ("EC", "P-256") => Key::P256(point(&f, 32)?),
        ("EC", "P-384") => Key::P384(point(&f, 48)?),
        ("EC", "P-521") => {
            let bytes = point(&f, 66)?;
            let on_curve = p521::Point::parse(&bytes[1..67], &bytes[67..]);
            Key::P521(on_curve.ok_or("invalid EC key, X/Y are not on declared curve")?)
        }
        ("EC", other) => return Err(format!("unsupported elliptic curve '{other}'")),
        _ => return Ok(None),
    };
    Ok(Some(Jwk { kid: f.kid, key }))
}

fn bytes(name: &str, text: &str) -> Result<Vec<u8>, String> {
    if text.len() > limits::JWK_NUMBER_BYTES_MAX {
        return Err(format!("invalid key, {name} is too long"));
    }
    let decoded = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    decoded.map_err(|e| format!("invalid key, {name}: {e}"))
}

/// A big-endian number without leading zeros, as ring wants it.
fn number(name: &str, text: &str) -> Result<Vec<u8>, String> {
    let all = bytes(name, text)?;
    let zeros = all.iter().take_while(|b| **b == 0).count();
    match &all[zeros..] {
        [] => Err(format!("invalid RSA key, missing {name} value")),
        rest => Ok(rest.to_vec()),
    }
}

/// Both coordinates of a point, each of `size` bytes.
fn point(f: &Fields, size: usize) -> Result<Vec<u8>, String> {
    let mut out = vec![4];
    for (name, text) in [("x", &f.x), ("y", &f.y)] {
        let coordinate = bytes(name, text)?;
        if coordinate.len() > size {
            return Err(format!("invalid EC key, wrong length for {name}"));
        }
        out.resize(out.len() + size - coordinate.len(), 0);
        out.extend(coordinate);
    }
    Ok(out)
}

// === Jwk ===

impl Jwk {
    /// Whether this key signed the token.
    pub fn verifies(&self, token: &Parsed<'_>) -> bool {
        let (message, signature) = (token.signed().as_bytes(), token.signature());
        match &self.key {
            Key::Rsa { n, e } => {
                let Some(parameters) = rsa(token.alg()) else {
                    return false;
                };
                let key = RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, signature).is_ok()
            }
            Key::P256(point) if token.alg() == "ES256" => {
                let algorithm: &dyn VerificationAlgorithm = &signature::ECDSA_P256_SHA256_FIXED;
                let key = UnparsedPublicKey::new(algorithm, point);
                key.verify(message, signature).is_ok()
            }
            Key::P384(point) if token.alg() == "ES384" => {
                let algorithm: &dyn VerificationAlgorithm = &signature::ECDSA_P384_SHA384_FIXED;
                let key = UnparsedPublicKey::new(algorithm, point);
                key.verify(message, signature).is_ok()
            }
            Key::P521(point) if token.alg() == "ES512" => point.verifies(message, signature),
            _ => false,
        }
    }
}

fn rsa(alg: &str) -> Option<&'static signature::RsaParameters> {
    Some(match alg {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
