//! Keys of pods and the stub requests that prove their possession: a PKCS#10 request that says nothing but
//! the key. Upstream: generateKeyAndProof of pkg/kubelet/podcertificate.

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::Error;
use crate::key::{RSA_ALGORITHM, tlv, wrap};
use crate::rsa;

/// A new key and the proof of its possession.
pub struct Stub {
    /// PKCS#8 as PEM.
    pub key: String,
    /// PKCS#10, DER.
    pub request: Vec<u8>,
}

// === Stub ===

impl Stub {
    /// Makes a key of a type that `podCertificate.keyType` names.
    pub fn generate(key_type: &str) -> Result<Self, Error> {
        let pair = match key_type {
            "ECDSAP256" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            "ECDSAP384" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            "ED25519" => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            "RSA3072" => rsa_pair(3072),
            "RSA4096" => rsa_pair(4096),
            // ECDSAP521 among them: neither ring nor rcgen over it knows that curve.
            other => {
                return Err(Error::KeyType {
                    key_type: other.into(),
                });
            }
        };
        let pair = pair.map_err(Error::GenerateKey)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params
            .serialize_request(&pair)
            .map_err(Error::GenerateKey)?;
        let key = match ed25519_seed(&pair.serialize_der()) {
            Some(seed) => pem("PRIVATE KEY", &ed25519_pkcs8(&seed)),
            None => pem("PRIVATE KEY", &pair.serialize_der()),
        };
        Ok(Self {
            key,
            request: request.der().to_vec(),
        })
    }
}

fn rsa_pair(bits: usize) -> Result<KeyPair, rcgen::Error> {
    let key = rsa::generate(bits).ok_or(rcgen::Error::RingUnspecified)?;
    KeyPair::try_from(wrap(RSA_ALGORITHM, &key))
}

/// AlgorithmIdentifier of Ed25519, DER (RFC 8410).
const ED25519_ALGORITHM: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

/// The seed in a key of version 2, the form that ring makes and that older readers refuse.
fn ed25519_seed(der: &[u8]) -> Option<[u8; 32]> {
    let at = der
        .windows(ED25519_ALGORITHM.len())
        .position(|w| w == ED25519_ALGORITHM)?;
    let rest = der.get(at + ED25519_ALGORITHM.len()..)?;
    let seed = rest.strip_prefix(&[0x04, 0x22, 0x04, 0x20])?.get(..32)?;
    seed.try_into().ok()
}

/// The same key in version 1.
fn ed25519_pkcs8(seed: &[u8; 32]) -> Vec<u8> {
    let mut inner = Vec::new();
    tlv(0x04, seed, &mut inner);
    let mut body = vec![0x02, 0x01, 0x00];
    body.extend_from_slice(ED25519_ALGORITHM);
    tlv(0x04, &inner, &mut body);
    let mut out = Vec::new();
    tlv(0x30, &body, &mut out);
    out
}

/// A PEM block in lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// The certificates of a chain, without headers and whatever stands between them.
pub fn clean_chain(chain: &str) -> String {
    CertificateDer::pem_slice_iter(chain.as_bytes())
        .filter_map(Result::ok)
        .map(|c| pem("CERTIFICATE", &c))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    #[test]
    fn keys_prove_themselves_and_are_read_again() {
        for kind in ["ECDSAP256", "ECDSAP384", "ED25519"] {
            let made = Stub::generate(kind).unwrap();
            let (_, request) = X509CertificationRequest::from_der(&made.request).unwrap();
            request.verify_signature().unwrap();
            assert_eq!(request.certification_request_info.subject.iter().count(), 0);
            assert!(made.key.starts_with("-----BEGIN PRIVATE KEY-----\n"));
            assert!(made.key.ends_with("-----END PRIVATE KEY-----\n"));
        }
        let made = Stub::generate("ECDSAP256").unwrap();
        crate::key::parse(&made.key).unwrap();
        let error = Stub::generate("DSA").err().unwrap();
        assert_eq!(error.to_string(), "key type \"DSA\" is not supported");
    }

    #[test]
    fn remarks_in_a_chain_are_dropped() {
        let block = pem("CERTIFICATE", b"abc");
        assert_eq!(
            clean_chain(&format!("one\n{block}two\n{block}")),
            block.repeat(2)
        );
    }
}
